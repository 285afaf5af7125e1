"""Claims: contrasts that the paper (or the prototype) states, judged on measured scores and on nothing else.

A claim `better … than …` holds where the interval of the paired difference is clear of 0 in the metric's good
direction, is contradicted where it is clear the other way, and is undecided otherwise. A claim of equivalence holds
where the interval lies inside ±margin, is contradicted where it lies wholly outside. With several trainings each is
judged alone: the claim holds (or is contradicted) only if it does so in every one of them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import pandas as pd

from flashbench import stats
from flashbench.protocol.cases import of_part
from flashbench.protocol.types import Protocol
from flashbench.reporting import numbers
from flashbench.reporting.document import Block, Cell, markdown
from flashbench.types import Claim, Direction

Outcome: TypeAlias = Literal["holds", "contradicted", "undecided"]
Result: TypeAlias = dict[str, Any]
"""A judged claim, ready for JSON: a missing number is None."""

OUTCOMES: tuple[Outcome, ...] = ("holds", "contradicted", "undecided")
BESIDE = "psnr"
"""Fidelity to the reference, shown beside every claim: a better NIQE may cost it."""


def judge(claim: Claim, found: stats.Contrast, direction: Direction) -> tuple[Outcome, str]:
    """The outcome of a claim for one training, and in words why it is not `holds` (empty if it is).

    Args:
        claim: what is claimed; its effect is first − second.
        found: the paired difference of those rows.
        direction: of the claim's metric.
    """
    if math.isnan(found.low) or math.isnan(found.high):
        return "undecided", found.reason or "no interval"
    if claim.equivalent is not None:
        if claim.margin is None:
            return "undecided", "the claim of equivalence states no margin"
        if -claim.margin < found.low and found.high < claim.margin:
            return "holds", ""
        if found.low > claim.margin or found.high < -claim.margin:
            return "contradicted", f"the interval lies wholly outside ±{numbers.given(claim.margin)}"
        return "undecided", f"the interval reaches beyond ±{numbers.given(claim.margin)}"
    sign = stats.SIGN[direction]
    if sign == 0:
        return "undecided", f"{claim.metric} has no better direction"
    low, high = sorted((sign * found.low, sign * found.high))
    if low > 0:
        return "holds", ""
    return ("contradicted", "the effect has the other sign") if high < 0 else ("undecided", "the interval contains 0")


def evaluate(protocol: Protocol, scores: pd.DataFrame) -> list[Result]:
    """Every claim of the protocol on the scores, in the protocol's order.

    A result holds the claim's own fields (`note` only if it does not hold), `outcome`, `why` (why not `holds`, and what
    the scores note) and `replicas`: for each training its outcome, effect (first − second), low, high, p, n, of,
    clusters, and the rows' PSNR difference.
    """
    scores = of_part(protocol, scores)
    replicas = sorted({int(replica) for replica in scores["replica"]})
    return [_evaluate(claim, protocol, scores, replicas) for claim in protocol.claims]


def claims_markdown(results: Sequence[tuple[Protocol, Sequence[Result]]]) -> str:
    """All claims with their outcome, measured effect and PSNR beside, a table for each protocol."""
    judged = [result for _, part in results for result in part]
    tiers = ", ".join(dict.fromkeys(protocol.tier for protocol, _ in results))
    blocks = [Block("heading", f"Claims, {tiers} tier"), Block("text", f"{_count(judged)} {_RULE}")]
    for protocol, part in results:
        if part:
            blocks.append(Block("subheading", f"{protocol.title} (`{protocol.name}`, {protocol.table} of the paper)"))
            blocks.append(Block("text", _count(part)))
            blocks.append(Block("grid", grid=[_HEAD, *map(_row, part)], columns="lllllll"))
            blocks.append(Block("text", f"Protocol hash `{protocol.hash}`."))
    return markdown(blocks)


_RULE = (
    "An effect is first − second, paired by case and seed, with its 95 % interval over clusters (not adjusted for the "
    "number of claims). A claim holds if the interval is clear of 0 in its direction, or inside the margin of an "
    "equivalence; it is contradicted if the interval is clear the other way; with several trainings (r0, r1, …) it "
    "holds or is contradicted only if it is so in each."
)
_HEAD = tuple(
    map(Cell, ("outcome", "claim", "contrast", "effect [interval]", "PSNR difference (dB)", "pairs, clusters", "why"))
)


def _evaluate(claim: Claim, protocol: Protocol, scores: pd.DataFrame, replicas: Sequence[int]) -> Result:
    metric = protocol.metric(claim.metric)
    first, second = claim.rows
    lines = []
    for replica in replicas:
        contrast = stats.contrast(scores, metric, first, second, replica=replica)
        outcome, why = judge(claim, contrast, metric.direction)
        computed = "computed from the settings, not measured" if metric.computed else ""
        why = "; ".join(dict.fromkeys(filter(None, (why, contrast.reason, computed))))
        line: Result = {"replica": replica, "outcome": outcome, "why": why}
        line |= {
            name: _plain(getattr(contrast, name)) for name in ("effect", "low", "high", "p", "n", "of", "clusters")
        }
        if BESIDE in protocol.metric_names:
            beside = stats.contrast(scores, protocol.metric(BESIDE), first, second, replica=replica)
            line |= {f"{BESIDE}_{name}": _plain(getattr(beside, name)) for name in ("effect", "low", "high")}
        lines.append(line)
    outcome, why = _together(lines)
    return {
        "id": claim.id, "text": claim.text, "source": claim.source, "metric": claim.metric,
        "direction": metric.direction, "unit": metric.unit, "first": first, "second": second,
        "kind": "equivalent" if claim.equivalent is not None else "better", "margin": claim.margin,
        "outcome": outcome, "why": why, "note": "" if outcome == "holds" else claim.note, "replicas": lines,
    }  # fmt: skip


def _together(lines: Sequence[Result]) -> tuple[Outcome, str]:
    """One outcome for all trainings: theirs if they agree, undecided if not."""
    if not lines:
        return "undecided", "no scores"
    outcomes: list[Outcome] = [line["outcome"] for line in lines]
    if len(set(outcomes)) == 1:
        return outcomes[0], "; ".join(dict.fromkeys(line["why"] for line in lines if line["why"]))
    counts = Counter(outcomes)
    tally = ", ".join(f"{counts[outcome]} {outcome}" for outcome in OUTCOMES if outcome in counts)
    details = dict.fromkeys(f"r{line['replica']}: {line['why']}" for line in lines if line["why"])
    return "undecided", f"trainings disagree ({tally}): {'; '.join(details)}"


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _count(results: Sequence[Result]) -> str:
    counts = Counter(result["outcome"] for result in results)
    tally = ", ".join(f"{counts[outcome]} {_WORD[outcome]}" for outcome in OUTCOMES)
    return f"{numbers.counted(len(results), 'claim')}: {tally}."


_WORD: Mapping[Outcome, str] = {"holds": "held", "contradicted": "contradicted", "undecided": "undecided"}


def _row(result: Result) -> list[Cell]:
    several = len(result["replicas"]) > 1
    relation = "is better than" if result["kind"] == "better" else "vs"
    if result["kind"] == "equivalent" and result["margin"]:
        relation = f"is within ±{numbers.given(result['margin'])} of"
    lines = result["replicas"]
    pairs = dict.fromkeys(f"{line['n']}/{line['of']}, {line['clusters']}" for line in lines)
    metric = numbers.named(f"`{result['metric']}`", result["direction"])
    return [
        Cell(result["outcome"], bold=True),
        Cell(f"{result['text']} ({result['source']})"),
        Cell(f"`{result['first']}` {relation} `{result['second']}` on {metric}"),
        Cell("<br>".join(_effect(line, "", several) for line in lines) or numbers.ABSENT),
        Cell("<br>".join(_effect(line, f"{BESIDE}_", several) for line in lines) or numbers.ABSENT),
        Cell("<br>".join(pairs) or numbers.ABSENT),
        Cell("; ".join(filter(None, (result["why"], result["note"])))),
    ]


def _effect(line: Result, prefix: str, several: bool) -> str:
    effect, low, high = (line.get(f"{prefix}{name}") for name in ("effect", "low", "high"))
    if effect is None:
        text = numbers.ABSENT
    else:
        text = numbers.signed(effect, math.nan if low is None else low, math.nan if high is None else high)
    return f"r{line['replica']} {text}" if several else text
