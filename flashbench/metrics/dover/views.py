"""DOVER's views: which frames it sees, and the pieces of them that it is given.

The sampling is upstream's for its setting `val-l1080p`, which its scripts use for every video:

* technical: three clips of 32 frames, every second one, as fragments: a crop of 32×32 from each cell of a 7×7 grid,
  at native resolution, put together to 224×224.
* aesthetic: one clip of 32 frames, resized to 224×224 whatever the aspect.

Upstream draws from NumPy's and torch's global generators, unseeded; here all draws come from the generator that is
passed in. The distribution is upstream's, the stream is not. What is not random there (all frames of a 49-frame
clip) is exactly upstream's.

Plans are made before the first frame is read, and one pass over the frames serves several of them: what is kept is
crops, never frames.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from flashbench.types import Frames

Indices: TypeAlias = npt.NDArray[np.int64]

CLIPS = 3
LENGTH = 32
"""Frames of a clip."""
STEP = 2
GRID = 7
PIECE = 32
"""Side of a fragment; also the smallest height and width that a frame may have."""
SIDE = GRID * PIECE
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class Plan:
    """One draw of what DOVER looks at in a video of `count` frames of `height`×`width`."""

    count: int
    height: int
    width: int
    technical: Indices
    """Frames of the technical clips, (3, 32)."""
    aesthetic: Indices
    """Frames of the aesthetic clip, (32,)."""
    origins: Indices
    """Top and left of each fragment, (2, 7, 7, 3): grid row, grid column, clip; shared by a clip's frames."""


@dataclass(frozen=True)
class Views:
    """What DOVER's two branches see of a video, before `normalise`."""

    technical: Tensor
    """uint8 (3, 3, 32, 224, 224): clip, channel, frame, row, column."""
    aesthetic: Tensor
    """uint8 (1, 3, 32, 224, 224)."""


def technical_frames(count: int, generator: Generator) -> Indices:
    """Frames (3, 32) of the technical clips in a video of `count`; random from 198 frames upwards.

    Each third of the video gives one clip; a third shorter than a clip's 64 frames runs on into the next, and past the
    end around to the beginning.
    """
    return _frames(count, CLIPS, LENGTH, generator)


def aesthetic_frames(count: int, generator: Generator) -> Indices:
    """Frames (32,) of the aesthetic clip in a video of `count`: one of each 32nd part; random from 128 frames upwards.

    In a video of 32 to 63 frames these are the first 32, and in a shorter one the first frame 32 times, as upstream.
    """
    return _frames(count, LENGTH, 1, generator)[:, 0]


def fragment_origins(height: int, width: int, generator: Generator) -> Indices:
    """Top and left (2, 7, 7, 3) of a 32×32 crop in each cell of a 7×7 grid, for three clips; tops are drawn first.

    A crop lies anywhere in a cell larger than itself, the last position excepted (upstream's upper end is exclusive);
    smaller cells give their own corner, moved inside the frame.

    Raises:
        ValueError: a height or width below 32.
    """
    if min(height, width) < PIECE:
        raise ValueError(f"DOVER needs frames of at least {PIECE}×{PIECE}, not {height}×{width} (height×width)")
    tops, lefts = (_offsets(size, generator) for size in (height, width))
    tops += _corners(height)[:, None, None]
    lefts += _corners(width)[None, :, None]
    return np.stack([tops, lefts])


def plan(count: int, height: int, width: int, generator: Generator) -> Plan:
    """Draw a plan; in upstream's order: technical frames, aesthetic frames, tops, lefts.

    Raises:
        ValueError: no frames, or frames below 32×32.
    """
    technical, aesthetic = technical_frames(count, generator), aesthetic_frames(count, generator)
    return Plan(count, height, width, technical, aesthetic, fragment_origins(height, width, generator))


class Collector:
    """Takes in a video's frames and keeps, of each, what the plans' views want of it.

    Memory is that of one frame and of 19 MB per plan. `antialias` decides how the aesthetic branch shrinks frames:
    torchvision's Resize changed its default from False to True in 0.17, and DOVER's published scores with it.
    """

    def __init__(self, plans: Sequence[Plan], *, antialias: bool) -> None:
        self.plans, self.antialias = plans, antialias
        self.made = [_blank() for _ in plans]
        self.technical, self.aesthetic = _uses(plans)
        self.last = max(*self.technical, *self.aesthetic)
        """The last frame that any view needs."""
        self.seen = -1

    def add(self, frame: Frames) -> None:
        """Take in the next frame, uint8 [H, W, 3]; ValueError if it is of another type or size than planned."""
        _check(frame, self.plans[0])
        self.seen += 1
        if uses := self.technical.get(self.seen):
            source = _enlarged(frame)
            for number, clip, place in uses:
                _fragments(source, self.plans[number].origins[..., clip], self.made[number][0][clip, :, place])
        if uses := self.aesthetic.get(self.seen):
            small = resize(frame, antialias=self.antialias)
            for number, _, place in uses:
                self.made[number][1][0, :, place] = small

    def views(self) -> list[Views]:
        """The views of each plan; ValueError if fewer frames came than planned."""
        if self.seen < self.last:
            raise ValueError(f"the frames ended after {self.seen + 1}, frame {self.last} was planned")
        return [Views(*map(torch.from_numpy, pair)) for pair in self.made]


