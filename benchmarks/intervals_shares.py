"""Cells of `intervals.py`: the intervals and the paired test of shares, against known truths.

A clip is 1 where a normal latent value is below a threshold. The latent value is a sum of the cluster's part, which
both rows share, of the row's own part in the cluster, of the seed's part, which both rows share, and of the clip's own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from flashbench import shares

Floats = npt.NDArray[np.float64]
CLUSTERS, SEEDS = (5, 12, 30, 100), (1, 5)
TRUTHS = ((0.5, 0.5), (0.5, 0.7), (0.9, 0.9), (0.98, 0.95))
ALIKE = {"independent": (0.0, 0.0, 0.0), "weak": (0.1, 0.05, 0.1), "shared": (0.6, 0.05, 0.2), "own": (0.1, 0.6, 0.1)}
"""Parts of the latent variance: of the cluster, of the row in the cluster, of the seed."""


def draw(
    clusters: int, seeds: int, truth: tuple[float, float], alike: str, draws: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Two rows' clips, each [D, G, K] of 0 and 1 with the true shares `truth`."""
    cluster, row, seed = ALIKE[alike]
    common = math.sqrt(cluster) * rng.standard_normal((draws, clusters, 1))
    common = common + math.sqrt(seed) * rng.standard_normal((draws, clusters, seeds))
    rest = math.sqrt(1 - cluster - row - seed)
    first, second = (
        common
        + math.sqrt(row) * rng.standard_normal((draws, clusters, 1))
        + rest * rng.standard_normal((draws, clusters, seeds))
        < special.ndtri(share)
        for share in truth
    )
    return first.astype(np.float64), second.astype(np.float64)


@lru_cache(maxsize=100_000)
def _row(units: bytes) -> tuple[float, float]:
    values = np.frombuffer(units)
    return shares.interval(float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values)), len(values))


@lru_cache(maxsize=100_000)
def _pair(units: bytes) -> tuple[float, float, float]:
    return shares.paired(np.frombuffer(units))


def bounds(units: Floats, *, pair: bool) -> Floats:
    """[D, 2] bounds of rows, or [D, 3] with p of pairs, of clusters' means [D, G]; equal sets are done once."""
    find = _pair if pair else _row
    return np.array([find(each.tobytes()) for each in np.sort(np.round(units, 12), axis=1)])


def experiment(
    clusters: int, seeds: int, truth: tuple[float, float], alike: str, *, draws: int, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """A line for the first row's share and one for the paired difference.

    `width_ratio` is to an oracle that knows the estimate's true standard deviation: 2 · 1.96 of it.
    """
    first, second = (clips.mean(axis=2) for clips in draw(clusters, seeds, truth, alike, draws, rng))
    lines = []
    for name, units, true in (
        ("share", first, truth[0]),
        ("difference of shares", first - second, truth[0] - truth[1]),
    ):
        found = bounds(units, pair=name != "share")
        low, high = found[:, 0], found[:, 1]
        coverage = float(np.mean((low <= true + 1e-9) & (true <= high + 1e-9)))
        line = {"interval": name, "clusters": clusters, "seeds": seeds, "values": alike, "truth": f"{truth[0]}"}
        line |= {"coverage": coverage, "error": math.sqrt(coverage * (1 - coverage) / draws), "false_alarms": math.nan}
        line |= {"power": math.nan}
        line |= {"width_ratio": float(np.mean(high - low) / (2 * shares.Z * units.mean(axis=1).std())), "too_few": 0.0}
        if name != "share":
            rejected, apart = found[:, 2] < 1 - shares.LEVEL, (low > 0) | (high < 0)
            line |= {"truth": f"{truth[0]} − {truth[1]}", "disagree": float(np.mean(rejected != apart))}
            line |= {"false_alarms" if true == 0 else "power": float(np.mean(rejected))}
        lines.append(line)
    return lines


def cells(draws: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """All lines, with the columns of `intervals.HEAD`; `disagree` besides: how often p and the interval do."""
    for clusters in CLUSTERS:
        for seeds in SEEDS:
            for truth in TRUTHS:
                for alike in ALIKE:
                    rng = np.random.default_rng([seed, clusters, seeds, int(100 * sum(truth)), len(alike)])
                    yield from experiment(clusters, seeds, truth, alike, draws=draws, rng=rng)
