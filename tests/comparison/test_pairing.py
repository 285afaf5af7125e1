"""Comparisons: what pairs with what, and what is refused."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support import fake_scores
from support.scored_runs import LEVELS, compared, record, run, scored, shifted

from flashbench.comparison.compare import compare, judge, load
from flashbench.comparison.pairing import manifest, pair
from flashbench.errors import InvalidError, UsageError
from flashbench.scores.runs import ScoredRun
from flashbench.videos.margins import parse_margins

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
    with pytest.raises(UsageError, match="neither a way of pairing nor a file"):
        compared(scored("A", LEVELS), scored("B", LEVELS), pairs="absent.csv")


def test_pairs_of_different_prompts_are_noted() -> None:
    a, b = scored("A", LEVELS), scored("B", shifted(1))
    found = compared(a.assign(cluster="cat " + a["case"]), b.assign(cluster="dog " + b["case"]))
    assert "8 pairs of `B` and `A` have different prompts, which count as one." in found.notes


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


@pytest.mark.parametrize("name", ["two\nlines.mp4", "a\u2028b.mp4"])
def test_names_with_ends_of_lines_survive_a_manifest(tmp_path: Path, name: str) -> None:
    tables = {"A": scored("A", [1.0], names=[name]), "B": scored("B", [1.0], names=["x.mp4"])}
    (path := tmp_path / "pairs.csv").write_bytes(f'A,B\n"{name}",x.mp4\n'.encode())
    (other := tmp_path / "pairs.jsonl").write_text(json.dumps({"A": name, "B": "x.mp4"}, ensure_ascii=False), "utf-8")
    assert manifest(path, tables) == manifest(other, tables) == {"A": {0: (name, 0)}, "B": {0: ("x.mp4", 0)}}


def test_names_prompts_and_manifests_pair_in_one_unicode_form(tmp_path: Path) -> None:
    """Runs of other versions may hold names as their file system kept them."""
    composed, apart = (unicodedata.normalize(form, "é/Å.mp4") for form in ("NFC", "NFD"))
    assert told(pairs([composed, "x.mp4"], ["x.mp4", apart])) == [("x.mp4", "x.mp4"), (composed, apart)]
    assert told(pairs([composed], [apart.replace("mp4", "mkv")])) == [(composed, apart.replace("mp4", "mkv"))]
    prompts = {"a": [(composed, 0)], "b": [(apart, 0)]}
    assert told(pairs(["1.mp4"], ["2.mp4"], **prompts)) == [("1.mp4", "2.mp4")]
    with pytest.raises(InvalidError, match="of 'A' differ only in how Unicode writes them"):
        pairs([composed, apart], [composed[:2] + apart[3:]])
    tables = {"Ä": scored("Ä", [1.0], names=[apart]), "B": scored("B", [1.0], names=["x.mp4"])}
    (path := tmp_path / "pairs.csv").write_text(f"Ä ;B\n{composed};x.mp4\n", "utf-16")
    assert manifest(path, tables) == {"Ä": {0: (apart, 0)}, "B": {0: ("x.mp4", 0)}}


# --- what is refused ------------------------------------------------------------------------------------------------


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


def test_other_references_are_refused_for_metrics_of_a_pair() -> None:
    def against(label: str, metric: str, *clips: str) -> ScoredRun:
        table = scored(label, shifted(ord(label) / 100), metric)
        names = zip(table["case"], clips, strict=False)
        beside = [{"case": case, "reference": {"file": "r", "clip": clip}} for case, clip in names]
        return run(table, record(videos=beside))

    def judged(metric: str, *clips: str) -> Any:
        runs = {"A": against("A", metric, "c", "d", "e"), "B": against("B", metric, *clips)}
        return judge(runs, "A", lookup=fake_scores.metric)  # type: ignore[arg-type]

    with pytest.raises(InvalidError, match="the references of 2 pairs of 'B' and 'A' differ"):
        judged("psnr", "c", "x", "y")
    assert judged("psnr", "c", "d", "e").results[0].verdict == "better"
    assert judged("niqe", "c", "x", "y").results[0].verdict == "worse"


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
    assert notes[0].startswith("8 of 8 pairs differ in size (v00.mp4: 48×64, in `A` 32×64): most metrics depend on it")


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
        ({"margin": -1.0}, "not a number above 0"),
        ({"margin": "x"}, "not a number above 0"),
        ({"margin": {"niqe": "x"}}, "not a number above 0"),
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
    with pytest.raises(UsageError, match="a comparison needs two runs, and one is given"):
        judge(runs, "A")


def test_runs_without_a_shared_metric_are_refused() -> None:
    with pytest.raises(InvalidError, match="share no metric"):
        compared(scored("A", LEVELS), scored("B", LEVELS, "psnr"))
