"""GIFs: every picture is seen, or the file is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support import made_videos as made

from flashbench.decoding import gif
from flashbench.decoding.container import Unreadable
from flashbench.decoding.frames import pictures

CLIP = made.frames(5, 48, 64)


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return made.write(tmp_path / "whole.gif", CLIP, codec="gif", pixels="rgb8")


def test_pictures_are_counted(whole: Path, tmp_path: Path) -> None:
    assert gif.pictures(whole) == len(list(pictures(whole))) == len(CLIP)
    assert gif.pictures(made.lossless(tmp_path / "a.mkv", CLIP)) == 0


@pytest.mark.parametrize("end", range(0, 400, 7))
def test_any_beginning_of_a_gif_is_counted(end: int, whole: Path) -> None:
    whole.write_bytes(whole.read_bytes()[: max(13, end)])
    assert 0 <= gif.pictures(whole) <= len(CLIP)


def test_pictures_that_nothing_parts_are_not_taken_for_one(whole: Path) -> None:
    """Pillow writes no control blocks where it is given no duration; FFmpeg then shows the first picture alone."""
    content = whole.read_bytes()
    loop, control = rb"\x21\xff\x0bNETSCAPE2.0\x03\x01..\0", rb"\x21\xf9\x04....\0"
    whole.write_bytes(re.sub(loop + b"|" + control, b"", content, flags=re.DOTALL))
    assert gif.pictures(whole) == len(CLIP)
    with pytest.raises(Unreadable, match="FFmpeg shows 1 of its 5 pictures"):
        list(pictures(whole))
