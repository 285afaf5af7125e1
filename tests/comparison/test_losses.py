"""Clips that one side lost: whoever drops the worst of one side wins nothing by it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support import fake_scores
from support.scored_runs import LEVELS, compared, scored, shifted

from flashbench.comparison.compare import Rules
from flashbench.comparison.verdict import Result, sentence

RNG = np.random.default_rng(16)
BASE = RNG.normal(5, 0.5, 40)
NOISE = RNG.normal(0, 1, 40)
OTHER = BASE + NOISE - NOISE.mean()
"""Forty pairs whose mean difference is 0; lower is better."""
KEPT = np.argsort(OTHER)[:28]
IGNORE = Rules(ignore_missing=True)


def pair(lost: list[int], cause: str, **more: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both runs, of which the second lost some clips: files that are gone, or rows with the reason."""
    a, b = scored("A", BASE.tolist(), **more), scored("B", OTHER.tolist(), **more)
    gone = b["case"].isin([f"v{i:02d}.mp4" for i in lost])
    if cause == "missing":
        return a, b[~gone]
    return a, b.assign(value=b["value"].where(~gone, math.nan), reason=np.where(gone, cause, ""))


def verdict(a: pd.DataFrame, b: pd.DataFrame, **more: Any) -> Result:
    return compared(a, b, **more).results[0]


LOST = sorted(set(range(40)) - set(KEPT.tolist()))
CAUSES = ["missing", "the file is empty", "it is damaged near picture 3", "temporal flicker needs two frames"]


@pytest.mark.parametrize("cause", CAUSES)
def test_dropping_the_worst_clips_makes_nothing_better(cause: str) -> None:
    whole = verdict(*pair([], cause))
    assert whole.verdict == "undecided" and (whole.lost_other, whole.worst) == (0, "")
    some = verdict(*pair(LOST, cause))
    assert (some.verdict, some.lost_other, some.lost_baseline, some.n, some.of) == ("undecided", 12, 0, 28, 40)
    assert some.worst == "undecided" and some.adjusted < 0.05, "the 28 that are left would be better"
    assert "12 clips of B are lost, which at worst undoes a verdict (--ignore-missing" in sentence(some)
    assert some.reason.startswith("12 of 40 pairs left out: " + ("no such video" if cause == "missing" else cause))
    ignored = verdict(*pair(LOST, cause), rules=IGNORE)
    assert ignored.verdict == "better" and ignored.worst == ""


@pytest.mark.parametrize("cause", CAUSES)
def test_the_side_does_not_matter(cause: str) -> None:
    a, b = pair(LOST, cause)
    there, back = verdict(a, b), verdict(b, a)
    assert (back.verdict, back.lost_baseline, back.lost_other) == ("undecided", there.lost_other, there.lost_baseline)
    ignored = verdict(a, b, rules=IGNORE), verdict(b, a, rules=IGNORE)
    assert [result.verdict for result in ignored] == ["better", "worse"]


@pytest.mark.parametrize(("by", "expected"), [(-2.0, "better"), (2.0, "worse")])
def test_what_even_the_worst_case_decides_stands(by: float, expected: str) -> None:
    a = scored("A", BASE.tolist())
    b = scored("B", (OTHER + by).tolist())[1:]
    result = verdict(a, b)
    assert (result.verdict, result.worst, result.lost_other) == (expected, expected, 1)
    assert sentence(result).endswith("1 clip of B is lost, which even at worst leaves it so.")
    assert verdict(b, a).verdict == {"better": "worse", "worse": "better"}[expected]


def test_the_worst_case_is_the_worst_clip_of_either_run() -> None:
    """By hand: the lost clip of B, lower is better, gets the highest value of all, which is A's own first."""
    b = shifted(-0.9)
    values = [9.0, *LEVELS[1:]]
    result = verdict(scored("A", values), scored("B", b)[1:])
    differences = np.array([9.0, *b[1:]]) - values
    t = differences.mean() / (differences.std(ddof=1) / math.sqrt(8))
    from scipy import stats as sps

    expected = 2 * sps.t.sf(abs(t), 7)
    assert differences[0] == 0 and expected < 0.05 and result.verdict == result.worst == "better"
    low = [x - 20 for x in LEVELS]
    undone = verdict(scored("A", values[:1] + low[1:]), scored("B", [0.0, *(x - 0.9 for x in low[1:])])[1:])
    assert undone.worst == "better", "A's lost partner is the worst clip itself: a difference of 0"
    undone = verdict(scored("A", [low[0], *LEVELS[1:]]), scored("B", b)[1:])
    assert undone.verdict == "undecided", "here the worst clip is 26 above its partner"


