"""What a clip takes is that of its own block: seconds, and a peak that an earlier, larger clip does not raise."""

from __future__ import annotations

import mmap
import time
from pathlib import Path

import pytest
import torch

from flashbench.engine import peak_megabytes
from flashbench.run import meter


def resident() -> float:
    """What this process has resident now, in MiB, by another file of Linux than the meter reads."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def held(mebibytes: int) -> float:
    """MiB by which the peak that was measured is above what was resident before."""
    before = resident()
    # A mapping of its own: `malloc` may hand out memory that earlier tests freed and that is still resident.
    with meter.metered("cpu") as taken, mmap.mmap(-1, mebibytes * 2**20) as block:
        for page in range(0, len(block), mmap.PAGESIZE):
            block[page] = 1
    assert taken["memory"]["kind"] == "resident"
    return float(taken["memory"]["mebibytes"] - before)


def test_the_peak_is_that_of_the_block() -> None:
    for _ in range(5):  # the kernel may take pages of files from the process meanwhile
        large, small = held(400), held(50)
        if large == pytest.approx(400, abs=8) and small == pytest.approx(50, abs=8):
            return
    pytest.fail(f"a block of 400 MiB raised the peak by {large:.0f}, one of 50 after it by {small:.0f}")


def test_seconds_are_those_of_the_block() -> None:
    with meter.metered("cpu") as taken:
        time.sleep(0.2)
    assert 0.2 <= taken["seconds"] < 5 and f", {torch.get_num_threads()} thread" in taken["device"]


def test_without_a_resettable_peak_it_says_since_when(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter, "_PROCESS", tmp_path / "absent")
    with meter.metered("cpu") as taken:
        pass
    assert taken["memory"] == {"kind": "process", "mebibytes": peak_megabytes()}


def test_on_a_gpu_it_is_what_pytorch_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU: the peak is reset before the block and read behind it."""
    state = {"peak": 7 * 2**30}
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: state.update(peak=2**30))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: state["peak"])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    with meter.metered("cuda") as taken:
        state["peak"] += 2**30
    assert taken["memory"] == {"kind": "allocated", "mebibytes": 2048} and taken["device"] == "a GPU"


def test_a_block_that_fails_says_nothing() -> None:
    with pytest.raises(ValueError, match="no clip"), meter.metered("cpu") as taken:
        raise ValueError("no clip")
    assert taken == {}
