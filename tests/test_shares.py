"""Shares of clips: intervals, the exact paired test and its power, against scipy, enumeration and simulation."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize
from scipy import stats as sps

from flashbench import shares

Floats = npt.NDArray[np.float64]


def changed(gained: int, lost: int, count: int) -> Floats:
    return np.r_[np.ones(gained), -np.ones(lost), np.zeros(count - gained - lost)]


# --- the test -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gained", "lost", "count"), [(12, 2, 44), (1, 5, 48), (3, 3, 20), (0, 2, 30), (9, 1, 10)])
def test_with_one_clip_a_cluster_it_is_mcnemars(gained: int, lost: int, count: int) -> None:
    expected = sps.binomtest(gained, gained + lost).pvalue
    assert shares.sign_flip(changed(gained, lost, count)) == pytest.approx(expected)


@pytest.mark.parametrize("count", [1, 4, 9, 12])
@pytest.mark.parametrize("kind", ["five clips", "uneven clips", "real"])
def test_it_counts_the_ways_to_sign(count: int, kind: str) -> None:
    rng = np.random.default_rng(count)
    for _ in range(20):
        sizes = rng.choice([2, 3, 5], count) if kind == "uneven clips" else np.full(count, 5)
        differences = rng.uniform(-1, 1, count) if kind == "real" else rng.integers(-sizes, sizes + 1) / sizes
        sums = np.array(list(itertools.product((-1, 1), repeat=count))) @ differences
        expected = float(np.mean(np.abs(sums) >= abs(differences.sum()) - 1e-9))
        # Real differences are rounded to 1 / 20,000 of their sum, which may tie a sum or two.
        assert shares.sign_flip(differences) == pytest.approx(expected, abs=0.01 if kind == "real" else 1e-12)


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=30))
def test_it_takes_no_side(steps: list[int]) -> None:
    differences = np.array(steps) / 5
    p = shares.sign_flip(differences)
    assert 2.0 ** (1 - len(steps)) - 1e-12 <= p <= 1
    assert shares.sign_flip(-differences) == p and shares.sign_flip(differences[::-1]) == pytest.approx(p)
    low, high, same = shares.paired(differences)
    assert same == p and -1 <= low <= differences.mean() + 1e-8 and differences.mean() - 1e-8 <= high <= 1
    assert low <= 0 <= high or p < 0.05, "an interval without 0 says no more than the test"
    assert shares.paired(-differences)[:2] == pytest.approx((-high, -low), abs=1e-6)


def test_identical_differences_have_the_sign_tests_p() -> None:
    assert shares.sign_flip(np.full(8, 0.2)) == shares.sign_flip(np.full(8, math.pi / 4)) == 2.0**-7


def test_a_hundred_clusters_are_fast() -> None:
    rng = np.random.default_rng(0)
    for differences in (rng.integers(-5, 6, 100) / 5, rng.uniform(-1, 1, 100)):
        taken = []
        for _ in range(5):
            start = time.perf_counter()
            shares.sign_flip(differences)
            taken.append(time.perf_counter() - start)
        assert min(taken) < 0.02


def test_as_powerful_as_permutation_by_chance() -> None:
    """12 prompts of 5 seeds, half of the clips against seven tenths: an independent test, by random signs."""
    rng = np.random.default_rng(5)
    signs = rng.choice([-1, 1], (2000, 12))
    exact, drawn = [], []
    for _ in range(300):
        own = rng.beta(2, 2, (12, 1))
        steps = (rng.random((12, 5)) < own).sum(1) - (rng.random((12, 5)) < own**0.5).sum(1)
        exact.append(shares.sign_flip(steps / 5) < 0.05)
        drawn.append(np.mean(np.abs(signs @ steps) >= abs(steps.sum())) < 0.05)
    assert 0.3 < np.mean(exact) < 0.8 and abs(np.mean(exact) - np.mean(drawn)) < 0.03


# --- intervals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("yes", "clusters"), [(0, 3), (1, 10), (42, 48), (48, 48)])
def test_wilson_is_scipys(yes: int, clusters: int) -> None:
    expected = sps.binomtest(yes, clusters).proportion_ci(method="wilson")
    assert shares.wilson(yes / clusters, clusters) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("yes", "clusters"), [(1, 10), (5, 12), (47, 48), (4, 4)])
def test_a_row_of_one_clip_each_has_wilsons_or_the_exact_bound(yes: int, clusters: int) -> None:
    se = float(np.std(np.r_[np.ones(yes), np.zeros(clusters - yes)], ddof=1)) / math.sqrt(clusters)
    wilson = sps.binomtest(yes, clusters).proportion_ci(method="wilson")
    exact = sps.binomtest(yes, clusters).proportion_ci(0.9, method="exact")
    expected = min(wilson.low, exact.low), max(wilson.high, exact.high)
    assert shares.interval(yes / clusters, se, clusters) == pytest.approx(expected)


@pytest.mark.parametrize(("clusters", "least"), [(4, 0.95), (5, 0.93), (12, 0.915), (30, 0.925), (100, 0.925)])
def test_rows_of_one_clip_each_are_covered_at_every_share(clusters: int, least: float) -> None:
    """Exact sums over all outcomes. Wilson's alone falls to 0.83."""
    yes, truths = np.arange(clusters + 1), np.linspace(0.001, 0.999, 999)
    se = [math.sqrt(k / clusters * (1 - k / clusters) / max(clusters - 1, 1)) for k in yes]
    low, high = np.array([shares.interval(k / clusters, s, clusters) for k, s in zip(yes, se, strict=True)]).T
    inside = (low <= truths[:, None] + 1e-12) & (truths[:, None] <= high + 1e-12)
    covered = (sps.binom.pmf(yes, clusters, truths[:, None]) * inside).sum(1)
    assert covered.min() >= least and 0.95 <= covered.mean() <= 0.985


