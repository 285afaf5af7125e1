"""Errors that say what happened, where, and how to fix it, and the exit code that each one means."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from functools import partial


class Exit(IntEnum):
    """Exit codes of every command."""

    DONE = 0
    FAILED = 1
    """A regression, or a check that failed."""
    USAGE = 2
    INVALID = 3
    """Input that could not be read, a case not made, or results that cannot be compared."""
    INCONCLUSIVE = 4
    INTERRUPTED = 130


class FlashBenchError(Exception):
    """Base of all errors that a user can meet: one line of what and where, one line of how to fix it."""

    code: Exit = Exit.INVALID

    def __init__(self, what: str, *, fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.what}\n  fix: {self.fix}" if self.fix else self.what

    def __reduce__(self) -> tuple[object, ...]:
        # The default would call the class with `args` alone and lose `fix` on the way out of a worker process.
        return partial(type(self), fix=self.fix), (self.what,)


class UsageError(FlashBenchError):
    """A wrong call: unknown name, wrong flag, broken YAML."""

    code = Exit.USAGE


class InvalidError(FlashBenchError):
    """Input or results that cannot be used as they are."""


class IntegrityError(InvalidError):
    """Something on disk is not what its record says: a swapped clip, an edited score, a corrupt weight."""


class CheckFailed(FlashBenchError):
    """A check ran and failed."""

    code = Exit.FAILED


class Interrupted(FlashBenchError):
    """Ctrl-C: what is finished is kept."""

    code = Exit.INTERRUPTED


class MissingAsset(InvalidError):
    """A file that the asset registry names is not here and could not be fetched."""


class MissingDependency(InvalidError):
    """A package of an extra is not installed."""


EXTRAS = {
    **dict.fromkeys(("torch", "diffusers", "safetensors", "PIL", "transformers", "accelerate", "peft"), "cascade"),
    **dict.fromkeys(("torchvision", "pyiqa"), "iqa"),
    **dict.fromkeys(("matplotlib", "dvc"), "repro"),
}
"""Package → the extra that brings it."""


def missing_dependency(error: ModuleNotFoundError) -> MissingDependency | None:
    """What to tell a user whose installation lacks an extra; None where a module is missing for another reason."""
    package = (error.name or "").split(".")[0]
    if package not in EXTRAS:
        return None
    return MissingDependency(f"{package} is not installed", fix=f"pip install 'flashbench[{EXTRAS[package]}]'")


@contextmanager
def on_disk(what: str, *, fix: str) -> Iterator[None]:
    """Turns an `OSError` of the block into an `InvalidError`: what could not be done, why, and how to fix it."""
    try:
        yield
    except OSError as error:
        raise InvalidError(f"{what}: {error.strerror or error}", fix=fix) from error


def did_you_mean(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """A `UsageError` for an unknown `name`, with the nearest known one first in its suggestion."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    fix = f"did you mean {close[0]!r}? known: {', '.join(names)}" if close else f"known: {', '.join(names) or 'none'}"
    return UsageError(f"unknown {kind} {name!r}", fix=fix)
