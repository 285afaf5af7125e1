"""Where batches come from: a source is asked for a phase's batch and draws from the generator that it is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from flashbench.cascade import degrade
from flashbench.cascade.codec import Codec
from flashbench.cascade.training.settings import Phase
from flashbench.errors import UsageError

STRIDE = (4, 8)
"""Frames per latent frame and pixels per latent pixel of the autoencoders that phases are written for."""
PEAK = 1.01
"""Largest magnitude of a pixel: 1, and what rounding to bf16 may make of it."""


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
Pairs: TypeAlias = Callable[[int, torch.Generator], tuple[Tensor, ...]]
"""(batch size, generator) to clean scaled latents (high quality, low quality), each (B, T, C, H, W), and, if there are
any, the contexts (B, L, D) behind them."""
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
    """With Stage I's scale factor, `vae.VAECodec(autoencoder, vae.STAGE1_SCALE)`: the default is Stage II's."""
    device: str | torch.device = "cpu"
    """Where the codec computes."""

    def __call__(self, phase: Phase, draw: torch.Generator) -> Batch:
        """The batch of latents, on the codec's device."""
        frames, context = _checked(self.clips(phase, draw), phase, self.codec)
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
    device: str | torch.device = "cpu"
    """Where the codec computes."""

    def __post_init__(self) -> None:
        low, high = self.scale_range
        if not 1 <= low <= high:
            raise UsageError(
                f"scale_range is {self.scale_range}", fix="give two factors from 1 up, the lower one first"
            )

    def __call__(self, phase: Phase, draw: torch.Generator) -> Batch:
        """The batch of (high, low) latents, both on the codec's device."""
        frames, context = _checked(self.clips(phase, draw), phase, self.codec)
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
        degradation = self.pixel if strong else degrade.WEAK
        numbers = np.random.default_rng(torch.randint(2**32, (4,), generator=draw).tolist())
        small = degradation(clip.transpose(0, 1), max(1, round(height / scale)), max(1, round(width / scale)), numbers)
        return degrade.resize(small, height, width).transpose(0, 1)


def check_batch(batch: Any, phase: Phase, config: Any) -> None:
    """UsageError for what a source gave, if it is not what `phase` orders or does not fit a network of `config`."""
    if not isinstance(batch, Batch):
        raise UsageError(f"the source gave a {type(batch).__name__}", fix="return Batch(high, low, context)")
    shape, patch, where = tuple(batch.high.shape), config.patch_size, f"in phase {phase.name!r}"
    if len(shape) != 5 or (shape[0], shape[2]) != (phase.batch, config.in_channels):
        what = f"latents of shape {shape} for a batch of {phase.batch} {where}"
        raise UsageError(what, fix=f"give (batch, frames, {config.in_channels}, height, width)")
    if shape[3] % patch or shape[4] % patch:
        what = f"latents of {shape[3]}x{shape[4]} {where} do not divide into patches of {patch}"
        raise UsageError(what, fix="make clips whose height and width are multiples of 16")
    _check_extent("latents", (shape[1], *shape[3:]), phase, STRIDE)
    if batch.context is not None:
        length, width = config.max_text_seq_length, config.text_embed_dim
        extent = tuple(batch.context.shape)
        if len(extent) != 3 or (extent[0], extent[2]) != (phase.batch, width) or extent[1] > length:
            what = f"contexts of shape {extent} for a batch of {phase.batch} {where}"
            raise UsageError(what, fix=f"give (batch, at most {length}, {width}), as pipeline.encode_prompt does")
    for what, values in zip(("high-quality latents", "low-quality latents", "contexts"), batch, strict=True):
        if values is not None:
            _check_values(f"{what} {where}", values)


def _checked(pixels: Any, phase: Phase, codec: Codec) -> Pixels:
    """The clips; UsageError where they are not what `phase` orders, or not floats in [-1, 1]."""
    if not isinstance(pixels, Pixels):
        raise UsageError(f"clips gave a {type(pixels).__name__}", fix="return Pixels(frames, context)")
    shape, (time, space) = tuple(pixels.frames.shape), codec.stride
    if len(shape) != 5 or shape[:2] != (phase.batch, 3):
        what = f"clips of shape {shape} for a batch of {phase.batch}"
        raise UsageError(what, fix="give (batch, 3, frames, height, width) in [-1, 1]")
    if (shape[2] - 1) % time or shape[3] % space or shape[4] % space:
        what = f"clips of {shape[2]} frames of {shape[3]}x{shape[4]}"
        raise UsageError(what, fix=f"give {time}n + 1 frames, and sides that are multiples of 16")
    _check_extent("clips", shape[2:], phase, (1, 1))
    _check_values("clips", pixels.frames)
    if (peak := float(pixels.frames.abs().max())) > PEAK:
        raise UsageError(f"clips with values up to {peak:g}", fix="give floats in [-1, 1]: uint8 / 127.5 - 1")
    return pixels


def _check_extent(what: str, extent: tuple[int, ...], phase: Phase, stride: tuple[int, int]) -> None:
    """UsageError for (frames, height, width) that contradict what `phase` declares, `stride` pixels to one of them."""
    (frames, *sides), (time, space) = extent, stride
    where = f"in phase {phase.name!r}"
    if phase.size is not None and sides != (expected := [side // space for side in phase.size]):
        fault = f"{what} of {sides[0]}x{sides[1]} {where}, not {expected[0]}x{expected[1]}"
        raise UsageError(fault, fix=f"make clips of the phase's size {phase.size}, or declare none")
    if phase.frames is not None:
        videos = [1 + (phase.frames - 1) // time] if phase.images < 1 else []
        if frames not in (lengths := [*videos, *([1] if phase.images else [])]):
            fault = f"{what} of {frames} frames {where}, not {' or '.join(map(str, lengths))}"
            raise UsageError(fault, fix=f"make clips of the phase's {phase.frames} frames, or declare none")


def _check_values(what: str, values: Tensor) -> None:
    if not values.is_floating_point():
        raise UsageError(f"{what} of type {values.dtype}", fix="give floats; pixels in [-1, 1]: uint8 / 127.5 - 1")
    if not bool(values.isfinite().all()):
        raise UsageError(f"{what} with values that are not finite", fix="look for NaN where the data are made")
