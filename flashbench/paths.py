"""Where things lie that are read but are no Python: the protocols, and the cache of assets."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def protocol_root() -> Path:
    """The folder of protocols.

    `$FLASHBENCH_PROTOCOLS`; else `./protocols` if it has `tier/` (a clone, or a user's own copy); else the one inside
    the package (a wheel); else the one beside the package (an editable install).
    """
    if chosen := os.environ.get("FLASHBENCH_PROTOCOLS"):
        return Path(chosen)
    here = Path("protocols")
    if (here / "tier").is_dir():
        return here
    inside = PACKAGE / "protocols"
    return inside if inside.is_dir() else PACKAGE.parent / "protocols"


def cache_root() -> Path:
    """The folder of fetched files: `$FLASHBENCH_CACHE`, else `flashbench` under `$XDG_CACHE_HOME` or `~/.cache`."""
    if chosen := os.environ.get("FLASHBENCH_CACHE"):
        return Path(chosen)
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "flashbench"
