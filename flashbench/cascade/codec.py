"""What Stage II needs of an autoencoder; `vae.VAECodec` is the paper tier's own, `laptop.klt` the laptop's."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from flashbench.types import Frames


@runtime_checkable
class Codec(Protocol):
    """Pixels to scaled latents and back: 1 + s*k frames become 1 + k latent frames (s = `stride[0]`)."""

    @property
    def channels(self) -> int:
        """Channels C of the codec's latents."""
        ...

    @property
    def stride(self) -> tuple[int, int]:
        """(time, space): frames per latent frame, pixels per latent pixel."""
        ...

    def encode(self, frames: Tensor) -> Tensor:
        """Frames (B, 3, T, H, W) in [-1, 1] to the scaled latent (B, T', C, H', W')."""
        ...

    def decode(self, latent: Tensor) -> Tensor:
        """Scaled latent (B, T', C, H', W') to frames (B, 3, T, H, W), nominally in [-1, 1], not clamped."""
        ...


def latent_shape(
    channels: int, stride: tuple[int, int], frames: int, height: int, width: int
) -> tuple[int, int, int, int, int]:
    """Shape (1, T', C, H', W') of a clip's latent, from its frames, height and width and a codec's `stride`."""
    time, space = stride
    return 1, 1 + (frames - 1) // time, channels, height // space, width // space


def to_tensor(frames: Frames) -> Tensor:
    """uint8 [T, H, W, 3] to float32 (1, 3, T, H, W) in [-1, 1]."""
    return torch.from_numpy(np.array(frames)).permute(3, 0, 1, 2)[None].float() / 127.5 - 1


def to_frames(pixels: Tensor) -> Frames:
    """Float (1, 3, T, H, W) in [-1, 1] to uint8 [T, H, W, 3] by clip(round((x + 1) * 127.5))."""
    scaled = ((pixels[0].float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    out: Frames = scaled.permute(1, 2, 3, 0).contiguous().cpu().numpy()
    return out
