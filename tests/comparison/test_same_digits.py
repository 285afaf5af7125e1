"""`score` and `compare` of the same videos, on the command line: the same means with the same digits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support import made_videos as made

METRICS = "laplacian_variance,temporal_flicker,frame_difference_energy,spectral_slope"


def cells(*arguments: str | Path) -> dict[str, list[str]]:
    """Metric → the cells of its line in the grid that a command prints."""
    command = [sys.executable, "-m", "flashbench.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    return {line[0].split()[0]: line[1:] for line in lines if line[0].split()[0] in METRICS.split(",")}


@pytest.mark.parametrize("count", [1, 4])
def test_one_mean_has_one_form(count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASHBENCH_STORE", str(tmp_path / "store"))
    for folder in ("before", "after"):
        (tmp_path / folder).mkdir()
        for number in range(count):
            clip = made.frames(5, 48, 64, seed=number) // (1 if folder == "before" else 2 + number)
            made.lossless(tmp_path / folder / f"{number}.mkv", clip)
    before, after = (cells("score", tmp_path / x, "-m", METRICS) for x in ("before", "after"))
    both = cells("compare", tmp_path / "before", tmp_path / "after", "-m", METRICS)
    assert list(both) == METRICS.split(",")
    for metric, (baseline, other, *_) in both.items():
        assert (baseline, other) == (before[metric][1], after[metric][1]), metric
