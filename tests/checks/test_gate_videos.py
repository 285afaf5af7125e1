"""The gate of anybody's videos against a small file of scores, ways to fool it, and the action that runs it."""

from __future__ import annotations

import base64
import json
import math
import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from support import made_videos as made

import flashbench
from flashbench.checks.gate import Verdict
from flashbench.checks.gate_report import blocks, to_json
from flashbench.checks.gate_videos import gate_videos
from flashbench.cli import program
from flashbench.errors import FlashBenchError, InvalidError, UsageError
from flashbench.reporting.document import markdown
from flashbench.scores.runs import packed, unpacked
from flashbench.scores.table import read_scores, to_parquet

METRICS = ["psnr", "ssim", "laplacian_variance"]
MARGINS = {"psnr": 1.0, "ssim": 0.05}
COUNT = 12
ROOT = Path(__file__).resolve().parents[2]
Edit = Callable[[pd.DataFrame, dict[str, Any]], pd.DataFrame]


def folder(path: Path, change: Callable[[int, np.ndarray], np.ndarray], count: int = COUNT, fps: int = 8) -> Path:
    """Videos of noise, of which `change` makes something of each clip's number and frames."""
    path.mkdir(parents=True)
    for number in range(count):
        made.write(path / f"{number:02d}.mp4", change(number, made.frames(4, 64, 96, seed=number)), fps=fps)
    return path


def noisy(sigma: float, seed: int) -> Callable[[int, np.ndarray], np.ndarray]:
    def change(number: int, clip: np.ndarray) -> np.ndarray:
        rng = np.random.default_rng([seed, number])
        return np.clip(clip + rng.normal(0, sigma, clip.shape), 0, 255).astype(np.uint8)

    return change


