"""Corrections of an enhanced clip without training: the codec's loss, its grid, and the low-quality clip itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from flashbench.cascade import degrade
from flashbench.cascade.codec import Codec
from flashbench.errors import InvalidError
from flashbench.laptop.settings import SHIFTS

FILE = "corrections.json"


class Corrections(NamedTuple):
    """Which corrections a recipe's clips get, in this order."""

    codec_residual: bool = False
    """Add what the codec loses of the enlarged input, which is known."""
    back_projection: bool = False
    """Add the enlarged difference between the low-quality clip and the enhanced one made small (Irani & Peleg 1991)."""

    def __call__(
        self, enhanced: Callable[[Tensor, int], Tensor], codec: Codec, enlarged: Tensor, low: Tensor, shifts: int = 1
    ) -> Tensor:
        """The corrected frames (B, 3, T, H, W) of `enlarged`, of its shape, and of `low` (B, 3, T, h, w).

        `enhanced` makes decoded frames of enlarged ones, and is told which of the `shifts` places of the codec's grid
        they are for. All in [-1, 1]; the result is not clamped.
        """

        def one(frames: Tensor, number: int) -> Tensor:
            decoded = enhanced(frames, number)
            return decoded + codec_residual(codec, frames) if self.codec_residual else decoded

        decoded = over_shifts(one, enlarged, shifts, codec.stride[1])
        return back_project(decoded, low) if self.back_projection else decoded

    def write(self, folder: Path) -> None:
        """Write corrections.json beside a model, if there are any."""
        if any(self):
            (folder / FILE).write_text(json.dumps(self._asdict(), indent=2, sort_keys=True) + "\n", encoding="utf-8")

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Corrections:
        """Those that the settings of a recipe ask for."""
        return cls(**{name: bool(settings.get(name, False)) for name in cls._fields})

    @classmethod
    def read(cls, folder: Path) -> Corrections:
        """Those of the model in `folder`: none without the file. Raises InvalidError for a damaged one."""
        path = folder / FILE
        if not path.exists():
            return cls()
        try:
            return cls(**json.loads(path.read_text("utf-8")))
        except (ValueError, TypeError) as error:
            raise InvalidError(f"{path} is damaged: {error}", fix="train the recipe again") from error


def codec_residual(codec: Codec, frames: Tensor) -> Tensor:
    """What the codec loses of frames (B, 3, T, H, W), frames - decode(encode(frames)): zero for a lossless codec."""
    return frames - codec.decode(codec.encode(frames))


def back_project(frames: Tensor, low: Tensor) -> Tensor:
    """Add enlarge(low - shrink(frames)), both bicubic with antialiasing, to (B, 3, T, H, W); `low` is (B, 3, T, h, w).

    Frames whose reduction is `low` stay; the reduction of others comes nearer to it.
    """
    (height, width), size = frames.shape[-2:], low.shape[-2:]
    missing = low - degrade.resize(frames, size[0], size[1], "bicubic")
    return frames + degrade.resize(missing, height, width, "bicubic")


def over_shifts(enhance: Callable[[Tensor, int], Tensor], frames: Tensor, shifts: int, block: int) -> Tensor:
    """The mean of `enhance(frames, number)` over `shifts` places of a grid of `block` pixels, of the frames' shape.

    "Cycle spinning" (Coifman & Donoho 1995): what is locked to the grid differs from place to place and goes, what is
    in the picture stays. What stays of the grid all the same repeats from place to place, half a block apart: that
    pattern of the change from `frames` is taken out. For more than one place frames (B, C, T, H, W) get two blocks more
    on each axis, their edges repeated. Raises KeyError for a number of shifts that `SHIFTS` lacks.
    """
    if shifts == 1:
        return enhance(frames, 0)
    height, width = frames.shape[-2:]
    made = []
    for number, (down, right) in enumerate(SHIFTS[shifts]):
        top, left = block - down * block // 2, block - right * block // 2
        around = (left, 2 * block - left, top, 2 * block - top, 0, 0)
        out = enhance(functional.pad(frames, around, mode="replicate"), number)
        made.append(out[..., top : top + height, left : left + width])
    mean = torch.stack(made).mean(0)
    return mean - pattern(mean - frames, block // 2)


def pattern(frames: Tensor, period: int) -> Tensor:
    """What repeats every `period` pixels (even, dividing H and W) in frames (B, C, T, H, W), of their shape.

    At each pixel the mean of those one period away on either side of each axis and itself, less its own mean over a
    period around: a pattern of that period comes out whole, a constant or a ramp not at all (but for the edges).
    """
    pictures = frames.flatten(0, 2)[:, None]
    phases = functional.pad(functional.pixel_unshuffle(pictures, period), (1, 1, 1, 1), mode="replicate")
    repeated = functional.avg_pool2d(phases, 3, 1)
    around = functional.pixel_shuffle(functional.pad(repeated, (1, 1, 1, 1), mode="replicate"), period)
    taps = torch.full((period + 1,), 1 / period)
    taps[[0, -1]] /= 2
    smooth = functional.conv2d(around, torch.outer(taps, taps)[None, None])
    inside, half = slice(period, -period), slice(period // 2, -(period // 2))
    return (around[..., inside, inside] - smooth[..., half, half]).reshape(frames.shape)
