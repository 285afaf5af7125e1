"""`flashbench gate`: did a change move any score? The results here against those of a baseline, sample by sample.

Exact: within a numerics class every sample must be what it was, to a declared tolerance (0 unless given); at
tolerance 0 its clip, frames and statistics too. Lines are aligned by protocol, row, case, seed, replica and metric, so
their order says nothing. Margins: per row and metric of `Protocol.margins`, one-sided non-inferiority over clusters:
the 95 % interval of the paired difference must stay clear of the margin on the bad side (one-sided level 2.5 %); wholly
beyond it is a regression, anything else inconclusive. That all rows must pass needs no adjustment for their number
(Berger's intersection-union test, 1982). Another numerics class forbids the first kind only.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from flashbench import keys, stats
from flashbench.checks import baseline as sides
from flashbench.checks.baseline import Scores
from flashbench.errors import Exit, InvalidError, UsageError, did_you_mean
from flashbench.protocol.cases import of_part
from flashbench.protocol.types import Protocol
from flashbench.run.options import Options, results_folder
from flashbench.run.score import numerics

Outcome: TypeAlias = Literal["pass", "regression", "invalid", "inconclusive"]
EVERY = "*"
"""Stands for all metrics without a tolerance of their own."""
WORST = 3
"""Samples told of each row and metric."""
_AT = ["row", "case", "seed", "replica", "metric"]
_CODES = {
    "pass": Exit.DONE, "regression": Exit.FAILED, "invalid": Exit.INVALID, "inconclusive": Exit.INCONCLUSIVE,
}  # fmt: skip


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
    outcome: Outcome
    changed: int
    """Samples that changed."""
    of: int
    """Samples that both sides have."""
    worst: tuple[Sample, ...]
    effect: stats.Contrast
    """Current − baseline."""
    margin: float
    """How much worse is still no worse; NaN in the exact gate."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The gate's answer to whether a change moved scores, and what it rests on."""

    outcome: Outcome
    kind: Literal["exact", "margins"]
    baseline: str
    current: str
    tier: str
    tolerance: Mapping[str, float]
    compared: Mapping[str, int]
    """Protocol → samples that both sides have."""
    findings: tuple[Finding, ...]
    """Exact: changes. Margins: every row and metric that was judged."""
    problems: tuple[str, ...]
    """Why the sides cannot be compared, or not whole."""
    notes: tuple[str, ...]

    @property
    def code(self) -> Exit:
        """0 pass, 1 regression, 3 invalid, 4 inconclusive."""
        return _CODES[self.outcome]


