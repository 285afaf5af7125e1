"""Claims: contrasts that the paper (or this project) states, judged on measured scores and on nothing else.

A claim `better … than …` holds where the 95 % interval of the paired difference is clear of 0 in the metric's good
direction, is contradicted where it is clear the other way, and is undecided otherwise. A claim of equivalence is two
one-sided tests at 5 % (Schuirmann, 1987): it holds where the 90 % interval lies inside ±margin; where that lies wholly
outside, the first row exceeds what is claimed if it is the better one, and contradicts it if not. An outcome needs six
clusters.

With several trainings each is judged alone, and the claim has an outcome only if it is that of every one of them: its p
is the largest of theirs (an intersection-union test; Berger, 1982). `adjusted` then tests the tier's primary claims as
one family.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from scipy import optimize

from flashbench import stats
from flashbench.metrics.base import Metric
from flashbench.protocol.cases import of_part
from flashbench.protocol.types import Protocol
from flashbench.reporting import numbers
from flashbench.reporting.tables import is_control
from flashbench.types import Claim, Direction

Outcome: TypeAlias = Literal["holds", "exceeds", "contradicted", "undecided"]
Result: TypeAlias = dict[str, Any]
"""A judged claim, ready for JSON: a missing number is None."""
Judged: TypeAlias = Sequence[tuple[Protocol, Sequence[Result]]]
"""The claims of several protocols."""

OUTCOMES: tuple[Outcome, ...] = ("holds", "exceeds", "contradicted", "undecided")
BESIDE = "psnr"
"""Fidelity to the reference, shown beside every claim: a better NIQE may cost it."""
DETAIL = ("gmsd", "edge_gradient", "high_pass_correlation")
"""Metrics of detail, of which the first that the protocol measures is shown beside too."""
MIN_CLUSTERS = 6
OWN_SOURCE = "this project"
"""The `source` of claims that are not the paper's."""
_ALPHA = 0.05
_UNIT = {"prompts": "prompt", "scenes": "scene"}
"""What a cluster is called, by the kind of cases; a source otherwise."""
_WIDER = 2.0
"""An interval without one of at least four clusters is less than this much wider, if the effects are equal: its
standard error grows by √(G / (G − 2)) at most, and Student's t with one degree of freedom less."""


def judge(claim: Claim, found: stats.Contrast, direction: Direction) -> tuple[Outcome, str]:
    """The outcome of a claim for one training, and in words why it is not `holds` (empty if it is).

    Args:
        claim: what is claimed; its effect is first − second.
        found: the paired difference of those rows, of an equivalence with its 90 % interval.
        direction: of the claim's metric.
    """
    if math.isnan(found.low) or math.isnan(found.high):
        return "undecided", found.reason or "no interval"
    sign = stats.SIGN[direction]
    if claim.equivalent is not None:
        if (margin := claim.margin) is None:
            return "undecided", "the claim of equivalence states no margin"
        if -margin < found.low and found.high < margin:
            return "holds", ""
        if found.low > margin or found.high < -margin:
            if sign * found.low > 0:
                return "exceeds", f"the interval lies beyond ±{numbers.given(margin)} on the metric's better side"
            return "contradicted", f"the interval lies wholly outside ±{numbers.given(margin)}"
        return "undecided", f"the interval reaches beyond ±{numbers.given(margin)}"
    if sign == 0:
        return "undecided", f"{claim.metric} has no better direction"
    low, high = sorted((sign * found.low, sign * found.high))
    if low > 0:
        return "holds", ""
    return ("contradicted", "the effect has the other sign") if high < 0 else ("undecided", "the interval contains 0")


