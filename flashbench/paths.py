"""Where things lie that are read but are no Python (the protocols, the cache of assets), and how YAML is read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from flashbench.errors import UsageError

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
    inside = PACKAGE / "shipped" / "protocols"
    return inside if inside.is_dir() else PACKAGE.parent / "protocols"


def cache_root() -> Path:
    """The folder of fetched files: `$FLASHBENCH_CACHE`, else `flashbench` under `$XDG_CACHE_HOME` or `~/.cache`."""
    if chosen := os.environ.get("FLASHBENCH_CACHE"):
        return Path(chosen)
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "flashbench"


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        UsageError: the file cannot be read, is no YAML (with line and column), or holds no mapping.
    """
    shown = f"{path.parent.name}/{path.name}"
    try:
        # libyaml where it is there: the registry of assets takes it a tenth of the time.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(path.read_text(encoding="utf-8"))
        data = loader.get_single_data()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{shown} cannot be read as UTF-8 text: {error}", fix=f"restore {path}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        raise UsageError(f"{shown} is not valid YAML{place}: {problem}", fix="mend that line") from error
    if not isinstance(data, dict):
        raise UsageError(f"{shown} is not a mapping of fields", fix="compare it with the files beside it")
    return {str(field): value for field, value in data.items()}
