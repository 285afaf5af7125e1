"""The two degradations that turn a high-quality clip into Stage II's starting point.

`latent` is FlashVideo's DEG_latent, the official schedule to the letter. `PixelDegradation` is DEG_pixel, "a sequence
of blur and resize with random strengths" whose parameters the paper does not publish: here every one is a field.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, Literal, TypeAlias, get_args

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from flashbench.cascade.rope import plain_tensors
from flashbench.errors import UsageError, did_you_mean
from flashbench.types import Frames

STEPS = 1000
Kernel: TypeAlias = Literal["bilinear", "bicubic", "area"]


@lru_cache(maxsize=1)
def alphas() -> Tensor:
    """sqrt(alpha_bar) of the zero-SNR schedule, float32 (1000,): index 0 is the least noise, index 999 pure noise."""
    with plain_tensors():
        return zero_snr(scaled_linear()).float()


def scaled_linear() -> Tensor:
    """sqrt(alpha_bar) of scaled-linear betas from 0.00085 to 0.0120, float64 (1000,), before any rescaling."""
    betas = torch.linspace(math.sqrt(0.00085), math.sqrt(0.0120), STEPS, dtype=torch.float64, device="cpu") ** 2
    return torch.cumprod(1 - betas, dim=0).sqrt()


def zero_snr(root: Tensor) -> Tensor:
    """Shift and stretch a falling sqrt(alpha_bar) so that its last entry is 0 and its first is kept.

    Lin et al. 2023, arXiv 2305.08891, algorithm 1.
    """
    first, last = root[0].clone(), root[-1].clone()
    return (root - last) * first / (first - last)


def coefficients(step: int | Tensor | None) -> tuple[Tensor, Tensor]:
    """Weights (a, sigma) of signal and noise at degradation `step` (an int or an integer tensor); None means (1, 0)."""
    if step is None:
        return torch.ones(()), torch.zeros(())
    steps = torch.as_tensor(step)
    index = steps.long()
    if index.is_meta:
        return torch.empty_like(index, dtype=torch.float32), torch.empty_like(index, dtype=torch.float32)
    if steps.is_floating_point() and not torch.equal(index.to(steps.dtype), steps):
        raise UsageError(f"invalid degradation_step {step}: not a whole number", fix="the paper uses 675")
    if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < STEPS:
        raise UsageError(f"degradation_step {step} is outside 0 to {STEPS - 1}", fix="the paper uses 650 to 750")
    a = alphas().to(index.device)[index]
    return a, (1 - a**2).sqrt()


def latent(z: Tensor, step: int | Tensor | None, noise: Tensor) -> Tensor:
    """Degrade the scaled latent `z` (B, ...) with `noise` of its shape: a*z + sqrt(1 - a^2)*noise.

    `step` is one integer in 0..999, or a (B,) tensor of them; larger is noisier. None leaves `z` as it is.
    Raises UsageError for a step outside the schedule.
    """
    if step is None:
        return z
    if noise.shape != z.shape or torch.as_tensor(step).shape not in ((), z.shape[:1]):
        what = f"noise of shape {list(noise.shape)} and step {step} for latents of {list(z.shape)}"
        raise UsageError(what, fix="draw noise of the latents' shape, and give one step or one per latent")
    a, sigma = (value.to(z.device).reshape(-1, *[1] * (z.ndim - 1)) for value in coefficients(step))
    return (a * z + sigma * noise).to(z.dtype)  # a half-precision latent is rounded once, as in the release


def resize(frames: Tensor, height: int, width: int, kernel: Kernel = "bilinear") -> Tensor:
    """Resize frames (..., C, h, w) to height x width with antialiasing (which changes nothing when enlarging)."""
    if frames.shape[-2:] == (height, width):
        return frames
    flat = frames.reshape(-1, *frames.shape[-3:])
    if kernel == "area":
        out = functional.interpolate(flat, size=(height, width), mode="area")
    else:
        out = functional.interpolate(flat, size=(height, width), mode=kernel, align_corners=False, antialias=True)
    return out.reshape(*frames.shape[:-2], height, width)


@dataclass(frozen=True, kw_only=True)
class PixelDegradation:
    """DEG_pixel: blur, resize, noise, JPEG and a last resize, one random draw per clip (noise: per frame).

    Pairs are the ends of a uniform distribution. Sizes of blur are in pixels of the high-quality frame.
    """

    blur_probability: float = 1.0
    blur_sigma: tuple[float, float] = (0.3, 2.4)
    """Standard deviations of the two axes of the Gaussian, drawn one by one (so it is anisotropic and rotated)."""
    resize_factor: tuple[float, float] = (0.8, 1.25)
    """Size of the intermediate frame in units of the low-quality size."""
    kernels: tuple[Kernel, ...] = ("bilinear", "bicubic", "area")
    noise_probability: float = 0.6
    noise_sigma: tuple[float, float] = (0.0, 8.0)
    """Of 255."""
    jpeg_probability: float = 1.0
    jpeg_quality: tuple[int, int] = (45, 95)
    """Both ends included."""
    mild_probability: float = 0.3
    """Share of clips that are only resized, as a generated low-resolution video would be."""
    last_kernel: Kernel = "bicubic"

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> PixelDegradation:
        """Fields as YAML gives them, the others at their defaults; UsageError for an unknown one or a wrong value."""
        known = {field.name: field.default for field in fields(cls)}
        chosen: dict[str, Any] = {}
        for name, value in values.items():
            if name not in known:
                raise did_you_mean("field of a pixel degradation", str(name), known)
            chosen[name] = tuple(value) if isinstance(value, list) else value
            if not _fits(known[name], chosen[name]):
                raise UsageError(f"{name} of a pixel degradation is {value!r}", fix=f"give it like {known[name]!r}")
        return cls(**chosen)

    def __call__(self, frames: Tensor, height: int, width: int, generator: np.random.Generator) -> Tensor:
        """Degrade a clip (T, 3, H, W) in [-1, 1] to (T, 3, height, width) in [-1, 1]; draws only from `generator`."""

        def chance(probability: float) -> bool:
            return bool(generator.random() < probability)

        def uniform(ends: tuple[float, float]) -> float:
            return ends[0] + (ends[1] - ends[0]) * generator.random()

        if chance(self.mild_probability):
            return resize(frames, height, width, self.last_kernel).clamp(-1, 1)
        if chance(self.blur_probability):
            frames = _blur(frames, uniform(self.blur_sigma), uniform(self.blur_sigma), uniform((0.0, math.pi)))
        factor = uniform(self.resize_factor)
        kernel = self.kernels[int(generator.integers(len(self.kernels)))]
        frames = resize(frames, max(1, round(height * factor)), max(1, round(width * factor)), kernel)
        if chance(self.noise_probability):
            sigma = uniform(self.noise_sigma) / 127.5
            frames = frames + sigma * torch.from_numpy(generator.standard_normal(tuple(frames.shape), np.float32))
        if chance(self.jpeg_probability):
            low, high = self.jpeg_quality
            frames = _jpeg(frames, int(generator.integers(low, high, endpoint=True)))
        return resize(frames, height, width, self.last_kernel).clamp(-1, 1)


WEAK = PixelDegradation(mild_probability=1.0, last_kernel="bilinear")
"""No DEG_pixel: the antialiased bilinear reduction that the training sketch calls "weak"."""


def degrade_pixel(
    frames: Frames, size: tuple[int, int], degradation: PixelDegradation, generator: np.random.Generator
) -> Frames:
    """The low-quality input of a clip: uint8 [T, H, W, 3] to uint8 [T, h, w, 3] with (h, w) = `size`."""
    pixels = torch.from_numpy(np.array(frames)).permute(0, 3, 1, 2).float() / 127.5 - 1
    low = degradation(pixels, *size, generator)
    out: Frames = ((low + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    return out


def _fits(default: Any, value: Any) -> bool:
    """Whether a value can stand for a field's default: ends in order, a share, a kernel or some."""
    if isinstance(default, str):
        return value in get_args(Kernel)
    if isinstance(default, float):
        return isinstance(value, int | float) and 0 <= value <= 1
    if not isinstance(value, tuple) or not value:
        return False
    if isinstance(default[0], str):
        return all(_fits(default[0], kernel) for kernel in value)
    number = int if isinstance(default[0], int) else int | float
    return len(value) == 2 and all(isinstance(end, number) for end in value) and 0 <= value[0] <= value[1]


