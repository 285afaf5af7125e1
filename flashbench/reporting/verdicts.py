"""One schema for what a command decides: verdict.json, which a pipeline reads, and its exit code.

`status` is one of four words whatever the command; `rows` are its findings, each with the command's own word as
`outcome`. Nothing here knows what is compared.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from flashbench.errors import Exit, on_disk
from flashbench.store import write_whole

Status: TypeAlias = Literal["pass", "regression", "inconclusive", "invalid"]
VERDICT = "verdict.json"
SCHEMA = 2
"""Raised when a field of verdict.json changes its name or meaning."""
CODES: Mapping[Status, Exit] = {
    "pass": Exit.DONE, "regression": Exit.FAILED, "inconclusive": Exit.INCONCLUSIVE, "invalid": Exit.INVALID,
}  # fmt: skip
"""Status → exit code: 0, 1, 4, 3."""


def status(*, problems: Sequence[str], gaps: Sequence[str], outcomes: Sequence[str]) -> Status:
    """The status of a whole: invalid where there are problems, then the worst of the rows, inconclusive with gaps."""
    if problems:
        return "invalid"
    if "regression" in outcomes:
        return "regression"
    return "inconclusive" if gaps or "inconclusive" in outcomes else "pass"


def to_json(
    command: str, status: Status, *, baseline: str, current: str, rows: Sequence[Mapping[str, Any]],
    problems: Sequence[str] = (), gaps: Sequence[str] = (), notes: Sequence[str] = (),
    about: Mapping[str, Any] | None = None,
) -> str:  # fmt: skip
    """Content of verdict.json; no times, null for what is missing.

    Args:
        command: gate, compare or drift.
        status: of the whole.
        baseline: what was compared with, as the user named it.
        current: what was judged.
        rows: the findings.
        problems: why the sides cannot be compared.
        gaps: what nothing was compared of, so that no pass can be said.
        notes: what else is to be known.
        about: fields of the command's own, how it was called.
    """
    content = {
        "schema": SCHEMA, "command": command, "status": status, "code": int(CODES[status]), "baseline": baseline,
        "current": current, "problems": problems, "gaps": gaps, "notes": notes, "rows": rows, "about": about or {},
    }  # fmt: skip
    return json.dumps(_plain(content), sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def keep(content: str, out: Path) -> None:
    """Write verdict.json into the folder `out`, whole or not at all.

    Raises:
        InvalidError: it cannot be written.
    """
    with on_disk(f"{out} cannot be written", fix="give another folder in --out"):
        out.mkdir(parents=True, exist_ok=True)
        write_whole(out / VERDICT, content.encode(), draft=out / f".{VERDICT}.part")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
