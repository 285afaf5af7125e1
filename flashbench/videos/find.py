"""Which videos: files, folders, globs and folders of pictures, each with its name, its prompt and its reference.

A video's name (its `case`) is its path below what was asked for, so that the same name in two folders is the same case.
Names are text in Unicode's composed form (NFC), whichever a file system keeps; a path keeps its own bytes.
"""

from __future__ import annotations

import glob
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from flashbench.data.prompts import read
from flashbench.data.records import blank, excerpt
from flashbench.errors import InvalidError, UsageError, on_disk
from flashbench.videos import pictures
from flashbench.videos.media import PICTURES, VIDEOS

BY_NAME = "vbench"
"""In place of a file of prompts: they are read from VBench's file names, `{prompt}-{index}.mp4`."""
_FIX = "give a CSV, JSON or JSONL with path, prompt and perhaps seed, VBench's JSON of file to prompt, or `vbench`"


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


class Found(NamedTuple):
    """What a search found."""

    label: str
    """The name of the folder that holds all of them."""
    videos: list[Video]
    """Sorted by name."""
    remarks: list[str]
    """On files that look like videos or pictures and were left out."""


def find(asked: Sequence[str | Path]) -> Found:
    """The videos of what was asked for: files, folders (and all below them), globs.

    Of two paths whose names are written alike, one has `~2` behind its name.

    Raises:
        UsageError: something is not there, or holds no video.
    """
    roots, below = list[Path](), list[_Below]()
    for item in asked:
        for path in _expanded(item):
            roots.append(path if path.is_dir() and not pictures.pictures(path) else path.parent)
            below.append(_below(path))
    if not roots:
        raise UsageError("no video was asked for", fix="name files, folders or globs")
    above = Path(os.path.commonpath(roots))
    unique = {path for here in below for path in here.videos}
    named: dict[str, Path] = {}
    for path in sorted(unique, key=lambda path: (not _is_composed(path), os.fsencode(path))):
        case = _text(path.relative_to(above))
        while case in named:
            case += "~2"
        named[case] = path
    videos = [Video(case=case, path=named[case]) for case in sorted(named)]
    unread = {path for here in below for path in here.unread} - unique
    left = {path for here in below for path in here.pictures} - unique
    return Found(_text(Path(above.name)) or "videos", videos, _left_out(unread, left, above))


def prompted(videos: Sequence[Video], prompts: str | Path | Mapping[str, str]) -> tuple[list[Video], list[str]]:
    """The videos with their prompts and seeds, and remarks: videos without a prompt, prompts without a video.

    `prompts` is a CSV, JSON or JSONL with path, prompt and perhaps seed (or index), a JSON object or a mapping of file
    to prompt, or `BY_NAME`. A path leads to the video of that name, or the only one whose name ends in it or equals it
    but for the suffix, or the one that lies there: by its whole path or the end of it, or seen from the working
    directory or the folder of the prompts. A seed is an integer of 64 bits.

    Raises:
        InvalidError: the file cannot be read, or is of no such form.
    """
    if prompts == BY_NAME:
        parsed = {video.case: _by_name(video.path) for video in videos}
        matches = {case: entry for case, entry in parsed.items() if entry is not None}
        unused: list[str] = []
    else:
        if isinstance(prompts, Mapping):
            entries, beside = _of_mapping(prompts), Path()
        else:
            entries, beside = _entries(Path(prompts)), Path(prompts).parent
        matches, unused = _matched(videos, entries, beside)
    without = [video.case for video in videos if video.case not in matches]
    remarks = [f"{len(without)} of {len(videos)} videos have no prompt, {without[0]} among them"] if without else []
    remarks += [f"{len(unused)} prompts have no video, that of {unused[0]} among them"] if unused else []
    named = [replace(v, prompt=matches[v.case][0], seed=matches[v.case][1]) if v.case in matches else v for v in videos]
    return named, remarks


