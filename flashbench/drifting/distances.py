"""How far a clip is from the baseline's, as a distance that is 0 for equal clips, and prompts as the unit.

For `psnr` the root of the mean squared error in levels 0 … 255 (6.02 dB are a doubling, and frames that are equal have
one), of a similarity 1 − it; LPIPS and DISTS are distances. Of a metric of single clips, such as `temporal_flicker`, it
is the mean over frames of the absolute difference.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flashbench.comparison.pairing import Clip, Pairing
from flashbench.errors import UsageError
from flashbench.metrics.base import Metric, PairMetric
from flashbench.types import Floats, Frames

if TYPE_CHECKING:
    import pandas as pd

PSNR = "psnr"
_PEAK = 255.0
Rows = Mapping[tuple[str, int, str], Any]
"""(case, seed, metric) → row of a table of scores."""


@dataclass(frozen=True, kw_only=True)
class SquaredError(PairMetric):
    """Mean over frames, pixels and channels of the squared difference: finite where frames are equal, unlike PSNR."""

    def compare(self, frame: Frames, reference: Frames) -> float:
        """Squared error of a frame: uint8 [H, W, 3] twice."""
        difference = frame.astype(np.int32) - reference
        return float(np.sum(difference * difference, dtype=np.int64)) / difference.size


SQUARED_ERROR = SquaredError(
    name="squared_error", direction="lower", unit="levels²", range=(0.0, _PEAK**2),
    preprocessing={"channel": "rgb", "averaging": "over pixels, channels, frames"},
)  # fmt: skip
"""What is measured where `psnr` is asked for."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """A run beside the baseline."""

    label: str
    rows: Rows
    partners: Mapping[Clip, Clip]
    """The baseline's clip → this run's."""
    identical: frozenset[Clip]
    """The baseline's clips of pairs that are one clip, byte for byte as decoded."""


def lines_of(table: pd.DataFrame) -> Iterable[Any]:
    """The rows of a table as named tuples, whose fields have the types that `scores.table` gives them."""
    return table.itertuples(index=False)


def rows_of(table: pd.DataFrame) -> Rows:
    """The rows of a table of scores by what they are of."""
    return {(str(row.case), int(row.seed), str(row.metric)): row for row in lines_of(table)}


def side(label: str, table: pd.DataFrame, baseline: pd.DataFrame, paired: Pairing) -> Side:
    """A run's table beside the baseline's."""
    mine = {(str(row.case), int(row.seed)): row.clip for row in lines_of(table)}
    theirs = {(str(row.case), int(row.seed)): row.clip for row in lines_of(baseline)}
    identical = frozenset(a for a, b in paired.pairs if theirs[a] and theirs[a] == mine[b])
    return Side(label=label, rows=rows_of(table), partners=dict(paired.pairs), identical=identical)


def clusters(baseline: pd.DataFrame) -> dict[Clip, str]:
    """Clip of the baseline → its prompt; prompts that share a clip of equal content are one."""
    unique = baseline[["cluster", "case", "seed", "clip"]].drop_duplicates().sort_values(["cluster", "case", "seed"])
    merged: dict[str, str] = {}

    def root(name: str) -> str:
        while merged.get(name, name) != name:
            name = merged[name]
        return name

    first: dict[str, str] = {}
    for line in lines_of(unique):
        if line.clip:
            merged[root(str(line.cluster))] = root(first.setdefault(line.clip, str(line.cluster)))
    return {(str(line.case), int(line.seed)): root(str(line.cluster)) for line in lines_of(unique)}


def distance(kind: Metric, row: Any, beside: Any = None) -> float:
    """Of a clip from the baseline's, ≥ 0; NaN where there is none.

    Args:
        kind: the metric; of a pair, or of single clips.
        row: the clip's row in a table of scores.
        beside: the baseline's row, for a metric of single clips.
    """
    if kind == SQUARED_ERROR:
        return math.sqrt(float(row.value))
    if kind.scope == "pair":
        return _distance(kind, float(row.value))
    frames, other = (np.asarray(x.per_frame, dtype=np.float64) for x in (row, beside))
    return float(np.abs(frames - other).mean()) if 0 < len(frames) == len(other) else math.nan


def margin(kind: Metric, value: float) -> float:
    """A margin as a user states it, turned into a distance: the least PSNR or similarity, the most of a distance.

    Raises:
        UsageError: nothing can lie beyond it.
    """
    if kind == SQUARED_ERROR:
        far = _PEAK * 10 ** (-value / 20)
    else:
        far = _distance(kind, value) if kind.scope == "pair" else value
    if not (far > 0 and math.isfinite(far)):
        what = f"invalid margin {label(kind)}={value:g}: no distance above 0"
        raise UsageError(
            what, fix="give the least psnr or ssim, or the most of a distance: psnr=40, ssim=0.98, lpips=0.05"
        )
    return far


def _distance(kind: Metric, value: float) -> float:
    return max(0.0, kind.range[1] - value) if kind.direction == "higher" else value


def label(kind: Metric) -> str:
    """How a user calls it."""
    return PSNR if kind == SQUARED_ERROR else kind.name


def measurable(kind: Metric) -> str:
    """Why a metric gives no distance of two clips; empty if it does."""
    if kind.scope not in ("pair", "frame") and not kind.over_time:
        return f"{kind.name} has no value a frame"
    if kind.scope == "pair" and kind.direction == "higher" and not math.isfinite(kind.range[1]):
        return f"{kind.name} has no value at which two clips are equal"
    return ""


def by_prompt(
    kind: Metric, run: Side, baseline: Rows, prompts: Mapping[Clip, str]
) -> tuple[dict[str, float], list[str]]:
    """Prompt → mean distance over its clips, NaN where one has none; and what is lacking."""
    lists: dict[str, list[float]] = {}
    lacking = []
    for clip, partner in run.partners.items():
        row, beside = run.rows[(*partner, kind.name)], baseline.get((*clip, kind.name))
        far = 0.0 if clip in run.identical else distance(kind, row, beside)
        if math.isnan(far):
            why = row.reason or getattr(beside, "reason", "") or "no value"
            lacking.append(f"`{run.label}`: {partner[0]}: {label(kind)}: {why}")
        lists.setdefault(prompts[clip], []).append(far)
    return {prompt: float(np.mean(values)) for prompt, values in lists.items()}, lacking


def array(distances: Mapping[str, float], order: Sequence[str]) -> Floats:
    """Distances in the order of prompts."""
    return np.array([distances[prompt] for prompt in order], dtype=np.float64)
