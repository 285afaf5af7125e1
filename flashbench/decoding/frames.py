"""The pictures of a video file, decoded once and never held whole: 8-bit RGB, turned as they are shown."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.error import FFmpegError

from flashbench.decoding import gif
from flashbench.decoding.colour import shown
from flashbench.decoding.container import opened, packets, readable
from flashbench.decoding.damage import watch
from flashbench.decoding.source import turn
from flashbench.types import Frames


class Picture(NamedTuple):
    """A picture uint8 [H, W, 3] in RGB, and when it is shown."""

    frame: Frames
    start: Fraction | None
    """Seconds; None where the file has no times."""
    duration: Fraction
    """Seconds; 0 where the file does not say."""
    transparent: bool = False
    """Whether black shows through."""


def _decoded(packet: av.Packet[av.VideoStream], number: int) -> list[av.VideoFrame]:
    try:
        return packet.decode()
    except FFmpegError as error:
        raise ValueError(f"it is damaged near picture {number + 1}: {error.strerror}") from error


def pictures(path: Path) -> Iterator[Picture]:
    """Every picture that is shown, in order.

    Raises:
        Unreadable: it cannot be decoded to its end, is damaged, or changes its size.
    """
    with readable(path), opened(path) as (container, stream), watch(path) as damage:
        shape, number = None, 0
        unit = stream.time_base or Fraction(1, 1000)
        for packet in packets(container, stream):
            for frame in _decoded(packet, number):
                damage.check()
                if frame.is_corrupt:
                    raise ValueError(f"frame {number} is damaged")
                rotation, mirrored = turn(frame)
                rgb, transparent = shown(frame)
                turned = np.rot90(rgb, rotation // 90)
                upright: Frames = np.ascontiguousarray(turned[:, ::-1] if mirrored else turned, np.uint8)
                if shape not in (None, upright.shape):
                    raise ValueError(f"frame {number} is {upright.shape[0]}×{upright.shape[1]}, unlike those before it")
                shape, number = upright.shape, number + 1
                start = None if frame.pts is None else frame.pts * unit
                yield Picture(upright, start, (frame.duration or 0) * unit, transparent)
        damage.check()
        if shape is None:
            raise ValueError("no frame in it")
        if container.format.name == "gif" and number < (held := gif.pictures(path)):
            raise ValueError(f"FFmpeg shows {number} of its {held} pictures: write it with a duration for each")
