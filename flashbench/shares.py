"""Shares of clips that are 1 or 0: the interval of a row, of a paired difference, its test, and the test's power.

The unit is the cluster (a prompt, or a source of material). A row's share is the mean of its clusters' shares, a paired
difference that of the clusters' differences, each in −1 … 1. With one clip a cluster all that follows is textbook; with
several, what the textbook takes for the number of clips is an effective number of clips (Korn and Graubard, Survey
Methodology 24, 1998):

    n = s / v,  v = (1 − w) v₁ + w s / G,  w = c / (c + G s),

with s the variance of one clip, p (1 − p) of a share, and v₁ that of the mean as the G clusters show it. v is drawn
towards s / G, where all clips of a cluster agree: a few clusters that differ from the rest tell little of how much
clusters differ. With one clip a cluster n is G whatever w is. c was chosen by simulation
(benchmarks/intervals_shares.py).

* A row has Wilson's interval (1927), which alone covers as little as 0.83 near 0 and 1 (Brown, Cai and DasGupta,
  Statistical Science 16, 2001): a bound gives way to Clopper and Pearson's (1934) exact one-sided one where that is
  farther out, as it is where few clips are in the minority.
* A difference is tested by turning the signs of the clusters' differences in all 2ᴳ ways (Fisher, 1935): exact where
  the two rows may be exchanged within a cluster. With one clip a cluster it is McNemar's exact test.
* Its interval is Tango's (Statistics in Medicine 17, 1998), with 0 in it where the test does not reject 0: the set of
  differences that are not rejected, 0 by the exact test and others by Tango's score.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from flashbench.means import LEVEL
from flashbench.types import Floats

Z = float(special.ndtri((1 + LEVEL) / 2))
POWER = 0.8
ROW, PAIR = 0.5, 0.25
"""c of the effective number of clips, of a row's share and of a paired difference."""
COMMON = 720_720
"""Clusters' shares of up to 16 clips are whole numbers of one step of 1 / 720,720, which all of 1 … 16 divide."""
MOST_STEPS = 20_000
"""Differences that add up to more steps are rounded to so many: without regard to sign, so the test stays exact."""


def interval(share: float, se: float, clusters: int) -> tuple[float, float]:
    """95 % bounds of a row's share in 0 … 1.

    Args:
        share: the mean over clusters.
        se: its standard error (sd of the clusters' shares / √clusters; 0 where they are equal).
        clusters: number of clusters, at least 1.
    """
    size = _effective(share * (1 - share), se**2 * (clusters - 1) / clusters, clusters, ROW)
    low, high = wilson(share, size)
    return min(low, _exact(share, size)), max(high, 1 - _exact(1 - share, size))


def wilson(share: float, size: float) -> tuple[float, float]:
    """Wilson's 95 % bounds of a share among `size` independent clips."""
    middle = (share + Z**2 / (2 * size)) / (1 + Z**2 / size)
    half = Z / (1 + Z**2 / size) * math.sqrt(share * (1 - share) / size + Z**2 / (4 * size**2))
    return 0.0 if share == 0 else middle - half, 1.0 if share == 1 else middle + half


def paired(differences: Floats, level: float = LEVEL) -> tuple[float, float, float]:
    """(low, high, two-sided p) of the mean of clusters' differences [G], each in −1 … 1; G ≥ 1.

    `level` is the interval's, 0 … 1.
    """
    count = len(differences)
    gained, lost = float(differences.clip(min=0).mean()), float(-differences.clip(max=0).mean())
    spread = max(gained + lost - (gained - lost) ** 2, 0.0)
    low, high = tango(gained, lost, _effective(spread, float(differences.var()) / count, count, PAIR), level)
    p = sign_flip(differences)
    return (min(low, 0.0), max(high, 0.0), p) if p >= 1 - level else (low, high, p)


def tango(gained: float, lost: float, size: float, level: float = LEVEL) -> tuple[float, float]:
    """Tango's bounds of gained − lost, shares of `size` independent pairs that changed for and against."""
    effect, z = gained - lost, float(special.ndtri((1 + level) / 2))

    def beyond(delta: float) -> float:
        """Squared distance from `delta` minus what the interval allows: negative inside it."""
        linear = -gained - lost + (2 - gained + lost) * delta
        root = math.sqrt(max(linear**2 + 8 * lost * delta * (1 - delta), 0.0))
        return size * (effect - delta) ** 2 - z**2 * ((root - linear) / 2 + delta * (1 - delta))

    near = 1e-9  # from the effect itself, where both terms may be 0
    low = -1.0 if effect <= near - 1 else float(optimize.brentq(beyond, -1.0, effect - near))
    high = 1.0 if effect >= 1 - near else float(optimize.brentq(beyond, effect + near, 1.0))
    return low, high


