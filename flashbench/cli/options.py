"""What the modules of the command line share: wording, and the options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Tier = Annotated[str, typer.Option("--tier", "-t", help="smoke, laptop or another file of protocols/tier/.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", "-S", help="Override a field, e.g. `-S cases.split=dev`. May be repeated.")
]
Results = Annotated[Path | None, typer.Option("--results", help="Folder of the results (default: results/TIER).")]

Prompts = Annotated[str | None, typer.Option("--prompts", help="Of videos, as in score.")]
Reference = Annotated[Path | None, typer.Option("--reference", help="Of videos, as in score.")]
Device = Annotated[str, typer.Option("--device", help="Where trained networks run: cpu, cuda or cuda:N.")]
Workers = Annotated[int, typer.Option("--workers", min=1, help="Videos scored at the same time.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Measure again what the store has scores of.")]


def examples(*lines: str) -> str:
    """The section of examples at the end of a command's help."""
    return "\n\n".join(["**Examples**", *(f"`{line}`" for line in lines)])
