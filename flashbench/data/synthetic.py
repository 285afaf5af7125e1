"""Procedural clips in integer arithmetic: the same bytes on every machine, for tests and the smoke tier."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flashbench.types import Frames


def synthetic_clip(frames: int, height: int, width: int, variant: int) -> Frames:
    """Moving ramps, a moving checkerboard and hashed noise: uint8 [frames, height, width, 3].

    `variant` >= 0 shifts the picture in time by 1000 frames a piece; variant 0 is the clip of the golden NIQE values.
    """
    time = (np.arange(frames, dtype=np.int64) + 1000 * variant)[:, None, None, None]
    y = np.arange(height, dtype=np.int64)[None, :, None, None]
    x = np.arange(width, dtype=np.int64)[None, None, :, None]
    channel = np.arange(3, dtype=np.int64)[None, None, None, :]

    def triangle(value: npt.NDArray[np.int64], period: int) -> npt.NDArray[np.int64]:
        return np.abs(value % (2 * period) - period) * 255 // period

    slope = triangle(3 * x + 2 * y + 5 * time + 40 * channel, 97)
    curve = triangle(x * x // 64 + y * y // 48 + 11 * time + 17 * channel, 61)
    board = (((x + 2 * time) // 16 + (y + time) // 12 + channel) % 2) * 64
    mixed = (x * 73856093) ^ (y * 19349663) ^ (time * 83492791) ^ (channel * 2654435761)
    # numpy's integer arrays wrap silently, as the formula wants.
    grain = ((mixed * 1103515245 + 12345) >> 16) & 31
    return np.clip((4 * slope + 3 * curve + 2 * board) // 9 + grain, 0, 255).astype(np.uint8)
