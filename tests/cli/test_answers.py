"""What a pipeline gets of compare, drift and gate: exit codes, verdict.json, a job's summary, silence."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from support import made_videos as made
from support.scored_runs import LEVELS, scored, shifted

from flashbench.cli import answers, program
from flashbench.reporting import verdicts
from flashbench.scores.table import to_parquet

FIELDS = {
    "schema", "command", "status", "code", "baseline", "current", "problems", "gaps", "notes", "rows", "about",
}  # fmt: skip
ROW = {
    "metric", "baseline", "other", "direction", "unit", "baseline_value", "baseline_low", "baseline_high",
    "other_value", "other_low", "other_high", "effect", "low", "high", "p", "adjusted", "n", "of", "clusters",
    "outcome", "needed", "margin", "reason", "effect_unit", "remark", "together", "primary", "facts", "despite",
    "lost_baseline", "lost_other", "worst", "missing", "sentence",
}  # fmt: skip
WILD = [x + e for x, e in zip(LEVELS, (2, -2, 1.5, -1.7, 2.2, -1.9, 0.4, -0.6), strict=True)]
Call: TypeAlias = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run the command line in a folder of its own: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(program.signal, "signal", lambda *_: None)

    def called(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["flashbench", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            program.main()
        return int(caught.value.code or 0), *capsys.readouterr()

    return called


@pytest.fixture
def sides(tmp_path: Path) -> dict[str, Path]:
    """Scored runs by what they are against `a`."""
    runs = {
        "a": scored("a", LEVELS), "worse": scored("b", shifted(0.5)), "better": scored("b", shifted(-0.5)),
        "undecided": scored("b", WILD), "alike": scored("b", LEVELS), "two": scored("b", LEVELS[:2]),
        "strangers": scored("b", LEVELS, names=[f"{x}.mp4" for x in "stuvwxyz"]),
    }  # fmt: skip
    paths = {}
    for name, table in runs.items():
        paths[name] = tmp_path / f"{name}.parquet"
        paths[name].write_bytes(to_parquet(table, "hash"))
    return paths


@pytest.mark.parametrize(
    ("side", "status", "plain", "worse", "undecided"),
    [("worse", "regression", 0, 1, 1), ("better", "pass", 0, 0, 0), ("undecided", "inconclusive", 0, 0, 4),
     ("alike", "pass", 0, 0, 0), ("two", "inconclusive", 0, 0, 4), ("strangers", "invalid", 3, 3, 3)],
)  # fmt: skip
def test_compare_fails_on_what_it_is_told(
    call: Call, sides: dict[str, Path], side: str, status: str, plain: int, worse: int, undecided: int
) -> None:
    for given, code in (
        ([], plain), (["--fail-on", "worse"], worse), (["--fail-on", "worse,undecided"], undecided),
        (["--fail-on", "undecided"], undecided), (["--fail-on", "worse", "--fail-on", "undecided"], undecided),
    ):  # fmt: skip
        found, out, _ = call("compare", sides["a"], sides[side], "--json", *given)
        verdict = json.loads(out)
        assert (found, verdict["status"]) == (code, status)
        assert verdict["code"] == verdicts.CODES[verdict["status"]] == {"pass": 0, "regression": 1, "inconclusive": 4,
                                                                       "invalid": 3}[status]  # fmt: skip


def test_the_verdicts_fields_are_the_promised_ones(call: Call, sides: dict[str, Path], tmp_path: Path) -> None:
    _, out, told = call("compare", sides["a"], sides["worse"], "--json", "--out", tmp_path / "out")
    verdict = json.loads(out)
    assert verdict.keys() == FIELDS and verdict["schema"] == verdicts.SCHEMA and verdict["command"] == "compare"
    assert [row.keys() for row in verdict["rows"]] == [ROW]
    row = verdict["rows"][0]
    assert (row["outcome"], row["metric"], row["primary"], row["n"]) == ("worse", "niqe", True, 8)
    assert row["sentence"].startswith("b is worse than a on niqe") and row["margin"] is None
    assert (verdict["baseline"], verdict["current"]) == ("a", "b")
    assert verdict["about"] == {"units": "videos", "deciding": ["niqe"]}
    assert out == (tmp_path / "out" / "verdict.json").read_text()
    assert "written:" in told and (tmp_path / "out" / "compare.json").is_file()


def test_what_cannot_be_compared_is_a_verdict_too(call: Call, sides: dict[str, Path], tmp_path: Path) -> None:
    code, out, err = call("compare", sides["a"], sides["strangers"], "--json", "--out", tmp_path / "out")
    verdict = json.loads(out)
    assert code == 3 and verdict.keys() == FIELDS and (verdict["status"], verdict["rows"]) == ("invalid", [])
    assert len(verdict["problems"]) == 1 and "pair" in verdict["problems"][0] and "fix:" in err
    assert out == (tmp_path / "out" / "verdict.json").read_text()


def test_the_verdict_is_mirrored_when_the_sides_swap(call: Call, sides: dict[str, Path]) -> None:
    _, out, _ = call("compare", sides["worse"], sides["a"], "--json")
    verdict = json.loads(out)
    assert (verdict["status"], verdict["rows"][0]["outcome"]) == ("pass", "better")


def test_a_report_ends_in_the_status_when_it_may_fail(call: Call, sides: dict[str, Path]) -> None:
    code, out, _ = call("compare", sides["a"], sides["worse"], "--fail-on", "worse")
    assert code == 1 and out.endswith("Status: regression; worse on niqe of b\n")
    _, out, _ = call("compare", sides["a"], sides["two"], "--fail-on", "worse")
    assert out.endswith("Status: inconclusive; b: no metric could decide\n")
    _, out, _ = call("compare", sides["a"], sides["worse"])
    assert "Status:" not in out


def test_quiet_says_nothing_and_the_code_tells(call: Call, sides: dict[str, Path], tmp_path: Path) -> None:
    quiet = ("--quiet", "--fail-on", "worse", "--out", tmp_path / "out")
    assert call("compare", sides["a"], sides["worse"], *quiet) == (1, "", "")
    assert json.loads((tmp_path / "out" / "verdict.json").read_text())["status"] == "regression"
    code, out, err = call("compare", sides["a"], sides["strangers"], "-q")
    assert (code, out) == (3, "") and "fix:" in err


def test_an_unknown_word_is_refused_before_anything_is_read(call: Call) -> None:
    code, _, err = call("compare", "nowhere", "neither", "--fail-on", "wrose")
    assert code == 2 and "did you mean 'worse'" in err


def test_a_report_goes_into_a_jobs_summary(
    call: Call, sides: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(answers.SUMMARY, str(tmp_path / "summary.md"))
    (tmp_path / "summary.md").write_text("before\n")
    call("compare", sides["a"], sides["worse"], "--quiet", "--out", tmp_path / "out")
    call("compare", sides["a"], sides["strangers"], "--quiet")
    text = (tmp_path / "summary.md").read_text()
    assert text.startswith("before\n") and (tmp_path / "out" / "compare.md").read_text() in text
    assert "Compare: invalid" in text
    monkeypatch.setenv(answers.SUMMARY, str(tmp_path / "no" / "such" / "folder.md"))
    code, _, err = call("compare", sides["a"], sides["worse"])
    assert code == 3 and "GITHUB_STEP_SUMMARY" in err and "fix:" in err


def test_a_summary_stays_below_githubs_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flashbench.reporting.document import Block

    monkeypatch.setenv(answers.SUMMARY, str(tmp_path / "summary.md"))
    answers.summarise([Block("notes", notes=["é" * 100] * 10_000)])
    content = (tmp_path / "summary.md").read_bytes()
    assert 0.9 * answers.MOST < len(content) < 2**20 and "The rest is left out" in content.decode()


def test_videos_are_scored_without_a_word(call: Call, tmp_path: Path) -> None:
    for side in ("a", "b"):
        (tmp_path / side).mkdir()
        for number in range(4):
            made.write(tmp_path / side / f"{number}.mp4", made.frames(3, 64, 64, seed=number + 10 * (side == "b")))
    measured = ("-m", "temporal_flicker")
    assert call("score", "a", *measured, "--quiet", "--out", "scored") == (0, "", "")
    assert (tmp_path / "scored" / "scores.parquet").is_file()
    assert call("compare", "a", "b", *measured, "--quiet") == (0, "", "")
    code, out, err = call("drift", "a", "b", "-m", "temporal_flicker", "--margin", "temporal_flicker=0.001", "-q")
    assert (code, out, err) == (4, "", "")
    code, out, _ = call("drift", "a", "b", "-m", "temporal_flicker", "--margin", "temporal_flicker=0.001", "--json")
    verdict = json.loads(out)
    assert code == verdict["code"] == 4 and verdict.keys() == FIELDS and verdict["command"] == "drift"
    code, out, err = call("compare", "a", "b", *measured, "--fresh")
    assert code == 2  # no such option: what is in the store is not measured again by compare


def test_a_gate_without_scores_is_invalid_in_json_too(call: Call, sides: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    code, out, err = call("gate", "--baseline", tmp_path / "a.parquet", "--results", tmp_path / "none", "--json")
    verdict: dict[str, Any] = json.loads(out)
    assert code == verdict["code"] == 3 and verdict.keys() == FIELDS and verdict["command"] == "gate"
    assert "there are no scores" in verdict["problems"][0] and "fix:" in err
