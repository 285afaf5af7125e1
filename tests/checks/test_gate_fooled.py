"""Ways to fool `flashbench gate`, each of which it must tell by its status, its exit code and in words."""

from __future__ import annotations

import functools
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support import gated, smoke
from support.fake_scores import frame, line
from support.gated import BASELINE, RESULTS, judge, keep, numerics, options

from flashbench import keys
from flashbench.checks.gate import Verdict, gate
from flashbench.checks.gate_report import blocks, to_json
from flashbench.cli import program
from flashbench.errors import InvalidError
from flashbench.metrics import get
from flashbench.metrics.base import SetMetric
from flashbench.reporting.document import markdown
from flashbench.run.declared import declared
from flashbench.scores.table import read_scores

SMALL = ("metrics=[psnr,ssim,flat_noise]", "primary=[psnr]", "margins={psnr: 0.5, niqe_pooled: null}")
ROWS = ("nfe=1", "nfe=4", "original", "bicubic")
CODES = {"pass": 0, "regression": 1, "inconclusive": 4, "invalid": 3}
Table = pd.DataFrame
Edit = Callable[[Table], Table]


@functools.cache
def _made() -> Table:
    rng = np.random.default_rng(0)
    lines = []
    for row in ROWS:
        for case in range(3):
            about: dict[str, Any] = {"frames": 5, "clip": f"{row}{case}"}
            for metric in ("psnr", "ssim"):
                values = rng.uniform(10, 30, 5)
                lines.append(
                    line(row, f"synthetic-{case}/0", metric, values.mean(), per_frame=values.tolist(), **about)
                )
            sums = np.float32(rng.uniform(1, 2, 2))
            value = float(sums[0] / sums[1])
            lines.append(line(row, f"synthetic-{case}/0", "flat_noise", value, statistics=sums.tolist(), **about))
    return frame(lines)


def made() -> Table:
    """Scores of two metrics of clips and of one of sets: a ratio of sums."""
    return _made().copy(deep=True)


def own() -> str:
    """What the protocol declares."""
    return declared(options().protocol("nfe"), [0])


def restated(change: Callable[[Any], object]) -> str:
    """The declaration with its one set of cases changed."""
    about = json.loads(own())
    change(about["parts"][0])
    return keys.canonical_json(about)


def said(verdict: Verdict, status: str) -> str:
    """The verdict as read, after its status and code were seen to be what they should."""
    found = json.loads(to_json(verdict))
    assert (verdict.status, found["status"]) == (status, status), markdown(blocks(verdict))
    assert int(verdict.code) == found["code"] == CODES[status]
    return markdown(blocks(verdict))


def at(table: Table, **columns: str) -> pd.Series:
    return functools.reduce(lambda a, b: a & b, (table[name] == value for name, value in columns.items()))


def put(column: str, change: Callable[[Any], Any], **where: str) -> Edit:
    """An edit of one column's values."""

    def edit(table: Table) -> Table:
        places = table.index[at(table, **where)]
        for place, value in zip(places, table.loc[places, column].map(change), strict=True):
            table.at[place, column] = value
        return table

    return edit


def without(column: str, value: Any) -> Edit:
    return lambda table: table[table[column] != value]


def taken(column: str, metric: str, other: str) -> Edit:
    """Of nfe=4 a column's values from another row, on the same cases."""

    def edit(table: Table) -> Table:
        values = table.loc[at(table, row=other, metric=metric), column].tolist()
        for place, value in zip(table.index[at(table, row="nfe=4", metric=metric)], values, strict=True):
            table.at[place, column] = value
        return table

    return edit


def merged(table: Table) -> Table:
    return table.assign(cluster="synthetic-0")


def renamed(table: Table) -> Table:
    return table.assign(row=table["row"].replace("nfe=4", "nfe=4b"))


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in smoke.environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    gated.quick(monkeypatch)
    monkeypatch.setattr(gated, "OVERRIDES", (*gated.OVERRIDES, *SMALL))
    keep(made(), RESULTS)


NFE4 = {"row": "nfe=4", "metric": "psnr"}
ONE = {**NFE4, "case": "synthetic-1/0"}
LOWER = put("value", lambda value: 0.8 * value, **NFE4)


# --- the margins --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("margins", ["margins.psnr=50", "margins.psnr=null"])
def test_a_margin_of_ones_own(margins: str) -> None:
    """The candidate's protocol allows more, or nothing is judged: the baseline's margin holds and that is told."""
    folder = keep(LOWER(made()), Path("mine"), None, margins)
    verdict = gate(BASELINE, options(folder, margins), names=["nfe"], margins=True)
    text = said(verdict, "regression")
    assert "the margin of psnr on synthetic is" in text and "the baseline's holds: 0.5" in text
    (finding,) = (one for one in verdict.findings if one.row == "nfe=4")
    assert (finding.outcome, finding.margin) == ("regression", 0.5)


