"""Estimates, paired contrasts and their intervals. Knows scores as a table of lines; makes no table and draws nothing.

The unit is the cluster (a prompt, or a source of material): seeds are averaged within a case, cases within a cluster,
and only clusters count as independent. Intervals are 95 % and two-sided:

* metrics of a clip: the mean of the cluster means with Student's t on G − 1 degrees of freedom. Where `Metric.scale` is
  "log" all of this is done with logarithms, so that a row's value is a geometric mean and an effect the percent change
  of geometric means; a value of 0 has no logarithm, and then means and their difference are arithmetic, with a note.
  Ties may leave no interval (`flashbench.means`). No bound leaves a metric's range;
* shares (`Metric.binary`: clips that are 1 or 0, or parts of them, also where they are pooled): score intervals,
  because t gives width 0 where all agree, and leaves 0 … 1; differences are tested by turning the signs of clusters'
  differences, for one clip each McNemar's exact test (flashbench/shares.py);
* set metrics: the value of the pooled statistics with the delete-one-cluster jackknife's standard error (Efron and
  Stein, 1981; Busing et al., 1999, for its use on clusters) and t with and without Hall's correction for skewness
  (flashbench/jackknife.py). Where `Metric.finite_sample_bias` the value moves with the number of clusters, and the
  interval is for the value at this number: rows are compared over the same clips only, and nothing is extrapolated.
  Where `scale` is "log" all of this is of the value's logarithm.

Fewer than three clusters, and clusters that are all the same, give NaN bounds and a reason, never an interval of width
0; but where both rows are equal in every cluster the difference is 0 and its bounds are. benchmarks/intervals.py
simulates what the intervals cover, tests/test_stats_coverage.py holds the worst of it; tests/test_stats.py has the
bootstrap, a cross-check that decides nothing and covers less.
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
from scipy import special

from flashbench import jackknife, means, shares
from flashbench.errors import InvalidError
from flashbench.metrics.base import Metric, Scale, SetMetric
from flashbench.types import Floats

Labels: TypeAlias = npt.NDArray[np.str_]
Evaluate: TypeAlias = Callable[[Floats], float]
"""From units [G, …], or from summed statistics [S], to a value."""

LEVEL = means.LEVEL
EQUIVALENCE_LEVEL = 0.90
"""Of the interval that lies inside the margin where two one-sided tests at 5 % find equivalence."""
MIN_CLUSTERS = means.MIN_CLUSTERS
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
    scale: Scale = "identity"
    """log: the value is a geometric mean."""


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A paired difference first − second of a metric, with its interval and two-sided p.

    On the log scale it is the percent change from second to first, 100 (ratio of their geometric means − 1).
    """

    metric: str
    first: str
    second: str
    replica: int
    effect: float
    low: float
    high: float
    p: float
    se: float
    """Standard error of `as_tested(effect)`, on `clusters` − 1 degrees of freedom; NaN without an interval."""
    n: int
    """Pairs of clips in which both were scored."""
    of: int
    """Pairs asked for."""
    clusters: int
    reason: str = ""
    scale: Scale = "identity"
    """That of the metric, unless a value of 0 has no logarithm."""
    unit: str = ""
    """Of effect and bounds: % on the log scale, else the metric's."""
    remark: str = ""
    """Part of the reason that belongs beside the numbers: why there is no interval, or that means are arithmetic."""

    def as_tested(self, effect: float) -> float:
        """An effect in `unit`, on the scale of the test: itself, or of a percent change the logarithm of the ratio."""
        if self.scale == "identity":
            return effect
        with np.errstate(divide="ignore"):  # of an infinite value all is lost: −100 %
            return float(np.log1p(effect / 100))

    def as_told(self, difference: float) -> float:
        """`as_tested` undone: a difference on the scale of the test, in `unit`."""
        return _told(difference, self.scale)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A contrast of a row with the protocol's baseline, as one of a family of tests."""

    contrast: Contrast
    primary: bool
    adjusted: float
    """p by Holm among the primary metrics, by Benjamini–Hochberg among the others; NaN of what is in no family."""
    apart: str = ""
    """Why the two rows' values do not compare although they have pairs: `unlike`."""

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


