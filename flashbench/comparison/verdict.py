"""Two runs' paired clips under one metric: the difference, its interval, and what may be said of it."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np
import pandas as pd

from flashbench import methods, shares, stats
from flashbench.comparison import family, losses
from flashbench.comparison.losses import FIRST, SECOND, Lost
from flashbench.comparison.pairing import Clip, Pairing
from flashbench.means import ROUNDING
from flashbench.metrics.base import Metric
from flashbench.reporting import numbers, verdicts
from flashbench.reporting.numbers import counted
from flashbench.scores.clusters import joined
from flashbench.scores.facts import Difference
from flashbench.scores.runs import ScoredRun
from flashbench.version import __version__

STATUS: Mapping[str, verdicts.Status] = {
    "better": "pass", "no worse": "pass", "identical": "pass", "equal": "pass", "worse": "regression",
    "undecided": "inconclusive", "differs": "inconclusive", "none": "inconclusive",
}  # fmt: skip
"""A metric's verdict → what it is for a pipeline. Whether it is worse stays open where a metric without better or worse
that was named as primary differs."""
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
    """NaN where nothing was tested."""
    adjusted: float
    """p among all metrics and runs of the call: by Holm of the primary ones, by Benjamini and Hochberg of the rest."""
    n: int
    """Pairs in which both clips have a score."""
    of: int
    """Pairs, with those of which one clip is lost."""
    clusters: int
    verdict: str
    """better, worse, no worse (than the margin), undecided, differs, identical, equal, shown (not tested), or none."""
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
    primary: bool = True
    """Whether the metric is in the family that decides."""
    facts: str = ""
    """Facts that move the metric, in which pairs differ and which keep it from a verdict: `rate,repeats`."""
    despite: str = ""
    """Those of them that `--despite` is to name for a verdict."""
    lost_baseline: int = 0
    """Pairs in which the other alone has a score."""
    lost_other: int = 0
    """Pairs in which the baseline alone has one."""
    worst: str = ""
    """The verdict if the lost clips were as bad for it as any clip seen; empty where that is not asked."""
    missing: int = 0
    """Clusters that lack to the least number that the test supports."""


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


def combined(
    first: pd.DataFrame, second: pd.DataFrame, pairing: Pairing, *, lost: bool = True
) -> tuple[pd.DataFrame, int]:
    """One table of both runs' clips, and how many clusters it would have if equal content were not one.

    Its rows are 0 and 1, with the baseline's case and seed for both clips of a pair, and one cluster for what shares a
    prompt (or source) or a clip on either side. Where `lost`, clips whose partner is lost are in it alone.
    """
    named: list[dict[Clip, Clip]] = [{a: a for a, _ in pairing.pairs}, {b: a for a, b in pairing.pairs}]
    for side, clips in enumerate(pairing.lost if lost else ()):
        # No clip of a pair has a name like that.
        named[side].update({(case, seed): (f"\x1e{side}{case}", seed) for case, seed in clips})
    parts, ties, bare = list[pd.DataFrame](), dict[Clip, set[Hashable]](), dict[Clip, set[Hashable]]()
    for side, table in enumerate((first, second)):
        keys = [named[side].get(clip) for clip in _of(table)]
        part = table[[key is not None for key in keys]]
        here = [key for key in keys if key is not None]
        columns = (part[name].astype(str) for name in ("case", "cluster", "clip"))
        for key, case, cluster, clip in zip(here, *columns, strict=True):
            unit: Hashable = ("prompt", cluster) if cluster != case else ("video", side, case)
            bare.setdefault(key, set()).add(unit)
            ties.setdefault(key, set()).update({unit, ("clip", clip)} if clip else {unit})
        part = part.assign(own_case=part["case"], own_cluster=part["cluster"], row=(FIRST, SECOND)[side], replica=0)
        parts.append(part.assign(case=[case for case, _ in here], seed=[seed for _, seed in here]))
    both, tops = pd.concat(parts, ignore_index=True), joined({key: ties[key] for key in sorted(ties)})
    chosen = [tops[key] for key in _of(both)]
    return both.assign(cluster=[f"{case}\x1f{seed}" for case, seed in chosen]), len(set(joined(bare).values()))


def _of(table: pd.DataFrame) -> list[Clip]:
    return list(zip(table["case"].astype(str), table["seed"].astype(int), strict=True))


def remarks(table: pd.DataFrame, labels: tuple[str, str], bare: int) -> list[str]:
    """Notes on the pairs: the same clip on both sides, the same clip in several pairs, prompts that differ.

    `bare`: how many clusters there would be if equal content were not one.
    """
    clips = table.drop_duplicates(["row", "case", "seed"]).set_index(["case", "seed"])
    first, second = (clips[clips["row"] == row] for row in (FIRST, SECOND))
    both = first.merge(second, left_index=True, right_index=True, suffixes=("_a", "_b"))
    same = int(((both["clip_a"] == both["clip_b"]) & (both["clip_a"] != "")).sum())
    notes = []
    if same == len(both):
        notes.append(f"Identical: every pair of `{labels[1]}` and `{labels[0]}` is the same clip.")
    elif same:
        verb = "is" if same == 1 else "are"
        notes.append(f"{same} of {len(both)} pairs of `{labels[1]}` and `{labels[0]}` {verb} the same clip.")
    if (count := table["cluster"].nunique()) < bare:
        text = f"Pairs of `{labels[1]}` and `{labels[0]}` share clips of equal content, which is one cluster"
        notes.append(f"{text}: {counted(count, 'cluster')}, not {bare}.")
    prompted = (both["own_cluster_a"] != both["own_case_a"]) & (both["own_cluster_b"] != both["own_case_b"])
    if apart := int((prompted & (both["own_cluster_a"] != both["own_cluster_b"])).sum()):
        whose = f"{counted(apart, 'pair')} of `{labels[1]}` and `{labels[0]}`"
        notes.append(f"{whose} {'has' if apart == 1 else 'have'} different prompts, which count as one.")
    return notes


@dataclass(frozen=True, kw_only=True)
class Contest:
    """One metric of one run against the baseline, before p values are adjusted."""

    table: pd.DataFrame
    """`combined`."""
    metric: Metric
    labels: tuple[str, str]
    """Of the baseline and of the run."""
    margin: float
    """How much worse is no worse, NaN for none."""
    contrast: stats.Contrast
    """The run minus the baseline."""
    shown: str = ""
    """Why it is not tested (`family.shown`)."""
    facts: tuple[str, ...] = ()
    """Facts that keep it from a verdict."""
    despite: tuple[str, ...] = ()
    """Those of them that `--despite` is to name."""
    lost: Lost = field(default_factory=Lost)
    ignoring: bool = False
    """Whether what is lost is left out of account (`--ignore-missing`)."""

    @property
    def p(self) -> float:
        """Of the test; NaN where there is none."""
        return math.nan if self.shown or self.facts else self.contrast.p

    @property
    def at_risk(self) -> bool:
        """Whether lost clips could change a verdict."""
        return self.lost.any and not self.ignoring and not math.isnan(self.p)

    def at_worst(self, sign: float) -> stats.Contrast:
        """The contrast if the lost clips speak against a difference of that sign."""
        return difference(losses.filled(self.table, self.metric, sign), self.metric)

    @property
    def worst_p(self) -> float:
        """That p if the lost clips speak against the difference that is seen; 1 where they turn it round."""
        if not self.at_risk:
            return self.p
        bad = self.at_worst(self.contrast.effect)
        return bad.p if bad.effect * self.contrast.effect > 0 else 1.0


def difference(table: pd.DataFrame, metric: Metric) -> stats.Contrast:
    """The contrast of a `combined` table in one metric: the run minus the baseline."""
    return stats.contrast(table, metric, SECOND, FIRST)


def decide(contests: Sequence[Contest], primaries: frozenset[str]) -> tuple[Result, ...]:
    """The verdicts, p values adjusted in their families; in the worst case, every metric's losses speak against it."""
    inside = np.array([contest.metric.name in primaries for contest in contests], dtype=bool)
    p, worst = (
        np.array([getattr(contest, name) for contest in contests], dtype=np.float64) for name in ("p", "worst_p")
    )
    adjusted, at_worst = (family.adjusted(each, inside.tolist()) for each in (p, worst))
    tests = {first: int(np.count_nonzero(~np.isnan(p[inside == first]))) for first in (True, False)}
    return tuple(
        result(contest, float(q), float(bad), primary=bool(first), tests=tests[bool(first)])
        for contest, q, bad, first in zip(contests, adjusted, at_worst, inside, strict=True)
    )


