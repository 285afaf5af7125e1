"""Scored runs on disk: a folder of `flashbench score --out`, a scores.parquet, a row of a protocol's results."""

from __future__ import annotations

import base64
import csv
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashbench.errors import InvalidError, UsageError, did_you_mean, on_disk
from flashbench.keys import canonical_json
from flashbench.scores.facts import Difference
from flashbench.scores.table import COLUMNS, read_scores, stored

if TYPE_CHECKING:
    import pandas as pd

SCORES, RECORD, COMPARISON = "scores.parquet", "run.json", "compare.json"
GIVE_SCORES = "give the folder that `flashbench score --out` wrote, its scores.parquet, or the videos"
_LARGEST = 2**26
"""Bytes of a record that is read from the metadata of a scores.parquet."""
_AGAIN = "score the videos again with --out; what is in the store is not measured again"
_WRITTEN = (".csv", ".tsv", ".json", ".jsonl", ".md", ".tex", ".yaml", ".txt")
"""Suffixes of tables that people and tools write: averages as a rule."""


@dataclass(frozen=True, kw_only=True)
class ScoredRun:
    """Scores of one row, and what is known of how they were made."""

    label: str
    table: pd.DataFrame
    """Columns of `scoring.COLUMNS`, one row, one replica."""
    record: Mapping[str, Any] | None = None
    """Content of run.json, if there is one."""
    protocol_hash: str = ""
    """Of the protocol that asked for the scores; empty if not known."""


def is_run(path: Path) -> bool:
    """Whether a path is a scored run, or a file of scores: anything that is not itself a video or a folder of them."""
    return (path / SCORES).is_file() or path.suffix.lower() in (".parquet", *_WRITTEN)


def read_run(path: Path, row: str = "") -> ScoredRun:
    """Read a scored run: a folder with scores.parquet (and run.json), or the file itself.

    Args:
        path: the folder or file.
        row: which row of it, where it has several.

    Raises:
        InvalidError: it cannot be read, holds only averages, or has several rows or replicas and none is chosen.
        UsageError: it has no such row.
    """
    file = path / SCORES if path.is_dir() else path
    if file.suffix.lower() in _WRITTEN:
        raise averages(str(path), _columns(file))
    if path.is_dir() and not file.is_file():
        raise InvalidError(f"{path} has no {SCORES}", fix=GIVE_SCORES)
    try:
        table = read_scores(file)
    except InvalidError as error:  # its fix is for a protocol's results
        raise error if row else InvalidError(error.what, fix=_AGAIN) from error
    record = read_record(file.with_name(RECORD)) if file.name == SCORES else None
    if record is not None:
        same_run(record, file)
    else:
        record = unpacked(stored(file, "run"), str(file))
    return ScoredRun(
        label=row or _label(path, table),
        table=chosen(table, str(path), row),
        record=record,
        protocol_hash=stored(file, "protocol"),
    )


def chosen(table: pd.DataFrame, name: str, row: str = "") -> pd.DataFrame:
    """The lines of one row of a table of scores; `row` may be left out where there is one only.

    Raises:
        InvalidError: the table lacks columns, or has several rows (or replicas) and none is chosen.
        UsageError: it has no such row.
    """
    if absent := [column for column in COLUMNS if column not in table.columns]:
        if "case" in absent:
            raise averages(name, [str(column) for column in table.columns])
        raise InvalidError(f"{name} lacks the columns {', '.join(absent)}", fix=GIVE_SCORES)
    rows = list(dict.fromkeys(table["row"].astype(str)))
    if row and row not in rows:
        raise did_you_mean(f"row of {name}", row, rows)
    if not row and len(rows) > 1:
        raise InvalidError(f"{name} has {len(rows)} rows: {', '.join(rows)}", fix=f"say which: `{name}:{rows[0]}`")
    part = table[table["row"] == (row or rows[0])] if rows else table
    if part["replica"].nunique() > 1:
        what = f"{name} has {part['replica'].nunique()} replicas of {row or rows[0]}"
        raise InvalidError(what, fix="compare trainings with `flashbench run PROTOCOL --replicas`, or keep one of them")
    return part


def read_record(path: Path) -> Mapping[str, Any] | None:
    """Content of a run.json; None if there is no such file.

    Raises:
        InvalidError: it is no record of a run.
    """
    if not path.is_file():
        return None
    return _checked(_json(path, _AGAIN), str(path))