def blurred(number: int, clip: np.ndarray) -> np.ndarray:
    return np.stack([cv2.GaussianBlur(frame, (0, 0), 1.5) for frame in clip])


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of videos, and `baseline.parquet` of the first: all that a repository keeps."""
    root = tmp_path_factory.mktemp("gate")
    folder(root / "reference", lambda _, clip: clip)
    folder(root / "samples", noisy(4, 0))
    folder(root / "again", noisy(4, 1))
    folder(root / "blurred", blurred)
    os.environ["FLASHBENCH_STORE"] = str(root / "store")
    prompts = {f"{number:02d}.mp4": f"scene {number // 2}" for number in range(COUNT)}
    flashbench.score(
        root / "samples", METRICS, prompts, reference=root / "reference", out=root / "run", margin=MARGINS,
        primary="psnr", progress=False,
    )  # fmt: skip
    shutil.copy(root / "run" / "scores.parquet", root / "baseline.parquet")
    return root


def judge(
    here: Path, candidate: str | Path = "samples", baseline: str | Path = "baseline.parquet", **more: Any
) -> Verdict:
    scored = str(candidate).endswith(".parquet")
    reference = {} if scored else {"reference": here / "reference"}
    return gate_videos(here / baseline, here / candidate, **reference, **more)


def edited(here: Path, out: Path, edit: Edit) -> Path:
    """A copy of the baseline whose table and record `edit` changed."""
    file = here / "baseline.parquet"
    metadata = pq.read_metadata(file).metadata
    record = dict(unpacked(metadata[b"run"].decode(), "here") or {})
    table = edit(read_scores(file), record)
    out.write_bytes(to_parquet(table, metadata[b"protocol"].decode(), run=packed(record)))
    return out


def test_a_baseline_is_small_and_names_no_path(here: Path) -> None:
    content = (here / "baseline.parquet").read_bytes()
    assert len(content) < 15_000
    record = pq.read_metadata(here / "baseline.parquet").metadata[b"run"]
    text = zlib.decompress(base64.b64decode(record)).decode()
    assert str(here) not in text and json.loads(text)["declared"] == {"margins": MARGINS, "primary": ["psnr"]}


def test_the_same_videos_pass(here: Path) -> None:
    verdict = judge(here)
    assert (verdict.status, verdict.findings, verdict.compared) == ("pass", (), {"adhoc/custom": 3 * COUNT})
    verdict = judge(here, margins=True)
    assert (verdict.status, [finding.outcome for finding in verdict.findings]) == ("pass", ["pass", "pass"])


def test_other_noise_is_a_change_and_within_the_margins(here: Path) -> None:
    assert judge(here, "again").status == "regression"
    verdict = judge(here, "again", margins=True)
    found = {finding.metric: finding for finding in verdict.findings}
    assert verdict.status == "pass" and found.keys() == set(METRICS)
    # Two clips of each prompt: six clusters.
    assert found["psnr"].effect.clusters == COUNT // 2 and abs(found["psnr"].effect.effect) < 0.2
    assert found["laplacian_variance"].note == "no better or worse"
    assert judge(here, "again", tolerance={"psnr": 5, "ssim": 0.5, "laplacian_variance": 1e6}).status == "pass"


def test_blurred_videos_fail_either_way(here: Path) -> None:
    assert judge(here, "blurred").status == "regression"
    verdict = judge(here, "blurred", margins=True)
    assert verdict.status == "regression"
    assert "psnr" in {finding.metric for finding in verdict.findings if finding.outcome == "regression"}
    assert "psnr" in markdown(blocks(verdict)) and json.loads(to_json(verdict))["code"] == 1


def test_names_may_have_a_suffix_of_their_own(here: Path, tmp_path: Path) -> None:
    shutil.copytree(here / "samples", tmp_path / "model")
    for path in (tmp_path / "model").iterdir():
        path.rename(path.with_stem(f"{path.stem}_candidate"))
    (tmp_path / "reference").mkdir()
    for path in (here / "reference").iterdir():
        shutil.copy(path, tmp_path / "reference" / f"{path.stem}_candidate.mp4")
    verdict = gate_videos(here / "baseline.parquet", tmp_path / "model", reference=tmp_path / "reference")
    assert verdict.status == "pass", verdict.problems


# --- ways to fool it ----------------------------------------------------------------------------------------------


def copied(here: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(here / "samples", tmp_path / "samples"))


def test_a_lost_clip_is_invalid(here: Path, tmp_path: Path) -> None:
    (copied(here, tmp_path) / "05.mp4").unlink()
    for margins in (False, True):
        verdict = judge(here, tmp_path / "samples", margins=margins)
        assert verdict.status == "invalid" and any("lacks 05.mp4" in text for text in verdict.problems)


def test_a_clip_that_is_cut_short_is_invalid(here: Path, tmp_path: Path) -> None:
    path = copied(here, tmp_path) / "05.mp4"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    verdict = judge(here, tmp_path / "samples", margins=True)
    assert verdict.status == "invalid" and any("05.mp4" in text for text in verdict.problems)


def test_a_clip_in_anothers_place_is_a_change(here: Path, tmp_path: Path) -> None:
    shutil.copy(here / "samples" / "04.mp4", copied(here, tmp_path) / "05.mp4")
    verdict = judge(here, tmp_path / "samples")
    assert verdict.status == "regression"
    assert {sample.case for finding in verdict.findings for sample in finding.worst} == {"05.mp4"}


def test_strangers_do_not_pair(here: Path, tmp_path: Path) -> None:
    for path in list(copied(here, tmp_path).iterdir()):
        path.rename(path.with_stem(f"{int(path.stem) * 7919:x}q"))
    with pytest.raises(InvalidError, match="pairs with"):
        judge(here, tmp_path / "samples")


def test_further_videos_are_told(here: Path, tmp_path: Path) -> None:
    shutil.copy(here / "samples" / "04.mp4", copied(here, tmp_path) / "99.mp4")
    verdict = judge(here, tmp_path / "samples")
    assert verdict.status == "pass" and any("1 videos that" in note for note in verdict.notes)


@pytest.mark.parametrize(("fps", "frames", "what"), [(16, 4, "rate"), (8, 3, "number of frames")])
def test_another_shape_is_invalid(here: Path, tmp_path: Path, fps: int, frames: int, what: str) -> None:
    folder(tmp_path / "samples", lambda number, clip: noisy(4, 0)(number, clip)[:frames], fps=fps)
    (tmp_path / "reference").mkdir()
    folder(tmp_path / "other", lambda _, clip: clip[:frames], fps=fps)
    verdict = gate_videos(here / "baseline.parquet", tmp_path / "samples", reference=tmp_path / "other", margins=True)
    assert verdict.status == "invalid", verdict.notes


def test_other_prompts_are_invalid(here: Path, tmp_path: Path) -> None:
    lines = [{"path": f"{number:02d}.mp4", "prompt": f"other {number}"} for number in range(COUNT)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    verdict = judge(here, prompts=tmp_path / "prompts.jsonl")
    assert verdict.status == "invalid" and "12 prompts are others, first that of 00.mp4" in verdict.problems[0]


def test_other_references_are_invalid(here: Path) -> None:
    with pytest.raises(InvalidError, match="references of 12 pairs"):
        gate_videos(here / "baseline.parquet", here / "samples", reference=here / "blurred")


def test_without_a_reference_nothing_passes(here: Path) -> None:
    verdict = gate_videos(here / "baseline.parquet", here / "samples", margins=True)
    assert verdict.status == "invalid" and any("psnr" in text for text in verdict.problems)


def nothing(table: pd.DataFrame, record: dict[str, Any]) -> pd.DataFrame:
    return table


def nudged(table: pd.DataFrame, record: dict[str, Any]) -> pd.DataFrame:
    values = table["value"].to_numpy().copy()
    values[0] = np.nextafter(values[0], math.inf)
    return table.assign(value=values)


def reversed_rows(table: pd.DataFrame, record: dict[str, Any]) -> pd.DataFrame:
    return table.iloc[::-1].reset_index(drop=True)


def voided(table: pd.DataFrame, record: dict[str, Any]) -> pd.DataFrame:
    gone = (table["metric"] == "psnr") & (table["case"] == "03.mp4")
    return table.assign(value=table["value"].mask(gone), reason=table["reason"].mask(gone, "lost its way"))


def unreasoned(table: pd.DataFrame, record: dict[str, Any]) -> pd.DataFrame:
    return table.assign(value=table["value"].mask(table["case"] == "03.mp4"))


def dropped(table: pd.DataFrame, record: dict[str, Any]) -> pd.DataFrame:
    return table[(table["metric"] != "psnr") | (table["case"] != "03.mp4")]


def without_a_clip(table: pd.DataFrame, record: dict[str, Any]) -> pd.DataFrame:
    return table[table["case"] != "03.mp4"]


def doubled(table: pd.DataFrame, record: dict[str, Any]) -> pd.DataFrame:
    return pd.concat([table, table.head(1)], ignore_index=True)


def generous(table: pd.DataFrame, record: dict[str, Any]) -> pd.DataFrame:
    record["declared"] = {"margins": {"psnr": 1000.0, "ssim": 1.0}, "primary": []}
    return table


def worse_and_generous(table: pd.DataFrame, record: dict[str, Any]) -> pd.DataFrame:
    generous(table, record)
    return table.assign(value=table["value"] - (3 + 0.01 * table.index) * (table["metric"] == "psnr"))


def foreign(table: pd.DataFrame, record: dict[str, Any]) -> pd.DataFrame:
    record["numerics"] = {**record["numerics"], "isa": "other"}
    return table


def newer(table: pd.DataFrame, record: dict[str, Any]) -> pd.DataFrame:
    identity = {**record["metrics"]["psnr"]["identity"], "version": 99}
    record["metrics"] = {**record["metrics"], "psnr": {**record["metrics"]["psnr"], "identity": identity}}
    return table


def resized(table: pd.DataFrame, record: dict[str, Any]) -> pd.DataFrame:
    record["settings"] = {**record["settings"], "size": "32x32"}
    return table


def lossless(table: pd.DataFrame, record: dict[str, Any]) -> pd.DataFrame:
    record["videos"] = [{**v, "source": {**v["source"], "lossless": True}} for v in record["videos"]]
    return nudged(table, record)


@pytest.mark.parametrize(
    ("edit", "exact", "margins", "said"),
    [
        (nothing, "pass", "pass", ""),
        (reversed_rows, "pass", "pass", ""),
        (nudged, "regression", "pass", ""),
        (voided, "regression", "invalid", "psnr of samples · 03.mp4 · seed 0 has no value any more: lost its way"),
        (unreasoned, "invalid", "invalid", "nor a reason"),
        (dropped, "invalid", "invalid", "has no psnr of 03.mp4, and says that it was measured"),
        (without_a_clip, "invalid", "invalid", "lacks 03.mp4"),
        (doubled, "invalid", "invalid", "two scores of"),
        (generous, "pass", "pass", ""),
        (worse_and_generous, "regression", "regression", ""),
        (foreign, "invalid", "pass", "another numerics class, which --margins takes"),
        (newer, "invalid", "invalid", "psnr identity version is 99, not"),
        (resized, "invalid", "invalid", "settings size is 32x32, not native"),
        (lossless, "regression", "inconclusive", ""),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_an_edited_candidate(here: Path, tmp_path: Path, edit: Edit, exact: str, margins: str, said: str) -> None:
    path = edited(here, tmp_path / "candidate.parquet", edit)
    for kind, status in ((False, exact), (True, margins)):
        verdict = judge(here, path, margins=kind)
        assert verdict.status == status, verdict
        if status == "invalid":
            assert any(said in text for text in verdict.problems), verdict.problems


@pytest.mark.parametrize("edit", [dropped, without_a_clip, doubled, unreasoned], ids=lambda edit: edit.__name__)
def test_an_edited_baseline_is_invalid(here: Path, tmp_path: Path, edit: Edit) -> None:
    path = edited(here, tmp_path / "baseline.parquet", edit)
    assert judge(here, baseline=path).status == "invalid"


def test_a_baseline_that_does_not_say_how_it_was_made_is_refused(here: Path, tmp_path: Path) -> None:
    (tmp_path / "bare.parquet").write_bytes(to_parquet(read_scores(here / "baseline.parquet"), "hash"))
    with pytest.raises(InvalidError, match="does not say how it was made"):
        judge(here, baseline=tmp_path / "bare.parquet")
    for text in ("!", base64.b64encode(b"no zlib").decode(), base64.b64encode(zlib.compress(b"[1]")).decode()):
        (tmp_path / "bad.parquet").write_bytes(to_parquet(read_scores(here / "baseline.parquet"), "hash", run=text))
        with pytest.raises(InvalidError):
            judge(here, baseline=tmp_path / "bad.parquet")


def test_margins_are_declared_where_the_baseline_is_made(here: Path, tmp_path: Path) -> None:
    def undeclared(table: pd.DataFrame, record: dict[str, Any]) -> pd.DataFrame:
        record["declared"] = {"margins": {}, "primary": []}
        return table

    path = edited(here, tmp_path / "baseline.parquet", undeclared)
    with pytest.raises(UsageError, match="declares no margins") as caught:
        judge(here, baseline=path, margins=True)
    assert "--margin psnr=0.5" in caught.value.fix
    for more in ({"margin": {"nique": 1}}, {"margin": {"laplacian_variance": 1}}, {"primary": "nique"}):
        with pytest.raises(UsageError):
            flashbench.score(here / "samples", METRICS, reference=here / "reference", **more)  # type: ignore[arg-type]


def test_a_primary_metric_without_a_value_leaves_it_open(here: Path, tmp_path: Path) -> None:
    def silent(table: pd.DataFrame, record: dict[str, Any]) -> pd.DataFrame:
        gone = table["metric"] == "psnr"
        per_frame = [[] if out else x for out, x in zip(gone, table["per_frame"], strict=True)]
        return table.assign(
            value=table["value"].mask(gone), per_frame=per_frame, reason=table["reason"].mask(gone, "no weights")
        )

    path = edited(here, tmp_path / "both.parquet", silent)
    verdict = judge(here, path, baseline=path)
    assert (verdict.status, verdict.gaps) == ("inconclusive", ("psnr has no value on either side: no weights",))


# --- the command and the action -----------------------------------------------------------------------------------


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(program.signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["flashbench", "gate", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        program.main()
    return int(caught.value.code or 0)


def test_the_command(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(here)
    videos = ("--baseline", "baseline.parquet", "--reference", "reference")
    assert call(monkeypatch, *videos, "--candidate", "samples", "--json") == 0
    assert json.loads(capsys.readouterr().out)["status"] == "pass"
    assert call(monkeypatch, *videos, "--candidate", "blurred", "--margins", "--out", tmp_path) == 1
    assert json.loads((tmp_path / "verdict.json").read_text())["about"]["kind"] == "margins"
    assert "# Gate: regression" in (tmp_path / "verdict.md").read_text()
    capsys.readouterr()
    for more in (("nfe",), ("--tier", "smoke"), ("--regenerate",)):
        assert call(monkeypatch, *more, *videos, "--candidate", "samples") == 2
    assert call(monkeypatch, *videos) == 2 and "--candidate" in capsys.readouterr().err
    assert call(monkeypatch, "--baseline", "nowhere.parquet", "--candidate", "samples") == 3


def steps(
    names: tuple[str, ...], inputs: dict[str, str], cwd: Path, temporary: Path
) -> tuple[int, dict[str, str], str]:
    """Run steps of action.yml as GitHub does: exit code, outputs, the job's summary."""
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    given = {name: about.get("default", "") for name, about in action["inputs"].items()} | inputs
    assert given.keys() == action["inputs"].keys()
    files = {name: temporary / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "GITHUB_PATH")}
    for path in files.values():
        path.write_text("")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for step in action["runs"]["steps"]:
        if step.get("name") not in names:
            continue
        assert step["shell"] == "bash" and "${{" not in step["run"]
        own = {}
        for name, text in step["env"].items():
            value = text.replace("${{ github.action_path }}", str(ROOT))
            for key, chosen in given.items():
                value = value.replace(f"${{{{ inputs.{key} }}}}", chosen)
            assert "${{" not in value
            own[name] = value
        added = files["GITHUB_PATH"].read_text().split()
        environment = os.environ | own | {name: str(x) for name, x in files.items()}
        environment |= {"RUNNER_TEMP": str(temporary), "PATH": os.pathsep.join([*added, path])}
        script = temporary / "step.sh"
        script.write_text(step["run"])
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)]
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
        assert "Traceback" not in done.stderr, done.stderr
        if done.returncode:
            break
    outputs = dict(line.split("=", 1) for line in files["GITHUB_OUTPUT"].read_text().splitlines())
    return done.returncode, outputs, files["GITHUB_STEP_SUMMARY"].read_text()


