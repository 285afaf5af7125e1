"""The 16 dimensions of VBench, and Quality, Semantic and Total from their values.

norm(x) = (x − low) / (high − low), not clipped; Quality and Semantic are means of norms, weighted with 1 but for
dynamic_degree's 0.5; Total = (4·Quality + Semantic) / 5. All on 0 … 1, higher is better. A dimension that is missing
makes the scores that need it NaN; VBench's own script counts it as 0 instead (`vbench_script`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

import numpy as np

from flashbench.errors import did_you_mean
from flashbench.types import Floats

Part: TypeAlias = Literal["quality", "semantic"]
Reads: TypeAlias = Literal["video", "prompt", "labels"]
Unit: TypeAlias = Literal["videos", "pairs", "frames"]
Aggregate: TypeAlias = Callable[[Mapping[str, float]], float]


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """A dimension of VBench: where its range lies, how much it weighs, what it reads and what its overall averages."""

    name: str
    """With underscores, as in files and in this project's tables."""
    part: Part
    low: float = 0.0
    high: float = 1.0
    weight: float = 1.0
    reads: Reads = "video"
    """`labels`: VBench's auxiliary labels, which only its own prompts have."""
    binary: bool = False
    """Whether VBench answers each clip with yes or no, so that its overall is a share of clips."""
    pools: Unit = "videos"
    """What the official overall (one GPU) is a mean over: a long video counts for more unless it is `videos`."""
    suite: str
    """The prompt suite that serves it."""
    clip_seconds: int = 2
    """Length of its clips in VBench-Long's default configuration."""

    @property
    def title(self) -> str:
        """The dimension's name with spaces, as on the leaderboard."""
        return self.name.replace("_", " ")


def _dimensions() -> tuple[Dimension, ...]:
    # Yes or no, by VBench 0.1.5: `check_move` of dynamic_degree.py returns True or False and the overall is their mean;
    # human_action.py counts a video where a class at 0.85 or more is the prompt's, and divides by the videos. What is
    # found or not for object_class, multiple_objects, color and scene are a video's frames, so that a video has a part.
    subject, overall = "subject_consistency", "overall_consistency"
    return (
        Dimension(name=subject, part="quality", low=0.1462, pools="pairs", suite=subject),
        Dimension(name="background_consistency", part="quality", low=0.2615, pools="pairs", suite="scene"),
        Dimension(name="temporal_flickering", part="quality", low=0.6293, suite="temporal_flickering"),
        Dimension(name="motion_smoothness", part="quality", low=0.706, high=0.9975, suite=subject),
        Dimension(name="dynamic_degree", part="quality", weight=0.5, binary=True, suite=subject),
        Dimension(name="aesthetic_quality", part="quality", suite=overall),
        Dimension(name="imaging_quality", part="quality", suite=overall),
        Dimension(name="object_class", part="semantic", reads="labels", pools="frames", suite="object_class"),
        Dimension(name="multiple_objects", part="semantic", reads="labels", pools="frames", suite="multiple_objects"),
        Dimension(
            name="human_action", part="semantic", reads="prompt", binary=True, suite="human_action", clip_seconds=10,
        ),
        Dimension(name="color", part="semantic", reads="labels", suite="color"),
        Dimension(
            name="spatial_relationship", part="semantic", reads="labels", pools="frames",
            suite="spatial_relationship",
        ),
        Dimension(name="scene", part="semantic", high=0.8222, reads="labels", pools="frames", suite="scene"),
        Dimension(
            name="appearance_style", part="semantic", low=0.0009, high=0.2855, reads="labels", pools="frames",
            suite="appearance_style",
        ),
        Dimension(
            name="temporal_style", part="semantic", high=0.364, reads="prompt", suite="temporal_style",
            clip_seconds=10,
        ),
        Dimension(name=overall, part="semantic", high=0.364, reads="prompt", suite=overall, clip_seconds=10),
    )  # fmt: skip


DIMENSIONS: Mapping[str, Dimension] = MappingProxyType({entry.name: entry for entry in _dimensions()})
"""Name → dimension, Quality's seven first, in the leaderboard's order."""
QUALITY_SHARE = 0.8
"""Total = 0.8·Quality + 0.2·Semantic."""


def dimension(name: str) -> Dimension:
    """The dimension called `name`, with underscores or spaces, in any case.

    Raises:
        UsageError: VBench has no such dimension.
    """
    key = name.strip().lower().replace(" ", "_")
    if key not in DIMENSIONS:
        raise did_you_mean("VBench dimension", name, DIMENSIONS)
    return DIMENSIONS[key]


def of_part(part: Part) -> tuple[Dimension, ...]:
    """The seven dimensions of Quality, or the nine of Semantic."""
    return tuple(entry for entry in DIMENSIONS.values() if entry.part == part)


def undefined_without(name: str, *, prompt: bool, labels: bool) -> str:
    """Why the dimension `name` has no value for a video without its `prompt` or `labels`; empty where it has one."""
    reads = dimension(name).reads
    if reads == "labels" and not labels:
        return f"{name} needs VBench's auxiliary labels, which only its own prompts have"
    if reads == "prompt" and not prompt:
        return f"{name} needs the video's prompt"
    return ""


def normalise(name: str, value: float) -> float:
    """(value − low) / (high − low) of a dimension: 0 … 1 within its range, not clipped outside; NaN stays NaN."""
    entry = dimension(name)
    return (value - entry.low) / (entry.high - entry.low)


