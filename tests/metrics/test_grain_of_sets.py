"""Flat noise and the temporal residual of a clip and of a set: ratios of sums, intervals, `score`, `compare`."""

from __future__ import annotations

import csv
import itertools
import math
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from scipy import stats as sps
from support import made_videos as made
from support.fake_scores import frame, line

from flashbench import jackknife, stats
from flashbench.metrics import motion
from flashbench.metrics.base import About, Pair, SetMetric, measure_frames
from flashbench.metrics.grain import FLAT_NOISE, TEMPORAL_RESIDUAL
from flashbench.reporting import numbers
from flashbench.reporting.cite import cite
from flashbench.scores.table import read_scores
from flashbench.types import Clip, Measurement

BOTH = (FLAT_NOISE, TEMPORAL_RESIDUAL)
SIZE = (96, 128)
NAMES = "flat_noise,temporal_residual"


def white(sigma: float, seed: int, frames: int = 4) -> Any:
    return np.random.default_rng(seed).normal(0, sigma, (frames, *SIZE))


def still(seed: int = 9) -> Any:
    """A smooth plane between 90 and 160: motion explains all of it, and its flat areas hold nearly no noise."""
    made = cv2.GaussianBlur(np.random.default_rng(seed).normal(0, 1, SIZE), (0, 0), 16)
    return 90 + 70 * (made - made.min()) / np.ptp(made)


def clip(planes: Any) -> Clip:
    """Planes [T, H, W], rounded, in three equal channels."""
    levels = np.rint(planes)
    assert levels.min() >= 0 and levels.max() <= 255
    return Clip(np.repeat(levels.astype(np.uint8)[..., None], 3, axis=-1), Fraction(8))


