"""Shares have score intervals: against references, at the edges, and in coverage."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import optimize
from scipy import stats as reference
from support.fake_scores import frame, line, metric

from flashbench import proportions, stats


@pytest.mark.parametrize(("yes", "clusters"), [(0, 3), (1, 10), (42, 48), (48, 48)])
def test_wilson_is_scipys(yes: int, clusters: int) -> None:
    values = np.r_[np.ones(yes), np.zeros(clusters - yes)]
    low, high = proportions.wilson(yes / clusters, float(values.std(ddof=1)) / math.sqrt(clusters), clusters)
    expected = reference.binomtest(yes, clusters).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)


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
    differences = np.r_[np.ones(gained), -np.ones(lost), np.zeros(count - gained - lost)]
    low, high, p = proportions.tango(differences)
    assert _score(gained, lost, count, low) == pytest.approx(proportions.Z, abs=1e-3)
    assert _score(gained, lost, count, high) == pytest.approx(-proportions.Z, abs=1e-3)
    assert p == pytest.approx(reference.chi2.sf((gained - lost) ** 2 / (gained + lost), 1))
    assert proportions.tango(-differences)[:2] == pytest.approx((-high, -low))
    assert (p < 0.05) == (low > 0 or high < 0)


def test_where_nothing_changes_the_interval_is_not_a_point() -> None:
    z2 = proportions.Z**2
    for count in (3, 48):
        assert proportions.tango(np.zeros(count)) == pytest.approx((-z2 / (count + z2), z2 / (count + z2), 1.0))
    low, high, _ = proportions.tango(np.ones(5))
    assert (low, high) == (pytest.approx(5 * 0.0262, abs=0.01), 1.0)


def test_parts_of_clusters_widen_it() -> None:
    bounds = [proportions.tango(np.full(20, share)) for share in (0.0, 0.2, 0.5)]
    assert all(a[1] - a[0] < b[1] - b[0] for a, b in pairwise(bounds))


@pytest.mark.parametrize(("share", "clusters"), [(0.9, 48), (0.5, 12), (0.98, 48)])
def test_coverage_of_rows_and_differences(share: float, clusters: int) -> None:
    draw = np.random.default_rng(0)
    yes = draw.binomial(clusters, share, 4000)
    bounds = {}
    for k in set(yes):
        se = math.sqrt(k / clusters * (1 - k / clusters) / (clusters - 1))
        bounds[int(k)] = proportions.wilson(k / clusters, se, clusters)
    assert 0.925 < np.mean([bounds[k][0] <= share <= bounds[k][1] for k in yes]) <= 1
    pairs = draw.multinomial(clusters, [0.1, 0.05, 0.85], 2000)
    inside = {
        (a, b): proportions.tango(np.r_[np.ones(a), -np.ones(b), np.zeros(clusters - a - b)])
        for a, b, _ in {tuple(map(int, one)) for one in pairs}
    }
    assert 0.93 < np.mean([inside[a, b][0] <= 0.05 <= inside[a, b][1] for a, b, _ in pairs.tolist()]) <= 1


def test_a_binary_metric_has_them_in_estimates_and_contrasts() -> None:
    rows = {"a": [1.0] * 12, "b": [1.0] * 12}
    scores = frame([line(row, f"s{i}/0", "shown", v) for row, values in rows.items() for i, v in enumerate(values)])
    found = stats.estimate(scores, metric("shown"), "a")  # type: ignore[arg-type]
    assert (found.value, found.high) == (1.0, 1.0) and found.low == pytest.approx(12 / (12 + proportions.Z**2))
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
