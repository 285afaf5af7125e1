"""What is installed: the wheel without extras, and pins that fit the ranges."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import time
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from support import made_videos

ROOT = Path(__file__).resolve().parents[2]


def run(*command: str | Path, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "FLASHBENCH"))}
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command} exits {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree, built with the pinned tools."""
    folder = tmp_path_factory.mktemp("wheel")
    pins = ["-c", "constraints.txt", "--build-constraint", "constraints.txt"]
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", *pins, "-w", folder, ".", cwd=ROOT)
    (built,) = folder.glob("flashbench-*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an empty environment with the wheel in it, no extras."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    programs = folder / "bin"
    run(programs / "python", "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel, cwd=folder)
    return programs


@pytest.mark.slow
def test_the_wheel_carries_what_it_needs_and_nothing_else(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    protocols = {f"flashbench/shipped/{path.relative_to(ROOT)}" for path in (ROOT / "protocols").rglob("*.yaml")}
    assert protocols and protocols <= inside, sorted(protocols - inside)
    assert {"flashbench/py.typed", "flashbench/assets/assets.yaml"} <= inside
    other = [name for name in inside if not name.startswith(("flashbench/", "flashbench-"))]
    assert not other, other


@pytest.mark.slow
def test_the_wheel_works_in_an_empty_folder_without_extras(environment: Path, tmp_path: Path) -> None:
    code = """
import importlib.util, pathlib, flashbench
home = pathlib.Path(flashbench.__file__).parent
print(sorted(path.stem for path in (home / "shipped" / "protocols").glob("*.yaml")))
print([name for name in ("torch", "diffusers", "pyiqa", "dvc") if importlib.util.find_spec(name)])
for name in flashbench.__all__:
    getattr(flashbench, name)
"""
    shipped, absent = run(environment / "python", "-c", code, cwd=tmp_path).splitlines()
    assert shipped == str(sorted(path.stem for path in (ROOT / "protocols").glob("*.yaml")))
    assert absent == "[]", "the base installation brings packages of an extra"
    assert run(environment / "python", "-m", "pip", "check", cwd=tmp_path).startswith("No broken requirements")
    assert not list(tmp_path.iterdir()), "importing wrote into the working folder"


@pytest.mark.slow
def test_the_wheel_scores_a_clip_in_an_empty_folder(environment: Path, tmp_path: Path) -> None:
    made_videos.write(tmp_path / "clip.mp4", made_videos.frames())
    said = run(environment / "flashbench", "score", "clip.mp4", cwd=tmp_path)
    assert "| temporal_flicker ↓ | levels | " in said and "- musiq: musiq-koniq not present" in said
    assert [path.name for path in sorted(tmp_path.iterdir())] == [".flashbench", "clip.mp4"]


@pytest.mark.isolated
def test_help_answers_in_under_a_second(environment: Path, tmp_path: Path) -> None:
    seconds = []
    for _ in range(6):
        began = time.perf_counter()
        assert "Usage" in run(environment / "flashbench", "--help", cwd=tmp_path)
        seconds.append(time.perf_counter() - began)
    warm = seconds[1:]
    assert statistics.median(warm) < 1.0, [f"{value:.2f}" for value in warm]


def pins() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    found = [re.fullmatch(r"([A-Za-z0-9._-]+)==(\S+)", line) for line in lines if line and not line.startswith("#")]
    assert all(found), "constraints.txt holds `name==version` lines and comments only"
    return {canonicalize_name(match[1]): Version(match[2]) for match in found if match}


def test_every_requirement_has_a_pin_within_its_range() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        parsed = tomllib.load(file)
    project, pinned = parsed["project"], pins()
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    wrong = []
    for requirement in map(Requirement, [*project["dependencies"], *extras, *parsed["build-system"]["requires"]]):
        version = pinned.get(canonicalize_name(requirement.name))
        if requirement.name != "flashbench" and (version is None or version not in requirement.specifier):
            wrong.append(f"{requirement}: pinned {version}")
    assert not wrong, wrong


def test_the_base_installation_has_no_torch() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        base = {canonicalize_name(Requirement(line).name) for line in tomllib.load(file)["project"]["dependencies"]}
    assert not base & {"torch", "torchvision", "pyiqa", "diffusers", "transformers", "dvc", "ray"}
