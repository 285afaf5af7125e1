"""Metrics of a clip beside its reference: closed forms, scikit-image, SciPy, pyiqa, properties."""

from __future__ import annotations

import dataclasses
import json
import math
import warnings
import weakref
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from flashbench import metrics
from flashbench.metrics import base, detail, fidelity, motion
from flashbench.metrics.fidelity import MS_SSIM, MS_SSIM_Y, PSNR_Y, SSIM_Y
from flashbench.types import Clip

ON_PLANES = (PSNR_Y, SSIM_Y, MS_SSIM, MS_SSIM_Y)
PAIRS = ("psnr", "sharpness", "ssim", "temporal_error", *(metric.name for metric in ON_PLANES))
RNG = np.random.default_rng(0)


def noise(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def clip(frames: Any) -> Clip:
    return Clip(np.asarray(frames, np.uint8), Fraction(8))


def value(metric: base.Metric | str, frames: Any, reference: Any) -> float:
    named = metrics.get(metric) if isinstance(metric, str) else metric
    found = named.measure(clip(frames), clip(reference))
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
    found = motion.temporal_error(*pair)
    np.testing.assert_allclose(found, direct, rtol=1e-12)
    np.testing.assert_array_equal(found, motion.temporal_error(*pair[::-1]))


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


# --- on luma, and over scales -----------------------------------------------------------------------------------


def picture(height: int, width: int, seed: int = 0) -> Any:
    """A textured picture [H, W, 3]: smooth waves with fine noise."""
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / 9 + y / 23), np.cos(x / 31 - y / 7), np.sin((x + y) / 13)], -1)
    noise = np.random.default_rng(seed).normal(0, 20, (height, width, 3))
    return np.clip(127 + 70 * waves + noise, 0, 255).astype(np.uint8)


