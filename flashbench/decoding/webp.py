"""Animated WebP, which FFmpeg does not decode: its pictures composed on their canvas, over black, and their times.

The container is RIFF; an animation holds a chunk `ANMF` for each picture, with its place, duration and blending
(https://developers.google.com/speed/webp/docs/riff_container).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

from flashbench.decoding.alpha import over_black
from flashbench.types import Frames

_ANIMATED = 0x02
"""The bit of the flags of a chunk `VP8X` that says so."""


@dataclass(frozen=True, kw_only=True)
class Animation:
    """A decoded animation, held whole: its pictures depend on each other."""

    frames: tuple[Frames, ...]
    """uint8 [H, W, 3] each, RGB on black."""
    durations: tuple[int, ...]
    """Milliseconds that each is shown."""
    alpha: bool
    """Whether any pixel of it is not opaque."""


def pictures(path: Path) -> int:
    """Pictures that a WebP file holds: the chunks `ANMF` of an animation, 1 of a still one; 0 if it is no WebP.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(21)
        if head[:4] != b"RIFF" or head[8:12] != b"WEBP":
            return 0
        if head[12:16] != b"VP8X" or not head[20:] or not head[20] & _ANIMATED:
            return 1
        return sum(name == b"ANMF" for name in _chunks(file))


def animation(path: Path) -> Animation:
    """The pictures of an animated WebP.

    Raises:
        OSError: it cannot be read.
        ValueError: it is cut short or damaged, or OpenCV is too old.
    """
    content = path.read_bytes()
    length = int.from_bytes(content[4:8], "little") + 8
    if len(content) < length:
        raise ValueError(f"it is cut short: {len(content):,} of {length:,} bytes are there")
    if not hasattr(cv2, "imdecodeanimation"):
        raise ValueError(f"OpenCV {cv2.__version__} reads no animated WebP; 4.12 does")
    done, decoded = cv2.imdecodeanimation(np.frombuffer(content, np.uint8))
    expected = pictures(path)
    if not done or len(decoded.frames) != expected:
        raise ValueError(f"it is damaged: {len(decoded.frames) if done else 0} of {expected} frames can be decoded")
    frames, alpha = list[Frames](), False
    for picture in (np.asarray(frame, np.uint8) for frame in decoded.frames):
        rgb = np.ascontiguousarray(picture[..., 2::-1])
        if picture.shape[2] == 4:
            alpha = alpha or bool((picture[..., 3] != 255).any())
            rgb = over_black(rgb, picture[..., 3])
        frames.append(rgb)
    return Animation(frames=tuple(frames), durations=tuple(int(x) for x in decoded.durations), alpha=alpha)


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    """Names of the chunks of a RIFF file, one after the other."""
    at = 12
    while True:
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            return
        name, size = struct.unpack("<4sI", head)
        yield name
        at += 8 + size + size % 2
