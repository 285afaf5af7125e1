"""What `flashbench score` and `compare` find, say of what they leave out, and refuse, as users run them."""

from __future__ import annotations

import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from PIL import Image
from support import made_videos as made

CLIP = made.frames(5, 48, 64)
NAMES = ("café", "Ångström", "niño")


@pytest.fixture
def flashbench(tmp_path: Path):  # type: ignore[no-untyped-def]
    def call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "flashbench.cli", *map(str, arguments), "-m", "laplacian_variance"]
        variables = os.environ | {"FLASHBENCH_STORE": str(tmp_path / "store")}
        done = subprocess.run(command, capture_output=True, text=True, env=variables, cwd=tmp_path)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return call


def test_folders_that_are_no_sequence_are_rows(tmp_path: Path, flashbench) -> None:  # type: ignore[no-untyped-def]
    whole = made.pictures(tmp_path / "f" / "whole", CLIP)
    for name in ("gap", "extra"):
        made.pictures(tmp_path / "f" / name, CLIP)
    (tmp_path / "f" / "gap" / "frame2.png").unlink()
    (tmp_path / "f" / "extra" / "preview.png").write_bytes((whole / "frame0.png").read_bytes())
    done = flashbench("score", "f")
    assert done.returncode == 3 and "1/3" in done.stdout
    for line in (
        "gap: cannot be read: its 4 pictures are not one numbered sequence: frame2.png is missing",
        "extra: cannot be read: its 6 pictures are not one numbered sequence: preview.png has another form of name",
    ):
        assert line in done.stdout


def test_what_was_not_read_is_one_remark(tmp_path: Path, flashbench) -> None:  # type: ignore[no-untyped-def]
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        made.lossless(tmp_path / name / "a.mkv", CLIP)
    for name in ("b.rm", "c.vob", "d.heic"):
        (tmp_path / "one" / name).write_bytes(b"\0")
    (tmp_path / "one" / "index.ts").write_text("export const x: number = 1;\n")
    Image.fromarray(CLIP[0]).save(tmp_path / "one" / "still.webp")
    done = flashbench("score", "one")
    assert done.returncode == 0 and "1 video of one" in done.stdout
    assert "3 files look like video or pictures and were not read: b.rm among them" in done.stdout
    assert "1 picture stands beside videos and was left out: still.webp" in done.stdout
    assert "3 files look like video" in flashbench("compare", "one", "two").stdout
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "a.rm").write_bytes(b"\0")
    done = flashbench("score", "none")
    assert done.returncode == 2 and "holds no video; 1 file looks like video or a picture" in done.stderr


def test_composed_and_decomposed_names_pair(tmp_path: Path, flashbench) -> None:  # type: ignore[no-untyped-def]
    for form in ("NFC", "NFD"):
        (tmp_path / form).mkdir()
        for seed, name in enumerate(NAMES):
            clip = made.frames(3, 48, 64, seed=seed + 10 * (form == "NFD"))
            made.lossless(tmp_path / form / unicodedata.normalize(form, f"{name}.mkv"), clip)
    lines = [f"{name}.mkv;a {name};0,0" for name in NAMES]
    (tmp_path / "p.csv").write_text("Path ;PROMPT;Seed\n" + "\n".join(lines) + "\n;;\n", "utf-16")
    assert "3 pairs of `NFD` and `NFC`, by name." in flashbench("compare", "NFC", "NFD").stdout
    for form in ("NFC", "NFD"):
        assert flashbench("score", form, "--out", f"out{form}", "--prompts", "p.csv").returncode == 0
        table = (tmp_path / f"out{form}" / "scores.csv").read_text("utf-8")
        assert all(f"{name}.mkv,a {name},a {name},0" in table for name in NAMES)
        assert "no prompt" not in (tmp_path / f"out{form}" / "scores.md").read_text("utf-8")
    assert "3 pairs" in flashbench("compare", "outNFC", "outNFD").stdout


def test_a_broken_file_of_prompts_is_one_line(tmp_path: Path, flashbench) -> None:  # type: ignore[no-untyped-def]
    made.lossless(tmp_path / "a.mkv", CLIP[:2])
    text = "path,prompt\n" + "\n".join(f"{n}.mp4,prompt number {n}" for n in range(20000))
    for content in (text.encode("utf-16-le"), text.encode("utf-16")[:-1], b"path,prompt\n\xff" + bytes(10**6)):
        (tmp_path / "p.csv").write_bytes(content)
        done = flashbench("score", "a.mkv", "--prompts", "p.csv")
        assert done.returncode == 3 and len(done.stderr) < 500 and "p.csv is not a file of prompts" in done.stderr
