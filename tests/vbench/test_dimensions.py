"""Totals, and published tables that add up or do not."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashbench import stats
from flashbench.errors import InvalidError, UsageError
from flashbench.protocol.published import published
from flashbench.vbench import dimensions
from flashbench.vbench.dimensions import DIMENSIONS
from flashbench.vbench.recompute import read_csv, recompute

# Table 1 of VBench's leaderboard as Lumina-Video quotes it: "OpenSora V1.2 (8s)".
PRINTED = "96.75 97.61 99.53 98.50 42.39 56.85 63.34 82.22 51.83 91.20 90.08 68.56 42.44 23.95 24.54 26.85"
OPENSORA = dict(zip(DIMENSIONS, map(float, PRINTED.split()), strict=True))
NEUTRAL = {name: (one.low + one.high) / 2 for name, one in DIMENSIONS.items()}


def test_sixteen_dimensions_in_two_parts() -> None:
    assert len(DIMENSIONS) == 16
    assert [len(dimensions.of_part(part)) for part in ("quality", "semantic")] == [7, 9]  # type: ignore[arg-type]
    assert sum(one.weight for one in dimensions.of_part("quality")) == 6.5
    assert {one.name for one in DIMENSIONS.values() if one.reads == "labels"} == {
        "object_class", "multiple_objects", "color", "spatial_relationship", "scene", "appearance_style"
    }  # fmt: skip
    assert {one.name for one in DIMENSIONS.values() if one.clip_seconds == 10} == {
        "human_action", "temporal_style", "overall_consistency"
    }  # fmt: skip


def test_names_with_spaces_underscores_and_mistakes() -> None:
    assert dimensions.dimension("Human Action") is DIMENSIONS["human_action"]
    assert DIMENSIONS["human_action"].title == "human action"
    with pytest.raises(UsageError, match="did you mean 'temporal_flickering'"):
        dimensions.dimension("temporal_flicker")


def test_a_leaderboard_row() -> None:
    scores = {name: value / 100 for name, value in OPENSORA.items()}
    assert 100 * dimensions.total(scores) == pytest.approx(79.7597, abs=5e-5)
    assert 100 * dimensions.quality(scores) == pytest.approx(81.3517, abs=5e-5)
    assert 100 * dimensions.semantic(scores) == pytest.approx(73.3918, abs=5e-5)


def test_the_ends_of_the_ranges_and_beyond() -> None:
    assert dimensions.total({name: one.high for name, one in DIMENSIONS.items()}) == pytest.approx(1, abs=1e-12)
    assert dimensions.total({name: one.low for name, one in DIMENSIONS.items()}) == pytest.approx(0, abs=1e-12)
    assert dimensions.total(NEUTRAL) == pytest.approx(0.5, abs=1e-12)
    assert dimensions.normalise("scene", 1.0) > 1
    assert dimensions.normalise("subject consistency", 0.0) < 0


@pytest.mark.parametrize("name", DIMENSIONS)
def test_a_missing_dimension_is_nan_and_never_0(name: str) -> None:
    part, other = (dimensions.quality, dimensions.semantic)[:: 1 if DIMENSIONS[name].part == "quality" else -1]
    for scores in ({k: v for k, v in NEUTRAL.items() if k != name}, NEUTRAL | {name: math.nan}):
        assert math.isnan(part(scores)) and math.isnan(dimensions.total(scores))
        assert other(scores) == pytest.approx(0.5)
        assert dimensions.missing(scores) == (name,)
        assert dimensions.vbench_script(scores)[0] < 0.5


def test_what_a_dimension_needs() -> None:
    assert "auxiliary labels" in dimensions.undefined_without("scene", prompt=True, labels=False)
    assert "prompt" in dimensions.undefined_without("temporal_style", prompt=False, labels=False)
    assert dimensions.undefined_without("temporal_style", prompt=True, labels=False) == ""
    assert dimensions.undefined_without("imaging_quality", prompt=False, labels=False) == ""


# --- intervals ---------------------------------------------------------------------------------------------------


def measured(generator: np.random.Generator, prompts: int) -> dict[str, dict[str, list[float]]]:
    """Dimension → prompt → the scores of two clips; every dimension has prompts of its own, as in VBench."""
    return {
        name: {f"{name} {g}": list(one.low + (one.high - one.low) * generator.uniform(size=2)) for g in range(prompts)}
        for name, one in DIMENSIONS.items()
    }


def test_total_with_an_interval_through_stats() -> None:
    values = measured(np.random.default_rng(0), 12)
    lines, labels = dimensions.by_cluster(values)
    found = stats.pooled(lines, np.array(labels), dimensions.finalizer("total"))
    means = {name: float(np.mean(list(clusters.values()))) for name, clusters in values.items()}
    assert found.value == pytest.approx(dimensions.total(means), abs=1e-12)
    assert found.clusters == 16 * 12 and found.reason == ""
    # Delta method: independent dimensions, each a mean over its own prompts.
    variance = sum(
        (share * one.weight / (one.high - one.low) / weights) ** 2
        * np.var([np.mean(clip) for clip in values[one.name].values()], ddof=1) / 12
        for part, share, weights in (("quality", 0.8, 6.5), ("semantic", 0.2, 9.0))
        for one in dimensions.of_part(part)  # type: ignore[arg-type]
    )  # fmt: skip
    half = (found.high - found.low) / 2
    assert half == pytest.approx(1.972 * math.sqrt(variance), rel=0.06)  # t(191) = 1.972; the jackknife has n/(n−1)


def test_a_dimension_without_scores_leaves_total_nan_and_itself_measured() -> None:
    values = measured(np.random.default_rng(1), 4)
    del values["scene"]
    lines, labels = dimensions.by_cluster(values)
    assert math.isnan(stats.pooled(lines, np.array(labels), dimensions.finalizer("total")).value)
    assert not math.isnan(stats.pooled(lines, np.array(labels), dimensions.finalizer("quality")).value)
    with pytest.raises(UsageError, match="Total|total|dimension"):
        dimensions.finalizer("totals")


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 99)), min_size=1, max_size=8))
def test_statistics_merge_as_pooled_means(videos: list[tuple[float, int]]) -> None:
    """A dimension that pools frames: the overall is the mean over all frames, not over videos."""
    lines = sum(dimensions.statistics({"object class": (rate * n, float(n))}) for rate, n in videos)
    expected = sum(rate * n for rate, n in videos) / sum(n for _, n in videos)
    assert dimensions.finalizer("object_class")(lines) == pytest.approx(expected)  # type: ignore[arg-type]
    assert math.isnan(dimensions.finalizer("scene")(lines))  # type: ignore[arg-type]


def test_nan_is_no_statistic() -> None:
    assert not dimensions.statistics({"scene": math.nan}).any()


# --- tables ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "wrong", "rows"), [("v1", ["flashvideo_8fps"], 10), ("v4", ["cogvideox_2b"], 11)])
def test_the_papers_table_1(version: str, wrong: list[str], rows: int) -> None:
    check = recompute(published("Table 1")[version].items())
    assert [row.name for row in check.rows if row.off] == wrong
    assert len(check.rows) == rows
    for row in check.rows:
        assert row.bounds["total"] == pytest.approx(0.0136, abs=5e-5)
        assert row.bounds["quality"] == pytest.approx(0.0136, abs=5e-5)
        assert row.bounds["semantic"] == pytest.approx(0.0135, abs=5e-5)
        if row.name not in wrong:
            assert all(abs(row.values[name] - row.printed[name]) < 0.014 for name in row.printed)
    assert all(line.split(":")[0] in {*wrong, "opensora_1.2"} for line in check.findings), check.findings


def test_the_findings_about_version_1() -> None:
    check = recompute(published("Table 1")["v1"].items())
    (row,) = [row for row in check.rows if row.name == "flashvideo_8fps"]
    assert row.off == pytest.approx({"total": 0.0170, "semantic": 0.1036}, abs=5e-5)
    assert row.values == pytest.approx({"total": 82.5070, "quality": 82.5829, "semantic": 82.2036}, abs=5e-5)
    assert set(row.repairs) == {one.name for one in dimensions.of_part("semantic")}
    cells = published("Table 1")["v1"]["flashvideo_8fps"]
    moved = {name: cells[name] - value for name, value in row.repairs.items()}
    assert moved["object_class"] == pytest.approx(0.93, abs=0.005)
    assert moved["scene"] == pytest.approx(0.77, abs=0.005)
    assert moved["appearance_style"] == pytest.approx(0.27, abs=0.005)
    assert moved["temporal_style"] == pytest.approx(0.34, abs=0.005)
    assert any(line.startswith("opensora_1.2: all 19 numbers are those of ltx_video") for line in check.findings)
    assert any("total does follow from its quality and semantic" in line for line in check.findings)


def test_the_findings_about_version_4() -> None:
    check = recompute(published("Table 1")["v4"].items())
    (row,) = [row for row in check.rows if row.off]
    assert row.values["quality"] == pytest.approx(82.86, abs=0.005)
    assert row.repairs["motion_smoothness"] == pytest.approx(97.73, abs=0.005)
    assert any("motion_smoothness 99.02 is also that of mochi_1" in line for line in check.findings)
    assert not any("copy" in line for line in check.findings)


def test_totals_that_count_a_missing_dimension_as_0_are_recognised() -> None:
    scores = {name: value / 100 for name, value in OPENSORA.items() if name != "scene"}
    total, quality, semantic = (round(100 * value, 2) for value in dimensions.vbench_script(scores))
    cells = {"Total Score": total, "Quality Score": quality, "Semantic Score": semantic}
    cells |= {name.replace("_", " "): value for name, value in OPENSORA.items()} | {"scene": math.nan}
    (line,) = recompute([("x", cells)]).findings
    assert line == (
        "x: no value of scene, so its total and semantic cannot be recomputed; "
        "the printed total and semantic is what counting the missing as 0 gives"
    )


def test_the_bound_follows_the_printed_decimals() -> None:
    """One decimal in one cell widens that row's bound by its own sensitivity only."""
    fine = {name: f"{value:.2f}" for name, value in OPENSORA.items()} | {"quality": "81.35"}
    coarse = fine | {"motion_smoothness": "98.5"}
    one, two = recompute([("fine", fine), ("coarse", coarse)]).rows
    assert two.bounds["quality"] - one.bounds["quality"] == pytest.approx(0.045 / 0.2915 / 6.5)


