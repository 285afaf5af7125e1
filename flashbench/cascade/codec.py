"""What Stage II needs of an autoencoder, and the paper tier's own."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from flashbench.types import Frames


@runtime_checkable
class Codec(Protocol):
    """Pixels to scaled latents and back: 1 + s*k frames become 1 + k latent frames (s = `stride[0]`)."""

    @property
    def channels(self) -> int:
        """Latent channels C."""
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


class VAECodec:
    """diffusers' `AutoencoderKLCogVideoX` with Stage II's scale factor; encodes to the posterior's mean."""

    def __init__(self, vae: Any, scale_factor: float = 1.15258426) -> None:
        self.vae = vae
        self.scale_factor = scale_factor

    @property
    def channels(self) -> int:
        """Latent channels."""
        return int(self.vae.config.latent_channels)

    @property
    def stride(self) -> tuple[int, int]:
        """(4, 8) for the released autoencoder."""
        return int(self.vae.config.temporal_compression_ratio), 2 ** (len(self.vae.config.block_out_channels) - 1)

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """See `Codec.encode`."""
        latent: Tensor = self.vae.encode(frames).latent_dist.mode()
        return latent.transpose(1, 2) * self.scale_factor

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Tensor:
        """See `Codec.decode`."""
        frames: Tensor = self.vae.decode(latent.transpose(1, 2) / self.scale_factor).sample
        return frames


def to_tensor(frames: Frames) -> Tensor:
    """uint8 [T, H, W, 3] to float32 (1, 3, T, H, W) in [-1, 1]."""
    return torch.from_numpy(np.array(frames)).permute(3, 0, 1, 2)[None].float() / 127.5 - 1


def to_frames(pixels: Tensor) -> Frames:
    """Float (1, 3, T, H, W) in [-1, 1] to uint8 [T, H, W, 3] by clip(round((x + 1) * 127.5))."""
    scaled = ((pixels[0].float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    out: Frames = scaled.permute(1, 2, 3, 0).contiguous().cpu().numpy()
    return out
