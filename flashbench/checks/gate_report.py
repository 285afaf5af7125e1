"""A gate's verdict to read and to keep: verdict.md for people (a pull request's summary), verdict.json for programs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from flashbench import stats
from flashbench.checks.gate import Finding, Verdict
from flashbench.reporting import numbers, verdicts
from flashbench.reporting.document import Block, Cell, markdown
from flashbench.run.files import write

_SHOWN = 40
"""Lines of a list or grid in verdict.md; verdict.json has all."""
_RULES = {
    "exact": (
        "Every sample must be what it was: its value, frames, statistics and clip; keys and the words of reasons are "
        "not compared. An effect is current − baseline, paired by case and seed, with its 95 % interval over clusters."
    ),
    "margins": (
        "Pass: the 95 % interval of current − baseline, paired by case and seed, stays clear of the margin on the bad "
        "side. Regression: it lies wholly beyond. Inconclusive: neither, or a metric moved that has a better and a "
        "worse and no margin: declare one, or give --tolerance METRIC=NUMBER. Margins are the baseline's."
    ),
}


def keep(verdict: Verdict, folder: Path) -> None:
    """Write verdict.json and verdict.md into `folder`."""
    write(folder / "verdict.json", to_json(verdict).encode())
    write(folder / "verdict.md", markdown(blocks(verdict)).encode())


def to_json(verdict: Verdict) -> str:
    """A gate's whole verdict in the schema of `verdicts`, a row for each finding; no times."""
    about = {"tier": verdict.tier, "kind": verdict.kind, "tolerance": verdict.tolerance, "compared": verdict.compared}
    return verdicts.to_json(
        "gate", verdict.status, baseline=verdict.baseline, current=verdict.current,
        rows=[asdict(finding) for finding in verdict.findings], problems=verdict.problems, gaps=verdict.gaps,
        notes=verdict.notes, about=about,
    )  # fmt: skip


def blocks(verdict: Verdict) -> list[Block]:
    """A gate's verdict as a document."""
    document = [Block("heading", f"Gate: {verdict.status}"), Block("text", sentence(verdict))]
    if verdict.problems:
        document.append(Block("notes", notes=_cut(verdict.problems)))
    if verdict.gaps:
        document.append(Block("notes", notes=_cut(verdict.gaps)))
    if verdict.findings:
        document.append(Block("grid", grid=[_HEAD, *map(_line, verdict.findings[:_SHOWN])], columns="llllrrl"))
        samples = [line for finding in verdict.findings for line in _samples(finding)]
        if samples:
            document += [Block("subheading", "Worst samples")]
            document.append(Block("grid", grid=[_SAMPLE_HEAD, *samples[:_SHOWN]], columns="lllrrrrl"))
        if len(verdict.findings) > _SHOWN or len(samples) > _SHOWN:
            document.append(Block("text", f"Shown: the first {_SHOWN} lines; verdict.json has all."))
    if verdict.notes:
        document.append(Block("notes", notes=_cut(verdict.notes)))
    return [*document, Block("text", _RULES[verdict.kind])]


def sentence(verdict: Verdict) -> str:
    """A sentence that says what a gate compared with what, and what came of it."""
    where = f"`{verdict.current}` against `{verdict.baseline}`" + (f", {verdict.tier} tier" if verdict.tier else "")
    total = sum(verdict.compared.values())
    allowed = ", ".join(f"{metric} {numbers.given(value)}" for metric, value in sorted(verdict.tolerance.items()))
    tolerance = f" (tolerance: {allowed})" if allowed else ""
    if verdict.kind == "margins":
        counts = [
            f"{sum(f.outcome == what and not math.isnan(f.margin) for f in verdict.findings)} {what}"
            for what in _OUTCOMES
        ]
        tested = [finding for finding in verdict.findings if not math.isnan(finding.margin)]
        beside = len(verdict.findings) - len(tested)
        more = f"; {numbers.counted(beside, 'row')} moved without a margin" if beside else ""
        return f"{where}: {len(tested)} tests of no worse than the margin: {', '.join(counts)}{more}{tolerance}."
    changed, rows = sum(f.changed for f in verdict.findings), {(f.protocol, f.row) for f in verdict.findings}
    inside = f", in {numbers.counted(len(rows), 'row')}" if rows else ""
    protocols = ", ".join(verdict.compared) or "no protocol"
    return f"{where}: {changed} of {total} scores changed{inside} ({protocols}){tolerance}."


_OUTCOMES = ("pass", "regression", "inconclusive")
_HEAD = tuple(map(Cell, ("protocol", "row", "metric", "verdict", "changed", "clusters", "effect [interval]")))
_SAMPLE_HEAD = tuple(
    map(Cell, ("row", "metric", "case", "seed", "before", "after", "difference", "what differs")),
)


def _cut(lines: Sequence[str]) -> list[str]:
    more = len(lines) - _SHOWN
    return [*lines[:_SHOWN], *([f"and {more} more: see verdict.json"] if more > 0 else [])]


def _line(finding: Finding) -> list[Cell]:
    margin = (
        "" if math.isnan(finding.margin) else f" (margin {numbers.given(finding.margin)}{_percent(finding.effect)})"
    )
    return [
        Cell(f"{finding.protocol} ({finding.cases})"),
        Cell(_row(finding), code=True),
        Cell(finding.metric, code=True),
        Cell(finding.outcome, bold=finding.outcome != "pass"),
        Cell(f"{finding.changed}/{finding.of}"),
        Cell(str(finding.effect.clusters)),
        Cell(_effect(finding.effect) + margin + (f" ({finding.note})" if finding.note else "")),
    ]


def _row(finding: Finding) -> str:
    return f"{finding.row} r{finding.replica}" if finding.replica else finding.row


def _effect(contrast: stats.Contrast) -> str:
    if math.isnan(contrast.effect):
        return f"{numbers.ABSENT} ({contrast.reason})"
    text = numbers.signed(contrast.effect, contrast.low, contrast.high) + _percent(contrast)
    return f"{text} ({contrast.reason})" if math.isnan(contrast.low) else text


def _percent(contrast: stats.Contrast) -> str:
    return " %" if contrast.scale == "log" else ""


def _samples(finding: Finding) -> list[list[Cell]]:
    return [
        [
            Cell(_row(finding), code=True), Cell(finding.metric, code=True), Cell(sample.case, code=True),
            Cell(str(sample.seed)), *(Cell(numbers.digits(x)) for x in (sample.before, sample.after)),
            Cell(numbers.signed(sample.difference, math.nan, math.nan)), Cell(sample.differs),
        ]
        for sample in finding.worst
    ]  # fmt: skip
