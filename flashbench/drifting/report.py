"""What `drift` found, to read and to keep: a document, and verdict.json in the schema of `verdicts`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from flashbench.drifting import plan, signs
from flashbench.drifting.drift import Drift, Row
from flashbench.errors import on_disk
from flashbench.reporting import verdicts
from flashbench.reporting.document import Block, Cell, markdown
from flashbench.reporting.numbers import ABSENT, counted, digits
from flashbench.store import write_whole


def blocks(found: Drift) -> list[Block]:
    """The report as a document."""
    document = [Block("heading", f"Drift: {found.verdict}"), Block("text", sentence(found))]
    if found.problems:
        document.append(Block("notes", notes=found.problems))
    if found.rows:
        document.append(Block("grid", grid=[_HEAD, *map(_line, found.rows)], columns="lrrrrrrl"))
        lines = [f"{row.metric}: undecided: {row.reason}." for row in found.rows if row.reason]
        lines += [f"{row.metric}: farthest: {', '.join(row.worst)}." for row in found.rows if row.outcome == "beyond"]
        if lines:
            document.append(Block("notes", notes=lines))
    document += [Block("text", note) for note in found.notes]
    return [*document, Block("text", _legend(found))] if found.rows else document


def sentence(found: Drift) -> str:
    """What was compared, and how many pairs are the same clip."""
    text = f"`{found.candidate}` against `{found.baseline}`, {counted(found.pairs, 'pair')} by name"
    text += f", {found.identical} of them identical"
    if found.again:
        text += f"; the baseline run again (`{found.again}`): {found.identical_again} identical"
    return f"{text}."


def planned(aims: Sequence[plan.Aim], spread: tuple[float, float], alpha: float, tests: int) -> list[Block]:
    """A plan as a document."""
    head = [Cell(text) for text in ("change", "power", "prompts")]
    grid = [head]
    for aim in aims:
        prompts = str(aim.prompts) if aim.prompts is not None else f"more than {plan.MOST}"
        grid.append([Cell(f"+{aim.change:g} %"), Cell(f"{100 * aim.power:g} %"), Cell(prompts)])
    text = (
        f"One seed a prompt; 90 % of a prompt's distances between runs of one engine in {spread[0]:g} … {spread[1]:g}, "
        f"the rest far out (Student's t of 3 degrees of freedom on the logarithm); one-sided α {alpha:g} over "
        f"{counted(tests, 'metric')}; simulated by the test itself. Under {signs.least(alpha, tests)} prompts nothing "
        "can be beyond. What all clips of a run share is no spread between prompts: see docs/drift.md."
    )
    return [Block("heading", "Prompts that a test of drift needs"), Block("grid", grid=grid), Block("text", text)]


def to_json(found: Drift) -> str:
    """Content of verdict.json: a row for each metric, the outcome within, beyond or undecided."""
    about = {
        "verdict": found.verdict, "again": found.again, "pairs": found.pairs, "identical": found.identical,
        "identical_again": found.identical_again, "alpha": found.alpha, "excluded_ratio": found.most,
    }  # fmt: skip
    return verdicts.to_json(
        "drift", found.status, baseline=found.baseline, current=found.candidate, rows=[vars(row) for row in found.rows],
        problems=found.problems, notes=found.notes, about=about,
    )  # fmt: skip


def write(found: Drift, out: Path) -> None:
    """Write drift.md and verdict.json into the folder `out`, each whole or not at all.

    Raises:
        InvalidError: it cannot be written.
    """
    with on_disk(f"{out} cannot be written", fix="give another folder in --out"):
        out.mkdir(parents=True, exist_ok=True)
        for name, content in {"drift.md": markdown(blocks(found)), verdicts.VERDICT: to_json(found)}.items():
            write_whole(out / name, content.encode(), draft=out / f".{name}.part")


_HEAD = [
    Cell(text) for text in ("metric", "candidate", "run again", "ratio", "margin", "p (Holm)", "p within", "verdict")
]


def _line(row: Row) -> list[Cell]:
    numbers = (row.candidate, row.again, row.ratio, row.margin, row.adjusted, row.p_within)
    texts = [ABSENT if math.isnan(number) else digits(number) for number in numbers]
    return [Cell(row.metric, code=True), *map(Cell, texts), Cell(row.outcome, bold=row.outcome == "beyond")]


def _legend(found: Drift) -> str:
    return (
        "Distances from the baseline, means over prompts: for psnr the root of the mean squared error in levels, of a "
        "similarity 1 − it, of a metric of single clips the mean difference of frames. Ratio: candidate to run again. "
        f"Beyond: farther than the baseline run again (signs of prompts turned, one-sided, Holm ≤ {found.alpha:g}) "
        f"or than the margin. Within: {found.most:g} times as far, or as far as the margin, is excluded at "
        f"{found.alpha:g}. Undecided is not within."
    )
