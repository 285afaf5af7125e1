"""`psnr` and `ssim`: how close a clip is to its reference, frame by frame, on RGB without a border."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from flashbench.metrics.base import About, PairMetric
from flashbench.types import Floats, Frames, Measurement

WINDOW = 11
SIGMA = 1.5


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


@dataclass(frozen=True, kw_only=True)
class Psnr(PairMetric):
    """Mean over frames of the frame's PSNR; NaN if a frame equals the reference's (PSNR is then infinite)."""

    def compare(self, frame: Frames, reference: Frames) -> float:
        """PSNR of a frame in dB."""
        return float(psnr(frame[None], reference[None])[0])

    def result(self, values: Sequence[float]) -> Measurement:
        """The mean, unless one is infinite."""
        equal = int(np.isinf(values).sum())
        if equal:
            return Measurement.missing(f"PSNR is infinite: {equal} of {len(values)} frames equal the reference")
        return super().result(values)

    @property
    def absence(self) -> str:
        """PSNR by its name."""
        return "no PSNR"


@dataclass(frozen=True, kw_only=True)
class Ssim(PairMetric):
    """Mean over frames of the frame's SSIM; NaN below 11×11."""

    def refusal(self, about: About) -> str:
        """Another shape, or frames below the window."""
        if reason := super().refusal(about):
            return reason
        small = min(about.shape[1:]) < WINDOW
        return f"clip is {about.size}: SSIM needs frames of at least {WINDOW}×{WINDOW}" if small else ""

    def compare(self, frame: Frames, reference: Frames) -> float:
        """SSIM of a frame."""
        return float(ssim(frame[None], reference[None])[0])

    @property
    def absence(self) -> str:
        """SSIM by its name."""
        return "no SSIM"


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
