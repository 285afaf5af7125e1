"""`flashbench drift` as a user runs it, on folders and in memory: outcomes, exit codes, fields of verdict.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.made_videos import frames, lossless
from typer.testing import CliRunner

import flashbench
from flashbench.cli.program import app
from flashbench.drifting import report
from flashbench.errors import InvalidError, UsageError
from flashbench.types import Frames

PROMPTS = 10
Clips = dict[str, Frames]


def noisy(clip: Frames, scale: float, seed: int) -> Frames:
    noise = np.random.default_rng(seed).normal(0, scale, clip.shape)
    return np.clip(clip + np.rint(noise), 0, 255).astype(np.uint8)


def made(scale: float, seed: int, count: int = PROMPTS) -> Clips:
    """Runs of an engine whose clips lie so many levels, more or less, from the ones that it is compared with."""
    draw = np.random.default_rng(seed)
    return {
        f"p{n}": noisy(frames(3, 24, 32, seed=n), scale * float(draw.lognormal(0, 0.1)), 1000 * seed + n)
        for n in range(count)
    }


BASE = {f"p{n}": frames(3, 24, 32, seed=n) for n in range(PROMPTS)}
AGAIN, SAME, FAR = made(2, 1), made(2, 2), made(5, 3)


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASHBENCH_STORE", str(tmp_path / "store"))


def folder(path: Path, clips: Clips) -> str:
    path.mkdir()
    for name, clip in clips.items():
        lossless(path / f"{name}.mkv", clip)
    return str(path)


def run(tmp_path: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    done = CliRunner().invoke(app, ["drift", *arguments, "--out", str(tmp_path / "out")])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, json.loads((tmp_path / "out" / "verdict.json").read_text("utf-8")), done.output


def test_exit_codes_and_verdict_json(tmp_path: Path) -> None:
    a, again = folder(tmp_path / "a", BASE), folder(tmp_path / "again", AGAIN)
    same, far = folder(tmp_path / "same", SAME), folder(tmp_path / "far", FAR)
    few = folder(tmp_path / "few", dict(list(SAME.items())[:9]))
    code, verdict, text = run(tmp_path, a, same, "--again", again, "-m", "psnr,ssim")
    assert (code, verdict["code"], verdict["status"], verdict["about"]["verdict"]) == (0, 0, "pass", "within")
    assert [row["outcome"] for row in verdict["rows"]] == ["within", "within"]
    assert "10 pairs by name, 0 of them identical" in text
    code, verdict, text = run(tmp_path, a, far, "--again", again, "-m", "psnr,ssim")
    assert (code, verdict["code"], verdict["status"], verdict["about"]["verdict"]) == (1, 1, "regression", "beyond")
    assert {tuple(row) for row in verdict["rows"]} == {(
        "adjusted", "again", "against", "candidate", "margin", "metric", "outcome", "p", "p_within", "prompts", "ratio",
        "reason", "worst",
    )}  # fmt: skip
    assert verdict["rows"][0]["ratio"] == pytest.approx(2.5, rel=0.1)
    assert "farthest" in text
    code, verdict, text = run(tmp_path, a, few, "--again", again, "-m", "psnr")
    assert (code, verdict["code"], verdict["status"], verdict["about"]["verdict"]) == (3, 3, "invalid", "incomparable")
    assert "lacks 1 clips, p9.mkv among them" in verdict["problems"][0]
    assert set(verdict) == {
        "schema", "command", "status", "code", "baseline", "current", "problems", "gaps", "notes", "rows", "about",
    }  # fmt: skip
    assert (verdict["command"], verdict["baseline"], verdict["current"]) == ("drift", a, few)
    done = CliRunner().invoke(app, ["drift", a, same, "-m", "psnr"])
    assert isinstance(done.exception, UsageError) and "--again" in done.exception.fix


def test_too_few_prompts_are_undecided(tmp_path: Path) -> None:
    sides = [dict(list(side.items())[:5]) for side in (BASE, SAME, AGAIN)]
    found = flashbench.drift(*sides, metrics="psnr")
    assert (found.status, found.verdict) == ("inconclusive", "undecided")
    assert found.rows[0].reason.startswith("2 more prompts are needed")
    assert json.loads(report.to_json(found))["code"] == 4


def test_in_memory_is_as_from_files(tmp_path: Path) -> None:
    paths = [folder(tmp_path / name, side) for name, side in (("a", BASE), ("b", FAR), ("c", AGAIN))]
    kinds = "psnr,ssim,temporal_flicker"
    memory, files = flashbench.drift(BASE, FAR, AGAIN, metrics=kinds), flashbench.drift(*paths, metrics=kinds)
    listed = flashbench.drift(*(list(side.values()) for side in (BASE, FAR, AGAIN)), metrics=kinds)
    columns = ["metric", "outcome", "candidate", "again", "ratio", "p", "adjusted", "p_within"]
    assert memory.table[columns].equals(files.table[columns])
    assert memory.table[columns].equals(listed.table[columns])
    rms = [np.sqrt(np.mean((FAR[name].astype(float) - clip) ** 2)) for name, clip in BASE.items()]
    assert memory.rows[0].candidate == pytest.approx(np.mean(rms))


def test_order_and_names_change_nothing() -> None:
    first = flashbench.drift(BASE, SAME, AGAIN, metrics="psnr")
    renamed = [{f"x{9 - int(name[1:])}": clip for name, clip in reversed(side.items())} for side in (BASE, SAME, AGAIN)]
    second = flashbench.drift(*renamed, metrics="psnr")
    assert second.rows[0].p == first.rows[0].p
    assert (second.verdict, second.rows[0].ratio) == (first.verdict, pytest.approx(first.rows[0].ratio))


def test_identical_clips_are_counted_and_within() -> None:
    found = flashbench.drift(BASE, BASE, AGAIN, metrics="psnr,ssim")
    assert (found.verdict, found.identical, found.identical_again) == ("within", PROMPTS, 0)
    some = flashbench.drift(BASE, {**FAR, "p0": BASE["p0"]}, AGAIN, metrics="psnr")
    assert some.identical == 1
    assert "1 of them identical" in report.sentence(some)


def test_a_baseline_that_repeats_itself_needs_a_margin() -> None:
    bare = flashbench.drift(BASE, SAME, BASE, metrics="psnr")
    assert (bare.verdict, bare.identical_again) == ("undecided", PROMPTS)
    assert "state a margin" in bare.rows[0].reason
    assert flashbench.drift(BASE, SAME, BASE, metrics="psnr", margin={"psnr": 38}).verdict == "within"
    beyond = flashbench.drift(BASE, FAR, BASE, metrics="psnr", margin={"psnr": 38})
    assert (beyond.verdict, beyond.rows[0].against) == ("beyond", "margin")
    alone = flashbench.drift(BASE, SAME, metrics="psnr", margin={"psnr": 38}).rows[0]
    assert (alone.outcome, alone.margin) == ("within", pytest.approx(255 * 10 ** (-38 / 20)))


def test_one_equal_frame_is_no_missing_distance() -> None:
    held = {name: np.concatenate([BASE[name][:1], clip[1:]]) for name, clip in FAR.items()}
    assert flashbench.drift(BASE, held, AGAIN, metrics="psnr").verdict == "beyond"


def test_seeds_of_a_prompt_and_copies_are_one_cluster() -> None:
    prompts = {name: f"prompt {int(name[1:]) // 2}" for name in BASE}
    assert flashbench.drift(BASE, FAR, AGAIN, metrics="psnr", prompts=prompts).rows[0].prompts == PROMPTS // 2
    copied = {**BASE, "p1": BASE["p0"], "p2": BASE["p0"]}
    assert flashbench.drift(copied, FAR, AGAIN, metrics="psnr").rows[0].prompts == PROMPTS - 2


def test_other_lengths_and_names_are_incomparable() -> None:
    short = {name: clip[:2] for name, clip in SAME.items()}
    found = flashbench.drift(BASE, short, AGAIN, metrics="ssim")
    assert found.verdict == "incomparable"
    assert "differ" in found.problems[0]
    with pytest.raises(InvalidError, match="pairs"):
        flashbench.drift(BASE, {f"q{n}": clip for n, clip in enumerate(SAME.values())}, AGAIN, metrics="psnr")


@pytest.mark.parametrize(
    "wrong",
    [
        {"margin": {"psnr": 40, "nothing": 1}},
        {"margin": {"ssim": 1.0}},
        {"metrics": "niqe_pooled"},
        {"metrics": "psnr_y"},
        {"alpha": 0.7},
        {"change": 0},
        {"prompts": ["one"]},
        {"again": "folder"},
    ],
)
def test_wrong_calls(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        flashbench.drift(BASE, SAME, **{"again": AGAIN, "metrics": "psnr,ssim", **wrong})


def test_the_plan_is_printed() -> None:
    done = CliRunner().invoke(app, ["drift", "--plan", "--change", "100", "--power", "0.95"])
    assert done.exit_code == 0
    line = next(line for line in done.output.splitlines() if line.startswith("| +100 %"))
    assert 7 <= int(line.split("|")[3]) <= 16
    assert isinstance(CliRunner().invoke(app, ["drift", "a", "b", "--plan"]).exception, UsageError)
