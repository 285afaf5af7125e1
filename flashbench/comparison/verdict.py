"""Two runs' paired clips under one metric: the difference, its interval, and what may be said of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np
import pandas as pd

from flashbench import methods, shares, stats
from flashbench.comparison.pairing import Clip, Pairing
from flashbench.means import ROUNDING
from flashbench.metrics.base import Metric
from flashbench.reporting import numbers
from flashbench.reporting.numbers import counted
from flashbench.scores.runs import ScoredRun
from flashbench.version import __version__

MOST_CLUSTERS = 100_000
"""Numbers of clusters above this are not told: nobody makes so many videos."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """A metric's verdict on one run against the baseline; `effect` is the run's value minus the baseline's.

    On the log scale the values are geometric means, and `effect` is their percent change.
    """

    metric: str
    baseline: str
    other: str
    direction: str
    unit: str
    baseline_value: float
    baseline_low: float
    """Bounds of each value's own 95 % interval; the difference's is narrower where pairs are alike."""
    baseline_high: float
    other_value: float
    other_low: float
    other_high: float
    effect: float
    low: float
    high: float
    p: float
    adjusted: float
    """p by Holm over all metrics and runs of the call."""
    n: int
    """Pairs in which both clips have a score."""
    of: int
    """Pairs."""
    clusters: int
    verdict: str
    """better, worse, no worse (than the margin), undecided, differs, identical, equal, or none."""
    needed: float
    """Clusters at which a difference as large as the margin would be found with 80 % power, at Holm's first step over
    all tests of the call; without a margin the largest difference in the interval, so that smaller ones take more. NaN
    where decided, and where all clusters differ alike."""
    margin: float
    reason: str
    """Why there is no verdict, or what was left out."""
    effect_unit: str
    """Of effect, bounds and margin: % on the log scale, else `unit`."""
    remark: str
    """Part of the reason that the sentence repeats: why there is no interval, or that means are arithmetic."""
    together: bool = False
    """Whether each value is of all n clips together and moves with their number (`Metric.finite_sample_bias`)."""


COLUMNS = tuple(field.name for field in fields(Result))


def needed(contrast: stats.Contrast, metric: Metric, aim: float, tests: int = 1) -> float:
    """Fewest clusters at which the contrast's test finds a true difference of `aim` with 80 % power.

    Args:
        contrast: the difference seen, whose spread is taken for the true one. NaN where it has none: no interval, or
            the same difference in all clusters.
        aim: the difference to find, of either sign, in the contrast's unit. 0, or more than `MOST_CLUSTERS` clusters,
            gives infinity.
        tests: size of Holm's family, whose first step tests at 5 % / tests.
    """
    if not contrast.se > 0 or math.isnan(aim):
        return math.nan
    aim = abs(contrast.as_tested(abs(aim)))
    alpha, spread = (1 - stats.LEVEL) / tests, contrast.se * math.sqrt(contrast.clusters)

    def resolves(count: int) -> bool:
        if metric.binary:
            size, clips = aim / metric.range[1], contrast.n / contrast.clusters
            square = stats.mean_square(contrast, metric)
            return shares.power(size, count, square, clips, alpha=alpha) >= shares.POWER
        return stats.smallest_resolvable(spread / math.sqrt(count), count, alpha=alpha) <= aim

    if aim == 0 or not resolves(MOST_CLUSTERS):
        return math.inf
    low, high = stats.MIN_CLUSTERS, MOST_CLUSTERS
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if resolves(middle) else (middle + 1, high)
    return float(low)


_FIRST, _SECOND = "0", "1"


def combined(first: pd.DataFrame, second: pd.DataFrame, pairing: Pairing) -> pd.DataFrame:
    """One table of both runs' paired clips: rows 0 and 1, the baseline's case, cluster and seed for both."""
    cluster = {clip: name for clip, name in zip(_of(first), first["cluster"].astype(str), strict=True)}
    other_cluster = {clip: name for clip, name in zip(_of(second), second["cluster"].astype(str), strict=True)}
    names: dict[Clip, str] = {}
    for base, other in pairing.pairs:
        # A clip without a prompt is its own cluster; then the partner's prompt is the pair's.
        names[base] = (
            other_cluster[other] if cluster[base] == base[0] and other_cluster[other] != other[0] else cluster[base]
        )
    parts = []
    for row, table, partner in (
        (_FIRST, first, {base: base for base, _ in pairing.pairs}),
        (_SECOND, second, {other: base for base, other in pairing.pairs}),
    ):
        clips = [partner.get(clip) for clip in _of(table)]
        is_paired = [clip is not None for clip in clips]
        partners = [clip for clip in clips if clip is not None]
        part = table[is_paired].assign(
            own_cluster=table["cluster"][is_paired], row=row, replica=0, case=[case for case, _ in partners],
            seed=[seed for _, seed in partners], cluster=[names[clip] for clip in partners],
        )  # fmt: skip
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _of(table: pd.DataFrame) -> list[Clip]:
    return list(zip(table["case"].astype(str), table["seed"].astype(int), strict=True))


def remarks(table: pd.DataFrame, labels: tuple[str, str]) -> list[str]:
    """Notes on the pairs: the same clip twice, prompts that differ."""
    clips = table.drop_duplicates(["row", "case", "seed"]).set_index(["case", "seed"])
    first, second = (clips[clips["row"] == row] for row in (_FIRST, _SECOND))
    joined = first.merge(second, left_index=True, right_index=True, suffixes=("_a", "_b"))
    same = int(((joined["clip_a"] == joined["clip_b"]) & (joined["clip_a"] != "")).sum())
    notes = []
    if same == len(joined):
        notes.append(f"Identical: every pair of `{labels[1]}` and `{labels[0]}` is the same clip.")
    elif same:
        verb = "is" if same == 1 else "are"
        notes.append(f"{same} of {len(joined)} pairs of `{labels[1]}` and `{labels[0]}` {verb} the same clip.")
    readable = (joined["frames_a"] > 0) & (joined["frames_b"] > 0)
    if apart := int((readable & (joined["frames_a"] != joined["frames_b"])).sum()):
        verb = "differs in its" if apart == 1 else "differ in their"
        notes.append(f"{counted(apart, 'pair')} of `{labels[1]}` and `{labels[0]}` {verb} number of frames.")
    cases = joined.index.get_level_values("case")
    prompted = (joined["own_cluster_a"] != cases) & (joined["own_cluster_b"] != cases)
    if apart := int((prompted & (joined["own_cluster_a"] != joined["own_cluster_b"])).sum()):
        whose = f"{counted(apart, 'pair')} of `{labels[1]}` and `{labels[0]}`"
        notes.append(f"{whose} {'has' if apart == 1 else 'have'} different prompts; the baseline's count.")
    return notes


def difference(table: pd.DataFrame, metric: Metric) -> stats.Contrast:
    """The contrast of a `combined` table in one metric: the run minus the baseline."""
    return stats.contrast(table, metric, _SECOND, _FIRST)


def result(
    table: pd.DataFrame, metric: Metric, contrast: stats.Contrast, labels: tuple[str, str], margin: float,
    *, adjusted: float, tests: int,
) -> Result:  # fmt: skip
    """The verdict on one metric, from its `difference` with the p adjusted in the family of so many `tests`.

    Args:
        labels: of the baseline and of the run.
        margin: how much worse is no worse, NaN for none. `Result.needed` is for it where it is given.
    """
    lines = table[table["metric"] == metric.name]
    scored = lines.assign(has=_has(lines, metric))
    complete = scored.groupby(["case", "seed"])["has"].transform("all") & (
        scored.groupby(["case", "seed"])["has"].transform("size") == 2
    )
    paired_lines = lines[complete]
    alike = metric if contrast.scale == metric.scale else replace(metric, scale=contrast.scale)
    first, second = (stats.estimate(paired_lines, alike, row) for row in (_FIRST, _SECOND))
    remark = contrast.remark
    if alike is not metric and not math.isnan(margin):
        margin, remark = math.nan, f"{remark}, so that the margin in % says nothing"
    reason = contrast.reason.replace(contrast.remark, remark) if remark else contrast.reason
    if 0 < contrast.n < contrast.of:
        why = dict.fromkeys(str(text) for text in scored.loc[~scored["has"], "reason"] if text)
        left_out = f"{contrast.of - contrast.n} of {contrast.of} pairs left out: {'; '.join(why)}"
        reason = "; ".join(filter(None, (left_out, reason)))
    verdict = _alike(paired_lines, metric, contrast) or _verdict(contrast, metric.direction, margin, adjusted)
    aim = max(abs(contrast.low), abs(contrast.high)) if math.isnan(margin) else margin
    return Result(
        metric=metric.name, baseline=labels[0], other=labels[1], direction=metric.direction, unit=metric.unit,
        baseline_value=first.value, baseline_low=first.low, baseline_high=first.high,
        other_value=second.value, other_low=second.low, other_high=second.high,
        effect=contrast.effect, low=contrast.low, high=contrast.high, p=contrast.p, adjusted=adjusted,
        n=contrast.n, of=contrast.of, clusters=contrast.clusters, verdict=verdict, margin=margin, reason=reason,
        needed=needed(contrast, metric, aim, tests) if verdict == "undecided" else math.nan,
        effect_unit=contrast.unit, remark=remark, together=metric.finite_sample_bias,
    )  # fmt: skip


def _has(lines: pd.DataFrame, metric: Metric) -> pd.Series:
    if metric.pooled:
        return (
            lines["statistics"]
            .map(lambda statistics: len(statistics) > 0 and not np.isnan(np.asarray(statistics)).any())
            .astype(bool)
        )
    return lines["value"].notna()


def _same_clips(lines: pd.DataFrame) -> bool:
    """Whether every pair is one clip with one value; the same clip beside another reference may have two."""
    pairs = lines.groupby(["case", "seed"])
    digests = pairs["clip"].agg(["nunique", "first"])
    return bool(((digests["nunique"] == 1) & (digests["first"] != "") & (pairs["value"].nunique() <= 1)).all())


def _equal(lines: pd.DataFrame, metric: Metric) -> bool:
    """Whether both clips of every pair have one score, to rounding; differences may also cancel within a cluster."""
    if metric.pooled:
        scores = lines["statistics"].map(tuple)
        return bool((scores.groupby([lines["case"], lines["seed"]]).nunique() <= 1).all())
    pairs = lines["value"].groupby([lines["case"], lines["seed"]]).agg(["min", "max"])
    size = lines["value"].abs().max()
    return bool(((pairs["min"] == pairs["max"]) | (pairs["max"] - pairs["min"] <= ROUNDING * size)).all())


def _alike(lines: pd.DataFrame, metric: Metric, contrast: stats.Contrast) -> str:
    """`identical`, `equal`, or nothing where the two may be told apart."""
    if len(lines) and _same_clips(lines):
        return "identical"
    return "equal" if contrast.effect == contrast.low == contrast.high == 0 and _equal(lines, metric) else ""


def _verdict(contrast: stats.Contrast, direction: str, margin: float, adjusted: float) -> str:
    if math.isnan(contrast.p):
        return "none"
    sign = stats.SIGN[direction]
    resolved = adjusted < 1 - stats.LEVEL
    if sign == 0:
        return "differs" if resolved else "undecided"
    if resolved and sign * contrast.effect > 0:
        return "better"
    worst = contrast.low if sign > 0 else -contrast.high
    if worst > -margin:  # False without a margin, which is NaN
        return "no worse"
    return "worse" if resolved else "undecided"


def units(table: pd.DataFrame) -> str:
    """What a cluster of a table is: `prompts`, `videos`, or only `clusters` in a protocol's results."""
    if not table["protocol"].astype(str).str.startswith("adhoc/").all():
        return "clusters"
    return "prompts" if bool((table["cluster"].astype(str) != table["case"].astype(str)).any()) else "videos"


