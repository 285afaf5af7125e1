"""Does a published VBench table add up? Totals from its own 16 cells, copied rows, missing cells.

Every printed number stands for an interval of half a unit in its last place. A printed Total, Quality or Semantic is a
finding only where the recomputed one is further away than those intervals can move it (about 0.0136 percentage points
with two decimals in every cell).
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from flashbench.errors import InvalidError, on_disk
from flashbench.vbench import dimensions
from flashbench.vbench.dimensions import DIMENSIONS, Dimension, Part

Cell: TypeAlias = float | str
"""A printed number in percent; a string shows how many decimals were printed."""
Rows: TypeAlias = Iterable[tuple[str, Mapping[str, Cell]]]

AGGREGATES = ("total", "quality", "semantic")
PARTS: tuple[Part, ...] = ("quality", "semantic")
_FACTORS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "quality": {"quality": 1.0},
        "semantic": {"semantic": 1.0},
        "total": {"quality": dimensions.QUALITY_SHARE, "semantic": 1 - dimensions.QUALITY_SHARE},
    }
)
"""Aggregate → part → its share."""
_SLACK = 1e-9  # float arithmetic on percentages, far below any printed digit


@dataclass(frozen=True, kw_only=True)
class Recomputed:
    """One row: what it prints, what its cells give, and how far rounding can put the two apart, in percent."""

    name: str
    printed: Mapping[str, float]
    """total, quality, semantic, as far as they are printed."""
    values: Mapping[str, float]
    """The same three from the cells; NaN where a cell is missing."""
    bounds: Mapping[str, float]
    missing: tuple[str, ...]
    repairs: Mapping[str, float] = field(default_factory=dict)
    """Dimension → the value that alone would make a row that does not add up do so. Arithmetic, not evidence: as a rule
    any dimension of the part that is off qualifies."""
    findings: tuple[str, ...] = ()

    @property
    def off(self) -> dict[str, float]:
        """Aggregate → recomputed minus printed, of those that rounding does not explain."""
        apart = {name: self.values[name] - value for name, value in self.printed.items()}
        return {name: gap for name, gap in apart.items() if abs(gap) > self.bounds[name] + _SLACK}


@dataclass(frozen=True, kw_only=True)
class Check:
    """A table, recomputed."""

    rows: tuple[Recomputed, ...]
    findings: tuple[str, ...]
    """One sentence each: totals that do not follow, missing cells, copied rows."""


@dataclass(frozen=True)
class _Row:
    name: str
    cells: dict[str, float]
    halves: dict[str, float] = field(repr=False)
    """Half a unit in the last printed place of each cell."""


def recompute(rows: Rows, *, decimals: int = 2) -> Check:
    """Recompute Total, Quality and Semantic of every row and compare the rows with each other.

    Args:
        rows: (name, cells) of each row; cells in percent by dimension and by `total`, `quality`, `semantic` (with
            or without `_score`). Empty, `-` and NaN cells are missing.
        decimals: printed decimals of the cells that are numbers; strings show their own.

    Raises:
        UsageError: a column is neither a dimension nor one of the three.
        InvalidError: a cell is no number, or is infinite.
    """
    table = [_row(name, cells, decimals) for name, cells in rows]
    done = tuple(_recomputed(row, table) for row in table)
    return Check(rows=done, findings=(*(line for row in done for line in row.findings), *_copies(table)))


def read_csv(path: Path) -> list[tuple[str, dict[str, Cell]]]:
    """Rows of a CSV file for `recompute`: the first column names the row, the header names the others.

    Raises:
        InvalidError: the file cannot be read, or has no header, a column twice or a line of another length.
    """
    fix = "write a header (name, total, quality, semantic and the dimensions) and one line per row"
    try:
        with on_disk(f"cannot read {path}", fix="check the path"), path.open(encoding="utf-8-sig", newline="") as file:
            header, *lines = [line for line in csv.reader(file, strict=True) if any(cell.strip() for cell in line)]
    except (ValueError, csv.Error) as error:  # an empty file, bytes that are no UTF-8, a broken quote
        raise InvalidError(f"{path} is not a table: {error}", fix=fix) from error
    if len({name.strip() for name in header}) != len(header):
        raise InvalidError(f"{path}: two columns have one name", fix=fix)
    for line in lines:
        if len(line) != len(header):
            raise InvalidError(f"{path}: row {line[0]!r} has {len(line)} cells, the header {len(header)}", fix=fix)
    return [(line[0].strip(), dict(zip(header[1:], line[1:], strict=True))) for line in lines]


def column(name: str) -> str:
    """The aggregate or dimension that a column's header means: `Total Score`, `quality_score`, `Human Action`."""
    key = name.strip().lower().replace(" ", "_").removesuffix("_score")
    return key if key in AGGREGATES else dimensions.dimension(name).name


def bound(halves: Mapping[str, float], aggregate: str) -> float:
    """The furthest that rounding of the cells and of the printed aggregate can put the two apart.

    Args:
        halves: half a unit in the last place of each cell, aggregate included.
        aggregate: `total`, `quality` or `semantic`.
    """
    shifts = [sensitivity(one, aggregate) * halves[one.name] for one in DIMENSIONS.values() if one.name in halves]
    return math.fsum(shifts) + halves[aggregate]


def sensitivity(one: Dimension, aggregate: str) -> float:
    """How far an aggregate moves when a dimension moves by 1."""
    weights = sum(other.weight for other in dimensions.of_part(one.part))
    return _FACTORS[aggregate].get(one.part, 0.0) * one.weight / (one.high - one.low) / weights


