"""Comparisons on the log scale and of differences that do not vary: sentences, margins, zeros, the command."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import made_videos as made
from support.scored_runs import LEVELS, compared, scored, shifted

from flashbench.comparison.report import blocks, to_csv
from flashbench.comparison.verdict import sentence
from flashbench.reporting.document import markdown


def lowered(factor: float) -> list[float]:
    """Values whose ratios to `LEVELS` have that geometric mean, and vary a little."""
    noise = np.exp([0.01, -0.02, 0.03, -0.01, 0.0, 0.02, -0.03, 0.0])
    return [factor * x * e for x, e in zip(LEVELS, noise, strict=True)]


def test_a_difference_on_the_log_scale_is_told_in_percent() -> None:
    found = compared(scored("A", LEVELS, "warping"), scored("B", lowered(0.8), "warping"))
    (result,) = found.results
    assert result.effect == pytest.approx(-20) and (result.effect_unit, result.unit) == ("%", "levels²")
    assert result.other_value == pytest.approx(0.8 * result.baseline_value)
    assert sentence(result) == (
        "B is better than A on warping: 3.89 against 4.86 levels², difference -20.0 [-21.3, -18.7] %, "
        "p < 0.001 (Holm), 8 pairs."
    )
    text = markdown(blocks(found))
    assert "| -20.0 % | [-21.3, -18.7] % |" in text and "changes of geometric means" in text
    assert "effect_unit" in to_csv(found).split("\n")[0]


@pytest.mark.parametrize(("margin", "verdict"), [(1.0, "undecided"), (4.0, "no worse")])
def test_its_margin_is_in_percent(margin: float, verdict: str) -> None:
    (result,) = compared(scored("A", LEVELS, "warping"), scored("B", lowered(1.01), "warping"), margin=margin).results
    assert result.verdict == verdict
    text = sentence(result)
    assert verdict == "undecided" or "by the margin 4 %: " in text
    assert verdict == "no worse" or re.search(r"needs about \d+ videos|margin", sentence(result, "videos"))


def test_a_still_clip_leaves_a_difference_in_the_metrics_unit_and_no_margin() -> None:
    still = [0.0, *lowered(0.8)[1:]]
    (result,) = compared(scored("A", LEVELS, "warping"), scored("B", still, "warping"), margin=4.0).results
    assert result.effect_unit == "levels²" and result.effect == pytest.approx(np.mean(still) - np.mean(LEVELS))
    assert result.other_value == pytest.approx(np.mean(still)) and result.baseline_value == pytest.approx(
        np.mean(LEVELS)
    )
    assert np.isnan(result.margin)
    told = "; arithmetic means: 1 of 8 clips or pairs have a value of 0 or below, which has no logarithm, so that the "
    assert told in sentence(result) and " %," not in sentence(result)


def test_the_same_difference_in_every_pair_is_judged_by_its_p_alone() -> None:
    few, many = (
        compared(scored("A", LEVELS[:n]), scored("B", [x - 0.5 for x in LEVELS[:n]])).results[0] for n in (5, 6)
    )
    assert (few.verdict, few.p, many.verdict, many.p) == ("undecided", 2**-4, "better", 2**-5)
    assert sentence(many) == (
        "B is better than A on niqe: 4.37 against 4.87, difference -0.500, p = 0.031 (Holm), 6 pairs; "
        "no interval: the difference is the same in all 6 clusters."
    )
    assert sentence(few).endswith("5 pairs; no interval: the difference is the same in all 5 clusters.")
    assert np.isnan(few.needed), "nothing varies, from which a number of clusters would follow"


def test_most_pairs_equal_is_undecided_without_an_interval() -> None:
    other = [*LEVELS[:6], *shifted(-0.5)[6:]]
    (result,) = compared(scored("A", LEVELS), scored("B", other)).results
    assert (
        result.verdict == "undecided" and result.p == pytest.approx(0.5) and np.isnan([result.low, result.needed]).all()
    )
    assert "the same in 6 of 8 clusters, and too few others show how it varies." in sentence(result)


def test_equal_but_for_rounding_is_equal() -> None:
    nearly = [x * (1 + 2e-16) + 1e-15 for x in LEVELS]
    (result,) = compared(scored("A", LEVELS), scored("B", nearly)).results
    assert (result.verdict, result.effect, result.p) == ("equal", 0, 1)


def flickering(folder: Path, by: list[int]) -> Path:
    """Grey videos 0.mkv …, each of two levels in turn that lie so many levels apart."""
    folder.mkdir()
    for n, step in enumerate(by):
        clip = np.full((4, 32, 32, 3), 60 + 20 * n, np.uint8)
        clip[1::2] += np.uint8(step)
        made.lossless(folder / f"{n}.mkv", clip)
    return folder


def test_the_command_on_videos_that_all_differ_by_the_same(tmp_path: Path) -> None:
    one, other = flickering(tmp_path / "one", [10] * 6), flickering(tmp_path / "other", [12] * 6)
    still = flickering(tmp_path / "still", [0, 11, 12, 13, 14, 15])
    command = [sys.executable, "-m", "flashbench.cli", "compare", *map(str, (one, other, still))]
    done = subprocess.run(
        [*command, "--metrics", "temporal_flicker,frame_difference_energy",
         "--primary", "temporal_flicker,frame_difference_energy"], capture_output=True, text=True,
        env=os.environ | {"FLASHBENCH_CACHE": str(tmp_path / "cache")},
    )  # fmt: skip
    text = " ".join(done.stdout.split())
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    same = "no interval: the difference is the same in all 6 clusters."
    assert "other against one is undecided on temporal_flicker: 12.000 against 10.000 levels, difference 2.000" in text
    assert "difference 44.000 %, " in text and text.count(same) == 2, "12² is 44 % more than 10²"
    assert "arithmetic means: 1 of 6 clips or pairs have a value of 0 or below" in text
