"""`sharpness` and `temporal_error`: fine detail and motion of a clip beside its reference's."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from flashbench.metrics.base import About, Floats, Metric, Pair, PairMetric, Stream, frame_mean, mismatch
from flashbench.metrics.niqe import luma
from flashbench.types import Frames, Measurement, Scope


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

    1 is as sharp as the reference. No direction: noise raises it as much as detail does. Frames whose reference is flat
    are left out.
    """

    def compare(self, frame: Frames, reference: Frames) -> float:
        """The ratio; NaN beside a flat reference."""
        ours, theirs = laplacian_variance(frame[None])[0], laplacian_variance(reference[None])[0]
        return float(ours / theirs) if theirs > 0 else math.nan

    @property
    def absence(self) -> str:
        """The only way to have none."""
        return "no sharpness ratio (the reference is flat)"


@dataclass(frozen=True, kw_only=True)
class TemporalError(Metric):
    """Mean absolute difference between the clip's and the reference's frame-to-frame differences."""

    scope: Scope = "pair"

    def stream(self, about: About) -> Stream:
        """NaN: a single frame, no reference or one of another shape. `per_frame` has one entry per transition."""
        if reason := mismatch(about):
            return Measurement.missing(reason)
        errors: list[float] = []
        before: Pair | None = None
        while (pair := (yield)) is not None:
            if pair.reference is None:
                errors.append(math.nan)
                continue
            if before is not None and before.reference is not None:
                both = np.stack([before.frame, pair.frame]), np.stack([before.reference, pair.reference])
                errors.append(float(temporal_error(*both)[0]))
            before = pair
        if not errors:
            return Measurement.missing("a single frame has no change over time")
        return frame_mean(errors, "no temporal error")


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
