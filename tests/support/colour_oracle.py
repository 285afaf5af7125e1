"""What RGB a frame's samples are, by arithmetic on its planes alone, and small files in many codecs to hold it against.

The equations are those of ITU-T H.273, section 8.3, with the weights (Kr, Kb) of BT.601, BT.709, BT.2020, SMPTE 240M
and the FCC. Nothing here calls FFmpeg's scaler, or reads a plane as the package does.
"""

from __future__ import annotations

import itertools
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from support import made_videos

WEIGHTS = {
    1: (0.2126, 0.0722),
    2: (0.299, 0.114),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}
"""H.273's number of a matrix → (Kr, Kb); 2 is untagged."""
VECTORS = platform.machine() in ("x86_64", "AMD64")
"""Whether the integer rule of this module is that of the processor's vector code in swscale."""
Array = npt.NDArray[Any]


def planes(frame: av.VideoFrame) -> list[Array]:
    """The samples of a planar frame, one array for each component, without padding."""
    read = []
    for part in frame.format.components:
        word = np.dtype(np.uint8 if part.bits <= 8 else ">u2" if frame.format.is_big_endian else "<u2")
        plane = frame.planes[part.plane]
        lines = np.frombuffer(bytes(plane), word).reshape(plane.height, -1)
        read.append(lines[:, : part.width].astype(np.int64))
    return read


