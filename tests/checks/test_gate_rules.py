"""What `flashbench gate` calls a change, what it refuses to compare, its margins and its command; no clip is made."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support import gated, smoke
from support.fake_scores import frame, line
from support.gated import BASELINE, OVERRIDES, RESULTS, judge, keep, numerics, options

from flashbench import stats
from flashbench.checks import gate as checking
from flashbench.checks.gate import gate
from flashbench.checks.gate_report import blocks, to_json
from flashbench.cli import program
from flashbench.errors import InvalidError, UsageError
from flashbench.reporting.document import markdown
from flashbench.run.files import read_manifest
from flashbench.run.phases import run_protocols
from flashbench.scores.table import read_scores

METRICS = ("psnr", "ssim", "niqe")
SMALL = ("metrics=[psnr,ssim,niqe]", "primary=[psnr]")
ROWS = ("nfe=1", "nfe=4", "original", "bicubic")


def made() -> pd.DataFrame:
    """Scores of four rows on three cases; the reference has no PSNR."""
    rng = np.random.default_rng(0)
    lines = []
    for row in ROWS:
        for case in range(3):
            for metric in METRICS:
                frames = rng.uniform(1, 30, 5)
                infinite = (row, metric) == ("original", "psnr")
                about = {"per_frame": frames.tolist(), "clip": f"{row}{case}", "reason": "infinite" if infinite else ""}
                value = math.nan if infinite else float(frames.mean())
                lines.append(line(row, f"synthetic-{case}/0", metric, value, frames=5, **about))
    return frame(lines)


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in smoke.environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    gated.quick(monkeypatch)
    monkeypatch.setattr(gated, "OVERRIDES", (*OVERRIDES, *SMALL))
    keep(made(), RESULTS)


def edited(**columns: Callable[[pd.Series], pd.Series]) -> Path:
    """The scores with psnr of nfe=4 changed: column → what becomes of its values."""
    table = made()
    at = table.index[(table["row"] == "nfe=4") & (table["metric"] == "psnr")]
    for name, change in columns.items():
        table.loc[at, name] = change(table.loc[at, name])
    return keep(table, Path("edited"))


# --- what is a change ---------------------------------------------------------------------------------------------


def test_new_rows_and_metrics_are_told_and_pass() -> None:
    table = made()
    less = ("controls=[original]", "metrics=[psnr,niqe]")
    old = keep(table[(table["row"] != "bicubic") & (table["metric"] != "ssim")], Path("old"), None, *less)
    verdict = judge(RESULTS, str(old))
    assert verdict.status == "pass" and verdict.notes[-1] == "nfe: 18 scores are new"
    assert "the protocol itself is not the baseline's" in verdict.notes[0]
    backwards = gate(BASELINE, options(old, *less), names=["nfe"])
    assert backwards.status == "invalid"
    assert backwards.problems == ("nfe: the metric ssim is missing", "nfe: the row bicubic is missing")


@pytest.mark.parametrize("sign", [1, -1])
def test_a_change_beyond_the_tolerance_fails_in_either_direction(sign: int) -> None:
    folder = edited(value=lambda values: values + sign * 1e-6)
    assert judge(folder).code == 1
    assert judge(folder, tolerance={"psnr": 1e-5}).code == 0
    assert judge(folder, tolerance={"*": 1e-5, "psnr": 1e-7}).code == 1
    assert judge(folder, tolerance={"niqe": 1e-5}).code == 1


@pytest.mark.parametrize(
    ("column", "change", "differs"),
    [
        ("clip", lambda values: values + "x", "clip"),
        ("per_frame", lambda values: values.map(lambda one: one[::-1]), "frames"),
        ("statistics", lambda values: values.map(lambda one: [*one, 1.0]), "statistics"),
    ],
)
def test_what_the_value_does_not_show_fails_too(
    column: str, change: Callable[[pd.Series], pd.Series], differs: str
) -> None:
    verdict = judge(edited(**{column: change}))
    assert verdict.code == 1 and verdict.findings[0].worst[0].differs == differs
    assert verdict.findings[0].effect.effect == 0


def test_a_lost_score_fails_and_leads_the_worst() -> None:
    verdict = judge(edited(value=lambda values: (values + 1).where(np.arange(3) != 1), reason=lambda one: one + "flat"))
    (finding,) = verdict.findings
    assert verdict.code == 1 and finding.changed == 3 and finding.worst[0].case == "synthetic-1/0"
    assert finding.effect.n == 2 and finding.effect.effect == pytest.approx(1)
    worst = json.loads(to_json(verdict))["rows"][0]["worst"]
    assert worst[0]["after"] is None and worst[1]["after"] == pytest.approx(worst[1]["before"] + 1)
    assert worst[0]["difference"] is None and worst[1]["difference"] == pytest.approx(1)


def test_a_metric_that_was_not_measured_is_invalid() -> None:
    table = made()
    table.loc[table["metric"] == "niqe", ["value", "reason"]] = [math.nan, "weights not present"]
    without = keep(table, Path("without"))
    assert judge(without).problems == ("nfe: niqe was not measured: weights not present",)
    verdict = judge(RESULTS, str(without))
    assert verdict.status == "pass" and verdict.compared == {"nfe": 4 * 3 * 2}
    assert verdict.notes == ("nfe: niqe was not measured in the baseline: weights not present",)


def test_a_clip_that_was_not_made_is_invalid() -> None:
    table = made()
    at = (table["row"] == "nfe=1") & (table["case"] == "synthetic-2/0")
    table.loc[at, ["value", "clip", "reason"]] = [math.nan, "", "weights not released"]
    verdict = judge(keep(table, Path("less")))
    assert verdict.code == 3
    assert verdict.problems == ("nfe: nfe=1 · synthetic-2/0 · seed 0 · replica 0 was not made: weights not released",)


def test_scores_of_what_has_no_clip_are_compared_too() -> None:
    table = made()
    table.loc[table["row"] == "nfe=4", "clip"] = ""
    before = keep(table, Path("before"))
    table.loc[(table["row"] == "nfe=4") & (table["metric"] == "niqe"), "value"] += 1
    verdict = judge(keep(table, Path("after")), str(before))
    assert verdict.code == 1 and [finding.metric for finding in verdict.findings] == ["niqe"]
    assert judge(RESULTS, str(before)).code == 0, "clips that are new are no change"


# --- what cannot be compared --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (("clips", "isa", "x86_64/SSE2"), "clips of another numerics class: isa "),
        (("clips", "threads", 2), "threads 1 → 2"),
        (("scores", "numpy", "1.0.0"), "scores of another numerics class: numpy "),
        (None, "the numerics class of unknown/nfe/scores.parquet is not known"),
    ],
)
def test_another_numerics_class_is_invalid(classes: tuple[str, str, Any] | None, said: str) -> None:
    verdict = judge(keep(made(), Path("unknown"), numerics(*classes) if classes else ""))
    assert (verdict.status, int(verdict.code), verdict.compared) == ("invalid", 3, {})
    assert "not comparable sample by sample" in verdict.problems[0] and said in verdict.problems[0]


def test_a_library_of_another_metric_is_no_other_class() -> None:
    assert judge(keep(made(), Path("more"), numerics("scores", "pyiqa", "0.1.16"))).status == "pass"


def test_stale_results_are_invalid_and_another_protocol_is_told() -> None:
    other = "margins.psnr=0.4"
    verdict = gate(BASELINE, options(RESULTS, other))
    assert verdict.code == 3 and "another form of the protocol; run it again" in verdict.problems[0]
    folder = keep(made(), Path("other"), None, other)
    verdict = gate(BASELINE, options(folder, other), names=["nfe"])
    assert verdict.status == "pass" and "the protocol itself is not the baseline's" in verdict.notes[0]


def test_two_scores_of_a_clip_are_invalid() -> None:
    table = made()
    verdict = judge(keep(pd.concat([table, table.iloc[:1]], ignore_index=True), Path("twice")))
    assert verdict.code == 3 and "has two scores of nfe=1 · synthetic-0/0" in verdict.problems[0]


@pytest.mark.parametrize(
    ("baseline", "more", "said"),
    [
        ("no-such-revision", {}, "is neither a file nor a revision"),
        (BASELINE, {"names": ("nfee",)}, "did you mean 'nfe'"),
        (BASELINE, {"tolerance": {"psnrr": 1.0}}, "did you mean 'psnr'"),
        (BASELINE, {"regenerate": True}, "is a file"),
    ],
)
def test_a_wrong_call_is_refused(baseline: str, more: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        gate(baseline, options(), **more)
    assert said in str(caught.value)


def test_what_is_no_table_of_scores_is_refused() -> None:
    Path("broken").mkdir()
    with pytest.raises(InvalidError, match="there are no scores in"):
        gate(BASELINE, options(Path("broken")))
    Path("broken/scores.parquet").write_bytes(b"PAR1")
    with pytest.raises(InvalidError, match="cannot be read"):
        gate("broken", options())


# --- margins ------------------------------------------------------------------------------------------------------


def _contrast(low: float, high: float) -> stats.Contrast:
    return stats.Contrast(
        metric="m", first="current", second="baseline", replica=0, effect=(low + high) / 2, low=low, high=high, p=1.0,
        se=1.0, n=9, of=9, clusters=9,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("low", "high", "better", "outcome"),
    [
        (-0.4, 0.2, 1, "pass"),
        (-0.4, 0.6, -1, "inconclusive"),
        (-0.6, 0.4, 1, "inconclusive"),
        (-0.9, -0.6, 1, "regression"),
        (0.6, 0.9, -1, "regression"),
        (0.6, 0.9, 1, "pass"),
        (-0.5, 0.0, 1, "inconclusive"),
        (math.nan, math.nan, 1, "inconclusive"),
    ],
)
def test_no_worse_than_a_margin(low: float, high: float, better: int, outcome: str) -> None:
    assert checking.no_worse(_contrast(low, high), better, 0.5) == outcome


@pytest.mark.parametrize(
    ("changes", "outcome", "code"),
    [
        ((0.0, 0.0, 0.0), "pass", 0),
        ((-0.2, -0.21, -0.22), "pass", 0),
        ((-2.0, -2.1, -2.2), "regression", 1),
        ((-0.1, -0.9, 0.3), "inconclusive", 4),
        ((2.0, 3.0, 2.5), "pass", 0),
    ],
)
def test_margins_judge_rows_over_clusters(changes: tuple[float, ...], outcome: str, code: int) -> None:
    verdict = judge(edited(value=lambda values: values + np.array(changes)), margins=True)
    assert (verdict.status, int(verdict.code), verdict.kind) == (outcome, code, "margins")
    (psnr,) = (found for found in verdict.findings if found.row == "nfe=4")
    assert psnr.outcome == outcome and psnr.margin == 0.5
    others = {(found.row, found.metric, found.outcome) for found in verdict.findings if found is not psnr}
    assert others == {("nfe=1", "psnr", "pass"), ("bicubic", "psnr", "pass")}, "the reference has no PSNR"
    assert f"1 {outcome}" in markdown(blocks(verdict)) or outcome == "pass"


def test_margins_do_not_hide_a_score_that_is_lost() -> None:
    lost = edited(value=lambda values: values.where(values > values.min()), reason=lambda _: "failed: worker")
    verdict = judge(lost, margins=True)
    assert verdict.code == 3
    (problem,) = verdict.problems
    assert "psnr of nfe=4 · synthetic-" in problem and "has no value any more: failed: worker" in problem


def test_margins_take_another_numerics_class_but_not_none_at_all() -> None:
    folder = keep(made(), Path("other"), numerics("clips", "isa", "x86_64/SSE2"))
    verdict = judge(folder, margins=True)
    assert verdict.status == "pass" and "isa" in verdict.notes[0]
    table = made()
    other = "margins={psnr: null, niqe_pooled: null}"
    for place in ("one", "two"):
        keep(table, Path(place), None, other)
    verdict = gate("two", options(Path("one"), other), names=["nfe"], margins=True)
    assert verdict.code == 3 and "no margin is declared" in verdict.problems[0]


# --- revisions and the command ------------------------------------------------------------------------------------


def _git(*arguments: str) -> None:
    about = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *about, *arguments], check=True, capture_output=True)


@pytest.fixture
def committed() -> None:
    """The scores as the working folder's repository has them."""
    _git("init", "-q")
    _git("add", BASELINE)
    _git("commit", "-qm", "scores")


