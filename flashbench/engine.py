"""The engine: runs named tasks, one process or several, with one lock per key and progress all the way.

A task names a function (`module:function`) and its arguments; what it makes goes into the store, so nothing but
progress and a short record comes back. Workers are spawned (no inherited state), run at a fixed thread count, die
with their parent, and are replaced once per task if they are killed.
"""

from __future__ import annotations

import ctypes
import importlib
import multiprocessing
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

from flashbench.errors import FlashBenchError, InvalidError, UsageError, missing_dependency
from flashbench.progress import Progress, say
from flashbench.progress import Task as Bar
from flashbench.store import Store

Report = Callable[[int, int, str], None]
"""Progress of one task: done, total, a word on the state."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A piece of work whose result goes into the store under `key`."""

    key: str
    label: str
    function: str
    """`module:function`, called as function(store, key, report, **arguments) → record."""
    arguments: Mapping[str, Any]
    needs: tuple[str, ...] = ()
    """Keys of tasks of the same run that must be finished first."""
    steps: bool = False
    """Shows a bar of its own (training), not only a count."""


class Engine(Protocol):
    """Anything that runs tasks: here processes of one machine."""

    def run(self, tasks: Sequence[Task], *, store: Store, title: str, unit: str) -> dict[str, Mapping[str, Any]]:
        """Run every task once; returns key → record. Raises the first task's error after stopping the others."""
        ...


def say_made(title: str, what: str, made: int, total: int) -> None:
    """Say how many of `total` things were made, and how many the store had."""
    say(f"{title}: made {made} {what}, {total - made} of {total} were in the store")


def die_with_parent(signum: int = signal.SIGKILL) -> None:
    """Ask Linux to signal this process when its parent dies (kill -9 on `dvc` leaves its child running)."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, int(signum))


def _call(task: Task, store: Store, report: Report, threads: int) -> Mapping[str, Any]:
    module, _, name = task.function.partition(":")
    function = getattr(importlib.import_module(module), name)
    _limit_threads(threads)
    with store.lock(task.key):
        return dict(function(store=store, key=task.key, report=report, **task.arguments))


def _limit_threads(threads: int) -> None:
    """One count for every library that this process has loaded: the thread count is part of the numerics class."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(threads)


@contextmanager
def _thread_environment(threads: int) -> Iterator[None]:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
    values = {**dict.fromkeys(names, str(threads)), "OMP_WAIT_POLICY": "PASSIVE"}
    before = {name: os.environ[name] for name in values if name in os.environ}
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            os.environ.pop(name, None)
        os.environ.update(before)


def _work(pipe: Connection, root: str, threads: int, parent: int) -> None:
    """Body of a worker process: task in, progress and ("done" | "failed") out, until None comes."""
    die_with_parent()
    if os.getppid() != parent:
        os._exit(1)  # the parent died before the request above was in force
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    store = Store(Path(root))

    def report(done: int, total: int, text: str) -> None:
        pipe.send(("progress", done, total, text))

    while (task := pipe.recv()) is not None:
        try:
            record = _call(task, store, report, threads)
        except FlashBenchError as error:
            pipe.send(("failed", error))
        except Exception as error:  # noqa: BLE001 - whatever a task raises must reach the parent with its traceback
            absent = missing_dependency(error) if isinstance(error, ModuleNotFoundError) else None
            pipe.send(("failed", absent or InvalidError(f"{task.label}: {error!r}\n{traceback.format_exc()}")))
        else:
            pipe.send(("done", record))


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    task: Task | None = None
    report: Report | None = None

    def dismiss(self) -> None:
        """Kill the process if it still runs."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


@dataclass
class LocalEngine:
    """Processes of this machine: `workers` of them (0 runs in this process), `threads` threads each."""

    workers: int = 2
    threads: int = 1
    staff: list[_Worker] = field(default_factory=list, repr=False)
    """Workers that are alive between runs: starting one costs seconds of imports."""

    def __enter__(self) -> LocalEngine:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def run(self, tasks: Sequence[Task], *, store: Store, title: str, unit: str) -> dict[str, Mapping[str, Any]]:
        """Run every task once in processes of this machine; returns key → record, as `Engine.run` says.

        A worker that is killed is replaced, and its task tried once more.
        """
        unique = list({task.key: task for task in tasks}.values())
        with Progress() as progress:
            total = progress.add(title, total=len(unique), unit=unit)
            if self.workers == 0:
                return self._serial(unique, store, progress, total)
            return _Run(self, unique, store, progress, total).go(min(self.workers, len(unique)))

    def close(self) -> None:
        """End the worker processes that are alive between runs."""
        for worker in self.staff:
            if worker.process.is_alive():
                worker.pipe.send(None)
            worker.process.join(timeout=5)
            worker.dismiss()
        self.staff.clear()

    def _serial(self, tasks: list[Task], store: Store, progress: Progress, total: Bar) -> dict[str, Mapping[str, Any]]:
        done: dict[str, Mapping[str, Any]] = {}
        with _thread_environment(self.threads):
            for task in _in_order(tasks):
                done[task.key] = _call(task, store, _reporter(task, progress), self.threads)
                total.update(len(done), task.label)
        return done


def _reporter(task: Task, progress: Progress) -> Report:
    """Shows a task's own steps, in a bar that appears with the first of them."""
    bar: Bar | None = None

    def report(done: int, total: int, text: str) -> None:
        nonlocal bar
        if task.steps:
            if bar is None or bar.total != total:
                bar = progress.add(task.label, total=total, unit="steps", done=done)
            bar.update(done, text)

    return report


