"""VBench-Long's clips as frame ranges, and what becomes of their scores, in two modes side by side.

| | `official` | `corrected` |
|---|---|---|
| clip length | int(fps)·int(seconds) frames | round(fps·seconds) frames |
| seconds | the longest of all dimensions that the prompt serves | the dimension's own, as declared |
| pixels | every clip is encoded again (H.264, whole fps) | frames as they are |
| overall | mean over clips | mean over videos of the mean over their clips |

Both let the last clip overlap the one before it where the length does not divide the frames. `official` is what
VBench-Long does; its README and its paper describe `corrected`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Literal, TypeAlias

from flashbench.errors import InvalidError
from flashbench.vbench import dimensions

Mode: TypeAlias = Literal["official", "corrected"]
How: TypeAlias = Literal["whole"] | Mode
PREFIXES: Mapping[str, How] = MappingProxyType(
    {"vbench": "whole", "vbench_long": "corrected", "vbench_long_official": "official"}
)
"""What stands before the colon of a metric's name → how the clip is put before VBench."""

ENCODED: Mapping[Mode, bool] = MappingProxyType({"official": True, "corrected": False})
"""Whether a mode encodes its clips again before they are scored."""
CUSTOM_SECONDS = 2
"""Clip length for videos outside VBench's suites."""
FULL = "full"
_CLIP = re.compile(r"(?P<video>.+)_(?P<part>\d{3,}|full)", re.DOTALL)


@dataclass(frozen=True)
class Piece:
    """Frames [start, stop) of a video as one clip."""

    part: str
    """`000`, `001` … or `full`: what VBench-Long appends to the video's name."""
    start: int
    stop: int

    def name(self, video: str) -> str:
        """The clip's name without suffix, for the video of that name."""
        return f"{video}_{self.part}"


@dataclass(frozen=True, kw_only=True)
class Overall:
    """A dimension's value over clips, with what it rests on."""

    value: float
    """NaN where nothing was scored."""
    clips: int
    """Clips with a score."""
    of: int
    videos: int
    """Videos with a scored clip."""


def seconds(mode: Mode, dimension: str, served: Iterable[str] = (), *, custom: bool = False) -> int:
    """Length in seconds of the clips that a dimension sees in the default configuration (`clip_length_mix`).

    Args:
        mode: `official` cuts a video once, so the longest of its prompt's dimensions decides: aesthetic_quality and
            imaging_quality see 10 s, because overall_consistency uses the same videos.
        dimension: the dimension that is scored.
        served: all dimensions that the video's prompt serves (over all entries with that prompt).
        custom: a video outside VBench's suites: 2 s in both modes.
    """
    if custom:
        return CUSTOM_SECONDS
    declared = dimensions.dimension(dimension).clip_seconds
    if mode == "corrected":
        return declared
    return max([declared, *(dimensions.dimension(name).clip_seconds for name in served)])


def clip_frames(mode: Mode, fps: Fraction | float, seconds: float) -> int:
    """Number of frames of one of VBench-Long's clips of `seconds` at `fps`.

    Raises:
        InvalidError: the length is below one frame (officially a division by zero: int(0.5) s).
    """
    if mode == "official":
        frames = int(fps) * int(seconds)
    else:
        frames = math.floor(Fraction(fps) * Fraction(seconds) + Fraction(1, 2))
    if frames < 1:
        raise InvalidError(f"a clip of {seconds} s at {float(fps):g} frames/s has no frame", fix="take longer clips")
    return frames


def split(mode: Mode, frames: int, fps: Fraction | float, seconds: float) -> tuple[Piece, ...]:
    """The clips of a video: whole lengths from the start, then one overlapping clip that ends with the last frame.

    A video shorter than a clip is one clip, `full`.

    Raises:
        InvalidError: no frame in the video or in a clip.
    """
    length = clip_frames(mode, fps, seconds)
    if frames < 1:
        raise InvalidError("a video without frames has no clips", fix="check that the file is a whole video")
    if frames < length:
        return (Piece(FULL, 0, frames),)
    starts = [i * length for i in range(frames // length)]
    if frames % length:
        starts.append(frames - length)
    return tuple(Piece(f"{i:03d}", start, start + length) for i, start in enumerate(starts))


def parse(clip: str) -> tuple[str, str] | None:
    """(video's name, part) of a clip's name without suffix; None where it is no clip's name."""
    parts = _CLIP.fullmatch(clip)
    return (parts["video"], parts["part"]) if parts else None


def overall(mode: Mode, scores: Sequence[tuple[str, float]], *, filtered: bool = False) -> Overall:
    """A dimension's value from (video, score) of every clip; clips whose score is NaN are left out and counted.

    Args:
        mode: `official`: mean over clips, so a long video counts for more. `corrected`: mean over videos.
        scores: (video's name, score of one of its clips).
        filtered: the clips went through the static filter, after which VBench-Long averages per video too.
    """
    groups: dict[str, list[float]] = {}
    for place, (video, score) in enumerate(scores):
        if not math.isnan(score):
            # The slash keeps a clip of its own apart from any video: no file's name holds one.
            groups.setdefault(video if mode == "corrected" or filtered else f"{video}/{place}", []).append(score)
    means = [math.fsum(group) / len(group) for group in groups.values()]
    return Overall(
        value=math.fsum(means) / len(means) if means else math.nan,
        clips=sum(map(len, groups.values())),
        of=len(scores),
        videos=len({video for video, score in scores if not math.isnan(score)}),
    )
