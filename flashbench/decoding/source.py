"""What a video file says of its pictures, found without decoding more than the first: their size, number and times."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type

from flashbench.decoding.colour import Colour, describe, hdr_reason
from flashbench.decoding.container import Unreadable, opened, packets, readable
from flashbench.decoding.lossless import is_lossless
from flashbench.decoding.side_data import beside

UNTIMED = Fraction(8)
"""Rate of what states none, like a folder of pictures: FlashVideo's."""
_TURNS = {
    (1, 0, 0, 1): (0, False),
    (0, -1, 1, 0): (90, False),
    (-1, 0, 0, -1): (180, False),
    (0, 1, -1, 0): (270, False),
    (-1, 0, 0, 1): (0, True),
    (0, -1, -1, 0): (90, True),
    (1, 0, 0, -1): (180, True),
    (0, 1, 1, 0): (270, True),
}
"""Display matrix (a, b, c, d), which puts a pixel at x' = ax + cy, y' = bx + dy → (rotation, mirrored) of `Source`."""


@dataclass(frozen=True, kw_only=True)
class Source(Colour):
    """What a container says of its video, and of its light."""

    height: int
    width: int
    fps: Fraction
    """The average rate (`average`)."""
    frames: int
    """Pictures that are shown: by the container's word until they have been decoded, then as decoded."""
    container: str
    codec: str
    rotation: int = 0
    """Degrees by which its pictures are turned to the left to be shown."""
    mirrored: bool = False
    """Whether left and right change places after that."""
    variable_rate: bool = False
    longest: float = 0.0
    """Seconds for which the longest picture but the last is shown; 0 where a file has no times."""

    repeated: int | None = None
    """Pictures that are the one before, byte for byte; None until they have been decoded."""
    transparent: bool = False
    """Whether black shows through any picture; told once they have been decoded."""
    lossless: bool | None = None
    """Whether it is coded without loss (`decoding.lossless`); None in records of before that was told."""

    @property
    def lowest_fps(self) -> Fraction:
        """The rate, or of a variable one the rate where it is lowest."""
        return 1 / Fraction(self.longest).limit_denominator(100_000) if self.variable_rate else self.fps

    def to_json(self) -> dict[str, Any]:
        """The source's fields as JSON data."""
        return {**asdict(self), "fps": f"{self.fps.numerator}/{self.fps.denominator}"}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Source:
        """The source of which `to_json` wrote the fields."""
        return cls(**{**fields, "fps": Fraction(fields["fps"])})


@dataclass(frozen=True)
class Times:
    """When the pictures of a video are shown."""

    starts: tuple[Fraction, ...]
    """Seconds, in order; one for each picture."""
    last: Fraction
    """Seconds for which the last one is shown."""

    def steps(self) -> tuple[Fraction, ...]:
        """Seconds from each picture to the next."""
        return tuple(after - before for before, after in zip(self.starts, self.starts[1:], strict=False))

    def spread(self, unit: Fraction) -> dict[str, Any]:
        """The fields `variable_rate` and `longest` of a `Source`; `unit` (s) is what the container rounds times to."""
        steps = self.steps() or (Fraction(0),)
        # Times that differ by one of the container's units are equal but for its rounding.
        return {"variable_rate": max(steps) - min(steps) > unit, "longest": float(max(steps))}

    def nearest(self, fps: Fraction) -> list[int]:
        """Numbers of the pictures nearest in time to the instants 0, 1/fps, 2/fps … from the first; ties: the earlier.

        There are as many instants as begin before the last picture ends, but for rounding. Pictures may be left out, or
        repeat.
        """
        if not self.starts:
            return []
        first = self.starts[0]
        starts = np.array([float(start - first) for start in self.starts])
        middles = (starts[:-1] + starts[1:]) / 2
        # An instant within rounding of a middle belongs to the earlier picture.
        instants = np.arange(self._instants(fps)) / float(fps)
        return [int(at) for at in np.searchsorted(middles + 1e-9, instants, side="left")]

    def _instants(self, fps: Fraction) -> int:
        """How many of the instants 0, 1/fps … begin before the last picture ends.

        Containers round times, by as much as steady steps differ; 29.97 stands for 30000/1001, and the other way round.
        """
        lasts, wobble = self.starts[-1] - self.starts[0] + self.last, Fraction(0)
        if steps := self.steps():
            step, wobble = sum(steps, Fraction(0)) / len(steps), max(steps) - min(steps)
            if wobble >= step:  # no rounding
                wobble = Fraction(0)
            elif abs(self.last - step) <= wobble:
                lasts += step - self.last
        return max(1, ceil((lasts - wobble / 2) * fps - Fraction(1, 100)))


