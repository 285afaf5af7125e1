"""GMSD and the edge gradient: closed forms, the paper's equations in SciPy, pyiqa's function, properties, faults."""

from __future__ import annotations

import json
import math
import warnings
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from flashbench import metrics
from flashbench.metrics import base, gradient, motion
from flashbench.metrics.gradient import EDGE_GRADIENT, GMSD
from flashbench.types import Clip

BOTH = (GMSD, EDGE_GRADIENT)


def noise(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def grey(plane: Any) -> Any:
    """A plane [H, W] as a frame of three equal channels."""
    return np.repeat(np.asarray(plane, np.uint8)[..., None], 3, axis=-1)


def texture(height: int, width: int, seed: int = 0) -> Any:
    """A smooth random texture with fine noise, [H, W, 3]."""
    rng = np.random.default_rng(seed)
    smooth = cv2.GaussianBlur(rng.normal(size=(height, width, 3)), (0, 0), 2)
    return np.clip(120 + 250 * smooth + rng.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)


def clip(frames: Any) -> Clip:
    return Clip(np.asarray(frames, np.uint8), Fraction(8))


def value(metric: base.Metric, frame: Any, reference: Any) -> float:
    found = metric.measure(clip(frame[None]), clip(reference[None]))
    assert not found.reason, found.reason
    return found.value


def luma(frame: Any) -> Any:
    """Full-range BT.601 by the integers that OpenCV documents, in Python's whole numbers."""
    return ((frame.astype(int) @ [9798, 19235, 3735] + (1 << 14)) >> 15).astype(float)


# GMSD.


def by_the_papers_equations(frame: Any, reference: Any) -> float:
    """Equations 1 to 6 and the authors' steps before them, by SciPy's convolution, which flips the kernel."""
    h_x = np.array([[1, 0, -1]] * 3) / 3
    m = []
    for each in (frame, reference):
        # conv2(Y, ones(2) / 4, 'same'), then (1:2:end, 1:2:end)
        pooled = ndimage.correlate(luma(each), np.ones((2, 2)) / 4, mode="constant", origin=-1)[::2, ::2]
        parts = [ndimage.convolve(pooled, kernel, mode="constant") for kernel in (h_x, h_x.T)]
        m.append(np.hypot(*parts))
    gms = (2 * m[0] * m[1] + 170) / (m[0] ** 2 + m[1] ** 2 + 170)
    return float(np.sqrt(np.mean((gms - gms.mean()) ** 2)))


@pytest.mark.parametrize("shape", [(6, 6), (6, 41), (7, 9), (64, 48), (65, 48), (64, 47), (71, 93)])
def test_gmsd_is_that_of_the_papers_equations(shape: tuple[int, int]) -> None:
    reference = texture(*shape)
    for frame in (noise(*shape, 3), 255 - reference, cv2.GaussianBlur(reference, (0, 0), 1), reference // 2):
        assert value(GMSD, frame, reference) == pytest.approx(by_the_papers_equations(frame, reference), abs=2e-7)


@pytest.mark.parametrize("shape", [(64, 48), (96, 130)])
def test_gmsd_is_pyiqas_of_the_same_luma(shape: tuple[int, int]) -> None:
    """Its metric takes limited-range luma, leaves odd sides' last line out and divides by N − 1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch = pytest.importorskip("torch")
        theirs = pytest.importorskip("pyiqa.archs.gmsd_arch", exc_type=ImportError)
    reference = texture(*shape)
    for frame in (noise(*shape, 3), cv2.GaussianBlur(reference, (0, 0), 1)):
        x, y = (torch.from_numpy(luma(each) / 255)[None, None] for each in (frame, reference))
        positions = shape[0] * shape[1] // 4
        sample = float(theirs.gmsd(x, y, channels=1, test_y_channel=False))
        expected = sample * math.sqrt((positions - 1) / positions)
        assert value(GMSD, frame, reference) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("level", [1, 30, 255])
def test_gmsd_of_one_bright_square_on_black(level: int) -> None:
    """Its halved frame has one bright position: gradients of v/3 beside it, of √2 v/3 at its corners, 0 elsewhere."""
    reference = np.zeros((20, 24, 3), np.uint8)
    frame = reference.copy()
    frame[8:10, 12:14] = level
    gms = np.ones(10 * 12)
    gms[:4] = 170 / (level**2 / 9 + 170)
    gms[4:8] = 170 / (2 * level**2 / 9 + 170)
    assert value(GMSD, frame, reference) == pytest.approx(gms.std(), abs=1e-9)


def test_gmsd_of_itself_is_exactly_zero_and_a_shift_of_light_is_little() -> None:
    reference = texture(40, 52) // 2
    assert value(GMSD, reference, reference) == 0
    # Brightness moves the border's gradients alone, where zeros lie beyond.
    assert value(GMSD, reference + np.uint8(20), reference) < 0.03 < value(GMSD, reference // 2, reference)


@settings(max_examples=25)
@given(arrays(np.uint8, st.tuples(st.just(2), st.integers(6, 12), st.integers(6, 12), st.just(3))))
def test_gmsd_is_symmetric_within_its_range_and_blind_to_turning(pair: Any) -> None:
    a, b = pair
    found = gradient.gmsd(a, b)
    assert 0 <= found <= 0.5 and gradient.gmsd(b, a) == pytest.approx(found, abs=1e-12)
    assert gradient.gmsd(a.swapaxes(0, 1), b.swapaxes(0, 1)) == pytest.approx(found, abs=1e-12)
    if not (a.shape[0] % 2 or a.shape[1] % 2):
        assert gradient.gmsd(a[::-1], b[::-1]) == pytest.approx(found, abs=1e-7)


def test_blur_and_grain_both_worsen_gmsd() -> None:
    reference = texture(96, 128)
    blurred = [value(GMSD, cv2.GaussianBlur(reference, (0, 0), sigma), reference) for sigma in (0.5, 1, 2)]
    grain = np.random.default_rng(1).normal(size=reference.shape)
    grainy = [value(GMSD, np.clip(reference + s * grain, 0, 255).astype(np.uint8), reference) for s in (3, 9, 27)]
    assert 0 < blurred[0] < blurred[1] < blurred[2] and 0 < grainy[0] < grainy[1] < grainy[2]


# The edge gradient.

LEVELS = st.integers(0, 3)
"""So few that gradients tie."""


def edges_by_sorting(frame: Any, reference: Any) -> float:
    """Pixel by pixel: SciPy's Prewitt, then a sorted list."""
    sides = [[ndimage.prewitt(luma(each), axis, mode="nearest") for axis in (0, 1)] for each in (frame, reference)]
    ours, theirs = (np.hypot(*side) for side in sides)
    ranked = sorted(theirs.ravel(), reverse=True)
    weakest = ranked[math.ceil(len(ranked) / 10) - 1]
    chosen = [(a, b) for a, b in zip(ours.ravel(), theirs.ravel(), strict=True) if b >= weakest - 1e-9 and b > 0]
    return float(np.sum([a for a, _ in chosen]) / np.sum([b for _, b in chosen]))


@pytest.mark.parametrize("shape", [(1, 40), (9, 11), (40, 33)])
def test_the_edge_gradient_is_that_of_a_sorted_list(shape: tuple[int, int]) -> None:
    for reference in (texture(*shape), noise(*shape, 3) // 64 * 64):
        for frame in (noise(*shape, 3, seed=2), reference // 2):
            assert value(EDGE_GRADIENT, frame, reference) == pytest.approx(edges_by_sorting(frame, reference), rel=1e-6)


@pytest.mark.parametrize("width", [20, 200])
def test_a_step_that_is_blurred_over_a_pixel_keeps_three_quarters(width: int) -> None:
    """0 0 100 100 has gradients of 100 on both sides of its step; 0 0 50 100 has 50 and 100 there.

    Of 200 columns the step is less than a tenth: the flat pixels that would fill it up are no edges.
    """
    reference = np.zeros((12, width))
    reference[:, width // 2 :] = 100
    frame = reference.copy()
    frame[:, width // 2] = 50
    assert value(EDGE_GRADIENT, grey(frame), grey(reference)) == pytest.approx(0.75, rel=1e-6)
    elsewhere = reference.copy()
    elsewhere[:, 0:3] = 200  # beyond the edges, so that it does not count
    assert value(EDGE_GRADIENT, grey(elsewhere), grey(reference)) == pytest.approx(1, rel=1e-6)


def test_the_edge_gradient_is_the_contrast_and_one_for_itself() -> None:
    reference = grey(noise(32, 40) // 4)
    assert value(EDGE_GRADIENT, reference, reference) == 1
    assert value(EDGE_GRADIENT, 3 * reference + 20, reference) == pytest.approx(3, rel=1e-6)
    assert value(EDGE_GRADIENT, reference, 3 * reference) == pytest.approx(1 / 3, rel=1e-6)
    assert value(EDGE_GRADIENT, np.full_like(reference, 9), reference) == 0


def test_blur_lowers_the_edge_gradient_and_sharpening_raises_it() -> None:
    reference = texture(96, 128)
    blurred = [cv2.GaussianBlur(reference, (0, 0), sigma) for sigma in (0.5, 1, 2)]
    values = [value(EDGE_GRADIENT, frame, reference) for frame in blurred]
    assert 1 > values[0] > values[1] > values[2] > 0
    sharpened = cv2.addWeighted(reference, 1.5, blurred[1], -0.5, 0)
    assert value(EDGE_GRADIENT, np.asarray(sharpened), reference) > 1


@settings(max_examples=25)
@given(arrays(np.uint8, st.tuples(st.just(2), st.integers(1, 9), st.integers(1, 9), st.just(3)), elements=LEVELS))
def test_the_edge_gradient_is_blind_to_turning_even_where_gradients_tie(pair: Any) -> None:
    a, b = pair * 60
    found = gradient.edge_gradient(a, b)
    for other in ((a[::-1], b[::-1]), (a[:, ::-1], b[:, ::-1]), (a.swapaxes(0, 1), b.swapaxes(0, 1))):
        assert gradient.edge_gradient(*other) == pytest.approx(found, rel=1e-6, nan_ok=True)
    assert math.isnan(found) == (np.ptp(motion.grey(b)) == 0) or min(b.shape[:2]) < 3


def test_a_flat_reference_has_no_edges() -> None:
    frames, flat = noise(2, 16, 16, 3), np.full((2, 16, 16, 3), 70, np.uint8)
    found = EDGE_GRADIENT.measure(clip(frames), clip(flat))
    assert math.isnan(found.value)
    assert found.reason == "no edge gradient (the reference is flat or has ended) in 2 of 2 frames"
    flat[1] = frames[1]
    found = EDGE_GRADIENT.measure(clip(frames), clip(flat))
    assert found.value == 1 and "1 of 2 frames" in found.reason


# Both.


def test_frames_count_alike_and_one_is_enough() -> None:
    reference, frames = np.stack([texture(24, 30, s) for s in range(3)]), noise(3, 24, 30, 3)
    for metric, function in ((GMSD, gradient.gmsd), (EDGE_GRADIENT, gradient.edge_gradient)):
        found = metric.measure(clip(frames), clip(reference))
        assert found.per_frame == tuple(map(function, frames, reference))
        assert found.value == pytest.approx(np.mean(found.per_frame), rel=1e-12)
        assert metric.measure(clip(frames[:1]), clip(reference[:1])).value == found.per_frame[0]


@pytest.mark.parametrize("metric", BOTH, ids=lambda metric: metric.name)
def test_colour_counts_by_its_luma(metric: base.Metric) -> None:
    reference, frame = texture(24, 30), noise(24, 30, 3)
    plain = value(metric, grey(luma(frame)), grey(luma(reference)))
    assert value(metric, frame, reference) == plain
    assert value(metric, frame[..., ::-1], reference[..., ::-1]) != plain


@pytest.mark.parametrize("metric", BOTH, ids=lambda metric: metric.name)
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (5, 64), (6, 6), (7, 300), (33, 47)])
@pytest.mark.parametrize("content", ["flat", "black", "noise"])
def test_every_size_has_a_value_or_a_reason(metric: base.Metric, size: tuple[int, int], content: str) -> None:
    frames = {"flat": np.full((1, *size, 3), 77), "black": np.zeros((1, *size, 3)), "noise": noise(1, *size, 3)}[
        content
    ]
    found = metric.measure(clip(frames), clip(noise(1, *size, 3, seed=1)))
    if metric is GMSD and min(size) < 6:
        assert math.isnan(found.value) and "GMSD needs frames of at least 6×6" in found.reason
        assert math.isnan(gradient.gmsd(*np.zeros((2, *size, 3), np.uint8)))
    elif size == (1, 1):
        assert math.isnan(found.value) and "is flat" in found.reason
    else:
        assert metric.range[0] <= found.value <= metric.range[1] and not found.reason


@pytest.mark.parametrize("metric", BOTH, ids=lambda metric: metric.name)
def test_a_metric_declares_itself(metric: base.Metric) -> None:
    assert metrics.get(metric.name) is metric
    assert {"channel", "border", "frames", "resize", "averaging"} <= set(metric.preprocessing)
    assert metric.version == 1 and metric.scope == "pair" and not metric.over_time and not metric.assets
    assert json.loads(json.dumps(metric.identity, allow_nan=False)) == metric.identity


@pytest.mark.parametrize("metric", BOTH, ids=lambda metric: metric.name)
def test_a_pair_needs_a_reference_of_its_shape_and_length(metric: base.Metric) -> None:
    frames = clip(noise(3, 16, 16, 3))
    assert metric.measure(frames).reason == "no reference"
    other = metric.measure(frames, clip(noise(3, 16, 17, 3)))
    assert math.isnan(other.value) and "3×16×16" in other.reason and "3×16×17" in other.reason
    about = base.About(shape=(3, 16, 16), reference=(3, 16, 16))
    pairs = [base.Pair(frames.frames[0], texture(16, 16)), base.Pair(frames.frames[1]), base.Pair(frames.frames[2])]
    (found,) = base.measure_frames([metric], about, pairs)
    assert math.isfinite(found.value) and "2 of 3 frames" in found.reason
