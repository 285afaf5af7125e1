"""Claims are judged by the interval alone, in the metric's direction, in every training."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from support.fake_scores import better, metric, protocol, synthetic

from flashbench import stats
from flashbench.reporting import claims
from flashbench.types import Claim, Direction

ROWS = {"nfe=1": (5.0, 22.5), "nfe=4": (3.2, 21.2), "nfe=8": (3.2, 21.2), "original": (2.0, 0.0)}
SCORES = synthetic(ROWS)
CASES = sorted(set(SCORES["case"]))
HOLDS = better("nfe=4", "nfe=1")
CONTRADICTED = better("nfe=4", "nfe=1", "psnr")
UNDECIDED = better("nfe=8", "nfe=4", "psnr")


def contrast(low: float, high: float) -> stats.Contrast:
    return stats.Contrast(
        metric="psnr", first="a", second="b", replica=0, effect=(low + high) / 2, low=low, high=high, p=0.5, se=1.0,
        n=9, of=9, clusters=9,
    )  # fmt: skip


def equal(margin: float | None) -> Claim:
    return Claim(id="e", text="as good", source="s", metric="psnr", equivalent=("a", "b"), margin=margin)


def evaluate(scores: pd.DataFrame, *asked: Claim) -> list[dict[str, Any]]:
    return claims.evaluate(protocol(list(ROWS), cases=CASES, claims=asked), scores)


@pytest.mark.parametrize(
    ("low", "high", "direction", "outcome"),
    [
        (0.1, 0.5, "higher", "holds"),
        (0.1, 0.5, "lower", "contradicted"),
        (-0.5, -0.1, "lower", "holds"),
        (-0.5, -0.1, "higher", "contradicted"),
        (-0.1, 0.5, "higher", "undecided"),
        (-0.1, 0.5, "lower", "undecided"),
        (0.0, 0.5, "higher", "undecided"),
        (0.1, 0.5, "none", "undecided"),
        (math.nan, math.nan, "higher", "undecided"),
    ],
)
def test_better_than(low: float, high: float, direction: Direction, outcome: str) -> None:
    found, why = claims.judge(better("a", "b", "psnr"), contrast(low, high), direction)
    assert found == outcome and bool(why) == (outcome != "holds")


@pytest.mark.parametrize(
    ("low", "high", "margin", "outcome"),
    [
        (-0.2, 0.2, 0.3, "holds"),
        (-0.2, 0.3, 0.3, "undecided"),
        (0.1, 0.5, 0.3, "undecided"),
        (0.4, 0.5, 0.3, "contradicted"),
        (-0.5, -0.4, 0.3, "contradicted"),
        (-0.5, 0.5, 0.3, "undecided"),
        (0.0, 0.0, None, "undecided"),
    ],
)
def test_equivalent(low: float, high: float, margin: float | None, outcome: str) -> None:
    assert claims.judge(equal(margin), contrast(low, high), "higher")[0] == outcome


def test_outcomes_on_scores_with_psnr_beside() -> None:
    holds, contradicted, undecided = evaluate(SCORES, HOLDS, CONTRADICTED, UNDECIDED)
    assert [r["outcome"] for r in (holds, contradicted, undecided)] == ["holds", "contradicted", "undecided"]
    assert (holds["why"], contradicted["why"]) == ("", "the effect has the other sign")
    assert undecided["why"] == "the interval contains 0"
    found = stats.contrast(SCORES, metric("niqe_pooled"), "nfe=4", "nfe=1")
    beside = stats.contrast(SCORES, metric("psnr"), "nfe=4", "nfe=1")
    (line,) = holds["replicas"]
    assert [line[name] for name in ("effect", "low", "high", "n", "of")] == [
        found.effect,
        found.low,
        found.high,
        20,
        20,
    ]
    assert (line["psnr_effect"], line["psnr_low"]) == (beside.effect, beside.low)


def test_a_number_that_is_missing_leaves_it_undecided_with_the_reason() -> None:
    (result,) = evaluate(SCORES, better("original", "nfe=4", "psnr"))
    assert result["outcome"] == "undecided" and result["why"].startswith("PSNR is infinite")
    assert result["replicas"][0]["effect"] is None
    json.dumps(result, allow_nan=False)
    (few,) = evaluate(SCORES[SCORES["cluster"] < "source02"], HOLDS)
    assert few["outcome"] == "undecided" and "3 clusters" in few["why"]


def test_a_claims_own_note_is_said_only_where_it_does_not_hold() -> None:
    noted = [replace(claim, note="short trainings") for claim in (HOLDS, UNDECIDED)]
    holds, undecided = evaluate(SCORES, *noted)
    assert (holds["note"], undecided["note"]) == ("", "short trainings")
    text = claims.claims_markdown([(protocol(list(ROWS), cases=CASES, claims=tuple(noted)), [holds, undecided])])
    assert text.count("short trainings") == 1 and "the interval contains 0; short trainings |" in text


def test_a_note_of_the_scores_stands_beside_the_outcome() -> None:
    noted = SCORES.assign(reason=["unofficial weights" if name == "niqe_pooled" else "" for name in SCORES["metric"]])
    holds, contradicted = evaluate(noted, HOLDS, CONTRADICTED)
    assert (holds["outcome"], holds["why"]) == ("holds", "unofficial weights")
    assert "unofficial" not in contradicted["why"], "PSNR has no weights"


def test_with_replicas_it_must_hold_in_each() -> None:
    three = synthetic(ROWS, replicas=3)
    assert [r["outcome"] for r in evaluate(three, HOLDS, CONTRADICTED)] == ["holds", "contradicted"]
    swapped = three.copy()
    names = {"nfe=1": "nfe=4", "nfe=4": "nfe=1"}
    swapped["row"] = [
        names.get(row, row) if replica == 2 else row
        for row, replica in zip(three["row"], three["replica"], strict=True)
    ]
    (mixed,) = evaluate(swapped, HOLDS)
    assert [line["outcome"] for line in mixed["replicas"]] == ["holds", "holds", "contradicted"]
    assert mixed["outcome"] == "undecided"
    assert mixed["why"] == "trainings disagree (2 holds, 1 contradicted): r2: the effect has the other sign"


def test_markdown_counts_and_tells() -> None:
    asked = protocol(list(ROWS), cases=CASES, claims=(HOLDS, CONTRADICTED, UNDECIDED))
    results = claims.evaluate(asked, SCORES)
    text = claims.claims_markdown([(asked, results), (protocol(list(ROWS), cases=CASES), [])])
    assert text.count("3 claims: 1 held, 1 contradicted, 1 undecided.") == 2
    lines = [line for line in text.splitlines() if line.startswith("| **")]
    assert len(lines) == 3 and lines[0].startswith("| **holds** | first beats second (Table 8) |")
    assert "`nfe=4` is better than `nfe=1` on `niqe_pooled` ↓" in lines[0] and "20/20, 10" in lines[0]
    assert lines[1].endswith("| the effect has the other sign |")
    assert "nan" not in text and "`0123abcd`" in text
    mixed = SCORES.sample(frac=1, random_state=9)
    assert text.startswith(claims.claims_markdown([(asked, claims.evaluate(asked, mixed))]))


def test_markdown_shows_every_training() -> None:
    asked = protocol(list(ROWS), cases=CASES, claims=(HOLDS,))
    results = claims.evaluate(asked, synthetic(ROWS, replicas=3))
    (row,) = [line for line in claims.claims_markdown([(asked, results)]).splitlines() if line.startswith("| **")]
    assert all(row.count(f"r{k} ") == 2 for k in range(3)), "effect and PSNR of each training"
