"""Metrics of a clip beside its reference: analytic truths, scikit-image, properties."""

from __future__ import annotations

import math
import warnings
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flashbench import metrics
from flashbench.metrics import detail, fidelity, texture
from flashbench.types import Clip

PAIRS = ("psnr", "sharpness", "ssim", "temporal_error")


def noise(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def clip(frames: Any) -> Clip:
    return Clip(frames, Fraction(8))


def value(name: str, frames: Any, reference: Any) -> float:
    found = metrics.get(name).measure(clip(frames), clip(reference))
    assert not found.reason, found.reason
    return found.value


def two_clips(side: int) -> st.SearchStrategy[tuple[Any, Any]]:
    frames = arrays(np.uint8, (2, side, side + 1, 3))
    return st.tuples(frames, frames)


@pytest.mark.parametrize("levels", [1, 5, 255])
def test_psnr_of_a_constant_error(levels: int) -> None:
    reference = np.zeros((2, 8, 9, 3), np.uint8)
    assert value("psnr", reference + np.uint8(levels), reference) == pytest.approx(
        20 * math.log10(255 / levels), abs=1e-12
    )


def test_psnr_averages_errors_in_a_frame_and_decibels_over_frames() -> None:
    reference = np.zeros((2, 4, 4, 3), np.uint8)
    frames = reference.copy()
    frames[0, ..., 0] = 3  # MSE 9/3
    frames[1, 0, 0, 0] = 12  # MSE 144/48
    found = metrics.get("psnr").measure(clip(frames), clip(reference))
    assert found.per_frame == pytest.approx([10 * math.log10(255**2 / 3)] * 2, abs=1e-12)
    frames[1] = 255
    assert value("psnr", frames, reference) == pytest.approx((10 * math.log10(255**2 / 3) + 0) / 2, abs=1e-12)


def test_psnr_of_equal_frames_is_infinite_and_so_no_measurement() -> None:
    reference = noise(3, 16, 16, 3)
    assert np.isposinf(fidelity.psnr(reference, reference)).all()
    frames = reference.copy()
    frames[1:] ^= 1
    found = metrics.get("psnr").measure(clip(frames), clip(reference))
    assert math.isnan(found.value)
    assert found.reason == "PSNR is infinite: 1 of 3 frames equal the reference"


@given(two_clips(12))
def test_psnr_and_ssim_are_symmetric(pair: tuple[Any, Any]) -> None:
    a, b = pair
    np.testing.assert_array_equal(fidelity.psnr(a, b), fidelity.psnr(b, a))
    there, back = fidelity.ssim(a, b), fidelity.ssim(b, a)
    np.testing.assert_allclose(there, back, rtol=0, atol=1e-12)
    assert (np.abs(there) <= 1 + 1e-12).all()
    np.testing.assert_allclose(fidelity.ssim(a, a), 1, rtol=0, atol=1e-12)


@given(two_clips(12), st.permutations(range(2)))
def test_the_order_of_frames_only_reorders_per_frame_values(pair: tuple[Any, Any], order: list[int]) -> None:
    a, b = pair
    for function in (fidelity.psnr, fidelity.ssim):
        np.testing.assert_array_equal(function(a[order], b[order]), function(a, b)[order])


def test_ssim_of_two_constant_frames() -> None:
    """Without variance only the luminance term is left: (2ab + C₁) / (a² + b² + C₁)."""
    a, b, c1 = 100.0, 140.0, (0.01 * 255) ** 2
    frames, reference = (np.full((1, 20, 20, 3), level, np.uint8) for level in (a, b))
    assert value("ssim", frames, reference) == pytest.approx((2 * a * b + c1) / (a * a + b * b + c1), abs=1e-10)


@pytest.mark.parametrize("shape", [(11, 11), (12, 40), (64, 53)])
def test_ssim_equals_scikit_image(shape: tuple[int, int]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        skimage = pytest.importorskip("skimage.metrics")
    reference = noise(2, *shape, 3)
    smooth = np.cumsum(reference, axis=2, dtype=np.int64) // 97 % 256
    for frames in (noise(2, *shape, 3, seed=1), reference // 2 + 40, smooth.astype(np.uint8)):
        theirs = [
            skimage.structural_similarity(
                *pair, channel_axis=-1, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
            )
            for pair in zip(frames, reference, strict=True)
        ]
        np.testing.assert_allclose(fidelity.ssim(frames, reference), theirs, rtol=0, atol=1e-10)
        psnr = [skimage.peak_signal_noise_ratio(*pair) for pair in zip(reference, frames, strict=True)]
        np.testing.assert_allclose(fidelity.psnr(frames, reference), psnr, rtol=0, atol=1e-10)


def test_sharpness_is_the_square_of_a_contrast_and_one_for_itself() -> None:
    grey = np.repeat(noise(2, 32, 32, 1) // 4, 3, axis=-1)
    assert value("sharpness", grey, grey) == 1
    assert value("sharpness", 3 * grey, grey) == pytest.approx(9, rel=1e-12)
    assert value("sharpness", 3 * grey + 20, grey) == pytest.approx(9, rel=1e-12)


def test_laplacian_of_one_bright_pixel() -> None:
    frame = np.zeros((1, 9, 9, 3), np.uint8)
    frame[0, 4, 4] = 10
    squares, pixels = 40**2 + 4 * 10**2, 81  # and the sum is 0
    assert detail.laplacian_variance(frame)[0] == pytest.approx(squares / pixels, rel=1e-12)


def test_sharpness_beside_a_flat_reference() -> None:
    frames, flat = noise(2, 16, 16, 3), np.zeros((2, 16, 16, 3), np.uint8)
    found = metrics.get("sharpness").measure(clip(frames), clip(flat))
    assert math.isnan(found.value) and "the reference is flat" in found.reason
    flat[1] = frames[1]
    found = metrics.get("sharpness").measure(clip(frames), clip(flat))
    assert found.value == 1 and "1 of 2 frames" in found.reason


def test_temporal_error_sees_changes_only() -> None:
    reference = noise(4, 8, 8, 3) // 2
    assert value("temporal_error", reference + np.uint8(9), reference) == 0
    flicker = reference.copy()
    flicker[1::2] += 6
    found = metrics.get("temporal_error").measure(clip(flicker), clip(reference))
    assert found.per_frame == (6.0, 6.0, 6.0)


@given(two_clips(4))
def test_temporal_error_is_the_mean_of_differences_of_differences(pair: tuple[Any, Any]) -> None:
    a, b = (frames.astype(float) for frames in pair)
    direct = np.abs(np.diff(a, axis=0) - np.diff(b, axis=0)).mean(axis=(1, 2, 3))
    found = texture.temporal_error(*pair)
    np.testing.assert_allclose(found, direct, rtol=1e-12)
    np.testing.assert_array_equal(found, texture.temporal_error(*pair[::-1]))


def test_one_frame_has_no_temporal_error() -> None:
    found = metrics.get("temporal_error").measure(clip(noise(1, 8, 8, 3)), clip(noise(1, 8, 8, 3)))
    assert math.isnan(found.value) and "single frame" in found.reason


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_needs_a_reference_of_its_shape(name: str) -> None:
    metric, frames = metrics.get(name), clip(noise(3, 16, 16, 3))
    absent = metric.measure(frames, None)
    assert math.isnan(absent.value) and absent.reason == "no reference"
    for shape in ((2, 16, 16, 3), (3, 16, 17, 3)):
        other = metric.measure(frames, clip(noise(*shape)))
        assert math.isnan(other.value) and "3×16×16" in other.reason and "×".join(map(str, shape[:3])) in other.reason


def test_ssim_below_its_window() -> None:
    found = metrics.get("ssim").measure(clip(noise(1, 10, 30, 3)), clip(noise(1, 10, 30, 3)))
    assert math.isnan(found.value) and "at least 11×11" in found.reason
    assert np.isnan(fidelity.ssim(noise(2, 10, 30, 3), noise(2, 10, 30, 3))).all()


@pytest.mark.parametrize("name", PAIRS)
def test_one_pixel_is_no_crash(name: str) -> None:
    found = metrics.get(name).measure(clip(noise(2, 1, 1, 3)), clip(noise(2, 1, 1, 3, seed=1)))
    assert math.isfinite(found.value) or found.reason
