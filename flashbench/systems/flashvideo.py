"""FlashVideo's Stage II as a system: the low-quality clip is encoded, degraded in the latent, flows to high quality
(arXiv 2502.05179, section 3.3).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from flashbench.errors import InvalidError, UsageError
from flashbench.laptop.settings import SHIFTS, padded
from flashbench.systems import inputs
from flashbench.systems.base import Request, System
from flashbench.systems.registry import register
from flashbench.types import Clip, Geometry, Scalar, Settings

if TYPE_CHECKING:
    import torch

    from flashbench.cascade.codec import Codec
    from flashbench.cascade.transformer import Stage2Transformer
    from flashbench.laptop.corrections import Corrections


@lru_cache(maxsize=2)
def network(folder: Path) -> Stage2Transformer:
    """The trained network in `folder`, kept for the next clip of this worker."""
    from flashbench.laptop import recipes

    return recipes.load_network(folder)


def corrections(folder: Path) -> Corrections:
    """The corrections that clips of the trained network in `folder` get."""
    from flashbench.laptop import recipes

    return recipes.load_corrections(folder)


@lru_cache(maxsize=1)
def codec(folder: Path) -> Codec:
    """The codec in `folder`, kept for the next clip of this worker."""
    from flashbench.laptop import recipes

    return recipes.load_codec(folder)


def context(request: Request) -> torch.Tensor:
    """Token states (1, L, D) of the text that the case is made from; an `InvalidError` where it has none."""
    from flashbench.laptop import text

    if request.case.prompt is None:
        fix = "set `cases.captions: true` for material, or use cases of set `prompts`"
        raise InvalidError(f"case {request.case.id} has no prompt, which this system reads", fix=fix)
    return text.encode([request.case.prompt.text])


class FlashVideo(System):
    """Stage II by flow matching from the degraded low-quality latent, `nfe` Euler steps.

    Settings: `training` (the recipe), `nfe` (≥ 1), `degradation` (`pixel+latent`: noise is added to the latent at
    `degradation_step`; `pixel` or `none`: the flow starts from the clean latent), `degradation_step` (0–999),
    `shift` (of the time grid; 1 is uniform), `prompted` (the recipe was trained with texts: the case's prompt is its
    condition), `guidance` (1: none) and `shifts` (1 or 4 places of the codec's grid, over which clips are averaged).
    """

    name = "flashvideo"
    version = 2
    defaults: ClassVar[Settings] = {
        "training": "wide",
        "nfe": 4,
        "degradation": "pixel+latent",
        "degradation_step": 675,
        "shift": 2.5,
        "prompted": False,
        "guidance": 1.0,
        "shifts": 1,
    }
    added: ClassVar[Settings] = {"prompted": False, "guidance": 1.0, "shifts": 1}
    kinds, component = ("flow", "given", "unreleased"), "stage2"

    def models(self, settings: Settings) -> tuple[str, ...]:
        """The recipe named by `training`, the codec and, where texts are read, their encoder."""
        return (str(settings["training"]), "codec", *(["text"] if settings["prompted"] else []))

    def evaluations(self, settings: Settings) -> int:
        """One network evaluation per step and shift."""
        return int(str(settings["nfe"])) * int(str(settings["shifts"]))

    def check(self, settings: Settings, geometry: Geometry) -> None:
        """Sides are multiples of 16 pixels, frames are 4n + 1, `nfe` and `degradation_step` lie in their ranges."""
        check_geometry(geometry)
        check_shifts(settings)
        _has_latent_noise(settings["degradation"])
        for name, low, high in (("nfe", 1, 1000), ("degradation_step", 0, 999)):
            value = settings[name]
            if not isinstance(value, int) or not low <= value <= high:
                raise UsageError(f"{name} is {value!r}, not a whole number from {low} to {high}", fix=f"correct {name}")
        if settings["guidance"] != 1 and not settings["prompted"]:
            raise UsageError(
                "guidance without a prompt", fix="name a recipe trained with texts, and set prompted: true"
            )

    def cost(
        self, settings: Settings, geometry: Geometry, recipes: Mapping[str, Mapping[str, Any]]
    ) -> Mapping[str, float]:
        """TFLOP of its evaluations, where the network is a recipe's."""
        recipe = recipes.get(str(settings["training"]), {})
        guided, channels = settings["guidance"] != 1, codec_channels(recipes)
        work = around(geometry, settings)
        return transformer_cost(recipe, work, self.evaluations(settings), guided=guided, channels=channels)

    def make(self, request: Request) -> Clip:
        """Enhance the case's low-quality input to the trial's geometry."""
        from flashbench.laptop import recipes

        chosen, geometry = request.settings, request.geometry
        low, size = inputs.low(request), (geometry.height, geometry.width)
        trained = request.models[str(chosen["training"])]
        model, coder = network(trained), codec(request.models["codec"])
        shifts = int(str(chosen["shifts"]))
        shape = recipes.noise_shape(model.config.in_channels, coder, geometry.frames, *size, shifts)
        latent = _has_latent_noise(chosen["degradation"])
        frames, _ = recipes.enhance(
            model,
            coder,
            low,
            *size,
            nfe=int(str(chosen["nfe"])),
            degradation_step=int(str(chosen["degradation_step"])) if latent else None,
            noise=inputs.noise(request.case, "degrade", shape) if latent else None,
            shift=float(str(chosen["shift"])),
            guidance=float(str(chosen["guidance"])),
            context=context(request) if chosen["prompted"] else None,
            corrections=corrections(trained),
            shifts=shifts,
        )
        return Clip(frames, geometry.fps)


def check_shifts(settings: Settings) -> None:
    """Refuse a number of shifts that has no places."""
    if settings["shifts"] not in tuple(SHIFTS):
        raise UsageError(f"shifts is {settings['shifts']!r}", fix=f"use one of {', '.join(map(str, SHIFTS))}")


def around(geometry: Geometry, settings: Settings) -> Geometry:
    """The size at which the network works, larger where clips are shifted."""
    height, width = (padded(side, int(str(settings["shifts"])), 8) for side in (geometry.height, geometry.width))
    return replace(geometry, height=height, width=width)


def check_geometry(geometry: Geometry) -> None:
    """Refuse sides that are no multiple of 16 pixels (8 of the codec times a patch of 2), and frames not 4n + 1."""
    if (geometry.frames - 1) % 4:
        fix = f"use {geometry.frames // 4 * 4 + 1}"
        raise UsageError(f"cannot generate {geometry.frames} frames: the codec's clips have 4n + 1", fix=fix)
    for side in (geometry.height, geometry.width):
        if side <= 0 or side % 16:
            raise UsageError(
                f"cannot generate {geometry.height}x{geometry.width}: sides must be multiples of 16",
                fix=f"use {max(16, round(side / 16) * 16)} for {side}; the low-quality input may have any size",
            )


def transformer_cost(
    recipe: Mapping[str, Any], geometry: Geometry, evaluations: int, *, guided: bool, channels: int = 0
) -> Mapping[str, float]:
    """TFLOP of `evaluations` of a recipe's network on a clip of the geometry; nothing of one whose form it lacks.

    `channels` are the codec's, which a convolution path reads and writes (the vanilla cascade reads twice as many).
    """
    from flashbench.cascade.flops import Architecture, Stage

    if "layers" not in recipe:
        return {}

    text = 20 if recipe.get("text") or recipe["kind"] == "stage1" else 1
    network = Architecture("network", int(recipe["layers"]), 64 * int(recipe["heads"]), 0, text_tokens=text)
    stage = Stage(network, (geometry.height, geometry.width), geometry.frames, evaluations, guided)
    path = int(recipe.get("convolution", 0))
    ends = channels * (3 if recipe["kind"] == "vanilla" else 2)
    places = (1 + geometry.frames // 4) * geometry.height * geometry.width // 64
    convolution = stage.forwards * places * 2 * path * (9 * (ends + path) + 3 * path)
    return {"tflop": (stage.linear + stage.attention + convolution) / 1e12}


def codec_channels(recipes: Mapping[str, Mapping[str, Any]]) -> int:
    """Channels of the tier's codec; 0 of a tier without one."""
    return int(recipes.get("codec", {}).get("channels", 0))


def _has_latent_noise(degradation: Scalar) -> bool:
    kinds = {"pixel+latent": True, "pixel": False, "none": False}
    if degradation not in kinds:
        raise UsageError(f"unknown degradation {degradation!r}", fix=f"use one of {', '.join(kinds)}")
    return kinds[str(degradation)]


register(FlashVideo())
