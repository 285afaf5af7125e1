"""The workflow of GitHub Actions: pinned actions, no secrets, and commands that the Makefile knows."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")


def _steps() -> list[dict[str, Any]]:
    return [step for job in yaml.safe_load(TEXT)["jobs"].values() for step in job["steps"]]


def test_actions_are_pinned_and_nothing_is_secret() -> None:
    used = [step["uses"] for step in _steps() if "uses" in step]
    assert used and all(re.fullmatch(r"actions/[a-z-]+@v\d+", name) for name in used)
    assert "secrets." not in TEXT and yaml.safe_load(TEXT)["permissions"] == {"contents": "read"}


def test_its_commands_are_targets_of_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    asked = {word for step in _steps() for word in re.findall(r"\bmake ([a-z-]+)", step.get("run", ""))}
    assert {"setup", "lint", "test", "smoke"} <= asked <= targets
    (smoke,) = (step["run"] for step in _steps() if "make smoke" in step.get("run", ""))
    variables = re.findall(r"\b([A-Z]+)=", smoke)
    assert variables and all(f"$({name})" in (ROOT / "Makefile").read_text(encoding="utf-8") for name in variables)


def test_of_the_smoke_tier_only_scores_are_for_git(tmp_path: Path) -> None:
    folder = tmp_path / "results/smoke"
    names = ("nfe/scores.parquet", "nfe/clips.jsonl", "models/codec/key", "tables/nfe.md", "verdict.json", ".gitignore")
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text((ROOT / "results/smoke/.gitignore").read_text() if name == ".gitignore" else "x")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    listed = subprocess.run(
        ["git", "ls-files", "--others", "--exclude-standard"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert listed.stdout.split() == ["results/smoke/.gitignore", "results/smoke/nfe/scores.parquet"]
