"""What a comparison found, in words: one sentence per metric, and the document that `flashbench compare` prints."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

from flashbench.comparison.verdict import Compared, Result, sentence, texts
from flashbench.errors import on_disk
from flashbench.reporting.document import Block, Cell, latex, markdown
from flashbench.reporting.numbers import UNDEFINED, counted, named
from flashbench.store import write_whole


def blocks(found: Compared) -> list[Block]:
    """The report as a document: verdicts, the grid of numbers, what was paired, how to read it."""
    others = list(found.pairings)
    document = [Block("heading", f"{', '.join(others)} against {found.baseline}")]
    for label in others:
        results = [result for result in found.results if result.other == label]
        shown = [result for result in results if result.n]
        lines = [sentence(result, found.units) for result in shown]
        if len(others) > 1:
            document.append(Block("subheading", f"{label} against {found.baseline}"))
        if shown:
            counts = Counter(result.verdict for result in shown)
            summary = ", ".join(f"{verdict} on {count}" for verdict, count in counts.items())
            document += [
                Block("text", f"{label}, of {counted(len(shown), 'metric')}: {summary}."),
                Block("notes", notes=lines),
                Block("grid", grid=_grid(shown, found.baseline, label), columns="lrrrrrrl"),
            ]
        if absent := _absent([result for result in results if not result.n]):
            document += [Block("text", "Not compared, because no pair has a score of both:"), absent]
        document.append(Block("text", " ".join(found.pairings[label].describe(found.baseline, label))))
    if found.unreadable:
        document += [Block("subheading", "Not read, or not whole"), Block("notes", notes=found.unreadable)]
    document += [Block("text", note) for note in found.notes]
    return [*document, Block("text", _legend(found))]


def _absent(results: list[Result]) -> Block | None:
    """Metrics without any pair, together where the reason is one."""
    reasons: dict[str, list[str]] = {}
    for result in results:
        reasons.setdefault(result.reason, []).append(result.metric)
    return Block("notes", notes=[f"{', '.join(names)}: {why}" for why, names in reasons.items()]) if reasons else None


def to_csv(found: Compared) -> str:
    """The results as CSV: floats exact, `nan` and `inf` spelled out."""
    return str(found.table.to_csv(index=False, lineterminator="\n", na_rep="nan"))


def write(found: Compared, out: Path) -> None:
    """Write compare.md, compare.tex and compare.csv into the folder `out`, each whole or not at all.

    Raises:
        InvalidError: it cannot be written.
    """
    document = blocks(found)
    with on_disk(f"{out} cannot be written", fix="give another folder in --out"):
        out.mkdir(parents=True, exist_ok=True)
        for name, content in {
            "compare.md": markdown(document),
            "compare.tex": latex(document),
            "compare.csv": to_csv(found),
        }.items():
            write_whole(out / name, content.encode(), draft=out / f".{name}.part")


def _grid(results: list[Result], baseline: str, other: str) -> list[list[Cell]]:
    head = ["metric", baseline, other, "difference", "95 % interval", "p (Holm)", "pairs", "verdict"]
    grid = [[Cell(text) for text in head]]
    for one in results:
        *values, low, high, p = texts(one)
        bounds = UNDEFINED if math.isnan(one.low) else f"[{low}, {high}]"
        pairs = f"{one.n}" if one.n == one.of else f"{one.n}/{one.of}"
        name = named(one.metric, one.direction, one.unit)
        cells = [*map(Cell, (name, *values, bounds, p.removeprefix("= "), pairs))]
        grid.append([*cells, Cell(one.verdict, bold=one.verdict in ("better", "worse"))])
    return grid


def _legend(found: Compared) -> str:
    tests = sum(not math.isnan(result.p) for result in found.results)
    text = (
        f"Paired by clip; unit of statistics: {found.units}; 95 % intervals (Student's t over {found.units}; set "
        f"metrics: delete-one-cluster jackknife-t); p adjusted by Holm over {counted(tests, 'test')}; better, "
        "worse, differs: adjusted p < 0.05. Values are over the pairs in which both have a score."
    )
    if any(not math.isnan(result.margin) for result in found.results):
        text += (
            " No worse: the worse end of the two-sided 95 % interval is within the margin, a one-sided test of "
            "non-inferiority at 2.5 %, each metric by itself."
        )
    if any(result.verdict == "undecided" for result in found.results):
        text += f" Undecided is not equal; numbers of {found.units} needed: 80 % power, one test, the spread seen here."
    return text
