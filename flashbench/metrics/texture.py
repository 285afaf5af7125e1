"""`sharpness` and `temporal_error`: fine detail and motion of a clip beside its reference's."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from flashbench.metrics.base import About, Pair, mismatch
from flashbench.metrics.motion import Transitions
from flashbench.types import Floats, Frames, Scope


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
class TemporalError(Transitions):
    """Mean absolute difference between the clip's and the reference's frame-to-frame differences."""

    scope: Scope = "pair"

    def refusal(self, about: About) -> str:
        """`mismatch`."""
        return mismatch(about)

    @property
    def absence(self) -> str:
        """The only way to have none: the reference is shorter than its container says."""
        return "no temporal error"

    def transition(self, before: Pair, after: Pair) -> float:
        """`temporal_error`; NaN where the reference has come to its end."""
        if before.reference is None or after.reference is None:
            return math.nan
        both = np.stack([before.frame, after.frame]), np.stack([before.reference, after.reference])
        return float(temporal_error(*both)[0])


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
