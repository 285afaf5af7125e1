"""The benchmarks, as CONTRIBUTING asks for them: each prints its ratio and fails above its limit."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(FOLDER / script), *arguments], capture_output=True, text=True)


@pytest.mark.isolated
def test_stage2_is_as_fast_as_diffusers_plain_transformer() -> None:
    done = run("stage2_forward.py")
    found = re.search(r"^ratio ([0-9.]+), .* (\d+) interleaved pairs", done.stdout, re.MULTILINE)
    assert found is not None, done.stderr
    assert float(found[1]) <= 1.05 and int(found[2]) >= 31, done.stdout
    assert re.search(r"rotary tables built 2 times for 2 shapes", done.stdout), done.stdout
    assert done.returncode == 0


@pytest.mark.isolated
def test_a_ratio_above_the_limit_fails() -> None:
    assert run("stage2_forward.py", "--pairs", "1", "--limit", "0.1").returncode == 1
