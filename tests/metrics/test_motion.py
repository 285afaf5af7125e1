"""Change over time and sharpness without a reference: closed forms, translations, spectra made to order, properties."""

from __future__ import annotations

import json
import math
import weakref
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flashbench.metrics import base, detail, motion
from flashbench.metrics.detail import LAPLACIAN_VARIANCE, SPECTRAL_SLOPE
from flashbench.metrics.motion import (
    COLOUR_DRIFT,
    FRAME_DIFFERENCE_ENERGY,
    SHARPNESS_DRIFT,
    TEMPORAL_FLICKER,
    WARPING_ERROR,
)
from flashbench.metrics.vbench import flicker
from flashbench.types import Clip

OVER_TIME = (TEMPORAL_FLICKER, FRAME_DIFFERENCE_ENERGY, WARPING_ERROR, COLOUR_DRIFT, SHARPNESS_DRIFT)
ALL = (*OVER_TIME, LAPLACIAN_VARIANCE, SPECTRAL_SLOPE)
RNG = np.random.default_rng(0)


def clip(frames: Any) -> Clip:
    return Clip(np.asarray(frames, np.uint8), Fraction(8))


def value(metric: base.Metric, frames: Any) -> float:
    found = metric.measure(clip(frames))
    assert not found.reason, found.reason
    return found.value


def noise(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def texture(height: int, width: int, sigma: float = 2, seed: int = 0, low: int = 30, high: int = 220) -> Any:
    """A smooth random texture [H, W, 3] between `low` and `high`."""
    blurred = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=(height, width, 3)), (0, 0), sigma)
    return (low + (high - low) * (blurred - blurred.min()) / np.ptp(blurred)).astype(np.uint8)


def panning(frames: int, step: tuple[int, int] = (2, 3), size: tuple[int, int] = (120, 160)) -> Any:
    """A window that moves by `step` pixels per frame over a still texture."""
    (dy, dx), (height, width) = step, size
    whole = texture(height + dy * frames, width + dx * frames)
    return np.stack([whole[dy * t : dy * t + height, dx * t : dx * t + width] for t in range(frames)])


# Differences of neighbouring frames.


def test_closed_forms_of_flicker_and_energy() -> None:
    ramp = np.stack([np.full((8, 8, 3), 10 * t) for t in range(5)])
    for metric, expected in ((TEMPORAL_FLICKER, 10), (FRAME_DIFFERENCE_ENERGY, 100)):
        assert metric.measure(clip(ramp)).per_frame == (expected,) * 4
        assert value(metric, ramp) == value(metric, ramp[::-1]) == expected
        assert value(metric, ramp[:1].repeat(3, axis=0)) == 0
    blink = np.stack([np.full((8, 8, 3), 255 * (t % 2)) for t in range(3)])
    assert value(TEMPORAL_FLICKER, blink) == 255 and value(FRAME_DIFFERENCE_ENERGY, blink) == 255**2


@given(arrays(np.uint8, st.tuples(st.integers(2, 4), st.integers(1, 7), st.integers(1, 7), st.just(3))))
def test_flicker_is_vbenchs_turned_round_and_energy_its_square(frames: Any) -> None:
    differences = np.diff(frames.astype(float), axis=0)
    assert value(TEMPORAL_FLICKER, frames) == pytest.approx(np.abs(differences).mean(), abs=1e-10)
    assert value(FRAME_DIFFERENCE_ENERGY, frames) == pytest.approx((differences**2).mean(), abs=1e-8)
    assert value(TEMPORAL_FLICKER, frames) == pytest.approx(255 * (1 - flicker.score(frames).value), abs=1e-10)


# Warping error.


@pytest.mark.parametrize("step", [(0, 0), (2, 3), (0, 7), (5, 1)])
def test_a_translation_has_no_warping_error(step: tuple[int, int]) -> None:
    frames = panning(3, step)
    found = value(WARPING_ERROR, frames)
    if step == (0, 0):
        assert found == 0
    else:
        assert found < 1e-5
        assert found < value(FRAME_DIFFERENCE_ENERGY, frames) / 255**2 / 1000
    flow = motion.flows(*frames[:2])[0][20:-20, 20:-20]
    assert np.abs(flow + step[::-1]).max() < 0.2


