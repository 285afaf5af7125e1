"""The committed results say what they owe the reader."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import committed

from flashbench.checks.across import Table, across
from flashbench.protocol import compose
from flashbench.scores.table import read_scores

LAPTOP = committed.results() / "laptop"


@pytest.mark.parametrize("folder", [".", "replicas"])
def test_every_claim_that_does_not_hold_says_why_it_may_differ(folder: str) -> None:
    text = (LAPTOP / folder / "claims.md").read_text(encoding="utf-8")
    judged = [line for line in text.splitlines() if line.startswith("- **")]
    claims = [claim for name in compose.names() for claim in compose.load_protocol(name).claims]
    assert len(judged) == len(claims) >= 25
    for claim in claims:
        parts = (f": `{claim.id}` ({claim.source}", f": {claim.text}. ", *(f"`{row}`" for row in claim.rows))
        (said,) = (line for line in judged if all(part in line for part in parts))
        if not said.startswith("- **holds**"):
            assert claim.note and claim.note in said, claim.id
    assert [line for line in text.splitlines() if line.startswith("|") and len(line) > 160] == []


def tables(folder: Path) -> list[Table]:
    """Every protocol with its committed scores, which are of its present form."""
    protocols = map(compose.load_protocol, compose.names())
    return [(one, read_scores(folder / one.name / "scores.parquet", one.hash)) for one in protocols]


def test_one_thing_has_one_value_in_all_tables() -> None:
    own, replicas = tables(LAPTOP), tables(LAPTOP / "replicas")
    assert across(LAPTOP, [*own, *replicas]) == [], "replica 0 is the same in both folders"
    assert across(LAPTOP / "replicas", replicas) == []
