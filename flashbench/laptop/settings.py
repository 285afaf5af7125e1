"""Settings of recipes: their kinds, names and defaults. Imports no torch, because keys and protocols read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from flashbench.errors import UsageError, did_you_mean
from flashbench.types import Scalar

VERSION = 2
"""Grows whenever the same settings would train other numbers."""
FOREIGN = ("official", "given", "unreleased")
"""Kinds whose weights nobody trains here: released ones, one's own, and those that were never released (`why`)."""
KINDS = ("codec", "pool", "labels", "flow", "regression", "vanilla", "text", "scenes", "stage1", "tuned", *FOREIGN)
RELEASED = (*FOREIGN, "tuned")
"""Kinds whose networks are of the released classes: theirs, or what goes on from them."""
TEXT_ENCODER = ("minilm/config", "minilm/model", "minilm/tokenizer")
"""Assets of the text encoder."""
SHIFTS = {1: ((0, 0),), 4: ((0, 0), (1, 1), (0, 1), (1, 0))}
"""Number of shifts to the places of the codec's grid, down and right, in halves of a block."""
Value: TypeAlias = Scalar | list[Any] | dict[str, Any]

_CONTRAST: dict[str, Value] = {"contrast": 18.0}
"""Of the textures of scenes (`data.scene_clips`)."""
_MATERIAL: dict[str, Value] = {"material": "sources", "clips": 400, "frames": 9, "size": 192, "seed": 0, **_CONTRAST}
_LATER: dict[str, Value] = {
    "warmup": 10,
    "cosine_from": 0.5,
    "loss_units": "latent",
    "convolution": 0,
    "codec_residual": False,
    "back_projection": False,
}
"""What networks of Stage II got later: schedule, loss, the convolution path's width, and corrections of their clips."""
DEFAULTS: dict[str, dict[str, Value]] = {
    "codec": _MATERIAL | {"clips": 150, "channels": 128, "latent_scale": 12.0, "blocks": 512},
    "pool": _MATERIAL | {"scale": 4, "low": {}},
    "labels": _MATERIAL | {"score": "niqe"},
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
        "positions": "rope",
        "text": False,
        "best": 1.0,
        **_LATER,
    },
}
DEFAULTS["regression"] = {
    name: value
    for name, value in DEFAULTS["flow"].items()
    if name not in ("degradation_low", "degradation_high", "time_shift", "positions", "text", "best")
} | {"degradation": "pixel", "steps": 200}
DEFAULTS["vanilla"] = DEFAULTS["regression"] | {"steps": 400, "time_shift": 2.5, "noise_scale": 1.0}
DEFAULTS["text"] = {"encoder": "minilm"}
DEFAULTS["scenes"] = {"clips": 1080, "frames": 5, "size": 64, **_CONTRAST}
DEFAULTS["stage1"] = {
    "heads": 3,
    "layers": 6,
    "time_embed_dim": 128,
    "steps": 1200,
    "batch": 16,
    "learning_rate": 2e-3,
    "ema": 0.99,
    "adaptation": "full",
    "rank": 16,
    "alpha": 16.0,
    "seed": 0,
}
DEFAULTS["tuned"] = {
    "component": "stage2",
    "objective": "flow",
    "adaptation": "full",
    "rank": 128,
    "alpha": 1.0,
    "phases": [],
    "learning_rate": 4e-5,
    "ema": 0.0,
    "positions": "rope",
    "seed": 0,
    "why": "",
}
DEFAULTS["official"] = {"component": "stage2"}
DEFAULTS["given"] = {"component": "stage2", "path": "", "sha256": ""}
DEFAULTS["unreleased"] = {"component": "stage2", "why": ""}
"""Every setting of every kind, with its default."""
ADDED: dict[str, dict[str, Value]] = {
    "flow": {"positions": "rope", "text": False, "best": 1.0, **_LATER},
    "regression": _LATER,
    "vanilla": _LATER,
    "codec": _CONTRAST,
    "pool": {"low": {}, **_CONTRAST},
    "labels": _CONTRAST,
    "scenes": _CONTRAST,
}
"""Settings that a kind got later, with the values at which it trains what it trained before: in no key at these."""


def padded(side: int, shifts: int, block: int) -> int:
    """The side in pixels of what `corrections.over_shifts` hands on, for frames of `side`."""
    return side if shifts == 1 else side + 2 * block


def resolve(settings: Mapping[str, Value]) -> tuple[str, dict[str, Value]]:
    """(kind, all its settings): the defaults with `settings` on top; UsageError for an unknown kind or setting."""
    kind = str(settings.get("kind"))
    if kind not in KINDS:
        raise did_you_mean("kind of recipe", kind, KINDS)
    changes = {name: value for name, value in settings.items() if name != "kind"}
    for name in changes:
        if name not in DEFAULTS[kind]:
            raise did_you_mean(f"setting of a {kind} recipe", name, DEFAULTS[kind])
        expected = type(DEFAULTS[kind][name])
        if not isinstance(changes[name], (int, float) if expected is float else expected):
            fix = f"give a value like {DEFAULTS[kind][name]!r}"
            raise UsageError(
                f"{name} of a {kind} recipe is {changes[name]!r}, not of type {expected.__name__}", fix=fix
            )
    return kind, DEFAULTS[kind] | changes


def identity(settings: Mapping[str, Value]) -> tuple[str, dict[str, Value]]:
    """What of a recipe's settings enters keys: all of them, without those of `ADDED` at their first values.

    Where weights of one's own lie (`path`) does not: their sha256 does.
    """
    kind, resolved = resolve(settings)
    added = ADDED.get(kind, {})
    resolved.pop("path", None)
    return kind, {name: v for name, v in resolved.items() if name not in added or v != added[name]}
