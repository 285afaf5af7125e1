"""Small tables as people, spreadsheets and pandas write them: CSV, TSV, JSON and JSON lines, a mapping for each line.

Spreadsheets write UTF-16, or UTF-8 behind a mark, take `;` or a tab for the comma where the comma is decimal, and leave
empty lines at the end; pandas writes its index as a column without a name, and JSON by columns.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from flashbench.errors import InvalidError, on_disk

_T = TypeVar("_T")

TABLES = (".csv", ".tsv", ".tab")
"""Suffixes of files whose first line names their columns."""
SEPARATORS = (",", ";", "\t")
LONGEST = 60
"""Characters of a file that a message shows at most."""
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16's, with which it begins
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_BINARY = {
    b"PK\x03\x04": "a ZIP, as Excel's and Calc's workbooks are",
    b"\xd0\xcf\x11\xe0": "a workbook of an old Excel",
    b"PAR1": "Parquet",
}
"""First bytes of tables that are no text."""


@dataclass(frozen=True)
class Record:
    """A line of a table, or an object of a JSON file."""

    place: str
    """Where it stands: `line 3`, `entry 2`."""
    fields: Mapping[str, Any]
    """Column → value: of a table text without the blanks around it, of JSON anything."""

    @property
    def empty(self) -> bool:
        """Whether no field holds anything."""
        return all(blank(value) for value in self.fields.values())


def blank(value: Any) -> bool:
    """Whether a field is left out: nothing, NaN, or only blanks."""
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or (isinstance(value, str) and not value.strip())


def excerpt(text: object) -> str:
    """A text as a message shows it: printable, and at most `LONGEST` characters."""
    shown = "".join(mark if mark.isprintable() else " " for mark in str(text)[: LONGEST + 1])
    return shown if len(shown) <= LONGEST else shown[: LONGEST - 1] + "…"


def text_of(path: Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no regular file, or no such text.
    """
    if not stat.S_ISREG(path.stat().st_mode):  # pipes and devices never end
        raise ValueError("is not a regular file")
    content = path.read_bytes()
    if kind := _BINARY.get(content[:4]):
        raise ValueError(f"it is {kind}: save it as CSV")
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(f"line {line}: byte {content[error.start]:#04x} is not {encoding.upper()}") from error
    if "\0" in text:
        raise ValueError("it holds NUL characters, as UTF-16 without a byte order mark does: save it as UTF-8")
    return text


def read(path: Path, parse: Callable[[str], _T], *, kind: str, fix: str) -> _T:
    """`parse` of a file's text. `kind` says what the file should be: `a file of prompts`.

    Raises:
        InvalidError: the file cannot be read, or `parse` raises ValueError, which says why.
    """
    with on_disk(f"{path} cannot be read", fix=fix):
        try:
            return parse(text_of(path))
        except (ValueError, RecursionError) as error:
            why = str(error) if isinstance(error, ValueError) else "it is nested too deeply"
            raise InvalidError(f"{path} is not {kind}: {why}", fix=fix) from error


def table(text: str) -> list[Record]:
    """The lines of a CSV, whose first line names the columns; a column without a name and empty lines are left out.

    The separator is the one of `SEPARATORS` that splits the first line into most fields, or what Excel's `sep=` says.

    Raises:
        ValueError: a line has more fields than the first, a quote is not closed, or two columns have one name.
    """
    said = re.match(r'"?sep=(.)"?\r?\n', text)
    body = text[said.end() :] if said else text
    separator = said[1] if said else max(SEPARATORS, key=lambda mark: len(_header(body, mark)))
    rows = csv.reader(io.StringIO(body, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    records, columns = list[Record](), list[str]()
    try:
        for row in rows:
            cells = [cell.strip(" \t") for cell in row]
            if not any(cells):
                continue
            if not columns:
                columns = _named(cells)
                continue
            place = f"line {rows.line_num + bool(said)}"
            if any(cells[len(columns) :]):
                raise ValueError(f"{place} has more fields than the first; a prompt with commas needs quotes")
            cells += [""] * (len(columns) - len(cells))
            records.append(Record(place, {name: cell for name, cell in zip(columns, cells, strict=False) if name}))
    except csv.Error as error:
        raise ValueError(f"line {rows.line_num + bool(said)}: {error}") from error
    return [record for record in records if not record.empty]


def objects(text: str) -> list[Record]:
    """The objects of a JSON list or of JSON lines; an object alone is one. Those that hold nothing are left out.

    Raises:
        ValueError: it is no JSON, or holds something other than objects.
    """
    if not text.strip():
        return []
    try:
        whole = json.loads(text)
        entries = whole if isinstance(whole, list) else [whole]
        placed = [(f"entry {number}", entry) for number, entry in enumerate(entries, 1)]
    except json.JSONDecodeError as error:
        lines = [(f"line {number}", line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        if not _is_json(lines[0][1]):  # an object over several lines, with a fault in it
            raise ValueError(f"line {error.lineno}: {error.msg}, at {excerpt(error.doc[error.pos :])!r}") from error
        placed = [(place, _loaded(place, line)) for place, line in lines]
    if wrong := [place for place, entry in placed if not isinstance(entry, dict)]:
        raise ValueError(f"{wrong[0]} is not an object")
    records = [Record(place, entry) for place, entry in placed]
    return [record for record in records if not record.empty]


def _header(text: str, separator: str) -> list[str]:
    """The fields of the first line that holds something."""
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    try:
        return next((row for row in rows if any(cell.strip() for cell in row)), [])
    except csv.Error:
        return []


def _named(cells: list[str]) -> list[str]:
    if twice := [name for name in cells if name and cells.count(name) > 1]:
        raise ValueError(f"two columns are called {excerpt(twice[0])}")
    return cells


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _loaded(place: str, line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{place}: {error.msg}, at {excerpt(line[error.pos :])!r}") from error
