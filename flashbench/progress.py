"""One way to show how far long work has come: bars with rate and time left on a terminal, plain lines elsewhere.

Everything goes to stderr, so that stdout stays what a command prints. Several tasks may run at once and be updated
from several threads; work in other processes reports to the process that holds the `Progress`. Nothing here knows
what the work is.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID as BarID

WINDOW = 32
"""The rate is that of the last so many updates: cached items at the start say nothing about the rest."""


def duration(seconds: float) -> str:
    """Seconds as a person reads them: `7s`, `2m03s`, `1h02m`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def on_terminal(stream: TextIO) -> bool:
    """Whether `stream` can show a bar that is redrawn in place."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


class Task:
    """One task of a `Progress`; made by `Progress.add`."""

    def __init__(self, owner: Progress, name: str, total: int | None, unit: str, done: int, now: float) -> None:
        self._owner = owner
        self._history: deque[tuple[float, int]] = deque([(now, done)], maxlen=WINDOW)
        self.name, self.unit = name, unit
        self.total = total
        """May be set anew where the work turns out to be more or less; the next update shows it."""
        self.done, self.text = done, ""
        self.began = self.shown = now
        """When it was added, and when a plain line of it was last printed (the clock's seconds)."""
        self.bar: BarID | None = None

    @property
    def finished(self) -> bool:
        """Whether everything is done; a task without a total never is."""
        return self.total is not None and self.done >= self.total

    @property
    def rate(self) -> float:
        """Units per second over the last `WINDOW` updates; 0 before there is anything to divide."""
        (begin, first), (end, last) = self._history[0], self._history[-1]
        return (last - first) / (end - begin) if end > begin else 0.0

    def update(self, done: int, text: str = "") -> None:
        """Say that `done` units of the total are done (counted from 0, not since the last call).

        `text` is a short remark shown behind the numbers, such as a loss; it stays until the next update.
        """
        self._owner._update(self, done, text)

    def advance(self, text: str = "") -> None:
        """Say that one unit more is done, never more than the total."""
        self.update(self.done + 1 if self.total is None else min(self.done + 1, self.total), text)

    def numbers(self, now: float) -> str:
        """The task's state behind its name: `120/500  3.1 it/s  eta 2m03s  loss 0.21`."""
        rate = self.rate
        parts = [f"{self.done}/{self.total}" if self.total is not None else f"{self.done}"]
        if rate > 0:
            singular = self.unit.removesuffix("s")
            parts.append(f"{rate:.1f} {self.unit}/s" if rate >= 1 else f"{1 / rate:.1f} s/{singular}")
        if self.finished:
            parts.append(f"took {duration(now - self.began)}")
        elif rate > 0 and self.total is not None:
            parts.append(f"eta {duration((self.total - self.done) / rate)}")
        return "  ".join([*parts, self.text] if self.text else parts)


class Progress:
    """Context manager that shows the tasks added to it.

    On a terminal: one bar a task, redrawn in place. Otherwise: per task a plain line at most every `every` seconds,
    one when it is finished, and one for what was left unfinished, so that a log tells where an interrupted run stood.
    Leaving it, by an exception or Ctrl-C too, gives the terminal back as it was; the exception goes on.

    Example:
        >>> with Progress() as progress:  # doctest: +SKIP
        ...     task = progress.add("train wide", total=500, unit="it", done=120)
        ...     for step in range(120, 500):
        ...         task.update(step + 1, f"loss {loss(step):.3f}")
    """

    def __init__(
        self, stream: TextIO | None = None, *, every: float = 5.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._every, self._clock = every, clock
        self._lock = threading.RLock()
        self._quiet = _quiet.get()
        self._tasks: list[Task] = []
        self._bars: Bars | None = None

    def __enter__(self) -> Progress:
        if on_terminal(self._stream) and not self._quiet:
            # Not at the top: importing rich draws from Python's global generator, and importing flashbench must not.
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bars

            name = TextColumn("{task.description}", markup=False)
            numbers = TextColumn("{task.fields[numbers]}", markup=False)
            console = Console(file=self._stream, force_terminal=True)
            self._bars = Bars(name, BarColumn(bar_width=24), numbers, console=console, refresh_per_second=4)
            self._bars.start()
        _open.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            _open.remove(self)
            for task in self._tasks:
                if kind is not None and not task.finished:
                    self._show(task, self._clock(), "stopped")
                elif not task.finished and task._history[-1][0] > task.shown:
                    self._show(task, self._clock())
            if self._bars is not None:
                self._bars.stop()
                self._bars = None

    def add(self, name: str, total: int | None, unit: str = "it", *, done: int = 0) -> Task:
        """Begin a task of `total` units (None: unknown), of which `done` were already there, as after a resume."""
        with self._lock:
            task = Task(self, name, total, unit, done, self._clock())
            self._tasks.append(task)
            if self._bars is not None:
                task.bar = self._bars.add_task(name, total=total, completed=done, numbers=task.numbers(0.0))
            if task.finished:
                self._show(task, task.began)
            return task

    def say(self, message: str) -> None:
        """Print one line above the bars, or among the plain lines."""
        with self._lock:
            if self._bars is not None:
                self._bars.console.print(message, markup=False, highlight=False)
            elif not self._quiet:
                print(message, file=self._stream, flush=True)

    def _update(self, task: Task, done: int, text: str) -> None:
        with self._lock:
            now = self._clock()
            was_finished = task.finished
            task.done, task.text = done, text
            task._history.append((now, done))
            due = now - task.shown >= self._every or (task.finished and not was_finished)
            if self._bars is not None or due:
                self._show(task, now)

    def _show(self, task: Task, now: float, note: str = "") -> None:
        numbers = "  ".join(filter(None, [task.numbers(now), note]))
        if self._bars is not None and task.bar is not None:
            self._bars.update(task.bar, completed=task.done, total=task.total, numbers=numbers)
        else:
            task.shown = now
            if self._quiet:
                return
            print(f"{task.name}  {numbers}", file=self._stream, flush=True)


_quiet: ContextVar[bool] = ContextVar("quiet", default=False)
"""Whether what begins now is shown: of this thread, and of the workers that a `Progress` of it hears of."""


@contextmanager
def quiet(silent: bool = True) -> Iterator[None]:
    """Show no progress of what the block begins, and nothing that is said meanwhile; does nothing if not `silent`."""
    token = _quiet.set(_quiet.get() or silent)
    try:
        yield
    finally:
        _quiet.reset(token)


_open: list[Progress] = []
"""The `Progress` that are being shown, innermost last: `say` must not print across their bars."""


def say(message: str) -> None:
    """Print one line to stderr: above the bars that are being shown, if any."""
    if _open:
        _open[-1].say(message)
    elif not _quiet.get():
        print(message, file=sys.stderr, flush=True)
