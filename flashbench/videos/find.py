"""Which videos: files, folders, globs and folders of pictures, each with its name, its prompt and its reference.

A video's name (its `case`) is its path below what was asked for, so that the same name in two folders is the same case.
"""

from __future__ import annotations

import glob
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flashbench.data.prompts import read
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
    above = Path(os.path.commonpath([root for root, _ in roots]))
    unique = {path for _, paths in roots for path in paths}
    named: dict[str, Path] = {}
    for path in sorted(unique, key=os.fsencode):
        case = _text(path.relative_to(above))
        while case in named:  # two names whose odd bytes are written alike
            case += "~2"
        named[case] = path
    return _text(Path(above.name)) or "videos", [Video(case=case, path=named[case]) for case in sorted(named)]


def pictures(folder: Path) -> list[Path]:
    """The frames of a folder of pictures in order (their numbers count as numbers); empty if it is none.

    A folder whose sub-folder holds a video or a picture is none; other sub-folders (say, of scores) do not matter.
    """
    names, folders = _listed(folder)
    if any(name.lower().endswith(SUFFIXES) for name in names):
        return []
    frames = [name for name in names if name.lower().endswith(PICTURES)]
    if frames and any(name.lower().endswith(SUFFIXES + PICTURES) for below in folders for name in _listed(below)[0]):
        return []
    return [folder / name for name in sorted(frames, key=_natural)]


def prompted(videos: Sequence[Video], prompts: str | Path | Mapping[str, str]) -> tuple[list[Video], list[str]]:
    """The videos with their prompts and seeds, and remarks: videos without a prompt, prompts without a video.

    `prompts` is a CSV or JSONL with path, prompt and perhaps seed (or index), a JSON object or a mapping of file to
    prompt, or `BY_NAME`. A path leads to the video of that name, or the only one whose name ends in it or equals it but
    for the suffix, or the one that lies there: by its whole path or the end of it, or seen from the working directory
    or the folder of the prompts. A seed is an integer of 64 bits.

    Raises:
        InvalidError: the file cannot be read, or is of no such form.
    """
    if prompts == BY_NAME:
        parsed = {video.case: _by_name(video.path) for video in videos}
        matches = {case: entry for case, entry in parsed.items() if entry is not None}
        unused: list[str] = []
    else:
        if isinstance(prompts, Mapping):
            entries, beside = _checked("the mapping", [(str(k), v, 0) for k, v in prompts.items()]), Path()
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
    known = {video.case: video.path for video in find([folder])[1]}
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
    """A case without its video suffix."""
    base, dot, suffix = case.rpartition(".")
    return base if dot and f".{suffix.lower()}" in SUFFIXES and base else case


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


def _below(path: Path) -> list[Path]:
    """The videos of a path: itself, or all below a folder, each folder once even if links lead to it again."""
    if not path.is_dir() or pictures(path):
        return [path]
    paths = list[Path]()
    seen = set[tuple[int, int]]()
    pending = [path]  # then the folders that links lead to: a folder's own name goes before a link's
    for start in pending:
        for where, folders, names in os.walk(start, onerror=_unreadable):
            folder = Path(where)
            with on_disk(f"{_text(folder)} cannot be read", fix="check its permissions"):
                about = folder.stat()
            if (about.st_dev, about.st_ino) in seen:
                folders.clear()
                continue
            seen.add((about.st_dev, about.st_ino))
            pending += [folder / name for name in sorted(folders) if (folder / name).is_symlink()]
            videos = [folder / name for name in names if name.lower().endswith(SUFFIXES) and not name.startswith("._")]
            paths += videos or ([folder] if pictures(folder) else [])
    if not paths:
        raise UsageError(
            f"{_text(path)} holds no video", fix=f"videos end in {', '.join(SUFFIXES)}, or are folders of png"
        )
    return paths


def _listed(folder: Path) -> tuple[list[str], list[Path]]:
    """Names of the files of a folder, and its sub-folders; without hidden ones."""
    with on_disk(f"{_text(folder)} cannot be read", fix="check its permissions"), os.scandir(folder) as entries:
        here = [(entry.name, _is_folder(entry)) for entry in entries if not entry.name.startswith(".")]
    return [name for name, is_folder in here if not is_folder], [folder / name for name, is_folder in here if is_folder]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    # A link that leads to itself is none; `entry.is_dir()` fails on it.
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _unreadable(error: OSError) -> None:
    raise InvalidError(
        f"{_text(Path(error.filename))} cannot be read: {error.strerror}", fix="check its permissions"
    ) from error


def _text(path: Path) -> str:
    # Names are bytes: what is no UTF-8 is written out, for tables hold text; so is what would break a table's lines or
    # speak to a terminal.
    text = os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")
    return "".join(_escaped(mark) if unicodedata.category(mark) in ("Cc", "Zl", "Zp") else mark for mark in text)


def _escaped(mark: str) -> str:
    return f"\\x{ord(mark):02x}" if ord(mark) < 256 else f"\\u{ord(mark):04x}"


def _natural(name: str) -> list[tuple[bool, int, str]]:
    parts = re.split(r"([0-9]+)", name)  # text and numbers take turns
    return [(at % 2 == 0, int(part) if at % 2 else 0, part) for at, part in enumerate(parts)]


def _by_name(path: Path) -> tuple[str, int] | None:
    prompt, dash, index = stem(_text(Path(path.name))).rpartition("-")
    return (prompt, int(index)) if dash and prompt.strip() and re.fullmatch("[0-9]{1,9}", index) else None


def _entries(path: Path) -> list[tuple[str, str, int]]:
    """(path, prompt, seed) of every entry of a file of prompts."""
    return _checked(str(path), read(path, lambda line: (line["path"], line["prompt"], _seed(line)), fix=_FIX))


def _checked(source: str, entries: list[tuple[Any, Any, int]]) -> list[tuple[str, str, int]]:
    """The entries, whose paths may be any file's and whose prompts are Unicode (JSON can write what is not)."""
    for path, prompt, _ in entries:
        if not all(isinstance(text, str) and text.strip() for text in (path, prompt)):
            raise InvalidError(f"{source}: a path or a prompt is empty or no text", fix=_FIX)
        try:
            os.fsencode(path)
            prompt.encode()
        except UnicodeEncodeError as error:
            raise InvalidError(f"{source}: a path or a prompt is not Unicode: {error}", fix=_FIX) from error
    return entries


def _seed(line: Mapping[str, Any]) -> int:
    given = next((line[name] for name in ("seed", "index") if line.get(name) not in (None, "")), 0)
    seed = int(given) if isinstance(given, str) or (isinstance(given, float) and given.is_integer()) else given
    if type(seed) is not int or not -(2**63) <= seed < 2**63:
        raise ValueError(f"a seed is an integer of 64 bits, not {str(given)[:40]}")
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
