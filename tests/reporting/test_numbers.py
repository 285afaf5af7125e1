"""How numbers are written: by the interval, by their size, with and without a sign."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashbench import shares
from flashbench.reporting import numbers

NAN = math.nan


@pytest.mark.parametrize(
    ("halves", "values", "places"),
    [
        ([0.23], [33.7], 2),
        ([2.3], [33.7], 1),
        ([23.0], [337.0], 0),
        ([0.2, 0.02, 0.002], [], 3),
        ([0.2, NAN], [], 2),
        ([1e-9], [], 5),
        ([0.0], [33.7], 3),
        ([NAN], [0.00123], 5),
        ([NAN], [0.0123, 33.7], 3),
        ([NAN], [0.0, NAN, math.inf], 3),
        ([], [], 3),
    ],
)
def test_decimals_follow_the_interval_then_the_size(halves: list[float], values: list[float], places: int) -> None:
    assert numbers.places(halves, values) == places


@given(st.floats(1e-4, 1e3), st.floats(-1e3, 1e3))
def test_half_an_interval_is_shown_by_two_digits(half: float, value: float) -> None:
    places = numbers.places_between(value - half, value + half, value)
    assert float(numbers.number(half, places)) == pytest.approx(half, rel=0.051)


@pytest.mark.parametrize(
    ("value", "text"),
    [(33.714, "33.71"), (-0.004, "0.00"), (-0.006, "-0.01"), (math.inf, "∞"), (-math.inf, "-∞"), (NAN, "n/a")],
)
def test_a_number(value: float, text: str) -> None:
    assert numbers.number(value, 2) == text


@pytest.mark.parametrize(
    ("bounds", "halved", "text"),
    [
        ((3.68, 3.41, 3.95), True, "3.68 ± 0.27"),
        ((3.68, 3.41, 3.95), False, "3.68 [3.41, 3.95]"),
        ((1.0, 0.51, 1.0), False, "1.00 [0.51, 1.00]"),
        ((1.0, NAN, NAN), False, "1.00"),
        ((NAN, NAN, NAN), True, "n/a"),
        ((math.inf, NAN, NAN), True, "∞"),
        ((1.0, 1.0, 1.0), True, "1.00 ± 0.00"),
    ],
)
def test_an_estimate(bounds: tuple[float, float, float], halved: bool, text: str) -> None:
    assert numbers.estimate(*bounds, 2, halved=halved) == text


@given(st.floats(-1e6, 1e6), st.floats(1e-4, 1e3), st.floats(0, 1))
def test_half_of_an_interval_is_said_of_even_ones_only(value: float, half: float, shift: float) -> None:
    assert numbers.even(value, value - half, value + half)
    low = value - half + shift * half
    assert numbers.even(value, low, value + half) == (value - low > 0.999 * half) or shift < 0.001


def test_a_share_that_all_clips_have_has_no_half() -> None:
    low, high = shares.wilson(1.0, 4)
    assert not numbers.even(1.0, low, high) and numbers.even(1.0, NAN, NAN) and numbers.even(math.inf, NAN, NAN)
    assert numbers.estimate(1.0, low, high, numbers.places([(high - low) / 2]), halved=False) == "1.00 [0.51, 1.00]"


def test_differences() -> None:
    assert numbers.difference(-0.5, -0.52, -0.48) == ["-0.500", "-0.520", "-0.480"]
    assert numbers.difference(2e-7, 1e-7, 3e-7) == ["0.00000020", "0.00000010", "0.00000030"]
    assert numbers.difference(NAN, NAN, NAN) == ["n/a"] * 3
    assert numbers.signed(0.12, 0.08, 0.16) == "+0.120 [+0.080, +0.160]"
    assert numbers.signed(0.12, NAN, NAN) == numbers.signed(0.12, 0.12, 0.12) == "+0.12"


@pytest.mark.parametrize(
    ("p", "text"), [(0.0, "< 0.001"), (0.00099, "< 0.001"), (0.0123, "= 0.012"), (0.123, "= 0.12"), (NAN, "n/a")]
)
def test_p_values(p: float, text: str) -> None:
    assert numbers.p_value(p) == text


def test_counts_shares_amounts_and_names() -> None:
    assert [numbers.counted(1, "pair"), numbers.counted(1200, "pair")] == ["1 pair", "1,200 pairs"]
    assert [numbers.rounded_up(7), numbers.rounded_up(121), numbers.rounded_up(12001)] == ["7", "130", "13,000"]
    assert [numbers.percent(0.12345), numbers.percent(NAN)] == ["12.35", "n/a"]
    assert [numbers.digits(0.1234567), numbers.digits(1234.5, 2), numbers.digits(NAN)] == ["0.123457", "1.2e+03", "–"]
    assert [numbers.amount(1234.56, "GB"), numbers.given(0.10)] == ["1,234.6 GB", "0.1"]
    assert numbers.printed_places([4.5, 4.501, 3.0]) == 3 and numbers.printed_places([]) == 0
    assert [numbers.named("psnr", "higher", "dB"), numbers.named("x", "none")] == ["psnr ↑ (dB)", "x"]
