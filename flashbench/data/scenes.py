"""Captioned scenes of the laptop tier: one object of a colour and a shape that moves over a background.

What a scene asks for can be read back from pixels exactly (`metrics.attributes`), which VBench's detectors cannot do
here: the laptop's prompts stand in for its semantic dimensions. A quarter of all combinations is held out of training.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

Colour = tuple[int, int, int]
"""RGB, 0 to 255."""

VERSION = 2
"""Of everything below that changes a scene or its captions, and of what changes its clips (`scene_clips`)."""
COLORS: Mapping[str, Colour] = MappingProxyType({
    "red": (220, 30, 30), "yellow": (240, 215, 30), "green": (30, 200, 60), "blue": (35, 60, 225),
    "purple": (170, 40, 210), "white": (250, 250, 250),
})  # fmt: skip
SHAPES = ("circle", "square", "triangle")
MOTIONS: Mapping[str, tuple[int, int]] = MappingProxyType({
    "left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1),
})  # fmt: skip
"""Direction in which the object goes: x to the right, y down."""
BACKGROUNDS: Mapping[str, tuple[str, Colour]] = MappingProxyType({
    "brick": ("brick", (150, 100, 80)), "grass": ("grass", (90, 115, 60)), "gravel": ("gravel", (110, 110, 115)),
    "frost": ("frost-ferns", (80, 110, 140)),
})  # fmt: skip
"""Name to the photograph of the material whose texture it is, and the mean colour that it is tinted to."""
RADIUS = 0.21
"""Of the circle, in heights of the clip; the other shapes have about its area."""
SPAN = 0.2
"""Length of the object's way, in heights of the clip: what moves faster smears in blocks of four frames."""

_WHERE = {
    "brick": "in front of a brick wall", "grass": "over green grass", "gravel": "across grey gravel",
    "frost": "before a frosted window",
}  # fmt: skip
_TOWARDS = {"left": "to the left", "right": "to the right", "up": "upwards", "down": "downwards"}
TEMPLATES = (
    "a {color} {shape} moves {motion} {where}",
    "{where}, a {color} {shape} drifts {motion}",
    "one {color} {shape} is moving {motion} {where}",
)


@dataclass(frozen=True, order=True)
class Scene:
    """The colour, shape, motion and background of the object that a caption describes."""

    color: str
    shape: str
    motion: str
    background: str


SCENES = tuple(itertools.starmap(Scene, itertools.product(COLORS, SHAPES, MOTIONS, BACKGROUNDS)))
"""All 288 combinations."""


def caption(scene: Scene, template: int) -> str:
    """The scene in words, in one of the `TEMPLATES`."""
    return TEMPLATES[template].format(
        color=scene.color, shape=scene.shape, motion=_TOWARDS[scene.motion], where=_WHERE[scene.background]
    )


def parse(text: str) -> Scene | None:
    """The scene of a caption; None for any other text."""
    return _known().get(text)


@cache
def _known() -> dict[str, Scene]:
    return {caption(scene, number): scene for scene in SCENES for number in range(len(TEMPLATES))}


def held_out(scene: Scene) -> bool:
    """Whether the combination is kept from training: a quarter, while every pair of two values is seen in training.

    The rule, over places in the lists: colour + 2 shape + motion + 3 background = 0 (mod 4).
    """
    color, shape = list(COLORS).index(scene.color), SHAPES.index(scene.shape)
    motion, background = list(MOTIONS).index(scene.motion), list(BACKGROUNDS).index(scene.background)
    return (color + 2 * shape + motion + 3 * background) % 4 == 0


def captions(split: str) -> tuple[str, ...]:
    """Captions of held-out scenes, each scene once: `test` 48 of them, `dev` the other 24."""
    scenes = [scene for scene in SCENES if held_out(scene)]
    # Both splits have every shape, motion and pair of the two, and every template, equally often.
    chosen = [(at, scene) for at, scene in enumerate(scenes) if ((at + at // 12) % 3 == 0) == (split == "dev")]
    return tuple(caption(scene, (at // 3) % len(TEMPLATES)) for at, scene in chosen)