def result(contest: Contest, adjusted: float, adjusted_worst: float, *, primary: bool, tests: int) -> Result:
    """The verdict on one metric, from its p adjusted in the family of so many `tests`, as it is and in the worst case.

    `Result.needed` is for the margin where one is given.
    """
    metric, contrast, margin = contest.metric, contest.contrast, contest.margin
    scored, paired = _lines(contest)
    alike = metric if contrast.scale == metric.scale else replace(metric, scale=contrast.scale)
    first, second = (stats.estimate(paired, alike, row) for row in (FIRST, SECOND))
    remark = contrast.remark
    if alike is not metric and not math.isnan(margin):
        margin, remark = math.nan, f"{remark}, so that the margin in % says nothing"
    reason = contrast.reason.replace(contrast.remark, remark) if remark else contrast.reason
    if 0 < contrast.n < contrast.of:
        why = dict.fromkeys([*contest.lost.causes, *(str(x) for x in scored.loc[~scored["has"], "reason"] if x)])
        left_out = f"{contrast.of - contrast.n} of {contrast.of} pairs left out: {'; '.join(why)}"
        reason = "; ".join(filter(None, (left_out, reason)))
    verdict = _alike(paired, metric, contrast) or _verdict(contrast, metric.direction, margin, adjusted)
    if contrast.n and verdict not in ("identical", "equal"):
        if contest.shown:
            verdict, reason = "shown", contest.shown
        elif contest.facts:
            verdict, reason = "none", _apart(contest)
    worst = _at_worst(contest, verdict, margin, adjusted_worst)
    aim = max(abs(contrast.low), abs(contrast.high)) if math.isnan(margin) else margin
    short = family.least(metric, tests) - contrast.clusters if contrast.n and not contest.facts else 0
    return Result(
        metric=metric.name, baseline=contest.labels[0], other=contest.labels[1], direction=metric.direction,
        unit=metric.unit, baseline_value=first.value, baseline_low=first.low, baseline_high=first.high,
        other_value=second.value, other_low=second.low, other_high=second.high,
        effect=contrast.effect, low=contrast.low, high=contrast.high, p=contest.p, adjusted=adjusted,
        n=contrast.n, of=contrast.of, clusters=contrast.clusters, verdict=worst or verdict, margin=margin,
        needed=needed(contrast, metric, aim, tests) if verdict == "undecided" else math.nan, reason=reason,
        effect_unit=contrast.unit, remark=remark, together=metric.finite_sample_bias, primary=primary,
        facts=",".join(contest.facts), despite=",".join(contest.despite), lost_baseline=contest.lost.baseline,
        lost_other=contest.lost.other, worst=worst, missing=max(short, 0) if verdict in ("none", "undecided") else 0,
    )  # fmt: skip


