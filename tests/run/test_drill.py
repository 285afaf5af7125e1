"""The drill end to end on one prompt: protocols of two kinds, a second run, and runs that are killed.

`dvc exp run -S tier=drill` is the whole, and takes a quarter of an hour.
"""

from __future__ import annotations

import csv
import math
import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from support import smoke

pytestmark = pytest.mark.slow
PART = ("--tier", "drill", "--limit", "1", "--results", "results/drill")


def flashbench(folder: Path, *arguments: str) -> str:
    """What `flashbench …` prints; a run of the drill takes minutes."""
    done = subprocess.run(
        smoke.command(*arguments),
        cwd=folder,
        env=smoke.environment(folder),
        capture_output=True,
        text=True,
        timeout=1100,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def contents(folder: Path) -> dict[str, bytes]:
    """Everything but the pictures of clips and models, by name."""
    root = folder / "results/drill"
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.suffix != ".png" and "models" not in path.parts
    }


def test_every_cell_is_a_value_or_a_reason_and_a_second_run_makes_nothing(tmp_path: Path) -> None:
    """Of Stage I tuned in two ways, and of what is computed; all say whose weights they are of."""
    names = ("tuning", "cost")
    flashbench(tmp_path, "run", *names, *PART)
    flashbench(tmp_path, "claims", "--tier", "drill", "--results", "results/drill", "-S", "cases.limit=1")
    for name in names:
        with (tmp_path / f"results/drill/tables/{name}.csv").open() as file:
            lines = list(csv.DictReader(file))
        assert lines and not [line for line in lines if math.isnan(float(line["value"])) and not line["reason"]], name
        made = [line for line in lines if line["metric"] == "musiq" and not math.isnan(float(line["value"]))]
        assert made and all("unofficial weights" in line["reason"] for line in made), name
        text = (tmp_path / f"results/drill/tables/{name}.md").read_text()
        assert "This is a drill" in text and "5 frames a clip" in text
        for kind in ("svg", "png"):
            assert (tmp_path / f"results/drill/figures/{name}.{kind}").is_file()
    before = contents(tmp_path)
    told = flashbench(tmp_path, "run", *names, *PART)
    assert "built 0 models" in told and set(re.findall(r"made (\d+) (?:clips|scores)", told)) == {"0"}
    assert contents(tmp_path) == before


@pytest.mark.isolated
def test_killed_at_random_it_ends_in_the_same_tables(tmp_path: Path) -> None:
    """Five times, wherever it is: training, generating or scoring."""
    run = ("run", "preference", *PART)
    (undisturbed := tmp_path / "undisturbed").mkdir()
    (disturbed := tmp_path / "disturbed").mkdir()
    began = time.monotonic()
    flashbench(undisturbed, *run)
    whole = time.monotonic() - began
    draw = random.Random(15)
    for _ in range(5):
        process = subprocess.Popen(
            smoke.command(*run), cwd=disturbed, env=smoke.environment(disturbed),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            process.wait(draw.uniform(0.05, 0.4) * whole)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    flashbench(disturbed, *run)
    assert contents(disturbed) == contents(undisturbed)
