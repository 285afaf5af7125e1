"""From a decoder's samples to RGB of 8 bits, by one rule, and what a file says of its light.

The rule (`RULE` is its version):

* Samples of more than 8 bits are first reduced to the same layout at 8 bits by integers, without dither. Limited range:
  round(x / 2^(n−8)), half upwards, at most 255, so that 8-bit samples times 2^(n−8) come back as they were. Full range,
  and RGB without a tag: round(255 · x / (2^n − 1)). Alpha as the rest of its frame. Eight bits hide the difference
  between a smooth slope and one with bands.
* Samples of 8 bits become RGB by FFmpeg's swscale with its flag `bilinear` and no other, in one thread: in the matrix
  of the frame's tags (untagged, or YUV with the tag of RGB: BT.601) and in their range (untagged: limited; `yuvj…`:
  full). RGB and grey are taken as stored, whatever their range. Matrices that swscale lacks (YCgCo, ICtCp, constant
  luminance) are refused, and so is floating point.
* Chroma of planar 4:2:0 and 4:2:2 of even height is repeated; in other layouts swscale interpolates it (NV12, 4:1:1,
  odd heights …), from the place that the frame tells. Where it is repeated swscale floors each product to a whole
  level, so that a channel is up to three levels below the real-valued equation; in 4:4:4 it is within one.
* Transparency is shown by `flashbench.decoding.alpha`.
* Primaries and transfer are told, never converted: what is made for PQ or HLG is to be refused by `hdr_reason`.
"""

from __future__ import annotations

import platform
import re
import threading
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, NamedTuple, cast

import av
import numpy as np
import numpy.typing as npt
from av.error import FFmpegError
from av.sidedata.sidedata import Type
from av.video.reformatter import Interpolation, VideoReformatter

from flashbench.decoding.alpha import over_black
from flashbench.decoding.side_data import beside
from flashbench.errors import InvalidError
from flashbench.types import Frames

RULE = 1
"""Version of the rule: raised whenever a sample of some file becomes another RGB value."""