def _lines(contest: Contest) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A metric's lines with whether each `has` a score, and those of pairs in which both have."""
    lines = contest.table[contest.table["metric"] == contest.metric.name]
    scored = lines.assign(has=losses.has(lines, contest.metric))
    pairs = scored.groupby(["case", "seed"])["has"]
    return scored, lines[pairs.transform("all") & (pairs.transform("size") == 2)]


def _apart(contest: Contest) -> str:
    return f"pairs differ in {', '.join(contest.facts)}; `--despite {','.join(contest.despite)}` judges all the same"


def _at_worst(contest: Contest, verdict: str, margin: float, adjusted: float) -> str:
    """The verdict that also the worst case gives; empty where nothing is lost, or nothing was decided."""
    if not contest.at_risk or verdict in ("undecided", "none", "shown"):
        return ""
    if verdict in ("identical", "equal"):
        return "undecided"
    against = stats.SIGN[contest.metric.direction] if verdict == "no worse" else contest.contrast.effect
    bad = contest.at_worst(against)
    same = bad.effect * contest.contrast.effect > 0
    found = _verdict(bad, contest.metric.direction, margin, adjusted if same else 1.0)
    return found if found == verdict or (verdict, found) == ("better", "no worse") else "undecided"


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
    facts: Mapping[str, tuple[Difference, ...]]
    """Other run → what its pairs differ in besides their pictures."""
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

    @property
    def deciding(self) -> tuple[Result, ...]:
        """The results that the status rests on: of primary metrics, and where every pair is alike."""
        alike = ("identical", "equal")
        return tuple(x for x in self.results if x.verdict in alike or (x.primary and x.verdict != "shown"))

    @property
    def gaps(self) -> tuple[str, ...]:
        """Runs of which no metric decided anything."""
        decided = {result.other for result in self.deciding}
        return tuple(f"{label}: no metric could decide" for label in self.pairings if label not in decided)

    @property
    def status(self) -> verdicts.Status:
        """regression: worse on a metric that decides; inconclusive: undecided on one; invalid: a video is not whole."""
        outcomes = [STATUS[result.verdict] for result in self.deciding]
        return verdicts.status(problems=self.unreadable, gaps=self.gaps, outcomes=outcomes)

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
            "facts": {label: [asdict(found) for found in each] for label, each in self.facts.items()},
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
    ending = f"; {result.remark}" if result.remark else ""
    if result.verdict == "none":
        why = f"{result.reason or 'no score'}{_lacking(result)}"
        told = f": {_numbers(result, units)}{_losses(result)}{ending}" if result.facts else ""
        return f"{pair} has no verdict on {result.metric}: {why}{told}."
    if result.verdict == "shown":
        return f"{result.metric} is shown, not tested ({result.reason}): {_numbers(result, units)}{ending}."
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
    return f"{opening}: {_numbers(result, units)}{_outlook(result, units)}{_losses(result)}{ending}."


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
    how = "Holm" if result.primary else "exploratory, Benjamini–Hochberg"
    tested = "" if math.isnan(result.p) else f"p {p} ({how}), "
    return f"{other} against {baseline}{unit}, difference {difference}, {tested}{pairs}"


