"""`flashbench gate`: did a change move any score? The results here against those of a baseline, sample by sample.

Exact: within a numerics class every sample must be what it was, to a declared tolerance (0 unless given; see
`samples.differs`). Lines are aligned by protocol, row, case, seed, replica and metric, so their order says nothing.
Margins: per row and metric of the margins that the *baseline* declares, one-sided non-inferiority over clusters: the
95 % interval of the paired difference must stay clear of the margin on the bad side (one-sided level 2.5 %); wholly
beyond it is a regression, anything else inconclusive. That all rows must pass needs no adjustment for their number
(Berger's intersection-union test, 1982). What moved without a margin is inconclusive, unless its metric has no better
or worse. Another numerics class forbids the first kind only.

Both sides must hold what they declare (`covered`), and be of the same samples: anything else is invalid. What the
baseline does not cover of its tier is a gap, and no pass is said of the whole.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from flashbench import keys, stats
from flashbench.checks import baseline as sides
from flashbench.checks import covered, samples
from flashbench.checks.baseline import Scores
from flashbench.errors import Exit, InvalidError, UsageError, did_you_mean
from flashbench.metrics.base import Metric
from flashbench.protocol import compose
from flashbench.protocol.cases import of_part
from flashbench.protocol.types import Protocol
from flashbench.reporting import verdicts
from flashbench.reporting.verdicts import Status
from flashbench.run.declared import declared
from flashbench.run.options import Options, results_folder
from flashbench.run.score import numerics

EVERY = "*"
"""Stands for all metrics without a tolerance of their own."""
WORST = 3
"""Samples told of each row and metric."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One clip's score before and after; NaN is a missing one."""

    case: str
    seed: int
    before: float
    after: float
    difference: float
    """After − before."""
    differs: str
    """What is not the same: value, frames, statistics, clip."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What became of one metric of one row, on one set of cases and in one training."""

    protocol: str
    cases: str
    row: str
    metric: str
    replica: int
    outcome: Status
    changed: int
    """Samples that changed."""
    of: int
    """Samples that both sides have."""
    worst: tuple[Sample, ...]
    effect: stats.Contrast
    """Current − baseline."""
    margin: float
    """How much worse is still no worse; NaN in the exact gate, and where the baseline declares none."""
    note: str = ""
    """Why a metric that moved without a margin is judged as it is."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The gate's answer to whether a change moved scores, and what it rests on."""

    status: Status
    kind: Literal["exact", "margins"]
    baseline: str
    current: str
    tier: str
    """Empty where the two are folders of videos."""
    tolerance: Mapping[str, float]
    compared: Mapping[str, int]
    """Protocol → samples that both sides have."""
    findings: tuple[Finding, ...]
    """Exact: changes. Margins: every row and metric that has a margin, or moved without."""
    problems: tuple[str, ...]
    """Why the sides cannot be compared."""
    gaps: tuple[str, ...]
    """What nothing is known of: protocols that the baseline lacks, primary metrics without a value on either side."""
    notes: tuple[str, ...]

    @property
    def code(self) -> Exit:
        """0 pass, 1 regression, 3 invalid, 4 inconclusive."""
        return verdicts.CODES[self.status]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How scores are judged."""

    tolerance: Mapping[str, float]
    margins: bool

    def allowed(self, metric: str) -> float:
        """How far a sample may move that counts as none."""
        return self.tolerance.get(metric, self.tolerance.get(EVERY, 0.0))


@dataclass
class Tally:
    """What was found so far."""

    compared: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def verdict(self, rules: Rules, *, baseline: str, current: str, tier: str) -> Verdict:
        """What it comes to; `baseline` and `current` as the user named them."""
        outcomes = [finding.outcome for finding in self.findings]
        return Verdict(
            status=verdicts.status(problems=self.problems, gaps=self.gaps, outcomes=outcomes),
            kind="margins" if rules.margins else "exact", baseline=baseline, current=current, tier=tier,
            tolerance=dict(rules.tolerance), compared=self.compared, findings=tuple(self.findings),
            problems=tuple(self.problems), gaps=tuple(self.gaps), notes=tuple(self.notes),
        )  # fmt: skip


def gate(
    baseline: str,
    options: Options | None = None,
    *,
    names: Sequence[str] = (),
    tolerance: Mapping[str, float] | None = None,
    margins: bool = False,
    regenerate: bool = False,
) -> Verdict:
    """Compare the results of `options` with those of `baseline`.

    Args:
        baseline: a scores.parquet, a folder of results, or a git revision, whose results/<tier> are read.
        options: the tier, folder and overrides of the current results.
        names: protocols; the whole tier if empty, and then the baseline must have all of it for a pass.
        tolerance: metric (or `*`) → largest change of a sample that counts as none, in the metric's unit.
        margins: test non-inferiority within the baseline's margins instead; a tolerance is then for the other metrics.
        regenerate: where the revision's scores are of another numerics class, or not in git, make them again with its
            own code on this machine.

    Raises:
        UsageError: an unknown baseline, protocol or metric; nothing to regenerate; a tolerance beside a margin, or a
            margin without a direction.
        InvalidError: scores that cannot be read.
    """
    options, tally = options or Options(), Tally()
    protocols = {name: options.protocol(name) for name in names}
    current = sides.read(results_folder(options))
    protocols |= {name: options.protocol(name) for name in current if not names}
    known = {name for protocol in protocols.values() for part in protocol.parts for name in part.metric_names}
    for metric in tolerance or ():
        if metric not in (EVERY, *known):
            raise did_you_mean("metric with a tolerance", metric, known)
    before = _before(baseline, options, protocols, current, regenerate=regenerate, tally=tally)
    rules = Rules(tolerance=tolerance or {}, margins=margins)
    whole = covered.whole(before, compose.names())
    for name in names or sorted({*before, *current, *whole}):
        if name not in current and (name in before or names):
            tally.problems.append(f"{name}: there are no scores in {options.root}")
        elif name not in current:
            tally.gaps.append(f"{name}: neither side has scores of it")
        elif name in before:
            _compare(protocols[name], before[name], current[name], tally, rules)
        elif names:
            tally.problems.append(f"{name}: the baseline has no scores of it")
        else:
            (tally.gaps if name in whole else tally.notes).append(f"{name}: the baseline has no scores of it")
    if tally.gaps and not names and (less := sorted(whole - {*before})):
        fix = f"name those that are to be gated: flashbench gate {' '.join(sorted({*before} & {*current}))} …"
        tally.gaps.append(f"the baseline covers {len(whole) - len(less)} of {len(whole)} protocols; {fix}")
    if not tally.problems and not (tally.findings if margins else sum(tally.compared.values())):
        what = "no margin is declared for what both have" if margins else f"{baseline} has no scores that are also here"
        tally.problems.append(f"nothing was compared: {what}")
    return tally.verdict(rules, baseline=baseline, current=str(options.root), tier=options.tier)


def _before(
    baseline: str, options: Options, protocols: Mapping[str, Protocol], current: Mapping[str, Scores],
    *, regenerate: bool, tally: Tally,
) -> dict[str, Scores]:  # fmt: skip
    """The baseline's scores, made again where that is asked for and needed."""
    if (path := Path(baseline)).exists():
        if regenerate:
            raise UsageError(f"--regenerate makes a revision's scores, and {baseline} is a file", fix="leave it out")
        return sides.read(path)
    at = sides.revision(baseline)
    before = sides.committed(at, Path("results") / options.tier)
    again = [name for name in current if name in protocols and regenerate]
    again = [name for name in again if name not in before or apart(before[name], current[name])]
    for name in again:
        if current[name].numerics != _here(protocols[name]):
            what = f"{name}: the scores of {current[name].where} were not made on this machine"
            raise InvalidError(what, fix="run the protocol here first, then compare with what the baseline makes here")
    if again:
        replicas = sorted({int(replica) for name in again for replica in current[name].table["replica"]})
        made = sides.regenerate(at, again, tier=options.tier, replicas=replicas, overrides=options.overrides)
        tally.notes += [f"{name}: the baseline's scores were made again on this machine" for name in made]
        # A revision from before classes were kept does not say so, but these were made here, as the current ones were.
        before |= {
            name: replace(scores, numerics=scores.numerics or current[name].numerics) for name, scores in made.items()
        }
    return before


