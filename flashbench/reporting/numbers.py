"""How numbers, counts and names are written in every document."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """`1 pair`, `2 pairs`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def plain(name: str) -> str:
    """A name that can stand between backticks, or beside some."""
    return name.replace("`", "'")
