"""Tasks for the engine's tests, importable by its workers."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flashbench.engine import Report
from flashbench.errors import UsageError
from flashbench.store import Store


def double(*, store: Store, key: str, report: Report, value: int) -> Mapping[str, Any]:
    """Say twice the value, with the process and thread count that did it."""
    report(1, 1, "")
    return {"value": 2 * value, "pid": os.getpid(), "threads": os.environ.get("OMP_NUM_THREADS")}


def mark(*, store: Store, key: str, report: Report, log: str, name: str) -> Mapping[str, Any]:
    """Append a name to a log: shows order."""
    with Path(log).open("a") as stream:
        stream.write(name + "\n")
    return {}


def refuse(*, store: Store, key: str, report: Report) -> Mapping[str, Any]:
    """A user's mistake."""
    raise UsageError("no such thing", fix="name another")


def crash(*, store: Store, key: str, report: Report) -> Mapping[str, Any]:
    """A programmer's mistake."""
    raise ZeroDivisionError("surprise")


def die(*, store: Store, key: str, report: Report, flag: str, times: int) -> Mapping[str, Any]:
    """Be killed `times` times, then succeed."""
    path = Path(flag)
    deaths = len(path.read_text()) if path.exists() else 0
    if deaths < times:
        path.write_text("x" * (deaths + 1))
        os.kill(os.getpid(), signal.SIGKILL)
    return {"deaths": deaths}


def linger(*, store: Store, key: str, report: Report, pid_file: str) -> Mapping[str, Any]:
    """Write the worker's pid and stay."""
    Path(pid_file).write_text(str(os.getpid()))
    time.sleep(60)
    return {}


def count(*, store: Store, key: str, report: Report, log: str) -> Mapping[str, Any]:
    """Work once: whoever comes second finds it done."""
    done = Path(log)
    if not done.exists():
        time.sleep(0.3)
        with done.open("a") as stream:
            stream.write("worked\n")
    return {}
