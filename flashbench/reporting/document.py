"""Documents as data: headings, paragraphs, notes and grids of cells, written as Markdown or as LaTeX.

Knows nothing of what the cells mean. Names stand between backticks in paragraphs.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import TextIOWrapper
from typing import Any


@dataclass(frozen=True)
class Cell:
    """One cell of a grid; `code` sets it as a name."""

    text: str
    bold: bool = False
    code: bool = False


@dataclass(frozen=True)
class Block:
    """A heading, a paragraph (names between backticks), a list of notes, or a grid whose first line is its head."""

    kind: str
    text: str = ""
    grid: Sequence[Sequence[Cell]] = ()
    columns: str = ""
    """`l` or `r` for each column; the first left and the others right if empty."""
    notes: Sequence[str] = ()


WIDE = 160
"""Characters of a line of a grid in a file, which a page and a screen hold."""


def fitted(block: Block, width: int = WIDE) -> list[Block]:
    """A grid as grids of some of its columns, so that no line of Markdown is longer than `width` characters.

    The first column comes again in each. They are as few as can be and about equally wide; a column that is too wide
    by itself stays whole.
    """
    markup = _Markdown()
    lengths = [[len(markup.cell(cell)) for cell in line] for line in block.grid]
    parts = _parts(lengths, width)
    for narrower in range(width - 1, 0, -1) if len(parts) > 1 else ():
        if len(evener := _parts(lengths, narrower)) > len(parts):
            break
        parts = evener
    sides = _sides(block)
    return [
        replace(
            block, grid=[[line[at] for at in part] for line in block.grid], columns="".join(sides[at] for at in part)
        )
        for part in parts
    ]


def _parts(lengths: Sequence[Sequence[int]], width: int) -> list[list[int]]:
    """Places of the columns of each part, the first column's in all, from the lengths of cells."""

    def longest(part: Sequence[int]) -> int:
        return max(sum(line[at] for at in part) + 3 * len(part) + 1 for line in lengths)

    parts = [[0]]
    for at in range(1, len(lengths[0])):
        if len(parts[-1]) > 1 and longest([*parts[-1], at]) > width:
            parts.append([0])
        parts[-1].append(at)
    return parts


class Notes:
    """Letters for reasons, in order of first use."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def mark(self, reason: str) -> str:
        """The mark that stands behind a value with a reason, ` [a]`; nothing for an empty reason."""
        if not reason:
            return ""
        if reason not in self.texts:
            self.texts.append(reason)
        return f" [{self._letter(self.texts.index(reason))}]"

    def lines(self) -> list[str]:
        """The notes, each with its letter."""
        return [f"[{self._letter(i)}] {text}" for i, text in enumerate(self.texts)]

    @staticmethod
    def _letter(index: int) -> str:
        return (Notes._letter(index // 26 - 1) if index >= 26 else "") + chr(ord("a") + index % 26)


def markdown(blocks: Sequence[Block]) -> str:
    """GitHub's Markdown of a document."""
    return "\n\n".join(filter(None, map(_Markdown().block, blocks))) + "\n"


def latex(blocks: Sequence[Block]) -> str:
    """LaTeX of a document, escaped, for the package booktabs."""
    return "\n\n".join(filter(None, map(_Latex().block, blocks))) + "\n"


def _sides(block: Block) -> str:
    return block.columns or "l" + "r" * (len(block.grid[0]) - 1)


class _Markdown:
    """GitHub's Markdown."""

    def block(self, block: Block) -> str:
        if block.kind == "grid":
            lines = ["| " + " | ".join(map(self.cell, line)) + " |" for line in block.grid]
            rule = "".join("|---:" if side == "r" else "|---" for side in _sides(block)) + "|"
            return "\n".join([lines[0], rule, *lines[1:]])
        if block.kind == "notes":
            return "\n".join(f"- {_inert(note)}" for note in block.notes)
        return {"heading": "# ", "subheading": "## ", "text": ""}[block.kind] + _inert(block.text)

    def cell(self, cell: Cell) -> str:
        text = _inert(cell.text.replace("\\", "\\\\")).replace("|", "\\|")
        return f"`{text}`" if cell.code else f"**{text}**" if cell.bold else text


def _inert(text: str) -> str:
    """On one line, and without tags of HTML but for the break of a line."""
    return re.sub(r"<(?!br>)(?=[A-Za-z/!?])", "&lt;", " ".join(text.split("\n")))


class _Latex:
    """LaTeX with booktabs."""

    def block(self, block: Block) -> str:
        if block.kind == "grid":
            lines = [" & ".join(map(self.cell, line)) + r" \\" for line in block.grid]
            body = [r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
            return "\n".join([rf"\begin{{tabular}}{{{_sides(block)}}}", *body, r"\end{tabular}"])
        if block.kind == "notes":
            return "\n".join(rf"\par {self.text(note)}" for note in block.notes)
        wrap = {"heading": r"\subsection*{%s}", "subheading": r"\paragraph{%s}", "text": "%s"}[block.kind]
        return wrap % self.text(block.text)

    def cell(self, cell: Cell) -> str:
        text = _escape(cell.text)
        return rf"\texttt{{{text}}}" if cell.code else rf"\textbf{{{text}}}" if cell.bold else text

    def text(self, text: str) -> str:
        parts = [_escape(part) for part in text.split("`")]
        return "".join(rf"\texttt{{{part}}}" if i % 2 else part for i, part in enumerate(parts))


_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "[": "{[}", "±": r"$\pm$",
    "†": r"$^\dagger$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "∞": r"$\infty$", "−": "$-$", "×": r"$\times$",
    "·": r"$\cdot$", "→": r"$\to$", "≥": r"$\geq$", "≤": r"$\leq$", "–": "--", "…": r"\ldots{}",
}  # fmt: skip


def _escape(text: str) -> str:
    return "".join(_TEX.get(char, char) for char in text)


_ENDLESS = 10_000
"""Columns of a terminal on which any table fits."""


def show(blocks: Sequence[Block]) -> None:
    """Print a document to stdout: with rich's tables on a terminal, as Markdown elsewhere."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # where it can write ASCII only
    if not sys.stdout.isatty():
        sys.stdout.write(markdown(blocks))
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for block in blocks:
        if block.kind == "grid":
            table = _table(block)
            whole = console.measure(table, options=console.options.update(max_width=_ENDLESS)).maximum
            console.print(table if whole <= console.width else _lists(block))
        for note in block.notes:
            console.print(Text(f"- {note}"))
        if block.text:
            console.print(Text(block.text.replace("`", ""), "" if block.kind == "text" else "bold"))


def _table(block: Block) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for cell, side in zip(block.grid[0], _sides(block), strict=True):
        table.add_column(Text(cell.text), justify="right" if side == "r" else "left", no_wrap=True)
    for line in block.grid[1:]:
        table.add_row(*(Text(cell.text, "bold" if cell.bold else "") for cell in line))
    return table


def _lists(block: Block) -> Any:
    """A grid that is wider than the terminal: each line as a list of its cells under their heads."""
    from rich.text import Text

    text = Text()
    for line in block.grid[1:]:
        text.append(f"{line[0].text}\n", "bold")
        for head, cell in zip(block.grid[0][1:], line[1:], strict=True):
            text.append(f"  {head.text or '-'}: {cell.text}\n" if cell.text else "")
    return text
