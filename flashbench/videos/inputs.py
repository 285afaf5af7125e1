"""Which videos: files, folders, globs and folders of pictures, each with its name, its prompt and its reference.

A video's name (its `case`) is its path below what was asked for, so that the same name in two folders is the same case.
"""

from __future__ import annotations

import csv
import glob
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flashbench.errors import InvalidError, UsageError, on_disk

SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".gif", ".m4v", ".mpg", ".mpeg", ".ts", ".y4m")
"""Of videos that are looked for in folders; a file that is named may have any."""
PICTURES = (".png", ".jpg", ".jpeg")
"""A folder that holds such files and no video is a video itself: its files, in their numbers' order, are the frames."""
BY_NAME = "vbench"
"""In place of a file of prompts: they are read from VBench's file names, `{prompt}-{index}.mp4`."""
_FIX = "give a CSV or JSONL with path, prompt and perhaps seed, VBench's JSON of file to prompt, or `vbench`"


@dataclass(frozen=True, kw_only=True)
class Video:
    """A video to score."""

    case: str
    """Its name: unique in a run."""
    path: Path
    """A file, or a folder of pictures."""
    prompt: str | None = None
    seed: int = 0

    @property
    def cluster(self) -> str:
        """The unit of statistics: its prompt, or without one the video itself."""
        return self.prompt or self.case


def find(asked: Sequence[str | Path]) -> tuple[str, list[Video]]:
    """(label, videos) of what was asked for: files, folders (and all below them), globs. Sorted by name.

    The label is the name of the folder that holds them all.

    Raises:
        UsageError: something is not there, or holds no video.
    """
    roots: list[tuple[Path, list[Path]]] = []
    for item in asked:
        for path in _expanded(item):
            roots.append((path if path.is_dir() and not pictures(path) else path.parent, _below(path)))
    if not roots:
        raise UsageError("no video was asked for", fix="name files, folders or globs")
    above = Path(os.path.commonpath([root.absolute() for root, _ in roots]))
    unique = {path.absolute(): None for _, paths in roots for path in paths}
    videos = [Video(case=_text(path.relative_to(above)), path=path) for path in unique]
    return _text(Path(above.name)) or "videos", sorted(videos, key=lambda video: video.case)


def pictures(folder: Path) -> list[Path]:
    """The frames of a folder of pictures in order (their numbers count as numbers); empty if it is none."""
    with on_disk(f"{folder} cannot be read", fix="check its permissions"), os.scandir(folder) as entries:
        here = [entry for entry in entries if not entry.name.startswith(".")]
    names = [entry.name for entry in here]
    if any(entry.is_dir() for entry in here) or any(name.lower().endswith(SUFFIXES) for name in names):
        return []
    found = [name for name in names if name.lower().endswith(PICTURES)]
    return [folder / name for name in sorted(found, key=_natural)]


def prompted(videos: Sequence[Video], prompts: str | Path | Mapping[str, str]) -> tuple[list[Video], list[str]]:
    """The videos with their prompts and seeds, and remarks: videos without a prompt, prompts without a video.

    `prompts` is a CSV or JSONL with path, prompt and perhaps seed (or index), a JSON object or a mapping of file to
    prompt, or `BY_NAME`. A path leads to the video of that name, or the only one whose name ends in it or equals it but
    for the suffix.

    Raises:
        InvalidError: the file cannot be read, or is of no such form.
    """
    if prompts == BY_NAME:
        given = {video.case: _by_name(video.path) for video in videos}
        found = {case: entry for case, entry in given.items() if entry is not None}
        unused: list[str] = []
    else:
        entries = [(k, v, 0) for k, v in prompts.items()] if isinstance(prompts, Mapping) else _entries(Path(prompts))
        found, unused = _matched([video.case for video in videos], entries)
    without = [video.case for video in videos if video.case not in found]
    remarks = [f"{len(without)} of {len(videos)} videos have no prompt, {without[0]} among them"] if without else []
    remarks += [f"{len(unused)} prompts have no video, that of {unused[0]} among them"] if unused else []
    named = [replace(v, prompt=found[v.case][0], seed=found[v.case][1]) if v.case in found else v for v in videos]
    return named, remarks


def references(videos: Sequence[Video], folder: Path) -> dict[str, Path]:
    """Case → its reference below `folder`: the video of the same name, or of the same but for the suffix.

    Raises:
        UsageError: the folder is not there or holds no video.
    """
    if not folder.is_dir():
        raise UsageError(
            f"--reference {folder} is no folder", fix="give the folder that holds videos of the same names"
        )
    known = {video.case: video.path for video in find([folder])[1]}
    bare: dict[str, list[Path]] = {}
    for case, path in known.items():
        bare.setdefault(stem(case), []).append(path)
    found = {}
    for video in videos:
        near = bare.get(stem(video.case), [])
        reference = known.get(video.case) or (near[0] if len(near) == 1 else None)
        if reference is not None:
            found[video.case] = reference
    return found