def test_flicker_has_the_same_warping_error_in_a_still_and_in_a_pan() -> None:
    """Levels that jump by 20 and nothing else: (20/255)², whether the camera moves or not."""
    expected = (20 / 255) ** 2
    still = texture(120, 160)[None].repeat(4, axis=0)
    for frames in (still, panning(4)):
        frames = frames.copy()
        frames[1::2] += 20
        assert value(WARPING_ERROR, frames) == pytest.approx(expected, rel=0.02)


def test_warping_error_of_flat_frames_is_their_difference() -> None:
    flat = np.full((3, 40, 50, 3), 100)
    assert value(WARPING_ERROR, flat) == 0
    flat[1] = 151
    assert value(WARPING_ERROR, flat) == pytest.approx(0.04, rel=1e-6)


def test_hidden_are_what_leaves_what_disagrees_and_edges_of_motion() -> None:
    def uniform(x: float, y: float) -> Any:
        return np.full((12, 16, 2), (x, y), np.float32)

    gone = motion.hidden(uniform(3, 0), uniform(-3, 0))
    np.testing.assert_array_equal(gone, np.broadcast_to(np.arange(16) > 12, (12, 16)))
    gone = motion.hidden(uniform(0, -2), uniform(0, 2))
    np.testing.assert_array_equal(gone, np.broadcast_to((np.arange(12) < 2)[:, None], (12, 16)))
    assert not motion.hidden(uniform(0, 0), uniform(0.7, 0)).any()  # 0.49 < 0.01 · 0.49 + 0.5
    assert motion.hidden(uniform(0, 0), uniform(0.72, 0)).all()  # 0.518 > 0.01 · 0.518 + 0.5
    fast = motion.hidden(uniform(9, 0), uniform(-10.2, 0))  # 1.44 < 0.01 (81 + 104.04) + 0.5
    np.testing.assert_array_equal(fast, np.broadcast_to(np.arange(16) > 6, (12, 16)))
    step = uniform(0, 0)
    step[:, 8:, 1] = 0.2  # central differences of 0.1 at columns 7 and 8; 0.01 > 0.002 + 0.01 |w|²
    edge = motion.hidden(step, -step)[:-1]
    np.testing.assert_array_equal(edge, np.broadcast_to(np.isin(np.arange(16), (7, 8)), (11, 16)))


def test_what_an_object_uncovers_does_not_count() -> None:
    """A square over a still ground: without the mask, the ground that it covers would be an error."""
    ground, square = texture(120, 160, seed=1), texture(40, 40, seed=2)
    frames = np.stack([ground, ground])
    for t, frame in enumerate(frames):
        frame[40:80, 50 + 8 * t : 90 + 8 * t] = square
    found = value(WARPING_ERROR, frames)
    forward, backward = motion.flows(*frames)
    hidden = motion.hidden(forward, backward)
    assert 0.005 < hidden.mean() < 0.3 and hidden[40:80, 90:98].mean() > 0.7
    assert found < value(FRAME_DIFFERENCE_ENERGY, frames) / 255**2 / 10


def test_pairs_without_a_visible_pixel_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def hidden(forward: Any, backward: Any) -> Any:
        calls.append(1)
        return np.full(forward.shape[:2], len(calls) != 2)

    monkeypatch.setattr(motion, "hidden", hidden)
    frames = np.stack([np.full((20, 20, 3), level) for level in (0, 51, 102, 255)])
    found = WARPING_ERROR.measure(clip(frames))
    assert found.value == pytest.approx(0.04) and np.isnan(found.per_frame).tolist() == [True, False, True]
    assert found.reason == "no pixel visible in the next frame in 2 of 3 frames"
    found = WARPING_ERROR.measure(clip(frames[:2]))
    assert math.isnan(found.value) and "1 of 1" in found.reason


