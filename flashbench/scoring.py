"""From clips to scores: every metric on every clip, once per content, as one table with a row for each.

Scores are keyed by what they measure (metric identity, clip digest, reference digest, parameters, numerics), so two
rows whose clips are the same bytes share one score.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashbench import assets, keys, metrics, prompts
from flashbench.engine import Engine, Report, Task, say_made
from flashbench.errors import IntegrityError, InvalidError
from flashbench.metrics import calibration, device
from flashbench.metrics.base import Metric, measure
from flashbench.metrics.recorded import Recorded
from flashbench.store import Store
from flashbench.types import Case, Measurement, Protocol

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "protocol", "row", "case", "cluster", "seed", "replica", "metric", "value", "per_frame", "frames", "reason",
    "clip", "key", "statistics",
)  # fmt: skip
ORDER = ["protocol", "metric", "row", "case", "seed", "replica"]


def score_key(metric: str | Metric, *, clip: str, reference: str | None, prompt: str | None = None) -> str:
    """Key of one score: the metric's identity, the clips' digests, the parameters' sha256, the numerics class.

    `reference` counts for metrics of a pair only, `prompt` for those that read it.
    """
    measured = metrics.get(metric) if isinstance(metric, str) else metric
    registry = assets.registry()
    read = {"prompt": prompt} if measured.reads_prompt else {}
    return keys.key(
        "score",
        metric=measured.identity,
        clip=clip,
        reference=reference if measured.scope == "pair" else None,
        assets={name: registry.get(name).sha256 for name in measured.assets},
        unofficial=registry.unofficial and bool(measured.assets),
        numerics=keys.scoring_class(*measured.libraries, device=device.current()),
        **read,
    )


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
                function="flashbench.scoring:score_clip",
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


def asked(protocol: Protocol) -> dict[str, tuple[str, ...]]:
    """Case to the metrics that it is scored with: its set's, of VBench's dimensions those that its prompt serves."""
    return {case.id: asked_of(part, case) for part in protocol.parts for case in part.cases}


def asked_of(part: Protocol, case: Case) -> tuple[str, ...]:
    """Metrics that a case of `part` is scored with."""
    return tuple(name for name in part.metrics if prompts.serves(case, name))


def of_part(part: Protocol, scores: pd.DataFrame) -> pd.DataFrame:
    """The scores of one set of a protocol's cases."""
    return scores[scores["case"].isin({case.id for case in part.cases})]


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


def noted(metric: str | Metric, found: Measurement) -> str:
    """The reason of a row: the measurement's own, and what is to be known of the metric's weights.

    `unofficial weights`: none of the package's registry. `uncalibrated`: nobody has compared what they give on this
    machine with published scores (`flashbench doctor --calibrate`).
    """
    named = metrics.get(metric) if isinstance(metric, str) else metric
    unofficial = "unofficial weights" if assets.registry().unofficial and named.assets else ""
    uncalibrated = "" if math.isnan(found.value) else calibration.note(named)
    return "; ".join(filter(None, (found.reason, unofficial, uncalibrated)))


def numerics(protocol: Protocol, manifest: Sequence[Mapping[str, Any]]) -> str:
    """Canonical JSON of the numerics classes that made a manifest's clips, and of the one that scores them here.

    Only within them are scores the same to the last bit. `scores` has the libraries of all the protocol's metrics.
    """
    made = {keys.canonical_json(line.get("numerics")): line.get("numerics") for line in manifest if line["key"]}
    libraries = {name for part in protocol.parts for metric in part.metrics for name in metrics.get(metric).libraries}
    scores = keys.scoring_class(*sorted(libraries), device=device.current())
    return keys.canonical_json({"clips": [made[text] for text in sorted(made)], "scores": scores})


def to_parquet(scores: pd.DataFrame, protocol_hash: str, numerics: str = "") -> bytes:
    """Content of scores.parquet: sorted, typed, no times, with the hash of the protocol and the `numerics` if known.

    Statistics of set metrics are the bulk of the file, which is in git, so they are kept as float32: that moves pooled
    NIQE by less than 1e-5 (measured on the laptop tier), far below its intervals. Tables are made from the file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    floats = pa.list_(pa.float64())
    kinds = {"seed": pa.int64(), "replica": pa.int64(), "frames": pa.int64(), "value": pa.float64()}
    kinds |= {"per_frame": floats, "statistics": pa.list_(pa.float32())}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in COLUMNS])
    table = pa.Table.from_pandas(scores, schema=schema, preserve_index=False)
    table = table.replace_schema_metadata({"protocol": protocol_hash} | ({"numerics": numerics} if numerics else {}))
    stream = BytesIO()
    lists = {f"{name}.list.element": "BYTE_STREAM_SPLIT" for name in ("per_frame", "statistics")}
    words = [name for name in COLUMNS if name not in kinds]
    pq.write_table(table, stream, compression="zstd", compression_level=19, use_dictionary=words, column_encoding=lists)
    return stream.getvalue()


def read_scores(path: Path, protocol_hash: str | None = None) -> pd.DataFrame:
    """Read scores.parquet; an `InvalidError` where it is missing, broken, of another form or of another protocol."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        read = pq.read_table(path)
        table: pd.DataFrame = read.to_pandas()
    except (OSError, pa.ArrowException) as error:
        fix = "run `flashbench run PROTOCOL --phase score` first"
        why = getattr(error, "strerror", None) or error
        raise InvalidError(f"{path} cannot be read: {why}", fix=fix) from error
    if tuple(table.columns) != COLUMNS:
        raise InvalidError(f"{path} is no table of scores", fix=f"its columns must be {', '.join(COLUMNS)}")
    if protocol_hash and (read.schema.metadata or {}).get(b"protocol") != protocol_hash.encode():
        fix = "run the protocol again with the same tier and overrides; what is in the store is not made again"
        raise InvalidError(f"the scores of {path} were made under another form of the protocol", fix=fix)
    return table
