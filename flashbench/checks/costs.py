"""`flashbench costs PROTOCOL`: what a protocol's clips took where they were made, row by row.

Evaluations are counted and the same on every machine; seconds and memory are of the machine and run that made a clip,
from the store's record of it. So this is printed, or written where one says, and never among results.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flashbench.errors import InvalidError
from flashbench.protocol.types import Protocol
from flashbench.reporting import numbers
from flashbench.reporting.document import Block, Cell, Notes
from flashbench.run.files import read_manifest
from flashbench.run.meter import KINDS
from flashbench.run.options import Options, results_folder
from flashbench.store import Store

COLUMNS = (
    "protocol", "cases", "row", "case", "seed", "replica", "key", "device", "evaluations", "seconds", "memory_mib",
    "memory_kind",
)  # fmt: skip
SHARED = "Stage I, shared by all rows"
_LEGEND = (
    "Median of the clips, in brackets their quartiles. Evaluations: of the row's network, counted, and the same "
    "anywhere. Seconds: wall time of one clip, from its input to its pixels, as the run's workers had it side by side; "
    "the first clip of a worker loads weights. A clip that several rows or protocols share was made once."
)


@dataclass(frozen=True)
class Spent:
    """What one clip took; seconds and memory are NaN where its record does not say."""

    cases: str
    row: str
    case: str
    seed: int
    replica: int
    key: str
    device: str
    """The GPU's name, or the processor's with a worker's threads; empty where it is not known."""
    evaluations: int
    seconds: float
    memory: float
    """In MiB."""
    kind: str
    """Which memory that is, of `meter.KINDS`; empty where it is not known."""


def spent(protocol: Protocol, lines: Sequence[Mapping[str, Any]], store: Store) -> tuple[list[Spent], int]:
    """What each clip of a manifest took, in the protocol's order; and how many clips are not in this store.

    Stage I's clips of prompts, which all rows enhance, come first, once each.
    """
    found: list[Spent] = []
    absent = 0
    for part in protocol.parts:
        cases = {case.id for case in part.cases}
        own = [line for line in lines if line["key"] and line["case"] in cases]
        before = {line["original_key"]: line for line in own} if part.preview else {}
        wanted = [(key, SHARED, line) for key, line in before.items()]
        wanted += [(line["key"], line["row"], line) for line in own]
        for key, row, line in wanted:
            if store.has_clip(key):
                found.append(_spent(part, key, row, line, store.clip_record(key)))
            else:
                absent += 1
    return found, absent


def _spent(part: Protocol, key: str, row: str, line: Mapping[str, Any], record: Mapping[str, Any]) -> Spent:
    memory = record.get("memory") or {"kind": "process", "mebibytes": record.get("megabytes", np.nan)}
    return Spent(
        cases=part.case_set,
        row=row,
        case=line["case"],
        seed=line["seed"],
        replica=line["replica"],
        key=key,
        device=str(record.get("device", "")),
        evaluations=int(record["evaluations"]),
        seconds=float(record.get("seconds", np.nan)),
        memory=float(memory["mebibytes"]),
        kind="" if np.isnan(memory["mebibytes"]) else str(memory["kind"]),
    )


def describe(name: str, options: Options) -> tuple[list[Block], str]:
    """What the clips of the protocol `name` took, as a document of rows, and as CSV with a line for each clip.

    Raises:
        UsageError: an unknown protocol, or no results. InvalidError: no manifest, or none of its clips is in the store.
    """
    protocol, store = options.protocol(name), Store()
    lines = read_manifest(results_folder(options) / name / "clips.jsonl")
    found, absent = spent(protocol, lines, store)
    if not found:
        what = f"none of the {absent} clips of {name} is in the store {store.root}"
        raise InvalidError(what, fix="set FLASHBENCH_STORE to the store that has them, or copy it here")
    blocks = [Block("heading", f"What the clips of {name} took, {options.tier} tier")]
    for part in protocol.parts:
        own = [one for one in found if one.cases == part.case_set]
        if part.set_name:
            blocks.append(Block("subheading", part.title))
        blocks += _rows(part, own)
    devices = sorted({one.device for one in found if one.device})
    text = f"{_LEGEND} Made on {'; '.join(devices)}." if devices else _LEGEND
    if absent:
        text += f" Not in this store: {numbers.counted(absent, 'clip')} of the manifest."
    return [*blocks, Block("text", text)], _csv(name, found)


def _rows(part: Protocol, own: Sequence[Spent]) -> Iterator[Block]:
    """The grid of a set of cases: a line for each row that has clips, Stage I's first."""
    notes = Notes()
    grid = [list(map(Cell, ("row", "clips", "evaluations", "seconds", "memory (MiB)")))]
    for row in (SHARED, *(variant.row for variant in part.variants)):
        clips = [one for one in own if one.row == row]
        if not clips:
            continue
        kinds = "; ".join(KINDS[kind] for kind in dict.fromkeys(one.kind for one in clips) if kind)
        memory = quartiles(one.memory for one in clips) + notes.mark(kinds)
        told = quartiles(one.evaluations for one in clips), quartiles(one.seconds for one in clips), memory
        grid.append([Cell(row, code=row != SHARED), Cell(str(len(clips))), *map(Cell, told)])
    if len(grid) > 1:
        yield Block("grid", grid=grid)
    yield Block("notes", notes=notes.lines())


def quartiles(values: Iterable[float]) -> str:
    """`12.3 [11.9, 12.8]`: the median and the quartiles of what is known; the median alone where they are one."""
    known = [value for value in values if not np.isnan(value)]
    if not known:
        return numbers.ABSENT
    low, middle, high = np.percentile(known, [25, 50, 75])
    if low == high:
        return numbers.digits(middle)
    return numbers.estimate(middle, low, high, numbers.places([(high - low) / 2]), halved=False)


def _csv(name: str, found: Iterable[Spent]) -> str:
    """Each clip in a line of `COLUMNS`; empty where nothing is known."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in found:
        measured = ["" if np.isnan(value) else f"{value:g}" for value in (one.seconds, one.memory)]
        about = (name, one.cases, one.row, one.case, one.seed, one.replica, one.key, one.device, one.evaluations)
        writer.writerow([*about, *measured, one.kind])
    return text.getvalue()
