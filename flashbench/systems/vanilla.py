"""The vanilla cascade as a system: Stage II by flow matching from pure noise, conditioned on the low-quality latent.

What the paper compares FlashVideo with in Figure 1 (arXiv 2502.05179): the same network, trained as long, with the
low-quality latent beside its input.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from flashbench.errors import UsageError
from flashbench.systems import inputs
from flashbench.systems.base import Request, System
from flashbench.systems.flashvideo import (
    around,
    check_geometry,
    check_shifts,
    codec,
    codec_channels,
    corrections,
    transformer_cost,
)
from flashbench.systems.registry import register
from flashbench.types import Clip, Geometry, Settings

if TYPE_CHECKING:
    from flashbench.laptop.vanilla import VanillaTransformer


@lru_cache(maxsize=1)
def network(folder: Path) -> VanillaTransformer:
    """The trained network in `folder`, kept for the next clip of this worker."""
    from flashbench.laptop import recipes

    return recipes.load_vanilla(folder)


class Vanilla(System):
    """Settings: `training` (the recipe), `nfe` (≥ 1, Euler steps), `shift` and `shifts` as in `flashvideo`."""

    name = "vanilla"
    version = 2
    defaults: ClassVar[Settings] = {"training": "vanilla", "nfe": 30, "shift": 4.0, "shifts": 1}
    added: ClassVar[Settings] = {"shifts": 1}
    kinds, component = ("vanilla", "unreleased"), "stage2"

    def models(self, settings: Settings) -> tuple[str, ...]:
        """The recipe named by `training`, and the codec."""
        return (str(settings["training"]), "codec")

    def evaluations(self, settings: Settings) -> int:
        """One network evaluation per step and shift."""
        return int(str(settings["nfe"])) * int(str(settings["shifts"]))

    def check(self, settings: Settings, geometry: Geometry) -> None:
        """Sides are multiples of 16 pixels, frames are 4n + 1, and there is a time grid of that many steps."""
        check_geometry(geometry)
        check_shifts(settings)
        if not isinstance(settings["nfe"], int) or not 1 <= settings["nfe"] <= 1000:
            raise UsageError(f"nfe is {settings['nfe']!r}, not a whole number from 1 to 1000", fix="correct nfe")

    def cost(
        self, settings: Settings, geometry: Geometry, recipes: Mapping[str, Mapping[str, Any]]
    ) -> Mapping[str, float]:
        """TFLOP of the network evaluations of one clip."""
        recipe = recipes.get(str(settings["training"]), {})
        if "layers" not in recipe:
            return {}
        channels = codec_channels(recipes)
        work = around(geometry, settings)
        return transformer_cost(recipe, work, self.evaluations(settings), guided=False, channels=channels)

    def make(self, request: Request) -> Clip:
        """Generate the clip at the trial's geometry from the case's noise and its low-quality input."""
        from flashbench.laptop import recipes

        chosen, geometry = request.settings, request.geometry
        size = (geometry.height, geometry.width)
        trained = request.models[str(chosen["training"])]
        model, coder = network(trained), codec(request.models["codec"])
        channels = model.config.in_channels // 2  # the other half is the condition
        shifts = int(str(chosen["shifts"]))
        shape = recipes.noise_shape(channels, coder, geometry.frames, *size, shifts)
        frames, _ = recipes.enhance_vanilla(
            model,
            coder,
            inputs.low(request),
            *size,
            nfe=int(str(chosen["nfe"])),
            noise=inputs.noise(request.case, "degrade", shape),
            shift=float(str(chosen["shift"])),
            corrections=corrections(trained),
            shifts=shifts,
        )
        return Clip(frames, geometry.fps)


register(Vanilla())
