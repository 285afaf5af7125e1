"""Settings of a training as data: a curriculum of phases, the optimiser, and the paper's values of both."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeAlias, get_args

import torch

from flashbench.cascade.degrade import STEPS
from flashbench.errors import UsageError, did_you_mean

Degradation: TypeAlias = Literal["none", "pixel", "pixel+latent"]
Objective: TypeAlias = Literal["flow", "l1", "v"]
Adaptation: TypeAlias = Literal["full", "lora"]


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One part of a curriculum. Size, frames, images and the pixel degradation are orders to the source of data.

    Raises UsageError for values of another type or out of range.
    """

    name: str
    steps: int
    batch: int = 4
    """Samples of an optimiser step, over all processes."""
    degradation: Degradation = "pixel+latent"
    """Of the low-quality side. The source degrades pixels, the flow objective the latent; `v` reads neither."""
    degradation_steps: tuple[int, int] = (600, 900)
    """Range of the latent degradation's step, both ends included."""
    size: tuple[int, int] | None = None
    """Height and width in pixels, multiples of 16; None leaves it to the source."""
    frames: int | None = None
    """Frames of a video, 4n + 1; None leaves it to the source."""
    images: float = 0.0
    """Share of batches that are single images, the rest being videos."""
    aug_probability: float = 0.5
    """Share of clips that get DEG_pixel where `degradation` asks for it; the others are only made small and large."""

    def __post_init__(self) -> None:
        where = f"of phase {self.name!r}"
        _check_types(self, where)
        _among("degradation", self.degradation, Degradation)
        _require(self.steps >= 0, f"steps {where} is {self.steps}", "give 0 or more")
        _require(self.batch >= 1, f"batch {where} is {self.batch}", "give 1 or more")
        low, high = self.degradation_steps
        fix = f"give two steps in 0 to {STEPS - 1}, the lower one first; the paper trains on 600 to 900"
        _require(0 <= low <= high < STEPS, f"degradation_steps {where} is {low} to {high}", fix)
        for name in ("images", "aug_probability"):
            value = getattr(self, name)
            _require(0 <= value <= 1, f"{name} {where} is {value}", "give a share in 0 to 1")
        if self.size is not None:
            right = all(side > 0 and side % 16 == 0 for side in self.size)
            _require(right, f"size {where} is {self.size}", "give height and width as multiples of 16")
        if self.frames is not None:
            right = self.frames > 0 and self.frames % 4 == 1
            _require(right, f"frames {where} is {self.frames}", "give 4n + 1 frames, such as 49")


