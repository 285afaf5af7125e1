"""`flashbench score` as a stranger runs it: any folder, no weights, weights that lie, twice."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support import dover_weights, learned_weights
from support import made_videos as made
from support.learned_weights import Shelf

import flashbench
from flashbench.metrics.dover import metric as video_quality
from flashbench.metrics.dover import network, scores
from flashbench.metrics.dover import views as dover_views
from flashbench.metrics.pyiqa import metric as learned
from flashbench.metrics.pyiqa import networks as pyiqa_networks


def call(*arguments: str | Path, **environment: str | Path) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own; it must never end in a traceback."""
    command = [sys.executable, "-m", "flashbench.cli", *map(str, arguments)]
    variables = os.environ | {name: str(value) for name, value in environment.items()}
    done = subprocess.run(command, capture_output=True, text=True, env=variables)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def odd_folder(folder: Path) -> dict[str, str]:
    """Case → what its rows must say (empty: it is scored)."""
    folder.mkdir()
    clip = made.frames(9, 270, 480)
    whole = made.write(folder / "good1.mp4", clip)
    made.write(folder / "good2.mkv", made.frames(9, 270, 480, seed=1))
    (folder / "truncated.mp4").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("no video\n" * 50)
    made.write(folder / "one.mp4", clip[:1])
    made.write(folder / "black.mp4", np.zeros_like(clip))
    made.write(folder / "small.mp4", made.frames(9, 64, 64))
    made.lossless(folder / "odd.mkv", made.frames(9, 271, 481))
    made.variable(folder / "variable.mp4", clip)
    fox = "-" + "🦊" + "x" * 241 + ".mp4"
    (folder / fox).write_bytes(whole.read_bytes())
    bad = dict.fromkeys(("truncated.mp4", "empty.mp4", "text.mp4"), "cannot be read")
    scored = ("good1.mp4", "good2.mkv", "one.mp4", "black.mp4", "small.mp4", "odd.mkv", "variable.mp4", fox)
    return bad | dict.fromkeys(scored, "")


def test_a_folder_of_odd_files(tmp_path: Path) -> None:
    expected = odd_folder(tmp_path / "clips")
    done = call("score", tmp_path / "clips", "--out", tmp_path / "out", FLASHBENCH_CACHE=tmp_path / "cache")
    assert done.returncode == 3, done.stderr
    assert "3 of 11 videos could not be scored whole, empty.mp4 among them" in done.stderr
    with (tmp_path / "out/scores.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    by_case = {case: [row for row in rows if row["case"] == case] for case in expected}
    assert len(rows) == len(expected) * len(by_case["good1.mp4"])
    for case, reason in expected.items():
        values = {row["metric"]: row["value"] for row in by_case[case]}
        if reason:
            assert set(values.values()) == {"nan"}
            assert all(row["reason"].startswith(reason) for row in by_case[case])
        else:
            assert values["laplacian_variance"] != "nan"
    reasons = {row["metric"]: row["reason"] for row in by_case["one.mp4"]}
    assert reasons["temporal_flicker"] == "a single frame has no change over time"
    assert reasons["niqe"] == "niqe-pristine not present: flashbench assets pull niqe-pristine"
    assert "- empty.mp4: cannot be read: the file is empty" in done.stdout
    again = call("score", tmp_path / "clips", "--out", tmp_path / "again", FLASHBENCH_CACHE=tmp_path / "cache")
    assert again.stdout == done.stdout.replace(str(tmp_path / "out"), str(tmp_path / "again"))
    for name in ("scores.csv", "scores.parquet", "scores.md"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_missing_weights_leave_zero_and_wrong_calls_two(tmp_path: Path) -> None:
    made.write(tmp_path / "clip.mp4", made.frames(2))
    done = call("score", tmp_path / "clip.mp4", "-m", "musiq,temporal_flicker", FLASHBENCH_CACHE=tmp_path / "cache")
    assert done.returncode == 0 and "- musiq: musiq-koniq not present" in done.stdout
    for arguments, said in (
        (("gone.mp4",), "gone.mp4 is not there"),
        ((tmp_path / "clip.mp4", "-m", "niqq"), "did you mean 'niqe'"),
        ((tmp_path / "clip.mp4", "--frames", "x"), "write all, or a number from 1"),
        ((tmp_path / "clip.mp4", "--prompts", tmp_path / "gone.csv"), "gone.csv cannot be read"),
    ):
        done = call("score", *arguments)
        assert done.returncode == (3 if "gone.csv" in said else 2) and said in done.stderr
    (blocked := tmp_path / "blocked").write_bytes(b"")
    done = call("score", tmp_path / "clip.mp4", FLASHBENCH_STORE=blocked / "store")
    assert done.returncode == 3 and "give a writable folder in FLASHBENCH_STORE" in done.stderr


def test_a_disk_that_fills_up_says_so(tmp_path: Path) -> None:
    """/dev/full stands in: a store whose drafts cannot be written."""
    made.write(tmp_path / "clip.mp4", made.frames(2))
    store = tmp_path / "store"
    assert call("score", tmp_path / "clip.mp4", "-m", "musiq", FLASHBENCH_STORE=store).returncode == 0
    (store / "tmp").rmdir()
    (store / "tmp").symlink_to("/dev/full")
    done = call("score", tmp_path / "clip.mp4", "-m", "temporal_flicker", FLASHBENCH_STORE=store)
    assert done.returncode == 3 and "cannot be written" in done.stderr


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    return learned_weights.empty_shelf(tmp_path, monkeypatch)


class Bomb:
    """What a malicious pickle does when it is loaded."""

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("exploded"),))