def probe(path: Path) -> tuple[Source, Times]:
    """What a video file is, and when its pictures are shown.

    The number and the times follow from its packets: almost always those of the pictures that decoding shows.

    Raises:
        Unreadable: it cannot be opened, holds no video, or is cut short.
    """
    with readable(path):
        with opened(path) as (container, stream):
            first = next((frame for packet in packets(container, stream) for frame in packet.decode()), None)
            if first is None:
                raise ValueError("no frame in it")
            colour = describe(first, stream)
            if reason := hdr_reason(colour):
                raise Unreadable(f"is not measured: {reason}", fix="give it in SDR")
            rotation, mirrored = turn(first)
            height, width = (first.width, first.height) if rotation in (90, 270) else (first.height, first.width)
            about: dict[str, Any] = {
                "height": height,
                "width": width,
                "container": container.format.name,
                "codec": stream.codec_context.name,
                **colour.to_json(),
                "rotation": rotation,
                "mirrored": mirrored,
                "lossless": is_lossless(stream),
            }
        times, rate, unit = _times(path)
        return Source(**about, fps=rate, frames=len(times.starts), **times.spread(unit)), times


def _times(path: Path) -> tuple[Times, Fraction, Fraction]:
    """When pictures are shown by the times of their packets; their average rate, and the container's unit (s)."""
    with opened(path) as (container, stream):
        shown, unit = list[tuple[int | None, int]](), stream.time_base or Fraction(1, 1000)
        for packet in packets(container, stream):
            if packet.size and not packet.is_discard:
                shown.append((packet.pts, packet.duration or 0))
        stated = Fraction(stream.average_rate or stream.guessed_rate or UNTIMED)
    times = times_of([(None if pts is None else pts * unit, length * unit) for pts, length in shown], stated)
    return times, average(times, stated, unit), unit


def average(times: Times, stated: Fraction, unit: Fraction) -> Fraction:
    """Pictures a second: as a container states them, unless they are shown for another time than that by 2 %.

    GIF, Matroska and MPEG-TS state a rate that pictures have at their best. `unit` (s) is what times are rounded to.
    """
    steps, lasts = len(times.starts) - 1, times.starts[-1] - times.starts[0] if times.starts else Fraction(0)
    # How long the last picture stays is a guess in many containers.
    counted = ((steps, lasts), (steps + 1, lasts + times.last))
    fits = any(abs(number / stated - time) <= max(2 * unit, time / 50) for number, time in counted)
    return stated if fits or steps < 1 else steps / lasts


def times_of(shown: list[tuple[Fraction | None, Fraction]], rate: Fraction) -> Times:
    """`Times` of pictures with their (start, duration); at a steady `rate` where one of them has no start."""
    starts = [start for start, _ in shown if start is not None]
    if len(starts) < len(shown) or len(set(starts)) < len(starts):
        return Times(tuple(number / rate for number in range(len(shown))), 1 / rate)
    ordered = sorted((start, length) for start, length in shown if start is not None)
    return Times(tuple(start for start, _ in ordered), (ordered[-1][1] if ordered else Fraction(0)) or 1 / rate)


def turn(frame: av.VideoFrame) -> tuple[int, bool]:
    """(rotation, mirrored) of a frame's display matrix: 3×3 int32, two columns of 16.16 and one of 2.30 bits.

    Not `frame.rotation`, which takes a mirrored picture for one that stands on its head.

    Raises:
        ValueError: the matrix turns by no quarter.
    """
    data = beside(frame).get(Type.DISPLAYMATRIX)
    if data is None:
        return 0, False
    a, b, u, c, d, v, _, _, w = struct.unpack("=9i", bytes(data))
    parts = [divmod(number, 1 << 16) for number in (a, b, c, d)]
    quarter = _TURNS.get((parts[0][0], parts[1][0], parts[2][0], parts[3][0]))
    if quarter is None or any(rest for _, rest in parts) or (u, v, w) != (0, 0, 1 << 30):
        raise ValueError("its display matrix is not a quarter turn")
    return quarter
