"""Fine structure beside the reference's: is it the reference's detail, or grain, and does the grain boil over time?

`high_pass_correlation` says how much of a frame's finest structure is the reference's; grain, blur and misplaced detail
lower it. `flat_noise` is grain where the reference is smoothest, `temporal_residual` what is left of a frame when the
one before is moved onto it: both are ratios to the reference's own, 1 is right, more is grain or flicker, less is
smoothing. Together they tell grain from detail, which `niqe` and `laplacian_variance` cannot.

The two ratios are of sums of levels, over the frames of a clip and over the clips of a set: a mean of ratios would be
decided by the clips whose reference has nearly none, one of sums of squares by the few that have most.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from flashbench.metrics import motion
from flashbench.metrics.base import About, Pair, PairMetric, SetMetric, Stream, frame_mean, mismatch
from flashbench.metrics.motion import Flow, Mask, grey
from flashbench.metrics.registry import register
from flashbench.types import Floats, Frames, Measurement, Scope

Blocks: TypeAlias = npt.NDArray[np.int32]
Levels: TypeAlias = tuple[float, float]
"""Root mean squares, in levels of luma, of the clip and of its reference; NaN twice: nothing to look at."""

SIGMA = 1.5
"""Of the Gaussian that the high-pass takes away, in pixels."""
TAPS = 13
"""Of that Gaussian: cut off at four standard deviations."""
BLOCK = 8
"""Side of the blocks of `flat_noise`, in pixels."""
SMOOTHEST = 0.2
"""Share of the reference's blocks that are its flat areas."""
SIDE = 384
"""Pixels, about, of the shorter side at which flow is estimated: shrunk by a whole factor, 2 for 720p, 3 for 1080p."""

# Levels; a residual below is rounding. One level at one pixel of a frame of 4K is more.
_ROUNDING = 2e-4
# Below the Gaussian's at its own pixel, so that it stands in where nothing is visible only.
_NO_WEIGHT = np.float32(1e-3)


def high_pass(level: Any) -> Floats:
    """A plane less its Gaussian blur (σ `SIGMA`, mirrored at the border): [H, W] → float64 [H, W]."""
    blurred = _blurred(np.asarray(level, np.float64))
    return np.asarray(np.subtract(level, blurred, out=blurred))


def _blurred(level: Any) -> Any:
    return cv2.GaussianBlur(level, (TAPS, TAPS), SIGMA, borderType=cv2.BORDER_REFLECT_101)


def high_pass_correlation(frame: Frames, reference: Frames) -> float:
    """Pearson's correlation over pixels of the two frames' `high_pass` of luma, −1 … 1: uint8 [H, W, 3] twice.

    Higher is better. Brightness and contrast leave it as it is; white noise of s times the high-pass's power makes it
    1/√(1 + s). NaN if one of the frames is flat.
    """
    levels = [grey(each) for each in (frame, reference)]
    if any(level.min() == level.max() for level in levels):
        return math.nan
    ours, theirs = (high_pass(level) for level in levels)
    ours -= ours.mean()
    theirs -= theirs.mean()
    found = np.sum(ours * theirs) / math.sqrt(np.sum(ours * ours) * np.sum(theirs * theirs))
    return float(np.clip(found, -1, 1))


def flat_levels(frame: Frames, reference: Frames) -> Levels:
    """RMS of the Laplacian in the reference's flat areas, of both frames: uint8 [H, W, 3] twice.

    Flat areas are the fifth of the reference's 8×8 blocks (rounded up) whose luma varies least, with all that tie with
    the last of them; what is left at the right and at the bottom belongs to none. The Laplacian (kernel 0 1 0 / 1 −4 1
    / 0 1 0) is taken where it lies inside its block, so that no edge beside a block counts. The reference's own is 0 in
    flat frames, and where bars or clipped areas that hold no noise at all are a fifth of the frame. NaN below 8×8.
    """
    if min(frame.shape[:2]) < BLOCK:
        return math.nan, math.nan
    ours, theirs = (_blocks(grey(each)) for each in (frame, reference))
    spread = BLOCK**2 * np.sum(theirs * theirs, axis=(1, 2)) - np.sum(theirs, axis=(1, 2)) ** 2
    place = math.ceil(SMOOTHEST * len(spread)) - 1
    smooth = spread <= np.partition(spread, place)[place]
    noise, own = (math.sqrt(np.mean(_laplacian(blocks[smooth]) ** 2)) for blocks in (ours, theirs))
    return noise, own


