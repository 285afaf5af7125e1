"""Estimates, paired contrasts and their intervals. Knows scores as a table of lines; makes no table and draws nothing.

The unit is the cluster (a prompt, or a source of material): seeds are averaged within a case, cases within a cluster,
and only clusters count as independent. Intervals are 95 % and two-sided:

* metrics of a clip: the mean of the cluster means with Student's t on G − 1 degrees of freedom;
* shares (clips that are 1 or 0): score intervals, because t gives width 0 where all agree, and leaves 0 … 1. Rows have
  Wilson's (1927) with the effective sample size p (1 − p) / se² + 1, which is the number of clusters for one clip each
  (Korn and Graubard, 1998, for the idea); paired differences have Tango's (Statistics in Medicine 17, 1998) on
  clusters, whose test of no difference is McNemar's;
* set metrics: the value of the pooled statistics with the delete-one-cluster jackknife's standard error (Efron and
  Stein, 1981; Busing et al., 1999, for its use on clusters) and the same t.

Fewer than three clusters give NaN bounds and a reason, never an interval of width 0. tests/test_stats_coverage.py
simulates 93–97 % coverage at 10 and 30 clusters; tests/test_stats.py has the bootstrap, a cross-check that decides
nothing and covers less.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import optimize, special

from flashbench.errors import InvalidError
from flashbench.metrics.base import Metric, SetMetric
from flashbench.types import Floats

Labels: TypeAlias = npt.NDArray[np.str_]
Evaluate: TypeAlias = Callable[[Floats], float]
"""From units [G, …], or from summed statistics [S], to a value."""

LEVEL = 0.95
Z = float(special.ndtri((1 + LEVEL) / 2))
MIN_CLUSTERS = 3
SIGN = {"higher": 1, "lower": -1, "none": 0}
"""Sign of an improvement, by a metric's direction."""
REFERENCE = "original"
"""The control that is the reference itself: against the reference it is exact, and nothing is left to test."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A row's value of a metric, with its interval."""

    value: float
    low: float
    high: float
    n: int
    """Clips scored."""
    of: int
    """Clips asked for."""
    clusters: int
    reason: str = ""
    """Why the value or its bounds are NaN, or why n < of; what the scores themselves note."""


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A paired difference first − second of a metric, with its interval and two-sided p."""

    metric: str
    first: str
    second: str
    replica: int
    effect: float
    low: float
    high: float
    p: float
    se: float
    """Standard error, on `clusters` − 1 degrees of freedom."""
    n: int
    """Pairs of clips in which both were scored."""
    of: int
    """Pairs asked for."""
    clusters: int
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A contrast of a row with the protocol's baseline, as one of a family of tests."""

    contrast: Contrast
    primary: bool
    adjusted: float
    """p by Holm among the primary metrics, by Benjamini–Hochberg among the others."""

    @property
    def resolved(self) -> bool:
        """Whether the difference stands after the adjustment."""
        return self.adjusted < 1 - LEVEL


@dataclass(frozen=True)
class _Lines:
    """Scored lines of one row, replica and metric, in order of case and seed."""

    pairs: list[tuple[str, int]]
    clusters: Labels
    data: Floats
    """[N] values, or [N, S] statistics of a set metric."""
    asked: set[tuple[str, int]]
    reasons: str
    """Why the row's other clips have no score."""
    notes: str


def mean(values: Floats, clusters: Labels, cases: Labels, *, of: int | None = None, binary: bool = False) -> Estimate:
    """Mean over seeds, then over the cases of a cluster, then over clusters, with the cluster-t interval.

    Args:
        values: [N], one a clip; NaN is missing.
        clusters: [N] labels of the unit of statistics.
        cases: [N] labels of cases; clips of one case are its seeds.
        of: clips asked for, N if not given.
        binary: values are 0 or 1; Wilson's interval.
    """
    here = ~np.isnan(values)
    units = _cluster_means(values[here], clusters[here], cases[here])
    return _estimate(units, np.mean, n=int(here.sum()), of=len(values) if of is None else of, binary=binary)


def pooled(statistics: Floats, clusters: Labels, finalize: Evaluate, *, of: int | None = None) -> Estimate:
    """Value of a set metric over all clips, with the delete-one-cluster jackknife-t interval.

    Args:
        statistics: [N, S] sufficient statistics, one line a clip; a line with NaN is missing.
        clusters: [N] labels of the unit of statistics.
        finalize: from the sum [S] of statistics to the value.
        of: clips asked for, N if not given.
    """
    here = ~np.isnan(statistics).any(axis=1)
    units = _cluster_sums(statistics[here], clusters[here])
    return _estimate(units, _pool(finalize), n=int(here.sum()), of=len(statistics) if of is None else of)