def evaluate(protocol: Protocol, scores: pd.DataFrame) -> list[Result]:
    """Every claim of the protocol on the scores by itself, in the protocol's order (`adjusted` tests them together).

    A result holds the claim's own fields (`note` only if it does not hold), `paper` (whether the paper states it of two
    of its own arms), `level` of its intervals, `outcome`, `why` (why not `holds`, and what the scores note), `p` over
    all trainings, `label` (`rests on one source` where the outcome is undone by leaving a cluster out), and `replicas`:
    for each training its outcome, effect (first − second), low, high, p, n, of, clusters, the lowest and the highest
    effect with one cluster left out, the clusters that undo the outcome, and the differences of the metrics `beside`.
    """
    scores = of_part(protocol, scores)
    replicas = sorted({int(replica) for replica in scores["replica"]})
    return [_evaluate(claim, protocol, scores, replicas) for claim in protocol.claims]


def adjusted(judged: Judged) -> list[tuple[Protocol, list[Result]]]:
    """The claims with the primary ones tested as one family: `adjusted` is p by Holm over them, None of all others.

    A primary claim keeps its outcome where that p is below 0.05, and is undecided otherwise. One without a p counts as
    1: the family is the one that was declared, whatever could be measured of it.
    """
    family = [result for _, part in judged for result in part if result["primary"]]
    values = [1.0 if result["p"] is None else result["p"] for result in family]
    by_id = {id(result): float(p) for result, p in zip(family, stats.holm(np.array(values)), strict=True)}
    return [(protocol, [_adjusted(result, by_id.get(id(result))) for result in part]) for protocol, part in judged]


def _adjusted(result: Result, p: float | None) -> Result:
    result = {**result, "adjusted": p}
    if p is None or p < _ALPHA or result["outcome"] == "undecided":
        return result
    why = f"{result['outcome']} by itself, not among the primary claims (p {numbers.p_value(p)} by Holm)"
    return result | {"outcome": "undecided", "why": "; ".join(filter(None, (why, result["why"]))), "label": ""}


def _evaluate(claim: Claim, protocol: Protocol, scores: pd.DataFrame, replicas: Sequence[int]) -> Result:
    metric = protocol.metric(claim.metric)
    first, second = claim.rows
    scores = scores[scores["row"].isin(claim.rows)]
    beside = _beside(protocol)
    lines = []
    for replica in replicas:
        part = scores[scores["replica"] == replica]
        line = _line(claim, metric, part[part["metric"] == metric.name], replica)
        line["beside"] = {
            other.name: _numbers(stats.contrast(part, other, first, second, replica=replica), "effect", "low", "high")
            for other in beside
            if other.name != metric.name
        }
        lines.append(line)
    outcome, why = _together(lines)
    rests = outcome != "undecided" and any(line["undone_by"] for line in lines)
    unit = _UNIT.get(protocol.kind, "source")
    return {
        "id": claim.id, "text": claim.text, "source": claim.source, "metric": claim.metric,
        "direction": metric.direction, "unit": lines[0].pop("unit") if lines else metric.unit,
        "first": first, "second": second, "kind": "equivalent" if claim.equivalent is not None else "better",
        "margin": claim.margin, "margin_reason": claim.margin_reason, "primary": claim.primary,
        "paper": _of_paper(claim), "level": _level(claim), "outcome": outcome, "why": why,
        "note": "" if outcome == "holds" else claim.note, "p": _p_over(claim, lines),
        "label": f"rests on one {unit}" if rests else "",
        "replicas": [{name: value for name, value in line.items() if name != "unit"} for line in lines],
    }  # fmt: skip


def _of_paper(claim: Claim) -> bool:
    """Whether the paper states the claim, and of two of its own arms."""
    return claim.source != OWN_SOURCE and not claim.control and not any(map(is_control, claim.rows))


def _level(claim: Claim) -> float:
    """Of the interval that decides."""
    return stats.LEVEL if claim.equivalent is None else stats.EQUIVALENCE_LEVEL


def _beside(protocol: Protocol) -> list[Metric]:
    """PSNR and a metric of detail, where the protocol measures them."""
    detail = [name for name in DETAIL if name in protocol.metric_names][:1]
    return [protocol.metric(name) for name in (BESIDE, *detail) if name in protocol.metric_names]