@dataclass(frozen=True, kw_only=True)
class Compared:
    """The results of comparing runs with a baseline, and how their clips were paired."""

    baseline: str
    results: tuple[Result, ...]
    pairings: Mapping[str, Pairing]
    """Other run → its pairs with the baseline."""
    units: str
    """What a cluster is: `prompts`, `videos` or `clusters`."""
    notes: tuple[str, ...]
    unreadable: tuple[str, ...] = ()
    """Videos that could not be scored whole, each with its run and the reason."""
    metrics: tuple[Metric, ...] = ()
    runs: Mapping[str, ScoredRun] = field(default_factory=dict)
    """By their labels, the baseline among them."""

    @property
    def table(self) -> pd.DataFrame:
        """A line per metric and run: `COLUMNS`, and the sentence."""
        lines = [{**asdict(result), "sentence": sentence(result, self.units)} for result in self.results]
        return pd.DataFrame(lines, columns=[*COLUMNS, "sentence"])

    def record(self) -> dict[str, Any]:
        """Content of compare.json: what was compared, how each metric was tested, and every result (NaN is null)."""
        results = [{name: _plain(x) for name, x in line.items()} for line in self.table.to_dict("records")]
        records = [run.record for run in self.runs.values() if run.record is not None]
        about = {name: x for record in reversed(records) for name, x in record["metrics"].items()}
        method = {metric.name: asdict(methods.method(metric, paired=True)) for metric in self.metrics}
        return {
            "schema": 1,
            "flashbench": __version__,
            "baseline": self.baseline,
            "units": self.units,
            "runs": {label: _about(run) for label, run in self.runs.items()},
            "metrics": {name: {**about.get(name, {}), "method": how} for name, how in method.items()},
            "pairs": {label: pairs.describe(self.baseline, label) for label, pairs in self.pairings.items()},
            "results": results,
            "notes": self.notes,
            "unreadable": self.unreadable,
        }


