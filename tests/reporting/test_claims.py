"""Claims are judged by the interval alone, in the metric's direction, in every training."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp
from support.fake_scores import better, frame, line, metric, protocol, synthetic

from flashbench import stats
from flashbench.reporting import claims
from flashbench.reporting.claims_document import claims_markdown
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
    ("low", "high", "margin", "direction", "outcome"),
    [
        (-0.2, 0.2, 0.3, "higher", "holds"),
        (-0.2, 0.3, 0.3, "higher", "undecided"),
        (0.1, 0.5, 0.3, "higher", "undecided"),
        (0.4, 0.5, 0.3, "higher", "exceeds"),
        (0.4, 0.5, 0.3, "lower", "contradicted"),
        (0.4, 0.5, 0.3, "none", "contradicted"),
        (-0.5, -0.4, 0.3, "higher", "contradicted"),
        (-0.5, -0.4, 0.3, "lower", "exceeds"),
        (-0.5, 0.5, 0.3, "higher", "undecided"),
        (0.0, 0.0, None, "higher", "undecided"),
    ],
)
def test_equivalent(low: float, high: float, margin: float | None, direction: Direction, outcome: str) -> None:
    found, why = claims.judge(equal(margin), contrast(low, high), direction)
    assert found == outcome and bool(why) == (outcome != "holds")


def test_outcomes_on_scores_with_psnr_beside() -> None:
    holds, contradicted, undecided = evaluate(SCORES, HOLDS, CONTRADICTED, UNDECIDED)
    assert [r["outcome"] for r in (holds, contradicted, undecided)] == ["holds", "contradicted", "undecided"]
    assert (holds["why"], contradicted["why"]) == ("", "the effect has the other sign")
    assert undecided["why"] == "the interval contains 0"
    found = stats.contrast(SCORES, metric("niqe_pooled"), "nfe=4", "nfe=1")
    beside = stats.contrast(SCORES, metric("psnr"), "nfe=4", "nfe=1")
    (line,) = holds["replicas"]
    for name in ("effect", "low", "high", "p", "n", "of", "clusters"):
        assert line[name] == getattr(found, name)
    assert line["beside"] == {"psnr": {"effect": beside.effect, "low": beside.low, "high": beside.high}}
    assert contradicted["replicas"][0]["beside"] == {}, "a metric does not stand beside itself"


def shifted(differences: list[list[float]], first: str = "a", second: str = "b", name: str = "psnr") -> pd.DataFrame:
    """Scores whose paired differences are those: a list of clusters' for each training."""
    lines = []
    for replica, values in enumerate(differences):
        for g, value in enumerate(values):
            lines.append(line(first, f"s{g:02d}/0", name, 20.0 + value, replica=replica))
            lines.append(line(second, f"s{g:02d}/0", name, 20.0, replica=replica))
    return frame(lines)


def judged(differences: list[list[float]], claim: Claim) -> claims.Result:
    cases = [f"s{g:02d}/0" for g in range(len(differences[0]))]
    (result,) = claims.evaluate(protocol(["a", "b"], cases=cases, claims=(claim,)), shifted(differences))
    return result


DRAW = np.random.default_rng(5).normal(0.4, 0.5, (3, 12))


def test_p_over_trainings_is_their_largest_and_1_where_they_point_different_ways() -> None:
    result = judged(DRAW.tolist(), better("a", "b", "psnr"))
    expected = [float(ttest_1samp(values, 0.0).pvalue) for values in DRAW]
    assert [entry["p"] for entry in result["replicas"]] == pytest.approx(expected)
    assert result["p"] == pytest.approx(max(expected))
    opposed = judged([*DRAW[:2].tolist(), (-DRAW[2]).tolist()], better("a", "b", "psnr"))
    assert (opposed["p"], opposed["outcome"]) == (1.0, "undecided")


@pytest.mark.parametrize("margin", [0.5, 0.8, 1.5])
def test_equivalence_is_two_one_sided_tests_at_5_percent(margin: float) -> None:
    values = DRAW[0]
    result = judged([values.tolist()], equal(margin))
    below = ttest_1samp(values, margin, alternative="less").pvalue
    above = ttest_1samp(values, -margin, alternative="greater").pvalue
    p = max(below, above)
    assert (result["outcome"] == "holds") == (p < 0.05) and result["level"] == 0.9
    assert result["p"] == pytest.approx(p if p < 0.5 else 1.0, rel=0.01, abs=1e-6)


def test_beyond_the_margin_p_is_that_of_being_beyond_it() -> None:
    values = DRAW[0] + 1.0
    result = judged([values.tolist()], equal(0.5))
    assert result["outcome"] == "exceeds"
    assert result["p"] == pytest.approx(ttest_1samp(values, 0.5, alternative="greater").pvalue, rel=0.01)


