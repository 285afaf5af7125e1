"""Files under results/<tier>: how they are written and read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flashbench.errors import InvalidError, on_disk
from flashbench.store import write_whole


def manifest(lines: Sequence[Mapping[str, Any]]) -> bytes:
    """Content of clips.jsonl: one clip a line, no times."""
    return "".join(json.dumps(line, sort_keys=True) + "\n" for line in lines).encode()


def read_manifest(path: Path) -> list[dict[str, Any]]:
    """Read clips.jsonl; an `InvalidError` where it is missing or broken."""
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        fix = "run `flashbench run PROTOCOL --phase generate` first"
        raise InvalidError(f"{path} cannot be read: {error}", fix=fix) from error


def write(path: Path, content: bytes) -> None:
    """Write a result whole or not at all.

    Raises:
        InvalidError: the folder cannot be written, or the disk is full.
    """
    fix = "free disk space or choose --results; what is in the store is kept"
    with on_disk(f"{path} cannot be written", fix=fix):
        write_whole(path, content, draft=path.with_name(f".{path.name}.draft"))
