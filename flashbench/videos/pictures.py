"""A folder of pictures as a video: one numbered sequence, or refused with what is double, missing or strange in it.

A number is what differs between names that are otherwise the same: `frame9.png`, `0001.jpg`, `out_0.25_v2.png`. It may
begin anywhere, be padded or not, and have a fraction (times). The steps between numbers are all the same: 1, but also
5, as when every fifth picture was kept, for then the pictures are as evenly spaced in time as those of a video; a
picture that is missing from such a sequence is a gap like any other. Steps that differ from the most common one by one
unit of the last digit are its rounding (0.033, 0.067, 0.100), but steps of 1 and 2 are a sequence with gaps.
"""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from flashbench.decoding import picture
from flashbench.decoding.frames import Picture
from flashbench.errors import on_disk
from flashbench.videos.media import Kind, kind

_NUMBERS = (re.compile(r"[0-9]+(?:\.[0-9]+)?"), re.compile(r"[0-9]+"))
"""With fractions, and without: `v1.10` may come after `v1.9`."""
_SHOWN = 3
"""Names that a reason lists at most."""
_FORMATS = {"jpeg": "jpg", "tiff": "tif"}


@dataclass(frozen=True)
class Listing:
    """The files of a folder by what they are, in the order of their names, and its folders; without hidden ones."""

    videos: tuple[Path, ...]
    pictures: tuple[Path, ...]
    unread: tuple[Path, ...]
    folders: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a folder of pictures is as a video."""

    height: int
    width: int
    frames: int
    format: str
    """The suffix, without its dot, in small letters."""
    alpha: bool
    """Whether the first picture is not opaque; each tells of itself when it is decoded."""


def listed(folder: Path) -> Listing:
    """What a folder holds, its own files only.

    An animated picture that has its number among still ones is a picture (and refused as a frame), not a video.

    Raises:
        InvalidError: it cannot be read.
    """
    with on_disk(f"{shown(folder)} cannot be read", fix="check its permissions"), os.scandir(folder) as entries:
        here = sorted(((entry.name, _is_folder(entry)) for entry in entries), key=lambda entry: os.fsencode(entry[0]))
    kinds = {folder / name: kind(folder / name) for name, is_folder in here if not is_folder}
    videos, pictures, unread = (
        tuple(path for path, found in kinds.items() if found is wanted)
        for wanted in (Kind.VIDEO, Kind.PICTURE, Kind.UNREAD)
    )
    if len(pictures) > 1 and videos and all(path.suffix.lower() == ".webp" for path in videos):
        together = sorted([*videos, *pictures])
        if not fault([path.name for path in together]):
            videos, pictures = (), tuple(together)
    folders = tuple(folder / name for name, is_folder in here if is_folder and not name.startswith("."))
    return Listing(videos, pictures, unread, folders)


def pictures(folder: Path) -> list[Path]:
    """The pictures of a folder that is a video itself, by their numbers, or by name if they are no sequence.

    Empty if it is none.

    A folder that holds a video, or whose sub-folder holds a video or a picture, is none; other sub-folders (say, of
    scores) do not matter.

    Raises:
        InvalidError: it cannot be read.
    """
    return frames_of(listed(folder))


def frames_of(here: Listing) -> list[Path]:
    """`pictures` of a folder whose files are known."""
    if here.videos or not here.pictures:
        return []
    below = (listed(folder) for folder in here.folders)
    if any(found.videos or found.pictures for found in below):
        return []
    paths = {path.name: path for path in here.pictures}
    return [paths[name] for name in (list(paths) if fault(list(paths)) else ordered(list(paths)))]


def sequence(folder: Path) -> list[Path]:
    """The pictures of a folder in the order of their numbers.

    Raises:
        ValueError: it holds none, or they are not one numbered sequence.
        InvalidError: it cannot be read.
    """
    found = pictures(folder)
    if not found:
        raise ValueError("it holds no picture")
    for path in found:
        if not stat.S_ISREG(path.stat().st_mode):  # pipes and devices never end, or wait for somebody who writes
            raise ValueError(f"{shown(path.name)} is not a regular file")
    ordered([path.name for path in found])
    return found


def look(folder: Path) -> Look:
    """What a folder is as a video, by its names and its first picture.

    Raises:
        ValueError: it is no sequence of pictures.
        OSError, InvalidError: it cannot be read.
    """
    paths = sequence(folder)
    first, alpha = picture.rgb(paths[0])
    return Look(
        height=first.shape[0],
        width=first.shape[1],
        frames=len(paths),
        format=paths[0].suffix.lower().lstrip("."),
        alpha=alpha,
    )


def frames(folder: Path) -> Iterator[Picture]:
    """The pictures of a folder in order, on black where they are not opaque; without times.

    Raises:
        ValueError: it is no sequence of pictures of one size.
        OSError, InvalidError: it cannot be read.
    """
    first, paths = None, sequence(folder)
    for path in paths:
        frame, transparent = picture.rgb(path)
        first = first or frame.shape
        if frame.shape != first:
            sizes = f"{frame.shape[0]}×{frame.shape[1]}, unlike {shown(paths[0].name)}, {first[0]}×{first[1]}"
            raise ValueError(f"{shown(path.name)} is {sizes}")
        yield Picture(frame, None, Fraction(0), transparent)


def ordered(names: Sequence[str]) -> list[str]:
    """Names of pictures in the order of their numbers; a single one needs none.

    Raises:
        ValueError: they are not one sequence: one is numbered unlike the others, two have one number or format, one is
            missing, or the steps differ. The message names the first.
    """
    if why := fault(names):
        raise ValueError(f"its {len(names)} pictures are not one numbered sequence: {why}")
    return list(names) if len(names) == 1 else _best(names).in_order()


def fault(names: Sequence[str]) -> str:
    """Why pictures of these names are not one sequence; empty if they are."""
    return "" if len(names) == 1 else _best(names).fault()


def shown(name: str | Path) -> str:
    """A name as a message shows it: what is no UTF-8 is written out."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class _Reading:
    """Names of pictures, read as what stands before a number, the number, and what stands after it."""

    before: str
    after: str
    numbers: dict[str, str]
    """Name → its number as it is written."""
    strange: tuple[str, ...]
    """Names of another form."""

    @cached_property
    def digits(self) -> int:
        """Behind the point, at most."""
        return max((len(text.partition(".")[2]) for text in self.numbers.values()), default=0)

    def units(self, text: str) -> int:
        """A number in units of the last digit that any of them has."""
        whole, _, part = text.partition(".")
        return int(whole + part.ljust(self.digits, "0"))

    def in_order(self) -> list[str]:
        """Names in the order of their numbers."""
        return sorted(self.numbers, key=lambda name: (self.units(self.numbers[name]), name))

    @property
    def double(self) -> list[tuple[str, str]]:
        """Neighbours of the same number."""
        names = self.in_order()
        return [pair for pair in pairwise(names) if len({self.units(self.numbers[name]) for name in pair}) == 1]

    def fault(self) -> str:
        """Why the names are no sequence; empty if they are."""
        if not self.numbers:
            return f"{_some(self.strange)} {_have(self.strange)} no number"
        names = self.in_order()
        if self.strange:
            return f"{_some(self.strange)} {_have(self.strange)} another form of name than {shown(names[0])}"
        if self.double:
            more = f", and {len(self.double) - 1} more" if len(self.double) > 1 else ""
            return f"{shown(self.double[0][0])} and {shown(self.double[0][1])} have one number{more}"
        formats = Counter(_format(name) for name in names)
        if len(formats) > 1:
            common = formats.most_common(1)[0][0]
            other = [name for name in names if _format(name) != common]
            return f"{_some(other)} {_have(other)} another format than the others, which are {common}"
        return self._gap(names)

    @cached_property
    def steps(self) -> tuple[list[int], int]:
        """From each number to the next in order, and the usual one: the most common, of several the smallest."""
        values = [self.units(self.numbers[name]) for name in self.in_order()]
        steps = [after - before for before, after in pairwise(values)]
        counts = Counter(steps)
        return steps, min(counts, key=lambda step: (-counts[step], step), default=1)

    @property
    def absent(self) -> int:
        """Numbers that are missing."""
        steps, usual = self.steps
        return sum(max(0, round(step / usual) - 1) for step in steps if step - usual > self.slack) if usual else 0

    @cached_property
    def slack(self) -> int:
        """By how many units a step may differ from the usual one: by rounding, and from 1 to 2 it is no rounding."""
        steps, usual = self.steps
        return 1 if min(steps, default=0) >= max(2, usual - 1) else 0

    def _gap(self, names: list[str]) -> str:
        """What is missing between names in order, or where they are unevenly spaced."""
        steps, usual = self.steps
        for (name, after), step in zip(pairwise(names), steps, strict=True):
            if abs(step - usual) <= self.slack:
                continue
            times = max(1, round(step / usual))
            if abs(step - usual * times) > self.slack * times:
                apart = f"{self._written(step)} apart, most are {self._written(usual)}"
                return f"{shown(name)} and {shown(after)} are {apart}"
            width = len(self.numbers[name].partition(".")[0])
            number = self._written(self.units(self.numbers[name]) + round(step / times), width)
            missing = f"{self.before}{number}{self.after}{os.path.splitext(name)[1]}"
            return f"{shown(missing)} is missing" + (f", and {self.absent - 1} more" if self.absent > 1 else "")
        return ""

    def _written(self, units: int, width: int = 1) -> str:
        whole, part = divmod(units, 10**self.digits)
        return f"{whole:0{width}d}" + (f".{part:0{self.digits}d}" if self.digits else "")