def mean(
    values: Floats, clusters: Labels, cases: Labels, *, of: int | None = None, binary: bool = False,
    scale: Scale = "identity",
) -> Estimate:  # fmt: skip
    """Mean over seeds, then over the cases of a cluster, then over clusters, with the cluster-t interval.

    Args:
        values: [N], one a clip; NaN is missing.
        clusters: [N] labels of the unit of statistics.
        cases: [N] labels of cases; clips of one case are its seeds.
        of: clips asked for, N if not given.
        binary: values are 0 or 1; Wilson's interval.
        scale: log for the geometric mean; the arithmetic one, with a reason, where a value has no logarithm.
    """
    here = ~np.isnan(values)
    scale, note = _scale(scale, values[here], _ARITHMETIC)
    moved = _moved(values[here], scale)
    total = len(values) if of is None else of
    units = _cluster_means(moved, clusters[here], cases[here])
    return _estimate(units, np.mean, _size(moved, scale), n=len(moved), of=total, binary=binary, scale=scale, note=note)


def pooled(
    statistics: Floats, clusters: Labels, finalize: Evaluate, *, of: int | None = None, binary: bool = False,
    scale: Scale = "identity",
) -> Estimate:  # fmt: skip
    """Value of a set metric over all clips, with the delete-one-cluster jackknife's interval (`jackknife.interval`).

    Args:
        statistics: [N, S] sufficient statistics, one line a clip; a line with NaN is missing.
        clusters: [N] labels of the unit of statistics.
        finalize: from the sum [S] of statistics to the value.
        of: clips asked for, N if not given.
        binary: the value is a share, 0 … 1; Wilson's interval with the jackknife's standard error.
        scale: log for the jackknife of the value's logarithm, so that the interval is even about it there.
    """
    here = ~np.isnan(statistics).any(axis=1)
    units = _cluster_sums(statistics[here], clusters[here])
    total, pool = len(statistics) if of is None else of, _pool(finalize)
    value = np.array([pool(units)] if len(units) else [])
    scale, note = _scale(scale, value, _PLAIN)
    return _estimate(
        units, lambda part: float(_moved(pool(part), scale)), len(units) * _size(_moved(value, scale), scale),
        n=int(here.sum()), of=total, binary=binary, scale=scale, note=note,
    )  # fmt: skip


def estimate(scores: pd.DataFrame, metric: Metric, row: str, *, replica: int = 0, of: int | None = None) -> Estimate:
    """A row's value of a metric: `mean`, or `pooled` for a set metric. Missing clips are counted with their reasons."""
    lines = _lines(scores, metric, row, replica)
    total = of or len(lines.asked)
    whole = metric.range[1] if metric.binary else 1.0  # 100 of a share in percent
    if metric.pooled:
        value = _remembering(metric)
        found = pooled(
            lines.data, lines.clusters, lambda s: value(s) / whole, of=total, binary=metric.binary, scale=metric.scale
        )
    else:
        cases = _cases(lines.pairs)
        found = mean(lines.data / whole, lines.clusters, cases, of=total, binary=metric.binary, scale=metric.scale)
    result = replace(found, value=whole * found.value, low=whole * found.low, high=whole * found.high)
    if metric.computed:
        result = replace(result, low=result.value, high=result.value, reason="")
    elif result.low <= result.high:
        low, high = metric.range
        result = replace(
            result, low=min(max(result.low, low), result.value), high=max(min(result.high, high), result.value)
        )
    if result.n >= total:
        return replace(result, reason=_join(result.reason, lines.notes))
    why = lines.reasons or ("no score" if result.n else f"no score of row {row!r}")
    if result.n:
        why = _join(f"{total - result.n} of {total} clips missing: {why}", result.reason, lines.notes)
    return replace(result, reason=why)


