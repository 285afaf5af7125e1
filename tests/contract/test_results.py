"""The committed results say what they owe the reader.

They are read from git's index: `make repro` on a processor of another family trains other networks, and leaves its own
results in the work tree, about which the notes of the committed ones need not be right.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from flashbench.checks.across import Table, across
from flashbench.protocol import compose
from flashbench.scores.table import read_scores

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with results/laptop as git has it."""
    folder = tmp_path_factory.mktemp("committed")
    listed = subprocess.run(["git", "ls-files", "-z", "results/laptop"], cwd=ROOT, capture_output=True, check=True)
    assert listed.stdout, "this is no clone: its results cannot be told from those of `make repro`"
    out = ["git", "checkout-index", "-z", "--stdin", f"--prefix={folder}/"]
    subprocess.run(out, cwd=ROOT, input=listed.stdout, check=True)
    return folder / "results" / "laptop"


@pytest.mark.parametrize("folder", [".", "replicas"])
def test_every_claim_that_does_not_hold_says_why_it_may_differ(folder: str, committed: Path) -> None:
    text = (committed / folder / "claims.md").read_text(encoding="utf-8")
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


def test_one_thing_has_one_value_in_all_tables(committed: Path) -> None:
    own, replicas = tables(committed), tables(committed / "replicas")
    assert across(committed, [*own, *replicas]) == [], "replica 0 is the same in both folders"
    assert across(committed / "replicas", replicas) == []