def _best(names: Sequence[str]) -> _Reading:
    """The reading without a fault, or the one that most names have, with the fewest double and missing numbers."""
    readings = [_reading(names, number) for number in _NUMBERS]
    whole = next((reading for reading in readings if not reading.fault()), None)
    return whole or max(readings, key=lambda reading: (len(reading.numbers), -len(reading.double), -reading.absent))


def _reading(names: Sequence[str], number: re.Pattern[str]) -> _Reading:
    forms: dict[tuple[str, str], dict[str, str]] = {}
    for name in sorted(names):
        stem = unicodedata.normalize("NFC", os.path.splitext(name)[0])
        for found in number.finditer(stem):
            forms.setdefault((stem[: found.start()], stem[found.end() :]), {})[name] = found[0]
    if not forms:
        return _Reading("", "", {}, tuple(sorted(names)))
    # The form of most names; of those that as many have, the one whose numbers differ most.
    (before, after), numbers = max(forms.items(), key=lambda form: (len(form[1]), len(set(form[1].values()))))
    return _Reading(before, after, numbers, tuple(sorted(set(names) - set(numbers))))


def _format(name: str) -> str:
    suffix = os.path.splitext(name)[1].lower().lstrip(".")
    return _FORMATS.get(suffix, suffix)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(shown(name) for name in names[:_SHOWN]) + more


def _have(names: Sequence[str]) -> str:
    return "has" if len(names) == 1 else "have"


def _is_folder(entry: os.DirEntry[str]) -> bool:
    # A link that leads to itself is none; `entry.is_dir()` fails on it.
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()