def references(videos: Sequence[Video], folder: Path) -> dict[str, Path]:
    """Case → its reference below `folder`: the video of the same name, or of the same but for the suffix.

    Raises:
        UsageError: the folder is not there or holds no video.
    """
    if not folder.is_dir():
        raise UsageError(
            f"--reference {folder} is not a folder", fix="give the folder that holds videos of the same names"
        )
    known = {video.case: video.path for video in find([folder]).videos}
    bare: dict[str, list[Path]] = {}
    for case, path in known.items():
        bare.setdefault(stem(case), []).append(path)
    matches = {}
    for video in videos:
        near = bare.get(stem(video.case), [])
        reference = known.get(video.case) or (near[0] if len(near) == 1 else None)
        if reference is not None:
            matches[video.case] = reference
    return matches


def stem(case: str) -> str:
    """A case without its video suffix, in its composed form."""
    base, dot, suffix = (whole := composed(case)).rpartition(".")
    return base if dot and f".{suffix.lower()}" in VIDEOS and base else whole


def composed(name: str) -> str:
    """A name in Unicode's composed form (NFC), in which names are compared: macOS may keep `é` as two characters."""
    return unicodedata.normalize("NFC", name)


def _expanded(item: str | Path) -> list[Path]:
    path = Path(item).expanduser()
    try:
        if path.exists():
            return [_normal(path)]
    except OSError as error:
        raise UsageError(f"{item} cannot be looked at: {error.strerror}", fix="check the path") from error
    if glob.has_magic(text := str(path)) and (matches := sorted(glob.glob(text, recursive=True))):
        return [_normal(Path(name)) for name in matches]
    raise UsageError(f"{item} is not there", fix="give a file, a folder or a glob that matches some")


def _normal(path: Path) -> Path:
    """The path from the root, without `..`: one text for a file, however it is asked for. Links keep their names."""
    plain = Path(os.path.abspath(path))
    if ".." not in path.parts or (plain.exists() and path.exists() and plain.samefile(path)):
        return plain
    # The folder above a link is not the one that its text says.
    return Path(os.path.realpath(path)) if path.name == ".." else Path(os.path.realpath(path.parent)) / path.name


class _Below(NamedTuple):
    """What a path holds: its videos, files that look like such and are not read, pictures that are part of no video."""

    videos: list[Path]
    unread: list[Path]
    pictures: list[Path]


def _below(path: Path) -> _Below:
    """A path itself, or all below a folder, each folder once even if links lead to it again.

    Raises:
        UsageError: it holds no video.
    """
    found = _Below([], [], [])
    if not path.is_dir() or pictures.pictures(path):
        found.videos.append(path)
        return found
    seen = set[tuple[int, int]]()
    pending = [path]  # then the folders that links lead to: a folder's own name goes before a link's
    for start in pending:
        for where, folders, _ in os.walk(start, onerror=_unreadable):
            folder = Path(where)
            with on_disk(f"{_text(folder)} cannot be read", fix="check its permissions"):
                about = folder.stat()
            if (about.st_dev, about.st_ino) in seen:
                folders.clear()
                continue
            seen.add((about.st_dev, about.st_ino))
            pending += [folder / name for name in sorted(folders) if (folder / name).is_symlink()]
            here = pictures.listed(folder)
            whole = pictures.frames_of(here)
            found.videos.extend(here.videos or ([folder] if whole else []))
            found.unread.extend(here.unread)
            found.pictures.extend(() if whole else here.pictures)
    if not found.videos:
        also = "".join(f"; {remark}" for remark in _left_out(found.unread, found.pictures, path))
        fix = f"videos end in {', '.join(VIDEOS)}, or are folders of {', '.join(PICTURES)}"
        raise UsageError(f"{_text(path)} holds no video{also}", fix=fix)
    return found


def _left_out(unread: Iterable[Path], left: Iterable[Path], above: Path) -> list[str]:
    """Remarks on what was left out, named below the folder `above`."""
    remarks = []
    for paths, one, several in (
        (unread, "file looks like video or a picture and was", "files look like video or pictures and were"),
        (left, "picture stands beside videos and was", "pictures stand beside videos and were"),
    ):
        if names := sorted(_text(path.relative_to(above)) for path in paths):
            alone, done = len(names) == 1, "not read" if paths is unread else "left out"
            which = names[0] if alone else f"{names[0]} among them"
            remarks.append(f"{len(names)} {one if alone else several} {done}: {which}")
    return remarks


