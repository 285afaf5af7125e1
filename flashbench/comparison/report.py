"""What a comparison found, in words: one sentence per metric, and the document that `flashbench compare` prints."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

from flashbench.comparison.verdict import Compared, Result, sentence, texts
from flashbench.errors import on_disk
from flashbench.reporting import verdicts
from flashbench.reporting.document import Block, Cell, latex, markdown
from flashbench.reporting.numbers import UNDEFINED, counted, named
from flashbench.scores.runs import COMPARISON
from flashbench.store import write_whole


def blocks(comparison: Compared) -> list[Block]:
    """The report as a document: verdicts, the grid of numbers, what was paired, how to read it."""
    others = list(comparison.pairings)
    document = [Block("heading", f"{', '.join(others)} against {comparison.baseline}")]
    for label in others:
        results = [result for result in comparison.results if result.other == label]
        shown = [result for result in results if result.n]
        lines = [sentence(result, comparison.units) for result in shown]
        if len(others) > 1:
            document.append(Block("subheading", f"{label} against {comparison.baseline}"))
        if shown:
            document += [
                *(Block("text", line) for line in _summaries(label, shown)),
                Block("notes", notes=lines),
                Block("grid", grid=_grid(shown, comparison.baseline, label), columns="lrrrrrrl"),
            ]
        if absent := _absent([result for result in results if not result.n]):
            document += [Block("text", "Not compared, because no pair has a score of both:"), absent]
        document.append(Block("text", " ".join(comparison.pairings[label].describe(comparison.baseline, label))))
    if comparison.unreadable:
        document += [Block("subheading", "Not read, or not whole"), Block("notes", notes=comparison.unreadable)]
    document += [Block("text", note) for note in comparison.notes]
    return [*document, Block("text", _legend(comparison))]


def _summaries(label: str, results: list[Result]) -> list[str]:
    """How often each verdict was given: by the metrics that decide, and by the others."""
    lines = []
    exploratory = [result for result in results if not result.primary and not math.isnan(result.p)]
    for what, part in (
        ("metric", [result for result in results if result not in exploratory and result.verdict != "shown"]),
        ("exploratory metric", exploratory),
    ):
        if part:
            counts = Counter(result.verdict for result in part)
            summary = ", ".join(f"{verdict} on {count}" for verdict, count in counts.items())
            lines.append(f"{label}, of {counted(len(part), what)}: {summary}.")
    return lines


def _absent(results: list[Result]) -> Block | None:
    """Metrics without any pair, together where the reason is one."""
    reasons: dict[str, list[str]] = {}
    for result in results:
        reasons.setdefault(result.reason, []).append(result.metric)
    return Block("notes", notes=[f"{', '.join(names)}: {why}" for why, names in reasons.items()]) if reasons else None


def to_csv(comparison: Compared) -> str:
    """The results as CSV: floats exact, `nan` and `inf` spelled out."""
    return str(comparison.table.to_csv(index=False, lineterminator="\n", na_rep="nan"))


def to_json(comparison: Compared) -> str:
    """Content of verdict.json: a row for each metric and run, the outcome better, worse, undecided and so on."""
    rows = [
        {"outcome" if name == "verdict" else str(name): value for name, value in line.items()}
        for line in comparison.table.to_dict("records")
    ]
    deciding = list(dict.fromkeys(result.metric for result in comparison.deciding))
    return verdicts.to_json(
        "compare", comparison.status, baseline=comparison.baseline, current=", ".join(comparison.pairings), rows=rows,
        problems=comparison.unreadable, gaps=comparison.gaps, notes=comparison.notes,
        about={"units": comparison.units, "deciding": deciding},
    )  # fmt: skip


def summary(comparison: Compared) -> str:
    """The status in a line: what is worse, or undecided."""
    named = {
        word: ", ".join(dict.fromkeys(f"{x.metric} of {x.other}" for x in comparison.deciding if x.verdict == word))
        for word in ("worse", "undecided", "none", "differs")
    }
    told = [f"{'no verdict' if word == 'none' else word} on {names}" for word, names in named.items() if names]
    return "; ".join([f"Status: {comparison.status}", *told, *comparison.gaps])


def write(comparison: Compared, out: Path) -> None:
    """Write compare.md, .tex, .csv and .json and verdict.json into the folder `out`, each whole or not at all.

    Raises:
        InvalidError: it cannot be written.
    """
    document = blocks(comparison)
    with on_disk(f"{out} cannot be written", fix="give another folder in --out"):
        out.mkdir(parents=True, exist_ok=True)
        for name, content in {
            "compare.md": markdown(document),
            "compare.tex": latex(document),
            "compare.csv": to_csv(comparison),
            verdicts.VERDICT: to_json(comparison),
            COMPARISON: json.dumps(comparison.record(), indent=1, ensure_ascii=False) + "\n",
        }.items():
            write_whole(out / name, content.encode(), draft=out / f".{name}.part")


def write_draft(draft: str, out: Path) -> str:
    """Write a draft of a manifest into the folder `out`, over no file; returns what to tell of it.

    Raises:
        InvalidError: it cannot be written.
    """
    with on_disk(f"{out} cannot be written", fix="give another folder in --out"):
        out.mkdir(parents=True, exist_ok=True)
        path, number = out / "pairs.csv", 1
        while path.exists():
            number += 1
            path = out / f"pairs-{number}.csv"
        write_whole(path, draft.encode(), draft=out / f".{path.name}.part")
    return f"a draft is in {path}: put its lines right and give it to --pairs"


def _grid(results: list[Result], baseline: str, other: str) -> list[list[Cell]]:
    how = "p (Holm)" if all(result.primary for result in results if not math.isnan(result.p)) else "p (adjusted)"
    head = ["metric", baseline, other, "difference", "95 % interval", how, "pairs", "verdict"]
    grid = [[Cell(text) for text in head]]
    for result in results:
        *values, low, high, p = texts(result)
        bounds = UNDEFINED if math.isnan(result.low) else f"[{low}, {high}]"
        if result.effect_unit != result.unit:
            values[-1], bounds = f"{values[-1]} {result.effect_unit}", f"{bounds} {result.effect_unit}"
        pairs = f"{result.n}" if result.n == result.of else f"{result.n}/{result.of}"
        name = named(result.metric, result.direction, result.unit)
        cells = [*map(Cell, (name, *values, bounds, p.removeprefix("= "), pairs))]
        word = result.verdict if result.primary or math.isnan(result.p) else f"{result.verdict} (exploratory)"
        grid.append([*cells, Cell(word, bold=result.primary and result.verdict in ("better", "worse"))])
    return grid


def _legend(comparison: Compared) -> str:
    tested = [result for result in comparison.results if not math.isnan(result.p)]
    tests = sum(result.primary for result in tested)
    text = (
        f"Paired by clip; unit of statistics: {comparison.units}; 95 % intervals (Student's t over {comparison.units}; "
        f"shares: Tango's, tested by turning signs; set metrics: jackknife, t with and without Hall's correction for "
        f"skewness); p adjusted by Holm over {counted(tests, 'test')}"
    )
    if tests < len(tested):
        text += f", of the {len(tested) - tests} exploratory ones by Benjamini and Hochberg"
    text += "; better, worse, differs: adjusted p < 0.05. Values are over the pairs in which both have a score."
    if any(result.effect_unit != result.unit for result in comparison.results):
        text += " Differences in % are changes of geometric means, their t on logarithms."
    if any(not math.isnan(result.margin) for result in comparison.results):
        text += (
            " No worse: the worse end of the two-sided 95 % interval is within the margin, a one-sided test of "
            "non-inferiority at 2.5 %, each metric by itself."
        )
    if any(result.worst for result in comparison.results):
        text += " At worst: every lost clip scored as the clip of either run that is worst for the verdict."
    if any(result.verdict == "undecided" for result in comparison.results):
        text += (
            f" Undecided is not equal; numbers of {comparison.units} needed: 80 % power at the first step of the "
            "family, the spread seen here."
        )
    return text