def sign_flip(differences: Floats) -> float:
    """Two-sided p of a mean difference of 0: the share of the 2ᴳ ways to sign the differences [G] with as large a sum.

    Exact, without random numbers: the sum's distribution is added up difference by difference on a grid.
    """
    steps = _steps(differences)
    total, sizes = abs(int(steps.sum())), np.abs(steps[steps != 0])
    if not total:
        return 1.0
    if (sizes == sizes[0]).all():
        lost = (len(sizes) - total // int(sizes[0])) // 2
        return min(2 * float(special.bdtr(lost, len(sizes), 0.5)), 1.0)
    chance = np.ones(1)  # of sums −S, −S + 1, …, S of the differences so far, in steps
    for size in sizes.tolist():
        signed = np.zeros(len(chance) + 2 * size)
        signed[: len(chance)] = chance / 2
        signed[2 * size :] += chance / 2
        chance = signed
    return min(2 * float(chance[: (len(chance) - 1) // 2 - total + 1].sum()), 1.0)


def power(effect: float, clusters: int, square: float, clips: float, *, alpha: float = 1 - LEVEL) -> float:
    """Probability that `sign_flip` is at most alpha where the true difference is `effect`.

    With one clip a cluster it is that of McNemar's exact test over all numbers of pairs that change (Duffy, Biometrics
    40, 1984). With several it is approximate: √G · mean / root mean square, which the test compares with nearly normal
    values, grows with Student's t, whose noncentral distribution is nearly normal too (Johnson and Welch, Biometrika
    31, 1940); half a step of 1 / clips is taken off for sums that tie. Simulated power at 12, 30 and 100 clusters of 2
    and 5 clips is within 0.03 of it on average, 0.15 at most.

    Args:
        effect: true mean difference, −1 … 1.
        clusters: number of clusters.
        square: mean square of a cluster's difference; the share of pairs that change for one clip a cluster. It
            stays what it is whatever the effect, unless that needs a larger one.
        clips: clips of each row in a cluster.
        alpha: level of the two-sided test; Holm asks alpha / m of the smallest p among m.
    """
    size = abs(effect)
    if clips == 1:
        changed = max(square, size)
        return _mcnemar(clusters, changed, (1 + size / changed) / 2, alpha) if changed else 0.0
    z = float(special.ndtri(1 - alpha / 2))
    if 2.0 ** (1 - clusters) > alpha or clusters <= z**2:
        return 0.0
    spread = math.sqrt(max(square - size**2, 1e-6) / clusters)
    df, critical = clusters - 1, z * math.sqrt((clusters - 1) / (clusters - z**2))
    noncentral = (size - 0.5 / (clips * clusters)) / spread
    return float(special.ndtr((noncentral - critical * (1 - 0.25 / df)) / math.sqrt(1 + critical**2 / (2 * df))))


def smallest_resolvable(square: float, clusters: int, clips: float, *, alpha: float = 1 - LEVEL) -> float:
    """The smallest true difference that the test finds with 80 % power; NaN where it finds none. Arguments: `power`."""

    def short(effect: float) -> float:
        return power(effect, clusters, square, clips, alpha=alpha) - POWER

    if math.isnan(square) or clusters < 1 or short(1.0) < 0:
        return math.nan
    return float(optimize.brentq(short, 0.0, 1.0, xtol=1e-6))


def _effective(spread: float, variance: float, clusters: int, weight: float) -> float:
    """Independent clips that tell as much: see the module. `variance` is the mean's, sums of squares over clusters²."""
    drawn = weight / (weight + clusters * spread)
    per_clip = (1 - drawn) * variance / spread if spread > 1e-12 else 0.0
    return 1 / (per_clip + drawn / clusters)


def _exact(share: float, size: float) -> float:
    """Clopper and Pearson's lower one-sided 95 % bound of a share among `size` independent clips."""
    return float(special.betaincinv(share * size, (1 - share) * size + 1, 1 - LEVEL)) if share > 0 else 0.0


def _steps(differences: Floats) -> npt.NDArray[np.int64]:
    """Differences [G] in whole steps: those that they lie on, if they are few enough, or else rounded."""
    scaled = differences * COMMON
    whole = np.rint(scaled).astype(np.int64)
    if (np.abs(scaled - whole) < 1e-6).all():
        whole //= max(int(np.gcd.reduce(whole)), 1)
        if np.abs(whole).sum() <= MOST_STEPS:
            return whole
    rounded: npt.NDArray[np.int64] = np.rint(differences * (MOST_STEPS / np.abs(differences).sum())).astype(np.int64)
    return rounded


def _mcnemar(pairs: int, changed: float, better: float, alpha: float) -> float:
    """Power of the exact test over `pairs` pairs, of which a share changes, of these `better` for the one row."""
    spread = 8 * math.sqrt(pairs * changed * (1 - changed)) + 8
    m = np.arange(max(0, math.floor(pairs * changed - spread)), min(pairs, math.ceil(pairs * changed + spread)) + 1)
    chance = special.bdtr(m, pairs, changed)
    chance = np.diff(chance, prepend=float(special.bdtr(m[0] - 1, pairs, changed)) if m[0] else 0.0)
    most = np.floor(special.bdtrik(alpha / 2, np.maximum(m, 1), 0.5))  # pairs of the rarer kind with which it rejects
    rejects = 2 * special.bdtr(most, m, 0.5) <= alpha
    found = special.bdtr(most, m, 1 - better) + special.bdtr(most, m, better)
    return float(chance[rejects] @ found[rejects])
