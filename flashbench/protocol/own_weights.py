"""Bring your own: a checkpoint as one more row of a protocol, beside its rows, with the baseline's settings."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from flashbench import keys, systems
from flashbench.errors import UsageError, did_you_mean
from flashbench.protocol.types import Protocol, Variant
from flashbench.systems.checkpoints import content_sha256


def with_weights(protocol: Protocol, system: str, path: Path) -> Protocol:
    """The protocol with the row `weights=NAME`: `system` with the network in `path` (a file or a saved folder).

    NAME is the file's or folder's. Settings and size are the baseline's, or those of the first row of that system where
    the baseline is of another; so on each set of cases that has rows of that system. The row is compared with the
    baseline like any other; keys and the protocol's hash hold the weights' sha256, never their place.

    Raises:
        UsageError: a system that takes no weights or is none of the protocol's, nothing at `path`, a row of that name.
    """
    if system not in (known := [name for name in systems.names() if "given" in systems.get(name).kinds]):
        raise did_you_mean("system that takes weights", system, known)
    if system not in (takers := _takers(protocol)):
        raise did_you_mean(f"system with rows in {protocol.name} at {protocol.tier}:", system, takers)
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", path.stem if path.is_file() else path.name).strip("-") or "own"
    row, recipe, sha256 = f"weights={name}", f"given-{name}", content_sha256(path)
    if row in {variant.row for part in protocol.parts for variant in part.variants}:
        raise UsageError(f"{protocol.name} has a row {row!r} already", fix="rename the file or folder")
    component = systems.get(system).component
    made = {"kind": "given", "component": component, "path": str(path.absolute()), "sha256": sha256, "needs": {}}
    digest = keys.key("protocol", protocol=protocol.hash, row=row, system=system, weights=sha256)
    recipes = {**protocol.recipes, recipe: made}
    main, *sets = (
        replace(part, variants=_grown(part, system, row, recipe), recipes=recipes, hash=digest)
        for part in protocol.parts
    )
    return replace(main, sets=tuple(sets))


def _takers(protocol: Protocol) -> list[str]:
    return sorted({variant.system.name for variant in protocol.variants if "given" in variant.system.kinds})


def _grown(part: Protocol, system: str, row: str, recipe: str) -> tuple[Variant, ...]:
    """The rows of a set of cases with one more behind the last of `system`; without any, as they are."""
    places = [at for at, variant in enumerate(part.variants) if variant.system.name == system]
    if not places:
        return part.variants
    like = part.variants[min(places, key=lambda at: part.variants[at].row != part.baseline)]
    own = replace(like, row=row, settings={**like.settings, "training": recipe})
    after = places[-1] + 1
    return (*part.variants[:after], own, *part.variants[after:])