def tiled(amplitude: int, frames: int = 4) -> Any:
    """Boiling noise of which every block of 8×8 is the same in a frame, so that all tie: [T, H, W]."""
    tiles = np.random.default_rng(amplitude).integers(-amplitude, amplitude + 1, (frames, 8, 8))
    return 128 + np.tile(tiles, (1, SIZE[0] // 8, SIZE[1] // 8))


def noisy(own: float, share: float, seed: int) -> tuple[Clip, Clip]:
    """A clip and its reference of white noise of variance own², to which the clip adds `share` of that power."""
    reference = 128 + white(own, seed)
    return clip(reference + white(own * math.sqrt(share), seed + 1000)), clip(reference)


def of_set(metric: SetMetric, measured: list[Measurement]) -> float:
    return metric.finalize(np.sum([each.statistics for each in measured], axis=0))


def table(rows: dict[str, list[Measurement]], metric: SetMetric) -> pd.DataFrame:
    """Lines of rows, a case and cluster for each clip."""
    return frame(
        [
            line(row, f"c{i:02d}", metric.name, each.value, statistics=list(each.statistics), reason=each.reason)
            for row, measured in rows.items()
            for i, each in enumerate(measured)
        ]
    )


# In closed form.


@pytest.mark.parametrize("share", [0.25, 1.0, 3.0])
def test_white_noise_of_s_times_the_power_is_the_root_of_one_and_s(share: float) -> None:
    """In each clip, however noisy its reference, and over the set."""
    made = [noisy(own, share, seed) for seed, own in enumerate((3, 6, 12))]
    for metric in BOTH:
        # Where the reference varies least its own noise is less than elsewhere, and what is added is not.
        least = 1 + share if metric is TEMPORAL_RESIDUAL else 1 + share * calm()
        measured = [metric.measure(*pair) for pair in made]
        for found in (*(each.value for each in measured), of_set(metric, measured)):
            assert found == pytest.approx(math.sqrt(least), rel=0.03)


def calm() -> float:
    """The mean power of the Laplacian in all blocks over that in the fifth that vary least, by Monte Carlo."""
    blocks = np.random.default_rng(7).normal(0, 1, (20_000, 8, 8))
    inner = blocks[:, 1:-1, 1:-1]
    around = blocks[:, :-2, 1:-1] + blocks[:, 2:, 1:-1] + blocks[:, 1:-1, :-2] + blocks[:, 1:-1, 2:]
    powers = np.mean((around - 4 * inner) ** 2, axis=(1, 2))
    spread = blocks.var(axis=(1, 2))
    return float(20 / powers[spread <= np.quantile(spread, 0.2)].mean())


def test_flat_noise_of_contrasts_to_the_last_digit() -> None:
    """k times the noise is k; over clips Σ k L / Σ L, where L is the sum of a reference's levels over its frames."""
    level, factors, measured = list[float](), (1, 2, 3), list[Measurement]()
    for factor, amplitude in zip(factors, (12, 3, 7), strict=True):
        reference = tiled(amplitude)
        found = FLAT_NOISE.measure(clip(128 + factor * (reference - 128)), clip(reference))
        assert found.value == pytest.approx(factor, rel=1e-12) and found.per_frame == pytest.approx((factor,) * 4)
        blocks = reference[:, :8, :8]
        inner = blocks[:, :-2, 1:-1] + blocks[:, 2:, 1:-1] + blocks[:, 1:-1, :-2] + blocks[:, 1:-1, 2:]
        roots = np.sqrt(np.mean((inner - 4 * blocks[:, 1:-1, 1:-1]) ** 2, axis=(1, 2)))
        assert found.statistics == pytest.approx((factor * roots.sum(), roots.sum()), rel=1e-12)
        level.append(roots.sum())
        measured.append(found)
    expected = np.dot(factors, level) / np.sum(level)
    assert of_set(FLAT_NOISE, measured) == pytest.approx(expected, rel=1e-12)
    assert level[0] > 1.5 * level[2] > 2.5 * level[1]  # the noisiest original weighs most


def test_frames_weigh_by_what_their_reference_has() -> None:
    """Frames of noise up to 8 levels doubled, up to 1 level tripled: the mean of ratios would be 2.5."""
    reference = np.concatenate([tiled(8, 2), tiled(1, 2)])
    factor = np.repeat([2, 3], 2)[:, None, None]
    found = FLAT_NOISE.measure(clip(128 + factor * (reference - 128)), clip(reference))
    assert found.per_frame == pytest.approx((2, 2, 3, 3)) and 2.05 < found.value < 2.25
    one, other = (FLAT_NOISE.measure(*(clip(reference[cut]),) * 2).statistics[1] for cut in (slice(2), slice(2, 4)))
    assert found.value == pytest.approx((2 * one + 3 * other) / (one + other), rel=1e-12)
    assert found.value == found.statistics[0] / found.statistics[1]


def test_a_clip_in_parts_is_a_set() -> None:
    ours, theirs = noisy(5, 2, 0)
    parts = [
        FLAT_NOISE.measure(*(Clip(each.frames[cut], each.fps) for each in (ours, theirs)))
        for cut in (slice(0, 1), slice(1, 4))
    ]
    assert of_set(FLAT_NOISE, parts) == pytest.approx(FLAT_NOISE.measure(ours, theirs).value, rel=1e-12)
    parts = [  # transitions, which share a frame
        TEMPORAL_RESIDUAL.measure(*(Clip(each.frames[cut], each.fps) for each in (ours, theirs)))
        for cut in (slice(0, 2), slice(1, 4))
    ]
    assert of_set(TEMPORAL_RESIDUAL, parts) == pytest.approx(TEMPORAL_RESIDUAL.measure(ours, theirs).value, rel=1e-12)


@pytest.mark.parametrize("metric", BOTH, ids=lambda metric: metric.name)
def test_the_order_of_clips_is_nothing_and_a_clip_beside_itself_is_one(metric: SetMetric) -> None:
    measured = [
        metric.measure(*noisy(own, share, seed)) for seed, (own, share) in enumerate(((2, 1), (5, 3), (9, 0.5)))
    ]
    values = [of_set(metric, list(order)) for order in itertools.permutations(measured)]
    assert values == pytest.approx([values[0]] * 6, rel=1e-14)
    assert min(each.value for each in measured) < values[0] < max(each.value for each in measured)
    originals = [metric.measure(*(noisy(own, 1, 0)[1],) * 2) for own in (2, 9)]
    assert [each.value for each in originals] == [1, 1] and of_set(metric, originals) == 1


# Clips whose reference has little or nothing.


def test_a_clip_that_is_nearly_still_hardly_moves_a_set() -> None:
    """Its own ratio is far above all others and would decide their mean."""
    for metric in BOTH:
        measured = [metric.measure(*noisy(6, 1, seed)) for seed in range(4)]
        before = of_set(metric, measured)
        reference = tiled(1)
        quiet = metric.measure(clip(128 + 6 * (reference - 128)), clip(reference))
        assert quiet.value > 5.9 and np.mean([each.value for each in (*measured, quiet)]) > 1.4 * before
        both = of_set(metric, [*measured, quiet])
        weight = quiet.statistics[1] / sum(each.statistics[1] for each in (*measured, quiet))
        assert both == pytest.approx((1 - weight) * before + weight * quiet.value, rel=1e-12)
        assert weight < 0.05 and before < both < 1.15 * before


def test_a_grainy_clip_weighs_by_its_level_and_not_by_its_square() -> None:
    """Four times the level is four times the weight: (8 · 1 + 2 · 4 · 3) / (8 + 2 · 4). By squares it were 2.7."""
    grain = tiled(8) - 128
    quiet = FLAT_NOISE.measure(*(clip(128 + grain),) * 2)
    loud = FLAT_NOISE.measure(clip(128 + 12 * grain), clip(128 + 4 * grain))
    assert loud.statistics[1] == pytest.approx(4 * quiet.statistics[1], rel=1e-12)
    assert of_set(FLAT_NOISE, [quiet] * 8 + [loud] * 2) == pytest.approx(2, rel=1e-12)


def test_a_still_reference_has_no_ratio_and_counts_in_a_set() -> None:
    plane = np.repeat(still()[None], 4, axis=0)
    boiling = clip(plane + white(2, 3))
    found = TEMPORAL_RESIDUAL.measure(boiling, clip(plane))
    assert math.isnan(found.value) and "motion explains all of the reference" in found.reason
    assert "3 of 3 frames" in found.reason and np.isnan(found.per_frame).all()
    ours, own = found.statistics
    # Differences of two frames' noise, high-passed.
    assert own == 0 and ours == pytest.approx(3 * math.sqrt(2 * 4), rel=0.1)
    other = TEMPORAL_RESIDUAL.measure(*noisy(6, 1, 0))
    expected = (other.statistics[0] + ours) / other.statistics[1]
    assert of_set(TEMPORAL_RESIDUAL, [found, other]) == pytest.approx(expected, rel=1e-15)
    same = TEMPORAL_RESIDUAL.measure(clip(plane), clip(plane))
    assert same.statistics == (0, 0) and math.isnan(same.value)
    assert of_set(TEMPORAL_RESIDUAL, [same, other]) == other.value


def test_flat_areas_without_noise_have_no_ratio_and_count_in_a_set() -> None:
    reference = 128 + white(6, 0)
    reference[:2, :24] = 0  # bars, in half of the frames
    found = FLAT_NOISE.measure(clip(np.abs(reference - 3)), clip(reference))
    assert np.isnan(found.per_frame).tolist() == [True, True, False, False] and math.isfinite(found.value)
    assert found.reason.endswith("in 2 of 4 frames") and "hold no noise at all" in found.reason
    reference[:, :24] = 0
    found = FLAT_NOISE.measure(clip(128 + white(2, 1)), clip(reference))
    assert math.isnan(found.value) and found.statistics[0] > 0 == found.statistics[1]


@pytest.mark.parametrize("metric", BOTH, ids=lambda metric: metric.name)
def test_what_was_not_looked_at_has_no_statistics(metric: SetMetric, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = noisy(3, 1, 0)
    assert metric.measure(ours).statistics == ()
    about = About(shape=(4, *SIZE), reference=(4, *SIZE))
    pairs = [Pair(each) for each in ours.frames]
    (found,) = measure_frames([metric], about, pairs)  # a reference that ends before it begins
    assert math.isnan(found.value) and found.statistics == () and "has ended" in found.reason
    (part,) = measure_frames([metric], about, [*map(Pair, ours.frames[:3], theirs.frames), pairs[3]])
    whole = metric.measure(*(Clip(each.frames[:3], each.fps) for each in (ours, theirs)))
    assert (part.value, part.statistics) == (whole.value, whole.statistics)
    if metric is TEMPORAL_RESIDUAL:
        monkeypatch.setattr(motion, "hidden", lambda forward, backward: np.ones(forward.shape[:2], bool))
        assert metric.measure(ours, theirs).statistics == ()


# Over rows of a table.


def test_a_rows_value_and_interval_are_the_pooled_ratios_and_the_jackknifes() -> None:
    for metric in BOTH:
        measured = [metric.measure(*noisy(own, 1, seed)) for seed, own in enumerate((2, 4, 6, 8, 3))]
        still_one = Measurement(value=math.nan, reason="stands still", statistics=(40.0, 0.0))
        scores = table({"ours": [*measured, still_one]}, metric)
        found = stats.estimate(scores, metric, "ours")
        sums = np.array([each.statistics for each in (*measured, still_one)])
        left = np.log([(sums.sum(0) - one)[0] / (sums.sum(0) - one)[1] for one in sums])
        low, high, _ = jackknife.interval(jackknife.pseudo_values(math.log(found.value), left))
        half = sps.t.ppf(0.975, 5) * math.sqrt(5 / 6 * np.sum((left - np.mean(left)) ** 2))
        assert found.value == pytest.approx(sums.sum(0)[0] / sums.sum(0)[1])
        assert (found.low, found.high) == pytest.approx((math.exp(low), math.exp(high)))
        reach = (math.log(found.value / found.low), math.log(found.high / found.value))
        assert min(reach) >= half - 1e-9, "Student's t, and Hall's beyond it"
        assert (found.n, found.of, found.clusters, found.reason) == (6, 6, 6, "stands still")
        assert stats.estimate(scores.sample(frac=1, random_state=1), metric, "ours") == found


def test_the_original_is_one_exactly_and_is_not_tested_against_itself() -> None:
    pairs = [noisy(own, 1, seed) for seed, own in enumerate((2, 4, 6, 8))]
    for metric in BOTH:
        rows = {
            "ours": [metric.measure(*pair) for pair in pairs],
            "other": [metric.measure(clip((pair[1].frames[..., 0] + 128.0) / 2), pair[1]) for pair in pairs],
            "original": [metric.measure(pair[1], pair[1]) for pair in pairs],
        }
        scores = table(rows, metric)
        found = stats.estimate(scores, metric, "original")
        assert found.value == 1 and math.isnan(found.low) and "the same in all 4 clusters" in found.reason
        (comparison,) = stats.against_baseline(scores, [metric], rows, "ours", [metric.name])
        assert comparison.contrast.first == "other" and comparison.resolved
        values = [stats.estimate(scores, metric, row).value for row in ("other", "ours")]
        assert comparison.contrast.effect == pytest.approx(100 * (values[0] / values[1] - 1))


def test_a_set_without_anything_to_divide_by_says_why() -> None:
    nothing = Measurement(value=math.nan, reason="stands still", statistics=(40.0, 0.0))
    found = stats.estimate(table({"ours": [nothing] * 4}, FLAT_NOISE), FLAT_NOISE, "ours")
    assert math.isnan(found.value) and found.reason == "undefined for these clips; stands still"
    one = FLAT_NOISE.measure(*noisy(3, 1, 0))
    found = stats.estimate(table({"ours": [one, *[nothing] * 3]}, FLAT_NOISE), FLAT_NOISE, "ours")
    assert math.isfinite(found.value) and math.isnan(found.low)
    assert found.reason == "no interval: undefined with one cluster left out; stands still"


# As users run it.


def flashbench(folder: Path, *words: str) -> str:
    command = [sys.executable, "-m", "flashbench.cli", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Originals of boiling noise and a still one, with two ways of enhancing them: as files, in three folders."""
    root = tmp_path_factory.mktemp("grain")
    originals = [128 + white(own, seed) for seed, own in enumerate((4, 6, 9))]
    originals.append(np.repeat(still()[None], 4, axis=0))
    for name, factor in (("true", 1.0), ("soft", 0.5), ("harsh", 2.0)):
        (root / name).mkdir()
        for number, planes in enumerate(originals):
            middle = planes.mean(axis=0) if number == 3 else 128
            boiling = white(1, 50 + number) * (number == 3 and name != "true")
            made.lossless(root / name / f"{number}.mkv", clip(middle + factor * (planes - middle + boiling)).frames)
    return root


def test_score_gives_each_videos_ratio_and_that_of_all_together(folders: Path) -> None:
    flashbench(folders, "score", "harsh", "-m", f"{NAMES},psnr", "--reference", "true", "--out", "scored")
    with (folders / "scored/scores.csv").open(encoding="utf-8", newline="") as file:
        rows = {(row["case"], row["metric"]): row for row in csv.DictReader(file)}
    scores = read_scores(folders / "scored/scores.parquet").set_index(["case", "metric"])
    report = (folders / "scored/scores.md").read_text(encoding="utf-8")
    for metric in BOTH:
        for number in range(3):
            assert float(rows[f"{number}.mkv", metric.name]["value"]) == pytest.approx(2, rel=0.03)
            ours, own = scores.loc[(f"{number}.mkv", metric.name), "statistics"]
            assert ours / own == pytest.approx(float(rows[f"{number}.mkv", metric.name]["value"]), rel=1e-6)
        sums = np.sum([list(each) for each in scores.xs(metric.name, level="metric")["statistics"]], axis=0)
        found = stats.estimate(scores.reset_index(), metric, "harsh")
        assert found.n == found.of == 4 and found.value == pytest.approx(sums[0] / sums[1])
        assert found.value == pytest.approx(2, rel=0.1)
        (cells,) = [text for text in report.splitlines() if text.startswith(f"| {metric.name}") and "4/4" in text]
        assert f"| {found.value:.{numbers.places_between(found.low, found.high, found.value)}f} " in cells
    last = rows["3.mkv", "temporal_residual"]
    assert last["value"] == "nan" and "motion explains all of the reference" in last["reason"]
    assert [len(scores.loc[("0.mkv", name), "per_frame"]) for name in NAMES.split(",")] == [4, 3]
    assert "flat_noise, temporal_residual: of all videos together, jackknife over videos." in report
    paragraph = cite(folders / "scored").paragraph
    assert "for skewness (flat_noise, temporal_residual)" in paragraph
    assert "For flat_noise, temporal_residual, psnr they were compared with references" in paragraph


def test_compare_pairs_them_and_shows_that_they_differ(folders: Path) -> None:
    text = flashbench(folders, "compare", "soft", "harsh", "-m", NAMES, "--reference", "true", "--out", "verdict")
    for name in NAMES.split(","):
        assert f"{name} is shown, not tested (it has no better or worse)" in " ".join(text.split())
    with (folders / "verdict/compare.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["metric"]: row for row in csv.DictReader(file)}
    for row in rows.values():
        assert float(row["baseline_value"]) == pytest.approx(0.5, rel=0.1)
        assert float(row["other_value"]) == pytest.approx(2, rel=0.1) and row["n"] == row["of"] == "4"
        ratio = float(row["other_value"]) / float(row["baseline_value"])
        assert float(row["effect"]) == pytest.approx(100 * (ratio - 1))
        assert 0 < float(row["low"]) < float(row["effect"]) < float(row["high"])
    again = flashbench(folders, "compare", "true", "true", "-m", NAMES, "--reference", "true")
    assert "are identical on flat_noise" in " ".join(again.split())


def test_score_without_references_says_so(folders: Path) -> None:
    text = flashbench(folders, "score", "harsh", "-m", f"{NAMES},temporal_flicker")
    assert "flat_noise, temporal_residual: no reference: --reference DIR" in text and "jackknife" not in text
