"""The engine: order, errors, killed workers, one worker per key, and nobody survives a killed parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flashbench.engine import LocalEngine, Task
from flashbench.errors import InvalidError, UsageError
from flashbench.store import Store


def _task(task: str, function: str, needs: tuple[str, ...] = (), **arguments: object) -> Task:
    return Task(key=task, label=task, function=f"support.engine_tasks:{function}", arguments=arguments, needs=needs)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.mark.parametrize("workers", [0, 2])
def test_every_task_runs_once_and_says_what_it_did(store: Store, workers: int) -> None:
    tasks = [_task(str(value), "double", value=value) for value in range(5)]
    done = LocalEngine(workers=workers, threads=1).run([*tasks, tasks[0]], store=store, title="t", unit="tasks")
    assert {key: record["value"] for key, record in done.items()} == {str(value): 2 * value for value in range(5)}
    assert all(record["threads"] == "1" for record in done.values())
    assert (os.getpid() in {record["pid"] for record in done.values()}) == (workers == 0)


@pytest.mark.parametrize("workers", [0, 2])
def test_needs_come_first(store: Store, tmp_path: Path, workers: int) -> None:
    log = str(tmp_path / "log")
    chain = [("c", ("b",)), ("b", ("a",)), ("a", ("elsewhere",))]
    tasks = [_task(name, "mark", needs, log=log, name=name) for name, needs in chain]
    LocalEngine(workers=workers).run(tasks, store=store, title="t", unit="tasks")
    assert Path(log).read_text().split() == ["a", "b", "c"]


def test_a_circle_is_refused_before_any_work(store: Store, tmp_path: Path) -> None:
    log = str(tmp_path / "log")
    tasks = [_task(a, "mark", (b,), log=log, name=a) for a, b in (("x", "y"), ("y", "x"))]
    with pytest.raises(ValueError, match="circle"):
        LocalEngine().run(tasks, store=store, title="t", unit="tasks")
    assert not Path(log).exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_users_mistake_keeps_its_words(store: Store, workers: int) -> None:
    with pytest.raises(UsageError, match="no such thing") as caught:
        LocalEngine(workers=workers).run([_task("r", "refuse")], store=store, title="t", unit="tasks")
    assert caught.value.fix == "name another"


def test_a_crash_names_the_task_and_the_error(store: Store) -> None:
    with pytest.raises(InvalidError, match="boom: ZeroDivisionError"):
        LocalEngine(workers=1).run(
            [Task(key="k", label="boom", function="support.engine_tasks:crash", arguments={})],
            store=store,
            title="t",
            unit="x",
        )


def test_a_killed_worker_is_replaced_once(store: Store, tmp_path: Path) -> None:
    task = _task("d", "die", flag=str(tmp_path / "flag"), times=1)
    done = LocalEngine(workers=1).run([task, _task("e", "double", value=1)], store=store, title="t", unit="tasks")
    assert done["d"]["deaths"] == 1 and done["e"]["value"] == 2


def test_a_worker_that_died_between_runs_is_replaced(store: Store) -> None:
    with LocalEngine(workers=1) as engine:
        first = engine.run([_task("a", "double", value=1)], store=store, title="t", unit="tasks")
        os.kill(first["a"]["pid"], signal.SIGKILL)
        time.sleep(0.2)
        second = engine.run([_task("b", "double", value=2)], store=store, title="t", unit="tasks")
    assert second["b"]["value"] == 4 and second["b"]["pid"] != first["a"]["pid"]


def test_a_worker_that_dies_twice_is_an_error(store: Store, tmp_path: Path) -> None:
    task = _task("d", "die", flag=str(tmp_path / "flag"), times=2)
    with pytest.raises(InvalidError, match="died twice"):
        LocalEngine(workers=1).run([task], store=store, title="t", unit="tasks")


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_workers_die_with_their_parent(store: Store, tmp_path: Path) -> None:
    """kill -9 on the run must not leave a trainer behind."""
    pid_file = tmp_path / "pid"
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from flashbench.engine import LocalEngine, Task
from flashbench.store import Store
if __name__ == "__main__":
    task = Task(key="k", label="linger", function="support.engine_tasks:linger",
                arguments={{"pid_file": {str(pid_file)!r}}})
    LocalEngine(workers=1).run([task], store=Store(Path({str(store.root)!r})), title="t", unit="x")
"""
    path = tmp_path / "script.py"
    path.write_text(script)
    parent = subprocess.Popen([sys.executable, str(path)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    worker = int(pid_file.read_text())
    assert _alive(worker)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while _alive(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(worker)


def _run_count(root: str, log: str) -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    task = _task("shared", "count", log=log)
    LocalEngine(workers=0).run([task], store=Store(Path(root)), title="t", unit="x")


def test_two_runs_never_do_the_same_work_twice(store: Store, tmp_path: Path) -> None:
    log = str(tmp_path / "log")
    context = multiprocessing.get_context("spawn")
    runs = [context.Process(target=_run_count, args=(str(store.root), log)) for _ in range(2)]
    for process in runs:
        process.start()
    for process in runs:
        process.join()
    assert [process.exitcode for process in runs] == [0, 0]
    assert Path(log).read_text() == "worked\n"
