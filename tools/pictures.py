"""Write docs/pictures.jpg, what README shows: original, bicubic and FlashVideo on every set of the showcase.

    python tools/pictures.py          after `make repro`, from the clips in the store

The cases are not chosen by eye: three of each set, at equal distances in its order.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from flashbench.protocol.compose import load_protocol
from flashbench.reporting.contact import PAPER, Image, contact_sheet
from flashbench.store import Store
from flashbench.types import Clip

ROOT = Path(__file__).parent.parent
SHOWN = {"": "flashvideo", "x2": "flashvideo_x2", "scenes": "flashvideo_scenes"}
"""Set of cases of the protocol `enhancers` to the row that is FlashVideo there."""
CASES = 3


def main() -> None:
    """Make the sheet of replica 0."""
    protocol, store = load_protocol("enhancers"), Store()
    lines = [
        json.loads(line) for line in (ROOT / "results/laptop/enhancers/clips.jsonl").read_text("utf-8").splitlines()
    ]
    keys = {(line["row"], line["case"]): line["key"] for line in lines if not line["reason"]}
    sheets = []
    for part in (part for part in protocol.parts if part.set_name in SHOWN):
        cases = [part.cases[number * len(part.cases) // CASES].id for number in range(CASES)]
        rows: dict[str, dict[str, Clip]] = {
            row: {case: store.clip(keys[row, case]) for case in cases}
            for row in ("original", "bicubic", SHOWN[part.set_name])
        }
        title = part.title if part.set_name else "Photographs enlarged four times"
        sheets.append(contact_sheet(rows, cases, title=title))
    written = cv2.imwrite(str(ROOT / "docs/pictures.jpg"), _beside(sheets)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
    assert written, "docs/pictures.jpg was not written"


def _beside(sheets: list[Image]) -> Image:
    """The sheets side by side, on paper where one is lower."""
    height = max(len(sheet) for sheet in sheets)
    return np.concatenate(
        [np.pad(sheet, ((0, height - len(sheet)), (0, 0), (0, 0)), constant_values=PAPER) for sheet in sheets], axis=1
    )


if __name__ == "__main__":
    main()
