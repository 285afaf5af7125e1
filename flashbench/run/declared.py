"""What a file of scores says that it should hold: kept in scores.parquet, so that a gate can tell what was left out.

The margins are in it too, so that a gate takes them from the baseline, and no change moves what it is judged by.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from flashbench import keys
from flashbench.protocol.cases import asked_of
from flashbench.protocol.compose import names
from flashbench.protocol.types import Protocol

SCHEMA = 1
_KEYS = {"schema", "protocol", "tier", "whole", "replicas", "parts"}
_PART = {"set", "rows", "cases", "geometry", "metrics", "only", "margins", "primary"}


def declared(protocol: Protocol, replicas: Iterable[int]) -> str:
    """Canonical JSON of the rows, cases, metrics and margins that scores of `protocol` have in `replicas`.

    - `protocol`, `tier`, `replicas`; `whole`: all protocols that the tier is made of
    - `parts`, one for each set of cases: `set` (its name), `rows`, `cases` (cluster → case → seeds), `geometry`
      (frames, height, width, fps), `metrics` (name → direction, unit, scale, version), `only` (metric → the cases that
      it is asked of, where those are not all), `margins` (metric → how much worse is no worse), `primary`
    """
    about = {"schema": SCHEMA, "protocol": protocol.name, "tier": protocol.tier, "whole": list(names())}
    about |= {"replicas": sorted({*replicas}), "parts": [_part(part) for part in protocol.parts]}
    return keys.canonical_json(about)


def read(content: bytes) -> dict[str, Any] | None:
    """What `declared` wrote, from a file's metadata; None where there is nothing.

    Raises:
        ValueError: it has another form.
    """
    if not content:
        return None
    about = json.loads(content)
    if not isinstance(about, dict) or about.keys() != _KEYS or about["schema"] != SCHEMA:
        raise ValueError("what it should hold is declared in a form that this version does not know")
    if not all(isinstance(part, dict) and part.keys() == _PART for part in about["parts"]):
        raise ValueError("what it should hold is declared in sets of cases of an unknown form")
    return about


def _part(part: Protocol) -> dict[str, Any]:
    cases: dict[str, dict[str, list[int]]] = {}
    serving: dict[str, set[str]] = {name: set() for name in part.metric_names}
    for case in part.cases:
        cases.setdefault(case.cluster, {}).setdefault(case.id, []).append(case.seed)
        for metric in asked_of(part, case):
            serving[metric.name].add(case.id)
    ids = {case.id for case in part.cases}
    size = part.geometry
    return {
        "set": part.case_set,
        "rows": [variant.row for variant in part.variants],
        "cases": cases,
        "geometry": {"frames": size.frames, "height": size.height, "width": size.width, "fps": str(size.fps)},
        "metrics": {
            one.name: {"direction": one.direction, "unit": one.unit, "scale": one.scale, "version": one.version}
            for one in part.metrics
        },
        "only": {name: sorted(served) for name, served in serving.items() if served != ids},
        "margins": {name: float(margin) for name, margin in part.margins.items() if margin is not None},
        "primary": list(part.primary),
    }
