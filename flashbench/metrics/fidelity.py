"""How close a clip is to its reference, frame by frame: PSNR, SSIM and MS-SSIM on RGB or on luma.

`psnr` and `ssim` are on RGB and whole numbers; all others compare the planes of a preset. `rgb`: each channel alone,
then their mean (which `psnr` and `ssim` are, too). `basicsr-y`: the luma of BasicSR and of MATLAB's `rgb2ycbcr`, which
papers on super-resolution report. `border` is what BasicSR calls `crop_border`: pixels cut off at each side before
anything is computed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import cv2
import numpy as np

from flashbench.metrics.base import About, PairMetric
from flashbench.metrics.registry import register
from flashbench.types import Floats, Frames, Scalar

WINDOW = 11
SIGMA = 1.5
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""MS-SSIM's exponents, finest scale first (Wang, Simoncelli and Bovik 2003, section 3.2)."""
PRESETS: Mapping[str, Mapping[str, Scalar]] = MappingProxyType(
    {"rgb": {"channel": "rgb", "border": 0}, "basicsr-y": {"channel": "y-bt601", "border": 0}}
)

_STEPS = 2 ** (len(SCALES) - 1)
_SMALLEST = (WINDOW - 1) * _STEPS + 1
"""161: the shortest side that four rounded-up halvings leave at 11, the window."""


def psnr(frames: Frames, reference: Frames) -> Floats:
    """10·log10(255² / MSE) of each frame in dB, higher is better: uint8 [T, H, W, C] twice → float64 [T].

    The error is averaged over pixels and channels. Infinite where the two frames are equal.
    """
    errors = np.array([_squared_error(a, b) for a, b in zip(frames, reference, strict=True)])
    with np.errstate(divide="ignore"):
        return np.asarray(10 * np.log10(255.0**2 / errors), dtype=np.float64)


def _squared_error(a: Frames, b: Frames) -> float:
    # Whole numbers: exact, and the same in any order of summation.
    difference = a.astype(np.int32) - b
    return float(np.sum(difference * difference, dtype=np.int64)) / difference.size


def ssim(frames: Frames, reference: Frames) -> Floats:
    """Structural similarity of each frame, −1 … 1, higher is better: uint8 [T, H, W, C] twice → float64 [T].

    Z. Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE TIP 13(4), 2004:
    Gaussian window 11×11 with σ = 1.5, K = (0.01, 0.03), range 255, population covariances, only positions where the
    window lies inside the frame; mean over positions and channels. NaN below 11×11.
    """
    if min(frames.shape[1:3]) < WINDOW:
        return np.full(len(frames), np.nan)
    pairs = zip(frames, reference, strict=True)
    return np.array([np.mean([_ssim(a[..., c], b[..., c]) for c in range(a.shape[-1])]) for a, b in pairs])


def _ssim(a: Frames, b: Frames) -> float:
    x, y = a.astype(np.float64), b.astype(np.float64)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_x, mean_y = windowed(x), windowed(y)
    product, squares = mean_x * mean_y, mean_x**2 + mean_y**2
    covariance, variances = windowed(x * y) - product, windowed(x * x + y * y) - squares
    index = (2 * product + c1) * (2 * covariance + c2) / ((squares + c1) * (variances + c2))
    return float(index.mean())


