"""Tables of a protocol: one long table of numbers, and what people read made from it (Markdown, LaTeX, CSV, JSON).

Nothing here measures or tests anything: estimates and comparisons come from `flashbench.stats`. All output is the same
byte for byte for the same scores, in whatever order they come; it carries no time and no name of a machine.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from flashbench import stats
from flashbench.data import prompts
from flashbench.metrics.base import Metric
from flashbench.protocol.cases import of_part
from flashbench.protocol.published import VERSIONS
from flashbench.protocol.types import Protocol, Subset
from flashbench.reporting import numbers, vbench_table
from flashbench.reporting.document import Block, Cell, Notes, fitted, latex, markdown

COLUMNS = (
    "tier", "protocol", "cases", "row", "replica", "metric", "unit", "direction", "value", "low", "high", "n", "of",
    "clusters", "published_v1", "published_v4", "reason",
)  # fmt: skip
_NUMBERS = ("value", "low", "high", *(f"published_{version}" for version in VERSIONS))
_ESTIMATED = ("value", "low", "high", "n", "of", "clusters", "reason")
CONTROLS = ("original", "codec", "bicubic", "bicubic_back_projection", "unsharp", "noise", "l1")
ORACLES = ("original", "codec")
"""Controls made from the reference itself: shown, but not in the contest for the best of a column."""

Comparisons = Mapping[int, Sequence[stats.Comparison]]
"""Replica → comparisons with the baseline, on one set of cases."""
Lines = Mapping[tuple[str, str], Mapping[str, Any]]
"""(row, metric) → line of the long table."""


def is_control(row: str) -> bool:
    """Whether a row is one of the controls (`bicubic`), which say what a metric can be trusted with."""
    return row in CONTROLS


def build(protocol: Protocol, scores: pd.DataFrame) -> pd.DataFrame:
    """The long table: a line for each set of cases, replica, row and metric, in the protocol's order.

    Its own cases come first. Metrics that the paper published and the protocol does not measure follow with a NaN value
    and that reason, so that the published numbers always stand beside; rows of further sets have none. Row, metric and
    case order of `scores` play no part.
    """
    parts = [_part(vbench_table.view(part, of_part(part, scores))) for part in protocol.parts]
    return parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True)


def _part(view: vbench_table.View) -> pd.DataFrame:
    part, scores = view.part, view.scores
    absent = {"n": 0, "of": len(part.cases), "clusters": 0, "reason": f"not scored at the {part.tier} tier"}
    names = [*part.metric_names, *_published_only(part)]
    lines = []
    for replica, variant, name in itertools.product(_replicas(scores), part.variants, names):
        line: dict[str, Any] = dict(tier=part.tier, protocol=part.name, cases=part.case_set, row=variant.row)
        line |= {"replica": replica, "metric": name} | dict.fromkeys(_NUMBERS, math.nan)
        for version, published in part.published.items():
            line[f"published_{version}"] = published.get(variant.row, {}).get(name, math.nan)
        if name in part.metric_names:
            metric = part.metric(name)
            estimate = stats.estimate(scores, metric, variant.row, replica=replica, of=view.of[name])
            line |= {"unit": metric.unit, "direction": metric.direction} | {
                key: getattr(estimate, key) for key in _ESTIMATED
            }
        else:
            printed = part.published_metrics[name]
            line |= {"unit": printed.unit, "direction": printed.direction, **absent}
        lines.append(line)
    return pd.DataFrame(lines, columns=list(COLUMNS))


def comparisons(protocol: Protocol, scores: pd.DataFrame) -> dict[str, dict[int, list[stats.Comparison]]]:
    """Set of cases → replica → every row against the baseline on every measured metric, adjusted for their number."""
    all_tests: dict[str, dict[int, list[stats.Comparison]]] = {}
    for part in protocol.parts:
        view = vbench_table.view(part, of_part(part, scores))
        rows = [variant.row for variant in part.variants]
        all_tests[part.case_set] = {
            replica: stats.against_baseline(
                view.scores, view.part.metrics, rows, part.baseline, view.part.primary, replica=replica
            )
            for replica in _replicas(view.scores)
        }
    return all_tests


def to_csv(table: pd.DataFrame) -> str:
    """The long table as CSV: floats exact (shortest digits that read back the same), `nan` and `inf` spelled out."""
    return str(table.to_csv(index=False, lineterminator="\n", na_rep="nan"))


def to_markdown(protocol: Protocol, table: pd.DataFrame, found: Mapping[str, Comparisons]) -> str:
    """The table to read: rows × metrics with their intervals, then the paper's numbers."""
    return markdown(_blocks(protocol, table, found))


