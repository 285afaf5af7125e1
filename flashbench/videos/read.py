"""Anybody's video, a file or a folder of pictures: what it is, and its frames, decoded once and never held whole.

Frames come as they are shown: turned and mirrored, at whatever times (a variable rate is noted; `--fps` takes the
nearest in time). What is cut short or damaged is refused whole: half a video would be another clip under the same name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from flashbench import keys
from flashbench.decoding import colour, source, webp
from flashbench.decoding import frames as decoding
from flashbench.decoding.container import Unreadable, readable
from flashbench.decoding.frames import Picture
from flashbench.decoding.source import UNTIMED, Source, Times, times_of
from flashbench.keys import file_sha256
from flashbench.types import Frames
from flashbench.videos import pictures as folders

READER = 4
"""Version of what turns a file into frames: raised whenever a frame or a choice of frames changes."""


def reader() -> dict[str, Any]:
    """What decides the frames of a file: our versions, and the libraries that decode and convert."""
    libraries = keys.versions("av", "numpy")
    return {"reader": READER, "colour": colour.RULE, "swscale": colour.swscale(), "libraries": libraries}


_PICTURES: Mapping[str, Any] = {
    **{"matrix": "rgb", "range": "full", "primaries": "untagged", "transfer": "untagged", "depth": 8, "chroma": "rgb"},
    **{"field_order": "progressive", "pixel_aspect": "1/1"},
}
"""Light and time of pictures that are decoded to 8-bit RGB."""
_LOSSLESS = ("png", "bmp", "tif", "tiff")
"""Formats of pictures that are coded without loss; a WebP may be, and counts as lossy."""


def content_hash(path: Path) -> str:
    """sha256 of a file's bytes; of a folder of pictures, over the names and hashes of its frames.

    Raises:
        Unreadable: it cannot be read.
    """
    with readable(path):
        if not path.is_dir():
            return file_sha256(path)
        state = hashlib.sha256()
        for picture in folders.sequence(path):
            state.update(f"{picture.name}\0{file_sha256(picture)}\n".encode("utf-8", "surrogateescape"))
        return state.hexdigest()


def stamp(path: Path) -> tuple[Any, ...]:
    """What changes when a file is written or replaced, without reading it; of a folder of pictures, that of each.

    Raises:
        Unreadable: it cannot be looked at.
    """
    with readable(path):
        if path.is_dir():
            return tuple((picture.name, *stamp(picture)) for picture in folders.sequence(path))
        about = path.stat()
        return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns


def probe(path: Path) -> tuple[Source, Times]:
    """What a video is, and when its pictures are shown.

    Raises:
        Unreadable: it cannot be opened, holds no video, or is cut short.
    """
    with readable(path):
        if path.is_dir():
            return _folder(path)
        return _webp(path) if _animated(path) else source.probe(path)


def pictures(path: Path) -> Iterator[Picture]:
    """Every picture, in order of display.

    Raises:
        Unreadable: it cannot be decoded to its end, is damaged, or changes its size.
    """
    with readable(path):
        yield from _shown(path) if path.is_dir() or _animated(path) else decoding.pictures(path)


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


def _animated(path: Path) -> bool:
    return path.suffix.lower() == ".webp" and webp.pictures(path) > 1


def _shown(path: Path) -> Iterator[Picture]:
    """The pictures of what FFmpeg does not read: a folder, or an animated WebP."""
    return folders.frames(path) if path.is_dir() else iter(_timed(webp.animation(path)))


def _timed(shown: webp.Animation) -> list[Picture]:
    ends = [Fraction(end, 1000) for end in accumulate(shown.durations)]
    lengths = [Fraction(length, 1000) for length in shown.durations]
    together = zip(shown.frames, ends, lengths, strict=True)
    return [Picture(frame, end - length, length, shown.alpha) for frame, end, length in together]


def _folder(path: Path) -> tuple[Source, Times]:
    look = folders.look(path)
    about = Source(
        **_PICTURES,
        height=look.height,
        width=look.width,
        fps=UNTIMED,
        frames=look.frames,
        container="folder",
        codec=look.format,
        pixel_format="rgba" if look.alpha else "rgb24",
        alpha=look.alpha,
        lossless=look.format in _LOSSLESS,
    )
    return about, times_of([(None, Fraction(0))] * about.frames, about.fps)


def _webp(path: Path) -> tuple[Source, Times]:
    shown = webp.animation(path)
    height, width, _ = shown.frames[0].shape
    total = Fraction(sum(shown.durations), 1000)
    rate = len(shown.frames) / total if total else UNTIMED
    times = times_of([(picture.start, picture.duration) for picture in _timed(shown)], rate)
    about = Source(
        **_PICTURES,
        height=height,
        width=width,
        fps=rate,
        frames=len(shown.frames),
        container="webp",
        codec="webp",
        pixel_format="rgba" if shown.alpha else "rgb24",
        alpha=shown.alpha,
        lossless=False,
        **times.spread(Fraction(1, 1000)),
    )
    return about, times
