"""The command line: one file per group of commands; `main` is the program's entry point."""

from __future__ import annotations

from flashbench.cli.program import main

__all__ = ["main"]