def _call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(program.signal, "signal", lambda *_: None)
    changed = [word for item in gated.OVERRIDES for word in ("-S", item)]
    monkeypatch.setattr(sys, "argv", ["flashbench", "gate", "nfe", "-t", "smoke", *changed, *arguments])
    with pytest.raises(SystemExit) as caught:
        program.main()
    return int(caught.value.code or 0)


def test_the_command_compares_with_a_revision(
    committed: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _call(monkeypatch, "--baseline", "HEAD") == 0
    assert "0 of 36 scores changed" in capsys.readouterr().out
    found = json.loads(Path("results/smoke/verdict.json").read_text())
    assert (found["schema"], found["command"], found["status"], found["code"]) == (2, "gate", "pass", 0)
    assert (found["baseline"], found["current"], found["rows"]) == ("HEAD", "results/smoke", [])
    edited(value=lambda values: values + 0.25)
    assert _call(monkeypatch, "--baseline", "HEAD", "--results", "edited", "--out", "said") == 1
    assert "# Gate: regression" in capsys.readouterr().out
    found = json.loads(Path("said/verdict.json").read_text())
    (finding,) = found["rows"]
    assert (found["status"], finding["outcome"]) == ("regression", "regression")
    assert (finding["row"], finding["metric"], finding["changed"], finding["of"]) == ("nfe=4", "psnr", 3, 3)
    assert finding.keys() == {
        "protocol", "cases", "row", "metric", "replica", "outcome", "changed", "of", "worst", "effect", "margin",
        "note",
    }  # fmt: skip
    assert {tuple(sample) for sample in finding["worst"]} == {
        ("after", "before", "case", "difference", "differs", "seed"),
    }  # fmt: skip
    assert found["about"].keys() == {"compared", "kind", "tier", "tolerance"}
    assert finding["effect"]["effect"] == pytest.approx(0.25) and found["about"]["compared"] == {"nfe": 36}
    summary = Path("said/verdict.md").read_text()
    assert "3 of 36 scores changed, in 1 row" in summary and "synthetic-2/0" in summary
    assert _call(monkeypatch, "--baseline", "HEAD", "--results", "edited", "--tolerance", "psnr=0.3") == 0
    edited(value=lambda values: values + np.array([-0.1, -0.9, 0.3]))
    assert _call(monkeypatch, "--baseline", "HEAD", "--results", "edited", "--margins") == 4


def test_the_command_without_scores_or_baseline(
    committed: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _call(monkeypatch) == 2 and "--baseline HEAD" in capsys.readouterr().err
    assert _call(monkeypatch, "--baseline", "HEAD", "--tolerance", "psnr=x") == 2
    _git("rm", "-q", "--cached", BASELINE)
    _git("commit", "-qm", "none")
    assert _call(monkeypatch, "--baseline", "HEAD") == 3
    assert "nfe: the baseline has no scores of it" in capsys.readouterr().out


@pytest.mark.slow
def test_a_baseline_of_another_machine_is_made_again(
    tmp_path: Path, committed: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The revision's own code runs where its committed scores are of another class; then its resize is another."""
    for name in ("flashbench", "protocols"):
        shutil.copytree(smoke.ROOT / name, name, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.delenv("FLASHBENCH_PROTOCOLS")
    run_protocols(["nfe"], ("train", "generate", "score"), options())
    honest = read_scores(Path(BASELINE))
    keep(honest.assign(value=honest["value"] + 1), RESULTS, numerics("clips", "isa", "x86_64/SSE2"))
    _git("add", "flashbench", "protocols", BASELINE)
    _git("commit", "-qm", "from another machine")
    keep(honest, RESULTS)
    assert _call(monkeypatch, "--baseline", "HEAD") == 3
    assert _call(monkeypatch, "--baseline", "HEAD", "--regenerate") == 0
    assert "0 of 36 scores changed" in capsys.readouterr().out
    controls = Path("flashbench/systems/controls.py")
    controls.write_text(controls.read_text().replace("cv2.INTER_CUBIC", "cv2.INTER_LINEAR"))
    _git("commit", "-qm", "another resize", str(controls))
    assert _call(monkeypatch, "--baseline", "HEAD", "--regenerate") == 1
    found = json.loads(Path("results/smoke/verdict.json").read_text())
    assert {finding["row"] for finding in found["rows"]} == {"bicubic"}
    assert read_manifest(RESULTS / "nfe/clips.jsonl"), "the current results are as they were"
