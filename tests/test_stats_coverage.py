"""Do the 95 % intervals cover the truth in 93–97 % of simulated experiments? Fixed seeds, known truths."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from flashbench import stats

Experiment = Callable[[int, np.random.Generator], bool]
Floats = npt.NDArray[np.float64]
DRAWS = {10: 1500, 30: 700}
"""Experiments by number of clusters: a coverage of 0.95 is then known to ± 0.011 and ± 0.016."""
D = 6
"""Features of the simulated distance; NIQE has 36, which only costs time."""
COUNTS, SUMS = 1, 1 + D
SIZE = 1 + D + D * D
SD_CLUSTER, SD_ROW, SD_SHARED, SD_OWN = 0.4, 0.2, 0.6, 0.8


def experiment_of_means(clusters: int, rng: np.random.Generator) -> bool:
    """Paired differences with a true mean of 0.7, uneven numbers of cases and seeds, cluster and case effects."""
    cases = rng.integers(1, 4, clusters)
    unit = np.repeat(np.arange(clusters), cases)
    seeds = rng.integers(1, 4, len(unit))
    case = np.repeat(np.arange(len(unit)), seeds)
    effects = 0.7 + 2.0 * rng.standard_normal(clusters)[unit] + 0.5 * rng.standard_normal(len(unit))
    values = effects[case] + rng.standard_normal(len(case))
    found = stats.mean(values, unit[case].astype(np.str_), case.astype(np.str_))
    return found.low <= 0.7 <= found.high


def distance(statistics: Floats) -> float:
    """NIQE's distance of a Gaussian fit from the pristine one, here N(0, 1): √(μᵀ((1 + Σ)/2)⁻¹μ)."""
    n, total, products = statistics[0], statistics[COUNTS:SUMS], statistics[SUMS:].reshape(D, D)
    mean = total / n
    covariance = (products - n * np.outer(mean, mean)) / (n - 1)
    return float(np.sqrt(mean @ np.linalg.solve((np.eye(D) + covariance) / 2, mean)))


def paired_distance(statistics: Floats) -> float:
    return distance(statistics[:SIZE]) - distance(statistics[SIZE:])


def population(mean: Floats) -> float:
    variance = SD_CLUSTER**2 + SD_ROW**2 + SD_SHARED**2 + SD_OWN**2
    return float(np.sqrt(mean @ mean / ((1 + variance) / 2)))


MEANS = np.zeros((2, D))
MEANS[0, :2], MEANS[1, [0, 2]] = (3.0, 1.0), (2.0, 0.7)
TRUTH = population(MEANS[0]) - population(MEANS[1])


def experiment_of_pools(clusters: int, rng: np.random.Generator) -> bool:
    """Two rows on the same clips: cluster effects and content shared, a row × cluster effect, blocks as in NIQE."""
    unit = np.repeat(np.arange(clusters), rng.integers(1, 4, clusters))
    shared = SD_CLUSTER * rng.standard_normal((clusters, D))[unit][:, None]
    shared = shared + SD_SHARED * rng.standard_normal((len(unit), 12, D))
    parts = []
    for mean in MEANS:
        own = SD_ROW * rng.standard_normal((clusters, D))[unit][:, None]
        x = mean + shared + own + SD_OWN * rng.standard_normal(shared.shape)
        products = np.einsum("nbi,nbj->nij", x, x).reshape(len(unit), -1)
        parts += [np.full((len(unit), 1), 12.0), x.sum(axis=1), products]
    found = stats.pooled(np.concatenate(parts, axis=1), unit.astype(np.str_), paired_distance)
    return found.low <= TRUTH <= found.high


@pytest.mark.parametrize("clusters", [10, 30])
@pytest.mark.parametrize(
    "experiment",
    [experiment_of_means, experiment_of_pools],
    ids=["mean", "pooled"],
)
def test_intervals_cover_the_truth(experiment: Experiment, clusters: int) -> None:
    rng = np.random.default_rng(20250211)
    covered = np.mean([experiment(clusters, rng) for _ in range(DRAWS[clusters])])
    assert 0.93 <= covered <= 0.97, f"covered {covered:.3f}"


def test_taking_clips_for_independent_covers_less() -> None:
    """The simulation can tell a wrong unit from the right one."""
    rng, covered = np.random.default_rng(3), 0
    for _ in range(500):
        values = 0.7 + np.repeat(rng.standard_normal(10), 5) + 0.3 * rng.standard_normal(50)
        clip = np.arange(50).astype(np.str_)
        found = stats.mean(values, clip, clip)
        covered += found.low <= 0.7 <= found.high
    assert covered / 500 < 0.75
