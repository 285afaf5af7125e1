"""Contact sheets: what the rows of a table look like, at native pixels, side by side. Nothing is resampled."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from flashbench.errors import InvalidError
from flashbench.types import Clip

Image: TypeAlias = npt.NDArray[np.uint8]

GAP = 4
LINE = 16
"""Height of a label's line in pixels."""
PAPER, INK, ABSENT = 255, 25, 215
_FONT, _SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.42


def contact_sheet(
    rows: Mapping[str, Mapping[str, Clip]], cases: Sequence[str], *, frame: int | None = None, width: int = 1800,
    of: int | None = None, title: str = "",
) -> Image:  # fmt: skip
    """One frame of every clip, uint8 [H, W, 3] RGB: a line of tiles for each case, a column for each row of the table.

    Columns that do not fit in `width` go to a further block below, which repeats the cases. A clip that is not there
    is a grey tile that says so.

    Args:
        rows: row id → case → clip, in the order of the columns.
        cases: the cases to show, in order.
        frame: index of the frame, the middle one of each clip if None; clips that are shorter show their last.
        width: widest sheet in pixels; at least one column is placed whatever the width.
        of: number of cases that `cases` were chosen from; the sheet says so where they are not all.
        title: what the sheet is headed with.

    Raises:
        InvalidError: there is no clip at all.
    """
    clips = [rows[row][case] for row in rows for case in cases if case in rows[row]]
    if not clips:
        raise InvalidError("a contact sheet needs a clip", fix="generate the protocol's clips first")
    high, wide = (max(clip.frames.shape[axis] for clip in clips) for axis in (1, 2))
    names = {row: _wrap(row, wide - 2 * GAP) for row in rows}
    head = 2 * GAP + LINE * max(map(len, names.values()))
    columns = max(1, (width - GAP) // (wide + GAP))
    blocks = math.ceil(len(rows) / columns)
    columns = math.ceil(len(rows) / blocks)
    parts = [list(rows)[i * columns : (i + 1) * columns] for i in range(blocks)]
    sheets = [_block(rows, part, cases, names, head, (high, wide), frame) for part in parts]
    chosen = f"{len(cases)} of {of} cases" if of is not None and of > len(cases) else ""
    if heading := ", ".join(filter(None, (title, chosen))):
        wide = max(sheets[0].shape[1], 2 * GAP + _width(heading))
        sheets.insert(0, np.full((GAP + LINE, wide, 3), PAPER, dtype=np.uint8))
        _write(sheets[0], heading, GAP, GAP)
    return below(sheets)


def below(sheets: Sequence[Image]) -> Image:
    """Sheets one below the other, each uint8 [H, W, 3]."""
    full = max(sheet.shape[1] for sheet in sheets)
    return np.concatenate([_pad(sheet, full) for sheet in sheets])


def png(image: Image) -> bytes:
    """An RGB image uint8 [H, W, 3] as the content of a PNG file, lossless, without metadata."""
    done, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not done:
        what = f"an image of {list(image.shape)} could not be encoded as PNG"
        raise InvalidError(what, fix="report this image's shape as an issue")
    return data.tobytes()


def _block(
    rows: Mapping[str, Mapping[str, Clip]], chosen: Sequence[str], cases: Sequence[str],
    names: Mapping[str, Sequence[str]], head: int, tile: tuple[int, int], frame: int | None,
) -> Image:  # fmt: skip
    high, wide = tile
    step = LINE + high + GAP
    sheet = np.full((head + step * len(cases) + GAP, GAP + (wide + GAP) * len(chosen), 3), PAPER, dtype=np.uint8)
    for i, row in enumerate(chosen):
        left = GAP + i * (wide + GAP)
        for k, line in enumerate(names[row]):
            _write(sheet, line, left, GAP + k * LINE)
        for j, case in enumerate(cases):
            top = head + j * step
            if i == 0:
                _write(sheet, case, left, top)
            place = sheet[top + LINE : top + LINE + high, left : left + wide]
            clip = rows[row].get(case)
            if clip is None:
                place[:] = ABSENT
                _write(place, "no clip", GAP, high // 2 - LINE // 2)
            else:
                shown = clip.frames[min(len(clip.frames) // 2 if frame is None else frame, len(clip.frames) - 1)]
                place[: shown.shape[0], : shown.shape[1]] = shown
    return sheet


def _wrap(text: str, wide: int) -> list[str]:
    """Lines of a row id that fit over a tile: broken after commas and underscores, else anywhere."""
    lines = [""]
    for piece in text.replace(",", ",\n").replace("_", "_\n").split("\n"):
        for part in [piece] if _width(piece) <= wide else list(piece):
            if _width(lines[-1] + part) > wide and lines[-1]:
                lines.append("")
            lines[-1] += part
    return lines


def _width(text: str) -> int:
    return int(cv2.getTextSize(text, _FONT, _SCALE, 1)[0][0])


def _write(image: Image, text: str, left: int, top: int) -> None:
    ascii_text = text.encode("ascii", "replace").decode()
    cv2.putText(image, ascii_text, (left, top + LINE - 5), _FONT, _SCALE, (INK,) * 3, 1, cv2.LINE_AA)


def _pad(sheet: Image, wide: int) -> Image:
    return np.pad(sheet, ((0, 0), (0, wide - sheet.shape[1]), (0, 0)), constant_values=PAPER)
