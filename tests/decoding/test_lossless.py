"""Lossy or lossless, by what streams say: each case is encoded here, and decoding agrees with the answer."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from support import made_videos as made

from flashbench.decoding import lossless
from flashbench.videos import read

CLIP = made.frames(4, 64, 96)


def encoded(path: Path, codec: str, pixels: str, **options: str) -> bool:
    """Whether `probe` calls it lossless; checked against the samples that come back."""
    given = [av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixels) for picture in CLIP]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=8, options=options)
        stream.height, stream.width, stream.pix_fmt = 64, 96, pixels
        for frame in given:
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with av.open(str(path)) as container:
        came = [frame.to_ndarray() for frame in container.decode(video=0)]
    told = read.probe(path)[0].lossless
    same = all(np.array_equal(a.to_ndarray(), b) for a, b in zip(given, came, strict=True))
    assert told is same, "the stream comes back as it was given, or it does not"
    return told


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi"])
@pytest.mark.parametrize(("options", "told"), [({"qp": "0"}, True), ({"crf": "0"}, True), ({"crf": "1"}, False)])
@pytest.mark.parametrize("pixels", ["yuv420p", "yuv444p"])
def test_h264_says_so(tmp_path: Path, name: str, options: dict[str, str], told: bool, pixels: str) -> None:
    assert encoded(tmp_path / name, "libx264", pixels, **options) is told


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize("pixels", ["yuv420p", "yuv444p"])
@pytest.mark.parametrize(("how", "told"), [("lossless=1", True), ("crf=10", False), ("qp=10:cu-lossless=0", False)])
def test_hevc_says_so(tmp_path: Path, name: str, pixels: str, how: str, told: bool) -> None:
    options = {"x265-params": f"{how}:log-level=none"}
    assert encoded(tmp_path / name, "libx265", pixels, **options) is told


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "told"),
    [("a.mkv", "ffv1", "yuv420p", True), ("a.mov", "png", "rgb24", True), ("a.avi", "mpeg4", "yuv420p", False)],
)
def test_codecs_that_are_always_one(tmp_path: Path, name: str, codec: str, pixels: str, told: bool) -> None:
    assert encoded(tmp_path / name, codec, pixels) is told


def test_folders_of_pictures_by_their_format(tmp_path: Path) -> None:
    assert read.probe(made.pictures(tmp_path / "p", CLIP))[0].lossless is True


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_parameter_sets_that_are_cut_count_as_lossy(tmp_path: Path, codec: str) -> None:
    made.write(tmp_path / "a.mp4", CLIP)
    with av.open(str(tmp_path / "a.mp4")) as container:
        sets = bytes(container.streams.video[0].codec_context.extradata or b"")
    assert len(sets) > 20
    for size in range(len(sets)):
        about = SimpleNamespace(codec=av.Codec(codec), extradata=sets[:size])
        assert lossless.is_lossless(SimpleNamespace(codec_context=about)) is False  # type: ignore[arg-type]