@dataclass
class _Tally:
    """What the protocols gave so far."""

    compared: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


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
        names: protocols; all that either side has scores of if empty.
        tolerance: metric (or `*`) → largest change of a sample that counts as none, in the metric's unit.
        margins: test non-inferiority within the protocols' margins instead.
        regenerate: where the revision's scores are of another numerics class, or not in git, make them again with its
            own code on this machine.

    Raises:
        UsageError: an unknown baseline, protocol or metric; nothing to regenerate; a margin without a direction.
        InvalidError: scores that cannot be read.
    """
    options, tally = options or Options(), _Tally()
    protocols = {name: options.protocol(name) for name in names}
    current = sides.read(results_folder(options))
    protocols |= {name: options.protocol(name) for name in current if not names}
    known = {name for protocol in protocols.values() for part in protocol.parts for name in part.metric_names}
    for metric in tolerance or ():
        if metric not in (EVERY, *known):
            raise did_you_mean("metric with a tolerance", metric, known)
    before = _before(baseline, options, protocols, current, regenerate=regenerate, tally=tally)
    for name in names or sorted({*before, *current}):
        if name not in current:
            tally.problems.append(f"{name}: there are no scores in {options.root}")
        elif name in before:
            _compare(protocols[name], before[name], current[name], tally, tolerance or {}, margins=margins)
        else:
            (tally.problems if names else tally.notes).append(f"{name}: the baseline has no scores of it")
    if not tally.problems and not (tally.findings if margins else sum(tally.compared.values())):
        what = "no margin is declared for what both have" if margins else f"{baseline} has no scores that are also here"
        tally.problems.append(f"nothing was compared: {what}")
    return Verdict(
        outcome=_outcome(tally),
        kind="margins" if margins else "exact",
        baseline=baseline,
        current=str(options.root),
        tier=options.tier,
        tolerance=dict(tolerance or {}),
        compared=tally.compared,
        findings=tuple(tally.findings),
        problems=tuple(tally.problems),
        notes=tuple(tally.notes),
    )


def _outcome(tally: _Tally) -> Outcome:
    if tally.problems:
        return "invalid"
    outcomes = {finding.outcome for finding in tally.findings}
    order: tuple[Outcome, ...] = ("regression", "inconclusive")
    return next((outcome for outcome in order if outcome in outcomes), "pass")


def _before(
    baseline: str, options: Options, protocols: Mapping[str, Protocol], current: Mapping[str, Scores],
    *, regenerate: bool, tally: _Tally,
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
        if not side.numerics or None in side.numerics["clips"]:
            return f"the numerics class of {side.where} is not known"
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


def _compare(
    protocol: Protocol, before: Scores, after: Scores, tally: _Tally, tolerance: Mapping[str, float], *, margins: bool
) -> None:
    """Add what one protocol says."""
    name = protocol.name
    if after.protocol_hash != protocol.hash:
        tally.problems.append(f"{name}: {after.where} was made under another form of the protocol; run it again")
        return
    if before.protocol_hash != after.protocol_hash:
        tally.notes.append(f"{name}: the protocol itself is not the baseline's; what both have is compared")
    if difference := apart(before, after):
        (tally.notes if margins else tally.problems).append(f"{name}: not comparable sample by sample: {difference}")
        if not margins:
            return
    baseline, current = (side.table.set_index(_AT).sort_index() for side in (before, after))
    for side, lines in ((before, baseline), (after, current)):
        if twice := sorted({_clip(at) for at in lines.index[lines.index.duplicated()]}):
            tally.problems.append(f"{name}: {side.where} has two scores of {twice[0]}")
            return
    tally.problems += [f"{name}: {text}" for text in _missing(baseline, current)]
    if new := len(current.index.difference(baseline.index)):
        tally.notes.append(f"{name}: {new} scores are new")
    shared = baseline.index.intersection(current.index)
    baseline, current = baseline.loc[shared], current.loc[shared]
    lost, gained = _unmeasured(baseline, current), _unmeasured(current, baseline)
    tally.problems += [f"{name}: {what} was not measured: {why}" for what, why in sorted(lost.items())]
    tally.notes += [f"{name}: {what} was not measured in the baseline: {why}" for what, why in sorted(gained.items())]
    # A clip that only one side has is told above; where neither has one, recorded scores (FLOP) are compared.
    kept = ~shared.get_level_values("metric").isin([*lost, *gained]) & (
        (current["clip"] == "") == (baseline["clip"] == "")
    )
    baseline, current = baseline[kept], current[kept]
    tally.compared[name] = len(baseline)
    if margins:  # a mean over what is left would hide them; exactly, they are changes
        gone = current[_no_value(current) & ~_no_value(baseline)].reset_index()
        sentences = [
            f"{metric} of {row} · {case} · seed {seed} has no value any more: {why}"
            for row, case, seed, metric, why in zip(*(gone[c] for c in (*_AT[:3], _AT[4], "reason")), strict=True)
        ]
        tally.problems += [f"{name}: {text}" for text in sorted(sentences)]
    tally.findings += _judged(protocol, baseline, current, tolerance, margins=margins)


def _no_value(lines: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Lines with neither a number nor statistics of a set metric."""
    return np.asarray(lines["value"].isna() & (lines["statistics"].map(len) == 0))


def _clip(at: tuple[str, str, int, int, str]) -> str:
    row, case, seed, replica, _ = at
    return f"{row} · {case} · seed {seed} · replica {replica}"


def _missing(baseline: pd.DataFrame, current: pd.DataFrame) -> Iterator[str]:
    """What the baseline has and the current results lack, the largest thing that is gone whole."""
    gone = baseline.index.difference(current.index)
    for level, what in (("metric", "metric"), ("row", "row"), ("case", "case")):
        names = baseline.index.get_level_values(level)
        whole = sorted(set(names) - set(current.index.get_level_values(level)))
        yield from (f"the {what} {name} is missing" for name in whole)
        gone = gone[~gone.get_level_values(level).isin(whole)]
    yield from (f"{text} is missing" for text in sorted({_clip(at) for at in gone}))
    shared = baseline.index.intersection(current.index)
    unmade = current.loc[shared][(current.loc[shared, "clip"] == "") & (baseline.loc[shared, "clip"] != "")]
    reasons = {_clip(at): str(why) for at, why in zip(unmade.index, unmade["reason"], strict=True)}
    yield from (f"{text} was not made: {why}" for text, why in sorted(reasons.items()))