MATRICES = {
    0: "rgb",
    1: "bt709",
    2: "untagged",
    4: "fcc",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "ycgco",
    9: "bt2020nc",
    10: "bt2020c",
    11: "smpte2085",
    12: "chroma-derived-nc",
    13: "chroma-derived-c",
    14: "ictcp",
    15: "ipt-c2",
    16: "ycgco-re",
    17: "ycgco-ro",
}
"""ITU-T H.273, table 4 (`MatrixCoefficients`), by FFmpeg's names; untagged video is read as BT.601."""
RANGES = {0: "untagged", 1: "limited", 2: "full"}
"""FFmpeg's numbers of H.273's `VideoFullRangeFlag`; untagged YUV is read as limited."""
PRIMARIES = {
    1: "bt709",
    2: "untagged",
    4: "bt470m",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "film",
    9: "bt2020",
    10: "smpte428",
    11: "smpte431",
    12: "smpte432",
    22: "ebu3213",
}
"""ITU-T H.273, table 2 (`ColourPrimaries`)."""
TRANSFERS = {
    1: "bt709",
    2: "untagged",
    4: "bt470m",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "linear",
    9: "log100",
    10: "log316",
    11: "iec61966-2-4",
    12: "bt1361e",
    13: "iec61966-2-1",
    14: "bt2020-10",
    15: "bt2020-12",
    16: "smpte2084",
    17: "smpte428",
    18: "arib-std-b67",
}
"""ITU-T H.273, table 3 (`TransferCharacteristics`): smpte2084 is PQ, arib-std-b67 HLG."""
_FIELD_ORDERS = {1: "progressive", 2: "tff", 3: "bff", 4: "interlaced", 5: "interlaced"}
"""AVFieldOrder by the field that is shown first. Of interleaved ones (4, 5) the containers, and FFmpeg itself when it
writes, do not agree on which that is."""
_CHROMA = {(1, 1): "4:4:4", (2, 1): "4:2:2", (2, 2): "4:2:0", (1, 2): "4:4:0", (4, 1): "4:1:1", (4, 4): "4:1:0"}
"""Luma samples to a chroma sample, (across, down)."""
_HDR = {"smpte2084": "PQ (SMPTE ST 2084)", "arib-std-b67": "HLG (ARIB STD-B67)"}
_HDR_DATA = {
    Type.DOVI_METADATA: "Dolby Vision",
    Type.DOVI_RPU_BUFFER: "Dolby Vision",
    Type.DYNAMIC_HDR_PLUS: "HDR10+",
    Type.DYNAMIC_HDR_VIVID: "HDR Vivid",
    Type.MASTERING_DISPLAY_METADATA: "mastering display",
    Type.CONTENT_LIGHT_LEVEL: "content light level",
}
_TONE_MAP = (
    "map it to SDR first, e.g. ffmpeg -i IN -vf zscale=t=linear:npl=100,format=gbrpf32le,zscale=p=bt709,"
    "tonemap=hable:desat=0,zscale=t=bt709:m=bt709:r=tv,format=yuv420p OUT"
)
_FLOAT = re.compile(r".*f(16|32)[lb]e")
_PLANAR = re.compile(r"(yuva?4\d\dp|gbra?p|gray)(?:9|10|12|14|16)(msb)?[lb]e")
_UPPER = re.compile(r"(p[024])1[026][lb]e")
_TWINS = {
    **{"p0": "nv12", "p2": "nv16", "p4": "nv24", "nv20": "nv16", "ya16": "ya8", "ayuv64": "ayuv"},
    **{"rgb48": "rgb24", "bgr48": "bgr24", "rgba64": "rgba", "bgra64": "bgra"},
}
"""Layouts of words of 16 bits that are not a plane for each component → the same order of samples in bytes.

Those that only hardware gives (y210, x2rgb10, xv30 …) go to swscale as they are.
"""
_KEPT = threading.local()


class Shown(NamedTuple):
    """A frame as it is measured."""

    rgb: Frames
    """uint8 [H, W, 3]; rows may be padded (not contiguous)."""
    transparent: bool
    """Whether any pixel was not wholly opaque, so that black shows through."""


