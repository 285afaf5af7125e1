"""Cells of `intervals.py`: those of pooled NIQE, simulated from the statistics of the laptop tier's clips.

A population of sources is made from the 34 real ones, sources are drawn from it, and every interval is asked whether it
covers the truth. A source keeps its clips of all rows together, so that rows are paired as in a table. Two populations:

* `real`: the sources themselves, drawn with replacement, each draw a source of its own. Its skewness is real, but it
  has 34 members, so that duplicates leave a set less varied than new sources would;
* `normal`: the blocks' means normal with the real ones' mean and covariance, the scatter of blocks within a source that
  of a real one. No two sources are alike and the limit of endless sources is known, but nothing is skewed.

The truth is the value that so many sources give on average, over `TRUTH` sets. `alternatives` are what was not
chosen, which are also held against the value of endless sources. A false alarm is a p below 0.05 where each source's
two clips are turned by a coin, so that there is no difference.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from scipy import special

from flashbench import jackknife
from flashbench.metrics import niqe
from flashbench.scores.table import read_scores
from flashbench.types import Floats

RESULTS = Path(__file__).resolve().parents[1] / "results" / "laptop"
MOST, CLUSTERS, TRUTH = 1000, (5, 12, 30, 100), 4000
"""Draws of a cell at most: each takes as many solutions of 36 equations as there are clusters."""
VANILLA, FLASHVIDEO = "cost/design=vanilla,nfe=4", "cost/design=flashvideo,nfe=4"
CONTRASTS = (
    ("nfe/original", "nfe/bicubic"), ("nfe/codec", "nfe/bicubic"), ("nfe/nfe=4", "nfe/bicubic"),
    ("nfe/unsharp", "nfe/bicubic"), ("nfe/l1", "nfe/bicubic_back_projection"), (FLASHVIDEO, VANILLA),
    ("nfe/nfe=3", "nfe/nfe=4"), ("nfe/nfe=4", "nfe/codec"),
    ("strength/degradation_step=600,training=wide", "strength/degradation_step=700,training=wide"),
)  # fmt: skip
"""Rows of results/laptop, by protocol."""
ROWS = tuple(dict.fromkeys(row for pair in CONTRASTS for row in pair))
_UPPER = np.triu_indices(niqe.FEATURES)
_SUMS = slice(2 * niqe.FEATURES + 1, 3 * niqe.FEATURES + 1)
_PRODUCTS = slice(3 * niqe.FEATURES + 1, None)

Interval: TypeAlias = Callable[[Floats, Floats], jackknife.Interval]
"""From values [N] and those without each cluster [N, G] to bounds and p [N]."""


class Population(NamedTuple):
    """Sources S and rows R, of which all have the same number of blocks, and all blocks are complete."""

    blocks: float
    means: Floats
    """[S, R, 36] of the features, relative to the pristine ones."""
    scatter: Floats
    """[S, R, 666]: products of the features relative to these means, summed over blocks; the upper triangle."""


def population(rows: Sequence[str] = ROWS) -> Population:
    """The laptop tier's sources, from the scores that are committed."""
    parts, cases = [], None
    for row in rows:
        protocol, name = row.split("/", 1)
        scores = _scores(protocol)
        part = scores[scores["row"] == name].sort_values(["case", "seed"])
        if cases is not None and list(part["case"]) != cases:
            raise SystemExit(f"{row} has other clips than {rows[0]}")
        cases = list(part["case"])
        parts.append(np.stack([np.asarray(x, np.float64) for x in part["statistics"]]))
    statistics = np.stack(parts, axis=1)
    blocks = float(statistics[0, 0, 2 * niqe.FEATURES])
    if not (statistics[..., : niqe.FEATURES] == blocks).all():
        raise SystemExit("not all clips have the same number of blocks, all complete")
    means = statistics[..., _SUMS] / blocks
    return Population(blocks, means, statistics[..., _PRODUCTS] - blocks * _outer(means))


@lru_cache
def _scores(protocol: str) -> pd.DataFrame:
    table = read_scores(RESULTS / protocol / "scores.parquet")
    return table[(table["metric"] == "niqe_pooled") & (table["statistics"].map(len) > 0)]


def draw(of: Population, kind: str, clusters: int, rng: np.random.Generator) -> Floats:
    """Statistics [clusters, R, 775] of sources drawn from the population `real` or `normal`."""
    count = len(of.means)
    which = rng.integers(0, count, clusters)
    means = of.means[which]
    if kind == "normal":
        centre = of.means.mean(axis=0)
        weights = rng.standard_normal((clusters, count)) / math.sqrt(count - 1)
        means = centre + np.tensordot(weights, of.means - centre, 1)
    return _statistics(of.blocks, means, of.scatter[which] + of.blocks * _outer(means))