def contrast(
    scores: pd.DataFrame, metric: Metric, first: str, second: str, *, replica: int = 0, level: float = LEVEL
) -> Contrast:
    """Difference first − second of a metric, over the (case, seed) pairs that both rows have scores for.

    `level` is its interval's, 0 … 1: `EQUIVALENCE_LEVEL` for an equivalence. The p is two-sided at any.

    Metrics of a clip: cluster-t of the differences; shares: `shares.paired`. Set metrics: difference of the two
    pooled values over the same clips, with the jackknife's interval of that difference. On the log scale the same of
    logarithms, told as percent change. What is computed and not measured is exact: its bounds are the effect, and there
    is no p.
    """
    first_lines, second_lines = _lines(scores, metric, first, replica), _lines(scores, metric, second, replica)
    units, evaluate, n, scale, size, remark = _paired(metric, first_lines, second_lines)
    effect, se, reason = _jackknife(units, evaluate)
    if n == 0:
        reason = _join(first_lines.reasons, second_lines.reasons)
        reason = reason or f"no case in which both {first!r} and {second!r} have a score"
    low = high = p = math.nan
    if metric.computed:
        low, high, se = effect, effect, 0.0
    elif metric.binary and not math.isnan(se):
        whole = metric.range[1]
        low, high, p = shares.paired(_differences(units, evaluate, effect) / whole, level)
        low, high = whole * low, whole * high
    elif not math.isnan(se):
        found = _found(units, evaluate, effect, size, level)
        low, high, p, se, tied = float(found.low), float(found.high), float(found.p), float(found.se), int(found.tied)
        if tied == len(units) and abs(effect) <= means.ROUNDING * size:
            effect, low, high, p, se = 0.0, 0.0, 0.0, 1.0, 0.0
        elif math.isnan(low):
            remark = _join(_ties(tied, len(units), "the difference"), remark)
    if scale == "log":
        effect, low, high = (_told(x, scale) for x in (effect, low, high))
    elif math.isfinite(widest := metric.range[1] - metric.range[0]):
        low, high = max(low, min(-widest, effect)), min(high, max(widest, effect))
    return Contrast(
        metric=metric.name, first=first, second=second, replica=replica, effect=effect, low=low, high=high, p=p, se=se,
        n=n, of=len(first_lines.asked | second_lines.asked), clusters=len(units), scale=scale, remark=remark,
        unit="%" if scale == "log" else metric.unit,
        reason=_join(reason, remark, first_lines.notes, second_lines.notes),
    )  # fmt: skip


def leave_one_out(
    scores: pd.DataFrame, metric: Metric, first: str, second: str, *, replica: int = 0
) -> dict[str, float]:
    """Cluster → the effect of `contrast` without it, in the order of the clusters' names; NaN where it is undefined."""
    first_lines, second_lines = _lines(scores, metric, first, replica), _lines(scores, metric, second, replica)
    units, evaluate, _, scale, _, _ = _paired(metric, first_lines, second_lines)
    both = {*first_lines.pairs} & {*second_lines.pairs}
    pairs = zip(first_lines.pairs, first_lines.clusters, strict=True)
    names = sorted({str(cluster) for pair, cluster in pairs if pair in both})
    if len(names) < 2:
        return dict.fromkeys(names, math.nan)
    return {name: _told(effect, scale) for name, effect in zip(names, _left_out(units, evaluate), strict=True)}


def narrowest(clusters: int, level: float = LEVEL) -> float:
    """How far from 0 the interval of a paired difference of shares reaches at least: where all clusters agree.

    No outcome of so many clusters confirms that two shares differ by less than this.
    """
    low, high, _ = shares.paired(np.zeros(clusters), level)
    return max(-low, high)


def against_baseline(
    scores: pd.DataFrame, metrics: Sequence[Metric], rows: Iterable[str], baseline: str, primary: Iterable[str],
    *, replica: int = 0,
) -> list[Comparison]:  # fmt: skip
    """Every row against the baseline on every metric: Holm over all tests of primary metrics, BH over all others.

    The reference itself (`REFERENCE`) is in neither family on metrics of a pair, nor is a metric that is computed, nor
    a row that is `unlike` the baseline.
    """
    others, primaries = [row for row in rows if row != baseline], set(primary)
    tested = [metric for metric in metrics if not metric.computed]
    pairs = [(m, row) for m in tested for row in others if (m.scope, row) != ("pair", REFERENCE)]
    contrasts = [contrast(scores, m, row, baseline, replica=replica) for m, row in pairs]
    apart = [unlike(scores, m, row, baseline, replica=replica) for m, row in pairs]
    family = np.array([c.metric in primaries for c in contrasts], dtype=bool)
    p = np.array([math.nan if why else c.p for c, why in zip(contrasts, apart, strict=True)], dtype=np.float64)
    adjusted = np.where(family, holm(np.where(family, p, np.nan)), benjamini_hochberg(np.where(family, np.nan, p)))
    tests = zip(contrasts, family, adjusted, apart, strict=True)
    return [Comparison(contrast=c, primary=bool(inside), adjusted=float(q), apart=why) for c, inside, q, why in tests]