def _here(protocol: Protocol) -> dict[str, Any]:
    """What `run.score.numerics` says of clips and scores that are made on this machine."""
    line = {"key": "-", "numerics": keys.numerics_class(threads=protocol.threads)}
    classes: dict[str, Any] = json.loads(numerics(protocol, [line]))
    return classes


def apart(one: Scores, two: Scores) -> str:
    """Why two tables are not of one numerics class, in words; empty if they are.

    Fields of the scoring class that one side alone has are of libraries that its other metrics need.
    """
    for side in (one, two):
        made = bool((side.table["clip"] != "").any())
        if not side.numerics or None in side.numerics["clips"] or (made and not side.numerics["clips"]):
            return f"the numerics class of {side.where} is not known"
        if lacking := sorted(keys.scoring_class().keys() - side.numerics["scores"].keys()):
            return f"the numerics class of {side.where} does not say its {', '.join(lacking)}"
    assert one.numerics is not None and two.numerics is not None
    clips = [sorted(map(keys.canonical_json, side["clips"])) for side in (one.numerics, two.numerics)]
    if clips[0] != clips[1]:
        first, second = (json.loads(texts[0]) if texts else {} for texts in clips)
        differences = [f"{name} {first.get(name)} → {second.get(name)}" for name in sorted({*first, *second})
                if first.get(name) != second.get(name)]  # fmt: skip
        return f"clips of another numerics class: {', '.join(differences) or 'of several'}"
    first, second = one.numerics["scores"], two.numerics["scores"]
    shared = sorted(first.keys() & second.keys())
    differences = [f"{name} {first[name]} → {second[name]}" for name in shared if first[name] != second[name]]
    return f"scores of another numerics class: {', '.join(differences)}" if differences else ""