def _blur(frames: Tensor, sigma_x: float, sigma_y: float, angle: float) -> Tensor:
    """Gaussian blur whose axes are rotated by `angle`, with reflected borders."""
    radius = max(1, math.ceil(3 * max(sigma_x, sigma_y)))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float32)
    u = x * math.cos(angle) + y * math.sin(angle)
    v = -x * math.sin(angle) + y * math.cos(angle)
    kernel = np.exp(-0.5 * ((u / sigma_x) ** 2 + (v / sigma_y) ** 2))
    kernel /= kernel.sum()
    pictures = frames.permute(0, 2, 3, 1).numpy()
    blurred = [cv2.filter2D(picture, -1, kernel, borderType=cv2.BORDER_REFLECT_101) for picture in pictures]
    return torch.from_numpy(np.stack(blurred)).permute(0, 3, 1, 2)


def _jpeg(frames: Tensor, quality: int) -> Tensor:
    """Send every frame of (T, 3, H, W) in [-1, 1] through a JPEG file in memory."""
    pixels = ((frames + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    out = []
    for frame in pixels:
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, format="JPEG", quality=quality)
        with Image.open(buffer) as image:
            out.append(np.asarray(image.convert("RGB")))
    return torch.from_numpy(np.stack(out)).permute(0, 3, 1, 2).float() / 127.5 - 1
