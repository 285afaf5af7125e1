"""From clips to scores: every metric on every clip, once per content, as one table with a row for each.

Scores are keyed by what they measure (metric identity, clip digest, reference digest, parameters, numerics), so two
rows whose clips are the same bytes share one score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flashbench import keys, metrics
from flashbench.engine import Engine, Report, Task, say_made
from flashbench.errors import IntegrityError, InvalidError
from flashbench.metrics.base import measure
from flashbench.metrics.computed import Recorded
from flashbench.protocol.cases import asked
from flashbench.scores.key import noted, score_key
from flashbench.scores.table import COLUMNS, ORDER
from flashbench.store import Store
from flashbench.types import Measurement, Protocol

if TYPE_CHECKING:
    import pandas as pd


def score_clip(
    *, store: Store, key: str, report: Report, line: Mapping[str, Any], wanted: Mapping[str, str]
) -> Mapping[str, Any]:
    """Task: measure the clip of a manifest line with every wanted metric (metric → score key).

    Raises:
        IntegrityError: the store's clip is not the one that the manifest names, so the keys would lie.
    """
    clip, reference = store.clip(line["key"]), store.clip(line["original_key"])
    if (clip.digest, reference.digest) != (line["digest"], line["original"]):
        what = f"the store's clip of {line['row']} · {line['case']} is not the one that clips.jsonl names"
        raise IntegrityError(what, fix="run `flashbench run PROTOCOL --phase generate` again")
    absent = [metric for metric, own_key in wanted.items() if store.score(own_key) is None]
    measured = measure([metrics.get(metric) for metric in absent], clip, reference, line["prompt"])
    for metric, measurement in zip(absent, measured, strict=True):
        store.put_score(wanted[metric], measurement, {"metric": metric, "clip": clip.digest})
    return {}


def score(protocol: Protocol, manifest: Sequence[Mapping[str, Any]], *, store: Store, engine: Engine) -> pd.DataFrame:
    """Measure every clip of the manifest; returns the scores, sorted. Without a clip: NaN with the line's reason."""
    import pandas as pd

    # Without what it needs a metric is not asked, so that a passing absence is never kept.
    absent = {name: metrics.get(name).obstacle for part in protocol.parts for name in part.metrics}
    keyed, tasks, wished = [], dict[str, Task](), asked(protocol)
    for line in manifest:
        if line["case"] not in wished:
            fix = "run `flashbench run PROTOCOL --phase generate` with the same options"
            raise InvalidError(f"{line['case']!r} is no case of {protocol.name}", fix=fix)
        about = {"clip": line["digest"], "reference": line["original"], "prompt": line["prompt"]}
        own = {name: score_key(name, **about) if _measured(name, line) else "" for name in wished[line["case"]]}
        keyed.append((line, own))
        wanted = {name: key for name, key in own.items() if key and not absent[name] and store.score(key) is None}
        if wanted:
            tasks[line["key"]] = Task(
                key=keys.key("scores", clip=line["key"]),
                label=f"{line['row']} · {line['case']}",
                function="flashbench.run.score:score_clip",
                arguments={"line": dict(line), "wanted": wanted},
            )
    if tasks:
        engine.run(list(tasks.values()), store=store, title=f"{protocol.name}: scores", unit="clips")
    made = sum(len(task.arguments["wanted"]) for task in tasks.values())
    say_made(protocol.name, "scores", made, sum(len(own) for _, own in keyed))
    frames = {case.id: part.geometry.frames for part in protocol.parts for case in part.cases}
    rows = [
        _row(protocol, line, name, key, absent[name], store) | {"frames": frames[line["case"]]}
        for line, own in keyed
        for name, key in own.items()
    ]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.sort_values(ORDER, kind="stable", ignore_index=True)


def _measured(metric: str, line: Mapping[str, Any]) -> bool:
    """Whether a clip is there and the metric looks at it."""
    return bool(line["key"]) and not isinstance(metrics.get(metric), Recorded)


def _recorded(metric: str, line: Mapping[str, Any]) -> Measurement:
    """What the manifest says where no clip is looked at."""
    known = dict(line["cost"]) | ({"evaluations": float(line["evaluations"])} if line["key"] else {})
    if isinstance(metrics.get(metric), Recorded) and metric in known:
        return Measurement(value=known[metric])
    return Measurement.missing(line["reason"] or "not known of this system")


def _row(
    protocol: Protocol, line: Mapping[str, Any], metric: str, key: str, absent: str, store: Store
) -> dict[str, Any]:
    """One row of the table; its score must be in the store unless `absent` says why the metric cannot run."""
    found = store.score(key) if key else _recorded(metric, line)
    if found is None and absent:
        found = Measurement.missing(absent)
    if found is None:
        fix = "run `flashbench run PROTOCOL --phase score`"
        raise InvalidError(f"{line['row']} · {line['case']} has no {metric} score", fix=fix)
    return {
        "protocol": protocol.name,
        **{name: line[name] for name in ("row", "case", "cluster", "seed", "replica")},
        "metric": metric,
        "value": found.value,
        "per_frame": list(found.per_frame),
        "reason": noted(metric, found),
        "clip": line["digest"],
        "key": key,
        "statistics": list(found.statistics),
    }
