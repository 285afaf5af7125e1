"""A clip over time: flicker, warping error and drifts of the clip alone, `temporal_error` beside its reference.

`temporal_flicker` and `frame_difference_energy` compare neighbouring frames where they stand and so count motion as
change; `warping_error` takes the motion out first; `colour_drift` and `sharpness_drift` compare the clip's end with its
beginning. A clip that does not move at all is perfect to all of these but `frame_difference_energy`, which has no
direction: read them beside it. `temporal_error` compares the changes of the clip with those of its reference.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from flashbench.metrics.base import About, Metric, Pair, Stream, frame_mean, mismatch
from flashbench.metrics.detail import laplacian_variance
from flashbench.metrics.registry import register
from flashbench.types import Floats, Frames, Measurement, Scalar, Scope

SMALLEST = 16
"""Shortest side that DIS flow can take: at half size its 8×8 patch still fits. Below, OpenCV 5.0 reads out of bounds
and may take the process with it."""
SEGMENT = 0.15
"""Share of the frames that are a clip's beginning, and its end."""

Flow: TypeAlias = npt.NDArray[np.float32]
Mask: TypeAlias = npt.NDArray[np.bool_]
Estimator: TypeAlias = Callable[[Frames, Frames], tuple[Flow, Flow]]
"""Flow from the first frame to the second and back."""

ONE_FRAME = "a single frame has no change over time"


def grey(frame: Frames) -> Frames:
    """Full-range BT.601 luma by OpenCV's integers, rounded: uint8 [H, W, 3] → uint8 [H, W]."""
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY), np.uint8)


def flicker(before: Frames, after: Frames) -> float:
    """Mean |after − before| over pixels and channels, in levels: uint8 [H, W, 3] twice."""
    return int(np.sum(cv2.absdiff(before, after), dtype=np.int64)) / after.size


def energy(before: Frames, after: Frames) -> float:
    """Mean (after − before)² over pixels and channels, in levels²: uint8 [H, W, 3] twice."""
    difference = cv2.absdiff(before, after)
    return int(np.sum(np.square(difference, dtype=np.uint16), dtype=np.int64)) / after.size


def temporal_error(frames: Frames, reference: Frames) -> Floats:
    """Mean |difference between the two clips' frame-to-frame changes| in levels: [T, H, W, C] twice → [T − 1]."""
    errors = []
    before = frames[0].astype(np.int16) - reference[0]
    for frame, target in zip(frames[1:], reference[1:], strict=True):
        # (a₁ − a₀) − (b₁ − b₀) = (a₁ − b₁) − (a₀ − b₀)
        after = frame.astype(np.int16) - target
        errors.append(float(np.sum(np.abs(after - before), dtype=np.int64)) / after.size)
        before = after
    return np.array(errors, dtype=np.float64)


def flows(before: Frames, after: Frames) -> tuple[Flow, Flow]:
    """Optical flow (x, y) in pixels from `before` to `after` and back: uint8 [H, W, 3] twice → float32 [H, W, 2] twice.

    T. Kroeger et al., "Fast optical flow using dense inverse search", ECCV 2016, as OpenCV's preset MEDIUM on luma
    (patch 8, stride 3, 25 steps, finest scale half size, 5 rounds of variational refinement). It gives the same on any
    number of threads.

    Raises:
        ValueError: a side is shorter than `SMALLEST`.
    """
    if min(before.shape[:2]) < SMALLEST:
        raise ValueError(f"optical flow needs frames of at least {SMALLEST}×{SMALLEST}, not {before.shape[:2]}")
    first, second = grey(before), grey(after)
    return _flow(first, second), _flow(second, first)


def _flow(first: Any, second: Any) -> Flow:
    # A fresh search each time: on small frames it keeps the scales that it chose, and the next flow would differ.
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return np.asarray(search.calc(first, second, np.empty(0, np.float32)), np.float32)


