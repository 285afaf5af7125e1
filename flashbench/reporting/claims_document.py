"""The document of claims: what it speaks of, the primary claims as one family, then every protocol's claims.

The paper's claims between its own arms stand apart from this project's and from those against controls. Each claim is a
line of words, and a line for each training in a table of numbers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from flashbench.protocol.types import Protocol
from flashbench.reporting import numbers
from flashbench.reporting.claims import OUTCOMES, Judged, Outcome, Result, adjusted
from flashbench.reporting.document import Block, Cell, fitted, markdown

_RULE = (
    "An effect is first − second, paired by case and seed, with its interval over clusters: of 95 %, of an "
    "equivalence of 90 % (two one-sided tests at 5 %). A claim holds if the interval is clear of 0 in its direction, "
    "or inside the margin of an equivalence; it is contradicted if the interval is clear the other way, and exceeds an "
    "equivalence if the interval lies beyond the margin on the metric's better side. An outcome needs six clusters. "
    "*rests on one source* marks one that is undone where one cluster is left out. Beside each effect stand the "
    "differences of PSNR and of a metric of detail, because a lower NIQE alone is no better picture."
)
_FAMILY = (
    "The primary claims were fixed before these trainings were judged, one for each table or figure of the paper, and "
    "are tested as one family: an outcome stands if p by Holm is below 0.05. All others are exploratory, and their p "
    "is not adjusted."
)
_SEVERAL = (
    "p is the largest of the trainings' p, so that an outcome is that of every training. Trainings are no sample to "
    "take a mean over: three of them say whether a result hangs on the seed of one."
)
_GROUPS = {True: "The paper's claims between its own arms", False: "This project's claims, and those against controls"}
_WORD: Mapping[Outcome, str] = {
    "holds": "held", "exceeds": "exceeded", "contradicted": "contradicted", "undecided": "undecided",
}  # fmt: skip


def claims_markdown(results: Judged) -> str:
    """All claims with their outcomes, the primary ones adjusted as one family over the given protocols."""
    results = adjusted(results)
    judged = [(protocol, result) for protocol, part in results for result in part]
    tiers = ", ".join(dict.fromkeys(protocol.tier for protocol, _ in results))
    primary = [(protocol, result) for protocol, result in judged if result["primary"]]
    exploratory = [result for _, result in judged if not result["primary"]]
    counts = [_count([result for _, result in primary], "primary claim")] if primary else []
    counts.append(_count(exploratory, "exploratory claim" if primary else "claim"))
    blocks = [Block("heading", f"Claims, {tiers} tier"), Block("text", _spoken_of([result for _, result in judged]))]
    blocks += [Block("text", " ".join([*counts, _RULE]))]
    if primary:
        head = [*map(Cell, ("claim", "outcome", "what is claimed", "p", "p by Holm"))]
        grid = [head, *(_primary(protocol, result) for protocol, result in primary)]
        blocks += [Block("subheading", "Primary claims"), Block("text", _FAMILY)]
        blocks += fitted(Block("grid", grid=grid, columns="lllrr"))
    for protocol, part in results:
        blocks += _protocol(protocol, part) if part else []
    return markdown(blocks)


def _spoken_of(results: Sequence[Result]) -> str:
    """How many trainings these claims speak of."""
    replicas = sorted({line["replica"] for result in results for line in result["replicas"]})
    if len(replicas) > 1:
        names = ", ".join(f"r{replica}" for replica in replicas)
        return f"**These claims speak of {len(replicas)} trainings** ({names}, which differ in their seed). {_SEVERAL}"
    return (
        "**These claims speak of one training.** Another seed may give another outcome; `replicas/claims.md`, which "
        "`make repro REPLICAS=3` writes, speaks of three."
    )


def _count(results: Sequence[Result], noun: str) -> str:
    counts = Counter(result["outcome"] for result in results)
    tally = ", ".join(f"{counts[outcome]} {_WORD[outcome]}" for outcome in OUTCOMES if counts[outcome])
    return f"{numbers.counted(len(results), noun)}{': ' if tally else ''}{tally}."


def _primary(protocol: Protocol, result: Result) -> list[Cell]:
    return [
        Cell(f"{protocol.name}/{result['id']}", code=True), Cell(result["outcome"], bold=True),
        Cell(result["text"]), Cell(_p(result["p"])), Cell(_p(result["adjusted"])),
    ]  # fmt: skip


def _protocol(protocol: Protocol, part: Sequence[Result]) -> list[Block]:
    table = f", {protocol.table} of the paper" if protocol.table else ""
    title = f"{protocol.title} (`{protocol.name}`{table})"
    blocks = [Block("subheading", title), Block("text", _count(part, "claim"))]
    for of_paper, head in _GROUPS.items():
        if group := [result for result in part if result["paper"] is of_paper]:
            blocks += [Block("text", f"**{head}**"), Block("notes", notes=[*map(_words, group)])]
            blocks += _grid(protocol, group)
    return [*blocks, Block("text", f"Protocol hash `{protocol.hash}`.")]


def _words(result: Result) -> str:
    """A claim in a line: its outcome, what is claimed of which rows, and why it came out so."""
    about = ", ".join(filter(None, (result["source"], "primary" if result["primary"] else "")))
    metric = numbers.named(f"`{result['metric']}`", result["direction"])
    if result["kind"] == "equivalent":
        margin = " ".join(filter(None, (f"±{numbers.given(result['margin'])}", result["unit"])))
        contrast = f"`{result['first']}` within {margin} of `{result['second']}` on {metric}"
        contrast += f" (the margin: {result['margin_reason']})" if result["margin_reason"] else ""
    else:
        contrast = f"`{result['first']}` better than `{result['second']}` on {metric}"
    outcome = ", ".join(filter(None, (f"**{result['outcome']}**", result["label"] and f"*{result['label']}*")))
    why = "; ".join(filter(None, (result["why"], result["note"])))
    said = f"{outcome}: `{result['id']}` ({about}): {result['text']}. {contrast}"
    return ": ".join(filter(None, (said, why))) + "."


def _grid(protocol: Protocol, group: Sequence[Result]) -> list[Block]:
    """The numbers of some claims of a protocol, a line for each training."""
    lines = [(result, line) for result in group for line in result["replicas"]]
    several = len({line["replica"] for _, line in lines}) > 1
    beside = list(dict.fromkeys(name for _, line in lines for name in line["beside"]))
    heads = [numbers.named(name, protocol.metric(name).direction, protocol.metric(name).unit) for name in beside]
    columns = ["claim", *(["training"] if several else []), "effect [interval]", "p", *heads, "pairs, clusters"]
    grid = [[*map(Cell, columns)]]
    for result, line in lines:
        cells = [Cell(result["id"], code=True), *([Cell(f"r{line['replica']}")] if several else [])]
        cells += [Cell(_effect(line, result["unit"])), Cell(_p(line["p"]))]
        cells += [Cell(_effect(line["beside"].get(name, {}))) for name in beside]
        grid.append([*cells, Cell(f"{line['n']}/{line['of']}, {line['clusters']}")])
    return fitted(Block("grid", grid=grid, columns="l" * len(columns))) if lines else []


def _effect(found: Mapping[str, float | None], unit: str = "") -> str:
    effect, low, high = (found.get(name) for name in ("effect", "low", "high"))
    if effect is None:
        return numbers.ABSENT
    text = numbers.signed(effect, math.nan if low is None else low, math.nan if high is None else high)
    return f"{text} {unit}".rstrip()


def _p(p: float | None) -> str:
    return numbers.ABSENT if p is None else numbers.p_value(p).removeprefix("= ")
