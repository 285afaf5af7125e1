"""How many clusters a difference takes: for the margin or the interval's far end, in the family that is tested."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as sps
from support import fake_scores
from support.scored_runs import LEVELS, compared, scored, shifted

from flashbench import shares, stats
from flashbench.comparison.verdict import needed, sentence
from flashbench.metrics.base import Metric
from flashbench.reporting.numbers import rounded_up

PSNR: Metric = fake_scores.METRICS["psnr"]  # type: ignore[assignment]
SHOWN: Metric = fake_scores.METRICS["shown"]  # type: ignore[assignment]


def test_what_is_not_resolved_says_how_many_the_margin_takes() -> None:
    found = compared(scored("A", LEVELS), scored("B", shifted(0.01)), margin=0.005)
    result = found.results[0]
    assert result.verdict == "undecided"
    spread = float(np.std(np.array(shifted(0.01)) - LEVELS, ddof=1))
    n = int(result.needed)
    least = [stats.smallest_resolvable(spread / math.sqrt(count), count) for count in (n, n - 1)]
    assert least[0] <= 0.005 < least[1]
    ending = f"8 pairs; a difference as large as the margin 0.005 takes about {rounded_up(n)} videos to resolve."
    assert sentence(result, "videos").endswith(ending)


def test_without_a_margin_it_says_what_the_interval_leaves_open() -> None:
    """Not how many the difference seen would take: that number is as uncertain as the difference."""
    swapped = compared(scored("A", LEVELS), scored("B", [LEVELS[i ^ 1] for i in range(8)]))
    ending = "difference of 0.88, the far end of its interval, takes about 14 videos to resolve, a smaller one more."
    assert sentence(swapped.results[0], "videos").replace("-0.88", "0.88").endswith(ending)
    near = compared(scored("A", LEVELS), scored("B", shifted(0.01)))
    ending = "short of 0.027, the far end of its interval, takes more videos, and a margin tells how many."
    assert sentence(near.results[0], "videos").endswith(ending)


def test_a_margin_that_nobody_can_resolve() -> None:
    found = compared(scored("A", LEVELS), scored("B", [LEVELS[i ^ 1] for i in range(8)]), margin=1e-5)
    text = sentence(found.results[0], "videos")
    assert text.endswith("as large as the margin 1e-05 takes more than 100,000 videos to resolve.")


def contrast(effect: float, clusters: int, *, se: float, clips: int = 1) -> stats.Contrast:
    nothing = math.nan
    return stats.Contrast(
        metric="psnr", first="1", second="0", replica=0, effect=effect, low=nothing, high=nothing, p=nothing, se=se,
        n=clusters * clips, of=clusters * clips, clusters=clusters,
    )  # fmt: skip


def test_the_number_needed_is_the_textbooks() -> None:
    # Two-sided 5 %, 80 % power, effect of half a standard deviation: 34 pairs (Cohen, 1988).
    seen = contrast(0.3, 10, se=1 / math.sqrt(10))
    assert needed(seen, PSNR, 0.5) == needed(seen, PSNR, -0.5) == 34
    assert needed(seen, PSNR, 0.0) == needed(seen, PSNR, 1e-6) == math.inf
    assert needed(contrast(0.3, 10, se=1e-9), PSNR, 0.5) == 3
    assert math.isnan(needed(contrast(0.3, 2, se=math.nan), PSNR, 0.5))
    assert math.isnan(needed(contrast(1.0, 6, se=0.0), PSNR, 0.5)), "the same difference everywhere tells no spread"


@pytest.mark.parametrize("tests", [1, 7])
def test_so_many_find_it_in_the_family_that_is_tested(tests: int) -> None:
    """Simulated power of the smallest p among `tests`, of which the others are of no difference."""
    n = int(needed(contrast(0.0, 10, se=1 / math.sqrt(10)), PSNR, 0.5, tests))
    rng = np.random.default_rng(tests)
    values = rng.standard_normal((1500, tests, n))
    values[:, 0] += 0.5
    p = sps.ttest_1samp(values, 0.0, axis=2).pvalue
    found = np.mean([stats.holm(each)[0] < 0.05 for each in p])
    assert 0.77 < found < 0.84


@pytest.mark.parametrize(("clips", "square"), [(1, 0.4), (5, 0.12)])
def test_the_number_needed_of_shares_comes_from_their_test(clips: int, square: float) -> None:
    seen = contrast(0.1, 20, se=math.sqrt((square - 0.01) / 19), clips=clips)
    alpha = 0.05 / 7
    n = int(needed(seen, SHOWN, 0.2, 7))
    power = [shares.power(0.2, count, square, clips, alpha=alpha) for count in (n - 1, n)]
    assert power[0] < 0.8 <= power[1]
    if clips == 1:  # pairs that change, two in five, by chance of 3 : 1 for the one row: a mean of 0.2
        rng = np.random.default_rng(0)
        drawn = rng.choice([-1.0, 0.0, 1.0], (600, n), p=[0.1, 0.6, 0.3])
        assert np.mean([shares.sign_flip(each) <= alpha for each in drawn]) == pytest.approx(0.8, abs=0.04)