def test_a_margin_written_into_a_file() -> None:
    """Into the candidate's, or into the baseline's under the protocol's hash."""
    wide = restated(lambda part: part["margins"].update(psnr=50))
    folder = keep(LOWER(made()), Path("mine"), says=wide)
    assert "is not what the protocol asks for" in said(judge(folder, margins=True), "invalid")
    keep(LOWER(made()), Path("mine"))
    base = keep(made(), Path("base"), says=wide)
    assert "declares something else: it was edited" in said(judge(folder, str(base), margins=True), "invalid")


def test_a_direction_turned_round() -> None:
    turned = restated(lambda part: part["metrics"]["psnr"].update(direction="lower"))
    folder = keep(put("value", lambda value: value + 3, **NFE4)(made()), Path("mine"), says=turned)
    assert "is not what the protocol asks for" in said(judge(folder, margins=True), "invalid")
    base = keep(made(), Path("base"), says=turned)
    assert "psnr does not mean what it did: direction lower → higher" in said(judge(RESULTS, str(base)), "invalid")
    newer = keep(made(), Path("newer"), says=restated(lambda part: part["metrics"]["psnr"].update(version=7)))
    assert "psnr is another version of the metric: 7 → 1" in said(judge(RESULTS, str(newer)), "pass")


def test_what_moves_without_a_margin() -> None:
    """It is listed and undecided, unless a tolerance says that it is nothing, or its metric has no better or worse."""
    folder = keep(put("value", lambda value: value - 9, row="nfe=4", metric="ssim")(made()), Path("mine"))
    verdict = judge(folder, margins=True)
    assert "1 row moved without a margin" in said(verdict, "inconclusive")
    (finding,) = (one for one in verdict.findings if one.metric == "ssim")
    assert (finding.row, finding.changed, finding.note) == ("nfe=4", 3, "the baseline declares no margin")
    assert math.isnan(finding.margin) and finding.effect.effect == pytest.approx(-9)
    said(judge(folder, margins=True, tolerance={"ssim": 9.001}), "pass")
    folder = keep(put("value", lambda value: value * 2, row="nfe=4", metric="flat_noise")(made()), Path("mine"))
    assert "no better or worse" in said(judge(folder, margins=True), "pass")


def test_a_tolerance_in_place_of_a_margin(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    folder = keep(LOWER(made()), Path("mine"))
    assert "nfe=4" in said(judge(folder, margins=True, tolerance={"*": 100}), "regression")
    words = ["gate", "nfe", "--baseline", BASELINE, "-t", "smoke", "--results", "mine", "--margins"]
    words += ["--tolerance", "psnr=100", *(word for item in gated.OVERRIDES for word in ("-S", item))]
    monkeypatch.setattr(program.signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["flashbench", *words])
    with pytest.raises(SystemExit) as caught:
        program.main()
    assert caught.value.code == 2 and "psnr is judged by its margin" in capsys.readouterr().err


# --- what is left out ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("less", "what"),
    [
        (without("row", "bicubic"), "the row bicubic is missing"),
        (without("case", "synthetic-1/0"), "the case synthetic-1/0 is missing"),
        (without("metric", "ssim"), "the metric ssim is missing"),
        (lambda table: table[~at(table, **ONE)], "psnr of nfe=4 · synthetic-1/0 · seed 0 · replica 0 is missing"),
    ],
    ids=["row", "case", "metric", "line"],
)
def test_lines_are_left_out(less: Edit, what: str) -> None:
    """Here, in the baseline, and on both sides, where only the declaration knows of them."""
    mine, base = keep(less(made()), Path("mine")), keep(less(made()), Path("base"))
    assert what in said(judge(mine), "invalid")
    assert f"{what} in base/nfe/scores.parquet, which says that it holds it" in said(judge(RESULTS, "base"), "invalid")
    for margins in (False, True):
        text = said(judge(mine, str(base), margins=margins), "invalid")
        assert f"{what} in mine/nfe/scores.parquet, which says that it holds it" in text


def test_a_replica_is_left_out() -> None:
    both = pd.concat([made(), made().assign(replica=1)], ignore_index=True)
    base = keep(both, Path("base"))
    assert "the replica 1 is missing" in said(judge(RESULTS, str(base)), "invalid")
    twice = declared(options().protocol("nfe"), [0, 1])
    mine, base = keep(made(), Path("mine"), says=twice), keep(made(), Path("base"), says=twice)
    assert "the replica 1 is missing in mine" in said(judge(mine, str(base)), "invalid")


def test_a_baseline_of_one_score() -> None:
    keep(made().iloc[:1], Path("one"))
    assert "is missing in one/nfe/scores.parquet, which says that it holds it" in said(judge(RESULTS, "one"), "invalid")
    keep(made().iloc[:1], Path("old"), says="")
    text = said(judge(RESULTS, "old"), "inconclusive")
    assert "35 scores are new, or lost in the baseline, which does not say what it should hold" in text


