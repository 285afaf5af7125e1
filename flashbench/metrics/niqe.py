"""`niqe`, `niqe_pooled`: distance of local statistics from those of pristine photographs, lower is better.

A. Mittal, R. Soundararajan, A. C. Bovik, "Making a 'completely blind' image quality analyzer", IEEE Signal
Processing Letters 20(3), 2013. `quirks` chooses between two arithmetics:

* `pyiqa`: the Gaussian window is rounded to float32 and the half-size image is made in float32, as in pyiqa 0.1.16,
  whose scores it reproduces. Over flat areas the rounding leaves a faint deviation, and its sign decides features.
* `matlab`: both in float64, as in the authors' MATLAB release.

Everything else is common: luma of BT.601 (full range) rounded to whole levels, blocks of 96×96 at full and 48×48 at
half size, 18 features each.
"""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeAlias, cast

import cv2
import numpy as np
import numpy.typing as npt
from scipy.special import gamma

from flashbench.assets import registry
from flashbench.errors import InvalidError, MissingAsset
from flashbench.metrics.base import About, Metric, SetMetric, Stream, frame_mean
from flashbench.metrics.registry import register
from flashbench.types import Floats, Frames, Measurement, Scalar

Quirks: TypeAlias = Literal["pyiqa", "matlab"]
Parameters: TypeAlias = tuple[Floats, Floats]
"""Mean (36,) and covariance (36, 36) of the features of pristine photographs, float64."""

BLOCK = 96
FEATURES = 36
_SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))
_EPSILON = 2.22e-16
_REACH = 3
_HALF_TAPS = (-3, -9, 29, 111, 111, 29, -9, -3)
_LUMA = (0.299, 0.587, 0.114)