def limit(of: Population, kind: str) -> Floats:
    """Values [R] of endless sources."""
    between = of.means - of.means.mean(axis=0)
    products = of.scatter.mean(axis=0) + of.blocks * (_outer(of.means.mean(axis=0)) + _outer(between).mean(axis=0))
    if kind == "normal":
        products += of.blocks * _outer(between).mean(axis=0) / (len(of.means) - 1)
    whole = _statistics(of.blocks, of.means.mean(axis=0), products)
    return values(1e9 * whole)


def values(sums: Floats) -> Floats:
    """`niqe.pooled` of summed statistics [..., 775] without incomplete blocks, many at once: [...]."""
    flat = sums.reshape(-1, sums.shape[-1])
    found = np.empty(len(flat))
    mean, covariance = niqe.pristine()
    matrices = np.empty((512, niqe.FEATURES, niqe.FEATURES))
    for start in range(0, len(flat), len(matrices)):
        part = flat[start : start + len(matrices)]
        blocks, first, matrix = part[:, 2 * niqe.FEATURES], part[:, _SUMS], matrices[: len(part)]
        matrix[:, _UPPER[0], _UPPER[1]] = matrix[:, _UPPER[1], _UPPER[0]] = part[:, _PRODUCTS]
        matrix -= first[:, :, None] * (first / blocks[:, None])[:, None]
        matrix /= 2 * (blocks - 1)[:, None, None]
        matrix += covariance / 2
        off = (first / blocks[:, None])[..., None]
        found[start : start + len(part)] = (off * np.linalg.solve(matrix, off)).sum(axis=(1, 2))
    return np.sqrt(np.maximum(found, 0)).reshape(sums.shape[:-1])


def _outer(means: Floats) -> Floats:
    return (means[..., :, None] * means[..., None, :])[..., _UPPER[0], _UPPER[1]]


def _statistics(blocks: float, means: Floats, products: Floats) -> Floats:
    """Statistics [..., 775] from means [..., 36] and products [..., 666] of so many complete blocks."""
    sums, counts = blocks * means, np.full(means.shape, blocks)
    return np.concatenate([counts, sums, counts[..., :1], sums, products], axis=-1)


# --- intervals ---------------------------------------------------------------------------------------------------


def used(value: Floats, without: Floats) -> jackknife.Interval:
    """The one in use."""
    return jackknife.interval(jackknife.pseudo_values(value, without))


def student(value: Floats, without: Floats) -> jackknife.Interval:
    """Student's t alone."""
    return jackknife.student(jackknife.pseudo_values(value, without))


def hall(value: Floats, without: Floats) -> jackknife.Interval:
    """Hall's transformation alone."""
    return jackknife.hall(jackknife.pseudo_values(value, without))


def half_df(value: Floats, without: Floats) -> jackknife.Interval:
    """Student's t on half of the degrees of freedom."""
    low, high, p = student(value, without)
    df = without.shape[1] - 1
    wider = float(special.stdtrit(df / 2, 0.975) / special.stdtrit(df, 0.975))
    middle, half = (low + high) / 2, wider * (high - low) / 2
    return jackknife.Interval(middle - half, middle + half, p)


def bootstrap_t(value: Floats, without: Floats) -> jackknife.Interval:
    """Bootstrap-t of the pseudo-values, 999 draws from a fixed seed."""
    units = jackknife.pseudo_values(value, without)
    count, draws = units.shape[1], 999
    picks = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), 2 * draws)
    weights = picks[(picks > 0).sum(axis=1) > 1][:draws] / count
    off = units - value[:, None]
    mean, second = off @ weights.T, off**2 @ weights.T
    t = np.sort(mean / np.sqrt(np.maximum(second - mean**2, 1e-300) / (count - 1)), axis=1)
    se, tail = units.std(axis=1, ddof=1) / math.sqrt(count), (draws + 1) // 40
    return jackknife.Interval(value - se * t[:, -tail], value - se * t[:, tail - 1], np.full(len(value), math.nan))


def extrapolated(value: Floats, without: Floats) -> jackknife.Interval:
    """Student's t about the jackknife's extrapolation in 1/k, from k and k − 1 sources to endless ones."""
    low, high, p = student(value, without)
    move = (without.shape[1] - 1) * (value - without.mean(axis=1))
    return jackknife.Interval(low + move, high + move, p)


CHOSEN: dict[str, Interval] = {"jackknife": used}
ALTERNATIVES: dict[str, Interval] = {
    "Student's t": student, "Hall": hall, "t, half of df": half_df, "bootstrap-t": bootstrap_t,
    "extrapolated": extrapolated,
}  # fmt: skip


# --- cells -------------------------------------------------------------------------------------------------------


