"""Table 1 from scores: what Quality, Semantic and Total are, how sure they are, and when there is none."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import special
from support import fake_scores
from support.made_suite import SERVED, SIZES

from flashbench import jackknife, metrics, stats
from flashbench.data import prompts
from flashbench.metrics.vbench.flicker import TEMPORAL_FLICKERING
from flashbench.protocol.published import published
from flashbench.protocol.types import Protocol, Subset
from flashbench.reporting import vbench_table
from flashbench.types import Prompt
from flashbench.vbench import dimensions, recompute
from flashbench.vbench.dimensions import DIMENSIONS

PRINTED = published("Table 1")
TOTALS = tuple(vbench_table.AGGREGATES)
VALUES = dict(zip(DIMENSIONS, np.linspace(0.95, 0.2, 16), strict=True))
Value = Callable[[str, Prompt, str, int], float]


def some(per_suite: int) -> list[Prompt]:
    """The same number of prompts of each suite, serving what VBench's do."""
    return [
        prompts.prompt_of(f"{suite} {n}", suites=(suite,), dimensions=tuple(SERVED.get(suite, [suite])))
        for n in range(per_suite)
        for suite in SIZES
    ]


def protocol(chosen: Sequence[Prompt], names: Sequence[str], **more: Any) -> Protocol:
    count = len(chosen)
    fields: dict[str, Any] = {
        "name": "vbench", "table": "Table 1", "tier": "paper", "primary": (names[0],),
        "metrics": tuple(map(metrics.get, names)),
        "published": PRINTED, "cases": prompts.vbench_cases(chosen, 2, 3),
        "subset": Subset(suite="vbench", chosen=count, of=count, hash=""),
    }  # fmt: skip
    return replace(fake_scores.protocol(["one", "two"], cases=["x"]), **{**fields, **more})


def scored(part: Protocol, value: Value, rows: Sequence[str] = ("one", "two")) -> pd.DataFrame:
    """A score of each row's clips on all that their prompts serve."""
    return fake_scores.frame(
        [
            fake_scores.line(
                row, case.id, name, found := value(row, case.prompt, prompts.dimension_of(name), case.seed),
                cluster=case.cluster, seed=case.seed, reason="no detector" if math.isnan(found) else "",
            )
            for case in part.cases
            for name in part.metric_names
            for row in rows
            if case.prompt and prompts.serves(case, name)
        ]
    )  # fmt: skip


def viewed(chosen: Sequence[Prompt], value: Value, prefix: str = "vbench_long", **more: Any) -> vbench_table.View:
    part = protocol(chosen, [f"{prefix}:{name}" for name in DIMENSIONS], **more)
    return vbench_table.view(part, scored(part, value))


def estimates(view: vbench_table.View, row: str = "one") -> dict[str, stats.Estimate]:
    return {
        name: stats.estimate(view.scores, view.part.metric(name), row, of=view.of[name])
        for name in view.part.metric_names
    }


def total_of(view: vbench_table.View, row: str = "one") -> stats.Estimate:
    return stats.estimate(view.scores, view.part.metric("total_score"), row)


def random_values(seed: int, missing: float = 0.0) -> Value:
    """A value of its own for each, the same whenever it is asked for."""
    known: dict[Any, float] = {}
    rng = np.random.default_rng(seed)

    def value(row: str, prompt: Prompt, dimension: str, sample: int) -> float:
        key = (row, prompt.id, dimension, sample)
        if key not in known:
            known[key] = (
                math.nan if rng.random() < missing else float(np.clip(rng.normal(VALUES[dimension], 0.1), 0, 1))
            )
        return known[key]

    return value


def constant(cells: Mapping[str, float]) -> Value:
    return lambda row, prompt, dimension, sample: cells[dimension]


def test_the_papers_rows_add_up_but_one() -> None:
    rows = PRINTED["v1"]
    part = protocol(some(1), [f"vbench_long:{name}" for name in DIMENSIONS])
    view = vbench_table.view(part, scored(part, lambda row, prompt, name, sample: rows[row][name] / 100, list(rows)))
    for row, cells in rows.items():
        found = {name: stats.estimate(view.scores, view.part.metric(name), row) for name in (*TOTALS, "scene")}
        apart = {name: abs(found[name].value - cells[name]) for name in TOTALS}
        if row == "flashvideo_8fps":
            assert apart["total_score"] == pytest.approx(0.0170, abs=5e-5)
            assert apart["semantic_score"] == pytest.approx(0.1036, abs=5e-5)
        else:
            assert max(apart.values()) <= 0.01, row
        assert found["scene"].value == pytest.approx(cells["scene"])