def _blocks(level: Frames) -> Blocks:
    """Whole blocks of a plane: uint8 [H, W] → int32 [⌊H/8⌋ · ⌊W/8⌋, 8, 8], so that variances are exact and tie."""
    rows, columns = (side // BLOCK for side in level.shape)
    whole = level[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK)
    return np.asarray(whole.swapaxes(1, 2), np.int32).reshape(-1, BLOCK, BLOCK)


def _laplacian(blocks: Blocks) -> Blocks:
    """Where the kernel lies inside the block: [N, 8, 8] → [N, 6, 6]."""
    around = blocks[:, :-2, 1:-1] + blocks[:, 2:, 1:-1] + blocks[:, 1:-1, :-2] + blocks[:, 1:-1, 2:]
    return np.asarray(around - 4 * blocks[:, 1:-1, 1:-1])


def backward_flow(before: Frames, after: Frames) -> tuple[Flow, Mask]:
    """Where each pixel of `after` was in `before`, and which pixels were visible there: uint8 [H, W, 3] twice.

    → float32 [H, W, 2] (x, y) in pixels, bool [H, W]. `motion.flows` and `motion.hidden`, by which `warping_error`
    goes, of frames that are shrunk (area) by the whole factor that brings the shorter side nearest to `SIDE`.

    Raises:
        ValueError: a side is shorter than `motion.SMALLEST`.
    """
    height, width = after.shape[:2]
    factor = max(1, round(min(height, width) / SIDE))
    rows, columns = round(height / factor), round(width / factor)
    small = [cv2.resize(each, (columns, rows), interpolation=cv2.INTER_AREA) for each in (before, after)]
    there, back = motion.flows(*(np.asarray(each, np.uint8) for each in small))
    visible: Any = (~motion.hidden(back, there)).astype(np.uint8)
    scale = np.array([width / columns, height / rows], np.float32)
    whole: Any = cv2.resize(back, (width, height), interpolation=cv2.INTER_LINEAR)
    visible = cv2.resize(visible, (width, height), interpolation=cv2.INTER_NEAREST)
    return np.asarray(whole * scale, np.float32), np.asarray(visible, np.bool_)


def compensated_residual(before: Frames, after: Frames, back: Flow, visible: Mask) -> float:
    """RMS over visible pixels of the high-pass of what the flow does not explain of `after`, in levels of luma.

    uint8 [H, W, 3] twice, with the flow and the mask of `backward_flow`: after(x) − before(x + back(x)), bilinear. The
    Gaussian that `high_pass` takes away is here that of the visible pixels alone, G(v r) / G(v) (normalised
    convolution), so that nothing of what was hidden is spread, and a change of brightness leaves nothing. NaN if no
    pixel was visible.
    """
    if not visible.any():
        return math.nan
    level = grey(before).astype(np.float32)
    warped = cv2.remap(level, *motion.landing(back), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    weight = visible.astype(np.float32)
    change = (grey(after) - warped) * weight
    fine = (change - _blurred(change) / np.maximum(_blurred(weight), _NO_WEIGHT)) * weight
    return math.sqrt(np.sum(fine * fine, dtype=np.float64) / np.count_nonzero(visible))


@dataclass(frozen=True, kw_only=True)
class HighPassCorrelation(PairMetric):
    """Mean over frames of the frame's `high_pass_correlation`, those left out that are flat or beside a flat one."""

    def compare(self, frame: Frames, reference: Frames) -> float:
        """`high_pass_correlation` of a frame; NaN if one of the two is flat."""
        return high_pass_correlation(frame, reference)

    @property
    def undefined_frame(self) -> str:
        """Why a frame has no correlation: one of the two does not vary."""
        return "no high-pass correlation (the frame or the reference is flat, or the reference has ended)"


@dataclass(frozen=True, kw_only=True)
class RatioOfSums(SetMetric):
    """Σ root mean squares / Σ the reference's, over the frames or transitions of a clip and over the clips of a set.

    A clip weighs by the level of its reference: one that is nearly still or noiseless hardly moves a set, and one that
    is grainy moves it by its level, not by the square. The two sums, in levels of luma, are the statistics.
    `per_frame` has each frame's own ratio, NaN where its reference has nothing; such a frame, and a clip of such
    frames, has no ratio of its own but counts in the sums.
    """

    scope: Scope = "pair"
    finite_sample_bias: ClassVar[bool] = False

    @abstractmethod
    def levels(self, frames: Sequence[Frames], references: Sequence[Frames]) -> Levels:
        """Root mean squares of a frame and its reference: lists of one, or of two neighbours for a metric over time."""

    def undefined(self, about: About) -> str:
        """No reference, another shape, or frames of a size that the metric has no value for."""
        return mismatch(about) or self.undefined_size(about)

    @abstractmethod
    def undefined_size(self, about: About) -> str:
        """Why frames of that size have no value; empty if they may have one."""

    @property
    @abstractmethod
    def undefined_frame(self) -> str:
        """Why a frame has no ratio of its own."""

    def stream(self, about: About) -> Stream:
        """The ratio of a clip and its two sums.

        NaN: a clip that `undefined` refuses, a single frame for a metric over time, a reference that has nothing in
        any frame. The last keeps its statistics, if there was anything to look at.
        """
        if reason := self.undefined(about):
            return Measurement.missing(reason)
        span = 2 if self.over_time else 1
        recent: list[Pair] = []
        levels: list[Levels] = []
        while (pair := (yield)) is not None:
            recent.append(pair)
            if len(recent) == span:
                levels.append(self._levels(recent))
                del recent[0]
        return self._result(np.array(levels)) if levels else Measurement.missing(motion.ONE_FRAME)

    def _levels(self, pairs: Sequence[Pair]) -> Levels:
        references = [pair.reference for pair in pairs if pair.reference is not None]
        if len(references) < len(pairs):  # the reference has come to its end
            return math.nan, math.nan
        return self.levels([pair.frame for pair in pairs], references)

    def _result(self, levels: Floats) -> Measurement:
        """From root mean squares [N, 2]."""
        alone = frame_mean(map(self.finalize, levels), self.undefined_frame)
        seen = levels[~np.isnan(levels).any(axis=1)]
        if not len(seen):
            return alone
        sums = seen.sum(axis=0)
        return replace(alone, value=self.finalize(sums), statistics=tuple(sums.tolist()))

    def finalize(self, statistics: Floats) -> float:
        """The ratio, from summed levels [2] of clips and references; NaN if the references' are 0."""
        ours, own = map(float, statistics)
        return ours / own if own > 0 else math.nan


@dataclass(frozen=True, kw_only=True)
class FlatNoise(RatioOfSums):
    """RMS of the Laplacian in the reference's flat areas (`flat_levels`) over the reference's own.

    1 is right, more is grain, less is smoothing. White noise of s times the reference's power in every frame
    makes it √(1 + s).
    """

    def undefined_size(self, about: About) -> str:
        """Frames that hold no whole block."""
        small = min(about.shape[1:]) < BLOCK
        return f"clip is {about.size}: flat noise needs frames of at least {BLOCK}×{BLOCK}" if small else ""

    @property
    def undefined_frame(self) -> str:
        """Why a frame has no ratio: it would be to nothing."""
        return "no flat noise (the reference's flat areas hold no noise at all, or it has ended)"

    def levels(self, frames: Sequence[Frames], references: Sequence[Frames]) -> Levels:
        """`flat_levels` of a frame."""
        return flat_levels(*frames, *references)


@dataclass(frozen=True, kw_only=True)
class TemporalResidual(RatioOfSums):
    """RMS of the `compensated_residual` of neighbouring frames over the reference's, both by the reference's flow.

    1 is right, more is grain that boils or flicker, less is smoothing over time. Left out are frames of which nothing
    was visible before (a cut).
    """

    @property
    def over_time(self) -> bool:
        """Whether neighbours in time decide the value: they do."""
        return True

    def undefined_size(self, about: About) -> str:
        """Frames that DIS flow cannot take."""
        small = min(about.shape[1:]) < motion.SMALLEST
        least = f"{motion.SMALLEST}×{motion.SMALLEST}"
        return f"clip is {about.size}: optical flow needs frames of at least {least}" if small else ""

    @property
    def undefined_frame(self) -> str:
        """Why a pair of frames has no ratio."""
        return "no temporal residual (motion explains all of the reference or none of it, or it has ended)"

    def levels(self, frames: Sequence[Frames], references: Sequence[Frames]) -> Levels:
        """Residuals of two neighbouring frames and of their references, 0 within rounding; NaN at a cut."""
        found = backward_flow(*references)
        ours, own = (compensated_residual(before, after, *found) for before, after in (frames, references))
        return _rounded(ours), _rounded(own)


def _rounded(residual: float) -> float:
    return 0.0 if residual <= _ROUNDING else residual  # NaN is not below


_LUMA = "y-bt601-full-range, by OpenCV's integers"
_HIGH_PASS = f"less gaussian sigma {SIGMA}, {TAPS} taps"
_POOLED = "sum over {} of all clips of the set, ratio of the sums"
HIGH_PASS_CORRELATION = HighPassCorrelation(
    name="high_pass_correlation",
    direction="higher",
    unit="",
    range=(-1.0, 1.0),
    preprocessing={
        "channel": _LUMA,
        "high_pass": _HIGH_PASS,
        "border": "mirror",
        "resize": "none",
        "frames": "all",
        "averaging": "correlation over pixels, mean over frames",
    },
)
FLAT_NOISE = FlatNoise(
    name="flat_noise",
    version=2,
    direction="none",
    unit="× reference",
    range=(0.0, math.inf),
    scale="log",
    preprocessing={
        "channel": _LUMA,
        "kernel": "0 1 0 / 1 -4 1 / 0 1 0, inside the block",
        "border": "blocks that are not whole left out",
        "blocks": "8x8 from the top left; of least variance in the reference 20 %, ties in",
        "resize": "none",
        "frames": "all",
        "averaging": f"root mean square over blocks, {_POOLED.format('frames')}",
    },
)
TEMPORAL_RESIDUAL = TemporalResidual(
    name="temporal_residual",
    version=2,
    direction="none",
    unit="× reference",
    range=(0.0, math.inf),
    scale="log",
    preprocessing={
        "channel": _LUMA,
        "flow": "the reference's: OpenCV DIS, preset MEDIUM, on y-bt601-full-range",
        "flow_size": f"area, by the whole factor that brings the shorter side nearest to {SIDE}",
        "warp": "first frame onto the second, bilinear",
        "occlusion": "as warping_error's, on the flow's size; left out",
        "high_pass": f"{_HIGH_PASS}, of visible pixels alone",
        "border": "mirror",
        "outside": "left out",
        "resize": "none",
        "frames": "all",
        "averaging": f"root mean square over visible pixels, {_POOLED.format('pairs of frames')}",
    },
)
register(HIGH_PASS_CORRELATION, FLAT_NOISE, TEMPORAL_RESIDUAL)
