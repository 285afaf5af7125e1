"""Controls: rows of known quality beside the measured systems, so that a metric can be seen to mislead.

`original` and `codec` bound what is reachable; `bicubic` is the floor; `unsharp` and `noise` raise no-reference
scores without adding anything true; `l1` is the same network trained to regress.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import cv2
import numpy as np

from flashbench.systems import inputs
from flashbench.systems.base import Request, System, reference_of
from flashbench.systems.flashvideo import (
    around,
    check_geometry,
    check_shifts,
    codec,
    codec_channels,
    corrections,
    network,
    transformer_cost,
)
from flashbench.systems.registry import register
from flashbench.types import Clip, Frames, Geometry, Settings

PATTERNS = 1000
"""Clip `index` of procedural source n is pattern n + PATTERNS · index."""


def _number(settings: Settings, name: str) -> float:
    return float(str(settings[name]))


def _to_uint8(frames: np.ndarray) -> Frames:
    return np.clip(np.rint(frames), 0, 255).astype(np.uint8)


def _bicubic(request: Request) -> Frames:
    geometry = request.geometry
    low = inputs.low(request)
    size = (geometry.width, geometry.height)
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC) for frame in low])


class Original(System):
    """The case's own clip: a crop of the source, which is never enlarged, a captioned scene or a procedural clip."""

    name = "original"
    version = 2

    def make(self, request: Request) -> Clip:
        """Cut the case's clip out of its source, or draw it."""
        from flashbench.data import material, scenes, synthetic
        from flashbench.data.scene_clips import scene_clip

        case, geometry = request.case, request.geometry
        size = (geometry.frames, geometry.height, geometry.width)
        source, _, number = case.id.rpartition("/")
        index = int(number)
        if case.kind == "material":
            return Clip(material.case_clip(source, index, *size).frames, geometry.fps)
        place = int(source.partition("-")[2])
        if case.kind == "scenes":
            return Clip(scene_clip(scenes.SCENES[place], index, *size), geometry.fps)
        return Clip(synthetic.synthetic_clip(*size, place + PATTERNS * index), geometry.fps)


class CodecOracle(System):
    """The original through the codec and back: the best that anything in this latent can do."""

    name = "codec"
    version = 1

    def models(self, settings: Settings) -> tuple[str, ...]:
        """The recipe of the codec."""
        return ("codec",)

    def make(self, request: Request) -> Clip:
        """Encode and decode the original clip."""
        from flashbench.laptop import recipes

        frames = recipes.reconstruct(codec(request.models["codec"]), reference_of(request).frames)
        return Clip(frames, request.geometry.fps)


class Bicubic(System):
    """The low-quality input enlarged by a bicubic kernel (OpenCV, a = −0.75)."""

    name = "bicubic"
    version = 1

    def make(self, request: Request) -> Clip:
        """Enlarge the low-quality input."""
        return Clip(_bicubic(request), request.geometry.fps)


class BackProjected(System):
    """Bicubic and one back-projection, the correction that trained recipes may have: what it gives by itself."""

    name = "bicubic_back_projection"
    version = 1

    def make(self, request: Request) -> Clip:
        """Enlarge the low-quality input, and add the enlarged difference that is left when it is made small again."""
        from flashbench.cascade.codec import to_frames, to_tensor
        from flashbench.laptop.corrections import back_project

        frames = back_project(to_tensor(_bicubic(request)), to_tensor(inputs.low(request)))
        return Clip(to_frames(frames), request.geometry.fps)


class Unsharp(System):
    """Bicubic with unsharp masking: x + amount · (x − Gaussian(x, sigma))."""

    name = "unsharp"
    version = 1
    defaults: ClassVar[Settings] = {"amount": 1.5, "sigma": 1.5}

    def make(self, request: Request) -> Clip:
        """Enlarge the low-quality input and sharpen it."""
        amount, sigma = (_number(request.settings, name) for name in ("amount", "sigma"))
        frames = [frame.astype(np.float64) for frame in _bicubic(request)]
        sharp = [frame + amount * (frame - cv2.GaussianBlur(frame, (0, 0), sigma)) for frame in frames]
        return Clip(_to_uint8(np.stack(sharp)), request.geometry.fps)


class Noise(System):
    """Bicubic with white Gaussian noise: detail that is none."""

    name = "noise"
    version = 1
    defaults: ClassVar[Settings] = {"sigma": 6.0}
    """Standard deviation in 8-bit levels."""

    def make(self, request: Request) -> Clip:
        """Enlarge the low-quality input and add noise of the case's own stream."""
        frames = _bicubic(request)
        added = inputs.noise(request.case, "control", frames.shape).numpy() * _number(request.settings, "sigma")
        return Clip(_to_uint8(frames + added), request.geometry.fps)


class Regression(System):
    """The Stage II network trained by L1 to regress the original's latent in one evaluation."""

    name = "l1"
    version = 2
    defaults: ClassVar[Settings] = {"training": "l1", "shifts": 1}
    added: ClassVar[Settings] = {"shifts": 1}
    kinds, component = ("regression", "given", "unreleased"), "stage2"

    def models(self, settings: Settings) -> tuple[str, ...]:
        """The recipe named by `training`, and the codec."""
        return (str(settings["training"]), "codec")

    def evaluations(self, settings: Settings) -> int:
        """One network evaluation for each shift."""
        return int(str(settings["shifts"]))

    def check(self, settings: Settings, geometry: Geometry) -> None:
        """Sides are multiples of 16 pixels, frames are 4n + 1."""
        check_geometry(geometry)
        check_shifts(settings)

    def cost(
        self, settings: Settings, geometry: Geometry, recipes: Mapping[str, Mapping[str, Any]]
    ) -> Mapping[str, float]:
        """TFLOP of the pass, where the network is a recipe's."""
        recipe, channels = recipes[str(settings["training"])], codec_channels(recipes)
        evaluations = self.evaluations(settings)
        return transformer_cost(recipe, around(geometry, settings), evaluations, guided=False, channels=channels)

    def make(self, request: Request) -> Clip:
        """Enhance the low-quality input in one pass of the network."""
        from flashbench.laptop import recipes

        geometry = request.geometry
        low, size = inputs.low(request), (geometry.height, geometry.width)
        trained = request.models[str(request.settings["training"])]
        coder, shifts = codec(request.models["codec"]), self.evaluations(request.settings)
        frames, _ = recipes.regress(
            network(trained), coder, low, *size, corrections=corrections(trained), shifts=shifts
        )
        return Clip(frames, geometry.fps)


register(Original(), CodecOracle(), Bicubic(), BackProjected(), Unsharp(), Noise(), Regression())