def unlike(scores: pd.DataFrame, metric: Metric, row: str, baseline: str, *, replica: int = 0) -> str:
    """Why a row's value may not stand beside the baseline's as if they compared; empty if it may.

    Values with a finite-sample bias (`Metric.finite_sample_bias`) compare only where both are of the same clips:
    `contrast` sees to that, but the values of a table's column are each of all clips that the row has.
    """
    if not metric.finite_sample_bias:
        return ""
    own, other = (_lines(scores, metric, name, replica) for name in (row, baseline))
    if not own.pairs or not other.pairs or own.pairs == other.pairs:
        return ""
    sizes = [counted_clips(len(lines.pairs), len(set(lines.clusters.tolist()))) for lines in (own, other)]
    whose = "other ones" if sizes[0] == sizes[1] else sizes[1]
    return f"of {sizes[0]}, the baseline's of {whose}: not compared, for the value moves with their number"


def counted_clips(clips: int, clusters: int) -> str:
    """What a set's value is of: `34 clips`, or `102 clips of 34 clusters`."""
    text = f"{clips:,} clip{'' if clips == 1 else 's'}"
    return text if clips == clusters else f"{text} of {clusters:,} clusters"


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


def smallest_resolvable(se: float, clusters: int, *, power: float = shares.POWER, alpha: float = 1 - LEVEL) -> float:
    """The smallest true difference that the paired test finds with the given power (power-based, not a half-width).

    Exact under normal cluster differences: the squared statistic of the two-sided t test is a noncentral F. Of shares:
    `shares.smallest_resolvable`.

    Args:
        se: standard error of the paired difference (`Contrast.se`; in planning, sd of cluster differences / √clusters).
        clusters: number of clusters; below three nothing can be resolved and the result is NaN.
        power: probability of finding a difference of the returned size.
        alpha: level of the test; Holm asks 5 % / m of the smallest p among m tests.
    """
    if clusters < MIN_CLUSTERS or math.isnan(se):
        return math.nan
    df = clusters - 1
    critical = float(special.stdtrit(df, 1 - alpha / 2))
    return se * math.sqrt(float(special.ncfdtrinc(1, df, 1 - power, critical**2)))


def least_found(contrast: Contrast, metric: Metric, *, clusters: int | None = None, tests: int = 1) -> float:
    """The smallest true difference that a contrast's own test finds with 80 % power, by the spread seen in it.

    In the contrast's unit, of a percent change the rise.

    Args:
        clusters: number of clusters; the contrast's if not given.
        tests: size of Holm's family, whose first step tests at 5 % / tests.
    """
    count, alpha = contrast.clusters if clusters is None else clusters, (1 - LEVEL) / tests
    if not metric.binary:
        spread = contrast.se * math.sqrt(contrast.clusters)
        return contrast.as_told(smallest_resolvable(spread / math.sqrt(max(count, 1)), count, alpha=alpha))
    clips = contrast.n / max(contrast.clusters, 1)
    return metric.range[1] * shares.smallest_resolvable(mean_square(contrast, metric), count, clips, alpha=alpha)


def mean_square(contrast: Contrast, metric: Metric) -> float:
    """Mean square of the clusters' differences of a share, in parts of its whole."""
    return (contrast.se**2 * (contrast.clusters - 1) + contrast.effect**2) / metric.range[1] ** 2


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


def _paired(metric: Metric, first: _Lines, second: _Lines) -> tuple[Floats, Evaluate, int, Scale, float, str]:
    """Units of the pairs that both have, their evaluation, number of pairs, scale, size of what is subtracted, remark.

    Units are [G] mean differences (on the log scale of logarithms) or [G, 2, S] sums.
    """
    place = {pair: i for i, pair in enumerate(second.pairs)}
    shared = [(i, place[pair]) for i, pair in enumerate(first.pairs) if pair in place]
    places, second_places = [i for i, _ in shared], [j for _, j in shared]
    clusters, count = first.clusters[places], len(places)
    if metric.pooled:
        pool = _pool(_remembering(metric))
        sums = np.stack([first.data[places], second.data[second_places]], axis=1) if places else np.empty((0, 2, 0))
        units = _cluster_sums(sums, clusters)
        values = np.array([pool(units[:, 0]), pool(units[:, 1])] if places else [])
        scale, remark = _scale(metric.scale, values, _PLAIN)

        def evaluate(part: Floats) -> float:
            return float(np.subtract(*_moved(np.array([pool(part[:, 0]), pool(part[:, 1])]), scale)))

        return units, evaluate, count, scale, len(units) * _size(_moved(values, scale), scale), remark
    both = np.stack([first.data[places], second.data[second_places]], axis=1)
    scale, remark = _scale(metric.scale, both, _ARITHMETIC)
    moved = _moved(both, scale)
    with np.errstate(invalid="ignore"):  # inf − inf: both equal to the reference
        differences = np.asarray(moved[:, 0] - moved[:, 1])
    units = _cluster_means(differences, clusters, _cases([first.pairs[i] for i in places]))
    return units, np.mean, count, scale, _size(moved, scale), remark


