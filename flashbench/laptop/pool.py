"""Training pairs: high-quality latents and low-quality pixels of the same clips, in one file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from flashbench.cascade import degrade, precondition
from flashbench.cascade.codec import Codec, to_tensor
from flashbench.draws import philox
from flashbench.types import Frames

MODES = ("none", "pixel")
"""How the low-quality side was made: resized only, or with DEG_pixel."""


def write_pool(
    clips: Iterator[Frames],
    codec: Codec,
    *,
    scale: int,
    seed: int,
    folder: Path,
    report: Callable[[int], None],
    pixel: degrade.PixelDegradation | None = None,
) -> dict[str, int]:
    """Encode `clips` (all of one size) into `folder`/pool.safetensors; returns its counts.

    The low-quality side is 1/`scale` of their size, for mode `pixel` degraded by `pixel` (None: DEG_pixel's defaults).
    """
    high, low = [], {mode: [] for mode in MODES}  # type: tuple[list[Tensor], dict[str, list[Tensor]]]
    degradations = (degrade.WEAK, pixel or degrade.PixelDegradation())
    for number, clip in enumerate(clips):
        high.append(codec.encode(to_tensor(clip))[0].half())
        size = (clip.shape[1] // scale, clip.shape[2] // scale)
        for mode, degradation in zip(MODES, degradations, strict=True):
            small = degrade.degrade_pixel(clip, size, degradation, philox(seed, f"pool {mode}", number))
            low[mode].append(torch.from_numpy(small))
        report(number + 1)
    tensors = {"high": torch.stack(high)} | {f"low.{mode}": torch.stack(small) for mode, small in low.items()}
    save_file(tensors, folder / "pool.safetensors")
    return {"clips": len(high), "latent_frames": high[0].shape[0], "channels": high[0].shape[1]}


class Pool:
    """Pairs of one degradation mode as random crops; an instance is a `flashbench.cascade.training.Pairs`."""

    def __init__(
        self,
        folder: Path,
        codec: Codec,
        *,
        mode: str,
        crop: int,
        chosen: Sequence[int] | None = None,
        contexts: Tensor | None = None,
    ) -> None:
        """`crop` in pixels (a multiple of 16), at most the clips' size; `chosen` clips are drawn from, None means all.

        `contexts` (clips, L, D) are the texts of all clips; without them batches have none.
        """
        with safe_open(folder / "pool.safetensors", "pt") as file:
            self.high: Tensor = file.get_tensor("high")
            self.low: Tensor = file.get_tensor(f"low.{mode}")
        self.codec, self.crop = codec, crop // codec.stride[1]
        self.chosen = range(len(self.high)) if chosen is None else chosen
        self.contexts = contexts

    def __len__(self) -> int:
        return len(self.chosen)

    def __call__(self, batch: int, draw: torch.Generator) -> tuple[Tensor, ...]:
        """A batch of (high, low) latents, (B, T, C, crop/8, crop/8), clips drawn without replacement.

        Behind them come the clips' contexts, if the pool was given any.
        """
        places = torch.randperm(len(self), generator=draw)[:batch].tolist()
        indices = [self.chosen[place] for place in places]
        pairs = [self._pair(index, draw) for index in indices]
        sides = tuple(torch.stack(side) for side in zip(*pairs, strict=True))
        return sides if self.contexts is None else (*sides, self.contexts[indices])

    def moments(self, limit: int = 128) -> Tensor:
        """The preconditioner's moments (3, C) over the first `limit` clips."""
        side = self.codec.stride[1]
        parts = []
        for high, small in zip(self.high[:limit], self.low[:limit], strict=True):
            low = self.codec.encode(_enlarge(small, high.shape[-2] * side, high.shape[-1] * side))
            parts.append(precondition.moments(high[None].float(), low))
        return torch.stack(parts).mean(0)

    def _pair(self, index: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        high = self.high[index]
        place = [int(torch.randint((size - self.crop) // 2 + 1, (), generator=draw)) * 2 for size in high.shape[-2:]]
        (top, left), side, span = place, self.codec.stride[1], self.crop
        pixels = _enlarge(self.low[index], high.shape[-2] * side, high.shape[-1] * side)
        pixels = pixels[..., top * side : (top + span) * side, left * side : (left + span) * side]
        return high[..., top : top + span, left : left + span].float(), self.codec.encode(pixels)[0]


def _enlarge(small: Tensor, height: int, width: int) -> Tensor:
    """uint8 (T, h, w, 3) to float (1, 3, T, height, width) in [-1, 1], as Stage II's input is enlarged."""
    return degrade.resize(small.permute(3, 0, 1, 2)[None].float() / 127.5 - 1, height, width)