class Draws(NamedTuple):
    """Simulated sets: their values, those without each cluster, and the same of pairs without a difference."""

    value: Floats
    """[N, R]."""
    without: Floats
    """[N, G, R]."""
    null: Floats
    """[N, contrasts, 2]."""
    null_without: Floats
    """[N, G, contrasts, 2]."""
    average: Floats
    """[R], the value of so many sources on average."""
    average_log: Floats


def simulate(of: Population, kind: str, clusters: int, draws: int, seed: int = 0) -> Draws:
    """So many sets of sources, and their truth."""
    rng = np.random.default_rng([seed, clusters, kind == "normal"])
    sides = np.array([[ROWS.index(row) for row in pair] for pair in CONTRASTS])
    found = []
    for _ in range(draws):
        sources = draw(of, kind, clusters, rng)
        turned = rng.random((clusters, len(CONTRASTS), 1, 1)) < 0.5
        pairs = sources[:, sides]
        pairs = np.where(turned, pairs[:, :, ::-1], pairs).reshape(clusters, -1, pairs.shape[-1])
        both = np.concatenate([sources, pairs], axis=1)
        total = both.sum(axis=0)
        found.append(values(np.concatenate([total[None], total - both])))
    every = np.stack(found)  # [N, 1 + G, R + 2 contrasts]
    own, null = every[..., : len(ROWS)], every[..., len(ROWS) :].reshape(*every.shape[:2], len(CONTRASTS), 2)
    more = [values(draw(of, kind, clusters, rng).sum(axis=0)) for _ in range(max(TRUTH - draws, 0))]
    sets = np.concatenate([own[:, 0], np.array(more).reshape(-1, len(ROWS))])
    return Draws(own[:, 0], own[:, 1:], null[:, 0], null[:, 1:], sets.mean(axis=0), np.log(sets).mean(axis=0))


def cells(draws: int) -> Iterator[dict[str, Any]]:
    """A line of `intervals.HEAD` for each population, number of clusters, scale, and row or contrast.

    `interval` says which, of a value or a difference, and on which scale (`log`: of logarithms, so of ratios);
    `width_ratio` is the median width over that of the middle 95 % of the estimates.
    """
    yield from _lines(draws, CHOSEN)


def alternatives(draws: int) -> Iterator[dict[str, Any]]:
    """The same of the intervals that were not chosen."""
    yield from _lines(draws, ALTERNATIVES)


def _lines(draws: int, intervals: dict[str, Interval]) -> Iterator[dict[str, Any]]:
    of = population()
    for kind, count in itertools.product(("real", "normal"), CLUSTERS):
        sets, ends = simulate(of, kind, count, min(draws, MOST)), limit(of, kind)
        for scale, (name, interval) in itertools.product(("identity", "log"), intervals.items()):
            yield from _cells(sets, ends, kind, count, scale, name, interval)


def _cells(
    sets: Draws, ends: Floats, kind: str, clusters: int, scale: str, name: str, interval: Interval
) -> Iterator[dict[str, Any]]:
    moved = np.log if scale == "log" else np.asarray
    value, without, null, null_without = map(moved, sets[:4])
    truth = {"same number": sets.average_log if scale == "log" else sets.average}
    if name == "extrapolated":
        truth = {"endless": moved(ends)}
    elif name != "jackknife":
        truth["endless"] = moved(ends)

    def cell(what: str, about: str, target: str, x: Floats, left: Floats, true: float, alarms: float) -> dict[str, Any]:
        low, high, _ = interval(x, left)
        covered = float(((low <= true) & (true <= high)).mean())
        error = math.sqrt(max(covered * (1 - covered), 1e-3) / len(x))
        spread = float(np.subtract(*np.quantile(x, (0.975, 0.025))))
        ratio = float(np.median(high - low)) / spread
        label = f"{name} of a pooled {what}" + (", log" if scale == "log" else "")
        return {
            "interval": label, "clusters": clusters, "seeds": 1, "values": f"{kind}: {about}", "truth": target,
            "coverage": covered, "error": error, "false_alarms": alarms, "power": math.nan, "width_ratio": ratio,
            "too_few": 0.0, "draws": len(x),
        }  # fmt: skip

    for target, true in truth.items():
        for row, about in enumerate(ROWS):
            yield cell("value", about, target, value[:, row], without[..., row], float(true[row]), math.nan)
        for place, pair in enumerate(CONTRASTS):
            first, second = (ROWS.index(row) for row in pair)
            x, left = value[:, first] - value[:, second], without[..., first] - without[..., second]
            nothing = interval(
                np.subtract(*null[:, place].T), np.subtract(*np.moveaxis(null_without[:, :, place], -1, 0))
            )
            alarms = float(((nothing.low > 0) | (nothing.high < 0)).mean())
            yield cell("difference", " − ".join(pair), target, x, left, float(true[first] - true[second]), alarms)
