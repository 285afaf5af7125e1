"""The outlines of the laptop's scenes: how much of each pixel a shape covers."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

_SCALE = 4
"""Points of a pixel's side at which a shape is drawn."""


_FIXED = 16
"""OpenCV's fixed-point unit of coordinates at shift 4."""


def cover(shape: str, x: float, y: float, radius: float, height: int, width: int) -> npt.NDArray[np.float32]:
    """How much of each pixel a shape covers, in [0, 1], [height, width].

    It is centred at (x, y) in pixels from the top left corner and has the area of a circle of `radius`.
    """
    drawn = np.zeros((height * _SCALE, width * _SCALE), np.uint8)
    # A pixel of the drawing covers [k, k + 1]: OpenCV counts from its centre.
    centre = np.array([x, y]) * _SCALE - 0.5
    outline = (centre + OUTLINES[shape] * radius * _SCALE) * _FIXED
    cv2.fillPoly(drawn, [np.round(outline).astype(np.int32)], 255, lineType=cv2.LINE_8, shift=4)
    small = cv2.resize(drawn, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(small.astype(np.float32) / 255, dtype=np.float32)


def _polygon(corners: int, turn: float) -> npt.NDArray[np.float64]:
    """A regular polygon about the origin with the area of the unit circle, [corners, 2] as (x, y)."""
    angle = 2 * np.pi * (np.arange(corners) + turn) / corners
    reach = np.sqrt(2 * np.pi / (corners * np.sin(2 * np.pi / corners)))
    return np.asarray(reach * np.stack([np.sin(angle), -np.cos(angle)], axis=1))


OUTLINES = {"circle": _polygon(96, 0.0), "square": _polygon(4, 0.5), "triangle": _polygon(3, 0.0)}
"""Corners of the shapes, all of the unit circle's area; the triangle's tip is up."""
