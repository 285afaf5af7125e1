"""VBench's result files: read without loss, looked at with care, packed for its leaderboard.

`NAME_eval_results.json` holds {dimension: [overall, [{video_path, video_results, …}, …], …]}. A `ResultFile` keeps the
content as it is; `scores` and `overalls` are views of it that never alter it.

The leaderboard takes a ZIP whose top level holds these JSON files (VBench's README, "Submit to Leaderboard": `cd
evaluation_results; zip -r ../evaluation_results.zip .`; the leaderboard's form and VBench's issue #30 say the same).
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flashbench.errors import FlashBenchError, InvalidError, on_disk
from flashbench.vbench import dimensions

ENDING = "_eval_results.json"
_BARE = "eval_results.json"
_LARGEST = 1 << 30
"""Bytes that a member of an archive may unpack to: the largest real files are some tens of megabytes."""
_FIX = "give a file that VBench wrote: {dimension: [overall, [{video_path, video_results}, …]]}"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_SLACK = 1e-6


@dataclass(frozen=True)
class ResultFile:
    """One result file: its name, which may hold a time with `:`, and its content as JSON data."""

    name: str
    content: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class VideoScore:
    """What VBench says about one video."""

    dimension: str
    path: str
    """As VBench wrote it."""
    value: float
    """0 … 1 like the overall; NaN with its reason where it is no such number."""
    reason: str = ""


def read(source: Path) -> list[ResultFile]:
    """All `*eval_results.json` of a file, a folder (not below it) or a ZIP (at any depth), sorted by name.

    Raises:
        InvalidError: nothing to read, a file that is no VBench result, or two files of one name.
    """
    files = [_parse(name, data) for name, data in sorted(_contents(source), key=lambda item: item[0])]
    if not files:
        raise InvalidError(f"{source} holds no *{ENDING}", fix="give VBench's evaluation_results folder")
    doubles = {file.name for file in files if [another.name for another in files].count(file.name) > 1}
    if doubles:
        raise InvalidError(f"{source} holds {sorted(doubles)[0]} twice", fix="keep one of them")
    return files


def text(file: ResultFile) -> str:
    """A result file's content as JSON, indented by 4 as VBench writes it.

    NaN stays NaN, and every float reads back as itself.
    """
    return json.dumps(file.content, indent=4)


def export(files: Iterable[ResultFile], path: Path) -> Path:
    """Write the leaderboard's ZIP: every file at its top level, the same bytes for the same content.

    Raises:
        InvalidError: a name is no plain file name or is there twice, or the ZIP cannot be written.
    """
    members = sorted(files, key=lambda file: file.name)
    for member in members:
        if not _plain(member.name):
            raise InvalidError(f"invalid name {member.name!r} of a result file", fix=f"call it SOMETHING{ENDING}")
    if len({member.name for member in members}) != len(members):
        raise InvalidError("two result files have one name", fix="rename one")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in members:
            entry = zipfile.ZipInfo(member.name, _EPOCH)
            entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
            archive.writestr(entry, text(member))
    with on_disk(f"cannot write {path}", fix="choose a folder that exists and has room"):
        path.write_bytes(buffer.getvalue())
    return path


def overalls(files: Iterable[ResultFile]) -> tuple[dict[str, float], list[str]]:
    """(dimension → overall in 0 … 1, findings): what VBench's own script would aggregate.

    NaN where an overall is no such number. A dimension that two files give keeps the first in order of name if
    they agree, and is NaN with a finding if they do not.
    """
    values: dict[str, float] = {}
    findings = []
    for file, name, results in _dimensions(files):
        value, reason = number(results[0])
        if reason:
            findings.append(f"{file.name}: the overall of {name} {reason}")
        if name in values and not _same(values[name], value):
            findings.append(f"{file.name}: another overall of {name}, {value} where a file before has {values[name]}")
            value = math.nan
        values[name] = value
    absent = [name for name in dimensions.DIMENSIONS if name not in values]
    if absent:
        findings.append(f"no results of {', '.join(absent)}")
    return values, findings


def scores(files: Iterable[ResultFile]) -> list[VideoScore]:
    """Every video of every dimension, in the files' order.

    imaging_quality is 0 … 100 per video in VBench's files, and 0 … 1 overall: above 1 it is divided by 100. Some
    versions write sums over frames per video; those lie outside 0 … 1 and are NaN here, with that reason.
    """
    rows = []
    for file, name, results in _dimensions(files):
        if len(results) < 2 or not isinstance(results[1], list):
            continue  # an overall alone: VBench-Long and older versions
        for place, entry in enumerate(results[1]):
            if not isinstance(entry, Mapping) or not isinstance(entry.get("video_path"), str):
                raise InvalidError(f"{file.name}: entry {place} of {name} has no video_path", fix=_FIX)
            raw = entry.get("video_results")
            value, reason = number(raw, percent=name == "imaging_quality")
            rows.append(VideoScore(dimension=name, path=entry["video_path"], value=value, reason=reason))
    return rows


def number(raw: object, *, percent: bool = False) -> tuple[float, str]:
    """(value in 0 … 1, reason) of what a file has in a score's place: a number, true or false, a string, null.

    Args:
        raw: the JSON value. Cosines may be a little below 0 and are kept.
        percent: numbers above 1 are percentages.
    """
    if not isinstance(raw, bool | int | float | str):
        return math.nan, "is absent" if raw is None else f"is {type(raw).__name__}, no number"
    try:
        value = float(raw)
    except ValueError:
        return math.nan, f"is {str(raw)[:40]!r}, no number"
    except OverflowError:
        return math.nan, "is too large"
    if math.isnan(value):
        return math.nan, "is NaN: VBench found no video, or could not read it"
    if percent and 1 < value <= 100:
        value /= 100
    if not -1 <= value <= 1 + _SLACK:
        return math.nan, f"is {value:g}, outside 0 … 1"
    return value, ""


def _contents(source: Path) -> Iterator[tuple[str, bytes]]:
    """(name without folders, bytes) of every result file."""
    fix = "give VBench's evaluation_results folder, one of its files, or a ZIP of them"
    with on_disk(f"cannot read {source}", fix=fix):
        if source.is_dir():
            yield from ((path.name, path.read_bytes()) for path in source.iterdir() if _result(path.name))
        elif zipfile.is_zipfile(source):
            yield from _archived(source)
        else:
            yield source.name, source.read_bytes()


def _archived(source: Path) -> Iterator[tuple[str, bytes]]:
    fix = "pack the files again"
    try:
        with zipfile.ZipFile(source) as archive:
            for entry in archive.infolist():
                name = entry.filename.replace("\\", "/").rpartition("/")[2]
                if not _result(name) or "__MACOSX" in entry.filename:
                    continue
                if entry.file_size > _LARGEST:
                    raise InvalidError(f"{source}: {name} unpacks to {entry.file_size} bytes", fix=fix)
                yield name, archive.read(entry)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:  # damaged, unknown method, encrypted
        raise InvalidError(f"{source} cannot be unpacked: {error}", fix=fix) from error


def _result(name: str) -> bool:
    return name.endswith(ENDING) or name == _BARE


def _plain(name: str) -> bool:
    return _result(name) and name.isprintable() and not {"/", "\\"} & set(name)


def _parse(name: str, data: bytes) -> ResultFile:
    try:
        content = json.loads(data, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise InvalidError(f"{name} is not JSON: {error}", fix=_FIX) from error
    if not isinstance(content, dict):
        raise InvalidError(f"{name} is {type(content).__name__}, not a mapping of dimensions", fix=_FIX)
    file = ResultFile(name, content)
    for _ in _dimensions([file]):  # every value is a list with an overall
        pass
    return file


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; one with a key twice would lose a value on the way."""
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key is there twice")
    return content


def _dimensions(files: Iterable[ResultFile]) -> Iterator[tuple[ResultFile, str, Sequence[Any]]]:
    for file in files:
        for name, results in file.content.items():
            try:
                dimension = dimensions.dimension(name).name
            except FlashBenchError as error:
                raise InvalidError(f"{file.name}: {error.what}", fix=error.fix) from error
            if not isinstance(results, list) or not results:
                raise InvalidError(f"{file.name}: {name} is not a list with an overall value", fix=_FIX)
            yield file, dimension, results


def _same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))
