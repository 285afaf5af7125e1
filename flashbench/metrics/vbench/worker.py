"""Drives a worker process that scores one (clip, dimension) at a time, over JSON lines.

The worker says `{"ready": true, …}` once. Then, for each request line `{"id", "dimension", "video", "prompt",
"labels"}`, it answers `{"id", "value"}` with a number, or `{"id", "missing"}` with the reason why there is none.
Whatever else it prints is noise and is ignored; its stderr goes to a file, whose end becomes part of the reason when it
fails.

Nothing that a worker does is an error here: a crash, a hang, an answer cut short or one that is no number make that
request NaN with a reason. After all but the last the worker is started again, at most `restarts` times without an
answer in between.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from flashbench.types import Measurement

MAX_LINE = 1 << 20
"""Bytes of a line after which a worker is taken to be broken."""
_PIPE = 1 << 15  # a request must fit the pipe while the worker does not read
_TAIL = 300


@dataclass(frozen=True, kw_only=True)
class Request:
    """One dimension of one clip."""

    video: str
    """Path of the clip's file."""
    dimension: str
    prompt: str = ""
    labels: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """`auxiliary_info` of the prompt's entry in VBench_full_info.json."""


class _Failure(Exception):
    """The worker is of no more use; the text says why."""


def command(python: Path, *, device: str = "cpu") -> list[str]:
    """How to start VBench's own worker (`vbench_worker.py`) with the interpreter of its environment.

    `-I` keeps this environment's variables and this package's folder out of that interpreter.
    """
    return [str(python), "-I", str(Path(__file__).with_name("vbench_worker.py")), "--device", device]


