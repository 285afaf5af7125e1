"""Systems: one file per way of making a clip, which registers what it defines (`flashbench.systems.registry`)."""

from __future__ import annotations

from flashbench.systems.base import Request, System, resolve
from flashbench.systems.registry import get, names, third_party

__all__ = ["Request", "System", "get", "names", "resolve", "third_party"]
