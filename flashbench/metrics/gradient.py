"""Gradients of luma beside the reference's: `gmsd` over the whole frame, `edge_gradient` where the reference has edges.

Blur and grain both worsen GMSD. `edge_gradient` falls with blur; it has no direction, since ringing and oversharpening
raise it beyond the reference's. Gradients are Prewitt's, whose kernel [−1 0 1]ᵀ ⊗ [1 1 1] / 3 gives levels per two
pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from flashbench.metrics.base import About, PairMetric
from flashbench.metrics.motion import grey
from flashbench.metrics.registry import register
from flashbench.types import Frames

STABILITY = 170.0
"""c of gradient magnitude similarity, in levels² (Xue et al. 2014, section III: for luma of 0 … 255)."""
SMALLEST = 6
"""Shortest side that leaves GMSD one position whose Prewitt kernel lies inside the halved frame."""
EDGES = 0.1
"""Share of the reference's pixels, those of the largest gradients, that are its edges."""

Plane: TypeAlias = npt.NDArray[np.float32]

_STEP, _SUM = np.array([-1.0, 0.0, 1.0]), np.ones(3)


def gmsd(frame: Frames, reference: Frames) -> float:
    """Gradient magnitude similarity deviation, 0 … 0.5, lower is better: uint8 [H, W, 3] twice.

    W. Xue, L. Zhang, X. Mou, A. C. Bovik, "Gradient magnitude similarity deviation: a highly efficient perceptual image
    quality index", IEEE TIP 23(2), 2014, eqs. 2 to 6. With m the gradient magnitude of luma that was averaged over 2×2
    and halved, GMS = (2 m m′ + c) / (m² + m′² + c) at every position; GMSD is its standard deviation over positions
    (population). As in the authors' code, zeros lie beyond the border, of an odd side's last 2×2 too. NaN below
    `SMALLEST`.
    """
    if min(frame.shape[:2]) < SMALLEST:
        return math.nan
    ours, theirs = (_gradient(_halved(grey(each)), cv2.BORDER_CONSTANT) for each in (frame, reference))
    x, y = np.sqrt(ours, dtype=np.float64), np.sqrt(theirs, dtype=np.float64)
    # 1 − GMS deviates as GMS does, and is exactly 0 where the gradients are the same; c is in levels², 9 of ours.
    return float(np.std((x - y) ** 2 / (x * x + y * y + 9 * STABILITY)))


def edge_gradient(frame: Frames, reference: Frames) -> float:
    """Mean gradient magnitude on the reference's edges over the reference's own there: uint8 [H, W, 3] twice.

    Edges are the tenth of the pixels whose gradients are largest in the reference (rounded up), with all that tie with
    the last of them, and without those that have no gradient. 1 is as steep as the reference, blur is below. NaN of a
    flat reference.
    """
    ours, theirs = (_gradient(grey(each), cv2.BORDER_REPLICATE) for each in (frame, reference))
    place = theirs.size - math.ceil(EDGES * theirs.size)
    weakest = np.partition(theirs, place, axis=None)[place]
    edges = (theirs >= weakest) & (theirs > 0)
    if not edges.any():
        return math.nan
    ratio = np.sum(np.sqrt(ours[edges]), dtype=np.float64) / np.sum(np.sqrt(theirs[edges]), dtype=np.float64)
    return float(ratio)


def _halved(level: Frames) -> Plane:
    """Means over 2×2, zeros beyond an odd side: uint8 [H, W] → float32 [⌈H/2⌉, ⌈W/2⌉]."""
    height, width = level.shape
    even: Any = cv2.copyMakeBorder(level, 0, height % 2, 0, width % 2, cv2.BORDER_CONSTANT)
    size = even.shape[1] // 2, even.shape[0] // 2
    return np.asarray(cv2.resize(even.astype(np.float32), size, interpolation=cv2.INTER_AREA), np.float32)


def _gradient(level: Any, border: int) -> Plane:
    """Squared magnitude of three times Prewitt's gradient: uint8 or float32 [H, W] → float32 [H, W].

    Exact of whole levels, so that ties are ties.
    """
    across = cv2.sepFilter2D(level, cv2.CV_32F, _STEP, _SUM, borderType=border)
    down = cv2.sepFilter2D(level, cv2.CV_32F, _SUM, _STEP, borderType=border)
    return np.asarray(across * across + down * down, np.float32)


@dataclass(frozen=True, kw_only=True)
class Gmsd(PairMetric):
    """Mean over frames of the frame's `gmsd`; NaN below 6×6."""

    def undefined_size(self, about: About) -> str:
        """Frames that the halved frame's Prewitt kernel does not fit into."""
        small = min(about.shape[1:]) < SMALLEST
        return f"clip is {about.size}: GMSD needs frames of at least {SMALLEST}×{SMALLEST}" if small else ""

    def compare(self, frame: Frames, reference: Frames) -> float:
        """GMSD of a frame."""
        return gmsd(frame, reference)

    @property
    def undefined_frame(self) -> str:
        """The only way to have none: the reference is shorter than its container says."""
        return "no reference"


@dataclass(frozen=True, kw_only=True)
class EdgeGradient(PairMetric):
    """Mean over frames of the frame's `edge_gradient`; frames whose reference is flat are left out."""

    def compare(self, frame: Frames, reference: Frames) -> float:
        """`edge_gradient` of a frame; NaN beside a flat reference."""
        return edge_gradient(frame, reference)

    @property
    def undefined_frame(self) -> str:
        """Why a frame has no ratio: its reference has no edge."""
        return "no edge gradient (the reference is flat or has ended)"


GMSD = Gmsd(
    name="gmsd",
    direction="lower",
    unit="",
    range=(0.0, 0.5),
    preprocessing={
        "channel": "y-bt601-full-range, by OpenCV's integers",
        "downsampling": "mean of 2x2, zeros beyond an odd side",
        "kernel": "prewitt / 3",
        "border": "zeros",
        "c": STABILITY,
        "deviation": "population",
        "resize": "none",
        "frames": "all",
        "averaging": "standard deviation over positions, mean over frames",
    },
)
EDGE_GRADIENT = EdgeGradient(
    name="edge_gradient",
    direction="none",
    unit="× reference",
    range=(0.0, math.inf),
    scale="log",
    preprocessing={
        "channel": "y-bt601-full-range, by OpenCV's integers",
        "kernel": "prewitt / 3",
        "border": "replicate",
        "edges": "the reference's largest 10 % of gradients, ties in, zeros out",
        "resize": "none",
        "frames": "all",
        "averaging": "magnitude over edges, ratio per frame, mean over frames",
    },
)
register(GMSD, EDGE_GRADIENT)
