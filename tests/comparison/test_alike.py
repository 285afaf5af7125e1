"""What is alike counts once, and no verdict depends on names, on the order of rows or on which side is the baseline."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import made_videos as made
from support.fake_scores import METRICS
from support.scored_runs import LEVELS, compared, record, run, scored, shifted

import flashbench
from flashbench.comparison.compare import Rules, compare_runs, judge
from flashbench.comparison.verdict import Compared, sentence
from flashbench.scores.clusters import by_content, joined
from flashbench.videos.score import score_videos

MIRROR = {"better": "worse", "worse": "better"}


def test_what_shares_anything_is_one() -> None:
    assert joined({1: "a", 2: "b", 3: "c"}) == {1: 1, 2: 2, 3: 3}
    assert joined({1: "a", 2: "ab", 3: "bc", 4: "d", 5: "cd"}) == dict.fromkeys(range(1, 6), 1)
    assert joined({}) == {} and joined({1: "", 2: ""}) == {1: 1, 2: 2}


def copies(table: pd.DataFrame, count: int) -> pd.DataFrame:
    """Every clip under so many names."""
    parts = [table.assign(case=f"copy{n}-" + table["case"], cluster=f"copy{n}-" + table["case"]) for n in range(count)]
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize("metric", ["niqe", "psnr", "warping", "shown"])
def test_copies_are_no_observations(metric: str) -> None:
    """Four pairs, and four copies of each: the same p, the same interval, the same verdict."""
    values = [1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.0]
    if metric != "shown":
        values = LEVELS[:4], [LEVELS[i ^ 1] + 0.1 * i for i in range(4)]
    a, b = scored("A", list(values[0]), metric), scored("B", list(values[1]), metric)
    once, often = compared(a, b).results[0], compared(copies(a, 4), copies(b, 4)).results[0]
    assert (often.clusters, often.n) == (4, 16) and often.verdict == once.verdict == "undecided"
    assert often.p == pytest.approx(once.p) and once.p > 0.05
    assert (often.effect, often.low, often.high) == pytest.approx((once.effect, once.low, once.high))


def test_three_of_four_are_one_clip_and_the_sentence_says_so() -> None:
    a, b = scored("A", [4.0, 4.0, 4.0, 5.0]), scored("B", [3.0, 3.0, 3.0, 4.0])
    a["clip"], b["clip"] = ["x", "x", "x", "y"], ["p", "p", "p", "q"]
    found = compared(a, b)
    assert found.results[0].verdict == "none"
    assert sentence(found.results[0]).endswith(
        "an interval needs 3 clusters, here 2; 1 pair of other content or prompts is missing."
    )
    said = "Pairs of `B` and `A` share clips of equal content, which is one cluster: 2 clusters, not 4."
    assert said in found.notes
    b["clip"] = ["p", "q", "r", "s"]
    assert compared(a, b).results[0].clusters == compared(b, a).results[0].clusters == 2, "one side's copies suffice"
    assert compared(a.assign(clip=""), b.assign(clip="")).results[0].clusters == 4, "what was not read is not alike"


def test_prompts_that_share_a_clip_are_one(tmp_path: Path) -> None:
    a, b = scored("A", LEVELS), scored("B", shifted(-0.5))
    for table in (a, b):
        table["cluster"] = [f"prompt {i // 2}" for i in range(8)]
    assert compared(a, b).results[0].clusters == 4
    b.loc[3, "clip"] = b.loc[0, "clip"]
    assert compared(a, b).results[0].clusters == 3


def test_files_and_runs_by_out_and_the_intervals_of_score(tmp_path: Path) -> None:
    for folder, seed in (("a", 0), ("b", 50)):
        (tmp_path / folder).mkdir()
        for number, name in enumerate("wxyz"):
            made.lossless(tmp_path / folder / f"{name}.mkv", made.frames(3, 48, 64, seed=seed + number // 3))
    metrics = ["temporal_flicker"]
    done = [score_videos(tmp_path / x, metrics, out=tmp_path / f"out-{x}") for x in "ab"]
    assert done[0].estimates[0].clusters == 2 and math.isnan(done[0].estimates[0].low)
    assert done[0].remarks[-1].endswith("(x.mkv that of w.mkv): equal clips are one cluster")
    for sources in (("a", "b"), ("out-a", "out-b"), ("out-a/scores.parquet", "b")):
        found = flashbench.compare(*(tmp_path / x for x in sources), metrics=metrics)
        assert found[["n", "clusters", "verdict"]].to_numpy().tolist() == [[4, 2, "none"]]


def test_clusters_of_a_table_are_told_by_content() -> None:
    table = scored("A", LEVELS).assign(clip=["x", "y", "x", "z", "", "", "y", "w"])
    assert by_content(table)["cluster"].nunique() == 6


# --- properties ------------------------------------------------------------------------------------------------------

PAIRS = st.lists(
    st.tuples(
        st.floats(1, 10), st.floats(-2, 2), st.sampled_from(["both", "both", "both", "a", "b", "neither"]),
        st.integers(0, 12), st.sampled_from(["8/1", "8/1", "8/1", "24/1"]),
    ),
    min_size=3, max_size=14,
)  # fmt: skip
NAMES = ("niqe", "psnr", "warping", "sharpness")


def side(label: str, drawn: list[Any], names: list[str], order: list[int]) -> Any:
    """A run of one side: values, some of them lost, clips of which some are equal, rates of which some differ."""
    other = label == "B"
    tables = []
    for metric in NAMES:
        values = [x + (d if other else 0) for x, d, *_ in drawn]
        here = ["ab"[other] in kept or kept == "both" for _, _, kept, _, _ in drawn]
        table = scored(label, [v if h else math.nan for v, h in zip(values, here, strict=True)], metric, names)
        table["clip"] = [f"{label}{copy}" for *_, copy, _ in drawn]
        table["reason"] = ["" if h else "broken" for h in here]
        tables.append(table.iloc[[i for i in order if i < len(table)]])
    about = [
        {"case": name, "clip": f"{label}{copy}", "fps": rate if other else "8/1", "frames": 8}
        for name, (*_, copy, rate) in zip(names, drawn, strict=True)
    ]
    niqe = record()["metrics"]["niqe"]
    return run(pd.concat(tables), record(videos=about, metrics=dict.fromkeys(NAMES, niqe)))


def judged(first: Any, second: Any, **rules: Any) -> Compared:
    labels = [str(one.table["row"].iloc[0]) for one in (first, second)]
    runs = dict(zip(labels, (first, second), strict=True))
    return judge(runs, labels[0], lookup=METRICS.__getitem__, rules=Rules(**rules))  # type: ignore[arg-type]


def told(found: Compared) -> list[tuple[Any, ...]]:
    keep = ("metric", "verdict", "n", "of", "clusters", "facts", "worst", "missing", "primary")
    return [tuple(asdict(result)[name] for name in keep) for result in found.results]


RULES = st.sampled_from([{}, {"ignore_missing": True}, {"despite": ("rate",)}, {"primary": ("psnr", "sharpness")}])


@settings(max_examples=25, deadline=None)
@given(PAIRS, st.randoms(use_true_random=False), RULES)
def test_no_verdict_depends_on_order_names_or_sides(drawn: list[Any], random: Any, rules: dict[str, Any]) -> None:
    count = len(drawn)
    names, order = [f"v{i:02d}.mp4" for i in range(count)], list(range(count))
    first, second = side("A", drawn, names, order), side("B", drawn, names, order)
    usual = told(judged(first, second, **rules))
    back = told(judged(second, first, **rules))
    assert [(x[0], MIRROR.get(x[1], x[1]), *x[2:6], MIRROR.get(x[6], x[6]), *x[7:]) for x in back] == usual

    random.shuffle(order)
    renamed = [f"{chr(97 + i % 26)}/{n} é.mp4" for i, n in enumerate(random.sample(range(1000), count))]
    again = side("A", drawn, renamed, order), side("B", drawn, renamed, list(reversed(order)))
    assert told(judged(*again, **rules)) == usual


def test_the_command_mirrors(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for folder in "ab":
        (tmp_path / folder).mkdir()
    for n in range(6):
        clip = made.frames(4, 48, 64, seed=n)
        made.lossless(tmp_path / "a" / f"{n}.mkv", clip)
        noisy = np.clip(clip + rng.normal(0, 20, clip.shape), 0, 255).astype(np.uint8)
        made.lossless(tmp_path / "b" / f"{n}.mkv", noisy)
    sources = [("", tmp_path / "a"), ("", tmp_path / "b")]
    metrics = ["temporal_flicker", "vbench_temporal_flickering", "laplacian_variance"]
    there, back = compare_runs(sources, metrics=metrics), compare_runs(sources[::-1], metrics=metrics)
    assert [x.verdict for x in there.results] == ["worse", "shown", "shown"]
    assert [x.verdict for x in back.results] == ["better", "shown", "shown"]
