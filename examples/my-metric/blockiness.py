"""`blockiness`: how much stronger edges are where a codec's blocks meet than inside the blocks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from flashbench.metrics import FrameMetric, Pair

BLOCK = 8
"""Pixels between the borders of blocks, counted from the frame's upper left corner."""


@dataclass(frozen=True, kw_only=True)
class Blockiness(FrameMetric):
    """Mean |difference| of neighbours across the borders of blocks over that inside blocks; 1 is no blocks at all."""

    def frame(self, pair: Pair) -> float:
        """The ratio of a frame; NaN where it has no border, or nothing changes inside its blocks."""
        grey = pair.frame.sum(axis=2, dtype=np.int32)
        steps = [np.abs(np.diff(grey, axis=1)), np.abs(np.diff(grey, axis=0)).T]
        borders = [np.arange(each.shape[1]) % BLOCK == BLOCK - 1 for each in steps]
        across = np.concatenate([each[:, at].ravel() for each, at in zip(steps, borders, strict=True)])
        inside = np.concatenate([each[:, ~at].ravel() for each, at in zip(steps, borders, strict=True)])
        return float(across.mean() / inside.mean()) if across.size and inside.any() else math.nan


BLOCKINESS = Blockiness(
    name="blockiness",
    direction="lower",
    unit="",
    range=(0.0, math.inf),
    preprocessing={"channel": "sum of rgb", "block": BLOCK, "resize": "none", "frames": "all"},
)
