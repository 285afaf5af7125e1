"""Comparisons: verdicts with known answers, sentences to the letter, pairing by every way, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import fake_scores
import numpy as np
import pandas as pd
import pytest
from fake_scores import frame, line
from hypothesis import given
from hypothesis import strategies as st

from flashbench.errors import FlashBenchError, InvalidError, UsageError
from flashbench.metrics import base
from flashbench.reporting.markup import latex, markdown
from flashbench.reporting.runs import ScoredRun, read_run
from flashbench.scoring import to_parquet
from flashbench.stats import smallest_resolvable
from flashbench.videos.compare import Compared, compare, judge, labelled, load, parse_margins
from flashbench.videos.compare_report import blocks, sentence, to_csv
from flashbench.videos.paired import needed
from flashbench.videos.pairing import manifest, pair


def scored(
    label: str, values: list[float], metric: str = "niqe", names: list[str] | None = None, **more: Any
) -> pd.DataFrame:
    """A run of videos v00.mp4 … with one metric; every clip is its own cluster."""
    cases = names or [f"v{i:02d}.mp4" for i in range(len(values))]
    about = {"protocol": "adhoc/custom"} | more
    lines = [
        line(label, case, metric, value, **({"cluster": case, "clip": f"{label}{case}"} | about))
        for case, value in zip(cases, values, strict=True)
    ]
    return frame(lines)


def run(table: pd.DataFrame, record: dict[str, Any] | None = None) -> ScoredRun:
    return ScoredRun(label=str(table["row"].iloc[0]), table=table, record=record)


def compared(*tables: pd.DataFrame, **more: Any) -> Compared:
    runs = labelled([run(table) for table in tables])
    return judge(runs, next(iter(runs)), lookup=fake_scores.metric, **more)  # type: ignore[arg-type]


def one(*tables: pd.DataFrame, **more: Any) -> str:
    found = compared(*tables, **more)
    return sentence(found.results[0], found.units)


LEVELS = [4.0, 4.5, 5.0, 5.5, 6.0, 4.2, 4.8, 5.2]
NOISE = [0.01, -0.02, 0.03, -0.01, 0.0, 0.02, -0.03, 0.0]


def shifted(by: float, scale: float = 1.0) -> list[float]:
    return [x + by + scale * e for x, e in zip(LEVELS, NOISE, strict=True)]


# --- verdicts and sentences ---------------------------------------------------------------------------------------


def test_lower_niqe_is_better_and_the_sentence_has_all_numbers() -> None:
    assert one(scored("A", LEVELS), scored("B", shifted(-0.5))) == (
        "B is better than A on niqe: 4.400 against 4.900, difference -0.500 [-0.517, -0.483], p < 0.001 (Holm), "
        "8 pairs."
    )


def test_higher_niqe_is_worse() -> None:
    text = one(scored("A", LEVELS), scored("B", shifted(0.5)))
    assert text.startswith("B is worse than A on niqe: 5.400 against 4.900, difference 0.500 [0.483, 0.517]")


def test_higher_psnr_is_better() -> None:
    found = compared(scored("A", LEVELS, "psnr"), scored("B", shifted(0.5), "psnr"))
    assert found.results[0].verdict == "better"
    assert " dB, difference" in sentence(found.results[0])


def test_a_small_loss_within_the_margin_is_no_worse() -> None:
    text = one(scored("A", LEVELS), scored("B", shifted(0.01)), margin=0.1)
    assert text == (
        "B is no worse than A on niqe by the margin 0.1: 4.910 against 4.900, difference 0.010 [-0.007, 0.027], "
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


def test_what_is_not_resolved_is_undecided_and_says_how_many_it_needs() -> None:
    found = compared(scored("A", LEVELS), scored("B", shifted(0.01)))
    result = found.results[0]
    assert result.verdict == "undecided"
    spread = float(np.std(np.array(shifted(0.01)) - LEVELS, ddof=1))
    n = int(result.needed)
    assert smallest_resolvable(spread / math.sqrt(n), n) <= 0.01 < smallest_resolvable(spread / math.sqrt(n - 1), n - 1)
    assert sentence(result, "videos").endswith(f"8 pairs; needs about {n} videos to resolve a difference of this size.")


def test_the_number_needed_is_the_textbooks() -> None:
    # Two-sided 5 %, 80 % power, effect of half a standard deviation: 34 pairs (Cohen, 1988).
    assert needed(1 / math.sqrt(10), 10, 0.5) == 34
    assert needed(1 / math.sqrt(10), 10, -0.5) == 34
    assert needed(1.0, 10, 0.0) == math.inf
    assert needed(1.0, 10, 1e-6) == math.inf
    assert math.isnan(needed(math.nan, 2, 0.5))
    assert needed(1e-9, 10, 0.5) == 3


def test_a_difference_of_nothing_needs_more_than_anyone_has() -> None:
    swapped = [LEVELS[i ^ 1] for i in range(8)]
    text = one(scored("A", LEVELS), scored("B", swapped))
    assert text.endswith("; more than 100,000 videos would be needed to resolve so small a difference.")


def test_a_metric_without_direction_differs_or_is_not_resolved() -> None:
    far = one(scored("A", LEVELS, "sharpness"), scored("B", shifted(-0.5), "sharpness"))
    near = one(scored("A", LEVELS, "sharpness"), scored("B", shifted(0.01), "sharpness"))
    assert far.startswith("B differs from A on sharpness, which has no better or worse: 4.400 against 4.900")
    assert near.startswith("No difference between B and A is resolved on sharpness: ")


def test_the_same_clips_are_identical() -> None:
    same = {"clip": "digest"}
    found = compared(scored("A", LEVELS, **same), scored("B", LEVELS, **same))
    assert sentence(found.results[0]) == "B and A are identical on niqe: every pair is the same clip."
    assert found.notes[-1] == "Identical: every pair of `B` and `A` is the same clip."


def test_identical_clips_are_identical_where_the_score_is_infinite() -> None:
    same = {"clip": "digest"}
    infinite = [math.inf] * 4
    assert "are identical" in one(scored("A", infinite, "psnr", **same), scored("B", infinite, "psnr", **same))


def test_the_same_clips_beside_other_references_are_compared() -> None:
    same = {"clip": "digest"}
    found = compared(scored("A", LEVELS, "psnr", **same), scored("B", shifted(0.5), "psnr", **same))
    assert found.results[0].verdict == "better"


def test_other_clips_with_equal_scores_are_equal_not_identical() -> None:
    assert one(scored("A", LEVELS), scored("B", LEVELS)).startswith("B and A are equal on niqe in every pair: ")


def test_two_clusters_give_no_verdict() -> None:
    found = compared(scored("A", [1.0, 2.0]), scored("B", [3.0, 4.0]))
    assert sentence(found.results[0]) == "B against A has no verdict on niqe: an interval needs 3 clusters, here 2."
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
    assert sentence(found.results[0], found.units).endswith("8 pairs of 4 prompts.")


def test_set_metrics_are_compared_by_their_pooled_values() -> None:
    scores = fake_scores.synthetic({"A": (1.0, 30.0), "B": (2.0, 30.0)}, clusters=8)
    scores = scores[scores["metric"] == "niqe_pooled"]
    found = compared(scores[scores["row"] == "A"], scores[scores["row"] == "B"]).results[0]
    for row, value in (("A", found.baseline_value), ("B", found.other_value)):
        sums = np.sum(np.stack([np.asarray(x) for x in scores[scores["row"] == row]["statistics"]]), axis=0)
        assert value == pytest.approx(fake_scores.spread(sums))
    assert found.verdict == "worse"
    assert found.effect == pytest.approx(found.other_value - found.baseline_value)


@given(
    st.lists(st.tuples(st.floats(0, 10), st.floats(-1, 1)), min_size=3, max_size=12),
    st.sampled_from(["niqe", "psnr", "sharpness"]),
)
def test_swapping_the_two_flips_the_verdict(drawn: list[tuple[float, float]], metric: str) -> None:
    a, b = scored("A", [x for x, _ in drawn], metric), scored("B", [x + d for x, d in drawn], metric)
    there, back = compared(a, b).results[0], compared(b, a).results[0]
    assert back.verdict == {"better": "worse", "worse": "better"}.get(there.verdict, there.verdict)
    assert (back.effect, back.low, back.high) == pytest.approx((-there.effect, -there.high, -there.low), abs=1e-12)
    assert back.p == pytest.approx(there.p)


# --- pairing --------------------------------------------------------------------------------------------------------


def pairs(first: list[str], second: list[str], way: str = "auto", **prompts: Any) -> Any:
    tables = scored("A", [1.0] * len(first), names=first), scored("B", [1.0] * len(second), names=second)
    for table, key in zip(tables, ("a", "b"), strict=True):
        if key in prompts:
            table["cluster"], table["seed"] = zip(*prompts[key], strict=True)
    return pair(*tables, way, ("A", "B"))


def told(found: Any) -> list[tuple[str, str]]:
    return [(one[0], two[0]) for one, two in found.pairs]


def test_names_pair_across_suffixes_and_the_rest_is_listed() -> None:
    found = pairs(["a.mp4", "b/c.mp4", "lost.mp4"], ["a.mkv", "b/c.webm", "x.mkv", "y.mkv"])
    assert told(found) == [("a.mp4", "a.mkv"), ("b/c.mp4", "b/c.webm")]
    assert found.describe("A", "B") == [
        "2 pairs of `B` and `A`, by name.",
        "1 unmatched in `A`: lost.mp4.",
        "2 unmatched in `B`: x.mkv, y.mkv.",
    ]


def test_the_same_name_comes_before_the_same_stem() -> None:
    found = pairs(["a.mp4", "a.mkv"], ["a.mkv", "a.mp4"])
    assert told(found) == [("a.mkv", "a.mkv"), ("a.mp4", "a.mp4")]
    assert told(pairs(["a.mp4", "a.mkv"], ["a.mp4"])) == [("a.mp4", "a.mp4")]


def test_two_candidates_are_an_error() -> None:
    with pytest.raises(InvalidError, match=r"'a.mkv' and 'a.mp4' of 'A' differ only in their suffix"):
        pairs(["a.mp4", "a.mkv"], ["a.webm"])


def test_prompts_pair_where_no_name_does() -> None:
    prompts = {"a": [("cat", 0), ("cat", 1), ("dog", 0)], "b": [("dog", 0), ("cat", 1), ("fox", 0)]}
    found = pairs(["1.mp4", "2.mp4", "3.mp4"], ["x.mp4", "y.mp4", "z.mp4"], **prompts)
    assert (found.way, told(found)) == ("prompt", [("2.mp4", "y.mp4"), ("3.mp4", "x.mp4")])
    assert found.describe("A", "B")[0] == "2 pairs of `B` and `A`, by prompt and seed."


def test_names_win_unless_prompts_are_asked_for() -> None:
    prompts = {"a": [("cat", 0), ("dog", 0)], "b": [("dog", 0), ("cat", 0)]}
    assert told(pairs(["1.mp4", "2.mp4"], ["1.mp4", "2.mp4"], **prompts))[0] == ("1.mp4", "1.mp4")
    assert told(pairs(["1.mp4", "2.mp4"], ["1.mp4", "2.mp4"], "prompt", **prompts))[0] == ("1.mp4", "2.mp4")


def test_two_videos_of_one_prompt_and_seed_are_an_error() -> None:
    prompts = {"a": [("cat", 0), ("cat", 0)], "b": [("cat", 0), ("dog", 0)]}
    with pytest.raises(InvalidError, match=r"'1.mp4' and '2.mp4' of 'A' both answer 'cat' with seed 0"):
        pairs(["1.mp4", "2.mp4"], ["x.mp4", "y.mp4"], **prompts)


@pytest.mark.parametrize("way", ["auto", "name"])
def test_nothing_in_common_is_an_error(way: str) -> None:
    with pytest.raises(InvalidError, match="no video of 'B' pairs with one of 'A'"):
        pairs(["1.mp4"], ["x.mp4"], way)


def test_pairing_by_prompt_needs_prompts() -> None:
    with pytest.raises(InvalidError, match="'A' was scored without prompts"):
        pairs(["1.mp4"], ["1.mp4"], "prompt")


def test_an_unknown_way_is_a_wrong_call() -> None:
    with pytest.raises(UsageError, match="no way of pairing called 'size'"):
        pairs(["1.mp4"], ["1.mp4"], "size")
    with pytest.raises(UsageError, match="no way of pairing and no file"):
        compared(scored("A", LEVELS), scored("B", LEVELS), pairs="absent.csv")


def test_pairs_of_different_prompts_are_noted() -> None:
    a, b = scored("A", LEVELS), scored("B", shifted(1))
    found = compared(a.assign(cluster="cat " + a["case"]), b.assign(cluster="dog " + b["case"]))
    assert "8 pairs of `B` and `A` have different prompts; the baseline's count." in found.notes


@pytest.mark.parametrize("head", [("A", "B"), ("before", "after")])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_manifest_says_what_pairs(tmp_path: Path, head: tuple[str, str], kind: str) -> None:
    a = scored("A", [1.0, 2.0, 3.0, 4.0], names=["k.mp4", "l.mp4", "m/n.mp4", "o.mp4"])
    b = scored("B", [2.0, 3.0, 4.0, 5.0], names=["w.mp4", "x.mp4", "y.mp4", "z.mp4"])
    lines = [("k.mp4", "x"), ("l", "w.mp4"), ("n.mp4", "z.mp4")]
    path = tmp_path / f"pairs.{kind}"
    if kind == "csv":
        path.write_text("\n".join(",".join(row) for row in [head, *lines]))
    else:
        path.write_text("\n".join(json.dumps(dict(zip(head, row, strict=True))) for row in lines))
    found = compared(a, b, pairs=path)
    assert told(found.pairings["B"]) == [("k.mp4", "x.mp4"), ("l.mp4", "w.mp4"), ("m/n.mp4", "z.mp4")]
    assert found.results[0].effect == pytest.approx((2 + 0 + 2) / 3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("A,B\nk.mp4,absent.mp4", "'absent.mp4' leads to no video of 'B'"),
        ("A,B\nk.mp4,x.mp4\nk,y.mp4", "names 'k.mp4' of 'A' twice"),
        ("one\nk.mp4", "the runs are A, B"),
        ("", "the runs are A, B"),
    ],
)
def test_a_manifest_that_leads_nowhere_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (path := tmp_path / "pairs.csv").write_text(text)
    tables = {"A": scored("A", [1.0], names=["k.mp4"]), "B": scored("B", [1.0, 2.0], names=["x.mp4", "y.mp4"])}
    with pytest.raises(InvalidError, match=said):
        manifest(path, tables)


# --- what is refused ------------------------------------------------------------------------------------------------


def record(**more: Any) -> dict[str, Any]:
    niqe = {"identity": {"version": 1, "preprocessing": {"block": 96}}, "assets": {"niqe-pristine": "ab" * 32}}
    filled = {"settings": {"frames": "all", "size": "native"}, "numerics": {"isa": "AVX2"}, "metrics": {"niqe": niqe}}
    return {"schema": 1, "protocol_hash": "h", "versions": {}, "videos": [], **filled, **more}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"settings": {"frames": 16, "size": "native"}}, "settings frames: all in 'A', 16 in 'B'"),
        ({"settings": {"frames": "all", "size": "256x480"}}, "settings size: native in 'A', 256x480 in 'B'"),
        ({"numerics": {"isa": "AVX512"}}, "numerics isa: AVX2 in 'A', AVX512 in 'B'"),
        ({"metrics": {"niqe": {"identity": {"version": 2}, "assets": {}}}}, "niqe identity version: 1 in 'A', 2 in"),
    ],
)
def test_scores_that_mean_different_things_are_refused(change: dict[str, Any], said: str) -> None:
    runs = {"A": run(scored("A", LEVELS), record()), "B": run(scored("B", LEVELS), record(**change))}
    with pytest.raises(InvalidError, match=said) as caught:
        judge(runs, "A", lookup=fake_scores.metric)  # type: ignore[arg-type]
    assert caught.value.code == 3


def test_what_only_other_metrics_differ_in_is_no_obstacle() -> None:
    other = record()
    other["metrics"] = {**other["metrics"], "psnr": {"identity": {"version": 9}}}
    runs = {"A": run(scored("A", LEVELS), record()), "B": run(scored("B", shifted(-1)), other)}
    assert judge(runs, "A", lookup=fake_scores.metric).notes == ()  # type: ignore[arg-type]


def test_scores_without_a_record_are_compared_with_a_note() -> None:
    assert compared(scored("A", LEVELS), scored("B", shifted(1))).notes[0] == (
        "Not checked whether metrics, weights and settings are the same: `A` and `B` have no run.json."
    )


def test_sizes_that_differ_are_noted() -> None:
    def sized(label: str, height: int) -> ScoredRun:
        table = scored(label, shifted(0.1 * height))
        videos = [{"case": case, "height": height, "width": 64} for case in table["case"]]
        return run(table, record(videos=videos))

    notes = judge({"A": sized("A", 32), "B": sized("B", 48)}, "A", lookup=fake_scores.metric).notes  # type: ignore[arg-type]
    assert notes[0].startswith("8 pairs differ in size (48×64 in `B`, 32×64 in `A`)")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("metrics.json", '{"niqe": 4.5}', "has averages, not each clip's score"),
        ("results.csv", "metric,value\nniqe,4.5", "has averages, not each clip's score"),
        ("table.tex", "4.5", "has averages, not each clip's score"),
        ("scores.csv", "case,seed,metric,value\na,0,niqe,4.5", "is a copy of the scores to read"),
    ],
)
def test_averages_are_refused_a_paired_verdict(tmp_path: Path, name: str, content: str, said: str) -> None:
    (path := tmp_path / name).write_text(content)
    with pytest.raises(InvalidError, match=said):
        compare(path, scored("B", LEVELS))


def test_a_table_of_averages_is_refused_too() -> None:
    with pytest.raises(InvalidError, match="has averages"):
        compare(scored("A", LEVELS), pd.DataFrame({"metric": ["niqe"], "value": [4.5]}))


def test_several_rows_must_be_chosen_from() -> None:
    both = pd.concat([scored("A", LEVELS), scored("B", LEVELS)])
    with pytest.raises(InvalidError, match="has 2 rows: A, B"):
        load(both)


@pytest.mark.parametrize("texts", [["x"], ["0"], ["-1"], ["niqe="], ["=1"], ["1", "2"], ["a=1", "a=1"], ["inf"]])
def test_margins_that_are_none_are_refused(texts: list[str]) -> None:
    with pytest.raises(UsageError, match="margin"):
        parse_margins(texts)


def test_margins_are_for_all_metrics_or_for_one() -> None:
    assert parse_margins(["0.1", "niqe=0.2"]) == {"*": 0.1, "niqe": 0.2}
    assert parse_margins([]) is None
    found = compared(scored("A", LEVELS, "psnr"), scored("B", shifted(-0.05), "psnr"), margin={"*": 0.1})
    assert found.results[0].verdict == "no worse"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"margin": {"nique": 1.0}}, "unknown metric with a margin 'nique'"),
        ({"margin": -1.0}, "is not above 0"),
        ({"margin": {"sharpness": 1.0}}, "sharpness has no better or worse"),
        ({"metrics": ["nique"]}, "unknown metric of these runs 'nique'"),
    ],
)
def test_wrong_names_are_wrong_calls(more: dict[str, Any], said: str) -> None:
    def both(label: str) -> pd.DataFrame:
        return pd.concat([scored(label, LEVELS), scored(label, LEVELS, "sharpness")])

    with pytest.raises(UsageError, match=said):
        compared(both("A"), both("B"), **more)


def test_an_unknown_baseline_and_a_single_run_are_wrong_calls() -> None:
    runs = {"A": run(scored("A", LEVELS))}
    with pytest.raises(UsageError, match="unknown baseline 'B'"):
        judge(runs, "B")
    with pytest.raises(UsageError, match="one run is no comparison"):
        judge(runs, "A")


def test_runs_without_a_shared_metric_are_refused() -> None:
    with pytest.raises(InvalidError, match="share no metric"):
        compared(scored("A", LEVELS), scored("B", LEVELS, "psnr"))


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
        "B is better than A on niqe: 4.400 against 4.900, difference -0.500 [-0.517, -0.483], p < 0.001 (Holm), "
        "8 pairs."
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


def test_the_report_in_markdown_and_latex() -> None:
    found = compared(scored("A_1", LEVELS), scored("B", shifted(0.01)), margin=0.1)
    text = markdown(blocks(found))
    assert text.startswith("# B against A_1\n\n- B is no worse than A_1 on niqe by the margin 0.1: ")
    assert "| niqe ↓ | 4.900 | 4.910 | 0.010 | [-0.007, 0.027] | 0.20 | 8 | no worse |" in text
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
