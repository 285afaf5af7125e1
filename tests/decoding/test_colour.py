"""Samples to RGB: an oracle of arithmetic over made files, depth, transparency, and what a file says of its light."""

from __future__ import annotations

import hashlib
import itertools
import json
import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from support import colour_oracle as oracle
from support import made_videos

from flashbench.decoding import colour
from flashbench.errors import InvalidError
from flashbench.videos import read

Array = npt.NDArray[Any]
PAGE = Path(__file__).resolve().parents[2] / "docs" / "decoding.md"


def decoded(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def described(path: Path) -> colour.Colour:
    with av.open(str(path)) as container:
        return colour.describe(next(container.decode(video=0)), container.streams.video[0])


def noise(layout: str, height: int, width: int, seed: int = 0) -> av.VideoFrame:
    """A frame of any layout, all of its bytes random (padding too)."""
    frame = av.VideoFrame(width, height, layout)
    for number, plane in enumerate(frame.planes):
        plane.update(np.random.default_rng((seed, number)).integers(0, 256, plane.buffer_size, np.uint8).tobytes())
    return frame


def difference(a: Array, b: Array) -> int:
    return int(np.abs(a.astype(np.int64) - b).max())


# --- the oracle -----------------------------------------------------------------------------------------------------


@dataclass
class Row:
    """Of the files of a codec at a depth: how many, and the largest differences from rule and equation."""

    files: int = 0
    rule: int = 0
    equation: int = 0
    tags: set[tuple[int, bool]] = field(default_factory=set)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Row]:
    """(codec, bits) → the differences over all its made files; each is turned as its display matrix says."""
    folder = tmp_path_factory.mktemp("made")
    rows: dict[tuple[str, int], Row] = {}
    for made in oracle.made_files():
        path = oracle.write(folder, made)
        frames = decoded(path)
        assert len(frames) == 2
        source, _ = read.probe(path)
        assert source.rotation == made.rotation and not source.mirrored
        for frame in frames:
            bits = frame.format.components[0].bits
            rule, equation = (np.rot90(rgb, source.rotation // 90) for rgb in oracle.expected(frame))
            shown = np.rot90(colour.to_rgb(frame), source.rotation // 90)
            assert shown.shape == ((64, 32, 3) if made.rotation in (90, 270) else (32, 64, 3))
            row = rows.setdefault((made.codec, bits), Row())
            row.rule = max(row.rule, difference(shown, rule))
            row.equation = max(row.equation, difference(shown, equation))
            row.tags.add((int(frame.colorspace), int(frame.color_range) == 2))
        rows[made.codec, bits].files += 1
        turned = [np.rot90(colour.to_rgb(frame), source.rotation // 90) for frame in frames]
        assert np.array_equal([picture.frame for picture in read.pictures(path)], turned)
    return rows


def table(rows: dict[tuple[str, int], Row]) -> str:
    """The table of docs/decoding.md."""
    head = "| codec | bits | files | from the rule | from the equation |\n|---|---:|---:|---:|---:|"
    lines = [f"| {codec} | {bits} | {row.files} | {row.rule} | {row.equation} |" for (codec, bits), row in rows.items()]
    return "\n".join([head, *lines])


def test_every_file_is_within_a_level_of_the_rule(measured: dict[tuple[str, int], Row]) -> None:
    assert sum(row.files for row in measured.values()) >= 60
    assert len({codec for codec, _ in measured}) >= 12 and {bits for _, bits in measured} >= {8, 10}
    seen = set.union(*(row.tags for row in measured.values()))
    assert {matrix for matrix, _ in seen} == set(oracle.WEIGHTS) and {full for _, full in seen} == {False, True}
    deep = {(made.rotation, "p1" in made.pixels) for made in oracle.made_files()}
    assert deep == set(itertools.product((0, 90, 180, 270), (False, True)))
    bound = 1 if oracle.VECTORS else 4
    assert {name: row.rule for name, row in measured.items() if row.rule > bound} == {}
    assert {name: row.equation for name, row in measured.items() if row.equation > 3} == {}


@pytest.mark.skipif(not oracle.VECTORS, reason="the page has the numbers of x86-64")
def test_the_page_has_these_differences(measured: dict[tuple[str, int], Row]) -> None:
    assert table(measured) in PAGE.read_text("utf-8"), f"docs/decoding.md is to have\n\n{table(measured)}"


def every_sample() -> tuple[Array, Array, Array]:
    """All pairs of luma with a chroma sample, [256, 512], each chroma sample in a block of 2×2 of its own."""
    y = np.arange(256)[:, None].repeat(512, 1)
    u = np.arange(256)[None, :].repeat(2, 1).repeat(256, 0)
    return y, u, (u * 37 + 11) % 256


@pytest.mark.parametrize("layout", ["yuv420p", "yuv422p", "yuv444p"])
@pytest.mark.parametrize("full", [False, True])
def test_all_samples_in_all_matrices(layout: str, full: bool) -> None:
    y, u, v = every_sample()
    random = np.random.default_rng(0)
    for matrix in oracle.WEIGHTS:
        frame = av.VideoFrame(512, 256, layout)
        frame.colorspace, frame.color_range = matrix, 2 if full else 1
        for number, plane in enumerate((y, u, v)):
            oracle.write_plane(frame, number, plane, random)
        rule, equation = oracle.expected(frame)
        shown = colour.to_rgb(frame)
        # Above nominal white beside saturated blue swscale overflows in 4:4:4: no picture has such samples.
        nominal = (y <= 235) & (u >= 16) & (u <= 240) & (v >= 16) & (v <= 240) if not full else np.ones_like(y, bool)
        assert difference(shown[nominal], equation[nominal]) <= (1 if layout == "yuv444p" else 3)
        # The FCC's coefficients end near a half; one of them is rounded the other way.
        assert difference(shown[nominal], rule[nominal]) <= (
            int(matrix == 4 or layout == "yuv444p") if oracle.VECTORS else 4
        )


def test_white_black_and_grey_are_what_they_are() -> None:
    """BT.601 and all others: neutral samples have no chroma. x86-64: 16 → 0, 235 → 255."""
    frame = av.VideoFrame(64, 16, "yuv420p")
    levels = np.full((16, 64), 235)
    levels[:, :32] = 16
    random = np.random.default_rng(0)
    for number, plane in enumerate((levels, np.full((16, 64), 128), np.full((16, 64), 128))):
        oracle.write_plane(frame, number, plane, random)
    shown = colour.to_rgb(frame)
    assert (shown[:, :32] == 0).all() and (shown[:, 32:] >= (255 if oracle.VECTORS else 253)).all()


@pytest.mark.parametrize(
    ("codec", "pixels", "options"),
    [
        ("ffv1", "bgr0", {}),
        ("ffv1", "gbrp10le", {}),
        ("ffv1", "gbrp16le", {}),
        ("ffvhuff", "gbrp12le", {}),
        ("huffyuv", "rgb24", {}),
        ("utvideo", "gbrp", {}),
        ("magicyuv", "gbrp", {}),
        ("png", "rgb24", {}),
        ("png", "rgb48be", {}),
        ("qtrle", "rgb24", {}),
        ("libx264rgb", "bgr24", {"qp": "0"}),
        ("libx265", "gbrp", {"x265-params": "lossless=1:log-level=none:pools=none"}),
        ("libvpx-vp9", "gbrp", {"lossless": "1"}),
        ("jpeg2000", "rgb24", {"pred": "dwt53"}),
    ],
)  # fmt: skip
def test_lossless_rgb_comes_back(tmp_path: Path, codec: str, pixels: str, options: dict[str, str]) -> None:
    clip = np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3), np.uint8)
    suffix = {"qtrle": ".mov", "png": ".mov", "jpeg2000": ".mov", "libx265": ".hevc"}.get(
        codec, ".avi" if "u" in codec else ".mkv"
    )
    path = tmp_path / f"clip{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=8, options=options)
        stream.height, stream.width, stream.pix_fmt = 32, 48, pixels
        bits = av.VideoFormat(pixels).components[0].bits
        for picture in clip:
            if bits == 8:
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixels)
            else:
                samples = (picture * ((2**bits - 1) / 255) + 0.5).astype(np.uint16)
                frame = av.VideoFrame.from_ndarray(samples, format=pixels)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    assert np.array_equal([colour.to_rgb(frame) for frame in decoded(path)], clip)


# --- eight bits -----------------------------------------------------------------------------------------------------

EIGHT = [
    "yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuv440p", "yuv411p", "yuv410p", "nv12", "nv21",
    "nv16", "nv24", "yuyv422", "uyvy422", "gray", "gbrp", "rgb24", "bgr24", "rgb0", "bgr0", "0rgb", "rgb565le",
    "rgb555le", "monob", "monow",
]  # fmt: skip


@pytest.mark.parametrize("layout", EIGHT)
def test_eight_bits_are_as_they_were(layout: str) -> None:
    """Byte by byte what `frame.to_ndarray(format="rgb24")` gives, which made all results so far."""
    for size, matrix, extent in itertools.product(((48, 64), (47, 63), (3, 5), (1, 1)), (1, 2, 9), (0, 1, 2)):
        frame = noise(layout, *size)
        frame.colorspace, frame.color_range = matrix, extent
        shown = colour.shown(frame)
        assert not shown.transparent and shown.rgb.dtype == np.uint8
        assert np.array_equal(shown.rgb, frame.to_ndarray(format="rgb24")), (size, matrix, extent)


DIGESTS = {
    "yuv420p": "dac6d8f74dd61658",
    "yuv422p": "4d6a9c5d14fb0ad5",
    "yuv444p": "5b185472bde8eb92",
    "nv12": "d3d881ea42040f49",
    "gray": "f38ea632b966d8c7",
    "yuv420p10le": "591e3aab4c36d9a7",
    "gbrp12le": "a3cc595cc0567f0a",
    "yuva420p": "60978a8cb80712ae",
}


@pytest.mark.skipif(not oracle.VECTORS, reason="swscale's vector code of other processors rounds in other ways")
def test_these_bytes_never_change() -> None:
    """Digests of today's bytes: whoever changes swscale's version or flags meets them, and raises `RULE`."""
    state = {}
    for layout in DIGESTS:
        frame = noise(layout, 48, 64)
        frame.colorspace = 1
        state[layout] = hashlib.sha256(np.ascontiguousarray(colour.to_rgb(frame)).data).hexdigest()[:16]
    assert colour.RULE == 1 and state == DIGESTS


def test_threads_do_not_meet() -> None:
    frames = [noise(layout, 48 + seed, 64, seed) for seed in range(8) for layout in ("yuv420p", "yuv444p10le", "nv12")]
    alone = [colour.to_rgb(frame) for frame in frames]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(colour.to_rgb, frames * 4))
    assert all(np.array_equal(a, b) for a, b in zip(alone * 4, together, strict=True))


def test_chroma_is_repeated_in_planar_pictures_of_even_height_and_interpolated_elsewhere() -> None:
    """A step of chroma between two rows of blocks of 2×2: a jump, or levels in between."""

    def levels(layout: str, height: int) -> set[int]:
        frame = av.VideoFrame(16, height, layout)
        for number, plane in enumerate(frame.planes):
            lines = np.full((plane.height, plane.line_size), 128, np.uint8)
            if number:
                lines[4:] = 200
            plane.update(lines.tobytes())
        return set(colour.to_rgb(frame)[:, 0, 0].tolist())

    assert len(levels("yuv420p", 16)) == 2
    assert len(levels("yuv420p", 15)) > 2 and len(levels("nv12", 16)) > 2


# --- more than eight bits -------------------------------------------------------------------------------------------

DEEP = [
    f"{name}{bits}{end}"
    for name, depths in {
        "yuv420p": (9, 10, 12, 14, 16), "yuv422p": (9, 10, 12, 14, 16), "yuv444p": (9, 10, 12, 14, 16),
        "yuv440p": (10, 12), "yuva420p": (9, 10, 16), "yuva422p": (10, 12), "yuva444p": (10, 12, 16),
        "gray": (9, 10, 12, 14, 16), "gbrp": (9, 10, 12, 14, 16), "gbrap": (10, 12, 14, 16), "rgb": (48,),
        "bgr": (48,), "rgba": (64,), "bgra": (64,), "ya": (16,), "ayuv": (64,), "nv": (20,),
        "p": ("010", "012", "016", "210", "212", "216", "410", "412", "416"),
    }.items()
    for bits in depths
    for end in ("le", "be")
]  # fmt: skip
UPPER = ("p0", "p2", "p4")


def deep(layout: str, height: int, width: int, extent: int) -> tuple[av.VideoFrame, av.VideoFrame]:
    """(a frame of 8 bits, the same samples × 2^(n − 8) in `layout`)."""
    twin, _ = colour._twin(av.VideoFormat(layout, width, height)) or ("", 0)
    small, large = noise(twin, height, width), av.VideoFrame(width, height, layout)
    bits = large.format.components[0].bits
    shift = 8 if layout.startswith(UPPER) or "msb" in layout else bits - 8
    for source, target in zip(small.planes, large.planes, strict=True):
        lines = np.frombuffer(bytes(source), np.uint8).reshape(source.height, -1).astype(np.uint16) << shift
        words = np.zeros((target.height, target.line_size // 2), ">u2" if layout.endswith("be") else "<u2")
        width = min(words.shape[1], lines.shape[1])
        words[:, :width] = lines[:, :width]
        target.update(words.tobytes())
    for frame in (small, large):
        frame.colorspace, frame.color_range = 1, extent
    return small, large


@pytest.mark.parametrize("layout", DEEP)
def test_the_same_samples_at_more_bits_give_the_same_rgb(layout: str) -> None:
    for size in ((48, 64), (47, 63), (16, 30), (1, 1)):
        small, large = deep(layout, *size, extent=1)
        assert large.format.name == layout
        a, b = colour.shown(small), colour.shown(large)
        assert a.transparent == b.transparent and np.array_equal(a.rgb, b.rgb), size


@pytest.mark.parametrize("bits", [9, 10, 12, 14, 16])
def test_the_reduction_is_the_nearest_level(bits: int) -> None:
    every = np.arange(2**bits, dtype=np.int64)
    for full in (False, True):
        out = np.empty(every.shape, np.uint8)
        colour._reduce(every.astype(np.uint16), bits, full, out)
        assert np.array_equal(out, oracle.at_eight_bits(every, bits, full))
        assert out[0] == 0 and out[-1] == 255 and (np.diff(out.astype(int)) >= 0).all()


def test_full_range_and_rgb_keep_their_white() -> None:
    for layout, extent in (("gbrp10le", 0), ("gbrp10le", 2), ("gray12le", 2), ("rgb48be", 0), ("yuv444p10le", 2)):
        frame = av.VideoFrame(8, 8, layout)
        frame.color_range = extent
        top = 2 ** frame.format.components[0].bits - 1
        for number, plane in enumerate(frame.planes):
            level = top if not number or frame.format.is_rgb else (top + 1) // 2
            plane.update(np.full(plane.buffer_size // 2, level, ">u2" if "be" in layout else "<u2").tobytes())
        assert (colour.to_rgb(frame) == 255).all(), layout


def test_where_the_chroma_lies_outlives_the_reduction(tmp_path: Path) -> None:
    """An AV1 stream of odd height, its chroma interpolated from the corner it tells: as swscale has it at 10 bits."""
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        options = {"preset": "12", "crf": "1", "svtav1-params": "lp=1:chroma-sample-position=2"}
        stream = container.add_stream("libsvtav1", rate=8, options=options)
        stream.height, stream.width, stream.pix_fmt = 65, 63, "yuv420p10le"
        frame = av.VideoFrame(63, 65, "yuv420p10le")
        oracle.fill(frame, np.random.default_rng(0), False)
        for packet in (*stream.encode(frame), *stream.encode()):
            container.mux(packet)
    (frame,) = decoded(path)
    shown = colour.to_rgb(frame)
    assert difference(shown, frame.to_ndarray(format="rgb24")) <= 3
    # The same samples without the place: the test sees the difference.
    bare = av.VideoFrame(63, 65, "yuv420p10le")
    bare.colorspace, bare.color_range = frame.colorspace, frame.color_range
    for source, target in zip(frame.planes, bare.planes, strict=True):
        lines = np.frombuffer(bytes(source), np.uint8).reshape(source.height, -1)
        padded = np.zeros((target.height, target.line_size), np.uint8)
        width = min(target.line_size, source.line_size)
        padded[:, :width] = lines[:, :width]
        target.update(padded.tobytes())
    assert difference(shown, colour.to_rgb(bare)) > 40


# --- transparency ---------------------------------------------------------------------------------------------------

ALPHA = [
    "rgba", "bgra", "argb", "abgr", "gbrap", "ya8", "yuva420p", "yuva422p", "yuva444p", "ayuv", "vuya", "uyva",
    "pal8",
]  # fmt: skip


def with_alpha(layout: str, alpha: Array) -> av.VideoFrame:
    """Noise under `alpha` uint8 [H, W]."""
    frame = noise(layout, *alpha.shape)
    if layout == "pal8":
        table = np.arange(256, dtype=np.uint32) * 0x010203 & 0xFFFFFF | alpha[0, 0].astype(np.uint32) << 24
        frame.planes[1].update(table.tobytes())
        return frame
    (part,) = (part for part in frame.format.components if part.is_alpha)
    together = sum(other.plane == part.plane for other in frame.format.components)
    plane = frame.planes[part.plane]
    lines = np.frombuffer(bytes(plane), np.uint8).reshape(plane.height, -1).copy()
    place = 0 if together == 1 else layout.index("a")
    lines[:, place : together * alpha.shape[1] : together] = alpha
    plane.update(lines.tobytes())
    return frame


@pytest.mark.parametrize("layout", ALPHA)
def test_transparency_is_on_black(layout: str) -> None:
    for size in ((16, 24), (15, 23)):
        opaque = with_alpha(layout, np.full(size, 255, np.uint8))
        plain = opaque.to_ndarray(format="rgb24")
        shown = colour.shown(opaque)
        assert not shown.transparent and np.array_equal(shown.rgb, plain)
        for level in (0, 1, 128, 254):
            shown = colour.shown(with_alpha(layout, np.full(size, level, np.uint8)))
            assert shown.transparent
            assert np.array_equal(shown.rgb, (2 * plain.astype(int) * level + 255) // 510)


def test_one_transparent_pixel_touches_no_other() -> None:
    alpha = np.full((16, 24), 255, np.uint8)
    alpha[3, 5] = 0
    frame = with_alpha("yuva444p", alpha)
    shown = colour.shown(frame)
    plain = frame.to_ndarray(format="rgb24").copy()
    plain[3, 5] = 0
    assert shown.transparent and np.array_equal(shown.rgb, plain)


def test_a_picture_that_is_stored_from_its_bottom(tmp_path: Path) -> None:
    """Lines of negative size, as Windows' bitmaps in AVI have them: colour and alpha stay together."""
    path = tmp_path / "a.avi"
    pixels = np.random.default_rng(0).integers(0, 256, (12, 22, 4), np.uint8)
    pixels[..., 3] = 255
    pixels[2, 5, 3] = 0
    with av.open(str(path), "w") as container:
        stream = container.add_stream("rawvideo", rate=8)
        stream.height, stream.width, stream.pix_fmt = 12, 22, "bgra"
        for packet in (*stream.encode(av.VideoFrame.from_ndarray(pixels, format="bgra")), *stream.encode()):
            container.mux(packet)
    content = bytearray(path.read_bytes())
    place = content.index(b"strf") + 16
    assert struct.unpack_from("<i", content, place) == (-12,)
    struct.pack_into("<i", content, place, 12)
    path.write_bytes(content)
    (frame,) = decoded(path)
    assert frame.planes[0].line_size < 0
    pixels[2, 5] = 0
    shown = colour.shown(frame)
    assert shown.transparent and np.array_equal(shown.rgb, pixels[::-1, :, 2::-1])


def test_an_opaque_gif_is_as_it_was(tmp_path: Path) -> None:
    path = made_videos.write(tmp_path / "clip.gif", made_videos.frames(3, 32, 48), codec="gif", pixels="rgb8")
    for frame in decoded(path):
        shown = colour.shown(frame)
        assert frame.format.name == "bgra" and not shown.transparent
        assert np.array_equal(shown.rgb, frame.to_ndarray(format="rgb24"))


# --- what is refused, and what is told ------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["gbrpf32le", "gbrapf16le", "grayf32le", "yaf32le", "rgbaf16le"])
def test_floating_point_is_refused(layout: str) -> None:
    with pytest.raises(InvalidError, match=f"floating point \\({layout}\\)") as caught:
        colour.to_rgb(av.VideoFrame(16, 16, layout))
    assert "ffmpeg" in caught.value.fix


@pytest.mark.parametrize(("matrix", "name"), [(8, "ycgco"), (10, "bt2020c"), (14, "ictcp"), (99, "99")])
@pytest.mark.parametrize("layout", ["yuv420p", "yuv420p10le"])
def test_a_matrix_without_a_rule_is_refused_by_its_name(layout: str, matrix: int, name: str) -> None:
    frame = noise(layout, 16, 16)
    frame.colorspace = matrix
    with pytest.raises(InvalidError, match=f"no rule .* {layout} with the colour matrix {name}"):
        colour.to_rgb(frame)


def tagged(path: Path, codec: str = "ffv1", pixels: str = "yuv420p", **tags: Any) -> Path:
    """A clip of two frames, its codec context with the given attributes."""
    options = tags.pop("options", {})
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=8, options=options)
        stream.height, stream.width, stream.pix_fmt = 32, 64, pixels
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        for seed in range(2):
            frame = noise("rgb24", 32, 64, seed).reformat(format=pixels)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def test_tags_are_told_by_their_names(tmp_path: Path) -> None:
    path = tagged(
        tmp_path / "a.mp4", "libx264", "yuv422p10le", colorspace=9, color_range=2, color_primaries=12, color_trc=1,
        sample_aspect_ratio=Fraction(4, 3),
    )  # fmt: skip
    told = described(path)
    assert (told.matrix, told.range, told.primaries, told.transfer) == ("bt2020nc", "full", "smpte432", "bt709")
    assert (told.depth, told.chroma, told.pixel_aspect, told.alpha) == (10, "4:2:2", "4/3", False)
    assert json.loads(json.dumps(told.to_json()))["pixel_format"] == "yuv422p10le"
    assert colour.hdr_reason(told) == ""


def test_no_tags_are_told_too(tmp_path: Path) -> None:
    told = described(tagged(tmp_path / "a.mkv"))
    assert {told.matrix, told.range, told.primaries, told.transfer} == {"untagged"}
    assert (told.pixel_aspect, told.field_order, told.hdr_data) == ("1/1", "unknown", "")


@pytest.mark.parametrize(
    ("layout", "chroma", "depth", "alpha"),
    [("yuv420p", "4:2:0", 8, False), ("yuv440p12le", "4:4:0", 12, False), ("yuv411p", "4:1:1", 8, False),
     ("yuv410p", "4:1:0", 8, False), ("yuv444p", "4:4:4", 8, False), ("p010le", "4:2:0", 10, False),
     ("gray10le", "gray", 10, False), ("ya8", "gray", 8, True), ("gbrp12le", "rgb", 12, False),
     ("bgra", "rgb", 8, True), ("pal8", "rgb", 8, True), ("yuva444p", "4:4:4", 8, True), ("ayuv", "4:4:4", 8, True),
     ("rgb565le", "rgb", 6, False), ("monob", "gray", 1, False), ("bayer_rggb8", "bayer", 4, False),
     ("xyz12le", "xyz", 12, False)],
)  # fmt: skip
def test_layouts_are_told(tmp_path: Path, layout: str, chroma: str, depth: int, alpha: bool) -> None:
    with av.open(str(tagged(tmp_path / "a.mkv"))) as container:
        for size in ((32, 64), (3, 5)):
            told = colour.describe(av.VideoFrame(size[1], size[0], layout), container.streams.video[0])
            assert (told.chroma, told.depth, told.alpha) == (chroma, depth, alpha), size


@pytest.mark.parametrize(
    ("options", "order"),
    [({}, "progressive"), ({"x264-params": "tff=1"}, "tff"), ({"x264-params": "bff=1"}, "bff")],
)  # fmt: skip
def test_the_order_of_fields_is_told(tmp_path: Path, options: dict[str, str], order: str) -> None:
    assert described(tagged(tmp_path / "a.mp4", "libx264", options=options)).field_order == order


@pytest.mark.parametrize("first", ["tff", "bff"])
def test_an_order_that_writers_do_not_agree_on_is_not_told(tmp_path: Path, first: str) -> None:
    options = {"x265-params": f"interlace={first}:log-level=none:pools=none"}
    path = tagged(tmp_path / "a.mkv", "libx265", options=options)
    assert described(path).field_order == "interlaced"


@pytest.mark.parametrize(("number", "name"), [(16, "PQ"), (18, "HLG")])
def test_pq_and_hlg_are_not_sdr(tmp_path: Path, number: int, name: str) -> None:
    told = described(tagged(tmp_path / "a.mp4", "libx264", "yuv420p10le", color_trc=number, color_primaries=9))
    reason = colour.hdr_reason(told)
    assert f"its light is {name}" in reason and "tonemap" in reason


def test_untagged_light_with_a_mastering_display_is_not_sdr(tmp_path: Path) -> None:
    display = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
    options = {"x265-params": f"log-level=none:pools=none:master-display={display}:max-cll=1000,400"}
    told = described(tagged(tmp_path / "a.hevc", "libx265", "yuv420p10le", options=options))
    assert told.hdr_data == "mastering display" and "mastering display" in colour.hdr_reason(told)
    # Tone mapping leaves the data where they were: what is tagged as SDR is SDR.
    assert colour.hdr_reason(replace(told, transfer="bt709")) == ""
    assert "Dolby Vision" in colour.hdr_reason(replace(told, hdr_data="Dolby Vision"))


def test_numbers_without_a_name_are_kept(tmp_path: Path) -> None:
    with av.open(str(tagged(tmp_path / "a.mkv"))) as container:
        frame = av.VideoFrame(16, 16, "yuv420p")
        frame.colorspace, frame.color_trc, frame.color_primaries = 77, 78, 79
        told = colour.describe(frame, container.streams.video[0])
    assert (told.matrix, told.transfer, told.primaries) == ("77", "78", "79")


def test_what_converts_is_named() -> None:
    assert colour.swscale().startswith("libswscale ") and "(" in colour.swscale()
