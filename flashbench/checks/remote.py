"""Whether DVC knows where to fetch from: `dvc pull` is advised only where it can bring something."""

from __future__ import annotations

import configparser
from pathlib import Path

_FILES = ("config", "config.local")
"""Of `.dvc`, the later over the earlier; the second is not in git."""


def default_remote(start: Path | None = None) -> str:
    """Where `dvc pull` fetches from in the repository around `start` (the working folder): a URL, or empty.

    It is read from the repository's own configuration (`dvc remote add --default NAME URL`); nothing is asked of it.
    """
    here = (start or Path.cwd()).resolve()
    folder = next((one / ".dvc" for one in (here, *here.parents) if (one / ".dvc").is_dir()), None)
    if folder is None:
        return ""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read([folder / name for name in _FILES], encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):
        return ""  # DVC itself says what is wrong with it
    name = parser.get("core", "remote", fallback="")
    return parser.get(f"'remote \"{name}\"'", "url", fallback="")


def fetching(otherwise: str) -> str:
    """What brings a file of DVC's cache here: `dvc pull` where a remote is configured, the command `otherwise`."""
    return "`dvc pull` fetches it" if default_remote() else f"`{otherwise}` makes it"