def test_where_all_clips_agree_clusters_count_and_no_interval_is_a_point() -> None:
    z2 = shares.Z**2
    assert shares.interval(1.0, 0.0, 20) == pytest.approx((20 / (20 + z2), 1.0))
    for count in (3, 48):
        assert shares.paired(np.zeros(count)) == pytest.approx((-z2 / (count + z2), z2 / (count + z2), 1.0))
    low, high, p = shares.paired(np.ones(8))
    assert 0.3 < low < 0.4 and (high, p) == (1.0, 2.0**-7)
    low, high, _ = shares.paired(np.full(20, 0.2))
    assert 0 < low < 0.2 < high < 1


def test_alike_and_unlike_clips_of_a_cluster_count_for_what_they_tell() -> None:
    """20 clusters of 5 clips, half of them 1: all alike they are 20 clips; as chance would have it, fewer than 100."""
    alike = np.std(np.repeat([0.0, 1.0], 10), ddof=1) / math.sqrt(20)
    by_chance = math.sqrt(0.25 / 100)
    widths = {n: np.diff(shares.wilson(0.5, n))[0] for n in (20, 50, 100)}
    assert np.diff(shares.interval(0.5, float(alike), 20))[0] == pytest.approx(widths[20])
    assert widths[100] < np.diff(shares.interval(0.5, by_chance, 20))[0] < widths[50]


def _score(gained: int, lost: int, count: int, delta: float) -> float:
    """Tango's statistic from its definition: the likelihood maximised numerically under the difference `delta`."""
    same = count - gained - lost

    def unlikely(minus: float) -> float:
        terms = [(gained, minus + delta), (lost, minus), (same, 1 - 2 * minus - delta)]
        return -sum(n * math.log(max(p, 1e-300)) for n, p in terms if n)

    found = optimize.minimize_scalar(
        unlikely, bounds=(max(0.0, -delta), (1 - delta) / 2), method="bounded", options={"xatol": 1e-12}
    )
    return float((gained - lost - count * delta) / math.sqrt(count * (2 * found.x + delta * (1 - delta))))


@pytest.mark.parametrize(("gained", "lost", "count"), [(12, 2, 44), (1, 5, 48), (3, 3, 20), (0, 2, 30)])
def test_tango_ends_where_its_statistic_is_196(gained: int, lost: int, count: int) -> None:
    low, high = shares.tango(gained / count, lost / count, count)
    assert _score(gained, lost, count, low) == pytest.approx(shares.Z, abs=1e-3)
    assert _score(gained, lost, count, high) == pytest.approx(-shares.Z, abs=1e-3)
    found = shares.paired(changed(gained, lost, count))
    assert found[:2] == pytest.approx((low, high) if found[2] < 0.05 else (min(low, 0), max(high, 0)))


def alike(clusters: int, clips: int, truths: tuple[float, float], own: float, draws: int = 1500) -> list[Floats]:
    """Clusters' shares [D, G] of two rows, of which a normal latent value has the part `own` of a cluster in a row."""
    rng = np.random.default_rng(clusters)
    found = []
    for share in truths:
        latent = math.sqrt(own) * rng.standard_normal((draws, clusters, 1))
        latent = latent + math.sqrt(1 - own) * rng.standard_normal((draws, clusters, clips))
        found.append((latent < sps.norm.ppf(share)).mean(axis=2))
    return found