def _copies(table: Iterable[_Row]) -> list[str]:
    """A sentence for every row whose cells all equal those of an earlier row under another name."""
    seen: dict[tuple[tuple[str, float], ...], str] = {}
    found = []
    for row in table:
        cells = tuple(sorted(row.cells.items()))
        first = seen.setdefault(cells, row.name)
        if first != row.name and len(cells) > 1:
            found.append(f"{row.name}: all {len(cells)} numbers are those of {first}; one of the two rows is a copy")
    return found


def _row(name: str, cells: Mapping[str, Cell], decimals: int) -> _Row:
    numbers: dict[str, float] = {}
    halves: dict[str, float] = {}
    for header, cell in cells.items():
        key, (value, places) = column(header), _number(cell, decimals, f"{name}, {header}")
        if key in numbers:
            raise InvalidError(f"{name}: two columns mean {key}", fix="keep one")
        if not math.isnan(value):
            numbers[key], halves[key] = value, 0.5 * 10.0**-places
    return _Row(name, numbers, halves)


def _number(cell: Cell, decimals: int, where: str) -> tuple[float, int]:
    """(value, printed decimals); NaN for an empty cell."""
    text = cell.strip().removesuffix("%").strip() if isinstance(cell, str) else cell
    if text in ("", "-", "–", "—"):
        return math.nan, decimals
    try:
        exact = Decimal(text)
    except InvalidOperation as error:
        raise InvalidError(f"{where}: {cell!r} is not a number", fix="write a percentage, or leave it empty") from error
    if exact.is_infinite():
        raise InvalidError(f"{where} is infinite", fix="write a percentage, or leave it empty")
    exponent = exact.as_tuple().exponent
    places = max(-exponent, 0) if isinstance(cell, str) and isinstance(exponent, int) else decimals
    return float(exact), places


def _recomputed(row: _Row, table: list[_Row]) -> Recomputed:
    printed = {name: row.cells[name] for name in AGGREGATES if name in row.cells}
    scores = {name: value / 100 for name, value in row.cells.items() if name in DIMENSIONS}
    values = {name: 100 * aggregate(scores) for name, aggregate in dimensions.AGGREGATES.items()}
    done = Recomputed(
        name=row.name, printed=printed, values=values, bounds={name: bound(row.halves, name) for name in printed},
        missing=dimensions.missing(scores),
    )  # fmt: skip
    done = replace(done, repairs={} if done.missing or len(printed) < len(AGGREGATES) else _repairs(done, row))
    return replace(done, findings=(*_missing(done, scores), *_off(done, row, table), *_scale(row.name, scores)))


def _missing(done: Recomputed, scores: Mapping[str, float]) -> list[str]:
    if not done.missing:
        return []
    unknown = [name for name in AGGREGATES if math.isnan(done.values[name])]
    line = f"{done.name}: no value of {', '.join(done.missing)}, so its {' and '.join(unknown)} cannot be recomputed"
    script = dict(zip(AGGREGATES, (100 * value for value in dimensions.vbench_script(scores)), strict=True))
    known = [name for name in unknown if name in done.printed]
    zero = [name for name in known if abs(script[name] - done.printed[name]) <= done.bounds[name] + _SLACK]
    if zero:
        line += f"; the printed {' and '.join(zero)} is what counting the missing as 0 gives"
    return [line]


def _off(done: Recomputed, row: _Row, table: list[_Row]) -> list[str]:
    lines = [
        f"{done.name}: {name} is printed as {done.printed[name]:.2f}, its dimensions give {done.values[name]:.2f} "
        f"({gap:+.4f}; rounding explains {done.bounds[name]:.4f})"
        for name, gap in done.off.items()
    ]
    if not lines or done.missing or len(done.printed) < len(AGGREGATES):
        return lines
    chain = dimensions.combine(done.printed["quality"], done.printed["semantic"])
    slack = dimensions.combine(row.halves["quality"], row.halves["semantic"]) + row.halves["total"] + _SLACK
    if abs(chain - done.printed["total"]) > slack:
        return [*lines, f"{done.name}: its total does not follow from its quality and semantic either ({chain:.2f})"]
    lines.append(f"{done.name}: its total does follow from its quality and semantic, so a dimension may be misprinted")
    for name, value in done.repairs.items():
        twins = [other.name for other in table if other is not row and other.cells.get(name) == row.cells[name]]
        if twins:
            lines.append(
                f"{done.name}: {name} {row.cells[name]:.2f} is also that of {', '.join(twins)}; "
                f"{value:.2f} there would make the row add up"
            )
    return lines


def _repairs(done: Recomputed, row: _Row) -> dict[str, float]:
    found = {}
    for one in (one for part in PARTS if part in done.off for one in dimensions.of_part(part)):
        gap = done.values[one.part] - done.printed[one.part]
        changed = row.cells | {one.name: row.cells[one.name] - gap / sensitivity(one, one.part)}
        scores = {name: value / 100 for name, value in changed.items() if name in DIMENSIONS}
        values = {name: 100 * aggregate(scores) for name, aggregate in dimensions.AGGREGATES.items()}
        fits = all(abs(values[name] - done.printed[name]) <= done.bounds[name] + _SLACK for name in AGGREGATES)
        if fits and 0 <= changed[one.name] <= 100:
            found[one.name] = changed[one.name]
    return found


def _scale(name: str, scores: Mapping[str, float]) -> list[str]:
    outside = [one for one, value in scores.items() if not -0.01 <= value <= 1.01]
    lines = [f"{name}: {', '.join(outside)} outside 0 … 100"] if outside else []
    if len(scores) > 1 and max(scores.values()) <= 0.01:
        lines.append(f"{name}: every cell is at most 1; this table reads percentages")
    return lines