_ARITHMETIC = "arithmetic means: {} of {} clips or pairs have a value of 0 or below, which has no logarithm"
_PLAIN = "not on the log scale: a value of the set is 0 or below"


def _scale(scale: Scale, values: Floats, note: str) -> tuple[Scale, str]:
    """The scale that values [N] of clips, or [N, 2] of pairs, can be on, and what there is to say of it."""
    without = np.asarray((np.atleast_2d(values.T) <= 0).any(axis=0))
    if scale == "identity" or not without.any():
        return scale, ""
    return "identity", note.format(int(without.sum()), without.size)


def _moved(values: Floats | float, scale: Scale) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):  # 0 with one cluster left out: infinite, and told
        return np.asarray(np.log(values) if scale == "log" else values)


def _told(difference: float, scale: Scale) -> float:
    """A difference as `Contrast.effect` has it: of logarithms the percent change."""
    return 100 * float(np.expm1(difference)) if scale == "log" else float(difference)


def _size(values: Floats, scale: Scale) -> float:
    """The largest absolute value that is finite, by which rounding is measured; of logarithms at least 1."""
    return float(np.abs(values[np.isfinite(values)]).max(initial=1.0 if scale == "log" else 0.0))


def _found(units: Floats, evaluate: Evaluate, point: float, size: float, level: float = LEVEL) -> means.Mean:
    """Interval and test of a mean of [G], or of sums [G, …] by their pseudo-values, in which ties say nothing."""
    differences = _differences(units, evaluate, point)
    if units.ndim == 1:
        return means.student(differences, means.ROUNDING * size, level)
    found = means.student(differences, means.ROUNDING * size, level, least=1)
    return found if np.isnan(found.low) else found._replace(**jackknife.interval(differences, level)._asdict())


def _ties(tied: int, count: int, what: str) -> str:
    """Why there is no interval although there are enough clusters."""
    if tied == count:
        return f"no interval: {what} is the same in all {count} clusters"
    return f"no interval: {what} is the same in {tied} of {count} clusters, and too few others show how it varies"


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
    without = _left_out(units, evaluate)
    if not np.isfinite(without).all():
        return point, math.nan, "no interval: undefined with one cluster left out"
    spread = without - without.mean()
    return point, math.sqrt((count - 1) / count * float(spread @ spread)), ""


def _differences(units: Floats, evaluate: Evaluate, effect: float) -> Floats:
    """[G] differences of clusters whose mean is the effect: of pooled units [G, 2, S] the jackknife's pseudo-values."""
    if units.ndim == 1:
        return units
    return jackknife.pseudo_values(effect, _left_out(units, evaluate))


def _left_out(units: Floats, evaluate: Evaluate) -> Floats:
    """[G] values of units [G, …], each without one cluster."""
    return np.array([evaluate(np.delete(units, g, axis=0)) for g in range(len(units))])


def _estimate(
    units: Floats, evaluate: Evaluate, size: float, *, n: int, of: int, binary: bool, scale: Scale, note: str
) -> Estimate:
    value, se, reason = _jackknife(units, evaluate)
    low = high = math.nan
    if binary and not math.isnan(se):
        low, high = shares.interval(value, se, len(units))
    elif not math.isnan(se):
        found = _found(units, evaluate, value, size)
        low, high = float(found.low), float(found.high)
        reason = _ties(int(found.tied), len(units), "the value") if math.isnan(low) else reason
    if scale == "log":
        value, low, high = (float(np.exp(x)) for x in (value, low, high))
    return Estimate(
        value=value, low=low, high=high, n=n, of=of, clusters=len(units), reason=_join(reason, note), scale=scale
    )


def _tally(reasons: Iterable[Any]) -> str:
    """Distinct reasons, the commonest first."""
    counts = Counter(str(why) for why in reasons if why)
    return "; ".join(sorted(counts, key=lambda why: (-counts[why], why)))


def _join(*parts: str) -> str:
    return "; ".join(filter(None, dict.fromkeys(parts)))
