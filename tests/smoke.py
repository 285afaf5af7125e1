"""The smoke tier in a folder of its own, for tests that run, damage or interrupt it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PARAMETERS = ROOT / "tests" / "golden" / "niqe.safetensors"


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Environment of a run whose store and results lie in `folder`; protocols come from the repository."""
    return {
        **os.environ,
        "FLASHBENCH_STORE": str(folder / "store"),
        "FLASHBENCH_PROTOCOLS": str(ROOT / "protocols"),
        "OMP_NUM_THREADS": "1",
        **more,
    }


def command(*arguments: str) -> list[str]:
    """`flashbench …` with this interpreter."""
    return [sys.executable, "-m", "flashbench.cli", *arguments]


def flashbench(folder: Path, *arguments: str, check: bool = True, **more: str) -> subprocess.CompletedProcess[str]:
    """Run `flashbench …` in `folder` and wait."""
    done = subprocess.run(
        command(*arguments), cwd=folder, env=environment(folder, **more), capture_output=True, text=True, timeout=280
    )
    assert not check or done.returncode == 0, done.stderr
    return done


def results(folder: Path) -> dict[str, bytes]:
    """Every text, figure and table of scores under `folder`/results, by relative path (models have none of the times
    either, but are not what a reader compares)."""
    root = folder / "results"
    names = ("*.md", "*.csv", "*.tex", "*.svg", "*.json", "*.jsonl", "*.parquet")
    return {str(path.relative_to(root)): path.read_bytes() for name in names for path in sorted(root.rglob(name))}