@pytest.mark.parametrize("size", [(16, 16), (120, 161), (270, 480)])
def test_flow_is_the_same_again_and_on_any_number_of_threads(size: tuple[int, int]) -> None:
    before, after = texture(*size), texture(*size, seed=1)
    threads = cv2.getNumThreads()
    try:
        found = []
        for number in (1, 1, 2, 3, 8):
            cv2.setNumThreads(number)
            found.append((*motion.flows(before, after), motion.warping_error(before, after)))
    finally:
        cv2.setNumThreads(threads)
    for forward, backward, error in found[1:]:
        np.testing.assert_array_equal(forward, found[0][0])
        np.testing.assert_array_equal(backward, found[0][1])
        assert error == found[0][2]


@pytest.mark.parametrize("size", [(16, 45), (45, 45), (46, 16), (64, 64), (270, 480)])
def test_the_way_back_is_the_way_there_of_the_frames_exchanged(size: tuple[int, int]) -> None:
    frames = noise(2, *size, 3)
    forward, backward = motion.flows(*frames)
    again, there = motion.flows(*frames[::-1])
    np.testing.assert_array_equal(backward, again)
    np.testing.assert_array_equal(forward, there)


def test_frames_that_opencv_would_read_beyond_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 16×16"):
        motion.flows(*noise(2, 15, 64, 3))


def test_flow_does_not_depend_on_how_a_frame_lies_in_memory() -> None:
    frames = noise(2, 40, 60, 3)
    turned = np.ascontiguousarray(frames[:, ::-1])[:, ::-1]
    assert value(WARPING_ERROR, frames) == value(WARPING_ERROR, turned)
    for metric in OVER_TIME:
        assert metric.measure(clip(turned)) == metric.measure(clip(frames))


# Drift.


def test_colour_drift_is_how_far_the_mean_moved() -> None:
    ramp = np.stack([np.full((6, 7, 3), 50 + t) for t in range(40)])  # 15 % of 40 frames are 6
    assert value(COLOUR_DRIFT, ramp) == value(COLOUR_DRIFT, ramp[::-1]) == pytest.approx(34, abs=1e-12)
    assert value(COLOUR_DRIFT, ramp[:2]) == 1  # at least one frame at each end
    blue = np.full((10, 6, 7, 3), 80)
    blue[-1, ..., 2] += 30
    assert value(COLOUR_DRIFT, blue) == pytest.approx(30 / math.sqrt(3), abs=1e-12)
    assert COLOUR_DRIFT.measure(clip(blue)).per_frame == pytest.approx([0] * 9 + [30 / math.sqrt(3)])


def test_what_comes_back_and_what_only_moves_is_no_drift() -> None:
    there_and_back = np.stack([np.full((6, 7, 3), 50 + 20 * (2 < t < 17)) for t in range(20)])
    assert value(COLOUR_DRIFT, there_and_back) == 0
    frame = noise(20, 30, 3)
    rolled = np.stack([np.roll(frame, t, axis=1) for t in range(10)])
    assert value(COLOUR_DRIFT, rolled) == 0


