"""Animated WebP: its pictures, their times, whole or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import made_videos as made

from flashbench.decoding import webp

CLIP = made.frames(5, 48, 64)


def animated(path: Path, pictures: np.ndarray, duration: int | list[int] = 125) -> Path:
    first, *others = (Image.fromarray(picture) for picture in pictures)
    first.save(path, save_all=True, append_images=others, duration=duration, lossless=True, exact=True)
    return path


def test_an_animation_gives_every_byte_and_its_times(tmp_path: Path) -> None:
    path = animated(tmp_path / "a.webp", CLIP, [100, 50, 200, 40, 110])
    shown = webp.animation(path)
    assert webp.pictures(path) == 5 and np.array_equal(np.stack(shown.frames), CLIP)
    assert shown.durations == (100, 50, 200, 40, 110) and not shown.alpha


def test_a_still_one_is_one_picture_and_others_are_none(tmp_path: Path) -> None:
    Image.fromarray(CLIP[0]).save(tmp_path / "s.webp")
    Image.fromarray(CLIP[0]).save(tmp_path / "s.png")
    (tmp_path / "empty").write_bytes(b"")
    assert [webp.pictures(tmp_path / name) for name in ("s.webp", "s.png", "empty")] == [1, 0, 0]


def test_transparency_is_shown_on_black(tmp_path: Path) -> None:
    alpha = np.random.default_rng(0).integers(0, 256, (5, 48, 64, 1), np.uint8)
    shown = webp.animation(animated(tmp_path / "a.webp", np.concatenate([CLIP, alpha], axis=3)))
    assert shown.alpha
    assert np.abs(np.stack(shown.frames[:1]).astype(int) - np.rint(CLIP[:1] * (alpha[:1] / 255))).max() <= 1


@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_what_is_cut_short_is_refused(share: float, tmp_path: Path) -> None:
    path = animated(tmp_path / "a.webp", CLIP)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match=r"cut short: [0-9,]+ of [0-9,]+ bytes"):
        webp.animation(path)
