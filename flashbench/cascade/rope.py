"""FlashVideo's 3D rotary tables: raw integer positions, no rescaling of the grid at any resolution.

diffusers' CogVideoX resizes and crops the grid to a base size instead, so its tables do not fit these weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import unset_fake_temporarily

AXES = (16, 24, 24)
"""Channels of a 64-wide head for time, height and width, in this order."""
HEAD_DIM = sum(AXES)
THETA = 10000.0


@contextmanager
def plain_tensors() -> Iterator[None]:
    """Inside, tensors are real ones, whatever mode the caller is in: a table that is kept must serve everybody.

    One that is first asked for under inference_mode could not be trained with, one from a fake-tensor mode is empty.
    """
    with torch.inference_mode(False), unset_fake_temporarily():
        yield


@lru_cache(maxsize=8)
def tables(frames: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of every image token's position, built once per shape.

    `frames`, `height`, `width` count patches. Returns (cos, sin), each float32 (frames*height*width, 64), tokens in
    (t, h, w) row-major order, every frequency repeated for its adjacent channel pair. The tensors are cached and
    shared: do not write into them.
    """
    with plain_tensors(), torch.device("cpu"):
        grid = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in (frames, height, width)), indexing="ij")
        angles = [
            # 1 / theta^x rounds unlike theta^-x, and the position multiplies the difference: keep the official form.
            positions.reshape(-1, 1) * (1.0 / THETA ** (torch.arange(0, size, 2, dtype=torch.float32) / size))
            for positions, size in zip(grid, AXES, strict=True)
        ]
        angle = torch.cat(angles, dim=1).repeat_interleave(2, dim=1)
        return angle.cos(), angle.sin()
