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
    """A row of a published VBench table: what it prints, and what its cells give, in percent.

    `bounds` say how far rounding can put the two apart.
    """

    name: str
    printed: Mapping[str, float]
    """total, quality, semantic, as far as they are printed."""
    values: Mapping[str, float]
    """total, quality, semantic from the row's cells; NaN where a cell is missing."""
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
    """A published VBench table, recomputed row by row, with what is wrong with it."""

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
    recomputed = tuple(_recomputed(row, table) for row in table)
    return Check(rows=recomputed, findings=(*(line for row in recomputed for line in row.findings), *_copies(table)))


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
    shifts = [
        sensitivity(dimension, aggregate) * halves[dimension.name]
        for dimension in DIMENSIONS.values()
        if dimension.name in halves
    ]
    return math.fsum(shifts) + halves[aggregate]


def sensitivity(dimension: Dimension, aggregate: str) -> float:
    """How far an aggregate moves when a dimension moves by 1."""
    weights = sum(member.weight for member in dimensions.of_part(dimension.part))
    return _FACTORS[aggregate].get(dimension.part, 0.0) * dimension.weight / (dimension.high - dimension.low) / weights


def _copies(table: Iterable[_Row]) -> list[str]:
    """A sentence for every row whose cells all equal those of an earlier row under another name."""
    names: dict[tuple[tuple[str, float], ...], str] = {}
    lines = []
    for row in table:
        cells = tuple(sorted(row.cells.items()))
        first = names.setdefault(cells, row.name)
        if first != row.name and len(cells) > 1:
            lines.append(f"{row.name}: all {len(cells)} numbers are those of {first}; one of the two rows is a copy")
    return lines


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
    result = Recomputed(
        name=row.name, printed=printed, values=values, bounds={name: bound(row.halves, name) for name in printed},
        missing=dimensions.missing(scores),
    )  # fmt: skip
    result = replace(result, repairs={} if result.missing or len(printed) < len(AGGREGATES) else _repairs(result, row))
    return replace(result, findings=(*_missing(result, scores), *_off(result, row, table), *_scale(row.name, scores)))


def _missing(result: Recomputed, scores: Mapping[str, float]) -> list[str]:
    if not result.missing:
        return []
    unknown = [name for name in AGGREGATES if math.isnan(result.values[name])]
    line = (
        f"{result.name}: no value of {', '.join(result.missing)}, so its {' and '.join(unknown)} cannot be recomputed"
    )
    script = dict(zip(AGGREGATES, (100 * value for value in dimensions.vbench_script(scores)), strict=True))
    printed = [name for name in unknown if name in result.printed]
    zero = [name for name in printed if abs(script[name] - result.printed[name]) <= result.bounds[name] + _SLACK]
    if zero:
        line += f"; the printed {' and '.join(zero)} is what counting the missing as 0 gives"
    return [line]


def _off(result: Recomputed, row: _Row, table: list[_Row]) -> list[str]:
    lines = [
        f"{result.name}: {name} is printed as {result.printed[name]:.2f}, "
        f"its dimensions give {result.values[name]:.2f} "
        f"({gap:+.4f}; rounding explains {result.bounds[name]:.4f})"
        for name, gap in result.off.items()
    ]
    if not lines or result.missing or len(result.printed) < len(AGGREGATES):
        return lines
    chain = dimensions.combine(result.printed["quality"], result.printed["semantic"])
    slack = dimensions.combine(row.halves["quality"], row.halves["semantic"]) + row.halves["total"] + _SLACK
    if abs(chain - result.printed["total"]) > slack:
        line = f"{result.name}: its total does not follow from its quality and semantic either ({chain:.2f})"
        return [*lines, line]
    lines.append(
        f"{result.name}: its total does follow from its quality and semantic, so a dimension may be misprinted"
    )
    for name, value in result.repairs.items():
        twins = [twin.name for twin in table if twin is not row and twin.cells.get(name) == row.cells[name]]
        if twins:
            lines.append(
                f"{result.name}: {name} {row.cells[name]:.2f} is also that of {', '.join(twins)}; "
                f"{value:.2f} there would make the row add up"
            )
    return lines


def _repairs(result: Recomputed, row: _Row) -> dict[str, float]:
    repairs = {}
    for dimension in (dimension for part in PARTS if part in result.off for dimension in dimensions.of_part(part)):
        gap = result.values[dimension.part] - result.printed[dimension.part]
        changed = row.cells | {dimension.name: row.cells[dimension.name] - gap / sensitivity(dimension, dimension.part)}
        scores = {name: value / 100 for name, value in changed.items() if name in DIMENSIONS}
        values = {name: 100 * aggregate(scores) for name, aggregate in dimensions.AGGREGATES.items()}
        fits = all(abs(values[name] - result.printed[name]) <= result.bounds[name] + _SLACK for name in AGGREGATES)
        if fits and 0 <= changed[dimension.name] <= 100:
            repairs[dimension.name] = changed[dimension.name]
    return repairs


def _scale(name: str, scores: Mapping[str, float]) -> list[str]:
    outside = [dimension for dimension, value in scores.items() if not -0.01 <= value <= 1.01]
    lines = [f"{name}: {', '.join(outside)} outside 0 … 100"] if outside else []
    if len(scores) > 1 and max(scores.values()) <= 0.01:
        lines.append(f"{name}: every cell is at most 1; this table reads percentages")
    return lines