def niqe(frames: Frames, parameters: Parameters, quirks: Quirks = "pyiqa") -> Floats:
    """NIQE of each frame: frames uint8 [T, H, W, 3] RGB → float64 [T], from 0 (pristine) upwards, lower is better.

    NaN where it is undefined: a frame below 96×96, or one with fewer than two blocks that are not flat.

    Raises:
        ValueError: `frames` or `parameters` of another shape or dtype, or unknown `quirks`.
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        raise ValueError(f"frames are uint8 [T, H, W, 3], not {frames.dtype} {list(frames.shape)}")
    _check(parameters)
    return np.array([distance(*gaussian(features(frame, quirks)), parameters) for frame in frames], dtype=np.float64)


def features(frame: Frames, quirks: Quirks = "pyiqa") -> Floats:
    """The 36 features of each block of a frame, uint8 [H, W, 3] → float64 [blocks, 36], blocks row by row.

    Features 0–17 at full size, 18–35 at half size: shape and mean scale of the MSCN coefficients, then shape, mean,
    left and right scale of their products with four neighbours (right, below, and the two diagonals). A scale is NaN
    where a block has no value of that sign, a shape never is. A frame below 96×96 has no blocks.
    """
    if quirks not in ("pyiqa", "matlab"):
        raise ValueError(f"quirks is 'pyiqa' or 'matlab', not {quirks!r}")
    rows, columns = frame.shape[0] // BLOCK, frame.shape[1] // BLOCK
    if rows == 0 or columns == 0:
        return np.empty((0, FEATURES))
    full = luma(frame[: rows * BLOCK, : columns * BLOCK])
    half = _half(full, np.float32 if quirks == "pyiqa" else np.float64)
    return np.hstack([_scale_features(full, BLOCK, quirks), _scale_features(half, BLOCK // 2, quirks)])


def gaussian(rows: Floats) -> tuple[Floats, Floats]:
    """Mean (36,) and covariance (36, 36) of block features [blocks, 36].

    A feature's mean leaves out only its own NaNs, the covariance (divided by N − 1) every block that has one. NaN
    throughout the covariance where fewer than two blocks are complete.
    """
    complete = rows[~np.isnan(rows).any(axis=1)]
    if len(complete) < 2:
        return np.full(FEATURES, np.nan), np.full((FEATURES, FEATURES), np.nan)
    return np.nanmean(rows, axis=0), np.cov(complete, rowvar=False)


def distance(mean: Floats, covariance: Floats, parameters: Parameters) -> float:
    """sqrt(d · pinv((S_pristine + S) / 2) · dᵀ), d = mean difference: eq. 10 of the paper. NaN if anything is NaN."""
    _check(parameters)
    pooled = (parameters[1] + covariance) / 2
    difference = parameters[0] - mean
    if not (np.isfinite(pooled).all() and np.isfinite(difference).all()):
        return math.nan
    inverse = np.linalg.pinv(pooled, rcond=FEATURES * _EPSILON)
    # Rounding can carry the square of a vanishing distance below zero.
    return math.sqrt(max(0.0, float(difference @ inverse @ difference)))


def luma(frame: Frames) -> Floats:
    """Full-range BT.601 luma in float32, rounded half to even, as whole levels: [H, W, 3] uint8 → [H, W] float64."""
    out = np.empty(frame.shape[:2])
    for top in range(0, len(frame), BLOCK):  # by bands, which stay in cache
        band = frame[top : top + BLOCK]
        level = np.zeros(band.shape[:2], dtype=np.float32)
        for channel, weight in enumerate(_LUMA):
            part = band[..., channel].astype(np.float32)
            part /= np.float32(255)
            part *= np.float32(weight)
            level += part
        level *= np.float32(255)
        np.rint(level, out=out[top : top + BLOCK])
    return out


def _check(parameters: Parameters) -> None:
    mean, covariance = parameters
    if mean.shape != (FEATURES,) or covariance.shape != (FEATURES, FEATURES):
        raise ValueError(f"parameters are (36,) and (36, 36), not {mean.shape} and {covariance.shape}")


def _mscn(image: Floats, quirks: Quirks) -> Floats:
    """Mean-subtracted, contrast-normalised coefficients of `image`: (Y − μ) / (σ + 1), edges replicated."""
    mean, sigma = _blur(image, quirks), _blur(image * image, quirks)
    sigma -= mean * mean
    np.abs(sigma, out=sigma)
    sigma += _EPSILON
    np.sqrt(sigma, out=sigma)
    sigma += 1
    np.subtract(image, mean, out=mean)
    return np.divide(mean, sigma, out=mean)


def _blur(image: Floats, quirks: Quirks) -> Floats:
    """Mean under a 7×7 Gaussian with σ = 7/6."""
    line, rounding = _window()
    separable = cv2.sepFilter2D(image, cv2.CV_64F, line, line, borderType=cv2.BORDER_REPLICATE)
    blurred: Floats = np.asarray(separable, np.float64)
    if quirks == "pyiqa":
        # What rounding the window to float32 adds to it is not separable, but so small (1e-9) that float32 carries it.
        added = cv2.filter2D(image.astype(np.float32), cv2.CV_32F, rounding, borderType=cv2.BORDER_REPLICATE)
        blurred += np.asarray(added, np.float32)
    return blurred


@lru_cache(maxsize=1)
def _window() -> tuple[Floats, npt.NDArray[np.float32]]:
    """The normalised Gaussian along one axis (7,), and what rounding it to float32 adds to the window (7, 7)."""
    offset = np.arange(-_REACH, _REACH + 1)
    line = np.exp(-(offset**2) / (2 * (7 / 6) ** 2))
    line /= line.sum()
    window = np.outer(line, line)
    return line, (window.astype(np.float32) - window).astype(np.float32)


def _half(image: Floats, dtype: type[np.float32] | type[np.float64]) -> Floats:
    """Half the size by antialiased bicubic interpolation: vertical, then horizontal, in `dtype`, taps in order.

    Output o weighs inputs 2o − 3 … 2o + 4; beyond an edge the image is mirrored, edge pixels included. One row of
    blocks at a time, so that it stays in cache; transposed, so that both passes run along memory.
    """
    height, width = image.shape
    rows, columns = _mirrored(height), _mirrored(width)
    out = np.empty((height // 2, width // 2))
    for top in range(0, height, BLOCK):
        band = image[rows[top : top + BLOCK + 6]]
        band /= 255
        tall = _halve_rows(band.astype(dtype))
        small = _halve_rows(np.ascontiguousarray(tall.T)[columns])
        np.multiply(small.T, 255.0, out=out[top // 2 : (top + BLOCK) // 2], dtype=np.float64)
    return out


def _mirrored(length: int) -> npt.NDArray[np.intp]:
    """Indices of an axis with three mirrored positions more at either end."""
    return np.pad(np.arange(length), 3, mode="symmetric")


def _halve_rows(padded: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Half the rows of an image that comes with three more at either end."""
    rows = (len(padded) - 6) // 2
    out = np.zeros((rows, padded.shape[1]), dtype=padded.dtype)
    term = np.empty_like(out)
    for tap, weight in enumerate(_HALF_TAPS):
        np.multiply(padded[tap : tap + 2 * rows : 2], padded.dtype.type(weight / 256), out=term)
        out += term
    return out


