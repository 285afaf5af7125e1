"""FlashVideo's use of the CogVideoX autoencoder: its chunks in time, its two tiles, sampled or mean posterior.

GroupNorm's statistics are taken per chunk, so the chunks are part of the result: diffusers' own 9 + 8 + 8 + ... frames
give other values than the release's 17 + 16 + 16. Latents here are unscaled; Stage I multiplies by 0.7, Stage II by
1.15258426. The results of Stage II in the release are decoded in two halves of the width without blending.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import CogVideoXSafeConv3d
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.models.upsampling import CogVideoXUpsample3D
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor

from flashbench.cascade.tiles import TILES, Tiles
from flashbench.errors import UsageError, did_you_mean

STAGE1_SCALE = 0.7
STAGE2_SCALE = 1.15258426
OVERLAP = 16
"""Latent columns by which each of the two tiles reaches into the other."""


def encode_chunks(frames: int) -> tuple[int, ...]:
    """Frames per chunk of the release's encoding: 17, then 16 each (17 + 16 + 16 for its 49), then what is left."""
    first = min(frames, 17)
    return (first, *_pieces(frames - first, 16))


def decode_chunks(latents: int) -> tuple[int, ...]:
    """Latent frames per chunk of the release's decoding: 3, then 2 each; an even number, of which the release decodes
    2 alone, begins with 2.
    """
    first = min(latents, 3 if latents % 2 else 2)
    return (first, *_pieces(latents - first, 2))