def _about(run: ScoredRun) -> dict[str, Any]:
    """What compare.json says of a run: which protocol asked for its scores, its record's settings and versions."""
    protocol = str(run.table["protocol"].iloc[0]) if len(run.table) else ""
    known = {name: run.record.get(name) for name in ("settings", "versions")} if run.record is not None else {}
    return {"protocol": protocol, "protocol_hash": run.protocol_hash, **known}


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def sentence(result: Result, units: str = "clusters") -> str:
    """One metric's verdict as a sentence; `units` is what a cluster is, in the plural."""
    pair = f"{result.other} against {result.baseline}"
    if result.verdict == "identical":
        return f"{result.other} and {result.baseline} are identical on {result.metric}: every pair is the same clip."
    if result.verdict == "none":
        return f"{pair} has no verdict on {result.metric}: {result.reason or 'no score'}."
    opening = {
        "better": f"{result.other} is better than {result.baseline} on {result.metric}",
        "worse": f"{result.other} is worse than {result.baseline} on {result.metric}",
        "no worse": f"{result.other} is no worse than {result.baseline} on {result.metric} by the margin "
        f"{numbers.given(result.margin)}{' %' if result.effect_unit != result.unit else ''}",
        "differs": f"{result.other} differs from {result.baseline} on {result.metric}, which has no better or worse",
        "equal": f"{result.other} and {result.baseline} are equal on {result.metric} in every pair",
        "undecided": f"{pair} is undecided on {result.metric}",
    }[result.verdict]
    if result.verdict == "undecided" and result.direction == "none":
        opening = f"No difference between {result.other} and {result.baseline} is resolved on {result.metric}"
    return f"{opening}: {_numbers(result, units)}{_ending(result, units)}."


