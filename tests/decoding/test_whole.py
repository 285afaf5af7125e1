"""Files that were cut: told from whole ones wherever something is written that says where they end."""

from __future__ import annotations

import re
from pathlib import Path

import av
import numpy as np
import pytest
from support import made_videos as made

from flashbench import video
from flashbench.decoding.container import Unreadable
from flashbench.decoding.frames import pictures
from flashbench.decoding.source import probe
from flashbench.decoding.whole import cut_short, transport
from flashbench.errors import InvalidError

CLIP = made.frames(16, 48, 64)
FRAGMENTS = "frag_keyframe+empty_moov+default_base_moof"
X264 = {"preset": "veryfast", "g": "8"}
MADE: dict[str, tuple[str, str, str, dict[str, str], dict[str, str]]] = {
    # name: container, codec, pixels, options of the encoder, of the container
    "mp4": ("mp4", "libx264", "yuv420p", X264, {}),
    "mp4, index first": ("mp4", "libx264", "yuv420p", X264, {"movflags": "faststart"}),
    "mp4, fragments": ("mp4", "libx264", "yuv420p", X264, {"movflags": FRAGMENTS}),
    "mov": ("mov", "mjpeg", "yuvj420p", {}, {"movflags": "faststart"}),
    "mkv": ("matroska", "ffv1", "bgr0", {}, {}),
    "mkv, of a pipe": ("matroska", "libx264", "yuv420p", X264, {"live": "1", "cluster_time_limit": "400"}),
    "webm": ("webm", "libvpx", "yuv420p", {"b": "1M", "deadline": "realtime"}, {}),
    "avi": ("avi", "mpeg4", "yuv420p", {}, {}),
    "mpegts": ("mpegts", "mpeg2video", "yuv420p", {}, {}),
    "m2ts": ("mpegts", "libx264", "yuv420p", X264, {"mpegts_m2ts_mode": "1"}),
    "flv": ("flv", "flv", "yuv420p", {}, {}),
    "asf": ("asf", "wmv2", "yuv420p", {}, {}),
    "y4m": ("yuv4mpegpipe", "rawvideo", "yuv420p", {}, {}),
    "y4m, 4:2:2 of 10 bits": ("yuv4mpegpipe", "rawvideo", "yuv422p10le", {}, {"strict": "-1"}),
    "gif": ("gif", "gif", "rgb8", {}, {}),
    "apng": ("apng", "apng", "rgb24", {}, {}),
    "ivf": ("ivf", "libvpx", "yuv420p", {"b": "1M", "deadline": "realtime"}, {}),
}
BETWEEN = {"mpegts", "m2ts", "flv", "ivf"}
"""Containers that say nowhere how much follows: a cut between two of their parts is no different from an end."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("whole")
    found = {}
    for number, (name, (form, codec, pixels, options, outer)) in enumerate(MADE.items()):
        found[name] = path = folder / f"{number}.video"
        with av.open(str(path), "w", format=form, options=outer) as container:
            stream = container.add_stream(codec, rate=8, options=options)
            stream.height, stream.width, stream.pix_fmt = *CLIP.shape[1:3], pixels
            for picture in CLIP:
                for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                    container.mux(packet)
            for packet in stream.encode():
                container.mux(packet)
    return found


def starts(path: Path) -> list[int]:
    """Where its packets begin in a file."""
    with av.open(str(path)) as container:
        return [packet.pos for packet in container.demux(video=0) if packet.size and packet.pos and packet.pos > 0]


@pytest.mark.parametrize("name", MADE)
def test_a_whole_file_is_whole(name: str, files: dict[str, Path]) -> None:
    assert cut_short(files[name]) == ""
    assert probe(files[name])[0].frames == len(list(pictures(files[name]))) == len(CLIP)


@pytest.mark.parametrize("name", MADE)
def test_a_cut_file_is_refused(name: str, files: dict[str, Path], tmp_path: Path) -> None:
    """At twelve places, between packets and within, and a byte before the end."""
    content, cut = files[name].read_bytes(), tmp_path / "cut.video"
    inside = np.random.default_rng(0).integers(len(content) // 5, len(content) - 1, 5)
    between = [] if name in BETWEEN else starts(files[name])[6::4]
    last = len(content) - 1 if name not in ("flv",) else len(content) - 6  # behind the last tag stands its length only
    for length in {int(place) for place in (*inside, *between, last)}:
        if name in BETWEEN and length in starts(files[name]):
            continue
        cut.write_bytes(content[:length])
        with pytest.raises(Unreadable, match="cannot be read"):
            probe(cut)
        with pytest.raises(Unreadable, match="cannot be read"):
            list(pictures(cut))
        with pytest.raises(InvalidError, match="cut.video cannot be read"):
            video.read(cut)


def test_what_follows_the_last_box_does_not_matter(files: dict[str, Path], tmp_path: Path) -> None:
    """Tools leave tags and zeros behind a video."""
    longer = tmp_path / "longer.mp4"
    for rest in (bytes(5000), b"TAG" + bytes(125)):
        longer.write_bytes(files["mp4"].read_bytes() + rest)
        assert len(list(pictures(longer))) == len(CLIP)


def test_an_mp4_whose_data_have_no_length_is_held_against_its_index(files: dict[str, Path], tmp_path: Path) -> None:
    content = bytearray(files["mp4, index first"].read_bytes())
    at = content.index(b"mdat") - 4
    content[at : at + 4] = bytes(4)  # "up to the end"
    open_end = tmp_path / "open.mp4"
    open_end.write_bytes(content)
    assert len(list(pictures(open_end))) == len(CLIP)
    open_end.write_bytes(content[: starts(files["mp4, index first"])[9]])
    with pytest.raises(Unreadable, match="its index names pictures beyond its end"):
        probe(open_end)


def test_a_hole_in_place_of_fragments_is_damage_and_zeros_at_the_end_are_none(tmp_path: Path) -> None:
    path = made.write(tmp_path / "a.mp4", CLIP, movflags="frag_every_frame+empty_moov+default_base_moof")
    content = path.read_bytes()
    second, third = [at.start() - 4 for at in re.finditer(b"moof", content)][1:3]
    path.write_bytes(content + bytes(100))
    assert cut_short(path) == "" and len(list(pictures(path))) == len(CLIP)
    path.write_bytes(content[:second] + bytes(third - second) + content[third:])
    with pytest.raises(Unreadable, match=f"zeros stand at byte {second:,}, where a box should begin"):
        list(pictures(path))


@pytest.mark.parametrize(("size", "start"), [(188, 0), (192, 4), (204, 0), (188, 57), (192, 100)])
def test_a_transport_stream_has_a_sync_byte_in_every_packet(size: int, start: int) -> None:
    stream = bytearray(np.random.default_rng(0).integers(0, 256, 8192, np.uint8).tobytes())
    stream[start::size] = b"G" * len(stream[start::size])
    assert transport(bytes(stream)) == (size, start - 4 * (size == 192))
    stream[start + 2 * size] = 0
    stream[start + 7 * size] = 0
    stream[start + 12 * size :] = bytes(len(stream) - start - 12 * size)
    assert transport(bytes(stream[: start + 6 * size])) == (0, 0)


@pytest.mark.parametrize("junk", [0, 1, 37])
def test_a_transport_stream_that_begins_within_a_packet_ends_with_a_whole_one(junk: int, tmp_path: Path) -> None:
    path = made.write(tmp_path / "a.ts", made.frames(8, 48, 64), codec="mpeg2video", fps=25)
    content = bytes(junk) + path.read_bytes()
    path.write_bytes(content)
    assert cut_short(path) == ""
    path.write_bytes(content[:-1])
    assert cut_short(path) == "it is cut short: its last packet has 187 of 188 bytes"
