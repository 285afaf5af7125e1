"""Anybody's video, a file or a folder of pictures: what it is, and its frames, decoded once and never held whole.

Frames come as they are shown: turned and mirrored, at whatever times (a variable rate is noted; `--fps` takes the
nearest in time). What is cut short or damaged is refused whole: half a video would be another clip under the same name.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from flashbench.decoding import frames as decoding
from flashbench.decoding import source
from flashbench.decoding.container import Unreadable, readable, regular
from flashbench.decoding.frames import Picture
from flashbench.decoding.source import UNTIMED, Source, Times
from flashbench.keys import file_sha256
from flashbench.types import Frames
from flashbench.videos.find import pictures as pictures_of

READER = 3
"""Version of what turns a file into frames: raised whenever a frame or a choice of frames changes."""


def content_hash(path: Path) -> str:
    """sha256 of a file's bytes; of a folder of pictures, over the names and hashes of its frames.

    Raises:
        Unreadable: it cannot be read.
    """
    with readable(path):
        if not path.is_dir():
            return file_sha256(path)
        state = hashlib.sha256()
        for picture in _names(path):
            state.update(f"{picture.name}\0{file_sha256(picture)}\n".encode("utf-8", "surrogateescape"))
        return state.hexdigest()


def stamp(path: Path) -> tuple[Any, ...]:
    """What changes when a file is written or replaced, without reading it; of a folder of pictures, that of each.

    Raises:
        Unreadable: it cannot be looked at.
    """
    with readable(path):
        if path.is_dir():
            return tuple((picture.name, *stamp(picture)) for picture in _names(path))
        about = path.stat()
        return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns


def probe(path: Path) -> tuple[Source, Times]:
    """What a video is, and when its pictures are shown, without decoding more than the first.

    Raises:
        Unreadable: it cannot be opened, holds no video, or is cut short.
    """
    if not path.is_dir():
        return source.probe(path)
    with readable(path):
        about = _probe_pictures(path)
    return about, source.times_of([(None, Fraction(0))] * about.frames, about.fps)


def pictures(path: Path) -> Iterator[Picture]:
    """Every picture, in order of display.

    Raises:
        Unreadable: it cannot be decoded to its end, is damaged, or changes its size.
    """
    if not path.is_dir():
        yield from decoding.pictures(path)
        return
    with readable(path):
        shape = None
        for number, frame in enumerate(_pictures(path)):
            if shape not in (None, frame.shape):
                raise ValueError(f"frame {number} is {frame.shape[0]}×{frame.shape[1]}, unlike those before it")
            shape = frame.shape
            yield Picture(frame, None, Fraction(0))


def chosen(numbers: Sequence[int], wanted: str | int) -> Sequence[int]:
    """The middles of `wanted` equal parts of a sequence of pictures; all of them if there are no more, or for `all`."""
    if wanted == "all" or int(wanted) >= len(numbers):
        return numbers
    return [numbers[(2 * part + 1) * len(numbers) // (2 * int(wanted))] for part in range(int(wanted))]


def resized(frame: Frames, size: tuple[int, int] | None) -> Frames:
    """The frame at height × width: area average where it shrinks both ways, bicubic otherwise; None: as it is.

    Raises:
        Unreadable: there is no room for such a picture.
    """
    if size is None or frame.shape[:2] == size:
        return frame
    shrinks = size[0] <= frame.shape[0] and size[1] <= frame.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    try:
        return np.asarray(cv2.resize(frame, (size[1], size[0]), interpolation=how), np.uint8)
    except (cv2.error, MemoryError) as error:
        what = f"cannot be resized to {size[0]}×{size[1]}: {str(error).strip() or 'out of memory'}"
        raise Unreadable(what, fix="ask for a smaller size") from error


def _names(path: Path) -> list[Path]:
    if not (names := pictures_of(path)):
        raise ValueError("it holds no picture")
    for name in names:
        regular(name)
    return names


def _probe_pictures(path: Path) -> Source:
    names = _names(path)
    first = _picture(names[0])
    return Source(
        height=first.shape[0],
        width=first.shape[1],
        fps=UNTIMED,
        frames=len(names),
        container="folder",
        codec=names[0].suffix.lower().lstrip("."),
        pixel_format="rgb24",
        matrix="rgb",
        range="full",
        primaries="untagged",
        transfer="untagged",
        depth=8,
        chroma="rgb",
        field_order="progressive",
        pixel_aspect="1/1",
        alpha=False,
    )


def _pictures(path: Path) -> Iterator[Frames]:
    yield from map(_picture, _names(path))


def _picture(path: Path) -> Frames:
    # Not imread, which knows no names outside the locale and says nothing where it fails.
    content = np.frombuffer(path.read_bytes(), np.uint8)
    picture = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    if picture is None:
        raise ValueError(f"{os.fsencode(path.name).decode('utf-8', 'backslashreplace')} is not a picture")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)