def _compare(protocol: Protocol, before: Scores, after: Scores, tally: Tally, rules: Rules) -> None:
    """Add what one protocol says."""
    name, count = protocol.name, len(tally.problems)
    tally.problems += [f"{name}: {text}" for text in _stale(protocol, after)]
    if len(tally.problems) > count:
        return
    _declarations(name, before, after, tally, margins=rules.margins)
    if difference := apart(before, after):
        unlike = f"{name}: not comparable sample by sample: {difference}"
        (tally.notes if rules.margins else tally.problems).append(unlike)
        if not rules.margins:
            return
    baseline, current = (side.table.set_index(samples.AT).sort_index() for side in (before, after))
    for side, lines in ((before, baseline), (after, current)):
        if twice := sorted({samples.clip(at) for at in lines.index[lines.index.duplicated()]}):
            tally.problems.append(f"{name}: {side.where} has two scores of {twice[0]}")
            return
    baseline, current = _aligned(name, (before, baseline), (after, current), tally)
    tally.compared[name] = len(baseline)
    if rules.margins:  # a mean over what is left would hide them; exactly, they are changes
        tally.problems += [f"{name}: {text}" for text in samples.gone(baseline, current)]
    asked = {metric for part in protocol.parts for metric in (*part.primary, *part.margins)}
    for metric, why in samples.silent(baseline, current).items():
        text = f"{name}: {metric} has no value on either side: {why}"
        (tally.gaps if metric in asked else tally.notes).append(text)
    tally.notes += [f"{name}: {text}" for text in told(baseline, current, rules)]
    declares = covered.margins(before.declared) if rules.margins and before.declared else {}
    tally.findings += _judged(protocol, baseline, current, declares, rules)


def _stale(protocol: Protocol, after: Scores) -> Iterator[str]:
    """Why the current scores are not what the protocol makes now."""
    again = f"flashbench run {protocol.name} --tier {protocol.tier} --phase score"
    if after.protocol_hash != protocol.hash:
        yield f"{after.where} was made under another form of the protocol; run it again"
    elif after.declared is None:
        yield f"{after.where} does not say what it should hold; run the score phase again: {again}"
    elif _own(after.declared) != _own(json.loads(declared(protocol, after.declared["replicas"]))):
        yield f"what {after.where} says that it should hold is not what the protocol asks for; run again: {again}"


