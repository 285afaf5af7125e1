"""What variants of a protocol share: the noise of a case and its low-quality input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flashbench.draws import philox
from flashbench.systems.base import Request, reference_of
from flashbench.types import Case, Clip, Frames, Geometry

if TYPE_CHECKING:
    import torch

NOISE_PURPOSES = ("stage1", "stage1_step", "posterior", "degrade", "degrade_pixel", "control")


def generator(case: Case, purpose: str) -> np.random.Generator:
    """Draws of a purpose of a case, from `draws.philox` of "case.id|seed|purpose"."""
    if purpose not in NOISE_PURPOSES:
        raise ValueError(f"noise has no purpose {purpose!r}; known: {', '.join(NOISE_PURPOSES)}")
    return philox(case.id, case.seed, purpose)


def noise(case: Case, purpose: str, shape: Sequence[int]) -> torch.Tensor:
    """Standard normal noise, float32 on the CPU: the same for every variant that answers the case."""
    return noises(case, purpose, shape, 1)[0]


def noises(case: Case, purpose: str, shape: Sequence[int], count: int) -> list[torch.Tensor]:
    """The first `count` noises of a purpose, each as `noise` gives the first: one for every step that draws anew."""
    import torch

    draw = generator(case, purpose)
    return [torch.from_numpy(draw.standard_normal(tuple(shape), np.float32)) for _ in range(count)]


def low(request: Request) -> Frames:
    """The low-quality input of a request, uint8 [T, h, w, 3]: Stage I's clip, or one made from the original."""
    if request.preview is not None:
        return request.preview.frames
    return low_quality(request.case, reference_of(request), request.geometry)


def low_quality(case: Case, reference: Clip, geometry: Geometry) -> Frames:
    """The case's low-quality input: uint8 [T, h, w, 3] at 1/scale of the reference, degraded as `case.low` says."""
    from flashbench.cascade.degrade import PixelDegradation, degrade_pixel

    size = (geometry.height // geometry.scale, geometry.width // geometry.scale)
    fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in case.low.items()}
    return degrade_pixel(reference.frames, size, PixelDegradation(**fields), generator(case, "degrade_pixel"))