def noisy(frame: Any, sigma: float, seed: int = 1) -> Any:
    added = np.random.default_rng(seed).normal(0, sigma, frame.shape)
    return np.clip(np.rint(frame + added), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("colour", "expected"),
    [
        ((0, 0, 0), 16),
        ((255, 255, 255), 235),
        ((255, 0, 0), 81.481),
        ((0, 255, 0), 144.553),
        ((0, 0, 255), 40.966),
        ((51, 102, 204), 16 + (65.481 * 51 + 128.553 * 102 + 24.966 * 204) / 255),
    ],
)
def test_luma_of_colours(colour: tuple[int, int, int], expected: float) -> None:
    found = fidelity.limited_luma(np.full((2, 3, 3), colour, np.uint8))
    assert found.shape == (2, 3)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_luma_is_matlabs_before_it_rounds() -> None:
    """scikit-image's rgb2ycbcr follows MATLAB and does not round; its digits of the matrix are the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        color = pytest.importorskip("skimage.color")
    frame = RNG.integers(0, 256, (31, 17, 3), dtype=np.uint8)
    np.testing.assert_allclose(fidelity.limited_luma(frame), color.rgb2ycbcr(frame)[..., 0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("levels", [1, 5, 255])
def test_psnr_y_of_a_grey_error(levels: int) -> None:
    """A grey error of d levels is one of 219/255 d on luma."""
    reference = np.zeros((2, 8, 9, 3), np.uint8)
    assert value(PSNR_Y, reference + np.uint8(levels), reference) == pytest.approx(
        20 * math.log10(255**2 / 219 / levels), abs=1e-10
    )


def test_psnr_y_of_equal_frames_is_infinite_and_so_no_measurement() -> None:
    reference = RNG.integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    frames = reference.copy()
    frames[1:] ^= 1
    found = PSNR_Y.measure(clip(frames), clip(reference))
    assert math.isnan(found.value)
    assert found.reason == "PSNR is infinite: 1 of 3 frames equal the reference"


@pytest.mark.parametrize("shape", [(11, 11), (12, 40), (64, 53), (8, 9)])
@pytest.mark.parametrize("border", [0, 4])
def test_psnr_and_ssim_of_planes_equal_scikit_image(shape: tuple[int, int], border: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        skimage = pytest.importorskip("skimage.metrics")
    shape = (shape[0] + 2 * border, shape[1] + 2 * border)
    reference = picture(*shape)
    for frame in (noisy(reference, 9), 255 - reference):
        for channel in ("rgb", "y-bt601"):
            a, b = (fidelity.planes(each, channel, border) for each in (frame, reference))
            assert a.shape == (shape[0] - 2 * border, shape[1] - 2 * border, 3 if channel == "rgb" else 1)
            assert fidelity.plane_psnr(a, b) == pytest.approx(
                skimage.peak_signal_noise_ratio(b, a, data_range=255), abs=1e-10
            )
            if min(a.shape[:2]) < fidelity.WINDOW:
                continue
            theirs = skimage.structural_similarity(
                a, b, channel_axis=-1, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
            )
            assert fidelity.plane_ssim(a, b) == pytest.approx(theirs, abs=1e-10)


def test_planes_of_rgb_give_the_same_as_frames() -> None:
    reference = picture(40, 33)
    frame = noisy(reference, 15)
    a, b = (fidelity.planes(each, "rgb", 0) for each in (frame, reference))
    assert fidelity.plane_psnr(a, b) == pytest.approx(fidelity.psnr(frame[None], reference[None])[0], abs=1e-12)
    assert fidelity.plane_ssim(a, b) == pytest.approx(fidelity.ssim(frame[None], reference[None])[0], abs=1e-12)


def by_scipy(x: Any, y: Any) -> float:
    """MS-SSIM of two planes as the authors' MATLAB code has it, by SciPy: a 2-D window, filter then subsample."""
    line = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    structures, similarity = [], 0.0
    for scale in range(5):
        if scale:
            # imfilter(…, ones(2) / 4, 'symmetric', 'same')(1:2:end, 1:2:end)
            x, y = (ndimage.correlate(p, np.ones((2, 2)) / 4, mode="reflect", origin=-1)[::2, ::2] for p in (x, y))
        means = [ndimage.correlate(p, window)[5:-5, 5:-5] for p in (x, y, x * x, y * y, x * y)]
        cross = means[0] * means[1]
        cs = (2 * (means[4] - cross) + 58.5225) / (means[2] - means[0] ** 2 + means[3] - means[1] ** 2 + 58.5225)
        structures.append(cs.mean())
        similarity = ((2 * cross + 6.5025) / (means[0] ** 2 + means[1] ** 2 + 6.5025) * cs).mean()
    weights = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
    return float(np.prod(np.power(structures[:4], weights[:4])) * similarity ** weights[4])


@pytest.mark.parametrize("shape", [(161, 161), (176, 192), (163, 207), (270, 175)])
def test_ms_ssim_equals_the_authors_code_written_out_in_scipy(shape: tuple[int, int]) -> None:
    reference = picture(*shape)
    for sigma in (2, 25):
        frame = noisy(reference, sigma)
        channels = [by_scipy(frame[..., c].astype(float), reference[..., c].astype(float)) for c in range(3)]
        assert value(MS_SSIM, frame[None], reference[None]) == pytest.approx(np.mean(channels), abs=1e-9)
        luma = by_scipy(fidelity.limited_luma(frame), fidelity.limited_luma(reference))
        assert value(MS_SSIM_Y, frame[None], reference[None]) == pytest.approx(luma, abs=1e-9)


