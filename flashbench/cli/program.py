"""The command line: parses, calls the functions of the other modules, prints, and turns errors into exit codes."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated, NoReturn

import typer

from flashbench.cli import assets, checks, drifts, protocols, videos
from flashbench.errors import Exit, FlashBenchError, Interrupted, InvalidError, missing_dependency
from flashbench.version import __version__

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="FlashBench: reproducible evaluation of the FlashVideo cascade and of what it is compared with.",
)
app.add_typer(assets.app, name="assets")
protocols.register(app)
videos.register(app)
drifts.register(app)
checks.register(app)


@app.callback(invoke_without_command=True)
def program(
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
) -> None:
    """FlashBench: reproducible evaluation of the FlashVideo cascade and of what it is compared with."""
    if version:
        typer.echo(f"flashbench {__version__}")
        raise typer.Exit


def main() -> None:
    """Entry point: no traceback for a user's mistake, and exit codes that mean something."""
    if os.environ.get("DVC_ROOT"):
        from flashbench.engine import die_with_parent

        parent = os.getppid()
        die_with_parent(signal.SIGTERM)  # kill -9 on dvc must not leave this process training
        if os.getppid() != parent:
            sys.exit(int(Exit.INTERRUPTED))  # it died before the line above
    signal.signal(signal.SIGINT, _interrupted)
    try:
        app()
    except FlashBenchError as error:
        _fail(error)
    except OSError as error:
        what = f"{error.filename or 'the output'} cannot be used: {error.strerror}"
        _fail(InvalidError(what, fix="check the path and the disk"))
    except ModuleNotFoundError as error:
        if (absent := missing_dependency(error)) is None:
            raise
        _fail(absent)


def _fail(error: FlashBenchError) -> NoReturn:
    print(f"flashbench: {error}", file=sys.stderr)
    sys.exit(int(error.code))


def _interrupted(signum: int, frame: object) -> NoReturn:
    raise Interrupted("interrupted", fix="the same command goes on from here")