@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_a_row_of_the_table_adds_up(missing: float) -> None:
    part, value = protocol(some(4), [f"vbench_long:{name}" for name in DIMENSIONS]), random_values(3, missing)
    scores = scored(part, value)
    found = estimates(vbench_table.view(part, scores))
    assert repr(estimates(vbench_table.view(part, scores.sample(frac=1, random_state=1)))) == repr(found), (
        "in any order"
    )
    cells = {name: found[name].value / 100 for name in DIMENSIONS}
    for name, aggregate in vbench_table.AGGREGATES.items():
        assert found[name].value == pytest.approx(100 * dimensions.AGGREGATES[aggregate](cells), abs=1e-9)
        assert found[name].low < found[name].value < found[name].high
    clips = {"total_score": 11 * 4 * 2 + 4, "quality_score": 4 * 4 * 2 + 4, "semantic_score": 9 * 4 * 2}
    assert {name: found[name].of for name in TOTALS} == clips
    assert {name: found[name].clusters for name in TOTALS} == {
        "total_score": 44, "quality_score": 16, "semantic_score": 36,
    }  # fmt: skip
    assert ("without " in found["quality_score"].reason) == (missing > 0), "a clip that lacks a dimension is told"


def test_the_interval_is_the_jackknifes_over_prompts() -> None:
    chosen, value = some(4), random_values(5)
    found = total_of(viewed(chosen, value))

    def total(of: Sequence[Prompt]) -> float:
        seeds = {name: range(3 if name == "temporal_flickering" else 2) for name in DIMENSIONS}
        cells = {
            name: float(
                np.mean([np.mean([value("one", p, name, s) for s in seeds[name]]) for p in of if name in p.dimensions])
            )
            for name in DIMENSIONS
        }
        return 100 * dimensions.total(cells)

    without = np.array([total([p for p in chosen if p is not gone]) for gone in chosen])
    low, high, _ = jackknife.interval(jackknife.pseudo_values(total(chosen), without))
    assert found.value == pytest.approx(total(chosen))
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9)


def deviations(by: Mapping[str, float], size: int) -> tuple[Value, np.ndarray]:
    """Dimensions that differ between prompts by multiples of one set of numbers, and these numbers."""
    steps = np.linspace(-0.1, 0.1, size) ** 3 * 10
    place = {prompt.id: n for suite in SIZES for n, prompt in enumerate(p for p in some(size) if p.suites == (suite,))}

    def value(row: str, prompt: Prompt, dimension: str, sample: int) -> float:
        return float(VALUES[dimension] + by.get(dimension, 0.0) * steps[place[prompt.id]])

    return value, steps


def half(found: stats.Estimate) -> float:
    return (found.high - found.low) / 2 / float(special.stdtrit(found.clusters - 1, 0.975))


def test_the_error_of_one_dimension_in_closed_form() -> None:
    value, steps = deviations({"dynamic_degree": 1.0}, 7)
    found = total_of(viewed(some(7), value))
    weight, prompts_in_all = recompute.sensitivity(DIMENSIONS["dynamic_degree"], "total"), 77
    expected = 100 * weight * math.sqrt((prompts_in_all - 1) / prompts_in_all * float(np.var(steps, ddof=1)) / (7 - 1))
    assert half(found) == pytest.approx(expected, rel=1e-9)


def test_dimensions_that_share_prompts_are_not_taken_for_independent() -> None:
    first, second = DIMENSIONS["subject_consistency"], DIMENSIONS["motion_smoothness"]
    ratio = recompute.sensitivity(first, "total") / recompute.sensitivity(second, "total")
    errors = {}
    for sign in (-1, 0, 1):
        value, _ = deviations({first.name: 1.0, second.name: sign * ratio}, 3)
        errors[sign] = half(total_of(viewed(some(3), value)))
    assert math.isnan(errors[-1]), "what one prompt gives here it takes there, and nothing varies"
    assert errors[1] == pytest.approx(2 * errors[0], rel=1e-9)


