"""Estimates, contrasts and adjustments against closed forms, scipy, and the design's rules."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as sps
from support.fake_scores import METRICS, FakeMetric, frame, line, metric, spread, synthetic

from flashbench import shares, stats
from flashbench.errors import InvalidError

PSNR, POOLED = METRICS["psnr"], METRICS["niqe_pooled"]
ROWS = {"nfe=4": (3.2, 21.0), "nfe=1": (5.0, 22.0), "degradation=pixel+latent,nfe=4": (3.2, 21.0)}


def scores_of(first: list[float], second: list[float]) -> pd.DataFrame:
    """One clip a cluster for the rows `a` and `b`."""
    lines = [line("a", f"s{i}/0", "psnr", value) for i, value in enumerate(first)]
    return frame(lines + [line("b", f"s{i}/0", "psnr", value) for i, value in enumerate(second)])


def without(scores: pd.DataFrame, chosen: pd.Series) -> pd.DataFrame:
    """The chosen scores turned into missing ones."""
    changed = scores.copy()
    changed.loc[chosen, "value"] = math.nan
    changed.loc[chosen, "reason"] = "flat clip"
    changed["statistics"] = [[] if gone else s for s, gone in zip(changed["statistics"], chosen, strict=True)]
    return changed


def test_mean_is_over_seeds_then_cases_then_clusters() -> None:
    values = np.array([1.0, 3.0, 5.0, 10.0, 20.0])
    clusters = np.array(["x", "x", "x", "y", "z"])
    cases = np.array(["x/0", "x/0", "x/1", "y/0", "z/0"])
    found = stats.mean(values, clusters, cases)
    units = np.array([(2.0 + 5.0) / 2, 10.0, 20.0])
    half = sps.t.ppf(0.975, 2) * units.std(ddof=1) / math.sqrt(3)
    assert (found.value, found.n, found.of, found.clusters) == (units.mean(), 5, 5, 3)
    assert (found.low, found.high) == pytest.approx((units.mean() - half, units.mean() + half))


def test_a_contrast_is_the_paired_t_test() -> None:
    first, second = [20.1, 21.5, 19.7, 23.0, 18.2], [20.9, 21.6, 20.9, 23.1, 19.5]
    found = stats.contrast(scores_of(first, second), PSNR, "a", "b")
    reference = sps.ttest_rel(first, second)
    interval = reference.confidence_interval(0.95)
    assert found.effect == pytest.approx(np.mean(first) - np.mean(second))
    assert (found.p, found.low, found.high) == pytest.approx((reference.pvalue, interval.low, interval.high))
    turned = stats.contrast(scores_of(first, second), PSNR, "b", "a")
    assert (turned.effect, turned.low, turned.high) == pytest.approx((-found.effect, -found.high, -found.low))


def test_a_pooled_value_is_that_of_all_clips_and_its_error_the_jackknife() -> None:
    rng = np.random.default_rng(4)
    groups = [rng.normal(0, 1 + g / 5, 30) for g in range(6)]
    lists = np.array([[len(x), x.sum(), x @ x] for x in groups])
    found = stats.pooled(lists, np.arange(6).astype(np.str_), spread)
    left = np.array([np.concatenate(groups[:g] + groups[g + 1 :]).std(ddof=1) for g in range(6)])
    half = sps.t.ppf(0.975, 5) * math.sqrt(5 / 6 * ((left - left.mean()) ** 2).sum())
    assert found.value == pytest.approx(np.concatenate(groups).std(ddof=1))
    assert found.low == pytest.approx(found.value - half), "Student's t on the short side"
    assert found.high > found.value + half, "Hall's correction on the long one: the widest group moves the value most"


def test_a_pooled_contrast_is_the_jackknife_of_the_difference() -> None:
    scores = synthetic(ROWS, clusters=7)
    found = stats.contrast(scores, POOLED, "nfe=4", "nfe=1")
    part = scores[scores["metric"] == "niqe_pooled"].set_index(["row", "case"]).sort_index()
    four, one = (np.stack(part.loc[row, "statistics"].tolist()) for row in ("nfe=4", "nfe=1"))
    clusters = part.loc["nfe=4", "cluster"].to_numpy(dtype=np.str_)
    both = stats.pooled(np.hstack([four, one]), clusters, lambda s: spread(s[:3]) - spread(s[3:]))
    assert (found.effect, found.low, found.high) == pytest.approx((both.value, both.low, both.high))
    assert found.high < 0 and found.p < 1e-4 and found.clusters == 7


@pytest.mark.parametrize("count", [1, 2])
def test_below_three_clusters_there_is_no_interval_but_a_reason(count: int) -> None:
    scores = synthetic(ROWS, clusters=count)
    for kind in (PSNR, POOLED):
        found = stats.estimate(scores, kind, "nfe=4")
        assert math.isfinite(found.value) and math.isnan(found.low) and math.isnan(found.high)
        assert found.reason == f"an interval needs 3 clusters, here {count}"
        difference = stats.contrast(scores, kind, "nfe=4", "nfe=1")
        assert math.isfinite(difference.effect) and math.isnan(difference.p) and math.isnan(difference.se)
        assert difference.reason


@pytest.mark.parametrize("metric", [PSNR, POOLED], ids=lambda m: m.name)
def test_missing_clips_are_counted_with_their_reason_and_pairs_need_both(metric: FakeMetric) -> None:
    scores = synthetic(ROWS)
    gone = (scores["row"] == "nfe=1") & scores["cluster"].isin(["source03", "source07"])
    changed = without(scores, gone)
    found = stats.estimate(changed, metric, "nfe=1")
    assert (found.n, found.of, found.clusters) == (16, 20, 8) and math.isfinite(found.low)
    assert found.reason == "4 of 20 clips missing: flat clip"
    difference = stats.contrast(changed, metric, "nfe=4", "nfe=1")
    shared = scores[~scores["cluster"].isin(["source03", "source07"])]
    assert (difference.n, difference.of, difference.clusters) == (16, 20, 8)
    assert difference.effect == pytest.approx(stats.contrast(shared, metric, "nfe=4", "nfe=1").effect)


@pytest.mark.parametrize("metric", [PSNR, POOLED], ids=lambda m: m.name)
def test_nothing_scored_is_nan_with_the_reason(metric: FakeMetric) -> None:
    scores = synthetic(ROWS)
    none = without(scores, scores["row"] == "nfe=1")
    found = stats.estimate(none, metric, "nfe=1")
    assert math.isnan(found.value) and (found.n, found.of, found.reason) == (0, 20, "flat clip")
    difference = stats.contrast(none, metric, "nfe=4", "nfe=1")
    assert math.isnan(difference.effect) and (difference.n, difference.reason) == (0, "flat clip")
    absent = stats.estimate(scores, metric, "nfe=9", of=20)
    assert math.isnan(absent.value) and absent.reason == "no score of row 'nfe=9'"
    assert "nfe=9" in stats.contrast(scores, metric, "nfe=4", "nfe=9").reason


def test_infinite_scores_give_no_interval_and_no_warning() -> None:
    found = stats.estimate(scores_of([math.inf, 30.0, 31.0], [20.0, 21.0, 22.0]), PSNR, "a")
    assert math.isinf(found.value) and math.isnan(found.low) and "infinite" in found.reason
    difference = stats.contrast(scores_of([math.inf, 30.0, 31.0], [math.inf, 21.0, 22.0]), PSNR, "a", "b")
    assert math.isnan(difference.effect) and math.isnan(difference.p) and difference.reason


def test_two_scores_of_one_clip_are_refused() -> None:
    scores = scores_of([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    with pytest.raises(InvalidError, match="two scores of psnr"):
        stats.estimate(pd.concat([scores, scores]), PSNR, "a")


@pytest.mark.parametrize("metric", [PSNR, POOLED], ids=lambda m: m.name)
def test_copying_seeds_does_not_shrink_the_interval(metric: FakeMetric) -> None:
    scores = synthetic(ROWS)
    many = pd.concat([scores.assign(seed=seed) for seed in range(8)], ignore_index=True)
    one, eight = (stats.contrast(s, metric, "nfe=4", "nfe=1") for s in (scores, many))
    assert eight.n == 8 * one.n and eight.clusters == one.clusters
    assert eight.high - eight.low == pytest.approx(one.high - one.low, rel=2e-3)


@pytest.mark.parametrize("metric", [PSNR, POOLED], ids=lambda m: m.name)
def test_the_order_of_scores_does_not_matter_to_the_last_bit(metric: FakeMetric) -> None:
    scores = synthetic(ROWS)
    mixed = scores.sample(frac=1, random_state=5)
    assert stats.contrast(scores, metric, "nfe=4", "nfe=1") == stats.contrast(mixed, metric, "nfe=4", "nfe=1")
    assert stats.estimate(scores, metric, "nfe=4") == stats.estimate(mixed, metric, "nfe=4")


def test_replicas_are_kept_apart() -> None:
    scores = synthetic(ROWS, replicas=2)
    alone = scores[scores["replica"] == 1]
    assert stats.estimate(scores, PSNR, "nfe=4", replica=1) == stats.estimate(alone, PSNR, "nfe=4", replica=1)
    assert stats.estimate(scores, PSNR, "nfe=4", replica=0) != stats.estimate(scores, PSNR, "nfe=4", replica=1)


@pytest.mark.parametrize("metric", [PSNR, POOLED], ids=lambda m: m.name)
def test_the_bootstrap_agrees_roughly(metric: FakeMetric) -> None:
    """The percentile interval of the same difference by resampling clusters: another method, nearly the same answer."""
    scores = synthetic(ROWS, clusters=30)

    def sums(row: str) -> npt.NDArray[np.float64]:
        """[G, S]: (count, sum) of PSNR, or the statistics of the set metric, over the clips of each cluster."""
        part = scores[(scores["row"] == row) & (scores["metric"] == metric.name)]
        clips = part["statistics"].tolist() if metric is POOLED else [(1.0, value) for value in part["value"]]
        return np.stack([np.array(clips)[part["cluster"] == name].sum(axis=0) for name in sorted(set(part["cluster"]))])

    def value(summed: npt.NDArray[np.float64]) -> float:
        return spread(summed) if metric is POOLED else float(summed[1] / summed[0])

    one, two, rng = sums("nfe=4"), sums("nfe=1"), np.random.default_rng(1)
    effects = [value(one[pick].sum(axis=0)) - value(two[pick].sum(axis=0)) for pick in rng.integers(0, 30, (600, 30))]
    low, high = np.quantile(effects, [0.025, 0.975])
    found = stats.contrast(scores, metric, "nfe=4", "nfe=1")
    assert low < found.effect < high
    assert high - low == pytest.approx(found.high - found.low, rel=0.25)


def test_adjustments_against_known_values() -> None:
    p = np.array([0.01, 0.04, np.nan, 0.03, 0.005])
    assert stats.holm(p) == pytest.approx([0.03, 0.06, np.nan, 0.06, 0.02], nan_ok=True)
    assert stats.benjamini_hochberg(p) == pytest.approx([0.02, 0.04, np.nan, 0.04, 0.02], nan_ok=True)
    nothing = np.array([np.nan])
    assert np.isnan(stats.holm(nothing)).all() and np.isnan(stats.benjamini_hochberg(nothing)).all()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_adjusted_p_values_keep_order_and_only_grow(values: list[float]) -> None:
    p = np.array(values)
    for adjusted in (stats.holm(p), stats.benjamini_hochberg(p)):
        assert (adjusted >= p - 1e-15).all() and (adjusted <= 1).all()
        assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= -1e-15).all()
    assert (stats.holm(p) >= stats.benjamini_hochberg(p) - 1e-15).all()


def test_holm_on_the_primary_and_benjamini_hochberg_on_the_rest() -> None:
    scores = synthetic(ROWS)
    kinds = [POOLED, PSNR, METRICS["sharpness"]]
    found = stats.against_baseline(scores, kinds, ROWS, "nfe=4", ["niqe_pooled"])
    assert [(c.contrast.metric, c.contrast.first) for c in found] == [
        (kind.name, row) for kind in kinds for row in ROWS if row != "nfe=4"
    ]
    first, rest = [c for c in found if c.primary], [c for c in found if not c.primary]
    assert {c.contrast.metric for c in first} == {"niqe_pooled"}
    assert [c.adjusted for c in first] == pytest.approx(stats.holm(np.array([c.contrast.p for c in first])))
    expected = stats.benjamini_hochberg(np.array([c.contrast.p for c in rest]))
    assert [c.adjusted for c in rest] == pytest.approx(expected)
    resolved = {(c.contrast.metric, c.contrast.first): c.resolved for c in found}
    assert resolved["niqe_pooled", "nfe=1"] and resolved["psnr", "nfe=1"] and not resolved["sharpness", "nfe=1"]


@pytest.mark.parametrize("clusters", [3, 10, 30])
def test_the_smallest_resolvable_difference_is_found_four_times_in_five(clusters: int) -> None:
    least = stats.smallest_resolvable(1 / math.sqrt(clusters), clusters)
    rng = np.random.default_rng(clusters)
    samples = least + rng.standard_normal((20_000, clusters))
    found = sps.ttest_1samp(samples, 0.0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.01)
    assert stats.smallest_resolvable(2 / math.sqrt(clusters), clusters) == pytest.approx(2 * least)
    assert math.isnan(stats.smallest_resolvable(1.0, 2))


# --- shares -------------------------------------------------------------------------------------------------------


def test_a_binary_metric_has_them_in_estimates_and_contrasts() -> None:
    rows = {"a": [1.0] * 12, "b": [1.0] * 12}
    scores = frame([line(row, f"s{i}/0", "shown", v) for row, values in rows.items() for i, v in enumerate(values)])
    found = stats.estimate(scores, metric("shown"), "a")  # type: ignore[arg-type]
    assert (found.value, found.high) == (1.0, 1.0) and found.low == pytest.approx(12 / (12 + shares.Z**2))
    contrast = stats.contrast(scores, metric("shown"), "a", "b")  # type: ignore[arg-type]
    assert contrast.effect == 0 and contrast.low < -0.2 and contrast.high > 0.2 and contrast.p == 1


def test_what_is_computed_is_exact_and_in_no_family_of_tests() -> None:
    values = {"tflop": {"a": 1.0, "b": 2.0}, "psnr": {"a": 20.0, "b": 21.0}}
    lines = [
        line(row, f"s{i}/0", name, value + (i / 100 if name == "psnr" else 0))
        for name, rows in values.items()
        for row, value in rows.items()
        for i in range(6)
    ]
    scores, kinds = frame(lines), [metric("tflop"), metric("psnr")]
    found = stats.contrast(scores, metric("tflop"), "a", "b")  # type: ignore[arg-type]
    assert (found.effect, found.low, found.high) == (-1.0, -1.0, -1.0) and math.isnan(found.p)
    tests = stats.against_baseline(scores, kinds, ["a", "b"], "a", [])  # type: ignore[arg-type]
    assert [test.contrast.metric for test in tests] == ["psnr"]