def acted(here: Path, tmp_path: Path, names: tuple[str, ...]) -> None:
    """In an empty repository with the baseline alone: itself, blurred, one that lost clips."""
    repository, temporary = tmp_path / "repository", tmp_path / "runner"
    repository.mkdir()
    temporary.mkdir()
    shutil.copy(here / "baseline.parquet", repository)
    for git in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "baseline"],
    ):
        subprocess.run(["git", *git], cwd=repository, check=True)
    few = shutil.copytree(here / "samples", tmp_path / "few samples")
    (few / "03.mp4").unlink()
    (few / "07.mp4").unlink()
    for candidate, code, status in (
        (here / "samples", 0, "pass"),
        (here / "blurred", 1, "regression"),
        (few, 3, "invalid"),
    ):
        for margins in ("false", "true"):
            inputs = {"baseline": "baseline.parquet", "candidate": str(candidate), "margins": margins}
            inputs |= {"reference": str(here / "reference"), "out": "out folder"}
            found = steps(names, inputs, repository, temporary)
            assert found[:2] == (code, {"code": str(code), "status": status}), found
            assert f"Gate: {status}" in found[2]
            assert json.loads((repository / "out folder" / "verdict.json").read_text())["status"] == status
            names = tuple(name for name in names if name != "Install")
    names = ("Gate",)
    inputs = {"baseline": "baseline.parquet", "candidate": str(here / "again"), "reference": str(here / "reference")}
    assert steps(names, inputs | {"tolerance": "psnr=5 ssim=0.5 laplacian_variance=1e6"}, repository, temporary)[0] == 0
    hostile = inputs | {"candidate": "$(touch hacked); `touch hacked` --results x"}
    assert (
        steps(names, hostile, repository, temporary)[1]["status"] == "invalid" and not (repository / "hacked").exists()
    )


