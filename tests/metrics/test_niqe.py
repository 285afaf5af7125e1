"""NIQE against pyiqa 0.1.16: golden values (golden/niqe.safetensors, made by pyiqa on the CPU) and pyiqa itself."""

from __future__ import annotations

import hashlib
import importlib
import math
import time
import warnings
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from scipy.io import savemat
from scipy.special import gamma

from flashbench import metrics
from flashbench.errors import InvalidError, MissingAsset
from flashbench.metrics import niqe
from flashbench.types import Clip

GOLDEN = Path(__file__).parents[1] / "golden" / "niqe.safetensors"
with safe_open(GOLDEN, "np") as opened:
    SHA256 = opened.metadata()
    TRUTH = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 (safe_open is no mapping)
PRISTINE = (TRUTH["params.mu_prisparam"], TRUTH["params.cov_prisparam"])
SIZES = [(480, 270), (1920, 1080)]


def tri(value: Any, period: int) -> Any:
    return np.abs(value % (2 * period) - period) * 255 // period


def synthetic(width: int, height: int, t: int = 0) -> Any:
    """Frame t of the golden values' synthetic clip, uint8 [H, W, 3]: integer arithmetic only."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    a = tri(3 * x + 2 * y + 5 * t + 40 * c, 97)
    b = tri(x**2 // 64 + y**2 // 48 + 11 * t + 17 * c, 61)
    k = (((x + 2 * t) // 16 + (y + t) // 12 + c) % 2) * 64
    noise = x * 73856093 ^ y * 19349663 ^ t * 83492791 ^ c * 2654435761
    noise = ((noise * 1103515245 + 12345) >> 16) & 31
    return np.clip((4 * a + 3 * b + 2 * k) // 9 + noise, 0, 255).astype(np.uint8)


def clip(*frames: Any) -> Clip:
    return Clip(np.stack(frames), Fraction(8))


@pytest.fixture
def with_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(niqe, "pristine", lambda: PRISTINE)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_golden_values(width: int, height: int) -> None:
    name = f"synth.{width}x{height}"
    frame = synthetic(width, height)
    assert hashlib.sha256(frame.tobytes()).hexdigest() == SHA256[f"{name}.rgb_sha256"]
    used = frame[: height // 96 * 96, : width // 96 * 96]
    assert niqe.luma(used).mean() == pytest.approx(TRUTH[f"{name}.luma_mean"][0], abs=1e-9)
    rows = niqe.features(frame)
    assert rows.shape == ((height // 96) * (width // 96), 36)
    np.testing.assert_allclose(rows[0], TRUTH[f"{name}.feat_block0"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(rows.mean(axis=0), TRUTH[f"{name}.feat_mean"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(niqe.niqe(frame[None], PRISTINE), TRUTH[f"{name}.niqe"], rtol=0, atol=1e-6)


def test_matlab_arithmetic_is_near_and_not_the_same() -> None:
    frame = synthetic(480, 270)[None]
    ours, theirs = niqe.niqe(frame, PRISTINE, quirks="matlab")[0], niqe.niqe(frame, PRISTINE)[0]
    assert 1e-6 < abs(ours - theirs) < 5e-4


def test_window_and_half_size_are_what_the_definition_says() -> None:
    """The fast forms (separable plus rounding; bands) against direct sums."""
    image = niqe.luma(synthetic(200, 200))[:192, :192]
    offset = np.arange(7) - 3
    window = np.exp(-(offset[:, None] ** 2 + offset**2) / (2 * (7 / 6) ** 2))
    window = (window / window.sum()).astype(np.float32).astype(np.float64)
    assert window.sum() - 1 == pytest.approx(1.135e-8, abs=1e-11)
    views = np.lib.stride_tricks.sliding_window_view(np.pad(image, 3, mode="edge"), (7, 7))
    mean, square = np.einsum("yxij,ij->yx", views, window), np.einsum("yxij,ij->yx", views**2, window)
    direct = (image - mean) / (np.sqrt(np.abs(square - mean**2) + 2.22e-16) + 1)
    np.testing.assert_allclose(niqe._mscn(image, "pyiqa"), direct, rtol=0, atol=2e-11)

    taps = np.array([-3, -9, 29, 111, 111, 29, -9, -3]) / 256
    padded = np.pad(image / 255, 3, mode="symmetric")
    tall = sum(weight * padded[i : i + 192 : 2] for i, weight in enumerate(taps))
    small = sum(weight * tall[:, i : i + 192 : 2] for i, weight in enumerate(taps))
    np.testing.assert_allclose(niqe._half(image, np.float64), small * 255, rtol=0, atol=1e-11)
    np.testing.assert_allclose(niqe._half(image, np.float32), small * 255, rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", [0.2, 0.5, 1.0, 2.0, 3.217, 10.0])
def test_the_fit_returns_the_shape_whose_moments_it_was_given(shape: float) -> None:
    """A generalised Gaussian of scale 1 has E|x| = Γ(2/a)/Γ(1/a) and E x² = Γ(3/a)/Γ(1/a)."""
    pixels = 1000
    square = pixels * gamma(3 / shape) / gamma(1 / shape)
    magnitude = pixels * gamma(2 / shape) / gamma(1 / shape)
    sums = np.tile([square / 2, pixels / 2, square / 2, pixels / 2, magnitude], (1, 5, 1))
    found = niqe._fit(sums, pixels)[0]
    assert found[0] == pytest.approx(shape, abs=1e-6)
    assert found[1] == pytest.approx(1, rel=1e-4)
    np.testing.assert_allclose(found[2:6], [shape, 0, 1, 1], rtol=1e-4, atol=1e-6)


def test_products_wrap_inside_their_block() -> None:
    blocks = np.random.default_rng(0).normal(size=(2, 48, 48))
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        out = np.empty_like(blocks)
        niqe._times_rolled(blocks, dy, dx, out)
        np.testing.assert_array_equal(out, blocks * np.roll(blocks, (dy, dx), axis=(1, 2)))


def half_flat() -> Any:
    """Left third constant: its blocks lack a sign, and so a scale."""
    frame = synthetic(480, 288)
    frame[:, :200] = 90
    return frame


def test_a_block_without_a_sign_enters_the_mean_by_its_shape_only() -> None:
    rows = niqe.features(half_flat())
    flat = np.isnan(rows).any(axis=1)
    assert 0 < flat.sum() < len(rows) - 2
    assert not np.isnan(rows[:, [0, 2, 6, 10, 14, 18, 20, 24, 28, 32]]).any()
    assert np.isclose(rows[flat, 0], 0.2).all()
    mean, covariance = niqe.gaussian(rows)
    assert mean[0] == pytest.approx(rows[:, 0].mean())
    assert mean[1] == pytest.approx(rows[~np.isnan(rows[:, 1]), 1].mean())
    np.testing.assert_allclose(covariance, np.cov(rows[~flat].T), rtol=1e-12)


def test_distance_is_that_of_two_gaussians() -> None:
    mean = PRISTINE[0] + np.eye(36)[4] * 3
    assert niqe.distance(*PRISTINE, PRISTINE) == 0
    assert niqe.distance(mean, np.eye(36), (PRISTINE[0], np.eye(36))) == pytest.approx(3, rel=1e-12)
    assert niqe.distance(mean, 7 * np.eye(36), (PRISTINE[0], np.eye(36))) == pytest.approx(1.5, rel=1e-12)


def test_frames_do_not_influence_each_other() -> None:
    frames = np.stack([synthetic(300, 200, t) for t in range(3)])
    together = niqe.niqe(frames, PRISTINE)
    alone = [niqe.niqe(frame[None], PRISTINE)[0] for frame in frames[::-1]][::-1]
    assert together.tolist() == alone
    cropped = np.ascontiguousarray(frames[:, :192, :288])
    np.testing.assert_array_equal(niqe.niqe(cropped, PRISTINE), together)


@pytest.mark.parametrize("shape", [(1, 64, 64, 3), (1, 95, 400, 3), (1, 96, 96, 3)])
def test_too_few_blocks_have_no_value(shape: tuple[int, ...]) -> None:
    frames = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    assert np.isnan(niqe.niqe(frames, PRISTINE)).all()


def test_a_wrong_call_is_refused() -> None:
    frames = np.zeros((1, 96, 192, 3), np.uint8)
    with pytest.raises(ValueError, match=r"uint8 \[T, H, W, 3\]"):
        niqe.niqe(frames.astype(np.float32), PRISTINE)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="parameters are"):
        niqe.niqe(frames, (PRISTINE[0][None], PRISTINE[1]))
    with pytest.raises(ValueError, match="quirks"):
        niqe.niqe(frames, PRISTINE, quirks="none")  # type: ignore[arg-type]


@pytest.mark.usefixtures("with_parameters")
@pytest.mark.parametrize("name", ["niqe", "niqe_pooled"])
@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (np.full((192, 192, 3), 128, np.uint8), "not flat"),
        (np.zeros((192, 192, 3), np.uint8), "not flat"),
        (synthetic(64, 64), "1×64×64"),
    ],
)
def test_flat_and_tiny_clips_give_nan_and_say_why(name: str, frame: Any, reason: str) -> None:
    found = metrics.get(name).measure(clip(frame), None)
    assert math.isnan(found.value) and reason in found.reason


@pytest.mark.usefixtures("with_parameters")
def test_flat_frames_are_left_out_and_counted() -> None:
    good, flat = synthetic(300, 200), np.zeros((200, 300, 3), np.uint8)
    found = metrics.get("niqe").measure(clip(good, flat, good), None)
    assert found.per_frame[0] == found.per_frame[2] == found.value
    assert math.isnan(found.per_frame[1])
    assert "1 of 3 frames" in found.reason


@pytest.mark.usefixtures("with_parameters")
def test_pooling_is_one_gaussian_over_all_blocks() -> None:
    """Sums of statistics, in any order, against the direct computation on all blocks, incomplete ones among them."""
    pooled = metrics.get("niqe_pooled")
    assert isinstance(pooled, metrics.SetMetric)
    clips = [clip(synthetic(480, 270, t), synthetic(480, 270, t + 1)) for t in (0, 7)] + [clip(half_flat())]
    measured = [pooled.measure(item) for item in clips]
    rows = np.concatenate([niqe.features(frame) for item in clips for frame in item.frames])
    assert np.isnan(rows).any()
    sums = np.array([item.statistics for item in measured])
    assert sums.shape == (3, niqe.STATISTICS)
    direct = niqe.distance(*niqe.gaussian(rows), PRISTINE)
    assert pooled.finalize(sums.sum(axis=0)) == pytest.approx(direct, abs=1e-9)
    assert pooled.finalize(sums[::-1].sum(axis=0)) == pytest.approx(direct, abs=1e-9)
    for item, found in zip(clips, measured, strict=True):
        own = np.concatenate([niqe.features(frame) for frame in item.frames])
        assert found.value == pytest.approx(niqe.distance(*niqe.gaussian(own), PRISTINE), abs=1e-9)
        assert found.value == pooled.finalize(np.array(found.statistics))


@pytest.mark.usefixtures("with_parameters")
def test_a_clip_without_a_value_still_counts_in_its_set() -> None:
    """A flat clip has no covariance, yet its shapes enter the mean of the set, as those of a flat block do."""
    pooled = metrics.get("niqe_pooled")
    assert isinstance(pooled, metrics.SetMetric)
    flat, good = np.zeros((192, 288, 3), np.uint8), synthetic(480, 270)
    parts = [pooled.measure(clip(flat)), pooled.measure(clip(good))]
    assert math.isnan(parts[0].value)
    rows = np.concatenate([niqe.features(flat), niqe.features(good)])
    together = pooled.finalize(np.sum([part.statistics for part in parts], axis=0))
    assert together == pytest.approx(niqe.distance(*niqe.gaussian(rows), PRISTINE), abs=1e-9)
    assert math.isnan(pooled.finalize(np.array(parts[0].statistics)))


@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(1, 59), holes=st.integers(0, 20))
def test_statistics_add_up_however_the_blocks_are_divided(seed: int, cut: int, holes: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.multivariate_normal(PRISTINE[0], PRISTINE[1], size=60)
    rows[rng.integers(0, 60, holes), rng.integers(0, 36, holes)] = np.nan
    rng.shuffle(rows)
    whole = niqe.statistics(rows, PRISTINE[0])
    parts = niqe.statistics(rows[:cut], PRISTINE[0]) + niqe.statistics(rows[cut:], PRISTINE[0])
    np.testing.assert_allclose(parts, whole, rtol=0, atol=1e-9)
    direct = niqe.distance(*niqe.gaussian(rows), PRISTINE)
    assert niqe.pooled(parts, PRISTINE) == pytest.approx(direct, abs=1e-9)


def test_statistics_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="775"):
        niqe.pooled(np.zeros(3), PRISTINE)


@pytest.mark.parametrize("name", ["niqe", "niqe_pooled"])
def test_absent_parameters_are_a_reason(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> niqe.Parameters:
        raise MissingAsset("not here")

    monkeypatch.setattr(niqe, "pristine", absent)
    found = metrics.get(name).measure(clip(synthetic(200, 200)))
    assert math.isnan(found.value)
    assert found.reason == "parameters not present: flashbench assets pull niqe-pristine"


def test_parameters_come_from_the_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assets = importlib.import_module("flashbench.assets.registry")
    stored = tmp_path / "stored.npz"
    np.savez(stored, mu_pris_param=PRISTINE[0][None], cov_pris_param=PRISTINE[1])
    monkeypatch.setattr(assets, "path", {"niqe-pristine": stored}.__getitem__)
    mean, covariance = niqe.pristine()
    assert mean.shape == (36,) and (mean == PRISTINE[0]).all() and (covariance == PRISTINE[1]).all()
    other = tmp_path / "other.npz"
    np.savez(other, something=np.zeros(3))
    monkeypatch.setattr(assets, "path", {"niqe-pristine": other}.__getitem__)
    with pytest.raises(InvalidError, match="no NIQE parameters"):
        niqe.pristine()


@pytest.fixture
def pyiqa_niqe(tmp_path: Path) -> Callable[[Any], float]:
    """pyiqa's own NIQE with the golden parameters: uint8 [H, W, 3] → score."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pyiqa = pytest.importorskip("pyiqa", exc_type=ImportError)
        import torch

        savemat(tmp_path / "niqe.mat", {"mu_prisparam": PRISTINE[0][None], "cov_prisparam": PRISTINE[1]})
        official = pyiqa.create_metric("niqe", pretrained_model_path=str(tmp_path / "niqe.mat"), device="cpu")

    def score(frame: Any) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return float(official(torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255))

    return score


@pytest.mark.slow
def test_parity_with_pyiqa(pyiqa_niqe: Callable[[Any], float]) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    for frame in (noise, np.sort(noise, axis=1), synthetic(301, 299, 5), half_flat()):
        assert niqe.niqe(frame[None], PRISTINE)[0] == pytest.approx(pyiqa_niqe(frame), abs=1e-6)


@pytest.mark.slow
@pytest.mark.isolated
def test_at_least_fifteen_times_as_fast_as_pyiqa(pyiqa_niqe: Callable[[Any], float]) -> None:
    """CPU seconds at 1080p on one thread, turn about, the median of five ratios (19 to 22 when measured)."""
    import cv2
    import torch

    def seconds(run: Callable[[], object]) -> float:
        start = time.process_time()
        run()
        return time.process_time() - start

    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        frames = [synthetic(1920, 1080, t) for t in range(5)]
        niqe.niqe(frames[0][None], PRISTINE)
        times = [
            (seconds(lambda f=f: pyiqa_niqe(f)), seconds(lambda f=f: niqe.niqe(f[None], PRISTINE))) for f in frames
        ]
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])
    ratios = [official / ours for official, ours in times]
    assert np.median(ratios) >= 15, f"seconds of pyiqa and ours: {times}"
