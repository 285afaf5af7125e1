"""High-pass correlation, flat noise, temporal residual: closed forms, SciPy and loops, properties, faults, the CLI."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
import weakref
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from support import made_videos as made

from flashbench import metrics
from flashbench.metrics import base, grain, motion
from flashbench.metrics.grain import FLAT_NOISE, HIGH_PASS_CORRELATION, TEMPORAL_RESIDUAL
from flashbench.types import Clip

ALL = (HIGH_PASS_CORRELATION, FLAT_NOISE, TEMPORAL_RESIDUAL)
OF_FRAMES = ALL[:2]


def noise(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def grey(plane: Any) -> Any:
    """Planes [..., H, W], rounded, as frames of three equal channels."""
    levels = np.rint(plane)
    assert levels.min() >= 0 and levels.max() <= 255
    return np.repeat(levels.astype(np.uint8)[..., None], 3, axis=-1)


def white(sigma: float, *shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(0, sigma, shape)


def smooth(height: int, width: int, sigma: float = 3, seed: int = 0) -> Any:
    """A smooth random plane between 60 and 190."""
    made = cv2.GaussianBlur(white(1, height, width, seed=seed), (0, 0), sigma)
    return 60 + 130 * (made - made.min()) / np.ptp(made)


def panning(frames: int, step: tuple[int, int] = (2, 3), size: tuple[int, int] = (120, 160)) -> Any:
    """A window that moves by `step` pixels per frame over a still smooth plane: float [T, H, W]."""
    (dy, dx), (height, width) = step, size
    whole = smooth(height + dy * frames, width + dx * frames)
    return np.stack([whole[dy * t : dy * t + height, dx * t : dx * t + width] for t in range(frames)])


def clip(frames: Any) -> Clip:
    return Clip(np.asarray(frames, np.uint8), Fraction(8))


def value(metric: base.Metric, frames: Any, reference: Any) -> float:
    found = metric.measure(clip(frames), clip(reference))
    assert not found.reason, found.reason
    return found.value


# The high-pass correlation.


@pytest.mark.parametrize("shape", [(1, 9), (5, 5), (17, 31), (60, 41)])
def test_the_high_pass_correlation_is_scipys_and_numpys(shape: tuple[int, int]) -> None:
    """SciPy's Gaussian, cut off at four standard deviations; its `mirror` leaves the border's pixel single."""
    reference = noise(*shape, 3)
    for frame in (noise(*shape, 3, seed=1), reference // 2 + noise(*shape, 3, seed=2) // 2):
        fine = []
        for each in (frame, reference):
            level = motion.grey(each).astype(float)
            fine.append(level - ndimage.gaussian_filter(level, 1.5, mode="mirror", truncate=4))
        expected = np.corrcoef(fine[0].ravel(), fine[1].ravel())[0, 1]
        assert value(HIGH_PASS_CORRELATION, frame[None], reference[None]) == pytest.approx(expected, abs=1e-10)


def test_the_high_pass_correlation_of_contrast_brightness_and_negative() -> None:
    reference = grey(noise(40, 50) // 4)[None]
    for frames in (reference, reference + 30, 3 * reference, 3 * reference + 20):
        assert value(HIGH_PASS_CORRELATION, frames, reference) == pytest.approx(1, abs=1e-12)
    assert value(HIGH_PASS_CORRELATION, 255 - reference, reference) == pytest.approx(-1, abs=1e-12)


@pytest.mark.parametrize(("own", "added"), [(10, 10), (15, 5), (5, 20)])
def test_added_white_noise_lowers_the_high_pass_correlation_as_it_must(own: float, added: float) -> None:
    """White noise of variance a + 1/12 (rounding), and b more: √((a + 1/12) / (a + b + 1/12))."""
    reference = 128 + white(own, 300, 400)
    frame = np.rint(reference) + white(added, 300, 400, seed=1)
    frame, reference = (np.clip(each, 0, 255) for each in (frame, reference))
    expected = math.sqrt((own**2 + 1 / 12) / (own**2 + added**2 + 1 / 6))
    assert value(HIGH_PASS_CORRELATION, grey(frame)[None], grey(reference)[None]) == pytest.approx(expected, abs=0.01)
    unlike = grey(np.clip(128 + white(own, 300, 400, seed=2), 0, 255))
    assert abs(value(HIGH_PASS_CORRELATION, unlike[None], grey(reference)[None])) < 0.01


def test_blur_grain_and_a_shift_lower_the_high_pass_correlation() -> None:
    reference = grey(np.clip(smooth(96, 128, 1.5) + white(4, 96, 128, seed=3), 0, 255))
    blurred = [cv2.GaussianBlur(reference, (0, 0), sigma) for sigma in (0.5, 1, 2)]
    grainy = [grey(np.clip(reference[..., 0] + white(sigma, 96, 128, seed=1), 0, 255)) for sigma in (3, 9, 27)]
    for worse in (blurred, grainy):
        values = [value(HIGH_PASS_CORRELATION, frame[None], reference[None]) for frame in worse]
        assert 1 > values[0] > values[1] > values[2] > 0
    assert value(HIGH_PASS_CORRELATION, np.roll(reference, 2, axis=1)[None], reference[None]) < 0.5


@settings(max_examples=25)
@given(arrays(np.uint8, st.tuples(st.just(2), st.integers(1, 9), st.integers(1, 9), st.just(3))))
def test_the_high_pass_correlation_is_symmetric_and_blind_to_turning(pair: Any) -> None:
    a, b = pair
    found = grain.high_pass_correlation(a, b)
    assert math.isnan(found) == any(np.ptp(motion.grey(each)) == 0 for each in pair)
    assert math.isnan(found) or -1 <= found <= 1
    for other in ((b, a), (a[::-1], b[::-1]), (a[:, ::-1], b[:, ::-1]), (a.swapaxes(0, 1), b.swapaxes(0, 1))):
        assert grain.high_pass_correlation(*other) == pytest.approx(found, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("flat", [0, 77, 255])
def test_flat_frames_have_no_high_pass_correlation(flat: int) -> None:
    frames, other = noise(3, 20, 30, 3), noise(3, 20, 30, 3, seed=1)
    frames[0], other[1] = flat, flat
    found = HIGH_PASS_CORRELATION.measure(clip(frames), clip(other))
    assert np.isnan(found.per_frame).tolist() == [True, True, False] and math.isfinite(found.value)
    assert "the frame or the reference is flat" in found.reason and "2 of 3 frames" in found.reason


# Flat noise.


def flat_noise_by_loops(frame: Any, reference: Any) -> float:
    """Block by block, pixel by pixel."""
    ours, theirs = (motion.grey(each).astype(int) for each in (frame, reference))
    places = [(y, x) for y in range(0, len(ours) - 7, 8) for x in range(0, ours.shape[1] - 7, 8)]
    spreads = {(y, x): theirs[y : y + 8, x : x + 8].var() for y, x in places}
    last = sorted(spreads.values())[math.ceil(len(places) / 5) - 1]
    sums = [0, 0]
    for (y, x), spread in spreads.items():
        if spread > last + 1e-9:
            continue
        for i in range(y + 1, y + 7):
            for j in range(x + 1, x + 7):
                for number, level in enumerate((ours, theirs)):
                    around = level[i - 1, j] + level[i + 1, j] + level[i, j - 1] + level[i, j + 1]
                    sums[number] += (around - 4 * level[i, j]) ** 2
    return math.sqrt(sums[0] / sums[1])


@pytest.mark.parametrize("shape", [(8, 8), (15, 40), (41, 55)])
def test_flat_noise_is_that_of_a_loop(shape: tuple[int, int]) -> None:
    for reference in (noise(*shape, 3), noise(*shape, 3) // 100 * 90, grey(smooth(*shape))):
        frame = noise(*shape, 3, seed=1)
        expected = flat_noise_by_loops(frame, reference)
        assert value(FLAT_NOISE, frame[None], reference[None]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("sigma", [0.0, 2.0, 6.0])
def test_white_noise_on_a_known_one_in_closed_form(sigma: float) -> None:
    """One tile of noise repeated, so that all blocks tie and all count: √(1 + 20 (σ² + 1/12) / L²), L its Laplacian."""
    tile = np.rint(white(3, 8, 8, seed=4)) + 128
    kernel = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
    power = np.mean(ndimage.correlate(tile, kernel)[1:-1, 1:-1] ** 2)
    reference = np.tile(tile, (40, 50))
    frame = reference + white(sigma, *reference.shape) if sigma else reference
    expected = math.sqrt(1 + 20 * (sigma**2 + 1 / 12) / power) if sigma else 1
    assert value(FLAT_NOISE, grey(frame)[None], grey(reference)[None]) == pytest.approx(
        expected, rel=0.01 * bool(sigma)
    )


def test_flat_noise_looks_at_flat_areas_only_and_no_edge_beside_them_counts() -> None:
    """A quarter of the frame is calm: what happens elsewhere, right up to its border, is nothing to it."""
    reference = noise(64, 64)
    reference[:32, :32] = 100 + white(1, 32, 32)
    elsewhere = noise(64, 64, seed=1)
    elsewhere[:32, :32] = reference[:32, :32]
    assert value(FLAT_NOISE, grey(elsewhere)[None], grey(reference)[None]) == 1
    inside = reference.copy()
    inside[:32, :32] = np.rint(100 + 3.0 * (reference[:32, :32].astype(float) - 100))
    assert value(FLAT_NOISE, grey(inside)[None], grey(reference)[None]) == pytest.approx(3, rel=1e-12)
    smoothed = cv2.GaussianBlur(grey(reference), (0, 0), 2)
    assert value(FLAT_NOISE, np.asarray(smoothed)[None], grey(reference)[None]) < 1.5


def test_flat_noise_of_blur_is_below_one_and_of_grain_above() -> None:
    reference = grey(np.clip(smooth(96, 128, 6) + white(2, 96, 128, seed=3), 0, 255))
    assert value(FLAT_NOISE, cv2.GaussianBlur(reference, (0, 0), 1)[None], reference[None]) < 0.3
    grainy = [grey(np.clip(reference[..., 0] + white(s, 96, 128, seed=1), 0, 255)) for s in (1, 3, 9)]
    values = [value(FLAT_NOISE, frame[None], reference[None]) for frame in grainy]
    assert 1 < values[0] < values[1] < values[2]


@settings(max_examples=25)
@given(arrays(np.uint8, (2, 16, 24, 3)), st.permutations(range(6)))
def test_the_order_of_blocks_is_nothing_to_flat_noise(pair: Any, order: list[int]) -> None:
    shuffled = np.empty_like(pair)
    for here, there in enumerate(order):
        (y, x), (v, u) = ((8 * (place // 3), 8 * (place % 3)) for place in (here, there))
        shuffled[:, y : y + 8, x : x + 8] = pair[:, v : v + 8, u : u + 8]
    expected = grain.flat_levels(*pair)
    assert grain.flat_levels(*shuffled) == pytest.approx(expected, rel=1e-12)


def test_a_reference_without_noise_where_it_is_flat_has_no_ratio() -> None:
    """Bars without noise are nothing to divide by, once they are a fifth of the blocks; a ramp has no Laplacian."""
    reference = noise(80, 80, 3)
    frame = noise(80, 80, 3, seed=1)
    reference[:8] = 0  # a tenth
    assert math.isfinite(value(FLAT_NOISE, frame[None], reference[None]))
    ramp = grey(np.broadcast_to(np.arange(80), (80, 80)))
    for without in (
        np.full((80, 80, 3), 16, np.uint8),
        ramp,
        np.where(np.arange(80)[:, None, None] < 16, 0, reference),
    ):
        found = FLAT_NOISE.measure(clip(frame[None]), clip(without[None]))
        assert math.isnan(found.value) and "hold no noise at all" in found.reason and "1 of 1 frames" in found.reason
        assert grain.flat_levels(without.astype(np.uint8), without.astype(np.uint8)) == (0, 0)


# The temporal residual.


def test_the_temporal_residual_of_a_clip_beside_itself_is_one() -> None:
    frames = grey(panning(4) + white(2, 4, 120, 160))
    found = TEMPORAL_RESIDUAL.measure(clip(frames), clip(frames))
    assert found.per_frame == (1.0, 1.0, 1.0) and not found.reason


@pytest.mark.parametrize("step", [(0, 0), (2, 3), (0, 5)])
@pytest.mark.parametrize(("own", "other"), [(3, 3), (3, 6), (4, 2)])
def test_the_temporal_residual_of_grain_in_a_pan_is_that_of_its_levels(
    step: tuple[int, int], own: float, other: float
) -> None:
    """The same pan with boiling grain of two levels: their ratio, with 1/12 levels² of rounding on both sides."""
    pan = panning(4, step)
    reference = grey(pan + white(own, *pan.shape))
    frames = grey(pan + white(other, *pan.shape, seed=1))
    expected = math.sqrt((other**2 + 1 / 12) / (own**2 + 1 / 12))
    assert value(TEMPORAL_RESIDUAL, frames, reference) == pytest.approx(expected, rel=0.05)


def test_grain_that_moves_with_the_scene_leaves_the_temporal_residual() -> None:
    """Painted on, it is part of the pan; boiling, it is new in each frame. Frame by frame the two are alike."""
    steps, size = (2, 3), (120, 160)
    pan = panning(4, steps, size)
    reference = grey(pan + white(1, *pan.shape))
    canvas = white(4, size[0] + 8, size[1] + 12, seed=1)
    painted = np.stack([canvas[2 * t : 2 * t + size[0], 3 * t : 3 * t + size[1]] for t in range(4)])
    boiling = white(4, *pan.shape, seed=2)
    still, new = (value(TEMPORAL_RESIDUAL, grey(pan + each), reference) for each in (painted, boiling))
    assert still < 0.7 * new and new > 3.5
    flat = [value(FLAT_NOISE, grey(pan + each), reference) for each in (painted, boiling)]
    assert flat[0] == pytest.approx(flat[1], rel=0.1)


def test_flicker_of_light_is_no_residual_and_contrast_is_its_factor() -> None:
    """The high-pass takes one brightness per frame away, and half the contrast is half of everything."""
    pan = panning(4) - 40
    reference = grey(pan + white(3, *pan.shape))
    lit = reference.copy()
    lit[1::2] += 20
    assert value(TEMPORAL_RESIDUAL, lit, reference) == pytest.approx(1, rel=1e-6)
    half = reference // 2
    assert value(TEMPORAL_RESIDUAL, half, 2 * half) == pytest.approx(0.5, rel=1e-6)


def test_smoothing_over_time_leaves_less_than_the_references_residual() -> None:
    pan = panning(6)
    reference = grey(pan + white(4, *pan.shape))
    assert value(TEMPORAL_RESIDUAL, grey(pan), reference) < 0.2
    halved = np.stack([grey(pan[t] + white(4, *pan.shape)[t] / 2) for t in range(6)])
    assert value(TEMPORAL_RESIDUAL, halved, reference) == pytest.approx(0.5, rel=0.05)


def test_the_residual_written_out_in_scipy() -> None:
    """A whole-pixel flow: shift, subtract, take the mean of the visible around each visible pixel away."""
    before, after = noise(2, 30, 40, 3)
    back = np.broadcast_to(np.array([-3, 2], np.float32), (30, 40, 2)).copy()
    visible = np.zeros((30, 40), bool)
    visible[:28, 3:] = np.random.default_rng(1).random((28, 37)) < 0.8
    levels = [motion.grey(each).astype(float) for each in (before, after)]
    change = levels[1] - np.roll(levels[0], (-2, 3), axis=(0, 1))
    sums, weights = (
        ndimage.gaussian_filter(each, 1.5, mode="mirror", truncate=4) for each in (change * visible, visible * 1.0)
    )
    fine = change - sums / np.maximum(weights, 1e-300)
    expected = np.sqrt(np.mean(fine[visible] ** 2))
    assert grain.compensated_residual(before, after, back, visible) == pytest.approx(expected, rel=1e-6)
    assert math.isnan(grain.compensated_residual(before, after, back, np.zeros((30, 40), bool)))


@pytest.mark.parametrize("size", [(120, 160), (600, 700), (577, 1001)])
def test_the_flow_leads_back_at_every_size(size: tuple[int, int]) -> None:
    """From 576 pixels on it is estimated on shrunk frames, and is of the whole frame all the same."""
    back, visible = grain.backward_flow(*grey(panning(2, (2, 4), size)))
    assert back.shape == (*size, 2) and visible.shape == size and visible.dtype == bool
    inside = back[24:-24, 24:-24]
    assert np.abs(np.median(inside, axis=(0, 1)) - (4, 2)).max() < 0.1
    assert np.abs(inside - (4, 2)).mean() < 0.3
    assert visible[24:-24, 24:-24].mean() > 0.95 and not visible[:, -3:].any() and not visible[-1:].any()


def test_small_frames_have_warping_errors_own_flow() -> None:
    frames = noise(2, 40, 60, 3)
    back, visible = grain.backward_flow(*frames)
    there, expected = motion.flows(*frames)
    np.testing.assert_array_equal(back, expected)
    np.testing.assert_array_equal(visible, ~motion.hidden(expected, there))
    with pytest.raises(ValueError, match="at least 16×16"):
        grain.backward_flow(*noise(2, 15, 64, 3))


def test_what_an_object_uncovers_is_left_out() -> None:
    """A square over a still ground: what it uncovers is new in the reference and in the clip, and no grain."""
    ground, square = smooth(120, 160, 1.5, seed=1), smooth(40, 40, 1.5, seed=2)
    planes = np.stack([ground, ground])
    for t, plane in enumerate(planes):
        plane[40:80, 50 + 6 * t : 90 + 6 * t] = square
    reference = grey(planes + white(1, *planes.shape))
    frames = grey(planes + white(4, *planes.shape, seed=1))
    assert value(TEMPORAL_RESIDUAL, frames, reference) > 2.5  # 4 but for the borders of the motion


def test_a_reference_that_stands_still_has_no_residual() -> None:
    still = grey(smooth(40, 50))[None].repeat(4, axis=0)
    frames = noise(4, 40, 50, 3)
    found = TEMPORAL_RESIDUAL.measure(clip(frames), clip(still))
    assert math.isnan(found.value) and "motion explains all of the reference" in found.reason
    assert "3 of 3 frames" in found.reason
    fading = np.stack([np.full((40, 50, 3), 50 + 3 * t, np.uint8) for t in range(4)])
    assert math.isnan(TEMPORAL_RESIDUAL.measure(clip(frames), clip(fading)).value)
    still[2:] = grey(panning(2, size=(40, 50)))
    found = TEMPORAL_RESIDUAL.measure(clip(frames), clip(still))
    assert math.isfinite(found.value) and math.isnan(found.per_frame[0])


def test_a_cut_that_shows_nothing_again_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(motion, "hidden", lambda forward, backward: np.ones(forward.shape[:2], bool))
    found = TEMPORAL_RESIDUAL.measure(clip(noise(2, 20, 20, 3)), clip(noise(2, 20, 20, 3, seed=1)))
    assert math.isnan(found.value) and "or none of it" in found.reason


def test_one_frame() -> None:
    frames, reference = noise(1, 20, 20, 3), noise(1, 20, 20, 3, seed=1)
    for metric in OF_FRAMES:
        assert len(metric.measure(clip(frames), clip(reference)).per_frame) == 1
        assert math.isfinite(value(metric, frames, reference))
    found = TEMPORAL_RESIDUAL.measure(clip(frames), clip(reference))
    assert math.isnan(found.value) and found.reason == "a single frame has no change over time"


# All of them.


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)
def test_a_metric_declares_itself(metric: base.Metric) -> None:
    assert metrics.get(metric.name) is metric
    assert {"channel", "border", "frames", "resize", "averaging"} <= set(metric.preprocessing)
    assert metric.scope == "pair" and not metric.assets and metric.deterministic
    assert metric.pooled == isinstance(metric, base.SetMetric) == (metric is not HIGH_PASS_CORRELATION)
    assert metric.over_time == (metric is TEMPORAL_RESIDUAL)
    assert json.loads(json.dumps(metric.identity, allow_nan=False)) == metric.identity


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)
def test_colour_counts_by_its_luma(metric: base.Metric) -> None:
    reference, frames = grey(panning(2) + white(2, 2, 120, 160)), noise(2, 120, 160, 3)
    plain = np.repeat(np.stack([motion.grey(frame) for frame in frames])[..., None], 3, axis=-1)
    assert value(metric, frames, reference) == value(metric, plain, reference)
    assert value(metric, frames[..., ::-1], reference) != value(metric, plain, reference)


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 30), (8, 8), (15, 64), (16, 16), (17, 300), (33, 47)])
@pytest.mark.parametrize("content", ["flat", "noise"])
def test_every_size_has_a_value_or_a_reason(metric: base.Metric, size: tuple[int, int], content: str) -> None:
    frames = noise(3, *size, 3) if content == "noise" else np.full((3, *size, 3), 77)
    found = metric.measure(clip(frames), clip(noise(3, *size, 3, seed=1)))
    smallest = {"flat_noise": 8, "temporal_residual": 16}.get(metric.name, 1)
    if min(size) < smallest:
        assert math.isnan(found.value) and f"needs frames of at least {smallest}×{smallest}" in found.reason
    else:
        assert found.reason if math.isnan(found.value) else metric.range[0] <= found.value <= metric.range[1]


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)
def test_a_pair_needs_a_reference_of_its_shape_and_length(metric: base.Metric) -> None:
    frames, reference = grey(panning(3) + white(2, 3, 120, 160)), grey(panning(3) + white(2, 3, 120, 160, seed=1))
    assert metric.measure(clip(frames)).reason == "no reference"
    other = metric.measure(clip(frames), clip(reference[:, :-1]))
    assert math.isnan(other.value) and "3×120×160" in other.reason and "3×119×160" in other.reason
    about = base.About(shape=(3, 120, 160), reference=(3, 120, 160))
    pairs = [base.Pair(frames[0], reference[0]), base.Pair(frames[1], reference[1]), base.Pair(frames[2])]
    (found,) = base.measure_frames([metric], about, pairs)
    assert math.isfinite(found.value) and "has ended" in found.reason
    assert f"1 of {len(found.per_frame)} frames" in found.reason


def test_streaming_holds_two_pairs_and_equals_the_whole() -> None:
    frames, reference = grey(panning(8, size=(48, 64))), grey(panning(8, size=(48, 64)) + white(2, 8, 48, 64))
    alive: list[weakref.ref[Any]] = []
    most = 0

    def pairs() -> Iterator[base.Pair]:
        nonlocal most
        for each in zip(frames, reference, strict=True):
            pair = base.Pair(*(frame.copy() for frame in each))
            alive.extend(map(weakref.ref, pair))
            most = max(most, sum(ref() is not None for ref in alive))
            yield pair
            del pair

    about = base.About(shape=(0, 48, 64), fps=Fraction(8), reference=(0, 48, 64))
    found = base.measure_frames(ALL, about, pairs())
    assert found == [metric.measure(clip(frames), clip(reference)) for metric in ALL]
    assert [len(each.per_frame) for each in found] == [8, 8, 7] and most <= 4


@pytest.mark.parametrize("size", [(48, 64), (270, 480)])
def test_the_same_again_and_on_any_number_of_threads(size: tuple[int, int]) -> None:
    frames, reference = noise(2, *size, 3), grey(panning(2, size=size) + white(2, 2, *size))
    threads = cv2.getNumThreads()
    try:
        found = []
        for number in (1, 1, 2, 3):
            cv2.setNumThreads(number)
            found.append(base.measure(ALL, clip(frames), clip(reference)))
    finally:
        cv2.setNumThreads(threads)
    assert all(each == found[0] for each in found)


def test_the_command_line_scores_grain_and_detail_beside_a_reference(tmp_path: Path) -> None:
    """A grainy copy and a blurred one, as files: the grainy one is noisier everywhere, the blurred one calmer."""
    pan = panning(5, size=(96, 128))
    original = grey(pan + white(2, *pan.shape))
    blurred = np.stack([cv2.GaussianBlur(frame, (0, 0), 1.5) for frame in original])
    (tmp_path / "true").mkdir()
    for name, frames in (("grainy", grey(pan + white(6, *pan.shape, seed=1))), ("blurred", blurred)):
        made.lossless(tmp_path / f"{name}.mkv", frames)
        made.lossless(tmp_path / "true" / f"{name}.mkv", original)
    names = "gmsd,edge_gradient,high_pass_correlation,flat_noise,temporal_residual"
    videos = [str(tmp_path / f"{name}.mkv") for name in ("grainy", "blurred")]
    command = [sys.executable, "-m", "flashbench.cli", "score", *videos, "-m", names]
    command += ["--reference", str(tmp_path / "true"), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "out/scores.csv").open(encoding="utf-8", newline="") as file:
        values = {(row["case"], row["metric"]): float(row["value"]) for row in csv.DictReader(file)}
    grainy, soft = ({name: values[f"{case}.mkv", name] for name in names.split(",")} for case in ("grainy", "blurred"))
    assert grainy["flat_noise"] == pytest.approx(3, rel=0.25) and soft["flat_noise"] < 0.3
    assert grainy["temporal_residual"] == pytest.approx(3, rel=0.1) and soft["temporal_residual"] < 0.5
    assert soft["edge_gradient"] < grainy["edge_gradient"]
    assert 0 < grainy["high_pass_correlation"] < 0.6 and 0 < grainy["gmsd"] < 0.1
