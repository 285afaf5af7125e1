"""Settings of recipes: their kinds, names and defaults. Imports no torch, because keys and protocols read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from flashbench.errors import UsageError, did_you_mean
from flashbench.types import Scalar

VERSION = 1
"""Grows whenever the same settings would train other numbers."""
KINDS = ("codec", "pool", "flow", "regression")
Value: TypeAlias = Scalar | list[Any]

_MATERIAL: dict[str, Value] = {"material": "sources", "clips": 400, "frames": 9, "size": 192, "seed": 0}
DEFAULTS: dict[str, dict[str, Value]] = {
    "codec": _MATERIAL | {"clips": 150, "channels": 128, "latent_scale": 12.0, "blocks": 512},
    "pool": _MATERIAL | {"scale": 4},
    "flow": {
        "degradation": "pixel+latent",
        "degradation_low": 300,
        "degradation_high": 900,
        "heads": 3,
        "layers": 6,
        "time_embed_dim": 128,
        "local_gain": True,
        "steps": 400,
        "batch": 4,
        "crop": 128,
        "learning_rate": 3e-3,
        "time_shift": 2.5,
        "ema": 0.99,
        "seed": 0,
    },
}
DEFAULTS["regression"] = {
    name: value
    for name, value in DEFAULTS["flow"].items()
    if name not in ("degradation_low", "degradation_high", "time_shift")
} | {"degradation": "pixel", "steps": 200}
"""Every setting of every kind, with its default."""


def resolve(settings: Mapping[str, Value]) -> tuple[str, dict[str, Value]]:
    """(kind, all its settings): the defaults with `settings` on top; UsageError for an unknown kind or setting."""
    kind = str(settings.get("kind"))
    if kind not in KINDS:
        raise did_you_mean("kind of recipe", kind, KINDS)
    given = {name: value for name, value in settings.items() if name != "kind"}
    for name in given:
        if name not in DEFAULTS[kind]:
            raise did_you_mean(f"setting of a {kind} recipe", name, DEFAULTS[kind])
        wanted = type(DEFAULTS[kind][name])
        if not isinstance(given[name], (int, float) if wanted is float else wanted):
            fix = f"give a value like {DEFAULTS[kind][name]!r}"
            raise UsageError(f"{name} of a {kind} recipe is {given[name]!r}, not of type {wanted.__name__}", fix=fix)
    return kind, DEFAULTS[kind] | given