def stem(case: str) -> str:
    """A case without its video suffix."""
    base, dot, suffix = case.rpartition(".")
    return base if dot and f".{suffix.lower()}" in SUFFIXES and base else case


def _expanded(item: str | Path) -> list[Path]:
    path = Path(item).expanduser()
    try:
        if path.exists():
            return [path]
    except OSError as error:
        raise UsageError(f"{item} cannot be looked at: {error.strerror}", fix="check the path") from error
    if glob.has_magic(text := str(path)) and (found := sorted(glob.glob(text, recursive=True))):
        return [Path(name) for name in found]
    raise UsageError(f"{item} is not there", fix="give a file, a folder or a glob that matches some")


def _below(path: Path) -> list[Path]:
    """The videos of a path: itself, or all below a folder."""
    if not path.is_dir():
        return [path]
    if pictures(path):
        return [path]
    found = []
    for where, folders, names in os.walk(path, onerror=_unreadable):
        folders.sort()
        folder = Path(where)
        videos = [folder / name for name in names if name.lower().endswith(SUFFIXES) and not name.startswith("._")]
        found += videos or ([folder] if pictures(folder) else [])
    if not found:
        raise UsageError(f"{path} holds no video", fix=f"videos end in {', '.join(SUFFIXES)}, or are folders of png")
    return found


def _unreadable(error: OSError) -> None:
    raise InvalidError(f"{error.filename} cannot be read: {error.strerror}", fix="check its permissions") from error


def _text(path: Path) -> str:
    # Names are bytes: what is no UTF-8 is written out, for tables hold text.
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")


def _natural(name: str) -> list[tuple[bool, int, str]]:
    parts = re.split(r"([0-9]+)", name)  # text and numbers take turns
    return [(at % 2 == 0, int(part) if at % 2 else 0, part) for at, part in enumerate(parts)]


def _by_name(path: Path) -> tuple[str, int] | None:
    prompt, dash, index = stem(_text(Path(path.name))).rpartition("-")
    return (prompt, int(index)) if dash and prompt.strip() and re.fullmatch("[0-9]{1,9}", index) else None


def _entries(path: Path) -> list[tuple[str, str, int]]:
    """(path, prompt, seed) of every entry of a file of prompts."""
    with on_disk(f"the prompts {path} cannot be read", fix=_FIX):
        content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
        if path.suffix.lower() == ".csv":
            lines: list[Any] = list(csv.DictReader(text.splitlines(), strict=True))
        elif text.lstrip().startswith("{") and isinstance(whole := _json(text), dict) and "path" not in whole:
            lines = [{"path": name, "prompt": prompt} for name, prompt in whole.items()]
        else:
            lines = [json.loads(line) for line in text.split("\n") if line.strip()]
        entries = [(line["path"], line["prompt"], int(line.get("seed") or line.get("index") or 0)) for line in lines]
    except (ValueError, KeyError, TypeError, AttributeError, csv.Error, RecursionError) as error:
        raise InvalidError(f"{path} is no file of prompts: {error!r}", fix=_FIX) from error
    if not all(isinstance(text, str) and text.strip() for entry in entries for text in entry[:2]):
        raise InvalidError(f"{path}: a path or a prompt is empty or no text", fix=_FIX)
    return entries


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None  # JSON lines


def _matched(
    cases: Iterable[str], entries: Iterable[tuple[str, str, int]]
) -> tuple[dict[str, tuple[str, int]], list[str]]:
    """Case → (prompt, seed), and the paths that lead to no case or to several."""
    ways: dict[str, set[str]] = {}
    for case in cases:
        parts = case.split("/")
        for start in range(len(parts)):
            tail = "/".join(parts[start:])
            for name in {tail, stem(tail)}:
                ways.setdefault(name, set()).add(case)
    found: dict[str, tuple[str, int]] = {}
    unused = []
    for path, prompt, seed in entries:
        name = path.replace("\\", "/").removeprefix("./")
        near = {name} if name in ways.get(name, ()) else ways.get(name) or ways.get(name.rpartition("/")[2]) or set()
        if len(near) != 1:
            unused.append(path)
            continue
        (case,) = near
        if found.setdefault(case, (prompt, seed)) != (prompt, seed):
            raise InvalidError(f"two prompts for {case}", fix="keep one line for each video")
    return found, unused