def test_a_baseline_of_one_protocol() -> None:
    """It passes where that protocol is named, and not as the whole tier."""
    text = said(judge(RESULTS, names=()), "inconclusive")
    assert "the baseline covers 1 of 12 protocols" in text and "cost: neither side has scores of it" in text
    said(judge(RESULTS, names=["nfe"]), "pass")
    assert "cost: there are no scores in" in said(judge(RESULTS, names=["nfe", "cost"]), "invalid")


def test_a_file_that_does_not_say_what_it_should_hold() -> None:
    """From before: a baseline is compared exactly with a note and has no margins; current scores are refused."""
    old = str(keep(made(), Path("old"), says=""))
    assert "from before scores said what they should hold" in said(judge(RESULTS, old), "pass")
    assert "so it has no margins" in said(judge(RESULTS, old, margins=True), "invalid")
    text = said(judge(Path(old), old), "invalid")
    assert "run the score phase again: flashbench run nfe --tier smoke --phase score" in text


@pytest.mark.parametrize("says", ["{", "{}", '{"schema": 9}'])
def test_a_broken_declaration(says: str) -> None:
    with pytest.raises(InvalidError, match="cannot be read"):
        judge(keep(made(), Path("mine"), says=says))


def test_scores_of_nothing() -> None:
    """A table without lines, and one whose primary metric has no value on either side."""
    with pytest.raises(InvalidError, match="not a table of one protocol's scores"):
        judge(keep(made().iloc[:0], Path("none")))
    nothing = put("reason", lambda _: "weights not present", metric="psnr")(made())
    nothing = put("value", lambda _: math.nan, metric="psnr")(nothing)
    for place in ("mine", "base"):
        keep(nothing, Path(place))
    text = said(judge(Path("mine"), "base"), "inconclusive")
    assert "psnr has no value on either side: weights not present" in text


# --- what is changed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "status", "what"),
    [
        (put("value", lambda value: np.nextafter(value, math.inf), **ONE), "regression", "value"),
        (put("value", lambda value: math.inf, **ONE), "regression", "value"),
        (put("value", lambda value: math.nan, **ONE), "invalid", "1 scores of mine/nfe/scores.parquet have neither"),
        (lambda table: put("reason", lambda _: "flat", **ONE)(put("value", lambda _: math.nan, **ONE)(table)),
            "regression", "value"),
        (put("clip", lambda digest: f"{digest}0", row="nfe=4"), "regression", "clip"),
        (taken("per_frame", "psnr", "bicubic"), "regression", "frames"),
        (taken("statistics", "flat_noise", "bicubic"), "regression", "statistics"),
        (renamed, "invalid", "the row nfe=4 is missing"),
        (merged, "invalid", "is not what it declares: the cluster of 24 scores is another"),
        (put("frames", lambda _: 50, **ONE), "invalid", "the number of frames of 1 scores is another"),
        (lambda table: pd.concat([table, table.iloc[:1]]), "invalid", "has two scores of nfe=1"),
        (lambda table: pd.concat([table, table[table["row"] == "nfe=4"].assign(row="mine")]), "invalid",
            "9 scores of mine/nfe/scores.parquet are none that it declares"),
        (lambda table: table.assign(seed=1), "invalid", "is missing"),
    ],
    ids=["ulp", "infinite", "NaN", "NaN with a reason", "digest", "frames", "statistics", "renamed", "clusters",
        "number of frames", "twice", "more", "seed"],
)  # fmt: skip
def test_an_edited_file(change: Edit, status: str, what: str) -> None:
    assert what in said(judge(keep(change(made()), Path("mine"))), status)


def test_clusters_merged_on_both_sides() -> None:
    """Wider intervals pass nothing: the declaration has the clusters of each case."""
    for place in ("mine", "base"):
        keep(merged(made()), Path(place))
    text = said(judge(Path("mine"), "base", margins=True), "invalid")
    assert "mine/nfe/scores.parquet is not what it declares: the cluster" in text
    keep(merged(made()), Path("base"), says="")
    assert "not the same samples: the cluster of 24 scores" in said(judge(RESULTS, "base"), "invalid")


def test_another_frame_rate() -> None:
    rate = "geometry.fps=24"
    folder = keep(made(), Path("mine"), None, rate)
    for margins in (False, True):
        verdict = gate(BASELINE, options(folder, rate), names=["nfe"], margins=margins)
        text = said(verdict, "invalid")
        assert "not the same samples: the geometry of 36 scores is another" in text and "→ 5×96×192 at 24 fps" in text


