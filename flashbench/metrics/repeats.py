"""`repeated_frames`, `repeated_frames_exact`: the share of frames that repeat the one before.

A frame that is held while the clock runs (a rate raised by repetition, a generator or a player that stalls) says
something about time, and metrics of neighbouring frames take it for calm. It is no fault by itself, for a scene that
stands still repeats honestly: the metrics have no direction.

An encoder with loss codes a held frame anew, so that it differs by noise. `repeats` compares luma, shrunk so that noise
averages out and a block is the same part of a picture of any size (`SIDE`), and calls a frame a repeat

* exactly: every sample equals the one before;
* within compression noise of a still: no block of 16×16 differs by more than `STILL` levels of luma (root mean square),
  and the light is the same: what one brightness and one contrast explain of the difference is at most `LIGHT` levels;
* within compression noise of a motion: it differs by at most a quarter of what the clip shows within three steps, on
  either side, and each of its blocks by at most `LOUD` levels or half of what that block shows there.

A maximum over blocks, so that a small object that moves counts as much as a pan. The third rule asks for motion on
both sides, since noise grows with the motion before it; what speeds up, slows down or is cut has it on one side only.

Measured on four synthetic textures of 192×256 (smooth, fine, 1/f, edges; 23 steps), per cent called repeats. Held are
two steps of three, or every other; `still` is a still, a freeze and slides. Moving `pans` are of 0.25 … 4 px per step,
with a zoom, an acceleration and cuts; `fade` changes brightness by a level or contrast by 2 % per step.

| codec | held: pan 1 … 4 px | pan 0.25, 0.5 px | object of 12 px | still | moving: pans | object | fade |
|---|---|---|---|---|---|---|---|
| lossless | 100 | 100 | 100 | 100 | 0 | 0 | 0 |
| x264, crf 18 | 92 | 86 | 99 | 99 | 0 | 0 | 3 |
| x264, crf 23 | 89 | 75 | 97 | 97 | 0 | 0 | 9 |
| x264, crf 28 | 83 | 45 | 86 | 89 | 0 | 0 | 14 |
| x264, crf 35 | 61 | 14 | 51 | 73 | 0 | 10 | 18 |
| mpeg4, q 2 | 99 | 100 | 100 | 98 | 0 | 0 | 3 |
| mpeg4, q 5 | 85 | 73 | 80 | 70 | 0 | 0 | 5 |
| vp9, crf 20 | 96 | 77 | 80 | 97 | 0 | 0 | 17 |
| vp9, crf 35 | 90 | 61 | 73 | 88 | 1 | 2 | 25 |

At 720p through x264 at crf 23: held pans of 2 and 0.5 px 100 and 97, stills 100; moving pans of 0.25 px 0, an object
of 12 px that moves by 1 px 0, by half a pixel 62.

Repeats are missed rather than motion: under strong compression a held frame is drawn anew (a key frame amid held ones
above all), and the share is a lower bound. What a codec drops of a slow fade, a faint object or film grain is repeated
in the file, and is called so. At the turning points of a swing up to a tenth of the frames are called repeats.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from flashbench.metrics.base import About, Metric, Stream
from flashbench.metrics.motion import grey
from flashbench.metrics.registry import register
from flashbench.types import Floats, Frames, Measurement, Scope

NEW, NOISE, EXACT = 0.0, 0.5, 1.0
"""What a frame is beside the one before: another, the same within compression noise, the same sample by sample."""
Luma: TypeAlias = npt.NDArray[np.float32]

SIDE = 384
"""Pixels, about, of the shorter side at which luma is compared: shrunk by a whole factor, 2 for 720p, 3 for 1080p."""
BLOCK = 16
"""Side of a block there, in pixels."""
STILL, LIGHT, LOUD = 1.5, 0.4, 3.0
"""Levels of luma that noise may reach: in a block of a still, in the light of a still, in a block amid motion."""
CALM, HALF = 1 / 4, 1 / 2
"""Of what stands within `REACH` steps before and after, whichever is less: the share that a frame, a block may show."""
REACH = 3
"""Steps on either side: a frame that is shown up to four times has motion within them."""


class Step(NamedTuple):
    """How a frame differs from the one before."""

    exact: bool
    squares: Floats
    """Mean squared difference of luma of every block, in levels²."""
    light: float
    """Root mean square of what one brightness and one contrast explain of the difference, in levels.

    NaN where a block differs by more than noise in a still does.
    """


class Repeats:
    """Frames one after the other, each told apart from the one before: `add` them, then `end`.

    Holds one frame, its luma, and the blocks of seven steps.
    """

    def __init__(self) -> None:
        self._frame: Frames | None = None
        self._luma: Luma = np.empty((0, 0), np.float32)
        self._near: list[Step] = []
        self._settled = 0
        """How many of them are told already."""
        self._kinds: list[float] = []

    def add(self, frame: Frames) -> None:
        """Take in the next frame: uint8 [H, W, 3] in RGB, all of one size."""
        if self._frame is not None and np.array_equal(self._frame, frame):
            self._near.append(Step(True, np.zeros([side // BLOCK for side in self._luma.shape]), 0.0))
        else:
            luma = _luma(frame)
            if self._frame is not None:
                squares = _squares(self._luma, luma)
                still = squares.max() <= STILL**2
                self._near.append(Step(False, squares, _light(self._luma, luma) if still else math.nan))
            self._frame, self._luma = frame, luma
        self._settle(REACH)

    def end(self) -> Floats:
        """Of every frame but the first: `NEW`, `NOISE` or `EXACT`, float64 [T − 1]."""
        self._settle(0)
        return np.array(self._kinds, np.float64)

    def _settle(self, ahead: int) -> None:
        """Tell those steps that have `ahead` more behind them."""
        while self._settled < len(self._near) - ahead:
            at = self._settled
            self._kinds.append(_kind(self._near[:at], self._near[at], self._near[at + 1 :]))
            if at == REACH:
                del self._near[0]
            else:
                self._settled += 1


def repeats(frames: Iterable[Frames]) -> Floats:
    """`Repeats` of frames uint8 [H, W, 3]: `NEW`, `NOISE` or `EXACT` of every frame but the first, float64 [T − 1]."""
    seen = Repeats()
    for frame in frames:
        seen.add(frame)
    return seen.end()


def _luma(frame: Frames) -> Luma:
    """Luma of a frame [H, W, 3] shrunk to about `SIDE`, last row and column repeated up to multiples of `BLOCK`."""
    luma = grey(frame)
    factor = max(1, round(min(luma.shape) / SIDE))
    down, right = (-side % (factor * BLOCK) for side in luma.shape)
    whole = cv2.copyMakeBorder(luma, 0, down, 0, right, cv2.BORDER_REPLICATE).astype(np.float32)
    return _means(whole, factor)


def _means(image: Any, side: int) -> Luma:
    """Means over squares: float32 [H, W] → float32 [H / side, W / side]."""
    rows, columns = (length // side for length in image.shape)
    return np.asarray(cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA), np.float32)


def _squares(before: Luma, after: Luma) -> Floats:
    """Mean squared difference of every block: float32 [H, W] twice → float64 [H / 16, W / 16]."""
    return _means((after - before) ** 2, BLOCK).astype(np.float64)


def _light(before: Luma, after: Luma) -> float:
    """What one brightness and one contrast explain of the change, root mean square: float32 [H, W] twice."""
    change, level = (after - before).astype(np.float64), before.astype(np.float64)
    spread = float(level.std())
    contrast = float(np.mean(change * (level - level.mean()))) / spread if spread > 0 else 0.0
    return float(np.hypot(change.mean(), contrast))


def _kind(before: list[Step], step: Step, after: list[Step]) -> float:
    if step.exact:
        return EXACT
    if step.light <= LIGHT:
        return NOISE
    if not (before and after):
        return NEW
    sides = [np.stack([near.squares for near in side[:REACH]]) for side in (before[::-1], after)]
    calm = step.squares.mean() <= CALM**2 * min(side.mean(axis=(1, 2)).max() for side in sides)
    loudest = HALF**2 * np.minimum(*(side.max(axis=0) for side in sides))
    return NOISE if calm and (step.squares <= np.maximum(LOUD**2, loudest)).all() else NEW


@dataclass(frozen=True, kw_only=True)
class RepeatedFrames(Metric):
    """Share of the frames, the first aside, that repeat the one before; `per_frame` has 1 or 0 of each of them.

    Within compression noise `per_frame` also says which are exact: a repeat that differs is 0.5.
    """

    exact: bool
    """Whether only frames count that equal the one before sample by sample."""
    scope: Scope = "video"

    @property
    def over_time(self) -> bool:
        """Whether the value depends on the rate or on neighbours in time: always, for it is about them."""
        return True

    @property
    def source(self) -> Metric:
        """The metric whose pass over the frames serves both."""
        return REPEATED_FRAMES

    def stream(self, about: About) -> Stream:
        """NaN: a single frame, which has none before it."""
        seen, count = Repeats(), 0
        while (pair := (yield)) is not None:
            seen.add(pair.frame)
            count += 1
        if count < 2:
            return Measurement.missing("a single frame repeats none")
        return _share(seen.end())

    def derive(self, measurement: Measurement) -> Measurement:
        """This metric's share from what the common pass found of every frame."""
        return _share(np.array(measurement.per_frame) == EXACT) if self.exact and measurement.per_frame else measurement


def _share(kinds: Any) -> Measurement:
    return Measurement(value=float(np.mean(kinds != NEW)), per_frame=tuple(map(float, kinds)))


def _metric(name: str, *, exact: bool) -> RepeatedFrames:
    still = f"rms of blocks of {BLOCK} <= {STILL:g}, light <= {LIGHT:g}"
    amid = f"rms <= {CALM:g} of {REACH} steps on either side, of blocks <= {LOUD:g} or {HALF:g} of them"
    return RepeatedFrames(
        name=name,
        exact=exact,
        direction="none",
        unit="",
        range=(0.0, 1.0),
        preprocessing={
            "channel": "rgb" if exact else "y-bt601-full-range, rounded",
            "resize": "none" if exact else f"area, by the whole factor that brings the shorter side nearest to {SIDE}",
            "frames": "all",
            "repeat": "every sample equal" if exact else f"{still}; or {amid}",
            "averaging": "over frames but the first",
        },
    )


REPEATED_FRAMES = _metric("repeated_frames", exact=False)
REPEATED_FRAMES_EXACT = _metric("repeated_frames_exact", exact=True)
register(REPEATED_FRAMES, REPEATED_FRAMES_EXACT)
