"""How every document writes a number: decimals, differences, p values, shares, counts, and what stands for no number.

A value has the decimals that its 95 % interval warrants: two digits of half the interval. `n/a` is a value that is not
defined, `–` one that is not asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

ARROW = {"higher": "↑", "lower": "↓", "none": ""}
"""Direction of a metric → the sign of its better side."""
ABSENT, UNDEFINED = "–", "n/a"
_MOST, _FINEST, _PLAIN = 5, 9, 3
"""Decimals: the most of a value, the most of a difference, and those of a value without an interval."""


def places(halves: Iterable[float], values: Iterable[float] = ()) -> int:
    """Decimals of numbers that stand together: two digits of the median half interval, at most 5.

    Without an interval wider than 0 they are three, or as many more as show three digits of the largest value.

    Args:
        halves: half intervals; NaN where there is none.
        values: the numbers.
    """
    return _places(halves, values, _MOST)


def _places(halves: Iterable[float], values: Iterable[float], most: int) -> int:
    widths = [half for half in halves if math.isfinite(half)]
    if (typical := float(np.median(widths)) if widths else 0.0) > 0:
        return _shown(typical, 2, most)
    sizes = [abs(value) for value in values if math.isfinite(value) and value]
    return max(_PLAIN, _shown(max(sizes), 3, most)) if sizes else _PLAIN


def _shown(size: float, digits: int, most: int) -> int:
    """Decimals that show so many digits of a number of that size."""
    return min(max(digits - 1 - math.floor(math.log10(size)), 0), most)


def places_between(low: float, high: float, value: float) -> int:
    """Decimals of one value with its interval; the bounds are NaN where there is none."""
    return places([(high - low) / 2], [value])


def number(value: float, places: int) -> str:
    """A value with so many decimals; `n/a` for NaN, no sign before a zero."""
    if math.isnan(value):
        return UNDEFINED
    text = f"{value:.{places}f}".replace("inf", "∞")
    return text if text.strip("-0.") else text.removeprefix("-")


def even(value: float, low: float, high: float) -> bool:
    """Whether an interval lies evenly about its value, so that half of its width says it all; true of none (NaN)."""
    rounding = 1e-6 * (high - low) + 1e-12 * abs(value)
    return math.isnan(high - low) or abs((high - value) - (value - low)) <= rounding


def estimate(value: float, low: float, high: float, places: int, *, halved: bool) -> str:
    """A value with its interval: `3.68 ± 0.27` if `halved`, else `0.88 [0.75, 0.94]`; alone where there is none."""
    text = number(value, places)
    if math.isnan(high):
        return text
    half = number((high - low) / 2, places)
    return f"{text} ± {half}" if halved else f"{text} [{number(low, places)}, {number(high, places)}]"


def difference(effect: float, low: float, high: float) -> list[str]:
    """A difference and its bounds, with up to nine decimals: it may be far smaller than what it is a difference of."""
    decimals = _places([(high - low) / 2], [effect], _FINEST)
    return [number(value, decimals) for value in (effect, low, high)]


def signed(effect: float, low: float, high: float) -> str:
    """A difference with its sign, and with its interval where that is wider than 0: `+0.12 [+0.08, +0.16]`."""
    if not high > low:
        return f"{effect:+.3g}"
    decimals = _places([(high - low) / 2], [effect], _FINEST)
    return f"{effect:+.{decimals}f} [{low:+.{decimals}f}, {high:+.{decimals}f}]"


def digits(value: float, count: int = 6) -> str:
    """A number that has no interval, as one clip's score, by its significant digits; `–` for NaN."""
    return ABSENT if math.isnan(value) else f"{value:.{count}g}".replace("inf", "∞")


def given(value: float) -> str:
    """A number as somebody wrote it, as a margin."""
    return f"{value:g}"


def printed_places(values: Iterable[float]) -> int:
    """Decimals of a column of a paper: the most that one of its numbers has."""
    return max((len(repr(value).partition(".")[2]) for value in values), default=0)


def p_value(p: float) -> str:
    """`= 0.012`, `= 0.34`, `< 0.001`, to stand behind a p; `n/a` for NaN."""
    if math.isnan(p):
        return UNDEFINED
    return "< 0.001" if p < 0.001 else f"= {p:.3f}" if p < 0.1 else f"= {p:.2f}"


def percent(share: float) -> str:
    """A share of 1 in percent, with two decimals as in VBench's tables."""
    return number(100 * share, 2)


def amount(value: float, unit: str) -> str:
    """`1,234.5 GPU-hours`: what something takes, roughly."""
    return f"{value:,.1f} {unit}"


def counted(number: int, noun: str) -> str:
    """A count with its noun: `1 pair`, `2 pairs`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def rounded_up(count: float) -> str:
    """A count by two significant digits, upwards: more would claim to know it better than one sample does."""
    step: int = 10 ** max(math.floor(math.log10(count)) - 1, 0)
    return f"{math.ceil(count / step) * step:,}"


def named(metric: str, direction: str, unit: str = "") -> str:
    """`psnr ↑ (dB)`: a metric as the head of a column or line."""
    return " ".join(filter(None, (metric, ARROW[direction], f"({unit})" if unit else "")))


def plain(name: str) -> str:
    """A name that can stand between backticks, or beside some."""
    return name.replace("`", "'")
