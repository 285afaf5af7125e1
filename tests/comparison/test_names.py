"""Names that differ by what all of a side have at one end, pairs in order, and what is told where nothing pairs."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import made_videos as made
from support.scored_runs import LEVELS, compared, scored, shifted

from flashbench.comparison import pairing
from flashbench.comparison.compare import compare_runs
from flashbench.comparison.pairing import Unpaired, pair
from flashbench.errors import InvalidError, UsageError
from flashbench.videos.remarks import of_names


def pairs(first: list[str], second: list[str], way: str = "auto") -> pairing.Pairing:
    tables = scored("A", [1.0] * len(first), names=first), scored("B", [1.0] * len(second), names=second)
    return pair(*tables, way, ("A", "B"))


def told(found: pairing.Pairing) -> list[tuple[str, str]]:
    return [(a, b) for (a, _), (b, _) in found.pairs]


@pytest.mark.parametrize(
    ("first", "second", "affixes"),
    [
        (["x_modelA.mp4", "y_modelA.mp4"], ["x_modelB.mp4", "y_modelB.mp4"], ("_modelA", "_modelB")),
        (["x.mp4", "y.mp4"], ["x-enhanced.webm", "y-enhanced.webm"], ("", "-enhanced")),
        (["base 1.mp4", "base 2.mp4"], ["fp8 1.mp4", "fp8 2.mp4"], ("base ", "fp8 ")),
        (["1_x_fp16.mp4", "2_x_fp16.mp4"], ["1_x_fp8.mp4", "2_x_fp8.mp4"], ("_fp16", "_fp8")),
        (["a/x.mp4", "a/y.mp4"], ["b/x.mp4", "b/y.mp4"], ("a/", "b/")),
        (["cat (old).mp4", "dog (old).mp4"], ["cat.mp4", "dog.mp4"], (" (old)", "")),
    ],
)
def test_what_all_names_of_a_side_share_is_left_out(
    first: list[str], second: list[str], affixes: tuple[str, str]
) -> None:
    found = pairs(first, second)
    assert (told(found), found.affixes) == (list(zip(first, second, strict=True)), affixes)
    back = pairs(second, first, "name")
    assert (told(back), back.affixes) == (list(zip(second, first, strict=True)), affixes[::-1])
    without = " and ".join(f"`{affix}`" for affix in affixes if affix)
    assert found.describe("A", "B") == [f"2 pairs of `B` and `A`, by name without {without}."]


def test_some_are_lost_and_equal_names_come_first() -> None:
    found = pairs(["x_A.mp4", "y_A.mp4", "z_A.mp4"], ["x_B.mp4", "z_B.mp4", "w_B.mp4"])
    assert told(found) == [("x_A.mp4", "x_B.mp4"), ("z_A.mp4", "z_B.mp4")]
    assert found.lost == ((("y_A.mp4", 0),), (("w_B.mp4", 0),))
    assert told(pairs(["x_A.mp4", "y_A.mp4"], ["x_A.mp4", "y_B.mp4"])) == [("x_A.mp4", "x_A.mp4")]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (["cat_0.mp4", "dog_0.mp4"], ["cat_1.mp4", "dog_1.mp4"]),  # samples, not systems
        (["one.mp4", "two.mp4"], ["three.mp4", "four.mp4"]),
        (["x_A.mp4", "y_B.mp4"], ["x_C.mp4", "y_C.mp4"]),  # not all of a side
        (["x.mp4"], ["y.mp4"]),
    ],
)
def test_what_is_no_name_of_a_system_pairs_nothing(first: list[str], second: list[str]) -> None:
    with pytest.raises(Unpaired, match="no video of 'B' pairs with one of 'A'"):
        pairs(first, second)


def test_prompts_come_before_such_names() -> None:
    a = scored("A", [1.0, 2.0], names=["x_A.mp4", "y_A.mp4"]).assign(cluster=["cat", "dog"])
    b = scored("B", [1.0, 2.0], names=["x_B.mp4", "y_B.mp4"]).assign(cluster=["dog", "cat"])
    assert told(pair(a, b, "auto", ("A", "B"))) == [("x_A.mp4", "y_B.mp4"), ("y_A.mp4", "x_B.mp4")]
    assert told(pair(a, b, "name", ("A", "B"))) == [("x_A.mp4", "x_B.mp4"), ("y_A.mp4", "y_B.mp4")]


def test_in_order_by_the_values_of_numbers() -> None:
    found = pairs(["a2.mp4", "a10.mp4", "a1.mp4"], ["take 003.mp4", "take 001.mp4", "take 002.mp4"], "order")
    assert told(found) == [("a1.mp4", "take 001.mp4"), ("a10.mp4", "take 003.mp4"), ("a2.mp4", "take 002.mp4")]
    assert found.describe("A", "B") == ["3 pairs of `B` and `A`, in the order of their names."]
    with pytest.raises(Unpaired, match="'B' has 1 video, 'A' 2: no pairs in order"):
        pairs(["a.mp4", "b.mp4"], ["a.mp4"], "order")


def test_a_draft_is_a_manifest_of_all_runs(tmp_path: Path) -> None:
    a, b = scored("A", LEVELS[:3], names=["a10.mp4", "a9.mp4", 'q"1.mp4']), scored("B", LEVELS[:2], names=["w", "x"])
    c = scored("C", LEVELS[:3], names=["a10.mp4", "a9.mp4", "z.mp4"])
    with pytest.raises(Unpaired) as caught:
        compared(a, b, c)
    assert caught.value.draft == 'A,B,C\na9.mp4,w,a9.mp4\na10.mp4,x,a10.mp4\n"q""1.mp4",,z.mp4\n'
    assert copy.copy(caught.value).draft == caught.value.draft
    (path := tmp_path / "pairs.csv").write_text(caught.value.draft)
    assert told(compared(a, b, c, pairs=path).pairings["B"]) == [("a10.mp4", "x"), ("a9.mp4", "w")]


def folders(where: Path) -> tuple[Path, Path]:
    for name in ("one", "two"):
        (where / name).mkdir()
        for number in range(2):
            made.lossless(where / name / f"{name[number]}.mkv", made.frames(3, 32, 48, seed=number) // (1 + number))
    return where / "one", where / "two"


def test_nothing_is_scored_before_it_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scored_anyway(*_: Any, **__: Any) -> None:
        pytest.fail("scored")

    one, two = folders(tmp_path)
    (tmp_path / "one" / "o.mkv").rename(tmp_path / "one" / "v.mkv")
    monkeypatch.setattr("flashbench.videos.score.score_videos", scored_anyway)
    for options, error in (
        ({}, Unpaired), ({"pairs": "name"}, Unpaired), ({"pairs": "size"}, UsageError),
        ({"prompts": {"v.mkv": "cat", "t.mkv": "dog"}, "pairs": "prompt"}, InvalidError),
    ):  # fmt: skip
        with pytest.raises(error):
            compare_runs([("", one), ("", two)], **options)
    run = scored("A", [1.0], names=["v.mkv"], metric="temporal_flicker")
    with pytest.raises(Unpaired):
        compare_runs([("", run), ("", two)])


def test_the_command_writes_a_draft_and_takes_it(tmp_path: Path) -> None:
    folders(tmp_path)
    (tmp_path / "one" / "o.mkv").rename(tmp_path / "one" / "v.mkv")
    command = [sys.executable, "-m", "flashbench.cli", "compare", "one", "two", "-m", "temporal_flicker"]

    def called(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *more], capture_output=True, text=True, cwd=tmp_path)

    first = called()
    assert first.returncode == 3 and "a draft is in pairs.csv" in " ".join(first.stderr.split()), first.stderr
    assert (tmp_path / "pairs.csv").read_text() == "one,two\nn.mkv,t.mkv\nv.mkv,w.mkv\n"
    assert called("--out", "out").returncode == 3 and (tmp_path / "out" / "pairs.csv").is_file()
    assert called().returncode == 3 and (tmp_path / "pairs-2.csv").is_file(), "nothing is written over"
    done = called("--pairs", "pairs.csv", "--workers", "2", "--device", "cpu")
    assert done.returncode == 0 and "2 pairs of `two` and `one`, as the manifest says." in done.stdout, done.stderr
    assert "in the order of their names" in called("--pairs", "order").stdout


# --- samples of one prompt -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([f"{x}-{n}.mp4" for x in "ab" for n in range(5)], "5 numbers under 2 stems (a-0 … a-4 and b-0 … b-4)"),
        ([f"{x}/{n:03d}.mp4" for x in ("cat", "dog", "fox") for n in (1, 2)], "2 numbers under 3 stems (cat/1 …"),
        ([f"v{n:02d}.mp4" for n in range(8)], ""),
        (["a-0.mp4", "a-1.mp4", "b-2.mp4", "b-3.mp4"], ""),
        (["a-0.mp4", "b-0.mp4", "c-0.mp4"], ""),
        (["a.mp4", "b.mp4"], ""),
    ],
)
def test_names_that_look_like_samples_are_told(names: list[str], said: str) -> None:
    found = of_names(names)
    assert len(found) == bool(said) and said in "".join(found)


def test_samples_are_told_beside_a_verdict_unless_prompts_are_given() -> None:
    names = [f"{x}-{n}.mp4" for x in "ab" for n in range(4)]
    a, b = scored("A", LEVELS, names=names), scored("B", shifted(-1), names=names)
    notes = [note for note in compared(a, b).notes if "share one set" in note]
    assert [note[:4] for note in notes] == ["`A`:", "`B`:"]
    prompted = [table.assign(cluster=[name[0] for name in names]) for table in (a, b)]
    assert not [note for note in compared(*prompted).notes if "share one set" in note]
    assert np.isnan(compared(*prompted).results[0].p)
