"""The committed results say what they owe the reader."""

from __future__ import annotations

from pathlib import Path

import pytest

from flashbench.protocol import compose

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("folder", ["results/laptop"])
def test_every_claim_that_does_not_hold_says_why_it_may_differ(folder: str) -> None:
    text = (ROOT / folder / "claims.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| **")]
    judged = {(cells[1], cells[2]): cells for cells in rows}
    claims = [claim for name in compose.names() for claim in compose.load_protocol(name).claims]
    assert len(rows) == len(judged) == len(claims) >= 25
    for claim in claims:
        found = [
            cells
            for (said, contrast), cells in judged.items()
            if said == f"{claim.text} ({claim.source})"
            and all(f"`{row}`" in contrast for row in (*claim.rows, claim.metric))
        ]
        (cells,) = found
        if "**holds**" not in cells[0]:
            assert claim.note and claim.note in cells[-1], claim.id
