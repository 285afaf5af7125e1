"""The statistics against statsmodels, an independent implementation, where it has the same thing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint
from support.fake_scores import FakeMetric, frame, line

from flashbench import stats
from flashbench.shares import wilson
from flashbench.stats import benjamini_hochberg, contrast, estimate, holm
from flashbench.types import Floats

SHOWN = FakeMetric("shown", "higher", binary=True)
NIQE = FakeMetric("niqe", "lower")
P = st.one_of(st.just(float("nan")), st.sampled_from([0.0, 0.01, 0.02, 0.04, 1.0]), st.floats(0, 1))
"""Few values, so that ties are common."""


@pytest.mark.parametrize(("ours", "theirs"), [(holm, "holm"), (benjamini_hochberg, "fdr_bh")])
@given(p=st.lists(P, max_size=12))
def test_corrections_for_many_tests(ours: Callable[[Floats], Floats], theirs: str, p: list[float]) -> None:
    values = np.array(p, dtype=np.float64)
    members = ~np.isnan(values)
    adjusted = ours(values)
    assert np.isnan(adjusted[~members]).all()
    if members.any():
        np.testing.assert_allclose(adjusted[members], multipletests(values[members], method=theirs)[1], rtol=1e-12)


@pytest.mark.parametrize("clusters", [3, 5, 12, 30, 100])
def test_wilsons_interval_of_one_clip_a_cluster(clusters: int) -> None:
    for yes in range(clusters + 1):
        low, high = proportion_confint(yes, clusters, alpha=1 - stats.LEVEL, method="wilson")
        assert wilson(yes / clusters, clusters) == pytest.approx((low, high), abs=1e-12)
        exact = proportion_confint(yes, clusters, alpha=2 * (1 - stats.LEVEL), method="beta")  # one-sided bounds
        found = estimate(shares([i < yes for i in range(clusters)]), SHOWN, "a")
        assert (found.value, found.n) == (pytest.approx(yes / clusters), clusters)
        assert (found.low, found.high) == pytest.approx((min(low, exact[0]), max(high, exact[1])), abs=1e-12)


@pytest.mark.parametrize(
    ("both", "gained", "lost", "neither"), [(3, 1, 0, 4), (5, 4, 1, 2), (0, 6, 0, 0), (10, 7, 7, 10), (40, 3, 12, 45)]
)
def test_mcnemars_test_of_one_clip_a_cluster(both: int, gained: int, lost: int, neither: int) -> None:
    first = [True] * (both + gained) + [False] * (lost + neither)
    second = [True] * both + [False] * gained + [True] * lost + [False] * neither
    found = contrast(shares(first, second), SHOWN, "a", "b")
    test = mcnemar([[both, gained], [lost, neither]], exact=True)
    assert found.effect == pytest.approx((gained - lost) / len(first))
    assert found.p == pytest.approx(test.pvalue, abs=1e-12)


@pytest.mark.parametrize(("clusters", "clips"), [(3, 1), (5, 5), (12, 3), (30, 2)])
def test_cluster_robust_means(clusters: int, clips: int) -> None:
    """Least squares on a constant with the covariance of Liang and Zeger for clusters of one size.

    Its factor for few clusters, G / (G − 1) · (N − 1) / (N − 1), is the one that makes the two variances equal.
    """
    rng = np.random.default_rng(clusters)
    values, others = rng.normal(0, 1, (2, clusters, 1)) + rng.normal(0, 0.5, (2, clusters, clips))
    table = frame([*lines("a", values), *lines("b", others)])

    found = estimate(table, NIQE, "a")
    assert (found.low, found.high) == pytest.approx(robust(values)[1:], rel=1e-9)

    paired, (error, low, high) = contrast(table, NIQE, "a", "b"), robust(values - others)
    assert paired.se == pytest.approx(error, rel=1e-9)
    assert (paired.low, paired.high) == pytest.approx((low, high), rel=1e-9)


def robust(values: Floats) -> tuple[float, float, float]:
    """(standard error, low, high) of the mean of [clusters, clips], on clusters − 1 degrees of freedom."""
    groups = np.repeat(np.arange(len(values)), values.shape[1])
    model = sm.OLS(values.ravel(), np.ones(values.size))
    fit = model.fit(cov_type="cluster", cov_kwds={"groups": groups, "use_correction": True}, use_t=True)
    low, high = fit.conf_int(alpha=1 - stats.LEVEL)[0]
    return float(fit.bse[0]), float(low), float(high)


def lines(row: str, values: Floats) -> list[dict[str, object]]:
    return [line(row, f"c{g}/{i}", "niqe", x) for g, clips in enumerate(values) for i, x in enumerate(clips)]


def shares(*rows: list[bool]) -> pd.DataFrame:
    """Rows a, b … with one clip a cluster."""
    named = zip("ab", rows, strict=False)
    return frame([line(row, f"c{g}/0", "shown", float(x)) for row, yes in named for g, x in enumerate(yes)])