def at_eight_bits(samples: Array, bits: int, full: bool) -> Array:
    """Samples of `bits` bits at 8, as the rule says; half goes up."""
    if bits == 8:
        return samples
    if full:
        top = 2**bits - 1
        return (2 * 255 * samples + top) // (2 * top)
    step = 2 ** (bits - 8)
    return np.minimum((2 * samples + step) // (2 * step), 255)


def by_equation(y: Array, u: Array, v: Array, matrix: int, full: bool) -> Array:
    """RGB of 8 bits of samples of 8 bits at full size: H.273's equations in real numbers, then the nearest level."""
    kr, kb = WEIGHTS[matrix]
    luma = y / 255 if full else (y - 16) / 219
    blue, red = ((chroma - 128) / (255 if full else 224) for chroma in (u, v))
    r = luma + 2 * (1 - kr) * red
    b = luma + 2 * (1 - kb) * blue
    g = (luma - kr * r - kb * b) / (1 - kr - kb)
    return np.clip(np.floor(255 * np.stack([r, g, b], -1) + 0.5), 0, 255).astype(np.int64)


def by_integers(y: Array, u: Array, v: Array, matrix: int, full: bool) -> Array:
    """The same as swscale's vector code has it: coefficients in units of 2^−13, each product floored to a level."""
    kr, kb = WEIGHTS[matrix]
    kg = 1 - kr - kb
    scale = 1 if full else 255 / 224

    def product(samples: Array, coefficient: float) -> Array:
        return 8 * samples * int(np.floor(coefficient * 2**13 + 0.5)) >> 16

    luma = product(y - (0 if full else 16), 1 if full else 255 / 219)
    blue, red = u - 128, v - 128
    r = luma + product(red, 2 * (1 - kr) * scale)
    g = luma + product(blue, -2 * kb * (1 - kb) / kg * scale) + product(red, -2 * kr * (1 - kr) / kg * scale)
    b = luma + product(blue, 2 * (1 - kb) * scale)
    return np.clip(np.stack([r, g, b], -1), 0, 255)


def expected(frame: av.VideoFrame) -> tuple[Array, Array]:
    """(RGB by the rule, RGB by the equation) of a planar YUV frame of even height; chroma is repeated.

    Both begin with samples at 8 bits. The rule is that of integers where chroma is subsampled, the equation elsewhere.
    """
    name, bits = frame.format.name, frame.format.components[0].bits
    full = name.startswith("yuvj") or int(frame.color_range) == 2
    y, u, v = (at_eight_bits(samples, bits, full) for samples in planes(frame)[:3])
    down, across = (round(size / part) for size, part in zip(y.shape, u.shape, strict=True))
    u, v = (np.repeat(np.repeat(plane, down, 0), across, 1)[: y.shape[0], : y.shape[1]] for plane in (u, v))
    arguments = (y, u, v, int(frame.colorspace), full)
    equation = by_equation(*arguments)
    return (by_integers(*arguments) if across == 2 else equation), equation


@dataclass(frozen=True)
class Made:
    """A file to make: H.273's matrix, FFmpeg's range, degrees to the left."""

    codec: str
    suffix: str
    pixels: str
    matrix: int
    full: bool
    rotation: int = 0

    def name(self) -> str:
        """Its file's name."""
        return f"{self.codec}-{self.pixels}-{self.matrix}-{int(self.full)}-{self.rotation}{self.suffix}"


# x265 without a container: muxers refuse what it gives them as the header now and then.
_LAYOUTS = {
    ("libx264", ".mp4"): ("yuv420p", "yuv420p", "yuv420p10le", "yuv420p10le", "yuv422p10le", "yuv444p"),
    ("libx265", ".hevc"): ("yuv420p", "yuv420p10le", "yuv444p12le"),
    ("libsvtav1", ".mp4"): ("yuv420p", "yuv420p10le"),
    ("libvpx-vp9", ".mkv"): ("yuv420p", "yuv444p"),
    ("ffv1", ".mkv"): ("yuv420p", "yuv422p", "yuv420p10le", "yuv444p16le"),
    ("ffvhuff", ".avi"): ("yuv422p", "yuv420p14le"),
    ("utvideo", ".avi"): ("yuv420p", "yuv444p"),
    ("magicyuv", ".avi"): ("yuv422p",),
    ("libvpx", ".mkv"): ("yuv420p",),
    ("mpeg2video", ".mkv"): ("yuv420p", "yuv422p"),
    ("mpeg4", ".mp4"): ("yuv420p",),
    ("mjpeg", ".mov"): ("yuvj420p", "yuvj444p"),
    ("prores_ks", ".mov"): ("yuv422p10le", "yuv444p10le"),
    ("v210", ".mov"): ("yuv422p10le",),
    ("jpeg2000", ".mov"): ("yuv420p", "yuv444p12le"),
}
_OPTIONS = {
    "libx264": {"preset": "ultrafast", "qp": "6"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none:pools=none:frame-threads=1"},
    "libsvtav1": {"preset": "12", "svtav1-params": "lp=1"},
    "libvpx": {"deadline": "realtime"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
}


def made_files() -> Iterator[Made]:
    """Every codec and layout in two files; the matrices, ranges and rotations go round."""
    matrices, rotations = itertools.cycle((1, 5, 9, 7, 4, 6, 2)), itertools.cycle((0, 90, 180, 270))
    for (codec, suffix), layouts in _LAYOUTS.items():
        for pixels, full in itertools.product(layouts, (False, True)):
            turned = next(rotations) if suffix in (".mp4", ".mov") else 0
            yield Made(codec, suffix, pixels, next(matrices), full or pixels.startswith("yuvj"), turned)


def write(folder: Path, made: Made) -> Path:
    """Two frames of blocks of 4×4 pixels in any colours, 32×64, as the file that `made` names."""
    path = folder / made.name()
    random = np.random.default_rng(len(made.pixels) + made.matrix)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(made.codec, rate=8, options=_OPTIONS.get(made.codec, {}))
        stream.height, stream.width, stream.pix_fmt = 32, 64, made.pixels
        stream.codec_context.colorspace, stream.codec_context.color_range = made.matrix, 2 if made.full else 1
        if made.codec == "mjpeg":
            stream.codec_context.qmin = stream.codec_context.qmax = 2
        for _ in range(2):
            frame = av.VideoFrame(64, 32, made.pixels)
            frame.colorspace, frame.color_range = made.matrix, 2 if made.full else 1
            fill(frame, random, made.full)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path if not made.rotation else turned(path, made.rotation)


def fill(frame: av.VideoFrame, random: np.random.Generator, full: bool) -> None:
    """Puts blocks of 4×4 pixels of random colours into a planar YUV frame, as BT.601 has them; padding is noise."""
    rgb = random.random((-(-frame.height // 4), -(-frame.width // 4), 3)).repeat(4, 0).repeat(4, 1)
    y = rgb @ (0.299, 0.587, 0.114)
    u, v = (rgb[..., 2] - y) / 1.772, (rgb[..., 0] - y) / 1.402
    top = 2 ** frame.format.components[0].bits - 1
    for number, values in enumerate((y, u, v)):
        levels = (values * (1 if full else 224 / 256) + 0.5) * top if number else values * top
        if not full and not number:
            levels = (16 + 219 * values) * (top + 1) / 256
        write_plane(frame, number, np.clip(np.rint(levels), 0, top).astype(np.int64), random)


def write_plane(frame: av.VideoFrame, number: int, levels: Array, random: np.random.Generator) -> None:
    """Puts samples [H, W], or every second of them as a smaller plane has it, into a planar frame's plane."""
    plane, part = frame.planes[number], frame.format.components[number]
    word = np.dtype(np.uint8 if part.bits <= 8 else ">u2" if frame.format.is_big_endian else "<u2")
    down, across = (round(a / b) for a, b in zip(levels.shape, (part.height, part.width), strict=True))
    lines = random.integers(0, 2**part.bits, (plane.height, plane.line_size // word.itemsize)).astype(word)
    lines[:, : part.width] = levels[::down, ::across][: part.height, : part.width]
    plane.update(lines.tobytes())


def turned(path: Path, rotation: int) -> Path:
    """The file with the display matrix of a rotation to the left, in degrees."""
    columns = {90: (0, -1, 1, 0), 180: (-1, 0, 0, -1), 270: (0, 1, -1, 0)}[rotation]
    return made_videos.turned(path, path, *columns)
