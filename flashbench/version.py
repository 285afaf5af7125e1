"""The version of this installation."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("flashbench")
except PackageNotFoundError:  # used from a source tree that was never installed
    __version__ = "0+unknown"