@dataclass(frozen=True, kw_only=True)
class Colour:
    """What a file says of its samples and their light. A number without a name is kept as its digits."""

    pixel_format: str
    matrix: str
    """Of `MATRICES`."""
    range: str
    """Of `RANGES`; a `yuvj…` format is full whatever its tag."""
    primaries: str
    """Of `PRIMARIES`."""
    transfer: str
    """Of `TRANSFERS`."""
    depth: int
    """Bits of a sample."""
    chroma: str
    """4:2:0, 4:4:4 …; `rgb`, `gray`, `bayer`, `xyz` or `unknown`."""
    field_order: str
    """progressive, tff or bff (top or bottom field first), interlaced (it is not said which is first), or unknown."""
    pixel_aspect: str
    """Width : height of a pixel as a fraction; 1/1 where the file is silent."""
    alpha: bool
    """Whether the format has transparency; `Shown.transparent` says whether a frame does."""
    hdr_data: str = ""
    """What else marks it as HDR: Dolby Vision, HDR10+, mastering display …; empty without."""

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON data."""
        return asdict(self)


def swscale() -> str:
    """What converts: the library's version and the processor's family, whose vector code rounds in its own way."""
    return f"libswscale {'.'.join(map(str, av.library_versions['libswscale']))} ({platform.machine()})"


def to_rgb(frame: av.VideoFrame) -> Frames:
    """The frame's picture uint8 [H, W, 3] by this module's rule; transparency on black.

    Raises:
        InvalidError: see `shown`.
    """
    return shown(frame).rgb


def shown(frame: av.VideoFrame) -> Shown:
    """The frame as it is measured, and whether black shows through it.

    Raises:
        InvalidError: the pixel format is floating point, or swscale knows no way from its format or matrix to RGB.
    """
    if _FLOAT.fullmatch(frame.format.name):
        what = f"its samples are floating point ({frame.format.name}), whose range nothing tells"
        raise InvalidError(what, fix="convert it to integers first, e.g. ffmpeg -i IN -pix_fmt gbrp16le OUT")
    try:
        small = _of_eight_bits(frame)
        rgb = np.asarray(_reformat(small, "rgb24").to_ndarray(), np.uint8)
    except FFmpegError as error:
        raise _no_rule(frame) from error
    alpha = _alpha(small)
    if alpha is None or (alpha == 255).all():
        return Shown(rgb, False)
    return Shown(over_black(rgb, alpha), True)


def describe(frame: av.VideoFrame, stream: av.VideoStream) -> Colour:
    """What a decoded frame and its stream say of their light, fields and pixels."""
    codec = stream.codec_context
    aspect = stream.sample_aspect_ratio or codec.sample_aspect_ratio or Fraction(1)
    primaries = frame.color_primaries if frame.color_primaries != 2 else codec.color_primaries
    transfer = frame.color_trc if frame.color_trc != 2 else codec.color_trc
    components = frame.format.components
    data = beside(frame)
    return Colour(
        pixel_format=frame.format.name,
        matrix=MATRICES.get(int(frame.colorspace), str(int(frame.colorspace))),
        range="full" if frame.format.name.startswith("yuvj") else RANGES[int(frame.color_range)],
        primaries=PRIMARIES.get(int(primaries), str(int(primaries))),
        transfer=TRANSFERS.get(int(transfer), str(int(transfer))),
        depth=max(part.bits for part in components),
        chroma=_chroma(frame.format),
        field_order=_field_order(bool(frame.interlaced_frame), int(codec.field_order)),
        pixel_aspect=f"{aspect.numerator}/{aspect.denominator}",
        alpha=frame.format.has_palette or any(part.is_alpha for part in components),
        hdr_data=next((name for kind, name in _HDR_DATA.items() if data.get(kind) is not None), ""),
    )


def hdr_reason(colour: Colour) -> str:
    """Why a video cannot be measured as SDR, with what to do about it; empty if it can.

    Data of HDR beside a transfer that is tagged as SDR's do not count: tone mapping leaves them where they were.
    """
    if colour.transfer in _HDR:
        return f"its light is {_HDR[colour.transfer]}, high dynamic range, not SDR: {_TONE_MAP}"
    if colour.transfer == "untagged" and colour.hdr_data:
        return f"its transfer is not tagged, but it carries HDR data ({colour.hdr_data}): {_TONE_MAP}"
    return ""


def _reformat(frame: av.VideoFrame, layout: str) -> av.VideoFrame:
    # Kept by the thread: swscale's tables cost more than a small frame.
    if (convert := getattr(_KEPT, "reformatter", None)) is None:
        convert = _KEPT.reformatter = VideoReformatter()
    # One thread: the demosaicing of raw sensor data depends on where a picture is cut for several.
    return convert.reformat(frame, format=layout, interpolation=Interpolation.BILINEAR, threads=1)


def _no_rule(frame: av.VideoFrame) -> InvalidError:
    matrix = MATRICES.get(int(frame.colorspace), str(int(frame.colorspace)))
    what = f"no rule turns its samples into RGB: {frame.format.name} with the colour matrix {matrix}"
    return InvalidError(what, fix="convert it first, e.g. ffmpeg -i IN -vf zscale=m=bt709,format=yuv420p OUT")


def _twin(layout: av.VideoFormat) -> tuple[str, int] | None:
    """(the same layout at 8 bits, unused bits below a sample) of samples in words of 16 bits; None of any other."""
    spare = 16 - layout.components[0].bits
    if planar := _PLANAR.fullmatch(layout.name):
        return planar[1], spare if planar[2] else 0
    if upper := _UPPER.fullmatch(layout.name):
        return _TWINS[upper[1]], spare
    twin = _TWINS.get(layout.name[:-2])
    return None if twin is None else (twin, 0)


def _of_eight_bits(frame: av.VideoFrame) -> av.VideoFrame:
    """The frame, its samples reduced to 8 bits where they have more."""
    if (twin := _twin(frame.format)) is None:
        return frame
    layout, spare = twin
    bits = frame.format.components[0].bits
    full = int(frame.color_range) == 2 or frame.format.is_rgb and int(frame.color_range) != 1
    # Through swscale for all that only FFmpeg can copy: tags, the chroma's place. Its samples are then replaced.
    small = _reformat(frame, layout)
    word = ">u2" if frame.format.is_big_endian else "<u2"
    for number, (source, target) in enumerate(zip(frame.planes, small.planes, strict=True)):
        samples = _rows(source, frame.format, number, word)
        _reduce(samples >> spare if spare else samples, bits, full, _rows(target, small.format, number, "u1"))
    return small


def _reduce(samples: npt.NDArray[Any], bits: int, full: bool, out: npt.NDArray[Any]) -> None:
    """Samples of `bits` bits at 8: the nearest to 255 · x / (2^bits − 1) if `full`, to x / 2^(bits − 8) otherwise."""
    levels: npt.NDArray[Any]
    if full:
        levels = samples * np.uint32(255)
        levels += np.uint32((1 << bits) // 2 - 1)
        levels //= np.uint32((1 << bits) - 1)
    else:
        # Half upwards, and 256 is 255; no sum leaves 16 bits, and each step is a fast one of numpy's.
        levels = samples >> bits - 9
        levels += 1
        levels >>= 1
        levels -= levels >> 8
    np.copyto(out, levels, casting="unsafe")


def _rows(plane: Any, layout: av.VideoFormat, number: int, word: str) -> npt.NDArray[Any]:
    """A plane's samples [rows, samples of a row], without the padding of its lines, from the top: a view."""
    size = np.dtype(word).itemsize
    width = sum(part.width for part in layout.components if part.plane == number)
    line = abs(plane.line_size)
    # Of a picture that is stored from its bottom the buffer begins with the last line.
    start, step = ((plane.height - 1) * line, -line) if plane.line_size < 0 else (0, line)
    return np.ndarray((plane.height, width), word, plane, start, (step, size))


