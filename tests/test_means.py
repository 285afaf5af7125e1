"""The mean over clusters against scipy and the binomial law; what it covers in the worst simulated cells."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as sps

from flashbench import means


def test_it_is_the_one_sample_t_of_every_draw() -> None:
    units = np.random.default_rng(0).normal(0.5, 2, (20, 7))
    found = means.student(units)
    reference = sps.ttest_1samp(units, 0, axis=-1)
    interval = reference.confidence_interval(0.95)
    assert found.p == pytest.approx(reference.pvalue)
    assert found.low == pytest.approx(interval.low) and found.high == pytest.approx(interval.high)
    assert found.se == pytest.approx(sps.sem(units, axis=-1)) and not found.tied.any()
    narrower = means.student(units, level=0.9)
    assert narrower.high == pytest.approx(reference.confidence_interval(0.9).high)


@pytest.mark.parametrize("count", [3, 6, 40])
@pytest.mark.parametrize("value", [-0.1, 1.0])
def test_equal_differences_have_no_interval_and_the_sign_tests_p(count: int, value: float) -> None:
    noise = 1e-15 * np.arange(count)
    found = means.student(value + noise, 1e-12)
    assert found.value == pytest.approx(value) and found.tied == count
    assert np.isnan([found.low, found.high, found.se]).all()
    assert found.p == pytest.approx(2.0 ** (1 - count))


def test_below_three_clusters_there_is_only_a_value() -> None:
    found = means.student(np.array([1.0, 2.0]))
    assert found.value == 1.5 and np.isnan([found.low, found.high, found.p, found.se]).all()


@pytest.mark.parametrize(
    ("units", "told"),
    [
        ([0, 0, 0, 1, 2], False),  # two of five differ
        ([0, 0, 0, 1, 2, 3], True),  # half
        ([0] * 95 + [1, 2, 3, 4, 5], False),
        ([0] * 94 + [1, 2, 3, 4, 5, 6], True),  # six suffice among any number
        ([7, 7, 7, 1, 2], False),  # whatever the value is that they share
        ([0, 1, 2, 3], True),  # one alone is no tie
    ],
)
def test_an_interval_takes_six_clusters_off_the_commonest_value_or_half(units: list[int], told: bool) -> None:
    assert bool(np.isnan(means.student(np.array(units, float)).low)) != told


def test_where_too_few_differ_p_is_the_larger_of_two_tests() -> None:
    units = np.array([0.0] * 20 + [1.0, 1.1, 0.9, 1.2, 1.0])
    found = means.student(units)
    assert found.p == pytest.approx(sps.binomtest(5, 5).pvalue) and found.p > sps.ttest_1samp(units, 0).pvalue
    mixed = means.student(np.array([0.0] * 20 + [9.0, 9.5, 8.0, -1.0]))
    assert mixed.p == pytest.approx(sps.binomtest(3, 4).pvalue)


@given(st.lists(st.integers(-3, 3), min_size=3, max_size=12), st.randoms())
def test_order_and_sign_say_nothing(values: list[int], random: object) -> None:
    units = np.array(values, float)
    turned = means.student(-units[::-1])
    found = means.student(units)
    assert turned.p == pytest.approx(found.p) and turned.tied == found.tied
    assert turned.low == pytest.approx(-found.high, nan_ok=True)
    assert 0 <= found.p <= 1 and (math.isnan(found.low) or found.low < found.high)


# --- what it covers: the worst cells of benchmarks/intervals.py ------------------------------------------------------


def _ties(rng: np.random.Generator, shape: tuple[int, int], shift: float) -> npt.NDArray[np.float64]:
    return rng.normal(shift, 1, shape) * (rng.random(shape) < 0.1)


@pytest.mark.parametrize("clusters", [5, 12, 30, 100])
def test_ninety_percent_ties(clusters: int) -> None:
    rng = np.random.default_rng(clusters)
    found = means.student(_ties(rng, (10_000, clusters), 1.0))
    told = ~np.isnan(found.low)
    wrong = (found.low[told] > 0.1) | (found.high[told] < 0.1)
    assert wrong.sum() / 10_000 < 0.07
    if told.mean() > 0.02:
        assert wrong.mean() <= 0.07
    assert (means.student(_ties(rng, (10_000, clusters), 0.0)).p < 0.05).mean() <= 0.055


def test_without_the_rule_ties_would_be_told_wrongly() -> None:
    """The simulation can tell: plain t on the same draws."""
    found = means.student(_ties(np.random.default_rng(1), (4_000, 30), 1.0), least=1)
    told = ~np.isnan(found.low)
    assert ((found.low <= 0.1) & (found.high >= 0.1))[told].mean() < 0.88


@pytest.mark.parametrize("clusters", [5, 30])
def test_skewed_values_are_covered_by_their_logarithms_alone(clusters: int) -> None:
    logs = np.random.default_rng(clusters).normal(0.0, 1.0, (10_000, clusters))
    own, raw = means.student(logs), means.student(np.exp(logs))
    inside = [(one.low <= truth) & (truth <= one.high) for one, truth in ((own, 0.0), (raw, math.exp(0.5)))]
    assert 0.94 <= inside[0].mean() <= 0.96 and inside[1].mean() < 0.92
    assert (own.p < 0.05).mean() <= 0.055
