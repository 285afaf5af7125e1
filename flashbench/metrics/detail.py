"""`laplacian_variance` and `spectral_slope`: how much fine detail a clip has, without a reference.

Neither has a direction: noise and ringing raise them as much as detail does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
from scipy import fft

from flashbench.metrics.base import About, FrameMetric, Pair, PairMetric
from flashbench.metrics.niqe import luma
from flashbench.metrics.registry import register
from flashbench.types import Floats, Frames

Labels: TypeAlias = npt.NDArray[np.int64]

SMALLEST = 32
"""Shortest side with enough rings (13) in the band for a slope."""
BAND = (0.05, 0.45)
"""Frequencies that the slope is fitted over, in cycles per pixel; 0.5 is the finest there is."""

# Of a frame's power, what is below this share is rounding of the Fourier transform.
_ROUNDING = 1e-24


def laplacian_variance(frames: Frames) -> Floats:
    """Variance over pixels of the Laplacian (kernel 0 1 0 / 1 −4 1 / 0 1 0) of luma: [T, H, W, 3] → float64 [T]."""
    laplacians = (cv2.Laplacian(luma(frame), cv2.CV_64F, borderType=cv2.BORDER_REPLICATE) for frame in frames)
    return np.array([np.var(laplacian) for laplacian in laplacians], dtype=np.float64)


def spectral_slope(frame: Frames) -> float:
    """Slope of log power over log frequency, radially averaged; NaN if a ring is empty: uint8 [H, W, 3] → float.

    Luma less its mean under a Hann window; |DFT|² averaged over rings one cycle per shorter side wide; least squares,
    every ring counting alike, over the rings whose mean frequency lies in `BAND`. Natural images lie near −2 (D. Field,
    JOSA A 4(12), 1987; A. van der Schaaf, J. van Hateren, Vision Research 36(17), 1996), blur below, white noise at 0.
    Scaling contrast, shifting brightness, mirroring and transposing leave it as it is.
    """
    height, width = frame.shape[:2]
    level = luma(frame)
    level -= level.mean()
    level *= np.hanning(height + 2)[1:-1, None] * np.hanning(width + 2)[1:-1]
    spectrum = fft.rfft2(level, overwrite_x=True)
    power = spectrum.real**2 + spectrum.imag**2
    labels, weights, counts, frequencies = _rings(height, width)
    totals = np.bincount(labels, (power * weights).ravel(), len(counts))
    inside = (frequencies >= BAND[0]) & (frequencies <= BAND[1])
    rings = totals[inside] / counts[inside]
    if not rings.size or rings.min() <= _ROUNDING * totals.sum():
        return math.nan
    x, y = np.log(frequencies[inside]), np.log(rings)
    x -= x.mean()
    return float(np.sum(x * y) / np.sum(x * x))


@lru_cache(maxsize=2)
def _rings(height: int, width: int) -> tuple[Labels, Floats, Floats, Floats]:
    """Of rfft2's half plane each entry's ring and weight; each ring's number of entries and mean frequency."""
    radius = np.hypot(fft.fftfreq(height)[:, None], fft.rfftfreq(width))
    labels = np.rint(radius * min(height, width)).astype(np.int64).ravel()
    # The half that rfft2 leaves out mirrors all columns but the first; an even width's last is beyond the band.
    weights = np.full(radius.shape[1], 2.0)
    weights[0] = 1
    counts = np.bincount(labels, np.broadcast_to(weights, radius.shape).ravel()).astype(np.float64)
    frequencies: Floats = np.bincount(labels, (radius * weights).ravel()) / counts
    return labels, weights, counts, frequencies


@dataclass(frozen=True, kw_only=True)
class LaplacianVariance(FrameMetric):
    """Mean over frames of the variance of the Laplacian; 0 of a flat frame."""

    def frame(self, pair: Pair) -> float:
        """The variance of a frame's Laplacian, in levels²."""
        return float(laplacian_variance(pair.frame[None])[0])


@dataclass(frozen=True, kw_only=True)
class SpectralSlope(FrameMetric):
    """Mean over frames of the slope of the power spectrum; frames that are flat or purely periodic are left out."""

    def undefined(self, about: About) -> str:
        """Why a clip has no spectral slope: its frames hold too few rings; empty where it has one."""
        small = min(about.shape[1:]) < SMALLEST
        return f"clip is {about.size}: a spectral slope needs frames of at least {SMALLEST}×{SMALLEST}" if small else ""

    def frame(self, pair: Pair) -> float:
        """The slope of a frame's power spectrum; NaN of a frame without power somewhere in the band."""
        return spectral_slope(pair.frame)

    @property
    def undefined_frame(self) -> str:
        """Why a frame has no slope: it lacks power in a part of the band, which is the only way to have none."""
        return "no spectral slope (no power in a part of the band)"


LAPLACIAN_VARIANCE = LaplacianVariance(
    name="laplacian_variance",
    direction="none",
    unit="levels²",
    range=(0.0, 1020.0**2),
    scale="log",
    preprocessing={
        "channel": "y-bt601-full-range, rounded",
        "border": "replicate",
        "kernel": "0 1 0 / 1 -4 1 / 0 1 0",
        "resize": "none",
        "frames": "all",
        "averaging": "variance over pixels, mean over frames",
    },
)
SPECTRAL_SLOPE = SpectralSlope(
    name="spectral_slope",
    direction="none",
    unit="",
    range=(-math.inf, math.inf),
    preprocessing={
        "channel": "y-bt601-full-range, rounded",
        "border": "hann window over the frame, mean removed",
        "rings": "1 / shorter side wide",
        "band": "0.05 to 0.45 cycles per pixel, rings alike",
        "resize": "none",
        "frames": "all",
        "averaging": "power over a ring, slope over frames",
    },
)


@dataclass(frozen=True, kw_only=True)
class Sharpness(PairMetric):
    """Mean over frames of the clip's variance of the Laplacian, relative to the reference's.

    1 is as sharp as the reference. No direction: noise raises it as much as detail does. Frames whose reference is flat
    are left out.
    """

    def compare(self, frame: Frames, reference: Frames) -> float:
        """A frame's variance of the Laplacian over its reference's; NaN beside a flat reference."""
        ours, theirs = laplacian_variance(frame[None])[0], laplacian_variance(reference[None])[0]
        return float(ours / theirs) if theirs > 0 else math.nan

    @property
    def undefined_frame(self) -> str:
        """Why a frame has no ratio: its reference is flat, which is the only way to have none."""
        return "no sharpness ratio (the reference is flat)"


SHARPNESS = Sharpness(
    name="sharpness",
    direction="none",
    unit="× reference",
    range=(0.0, math.inf),
    scale="log",
    preprocessing={
        "channel": "y-bt601-full-range, rounded",
        "border": "replicate",
        "kernel": "0 1 0 / 1 -4 1 / 0 1 0",
        "resize": "none",
        "frames": "all",
        "averaging": "ratio per frame, mean over frames",
    },
)
register(LAPLACIAN_VARIANCE, SPECTRAL_SLOPE, SHARPNESS)
