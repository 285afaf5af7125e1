"""The mean over clusters: Student's interval, its test, and where ties leave neither. Arrays alone, any draws first.

Ties (clips that both systems left as they were, a metric that most clips have at its end) make the mean's distribution
lumpy: with 90 % at 0, t covers 0.85 over 12 clusters and 0.86 over 30 where any differ at all. Where at least `DIFFER`
clusters, or half of them, lie off the commonest value, it covers 93 % and more (benchmarks/intervals.py).
Elsewhere there is no interval, and p is the larger of t's and the sign test's, which is 2^(1 − G) where all G
differences are the same.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from flashbench.types import Floats

LEVEL = 0.95
MIN_CLUSTERS = 3
DIFFER = 6
"""Clusters off the commonest value that suffice at any number of clusters; the sign test can resolve six."""
ROUNDING = 1e-12
"""Two values closer than this part of their size are the same."""


class Mean(NamedTuple):
    """Means of units [..., G]: arrays [...]; NaN where there is none."""

    value: Floats
    low: Floats
    high: Floats
    p: Floats
    """Two-sided, of a mean of 0."""
    se: Floats
    """Standard error on G − 1 degrees of freedom."""
    tied: npt.NDArray[np.int_]
    """Clusters that share the commonest value; 0 where no two do."""


def student(units: Floats, rounding: Floats | float = 0.0, level: float = LEVEL, least: int = DIFFER) -> Mean:
    """Mean, interval, p and standard error over the last axis.

    Args:
        units: [..., G], the mean of each cluster, or its difference; finite, G ≥ 1.
        rounding: [...], how far apart two clusters may be and still be the same.
        level: of the interval.
        least: clusters off the commonest value that suffice; 1 where ties say nothing of the mean's distribution.

    Bounds and `se` are NaN below three clusters, and where too few differ; p is NaN below three clusters.
    """
    count, near = units.shape[-1], np.asarray(rounding)[..., None]
    value, tied = units.mean(axis=-1), _tied(units, near)
    if count < MIN_CLUSTERS:
        nothing = np.full(value.shape, np.nan)
        return Mean(value, nothing, nothing, nothing, nothing, tied)
    spread = units.std(axis=-1, ddof=1) / np.sqrt(count)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * special.stdtr(count - 1, -np.abs(value) / spread)
    few = count - tied < min(least, (count + 1) // 2)
    se = np.where(few, np.nan, spread)
    p = np.where(few, np.fmax(_signs(units, near), p), p)  # t has none where nothing varies
    half = special.stdtrit(count - 1, (1 + level) / 2) * se
    return Mean(value, value - half, value + half, p, se, tied)


def _tied(units: Floats, near: Floats) -> npt.NDArray[np.int_]:
    """The length of the longest run of equal values among the sorted, 0 where it is 1."""
    same = np.diff(np.sort(units, axis=-1), axis=-1) <= near
    run = longest = np.ones(units.shape[:-1], dtype=int)
    for place in range(same.shape[-1]):
        run = np.where(same[..., place], run + 1, 1)
        longest = np.maximum(longest, run)
    return np.where(longest > 1, longest, 0)


def _signs(units: Floats, near: Floats) -> Floats:
    """The exact two-sided sign test: how often a fair coin falls as unevenly as the differences that are not 0."""
    up, down = (units > near).sum(axis=-1), (units < -near).sum(axis=-1)
    p: Floats = np.minimum(2 * special.bdtr(np.minimum(up, down).astype(np.float64), up + down, 0.5), 1.0)
    return p
