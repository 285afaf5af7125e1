"""Bring your own: a checkpoint as one more row of a protocol, beside its rows, with the baseline's settings."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from flashbench import keys
from flashbench.errors import UsageError, did_you_mean
from flashbench.protocol.types import Protocol, Variant
from flashbench.systems.checkpoints import content_sha256

NETWORKS = {
    "flashvideo": "stage2",
    "flashvideo_release": "stage2",
    "l1": "stage2",
    "stage1": "stage1",
    "stage1_release": "stage1",
}
"""Systems that one's own weights can be given to, and which network of the cascade they are."""


def with_weights(protocol: Protocol, system: str, path: Path) -> Protocol:
    """The protocol with the row `weights=NAME`: `system` with the network in `path` (a file or a saved folder).

    NAME is the file's or folder's. Settings and size are the baseline's, or those of the first row of that system where
    the baseline is of another. The row is compared with the baseline like any other; keys and the protocol's hash hold
    the weights' sha256, never their place.

    Raises:
        UsageError: a system that takes no weights or is none of the protocol's, nothing at `path`, a row of that name.
    """
    if system not in NETWORKS:
        raise did_you_mean("system that takes weights", system, NETWORKS)
    rows = sorted(protocol.variants, key=lambda variant: variant.row != protocol.baseline)
    like = next((variant for variant in rows if variant.system.name == system), None)
    if like is None:
        raise did_you_mean(f"system with rows in {protocol.name} at {protocol.tier}:", system, _takers(protocol))
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", path.stem if path.is_file() else path.name).strip("-") or "own"
    row, recipe, sha256 = f"weights={name}", f"given-{name}", content_sha256(path)
    if row in {variant.row for variant in protocol.variants}:
        raise UsageError(f"{protocol.name} has a row {row!r} already", fix="rename the file or folder")
    made = {"kind": "given", "component": NETWORKS[system], "path": str(path.absolute()), "sha256": sha256, "needs": {}}
    own = replace(like, row=row, settings={**like.settings, "training": recipe})
    digest = keys.key("protocol", protocol=protocol.hash, row=row, system=system, weights=sha256)
    return _grown(protocol, own, {**protocol.recipes, recipe: made}, digest)


def _takers(protocol: Protocol) -> list[str]:
    return sorted({variant.system.name for variant in protocol.variants} & NETWORKS.keys())


def _grown(protocol: Protocol, own: Variant, recipes: dict[str, Any], digest: str) -> Protocol:
    """The protocol, and its cascade where it has one, with the row in front of the controls."""
    # A cascade may have no row of that system (a control): it stays without one.
    at = 1 + max((n for n, variant in enumerate(protocol.variants) if variant.system == own.system), default=-1)
    variants = (*protocol.variants[:at], own, *protocol.variants[at:]) if at else protocol.variants
    cascade = None if protocol.cascade is None else _grown(protocol.cascade, own, recipes, digest)
    return replace(protocol, variants=variants, recipes=recipes, hash=digest, cascade=cascade)
