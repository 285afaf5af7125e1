"""`sharpness` and `temporal_error`: fine detail and motion of a clip beside its reference's."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from flashbench.metrics.base import Floats, PairMetric, frame_mean
from flashbench.metrics.niqe import luma
from flashbench.types import Clip, Frames, Measurement


def laplacian_variance(frames: Frames) -> Floats:
    """Variance over pixels of the Laplacian (kernel 0 1 0 / 1 −4 1 / 0 1 0) of luma: [T, H, W, 3] → float64 [T]."""
    laplacians = (cv2.Laplacian(luma(frame), cv2.CV_64F, borderType=cv2.BORDER_REPLICATE) for frame in frames)
    return np.array([np.var(laplacian) for laplacian in laplacians], dtype=np.float64)


def temporal_error(frames: Frames, reference: Frames) -> Floats:
    """Mean |difference between the two clips' frame-to-frame changes| in levels: [T, H, W, C] twice → [T − 1]."""
    errors = []
    before = frames[0].astype(np.int16) - reference[0]
    for frame, other in zip(frames[1:], reference[1:], strict=True):
        # (a₁ − a₀) − (b₁ − b₀) = (a₁ − b₁) − (a₀ − b₀)
        after = frame.astype(np.int16) - other
        errors.append(float(np.sum(np.abs(after - before), dtype=np.int64)) / after.size)
        before = after
    return np.array(errors, dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class Sharpness(PairMetric):
    """Mean over frames of the clip's variance of the Laplacian, relative to the reference's.

    1 is as sharp as the reference. No direction: noise raises it as much as detail does.
    """

    def compare(self, clip: Clip, reference: Clip) -> Measurement:
        """NaN: a flat reference. Frames whose reference is flat are left out."""
        ours, theirs = laplacian_variance(clip.frames), laplacian_variance(reference.frames)
        ratio = np.full(len(ours), np.nan)
        np.divide(ours, theirs, out=ratio, where=theirs > 0)
        return frame_mean(ratio, "no sharpness ratio (the reference is flat)")


@dataclass(frozen=True, kw_only=True)
class TemporalError(PairMetric):
    """Mean absolute difference between the clip's and the reference's frame-to-frame differences."""

    def compare(self, clip: Clip, reference: Clip) -> Measurement:
        """NaN: a single frame. `per_frame` has one entry per transition."""
        if len(clip.frames) < 2:
            return Measurement.missing("a single frame has no change over time")
        return frame_mean(temporal_error(clip.frames, reference.frames), "no temporal error")


SHARPNESS = Sharpness(
    name="sharpness",
    direction="none",
    unit="× reference",
    range=(0.0, math.inf),
    preprocessing={
        "channel": "y-bt601-full-range, rounded",
        "border": "replicate",
        "kernel": "0 1 0 / 1 -4 1 / 0 1 0",
        "resize": "none",
        "frames": "all",
        "averaging": "ratio per frame, mean over frames",
    },
)
TEMPORAL_ERROR = TemporalError(
    name="temporal_error",
    direction="lower",
    unit="levels",
    range=(0.0, 510.0),
    preprocessing={
        "channel": "rgb",
        "border": 0,
        "resize": "none",
        "frames": "all",
        "averaging": "mean over pixels, channels, transitions",
    },
)
