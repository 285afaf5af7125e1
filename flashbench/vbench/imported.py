"""Other people's runs of VBench: their result files as scores and totals, and videos under the names that VBench finds.

An interval is over prompts, by the statistics that the caller brings (`flashbench.stats.pooled`). VBench's own overall
stands beside it: it may differ, for some dimensions pool frames, and a file holds a video's value, not its frames.
"""

from __future__ import annotations

import errno
import math
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from flashbench.errors import InvalidError, on_disk
from flashbench.vbench import dimensions, long, naming, results
from flashbench.vbench.dimensions import DIMENSIONS

Pooled: TypeAlias = Callable[..., Any]
"""`flashbench.stats.pooled`: (statistics [G, 32], labels [G], finalize) → value, low, high, clusters, reason."""
Row: TypeAlias = Mapping[str, Any]

PREFIX = "vbench:"
MANIFEST = "manifest.jsonl"
_NO_LINKS = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES}


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What VBench's result files say: a row for each video and dimension, overalls, findings."""

    rows: tuple[dict[str, Any], ...]
    """One for each video and dimension: case, cluster, seed, metric, value, reason."""
    overalls: Mapping[str, float]
    """Dimension → VBench's own overall, 0 … 1."""
    findings: tuple[str, ...]
    """What is wrong with the files, a sentence each."""


@dataclass(frozen=True, kw_only=True)
class Total:
    """A dimension or an aggregate of a run, 0 … 1."""

    metric: str
    """`vbench:total`, `vbench:quality`, `vbench:semantic` or `vbench:DIM`."""
    value: float
    """From the videos' values; NaN, never 0, where a dimension that it needs is missing."""
    low: float
    high: float
    official: float
    """From VBench's own overalls; NaN where one is missing."""
    n: int
    """Values of videos that went in."""
    of: int
    clusters: int
    """Prompts."""
    reason: str


def imported(files: Iterable[results.ResultFile]) -> Imported:
    """Rows, overalls and findings of result files (`results.read`).

    A video's case is its file's name without suffix; its cluster is the prompt in that name, its seed the index
    after it. A name without them is a cluster of its own.

    Raises:
        InvalidError: two different values of one video in one dimension, or a file that is no result.
    """
    listed = list(files)
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for score in results.scores(listed):
        row = _row(score)
        first = rows.setdefault((row["metric"], row["case"]), row)
        if repr(first) != repr(row):  # NaN equals NaN here
            what = f"two values of {score.dimension} for {score.path}: {first['value']:g} and {score.value:g}"
            raise InvalidError(what, fix="import the results of one run at a time")
    overalls, findings = results.overalls(listed)
    order = list(DIMENSIONS)
    ordered = sorted(rows.values(), key=lambda row: (order.index(row["metric"].removeprefix(PREFIX)), row["case"]))
    return Imported(rows=tuple(ordered), overalls=overalls, findings=tuple(findings))


def totals(run: Imported, pooled: Pooled) -> list[Total]:
    """Total, Quality, Semantic and every dimension with 95 % intervals over prompts, in the leaderboard's order.

    Args:
        run: what was imported.
        pooled: `flashbench.stats.pooled`.
    """
    values: dict[str, dict[str, list[float]]] = {}
    for row in run.rows:
        clusters = values.setdefault(row["metric"].removeprefix(PREFIX), {})
        scored = [] if math.isnan(row["value"]) else [row["value"]]
        clusters.setdefault(row["cluster"], []).extend(scored)
    aggregates = [_total(name, run, _asked(name), values, pooled) for name in dimensions.AGGREGATES]
    return aggregates + [_total(name, run, (name,), values, pooled) for name in DIMENSIONS]


