"""VBench's temporal_flickering, natively: the one dimension that needs no network.

(255 − mean over pairs of consecutive frames of their mean absolute difference) / 255, on all frames at their native
size, 0 … 1, higher is better. VBench subtracts frames in float32; here the sums are whole numbers, hence exact in any
order, and the two agree to 1e-6. Its static filter comes before (`static_filter`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from flashbench import video
from flashbench.errors import InvalidError
from flashbench.metrics.base import About, Metric, Stream, frame_mean
from flashbench.metrics.registry import register
from flashbench.types import Floats, Frames, Measurement


def pairs(frames: Iterable[Frames]) -> Floats:
    """(255 − mean absolute difference) / 255 of consecutive frames: uint8 [H, W, C] each → float64 [T − 1].

    Holds two frames at a time. The order of channels does not matter.

    Raises:
        InvalidError: the frames differ in size.
    """
    scores: list[float] = []
    before: Frames | None = None
    for frame in frames:
        if before is not None:
            if frame.shape != before.shape:
                what = f"frame {len(scores) + 1} is {frame.shape[:2]}, the one before it {before.shape[:2]}"
                raise InvalidError(what, fix="give frames of one size")
            difference = int(np.sum(cv2.absdiff(frame, before), dtype=np.int64))
            scores.append((255 - difference / frame.size) / 255)
        before = frame
    return np.array(scores, dtype=np.float64)


def score(frames: Iterable[Frames]) -> Measurement:
    """temporal_flickering of frames: mean of `pairs`, with each pair's value; NaN below two frames."""
    values = pairs(frames)
    return (
        frame_mean(values, "no value") if len(values) else Measurement.missing("temporal flickering needs two frames")
    )


def score_file(path: Path) -> Measurement:
    """temporal_flickering of a video file, as `flashbench.video` decodes it; holds two frames.

    Equal to VBench's value within 1e-6 on files of 8 bits that are tagged BT.601 or not at all: OpenCV 4, by which
    VBench decodes, takes every file for BT.601, whatever it is tagged (7e-5 apart in the score of one BT.709 clip).

    Raises:
        InvalidError: the file cannot be decoded (VBench leaves one out silently that OpenCV cannot open).
    """
    return score(video.frames(path))


@dataclass(frozen=True, kw_only=True)
class TemporalFlickering(Metric):
    """VBench's temporal_flickering of a clip's frames (`score`)."""

    @property
    def over_time(self) -> bool:
        """Whether the value depends on the rate or on neighbours in time: always, for it compares neighbours."""
        return True

    def stream(self, about: About) -> Stream:
        """Mean over the clip's pairs of consecutive frames; NaN: a single frame."""
        values: list[float] = []
        before: Frames | None = None
        while (pair := (yield)) is not None:
            if before is not None:
                values.extend(pairs((before, pair.frame)))
            before = pair.frame
        return frame_mean(values, "no value") if values else Measurement.missing("temporal flickering needs two frames")


TEMPORAL_FLICKERING = TemporalFlickering(
    name="vbench_temporal_flickering",
    direction="higher",
    unit="",
    range=(0.0, 1.0),
    scope="video",
    preprocessing={
        "channel": "rgb",
        "resize": "none",
        "frames": "all",
        "static_filter": False,
        "averaging": "absolute difference over pixels and channels, score over pairs of frames",
    },
)
register(TEMPORAL_FLICKERING)