def _scale_features(image: Floats, side: int, quirks: Quirks) -> Floats:
    """18 features of every `side`×`side` block of luma [H, W] → [blocks, 18].

    One row of blocks at a time, with the rows that the window reaches above and below, so that it stays in cache.
    """
    height, width = image.shape
    bands = []
    for top in range(0, height, side):
        above = min(_REACH, top)
        band = _mscn(image[top - above : top + side + _REACH], quirks)[above : above + side]
        blocks = np.ascontiguousarray(band.reshape(side, width // side, side).swapaxes(0, 1))
        product = np.empty_like(blocks)
        sums = [_sums(blocks)]
        for dy, dx in _SHIFTS:
            _times_rolled(blocks, dy, dx, product)
            sums.append(_sums(product))
        bands.append(np.stack(sums, axis=1))
    return _fit(np.concatenate(bands), side * side)


def _times_rolled(blocks: Floats, dy: int, dx: int, out: Floats) -> None:
    """Write block · roll(block, (dy, dx)) into `out`, circular inside each block [n, s, s], without a rolled copy."""
    side = blocks.shape[1]
    for to_y, from_y in _wrapped(dy, side):
        for to_x, from_x in _wrapped(dx, side):
            np.multiply(blocks[:, to_y, to_x], blocks[:, from_y, from_x], out=out[:, to_y, to_x])


def _wrapped(shift: int, side: int) -> tuple[tuple[slice, slice], ...]:
    """Slices (to, from) of a roll by −1, 0 or 1 along one axis."""
    if shift == 0:
        return ((slice(None), slice(None)),)
    first, last = slice(0, 1), slice(side - 1, side)
    if shift == 1:
        return (slice(1, side), slice(0, side - 1)), (first, last)
    return (slice(0, side - 1), slice(1, side)), (last, first)


def _sums(values: Floats) -> Floats:
    """Per block [n, s, s]: squares below 0, count below 0, squares above 0, count above 0, sum of magnitudes."""
    flat = values.reshape(len(values), -1)
    magnitude = np.abs(flat)
    total = np.vecdot(magnitude, np.ones(flat.shape[1]))
    # |x| − x and |x| + x are exactly twice the two halves of x, and several times faster than minimum and maximum.
    below, above = magnitude - flat, np.add(magnitude, flat, out=magnitude)
    signs = (flat < 0, flat > 0)
    n_below, n_above = (np.array([np.count_nonzero(block) for block in sign], dtype=np.float64) for sign in signs)
    squares_below, squares_above = np.vecdot(below, below) / 4, np.vecdot(above, above) / 4
    return np.stack([squares_below, n_below, squares_above, n_above, total], axis=-1)


def _fit(sums: Floats, pixels: int) -> Floats:
    """Asymmetric generalised Gaussians by moment matching: sums [blocks, 5 maps, 5] → features [blocks, 18].

    Lasmar et al., "Multiscale skewed heavy tailed model for texture analysis", ICIP 2009.
    """
    shapes, midpoints, width, bias = _shapes()
    below, n_below, above, n_above, magnitude = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        left, right = np.sqrt(below / n_below), np.sqrt(above / n_above)
        ratio = left / right
        moment = (magnitude / pixels) ** 2 / ((below + above) / pixels)
        moment *= (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    # Where a sign is absent the moment is NaN, and the official search then answers the first shape.
    index = np.searchsorted(midpoints, np.where(np.isnan(moment), -np.inf, moment))
    left, right = left * width[index], right * width[index]
    products = np.stack([shapes[index], (right - left) * bias[index], left, right], axis=-1)[:, 1:]
    whole = np.stack([shapes[index], (left + right) / 2], axis=-1)[:, 0]
    return np.concatenate([whole, products.reshape(len(sums), -1)], axis=1)


@lru_cache(maxsize=1)
def _shapes() -> tuple[Floats, Floats, Floats, Floats]:
    """Candidate shapes a = 0.2 … 10, midpoints of their moments, sqrt(Γ(1/a)/Γ(3/a)) and Γ(2/a)/Γ(1/a).

    The shapes are the float32 numbers that torch.arange makes: each group of eight starts at a rounded value.
    """
    index = np.arange(9801)
    start = np.where(index < 9792, index // 8 * 8, index)
    shapes = ((0.2 + 0.001 * start).astype(np.float32) + 0.001 * (index - start)).astype(np.float32).astype(np.float64)
    gamma_1, gamma_2, gamma_3 = gamma(1 / shapes), gamma(2 / shapes), gamma(3 / shapes)
    moments = gamma_2**2 / (gamma_1 * gamma_3)
    return shapes, (moments[1:] + moments[:-1]) / 2, np.sqrt(gamma_1 / gamma_3), gamma_2 / gamma_1


# --- the metrics -------------------------------------------------------------------------------------------------

PARAMETERS = "niqe-pristine"
STATISTICS = 775
"""Per feature count and sum (36 + 36); of complete blocks the count, the sums, the products (1 + 36 + 666)."""

_FLAT = "no NIQE (fewer than two blocks that are not flat)"
_UPPER = np.triu_indices(FEATURES)
_COMMON: dict[str, Scalar] = {
    "channel": "y-bt601-full-range, rounded",
    "crop": "top left, to multiples of 96",
    "block": BLOCK,
    "border": "replicate",
    "resize": "none",
    "frames": "all",
    "quirks": "pyiqa",
}


def pristine() -> Parameters:
    """Mean (36,) and covariance (36, 36) of pristine photographs, from the asset registry.

    Raises:
        MissingAsset: the file is not here.
        InvalidError: the file does not hold them.
    """
    return _load(registry.path(PARAMETERS))


@lru_cache(maxsize=4)
def _load(path: Path) -> Parameters:
    try:
        with np.load(path, allow_pickle=False) as stored:
            mean, covariance = stored["mu_pris_param"], stored["cov_pris_param"]
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        raise InvalidError(
            f"{path}: no NIQE parameters in it ({error})", fix=f"flashbench assets verify {PARAMETERS}"
        ) from error
    return mean.astype(np.float64).reshape(-1), covariance.astype(np.float64)


def statistics(rows: Floats, centre: Floats) -> Floats:
    """Sufficient statistics [775] of block features [blocks, 36]; those of two sets of blocks add up.

    Features are taken relative to `centre` (36,), the pristine mean: products then lose no digits.
    """
    relative = rows - centre
    present = ~np.isnan(relative)
    complete = relative[present.all(axis=1)]
    products = (complete.T @ complete)[_UPPER]
    counts = present.sum(axis=0)
    sums = np.where(present, relative, 0.0).sum(axis=0)
    return np.concatenate([counts, sums, [len(complete)], complete.sum(axis=0), products]).astype(np.float64)


def pooled(sums: Floats, parameters: Parameters) -> float:
    """NIQE of all blocks of a set from its summed `statistics` [775]; NaN with fewer than two complete blocks."""
    if sums.shape != (STATISTICS,):
        raise ValueError(f"NIQE's statistics have {STATISTICS} entries, not {list(sums.shape)}")
    counts, totals, (complete,), first, second = np.split(sums, [36, 72, 73, 109])
    if complete < 2:
        return math.nan
    products = np.zeros((FEATURES, FEATURES))
    products[_UPPER] = second
    products = products + np.triu(products, 1).T
    covariance = (products - np.outer(first, first) / complete) / (complete - 1)
    return distance(parameters[0] + totals / counts, covariance, parameters)


@dataclass(frozen=True, kw_only=True)
class Niqe(Metric):
    """NIQE of each frame, averaged over the frames that have one; the others are counted in the reason."""

    def stream(self, about: About) -> Stream:
        """Mean NIQE of a clip's frames. The reference is not read.

        NaN: clip below 96×96, all frames flat, parameters absent.
        """
        parameters = _parameters_for(about)
        if isinstance(parameters, Measurement):
            return parameters
        values = []
        while (pair := (yield)) is not None:
            values.append(float(niqe(pair.frame[None], parameters, _quirks(self))[0]))
        return frame_mean(values, _FLAT)


@dataclass(frozen=True, kw_only=True)
class PooledNiqe(SetMetric):
    """NIQE with one multivariate Gaussian over all blocks of all frames of a set of clips.

    Where a frame has few blocks its own covariance of 36 features is ill-conditioned; that of a set is steadier, but
    still too small by what other clips would add. The value therefore falls as clips are added, most where it is low
    (`original` of 34 sources: 4.0 with one, 1.6 with twelve, 1.3 with thirty on average), and compares only with values
    of the same clips (`finite_sample_bias`). Extrapolating to endless clips would cost more in variance than it gains
    (benchmarks/intervals_pooled.py).
    """

    def stream(self, about: About) -> Stream:
        """NIQE of the clip alone, and its statistics. A flat clip keeps its statistics: it still counts in a set."""
        parameters = _parameters_for(about)
        if isinstance(parameters, Measurement):
            return parameters
        total = np.zeros(STATISTICS)
        while (pair := (yield)) is not None:
            total += statistics(features(pair.frame, _quirks(self)), parameters[0])
        value = pooled(total, parameters)
        reason = f"{_FLAT} in the whole clip" if math.isnan(value) else ""
        return Measurement(value=value, reason=reason, statistics=tuple(total.tolist()))

    def finalize(self, statistics: Floats) -> float:
        """NIQE of the set from its summed statistics [775].

        Raises:
            MissingAsset: the pristine parameters are not here.
        """
        return pooled(statistics, pristine())


def _quirks(metric: Metric) -> Quirks:
    return cast(Quirks, metric.preprocessing["quirks"])


def _parameters_for(about: About) -> Parameters | Measurement:
    """`pristine`, or the missing measurement of a clip that has no NIQE: below 96×96, or parameters absent."""
    if min(about.shape[1:]) < BLOCK:
        return Measurement.missing(f"clip is {about.size}: NIQE needs frames of at least 96×96")
    try:
        return pristine()
    except MissingAsset:
        return Measurement.missing(f"parameters not present: flashbench assets pull {PARAMETERS}")


NIQE = Niqe(
    name="niqe",
    direction="lower",
    unit="",
    range=(0.0, math.inf),
    scope="video",
    preprocessing={**_COMMON, "averaging": "mean over frames"},
    assets=(PARAMETERS,),
)
NIQE_POOLED = PooledNiqe(
    name="niqe_pooled",
    direction="lower",
    unit="",
    range=(0.0, math.inf),
    preprocessing={**_COMMON, "averaging": "one Gaussian over all blocks of the set"},
    assets=(PARAMETERS,),
)
register(NIQE, NIQE_POOLED)
