"""How many prompts a test of drift needs, by simulating the test itself."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

import numpy as np

from flashbench.draws import philox
from flashbench.drifting import signs
from flashbench.errors import UsageError

SPREAD = (0.10, 0.20)
"""LPIPS of one prompt and seed between nights of an unchanged engine, as users of inference engines report it."""
AIMS = ((25.0, 0.80), (100.0, 0.95))
"""(change in %, power) that a plan is made for unless another is asked for."""
MOST = 500
"""Prompts above which no plan is made."""
_NIGHTS, _MIDDLE, _MIDDLE_T3 = 2_000, 1.6448536269514722, 2.3533634348018264  # 95 % points: normal, t₃


class Aim(NamedTuple):
    """A line of a plan."""

    change: float
    """In %: how much farther than the baseline run again."""
    power: float
    """Asked for."""
    prompts: int | None
    """Needed; None: more than `MOST`."""


def sigma(low: float, high: float) -> float:
    """The standard deviation of the logarithm of a lognormal distance whose middle 90 % are `low` … `high`.

    Raises:
        UsageError: not 0 < low < high.
    """
    if not (0 < low < high and math.isfinite(high)):
        raise UsageError(
            f"invalid spread {low:g}-{high:g}", fix="write LOW-HIGH with 0 < LOW < HIGH, such as 0.10-0.20"
        )
    return math.log(high / low) / (2 * _MIDDLE)


def parse_spread(text: str) -> tuple[float, float]:
    """`0.10-0.20` as two numbers.

    Raises:
        UsageError: it is written otherwise.
    """
    number = r"\s*([0-9]*\.?[0-9]+)\s*"
    if not (match := re.fullmatch(f"{number}[-–]{number}", text)):
        raise UsageError(f"invalid --spread {text!r}", fix="write LOW-HIGH, such as 0.10-0.20")
    low, high = float(match[1]), float(match[2])
    sigma(low, high)
    return low, high


def power(prompts: int, change: float, spread: float, *, alpha: float = signs.ALPHA, tests: int = 1) -> float:
    """How often a change of so many % is found, in simulated nights of one seed a prompt.

    A distance's logarithm has Student's t of 3 degrees of freedom: rare nights go far, so that what is promised holds
    for lognormal distances too (benchmarks/drift.py).

    Args:
        spread: `sigma` of a distance between runs of one engine.
        tests: metrics that share alpha (Holm's first step).
    """
    draw = philox("drift plan", prompts, _NIGHTS)
    logs = spread * _MIDDLE / _MIDDLE_T3 * draw.standard_t(3, (2, _NIGHTS, prompts))
    again, candidate = np.exp(np.clip(logs, -50, 50))
    p = signs.turned(signs.relative(candidate * (1 + change / 100), again))
    return float((p <= alpha / tests).mean())


def needed(change: float, aim: float, spread: float, *, alpha: float = signs.ALPHA, tests: int = 1) -> int | None:
    """The fewest prompts whose power is `aim`, two standard errors of the simulation on the safe side.

    Raises:
        UsageError: the change is not above 0, or the power not in 0 … 1.
    """
    if not change > 0 or not 0 < aim < 1:
        what = f"invalid plan: a change of {change:g} % with a power of {aim:g}"
        raise UsageError(what, fix="give a change above 0 % and a power between 0 and 1")
    safe = min(aim + 2 * math.sqrt(aim * (1 - aim) / _NIGHTS), (1 + aim) / 2)
    low = signs.least(alpha, tests) - 1
    high = low + 1
    while power(high, change, spread, alpha=alpha, tests=tests) < safe:
        low, high = high, 2 * high
        if low >= MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        enough = power(middle, change, spread, alpha=alpha, tests=tests) >= safe
        low, high = (low, middle) if enough else (middle, high)
    return high if high <= MOST else None


def plan(
    spread: tuple[float, float] = SPREAD,
    *,
    aims: tuple[tuple[float, float], ...] = AIMS,
    alpha: float = signs.ALPHA,
    tests: int = 1,
) -> list[Aim]:
    """Prompts for each aim of (change in %, power), where 90 % of a prompt's distances lie in `spread`."""
    wide = sigma(*spread)
    return [Aim(change, aim, needed(change, aim, wide, alpha=alpha, tests=tests)) for change, aim in aims]