def _declarations(name: str, before: Scores, after: Scores, tally: Tally, *, margins: bool) -> None:
    """Add what the two declarations say of each other."""
    same = before.protocol_hash == after.protocol_hash
    if not same:
        tally.notes.append(f"{name}: the protocol itself is not the baseline's; what both have is compared")
    assert after.declared is not None
    if before.declared is None:
        text = f"{name}: {before.where} is from before scores said what they should hold"
        tally.notes.append(f"{text}; what both have is compared")
        if margins:
            tally.problems.append(f"{text}, so it has no margins: score the baseline again, or gate exactly")
        return
    problems, notes = covered.restated(before.declared, after.declared)
    tally.problems += [f"{name}: {text}" for text in problems]
    tally.notes += [f"{name}: {text}" for text in notes]
    if same and _own(before.declared, versions=False) != _own(after.declared, versions=False):
        what = f"{before.where} bears the protocol's hash and declares something else"
        tally.problems.append(f"{name}: {what}: it was edited; restore it")


def _own(declares: Mapping[str, Any], *, versions: bool = True) -> tuple[Any, ...]:
    """What a protocol's hash decides of a declaration, with the versions of metrics or without."""
    sets = [{**part, "metrics": part["metrics"] if versions else sorted(part["metrics"])} for part in declares["parts"]]
    return declares["protocol"], declares["tier"], sets