@dataclass(frozen=True, kw_only=True)
class Training:
    """Settings of one training: phases after each other, one optimiser over all of them.

    Raises UsageError for values of another type or out of range.
    """

    phases: tuple[Phase, ...]
    """Given as a tuple or list of them, or one alone; a phase may be a mapping of its fields, as from JSON or YAML."""
    objective: Objective = "flow"
    """`flow` and its comparison `l1` train Stage II, `v` Stage I."""
    adaptation: Adaptation = "full"
    """All weights, or low-rank adapters of attention and adaLN (`lora`, Hu et al. 2021, arXiv 2106.09685)."""
    rank: int = 128
    alpha: float = 1.0
    """The adapters' product is scaled by alpha / rank."""
    time_shift: float = 1.0
    """Flow times are uniform ones sent through the sampler's shift; more than 1 spends more of them near t = 0."""
    channel_power: tuple[float, ...] = ()
    """Weight of each latent channel's squared error in the losses of Stage II, in any common unit, such as its power in
    pixels; empty: by what a preconditioned network itself misses (`flow_loss`, `l1_loss`)."""
    text_dropout: float = 0.1
    """Share of contexts that are replaced by the unconditional one, zeros."""
    learning_rate: float = 1.5e-3
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 1e-4
    clip: float = 1.0
    """Largest norm of the gradient."""
    warmup: int = 10
    cosine_from: float = 0.5
    """Share of the steps after which the learning rate falls to `floor` of itself along a cosine."""
    floor: float = 0.05
    """1 keeps the learning rate constant."""
    ema: float = 0.99
    """Decay of the moving average of the weights, which the network is left with; 0 keeps none."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them: the same gradients, less memory."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "phases", _phases(self.phases))
        _check_types(self, "of the training")
        _among("objective", self.objective, Objective)
        _among("adaptation", self.adaptation, Adaptation)
        _require(bool(self.phases), "a training without phases", "give at least one Phase")
        for name in ("learning_rate", "clip", "rank", "alpha", "time_shift"):
            value = getattr(self, name)
            _require(value > 0, f"{name} is {value}", "give a positive number")
        for name in ("text_dropout", "cosine_from", "floor"):
            value = getattr(self, name)
            _require(0 <= value <= 1, f"{name} is {value}", "give a share in 0 to 1")
        for name, value in (("ema", self.ema), ("beta 1", self.betas[0]), ("beta 2", self.betas[1])):
            _require(0 <= value < 1, f"{name} is {value}", "give a decay in 0 to 1, 1 excluded")
        positive = all(value > 0 for value in self.channel_power)
        _require(positive, "channel_power holds 0 or less", "give positive weights")
        unread = bool(self.channel_power) and self.objective == "v"
        _require(not unread, "channel_power for objective v", "leave it to the objectives of Stage II")
        for name in ("weight_decay", "warmup"):
            value = getattr(self, name)
            _require(value >= 0, f"{name} is {value}", "give 0 or more")

    @property
    def steps(self) -> int:
        """Optimiser steps of all phases."""
        return sum(phase.steps for phase in self.phases)

    def phase(self, step: int) -> Phase:
        """The phase of step 0, 1, ... below `steps`."""
        end = 0
        for phase in self.phases:
            end += phase.steps
            if step < end:
                return phase
        raise UsageError(f"step {step} is beyond the {self.steps} steps of the training", fix="ask for an earlier one")


def learning_rate(settings: Training, step: int) -> float:
    """Rate of step 0, 1, ...: a linear warm-up, then constant, then a cosine down to `floor`."""
    rise = min(1.0, (step + 1) / max(1, settings.warmup))
    start = settings.cosine_from * settings.steps
    place = max(0.0, (step - start) / max(1.0, settings.steps - start))
    fall = settings.floor + (1 - settings.floor) * 0.5 * (1 + math.cos(math.pi * place))
    return settings.learning_rate * rise * fall


def generator(seed: int, purpose: str, step: int) -> torch.Generator:
    """A CPU generator that depends on nothing but its arguments."""
    digest = hashlib.sha256(f"{seed}|{purpose}|{step}".encode()).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _require(right: bool, what: str, fix: str) -> None:
    if not right:
        raise UsageError(what, fix=fix)


def _among(noun: str, value: object, literal: object) -> None:
    if value not in get_args(literal):
        raise did_you_mean(noun, str(value), get_args(literal))


def _phases(phases: Any) -> tuple[Phase, ...]:
    fix = "give Phases in a tuple or list, or mappings of their fields"
    if isinstance(phases, Phase | Mapping):
        phases = (phases,)
    _require(isinstance(phases, tuple | list), f"phases is {phases!r}", fix)
    names = {field.name for field in fields(Phase)}
    for phase in (item for item in phases if not isinstance(item, Phase)):
        _require(isinstance(phase, Mapping), f"a phase is {phase!r}", fix)
        for name in phase:
            if name not in names:
                raise did_you_mean("setting of a phase", str(name), names)
        _require({"name", "steps"} <= phase.keys(), f"a phase is {dict(phase)}", "give it a name and steps")
    return tuple(item if isinstance(item, Phase) else Phase(**item) for item in phases)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _two(value: object, right: Callable[[object], bool]) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(map(right, value))


_TYPES: dict[str, tuple[str, Callable[[object], bool]]] = {
    "str": ("a text", lambda value: isinstance(value, str)),
    "bool": ("True or False", lambda value: isinstance(value, bool)),
    "int": ("a whole number", _whole),
    "float": ("a number", _number),
    "tuple[int, int]": ("two whole numbers", lambda value: _two(value, _whole)),
    "tuple[float, float]": ("two numbers", lambda value: _two(value, _number)),
    "tuple[float, ...]": ("numbers", lambda value: isinstance(value, tuple) and all(map(_number, value))),
}
"""Annotation of a field to what it takes, in words and as a check."""


def _check_types(settings: Phase | Training, where: str) -> None:
    """UsageError for a value that is not of its field's type; the lists of JSON and YAML become tuples."""
    for field in fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, list):
            value = tuple(value)
            object.__setattr__(settings, field.name, value)
        annotation, _, optional = str(field.type).partition(" | ")
        if annotation in _TYPES and not (optional and value is None):
            words, right = _TYPES[annotation]
            what = f"{field.name} {where} is {value!r}"
            _require(right(value), what, f"give {words}{', or None' if optional else ''}")


PAPER_STAGE1_LORA = Training(
    objective="v",
    adaptation="lora",
    # "270p" is 256x480 in the released configuration. Stage I reads no low-quality side.
    phases=(Phase(name="270p video", steps=50_000, batch=32, degradation="none", size=(256, 480), frames=49),),
    learning_rate=4e-5,
    betas=(0.9, 0.95),
    weight_decay=1e-4,
    clip=0.1,
    # Unknown for Stage I: the schedule (for Stage II the authors say constant), a warm-up, a moving average of the
    # weights, and the text dropout (0.1 in the authors' training sketch for Stage II, and the default here).
    warmup=0,
    floor=1.0,
    ema=0.0,
    gradient_checkpointing=True,
)
"""Stage I from CogVideoX-5B with adapters (arXiv 2502.05179 v4; rank 128 and alpha 1 as in the release)."""

PAPER_STAGE1_FULL = replace(PAPER_STAGE1_LORA, adaptation="full")
"""The full fine-tuning of Table 4. Whether its settings were those of the adapters is unknown."""

# 540p is no multiple of 16, and 528x960 is what the release's rounding makes of 540x960; it makes 1072 of 1080. Images
# are random crops of 2048x2048 pictures. Unknown: whether images:videos 1:2 counts samples or batches (batches here),
# the frames of the videos (49 as in the release), a range of steps of its own that single images may have had, the
# size, frames and steps of the preference phase (those of the phase before), DEG_pixel's parameters and its share of
# clips (0.5 in the authors' sketch), shifted times in training (an option of the sketch), a moving average.
_LARGE = Phase(name="1080p video, 600-900", steps=1_000, batch=64, size=(1072, 1920), frames=49)
PAPER_STAGE2 = replace(
    PAPER_STAGE1_FULL,
    objective="flow",
    phases=(
        Phase(name="540p images", steps=25_000, batch=64, size=(528, 960), frames=1, images=1.0),
        Phase(name="540p images and videos", steps=30_000, batch=64, size=(528, 960), frames=49, images=1 / 3),
        _LARGE,
        replace(_LARGE, name="1080p video, 650-750", steps=4_000, degradation_steps=(650, 750)),
        replace(_LARGE, name="preference", steps=700, degradation_steps=(650, 750)),
    ),
)
"""Stage II from scratch (arXiv 2502.05179 v4; a constant rate by the answer to issue 18 of the official repository)."""