def estimate(scores: pd.DataFrame, metric: Metric, row: str, *, replica: int = 0, of: int | None = None) -> Estimate:
    """A row's value of a metric: `mean`, or `pooled` for a set metric. Missing clips are counted with their reasons."""
    lines = _lines(scores, metric, row, replica)
    total = of or len(lines.asked)
    if metric.pooled:
        result = pooled(lines.data, lines.clusters, _remembering(metric), of=total)
    else:
        result = mean(lines.data, lines.clusters, _cases(lines.pairs), of=total, binary=metric.binary)
    if metric.computed:
        result = replace(result, low=result.value, high=result.value)
    if result.n >= total:
        return replace(result, reason=_join(result.reason, lines.notes))
    why = lines.reasons or ("no score" if result.n else f"no score of row {row!r}")
    if result.n:
        why = _join(f"{total - result.n} of {total} clips missing: {why}", result.reason, lines.notes)
    return replace(result, reason=why)


def contrast(scores: pd.DataFrame, metric: Metric, first: str, second: str, *, replica: int = 0) -> Contrast:
    """Difference first − second of a metric, over the (case, seed) pairs that both rows have scores for.

    Metrics of a clip: cluster-t of the differences, Tango's interval for shares. Set metrics: difference of the two
    pooled values over the same clips, jackknife-t of that difference. What is computed and not measured is exact: its
    bounds are the effect, and there is no p.
    """
    first_lines, second_lines = _lines(scores, metric, first, replica), _lines(scores, metric, second, replica)
    units, evaluate, n = _paired(metric, first_lines, second_lines)
    effect, se, reason = _jackknife(units, evaluate)
    if n == 0:
        reason = _join(first_lines.reasons, second_lines.reasons)
        reason = reason or f"no case in which both {first!r} and {second!r} have a score"
    half, p = _t(effect, se, len(units))
    low, high = effect - half, effect + half
    if metric.binary and not math.isnan(se):
        low, high, p = tango(units)
    if metric.computed:
        low, high, se, p = effect, effect, 0.0, math.nan
    return Contrast(
        metric=metric.name, first=first, second=second, replica=replica, effect=effect, low=low, high=high, p=p, se=se,
        n=n, of=len(first_lines.asked | second_lines.asked), clusters=len(units),
        reason=_join(reason, first_lines.notes, second_lines.notes),
    )  # fmt: skip


def against_baseline(
    scores: pd.DataFrame, metrics: Sequence[Metric], rows: Iterable[str], baseline: str, primary: Iterable[str],
    *, replica: int = 0,
) -> list[Comparison]:  # fmt: skip
    """Every row against the baseline on every metric: Holm over all tests of primary metrics, BH over all others.

    The reference itself (`REFERENCE`) is in neither family on metrics of a pair, nor is a metric that is computed.
    """
    others, primaries = [row for row in rows if row != baseline], set(primary)
    tested = [metric for metric in metrics if not metric.computed]
    pairs = [(m, row) for m in tested for row in others if (m.scope, row) != ("pair", REFERENCE)]
    contrasts = [contrast(scores, m, row, baseline, replica=replica) for m, row in pairs]
    family = np.array([c.metric in primaries for c in contrasts], dtype=bool)
    p = np.array([c.p for c in contrasts], dtype=np.float64)
    adjusted = np.where(family, holm(np.where(family, p, np.nan)), benjamini_hochberg(np.where(family, np.nan, p)))
    tests = zip(contrasts, family, adjusted, strict=True)
    return [Comparison(contrast=c, primary=bool(inside), adjusted=float(q)) for c, inside, q in tests]


def wilson(share: float, se: float, clusters: int) -> tuple[float, float]:
    """95 % bounds of a share in 0 … 1 with standard error `se` over `clusters` (0: all clusters agree)."""
    size = share * (1 - share) / se**2 + 1 if se > 0 else float(clusters)
    middle = (share + Z**2 / (2 * size)) / (1 + Z**2 / size)
    half = Z / (1 + Z**2 / size) * math.sqrt(share * (1 - share) / size + Z**2 / (4 * size**2))
    return 0.0 if share == 0 else float(middle - half), 1.0 if share == 1 else float(middle + half)


