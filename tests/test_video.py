"""Clips survive their files to the last bit, and a file that is no video is refused with words."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from flashbench import video
from flashbench.errors import InvalidError
from flashbench.types import Clip


def _clip(shape: tuple[int, int, int] = (5, 48, 66), fps: Fraction = Fraction(8)) -> Clip:
    return Clip(np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8), fps)


@pytest.mark.parametrize("shape", [(5, 48, 66), (1, 17, 33), (2, 1, 1)])
@pytest.mark.parametrize("fps", [Fraction(8), Fraction(24000, 1001)])
def test_lossless_round_trip(tmp_path: Path, shape: tuple[int, int, int], fps: Fraction) -> None:
    clip = _clip(shape, fps)
    video.write_lossless(tmp_path / "clip.mkv", clip)
    back = video.read(tmp_path / "clip.mkv", fps=fps)
    assert back.digest == clip.digest and (back.frames == clip.frames).all()


def test_frames_come_one_by_one(tmp_path: Path) -> None:
    clip = _clip()
    video.write_lossless(tmp_path / "clip.mkv", clip)
    frames = video.frames(tmp_path / "clip.mkv")
    np.testing.assert_array_equal(next(frames), clip.frames[0])
    np.testing.assert_array_equal(np.stack(list(frames)), clip.frames[1:])


def test_the_same_clip_gives_the_same_file(tmp_path: Path) -> None:
    for name in ("a.mkv", "b.mkv"):
        video.write_lossless(tmp_path / name, _clip())
    assert (tmp_path / "a.mkv").read_bytes() == (tmp_path / "b.mkv").read_bytes()


def test_digest_reads_bytes_shape_and_rate() -> None:
    clip = _clip()
    turned = Clip(clip.frames.reshape(5, 66, 48, 3), clip.fps)
    others = [turned, Clip(clip.frames, Fraction(9)), Clip(255 - clip.frames, clip.fps)]
    assert len({clip.digest, *(other.digest for other in others)}) == 4
    assert Clip(clip.frames, Fraction(16, 2)).digest == clip.digest


@pytest.mark.parametrize(
    "bad", [np.zeros((0, 4, 4, 3), np.uint8), np.zeros((1, 4, 4, 3)), np.zeros((4, 4, 3), np.uint8)]
)
def test_a_clip_has_one_form(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8"):
        Clip(bad, Fraction(8))


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "empty.mp4").write_bytes(b"")
    video.write_lossless(tmp_path / "cut.mkv", _clip())
    (tmp_path / "cut.mkv").write_bytes((tmp_path / "cut.mkv").read_bytes()[:200])
    for name in ("text.mp4", "empty.mp4", "cut.mkv", "absent.mp4"):
        with pytest.raises(InvalidError, match=name):
            video.read(tmp_path / name)
        with pytest.raises(InvalidError):
            list(video.frames(tmp_path / name))
