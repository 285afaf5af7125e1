"""VBench-Long: the worked numbers of its behaviour, and properties of both modes."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashbench.errors import InvalidError, UsageError
from flashbench.vbench import long, slow_fast, static_filter

FPS = st.sampled_from([Fraction(8), Fraction(24), Fraction(30000, 1001), Fraction(24000, 1001), Fraction(25, 2)])


def ranges(*arguments: object) -> list[tuple[int, int]]:
    return [(piece.start, piece.stop) for piece in long.split(*arguments)]  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["official", "corrected"])
def test_worked_examples(mode: long.Mode) -> None:
    assert ranges(mode, 49, 8, 2) == [(0, 16), (16, 32), (32, 48), (33, 49)]
    assert ranges(mode, 145, 24, 2) == [(0, 48), (48, 96), (96, 144), (97, 145)]
    assert ranges(mode, 48, 8, 2) == [(0, 16), (16, 32), (32, 48)]
    assert long.split(mode, 49, 8, 10) == long.split(mode, 49, Fraction(8), 10) == (long.Piece("full", 0, 49),)
    assert ranges(mode, 145, 24, 10) == [(0, 145)]
    assert ranges(mode, 16, 8, 2) == [(0, 16)]
    assert [piece.part for piece in long.split(mode, 49, 8, 2)] == ["000", "001", "002", "003"]


def test_broken_rates_are_cut_officially_and_rounded_otherwise() -> None:
    ntsc, film = Fraction(30000, 1001), Fraction(24000, 1001)
    assert long.clip_frames("official", ntsc, 2) == 2 * 29
    assert long.clip_frames("corrected", ntsc, 2) == 60
    assert long.clip_frames("official", film, 2) == 2 * 23
    assert long.clip_frames("corrected", film, 2) == 48
    assert long.clip_frames("official", 29.97, 1) == 29


def test_lengths_below_a_frame_are_refused() -> None:
    with pytest.raises(InvalidError, match="no frame"):
        long.clip_frames("official", 8, 0.5)
    assert long.clip_frames("corrected", 8, 0.5) == 4
    with pytest.raises(InvalidError, match="without frames"):
        long.split("corrected", 0, 8, 2)


def test_the_ten_second_rule() -> None:
    shared = ("overall_consistency", "aesthetic_quality", "imaging_quality")
    assert long.seconds("official", "imaging_quality", shared) == 10
    assert long.seconds("corrected", "imaging_quality", shared) == 2
    assert long.seconds("official", "subject_consistency", ("dynamic_degree", "motion_smoothness")) == 2
    assert long.seconds("official", "appearance_style", ("appearance_style", "overall_consistency")) == 10
    assert long.seconds("corrected", "human_action") == 10
    assert long.seconds("official", "imaging_quality", shared, custom=True) == 2


@given(st.integers(1, 400), FPS, st.sampled_from([1, 2, 10]), st.sampled_from(["official", "corrected"]))
def test_every_frame_is_in_a_clip_and_clips_have_one_length(
    frames: int, fps: Fraction, seconds: int, mode: long.Mode
) -> None:
    pieces = long.split(mode, frames, fps, seconds)
    assert sorted({t for piece in pieces for t in range(piece.start, piece.stop)}) == list(range(frames))
    assert {piece.stop - piece.start for piece in pieces} == {min(long.clip_frames(mode, fps, seconds), frames)}
    assert all(a.start < b.start for a, b in zip(pieces, pieces[1:], strict=False))
    assert len({piece.name("x") for piece in pieces}) == len(pieces)


def test_names_of_clips() -> None:
    assert long.parse(long.Piece("003", 0, 1).name("a dog-0")) == ("a dog-0", "003")
    assert long.parse("snake_case_full") == ("snake_case", "full")
    assert long.parse("a dog-0") is None and long.parse("a_12") is None and long.parse("_000") is None


def test_official_weighs_clips_and_corrected_weighs_videos() -> None:
    scores = [("A", 1.0)] * 4 + [("B", 0.0)]
    assert long.overall("official", scores).value == pytest.approx(0.8)
    assert long.overall("corrected", scores).value == pytest.approx(0.5)
    assert long.overall("official", scores, filtered=True).value == pytest.approx(0.5)
    assert long.overall("corrected", [("A", 1.0)] * 2 + [("B", 0.0)] * 2).value == pytest.approx(
        long.overall("official", [("A", 1.0)] * 2 + [("B", 0.0)] * 2).value
    )


def test_missing_clips_are_counted_and_nothing_is_nan() -> None:
    found = long.overall("corrected", [("A", 1.0), ("A", math.nan), ("B", math.nan)])
    assert found == long.Overall(value=1.0, clips=1, of=3, videos=1)
    assert math.isnan(long.overall("official", [("A", math.nan)]).value)
    assert math.isnan(long.overall("corrected", []).value)


# --- slow-fast ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "at"),
    [
        ("subject_consistency", {1: 0.655812, 50: 0.932675, 99: 0.995516}),
        ("background_consistency", {1: 0.873692, 50: 0.946058, 99: 0.985895}),
    ],
)
def test_the_tables(name: str, at: dict[int, float]) -> None:
    values = slow_fast.table(name)
    assert values.shape == (101,) and values[0] == 0 and values[-1] == 1
    assert np.all(np.diff(values) > 0)
    for place, value in at.items():
        assert values[place] == pytest.approx(value, abs=1e-9)


def test_interpolation_and_ends() -> None:
    name = "subject_consistency"
    assert slow_fast.mapped(name, 0.005) == pytest.approx(0.655812 / 2)
    assert slow_fast.mapped(name, 0.995) == pytest.approx((0.995516 + 1) / 2)
    assert slow_fast.mapped(name, -0.4) == 0 and slow_fast.mapped(name, 1.2) == 1
    assert math.isnan(slow_fast.mapped(name, math.nan))
    with pytest.raises(UsageError, match="unknown slow-fast dimension"):
        slow_fast.mapped("scene", 0.5)


@given(st.floats(0, 1), st.floats(0, 1), st.sampled_from(["subject_consistency", "background_consistency"]))
def test_the_map_does_not_decrease(a: float, b: float, name: str) -> None:
    low, high = sorted([a, b])
    assert slow_fast.mapped(name, low) <= slow_fast.mapped(name, high)


def test_cosines_are_clamped() -> None:
    assert slow_fast.consistency([0.5, -0.3], [0.7, 0.2]) == pytest.approx((0.6 + 0.1) / 2)
    assert math.isnan(slow_fast.consistency([], []))


def test_fusion() -> None:
    name = "background_consistency"
    fast = slow_fast.mapped(name, 0.8)
    assert slow_fast.fuse(name, 0.9, 0.8) == pytest.approx(0.45 + fast / 2)
    assert slow_fast.fuse(name, 0.9, 0.8, dev_flag=False) == 0.9
    assert slow_fast.fuse(name, 0.9, 0.0) == 0.9, "m(c) = 0"
    assert slow_fast.fuse(name, 0.9, math.nan) == 0.9, "a single clip"
    assert math.isnan(slow_fast.fuse(name, math.nan, 0.8))


def test_the_fused_value_of_a_set() -> None:
    name = "subject_consistency"
    slow = [("A", 0.9), ("A", 0.7), ("B", 0.5)]
    fast = slow_fast.mapped(name, 0.6)
    fused = [0.45 + fast / 2, 0.35 + fast / 2, 0.5]
    # B has one clip: whatever c says of it, its slow score stands.
    official = slow_fast.fused_overall("official", name, slow, {"A": 0.6, "B": 0.1})
    corrected = slow_fast.fused_overall("corrected", name, slow, {"A": 0.6})
    assert official.value == pytest.approx(sum(fused) / 3)
    assert corrected.value == pytest.approx(((fused[0] + fused[1]) / 2 + 0.5) / 2)
    broken = slow_fast.fused_overall("corrected", name, slow, {"A": math.nan})
    assert broken == long.Overall(value=0.5, clips=1, of=3, videos=1)
    assert slow_fast.fused_overall("official", name, slow, {"A": 0.6}, dev_flag=False).value == pytest.approx(0.7)


# --- static filter -----------------------------------------------------------------------------------------------


def test_the_score_of_a_flow() -> None:
    flow = np.zeros((10, 20))
    flow.flat[:4] = [1, 2, 3, 4]
    assert static_filter.flow_score(flow) == pytest.approx(2.5), "the top 2 % are 4 of 200 pixels"
    assert static_filter.flow_score(flow, top=0.05) == pytest.approx(1.0)
    assert math.isnan(static_filter.flow_score(np.ones((7, 7)))), "int(0.98) pixels"


def test_static_or_not_at_the_edges() -> None:
    assert static_filter.threshold(512, 256) == 3
    assert [static_filter.allowed(n) for n in (16, 48, 4, 12, 20)] == [2, 6, 0, 2, 2]
    edge = 2 * 3 * 2  # 2·T·C

    def static(moving: int, there: float = 0, back: float = 0, speed: float = 3.001) -> bool:
        scores = [speed] * moving + [3.0] * (15 - moving)
        return static_filter.is_static(scores, there, back, height=256, width=300)

    assert static(0) and static(2) and not static(3)
    assert static(2, there=edge, back=edge)
    assert not static(0, there=edge + 0.01) and not static(0, back=edge + 0.01)
    assert static(15, speed=3.0), "exactly T does not move"
    assert not static(0, there=math.nan) and not static(3, speed=math.nan)


def test_the_first_five_static_clips_of_each_prompt() -> None:
    paths = [f"split/{p}-{i}/{p}-{i}_{k:03d}.mp4" for p in "ab" for i in (10, 2) for k in range(4)]
    paths += ["split/a-1/a-1_full.mp4"]
    prompts = {path: path[6] for path in paths}
    static = dict.fromkeys(paths, True) | {"split/a-10/a-10_001.mp4": False, "split/b-2/b-2_000.mp4": False}
    official = static_filter.kept(static, prompts, mode="official")
    assert official == (
        "split/a-10/a-10_000.mp4", "split/a-10/a-10_002.mp4", "split/a-10/a-10_003.mp4",
        "split/a-2/a-2_000.mp4", "split/a-2/a-2_001.mp4",
        "split/b-10/b-10_000.mp4", "split/b-10/b-10_001.mp4", "split/b-10/b-10_002.mp4", "split/b-10/b-10_003.mp4",
        "split/b-2/b-2_001.mp4",
    )  # fmt: skip
    assert static_filter.kept(static, prompts, mode="corrected")[0] == "split/a-1/a-1_full.mp4"
    assert static_filter.kept(dict.fromkeys(paths, False), prompts, mode="official") == ()