def windowed(image: Floats) -> Floats:
    """Mean under SSIM's window, only where it lies inside the image: float64 [H, W] → [H − 10, W − 10]."""
    offset = np.arange(WINDOW) - WINDOW // 2
    line = np.exp(-(offset**2) / (2 * SIGMA**2))
    line /= line.sum()
    inside = slice(WINDOW // 2, -(WINDOW // 2))
    filtered = cv2.sepFilter2D(image, cv2.CV_64F, line, line, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(filtered, np.float64)[inside, inside]


def limited_luma(frame: Frames) -> Floats:
    """Limited-range BT.601 luma, 16 … 235, not rounded: uint8 [H, W, 3] → float64 [H, W].

    Y = 16 + (65.481 R + 128.553 G + 24.966 B) / 255 (ITU-R BT.601; MATLAB's rgb2ycbcr before it rounds, and BasicSR's,
    which computes it in float32).
    """
    red, green, blue = (frame[..., channel].astype(np.float64) for channel in range(3))
    return np.asarray(16 + (65.481 * red + 128.553 * green + 24.966 * blue) / 255)


def planes(frame: Frames, channel: str, border: int) -> Floats:
    """What is compared of a frame, its border cut off: uint8 [H, W, 3] → float64 [H − 2b, W − 2b, 1 or 3]."""
    height, width = frame.shape[:2]
    inside = frame[border : height - border, border : width - border]
    if channel == "y-bt601":
        return limited_luma(inside)[..., None]
    if channel == "rgb":
        return inside.astype(np.float64)
    raise ValueError(f"channel is rgb or y-bt601, not {channel!r}")


def plane_psnr(a: Floats, b: Floats) -> float:
    """10·log10(255² / MSE) in dB, the error averaged over pixels and channels: [H, W, C] twice; ∞ if equal.

    The peak is 255 on luma too, as in BasicSR, though luma spans 219 levels only.
    """
    error = float(np.mean((a - b) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255.0**2 / error)


def plane_ssim(a: Floats, b: Floats) -> float:
    """`ssim` of planes that are not whole numbers: float64 [H, W, C] twice, mean over channels."""
    return float(np.mean([_similarity(a[..., c], b[..., c])[0] for c in range(a.shape[-1])]))


def ms_ssim(a: Floats, b: Floats) -> float:
    """Multi-scale structural similarity, 0 … 1, higher is better: float64 [H, W, C] twice, mean over channels.

    Z. Wang, E. Simoncelli, A. Bovik, "Multiscale structural similarity for image quality assessment", Asilomar 2003,
    eq. 7: Π_{j<5} cs_j^{β_j} · ssim_5^{β_5}, where cs_j and ssim_j are means over positions of the contrast-structure
    term and of SSIM at scale j, and β = `SCALES`. A scale is the one before it averaged over 2×2 and halved, an odd
    last row or column repeated (the authors' code: a symmetric border). A negative mean counts as 0.
    """
    return float(np.mean([_multiscale(a[..., c], b[..., c]) for c in range(a.shape[-1])]))


def _multiscale(x: Floats, y: Floats) -> float:
    product = 1.0
    for exponent in SCALES[:-1]:
        product *= max(_similarity(x, y)[1], 0.0) ** exponent
        x, y = _halved(x), _halved(y)
    return product * max(_similarity(x, y)[0], 0.0) ** SCALES[-1]


def _halved(image: Floats) -> Floats:
    even = np.pad(image, [(0, side % 2) for side in image.shape], mode="edge")
    return np.asarray((even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4)


def _similarity(x: Floats, y: Floats) -> tuple[float, float]:
    """Mean SSIM and mean of its contrast-structure term of two planes, with `ssim`'s window and constants."""
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_x, mean_y = windowed(x), windowed(y)
    product, squares = mean_x * mean_y, mean_x**2 + mean_y**2
    covariance = windowed(x * y) - product
    structure = (2 * covariance + c2) / (windowed(x * x + y * y) - squares + c2)
    index = (2 * product + c1) / (squares + c1) * structure
    return float(index.mean()), float(structure.mean())


@dataclass(frozen=True, kw_only=True)
class Psnr(PairMetric):
    """Mean over frames of the frame's PSNR; NaN if a frame equals the reference's (PSNR is then infinite)."""

    def compare(self, frame: Frames, reference: Frames) -> float:
        """PSNR of a frame in dB."""
        return float(psnr(frame[None], reference[None])[0])

    def undefined_for(self, values: Sequence[float]) -> str:
        """A frame equals the reference's."""
        equal = int(np.isinf(values).sum())
        return f"PSNR is infinite: {equal} of {len(values)} frames equal the reference" if equal else ""

    @property
    def undefined_frame(self) -> str:
        """PSNR by its name."""
        return "no PSNR"


@dataclass(frozen=True, kw_only=True)
class Ssim(PairMetric):
    """Mean over frames of the frame's SSIM; NaN below 11×11."""

    def undefined_size(self, about: About) -> str:
        """Frames below the window."""
        small = min(about.shape[1:]) < WINDOW
        return f"clip is {about.size}: SSIM needs frames of at least {WINDOW}×{WINDOW}" if small else ""

    def compare(self, frame: Frames, reference: Frames) -> float:
        """SSIM of a frame."""
        return float(ssim(frame[None], reference[None])[0])

    @property
    def undefined_frame(self) -> str:
        """SSIM by its name."""
        return "no SSIM"


@dataclass(frozen=True, kw_only=True)
class _OnPlanes(PairMetric):
    """A metric of the planes that `preprocessing` names by channel and border."""

    @property
    def border(self) -> int:
        """Pixels cut off at each side."""
        border = self.preprocessing["border"]
        assert isinstance(border, int)
        return border

    @property
    def smallest(self) -> int:
        """Shortest side, border cut off, that has a value."""
        return 1

    @property
    def undefined_frame(self) -> str:
        """The only way to have none: the reference is shorter than its container says."""
        return "no reference"

    def undefined_size(self, about: About) -> str:
        """Frames too small for its window and scales."""
        side = self.smallest + 2 * self.border
        small = min(about.shape[1:]) < side
        return f"clip is {about.size}: {self.name} needs frames of at least {side}×{side}" if small else ""

    def both(self, frame: Frames, reference: Frames) -> tuple[Floats, Floats]:
        """The planes of the frame and of the reference."""
        channel = str(self.preprocessing["channel"])
        return planes(frame, channel, self.border), planes(reference, channel, self.border)


@dataclass(frozen=True, kw_only=True)
class PlanePsnr(_OnPlanes, Psnr):
    """Mean over frames of the frame's PSNR; NaN if a frame equals the reference's (PSNR is then infinite)."""

    def compare(self, frame: Frames, reference: Frames) -> float:
        """PSNR of a frame in dB."""
        return plane_psnr(*self.both(frame, reference))


@dataclass(frozen=True, kw_only=True)
class PlaneSsim(_OnPlanes):
    """Mean over frames of the frame's SSIM; NaN below 11×11."""

    @property
    def smallest(self) -> int:
        """The window."""
        return WINDOW

    def compare(self, frame: Frames, reference: Frames) -> float:
        """SSIM of a frame."""
        return plane_ssim(*self.both(frame, reference))


@dataclass(frozen=True, kw_only=True)
class MultiscaleSsim(_OnPlanes):
    """Mean over frames of the frame's MS-SSIM; NaN below 161×161."""

    @property
    def smallest(self) -> int:
        """The window at the coarsest scale."""
        return _SMALLEST

    def compare(self, frame: Frames, reference: Frames) -> float:
        """MS-SSIM of a frame."""
        return ms_ssim(*self.both(frame, reference))


PSNR = Psnr(
    name="psnr",
    direction="higher",
    unit="dB",
    range=(0.0, math.inf),
    preprocessing={
        "channel": "rgb",
        "border": 0,
        "resize": "none",
        "frames": "all",
        "averaging": "error over pixels and channels of a frame, PSNR over frames",
    },
)
SSIM = Ssim(
    name="ssim",
    direction="higher",
    unit="",
    range=(-1.0, 1.0),
    preprocessing={
        "channel": "rgb",
        "border": 0,
        "window": "gaussian 11, sigma 1.5, inside the frame",
        "covariance": "population",
        "resize": "none",
        "frames": "all",
        "averaging": "mean over positions, channels, frames",
    },
)
_SSIM: Mapping[str, Scalar] = {
    "window": "gaussian 11, sigma 1.5, inside the frame",
    "covariance": "population",
    "resize": "none",
    "frames": "all",
    "averaging": "mean over positions, channels, frames",
}
_MS_SSIM: Mapping[str, Scalar] = {
    **_SSIM,
    "scales": "5, weights 0.0448 0.2856 0.3001 0.2363 0.1333",
    "downsampling": "mean of 2x2, odd edge repeated",
    "negative_means": 0,
    "averaging": "mean over positions, product over scales, mean over channels, frames",
}
PSNR_Y = PlanePsnr(
    name="psnr_y",
    direction="higher",
    unit="dB",
    range=(0.0, math.inf),
    preprocessing={
        **PRESETS["basicsr-y"],
        "peak": 255,
        "resize": "none",
        "frames": "all",
        "averaging": "error over pixels of a frame, PSNR over frames",
    },
)
SSIM_Y = PlaneSsim(
    name="ssim_y", direction="higher", unit="", range=(-1.0, 1.0), preprocessing={**PRESETS["basicsr-y"], **_SSIM}
)
MS_SSIM = MultiscaleSsim(
    name="ms_ssim", direction="higher", unit="", range=(0.0, 1.0), preprocessing={**PRESETS["rgb"], **_MS_SSIM}
)
MS_SSIM_Y = MultiscaleSsim(
    name="ms_ssim_y", direction="higher", unit="", range=(0.0, 1.0), preprocessing={**PRESETS["basicsr-y"], **_MS_SSIM}
)
register(PSNR, PSNR_Y, SSIM, SSIM_Y, MS_SSIM, MS_SSIM_Y)