def tango(differences: Floats) -> tuple[float, float, float]:
    """(low, high, two-sided p) of the mean of clusters' differences [G], each in −1 … 1; G ≥ 1.

    A difference between −1, 0 and 1 (a cluster of several clips) counts for its part, which widens the interval.
    """
    count = len(differences)
    gained, lost = float(differences.clip(min=0).sum()), float(-differences.clip(max=0).sum())
    effect = (gained - lost) / count

    def beyond(delta: float) -> float:
        """Squared distance from `delta` minus what the interval allows: negative inside it."""
        linear = -gained - lost + (2 * count - gained + lost) * delta
        root = math.sqrt(max(linear**2 + 8 * count * lost * delta * (1 - delta), 0.0))
        variance = 2 * (root - linear) / (4 * count) + delta * (1 - delta)
        return (gained - lost - count * delta) ** 2 - Z**2 * count * variance

    near = 1e-9  # from the effect itself, where both terms may be 0
    low = -1.0 if effect <= near - 1 else float(optimize.brentq(beyond, -1.0, effect - near))
    high = 1.0 if effect >= 1 - near else float(optimize.brentq(beyond, effect + near, 1.0))
    p = 2 * special.ndtr(-abs(gained - lost) / math.sqrt(gained + lost)) if gained + lost else 1.0
    return low, high, float(p)


def holm(p: Floats) -> Floats:
    """Holm's step-down adjusted p values (Holm, 1979). NaN stays NaN and is no member of the family."""
    adjusted = np.full(p.shape, np.nan)
    order = np.argsort(p, kind="stable")[: np.count_nonzero(~np.isnan(p))]  # NaN sorts last
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return adjusted


def benjamini_hochberg(p: Floats) -> Floats:
    """Benjamini–Hochberg adjusted p values (1995). NaN stays NaN and is no member of the family."""
    from scipy.stats import false_discovery_control  # a second of imports, for tables of protocols only

    adjusted = np.full(p.shape, np.nan)
    members = np.flatnonzero(~np.isnan(p))
    if len(members):
        adjusted[members] = false_discovery_control(p[members], method="bh")
    return adjusted


def smallest_resolvable(se: float, clusters: int, *, power: float = 0.8) -> float:
    """The smallest true difference that the paired test finds with the given power (power-based, not a half-width).

    Exact under normal cluster differences: the squared statistic of the two-sided t test at 5 % is a noncentral F.

    Args:
        se: standard error of the paired difference (`Contrast.se`; in planning, sd of cluster differences / √clusters).
        clusters: number of clusters; below three nothing can be resolved and the result is NaN.
        power: probability of finding a difference of the returned size.
    """
    if clusters < MIN_CLUSTERS or math.isnan(se):
        return math.nan
    df = clusters - 1
    critical = float(special.stdtrit(df, (1 + LEVEL) / 2))
    return se * math.sqrt(float(special.ncfdtrinc(1, df, 1 - power, critical**2)))


def _lines(scores: pd.DataFrame, metric: Metric, row: str, replica: int) -> _Lines:
    """The lines of a row, sorted by case and seed so that no sum depends on the order of the table."""
    chosen = (scores["row"] == row) & (scores["metric"] == metric.name) & (scores["replica"] == replica)
    part = scores[chosen].sort_values(["case", "seed"], kind="stable")
    pairs = list(zip(part["case"].astype(str), part["seed"].astype(int), strict=True))
    if len(set(pairs)) != len(pairs):
        (case, seed), _ = Counter(pairs).most_common(1)[0]
        what = f"two scores of {metric.name} for row {row!r}, case {case!r}, seed {seed}, replica {replica}"
        raise InvalidError(what, fix="score the protocol again: a clip has one score of a metric")
    if metric.pooled:
        lists = [np.asarray(statistics, dtype=np.float64) for statistics in part["statistics"]]
        places = [i for i, statistics in enumerate(lists) if len(statistics)]
        data = np.stack([lists[i] for i in places]) if places else np.empty((0, 0))
    else:
        values = part["value"].to_numpy(dtype=np.float64)
        places = np.flatnonzero(~np.isnan(values)).tolist()
        data = values[places]
    scored = set(places)
    return _Lines(
        pairs=[pairs[i] for i in places],
        clusters=part["cluster"].to_numpy(dtype=np.str_)[places],
        data=data,
        asked=set(pairs),
        reasons=_tally(why for i, why in enumerate(part["reason"]) if i not in scored),
        notes=_tally(why for i, why in enumerate(part["reason"]) if i in scored),
    )


