"""Clips cut out of pictures: they stay inside, are never enlarged, and land where they should."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashbench.data import views
from flashbench.data.views import Picture
from flashbench.errors import UsageError


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def ramp(height: int, width: int) -> Picture:
    """A photograph that says where each pixel is: R = column, G = row (both below 256)."""
    frame = np.zeros((1, height, width, 3), np.uint8)
    frame[..., 0] = np.arange(width)
    frame[..., 1] = np.arange(height)[:, None]
    return Picture.of("ramp", frame)


def film(frames: int, height: int, width: int) -> Picture:
    """A video that says where and when each pixel is: R = column, G = row, B = frame."""
    shown = np.repeat(ramp(height, width).frames, frames, axis=0)
    shown[..., 2] = np.arange(frames)[:, None, None]
    return Picture.of("film", shown)


@given(
    frames=st.integers(1, 17),
    height=st.sampled_from([16, 48, 64]),
    width=st.sampled_from([16, 48, 64]),
    room=st.floats(1.0, 3.0),
    factor=st.floats(0.2, 1.0),
    seed=st.integers(0, 10**6),
)
def test_a_view_never_leaves_its_photograph(
    frames: int, height: int, width: int, room: float, factor: float, seed: int
) -> None:
    # White on the outside's black: one pixel beyond the edge, or one tap of the filter, would show.
    rows, columns = (int(np.ceil((side + 14) * room / factor)) for side in (height, width))
    white = Picture.of("white", np.full((1, rows, columns, 3), 200, np.uint8))
    clip = views.cut(white, factor, (frames, height, width), generator(seed), tries=3)
    assert clip.shape == (frames, height, width, 3)
    assert (clip == 200).all()


@pytest.mark.parametrize("seed", range(20))
def test_the_camera_drifts_slowly_and_never_enlarges(seed: int) -> None:
    clip = views.cut(ramp(250, 250), 1.0, (9, 96, 96), generator(seed), tries=1).astype(np.float64)[..., :2]
    centre = clip[:, 44:52, 44:52].mean(axis=(1, 2))
    steps = np.linalg.norm(np.diff(centre, axis=0), axis=1)
    # The zoom's own share at the clip's centre is nothing; the ramp is rounded to whole numbers.
    assert steps.max() < views.PAN + 0.75
    assert np.linalg.norm(centre[-1] - centre[0]) > 1, "nothing moves"
    # Picture pixels seen per clip pixel, from edge to edge.
    across = (clip[:, :, -4:, 0].mean(axis=(1, 2)) - clip[:, :, :4, 0].mean(axis=(1, 2))) / 92
    assert across.min() > 0.99 and across.max() < (1 + views.ZOOM) ** 9


@given(seed=st.integers(0, 10**6), frames=st.integers(2, 49))
def test_the_cameras_path_keeps_its_limits(seed: int, frames: int) -> None:
    matrices = views._draw_camera(generator(seed)).matrices(frames)
    scale = np.sqrt(np.linalg.det(matrices[:, :, :2]))
    assert scale.min() == pytest.approx(1.0)
    assert np.abs(np.diff(np.log(scale))).max() <= views.ZOOM + 1e-9
    turned = np.degrees(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0]))
    assert np.abs(np.diff(turned)).max() <= views.TURN + 1e-9
    steps = np.linalg.norm(np.diff(matrices[:, :, 2], axis=0), axis=1)
    assert steps.max() <= views.PAN + 1e-9


def test_a_shrunk_view_lands_where_it_should() -> None:
    """A picture shrunk by 1/2 beforehand and a factor of 1/2 show the same: no half-pixel slips."""
    rng = generator(0)
    # Smooth, so that how the shrinking filters does not matter; strong, so that where it lands does.
    smooth = cv2.GaussianBlur(rng.random((200, 240, 3)), (0, 0), 8)
    large = ((smooth - smooth.min()) / np.ptp(smooth) * 255).astype(np.uint8)
    small = cv2.resize(large, (120, 100), interpolation=cv2.INTER_AREA)
    shape = (5, 48, 64)
    from_small = views.cut(Picture.of("s", small[None]), 1.0, shape, generator(1), tries=1).astype(int)
    from_large = views.cut(Picture.of("l", large[None]), 0.5, shape, generator(1), tries=1).astype(int)
    slip = np.abs(np.diff(from_small, axis=2)).mean() / 2
    # What is left is rounding, and OpenCV's table of 1/32 pixel.
    assert np.abs(from_small - from_large).mean() < slip / 3


@pytest.mark.parametrize("seed", range(10))
def test_a_video_is_cropped_at_a_steady_stride(seed: int) -> None:
    clip = views.cut(film(40, 100, 120), 1.0, (9, 64, 48), generator(seed), tries=2)
    assert clip.shape == (9, 64, 48, 3)
    times, strides = clip[:, 0, 0, 2], np.diff(clip[:, 0, 0, 2].astype(int))
    assert set(strides) <= {1, 2, 3} and len(set(strides)) == 1
    top, left = int(clip[0, 0, 0, 1]), int(clip[0, 0, 0, 0])
    source = film(40, 100, 120).frames
    np.testing.assert_array_equal(clip, source[times, top : top + 64, left : left + 48])


def test_a_short_video_lowers_its_stride() -> None:
    clip = views.cut(film(9, 64, 64), 1.0, (9, 32, 32), generator(0), tries=1)
    assert clip[:, 0, 0, 2].tolist() == list(range(9))


@pytest.mark.parametrize("shown", [ramp(60, 200), film(20, 60, 200), film(5, 200, 200)])
def test_a_source_that_is_too_small_is_refused(shown: Picture) -> None:
    with pytest.raises(UsageError, match="too small for a clip of 9 frames of 64x64"):
        views.cut(shown, 1.0, (9, 64, 64), generator(0), tries=1)


def test_the_best_place_is_where_the_texture_is() -> None:
    frame = np.full((1, 300, 300, 3), 128, np.uint8)
    frame[:, 150:, 150:] = generator(0).integers(0, 256, (1, 150, 150, 3), np.uint8)
    shown = Picture.of("corner", frame)
    best = [views.cut(shown, 1.0, (1, 64, 64), generator(seed), tries=40) for seed in range(5)]
    assert min(clip.std(axis=(1, 2)).min() for clip in best) > 20
