"""`flashbench audit published|FILE.csv`: do printed tables add up, are rows copied, what changed between versions.

The arithmetic is `flashbench.metrics.vbench.recompute`'s. A finding says that numbers contradict each other, never
which of them is wrong; a change between versions of a paper is told and is no finding.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from flashbench.errors import UsageError
from flashbench.paths import protocol_root, read_yaml
from flashbench.protocol.published import VERSIONS, published
from flashbench.vbench.recompute import AGGREGATES, Check, Recomputed, column, read_csv, recompute

Cells = Mapping[str, float | str]
Table = Mapping[str, Mapping[str, float]]
"""Row → metric → number."""
_LISTED = 12
"""Changed numbers of a table up to which each is listed."""


def audit_published(folder: Path | None = None) -> tuple[list[str], list[str]]:
    """Audit the paper's tables, of both transcribed versions: (report lines, findings among them).

    Tables with VBench's columns are recomputed; in all tables rows with equal numbers under two names are found, and
    the versions are compared.

    Args:
        folder: the folder that holds v1.yaml and v4.yaml, protocols/published if not given.

    Raises:
        UsageError: a file is missing or is no table of numbers.
    """
    root = protocol_root() / "published" if folder is None else folder
    names = {version: list(read_yaml(root / f"{version}.yaml").get("tables") or {}) for version in VERSIONS}
    lines: list[str] = []
    findings: list[str] = []
    for name in dict.fromkeys(table for version in VERSIONS for table in names[version]):
        tables = published(name, folder)
        for version in (version for version in VERSIONS if name in names[version]):
            remarks, faults = _audit(tables[version].items())
            where = f"{name} ({version})"
            lines += [f"{where}: {line}" for line in (*remarks, *faults)]
            findings += [f"{where}: {line}" for line in faults]
        if all(name in names[version] for version in VERSIONS):
            lines += [f"{name}: {line}" for line in _changes(*(tables[version] for version in VERSIONS))]
        else:
            absent = ", ".join(version for version in VERSIONS if name not in names[version])
            lines.append(f"{name}: not transcribed from {absent}, so the versions are not compared")
    return lines, findings


def audit_table(path: Path) -> tuple[list[str], list[str]]:
    """Audit a CSV file of one table: (report lines, findings among them).

    The first column names the row. VBench's dimensions, Total, Quality and Semantic are in percent; other columns take
    part in no arithmetic.

    Raises:
        InvalidError: the file cannot be read, is no table, or a cell of VBench's columns is no number.
    """
    rows = read_csv(path)
    remarks, faults = _audit(rows)
    columns = list(rows[0][1]) if rows else []
    other = [name for name in columns if not _is_vbench(name)]
    if other and len(other) < len(columns):
        remarks.append(f"not VBench's, so not read: {', '.join(other)}")
    if columns and len(other) == len(columns):
        remarks.append("no column of VBench's: nothing was recomputed, only copies were looked for")
    if not rows:
        remarks.append("no row")
    lines = [f"{path.name}: {line}" for line in (*remarks, *faults)]
    return lines, lines[len(remarks) :]


def _audit(table: Iterable[tuple[str, Cells]]) -> tuple[list[str], list[str]]:
    """(remarks, findings) of one table."""
    rows = list(table)
    # Two dimensions alone (Table 4 has them beside other metrics) are no VBench table: nothing there can be recomputed.
    whole = any(_is_vbench(name) and column(name) in AGGREGATES for _, cells in rows for name in cells)
    if not whole:
        faults = copies(rows)
        return ([] if faults else [f"no row of {len(rows)} is a copy of another"]), faults
    own = [(row, {name: cell for name, cell in cells.items() if _is_vbench(name)}) for row, cells in rows]
    check = recompute(own)
    return [_summary(check)], list(check.findings)


def _summary(check: Check) -> str:
    """How many rows add up, and how far apart printed and recomputed are at most in those."""
    full = [row for row in check.rows if row.printed and not row.missing]
    sound = [row for row in full if not row.off]
    text = f"{len(sound)} of {len(check.rows)} rows add up"
    if sound:
        text += f", the largest deviation among them {max(map(_deviation, sound)):.4f} percentage points"
    if silent := sum(not row.printed for row in check.rows):
        text += f"; {silent} print no total, quality or semantic"
    return text


def _deviation(row: Recomputed) -> float:
    return max(abs(row.values[name] - printed) for name, printed in row.printed.items())


def copies(rows: Iterable[tuple[str, Cells]]) -> list[str]:
    """A sentence for every row of which all cells, at least two, equal those of an earlier row under another name."""
    seen: dict[tuple[tuple[str, str], ...], str] = {}
    sentences = []
    for name, cells in rows:
        numbers = tuple(sorted((key, str(cell).strip()) for key, cell in cells.items() if str(cell).strip()))
        first = seen.setdefault(numbers, name)
        if first != name and len(numbers) > 1:
            sentences.append(f"{name}: all {len(numbers)} numbers are those of {first}; one of the two rows is a copy")
    return sentences


def _changes(old: Table, new: Table) -> list[str]:
    """What the later version of a table changed."""
    first, last = VERSIONS[0], VERSIONS[-1]
    lines = [f"{last} adds {row}" for row in new if row not in old]
    lines += [f"{last} drops {row}" for row in old if row not in new]
    shared = [row for row in new if row in old]
    changed = {row: _differing(old[row], new[row]) for row in shared}
    count = sum(map(len, changed.values()))
    if not count:
        return [*lines, f"{first} and {last} print the same numbers in the {len(shared)} rows that both have"]
    parts = [f"{row} {len(metrics)} of {len(new[row])}" for row, metrics in changed.items() if metrics]
    lines.append(f"{count} numbers differ between {first} and {last}: {', '.join(parts)}")
    if count <= _LISTED:
        lines += [
            f"{row}: {metric} {_text(old[row], metric)} ({first}), {_text(new[row], metric)} ({last})"
            for row, metrics in changed.items()
            for metric in metrics
        ]
    return lines


def _differing(old: Mapping[str, float], new: Mapping[str, float]) -> list[str]:
    return [metric for metric in dict.fromkeys([*old, *new]) if old.get(metric) != new.get(metric)]


def _text(row: Mapping[str, float], metric: str) -> str:
    return f"{row[metric]:g}" if metric in row else "none"


def _is_vbench(name: str) -> bool:
    try:
        column(name)
    except UsageError:
        return False
    return True