def _unreadable(error: OSError) -> None:
    raise InvalidError(
        f"{_text(Path(error.filename))} cannot be read: {error.strerror}", fix="check its permissions"
    ) from error


def _text(path: Path) -> str:
    # Names are bytes: what is no UTF-8 is written out, for tables hold text; so is what would break a table's lines or
    # speak to a terminal.
    text = composed(os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace"))
    return "".join(_escaped(mark) if unicodedata.category(mark) in ("Cc", "Zl", "Zp") else mark for mark in text)


def _is_composed(path: Path) -> bool:
    return unicodedata.is_normalized("NFC", str(path))


def _escaped(mark: str) -> str:
    return f"\\x{ord(mark):02x}" if ord(mark) < 256 else f"\\u{ord(mark):04x}"


def _by_name(path: Path) -> tuple[str, int] | None:
    prompt, dash, index = stem(_text(Path(path.name))).rpartition("-")
    return (prompt, int(index)) if dash and prompt.strip() and re.fullmatch("[0-9]{1,9}", index) else None


def _entries(path: Path) -> list[tuple[str, str, int]]:
    """(path, prompt, seed) of every entry of a file of prompts."""
    return read(path, lambda entry: _entry(entry["path"], entry["prompt"], _seed(entry)), fix=_FIX)


def _of_mapping(prompts: Mapping[str, str]) -> list[tuple[str, str, int]]:
    try:
        return [_entry(str(path), prompt, 0) for path, prompt in prompts.items()]
    except ValueError as error:
        raise InvalidError(f"the mapping: {error}", fix=_FIX) from error


def _entry(path: Any, prompt: Any, seed: int) -> tuple[str, str, int]:
    """An entry whose path may be any file's and whose prompt is Unicode (JSON can write what is not)."""
    for name, text in (("path", path), ("prompt", prompt)):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"its {name} is empty or no text")
    try:
        os.fsencode(path)
        prompt.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"its path or its prompt is not Unicode: {error.reason}") from error
    return path, composed(prompt), seed


def _seed(entry: Mapping[str, Any]) -> int:
    given = next((entry[name] for name in ("seed", "index") if not blank(entry.get(name))), 0)
    # Spreadsheets and pandas write whole numbers beside holes as 0.0; 1,000 may be one or a thousand.
    if isinstance(given, str) and (digits := re.fullmatch(r"([+-]?[0-9]+)(?:[.,]0{0,2})?", given.strip())):
        given = int(digits[1])
    seed = int(given) if isinstance(given, float) and given.is_integer() else given
    if type(seed) is not int or not -(2**63) <= seed < 2**63:
        raise ValueError(f"a seed is an integer of 64 bits, not {excerpt(given)}")
    return seed


def _matched(
    videos: Sequence[Video], entries: Iterable[tuple[str, str, int]], beside: Path
) -> tuple[dict[str, tuple[str, int]], list[str]]:
    """Case → (prompt, seed), and the paths that lead to no case or to several. `beside`: the folder of the prompts."""
    ways: dict[str, set[str]] = {}
    for video in videos:
        for whole in (video.case, _text(video.path)):
            parts = whole.split("/")
            for tail in ("/".join(parts[start:]) for start in range(len(parts))):
                for name in {tail, stem(tail)}:
                    ways.setdefault(name, set()).add(video.case)
    matches: dict[str, tuple[str, int]] = {}
    unused = []
    for path, prompt, seed in entries:
        near = _near(path, ways, beside) or _near(path.replace("\\", "/"), ways, beside)
        if len(near) != 1:
            unused.append(_text(Path(path)))
            continue
        (case,) = near
        if matches.setdefault(case, (prompt, seed)) != (prompt, seed):
            raise InvalidError(f"two prompts for {case}", fix="keep one line for each video")
    return matches, unused


def _near(path: str, ways: Mapping[str, set[str]], beside: Path) -> set[str]:
    """The cases that a written path may mean: by the end of their names or places, or seen from either folder."""
    name = _text(Path(path))
    if name in ways:
        return {name} if name in ways[name] else ways[name]
    seen = (ways.get(_text(Path(os.path.abspath(base / path))), set()) for base in (Path(), beside))
    return set().union(*seen)
