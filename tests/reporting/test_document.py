"""Grids that fit a page: what a line of Markdown may hold, and how columns are shared out."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from flashbench.reporting.document import WIDE, Block, Cell, fitted, latex, markdown


def grid(widths: list[int], rows: int = 3) -> Block:
    """A grid whose first column is `row N` and whose others have cells of those widths."""
    return Block("grid", grid=[[Cell(f"row {n}"), *(Cell("x" * width) for width in widths)] for n in range(rows)])


def lines(blocks: list[Block]) -> list[int]:
    return [len(line) for line in markdown(blocks).splitlines() if line.startswith("|")]


def test_a_grid_that_fits_stays_one() -> None:
    block = grid([10] * 10)
    (whole,) = fitted(block)
    assert markdown([whole]) == markdown([block]) and latex([whole]) == latex([block])
    assert max(lines([block])) == 5 + 10 * 10 + 3 * 11 + 1
    assert len(fitted(block, 139)) == 1 and len(fitted(block, 138)) == 2


def test_parts_are_even_and_keep_the_order_and_the_sides() -> None:
    block = Block("grid", grid=[[Cell(f"{n}{'x' * 20}") for n in range(10)]], columns="lrlrlrlrlr")
    parts = fitted(block)
    assert [[cell.text[0] for cell in part.grid[0]] for part in parts] == [list("012345"), list("06789")]
    assert [part.columns for part in parts] == ["lrlrlr", "llrlr"]


@given(st.lists(st.integers(0, 200), min_size=1, max_size=20), st.integers(40, 200))
def test_no_line_is_longer_and_no_column_is_lost(widths: list[int], width: int) -> None:
    parts = fitted(grid(widths), width)
    kept = [cell.text for part in parts for cell in part.grid[1][1:]]
    assert kept == ["x" * one for one in widths] and all(part.grid[1][0].text == "row 1" for part in parts)
    for part in parts:
        assert len(part.grid[0]) == 2 or max(lines([part])) <= width
    for one, other in pairwise(parts):
        merged = [[*line, *more[1:]] for line, more in zip(one.grid, other.grid, strict=True)]
        assert max(lines([Block("grid", grid=merged)])) > width, "no grid more than is needed"


def test_marks_of_names_and_escapes_count() -> None:
    cells = [Cell("a|b", code=True), Cell("c|d", bold=True)]
    block = Block("grid", grid=[[Cell("x"), *cells * 9]])
    assert max(lines(fitted(block, 60))) <= 60 < max(lines([block])) and WIDE == 160
