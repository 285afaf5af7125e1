"""A video as a stream of frames, decoded once and never held whole, and what its container says of it.

Frames come as the container shows them: in the colours of its tags (BT.601 where it has none), turned and mirrored
as its display matrix says, at whatever times (a variable rate is noted, not resampled). A file that is cut short or
damaged is refused whole: half a video would be another clip under the same name.
"""

from __future__ import annotations

import hashlib
import stat
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.error import FFmpegError
from av.sidedata.sidedata import Type

from flashbench.decoding import webp
from flashbench.errors import InvalidError
from flashbench.keys import file_sha256
from flashbench.types import Frames
from flashbench.videos import pictures

READER = 3
"""Version of what turns a file into frames: raised whenever a frame or a choice of frames changes."""
PICTURES_FPS = Fraction(8)
"""Rate of a folder of pictures, which states none: FlashVideo's."""
MATRICES = {0: "rgb", 1: "bt709", 2: "untagged", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 9: "bt2020nc"}
"""FFmpeg's numbers of YUV matrices (ITU-T H.273, table 4); untagged video is read as BT.601."""
_TURNS = {
    (1, 0, 0, 1): (0, False),
    (0, -1, 1, 0): (90, False),
    (-1, 0, 0, -1): (180, False),
    (0, 1, -1, 0): (270, False),
    (-1, 0, 0, 1): (0, True),
    (0, -1, -1, 0): (90, True),
    (1, 0, 0, -1): (180, True),
    (0, 1, 1, 0): (270, True),
}
"""Display matrix (a, b, c, d), which puts a pixel at x' = ax + cy, y' = bx + dy → (rotation, mirrored) of `Source`."""
_FIX = "check that the file is a whole video, or leave it out"


class Unreadable(InvalidError):
    """A file that is no whole video; the others can still be scored."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a container says of its video."""

    height: int
    width: int
    fps: Fraction
    """The average rate."""
    frames: int
    """Packets of the stream: almost always the number of frames."""
    container: str
    codec: str
    pixel_format: str
    matrix: str
    """Of the tags, as in `MATRICES`."""
    rotation: int = 0
    """Degrees by which its pictures are turned to the left to be shown."""
    mirrored: bool = False
    """Whether left and right change places after that."""
    variable_rate: bool = False
    alpha: bool = False
    """Whether pixels are not opaque: they are measured as they show on black."""

    def to_json(self) -> dict[str, Any]:
        """The source's fields as JSON data."""
        return {**asdict(self), "fps": f"{self.fps.numerator}/{self.fps.denominator}"}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Source:
        """The source of which `to_json` wrote the fields."""
        return cls(**{**fields, "fps": Fraction(fields["fps"])})


def content_hash(path: Path) -> str:
    """sha256 of a file's bytes; of a folder of pictures, over the names and hashes of its frames.

    Raises:
        Unreadable: it cannot be read.
    """
    with _readable(path):
        if not path.is_dir():
            return file_sha256(path)
        state = hashlib.sha256()
        for picture in pictures.sequence(path):
            state.update(f"{picture.name}\0{file_sha256(picture)}\n".encode("utf-8", "surrogateescape"))
        return state.hexdigest()


def stamp(path: Path) -> tuple[Any, ...]:
    """What changes when a file is written or replaced, without reading it; of a folder of pictures, that of each.

    Raises:
        Unreadable: it cannot be looked at.
    """
    with _readable(path):
        if path.is_dir():
            return tuple((picture.name, *stamp(picture)) for picture in pictures.sequence(path))
        about = path.stat()
        return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns


def probe(path: Path) -> Source:
    """What a video is, without decoding more than its first picture.

    Raises:
        Unreadable: it cannot be opened, holds no video, or is cut short.
    """
    with _readable(path):
        return _probe_pictures(path) if path.is_dir() else _probe_webp(path) if _animated(path) else _probe_file(path)


def frames(path: Path) -> Iterator[Frames]:
    """Every frame, uint8 [H, W, 3] in RGB, in order of display.

    Raises:
        Unreadable: it cannot be decoded to its end, is damaged, or changes its size.
    """
    with _readable(path):
        shape = None
        for number, frame in enumerate(_shown(path)):
            if shape not in (None, frame.shape):
                raise ValueError(f"frame {number} is {frame.shape[0]}×{frame.shape[1]}, unlike those before it")
            shape = frame.shape
            yield frame