@pytest.mark.parametrize(
    ("classes", "what"),
    [
        (("clips", "isa", "SSE2"), "clips of another numerics class: isa"),
        (("scores", "numpy", "1"), "scores of another numerics class: numpy"),
        ("", "the numerics class of mine/nfe/scores.parquet is not known"),
        ({"scores": {}}, "does not say its device, isa, numpy"),
        ({"clips": []}, "the numerics class of mine/nfe/scores.parquet is not known"),
    ],
)
def test_another_machine(classes: Any, what: str) -> None:
    """Also where the class is left out, or emptied so that nothing of it differs."""
    text = numerics(*classes) if isinstance(classes, tuple) else classes
    if isinstance(classes, dict):
        text = keys.canonical_json(json.loads(numerics()) | classes)
    assert what in said(judge(keep(made(), Path("mine"), text)), "invalid")


# --- under a tolerance --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tolerance", [{"*": 1e-9}, {"flat_noise": 0.01}])
def test_statistics_of_another_row(tolerance: dict[str, float]) -> None:
    """Equal values of clips on other sums: the value of the set, finalised on either side, moves."""
    folder = keep(taken("statistics", "flat_noise", "bicubic")(made()), Path("mine"))
    table, metric = made(), get("flat_noise")
    assert isinstance(metric, SetMetric)
    sums = [np.sum(table.loc[at(table, row=row, metric="flat_noise"), "statistics"].tolist(), axis=0)
            for row in ("nfe=4", "bicubic")]  # fmt: skip
    moved = abs(metric.finalize(sums[1]) - metric.finalize(sums[0]))
    assert moved > 0.01
    verdict = judge(folder, tolerance=tolerance)
    said(verdict, "regression")
    (finding,) = verdict.findings
    assert (finding.row, finding.metric, finding.changed) == ("nfe=4", "flat_noise", 3)
    assert {sample.differs for sample in finding.worst} == {"statistics"}
    assert abs(finding.effect.effect) > 0
    said(judge(folder, tolerance={"*": 10}), "pass")


def test_statistics_swapped_between_clips() -> None:
    """The sum stays, so the value of the set does, and its interval does not."""

    def swapped(table: Table) -> Table:
        places = table.index[at(table, row="nfe=4", metric="flat_noise")]
        values = table.loc[places, "statistics"].tolist()
        for place, value in zip(places, [*values[1:], values[0]], strict=True):
            table.at[place, "statistics"] = value
        return table

    verdict = judge(keep(swapped(made()), Path("mine")), tolerance={"*": 1e-3})
    said(verdict, "regression")
    assert verdict.findings[0].worst[0].differs == "statistics"


def test_frames_of_another_row() -> None:
    folder = keep(taken("per_frame", "psnr", "bicubic")(made()), Path("mine"))
    verdict = judge(folder, tolerance={"*": 1e-6})
    said(verdict, "regression")
    assert verdict.findings[0].worst[0].differs == "frames"


def test_a_rounding_within_the_tolerance() -> None:
    """Of statistics, frames and value alike; that the clips' bytes are others is told."""
    near = put("statistics", lambda sums: [x * (1 + 1e-6) for x in sums[:1]] + sums[1:], row="nfe=4",
               metric="flat_noise")(made())  # fmt: skip
    near = put("value", lambda value: value + 1e-6, row="nfe=4")(near)
    near = put("per_frame", lambda frames: [x + 1e-6 for x in frames], row="nfe=4")(near)
    near = put("clip", lambda digest: f"{digest}0", row="nfe=4")(near)
    folder = keep(near, Path("mine"))
    said(judge(folder), "regression")
    assert "9 scores with a tolerance are of clips with other bytes" in said(
        judge(folder, tolerance={"*": 1e-4}), "pass"
    )


def test_a_lost_value_under_a_tolerance() -> None:
    for change in (put("value", lambda _: math.nan, **NFE4), put("per_frame", lambda _: [], **NFE4)):
        table = put("reason", lambda _: "flat", **NFE4)(change(made()))
        said(judge(keep(table, Path("mine")), tolerance={"*": 1e9}), "regression")


# --- what is no change --------------------------------------------------------------------------------------------


def test_what_is_not_compared_is_told() -> None:
    table = put("reason", lambda _: "infinite", **ONE)(made()).assign(key="another")
    table = table.sample(frac=1, random_state=3, ignore_index=True)
    text = said(judge(keep(table, Path("mine"))), "pass")
    assert "1 reasons have other words, first psnr of nfe=4 · synthetic-1/0" in text and "none → infinite" in text
    assert "keys and the words of reasons are not compared" in text


def test_a_file_of_scores_is_the_same_bytes_again() -> None:
    content = Path(BASELINE).read_bytes()
    keep(read_scores(Path(BASELINE)), Path("again"))
    assert Path("again/nfe/scores.parquet").read_bytes() == content
    assert own() == declared(options().protocol("nfe"), [0, 0])