def hidden(forward: Flow, backward: Flow) -> Mask:
    """Which pixels of the first frame the second cannot show, or whose flow cannot be trusted: → bool [H, W].

    M. Ruder, A. Dosovitskiy, T. Brox, "Artistic style transfer for videos", GCPR 2016, section 4.2, here from the
    first frame's side. With w the forward flow and ŵ the backward flow where w leads:
    |w + ŵ|² > 0.01 (|w|² + |ŵ|²) + 0.5 (occluded), or |∇u|² + |∇v|² > 0.01 |w|² + 0.002 (edge of a motion; central
    differences). Also what leaves the frame.
    """
    height, width = forward.shape[:2]
    x, y = landing(forward)
    there: Any = cv2.remap(backward, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    length = _square(forward)
    occluded = _square(forward + there) > 0.01 * (length + _square(there)) + 0.5
    down, right = np.gradient(forward, axis=(0, 1))
    edge = _square(down) + _square(right) > 0.01 * length + 0.002
    outside = (x < 0) | (x > width - 1) | (y < 0) | (y > height - 1)
    return np.asarray(occluded | edge | outside)


def warping_error(before: Frames, after: Frames, estimator: Estimator = flows) -> float:
    """Mean (before − after warped onto it)² over visible pixels and channels, levels as 0 … 1; NaN if none is visible.

    W.-S. Lai et al., "Learning blind video temporal consistency", ECCV 2018, E_warp, divided by 3 as in the
    authors' code (it takes the mean over channels, the paper writes their sum). Bilinear; visible is not `hidden`.
    """
    forward, backward = estimator(before, after)
    visible = ~hidden(forward, backward)
    if not visible.any():
        return math.nan
    warped = cv2.remap(after.astype(np.float32), *landing(forward), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    difference = (warped[visible] - before[visible]) / 255
    return float(np.mean(difference * difference, dtype=np.float64))


def _square(vectors: Any) -> Any:
    """Squared length: float32 [H, W, 2] → [H, W]."""
    return vectors[..., 0] ** 2 + vectors[..., 1] ** 2


def landing(flow: Flow) -> tuple[Flow, Flow]:
    """Where each pixel's flow leads: x and y, float32 [H, W] each."""
    height, width = flow.shape[:2]
    x = flow[..., 0] + np.arange(width, dtype=np.float32)
    y = flow[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    return np.asarray(x, np.float32), np.asarray(y, np.float32)


@dataclass(frozen=True, kw_only=True)
class Transitions(Metric):
    """A metric that is a mean over pairs of neighbouring frames; `per_frame` has an entry each. Holds two frames."""

    scope: Scope = "video"

    @abstractmethod
    def transition(self, before: Pair, after: Pair) -> float:
        """The value of two neighbouring frames; NaN if they have none."""

    @property
    def over_time(self) -> bool:
        """Whether the value depends on the rate or on neighbours in time: always, for it compares neighbours."""
        return True

    @property
    def undefined_frame(self) -> str:
        """What the reason of a measurement says that a pair of frames without a value lacks."""
        return f"no {self.name}"

    def stream(self, about: About) -> Stream:
        """Mean over a clip's pairs of neighbouring frames; NaN: a single frame, or a clip that `undefined` refuses."""
        if reason := self.undefined(about):
            return Measurement.missing(reason)
        values: list[float] = []
        before: Pair | None = None
        while (pair := (yield)) is not None:
            if before is not None:
                values.append(self.transition(before, pair))
            before = pair
        if not values:
            return Measurement.missing(ONE_FRAME)
        return frame_mean(values, self.undefined_frame)


@dataclass(frozen=True, kw_only=True)
class TemporalFlicker(Transitions):
    """Mean `flicker` of neighbouring frames, in levels.

    It is 255 (1 − VBench's temporal_flickering), without VBench's static filter.
    """

    def transition(self, before: Pair, after: Pair) -> float:
        """`flicker` between two neighbouring frames, in levels."""
        return flicker(before.frame, after.frame)


@dataclass(frozen=True, kw_only=True)
class FrameDifferenceEnergy(Transitions):
    """Mean `energy` of neighbouring frames, in levels². No direction: motion raises it as noise does."""

    def transition(self, before: Pair, after: Pair) -> float:
        """`energy` between two neighbouring frames, in levels²."""
        return energy(before.frame, after.frame)


@dataclass(frozen=True, kw_only=True)
class TemporalError(Transitions):
    """Mean absolute difference between the clip's and the reference's frame-to-frame differences."""

    scope: Scope = "pair"

    def undefined(self, about: About) -> str:
        """Why a clip cannot be compared with its reference (`mismatch`); empty where it can."""
        return mismatch(about)

    @property
    def undefined_frame(self) -> str:
        """What a pair of frames is said to lack where the reference has ended before its container says."""
        return "no temporal error"

    def transition(self, before: Pair, after: Pair) -> float:
        """`temporal_error` of two neighbouring frames; NaN where the reference has come to its end."""
        if before.reference is None or after.reference is None:
            return math.nan
        clips = np.stack([before.frame, after.frame]), np.stack([before.reference, after.reference])
        return float(temporal_error(*clips)[0])


@dataclass(frozen=True, kw_only=True)
class WarpingError(Transitions):
    """Mean `warping_error` of neighbouring frames; pairs without a visible pixel (a cut, pure noise) are left out."""

    def undefined(self, about: About) -> str:
        """Why a clip has no warping error: DIS flow cannot take frames so small; empty where it has one."""
        small = min(about.shape[1:]) < SMALLEST
        return f"clip is {about.size}: optical flow needs frames of at least {SMALLEST}×{SMALLEST}" if small else ""

    @property
    def undefined_frame(self) -> str:
        """Why a pair of frames has no warping error: no pixel is visible in both, the only way to have none."""
        return "no pixel visible in the next frame"

    def transition(self, before: Pair, after: Pair) -> float:
        """`warping_error` between two neighbouring frames."""
        return warping_error(before.frame, after.frame)


@dataclass(frozen=True, kw_only=True)
class _Drift(Metric):
    """How far a clip's end is from its beginning: the root mean square over the entries of M(end) − M(beginning).

    The contrast of start and end of L. Zhang et al., "Frame context packing and drift prevention in next-frame-
    prediction video diffusion models" (FramePack), 2025, |M(V_start) − M(V_end)|: V_start and V_end are the first and
    the last 15 % of the frames (rounded down, at least one), and M(V) is the mean of a statistic over V's frames.
    FramePack takes learned scores as M; the statistics here are ours and need no weights. What the scene is meant to do
    (a sunset, a pan) counts too. `per_frame` is each frame's distance from the beginning. Holds one frame.
    """

    scope: Scope = "video"

    @abstractmethod
    def statistic(self, frame: Frames) -> Floats:
        """What is followed over time: [H, W, 3] → float64 [k]; NaN where the frame has none."""

    def stream(self, about: About) -> Stream:
        """NaN: a single frame, or no frame at an end that has the statistic."""
        rows: list[Floats] = []
        while (pair := (yield)) is not None:
            rows.append(self.statistic(pair.frame))
        if len(rows) < 2:
            return Measurement.missing(ONE_FRAME)
        table = np.stack(rows)
        count = max(1, int(SEGMENT * len(table)))
        present = np.asarray(~np.isnan(table).any(axis=1))
        if not (present[:count].any() and present[-count:].any()):
            return Measurement.missing(f"no {self.name}: the first or the last {count} of {len(table)} frames are flat")
        first = table[:count][present[:count]].mean(axis=0)
        last = table[-count:][present[-count:]].mean(axis=0)
        distances = np.sqrt(np.mean((table - first) ** 2, axis=1))
        absent = len(table) - int(present.sum())
        return Measurement(
            value=float(np.sqrt(np.mean((last - first) ** 2))),
            per_frame=tuple(distances.tolist()),
            reason=f"{absent} of {len(table)} frames are flat" if absent else "",
        )


@dataclass(frozen=True, kw_only=True)
class ColourDrift(_Drift):
    """Drift of the frame's mean colour, in levels: a clip that brightens evenly by d levels drifts by d."""

    def statistic(self, frame: Frames) -> Floats:
        """Mean of red, green and blue over a frame's pixels, in levels: float64 [3]."""
        # Sums of whole numbers below 2⁵³ are exact in float64.
        return np.array(cv2.sumElems(frame)[:3]) / (frame.shape[0] * frame.shape[1])


@dataclass(frozen=True, kw_only=True)
class SharpnessDrift(_Drift):
    """Drift of the logarithm of the Laplacian's variance, in doublings: 1 if it doubles or halves."""

    def statistic(self, frame: Frames) -> Floats:
        """log₂ of a frame's `laplacian_variance`: float64 [1]; NaN of a flat frame."""
        variance = laplacian_variance(frame[None])
        return np.log2(np.where(variance > 0, variance, math.nan))


_NATIVE: Mapping[str, Scalar] = {"channel": "rgb", "border": 0, "resize": "none", "frames": "all"}
_ENDS = "first and last 15 % of frames, rounded down, at least 1"
TEMPORAL_FLICKER = TemporalFlicker(
    name="temporal_flicker",
    direction="lower",
    unit="levels",
    range=(0.0, 255.0),
    preprocessing={**_NATIVE, "static_filter": False, "averaging": "over pixels, channels, pairs of frames"},
)
FRAME_DIFFERENCE_ENERGY = FrameDifferenceEnergy(
    name="frame_difference_energy",
    direction="none",
    unit="levels²",
    range=(0.0, 255.0**2),
    scale="log",
    preprocessing={**_NATIVE, "averaging": "over pixels, channels, pairs of frames"},
)
TEMPORAL_ERROR = TemporalError(
    name="temporal_error",
    direction="lower",
    unit="levels",
    range=(0.0, 510.0),
    preprocessing={**_NATIVE, "averaging": "mean over pixels, channels, transitions"},
)
WARPING_ERROR = WarpingError(
    name="warping_error",
    direction="lower",
    unit="",
    range=(0.0, 1.0),
    scale="log",
    preprocessing={
        **_NATIVE,
        "levels": "0 to 1",
        "flow": "OpenCV DIS, preset MEDIUM, on y-bt601-full-range",
        "warp": "second frame onto the first, bilinear",
        "occlusion": "|w + w'|^2 > 0.01 (|w|^2 + |w'|^2) + 0.5",
        "motion_boundary": "|grad u|^2 + |grad v|^2 > 0.01 |w|^2 + 0.002",
        "outside": "left out",
        "averaging": "squared error over visible pixels, channels, then pairs of frames",
    },
)
COLOUR_DRIFT = ColourDrift(
    name="colour_drift",
    direction="lower",
    unit="levels",
    range=(0.0, 255.0),
    preprocessing={**_NATIVE, "ends": _ENDS, "statistic": "mean colour", "averaging": "root mean square over channels"},
)
SHARPNESS_DRIFT = SharpnessDrift(
    name="sharpness_drift",
    direction="lower",
    unit="doublings",
    range=(0.0, math.inf),
    preprocessing={
        **_NATIVE,
        "channel": "y-bt601-full-range, rounded",
        "border": "replicate",
        "kernel": "0 1 0 / 1 -4 1 / 0 1 0",
        "ends": _ENDS,
        "statistic": "log2 of the variance of the Laplacian",
        "averaging": "over an end's frames that are not flat",
    },
)
register(TEMPORAL_FLICKER, FRAME_DIFFERENCE_ENERGY, TEMPORAL_ERROR, WARPING_ERROR, COLOUR_DRIFT, SHARPNESS_DRIFT)
