"""Where trained networks run: the CPU, or the GPU that `on` names for a while. Everything else runs on the CPU."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from flashbench.errors import UsageError, missing_dependency

CPU = "cpu"
"""The device that needs no check, and on which everything runs unless told."""
_CURRENT: ContextVar[str] = ContextVar("device", default=CPU)


def current() -> str:
    """The device of networks: `cpu`, `cuda` or `cuda:N`."""
    return _CURRENT.get()


@contextmanager
def on(device: str) -> Iterator[None]:
    """Networks run on `device` inside the block; see `checked`."""
    token = _CURRENT.set(device)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def checked(device: str) -> str:
    """`device`, if it is one of this machine.

    Raises:
        UsageError: it is none.
        MissingDependency: torch is not installed.
    """
    if device == CPU:
        return device
    if not re.fullmatch(r"cuda(:[0-9]{1,2})?", device):
        raise UsageError(f"invalid device {device!r}", fix="write cpu, cuda or cuda:1")
    try:
        import torch
    except ModuleNotFoundError as error:
        raise missing_dependency(error) or error from error
    number = int(device.partition(":")[2] or 0)
    if number >= torch.cuda.device_count():
        here = f"it sees {torch.cuda.device_count()} GPUs"
        raise UsageError(f"torch cannot use {device}: {here}", fix="see `flashbench doctor`; cpu needs nothing")
    return device
