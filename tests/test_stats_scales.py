"""Scales of metrics in estimates and contrasts: geometric means and percent, zeros, ranges, equal differences."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as sps
from support.fake_scores import METRICS, frame, line, synthetic

from flashbench import jackknife, metrics, stats
from flashbench.metrics.base import Metric

LOG = metrics.get("laplacian_variance")
PLAIN = replace(LOG, scale="identity")
FIRST, SECOND = [12.0, 700.0, 95.0, 3.0, 40.0, 210.0], [10.0, 520.0, 99.0, 2.0, 25.0, 190.0]


def scores_of(metric: Metric, first: list[float], second: list[float]) -> pd.DataFrame:
    """One clip a cluster of the rows `a` and `b`."""
    rows = {"a": first, "b": second}
    return frame(
        [line(row, f"s{i}/0", metric.name, value) for row, values in rows.items() for i, value in enumerate(values)]
    )


def test_the_least_difference_found_is_told_in_percent() -> None:
    contrast = stats.contrast(scores_of(LOG, FIRST, SECOND), LOG, "a", "b")
    of_logs = stats.smallest_resolvable(sps.sem(np.log(FIRST) - np.log(SECOND)), 6)
    assert contrast.unit == "%" and stats.least_found(contrast, LOG) == pytest.approx(100 * math.expm1(of_logs))


def test_a_row_is_the_geometric_mean_with_t_on_logarithms() -> None:
    found = stats.estimate(scores_of(LOG, FIRST, SECOND), LOG, "a")
    logs = np.log(FIRST)
    half = sps.t.ppf(0.975, 5) * sps.sem(logs)
    assert found.value == pytest.approx(sps.gmean(FIRST)) and found.scale == "log"
    assert (found.low, found.high) == pytest.approx(tuple(np.exp(logs.mean() + np.array([-half, half]))))
    assert found.low > 0, "on its own scale it reaches below 0"
    plain = stats.estimate(scores_of(PLAIN, FIRST, SECOND), PLAIN, "a")
    assert plain.value == pytest.approx(np.mean(FIRST)) and plain.low == 0, "no bound leaves the metric's range"


def test_a_contrast_is_the_percent_change_with_the_paired_t_of_logarithms() -> None:
    found = stats.contrast(scores_of(LOG, FIRST, SECOND), LOG, "a", "b")
    reference = sps.ttest_rel(np.log(FIRST), np.log(SECOND))
    interval = reference.confidence_interval(0.95)
    assert found.effect == pytest.approx(100 * (sps.gmean(FIRST) / sps.gmean(SECOND) - 1))
    assert (found.low, found.high) == pytest.approx((100 * math.expm1(interval.low), 100 * math.expm1(interval.high)))
    assert found.p == pytest.approx(reference.pvalue) and (found.unit, found.scale) == ("%", "log")
    assert found.as_tested(found.effect) == pytest.approx(np.mean(np.log(FIRST) - np.log(SECOND)))
    assert found.se == pytest.approx(sps.sem(np.log(FIRST) - np.log(SECOND)))
    assert found.as_told(found.as_tested(17.0)) == pytest.approx(17.0)


def test_swapped_sides_give_the_inverse_ratio() -> None:
    scores = scores_of(LOG, FIRST, SECOND)
    found, turned = stats.contrast(scores, LOG, "a", "b"), stats.contrast(scores, LOG, "b", "a")
    for one, other in ((found.effect, turned.effect), (found.low, turned.high), (found.high, turned.low)):
        assert (1 + one / 100) * (1 + other / 100) == pytest.approx(1)
    assert turned.p == pytest.approx(found.p)


@given(st.floats(1e-6, 1e6))
@settings(max_examples=10)
def test_a_common_factor_scales_the_rows_and_leaves_the_contrast(factor: float) -> None:
    wide = replace(LOG, range=(0.0, math.inf))
    scores = scores_of(wide, FIRST, SECOND)
    scaled = scores.assign(value=factor * scores["value"])
    one, other = (stats.estimate(table, wide, "a") for table in (scores, scaled))
    assert (other.value, other.low, other.high) == pytest.approx(
        tuple(factor * x for x in (one.value, one.low, one.high))
    )
    first, second = (stats.contrast(table, wide, "a", "b") for table in (scores, scaled))
    assert (first.effect, first.low, first.p) == pytest.approx((second.effect, second.low, second.p))


def test_seeds_and_cases_are_averaged_as_logarithms() -> None:
    values = np.array([1.0, 4.0, 8.0, 10.0, 20.0])
    found = stats.mean(values, np.array(list("xxxyz")), np.array(["x0", "x0", "x1", "y0", "z0"]), scale="log")
    assert found.value == pytest.approx(math.exp((math.log(2 * 8) / 2 + math.log(10) + math.log(20)) / 3))


def test_a_value_of_0_leaves_arithmetic_means_and_says_so() -> None:
    scores = scores_of(LOG, [*FIRST[:5], 0.0], SECOND)
    found, plain = stats.contrast(scores, LOG, "a", "b"), stats.contrast(scores, PLAIN, "a", "b")
    assert (found.effect, found.low, found.high, found.p) == (plain.effect, plain.low, plain.high, plain.p)
    assert (found.unit, found.scale) == ("levels²", "identity")
    assert found.remark == found.reason and found.remark.startswith("arithmetic means: 1 of 6 clips or pairs")
    row = stats.estimate(scores, LOG, "a")
    assert row.value == pytest.approx(np.mean([*FIRST[:5], 0.0])) and row.scale == "identity"
    assert "arithmetic" in row.reason and not stats.estimate(scores, LOG, "b").reason


def test_set_metrics_are_jackknifed_on_the_logarithm() -> None:
    rng = np.random.default_rng(3)
    sums = {row: rng.lognormal(shift, 0.8, (8, 2)) for row, shift in (("a", 0.0), ("b", 1.0))}
    noise = metrics.get("flat_noise")
    scores = frame(
        [
            line(row, f"s{g}/0", noise.name, 1.0, statistics=s.tolist())
            for row, all_ in sums.items()
            for g, s in enumerate(all_)
        ]
    )
    found = stats.estimate(scores, noise, "a")
    total = sums["a"].sum(axis=0)
    left = np.log([np.divide(*(total - one)) for one in sums["a"]])
    low, high, _ = jackknife.interval(jackknife.pseudo_values(math.log(found.value), left))
    assert found.value == pytest.approx(total[0] / total[1])
    assert (found.low, found.high) == pytest.approx((math.exp(low), math.exp(high)))
    ratio = stats.contrast(scores, noise, "a", "b")
    assert ratio.effect == pytest.approx(100 * (found.value / stats.estimate(scores, noise, "b").value - 1))
    silent = scores.assign(
        statistics=[
            [0.0, s[1]] if row == "a" else s for row, s in zip(scores["row"], scores["statistics"], strict=True)
        ]
    )
    fallen = stats.contrast(silent, noise, "a", "b")
    assert fallen.unit == "× reference" and fallen.effect < 0 and "log scale" in fallen.remark


# --- equal differences, equal values, ranges -------------------------------------------------------------------------

PSNR = METRICS["psnr"]


def test_the_same_difference_everywhere_has_no_interval() -> None:
    found = stats.contrast(scores_of(PSNR, [4, 5, 6], [3, 4, 5]), PSNR, "a", "b")  # type: ignore[arg-type]
    assert (found.effect, found.p) == (1.0, 0.25) and np.isnan([found.low, found.high, found.se]).all()
    assert found.reason == "no interval: the difference is the same in all 3 clusters"
    tenths = [0.1 * n for n in range(1, 9)]
    found = stats.contrast(scores_of(PSNR, [x + 0.3 for x in tenths], tenths), PSNR, "a", "b")  # type: ignore[arg-type]
    assert math.isnan(found.low) and found.p == pytest.approx(2.0**-7), "the same but for rounding"


def test_equal_but_for_rounding_is_equal() -> None:
    first, second = [0.1 + 0.2, 20.0, 1e6], [0.3, 20.0, 1e6 * (1 + 2e-16)]
    found = stats.contrast(scores_of(PSNR, first, second), PSNR, "a", "b")  # type: ignore[arg-type]
    assert (found.effect, found.low, found.high, found.p, found.se) == (0, 0, 0, 1, 0) and not found.reason
    small = stats.contrast(scores_of(PSNR, [1e-9, 2e-9, 3e-9], [2e-9, 1e-9, 5e-9]), PSNR, "a", "b")  # type: ignore[arg-type]
    assert small.high > small.low, "small is not rounding"


def test_rows_that_do_not_vary_have_no_interval_unless_they_are_computed() -> None:
    found = stats.estimate(scores_of(PSNR, [1.0] * 8, [0.0] * 8), PSNR, "a")  # type: ignore[arg-type]
    assert found.value == 1 and math.isnan(found.low) and "same in all 8 clusters" in found.reason
    tied = stats.estimate(scores_of(PSNR, [1.0] * 10 + [0.5, 0.9], [0.0] * 12), PSNR, "a")  # type: ignore[arg-type]
    assert math.isnan(tied.high) and "in 10 of 12 clusters" in tied.reason
    computed = METRICS["tflop"]
    exact = stats.estimate(scores_of(computed, [2.0] * 4, [1.0] * 4), computed, "a")  # type: ignore[arg-type]
    assert (exact.value, exact.low, exact.high, exact.reason) == (2, 2, 2, "")


def test_bounds_stay_within_a_metrics_range() -> None:
    metric = metrics.get("ssim")
    scores = scores_of(metric, [1.0, 0.99, 0.5, 0.98], [-0.9, -1.0, -0.95, 0.9])
    row, found = stats.estimate(scores, metric, "a"), stats.contrast(scores, metric, "a", "b")
    assert row.high == 1 and row.low < row.value
    assert found.high == 2 and found.low < found.effect


def test_what_infinite_values_give_is_as_before() -> None:
    found = stats.contrast(scores_of(LOG, [math.inf, 1.0, 2.0], [1.0, 1.0, 2.0]), LOG, "a", "b")
    assert math.isinf(found.effect) and math.isnan(found.low) and "infinite" in found.reason


@pytest.mark.parametrize("name", ["laplacian_variance", "sharpness", "edge_gradient", "flat_noise", "warping_error"])
def test_the_scale_is_no_part_of_what_scores_are_kept_under(name: str) -> None:
    metric = metrics.get(name)
    assert metric.scale == "log" and metric.range[0] == 0 and "scale" not in metric.identity
    assert replace(metric, scale="identity").identity == metric.identity


def test_every_metric_on_the_log_scale_is_positive_and_none_of_the_others_changed() -> None:
    logs = {name for name in metrics.names() if metrics.get(name).scale == "log"}
    assert logs == {
        "laplacian_variance", "sharpness", "edge_gradient", "flat_noise", "temporal_residual",
        "frame_difference_energy", "warping_error", "ewarp_raft",
    }  # fmt: skip
    scores = synthetic({"a": (3.0, 21.0), "b": (3.2, 22.0)})
    assert stats.contrast(scores, PSNR, "a", "b").scale == "identity"  # type: ignore[arg-type]
