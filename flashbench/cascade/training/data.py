"""Where batches come from: a source is asked for a phase's batch and draws from the generator that it is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from flashbench.cascade import degrade
from flashbench.cascade.codec import Codec
from flashbench.cascade.training.settings import Phase
from flashbench.errors import UsageError


class Batch(NamedTuple):
    """Clean scaled latents, each (B, T, C, H, W), and what conditions them."""

    high: Tensor
    low: Tensor | None = None
    """The low-quality side, not yet degraded in the latent; None for Stage I, which reads none."""
    context: Tensor | None = None
    """Text embeddings (B, L, D); None trains without text, on the unconditional context."""


class Pixels(NamedTuple):
    """Clips in pixels, (B, 3, T, H, W) in [-1, 1], and their text embeddings (B, L, D)."""

    frames: Tensor
    context: Tensor | None = None


Source: TypeAlias = Callable[[Phase, torch.Generator], Batch]
"""Gives `phase.batch` samples as `phase` orders them; all its randomness comes from the generator."""
Pairs: TypeAlias = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]
"""(batch size, generator) to clean scaled latents (high quality, low quality), each (B, T, C, H, W)."""
Clips: TypeAlias = Callable[[Phase, torch.Generator], Pixels]
"""Gives `phase.batch` clips of the phase's size and frames; images (drawn with share `phase.images`) have one frame."""


def from_pairs(pairs: Pairs) -> Source:
    """A source of pairs that are what they are, whatever the phase orders but the number of samples."""
    return lambda phase, draw: Batch(*pairs(phase.batch, draw))


@dataclass(frozen=True, kw_only=True)
class EncodedClips:
    """A source of Stage I's latents from clips in pixels: there is no low-quality side."""

    clips: Clips
    codec: Codec
    """With Stage I's scale factor."""
    device: str = "cpu"
    """Where the codec computes."""

    def __call__(self, phase: Phase, draw: torch.Generator) -> Batch:
        """The batch of latents, on the codec's device."""
        frames, context = _checked(self.clips(phase, draw), phase)
        with torch.no_grad():
            return Batch(self.codec.encode(frames.to(self.device)), None, context)


@dataclass(frozen=True, kw_only=True)
class EncodedPairs:
    """A source of Stage II's pairs from clips in pixels: degrade a copy of each clip, encode both.

    With probability `phase.aug_probability` a clip gets DEG_pixel (never where `phase.degradation` is "none"),
    otherwise it is made small by an antialiased bilinear reduction; both are enlarged again as the pipeline enlarges
    Stage I's clips. This is the scheme of the authors' unmerged training sketch.
    """

    clips: Clips
    codec: Codec
    pixel: degrade.PixelDegradation = field(default_factory=degrade.PixelDegradation)
    """DEG_pixel; the paper publishes no parameter of it."""
    scale_range: tuple[float, float] = (4.0, 8.0)
    """Ends of the uniform distribution of the reduction's factor."""
    device: str = "cpu"
    """Where the codec computes."""

    def __post_init__(self) -> None:
        low, high = self.scale_range
        if not 1 <= low <= high:
            raise UsageError(
                f"scale_range is {self.scale_range}", fix="give two factors from 1 up, the lower one first"
            )

    def __call__(self, phase: Phase, draw: torch.Generator) -> Batch:
        """The batch of (high, low) latents, both on the codec's device."""
        frames, context = _checked(self.clips(phase, draw), phase)
        low = torch.stack([self.degraded(clip, phase, draw) for clip in frames])
        with torch.no_grad():
            high = self.codec.encode(frames.to(self.device))
            return Batch(high, self.codec.encode(low.to(self.device)), context)

    def degraded(self, clip: Tensor, phase: Phase, draw: torch.Generator) -> Tensor:
        """The low-quality side of a clip (3, T, H, W) in [-1, 1], of the same shape."""
        height, width = clip.shape[-2:]
        least, most = self.scale_range
        scale = least + (most - least) * float(torch.rand((), generator=draw))
        strong = bool(torch.rand((), generator=draw) < phase.aug_probability) and phase.degradation != "none"
        kind = self.pixel if strong else degrade.WEAK
        small = kind(clip.transpose(0, 1), max(1, round(height / scale)), max(1, round(width / scale)), draw)
        return degrade.resize(small, height, width).transpose(0, 1)


def _checked(pixels: Pixels, phase: Phase) -> Pixels:
    shape = tuple(pixels.frames.shape)
    if len(shape) != 5 or shape[:2] != (phase.batch, 3):
        what = f"clips of shape {shape} for a batch of {phase.batch}"
        raise UsageError(what, fix="give (batch, 3, frames, height, width) in [-1, 1]")
    return pixels
