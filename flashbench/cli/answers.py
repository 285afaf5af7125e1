"""What gate, compare and drift do with what they found: a report or verdict.json on stdout, a job's summary."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flashbench.errors import InvalidError, on_disk
from flashbench.progress import quiet

if TYPE_CHECKING:
    from flashbench.reporting.document import Block

Json = Annotated[bool, typer.Option("--json", help="Print verdict.json, and nothing else, on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors; the exit code tells.")]
SUMMARY = "GITHUB_STEP_SUMMARY"
"""The variable of GitHub Actions that names the file of a job's summary, which is shown on the run's page."""
MOST = 900_000
"""Bytes of a report that are put there: GitHub drops the summary of a step of more than 1 MiB."""


def tell(document: Sequence[Block], content: str, *, json: bool, silent: bool) -> None:
    """Print the report, or verdict.json's `content`, or nothing; the report goes into the job's summary in any case."""
    from flashbench.reporting.document import show

    summarise(document)
    if json:
        typer.echo(content, nl=False)
    elif not silent:
        show(document)


def written(names: str, folder: Path, *, json: bool, silent: bool) -> None:
    """Say which files were written: on stderr where stdout is for JSON alone, not at all if `silent`."""
    if not silent:
        typer.echo(f"written: {folder}/{names}", err=json)


def summarise(document: Sequence[Block]) -> None:
    """Append a report to the summary of a job of GitHub Actions, if this is one.

    Raises:
        InvalidError: the file of the summary cannot be written.
    """
    from flashbench.reporting.document import markdown

    if not (path := os.environ.get(SUMMARY)):
        return
    text = markdown(document).encode()
    if len(text) > MOST:
        whole = text[: text.rindex(b"\n", 0, MOST) + 1]
        text = whole + b"\nThe rest is left out: a step's summary has a limit. The files of --out have all.\n"
    with on_disk(f"{SUMMARY}={path} cannot be written", fix="unset it"), open(path, "ab") as out:
        out.write(text + b"\n")


@contextmanager
def judged(command: str, baseline: str, current: str, *, out: Path | None, json: bool, silent: bool) -> Iterator[None]:
    """Run a block that judges: without progress if `silent`, and what cannot be compared is a verdict, too.

    An `InvalidError` of the block is told as verdict.json with the status invalid, on stdout and in `out` as any other
    verdict would be, before it goes on.
    """
    from flashbench.reporting import verdicts
    from flashbench.reporting.document import Block

    try:
        with quiet(silent):
            yield
    except InvalidError as error:
        why = [error.what]
        content = verdicts.to_json(command, "invalid", baseline=baseline, current=current, rows=(), problems=why)
        if json:
            typer.echo(content, nl=False)
        summarise([Block("heading", f"{command.capitalize()}: invalid"), Block("text", error.what)])
        if out is not None:
            verdicts.keep(content, out)
        raise