def views(frames: Iterable[Frames], plans: Sequence[Plan], *, antialias: bool) -> list[Views]:
    """The views of each plan for a video, from one pass over its frames; see `Collector`."""
    collector = Collector(plans, antialias=antialias)
    for frame in frames:
        collector.add(frame)
        if collector.seen == collector.last:
            break
    return collector.views()


def normalise(view: Tensor) -> Tensor:
    """uint8 (B, 3, T, H, W), RGB, to float32 with ImageNet's mean and deviation per channel."""
    mean, std = (torch.tensor(values, device=view.device).view(3, 1, 1, 1) for values in (MEAN, STD))
    return (view.float() - mean) / std


def resize(frame: Frames, *, antialias: bool) -> Frames:
    """uint8 [H, W, 3] to [3, 224, 224]: bilinear in float32, rounded; the aspect is not kept."""
    size = (SIDE, SIDE)
    small = F.interpolate(_planes(frame), size, mode="bilinear", align_corners=False, antialias=antialias)[0]
    out: Frames = small.round().clamp(0, 255).to(torch.uint8).numpy()
    return out


def _frames(count: int, cells: int, length: int, generator: Generator) -> Indices:
    """`length` frames with a step of two in each of `cells` equal parts of a video, (cells, length)."""
    if count < 1:
        raise ValueError("a video without frames has no views")
    part = count // cells
    room = part - length * STEP
    offsets = torch.randint(room, (cells,), generator=generator).numpy() if room > 0 else np.zeros(cells, np.int64)
    starts = part * np.arange(cells) + offsets
    indices: Indices = (starts[:, None] + STEP * np.arange(length)) % count
    return indices


def _offsets(size: int, generator: Generator) -> Indices:
    shape = (GRID, GRID, CLIPS)
    room = size // GRID - PIECE
    drawn: Indices = torch.randint(room, shape, generator=generator).numpy() if room > 0 else np.zeros(shape, np.int64)
    return drawn


def _corners(size: int) -> Indices:
    return np.minimum(size // GRID * np.arange(GRID), size - PIECE)


def _blank() -> tuple[Frames, Frames]:
    technical, aesthetic = (np.zeros((clips, 3, LENGTH, SIDE, SIDE), np.uint8) for clips in (CLIPS, 1))
    return technical, aesthetic


_Uses: TypeAlias = dict[int, list[tuple[int, int, int]]]
"""Frame → where it goes: plan, clip, place in the clip."""


def _uses(plans: Sequence[Plan]) -> tuple[_Uses, _Uses]:
    """Where frames go in the technical and in the aesthetic views."""
    technical: _Uses = defaultdict(list)
    aesthetic: _Uses = defaultdict(list)
    for number, item in enumerate(plans):
        for uses, indices in ((technical, item.technical), (aesthetic, item.aesthetic[None])):
            for (clip, place), frame in np.ndenumerate(indices):
                uses[int(frame)].append((number, clip, place))
    return technical, aesthetic


def _check(frame: Frames, like: Plan) -> None:
    if frame.dtype != np.uint8 or frame.shape != (like.height, like.width, 3):
        planned = [like.height, like.width, 3]
        raise ValueError(f"frames are uint8 {planned} as planned, not {frame.dtype} {list(frame.shape)}")


def _planes(frame: Frames) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(frame.transpose(2, 0, 1), dtype=np.float32))[None]


def _enlarged(frame: Frames) -> Frames:
    """A frame with a side below 224, so much larger that it reaches 224; levels are cut off, not rounded.

    The grid of fragments stays that of the frame as it was, so that only its top left part is seen: upstream's way.
    """
    ratio = min(frame.shape[:2]) / SIDE
    if ratio >= 1:
        return frame
    large = F.interpolate(_planes(frame), scale_factor=1 / ratio, mode="bilinear", align_corners=False)
    out: Frames = large[0].to(torch.uint8).permute(1, 2, 0).numpy()
    return out


def _fragments(frame: Frames, origins: Indices, out: Frames) -> None:
    """Write the crops at `origins` (2, 7, 7) of a frame into `out` [3, 224, 224]."""
    planes = frame.transpose(2, 0, 1)
    for row, column in np.ndindex(GRID, GRID):
        top, left = origins[:, row, column]
        cell = out[:, row * PIECE : (row + 1) * PIECE, column * PIECE : (column + 1) * PIECE]
        cell[:] = planes[:, top : top + PIECE, left : left + PIECE]