def test_holm_is_over_the_primary_claims_alone() -> None:
    values = np.linspace(-1, 1, 12) + 0.48
    primary, other = (replace(better("a", "b", "psnr"), id=name, primary=name == "p") for name in "pq")
    asked = protocol(["a", "b"], cases=[f"s{g:02d}/0" for g in range(12)], claims=(primary, other))
    results = claims.evaluate(asked, shifted([values.tolist()]))
    assert results[0]["outcome"] == "holds" and 0.05 / 4 < results[0]["p"] < 0.05
    four = claims.adjusted([(replace(asked, name=name), [dict(result) for result in results]) for name in "wxyz"])
    for _, (first, second) in four:
        assert first["adjusted"] == pytest.approx(4 * results[0]["p"]) and first["outcome"] == "undecided"
        assert first["why"].startswith("holds by itself, not among the primary claims")
        assert (second["adjusted"], second["outcome"]) == (None, "holds")
    ((_, (alone, _)),) = claims.adjusted([(asked, results)])
    assert alone["outcome"] == "holds" and alone["adjusted"] == results[0]["p"]
    missing = claims.adjusted([(asked, results), (asked, [{**results[0], "p": None, "outcome": "undecided"}])])
    assert missing[0][1][0]["adjusted"] == pytest.approx(2 * results[0]["p"]), "the family is the declared one"


@pytest.mark.parametrize(("clusters", "outcome"), [(5, "undecided"), (6, "holds")])
def test_an_outcome_needs_six_clusters(clusters: int, outcome: str) -> None:
    result = judged([[1.0 + g / 10 for g in range(clusters)]], better("a", "b", "psnr"))
    assert result["outcome"] == outcome
    assert result["why"] == ("" if outcome == "holds" else "an outcome needs 6 clusters, here 5")


def test_what_one_source_carries_is_labelled_with_it() -> None:
    calm = [0.5, -0.25, 0.25, 0.55, -0.2, 0.45, 0.15, 0.4, 0.0]
    carried = judged([[*calm, 0.9]], better("a", "b", "psnr"))
    assert (carried["outcome"], carried["label"]) == ("holds", "rests on one source")
    values = np.array([*calm, 0.9])
    without = [np.delete(values, g) for g in range(10)]
    (entry,) = carried["replicas"]
    undone = [f"s{g:02d}" for g in range(10) if ttest_1samp(without[g], 0.0).pvalue >= 0.05]
    assert entry["undone_by"] == undone and "s09" in undone
    means = [float(rest.mean()) for rest in without]
    assert (entry["left_out_low"], entry["left_out_high"]) == pytest.approx((min(means), max(means)))
    steady = judged([[1.0 + g / 10 for g in range(10)]], better("a", "b", "psnr"))
    assert (steady["label"], steady["replicas"][0]["undone_by"]) == ("", [])


@pytest.mark.parametrize("seed", range(4))
def test_the_short_cut_finds_the_clusters_that_a_full_search_finds(seed: int) -> None:
    values = np.random.default_rng(seed).normal(0.5, 0.6, 9)
    result = judged([values.tolist()], better("a", "b", "psnr"))
    full = [f"s{g:02d}" for g in range(9) if ttest_1samp(np.delete(values, g), 0.0).pvalue >= 0.05]
    assert result["replicas"][0]["undone_by"] == (full if result["outcome"] == "holds" else [])


def test_claims_against_controls_stand_apart() -> None:
    own = better("nfe=4", "nfe=1")
    others = (
        replace(own, id="ours", source="this project"),
        replace(own, id="said", control=True),
        better("nfe=4", "original"),
    )
    assert [result["paper"] for result in evaluate(SCORES, own, *others)] == [True, False, False, False]
    asked = protocol(list(ROWS), cases=CASES, claims=(own, *others))
    text = claims_markdown([(asked, claims.evaluate(asked, SCORES))])
    paper, rest = text.index("**The paper's claims between its own arms**"), text.index("**This project's claims")
    assert paper < text.index(f"`{own.id}`") < rest < text.index("`ours`")


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
    text = claims_markdown([(protocol(list(ROWS), cases=CASES, claims=tuple(noted)), [holds, undecided])])
    assert text.count("short trainings") == 1 and "the interval contains 0; short trainings." in text


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
    primary = replace(HOLDS, primary=True)
    asked = protocol(list(ROWS), cases=CASES, claims=(primary, CONTRADICTED, UNDECIDED))
    results = claims.evaluate(asked, SCORES)
    text = claims_markdown([(asked, results), (protocol(list(ROWS), cases=CASES), [])])
    assert "**These claims speak of one training.**" in text.splitlines()[2]
    assert "1 primary claim: 1 held. 2 exploratory claims: 1 contradicted, 1 undecided." in text
    assert "3 claims: 1 held, 1 contradicted, 1 undecided." in text
    assert f"| `nfe/{primary.id}` | **holds** | first beats second |" in text
    said = f"- **holds**: `{primary.id}` (Table 8, primary): first beats second. `nfe=4` better than `nfe=1` on"
    assert f"{said} `niqe_pooled` ↓." in text
    assert "on `psnr` ↑: the effect has the other sign." in text and "20/20, 10 |" in text
    assert "nan" not in text and "`0123abcd`" in text and max(map(len, grid(text))) <= 160
    mixed = SCORES.sample(frac=1, random_state=9)
    assert text.startswith(claims_markdown([(asked, claims.evaluate(asked, mixed))]))


def grid(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")]


def test_markdown_shows_every_training() -> None:
    asked = protocol(list(ROWS), cases=CASES, claims=(HOLDS,))
    text = claims_markdown([(asked, claims.evaluate(asked, synthetic(ROWS, replicas=3)))])
    assert "**These claims speak of 3 trainings** (r0, r1, r2" in text.splitlines()[2]
    rows = [line for line in grid(text) if f"`{HOLDS.id}`" in line]
    assert [row.split(" | ")[1] for row in rows] == ["r0", "r1", "r2"], "effect and PSNR of each training"