def packed(record: Mapping[str, Any]) -> str:
    """A run's record in a few kilobytes of text for the metadata of its scores.parquet, without paths and files' bytes.

    So scores alone say how they were made, and which facts of the files decide whether others compare with them.
    """
    kept = {name: value for name, value in record.items() if name not in ("command", "remarks")}
    kept["videos"] = [_without(video) for video in record["videos"]]
    return base64.b64encode(zlib.compress(canonical_json(kept).encode(), 9)).decode()


def unpacked(text: str, where: str) -> Mapping[str, Any] | None:
    """The record that `packed` made; None of an empty text.

    Raises:
        InvalidError: it is no record of a run.
    """
    if not text:
        return None
    try:
        inflate = zlib.decompressobj()
        content = inflate.decompress(base64.b64decode(text, validate=True), _LARGEST)
        record = json.loads(content) if inflate.eof else None
    except (ValueError, zlib.error) as error:
        raise InvalidError(f"{where}: its record of how it was made is damaged: {error}", fix=_AGAIN) from error
    return _checked(record, f"the record in {where}")


def _without(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A video's entry without its path and its bytes' hash, and so its reference's."""
    kept = {key: value for key, value in entry.items() if key not in ("file", "sha256")}
    if kept.get("reference"):
        kept["reference"] = _without(kept["reference"])
    return kept


def _checked(record: Any, path: str) -> Mapping[str, Any]:
    """A record of a run, as it is.

    Raises:
        InvalidError: it has another form.
    """
    kinds = {"settings": dict, "metrics": dict, "versions": dict, "videos": list, "protocol_hash": str}
    if not isinstance(record, dict) or record.get("schema") != 1:
        raise InvalidError(f"{path} is not a record of a run of this version (schema 1)", fix=_AGAIN)
    if wrong := [name for name, kind in kinds.items() if not isinstance(record.get(name), kind)]:
        raise InvalidError(f"{path} has no {', '.join(wrong)}", fix=_AGAIN)
    if not isinstance(record.get("numerics", {}), dict):
        raise InvalidError(f"{path}: numerics is of another form", fix=_AGAIN)
    for name, about in record["metrics"].items():
        if not _is_metric(about):
            raise InvalidError(f"{path}: the metric {name} is of another form", fix=_AGAIN)
    for number, video in enumerate(record["videos"], 1):
        if not _is_video(video):
            raise InvalidError(f"{path}: video {number} is of another form", fix=_AGAIN)
    if not _is_declared(record.get("declared", {})):
        raise InvalidError(f"{path}: what it declares is of another form", fix=_AGAIN)
    return record


def _is_declared(declared: Any) -> bool:
    """Whether margins and primary metrics are as `flashbench score --margin --primary` writes them, or not there."""
    if not isinstance(declared, dict) or not declared.keys() <= {"margins", "primary"}:
        return False
    margins, primary = declared.get("margins", {}), declared.get("primary", [])
    if not isinstance(margins, dict) or not all(isinstance(x, int | float) and x > 0 for x in margins.values()):
        return False
    return isinstance(primary, list) and all(isinstance(name, str) for name in primary)


def unlike(old: Mapping[str, Any], new: Mapping[str, Any], metrics: Iterable[str]) -> list[tuple[str, str, str]]:
    """What makes scores of two records mean different things: (place, old, new) in settings, numerics, `metrics`."""
    return _apart("", *(_meaning(record, list(metrics)) for record in (old, new)))


def _meaning(record: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    about = {name: record["metrics"].get(name, {}) for name in names}
    parts = {
        name: {key: entry.get(key) for key in ("identity", "assets", "third_party")} for name, entry in about.items()
    }
    return {"settings": record["settings"], "numerics": record.get("numerics"), **parts}


def _apart(where: str, old: Any, new: Any) -> list[tuple[str, str, str]]:
    """(place, old, new) of every difference of two JSON values."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = dict.fromkeys([*old, *new])
        return [line for key in keys for line in _apart(f"{where} {key}".strip(), old.get(key), new.get(key))]
    return [] if old == new else [(where, _short(old), _short(new))]


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"


def read_comparison(path: Path) -> Mapping[str, Any] | None:
    """Content of a compare.json; None if there is no such file.

    Raises:
        InvalidError: it is no record of a comparison of this version.
    """
    if not path.is_file():
        return None
    fix = "compare the runs again with --out"
    record = _json(path, fix)
    kinds = {
        "flashbench": str, "baseline": str, "units": str, "runs": dict, "metrics": dict, "pairs": dict, "results": list,
        "unreadable": list, "facts": dict,
    }  # fmt: skip
    if not isinstance(record, dict) or record.get("schema") != 1:
        raise InvalidError(f"{path} is not a record of a comparison of this version (schema 1)", fix=fix)
    if wrong := [name for name, kind in kinds.items() if not isinstance(record.get(name), kind)]:
        raise InvalidError(f"{path} has no {', '.join(wrong)}", fix=fix)
    needed = ("metric", "other", "n", "of", "clusters", "p", "margin", "reason", "sentence")
    if not all(isinstance(result, dict) and all(name in result for name in needed) for result in record["results"]):
        raise InvalidError(f"{path}: a result is of another form", fix=fix)
    if not all(isinstance(x, dict) for x in (*record["runs"].values(), *record["metrics"].values())):
        raise InvalidError(f"{path}: runs or metrics are of another form", fix=fix)
    names = {item.name for item in fields(Difference)}
    differences = [each for each in record["facts"].values() if isinstance(each, list)]
    if len(differences) < len(record["facts"]) or not all(
        isinstance(found, dict) and found.keys() == names for each in differences for found in each
    ):
        raise InvalidError(f"{path}: facts are of another form", fix=fix)
    if record["baseline"] not in record["runs"]:
        raise InvalidError(f"{path} says nothing of its baseline {record['baseline']}", fix=fix)
    return record


def _json(path: Path, fix: str) -> Any:
    with on_disk(f"{path} cannot be read", fix=fix):
        content = path.read_bytes()
    try:
        return json.loads(content)
    except ValueError as error:
        raise InvalidError(f"{path} is not valid JSON: {error}", fix=fix) from error


def same_run(record: Mapping[str, Any], scores: Path) -> None:
    """Refuse a run.json beside the scores.parquet of another run.

    Raises:
        InvalidError: their protocols' hashes differ.
    """
    if record["protocol_hash"] != stored(scores, "protocol"):
        raise InvalidError(f"{scores.parent}: {RECORD} and {SCORES} are of two runs", fix=_AGAIN)


def _is_metric(about: Any) -> bool:
    if not isinstance(about, dict) or not all(isinstance(about.get(x) or {}, dict) for x in ("identity", "assets")):
        return False
    return isinstance((about.get("identity") or {}).get("preprocessing") or {}, dict)


def _is_video(video: Any) -> bool:
    """Whether an entry has what is read of it; what could not be decoded has no clip, and no shape."""
    if not isinstance(video, dict) or not isinstance(video.get("case"), str):
        return False
    if not all(isinstance(video.get(name) or {}, dict) for name in ("source", "reference")):
        return False
    if not all(isinstance(video.get(name) or "", str) for name in ("prompt", "reason", "clip")):
        return False
    shape = [video.get(name) for name in ("frames", "height", "width")]
    return not video.get("clip") or (all(isinstance(x, int) for x in shape) and isinstance(video.get("fps"), str))


def averages(name: str, columns: list[str]) -> InvalidError:
    """The refusal of a paired verdict for a table that has no clips in it."""
    if "case" in columns:
        return InvalidError(f"{name} is a copy of the scores to read", fix="give the scores.parquet beside it")
    what = (
        f"{name} has averages, not each clip's score: clips differ more among themselves than systems do, so without "
        "pairs of clips no difference can be tested"
    )
    return InvalidError(what, fix=GIVE_SCORES)


def split_row(text: str) -> tuple[Path, str]:
    """(path, row) of `PATH` or `PATH:ROW`, the row of a protocol's results.

    Raises:
        UsageError: there is no such path.
    """
    if (path := Path(text).expanduser()).exists():
        return path, ""
    before, colon, row = text.rpartition(":")
    if colon and row and (path := Path(before).expanduser()).exists():
        return path, row
    raise UsageError(f"{text} is not there", fix="give videos, a scored run, or a protocol's results as FOLDER:ROW")


def _label(path: Path, table: pd.DataFrame) -> str:
    rows = list(dict.fromkeys(table["row"].astype(str)))
    return rows[0] if len(rows) == 1 else path.resolve().name


def _columns(file: Path) -> list[str]:
    if file.suffix.lower() != ".csv":
        return []
    with on_disk(f"{file} cannot be read", fix=GIVE_SCORES), file.open(encoding="utf-8", errors="replace") as lines:
        return next(csv.reader(lines), [])
