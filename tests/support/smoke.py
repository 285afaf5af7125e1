"""The smoke tier in a folder of its own, for tests that run, damage or interrupt it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flashbench.run import phases
from flashbench.run.options import Options
from flashbench.run.summary import summarise

ROOT = Path(__file__).parents[2]


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Environment of a run whose store and results lie in `folder`; protocols come from the repository."""
    return {
        **os.environ,
        "FLASHBENCH_STORE": str(folder / "store"),
        "FLASHBENCH_PROTOCOLS": str(ROOT / "protocols"),
        "OMP_NUM_THREADS": "1",
        **more,
    }


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """This process as if it had been started in `folder`, with that folder's store."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(folder).items():
            patch.setenv(name, value)
        patch.chdir(folder)
        yield


def run(folder: Path, *names: str, overrides: tuple[str, ...] = (), **options: Any) -> None:
    """Run protocols at the smoke tier in this process: seconds, where a process of its own imports torch first."""
    with inside(folder):
        phases.run_protocols(names, options=Options(tier="smoke", workers=0, overrides=overrides, **options))


def claims(folder: Path) -> None:
    """Write the tier's claims.md and metrics.json."""
    with inside(folder):
        summarise(Options(tier="smoke"))


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
