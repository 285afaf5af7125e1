"""What the modules of the command line share in wording."""

from __future__ import annotations


def examples(*lines: str) -> str:
    """The end of a command's help."""
    return "\n\n".join(["**Examples**", *(f"`{line}`" for line in lines)])