def _line(claim: Claim, metric: Metric, scores: pd.DataFrame, replica: int) -> Result:
    """A claim in one training."""
    first, second = claim.rows

    def found(level: float) -> stats.Contrast:
        return stats.contrast(scores, metric, first, second, replica=replica, level=level)

    contrast = found(_level(claim))
    outcome, why = judge(claim, contrast, metric.direction)
    without = stats.leave_one_out(scores, metric, first, second, replica=replica)
    undone: list[str] = []
    if metric.computed:
        why = "; ".join(filter(None, (why, "computed from the settings, not measured")))
    elif claim.equivalent is not None and contrast.scale != metric.scale:
        outcome, why = "undecided", "the margin is in %, and a value of 0 leaves no percent change"
    elif outcome != "undecided" and contrast.clusters < MIN_CLUSTERS:
        outcome, why = "undecided", f"an outcome needs {MIN_CLUSTERS} clusters, here {contrast.clusters}"
    elif outcome != "undecided":
        undone = _undone_by(claim, metric, scores, contrast, without)
    effects = [effect for effect in without.values() if math.isfinite(effect)]
    return {
        "replica": replica, "outcome": outcome, "why": "; ".join(dict.fromkeys(filter(None, (why, contrast.reason)))),
        **_numbers(contrast, "effect", "low", "high", "n", "of", "clusters"),
        "p": _plain(contrast.p if claim.margin is None else _equivalence_p(claim.margin, outcome, found)),
        "left_out_low": min(effects, default=None), "left_out_high": max(effects, default=None), "undone_by": undone,
        "unit": contrast.unit,
    }  # fmt: skip


def _undone_by(
    claim: Claim, metric: Metric, scores: pd.DataFrame, whole: stats.Contrast, without: dict[str, float]
) -> list[str]:
    """Clusters without which a decided claim has another outcome.

    The interval without a cluster is worked out only where one `_WIDER` than the whole's would change the outcome.
    """
    outcome, _ = judge(claim, whole, metric.direction)
    below, above = _WIDER * (whole.effect - whole.low), _WIDER * (whole.high - whole.effect)
    undone = []
    for cluster, effect in without.items():
        shown = replace(whole, effect=effect, low=effect - below, high=effect + above)
        if judge(claim, shown, metric.direction)[0] != outcome:
            rest = scores[scores["cluster"] != cluster]
            again = stats.contrast(rest, metric, *claim.rows, replica=whole.replica, level=_level(claim))
            undone += [cluster] if judge(claim, again, metric.direction)[0] != outcome else []
    return undone


def _equivalence_p(margin: float, outcome: Outcome, found: Any) -> float:
    """The p of the test whose outcome it is: the least α at which the 1 − 2α interval is inside ±margin, or beyond it.

    From 1e-6; above one half it is 1; NaN where there is no interval. `found` gives the contrast at a level.
    """

    def clear(exponent: float) -> float:
        """By how much the interval is clear of the margin."""
        contrast = found(1 - 2 * 10**exponent)
        if outcome in ("holds", "undecided"):
            return float(min(margin - contrast.high, margin + contrast.low))
        return float(max(contrast.low - margin, -margin - contrast.high))

    least, most = -6.0, math.log10(0.4999)
    if math.isnan(clear(least)):
        return math.nan
    if clear(least) > 0:
        return float(10**least)
    return 1.0 if clear(most) <= 0 else float(10 ** optimize.brentq(clear, least, most, xtol=1e-3))


def _p_over(claim: Claim, lines: Sequence[Result]) -> float | None:
    """The largest p of the trainings; 1 where they point different ways, None where one has none."""
    if not lines or any(line["p"] is None for line in lines):
        return None
    if claim.equivalent is None:
        ways = {line["effect"] > 0 for line in lines}
    else:
        ways = {line["outcome"] in ("holds", "undecided") or line["outcome"] for line in lines}
    return max(line["p"] for line in lines) if len(ways) == 1 else 1.0


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


def _numbers(contrast: stats.Contrast, *names: str) -> dict[str, float | None]:
    return {name: _plain(getattr(contrast, name)) for name in names}


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
