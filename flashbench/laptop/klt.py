"""A codec with nothing to train: the Karhunen-Loeve transform (PCA) of 8x8x4 blocks of RGB."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from flashbench.errors import InvalidError
from flashbench.types import Frames

TIME, SPACE = 4, 8
BLOCK = 3 * TIME * SPACE * SPACE


class KLTCodec:
    """The strongest `channels` principal components of 8x8 pixels x 4 frames x RGB, causal like CogVideoX's VAE.

    The first frame is repeated four times, so 1 + 4k frames become 1 + k latent frames. Components are divided by the
    square root of their standard deviation (between plain PCA and whitening) and by one common number, so that the mean
    power of a latent is `scale`^2 on the clips it was fitted on. Implements `flashbench.cascade.codec.Codec`.
    """

    def __init__(self, mean: Tensor, basis: Tensor, gain: Tensor) -> None:
        """`mean` (768,), orthonormal rows `basis` (C, 768), `gain` (C,) > 0: latent = gain * basis (block - mean)."""
        self.mean, self.basis, self.gain = mean, basis, gain

    @property
    def channels(self) -> int:
        """Channels of the codec's latents."""
        return self.basis.shape[0]

    @property
    def stride(self) -> tuple[int, int]:
        """Frames per latent frame and pixels per latent pixel: (4, 8)."""
        return TIME, SPACE

    @classmethod
    def fit(cls, clips: Iterable[Frames], *, channels: int, scale: float, blocks: int, seed: int) -> KLTCodec:
        """Fit to uint8 clips [T, H, W, 3] with T = 1 + 4k, taking at most `blocks` random blocks of each.

        Raises InvalidError when there are fewer than `channels` blocks in all.
        """
        draw = np.random.default_rng(seed)
        total, outer, count = torch.zeros(BLOCK, dtype=torch.float64), torch.zeros(BLOCK, BLOCK, dtype=torch.float64), 0
        for clip in clips:
            pixels = torch.from_numpy(np.array(clip)).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
            rows = _split(pixels).reshape(-1, BLOCK)
            chosen = draw.permutation(len(rows))[:blocks]
            part = rows[torch.from_numpy(chosen)]
            total += part.double().sum(0)
            outer += (part.T @ part).double()
            count += len(part)
        if count < channels:
            raise InvalidError(f"{count} blocks cannot fix {channels} channels", fix="fit to more clips")
        mean = total / count
        values, vectors = torch.linalg.eigh(outer / count - torch.outer(mean, mean))
        basis = vectors.T.flip(0)[:channels]
        # An eigenvector's sign is arbitrary: fix it by its largest entry.
        basis = basis * basis.gather(1, basis.abs().argmax(1, keepdim=True)).sign()
        deviation = values.flip(0)[:channels].clamp_min(1e-8).sqrt()
        gain = scale * deviation.rsqrt() / deviation.mean().sqrt()
        return cls(mean.float(), basis.float().contiguous(), gain.float())

    def encode(self, frames: Tensor) -> Tensor:
        """Frames (B, 3, 1 + 4k, H, W) in [-1, 1], H and W multiples of 8, to (B, 1 + k, C, H/8, W/8)."""
        blocks = _split(frames)
        latent = (blocks - self.mean) @ (self.basis * self.gain[:, None]).T
        return latent.permute(0, 1, 4, 2, 3).contiguous()

    def decode(self, latent: Tensor) -> Tensor:
        """The least-squares inverse of `encode`, (B, 3, 1 + 4k, H, W); the first frame is the mean of its copies."""
        blocks = latent.permute(0, 1, 3, 4, 2) @ (self.basis / self.gain[:, None]) + self.mean
        batch, time, height, width, _ = blocks.shape
        pixels = blocks.reshape(batch, time, height, width, 3, TIME, SPACE, SPACE).permute(0, 4, 1, 5, 2, 6, 3, 7)
        pixels = pixels.reshape(batch, 3, time * TIME, height * SPACE, width * SPACE)
        return torch.cat([pixels[:, :, :TIME].mean(2, keepdim=True), pixels[:, :, TIME:]], dim=2)

    def save(self, folder: Path) -> None:
        """Write codec.safetensors and config.json into `folder`."""
        save_file({"mean": self.mean, "basis": self.basis, "gain": self.gain}, folder / "codec.safetensors")
        config = {"class": "KLTCodec", "channels": self.channels, "stride": list(self.stride)}
        (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")

    @classmethod
    def load(cls, folder: Path) -> KLTCodec:
        """Read a codec from the folder that `save` wrote."""
        with safe_open(folder / "codec.safetensors", "pt") as file:
            # Cloned, because a tensor mapped from a file may begin at any byte and its products round differently.
            return cls(*(file.get_tensor(name).clone() for name in ("mean", "basis", "gain")))


def _split(frames: Tensor) -> Tensor:
    """Frames (B, 3, 1 + 4k, H, W) to blocks (B, 1 + k, H/8, W/8, 768). Raises InvalidError for other sizes."""
    batch, _, time, height, width = frames.shape
    if time % TIME != 1 or height % SPACE or width % SPACE:
        raise InvalidError(
            f"the KLT codec takes 1 + {TIME}k frames with sides divisible by {SPACE}, not {time} of {height} x {width}",
            fix="cut the clip to 1, 5, 9, 13, ... frames and crop it",
        )
    padded = torch.cat([frames[:, :, :1].expand(-1, -1, TIME - 1, -1, -1), frames], dim=2)
    shape = (batch, 3, (time + TIME - 1) // TIME, TIME, height // SPACE, SPACE, width // SPACE, SPACE)
    return padded.reshape(shape).permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)