def _numbers(result: Result, units: str) -> str:
    baseline, other, effect, low, high, p = texts(result)
    unit = f" {result.unit}" if result.unit and not result.unit.startswith("×") else ""
    pairs = counted(result.of, "pair") if result.n == result.of else f"{result.n} of {counted(result.of, 'pair')}"
    if result.clusters != result.n:
        pairs += f" of {counted(result.clusters, units.removesuffix('s'))}"
    if result.together:
        pairs += f"; each value is of its {counted(result.n, 'clip')} together, and moves with their number"
    difference = effect if math.isnan(result.low) else f"{effect} [{low}, {high}]"
    if result.effect_unit != result.unit:
        difference = f"{difference} {result.effect_unit}"
    return f"{other} against {baseline}{unit}, difference {difference}, p {p} (Holm), {pairs}"


def _ending(result: Result, units: str) -> str:
    return _outlook(result, units) + (f"; {result.remark}" if result.remark else "")


def _outlook(result: Result, units: str) -> str:
    """What the verdict leaves open."""
    if result.verdict == "no worse" and result.adjusted < 1 - stats.LEVEL:
        return "; it is worse, by less than the margin"
    if result.verdict != "undecided" or math.isnan(result.needed):
        return ""
    if result.p < 1 - stats.LEVEL:
        return "; tested alone it would be resolved, among so many tests it is not: name fewer metrics beforehand"
    endless = math.isinf(result.needed)
    count = f"more than {MOST_CLUSTERS:,}" if endless else f"about {numbers.rounded_up(result.needed)}"
    if not math.isnan(result.margin):
        return f"; a difference as large as the margin {numbers.given(result.margin)} takes {count} {units} to resolve"
    _, _, _, low, high, _ = texts(result)
    largest = f"{low if -result.low > result.high else high}, the far end of its interval,"
    if result.needed <= result.clusters:
        return f"; a difference short of {largest} takes more {units}, and a margin tells how many"
    return f"; a difference of {largest} takes {count} {units} to resolve, a smaller one more"


def texts(result: Result) -> tuple[str, str, str, str, str, str]:
    """A result's numbers as documents write them: both values, the difference with its bounds, and p."""
    baseline = numbers.places_between(result.baseline_low, result.baseline_high, result.baseline_value)
    other = numbers.places_between(result.other_low, result.other_high, result.other_value)
    effect, low, high = numbers.difference(result.effect, result.low, result.high)
    values = numbers.number(result.baseline_value, baseline), numbers.number(result.other_value, other)
    return *values, effect, low, high, numbers.p_value(result.adjusted)
