"""What every test stands on: one thread, no hub, its own store, repeatable examples."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Before anything imports NumPy, OpenCV or torch: the tests run in several processes, and one thread is the
# numerics class that golden values hold for.
os.environ.update(OMP_NUM_THREADS="1", OPENCV_FOR_THREADS_NUM="1", OMP_WAIT_POLICY="PASSIVE")
os.environ.update(HF_HUB_OFFLINE="1", DVC_NO_ANALYTICS="1")
os.environ.setdefault("MPLBACKEND", "Agg")

settings.register_profile(
    "repeatable",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repeatable")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(autouse=True)
def _own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the developer's store, nor takes over a registry of assets from the shell."""
    monkeypatch.setenv("FLASHBENCH_STORE", str(tmp_path / "store"))
    monkeypatch.delenv("FLASHBENCH_ASSETS", raising=False)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