def _paired(metric: Metric, first: _Lines, second: _Lines) -> tuple[Floats, Evaluate, int]:
    """Units of the pairs that both have ([G] mean differences or [G, 2, S] sums), their evaluation, number of pairs."""
    place = {pair: i for i, pair in enumerate(second.pairs)}
    shared = [(i, place[pair]) for i, pair in enumerate(first.pairs) if pair in place]
    places, second_places = [i for i, _ in shared], [j for _, j in shared]
    clusters = first.clusters[places]
    if metric.pooled:
        pool = _pool(_remembering(metric))
        sums = np.stack([first.data[places], second.data[second_places]], axis=1) if places else np.empty((0, 2, 0))
        return _cluster_sums(sums, clusters), lambda units: pool(units[:, 0]) - pool(units[:, 1]), len(places)
    with np.errstate(invalid="ignore"):  # inf − inf: both equal to the reference
        differences = np.asarray(first.data[places] - second.data[second_places])
    return _cluster_means(differences, clusters, _cases([first.pairs[i] for i in places])), np.mean, len(places)


def _cases(pairs: list[tuple[str, int]]) -> Labels:
    return np.array([case for case, _ in pairs], dtype=np.str_)


def _pool(finalize: Evaluate) -> Evaluate:
    return lambda units: float(finalize(units.sum(axis=0)))


@lru_cache(maxsize=4096)
def _finalized(metric: Metric, statistics: bytes) -> float:
    return float(cast(SetMetric, metric).finalize(np.frombuffer(statistics, dtype=np.float64)))


def _remembering(metric: Metric) -> Evaluate:
    # One table asks for the same sums many times: a row's value, its contrasts, its claims all leave out one cluster.
    return lambda statistics: _finalized(metric, np.ascontiguousarray(statistics).tobytes())


def _group_means(values: Floats, index: npt.NDArray[np.intp]) -> Floats:
    return np.bincount(index, weights=values) / np.bincount(index)


def _cluster_means(values: Floats, clusters: Labels, cases: Labels) -> Floats:
    """[G] means: over the seeds of a case, then over the cases of a cluster."""
    _, unit = np.unique(clusters, return_inverse=True)
    _, index = np.unique(np.char.add(np.char.add(clusters, "\x1f"), cases), return_inverse=True)
    unit_of_case = np.zeros(len(np.unique(index)), dtype=np.intp)
    unit_of_case[index] = unit
    return _group_means(_group_means(values, index), unit_of_case)


def _cluster_sums(statistics: Floats, clusters: Labels) -> Floats:
    """[G, …] sums over the clips of each cluster of statistics [N, …]."""
    names, index = np.unique(clusters, return_inverse=True)
    sums = np.zeros((len(names), *statistics.shape[1:]))
    np.add.at(sums, index, statistics)
    return sums


def _jackknife(units: Floats, evaluate: Evaluate) -> tuple[float, float, str]:
    """(value, standard error, reason) of units [G, …]; for a mean the standard error is sd / √G exactly."""
    count = len(units)
    point = float(evaluate(units)) if count else math.nan
    if not math.isfinite(point):
        equal = "infinite: a clip equals its reference" if math.isinf(point) else "undefined for these clips"
        return point, math.nan, equal if count else "no score"
    if count < MIN_CLUSTERS:
        return point, math.nan, f"an interval needs {MIN_CLUSTERS} clusters, here {count}"
    without = np.array([evaluate(np.delete(units, g, axis=0)) for g in range(count)])
    if not np.isfinite(without).all():
        return point, math.nan, "no interval: undefined with one cluster left out"
    spread = without - without.mean()
    return point, math.sqrt((count - 1) / count * float(spread @ spread)), ""


def _t(effect: float, se: float, clusters: int) -> tuple[float, float]:
    """(half-width, two-sided p) of an effect on clusters − 1 degrees of freedom."""
    if math.isnan(se):
        return math.nan, math.nan
    half = se * float(special.stdtrit(clusters - 1, (1 + LEVEL) / 2))
    return half, float(2 * special.stdtr(clusters - 1, -abs(effect) / se)) if se > 0 else float(effect == 0)


def _estimate(units: Floats, evaluate: Evaluate, *, n: int, of: int, binary: bool = False) -> Estimate:
    value, se, reason = _jackknife(units, evaluate)
    half, _ = _t(value, se, len(units))
    low, high = value - half, value + half
    if binary and not math.isnan(se):
        low, high = wilson(value, se, len(units))
    return Estimate(value=value, low=low, high=high, n=n, of=of, clusters=len(units), reason=reason)


def _tally(reasons: Iterable[Any]) -> str:
    """Distinct reasons, the commonest first."""
    counts = Counter(str(why) for why in reasons if why)
    return "; ".join(sorted(counts, key=lambda why: (-counts[why], why)))


def _join(*parts: str) -> str:
    return "; ".join(filter(None, dict.fromkeys(parts)))