def quality(scores: Mapping[str, float]) -> float:
    """Weighted mean of the normalised seven Quality dimensions; NaN where one is missing or NaN."""
    return _weighted(scores, "quality")


def semantic(scores: Mapping[str, float]) -> float:
    """Mean of the normalised nine Semantic dimensions; NaN where one is missing or NaN."""
    return _weighted(scores, "semantic")


def total(scores: Mapping[str, float]) -> float:
    """(4·Quality + Semantic) / 5; NaN where a dimension is missing or NaN."""
    return combine(quality(scores), semantic(scores))


def combine(quality: float, semantic: float) -> float:
    """Total from Quality and Semantic, in any unit."""
    return (4 * quality + semantic) / 5


AGGREGATES: Mapping[str, Aggregate] = MappingProxyType({"total": total, "quality": quality, "semantic": semantic})


def missing(scores: Mapping[str, float]) -> tuple[str, ...]:
    """Names of the dimensions that `scores` lacks or that are NaN in it, in the leaderboard's order."""
    values = _by_name(scores)
    return tuple(name for name in DIMENSIONS if math.isnan(values.get(name, math.nan)))


def vbench_script(scores: Mapping[str, float]) -> tuple[float, float, float]:
    """(Total, Quality, Semantic) as VBench's own script computes them: a missing dimension counts as a raw 0.

    Only for recognising such totals: a raw 0 is even below the range of five dimensions.
    """
    filled = _by_name(scores) | dict.fromkeys(missing(scores), 0.0)
    return total(filled), quality(filled), semantic(filled)


def _by_name(scores: Mapping[str, float]) -> dict[str, float]:
    return {dimension(name).name: float(value) for name, value in scores.items()}


def _weighted(scores: Mapping[str, float], part: Part) -> float:
    values = _by_name(scores)
    parts = of_part(part)
    norms = [entry.weight * normalise(entry.name, values.get(entry.name, math.nan)) for entry in parts]
    return math.fsum(norms) / sum(entry.weight for entry in parts)


# --- what `flashbench.stats` resamples ---------------------------------------------------------------------------


def statistics(scores: Mapping[str, float | tuple[float, float]]) -> Floats:
    """Mergeable statistics of one clip or one cluster: float64 [32], (sum, count) of every dimension in order.

    Sums of statistics over clips are the statistics of the set, so `flashbench.stats.pooled(lines, prompts,
    finalizer("total"))` is Total with its delete-one-prompt jackknife interval: a prompt that is left out leaves only
    the dimensions that it serves.

    Args:
        scores: dimension → value in 0 … 1, or (sum, count) where the dimension pools frames or pairs. A dimension that
            this clip does not serve is absent; NaN counts as absent.
    """
    lines = np.zeros((len(DIMENSIONS), 2))
    order = {name: place for place, name in enumerate(DIMENSIONS)}
    for name, value in scores.items():
        total, count = value if isinstance(value, tuple) else (value, 1.0)
        if not math.isnan(total):
            lines[order[dimension(name).name]] = total, count
    return lines.ravel()


def means(statistics: Floats) -> dict[str, float]:
    """Dimension → mean, from summed `statistics`; NaN where nothing was measured."""
    pairs = np.asarray(statistics, dtype=np.float64).reshape(len(DIMENSIONS), 2)
    return {
        name: float(sums / count) if count else math.nan for name, (sums, count) in zip(DIMENSIONS, pairs, strict=True)
    }


def finalizer(name: str) -> Callable[[Floats], float]:
    """From summed `statistics` to `total`, `quality`, `semantic` or a dimension's mean.

    Raises:
        UsageError: `name` is none of these.
    """
    if name in AGGREGATES:
        aggregate = AGGREGATES[name]
        return lambda statistics: aggregate(means(statistics))
    chosen = dimension(name).name
    return lambda statistics: means(statistics)[chosen]


def by_cluster(values: Mapping[str, Mapping[str, Iterable[float]]]) -> tuple[Floats, list[str]]:
    """Statistics [G, 32] and labels of clusters, from dimension → cluster (prompt) → values of its clips."""
    labels = sorted({cluster for clusters in values.values() for cluster in clusters})
    place = {label: g for g, label in enumerate(labels)}
    lines = np.zeros((len(labels), 2 * len(DIMENSIONS)))
    for name, clusters in values.items():
        for cluster, scores in clusters.items():
            for score in scores:
                lines[place[cluster]] += statistics({name: score})
    return lines, labels


def as_measured(
    published: dict[str, dict[str, dict[str, float]]], metrics: Mapping[str, str]
) -> dict[str, dict[str, dict[str, float]]]:
    """A paper's numbers (version → row → name) with its dimensions called and scaled like the metrics they stand by.

    Papers print dimensions in percent. A table with VBench's Total stays as it is: there ours are in percent too.

    Args:
        published: as `protocol.published.published` gives them.
        metrics: dimension → name of the metric that measures it.
    """
    if any("total_score" in cells for rows in published.values() for cells in rows.values()):
        return published
    return {
        version: {
            row: {metrics.get(name, name): x / 100 if name in metrics else x for name, x in cells.items()}
            for row, cells in rows.items()
        }
        for version, rows in published.items()
    }
