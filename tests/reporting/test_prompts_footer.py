"""What a table says of its prompts: the suite, the form they are generated from and by whom, seeds, frames."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support.made_results import faked, made_scores
from support.scratch_protocols import write

from flashbench.planning import stand_ins
from flashbench.protocol.types import Protocol
from flashbench.reporting import tables
from flashbench.run.options import Options


def footers(protocol: Protocol) -> tuple[list[str], list[str]]:
    """The lines about prompts, of Markdown and of LaTeX."""
    made = faked(protocol)
    scores = made_scores(made)
    table, found = tables.build(made, scores), tables.comparisons(made, scores)
    texts = tables.to_markdown(made, table, found), tables.to_latex(made, table, found)
    return tuple([line for line in text.splitlines() if line.startswith("Prompts:")] for text in texts)  # type: ignore[return-value]


def paper(name: str, *overrides: str) -> Protocol:
    return Options(tier="paper", overrides=overrides).protocol(name, stand_ins.suite)


def test_vbench_prompts_in_their_long_rewrites() -> None:
    (line,), (tex,) = footers(paper("nfe"))
    expected = (
        "Prompts: the first 100 of 944 of the suite `vbench` in its fixed order, subset HASH. Clips are generated from "
        "rewrites of them (`longer`, by GPT-4o), and scored against the prompts as they are; seed 0 of each; "
        "49 frames a clip. No score of a part of VBench's suite is a VBench score."
    )
    assert re.sub("subset [0-9a-f]{12}", "subset HASH", line) == expected
    assert r"\texttt{longer}, by GPT-4o" in tex and "seed 0 of each; 49 frames a clip" in tex


def test_seeds_are_told_for_the_prompts_that_have_them() -> None:
    protocol = paper("vbench", "cases.limit=22")
    counts = Counter(Counter(case.cluster for case in protocol.cases).values())
    assert set(counts) == {5, 25} and sum(counts.values()) == 22
    (line,), _ = footers(protocol)
    assert f"5 seeds (0 to 4) of {counts[5]} prompts and 25 seeds (0 to 24) of {counts[25]} prompt" in line


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("prompt\na cat\na dog\n", "from the prompts as they are, without a rewrite; seed 0"),
        ("prompt,original\na long cat,a cat\na long dog,a dog\n", "from rewrites of them (the file's own), and scored"),
        ("prompt,original\na long cat,a cat\na dog,a dog\n", "from rewrites of 1 of them (the file's own), and scored"),
    ],
)
def test_a_users_own_file(content: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (suite := tmp_path / "mine.csv").write_text(content)
    fields: dict[str, Any] = {"cases": {"suite": str(suite), "rewrite": None, "limit": None}}
    write(tmp_path, monkeypatch, **fields)
    (line,), _ = footers(paper("probe"))
    assert told in line and "5 frames a clip. They are none of VBench's." in line


def test_only_sets_of_prompts_have_it() -> None:
    assert footers(Options(tier="smoke").protocol("nfe")) == ([], [])
    protocol = Options(tier="laptop").protocol("nfe")
    kinds = [part.kind for part in protocol.parts]
    lines, _ = footers(protocol)
    assert kinds.count("prompts") == len(lines) == 1
    assert "of the suite `laptop`" in lines[0] and "as they are, without a rewrite; seed 0 of each" in lines[0]
