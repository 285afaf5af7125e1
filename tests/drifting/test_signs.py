"""The test of drift against enumeration, known levels and its plan's promises."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from flashbench.drifting import plan, signs
from flashbench.errors import UsageError


def enumerated(row: list[float]) -> float:
    sums = [sum(s * x for s, x in zip(turn, row, strict=True)) for turn in itertools.product((1, -1), repeat=len(row))]
    return sum(x >= sum(row) - 1e-9 for x in sums) / len(sums)


def test_turned_signs_are_those_of_full_enumeration() -> None:
    rows = np.random.default_rng(0).normal(0.2, 1, (20, 9))
    rows[0, :4] = 0
    rows[1] = 0.5
    rows[2] = 0
    assert signs.turned(rows) == pytest.approx([enumerated(row.tolist()) for row in rows])
    assert signs.turned(rows)[1] == 2.0**-9
    assert signs.turned(rows)[2] == 1


def test_order_of_prompts_does_not_matter_and_the_other_side_is_mirrored() -> None:
    rows = np.random.default_rng(1).normal(0.1, 1, (50, 11))
    assert signs.turned(rows) == pytest.approx(signs.turned(rows[:, ::-1]))
    # Continuous values: P(sum ≥ seen) + P(sum ≤ seen) = 1 + P(sum = seen).
    assert signs.turned(rows) + signs.turned(-rows) == pytest.approx(1 + 2.0**-11)


def test_many_prompts_go_on_from_the_exact_count() -> None:
    rows = np.random.default_rng(2).uniform(-0.5, 1, (30, signs.EXACT))
    more = np.concatenate([rows, np.full((30, 1), 1e-6)], axis=1)
    exact, student = signs.turned(rows), signs.turned(more)
    assert np.abs(exact - student).max() < 0.002


@pytest.mark.parametrize("law", ["lognormal", "standard_t"])
def test_false_alarms_stay_at_their_level_however_the_distances_are_spread(law: str) -> None:
    draw = np.random.default_rng(3)
    logs = (
        np.clip(draw.standard_t(2, (2, 4000, 10)), -99, 99)
        if law == "standard_t"
        else draw.standard_normal((2, 4000, 10))
    )
    candidate, again = np.exp(logs)
    p = signs.turned(signs.relative(candidate, again))
    assert (p <= 0.01).mean() <= 0.015
    assert (p <= 0.25).mean() == pytest.approx(0.25, abs=0.03)


def test_relative_differences_of_distances() -> None:
    far, near = np.array([2.0, 0.0, 1.0, 0.0]), np.array([1.0, 3.0, 1.0, 0.0])
    assert signs.relative(far, near).tolist() == [pytest.approx(1 / 3), -1, 0, 0]


def test_a_margin_is_passed_or_kept_by_far_distances_and_left_open_by_near_ones() -> None:
    draw = np.random.default_rng(4)
    distances = 0.1 * draw.lognormal(0, 0.2, 20)
    p, within = signs.against_margin(distances, 0.05)
    assert p < 1e-4 and within > 0.9
    p, within = signs.against_margin(distances, 0.2)
    assert p > 0.9 and within < 1e-4
    p, within = signs.against_margin(distances, float(np.median(distances)))
    assert p > 0.05 and within > 0.05
    assert signs.against_margin(np.full(8, 0.1), 0.05) == (2 * 2.0**-8, 1.0)
    assert signs.against_margin(np.full(8, 0.1), 0.2) == (1.0, 2.0**-8)


def test_within_a_margin_needs_the_mean_too() -> None:
    broken = np.array([0.01] * 24 + [1.0] * 4)  # the median is far inside, four prompts are wrecked
    assert signs.against_margin(broken, 0.1)[1] > 0.01


def test_the_fewest_prompts_that_can_decide() -> None:
    assert [signs.least(0.01), signs.least(0.01, 5), signs.least(0.25)] == [7, 9, 2]
    assert signs.turned(np.ones((1, signs.least(0.01))))[0] <= 0.01 < signs.turned(np.ones((1, 6)))[0]


def test_a_plan_finds_a_doubling_with_at_most_16_prompts() -> None:
    quarter, double = plan.plan()
    assert double.prompts is not None and signs.least(0.01) <= double.prompts <= 16
    assert quarter.prompts is not None and double.prompts < quarter.prompts <= 40
    spread = plan.sigma(*plan.SPREAD)
    assert plan.power(double.prompts, 100, spread) >= 0.95
    assert plan.power(quarter.prompts, 25, spread) >= 0.80
    assert plan.power(double.prompts - 2, 100, spread) < 0.95


def test_a_plan_for_what_no_number_finds() -> None:
    assert plan.needed(0.1, 0.8, 1.0) is None


@pytest.mark.parametrize("text", ["0.1", "0.2-0.1", "0-0.1", "a-b", "-0.1-0.2"])
def test_invalid_spreads(text: str) -> None:
    with pytest.raises(UsageError):
        plan.parse_spread(text)


def test_a_spread_is_the_middle_90_percent() -> None:
    draw = np.random.default_rng(5)
    logs = np.log(np.sqrt(0.02)) + plan.sigma(*plan.parse_spread("0.10-0.20")) * draw.standard_normal(200_000)
    assert np.quantile(np.exp(logs), [0.05, 0.95]) == pytest.approx([0.1, 0.2], rel=0.01)