def _pieces(total: int, size: int) -> tuple[int, ...]:
    return (size,) * (total // size) + ((total % size,) if total % size else ())


@torch.no_grad()
def encode(vae: Any, frames: Tensor, chunks: Sequence[int] | None = None, noise: Tensor | None = None) -> Tensor:
    """Pixels (B, 3, T, H, W) in [-1, 1] to the unscaled latent (B, 1 + (T - 1)/4, C, H/8, W/8).

    `chunks` are frames per chunk, (17, 16, 16) for 49 frames by default. With `noise` of the latent's shape the
    posterior is sampled (mean + std * noise, as the release does); None gives its mean. With `vae.enable_tiling()`
    diffusers' tiles and chunks are used, with `vae.enable_slicing()` one clip at a time. Raises UsageError for chunks
    that do not fit.
    """
    if chunks is not None and vae.use_tiling:
        raise UsageError("chunks and tiling together: tiles have diffusers' own chunks", fix="disable one of the two")
    chunks = encode_chunks(frames.shape[2]) if chunks is None else tuple(chunks)
    if sum(chunks) != frames.shape[2] or chunks[0] % 4 != 1 or any(chunk <= 0 or chunk % 4 for chunk in chunks[1:]):
        raise UsageError(
            f"cannot encode {frames.shape[2]} frames in chunks of {list(chunks)}",
            fix="give 4n + 1 frames; the first chunk has 4n + 1 of them, each later one 4n",
        )
    rows = frames.split(1) if vae.use_slicing else (frames,)
    moments = torch.cat([_tiled_encode(vae, row) if vae.use_tiling else _encode(vae, row, chunks) for row in rows])
    posterior = DiagonalGaussianDistribution(moments)
    latent: Tensor = posterior.mean
    if noise is not None:
        if noise.transpose(1, 2).shape != latent.shape:
            want = list(latent.transpose(1, 2).shape)
            raise UsageError(
                f"noise of shape {list(noise.shape)} for a latent of {want}", fix="draw noise of its shape"
            )
        latent = latent + posterior.std * noise.transpose(1, 2).to(latent)
    return latent.transpose(1, 2)


def posterior_noise(
    vae: Any, frames: Tensor, generator: torch.Generator, chunks: Sequence[int] | None = None
) -> Tensor:
    """Noise for `encode`, (B, T', C, H', W'), drawn in the release's order: chunk by chunk, channels before time."""
    batch, _, time, height, width = frames.shape
    space = 2 ** (len(vae.config.block_out_channels) - 1)
    chunks = encode_chunks(time) if chunks is None else chunks
    parts = [
        torch.randn(
            (batch, vae.config.latent_channels, (chunk + 3) // 4, height // space, width // space),
            generator=generator,
            device=generator.device,
        )
        for chunk in chunks
    ]
    return torch.cat(parts, dim=2).transpose(1, 2)


@torch.no_grad()
def decode(vae: Any, latent: Tensor, chunks: Sequence[int] | None = None, tiles: Tiles = "none") -> Tensor:
    """Unscaled latent (B, T', C, H', W') to pixels (B, 3, 4T' - 3, 8H', 8W'), nominally in [-1, 1], not clamped.

    `chunks` are latent frames per chunk, (3, 2, 2, 2, 2, 2) for 13 by default. `tiles` `release` and `blended` decode
    the halves of the width apart to save memory; `vae.enable_tiling()` means `blended`, `vae.enable_slicing()` one
    clip at a time. Raises UsageError for chunks that do not fit.
    """
    if tiles not in TILES:
        raise did_you_mean("tiling", tiles, TILES)
    chunks = decode_chunks(latent.shape[1]) if chunks is None else tuple(chunks)
    if sum(chunks) != latent.shape[1] or chunks[0] <= 0 or any(chunk <= 0 or chunk % 2 for chunk in chunks[1:]):
        raise UsageError(
            f"cannot decode {latent.shape[1]} latent frames in chunks of {list(chunks)}",
            fix="every chunk after the first has an even number of frames",
        )
    z = latent.transpose(1, 2)
    rows = z.split(1) if vae.use_slicing else (z,)
    if vae.use_tiling and tiles == "none":
        tiles = "blended"
    return torch.cat(
        [_decode(vae, row, chunks) if tiles == "none" else _halves(vae, row, chunks, tiles) for row in rows]
    )


class VAECodec:
    """FlashVideo's autoencoder as a `codec.Codec`, with Stage II's scale factor; encodes to the posterior's mean."""

    def __init__(self, autoencoder: Any, scale_factor: float = STAGE2_SCALE, tiles: Tiles = "none") -> None:
        self.autoencoder = autoencoder
        self.scale_factor = scale_factor
        self.tiles = tiles

    @property
    def channels(self) -> int:
        """Channels of the autoencoder's latents."""
        return int(self.autoencoder.config.latent_channels)

    @property
    def stride(self) -> tuple[int, int]:
        """Frames per latent frame and pixels per latent pixel: (4, 8) for the released autoencoder."""
        config = self.autoencoder.config
        return int(config.temporal_compression_ratio), 2 ** (len(config.block_out_channels) - 1)

    def encode(self, frames: Tensor) -> Tensor:
        """Frames (B, 3, T, H, W) in [-1, 1] to the scaled latent (B, T', C, H', W')."""
        return encode(self.autoencoder, frames) * self.scale_factor

    def decode(self, latent: Tensor) -> Tensor:
        """Scaled latent (B, T', C, H', W') to frames (B, 3, T, H, W), nominally in [-1, 1], not clamped."""
        return decode(self.autoencoder, latent / self.scale_factor, tiles=self.tiles)


class _SplitConv3d(CogVideoXSafeConv3d):  # type: ignore[misc]
    """diffusers' convolution in pieces of time, with pieces that are never shorter than the kernel.

    Its own splits large inputs by their size alone and fails on the few, large frames of a chunk at 1080p and above.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Convolve (B, C, T, H, W), T unpadded and with stride 1, in pieces of about 2 GiB of half precision."""
        reach = self.kernel_size[0] - 1
        frames = input.shape[2] - reach
        pieces = min(frames, int(input.numel() * 2 / 1024**3 / 2) + 1)
        bounds = [frames * piece // pieces for piece in range(pieces + 1)]
        parts = [torch.nn.Conv3d.forward(self, input[:, :, a : b + reach]) for a, b in pairwise(bounds)]
        return torch.cat(parts, dim=2) if pieces > 1 else parts[0]


def _split(vae: Any) -> None:
    """Exchange the class of the model's convolutions; their weights and names stay."""
    for module in vae.modules():
        if type(module) is CogVideoXSafeConv3d:
            module.__class__ = _SplitConv3d


@apply_forward_hook
def _encode(vae: Any, frames: Tensor, chunks: Sequence[int]) -> Tensor:
    """Moments (B, 2C, T', H', W'). The decorator makes offloading hooks work as for diffusers' own `encode`."""
    _split(vae)
    parts, cache = [], None
    for chunk in frames.split(list(chunks), dim=2):
        part, cache = vae.encoder(chunk, conv_cache=cache)
        parts.append(part)
    return torch.cat(parts, dim=2)


@apply_forward_hook
def _tiled_encode(vae: Any, frames: Tensor) -> Tensor:
    _split(vae)
    moments: Tensor = vae.tiled_encode(frames)
    return moments


@apply_forward_hook
def _decode(vae: Any, z: Tensor, chunks: Sequence[int]) -> Tensor:
    _split(vae)
    parts, cache = [], None
    for number, chunk in enumerate(z.split(list(chunks), dim=2)):
        with _first_frame_alone(vae, number == 0 and chunk.shape[2] % 2 == 0):
            part, cache = vae.decoder(chunk, conv_cache=cache)
        parts.append(part)
    return torch.cat(parts, dim=2)


@contextmanager
def _first_frame_alone(vae: Any, active: bool) -> Iterator[None]:
    """Decode a first chunk of an even number of latent frames as the release does with its `force_split`.

    The first frame is not doubled in time. diffusers tells a first chunk by its odd length and doubles every frame of
    an even one, so the first of the two copies that its temporal upsampler makes is dropped; behind it lengths are odd.
    """

    def drop(module: torch.nn.Module, args: tuple[Tensor], out: Tensor) -> Tensor:
        return out[:, :, 1:] if module.compress_time and args[0].shape[2] % 2 == 0 else out

    modules = [module for module in vae.decoder.modules() if active and isinstance(module, CogVideoXUpsample3D)]
    hooks = [module.register_forward_hook(drop) for module in modules]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _halves(vae: Any, z: Tensor, chunks: Sequence[int], tiles: Tiles) -> Tensor:
    """Decode the left and the right half, each with `OVERLAP` columns of the other, and join them."""
    width = z.shape[-1]
    middle = width // 2
    reach = OVERLAP if middle >= OVERLAP else 0
    if tiles == "blended":
        reach = min(OVERLAP, middle)
    left = _decode(vae, z[..., : middle + reach], chunks)
    right = _decode(vae, z[..., middle - reach :], chunks)
    scale = left.shape[-1] // (middle + reach)
    if tiles == "release" or not reach:
        return torch.cat([left[..., : middle * scale], right[..., reach * scale :]], dim=-1)
    shared = 2 * reach * scale
    ramp = (torch.arange(shared, device=z.device, dtype=left.dtype) + 0.5) / shared
    seam = torch.lerp(left[..., -shared:], right[..., :shared], ramp)
    return torch.cat([left[..., :-shared], seam, right[..., shared:]], dim=-1)
