"""Do the tables of a folder of results agree with each other? One thing has one value wherever it stands.

What is one thing is told by what made it, never by its name: the settings, recipes and case of a clip; the key of a
score, which holds metric, clip and reference; the scores that an estimate is of. A control alone is known by its name,
because readers know it so: `l1` is the regression in every table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from flashbench import keys
from flashbench.protocol.cases import of_part
from flashbench.protocol.compose import sized
from flashbench.protocol.types import Protocol, Variant
from flashbench.reporting import numbers
from flashbench.reporting.tables import is_control

Table: TypeAlias = tuple[Protocol, pd.DataFrame]
"""A protocol with its scores."""
Estimates: TypeAlias = Mapping[tuple[str, str, int, str], str]
"""(set of cases, row, replica, metric) → what a table prints."""
_BOUNDS = ("value", "low", "high")
_SETTINGS, _CONTROL = "the same settings on the same cases", "one control on the same cases"


class _Fact(NamedTuple):
    """What one table says of one thing."""

    thing: str
    identity: Hashable
    where: str
    of: str
    """Which part of the thing."""
    says: str


def across(root: Path, tables: Iterable[Table]) -> list[str]:
    """A line for any two rows that are one thing and are said to have two clips, scores or values.

    Args:
        root: the folder of the tier's results, for the tables that it holds.
        tables: the protocols whose scores it holds.
    """
    first, apart = dict[Hashable, _Fact](), dict[tuple[str, str, str], list[str]]()
    for fact in (fact for table in tables for fact in _facts(root, *table)):
        other = first.setdefault((fact.thing, fact.identity), fact)
        if other.says != fact.says:
            said = f"{fact.of}: {other.says} and {fact.says}"
            apart.setdefault((fact.thing, other.where, fact.where), []).append(said)
    return [
        f"{one} and {another} are {thing} with two values in {numbers.counted(len(said), 'place')}, such as {said[0]}"
        for (thing, one, another), said in apart.items()
        if thing != _CONTROL or (_SETTINGS, one, another) not in apart
    ]


def _facts(root: Path, protocol: Protocol, scores: pd.DataFrame) -> Iterator[_Fact]:
    printed = _printed(root / "tables" / f"{protocol.name}.csv")
    for part in protocol.parts:
        own = of_part(part, scores)
        for variant in part.variants:
            lines: Any = own[(own["row"] == variant.row) & (own["key"] != "")].to_dict("records")
            yield from _of_scores(part, variant, lines)
            yield from _of_estimates(part, variant, lines, printed)


def _of_scores(part: Protocol, variant: Variant, lines: Sequence[Mapping[str, Any]]) -> Iterator[_Fact]:
    """Of each score: its value under its key, its clip under the row's settings and, of a control, under its name."""
    where = f"{part.name} · {variant.row}"
    cases = {case.id: (case.id, keys.canonical_json(case.low), repr(case.prompt)) for case in part.cases}
    preview = part.preview and [_made_by(part, part.preview.variant), part.preview.geometry]
    room = keys.canonical_json([sized(part.geometry, variant), preview])
    made = keys.canonical_json(_made_by(part, variant))
    for line in lines:
        of, value = f"{line['metric']} of {line['case']}", repr(float(line["value"]))
        sums = hashlib.sha256(np.asarray(line["statistics"], np.float32).tobytes()).hexdigest()
        yield _Fact("one score", line["key"], where, of, f"{value} (statistics {sums[:12]})")
        *case, prompt = cases[line["case"]]
        place = (room, *case, line["seed"], line["replica"], line["metric"])
        says = f"{line['value']:.6g} (clip {line['clip'][:12]}, score {line['key'][:12]})"
        yield _Fact(_SETTINGS, (made, prompt, *place), where, of, says)
        if is_control(variant.row):
            yield _Fact(_CONTROL, (variant.row, *place), where, of, says)


def _of_estimates(
    part: Protocol, variant: Variant, lines: Iterable[Mapping[str, Any]], printed: Estimates
) -> Iterator[_Fact]:
    """Of each of the row's estimates: what the table prints of those scores."""
    used: dict[tuple[int, str], list[str]] = {}
    for line in lines:
        used.setdefault((int(line["replica"]), str(line["metric"])), []).append(str(line["key"]))
    for (replica, metric), scores in used.items():
        if (says := printed.get((part.case_set, variant.row, replica, metric))) is not None:
            where = f"{part.name} · {variant.row}"
            yield _Fact("the same scores", tuple(sorted(scores)), where, f"{metric} in tables", says)


def _made_by(part: Protocol, variant: Variant) -> list[Any]:
    """What decides a variant's clips besides the case: its system, settings and all recipes behind it."""
    queue, recipes = list(variant.system.models(variant.settings)), dict[str, Any]()
    while queue:
        if (name := queue.pop()) not in recipes:
            recipes[name] = part.recipes[name]
            queue += part.recipes[name]["needs"].values()
    return [variant.system.name, variant.system.version, variant.system.identity(variant.settings), recipes]


def _printed(path: Path) -> Estimates:
    """The estimates of a table by nine digits, as another CPU may move the last ones; none where there is no table."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
        return {
            (line["cases"], line["row"], int(line["replica"]), line["metric"]): "{:.9g} [{:.9g}, {:.9g}]".format(
                *(float(line[name]) for name in _BOUNDS)
            )
            for line in table.to_dict("records")
        }
    except (OSError, ValueError, KeyError):
        return {}  # that the table is missing or edited is found where it is made again
