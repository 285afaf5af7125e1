"""`dvc pull` is advised only where a remote is configured, and with a folder as remote it brings a clip and a model."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from flashbench.checks.remote import default_remote, fetching
from flashbench.store import Store
from flashbench.types import Clip

HERE = "[core]\n    analytics = false\n"
DEFAULT = "[core]\n    remote = theirs\n"
THEIRS = "['remote \"theirs\"']\n    url = s3://bucket/%(x)s\n"


@pytest.mark.parametrize(
    ("shared", "local", "url"),
    [
        ("", None, ""),
        (HERE, None, ""),
        (HERE + THEIRS, None, ""),  # DVC asks for `--default`, or `-r theirs`
        (DEFAULT, None, ""),
        (DEFAULT + THEIRS, None, "s3://bucket/%(x)s"),
        (DEFAULT, THEIRS, "s3://bucket/%(x)s"),
        (HERE + THEIRS, DEFAULT, "s3://bucket/%(x)s"),
        ("no section", None, ""),
    ],
)
def test_the_default_remote_of_a_repository(shared: str, local: str | None, url: str, tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text(shared)
    if local is not None:
        (tmp_path / ".dvc/config.local").write_text(local)
    inside = tmp_path / "results/smoke"
    inside.mkdir(parents=True)
    assert default_remote(inside) == url


def test_the_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert fetching("flashbench run nfe") == "`flashbench run nfe` makes it"
    Path(".dvc").mkdir()
    Path(".dvc/config").write_text(DEFAULT + THEIRS)
    assert fetching("flashbench run nfe") == "`dvc pull` fetches it"


@pytest.mark.slow
def test_a_clip_and_a_model_come_back_from_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As docs/dvc.md says, from one clone to another."""
    first, second, remote = tmp_path / "first", tmp_path / "second", tmp_path / "remote"
    first.mkdir()
    monkeypatch.chdir(first)
    monkeypatch.setenv("FLASHBENCH_STORE", "store")
    environment = os.environ | {"DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(tmp_path / "site")}

    def call(folder: Path, *words: str) -> None:
        if words[0] == "git":
            who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
            command = ["git", *who, *words[1:]]
        else:
            command = [sys.executable, "-m", *words]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    clip = Clip(np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8), Fraction(8))
    digest = Store().put_clip("k" * 64, clip, {})
    model = Path("results/smoke/models/codec")
    model.mkdir(parents=True)
    (model / "weights.safetensors").write_bytes(b"weights")
    call(first, "git", "init", "-q")
    call(first, "dvc", "init", "-q")
    call(first, "dvc", "remote", "add", "--default", "theirs", str(remote))
    assert default_remote() == str(remote)
    call(first, "dvc", "add", "store/clips", "results/smoke/models")
    call(first, "git", "add", "-A")
    call(first, "git", "commit", "-qm", "tracked")
    call(first, "dvc", "push")
    call(tmp_path, "git", "clone", "-q", str(first), str(second))
    shutil.rmtree(first)
    monkeypatch.chdir(second)
    assert not Store().has_clip("k" * 64) and not model.exists() and default_remote() == str(remote)
    call(second, "dvc", "pull")
    again = Store().clip("k" * 64)
    assert again.digest == digest and np.array_equal(again.frames, clip.frames)
    assert (second / model / "weights.safetensors").read_bytes() == b"weights"
