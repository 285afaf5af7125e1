"""Intervals of shares of yes and no, where Student's t fails: it gives width 0 where all agree, and leaves 0 … 1.

Rows have Wilson's score interval (Wilson, 1927) with the effective sample size p (1 − p) / se² + 1, which is the number
of clusters for one clip each (Korn and Graubard, 1998, for the idea). Paired differences have Tango's score interval
(Statistics in Medicine 17, 1998) on clusters, whose test of no difference is McNemar's.
"""

from __future__ import annotations

import math

from scipy import optimize, special

from flashbench.types import Floats

Z = float(special.ndtri(0.975))


def wilson(share: float, se: float, clusters: int) -> tuple[float, float]:
    """95 % bounds of a share in 0 … 1 with standard error `se` over `clusters` (0: all clusters agree)."""
    size = share * (1 - share) / se**2 + 1 if se > 0 else float(clusters)
    middle = (share + Z**2 / (2 * size)) / (1 + Z**2 / size)
    half = Z / (1 + Z**2 / size) * math.sqrt(share * (1 - share) / size + Z**2 / (4 * size**2))
    return 0.0 if share == 0 else float(middle - half), 1.0 if share == 1 else float(middle + half)


def tango(differences: Floats) -> tuple[float, float, float]:
    """(low, high, two-sided p) of the mean of clusters' differences [G], each in −1 … 1; G ≥ 1.

    A difference between −1, 0 and 1 (a cluster of several clips) counts for its part, which widens the interval.
    """
    count = len(differences)
    gained, lost = float(differences.clip(min=0).sum()), float(-differences.clip(max=0).sum())
    effect = (gained - lost) / count

    def beyond(delta: float) -> float:
        """Squared distance from `delta` minus what the interval allows: negative inside it."""
        linear = -gained - lost + (2 * count - gained + lost) * delta
        root = math.sqrt(max(linear**2 + 8 * count * lost * delta * (1 - delta), 0.0))
        variance = 2 * (root - linear) / (4 * count) + delta * (1 - delta)
        return (gained - lost - count * delta) ** 2 - Z**2 * count * variance

    near = 1e-9  # from the effect itself, where both terms may be 0
    low = -1.0 if effect <= near - 1 else float(optimize.brentq(beyond, -1.0, effect - near))
    high = 1.0 if effect >= 1 - near else float(optimize.brentq(beyond, effect + near, 1.0))
    p = 2 * special.ndtr(-abs(gained - lost) / math.sqrt(gained + lost)) if gained + lost else 1.0
    return low, high, float(p)