def _aligned(
    name: str, first: tuple[Scores, pd.DataFrame], second: tuple[Scores, pd.DataFrame], tally: Tally
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The lines that can be compared, in one order; adds what either side lacks, or holds otherwise."""
    (before, baseline), (after, current) = first, second
    tally.problems += [f"{name}: {text}" for text in samples.missing(baseline.index, current.index)]
    tally.problems += [f"{name}: {text}" for text in covered.holes(before, baseline)]
    tally.problems += [f"{name}: {text}" for text in covered.holes(after, current, baseline.index)]
    if new := len(current.index.difference(baseline.index)):
        text = f"{name}: {new} scores are new"
        if before.declared is None:
            tally.gaps.append(f"{text}, or lost in the baseline, which does not say what it should hold")
        else:
            tally.notes.append(text)
    shared = baseline.index.intersection(current.index)
    baseline, current = baseline.loc[shared], current.loc[shared]
    tally.problems += [f"{name}: {text}" for text in samples.unmade(baseline, current)]
    asked = [covered.expected(side.declared).reindex(shared) for side in (before, after) if side.declared]
    other = samples.unlike(asked[0], asked[1]) if len(asked) == 2 else samples.unlike(baseline, current)
    tally.problems += [f"{name}: not the same samples: {text}" for text in other]
    lost, gained = samples.unmeasured(baseline, current), samples.unmeasured(current, baseline)
    tally.problems += [f"{name}: {what} was not measured: {why}" for what, why in sorted(lost.items())]
    tally.notes += [f"{name}: {what} was not measured in the baseline: {why}" for what, why in sorted(gained.items())]
    # A clip that only one side has is told above; where neither has one, recorded scores (FLOP) are compared.
    kept = ~shared.get_level_values("metric").isin([*lost, *gained]) & (
        (current["clip"] == "") == (baseline["clip"] == "")
    )
    return baseline[kept], current[kept]


def told(baseline: pd.DataFrame, current: pd.DataFrame, rules: Rules) -> Iterator[str]:
    """What is not compared and should be known: clips within a tolerance, reasons."""
    metrics = baseline.index.get_level_values("metric")
    free = np.array([rules.allowed(metric) > 0 for metric in metrics], dtype=np.bool_)
    spared = free & (baseline["clip"] != current["clip"]).to_numpy()
    if spared.any():
        yield f"{int(spared.sum())} scores with a tolerance are of clips with other bytes"
    worded = baseline.index[((baseline["reason"] != current["reason"]).to_numpy())]
    if len(worded):
        at = worded[0]
        pair = " → ".join(str(side.loc[at, "reason"]) or "none" for side in (baseline, current))
        yield f"{len(worded)} reasons have other words, first {at[4]} of {samples.clip(at)}: {pair}"


def _judged(
    protocol: Protocol, baseline: pd.DataFrame, current: pd.DataFrame, declares: Mapping[tuple[str, str], float],
    rules: Rules,
) -> Iterator[Finding]:  # fmt: skip
    """Findings per set of cases, row, metric and replica, in the protocol's order."""
    before, after = baseline.reset_index(), current.reset_index()
    replicas = sorted(before["replica"].unique())
    for part in protocol.parts:
        groups = of_part(part, before).groupby(["row", "metric", "replica"]).groups
        asked = itertools.product((variant.row for variant in part.variants), part.metric_names, replicas)
        for at in (key for key in asked if key in groups):
            margin = declares.get((part.case_set, at[1]), math.nan)
            old, new = before.loc[groups[at]], after.loc[groups[at]]
            kind, name, cases = part.metric(at[1]), part.name, part.case_set
            if (finding := find(kind, old, new, margin, rules, protocol=name, cases=cases)) is not None:
                yield finding


def find(
    metric: Metric, before: pd.DataFrame, after: pd.DataFrame, margin: float, rules: Rules, *, protocol: str, cases: str
) -> Finding | None:
    """The finding on aligned lines of one row, metric and replica; None where there is nothing to say.

    Args:
        metric: theirs.
        before: the baseline's lines.
        after: the current ones, in the same order.
        margin: how much worse is no worse; NaN for none.
        rules: how they are judged.
        protocol: of the finding, as `cases`, the name of the set of cases.

    Raises:
        UsageError: a margin of a metric without better or worse, or beside a tolerance.
    """
    row, name, replica = (before[column].iloc[0] for column in ("row", "metric", "replica"))
    bounded = not math.isnan(margin)
    if bounded and metric.direction == "none":
        fix = f"take it out of the margins of {protocol}"
        raise UsageError(f"{name} has no better or worse, so no margin", fix=fix)
    if bounded and name in rules.tolerance:
        raise UsageError(f"{name} is judged by its margin", fix="leave out its --tolerance, or --margins")
    before = before.assign(differs=samples.differs(metric, before, after, 0.0 if bounded else rules.allowed(name)))
    changed = before["differs"] != ""
    silent = before["value"].isna().all() and after["value"].isna().all()
    if not changed.any() and not (bounded and not silent):
        return None
    scores = pd.concat([before.assign(row="baseline"), after.assign(row="current")], ignore_index=True)
    effect = stats.contrast(scores, metric, "current", "baseline", replica=int(replica))
    outcome, note = _outcome(metric, effect, margin, rules) if changed.any() else ("pass", "")
    return Finding(
        protocol=protocol, cases=cases, row=row, metric=name, replica=int(replica), outcome=outcome,
        changed=int(changed.sum()), of=len(before), worst=_worst(before[changed], after[changed]), effect=effect,
        margin=float(margin), note=note,
    )  # fmt: skip


def _outcome(metric: Metric, effect: stats.Contrast, margin: float, rules: Rules) -> tuple[Status, str]:
    """What a change of a row is, and why where that is not plain."""
    if not rules.margins:
        return "regression", ""
    if not math.isnan(margin):
        if effect.scale != metric.scale:  # the margin is in %, the effect is not
            return "inconclusive", ""
        return no_worse(effect, stats.SIGN[metric.direction], margin), ""
    if metric.direction == "none":
        return "pass", "no better or worse"
    return "inconclusive", "the baseline declares no margin"


def _worst(before: pd.DataFrame, after: pd.DataFrame) -> tuple[Sample, ...]:
    """Of changed lines those that changed most, lost ones first."""
    lines = zip(before.to_dict("records"), after.to_dict("records"), strict=True)
    found = [
        Sample(
            case=a["case"], seed=int(a["seed"]), before=a["value"], after=b["value"],
            difference=b["value"] - a["value"], differs=a["differs"],
        )
        for a, b in lines
    ]  # fmt: skip
    found.sort(key=lambda sample: -math.inf if math.isnan(sample.difference) else -abs(sample.difference))
    return tuple(found[:WORST])


def no_worse(effect: stats.Contrast, sign: int, margin: float) -> Status:
    """Non-inferiority of a paired difference: pass above −margin, regression wholly below, else inconclusive.

    Args:
        effect: current − baseline with its 95 % interval; NaN bounds decide nothing.
        sign: 1 where higher is better, −1 where lower is.
        margin: above 0, in the unit of the effect: the metric's, or % where its scale is log.
    """
    low, high = sorted((sign * effect.low, sign * effect.high)) if not math.isnan(effect.low) else (math.nan, math.nan)
    if low > -margin:
        return "pass"
    return "regression" if high < -margin else "inconclusive"