def test_differences_are_paired_by_prompt() -> None:
    noise, steps = random_values(8), np.linspace(-0.02, 0.02, 3)
    chosen = some(3)
    place = {p.id: n for n, p in enumerate(p for p in chosen if "scene" in p.suites)}

    def value(row: str, prompt: Prompt, dimension: str, sample: int) -> float:
        shift = 0.03 + steps[place[prompt.id]] if row == "one" and dimension == "scene" else 0.0
        return noise("both", prompt, dimension, sample) + float(shift)

    view = viewed(chosen, value)
    found = stats.contrast(view.scores, view.part.metric("total_score"), "one", "two")
    weight = recompute.sensitivity(DIMENSIONS["scene"], "total")
    assert found.effect == pytest.approx(100 * weight * 0.03, rel=1e-9)
    assert found.se == pytest.approx(100 * weight * math.sqrt(32 / 33 * float(np.var(steps, ddof=1)) / 2), rel=1e-6)
    assert (found.n, found.of, found.clusters) == (69, 69, 33)
    alone = total_of(view)
    assert found.high - found.low < (alone.high - alone.low) / 5, "what both rows share does not blur it"
    quality = stats.contrast(view.scores, view.part.metric("quality_score"), "one", "two")
    assert quality.effect == pytest.approx(0, abs=1e-12)
    tests = stats.against_baseline(
        view.scores, [*map(view.part.metric, (*TOTALS, *view.part.primary))], ["one", "two"], "two", view.part.primary
    )
    assert [test.contrast.metric for test in tests if test.primary] == ["subject_consistency"]


def test_nothing_is_filled_in() -> None:
    def value(row: str, prompt: Prompt, dimension: str, sample: int) -> float:
        return math.nan if dimension == "scene" and row == "two" else VALUES[dimension]

    view = viewed(some(3), value)
    whole, lacking = estimates(view), estimates(view, "two")
    assert not any(math.isnan(whole[name].value) for name in TOTALS)
    assert [name for name in TOTALS if math.isnan(lacking[name].value)] == ["total_score", "semantic_score"]
    assert lacking["total_score"].reason == "1 of 16 dimensions are missing: scene"
    assert lacking["semantic_score"].reason == "1 of 9 dimensions are missing: scene"
    assert lacking["total_score"].n == 0
    assert lacking["quality_score"].value == whole["quality_score"].value
    found = stats.contrast(view.scores, view.part.metric("total_score"), "one", "two")
    assert math.isnan(found.effect)
    assert "scene" in found.reason


def test_only_the_whole_of_vbenchs_prompts_gives_vbenchs_total() -> None:
    chosen, names = some(1), [f"vbench_long:{name}" for name in DIMENSIONS]
    for suite, count, suffix in (
        ("vbench", 99, ""),
        ("vbench", 98, "_of_a_subset"),
        ("vbench:scene", 99, "_of_a_subset"),
        ("laptop", 99, "_of_other_prompts"),
        ("mine.txt", 99, "_of_other_prompts"),
    ):
        part = protocol(chosen, names, subset=Subset(suite=suite, chosen=count, of=99, hash=""), primary=names[:2])
        view = vbench_table.view(part, scored(part, constant(VALUES)))
        assert view.part == vbench_table.shown(part)
        assert view.part.metric_names == (*(name + suffix for name in TOTALS), *DIMENSIONS)
        assert view.part.primary == ("subject_consistency", "background_consistency")
        assert stats.estimate(view.scores, view.part.metric("total_score" + suffix), "one").value > 0


def test_at_the_laptop_one_dimension_runs_and_the_others_say_why_not() -> None:
    chosen = prompts.suite("laptop")[:6]
    names = ("niqe", TEMPORAL_FLICKERING.name)
    part = protocol(
        chosen, names, tier="laptop", subset=Subset(suite="laptop", chosen=6, of=48, hash=""), margins={names[1]: 0.01}
    )
    view = vbench_table.view(part, scored(part, lambda row, prompt, dimension, sample: 0.9))
    found = estimates(view)
    assert list(found)[-1] == "niqe"
    assert found["niqe"].value == 0.9, "what is not VBench's stays as it is"
    assert view.part.margins == {"temporal_flickering": 1.0}, "in percent as its values"
    assert (found["temporal_flickering"].value, found["temporal_flickering"].n) == (pytest.approx(90.0), 12)
    others = [name for name in found if name not in ("niqe", "temporal_flickering")]
    assert all(math.isnan(found[name].value) and (found[name].n, found[name].of) == (0, 12) for name in others)
    weights = "not scored at the laptop tier: it needs VBench's own environment and weights"
    labels = "not scored at the laptop tier: it needs VBench's labels, which only its own prompts have"
    assert found["motion_smoothness"].reason == weights
    assert found["color"].reason == labels
    missing = [name for name in DIMENSIONS if name != "temporal_flickering"]
    assert found["total_score_of_other_prompts"].reason == f"15 of 16 dimensions are missing: {', '.join(missing)}"
    assert found["quality_score_of_other_prompts"].reason.startswith("6 of 7 dimensions are missing: subject_")