@pytest.mark.slow
def test_equal_to_pyiqas_functions_where_the_definitions_meet() -> None:
    """pyiqa clips every position's contrast-structure term at 0 and pads odd sides with 0: even sides, mild noise.

    Its metrics round luma, so its functions are called on ours.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = pytest.importorskip("pyiqa.archs.ssim_arch", exc_type=ImportError)
        ratio = pytest.importorskip("pyiqa.archs.psnr_arch", exc_type=ImportError)
        torch = pytest.importorskip("torch")
    reference = picture(192, 240)
    frame = noisy(reference, 4)
    a, b = (fidelity.planes(each, "y-bt601", 0) for each in (frame, reference))
    x, y = (torch.from_numpy(plane).permute(2, 0, 1)[None] for plane in (a, b))
    line = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = torch.from_numpy(np.outer(line, line) / line.sum() ** 2)[None, None]  # its own is rounded to float32
    kept = {"win": window, "data_range": 255}
    assert fidelity.plane_ssim(a, b) == pytest.approx(float(theirs.ssim(x, y, **kept)), abs=1e-10)
    # Its exponents are float32, and its PSNR adds 1e-8 to the error.
    assert fidelity.ms_ssim(a, b) == pytest.approx(float(theirs.ms_ssim(x, y, **kept)), abs=1e-7)
    assert fidelity.plane_psnr(a, b) == pytest.approx(float(ratio.psnr(x, y, data_range=255)), abs=1e-7)


def test_ms_ssim_of_itself_and_of_two_constant_frames() -> None:
    frames = picture(161, 170)[None]
    assert value(MS_SSIM, frames, frames) == pytest.approx(1, abs=1e-12)
    assert value(MS_SSIM_Y, frames, frames) == pytest.approx(1, abs=1e-12)
    # Without variance only the luminance term of the coarsest scale is left.
    a, b, c1 = 100.0, 140.0, (0.01 * 255) ** 2
    flat = [np.full((1, 161, 170, 3), level, np.uint8) for level in (a, b)]
    expected = ((2 * a * b + c1) / (a * a + b * b + c1)) ** 0.1333
    assert value(MS_SSIM, *flat) == pytest.approx(expected, abs=1e-9)


def test_ms_ssim_of_a_negative_is_zero_not_complex() -> None:
    frames = picture(161, 161)[None]
    assert value(MS_SSIM, 255 - frames, frames) == 0


def test_more_noise_is_worse() -> None:
    reference = picture(176, 176)[None]
    for metric in ON_PLANES:
        values = [value(metric, noisy(reference, sigma), reference) for sigma in (2, 6, 18, 54)]
        assert values == sorted(values, reverse=True) and len(set(values)) == 4


@given(arrays(np.uint8, (2, 12, 13, 3)))
def test_planes_are_symmetric_and_bounded(pair: Any) -> None:
    a, b = (fidelity.planes(frame, "y-bt601", 0) for frame in pair)
    assert fidelity.plane_psnr(a, b) == fidelity.plane_psnr(b, a) > 0
    assert fidelity.plane_ssim(a, b) == pytest.approx(fidelity.plane_ssim(b, a), abs=1e-12)
    assert abs(fidelity.plane_ssim(a, b)) <= 1 + 1e-12


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1), st.floats(0, 100))
def test_ms_ssim_is_symmetric_and_within_its_range(seed: int, sigma: float) -> None:
    reference = picture(161, 164, seed)
    frame = noisy(reference, sigma, seed + 1)
    there = value(MS_SSIM_Y, frame[None], reference[None])
    assert there == pytest.approx(value(MS_SSIM_Y, reference[None], frame[None]), abs=1e-12)
    assert 0 <= there <= 1 + 1e-12


@pytest.mark.parametrize("metric", ON_PLANES, ids=lambda metric: metric.name)
def test_the_border_is_cut_off_first(metric: base.Metric) -> None:
    reference = picture(200, 190)
    frame = noisy(reference, 8)
    cropped = dataclasses.replace(metric, preprocessing={**metric.preprocessing, "border": 7})
    inside = slice(7, -7)
    expected = value(metric, frame[None, inside, inside], reference[None, inside, inside])
    assert value(cropped, frame[None], reference[None]) == expected
    assert cropped.identity != metric.identity


@pytest.mark.parametrize("metric", ON_PLANES, ids=lambda metric: metric.name)
def test_presets_and_declarations(metric: base.Metric) -> None:
    preset = fidelity.PRESETS["basicsr-y" if metric.name.endswith("_y") else "rgb"]
    assert preset.items() <= metric.preprocessing.items()
    assert {"channel", "border", "frames", "resize", "averaging"} <= set(metric.preprocessing)
    assert metric.direction == "higher" and metric.scope == "pair"
    assert json.loads(json.dumps(metric.identity, allow_nan=False)) == metric.identity
    for name, reference in (("psnr_y", fidelity.PSNR), ("ssim_y", fidelity.SSIM)):
        if metric.name == name:
            rgb = fidelity.PRESETS["rgb"]
            assert rgb.items() <= reference.preprocessing.items() and metric.unit == reference.unit


@pytest.mark.parametrize("metric", ON_PLANES, ids=lambda metric: metric.name)
@pytest.mark.parametrize("size", [(1, 1), (8, 8), (10, 30), (11, 11), (160, 400), (161, 161)])
@pytest.mark.parametrize("content", ["flat", "black", "noise"])
def test_every_size_has_a_value_or_a_reason(metric: base.Metric, size: tuple[int, int], content: str) -> None:
    frames = {
        "flat": np.full((1, *size, 3), 77),
        "black": np.zeros((1, *size, 3)),
        "noise": RNG.integers(0, 256, (1, *size, 3)),
    }[content]
    reference = RNG.integers(0, 256, frames.shape)
    found = metric.measure(clip(frames), clip(reference))
    smallest = {"psnr_y": 1, "ssim_y": 11, "ms_ssim": 161, "ms_ssim_y": 161}[metric.name]
    if min(size) < smallest:
        assert math.isnan(found.value) and f"needs frames of at least {smallest}×{smallest}" in found.reason
    else:
        assert metric.range[0] <= found.value <= metric.range[1] and not found.reason


@pytest.mark.parametrize("metric", ON_PLANES, ids=lambda metric: metric.name)
def test_a_border_that_leaves_nothing_is_a_reason(metric: base.Metric) -> None:
    cropped = dataclasses.replace(metric, preprocessing={**metric.preprocessing, "border": 100})
    found = cropped.measure(clip(np.zeros((1, 200, 200, 3))), clip(np.ones((1, 200, 200, 3))))
    assert math.isnan(found.value) and "clip is 1×200×200" in found.reason


def test_a_reference_that_ends_early_is_counted() -> None:
    frame = noisy(picture(161, 161), 5)
    about = base.About(shape=(3, 161, 161), reference=(3, 161, 161))
    pairs = [base.Pair(frame, picture(161, 161)), base.Pair(frame), base.Pair(frame)]
    for found in base.measure_frames(ON_PLANES, about, pairs):
        assert math.isfinite(found.value) and found.reason == "no reference in 2 of 3 frames"


def test_a_channel_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match="'hsv'"):
        fidelity.planes(np.zeros((4, 4, 3), np.uint8), "hsv", 0)


def test_streaming_holds_one_pair_at_a_time() -> None:
    alive: list[weakref.ref[Any]] = []
    most = 0

    def pairs() -> Iterator[base.Pair]:
        nonlocal most
        for t in range(12):
            pair = base.Pair(noisy(picture(161, 161, t), 5), picture(161, 161, t))
            alive.extend(map(weakref.ref, pair))
            most = max(most, sum(ref() is not None for ref in alive))
            yield pair
            del pair

    about = base.About(shape=(12, 161, 161), reference=(12, 161, 161))
    found = base.measure_frames(ON_PLANES, about, pairs())
    assert all(len(each.per_frame) == 12 for each in found)
    # The pair just made and the one before it.
    assert most <= 4