def test_the_action_in_an_empty_repository(here: Path, tmp_path: Path) -> None:
    acted(here, tmp_path, ("Gate",))


@pytest.mark.slow
def test_the_action_installs_what_it_runs(here: Path, tmp_path: Path) -> None:
    acted(here, tmp_path, ("Install", "Gate"))
    bin_folder = tmp_path / "runner" / "flashbench" / "bin"
    listed = subprocess.run(
        [bin_folder / "python", "-m", "pip", "list"], capture_output=True, text=True, check=True
    ).stdout
    assert "flashbench" in listed and "torch" not in listed


# --- pytest -------------------------------------------------------------------------------------------------------


def test_assert_not_worse(here: Path) -> None:
    from flashbench.testing import assert_not_worse

    run = {"metrics": METRICS, "reference": here / "reference"}
    assert_not_worse(here / "samples", here / "samples", **run)
    assert_not_worse(here / "samples", here / "again", **run)
    assert_not_worse(here / "samples", here / "again", margin=MARGINS, primary=["psnr", "ssim"], **run)
    with pytest.raises(AssertionError, match="blurred is worse than samples on psnr"):
        assert_not_worse(here / "samples", here / "blurred", **run)
    with pytest.raises(AssertionError, match="undecided"):
        assert_not_worse(here / "samples", here / "again", undecided="fail", **run)
    with pytest.raises(AssertionError, match="undecided"):
        assert_not_worse(here / "samples", here / "again", margin={"psnr": 1e-6}, primary="psnr", **run)
    with pytest.raises(FlashBenchError, match="nique"):
        assert_not_worse(here / "samples", here / "again", metrics="nique")


def test_what_could_not_fail_does_not_pass(here: Path, tmp_path: Path) -> None:
    from flashbench.testing import assert_not_worse

    folder(tmp_path / "a", noisy(4, 0), count=2)
    folder(tmp_path / "b", noisy(40, 1), count=2)
    with pytest.raises(AssertionError, match="no metric could decide|missing"):
        assert_not_worse(tmp_path / "a", tmp_path / "b", metrics=["temporal_flicker"])
    folder(tmp_path / "c", noisy(4, 1), fps=16)
    with pytest.raises(AssertionError, match="no metric could decide"):
        assert_not_worse(here / "samples", tmp_path / "c", metrics=["temporal_flicker"])