def _losses(result: Result) -> str:
    """Which side lost clips, and what that does to the verdict."""
    sides = ((result.lost_other, result.other), (result.lost_baseline, result.baseline))
    told = " and ".join(f"{counted(lost, 'clip')} of {label}" for lost, label in sides if lost)
    if not told:
        return ""
    told += " is lost" if result.lost_other + result.lost_baseline == 1 else " are lost"
    if not result.worst:
        return f"; {told}"
    if result.worst == "undecided":
        return f"; {told}, which at worst undoes a verdict (--ignore-missing leaves that out of account)"
    return f"; {told}, which even at worst leaves it so"


def _lacking(result: Result) -> str:
    """How many clusters lack to the least number, in pairs."""
    if not result.missing:
        return ""
    what = " of other content or prompts" if result.clusters < result.n else ""
    return f"; {counted(result.missing, 'pair')}{what} {'is' if result.missing == 1 else 'are'} missing"


def _outlook(result: Result, units: str) -> str:
    """What the verdict leaves open."""
    if result.verdict == "no worse" and result.adjusted < 1 - stats.LEVEL:
        is_worse = stats.SIGN[result.direction] * result.effect < 0
        return "; it is worse, by less than the margin" if is_worse else ""
    if result.missing:
        return f"; its test takes {result.clusters + result.missing} {units} at least{_lacking(result)}"
    if result.verdict != "undecided" or math.isnan(result.needed):
        return ""
    if result.p < 1 - stats.LEVEL:
        return "; tested alone it would be resolved, among so many tests it is not: name --primary metrics beforehand"
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