def to_latex(protocol: Protocol, table: pd.DataFrame, found: Mapping[str, Comparisons]) -> str:
    """The table that `to_markdown` writes, as LaTeX for the package booktabs."""
    return latex(_blocks(protocol, table, found))


def _blocks(protocol: Protocol, table: pd.DataFrame, all_tests: Mapping[str, Comparisons]) -> list[Block]:
    of_paper = f" ({protocol.table} of the paper)" if protocol.table else ""
    blocks = [Block("heading", f"{protocol.title}{of_paper}, {protocol.tier} tier")]
    for part in map(vbench_table.shown, protocol.parts):
        own, tests = table[table["cases"] == part.case_set], all_tests[part.case_set]
        if part.set_name:
            about = _EXPLORATORY if part.kind == "prompts" else _FURTHER
            blocks += [Block("subheading", part.title), Block("text", about)]
        blocks += _measured_blocks(part, own, tests)
        blocks += _published_blocks(part)
        if part.subset is not None:
            blocks.append(Block("text", _prompts(part, part.subset)))
    notice = [Block("text", protocol.notice)] if protocol.notice else []
    return [*blocks, Block("text", _LEGEND), *notice, Block("text", _footer(protocol, all_tests))]


def _measured_blocks(part: Protocol, table: pd.DataFrame, all_tests: Comparisons) -> list[Block]:
    blocks = _over_replicas(part, table, all_tests) if len(all_tests) > 1 else []
    for replica, tests in all_tests.items():
        if len(all_tests) > 1:
            blocks.append(Block("subheading", _headed(part, f"replica {replica}")))
        notes = Notes()
        lines = {(line["row"], line["metric"]): line for line in records(table, replica=replica)}
        rows, names = _valued(part, lines.values())
        grids = fitted(_grid(part, rows, names, lines, tests, notes)) if rows else []
        told = Block("notes", notes=[*notes.lines(), *_corrected(part)])
        blocks += [Block("text", _sentence(part, tests)), *grids, told]
        if absent := _absent(part, rows, names, lines):
            blocks += [Block("text", "Without a value, and so not in the table:"), Block("notes", notes=absent)]
    return blocks