@pytest.mark.parametrize("kind", ["tampered", "malicious"])
def test_weights_that_lie_are_refused_by_name(kind: str, shelf: Shelf, tmp_path: Path) -> None:
    file = shelf.add("musiq-koniq", lambda path: torch.save({"weight": Bomb()}, path))
    if kind == "tampered":
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    made.write(tmp_path / "clip.mp4", made.frames(2))
    done = call("score", tmp_path / "clip.mp4", "-m", "musiq")
    said = "asset musiq-koniq is damaged" if kind == "tampered" else "asset musiq-koniq is refused"
    assert done.returncode == 3 and said in done.stderr
    assert not Path("exploded").exists()


@pytest.mark.slow
def test_learned_metrics_from_end_to_end(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeded weights under a test registry, no network: pyiqa's own scores of the file's frames, and DOVER's."""
    monkeypatch.setitem(pyiqa_networks.ROWS, "upstream", 1)  # of MANIQA's crops: all twenty take minutes
    networks = {"musiq": learned_weights.musiq(shelf), "maniqa": learned_weights.maniqa(shelf)}
    archive = shelf.add("clip-rn50", learned_weights.clip_archive, ".pt")
    networks["clipiqa"] = learned_weights.inference_model("clipiqa", backbone=str(archive))
    shelf.add("dover", lambda path: torch.save(dover_weights.state(), path))
    path = made.write(tmp_path / "clip.mp4", made.frames(1, 232, 236))
    once = {**video_quality.RAW.preprocessing, "repeats": 1}  # five draws take minutes
    chosen = [*networks, *(replace(metric, preprocessing=once) for metric in video_quality.DOVER[:3])]
    table = flashbench.score(path, chosen).set_index("metric")
    clip = np.stack(made.decoded(path))
    for name, own in networks.items():
        with torch.inference_mode():
            one = (
                [learned_weights.first_row(own, frame[None]) for frame in clip]
                if name == "maniqa"
                else (own(learned_weights.images(clip)).flatten().tolist())
            )
        np.testing.assert_allclose(table.loc[name, "per_frame"], one, atol=1e-6, rtol=0)
        assert table.loc[name, "value"] == pytest.approx(np.mean(one), abs=1e-6)
        assert "unofficial weights" in table.loc[name, "reason"] and "uncalibrated" in table.loc[name, "reason"]
    draw = torch.Generator().manual_seed(0)
    plans = [dover_views.plan(*clip.shape[:3], draw)]
    views = dover_views.views(clip, plans, antialias=True)
    raw = scores.score_views(network.load(dover_weights.state()), plans, views)
    assert table.loc["dover_technical_raw", "value"] == pytest.approx(float(raw.technical[0]), abs=1e-6)
    assert table.loc["dover_aesthetic_raw", "value"] == pytest.approx(float(raw.aesthetic[0]), abs=1e-6)
    quick = ["musiq", "clipiqa"]
    memory = flashbench.Scorer(quick)(clip, fps=8).set_index("metric")
    assert memory[["value", "key"]].equals(table.loc[quick, ["value", "key"]])
    learned._network.cache_clear()
    video_quality._network.cache_clear()


def test_without_weights_nothing_imports_torch(tmp_path: Path) -> None:
    """Its import takes longer than the rest of a second run."""
    path = made.write(tmp_path / "a.mp4", made.frames(3, 96, 96))
    program = "import sys\nfrom flashbench.cli.program import app\ntry: app(sys.argv[1:])\nexcept SystemExit: pass\n"
    program += "print(*sorted({'torch', 'scipy'} & set(sys.modules)))"
    for _ in range(2):
        command = [sys.executable, "-c", program, "score", path, "-m", "niqe,musiq"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert "not present" in done.stdout and done.stdout.splitlines()[-1] == "scipy", done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.isolated
def test_a_second_run_takes_under_a_tenth(tmp_path: Path) -> None:
    (folder := tmp_path / "clips").mkdir()
    for seed in range(20):
        made.write(folder / f"{seed}.mp4", made.frames(24, 270, 480, seed))
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        assert call("score", folder, "--out", tmp_path / "out").returncode == 0
        seconds.append(time.perf_counter() - began)
    assert seconds[1] < seconds[0] / 10, seconds


PEAK = """
import re, sys
from flashbench.cli.program import app
try:
    app(["score", *sys.argv[1:]])
except SystemExit as end:
    assert not end.code
print("peak", re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""


@pytest.mark.slow
def test_three_hundred_frames_of_1080p_stay_small(tmp_path: Path) -> None:
    """Every kind of stream that is not slow; with all metrics of adhoc/frame-quality the peak was 0.4 GB."""
    clip = made.frames(6, 1080, 1920)
    path = made.write(tmp_path / "long.mp4", np.concatenate([clip] * 50), preset="ultrafast")
    metrics = "laplacian_variance,temporal_flicker,colour_drift,sharpness_drift,psnr,temporal_error"
    command = [sys.executable, "-c", PEAK, str(path), "-m", metrics, "--reference", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) < 1.5e6, "kB"
