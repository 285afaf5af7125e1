"""Two runs' paired clips under one metric: the difference, its interval, and what may be said of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace

import numpy as np
import pandas as pd

from flashbench import stats
from flashbench.comparison.pairing import Clip, Pairing
from flashbench.metrics.base import Metric
from flashbench.reporting import numbers
from flashbench.reporting.numbers import counted

MOST_CLUSTERS = 100_000
"""Numbers of clusters above this are not told: nobody makes so many videos."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """A metric's verdict on one run against the baseline; `effect` is the run's value minus the baseline's."""

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
    """Clusters at which a difference of this size would be found with 80 % power by one test; NaN where decided."""
    margin: float
    reason: str
    """Why there is no verdict, or what was left out."""


COLUMNS = tuple(field.name for field in fields(Result))


def needed(se: float, clusters: int, effect: float) -> float:
    """Fewest clusters at which a true difference of `effect` is found with 80 % power by one test at 5 %.

    Args:
        se: standard error of the paired difference over `clusters` clusters, from which that of others follows by √n.
        effect: the difference. 0, or more than `MOST_CLUSTERS` clusters, gives infinity.
    """
    if math.isnan(se) or clusters < stats.MIN_CLUSTERS:
        return math.nan
    spread = se * math.sqrt(clusters)

    def resolves(count: int) -> bool:
        return stats.smallest_resolvable(spread / math.sqrt(count), count) <= abs(effect)

    if effect == 0 or not resolves(MOST_CLUSTERS):
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


def result(table: pd.DataFrame, metric: Metric, baseline: str, other: str, margin: float) -> Result:
    """The contrast of one metric, not yet adjusted; its verdict comes with the family."""
    lines = table[table["metric"] == metric.name]
    contrast = stats.contrast(lines, metric, _SECOND, _FIRST)
    scored = lines.assign(has=_has(lines, metric))
    complete = scored.groupby(["case", "seed"])["has"].transform("all") & (
        scored.groupby(["case", "seed"])["has"].transform("size") == 2
    )
    paired_lines = lines[complete]
    first, second = (stats.estimate(paired_lines, metric, row) for row in (_FIRST, _SECOND))
    same = bool(len(paired_lines)) and _same_clips(paired_lines)
    equal = contrast.effect == contrast.low == contrast.high == 0 and _equal(paired_lines, metric)
    reason = contrast.reason
    if 0 < contrast.n < contrast.of:
        why = dict.fromkeys(str(text) for text in scored.loc[~scored["has"], "reason"] if text)
        left_out = f"{contrast.of - contrast.n} of {contrast.of} pairs left out: {'; '.join(why)}"
        reason = "; ".join(filter(None, (left_out, reason)))
    return Result(
        metric=metric.name, baseline=baseline, other=other, direction=metric.direction, unit=metric.unit,
        baseline_value=first.value, baseline_low=first.low, baseline_high=first.high,
        other_value=second.value, other_low=second.low, other_high=second.high,
        effect=contrast.effect, low=contrast.low, high=contrast.high, p=contrast.p, adjusted=math.nan,
        n=contrast.n, of=contrast.of, clusters=contrast.clusters,
        verdict="identical" if same else "equal" if equal else "", margin=margin, reason=reason,
        needed=needed(contrast.se, contrast.clusters, contrast.effect),
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
    """Whether both clips of every pair have one score; differences may also cancel within a cluster."""
    scores = lines["statistics"].map(tuple) if metric.pooled else lines["value"]
    return bool((scores.groupby([lines["case"], lines["seed"]]).nunique() <= 1).all())


def judged(result: Result, adjusted: float) -> Result:
    """The result with its place in the family and its verdict."""
    verdict = result.verdict or _verdict(result, adjusted)
    open_ = verdict == "undecided"
    return replace(result, adjusted=adjusted, verdict=verdict, needed=result.needed if open_ else math.nan)


def _verdict(result: Result, adjusted: float) -> str:
    if math.isnan(result.p):
        return "none"
    sign = stats.SIGN[result.direction]
    resolved = adjusted < 1 - stats.LEVEL
    if sign == 0:
        return "differs" if resolved else "undecided"
    if resolved and sign * result.effect > 0:
        return "better"
    worst = result.low if sign > 0 else -result.high
    if worst > -result.margin:  # False without a margin, which is NaN
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

    @property
    def table(self) -> pd.DataFrame:
        """A line per metric and run: `COLUMNS`, and the sentence."""
        lines = [{**asdict(result), "sentence": sentence(result, self.units)} for result in self.results]
        return pd.DataFrame(lines, columns=[*COLUMNS, "sentence"])


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
        f"{numbers.given(result.margin)}",
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
    return f"{other} against {baseline}{unit}, difference {effect} [{low}, {high}], p {p} (Holm), {pairs}"


def _ending(result: Result, units: str) -> str:
    if result.verdict == "no worse" and result.adjusted < 1 - stats.LEVEL:
        return "; it is worse, by less than the margin"
    if result.verdict != "undecided":
        return ""
    if math.isinf(result.needed):
        return f"; more than {MOST_CLUSTERS:,} {units} would be needed to resolve so small a difference"
    if result.p < 1 - stats.LEVEL:
        return "; tested alone it would be resolved, among so many tests it is not: name fewer metrics beforehand"
    return f"; needs about {numbers.rounded_up(result.needed)} {units} to resolve a difference of this size"


def texts(result: Result) -> tuple[str, str, str, str, str, str]:
    """A result's numbers as documents write them: both values, the difference with its bounds, and p."""
    baseline = numbers.places_between(result.baseline_low, result.baseline_high, result.baseline_value)
    other = numbers.places_between(result.other_low, result.other_high, result.other_value)
    effect, low, high = numbers.difference(result.effect, result.low, result.high)
    values = numbers.number(result.baseline_value, baseline), numbers.number(result.other_value, other)
    return *values, effect, low, high, numbers.p_value(result.adjusted)