def _valued(part: Protocol, lines: Iterable[Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """The rows, and the metrics, that have any value, in their order."""
    known = {(line["row"], line["metric"]) for line in lines if not math.isnan(line["value"])}
    rows = [variant.row for variant in part.variants if any((variant.row, name) in known for name in part.metric_names)]
    return rows, [name for name in part.metric_names if any((row, name) in known for row in rows)]


def _absent(part: Protocol, rows: Sequence[str], names: Sequence[str], lines: Lines) -> list[str]:
    """Why the other metrics, and the other rows, have no value; together where the reason is one."""
    every = [variant.row for variant in part.variants]
    reasons: dict[str, list[str]] = {}
    for name in (name for name in part.metric_names if name not in names):
        why = dict.fromkeys(lines[row, name]["reason"] for row in rows or every)
        reasons.setdefault("; ".join(why), []).append(f"`{name}`")
    for row in (row for row in every if row not in rows and names):
        why = dict.fromkeys(lines[row, name]["reason"] for name in names)
        reasons.setdefault("; ".join(why), []).append(f"`{row}`")
    return [f"{', '.join(things)}: {why}" for why, things in reasons.items()]


def _headed(part: Protocol, text: str) -> str:
    """A subheading of the protocol's own cases, or of a further set, whose title stands before it."""
    return f"{part.title}, {text}" if part.set_name else text[0].upper() + text[1:]


def _corrected(part: Protocol) -> list[str]:
    """Notes on the rows of each recipe that corrects its clips, and on those that are means (`laptop.corrections`)."""
    rows: dict[str, list[str]] = {}
    for variant in part.variants:
        for recipe in variant.system.models(variant.settings):
            rows.setdefault(recipe, []).append(f"`{variant.row}`")
    notes = []
    for recipe, names in rows.items():
        what = [words for field, words in _CORRECTIONS.items() if part.recipes.get(recipe, {}).get(field)]
        if what:
            owner = "its" if len(names) == 1 else "their"
            notes.append(f"{', '.join(names)}: {owner} clips have {' and '.join(what)} (recipe `{recipe}`).")
    for shifts in sorted({int(str(variant.settings.get("shifts", 1))) for variant in part.variants} - {1}):
        names = [f"`{variant.row}`" for variant in part.variants if variant.settings.get("shifts", 1) == shifts]
        means = f"means over {shifts} places of the codec's grid, with evaluations at each"
        notes.append(f"{', '.join(names)}: {means}, less what repeats from place to place.")
    return notes


_CORRECTIONS = {"codec_residual": "the codec's residual added", "back_projection": "one back-projection"}
"""Field of a recipe to what its clips have."""
_FURTHER = "A further set of cases, with its own baseline and comparisons. Decides no claim."
_EXPLORATORY = (
    "Exploratory: no reference to compare with, one clip of Stage I for each prompt, which all rows enhance, and few "
    "prompts. Decides no claim."
)


def _prompts(part: Protocol, subset: Subset) -> str:
    """What part of its suite the prompts are, what clips are generated from, how often, and how long they are."""
    which = f"all {subset.of} prompts" if subset.chosen == subset.of else f"the first {subset.chosen} of {subset.of}"
    text = f"Prompts: {which} of the suite `{subset.suite}` in its fixed order, subset {subset.hash[:12]}."
    text += f" {_form(part)}; {_seeds(part)}; {numbers.counted(part.geometry.frames, 'frame')} a clip."
    if not subset.suite.startswith(prompts.VBENCH):
        return f"{text} They are none of VBench's."
    return text if subset.chosen == subset.of else f"{text} No score of a part of VBench's suite is a VBench score."


def _form(part: Protocol) -> str:
    """What a clip is generated from: the prompt as it is, or its rewrite by a model that is named where it is known."""
    chosen = {case.prompt.id: case.prompt for case in part.cases if case.prompt}
    rewritten = sum(prompt.text != prompt.original for prompt in chosen.values())
    if not rewritten:
        return "Clips are generated from the prompts as they are, without a rewrite"
    which = "them" if rewritten == len(chosen) else f"{rewritten} of them"
    name = str(part.case_fields.get("rewrite") or "")
    by = f" (`{name}`, by {prompts.REWRITERS[name]})" if name in prompts.REWRITERS else " (the file's own)"
    return f"Clips are generated from rewrites of {which}{by}, and scored against the prompts as they are"


def _seeds(part: Protocol) -> str:
    """Which seeds: of each prompt, or of how many prompts."""
    each: dict[str, set[int]] = {}
    for case in part.cases:
        each.setdefault(case.cluster, set()).add(case.seed)
    groups = Counter(tuple(sorted(seeds)) for seeds in each.values())
    phrases = [
        f"{_range(seeds)} of {'each' if len(groups) == 1 else numbers.counted(count, 'prompt')}"
        for seeds, count in sorted(groups.items())
    ]
    return " and ".join(phrases)


def _range(seeds: Sequence[int]) -> str:
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"{len(seeds)} seeds ({seeds[0]} to {seeds[-1]})"


_LEGEND = (
    "Value ± half of its 95 % interval, or value [low, high] in a column where one is uneven about its value. † "
    "differs from the baseline after the adjustment (p < 0.05); `original` is not tested on metrics that compare with "
    "it. Bold: the best of its column (`original` and `codec`, made from the reference, do not compete), where the "
    "test resolves it from the baseline, or resolves the baseline from the runner-up. n/a: undefined for the reason in "
    "the note. A column whose head says of how many clips it is holds values of all of them together, which move with "
    "their number: each interval is for that number, and a row of other clips is not compared."
)
_PUBLISHED = (
    "Published quality is of the paper's own material, size and number of frames: that a number equals ours is a "
    "coincidence, only contrasts compare. v1 and v4 print the same where no version is named; –: not in the paper's "
    "table."
)


def _sentence(protocol: Protocol, tests: Sequence[stats.Comparison]) -> str:
    tested = [(t.contrast.first, t.contrast.metric, t.resolved) for t in tests if not math.isnan(t.adjusted)]
    phrases = [
        f"{_count([(row, yes) for row, metric, yes in tested if metric == name])} differ from the baseline "
        f"`{protocol.baseline}` on `{name}`"
        for name in protocol.primary
    ]
    text = f"{'; '.join(phrases)} (primary, Holm)."
    if others := [(row, yes) for row, metric, yes in tested if metric not in protocol.primary]:
        text += f" On the other metrics {_count(others, 'differences of ')} are resolved (Benjamini–Hochberg)."
    if absent := sum(math.isnan(t.adjusted) for t in tests):
        text += f" {absent} more could not be tested."
    own, sizes = [t.contrast for t in tests if not is_control(t.contrast.first)], []
    family = sum(t.primary and not math.isnan(t.adjusted) for t in tests)
    for name in protocol.primary:
        metric = protocol.metric(name)
        found = [c for c in own if c.metric == name and c.se > 0]
        least = [stats.least_found(c, metric, tests=max(family, 1)) for c in found]
        if known := [size for size in least if size > 0]:
            unit = " %" if protocol.metric(name).scale == "log" else ""
            sizes.append(f"{numbers.digits(float(np.median(known)), 2)}{unit} on `{name}`")
    if sizes:
        text += (
            f" Smallest difference found with 80 % power at Holm's first step over {numbers.counted(family, 'test')}, "
        )
        text += f"median over rows: {', '.join(sizes)}."
    return text


def _count(marks: Iterable[tuple[str, bool]], of: str = "") -> str:
    """`1 of 7 rows and 6 of 6 controls` from (row, whether it counts): own rows first, controls apart."""
    groups: dict[str, list[bool]] = {"rows": [], "controls": []}
    for row, yes in marks:
        groups["controls" if is_control(row) else "rows"].append(yes)
    return (
        " and ".join(f"{sum(flags)} of {len(flags)} {of}{group}" for group, flags in groups.items() if flags)
        or "no rows"
    )


def _grid(
    part: Protocol,
    rows: Sequence[str],
    names: Sequence[str],
    lines: Lines,
    tests: Sequence[stats.Comparison],
    notes: Notes,
) -> Block:
    """The grid of those rows and metrics: values with their intervals, and how many clips they stand on."""
    resolved = {(t.contrast.first, t.contrast.metric) for t in tests if t.resolved}
    apart = {(t.contrast.first, t.contrast.metric): t.apart for t in tests if t.apart}
    heads = (
        numbers.named(name, part.metric(name).direction, _measure(part.metric(name)))
        + _of(part, name, [lines[part.baseline, name]])
        for name in names
    )
    best = {
        name: _best(part, lines, name, resolved, {row for row, metric in apart if metric == name}) for name in names
    }
    columns = {name: [line for (_, metric), line in lines.items() if metric == name] for name in names}
    places = {name: _places(column) for name, column in columns.items()}
    halved = {name: all(numbers.even(*_bounds(line)) for line in column) for name, column in columns.items()}
    grid = [[Cell("row"), *map(Cell, heads), Cell("clips")]]
    for row in rows:
        cells, counts, undefined = [Cell(row, code=True)], [], ""
        for name in names:
            line = lines[row, name]
            text = numbers.estimate(*_bounds(line), places[name], halved=halved[name])
            text += " †" if (row, name) in resolved else ""
            reason = "; ".join(filter(None, (apart.get((row, name), ""), line["reason"])))
            cells.append(Cell(text + notes.mark(reason), bold=best[name] == row))
            missing = math.isnan(line["value"])
            undefined = undefined or (line["reason"] if missing else "")
            counts += [] if missing else [int(line["n"])]
        low, high, of = min(counts), max(counts), len(part.cases)
        text = f"{low}/{of}" if low == high else f"{low}–{high}/{of}"
        grid.append([*cells, Cell(text + notes.mark(undefined))])
    return Block("grid", grid=grid)


def _measure(metric: Metric) -> str:
    """A metric's unit, and what is meant by the mean of its clips."""
    geometric = "geometric mean" if metric.scale == "log" and not metric.pooled else ""
    return ", ".join(filter(None, (metric.unit, geometric)))


def _bounds(line: Mapping[str, Any]) -> tuple[float, float, float]:
    return line["value"], line["low"], line["high"]


def _of(protocol: Protocol, name: str, lines: Iterable[Mapping[str, Any]]) -> str:
    """`, of 34 clips`, behind the name or value of a metric that moves with their number; empty for any other."""
    if not protocol.metric(name).finite_sample_bias:
        return ""
    sizes = dict.fromkeys(stats.counted_clips(int(line["n"]), int(line["clusters"])) for line in lines)
    return f", of {' and '.join(sizes)}"


def _best(
    protocol: Protocol, part: Lines, name: str, resolved: set[tuple[str, str]], apart: Collection[str] = ()
) -> str | None:
    """The best row of a column, if the paired test resolves it; None otherwise. Rows `apart` do not compete."""
    sign = stats.SIGN[part[protocol.baseline, name]["direction"]]
    values = {v.row: sign * part[v.row, name]["value"] for v in protocol.variants if v.row not in {*ORACLES, *apart}}
    order = sorted((row for row in values if math.isfinite(values[row])), key=lambda row: -values[row])
    if sign == 0 or len(order) < 2:
        return None
    tested = order[1] if order[0] == protocol.baseline else order[0]
    return order[0] if (tested, name) in resolved else None


def _over_replicas(protocol: Protocol, table: pd.DataFrame, all_tests: Comparisons) -> list[Block]:
    """Mean and range over trainings, marked where every replica resolves the same sign."""
    signs: dict[tuple[str, str], set[int]] = {}
    for t in (t for tests in all_tests.values() for t in tests if not math.isnan(t.adjusted)):
        sign = int(np.sign(t.contrast.effect)) if t.resolved else 0
        signs.setdefault((t.contrast.first, t.contrast.metric), set()).add(sign)
    same = {key for key, values in signs.items() if values in ({1}, {-1})}
    rows, names = _valued(protocol, records(table))
    places = {name: _places(records(table, metric=name)) for name in names}
    baseline = {name: _of(protocol, name, records(table, row=protocol.baseline, metric=name)) for name in names}
    grid = [[Cell("row"), *(Cell(name + baseline[name]) for name in names)]]
    for row in rows:
        cells = [Cell(row, code=True)]
        for name in names:
            values = table[(table["row"] == row) & (table["metric"] == name)]["value"].dropna()
            text = numbers.UNDEFINED
            if len(values):
                mean, low, high = (numbers.number(x, places[name]) for x in (values.mean(), values.min(), values.max()))
                text = f"{mean} [{low}, {high}]" + (" †" if (row, name) in same else "")
                own = _of(protocol, name, records(table, row=row, metric=name))
                text += own if own != baseline[name] else ""
            cells.append(Cell(text))
        grid.append(cells)
    text = (
        f"Mean over {len(all_tests)} trainings, in brackets the lowest and the highest of them (a range, no interval). "
    )
    text += f"{_count([(key[0], key in same) for key in signs], 'differences of ')} from the baseline "
    text += f"`{protocol.baseline}`, on all metrics, are resolved with the same sign in every training (†)."
    head = Block("subheading", _headed(protocol, "over all replicas"))
    return [head, Block("text", text), *(fitted(Block("grid", grid=grid)) if rows else ())]


def _published_blocks(part: Protocol) -> list[Block]:
    """The paper's numbers of the rows: all of its metrics, whether they are measured here or not."""
    rows = [v.row for v in part.variants if any(part.published.get(version, {}).get(v.row) for version in VERSIONS)]
    names = [name for name in _quoted_names(part) if any(_versions(part, row, name) != numbers.ABSENT for row in rows)]
    if not names:
        return []
    printed = {name: part.metric(name) if name in part.metric_names else part.published_metrics[name] for name in names}
    heads = (Cell(numbers.named(name, printed[name].direction, printed[name].unit)) for name in names)
    grid = [[Cell("row"), *heads]]
    grid += [[Cell(row, code=True), *(Cell(_versions(part, row, name)) for name in names)] for row in rows]
    absent = [f"`{name}`" for name in names if name not in part.metric_names]
    text = f"{_PUBLISHED} Not scored at the {part.tier} tier: {', '.join(absent)}." if absent else _PUBLISHED
    head = Block("subheading", f"Published in {part.table}")
    return [head, Block("text", text), *fitted(Block("grid", grid=grid))]


def _versions(protocol: Protocol, row: str, name: str) -> str:
    """The paper's number: once if both versions agree, else each with its version; decimals as in its column."""
    columns = {
        v: {r: cells[name] for r, cells in protocol.published.get(v, {}).items() if name in cells} for v in VERSIONS
    }
    places = numbers.printed_places(x for column in columns.values() for x in column.values())
    shown = {version: numbers.number(column[row], places) for version, column in columns.items() if row in column}
    if len(shown) == len(VERSIONS) and len(set(shown.values())) == 1:
        return next(iter(shown.values()))
    return ", ".join(f"{text} ({version})" for version, text in shown.items()) or numbers.ABSENT


def _footer(protocol: Protocol, all_tests: Mapping[str, Comparisons]) -> str:
    units = []
    for part in protocol.parts:
        clusters = len({case.cluster for case in part.cases})
        name = f"{part.set_name}: " if part.set_name else ""
        units.append(f"{name}{UNITS[part.kind]}, {clusters} clusters, {len(part.cases)} clips a row")
    which = ", ".join(map(str, all_tests[protocol.case_set]))
    return (
        f"Protocol `{protocol.name}`, hash `{protocol.hash}` · tier {protocol.tier} · replica {which} · unit of "
        f"statistics: {'; '.join(units)} · intervals: Student's t over clusters, of logarithms for geometric means and "
        "ratios; shares of clips: Wilson's, their differences Tango's, tested by turning signs; set metrics: "
        "delete-one-cluster jackknife, t with and without Hall's correction for skewness; differences paired by case "
        "and seed."
    )


UNITS = {
    "material": "source of material", "prompts": "prompt", "scenes": "scene", "synthetic": "procedural source",
}  # fmt: skip
"""What a cluster is."""


def _quoted_names(protocol: Protocol) -> list[str]:
    """Published metrics, in the order of the paper's columns."""
    return list({name: None for rows in protocol.published.values() for cells in rows.values() for name in cells})


def _published_only(protocol: Protocol) -> list[str]:
    """Those that the protocol does not measure."""
    return [name for name in _quoted_names(protocol) if name not in protocol.metric_names]


def _replicas(scores: pd.DataFrame) -> list[int]:
    return sorted({int(replica) for replica in scores["replica"]}) or [0]


def _places(lines: Iterable[Mapping[str, Any]]) -> int:
    """Decimals of a column."""
    column = list(lines)
    return numbers.places(((line["high"] - line["low"]) / 2 for line in column), (line["value"] for line in column))


def records(table: pd.DataFrame, **where: Any) -> list[dict[str, Any]]:
    """Lines of the table in which each column of `where` has that value."""
    for column, value in where.items():
        table = table[table[column] == value]
    return [{str(name): value for name, value in line.items()} for line in table.to_dict("records")]
