"""What a run would take: clips, GPU-hours, disk, and a budget's prompts."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import smoke
from support.scratch_protocols import write

from flashbench import shares, stats
from flashbench.errors import UsageError
from flashbench.planning import plan
from flashbench.run.options import Options

PAPER = Options(tier="paper")
FULL: dict[str, Any] = {
    "geometry": {"frames": 49, "height": 1072, "width": 1920},
    "preview": {"height": 256, "width": 480, "settings": {"steps": 50}},
    "rows": [
        {"nfe": [4]},
        {"row": ["stages=1"], "system": "stage1_release", "with": {"size": "256x480", "training": "stage1"}},
    ],
    "baseline": "nfe=4",
    "cases": {"set": "prompts", "suite": "vbench", "rewrite": "longer", "limit": None, "flicker_seeds": 25},
    "seeds": 5,
    "controls": [],
}
"""Table 1's design: 944 prompts, 5 clips each and 25 for flickering."""


def hours(text: str) -> float:
    found = re.search(r"^([\d,.]+) GPU-hours for what is missing", text, re.MULTILINE)
    assert found is not None
    return float(found[1].replace(",", ""))


def test_the_clips_and_hours_of_vbench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """30.1 s and 72.2 s a clip; the row that is Stage I's clip costs nothing more."""
    write(tmp_path, monkeypatch, **FULL)
    text = plan.describe("probe", PAPER)
    assert "6,220 clips and 6,220 of Stage I: 0 are there, 12,440 to be made; 12,440 scores" in text
    assert "row stages=1: no clips: they are Stage I's" in text
    assert hours(text) == pytest.approx(6220 * (30.1 + 72.2) / 3600, abs=0.1)
    pixels = 6220 * 49 * (1072 * 1920 + 256 * 480)
    assert f"about {pixels * plan.BYTES_PER_PIXEL / 1e9:,.1f} GB of lossless clips" in text
    assert "weights: about 25.6 GB of 9 files" in text and "licence Apache-2.0 (repository)" in text
    write(tmp_path, monkeypatch, **FULL | {"cases": {**FULL["cases"], "flicker_seeds": 5}})
    text = plan.describe("probe", PAPER)
    assert "4,720 clips" in text and hours(text) == pytest.approx(134.1, abs=0.1)


def test_a_row_that_was_not_released_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"nfe": [4]}, {"training": ["wide"]}, {"row": ["mochi_1"], "system": "mochi_1"}]
    write(tmp_path, monkeypatch, **FULL | {"rows": rows})
    text = plan.describe("probe", replace(PAPER, limit=10))
    assert "row training=wide: no clips: Stage II trained on steps 600 to 900" in text
    assert "row mochi_1: no clips: no adapter yet" in text
    assert "row nfe=4: 0 of" in text and "model wide: Stage II trained" in text


def test_the_smallest_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, monkeypatch, cases={"limit": 100})
    least = stats.smallest_resolvable(1 / math.sqrt(100), 100)
    assert f"over 100 prompts: {least:.2g} standard deviations" in plan.describe("probe", PAPER)
    assert 0.27 < least < 0.30  # (1.96 + 0.84) / 10, and a little for the t distribution
    assert "2 clusters (prompts) resolve nothing" in plan.describe("probe", replace(PAPER, limit=2))


def test_it_is_told_for_the_family_that_is_tested_and_of_shares_by_their_test() -> None:
    told = plan.describe("stages", Options(tier="laptop"))
    alpha = 0.05 / 2
    alone, within = (stats.smallest_resolvable(1 / math.sqrt(48), 48, alpha=level) for level in (0.05, alpha))
    ending = f"in one test, {within:.2g} at Holm's first step over 2 primary tests (niqe_pooled, niqe)"
    assert f"over 48 prompts: {alone:.2g} standard deviations of a cluster's paired difference {ending}" in told
    alone, within = (shares.smallest_resolvable(0.25, 48, 1, alpha=level) for level in (0.05, alpha))
    text = f"{alone:.2g} where a quarter of pairs differ, alike within a cluster in one test, {within:.2g} at Holm's"
    assert text in told and shares.power(alone, 48, 0.25, 1) == pytest.approx(0.8, abs=1e-3)


def test_a_dimension_resolves_what_its_own_prompts_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = plan.describe("vbench", Options(tier="paper"))
    for prompts, dimension in ((93, "imaging_quality"), (75, "temporal_flickering")):
        least = stats.smallest_resolvable(1 / math.sqrt(prompts), prompts)
        (line,) = (one for one in told.splitlines() if f"vbench_long:{dimension}" in one and "smallest" in one)
        assert f"over {prompts} prompts: {least:.2g} standard deviations" in line
    assert "absent: VBench, for motion_smoothness: AMT-S, 12 MB, CC BY-NC 4.0" in told


@pytest.mark.parametrize("budget", [1.0, 7.5, 60.0])
def test_a_budget_is_used_up_and_not_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: float) -> None:
    write(tmp_path, monkeypatch, **FULL)
    taken = plan.within_budget("probe", PAPER, budget)
    protocol = replace(PAPER, limit=taken)
    spent = [hours(plan.describe("probe", replace(protocol, limit=count))) for count in (taken, taken + 1)]
    assert spent[0] <= budget + 0.05 and spent[1] > budget - 0.05
    assert plan.within_budget("probe", replace(PAPER, replicas=(0, 1)), budget) <= taken


def test_budgets_that_mean_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert plan.parse_budget("2gpuh") == 2 and plan.parse_budget("0.5 gpuh") == 0.5
    for text in ("2", "gpuh", "0gpuh", "-1gpuh", "2gpu"):
        with pytest.raises(UsageError, match="budget"):
            plan.parse_budget(text)
    write(tmp_path, monkeypatch, **FULL)
    with pytest.raises(UsageError, match="the first prompt of probe takes 0.14 GPU-hours, more than 0.01"):
        plan.within_budget("probe", PAPER, 0.01)
    monkeypatch.delenv("FLASHBENCH_PROTOCOLS")
    with pytest.raises(UsageError, match="the cases of nfe at smoke are not prompts"):
        plan.within_budget("nfe", Options(tier="smoke"), 1.0)


@pytest.mark.slow
def test_clips_that_are_there_are_counted(tmp_path: Path) -> None:
    options = Options(tier="smoke")
    with smoke.inside(tmp_path):
        before = plan.describe("nfe", options)
    assert "row nfe=4: 0 of 3 clips are there" in before and "model wide (replica 0): to be built" in before
    smoke.run(tmp_path, "nfe")
    with smoke.inside(tmp_path):
        after = plan.describe("nfe", options)
    assert "row nfe=4: 3 of 3 clips are there" in after and "model wide (replica 0): there" in after
    assert re.search(r"^(\d+) clips: \1 are there, 0 to be made", after, re.MULTILINE)
