"""The worked packages under examples/: installed and used as a user would, and told from what they were before."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support import made_videos, smoke

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def install(name: str, folder: Path) -> Path:
    """Install an example, without network, into a folder of its own; returns that folder."""
    source, target = folder / name, folder / "installed"
    shutil.copytree(ROOT / "examples" / name, source)
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", "--quiet", *offline, "--target", str(target), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


def flashbench(folder: Path, installed: Path, *arguments: str, check: bool = True, **more: str) -> str:
    """What `flashbench …` prints in `folder` with the packages of `installed`."""
    path = os.pathsep.join(filter(None, [str(installed), os.environ.get("PYTHONPATH")]))
    done = smoke.flashbench(folder, *arguments, check=check, PYTHONPATH=path, **more)
    return done.stdout if check else done.stderr


def test_a_metric_of_another_package(tmp_path: Path) -> None:
    installed = install("my-metric", tmp_path)
    assert "blockiness" in flashbench(tmp_path, installed, "list", "metrics")
    frames = made_videos.frames()
    blocks = frames[:, ::8, ::8].repeat(8, axis=1).repeat(8, axis=2)[:, : frames.shape[1], : frames.shape[2]]
    for name, content in (("smooth", frames), ("blocks", blocks // 2 + frames // 2)):
        made_videos.write(tmp_path / f"{name}.mp4", np.ascontiguousarray(content))

    def score(out: str) -> dict[str, float]:
        flashbench(tmp_path, installed, "score", "smooth.mp4", "blocks.mp4", "--metrics", "blockiness", "--out", out)
        table = pd.read_parquet(tmp_path / out / "scores.parquet")
        return dict(zip(table["case"], table["value"], strict=True))

    first = score("first")
    smooth, blocked = (next(value for case, value in first.items() if name in case) for name in ("smooth", "blocks"))
    assert 0.7 < smooth < 1.5 and blocked > 2 * smooth
    module = installed / "blockiness.py"
    text = module.read_text("utf-8")
    module.write_text(text.replace("return float(across", "return 2 * float(across"), "utf-8")
    assert score("second") == {case: 2 * value for case, value in first.items()}, (
        "its version is the same, its code is not"
    )
    module.write_text(text, "utf-8")
    assert score("first") == first, "the same code goes on with the same run"


def test_a_system_of_another_package(tmp_path: Path) -> None:
    installed = install("my-system", tmp_path)
    assert "lanczos" in flashbench(tmp_path, installed, "list", "systems")
    said = flashbench(tmp_path, installed, "list", "systms", check=False)
    assert "did you mean 'systems'" in said
    protocols = tmp_path / "protocols"
    shutil.copytree(ROOT / "protocols", protocols)
    shutil.copy(tmp_path / "my-system" / "probe.yaml", protocols)

    def run() -> dict[str, str]:
        flashbench(tmp_path, installed, "run", "probe", "--tier", "smoke", FLASHBENCH_PROTOCOLS=str(protocols))
        lines = (tmp_path / "results/smoke/probe/clips.jsonl").read_text("utf-8").splitlines()
        return {f"{line['row']} {line['case']}": line["key"] for line in map(json.loads, lines)}

    first = run()
    assert {row.split()[0] for row in first} == {"lanczos", "bicubic", "original"}
    scores = pd.read_parquet(tmp_path / "results/smoke/probe/scores.parquet")
    by_row = scores[scores["metric"] == "psnr"].groupby("row")["value"].mean()
    assert abs(by_row["lanczos"] - by_row["bicubic"]) < 3 and by_row["lanczos"] > 15
    module = installed / "lanczos.py"
    module.write_text(module.read_text("utf-8").replace("INTER_LANCZOS4", "INTER_NEAREST"), "utf-8")
    second = run()
    moved = {row.split()[0] for row in first if first[row] != second[row]}
    assert moved == {"lanczos"}, "its version is the same, its code is not; ours keep their keys"
