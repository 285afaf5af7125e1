"""Killed or interrupted anywhere, the same command goes on and ends in the same bytes as a run that was left alone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support import smoke

pytestmark = pytest.mark.slow

RUN = ("run", "nfe", "--tier", "smoke", "-S", "recipes.wide.steps=150", "--results", "results/smoke")
"""Long enough to be killed in the middle of training."""
OFTEN = {"FLASHBENCH_CHECKPOINT_SECONDS": "0.3"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed")
    smoke.flashbench(folder, *RUN, **OFTEN)
    return smoke.results(folder)


def _start(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        smoke.command(*RUN), cwd=folder, env=smoke.environment(folder, **OFTEN),
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def _kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()  # closes the pipe, too


def _wait_for(ready: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not ready():
        assert process.poll() is None, f"ended too early: {process.stderr.read() if process.stderr else ''}"
        assert time.monotonic() < deadline, "never got there"
        time.sleep(0.02)


def _training(folder: Path) -> bool:
    return any((folder / "store/state").glob("*/state.safetensors"))


def _generating(folder: Path) -> bool:
    """Some, but not all, of the three originals and twenty-one other clips are there."""
    return 5 <= len(list((folder / "store/clips").glob("*/*/record.json"))) < 20


def _children(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def _gone(pids: list[int]) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if not any(Path(f"/proc/{pid}").exists() and _state(pid) != "Z" for pid in pids):
            return True
        time.sleep(0.05)
    return False


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "Z"


@pytest.mark.parametrize("moment", [_training, _generating], ids=["training", "generation"])
def test_kill_9_of_the_run(undisturbed: dict[str, bytes], tmp_path: Path, moment: Callable[[Path], bool]) -> None:
    process = _start(tmp_path)
    _wait_for(lambda: moment(tmp_path), process)
    workers = _children(process.pid)
    assert workers
    _kill(process)
    assert _gone(workers), "a worker outlived its run"
    smoke.flashbench(tmp_path, *RUN, **OFTEN)
    assert smoke.results(tmp_path) == undisturbed


def test_training_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    process = _start(tmp_path)
    _wait_for(lambda: _training(tmp_path), process)
    _kill(process)
    again = _start(tmp_path)
    _, text = again.communicate(timeout=200)
    assert again.returncode == 0
    first = next(line for line in text.splitlines() if line.startswith("train wide"))
    assert not first.startswith("train wide  1/"), f"it began again: {first}"


@pytest.mark.parametrize("moment", [_training, _generating], ids=["training", "generation"])
def test_kill_9_of_a_worker(undisturbed: dict[str, bytes], tmp_path: Path, moment: Callable[[Path], bool]) -> None:
    process = _start(tmp_path)
    _wait_for(lambda: moment(tmp_path), process)
    for worker in _children(process.pid):
        if b"spawn_main" in Path(f"/proc/{worker}/cmdline").read_bytes():
            os.kill(worker, signal.SIGKILL)
    _, text = process.communicate(timeout=250)
    assert process.returncode == 0, text
    assert "trying once more" in text
    assert smoke.results(tmp_path) == undisturbed


@pytest.mark.parametrize("moment", [_training, _generating], ids=["training", "generation"])
def test_ctrl_c(undisturbed: dict[str, bytes], tmp_path: Path, moment: Callable[[Path], bool]) -> None:
    process = _start(tmp_path)
    _wait_for(lambda: moment(tmp_path), process)
    workers = _children(process.pid)
    os.killpg(process.pid, signal.SIGINT)
    _, text = process.communicate(timeout=60)
    assert process.returncode == 130 and "goes on from here" in text and "Traceback" not in text
    assert _gone(workers)
    smoke.flashbench(tmp_path, *RUN, **OFTEN)
    assert smoke.results(tmp_path) == undisturbed


def _clone(folder: Path) -> Path:
    """The repository as it is, with a store, caches and an index of its own, at the smoke tier."""
    kept = ("flashbench", "protocols", "notebooks", "tools", "dvc.yaml", "versions.yaml", ".dvcignore")
    for name in kept:
        source = smoke.ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, folder / name)
    (folder / "params.yaml").write_text("tier: smoke\n")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    subprocess.run(_dvc("init", "-q"), cwd=folder, check=True, env=_dvc_environment(folder))
    return folder


def _dvc(*arguments: str) -> list[str]:
    return [str(Path(os.sys.executable).parent / "dvc"), *arguments]  # type: ignore[attr-defined]


def _dvc_environment(folder: Path) -> dict[str, str]:
    binaries = str(Path(os.sys.executable).parent)  # type: ignore[attr-defined]
    more = {"PATH": f"{binaries}:{os.environ['PATH']}", "PYTHONPATH": str(folder), "DVC_NO_ANALYTICS": "1"}
    return smoke.environment(folder, **OFTEN, **more, FLASHBENCH_PROTOCOLS=str(folder / "protocols"))


ASKED = ("repro", "tables@strength", "tables@stages")
"""Two protocols stand for all: training, material, prompts. Each stage costs seconds of imports."""


def test_kill_9_of_dvc_then_again_then_nothing_to_do(tmp_path: Path) -> None:
    calm, rough = _clone_into(tmp_path / "calm"), _clone_into(tmp_path / "rough")
    subprocess.run(_dvc(*ASKED, "-q"), cwd=calm, check=True, env=_dvc_environment(calm))
    process = subprocess.Popen(_dvc(*ASKED), cwd=rough, env=_dvc_environment(rough), stderr=subprocess.PIPE, text=True)
    _wait_for(lambda: any((rough / "store/clips").glob("*/*/record.json")), process)
    descendants = [p for child in _children(process.pid) for p in (child, *_children(child))]
    assert descendants
    _kill(process)
    assert _gone(descendants), "something outlived dvc"
    subprocess.run(_dvc(*ASKED, "-q"), cwd=rough, check=True, env=_dvc_environment(rough))
    assert smoke.results(rough) == smoke.results(calm)
    second = subprocess.run(_dvc(*ASKED), cwd=rough, env=_dvc_environment(rough), capture_output=True, text=True)
    assert "Data and pipelines are up to date" in second.stdout + second.stderr


def _clone_into(folder: Path) -> Path:
    folder.mkdir()
    return _clone(folder)