def test_sharpness_drift_in_doublings() -> None:
    """A quarter of the contrast is a 16th of the variance: four doublings."""
    grey = np.repeat(noise(32, 32, 1) // 64 * 4, 3, axis=-1)
    frames = np.stack([grey * 4, grey * 4, grey * 2, grey * 2, grey, grey])
    found = SHARPNESS_DRIFT.measure(clip(frames))
    assert found.value == pytest.approx(4, abs=1e-12)
    assert found.per_frame == pytest.approx([0, 0, 2, 2, 4, 4], abs=1e-12)
    assert value(SHARPNESS_DRIFT, frames // 2) == pytest.approx(4, abs=1e-12)


def test_a_clip_that_blurs_drifts_in_sharpness_and_not_in_colour() -> None:
    frame = noise(64, 64, 3)
    frames = [frame] + [cv2.GaussianBlur(frame, (0, 0), 0.3 * t) for t in range(1, 10)]
    assert value(SHARPNESS_DRIFT, frames) > 5 and value(COLOUR_DRIFT, frames) < 1


def test_flat_ends_have_no_sharpness_to_drift() -> None:
    frames = noise(14, 16, 16, 3)
    frames[0] = 9
    found = SHARPNESS_DRIFT.measure(clip(frames))  # the other of the first two frames is left
    assert math.isfinite(found.value) and found.reason == "1 of 14 frames are flat"
    assert math.isnan(found.per_frame[0]) and found.per_frame[1] == 0
    frames[1] = 200
    found = SHARPNESS_DRIFT.measure(clip(frames))
    assert math.isnan(found.value)
    assert found.reason == "no sharpness_drift: the first or the last 2 of 14 frames are flat"


@given(arrays(np.uint8, st.tuples(st.integers(2, 9), st.integers(1, 4), st.integers(1, 4), st.just(3))))
def test_drift_is_the_same_backwards_and_for_every_order_of_pixels(frames: Any) -> None:
    found = value(COLOUR_DRIFT, frames)
    assert 0 <= found <= 255
    assert found == pytest.approx(value(COLOUR_DRIFT, frames[::-1]), abs=1e-10)
    assert found == value(COLOUR_DRIFT, frames.transpose(0, 2, 1, 3)) == value(COLOUR_DRIFT, frames[:, ::-1])


# Sharpness.


def coloured(exponent: float, height: int = 256, width: int = 256, seed: int = 1) -> Any:
    """Noise whose power falls with frequency to the `exponent`, made by filtering white noise."""
    spectrum = np.fft.rfft2(np.random.default_rng(seed).normal(size=(height, width)))
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    radius[0, 0] = 1
    made = np.fft.irfft2(spectrum * radius ** (exponent / 2), (height, width))
    levels = 128 + 35 * (made - made.mean()) / made.std()
    return np.repeat(np.clip(np.rint(levels), 0, 255).astype(np.uint8)[..., None], 3, axis=-1)


@pytest.mark.parametrize("exponent", [0, -1, -2, -3])
@pytest.mark.parametrize("size", [(256, 256), (135, 301)])
def test_slope_of_a_spectrum_made_to_order(exponent: float, size: tuple[int, int]) -> None:
    assert value(SPECTRAL_SLOPE, coloured(exponent, *size)[None]) == pytest.approx(exponent, abs=0.1)


def test_slope_of_the_transform_written_out() -> None:
    """Every entry of the whole plane, ring by ring, and NumPy's polynomial fit."""
    frame = coloured(-2, 40, 51)
    grey = frame[..., 0].astype(float)
    windows = [0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1, n + 1) / (n + 1)) for n in grey.shape]
    power = np.abs(np.fft.fft2((grey - grey.mean()) * np.outer(*windows))) ** 2
    rings: dict[int, list[tuple[float, float]]] = {}
    for i, fy in enumerate(np.fft.fftfreq(40)):
        for j, fx in enumerate(np.fft.fftfreq(51)):
            rings.setdefault(round(40 * math.hypot(fy, fx)), []).append((math.hypot(fy, fx), power[i, j]))
    means = np.array([np.mean(entries, axis=0) for entries in rings.values()])
    inside = means[(means[:, 0] >= 0.05) & (means[:, 0] <= 0.45)]
    expected = np.polyfit(*np.log(inside).T, 1)[0]
    assert len(inside) >= 13
    assert detail.spectral_slope(frame) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(32, 45), st.integers(32, 45))