def test_rounded_rows_never_become_findings() -> None:
    generator = np.random.default_rng(3)
    rows = []
    for number in range(200):
        scores = {name: one.low + (one.high - one.low) * generator.uniform() for name, one in DIMENSIONS.items()}
        cells = {name: round(100 * value, 2) for name, value in scores.items()}
        for name, aggregate in dimensions.AGGREGATES.items():
            cells[name] = round(100 * aggregate(scores), 2)
        rows.append((f"row {number}", cells))
    assert recompute(rows).findings == ()
    rows[7][1]["quality"] += 0.05
    assert {line.split(":")[0] for line in recompute(rows).findings} == {"row 7"}


def test_a_csv_file(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    header = ["Model", "Total Score", *(one.title for one in DIMENSIONS.values())]
    lines = [["a", "79.76", *map(str, OPENSORA.values())], ["b", "79.76", *map(str, OPENSORA.values())]]
    path.write_text("\n".join(",".join(line) for line in [header, *lines]) + "\n\n", encoding="utf-8-sig")
    assert recompute(read_csv(path)).findings == ("b: all 17 numbers are those of a; one of the two rows is a copy",)
    path.write_text("name,total\na,1,2\n")
    with pytest.raises(InvalidError, match="row 'a' has 3 cells, the header 2"):
        read_csv(path)
    path.write_text("name,total,total\na,1,2\n")
    with pytest.raises(InvalidError, match="two columns have one name"):
        read_csv(path)
    path.write_text("")
    with pytest.raises(InvalidError, match="is not a table"):
        read_csv(path)
    with pytest.raises(InvalidError, match="cannot read"):
        read_csv(tmp_path / "absent.csv")


def test_cells_that_cannot_be_read() -> None:
    with pytest.raises(InvalidError, match="x, scene: '4o.1' is not a number"):
        recompute([("x", {"scene": "4o.1"})])
    with pytest.raises(InvalidError, match="infinite"):
        recompute([("x", {"scene": "inf"})])
    with pytest.raises(InvalidError, match="two columns mean total"):
        recompute([("x", {"total": 1.0, "Total Score": 1.0})])
    with pytest.raises(UsageError, match="unknown VBench dimension"):
        recompute([("x", {"sceen": 1.0})])
    assert "outside" in recompute([("x", {"scene": 142.0})]).findings[1]
    assert "percentages" in recompute([("x", {"scene": 0.4, "color": 0.5})]).findings[1]
