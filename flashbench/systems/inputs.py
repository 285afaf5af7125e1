"""What variants of a protocol share: the noise of a case and its low-quality input."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from flashbench.systems.base import Request, reference_of
from flashbench.types import Case, Clip, Frames, Geometry

if TYPE_CHECKING:
    import torch

NOISE_PURPOSES = ("stage1", "stage1_step", "posterior", "degrade", "degrade_pixel", "control")


def generator(case: Case, purpose: str) -> torch.Generator:
    """A CPU generator seeded with 63 bits of sha256("case.id|seed|purpose")."""
    import torch

    if purpose not in NOISE_PURPOSES:
        raise ValueError(f"noise has no purpose {purpose!r}; known: {', '.join(NOISE_PURPOSES)}")
    digest = hashlib.sha256(f"{case.id}|{case.seed}|{purpose}".encode()).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def noise(case: Case, purpose: str, shape: Sequence[int]) -> torch.Tensor:
    """Standard normal noise, float32 on the CPU: the same for every variant that answers the case."""
    import torch

    return torch.randn(tuple(shape), generator=generator(case, purpose), dtype=torch.float32)


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
