"""What a comparison found, in words: one sentence per metric, and the document that `flashbench compare` prints."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

from flashbench import stats
from flashbench.errors import on_disk
from flashbench.reporting.markup import Block, Cell, latex, markdown
from flashbench.store import write_whole
from flashbench.videos.compare import Compared
from flashbench.videos.paired import MOST_CLUSTERS, Result
from flashbench.videos.pairing import counted

ARROW = {"higher": "↑", "lower": "↓", "none": ""}


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
        f"{result.margin:g}",
        "differs": f"{result.other} differs from {result.baseline} on {result.metric}, which has no better or worse",
        "equal": f"{result.other} and {result.baseline} are equal on {result.metric} in every pair",
        "undecided": f"{pair} is undecided on {result.metric}",
    }[result.verdict]
    if result.verdict == "undecided" and result.direction == "none":
        opening = f"No difference between {result.other} and {result.baseline} is resolved on {result.metric}"
    return f"{opening}: {_numbers(result, units)}{_ending(result, units)}."


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


def _numbers(result: Result, units: str) -> str:
    places = _places(result)
    unit = f" {result.unit}" if result.unit and not result.unit.startswith("×") else ""
    values = f"{_number(result.other_value, places)} against {_number(result.baseline_value, places)}{unit}"
    interval = f"[{_number(result.low, places)}, {_number(result.high, places)}]"
    pairs = counted(result.of, "pair") if result.n == result.of else f"{result.n} of {counted(result.of, 'pair')}"
    if result.clusters != result.n:
        pairs += f" of {counted(result.clusters, units.removesuffix('s'))}"
    return f"{values}, difference {_number(result.effect, places)} {interval}, {_p(result)}, {pairs}"


def _ending(result: Result, units: str) -> str:
    if result.verdict == "no worse" and result.adjusted < 1 - stats.LEVEL:
        return "; it is worse, by less than the margin"
    if result.verdict != "undecided":
        return ""
    if math.isinf(result.needed):
        return f"; more than {MOST_CLUSTERS:,} {units} would be needed to resolve so small a difference"
    if result.p < 1 - stats.LEVEL:
        return "; tested alone it would be resolved, among so many tests it is not: name fewer metrics beforehand"
    return f"; needs about {_rounded(result.needed):,} {units} to resolve a difference of this size"


def _rounded(count: float) -> int:
    """Two significant digits, upwards: more would claim to know the spread better than one sample does."""
    step: int = 10 ** max(math.floor(math.log10(count)) - 1, 0)
    return math.ceil(count / step) * step


def _p(result: Result) -> str:
    p = result.adjusted
    if p < 0.001:
        return "p < 0.001 (Holm)"
    return f"p = {p:.3f} (Holm)" if p < 0.1 else f"p = {p:.2f} (Holm)"


def _grid(results: list[Result], baseline: str, other: str) -> list[list[Cell]]:
    head = ["metric", baseline, other, "difference", "95 % interval", "p (Holm)", "pairs", "verdict"]
    grid = [[Cell(text) for text in head]]
    for one in results:
        places = _places(one)
        texts = [_number(one.baseline_value, places), _number(one.other_value, places), _number(one.effect, places)]
        bounds = "n/a" if math.isnan(one.low) else f"[{_number(one.low, places)}, {_number(one.high, places)}]"
        p = "n/a" if math.isnan(one.adjusted) else _p(one).removeprefix("p ").removeprefix("= ").removesuffix(" (Holm)")
        unit = f" ({one.unit})" if one.unit else ""
        name = f"{one.metric} {ARROW[one.direction]}".strip() + unit
        pairs = f"{one.n}" if one.n == one.of else f"{one.n}/{one.of}"
        cells = [Cell(name), *map(Cell, texts), Cell(bounds), Cell(p), Cell(pairs)]
        grid.append([*cells, Cell(one.verdict, bold=one.verdict in ("better", "worse"))])
    return grid


def _legend(found: Compared) -> str:
    tests = sum(not math.isnan(result.p) for result in found.results)
    text = (
        f"Paired by clip; unit of statistics: {found.units}; 95 % intervals (Student's t over {found.units}; set "
        f"metrics: delete-one-cluster jackknife-t); p adjusted by Holm over {tests} test{'s' * (tests != 1)}; better, "
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


def _places(result: Result) -> int:
    """Decimals that show two digits of half the interval, or of the values where there is none."""
    half = (result.high - result.low) / 2
    size = half if half > 0 and math.isfinite(half) else max(abs(result.baseline_value), abs(result.other_value)) / 100
    return min(max(1 - math.floor(math.log10(size)), 0), 6) if size > 0 and math.isfinite(size) else 3


def _number(value: float, places: int) -> str:
    if math.isnan(value):
        return "n/a"
    text = f"{value:.{places}f}".replace("inf", "∞")
    return text.removeprefix("-") if not text.strip("-0.") else text
