"""VBench's dimensions of yes or no: shares wherever they are estimated, alone, in Table 1, pooled and imported."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from scipy import special
from support.fake_scores import frame, line

from flashbench import metrics, shares, stats
from flashbench.metrics.base import Metric
from flashbench.reporting import vbench_table
from flashbench.vbench import imported
from flashbench.vbench.dimensions import DIMENSIONS
from flashbench.vbench.long import PREFIXES
from flashbench.vbench.results import ResultFile

YES_OR_NO = {"dynamic_degree", "human_action"}
Z2 = shares.Z**2


def scored(metric: Metric, rows: dict[str, Sequence[float]], parts: Sequence[float] | None = None) -> pd.DataFrame:
    """A clip a prompt; of a pooled metric with that many parts in each."""
    return frame(
        [
            line(
                row, f"p{n:02d}/0", metric.name, value,
                statistics=[value * parts[n], parts[n]] if parts is not None else [],
            )
            for row, values in rows.items()
            for n, value in enumerate(values)
        ]
    )  # fmt: skip


def bounds(found: stats.Estimate | stats.Contrast) -> tuple[float, float]:
    return found.low, found.high


@pytest.mark.parametrize("prefix", PREFIXES)
def test_two_of_the_sixteen_are_shares(prefix: str) -> None:
    assert {name for name in DIMENSIONS if metrics.get(f"{prefix}:{name}").binary} == YES_OR_NO
    assert {name for name, one in DIMENSIONS.items() if one.binary} == YES_OR_NO


def test_every_share_is_a_part_of_the_end_of_its_range() -> None:
    shares = [one for one in map(metrics.get, metrics.names()) if one.binary]
    assert len(shares) >= 5 and {one.range for one in shares} == {(0.0, 1.0)}


@pytest.mark.parametrize("name", sorted(YES_OR_NO))
def test_where_all_clips_agree_the_interval_is_wilsons_and_not_a_point(name: str) -> None:
    metric = metrics.get(f"vbench:{name}")
    scores = scored(metric, {"a": [1.0] * 20, "b": [0.0] * 20, "c": [1.0] * 20})
    assert bounds(stats.estimate(scores, metric, "a")) == pytest.approx((20 / (20 + Z2), 1))
    assert bounds(stats.estimate(scores, metric, "b")) == pytest.approx((0, Z2 / (20 + Z2)))
    assert bounds(stats.contrast(scores, metric, "a", "c")) == pytest.approx((-Z2 / (20 + Z2), Z2 / (20 + Z2)))
    apart = stats.contrast(scores, metric, "a", "b")
    assert apart.effect == apart.high == 1.0 and 0.5 < apart.low < 1 and apart.p < 0.001
    other = metrics.get("vbench:imaging_quality")
    agreed = stats.estimate(scored(other, {"a": [1.0] * 20}), other, "a")
    assert all(map(math.isnan, bounds(agreed))), "the other dimensions' t has no spread to go by"


def test_a_video_of_several_clips_has_a_part_of_yes() -> None:
    metric = metrics.get("vbench_long:dynamic_degree")
    values = [0.0, 0.25, 0.5, 1.0, 1.0, 1.0, 0.75, 0.25, 1.0, 0.5]
    found = stats.estimate(scored(metric, {"a": values}), metric, "a")
    se = float(np.std(values, ddof=1)) / math.sqrt(10)
    assert bounds(found) == pytest.approx(shares.interval(0.625, se, 10)) and 0 < found.low < found.high < 1


@pytest.mark.parametrize("name", sorted(YES_OR_NO))
def test_in_percent_it_is_a_hundred_times_the_same(name: str) -> None:
    plain, percent = metrics.get(f"vbench:{name}"), vbench_table._dimension(name, metrics.get(f"vbench:{name}"))
    rng = np.random.default_rng(0)
    rows = {"a": rng.integers(0, 2, 30).astype(float), "b": rng.integers(0, 2, 30).astype(float)}
    ours = scored(plain, {row: list(values) for row, values in rows.items()})
    theirs = scored(percent, {row: list(100 * values) for row, values in rows.items()})
    one, other = stats.estimate(ours, plain, "a"), stats.estimate(theirs, percent, "a")
    assert (other.value, *bounds(other)) == pytest.approx((100 * one.value, *(100 * x for x in bounds(one))))
    first, second = stats.contrast(ours, plain, "a", "b"), stats.contrast(theirs, percent, "a", "b")
    assert (second.effect, *bounds(second)) == pytest.approx((100 * first.effect, *(100 * x for x in bounds(first))))
    assert second.p == pytest.approx(first.p)
    assert not vbench_table._dimension("scene", metrics.get("vbench:scene")).binary


def test_clips_that_are_pooled_are_shares_too() -> None:
    """VBench-Long as its code does it: of videos with as many clips each it is the mean over videos."""
    pooled, averaged = metrics.get("vbench_long_official:human_action"), metrics.get("vbench_long:human_action")
    rows = {"a": [1.0, 1.0, 0.75, 1.0, 0.5, 1.0, 1.0, 1.0], "b": [1.0, 0.5, 0.5, 1.0, 0.25, 1.0, 0.0, 1.0]}
    ours, theirs = scored(pooled, rows, parts=[4.0] * 8), scored(averaged, rows)
    for row in rows:
        one, other = stats.estimate(ours, pooled, row), stats.estimate(theirs, averaged, row)
        assert (one.value, *bounds(one)) == pytest.approx((other.value, *bounds(other)))
    one, other = stats.contrast(ours, pooled, "a", "b"), stats.contrast(theirs, averaged, "a", "b")
    assert (one.effect, *bounds(one), one.p) == pytest.approx((other.effect, *bounds(other), other.p))
    agreed = scored(pooled, {"a": [1.0] * 8, "b": [1.0] * 8}, parts=[4.0] * 8)
    assert bounds(stats.estimate(agreed, pooled, "a")) == pytest.approx((8 / (8 + Z2), 1))
    percent = vbench_table._dimension("human_action", pooled)
    assert bounds(stats.estimate(agreed.assign(metric="human_action"), percent, "a"))[1] == pytest.approx(100)


def test_a_pooled_difference_lies_in_its_interval_whatever_the_lengths() -> None:
    metric, rng = metrics.get("vbench_long_official:dynamic_degree"), np.random.default_rng(3)
    for _ in range(50):
        parts = rng.integers(1, 9, 12).astype(float)
        rows = {row: list(rng.binomial(parts.astype(int), 0.7) / parts) for row in "ab"}
        scores = scored(metric, rows, parts=list(parts))
        found, back = (stats.contrast(scores, metric, *pair) for pair in ("ab", "ba"))
        share = {row: float(np.dot(values, parts) / parts.sum()) for row, values in rows.items()}
        assert found.effect == pytest.approx(share["a"] - share["b"])
        assert found.low - 1e-9 <= found.effect <= found.high + 1e-9
        assert (-back.high, -back.low) == pytest.approx(bounds(found), abs=1e-6)


def test_imported_results_have_the_shares_interval() -> None:
    listed = [{"video_path": f"prompt {n}-0.mp4", "video_results": True} for n in range(20)]
    content = {name: [1.0, listed] for name in ("human_action", "dynamic_degree")}
    content["imaging_quality"] = [1.0, [{**one, "video_results": 1.0} for one in listed]]
    run = imported.imported([ResultFile("a_eval_results.json", content)])
    found = {one.metric.partition(":")[2]: one for one in imported.totals(run, stats.pooled)}
    for name in YES_OR_NO:
        assert (found[name].low, found[name].high) == pytest.approx((20 / (20 + Z2), 1))
    assert math.isnan(found["imaging_quality"].low) and found["imaging_quality"].reason


@pytest.mark.parametrize(("share", "clusters"), [(0.9, 12), (0.97, 30), (0.57, 12)])
def test_coverage_at_one_clip_a_prompt(share: float, clusters: int) -> None:
    """Student's t, which these dimensions had, holds the truth in 0.72, 0.60 and 0.92 of these experiments."""
    metric = metrics.get("vbench:human_action")
    draws = np.random.default_rng(0).binomial(clusters, share, 4000)
    held, held_by_t = {}, {}
    for yes in {*draws.tolist()}:
        values = [1.0] * yes + [0.0] * (clusters - yes)
        found = stats.estimate(scored(metric, {"a": values}), metric, "a")
        half = float(special.stdtrit(clusters - 1, 0.975)) * float(np.std(values, ddof=1)) / math.sqrt(clusters)
        held[yes], held_by_t[yes] = found.low <= share <= found.high, abs(found.value - share) <= half
    assert np.mean([held[yes] for yes in draws.tolist()]) > 0.925
    assert np.mean([held_by_t[yes] for yes in draws.tolist()]) < 0.93
