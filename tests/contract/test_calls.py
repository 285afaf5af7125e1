"""How many files of the package a command enters: what somebody has to read who wants to follow it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import made_videos, smoke

# Twelve of them say what a video file is: eight in decoding/, and media, pictures, read and remarks in videos/.
# Five more tell what two videos differ in besides their pictures, and which of them are one: lossless, repeats, facts …
SCORE = {"files": 39, "mutual pairs": 0}
# When rooms were fewer and larger, and a video file was what its header said: 32 and 34 files, 62 and 66 arrows.
# Two of compare's own (losses, family), and those five, in place of 40 files and 83 arrows.
# Two more answer pipelines and read margins.
COMPARE = {"files": 50, "arrows": 109}
# Nine metrics in place of six: 43 files, 80 arrows. The file of a protocol may be one's own: one file, two arrows.
PROTOCOL = {"files": 46, "arrows": 92}


def profile(folder: Path, *arguments: str) -> str:
    """What tools/calls.py prints of `flashbench ARGUMENTS`, called in `folder`."""
    command = [sys.executable, smoke.ROOT / "tools" / "calls.py", *arguments]
    done = subprocess.run(
        command, cwd=folder, env=smoke.environment(folder), capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_at_most(maxima: dict[str, int], text: str) -> None:
    counted = {name: int(number) for name, number in re.findall(r"^([a-z ]+): (\d+)$", text, re.MULTILINE)}
    assert {name: number for name, number in maxima.items() if counted[name] > number} == {}, text


def clips(folder: Path, count: int, seed: int) -> None:
    folder.mkdir()
    for number in range(count):
        made_videos.write(folder / f"{number}.mp4", made_videos.frames(seed=seed + number))


def test_what_is_called_at_import_does_not_count(tmp_path: Path) -> None:
    listed = profile(tmp_path, "--version")
    assert re.sub(r" +\d+ ", "", listed) == "files: 1\n cli/program.py\narrows: 0\nmutual pairs: 0\n"


def test_score_of_a_clip(tmp_path: Path) -> None:
    clips(tmp_path / "a", 1, seed=0)
    clips(tmp_path / "reference", 1, seed=9)
    text = profile(tmp_path, "score", "a/0.mp4", "-m", "psnr", "--reference", "reference")
    assert_at_most(SCORE, text)


def test_compare_of_two_folders(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 3), ("reference", 9)):
        clips(tmp_path / name, 3, seed=seed)
    text = profile(tmp_path, "compare", "a", "b", "-m", "psnr,temporal_flicker", "--reference", "reference")
    assert_at_most(COMPARE, text)


@pytest.mark.slow
def test_score_phase_of_a_protocol(tmp_path: Path) -> None:
    nfe = ("run", "nfe", "--tier", "smoke", "--workers", "0")
    smoke.flashbench(tmp_path, *nfe, "--phase", "train", "--phase", "generate")
    assert_at_most(PROTOCOL, profile(tmp_path, *nfe, "--phase", "score"))
