"""FlashVideo's Stage II as a system: the low-quality clip is encoded, degraded in the latent, flows to high quality.

Stage II here has no text condition of its own kind: guidance stays at 1 (arXiv 2502.05179, section 3.3 for the flow).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from flashbench.errors import UsageError
from flashbench.systems import inputs
from flashbench.systems.base import Request, System, reference_of
from flashbench.types import Clip, Geometry, Scalar, Settings

if TYPE_CHECKING:
    from flashbench.cascade.codec import Codec
    from flashbench.cascade.transformer import Stage2Transformer


@lru_cache(maxsize=2)
def network(folder: Path) -> Stage2Transformer:
    """The trained network in `folder`, kept for the next clip of this worker."""
    from flashbench.laptop import recipes

    return recipes.load_network(folder)


@lru_cache(maxsize=1)
def codec(folder: Path) -> Codec:
    """The codec in `folder`, kept for the next clip of this worker."""
    from flashbench.laptop import recipes

    return recipes.load_codec(folder)


class FlashVideo(System):
    """Stage II by flow matching from the degraded low-quality latent, `nfe` Euler steps.

    Settings: `training` (the recipe), `nfe` (≥ 1), `degradation` (`pixel+latent`: noise is added to the latent at
    `degradation_step`; `pixel` or `none`: the flow starts from the clean latent), `degradation_step` (0–999),
    `shift` (of the time grid; 1 is uniform).
    """

    name = "flashvideo"
    version = 1
    defaults: ClassVar[Settings] = {
        "training": "wide",
        "nfe": 4,
        "degradation": "pixel+latent",
        "degradation_step": 675,
        "shift": 2.5,
    }

    def models(self, settings: Settings) -> tuple[str, ...]:
        """The recipe named by `training`, and the codec."""
        return (str(settings["training"]), "codec")

    def evaluations(self, settings: Settings) -> int:
        """One network evaluation per step."""
        return int(str(settings["nfe"]))

    def check(self, settings: Settings, geometry: Geometry) -> None:
        """Sides are multiples of 16 pixels, frames are 4n + 1, `nfe` and `degradation_step` lie in their ranges."""
        check_geometry(geometry)
        _has_latent_noise(settings["degradation"])
        for name, low, high in (("nfe", 1, 1000), ("degradation_step", 0, 999)):
            value = settings[name]
            if not isinstance(value, int) or not low <= value <= high:
                raise UsageError(f"{name} is {value!r}, not a whole number from {low} to {high}", fix=f"correct {name}")

    def make(self, request: Request) -> Clip:
        """Enhance the case's low-quality input to the trial's geometry."""
        from flashbench.laptop import recipes

        chosen = request.settings
        low = inputs.low_quality(request.case, reference_of(request), request.geometry)
        geometry = request.geometry
        size = (geometry.height, geometry.width)
        model, coder = network(request.models[str(chosen["training"])]), codec(request.models["codec"])
        shape = recipes.latent_shape(model, coder, geometry.frames, *size)
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
        )
        return Clip(frames, geometry.fps)


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


def _has_latent_noise(degradation: Scalar) -> bool:
    kinds = {"pixel+latent": True, "pixel": False, "none": False}
    if degradation not in kinds:
        raise UsageError(f"unknown degradation {degradation!r}", fix=f"use one of {', '.join(kinds)}")
    return kinds[str(degradation)]


SYSTEMS: tuple[System, ...] = (FlashVideo(),)
