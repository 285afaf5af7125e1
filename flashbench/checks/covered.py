"""Whether a file of scores holds what it says that it should, and a folder of them all that its tier is made of.

A file is judged by its own declaration (`run.declared`), so that what both sides of a gate leave out is seen too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from flashbench.checks import samples
from flashbench.checks.baseline import Scores

FACTS = ("direction", "scale", "unit")
"""Of a metric, what makes its numbers mean another thing."""


def expected(declared: Mapping[str, Any]) -> pd.DataFrame:
    """The lines that a declaration asks for: `samples.AT` as index; cluster, frames, set and geometry as columns."""
    lines = []
    for part in declared["parts"]:
        size = part["geometry"]
        geometry = f"{size['frames']}×{size['height']}×{size['width']} at {size['fps']} fps"
        only = {name: set(cases) for name, cases in part["only"].items()}
        cases = [(cluster, case, seed) for cluster, own in part["cases"].items()
                 for case, seeds in own.items() for seed in seeds]  # fmt: skip
        lines += [
            (row, case, seed, replica, metric, cluster, size["frames"], part["set"], geometry)
            for row in part["rows"]
            for replica in declared["replicas"]
            for metric in part["metrics"]
            for cluster, case, seed in cases
            if metric not in only or case in only[metric]
        ]
    table = pd.DataFrame(lines, columns=[*samples.AT, "cluster", "frames", "set", "geometry"])
    return table.set_index(samples.AT).sort_index()


def holes(side: Scores, lines: pd.DataFrame, other: pd.Index[Any] | None = None) -> Iterator[str]:
    """What the `lines` of a side do not hold of its declaration, or hold beyond it or otherwise, or without a reason.

    What is in `other` is left out: it is told as missing against that side.
    """
    silent = lines.index[samples.no_value(lines) & (lines["reason"] == "").to_numpy()]
    if len(silent):
        at = silent[0]
        yield f"{len(silent)} scores of {side.where} have neither value nor reason, first {at[4]} of {samples.clip(at)}"
    if side.declared is None:
        return
    asked = expected(side.declared)
    gone = asked.index.difference(lines.index)
    gone = gone if other is None else gone.difference(other)
    if len(gone):
        have = asked.index.difference(gone)
        yield from (
            f"{text} in {side.where}, which says that it holds it" for text in samples.missing(asked.index, have)
        )
    more = lines.index.difference(asked.index)
    if len(more):
        at = more[0]
        yield f"{len(more)} scores of {side.where} are none that it declares, first {at[4]} of {samples.clip(at)}"
    shared = lines.index.intersection(asked.index)
    for text in samples.unlike(asked.loc[shared, ["cluster", "frames"]], lines.loc[shared, ["cluster", "frames"]]):
        yield f"{side.where} is not what it declares: {text}"


def margins(declared: Mapping[str, Any]) -> dict[tuple[str, str], float]:
    """(set of cases, metric) → how much worse is still no worse."""
    return {(part["set"], name): margin for part in declared["parts"] for name, margin in part["margins"].items()}


def restated(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """What two declarations say differently of what both have: problems (numbers mean another thing), and notes."""
    problems, notes = list[str](), list[str]()
    if before["tier"] != after["tier"]:
        problems.append(f"the baseline is of the {before['tier']} tier, these scores of the {after['tier']} tier")
    parts = {part["set"]: part for part in before["parts"]}
    for part in after["parts"]:
        old = parts.get(part["set"])
        if old is None:
            continue
        for name in sorted(old["metrics"].keys() & part["metrics"].keys()):
            was, facts = old["metrics"][name], part["metrics"][name]
            moved = [f"{fact} {was[fact]} → {facts[fact]}" for fact in FACTS if was[fact] != facts[fact]]
            if moved:
                problems.append(f"{name} does not mean what it did: {', '.join(moved)}")
            if was["version"] != facts["version"]:
                notes.append(f"{name} is another version of the metric: {was['version']} → {facts['version']}")
            pair = [str(side["margins"].get(name, "none")) for side in (old, part)]
            if pair[0] != pair[1]:
                notes.append(f"the margin of {name} on {part['set']} is {pair[1]} now; the baseline's holds: {pair[0]}")
    return list(dict.fromkeys(problems)), list(dict.fromkeys(notes))


def whole(before: Mapping[str, Scores], names: Iterable[str]) -> set[str]:
    """The protocols that the baseline's tier is made of, or these `names` where it does not say."""
    said = [set(scores.declared["whole"]) for scores in before.values() if scores.declared]
    return set.union(*said) if said else set(names)
