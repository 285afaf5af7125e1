"""Comparisons: verdicts with known answers, sentences to the letter, and the way from files to a document."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import fake_scores
from support.scored_runs import LEVELS, compared, record, scored, shifted

from flashbench.comparison.compare import Rules, compare, compare_runs, load
from flashbench.comparison.report import blocks, to_csv
from flashbench.comparison.report import write as write_report
from flashbench.comparison.verdict import sentence
from flashbench.errors import FlashBenchError, InvalidError, UsageError
from flashbench.metrics import base
from flashbench.reporting.document import latex, markdown
from flashbench.scores.runs import ScoredRun, read_run
from flashbench.scores.table import to_parquet


def one(*tables: pd.DataFrame, **more: Any) -> str:
    found = compared(*tables, **more)
    return sentence(found.results[0], found.units)


def same(table: pd.DataFrame) -> pd.DataFrame:
    """The clips of every run under one digest for each name."""
    return table.assign(clip=table["case"])


# --- verdicts and sentences ---------------------------------------------------------------------------------------


def test_lower_niqe_is_better_and_the_sentence_has_all_numbers() -> None:
    assert one(scored("A", LEVELS), scored("B", shifted(-0.5))) == (
        "B is better than A on niqe: 4.40 against 4.90, difference -0.500 [-0.517, -0.483], p < 0.001 (Holm), 8 pairs."
    )


def test_a_value_that_moves_with_the_number_of_clips_says_of_how_many_it_is() -> None:
    found = compared(scored("A", LEVELS), scored("B", shifted(-0.5))).results[0]
    assert not found.together and "together" not in sentence(found)
    assert sentence(replace(found, together=True)).endswith(
        "(Holm), 8 pairs; each value is of its 8 clips together, and moves with their number."
    )


def test_higher_niqe_is_worse() -> None:
    text = one(scored("A", LEVELS), scored("B", shifted(0.5)))
    assert text.startswith("B is worse than A on niqe: 5.40 against 4.90, difference 0.500 [0.483, 0.517]")


def test_higher_psnr_is_better() -> None:
    found = compared(scored("A", LEVELS, "psnr"), scored("B", shifted(0.5), "psnr"))
    assert found.results[0].verdict == "better"
    assert " dB, difference" in sentence(found.results[0])


def test_a_small_loss_within_the_margin_is_no_worse() -> None:
    text = one(scored("A", LEVELS), scored("B", shifted(0.01)), margin=0.1)
    assert text == (
        "B is no worse than A on niqe by the margin 0.1: 4.91 against 4.90, difference 0.010 [-0.007, 0.027], "
        "p = 0.20 (Holm), 8 pairs."
    )


def test_a_resolved_loss_within_the_margin_is_told_as_such() -> None:
    text = one(scored("A", LEVELS), scored("B", shifted(0.05)), margin={"niqe": 0.1})
    assert text.startswith("B is no worse than A on niqe by the margin 0.1")
    assert text.endswith("; it is worse, by less than the margin.")


@pytest.mark.parametrize(("direction", "by"), [("niqe", 0.2), ("psnr", -0.2)])
def test_a_loss_beyond_the_margin_is_worse(direction: str, by: float) -> None:
    found = compared(scored("A", LEVELS, direction), scored("B", shifted(by), direction), margin=0.1)
    assert found.results[0].verdict == "worse"


def test_a_metric_without_direction_differs_or_is_not_resolved() -> None:
    rules = Rules(primary=("sharpness",))
    far = one(scored("A", LEVELS, "sharpness"), scored("B", shifted(-0.5), "sharpness"), rules=rules)
    near = one(scored("A", LEVELS, "sharpness"), scored("B", shifted(0.01), "sharpness"), rules=rules)
    assert far.startswith("B differs from A on sharpness, which has no better or worse: 4.40 against 4.90")
    assert near.startswith("No difference between B and A is resolved on sharpness: ")


def test_the_same_clips_are_identical() -> None:
    found = compared(same(scored("A", LEVELS)), same(scored("B", LEVELS)))
    assert sentence(found.results[0]) == "B and A are identical on niqe: every pair is the same clip."
    assert found.notes[-1] == "Identical: every pair of `B` and `A` is the same clip."


def test_identical_clips_are_identical_where_the_score_is_infinite() -> None:
    infinite = [math.inf] * 4
    assert "are identical" in one(same(scored("A", infinite, "psnr")), same(scored("B", infinite, "psnr")))


def test_the_same_clips_beside_other_references_are_compared() -> None:
    found = compared(same(scored("A", LEVELS, "psnr")), same(scored("B", shifted(0.5), "psnr")))
    assert found.results[0].verdict == "better"


def test_other_clips_with_equal_scores_are_equal_not_identical() -> None:
    assert one(scored("A", LEVELS), scored("B", LEVELS)).startswith("B and A are equal on niqe in every pair: ")


def test_differences_that_cancel_within_clusters_are_not_equal() -> None:
    clusters = [f"p{i // 2}" for i in range(8)]
    b = scored("B", [x + (0.5 if i % 2 else -0.5) for i, x in enumerate(LEVELS)]).assign(cluster=clusters)
    found = compared(scored("A", LEVELS).assign(cluster=clusters), b)
    assert (found.results[0].effect, found.results[0].verdict) == (0, "undecided")


def test_prompts_of_one_side_are_the_unit_and_one_is_singular() -> None:
    b = scored("B", shifted(-0.5)).assign(cluster=[f"p{i // 2}" for i in range(8)])
    found = compared(scored("A", LEVELS), b)
    assert "8 pairs of 4 prompts" in sentence(found.results[0], found.units)
    alone = compared(scored("A", [1.0]), scored("B", [2.0]))
    assert alone.pairings["B"].describe("A", "B") == ["1 pair of `B` and `A`, by name."]


def test_what_could_not_be_read_does_not_differ_in_length() -> None:
    b = scored("B", shifted(1)).assign(frames=[0, 2, 1, 1, 1, 1, 1, 1])
    notes = compared(scored("A", LEVELS), b).notes
    assert [note for note in notes if "number of frames" in note] == [
        "1 of 8 pairs differ in number of frames (v01.mp4: 2, in `A` 1): values are of other stretches of time."
    ]


def test_two_clusters_give_no_verdict() -> None:
    found = compared(scored("A", [1.0, 2.0]), scored("B", [3.0, 4.0]))
    assert sentence(found.results[0]) == (
        "B against A has no verdict on niqe: an interval needs 3 clusters, here 2; 1 pair is missing."
    )
    assert math.isnan(found.results[0].low)


def test_a_missing_score_leaves_its_pair_out() -> None:
    values = shifted(-0.5)
    values[3] = math.nan
    table = scored("B", values)
    table.loc[3, "reason"] = "too small"
    found = compared(scored("A", LEVELS), table)
    result = found.results[0]
    assert (result.n, result.of, result.reason) == (7, 8, "1 of 8 pairs left out: too small")
    rest = [x for i, x in enumerate(LEVELS) if i != 3]
    assert result.baseline_value == pytest.approx(np.mean(rest))
    assert result.other_value - result.baseline_value == pytest.approx(result.effect)
    assert "7 of 8 pairs" in sentence(result)


def test_a_metric_without_any_score_is_listed_with_its_reason() -> None:
    nothing = scored("B", [math.nan] * 8, "psnr").assign(reason="no reference")
    found = compared(
        pd.concat([scored("A", LEVELS), scored("A", LEVELS, "psnr")]), pd.concat([scored("B", shifted(-1)), nothing])
    )
    text = markdown(blocks(found))
    assert "- psnr: no reference" in text
    assert "p adjusted by Holm over 1 test;" in text


def test_holm_is_over_metrics_and_runs() -> None:
    def both(label: str, by: float) -> pd.DataFrame:
        return pd.concat([scored(label, shifted(by, 4)), scored(label, shifted(by, 5), "psnr")])

    found = compared(both("A", 0.0), both("B", 0.07), both("C", 0.05))
    p = np.array([result.p for result in found.results])
    order = np.argsort(p)
    steps = np.minimum(np.maximum.accumulate(p[order] * [4, 3, 2, 1]), 1)
    assert [found.results[i].adjusted for i in order] == pytest.approx(steps)
    assert [(result.other, result.metric) for result in found.results] == [
        ("B", "niqe"), ("B", "psnr"), ("C", "niqe"), ("C", "psnr"),
    ]  # fmt: skip


def test_seeds_of_a_prompt_are_one_cluster() -> None:
    names = [f"p{i // 2}-{i % 2}.mp4" for i in range(8)]

    def prompted(label: str, by: float) -> pd.DataFrame:
        table = scored(label, shifted(by), names=names)
        return table.assign(cluster=[name[:2] for name in names], seed=[i % 2 for i in range(8)])

    found = compared(prompted("A", 0), prompted("B", -0.5))
    assert (found.results[0].clusters, found.units) == (4, "prompts")
    assert "8 pairs of 4 prompts" in sentence(found.results[0], found.units)


def test_set_metrics_are_compared_by_their_pooled_values() -> None:
    scores = fake_scores.synthetic({"A": (1.0, 30.0), "B": (2.0, 30.0)}, clusters=8)
    scores = scores[scores["metric"] == "niqe_pooled"]
    scores = scores.assign(clip=scores["row"] + scores["case"] + scores["seed"].astype(str))
    found = compared(scores[scores["row"] == "A"], scores[scores["row"] == "B"]).results[0]
    for row, value in (("A", found.baseline_value), ("B", found.other_value)):
        sums = np.sum(np.stack([np.asarray(x) for x in scores[scores["row"] == row]["statistics"]]), axis=0)
        assert value == pytest.approx(fake_scores.spread(sums))
    assert found.verdict == "worse"
    assert found.effect == pytest.approx(found.other_value - found.baseline_value)


@settings(max_examples=20)
@given(
    st.lists(st.tuples(st.floats(0, 10), st.floats(-1, 1)), min_size=3, max_size=12),
    st.sampled_from(["niqe", "psnr", "sharpness"]),
)
def test_swapping_the_two_flips_the_verdict(drawn: list[tuple[float, float]], metric: str) -> None:
    a, b = scored("A", [x for x, _ in drawn], metric), scored("B", [x + d for x, d in drawn], metric)
    rules = Rules(primary=(metric,))
    there, back = compared(a, b, rules=rules).results[0], compared(b, a, rules=rules).results[0]
    assert back.verdict == {"better": "worse", "worse": "better"}.get(there.verdict, there.verdict)
    mirrored = (-there.effect, -there.high, -there.low)
    assert (back.effect, back.low, back.high) == pytest.approx(mirrored, abs=1e-12, nan_ok=True)
    assert back.p == pytest.approx(there.p)


# --- from disk to a document ----------------------------------------------------------------------------------------


def write(folder: Path, table: pd.DataFrame, about: dict[str, Any] | None = None) -> Path:
    folder.mkdir()
    (folder / "scores.parquet").write_bytes(to_parquet(table, "hash"))
    if about is not None:
        (folder / "run.json").write_text(json.dumps(about))
    return folder


def test_folders_and_files_and_tables_compare_alike(tmp_path: Path) -> None:
    a = write(tmp_path / "a", scored("A", LEVELS), record())
    b = write(tmp_path / "b", scored("B", shifted(-0.5)), record())
    found = compare(a, b)
    again = [compare(str(a / "scores.parquet"), b), compare(scored("A", LEVELS), scored("B", shifted(-0.5)))]
    assert found["sentence"].tolist() == [
        "B is better than A on niqe: 4.40 against 4.90, difference -0.500 [-0.517, -0.483], p < 0.001 (Holm), 8 pairs."
    ]
    for other in again:
        pd.testing.assert_frame_equal(found, other)


def test_a_protocols_rows_are_chosen_by_name(tmp_path: Path) -> None:
    folder = write(tmp_path / "nfe", pd.concat([scored("nfe=1", shifted(1)), scored("nfe=4", LEVELS)]))
    found = compare(f"{folder}:nfe=4", f"{folder}:nfe=1")
    assert found.loc[0, ["baseline", "other", "verdict"]].tolist() == ["nfe=4", "nfe=1", "worse"]
    with pytest.raises(UsageError, match=r"did you mean 'nfe=4'"):
        compare(f"{folder}:nfe=44", f"{folder}:nfe=1")
    assert load(f"{folder}:nfe=4").protocol_hash == "hash"


def test_several_others_and_labels(tmp_path: Path) -> None:
    a, b = scored("x", LEVELS), scored("x", shifted(-0.5))
    assert compare(a, {"mine": b, "yours": a})["other"].tolist() == ["mine", "yours"]
    assert compare(a, [b, a])["other"].tolist() == ["x (2)", "x (3)"]
    left, right = write(tmp_path / "left", a), write(tmp_path / "right", b)
    assert compare(left, right)["other"].tolist() == [str(right)]


@pytest.mark.parametrize(
    ("name", "content"),
    [("run.json", "{"), ("run.json", "[]"), ("run.json", '{"schema": 1}'), ("scores.parquet", "no parquet")],
)
def test_broken_files_are_refused(tmp_path: Path, name: str, content: str) -> None:
    folder = write(tmp_path / "a", scored("A", LEVELS), record())
    (folder / name).write_text(content)
    with pytest.raises(FlashBenchError):
        read_run(folder)


def test_a_damaged_table_and_files_of_two_runs_say_to_score_again(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", scored("A", LEVELS), record(protocol_hash="other"))
    with pytest.raises(InvalidError, match=r"are of two runs") as caught:
        read_run(folder)
    assert "--out" in caught.value.fix
    (folder / "scores.parquet").write_text("no parquet")
    with pytest.raises(InvalidError, match="cannot be read") as caught:
        read_run(folder)
    assert caught.value.fix.startswith("score the videos again with --out")


def test_a_folder_of_videos_and_scores_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", scored("A", LEVELS))
    (folder / "clips").mkdir()
    (folder / "clips" / "v00.mp4").touch()
    with pytest.raises(UsageError, match=r"holds videos and a scores.parquet"):
        load(folder)
    assert load(folder / "scores.parquet").label == "A"


def test_options_of_scoring_are_refused_where_nothing_is_scored() -> None:
    a, b = scored("A", LEVELS), scored("B", LEVELS)
    with pytest.raises(UsageError, match="--frames, --size are for videos"):
        compare(a, b, frames=8, size="64x64")
    with pytest.raises(UsageError, match="--reference is for videos"):
        compare(a, b, reference="r")


def test_options_of_scoring_beside_scores_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/v00.mp4").write_bytes(b"")
    monkeypatch.setattr("flashbench.comparison.compare.load", lambda *_, **__: ScoredRun(label="x", table=table))
    table = scored("A", LEVELS)
    found = compare_runs([("", table), ("", tmp_path / "videos")], frames=8)
    assert found.notes[0] == "--frames is for videos, not for what is scored already: a table."


def test_backticks_in_names_open_no_code() -> None:
    found = compared(scored("a`b", LEVELS), scored("B", shifted(-0.5)))
    assert found.baseline == "a'b"
    assert "8 pairs of `B` and `a'b`, by name." in markdown(blocks(found))


def test_the_report_in_markdown_and_latex() -> None:
    found = compared(scored("A_1", LEVELS), scored("B", shifted(0.01)), margin=0.1)
    text = markdown(blocks(found))
    assert text.startswith(
        "# B against A_1\n\nB, of 1 metric: no worse on 1.\n\n- B is no worse than A_1 on niqe by the margin 0.1: "
    )
    assert "| niqe ↓ | 4.90 | 4.91 | 0.010 | [-0.007, 0.027] | 0.20 | 8 | no worse |" in text
    assert "a one-sided test of non-inferiority at 2.5 %" in text
    assert "8 pairs of `B` and `A_1`, by name." in text
    written = latex(blocks(found))
    assert r"A\_1" in written
    assert r"\begin{tabular}{lrrrrrrl}" in written
    assert to_csv(found).splitlines()[0].startswith("metric,baseline,other,direction,unit,baseline_value")


def test_a_metric_of_ones_own_is_compared() -> None:
    class Own(base.FrameMetric):
        def frame(self, pair: base.Pair) -> float:
            return float(pair.frame.mean())

    own = Own(name="own", direction="higher", unit="levels", range=(0, 255))
    found = compare(scored("A", LEVELS, "own"), scored("B", shifted(0.5), "own"), metrics=[own])
    assert found.loc[0, "verdict"] == "better"


def test_the_baseline_is_a_label_or_what_was_written(tmp_path: Path) -> None:
    left, right = (str(write(tmp_path / x, scored(x.upper(), shifted(i)))) for i, x in enumerate(("a", "b")))
    sources = [("", left), ("", right)]
    assert compare_runs(sources).baseline == "A"
    assert compare_runs(sources, baseline="B").baseline == compare_runs(sources, baseline=right).baseline == "B"
    assert compare_runs(sources, baseline=right + "/").baseline == "B"
    assert compare_runs(sources, baseline=right).results[0].verdict == "better"
    with pytest.raises(UsageError, match="unknown baseline 'C'"):
        compare_runs(sources, baseline="C")


def test_unreadable_videos_are_listed(tmp_path: Path) -> None:
    videos = [{"case": "v00.mp4", "reason": ""}, {"case": "broken.mp4", "reason": "the file is empty"}]
    a = write(tmp_path / "a", scored("A", LEVELS), record(videos=videos))
    b = write(tmp_path / "b", scored("B", shifted(1)), record())
    found = compare_runs([("", a), ("", b)])
    assert found.unreadable == ("A: broken.mp4: the file is empty",)
    assert "## Not read, or not whole\n\n- A: broken.mp4: the file is empty" in markdown(blocks(found))


def test_reports_are_written_whole(tmp_path: Path) -> None:
    found = compared(scored("A", LEVELS), scored("B", shifted(-0.5)))
    write_report(found, tmp_path / "out")
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert files == ["compare.csv", "compare.json", "compare.md", "compare.tex", "verdict.json"]
    assert (tmp_path / "out" / "compare.md").read_text("utf-8") == markdown(blocks(found))
    table = pd.read_csv(tmp_path / "out" / "compare.csv")
    assert table.loc[0, ["verdict", "n"]].tolist() == ["better", 8]
    (tmp_path / "file").touch()
    with pytest.raises(InvalidError, match="cannot be written"):
        write_report(found, tmp_path / "file")