def test_a_margin_has_to_hold_at_worst_too() -> None:
    a, b = scored("A", LEVELS), scored("B", shifted(0.01))
    assert verdict(a, b, margin=0.1).verdict == "no worse"
    assert verdict(a, b[1:], margin=0.1).verdict == "undecided"
    assert verdict(a.drop(4), b, margin=0.1).verdict == "undecided", "the baseline's lost clip may have been the best"
    assert verdict(a, b[1:], margin=0.1, rules=IGNORE).verdict == "no worse"
    assert verdict(a, b[1:], margin=10.0).verdict == "no worse"


def test_identical_but_for_what_is_lost_is_not_identical() -> None:
    a, b = (scored(label, LEVELS).assign(clip=[f"c{i}" for i in range(8)]) for label in "AB")
    assert verdict(a, b).verdict == "identical"
    assert verdict(a, b[2:]).verdict == verdict(a[2:], b).verdict == "undecided"
    assert verdict(a, b[2:], rules=IGNORE).verdict == "identical"


def test_an_infinite_value_is_no_bad_one() -> None:
    a, b = scored("A", LEVELS, "psnr"), scored("B", shifted(1), "psnr")
    for why, expected in (("PSNR is infinite: 4 of 4 frames equal the reference", "better"), ("cut", "undecided")):
        b.loc[[0, 4], ["value", "reason"]] = [math.nan, why]
        assert (verdict(a, b).verdict, verdict(a, b).lost_other) == (expected, 2)
        assert verdict(b, a).verdict == {"better": "worse"}.get(expected, expected)


def test_lost_on_both_sides_is_no_loss_of_one() -> None:
    a, b = scored("A", LEVELS), scored("B", shifted(-0.5))
    for table in (a, b):
        table.loc[2, ["value", "reason"]] = [math.nan, "too small"]
    result = verdict(a, b)
    assert (result.verdict, result.lost_baseline, result.lost_other, result.n) == ("better", 0, 0, 7)


def test_shares_at_their_ends() -> None:
    gained = [0.0] * 12 + [1.0] * 8
    a, b = scored("A", [0.0] * 20, "shown"), scored("B", gained, "shown")
    assert verdict(a, b).verdict == "better"
    assert verdict(a, b[1:]).verdict == "better", "0 gains nothing"
    assert verdict(a.assign(value=[1.0] + [0.0] * 19), b[1:]).verdict == "better", "8 against 1: p = 0.039"
    assert verdict(a.assign(value=[1.0] * 3 + [0.0] * 17), b[3:]).verdict == "undecided", "8 against 3"


def test_set_metrics_get_the_statistics_of_the_worst_clip() -> None:
    scores = fake_scores.synthetic({"A": (1.0, 30.0), "B": (2.0, 30.0)}, clusters=12)
    scores = scores[scores["metric"] == "niqe_pooled"].assign(clip=scores["row"] + scores["case"] + scores["key"])
    scores["clip"] += scores["seed"].astype(str)
    a, b = (scores[scores["row"] == row] for row in "AB")
    assert verdict(a, b).verdict == "worse"
    few = b[b["case"] != b["case"].iloc[0]]
    lost = verdict(a, few)
    assert lost.lost_other == len(b) - len(few) and lost.worst in ("worse", "undecided")
    assert verdict(a, b[b["case"].isin(b["case"].unique()[:5])]).verdict == "undecided"


def test_a_manifest_chooses_its_pairs(tmp_path: Any) -> None:
    a, b = pair([], "")
    path = tmp_path / "pairs.csv"
    path.write_text("A,B\n" + "".join(f"v{i:02d}.mp4,v{i:02d}.mp4\n" for i in KEPT))
    result = verdict(a, b, pairs=path)
    assert (result.lost_other, result.lost_baseline, result.of, result.verdict) == (0, 0, 28, "better")
