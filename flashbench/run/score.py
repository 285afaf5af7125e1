"""From clips to scores: every metric on every clip, once per content, as one table with a row for each.

Scores are keyed by what they measure (metric identity, clip digest, reference digest, parameters, numerics), so two
rows whose clips are the same bytes share one score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flashbench import keys
from flashbench.engine import Engine, Report, Task, say_made
from flashbench.errors import IntegrityError, InvalidError
from flashbench.metrics.base import Metric, measure
from flashbench.metrics.computed import Recorded
from flashbench.protocol.cases import asked
from flashbench.protocol.types import Protocol
from flashbench.scores.measure import Answers, Digests, Question, Scored, known, lasting
from flashbench.scores.measure import numerics as class_of_scores
from flashbench.scores.table import ORDER, lines, table
from flashbench.store import Store
from flashbench.types import Measurement

if TYPE_CHECKING:
    import pandas as pd


def score_clip(
    *, store: Store, key: str, report: Report, line: Mapping[str, Any], metrics: Sequence[Metric], fresh: bool
) -> Mapping[str, Any]:
    """Task: measure the clip of a manifest line; the record says which answers the store did not keep, and why.

    Raises:
        IntegrityError: the store's clip is not the one that the manifest names, so the keys would lie.
    """
    clip, reference = store.clip(line["key"]), store.clip(line["original_key"])
    digests = Digests(clip.digest, reference.digest)
    if digests != Digests(line["digest"], line["original"]):
        what = f"the store's clip of {line['row']} · {line['case']} is not the one that clips.jsonl names"
        raise IntegrityError(what, fix="run `flashbench run PROTOCOL --phase generate` again")

    answers = Answers(Question(metrics=metrics, digests=digests, prompt=line["prompt"], fresh=fresh), store)
    if not answers.complete:
        failures: dict[str, str] = {}
        measurements = measure(answers.absent, clip, reference, line["prompt"], failures=failures)
        answers.add(measurements, digests, failures)
    passing = [scored for scored in answers.all() if not lasting(scored)]
    return {
        "reasons": {scored.metric.name: scored.measurement.reason for scored in passing},
        "failed": [scored.metric.name for scored in passing if scored.failed],
    }


def score(
    protocol: Protocol, manifest: Sequence[Mapping[str, Any]], *, store: Store, engine: Engine, fresh: bool = False
) -> tuple[pd.DataFrame, list[str]]:
    """Measure every clip of the manifest; returns the scores, sorted, and a line for each metric that failed on a clip.

    Without a clip: NaN with the line's reason. A metric that fails on a clip is NaN with its error, and is measured
    again the next time, as everything is with `fresh`.
    """
    wished = asked(protocol)
    questions = _questions(protocol, manifest, wished, fresh=fresh)
    tasks = dict[str, Task]()
    for line, question in zip(manifest, questions, strict=True):
        answers = known(question, store)
        if absent := [metric for metric in question.metrics if metric.name not in answers]:
            tasks[line["key"]] = Task(
                key=keys.key("scores", clip=line["key"]),
                label=f"{line['row']} · {line['case']}",
                function="flashbench.run.score:score_clip",
                arguments={"line": dict(line), "metrics": absent, "fresh": fresh},
            )
    records: dict[str, Mapping[str, Any]] = {}
    if tasks:
        done = engine.run(list(tasks.values()), store=store, title=f"{protocol.name}: scores", unit="clips")
        records = {clip: done[task.key] for clip, task in tasks.items()}
    frames = {case.id: part.geometry.frames for part in protocol.parts for case in part.cases}
    rows, failed = list[dict[str, Any]](), list[str]()
    for line, question in zip(manifest, questions, strict=True):
        record = records.get(line["key"], {"reasons": {}, "failed": ()})
        where, reasons = f"{line['row']} · {line['case']}", record["reasons"]
        failed += [f"{where}: {name} {reasons[name]}" for name in record["failed"]]
        about = {name: line[name] for name in ("row", "case", "cluster", "prompt", "seed", "replica")}
        about |= {"protocol": protocol.name, "frames": frames[line["case"]], "clip": line["digest"]}
        rows += lines(about, _answers(line, wished[line["case"]], question, reasons, store))
    say_made(protocol.name, "scores", sum(len(task.arguments["metrics"]) for task in tasks.values()), len(rows))
    return table(rows).sort_values(ORDER, kind="stable", ignore_index=True), failed


def _questions(
    protocol: Protocol,
    manifest: Sequence[Mapping[str, Any]],
    wished: Mapping[str, Sequence[Metric]],
    *,
    fresh: bool,
) -> list[Question]:
    """What is asked of each line's clip: nothing of what the manifest itself says, nothing where no clip was made."""
    unavailable = {
        metric.name: why for part in protocol.parts for metric in part.metrics if (why := metric.unavailable)
    }
    questions = []
    for line in manifest:
        if line["case"] not in wished:
            fix = "run `flashbench run PROTOCOL --phase generate` with the same options"
            raise InvalidError(f"{line['case']!r} is not a case of {protocol.name}", fix=fix)
        seen = [metric for metric in wished[line["case"]] if line["key"] and not isinstance(metric, Recorded)]
        digests = Digests(line["digest"], line["original"])
        questions.append(
            Question(metrics=seen, digests=digests, prompt=line["prompt"], unavailable=unavailable, fresh=fresh)
        )
    return questions


def _answers(
    line: Mapping[str, Any],
    metrics: Sequence[Metric],
    question: Question,
    passing: Mapping[str, str],
    store: Store,
) -> list[Scored]:
    """The answers on one clip, of which the store must have all but those that are `passing` (metric → reason)."""
    seen = known(replace(question, fresh=False), store)
    answers = []
    for metric in metrics:
        if metric not in question.metrics:
            answers.append(Scored(metric=metric, measurement=_recorded(metric, line)))
        elif metric.name in passing:
            answers.append(Scored(metric=metric, measurement=Measurement.missing(passing[metric.name])))
        elif metric.name in seen:
            answers.append(seen[metric.name])
        else:
            fix = "run `flashbench run PROTOCOL --phase score`"
            raise InvalidError(f"{line['row']} · {line['case']} has no {metric.name} score", fix=fix)
    return answers


def _recorded(metric: Metric, line: Mapping[str, Any]) -> Measurement:
    """What the manifest says where no clip is looked at."""
    said = dict(line["cost"]) | ({"evaluations": float(line["evaluations"])} if line["key"] else {})
    if isinstance(metric, Recorded) and metric.name in said:
        return Measurement(value=said[metric.name])
    return Measurement.missing(line["reason"] or "not known of this system")


def numerics(protocol: Protocol, manifest: Sequence[Mapping[str, Any]]) -> str:
    """Canonical JSON of the numerics classes that made a manifest's clips, and of the one that scores them here.

    Only within them are scores the same to the last bit. `scores` has the libraries of all the protocol's metrics.
    """
    made = {keys.canonical_json(line.get("numerics")): line.get("numerics") for line in manifest if line["key"]}
    libraries = {name for part in protocol.parts for metric in part.metrics for name in metric.libraries}
    scores = class_of_scores(sorted(libraries))
    return keys.canonical_json({"clips": [made[text] for text in sorted(made)], "scores": scores})
