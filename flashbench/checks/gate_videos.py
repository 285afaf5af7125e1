"""`flashbench gate --candidate`: anybody's videos against a file of scores that was made of what they should be.

The baseline is the scores.parquet of `flashbench score --out`, a few kilobytes to commit: its metadata say how it was
made, what its files were, and which margins hold. The candidate is measured in the same way, paired by name, and
judged as the gate of results judges (`checks.gate`): exactly, or within the baseline's margins over clusters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flashbench import metrics as registry
from flashbench.checks import samples
from flashbench.checks.gate import EVERY, Rules, Tally, Verdict, find, told
from flashbench.comparison import compare, pairing
from flashbench.comparison.pairing import Pairing
from flashbench.comparison.verdict import combined
from flashbench.errors import InvalidError, UsageError, did_you_mean
from flashbench.metrics.base import Metric
from flashbench.scores import facts
from flashbench.scores.facts import Entry
from flashbench.scores.runs import ScoredRun, is_run, read_run, unlike

CASES = "videos"
"""The set of cases of a finding."""
SHAPE = ("rate", "frames", "size")
"""Facts in which a pair that differs is not of the same samples; another fact keeps what it moves from a pass."""


@dataclass(frozen=True, kw_only=True)
class _Side:
    run: ScoredRun
    record: Mapping[str, Any]
    name: str
    """As the user wrote it."""


def gate_videos(
    baseline: str | Path,
    candidate: str | Path,
    *,
    tolerance: Mapping[str, float] | None = None,
    margins: bool = False,
    prompts: str | Path | None = None,
    reference: str | Path | None = None,
    device: str = "cpu",
    workers: int = 1,
) -> Verdict:
    """Compare videos with the scores that a baseline has of others, pair by pair.

    Args:
        baseline: a scores.parquet of `flashbench score --out`, or its folder.
        candidate: a folder of videos, which are scored with the baseline's metrics and settings; or a scored run.
        tolerance: metric (or `*`) → largest change of a sample that counts as none, in the metric's unit.
        margins: test non-inferiority within the margins that the baseline declares instead.
        prompts: as in `flashbench.score`; the baseline's own by name if not given.
        reference, device, workers: as in `flashbench.score`, of videos.

    Raises:
        UsageError: a metric that is not known here, a tolerance of another, no margin where margins are asked for; what
            is for videos where the candidate is scored already.
        InvalidError: a side cannot be read, the baseline does not say how it was made, or nothing pairs.
    """
    before = _side(read_run(Path(baseline)), str(baseline))
    kinds = [registry.get(name) for name in before.record["metrics"]]
    rules = Rules(tolerance=tolerance or {}, margins=margins)
    for name in rules.tolerance:
        if name not in (EVERY, *before.record["metrics"]):
            raise did_you_mean("metric with a tolerance", name, before.record["metrics"])
    declared = before.record.get("declared", {})
    bounds: Mapping[str, float] = declared.get("margins", {})
    if margins and not bounds:
        fix = "declare them where it is made: flashbench score VIDEOS --margin psnr=0.5 --out BASELINE"
        raise UsageError(f"{baseline} declares no margins", fix=fix)
    scoring = {"prompts": prompts, "reference": reference, "device": device, "workers": workers}
    after = _side(_scored(Path(candidate), before, scoring), str(candidate))
    tally = Tally()
    paired = pairing.pair(before.run.table, after.run.table, "name", (before.name, after.name))
    tally.problems += [*_meaning(before, after, rules), *_lost(paired, before, after)]
    for side in (before, after):
        tally.problems += _doubles(side)
    if not tally.problems:
        asked = {*declared.get("primary", ()), *bounds}
        _judge(before, after, paired, kinds, bounds if margins else {}, asked, rules, tally)
    if not tally.problems and not (tally.findings if margins else sum(tally.compared.values())):
        tally.problems.append("nothing was compared: no metric with a margin has a value" if margins
                              else "nothing was compared: no metric has a value")  # fmt: skip
    return tally.verdict(rules, baseline=before.name, current=after.name, tier="")


def _side(run: ScoredRun, name: str) -> _Side:
    if run.record is None:
        what = f"{name} does not say how it was made: no run.json is beside it, and an earlier version wrote it"
        raise InvalidError(what, fix="score the videos again with --out")
    return _Side(run=run, record=run.record, name=name)


def _scored(candidate: Path, before: _Side, scoring: Mapping[str, Any]) -> ScoredRun:
    """The candidate's scores: of a scored run, or measured now as the baseline's were."""
    if is_run(candidate):
        if any(scoring[name] for name in ("prompts", "reference")):
            raise UsageError(f"{candidate} is scored already", fix="leave --prompts and --reference out")
        return read_run(candidate)
    settings, prompts = before.record["settings"], scoring["prompts"]
    if prompts is None:
        prompts = _own_prompts(candidate, before)
    return compare.load(
        str(candidate), metrics=list(before.record["metrics"]),
        **{**scoring, "prompts": prompts, **{name: settings.get(name) for name in ("frames", "size", "fps")}},
    )  # fmt: skip


def _own_prompts(candidate: Path, before: _Side) -> Mapping[str, str] | None:
    """Candidate's video → prompt of the baseline's that it pairs with; None where the baseline has no prompts."""
    table = before.run.table
    texts = dict(zip(zip(table["case"], table["seed"], strict=True), table["prompt"], strict=True))
    there = compare.outline(str(candidate)).table
    pairs = pairing.pair(table, there, "name", (before.name, str(candidate))).pairs
    return {case: texts[clip] for clip, (case, _) in pairs if texts[clip]} or None


def _meaning(before: _Side, after: _Side, rules: Rules) -> Iterator[str]:
    """Why scores of the two sides mean different things."""
    for place, old, new in unlike(before.record, after.record, before.record["metrics"]):
        if place.split()[0] != "numerics":
            yield f"the scores mean different things: {place} is {new}, not {old}"
        elif not rules.margins:
            yield f"scores of another numerics class, which --margins takes: {place} is {new}, not {old}"


def _lost(paired: Pairing, before: _Side, after: _Side) -> Iterator[str]:
    """Clips that a side lacks or could not read, prompts that differ."""
    yield from (f"{after.name} lacks {case}, which {before.name} has" for case, _ in paired.lost[0])
    for side in (before, after):
        for video in side.record["videos"]:
            if video.get("reason"):
                yield f"{video['case']} of {side.name} is not whole: {video['reason']}"
    texts = [
        dict(zip(zip(table["case"], table["seed"], strict=True), table["prompt"], strict=True))
        for table in (before.run.table, after.run.table)
    ]
    others = [(a, b) for a, b in paired.pairs if texts[0][a] != texts[1][b]]
    if others:
        (case, seed), other = others[0]
        pair = f"{texts[1][other] or 'none'!r}, not {texts[0][case, seed] or 'none'!r}"
        yield f"{len(others)} prompts are others, first that of {case}: {pair}"


def _doubles(side: _Side) -> Iterator[str]:
    """What a table has twice, or not at all though its record says that it was measured, or without a reason."""
    table, place = side.run.table, ["case", "seed", "metric"]
    if len(twice := table[table.duplicated(place)]):
        yield f"{side.name} has two scores of {twice['case'].iloc[0]}"
    have = set(zip(table["case"], table["metric"], strict=True))
    for video in side.record["videos"]:
        for name in side.record["metrics"]:
            if (video["case"], name) not in have:
                yield f"{side.name} has no {name} of {video['case']}, and says that it was measured"
    silent = table[samples.no_value(table) & (table["reason"] == "").to_numpy()]
    if len(silent):
        yield f"{side.name} has neither {silent['metric'].iloc[0]} of {silent['case'].iloc[0]} nor a reason"


def _judge(
    before: _Side, after: _Side, paired: Pairing, kinds: list[Metric], bounds: Mapping[str, float], asked: set[str],
    rules: Rules, tally: Tally,
) -> None:  # fmt: skip
    """Add what the paired scores say; `asked`: metrics of which something must be known."""
    if extra := len(paired.alone[1]):
        tally.notes.append(f"{after.name} has {extra} videos that {before.name} lacks: not compared")
    entries = _entries(before, after, paired)
    for found in facts.between(entries):
        (tally.problems if found.fact in SHAPE else tally.notes).append(found.line(f"in {before.name}"))
    if tally.problems:
        return
    beside = [kind.name for kind in kinds if kind.scope == "pair"]
    compare.same_references(before.run, after.run, beside, paired, (before.name, after.name))
    both, _ = combined(before.run.table, after.run.table, paired, lost=False)
    both = both[both["metric"].isin([kind.name for kind in kinds])]
    label = before.run.label
    first, second = (both[both["row"] == row].assign(row=label).set_index(samples.AT).sort_index() for row in "01")
    lost, gained = samples.unmeasured(first, second), samples.unmeasured(second, first)
    tally.problems += [f"{name} was not measured: {why}" for name, why in sorted(lost.items())]
    tally.notes += [f"{name} was not measured in the baseline: {why}" for name, why in sorted(gained.items())]
    kept = ~first.index.get_level_values("metric").isin([*lost, *gained])
    first, second = first[kept], second[kept]
    if rules.margins:
        tally.problems += samples.gone(first, second)
    for name, why in samples.silent(first, second).items():
        (tally.gaps if name in asked else tally.notes).append(f"{name} has no value on either side: {why}")
    tally.notes += told(first, second, rules)
    protocol = str(before.run.table["protocol"].iloc[0])
    tally.compared[protocol] = len(first)
    first, second = first.reset_index(), second.reset_index()
    apart = [(own, its) for _, own, its in entries]
    for kind in kinds:
        old, new = (side[side["metric"] == kind.name].reset_index(drop=True) for side in (first, second))
        margin = bounds.get(kind.name, math.nan)
        finding = find(kind, old, new, margin, rules, protocol=protocol, cases=CASES) if len(old) else None
        if finding is None:
            continue
        held = facts.in_the_way(kind, apart) if rules.margins else ()
        if held and finding.changed:
            finding = replace(finding, outcome="inconclusive", note=f"pairs differ in {', '.join(held)}")
        tally.findings.append(finding)


def _entries(before: _Side, after: _Side, paired: Pairing) -> list[tuple[str, Entry, Entry]]:
    """Of each pair its name, and what is known of the candidate's file and of the baseline's."""
    known = [facts.entries_of(side.record["videos"], side.record.get("reader")) for side in (after, before)]
    return [(case, known[0].get(other, {}), known[1].get(case, {})) for (case, _), (other, _) in paired.pairs]
