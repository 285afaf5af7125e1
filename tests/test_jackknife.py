"""The interval of a value made from sums over clusters: against its formulas, limits and test, and simulated."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as sps

from flashbench import jackknife
from flashbench.types import Floats

RNG = np.random.default_rng(12)
SKEWED = RNG.lognormal(0, 1, (40, 12)) - 1.2
EVEN = np.array([-3.0, -1.0, -0.5, 0.5, 1.0, 3.0])


def test_pseudo_values_of_a_mean_are_the_values() -> None:
    x = RNG.normal(size=(3, 7))
    without = (x.sum(axis=1, keepdims=True) - x) / 6
    assert jackknife.pseudo_values(x.mean(axis=1), without) == pytest.approx(x)


def test_pseudo_values_have_the_value_for_mean_and_the_jackknifes_error() -> None:
    x = RNG.lognormal(size=9)
    without = np.array([np.log(np.delete(x, g).mean()) for g in range(9)])
    units = jackknife.pseudo_values(math.log(x.mean()), without)
    assert units.mean() == pytest.approx(math.log(x.mean()))
    error = math.sqrt(8 / 9 * ((without - without.mean()) ** 2).sum())
    assert units.std(ddof=1) / 3 == pytest.approx(error)


def test_without_skewness_it_is_students_t() -> None:
    reference = sps.ttest_1samp(EVEN + 2, 0)
    low, high = reference.confidence_interval(0.95)
    assert jackknife.interval(EVEN + 2) == pytest.approx((low, high, reference.pvalue))
    assert jackknife.hall(EVEN + 2) == pytest.approx((low, high, reference.pvalue))


def test_halls_bounds_are_where_the_transformed_t_is_students_quantile() -> None:
    """The transformation written out (Hall 1992, p. 224), evaluated at the bounds: ± the quantile of t."""
    for units in SKEWED:
        count, se = len(units), units.std(ddof=1) / math.sqrt(len(units))
        skew = sps.skew(units)
        for bound, sign in zip(jackknife.hall(units)[:2], (1, -1), strict=True):
            t = (units.mean() - bound) / se
            moved = t + skew * t**2 / (3 * count**0.5) + skew**2 * t**3 / (27 * count) + skew / (6 * count**0.5)
            assert moved == pytest.approx(sign * sps.t.ppf(0.975, count - 1))


def test_the_interval_reaches_as_far_as_either_and_p_is_the_larger() -> None:
    low, high, p = jackknife.interval(SKEWED)
    t, hall = jackknife.student(SKEWED), jackknife.hall(SKEWED)
    assert (low == np.minimum(t.low, hall.low)).all() and (high == np.maximum(t.high, hall.high)).all()
    assert (p == np.maximum(t.p, hall.p)).all()
    right = sps.skew(SKEWED, axis=1) > 0.5
    assert right.sum() > 30 and (hall.high > t.high)[right].all() and (hall.low > t.low)[right].all()


def test_arrays_are_the_same_as_one_at_a_time() -> None:
    whole = jackknife.interval(SKEWED)
    for i, units in enumerate(SKEWED):
        assert jackknife.interval(units) == pytest.approx(tuple(part[i] for part in whole))


@given(
    units=st.lists(st.floats(-5, 5).filter(lambda x: x == 0 or abs(x) > 1e-3), min_size=3, max_size=20),
    level=st.sampled_from([0.9, 0.95]),
)
def test_p_is_below_where_the_interval_leaves_out_0_and_turning_the_sign_turns_it(
    units: list[float], level: float
) -> None:
    x = np.array(units)
    if x.std() < 1e-3:
        return
    low, high, p = jackknife.interval(x, level)
    if min(abs(low), abs(high)) > 1e-9:
        assert (p < 1 - level) == (low > 0 or high < 0)
    turned = jackknife.interval(-x, level)
    assert turned == pytest.approx((-high, -low, p), abs=1e-9)


@pytest.mark.parametrize(("value", "p"), [(0.0, 1.0), (2.0, 0.0)])
def test_clusters_that_are_all_the_same(value: float, p: float) -> None:
    assert jackknife.interval(np.full(5, value)) == (value, value, p)


# --- what it covers: sets of sources with skewed effects, in the form of pooled NIQE ------------------------------

FEATURES, BLOCKS, DRAWS = 5, 12, 3000
FAR = (1.0, (2.5, 1.0, 0.0, 0.0, 0.5))
"""How much a row's blocks follow their source, and where they lie."""
NEAR, WIDE = (0.3, (0.6, 0.2, 0.0, 0.0, 0.0)), (1.2, (3.0, 0.2, 0.0, 0.0, 0.0))