def _alpha(frame: av.VideoFrame) -> Frames | None:
    """Alpha uint8 [H, W] of a frame of 8 bits; None if its format has none."""
    layout = frame.format
    if layout.has_palette:
        palette = np.ndarray(256, np.uint32, cast(Any, frame.planes[1]))
        return np.asarray((palette >> 24)[_rows(frame.planes[0], layout, 0, "u1")], np.uint8)
    plane = next((part.plane for part in layout.components if part.is_alpha), None)
    if plane is None:
        return None
    samples = _rows(frame.planes[plane], layout, plane, "u1")
    together = sum(part.plane == plane for part in layout.components)
    # Where a pixel's samples stand together, the layout's name is their order.
    return samples if together == 1 else samples[:, layout.name.index("a") :: together]


def _chroma(layout: av.VideoFormat) -> str:
    if layout.is_bayer:
        return "bayer"
    if layout.is_rgb or layout.has_palette:
        return "rgb"
    if layout.name.startswith("xyz"):
        return "xyz"
    if len(layout.components) < 3:
        return "gray"
    chroma = av.VideoFormat(layout.name, 16, 16).components[1]
    return _CHROMA.get((16 // chroma.width, 16 // chroma.height), "unknown")


def _field_order(interlaced: bool, order: int) -> str:
    named = _FIELD_ORDERS.get(order, "unknown")
    return "interlaced" if interlaced and named in ("unknown", "progressive") else named