def chosen(total: int, wanted: str | int) -> frozenset[int] | None:
    """Numbers of the frames that a clip of `total` frames keeps: the middles of `wanted` equal parts; None: all."""
    if wanted == "all" or int(wanted) >= total:
        return None
    return frozenset((2 * part + 1) * total // (2 * int(wanted)) for part in range(int(wanted)))


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


def _shown(path: Path) -> Iterator[Frames]:
    if path.is_dir():
        return pictures.frames(path)
    return iter(webp.animation(path).frames) if _animated(path) else _decoded(path)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Whatever a file does to its decoder is a reason why it cannot be read."""
    try:
        _regular(path)
        yield
    except (FFmpegError, OSError) as error:
        raise Unreadable(f"cannot be read: {error.strerror or error}", fix=_FIX) from error
    except (ValueError, IndexError, OverflowError, ZeroDivisionError, struct.error, cv2.error, MemoryError) as error:
        raise Unreadable(f"cannot be read: {error}", fix=_FIX) from error


def _regular(path: Path) -> None:
    # Pipes and devices never end, or wait for somebody who writes.
    if not (stat.S_ISREG(mode := path.stat().st_mode) or stat.S_ISDIR(mode)):
        raise Unreadable("is not a regular file", fix=_FIX)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    if path.stat().st_size == 0:
        raise ValueError("the file is empty")
    # Through Python's file, whose name may be anything: FFmpeg takes `a:b`, `concat:` and `-` for something else.
    with path.open("rb") as file, av.open(file, metadata_errors="replace") as container:
        if not container.streams.video:
            raise ValueError("no video stream in it")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        yield container, stream


def _probe_file(path: Path) -> Source:
    with _opened(path) as (container, stream):
        first = next(container.decode(stream), None)
        if first is None:
            raise ValueError("no frame in it")
        about: dict[str, Any] = {
            "container": container.format.name,
            "codec": stream.codec_context.name,
            "pixel_format": first.format.name,
            "matrix": MATRICES.get(int(first.colorspace), str(int(first.colorspace))),
        }
        about["rotation"], about["mirrored"] = _turn(first)
        height, width = first.height, first.width
    with _opened(path) as (container, stream):
        packets, times = 0, list[int]()
        for packet in container.demux(stream):
            if packet.size:
                packets += 1
                times += [] if packet.pts is None else [packet.pts]
        if packets < stream.frames:
            raise ValueError(f"it is cut short: {packets} of {stream.frames} frames are there")
        if about["container"] == "gif" and not path.read_bytes().rstrip(b"\0").endswith(b";"):
            raise ValueError("it is cut short: the end of the GIF is not there")
        if (length := _matroska_length(path)) and length > (size := path.stat().st_size):
            raise ValueError(f"it is cut short: {size:,} of {length:,} bytes are there")
        rate = stream.average_rate or stream.guessed_rate or PICTURES_FPS
    if about["rotation"] in (90, 270):
        height, width = width, height
    steps = np.diff(np.sort(np.array(times, dtype=np.int64)))
    variable = bool(steps.size and steps.max() - steps.min() > 1)
    shape = {"height": height, "width": width, "fps": Fraction(rate), "frames": packets}
    return Source(**about, **shape, variable_rate=variable)


def _decoded(path: Path) -> Iterator[Frames]:
    with _opened(path) as (container, stream):
        number = -1
        for number, frame in enumerate(container.decode(stream)):
            if frame.is_corrupt:
                raise ValueError(f"frame {number} is damaged")
            rotation, mirrored = _turn(frame)
            turned = np.rot90(frame.to_ndarray(format="rgb24"), rotation // 90)
            yield np.ascontiguousarray(turned[:, ::-1] if mirrored else turned)
        if number < 0:
            raise ValueError("no frame in it")


def _turn(frame: Any) -> tuple[int, bool]:
    """(rotation, mirrored) of a frame's display matrix: 3×3 int32, two columns of 16.16 and one of 2.30 bits.

    Not `frame.rotation`, which takes a mirrored picture for one that stands on its head.
    """
    data = frame.side_data.get(Type.DISPLAYMATRIX)
    if data is None:
        return 0, False
    a, b, u, c, d, v, _, _, w = struct.unpack("=9i", bytes(data))
    parts = [divmod(number, 1 << 16) for number in (a, b, c, d)]
    turn = _TURNS.get((parts[0][0], parts[1][0], parts[2][0], parts[3][0]))
    if turn is None or any(rest for _, rest in parts) or (u, v, w) != (0, 0, 1 << 30):
        raise ValueError("its display matrix is not a quarter turn")
    return turn


def _probe_pictures(path: Path) -> Source:
    look = pictures.look(path)
    return Source(
        height=look.height,
        width=look.width,
        fps=PICTURES_FPS,
        frames=look.frames,
        container="folder",
        codec=look.format,
        pixel_format="rgba" if look.alpha else "rgb24",
        matrix="rgb",
        alpha=look.alpha,
    )


def _animated(path: Path) -> bool:
    return path.suffix.lower() == ".webp" and webp.pictures(path) > 1


def _probe_webp(path: Path) -> Source:
    shown = webp.animation(path)
    height, width, _ = shown.frames[0].shape
    return Source(
        height=height,
        width=width,
        fps=Fraction(1000 * len(shown.frames), sum(shown.durations)) if sum(shown.durations) else PICTURES_FPS,
        frames=len(shown.frames),
        container="webp",
        codec="webp",
        pixel_format="rgba" if shown.alpha else "rgb24",
        matrix="rgb",
        variable_rate=max(shown.durations) - min(shown.durations) > 1,
        alpha=shown.alpha,
    )


def _matroska_length(path: Path) -> int:
    """Bytes that a Matroska file says it has (RFC 8794, 9559: the EBML head, then one segment); 0 where it is silent.

    Its reader takes a file that breaks off for one that ends.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    if not head.startswith(b"\x1a\x45\xdf\xa3"):
        return 0
    size, at = _vint(head, 4)
    at += size
    if head[at : at + 4] != b"\x18\x53\x80\x67":
        return 0
    size, at = _vint(head, at + 4)
    return at + size if size else 0


def _vint(data: bytes, at: int) -> tuple[int, int]:
    """(an EBML number, where it ends); 0 if it is the one that means `unknown`."""
    length = 9 - data[at].bit_length()
    value = int.from_bytes(data[at : at + length], "big") & ((1 << 7 * length) - 1)
    return (0 if value == (1 << 7 * length) - 1 else value), at + length