def _unmeasured(table: pd.DataFrame, other: pd.DataFrame) -> dict[str, str]:
    """Metrics of which only `table` has values at all, with the reason of `other`."""
    has = [set(side.index[side["value"].notna()].get_level_values("metric")) for side in (table, other)]
    silent = has[0] - has[1]
    return {metric: str(other.xs(metric, level="metric")["reason"].iloc[0]) for metric in silent}


def _judged(
    protocol: Protocol, baseline: pd.DataFrame, current: pd.DataFrame, tolerance: Mapping[str, float], *, margins: bool
) -> Iterator[Finding]:
    """Findings per set of cases, row, metric and replica, in the protocol's order."""
    before, after = baseline.assign(differs=_differs(baseline, current, tolerance)).reset_index(), current.reset_index()
    replicas = sorted(before["replica"].unique())
    for part in protocol.parts:
        groups = of_part(part, before).groupby(["row", "metric", "replica"]).groups
        asked = itertools.product((variant.row for variant in part.variants), part.metric_names, replicas)
        for at in (groups[key] for key in asked if key in groups):
            finding = _finding(part, before.loc[at], after.loc[at], margins=margins)
            if finding is not None:
                yield finding


def _differs(baseline: pd.DataFrame, current: pd.DataFrame, tolerance: Mapping[str, float]) -> list[str]:
    """For each aligned line what differs beyond the tolerance, in words; empty where nothing does."""
    allowed = np.array(
        [tolerance.get(name, tolerance.get(EVERY, 0.0)) for name in baseline.index.get_level_values("metric")]
    )
    first, second = (side["value"].to_numpy(dtype=np.float64) for side in (baseline, current))
    with np.errstate(invalid="ignore"):
        same = (first == second) | (np.isnan(first) & np.isnan(second)) | (np.abs(second - first) <= allowed)
    fields = [[] if equal else ["value"] for equal in same]
    for column, name in (("per_frame", "frames"), ("statistics", "statistics"), ("clip", "clip")):
        for index, (a, b) in enumerate(zip(baseline[column], current[column], strict=True)):
            if allowed[index] == 0 and not (a == b if column == "clip" else np.array_equal(a, b, equal_nan=True)):
                fields[index].append(name)
    return [", ".join(names) for names in fields]


def _finding(part: Protocol, before: pd.DataFrame, after: pd.DataFrame, *, margins: bool) -> Finding | None:
    """The finding on aligned lines of one row, metric and replica; None where there is nothing to say."""
    row, name, replica = (before[column].iloc[0] for column in ("row", "metric", "replica"))
    changed = before["differs"] != ""
    margin = part.margins.get(name) if margins else math.nan
    silent = before["value"].isna().all() and after["value"].isna().all()
    if margin is None or (margins and silent) or (not margins and not changed.any()):
        return None
    metric = part.metric(name)
    if margins and metric.direction == "none":
        raise UsageError(f"{name} has no better or worse, so no margin", fix=f"take it out of `margins` of {part.name}")
    scores = pd.concat([before.assign(row="baseline"), after.assign(row="current")], ignore_index=True)
    effect = stats.contrast(scores, metric, "current", "baseline", replica=int(replica))
    lines = zip(before[changed].to_dict("records"), after[changed].to_dict("records"), strict=True)
    samples = [
        Sample(
            case=a["case"], seed=int(a["seed"]), before=a["value"], after=b["value"],
            difference=b["value"] - a["value"], differs=a["differs"],
        )
        for a, b in lines
    ]  # fmt: skip
    samples.sort(key=lambda sample: -math.inf if math.isnan(sample.difference) else -abs(sample.difference))
    outcome: Outcome = "regression"
    if margins:
        outcome = no_worse(effect, stats.SIGN[metric.direction], float(margin)) if changed.any() else "pass"
        if changed.any() and effect.scale != metric.scale:  # the margin is in %, the effect is not
            outcome = "inconclusive"
    return Finding(
        protocol=part.name, cases=part.case_set, row=row, metric=name, replica=int(replica), outcome=outcome,
        changed=int(changed.sum()), of=len(before), worst=tuple(samples[:WORST]), effect=effect, margin=float(margin),
    )  # fmt: skip


def no_worse(effect: stats.Contrast, sign: int, margin: float) -> Outcome:
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
