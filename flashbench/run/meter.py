"""What making a clip takes, measured where it is made: seconds, and the most memory that was held meanwhile.

These are of one machine and one run. They stand in the store's record of a clip, in no key, no manifest and no table.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flashbench.engine import peak_megabytes

KINDS: Mapping[str, str] = {
    "allocated": "GPU: the most that PyTorch had allocated on it while the clip was made, weights included",
    "resident": "CPU: the most that the worker had resident while the clip was made, libraries and weights included",
    "process": "CPU: the most that the worker had resident since it began, so perhaps for a clip before",
}
"""Which memory was measured."""
_PROCESS = Path("/proc/self")


@contextmanager
def metered(device: str) -> Iterator[dict[str, Any]]:
    """Measure a block that makes a clip on `device` (`cpu` or `cuda`); the mapping is filled when the block has ended.

    `seconds` are of wall time, loading of weights included where the worker had not loaded them. `memory` has a `kind`
    of `KINDS` and `mebibytes`, `device` is the GPU's name, or the processor's with a worker's threads. The block
    leaves nothing running: its clip lies in the CPU's memory.
    """
    taken: dict[str, Any] = {}
    since_now = _begin(device)
    started = time.monotonic()
    yield taken
    taken["seconds"] = round(time.monotonic() - started, 4)
    taken["memory"] = _memory(device, since_now=since_now)
    taken["device"] = _device(device)


def _begin(device: str) -> bool:
    """Forget the peak so far; False where the system keeps it."""
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
        return True
    try:
        (_PROCESS / "clear_refs").write_text("5")  # Linux: the resident set's peak becomes what it is now
    except OSError:
        return False
    return True


def _memory(device: str, *, since_now: bool) -> dict[str, Any]:
    if device == "cuda":
        import torch

        return {"kind": "allocated", "mebibytes": torch.cuda.max_memory_allocated() // 2**20}
    if since_now:
        lines = (_PROCESS / "status").read_text().splitlines()
        for line in (line for line in lines if line.startswith("VmHWM:")):
            return {"kind": "resident", "mebibytes": int(line.split()[1]) // 1024}
    return {"kind": "process", "mebibytes": peak_megabytes()}


def _device(device: str) -> str:
    import torch

    if device == "cuda":
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    return f"{_processor()}, {threads} thread{'s' * (threads > 1)}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()
