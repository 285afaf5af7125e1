"""Clips cut out of pictures: a drifting camera over a photograph, a crop of a video with a frame stride.

Nothing is ever enlarged, and a clip never leaves its picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt

from flashbench.errors import UsageError
from flashbench.types import Frames

PAN = 3.0
"""Pixels a frame that the camera moves at most, in pixels of the clip."""
ZOOM = 0.006
"""Relative change of scale a frame at most."""
TURN = 0.15
"""Degrees a frame at most."""
MARGIN = 2.0
"""Pixels that cubic interpolation reads beyond a point."""

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded photograph or video that clips are cut out of."""

    name: str
    frames: Frames
    """uint8 [T, H, W, 3] in RGB; T is 1 for a photograph."""
    detail: npt.NDArray[np.float32]
    """Gradient magnitude of the middle frame's luma, every fourth pixel: [H/4, W/4]."""

    @classmethod
    def of(cls, name: str, frames: Frames) -> Picture:
        """A picture from its frames, with its detail computed."""
        luma = cv2.cvtColor(frames[len(frames) // 2], cv2.COLOR_RGB2GRAY).astype(np.float32)
        slope = np.hypot(cv2.Sobel(luma, cv2.CV_32F, 1, 0), cv2.Sobel(luma, cv2.CV_32F, 0, 1))
        return cls(name, frames, slope[::4, ::4].astype(np.float32))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the picture's frames, in pixels."""
        return self.frames.shape[1], self.frames.shape[2]

    def median_detail(self, box: tuple[int, int, int, int]) -> float:
        """Median gradient in the box (top, left, bottom, right): texture counts, a single edge does not."""
        top, left, bottom, right = (edge // 4 for edge in box)
        return float(np.median(self.detail[top : max(bottom, top + 1), left : max(right, left + 1)]))


def shrink(frame: npt.NDArray[Any], height: int, width: int) -> Frames:
    """`frame` averaged down to `height` by `width`."""
    if frame.shape[:2] == (height, width):
        return cast(Frames, frame)
    return cast(Frames, cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA))


@dataclass(frozen=True)
class _Camera:
    """Drift of a view, per frame: pan (x, y) in pixels, zoom as a logarithm, turn in radians; `sway` bends the path."""

    pan: tuple[float, float]
    zoom: float
    turn: float
    sway: tuple[float, float, float]
    """Amplitude across the path in pixels, frequency in radians a frame, phase."""

    def matrices(self, frames: int) -> FloatArray:
        """Clip pixel (about the clip's centre) → picture pixel (about the path's middle): [frames, 2, 3]."""
        time = np.arange(frames, dtype=np.float64)
        mid = time - (frames - 1) / 2
        # The view only ever covers more of the picture than the clip has pixels: cubic interpolation never enlarges.
        scale = np.exp(abs(self.zoom) * (time if self.zoom > 0 else frames - 1 - time))
        angle = self.turn * mid
        amplitude, frequency, phase = self.sway
        across = amplitude * np.sin(frequency * time + phase)
        length = math.hypot(*self.pan) or 1.0
        shift_x = self.pan[0] * mid - self.pan[1] / length * across
        shift_y = self.pan[1] * mid + self.pan[0] / length * across
        cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
        rows = np.array([[cosine, -sine, shift_x], [sine, cosine, shift_y]])
        return np.ascontiguousarray(rows.transpose(2, 0, 1))

    def damped(self, factor: float) -> _Camera:
        """The same drift, `factor` times as fast."""
        amplitude, frequency, phase = self.sway
        pan = (self.pan[0] * factor, self.pan[1] * factor)
        return _Camera(pan, self.zoom * factor, self.turn * factor, (amplitude * factor, frequency, phase))


def _draw_camera(draw: np.random.Generator) -> _Camera:
    speed, heading = PAN * math.sqrt(draw.uniform(0.02, 0.8)), draw.uniform(0, 2 * math.pi)
    turn = math.radians(draw.uniform(-TURN, TURN))
    sway = (draw.uniform(0, 0.8), draw.uniform(0.3, 0.7), draw.uniform(0, 2 * math.pi))
    return _Camera((speed * math.cos(heading), speed * math.sin(heading)), draw.uniform(-ZOOM, ZOOM), turn, sway)


def _reach(matrices: FloatArray, height: int, width: int) -> tuple[float, float, float, float]:
    """How far the views go from the path's middle: top, left (negative), bottom, right, in picture pixels."""
    corners = np.array([[x, y, 1.0] for x in (-width / 2, width / 2) for y in (-height / 2, height / 2)])
    points = matrices @ corners.T
    (left, top), (right, bottom) = points.min(axis=(0, 2)) - MARGIN, points.max(axis=(0, 2)) + MARGIN
    return float(top), float(left), float(bottom), float(right)


def _cut_photograph(
    shown: Picture, factor: float, shape: tuple[int, int, int], draw: np.random.Generator, tries: int
) -> Frames:
    """A drifting view of a photograph shrunk by `factor` <= 1: uint8 [T, H, W, 3]."""
    frames, height, width = shape
    camera = _draw_camera(draw)
    rows, columns = shown.size
    for speed in (1.0, 0.5, 0.25, 0.0):
        matrices = camera.damped(speed).matrices(frames)
        top, left, bottom, right = _reach(matrices, height, width)
        # Where the path's middle may lie in the shrunk picture.
        low, high = np.array([-top, -left]), np.array([rows * factor - bottom, columns * factor - right])
        if (low <= high).all():
            break
    else:
        raise _too_small(shown, shape)

    def box(centre: FloatArray) -> tuple[int, int, int, int]:
        # In pixels of the picture itself; floor and ceil may step beyond its edge by rounding alone.
        start = np.maximum(np.floor((centre + (top, left)) / factor), 0).astype(int)
        end = np.minimum(np.ceil((centre + (bottom, right)) / factor), (rows, columns)).astype(int)
        return int(start[0]), int(start[1]), int(end[0]), int(end[1])

    centres = low + draw.random((tries, 2)) * (high - low)
    centre = max(centres, key=lambda point: shown.median_detail(box(point)))
    y0, x0, y1, x1 = box(centre)
    part = shrink(shown.frames[0, y0:y1, x0:x1], round((y1 - y0) * factor), round((x1 - x0) * factor))
    # From the shrunk picture's continuous coordinates to the part's, whose size was rounded.
    stretch = np.array([part.shape[1] / (x1 - x0), part.shape[0] / (y1 - y0)])
    origin = np.array([x0, y0], dtype=np.float64)
    clip = np.empty((frames, height, width, 3), np.uint8)
    for number, matrix in enumerate(matrices):
        linear = matrix[:, :2] * (stretch / factor)[:, None]
        middle = ((centre[::-1] + matrix[:, 2]) / factor - origin) * stretch
        # Pixel k covers [k, k + 1]: its centre is at k + 1/2.
        offset = middle - linear @ ((np.array([width, height]) - 1) / 2) - 0.5
        mapping = np.column_stack([linear, offset])
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        clip[number] = cv2.warpAffine(part, mapping, (width, height), flags=flags, borderMode=cv2.BORDER_CONSTANT)
    return clip


def _cut_video(
    shown: Picture, factor: float, shape: tuple[int, int, int], draw: np.random.Generator, tries: int
) -> Frames:
    """A crop of a video shrunk by `factor` <= 1, every first, second or third frame: uint8 [T, H, W, 3]."""
    frames, height, width = shape
    rows, columns = shown.size
    tall, wide = max(round(height / factor), height), max(round(width / factor), width)
    longest = min(3, (len(shown.frames) - 1) // max(frames - 1, 1))
    if longest < 1 or tall > rows or wide > columns:
        raise _too_small(shown, shape)
    stride = int(draw.integers(1, longest + 1))
    first = int(draw.integers(0, len(shown.frames) - stride * (frames - 1)))
    corners = np.stack([draw.integers(0, rows - tall + 1, tries), draw.integers(0, columns - wide + 1, tries)], axis=1)
    boxes = [(int(y), int(x), int(y) + tall, int(x) + wide) for y, x in corners]
    top, left, bottom, right = max(boxes, key=shown.median_detail)
    chosen = shown.frames[first : first + stride * (frames - 1) + 1 : stride, top:bottom, left:right]
    return np.stack([shrink(frame, height, width) for frame in chosen])


def _too_small(shown: Picture, shape: tuple[int, int, int]) -> UsageError:
    rows, columns = shown.size
    have = f"{len(shown.frames)} frames of {columns}x{rows}" if len(shown.frames) > 1 else f"{columns}x{rows}"
    return UsageError(
        f"source {shown.name} ({have}) is too small for a clip of {shape[0]} frames of {shape[2]}x{shape[1]}",
        fix="ask for a smaller or shorter clip: material is never enlarged",
    )


def cut(shown: Picture, factor: float, shape: tuple[int, int, int], draw: np.random.Generator, tries: int) -> Frames:
    """A clip of shape (frames, height, width) out of `shown` shrunk by `factor` <= 1: uint8 [T, H, W, 3].

    Of `tries` random places the one with the most texture is taken.

    Raises:
        UsageError: the picture is too small or too short.
    """
    chosen = _cut_photograph if len(shown.frames) == 1 else _cut_video
    return chosen(shown, factor, shape, draw, tries)