def distances(count: Floats, sums: Floats, products: Floats) -> Floats:
    """√(μᵀ((0.3 + Σ)/2)⁻¹μ) of so many blocks, from their sums [..., F] and products [..., F, F]."""
    mean = sums / count[..., None]
    covariance = (products - count[..., None, None] * mean[..., :, None] * mean[..., None, :]) / (
        count[..., None, None] - 1
    )
    solved = np.linalg.solve((0.3 * np.eye(FEATURES) + covariance) / 2, mean[..., None])[..., 0]
    return np.asarray(np.sqrt((mean * solved).sum(axis=-1)))


def sets(
    rng: np.random.Generator, draws: int, clusters: int, rows: tuple[tuple[float, tuple[float, ...]], ...]
) -> Floats:
    """Values of each row for so many sets, whole and without each cluster: [rows, draws, 1 + clusters]."""
    effect = rng.lognormal(0, 0.25, (draws, clusters, FEATURES))
    effect = (math.exp(0.25**2 / 2) - effect) / math.sqrt(math.expm1(0.25**2) * math.exp(0.25**2))
    within = 0.3 * rng.chisquare(BLOCKS, effect.shape) / BLOCKS
    found = []
    for follows, place in rows:
        mean = np.array(place) + follows * effect + 0.15 * rng.standard_normal(effect.shape)
        sums = BLOCKS * mean
        products = BLOCKS * (mean[..., :, None] * mean[..., None, :] + within[..., None] * np.eye(FEATURES))
        whole = [part.sum(axis=1, keepdims=True) for part in (sums, products)]
        count = np.array([clusters, *[clusters - 1] * clusters]) * float(BLOCKS)
        both = [np.concatenate([a, a - b], axis=1) for a, b in zip(whole, (sums, products), strict=True)]
        found.append(distances(np.broadcast_to(count, (draws, clusters + 1)), *both))
    return np.stack(found)


def coverage(interval: jackknife.Interval, truth: float) -> float:
    return float(((interval.low <= truth) & (truth <= interval.high)).mean())


@pytest.mark.parametrize("clusters", [12, 30])
@pytest.mark.parametrize(("first", "second"), [(NEAR, FAR), (WIDE, FAR)], ids=["near", "wide"])
def test_the_interval_covers_the_value_of_so_many_clusters(
    first: tuple[float, tuple[float, ...]], second: tuple[float, tuple[float, ...]], clusters: int
) -> None:
    rng = np.random.default_rng(5)
    one, other = sets(rng, DRAWS, clusters, (first, second))
    truth = float(np.mean([np.subtract(*sets(rng, 500, clusters, (first, second))[..., 0]).mean() for _ in range(12)]))
    difference = one - other
    units = jackknife.pseudo_values(difference[:, 0], difference[:, 1:])
    assert coverage(jackknife.interval(units), truth) >= 0.93
    assert coverage(jackknife.student(units), truth) < coverage(jackknife.interval(units), truth)
    if clusters == 12 and first is NEAR:
        assert coverage(jackknife.student(units), truth) < 0.93, "the simulation can tell it from t"


def test_it_is_no_interval_for_endless_clusters() -> None:
    """Why values of other numbers of clusters do not compare: their bias is as large as their spread."""
    rng = np.random.default_rng(6)
    one, other = sets(rng, 500, 5, (NEAR, FAR))
    difference = one - other
    few, many = difference[:, 0].mean(), np.subtract(*sets(rng, 10, 2000, (NEAR, FAR))[..., 0]).mean()
    assert abs(few - many) > 0.8 * difference[:, 0].std()


@pytest.mark.parametrize("clusters", [12, 30])
def test_false_alarms_where_there_is_no_difference(clusters: int) -> None:
    rng = np.random.default_rng(7)
    pair = sets(rng, DRAWS, clusters, (FAR, FAR))
    difference = pair[0] - pair[1]
    found = jackknife.interval(jackknife.pseudo_values(difference[:, 0], difference[:, 1:]))
    assert float((found.p < 0.05).mean()) <= 0.055