@pytest.mark.parametrize(
    ("clusters", "clips", "share", "own"),
    [(5, 5, 0.98, 0.9), (12, 5, 0.7, 0.9), (30, 5, 0.9, 0.7), (100, 5, 0.98, 0.7)],
)
def test_rows_are_covered_in_the_worst_cells(clusters: int, clips: int, share: float, own: float) -> None:
    """With the variance that clusters show, unmoved, the last two cover 0.92 and 0.90."""
    covered = []
    for values in alike(clusters, clips, (share, share), own)[0]:
        low, high = shares.interval(float(values.mean()), float(values.std(ddof=1)) / math.sqrt(clusters), clusters)
        covered.append(low <= share + 1e-9 and share <= high + 1e-9)
    assert np.mean(covered) > 0.93 - 2 * math.sqrt(0.93 * 0.07 / len(covered))


@pytest.mark.parametrize(
    ("clusters", "clips", "truths", "own"),
    [(12, 5, (0.5, 0.7), 0.0), (12, 5, (0.5, 0.5), 0.6), (30, 5, (0.98, 0.95), 0.0), (100, 1, (0.98, 0.95), 0.0)],
)
def test_differences_are_covered_in_the_worst_cells(
    clusters: int, clips: int, truths: tuple[float, float], own: float
) -> None:
    first, second = alike(clusters, clips, truths, own)
    found = np.array([shares.paired(differences) for differences in first - second])
    true = truths[0] - truths[1]
    covered = np.mean((found[:, 0] <= true + 1e-9) & (true <= found[:, 1] + 1e-9))
    assert covered > 0.93 - 2 * math.sqrt(0.93 * 0.07 / len(found))
    rejected, apart = found[:, 2] < 0.05, (found[:, 0] > 0) | (found[:, 1] < 0)
    assert not (apart & ~rejected).any() and np.mean(rejected & ~apart) < 0.02
    assert true != 0 or np.mean(rejected) < 0.055


# --- power --------------------------------------------------------------------------------------------------------


def test_power_of_mcnemars_test_is_its_sum_over_all_outcomes() -> None:
    pairs, discordant, better = 40, 0.4, 0.8
    expected = sum(
        sps.binom.pmf(m, pairs, discordant) * sps.binom.pmf(x, m, better)
        for m in range(1, pairs + 1)
        for x in range(m + 1)
        if sps.binomtest(x, m).pvalue <= 0.05
    )
    assert shares.power(0.24, pairs, discordant, 1) == pytest.approx(expected)
    assert shares.power(-0.24, pairs, discordant, 1) == pytest.approx(expected)


@pytest.mark.parametrize("tests", [1, 7])
@pytest.mark.parametrize(("clusters", "other"), [(12, 0.8), (12, 0.95), (30, 0.7), (100, 0.6)])
@pytest.mark.parametrize("clips", [2, 5])
def test_power_of_clustered_shares_is_what_a_simulation_finds(
    clusters: int, other: float, clips: int, tests: int
) -> None:
    """Half of the clips of one row and `other` of the other, by a normal threshold that shares prompts and rows."""
    rng = np.random.default_rng(clusters)
    own = math.sqrt(0.6) * rng.standard_normal((800, clusters, 1))
    rest = math.sqrt(0.4) * rng.standard_normal((2, 800, clusters, clips))
    differences = (own + rest[0] < 0).mean(2) - (own + rest[1] < sps.norm.ppf(other)).mean(2)
    found = np.mean([shares.sign_flip(each) <= 0.05 / tests for each in differences])
    square, effect = float(np.mean(differences**2)), float(np.mean(differences))
    assert shares.power(effect, clusters, square, clips, alpha=0.05 / tests) == pytest.approx(found, abs=0.15)


@pytest.mark.parametrize("clips", [1, 5])
def test_the_smallest_resolvable_difference_is_found_four_times_in_five(clips: int) -> None:
    for clusters, square in ((12, 0.1), (30, 0.3), (200, 0.5), (50_000, 0.4)):
        least = shares.smallest_resolvable(square, clusters, clips)
        assert shares.power(least, clusters, square, clips) == pytest.approx(0.8, abs=1e-2)
        strict = shares.smallest_resolvable(square, clusters, clips, alpha=0.05 / 7)
        assert math.isnan(strict) or strict > least
    assert math.isnan(shares.smallest_resolvable(0.3, 5, clips)), "2 of the 32 ways are more than 5 %"