class Worker:
    """A worker process, started when it is first asked and again when it failed. A context manager.

    Args:
        command: program and arguments.
        timeout: seconds for one answer.
        start_timeout: seconds until the worker is ready (it imports torch and VBench).
        restarts: further starts without an answer in between, after which it is given up.
        environment: variables of the process; this process's without those of its Python if not given.
    """

    def __init__(
        self, command: Sequence[str], *, timeout: float, start_timeout: float = 300.0, restarts: int = 3,
        environment: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.about: Mapping[str, Any] = {}
        """What the worker said about itself when it was ready."""
        self._command = list(command)
        self._timeout, self._start_timeout, self._restarts = timeout, start_timeout, restarts
        self._environment = _clean(os.environ) if environment is None else dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._buffer = b""
        self._errors: IO[bytes] = tempfile.TemporaryFile("a+b")  # noqa: SIM115 (closed with the worker)
        self._number = 0
        self._fruitless = 0
        self._last = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ask(self, request: Request) -> Measurement:
        """The worker's answer to a request, or NaN with the reason why there is none."""
        self._number += 1
        content = {
            "id": self._number, "dimension": request.dimension, "video": request.video, "prompt": request.prompt,
            "labels": dict(request.labels),
        }  # fmt: skip
        line = json.dumps(content).encode() + b"\n"
        if len(line) > _PIPE:
            return Measurement.missing(f"the request has {len(line)} bytes, more than {_PIPE}")
        if self._fruitless > self._restarts:
            return Measurement.missing(f"the worker was given up after {self._fruitless} starts: {self._last}")
        try:
            self._ensure()
            self._send(line)
            return self._answer(time.monotonic() + self._timeout)
        except _Failure as failure:
            self._last = self._explained(str(failure))
            self._fruitless += 1
            self._stop()
            return Measurement.missing(self._last)

    def close(self) -> None:
        """End the worker process and all that it started."""
        self._stop()
        self._errors.close()

    def _ensure(self) -> None:
        """A worker that is ready."""
        if self._process is not None and self._process.poll() is None:
            self._errors.truncate(0)
            return
        self._stop()
        self._errors.truncate(0)
        # A killed worker cleans nothing up: its temporary files lie in a folder that we remove.
        self._scratch = tempfile.TemporaryDirectory(prefix="flashbench-worker-", ignore_cleanup_errors=True)
        try:
            # Its own session: what it starts is ended with it.
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, bufsize=0,
                env=self._environment | {"TMPDIR": self._scratch.name}, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise _Failure(f"the worker cannot be started: {self._command[0]}: {error.strerror}") from error
        deadline = time.monotonic() + self._start_timeout
        while True:
            message = _object(self._line(deadline, "did not become ready", self._start_timeout))
            if message is not None and message.get("ready") is True:
                self.about = message
                return

    def _send(self, line: bytes) -> None:
        assert self._process is not None and self._process.stdin is not None
        try:
            self._process.stdin.write(line)
        except OSError as error:
            raise _Failure(self._ended()) from error

    def _answer(self, deadline: float) -> Measurement:
        while True:
            line = self._line(deadline, "did not answer", self._timeout)
            message = _object(line)
            if message is None and line.startswith(b'{"id"'):
                raise _Failure("the worker's answer was cut short")
            if message is None or message.get("id") != self._number or isinstance(message["id"], bool):
                continue  # noise, or the late answer to an earlier request
            self._fruitless = 0
            return _measurement(message)

    def _line(self, deadline: float, what: str, seconds: float) -> bytes:
        """The next line of the worker's stdout."""
        assert self._process is not None and self._process.stdout is not None
        pipe, poll = self._process.stdout, select.poll()
        poll.register(pipe, select.POLLIN)
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(1000 * left):
                raise _Failure(f"the worker {what} within {seconds:g} s")
            chunk = os.read(pipe.fileno(), 1 << 16)
            if not chunk:
                cut = " in the middle of a line" if self._buffer else ""
                raise _Failure(self._ended() + cut)
            self._buffer += chunk
            if len(self._buffer) > MAX_LINE and b"\n" not in self._buffer:
                raise _Failure(f"the worker printed more than {MAX_LINE} bytes without an end of line")
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.strip()

    def _ended(self) -> str:
        """How the process ended; it has closed its stdout, or no longer reads."""
        assert self._process is not None
        try:
            code = self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return "the worker closed its output"
        if code < 0:
            return f"the worker was killed by signal {-code}"
        return f"the worker ended with exit code {code}"

    def _explained(self, reason: str) -> str:
        """The reason with the last thing that the worker wrote to stderr."""
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(size - 4096, 0))
        lines = [text.strip() for text in self._errors.read().decode("utf-8", "replace").splitlines() if text.strip()]
        return f"{reason}: {lines[-1][-_TAIL:]}" if lines else reason

    def _stop(self) -> None:
        process, self._process, self._buffer = self._process, None, b""
        scratch, self._scratch = self._scratch, None
        if process is not None:
            _end(process)
        if scratch is not None:
            scratch.cleanup()


def run(
    worker: Worker, requests: Iterable[Request], *, done: Callable[[Request], bool] = lambda request: False
) -> Iterator[tuple[Request, Measurement]]:
    """Answers in order, each as soon as it is there; requests that are `done` are left out, which is how a run resumes.

    A dimension that failed is not asked again within a run: whoever resumes decides what to do with NaN.
    """
    for request in requests:
        if not done(request):
            yield request, worker.ask(request)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a worker and all that it started, and close its pipes."""
    # The group outlives a worker that has died: what it started is still there.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _clean(environment: Mapping[str, str]) -> dict[str, str]:
    """Without what would lead another interpreter into this one's packages."""
    return {name: value for name, value in environment.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _measurement(message: Mapping[str, Any]) -> Measurement:
    """What an answer with the right id says."""
    if isinstance(why := message.get("missing"), str):
        return Measurement.missing(why.strip()[:1000] or "the worker gave no reason")
    value = message.get("value")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return Measurement.missing(f"the worker's answer is not a number: {json.dumps(value)[:100]}")
    return Measurement(value=float(value))
