"""The test of drift: is the candidate farther from the baseline than the baseline is from itself? Arrays alone.

A prompt's distances b = d(A, B) and a = d(A, A2), means over its seeds, give r = (b − a) / (b + a), −1 … 1: their
difference in units of their sum, so that no prompt weighs more because it is hard to repeat. Where B is made as A2 is,
both are draws of one law given A, so r is as likely −r whatever that law is: turning the signs of whole prompts is an
exact test (Fisher 1935, section 21) at any number of prompts, for skewed and heavy-tailed distances too.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from scipy import special

from flashbench.types import Floats

ALPHA = 0.01
"""A nightly test at 5 % is red every three weeks."""
EXACT = 24
"""Prompts up to which all turns of signs are counted."""
_TIES = 1e-9


def relative(far: Floats, near: Floats) -> Floats:
    """(far − near) / (far + near), −1 … 1, of distances ≥ 0; 0 where both are 0."""
    total = far + near
    return np.divide(far - near, total, out=np.zeros_like(total), where=total > 0)


def turned(units: Floats) -> Floats:
    """One-sided p of a mean above 0 under turned signs: units [..., G] → [...], in (0, 1]; 1 where all are 0.

    Exact up to `EXACT` units that are not 0 (those that are decide nothing), counted over sums of halves; Student's t
    of those that are not 0 above. Their order does not matter.
    """
    rows = units.reshape(-1, units.shape[-1])
    return np.array([_turned(row[row != 0]) for row in rows]).reshape(units.shape[:-1])


def _turned(units: Floats) -> float:
    count = len(units)
    if count > EXACT:
        error = units.std(ddof=1) / math.sqrt(count)
        return float(special.stdtr(count - 1, -units.mean() / error)) if error > 0 else 2.0**-count
    ordered = np.sort(units)
    left, right = (part @ _patterns(len(part)) for part in (ordered[: count // 2], ordered[count // 2 :]))
    right.sort()
    # Sums of halves that reach the sum that was seen; ties up to rounding count.
    below = np.searchsorted(right, ordered.sum() - _TIES - left)
    return float((len(right) - below).sum()) / (len(left) * len(right))


@cache
def _patterns(count: int) -> Floats:
    """All signs ±1 of so many units: [count, 2^count]."""
    bits = np.arange(2**count) >> np.arange(count)[:, None] & 1
    return np.asarray(1.0 - 2.0 * bits)


def against_again(candidate: Floats, again: Floats, most: float) -> tuple[Floats, Floats]:
    """The p of "no farther than the baseline run again", and p of "at least `most` times as far".

    Args:
        candidate, again: mean distances of each prompt [..., G], ≥ 0.
        most: a ratio above 1; in the second test the candidate's distances are divided by it.
    """
    return turned(relative(candidate, again)), turned(relative(again, candidate / most))


def against_margin(candidate: Floats, margin: float) -> tuple[float, float]:
    """The p of "no farther than the margin", and p of "at least as far", without a repeated baseline: distances [G].

    The first is twice the smaller of Student's t's on the mean and the exact sign test's on the median, the second the
    larger of theirs. Distances are skewed to the right, where t seldom calls the mean too high (at most 0.6 % at 1 %)
    and calls it too low in 2 to 12 of 100 (lognormal, σ 0.2 to 1, 8 to 30 prompts): the median has to agree.
    """
    above, below = int((candidate > margin).sum()), int((candidate < margin).sum())
    off = above + below
    signs = [float(special.bdtr(off - count, off, 0.5)) for count in (above, below)]
    means = [1.0, 1.0]
    if (count := len(candidate)) > 1:
        error = float(candidate.std(ddof=1)) / math.sqrt(count)
        gap = float(candidate.mean()) - margin
        least = 2.0**-count  # t has none where nothing varies
        flat = [least if gap > 0 else 1.0, least if gap < 0 else 1.0]
        means = flat if error == 0 else [float(special.stdtr(count - 1, x)) for x in (-gap / error, gap / error)]
    return min(1.0, 2 * min(signs[0], means[0])), max(signs[1], means[1])


def least(alpha: float, tests: int = 1) -> int:
    """The fewest prompts at which the test can decide: 2^−G ≤ alpha / tests."""
    return math.ceil(math.log2(tests / alpha) - _TIES)
