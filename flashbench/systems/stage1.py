"""FlashVideo's Stage I as a system: a prompt becomes a small clip, by v-prediction in `steps` evaluations
(arXiv 2502.05179, section 3.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from flashbench.errors import UsageError
from flashbench.systems import inputs
from flashbench.systems.base import Request, System
from flashbench.systems.flashvideo import check_geometry, codec, context, transformer_cost
from flashbench.systems.registry import register
from flashbench.types import Clip, Geometry, Settings


class Stage1(System):
    """Text to video at the size of the request's geometry.

    Settings: `training` (the recipe), `steps` (network evaluations, at least 2), `guidance` (the amplitude of the
    dynamic guidance; 0: none).
    """

    name = "stage1"
    version = 1
    defaults: ClassVar[Settings] = {"training": "stage1", "steps": 50, "guidance": 8.0}
    kinds, component = ("stage1", "given", "unreleased"), "stage1"
    enhances = False

    def models(self, settings: Settings) -> tuple[str, ...]:
        """The recipe named by `training`, Stage I's codec and the text encoder."""
        return (str(settings["training"]), "stage1_codec", "text")

    def evaluations(self, settings: Settings) -> int:
        """One network evaluation per step: both halves of the guidance are one batch."""
        return int(str(settings["steps"]))

    def check(self, settings: Settings, geometry: Geometry) -> None:
        """Sides are multiples of 16 pixels, frames are 4n + 1, at least two steps."""
        check_geometry(geometry)
        if not isinstance(settings["steps"], int) or settings["steps"] < 2:
            raise UsageError(f"steps is {settings['steps']!r}, not a whole number from 2", fix="the paper uses 50")

    def cost(
        self, settings: Settings, geometry: Geometry, recipes: Mapping[str, Mapping[str, Any]]
    ) -> Mapping[str, float]:
        """TFLOP of its evaluations, where the network is a recipe's."""
        recipe, guided = recipes[str(settings["training"])], settings["guidance"] != 0
        return transformer_cost(recipe, geometry, self.evaluations(settings), guided=guided)

    def make(self, request: Request) -> Clip:
        """Generate a clip from the case's prompt and noise."""
        from flashbench.cascade.codec import latent_shape
        from flashbench.laptop import stage1

        geometry, chosen = request.geometry, request.settings
        steps = self.evaluations(chosen)
        model = stage1.load_network(request.models[str(chosen["training"])])
        coder = codec(request.models["stage1_codec"])
        shape = latent_shape(model.config.in_channels, coder.stride, geometry.frames, geometry.height, geometry.width)
        frames, _ = stage1.generate_clip(
            model,
            coder,
            context(request),
            steps=steps,
            guidance=float(str(chosen["guidance"])),
            noise=inputs.noise(request.case, "stage1", shape),
            step_noise=inputs.noises(request.case, "stage1_step", shape, steps - 1),
        )
        return Clip(frames, geometry.fps)


register(Stage1())