def test_slope_is_free_of_brightness_contrast_and_orientation(seed: int, height: int, width: int) -> None:
    frame = np.repeat(noise(height, width, 1, seed=seed) // 8, 3, axis=-1)
    slope = detail.spectral_slope(frame)
    for other in (frame + np.uint8(40), 3 * frame, frame[::-1], frame[:, ::-1], frame.swapaxes(0, 1)):
        assert detail.spectral_slope(other) == pytest.approx(slope, abs=1e-9)


def test_blur_steepens_the_slope_and_lowers_the_variance() -> None:
    frame = coloured(-1)
    blurred = [frame] + [cv2.GaussianBlur(frame, (0, 0), sigma) for sigma in (0.6, 1.2, 2.4)]
    for metric in (SPECTRAL_SLOPE, LAPLACIAN_VARIANCE):
        values = [value(metric, each[None]) for each in blurred]
        assert values == sorted(values, reverse=True) and len(set(values)) == 4


def test_laplacian_variance_of_one_bright_pixel() -> None:
    frames = np.zeros((2, 9, 9, 3))
    frames[0, 4, 4] = 10
    found = LAPLACIAN_VARIANCE.measure(clip(frames))
    squares, pixels = 40**2 + 4 * 10**2, 81  # and the sum is 0
    assert found.per_frame == pytest.approx((squares / pixels, 0), rel=1e-12)
    assert found.value == pytest.approx(squares / pixels / 2, rel=1e-12)


def test_a_frame_without_power_in_the_band_is_left_out() -> None:
    frames = noise(3, 40, 40, 3)
    frames[1] = 200
    found = SPECTRAL_SLOPE.measure(clip(frames))
    assert math.isfinite(found.value) and math.isnan(found.per_frame[1])
    assert found.reason == "no spectral slope (no power in a part of the band) in 1 of 3 frames"
    assert math.isnan(SPECTRAL_SLOPE.measure(clip(frames[1:2])).value)


# All of them.


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (8, 8), (8, 64), (15, 64), (16, 300), (17, 31), (33, 47)])
@pytest.mark.parametrize("content", ["flat", "noise", "steps"])
def test_every_size_has_a_value_or_a_reason(metric: base.Metric, size: tuple[int, int], content: str) -> None:
    frames = {
        "flat": np.full((3, *size, 3), 77),
        "noise": RNG.integers(0, 256, (3, *size, 3)),
        "steps": np.stack([np.full((*size, 3), 100 * t) for t in range(3)]),
    }[content]
    found = metric.measure(clip(frames))
    assert found.reason if math.isnan(found.value) else metric.range[0] <= found.value <= metric.range[1]
    smallest = {"warping_error": 16, "spectral_slope": 32}.get(metric.name, 1)
    if min(size) < smallest:
        assert math.isnan(found.value) and f"needs frames of at least {smallest}×{smallest}" in found.reason
    elif content != "noise":
        assert math.isnan(found.value) == (metric.name in ("sharpness_drift", "spectral_slope"))


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)
def test_one_frame(metric: base.Metric) -> None:
    found = metric.measure(clip(noise(1, 48, 48, 3)))
    if metric in OVER_TIME:
        assert math.isnan(found.value) and found.reason == "a single frame has no change over time"
    else:
        assert math.isfinite(found.value) and len(found.per_frame) == 1


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)
def test_a_metric_declares_itself(metric: base.Metric) -> None:
    assert {"channel", "border", "frames", "resize", "averaging"} <= set(metric.preprocessing)
    assert metric.version == 1 and not metric.assets and metric.deterministic
    assert metric.direction == ("lower" if metric in OVER_TIME and metric != FRAME_DIFFERENCE_ENERGY else "none")
    assert json.loads(json.dumps(metric.identity, allow_nan=False)) == metric.identity


def test_streaming_holds_two_frames_at_most() -> None:
    alive: list[weakref.ref[Any]] = []
    most = 0

    def pairs() -> Iterator[base.Pair]:
        nonlocal most
        for t in range(20):
            frame = noise(48, 48, 3, seed=t)
            alive.append(weakref.ref(frame))
            most = max(most, sum(ref() is not None for ref in alive))
            yield base.Pair(frame)
            del frame

    found = base.measure_frames(ALL, base.About(shape=(0, 48, 48)), pairs())
    assert [len(each.per_frame) for each in found] == [19, 19, 19, 20, 20, 20, 20]
    # The frame just made and the one before it.
    assert most <= 2