def _in_order(tasks: list[Task]) -> Iterator[Task]:
    """Tasks so that each comes after those it needs; a need outside the list is taken as met."""
    waiting = {task.key: task for task in tasks}
    while waiting:
        ready = [task for task in waiting.values() if not any(need in waiting for need in task.needs)]
        if not ready:
            raise ValueError(f"tasks need each other in a circle: {[task.label for task in waiting.values()]}")
        for task in ready:
            yield waiting.pop(task.key)


class _Run:
    """One call of `LocalEngine.run` with processes."""

    def __init__(self, engine: LocalEngine, tasks: list[Task], store: Store, progress: Progress, total: Bar) -> None:
        list(_in_order(tasks))  # a circle is an error before any work starts
        self.waiting = {task.key: task for task in tasks}
        self.store, self.progress, self.total = store, progress, total
        self.threads, self.workers = engine.threads, engine.staff
        self.done: dict[str, Mapping[str, Any]] = {}
        self.retried: set[str] = set()

    def go(self, count: int) -> dict[str, Mapping[str, Any]]:
        try:
            for worker in [worker for worker in self.workers if not worker.process.is_alive()]:
                worker.dismiss()
                self.workers.remove(worker)
            self.workers += [self._spawn() for _ in range(count - len(self.workers))]
            while self.waiting or any(worker.task for worker in self.workers):
                self._assign()
                self._listen()
        except BaseException:
            for worker in self.workers:
                worker.dismiss()
            self.workers.clear()
            raise
        return self.done

    def _spawn(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        arguments = (theirs, str(self.store.root), self.threads, os.getpid())  # a staff serves one store
        with _thread_environment(self.threads):
            process = context.Process(target=_work, args=arguments, daemon=True)
            process.start()
        theirs.close()
        return _Worker(process, ours)

    def _assign(self) -> None:
        busy = {worker.task.key for worker in self.workers if worker.task}
        blocked = busy | self.waiting.keys()
        for worker in self.workers:
            if worker.task is not None:
                continue
            task = next((t for t in self.waiting.values() if not any(need in blocked for need in t.needs)), None)
            if task is None:
                return
            del self.waiting[task.key]
            worker.task = task
            worker.report = _reporter(task, self.progress)
            try:
                worker.pipe.send(task)
            except OSError:  # it died while it was idle
                self._replace(worker)
            except Exception as error:  # what cannot travel says so in many ways
                what = f"{task.label} cannot be sent to a worker process: {error}"
                fix = "use --workers 1, or define metrics and systems in a module, without lambdas"
                raise UsageError(what, fix=fix) from error

    def _listen(self) -> None:
        active = {worker.pipe: worker for worker in self.workers if worker.task}
        for pipe in wait(list(active)):
            worker = active[pipe]  # type: ignore[index]
            try:
                message = worker.pipe.recv()
            except (EOFError, OSError):  # gone, perhaps in the middle of a message
                self._replace(worker)
                continue
            assert worker.task is not None and worker.report is not None
            if message[0] == "progress":
                worker.report(*message[1:])
            elif message[0] == "failed":
                raise message[1]
            else:
                self.done[worker.task.key] = message[1]
                self.total.update(len(self.done), worker.task.label)
                worker.task = worker.report = None

    def _replace(self, worker: _Worker) -> None:
        """A worker died without a word (kill -9, out of memory): try its task once more in a new one."""
        task = worker.task
        assert task is not None
        worker.dismiss()
        if task.key in self.retried:
            fix = "look for the kernel's out-of-memory killer, or lower `budget.workers`; a rerun goes on from here"
            raise InvalidError(f"the worker on {task.label!r} died twice (exit {worker.process.exitcode})", fix=fix)
        self.retried.add(task.key)
        self.progress.say(f"the worker on {task.label!r} died (exit {worker.process.exitcode}); trying once more")
        self.waiting = {task.key: task, **self.waiting}
        self.workers[self.workers.index(worker)] = self._spawn()


def peak_megabytes() -> int:
    """Most memory that this process has held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