def test_a_suite_alone_says_what_its_prompts_do_not_serve() -> None:
    chosen = [prompt for prompt in some(4) if prompt.suites == ("overall_consistency",)]
    part = protocol(
        chosen, [f"vbench:{name}" for name in DIMENSIONS],
        subset=Subset(suite="vbench:overall_consistency", chosen=4, of=93, hash=""),
    )  # fmt: skip
    found = estimates(vbench_table.view(part, scored(part, constant(VALUES))))
    assert found["aesthetic_quality"].value == pytest.approx(100 * VALUES["aesthetic_quality"])
    assert math.isnan(found["color"].value)
    assert found["color"].reason == "none of these prompts serves it"


def test_a_table_without_any_score_has_its_columns() -> None:
    part = protocol(some(1), [f"vbench_long:{name}" for name in DIMENSIONS])
    view = vbench_table.view(part, fake_scores.frame([]))
    assert len(view.scores) == 0
    found = estimates(view)
    assert all(math.isnan(one.value) and one.reason == "no score of row 'one'" for one in found.values())
    assert (found["total_score"].of, found["scene"].of) == (23, 2)


def test_other_tables_are_left_alone() -> None:
    part = protocol(some(1), [TEMPORAL_FLICKERING.name, "niqe"], published={})
    scores = scored(part, constant({"temporal_flickering": 0.9, "": 5.0}))
    view = vbench_table.view(part, scores)
    assert view.part is vbench_table.shown(part) is part
    assert view.scores is scores
    assert view.of == {TEMPORAL_FLICKERING.name: 3, "niqe": 23}


def test_dimensions_come_from_one_scale() -> None:
    names = ["niqe", "vbench_long:scene", "vbench:scene", "vbench:color", "vbench_temporal_flickering"]
    expected = {"scene": "vbench_long:scene", "temporal_flickering": "vbench_temporal_flickering"}
    assert vbench_table.dimension_metrics(names) == expected
    both = [*names, "vbench_long:temporal_flickering"]
    assert vbench_table.dimension_metrics(both) == expected | {"temporal_flickering": "vbench_long:temporal_flickering"}
    assert vbench_table.dimension_metrics(["niqe", "pyiqa:brisque"]) == {}
    assert TEMPORAL_FLICKERING.name == prompts.NATIVE_FLICKERING
    assert {one.suite for one in DIMENSIONS.values()} == set(prompts.SUITES)


def test_dimensions_that_pool_clips_count_them_in_the_totals() -> None:
    """VBench-Long as its code does it: a video of four clips counts four times, alone and in the Total."""
    part = protocol(some(3), [f"vbench_long_official:{name}" for name in DIMENSIONS])
    scores = scored(part, constant(VALUES))
    clips = [1 + n % 4 for n in range(len(scores))]
    values = [x - 0.01 * n for x, n in zip(scores["value"], clips, strict=True)]
    scores["statistics"] = [[n * x, float(n)] for n, x in zip(clips, values, strict=True)]
    found = estimates(vbench_table.view(part, scores))
    own = scores[(scores["row"] == "one") & (scores["metric"] == "vbench_long_official:scene")]
    sums = np.array(own["statistics"].tolist()).sum(axis=0)
    assert found["scene"].value == pytest.approx(100 * sums[0] / sums[1])
    cells = {name: found[name].value / 100 for name in DIMENSIONS}
    assert found["total_score"].value == pytest.approx(100 * dimensions.total(cells))


def test_coverage_of_the_total_at_six_prompts_a_suite() -> None:
    """The interval holds the truth as often as it says, though one dimension of few prompts decides most of it."""
    rng, kind, repeats, each = np.random.default_rng(1), vbench_table._aggregate("total", "total"), 200, 6
    order = {name: place for place, name in enumerate(DIMENSIONS)}
    truth, spread = np.full(16, 0.9), np.full(16, 0.02)
    truth[order["dynamic_degree"]] = 0.57
    labels = np.array([f"{suite}{n}" for suite in SIZES for n in range(each)])
    held = 0
    for _ in range(repeats):
        lines = np.zeros((len(labels), 16, 2))
        for place, suite in enumerate(SIZES):
            for name in SERVED.get(suite, [suite]):
                at = order[name]
                values = rng.normal(truth[at], spread[at], each)
                if name == "dynamic_degree":  # the weightiest: a prompt's rate over five seeds, often none or all
                    values = rng.binomial(5, rng.beta(2 * truth[at], 2 * (1 - truth[at]), each)) / 5
                lines[place * each : (place + 1) * each, at] = np.stack([values, np.ones(each)], axis=1)
        found = stats.pooled(lines.reshape(len(labels), 32), labels, kind.finalize)
        held += found.low <= 100 * dimensions.total(dict(zip(DIMENSIONS, truth, strict=True))) <= found.high
    assert 0.91 < held / repeats < 0.985