def name_videos(
    samples: Sequence[tuple[Path, str, int]], folder: Path, *, limit: int = naming.NAME_MAX
) -> list[naming.Named]:
    """Put videos into `folder` under VBench's names, as hard links where that can be, and write `manifest.jsonl`.

    The manifest also leads from the names that had to be others to their prompts. Nothing is overwritten.

    Args:
        samples: (file, prompt, index) of each video.
        folder: where they go; made if it is not there.
        limit: bytes of a name (`NAME_MAX - LONG_ROOM` for VBench-Long).

    Raises:
        InvalidError: a file that is absent or a GIF, a name that is taken, or a folder that cannot be written.
    """
    for file, _, _ in samples:
        if not file.is_file():
            raise InvalidError(f"no file {file}", fix="check the list of videos")
        if file.suffix.lower() == ".gif":  # which VBench reads by another way, and only by that suffix
            raise InvalidError(
                f"{file} is a GIF", fix="convert it to mp4, in which all of VBench reads the same frames"
            )
    named = naming.plan([(prompt, index) for _, prompt, index in samples], limit=limit)
    fix = "choose another folder, or one that can be written and has room"
    for name in (*(entry.file for entry in named), MANIFEST):
        if os.path.lexists(folder / name):
            raise InvalidError(f"{folder / name} is there already", fix="choose an empty folder")
    with on_disk(f"cannot write into {folder}", fix=fix):
        folder.mkdir(parents=True, exist_ok=True)
        for (file, _, _), entry in zip(samples, named, strict=True):
            _link(file, folder / entry.file)
        with (folder / MANIFEST).open("x", encoding="utf-8") as out:
            out.write(naming.manifest_text(named))
    return named


def _row(score: results.VideoScore) -> dict[str, Any]:
    name = score.path.replace("\\", "/").rpartition("/")[2]
    base, dot, end = name.rpartition(".")
    case = base if (dot + end).lower() in naming.SUFFIXES else name
    clip = long.parse(case)
    parsed = naming.parse(case) or (naming.parse(clip[0]) if clip else None)
    prompt, index = parsed or (case, 0)
    return {
        "case": case, "cluster": prompt, "seed": index, "metric": f"{PREFIX}{score.dimension}", "value": score.value,
        "reason": score.reason,
    }  # fmt: skip


def _asked(aggregate: str) -> tuple[str, ...]:
    """Dimensions that an aggregate needs."""
    return tuple(dimension.name for dimension in DIMENSIONS.values() if aggregate in ("total", dimension.part))


def _total(
    name: str,
    run: Imported,
    members: Sequence[str],
    values: Mapping[str, Mapping[str, Sequence[float]]],
    pooled: Pooled,
) -> Total:
    # Only the dimensions asked for: a prompt that serves none of them is no unit of this interval.
    lines, labels = dimensions.by_cluster({dimension: values.get(dimension, {}) for dimension in members})
    here = lines.any(axis=1) if len(lines) else np.zeros(0, dtype=bool)
    finalize = dimensions.finalizer(name)
    share = name in DIMENSIONS and DIMENSIONS[name].binary
    estimate = pooled(lines[here], np.array(labels, dtype=np.str_)[here], finalize, binary=share)
    rows = [row for row in run.rows if row["metric"].removeprefix(PREFIX) in members]
    scored = sum(not math.isnan(row["value"]) for row in rows)
    aggregate = dimensions.AGGREGATES.get(name)
    official = aggregate(run.overalls) if aggregate else run.overalls.get(name, math.nan)
    reasons = [_lacking(members, run, values)]
    if scored < len(rows):
        why = Counter(row["reason"] for row in rows if math.isnan(row["value"]))
        reasons.append(f"{len(rows) - scored} of {len(rows)} values missing: {'; '.join(sorted(why))}")
    if math.isnan(estimate.low) and not math.isnan(estimate.value):
        reasons.append(estimate.reason)
    return Total(
        metric=f"{PREFIX}{name}", value=estimate.value, low=estimate.low, high=estimate.high, official=official,
        n=scored, of=len(rows), clusters=estimate.clusters, reason="; ".join(filter(None, reasons)),
    )  # fmt: skip


def _lacking(members: Sequence[str], run: Imported, values: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """Why the values of videos do not reach for what is asked."""
    empty = [dimension for dimension in members if not any(values.get(dimension, {}).values())]
    alone = [dimension for dimension in empty if not math.isnan(run.overalls.get(dimension, math.nan))]
    absent = [dimension for dimension in empty if dimension not in alone]
    lines = [f"no results of {', '.join(absent)}" if absent else ""]
    lines.append(f"only an overall, no videos, of {', '.join(alone)}" if alone else "")
    return "; ".join(filter(None, lines))


def _link(source: Path, target: Path) -> None:
    """A hard link, or a copy where the file system has none."""
    try:
        os.link(source.resolve(), target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        with source.open("rb") as data, target.open("xb") as out:
            shutil.copyfileobj(data, out)
