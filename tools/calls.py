"""Prints which files of the package a command enters, and which file calls into which: how far one has to read.

    python tools/calls.py score clip.mp4 -m psnr --reference originals
    python tools/calls.py run nfe --tier smoke --phase score --workers 0

Runs `flashbench ARGUMENTS` in this process and then prints three lists, each with its length and each line with a
number of calls: the files entered, the arrows from the file of a caller to the file of what it calls, and the mutual
pairs, of files that call each other. The caller is the nearest function of the package, whatever library lies between.
A generator is called by whoever asks it for its next value. Calls made while a module is imported do not count, and
neither does what happens in worker processes. The command's own output goes to stderr, its exit code is that of this
script.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import flashbench
from flashbench.cli import main

PACKAGE = f"{Path(flashbench.__file__).parent}/"


class Calls:
    """What a command calls in the package while a `with` block runs, in all of its threads."""

    def __init__(self) -> None:
        self.files: Counter[str] = Counter()
        """File, from the package's folder on → calls of its functions."""
        self.arrows: Counter[tuple[str, str]] = Counter()
        """File of the caller, another file that it calls → calls."""
        self._start: FrameType | None = None

    @property
    def pairs(self) -> dict[tuple[str, str], int]:
        """Files that call each other, each pair once → calls in both directions."""
        mutual = {pair for pair in self.arrows if pair < pair[::-1] in self.arrows}
        return {pair: self.arrows[pair] + self.arrows[pair[::-1]] for pair in sorted(mutual)}

    def __enter__(self) -> Calls:
        self._start = sys._getframe(1)
        threading.setprofile(self._event)
        sys.setprofile(self._event)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    def _event(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or not (file := frame.f_code.co_filename).startswith(PACKAGE):
            return
        caller, above = "", frame.f_back
        while above is not None and above is not self._start:
            name = above.f_code.co_filename
            if name.startswith("<frozen importlib"):
                return
            if not caller and name.startswith(PACKAGE):
                caller = name
            above = above.f_back
        self.files[file.removeprefix(PACKAGE)] += 1
        if caller not in ("", file):
            self.arrows[caller.removeprefix(PACKAGE), file.removeprefix(PACKAGE)] += 1


def run(arguments: list[str]) -> tuple[Calls, int]:
    """What `flashbench ARGUMENTS` calls, and its exit code."""
    sys.argv = ["flashbench", *arguments]
    calls, code = Calls(), 0
    with contextlib.redirect_stdout(sys.stderr):
        try:
            with calls:
                main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return calls, code


def report(calls: Calls) -> str:
    """A command's calls as text: the files entered, the arrows between files, and the mutual pairs."""
    lists: list[tuple[str, list[tuple[str, int]]]] = [
        ("files", sorted(calls.files.items())),
        ("arrows", [(f"{caller} -> {called}", number) for (caller, called), number in sorted(calls.arrows.items())]),
        ("mutual pairs", [(f"{file} <-> {partner}", number) for (file, partner), number in calls.pairs.items()]),
    ]
    lines = [[f"{title}: {len(rows)}", *(f"{number:8d}  {row}" for row, number in rows)] for title, rows in lists]
    return "\n".join(line for block in lines for line in block)


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit(__doc__)
    calls, status = run(sys.argv[1:])
    print(report(calls))
    sys.exit(status)
