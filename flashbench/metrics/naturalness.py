"""`niqe` and `niqe_pooled`: how natural a clip's local statistics are, without a reference."""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import cast

import numpy as np

from flashbench.errors import InvalidError, MissingAsset
from flashbench.metrics import niqe as core
from flashbench.metrics.base import About, Metric, SetMetric, Stream, frame_mean
from flashbench.types import Floats, Measurement, Scalar

PARAMETERS = "niqe-pristine"
STATISTICS = 775
"""Per feature count and sum (36 + 36); of complete blocks the count, the sums, the products (1 + 36 + 666)."""

_FLAT = "no NIQE (fewer than two blocks that are not flat)"
_UPPER = np.triu_indices(core.FEATURES)
_COMMON: dict[str, Scalar] = {
    "channel": "y-bt601-full-range, rounded",
    "crop": "top left, to multiples of 96",
    "block": core.BLOCK,
    "border": "replicate",
    "resize": "none",
    "frames": "all",
    "quirks": "pyiqa",
}


def pristine() -> core.Parameters:
    """Mean (36,) and covariance (36, 36) of pristine photographs, from the asset registry.

    Raises:
        MissingAsset: the file is not here.
        InvalidError: the file does not hold them.
    """
    from flashbench.assets import registry

    return _load(registry.path(PARAMETERS))


@lru_cache(maxsize=4)
def _load(path: Path) -> core.Parameters:
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


def pooled(sums: Floats, parameters: core.Parameters) -> float:
    """NIQE of all blocks of a set from its summed `statistics` [775]; NaN with fewer than two complete blocks."""
    if sums.shape != (STATISTICS,):
        raise ValueError(f"NIQE's statistics have {STATISTICS} entries, not {list(sums.shape)}")
    counts, totals, (complete,), first, second = np.split(sums, [36, 72, 73, 109])
    if complete < 2:
        return math.nan
    products = np.zeros((core.FEATURES, core.FEATURES))
    products[_UPPER] = second
    products = products + np.triu(products, 1).T
    covariance = (products - np.outer(first, first) / complete) / (complete - 1)
    return core.distance(parameters[0] + totals / counts, covariance, parameters)


@dataclass(frozen=True, kw_only=True)
class Niqe(Metric):
    """NIQE of each frame, averaged over the frames that have one; the others are counted in the reason."""

    def stream(self, about: About) -> Stream:
        """NaN: clip below 96×96, all frames flat, parameters absent. The reference is not read."""
        parameters = _parameters_for(about)
        if isinstance(parameters, Measurement):
            return parameters
        values = []
        while (pair := (yield)) is not None:
            values.append(float(core.niqe(pair.frame[None], parameters, _quirks(self))[0]))
        return frame_mean(values, _FLAT)


@dataclass(frozen=True, kw_only=True)
class PooledNiqe(SetMetric):
    """NIQE with one multivariate Gaussian over all blocks of all frames of a set of clips.

    Where a frame has few blocks its own covariance of 36 features is ill-conditioned; that of a set is steady.
    """

    def stream(self, about: About) -> Stream:
        """Value of the clip alone, and its statistics. A flat clip keeps its statistics: it still counts in a set."""
        parameters = _parameters_for(about)
        if isinstance(parameters, Measurement):
            return parameters
        total = np.zeros(STATISTICS)
        while (pair := (yield)) is not None:
            total += statistics(core.features(pair.frame, _quirks(self)), parameters[0])
        value = pooled(total, parameters)
        reason = f"{_FLAT} in the whole clip" if math.isnan(value) else ""
        return Measurement(value=value, reason=reason, statistics=tuple(total.tolist()))

    def finalize(self, statistics: Floats) -> float:
        """NIQE of the set from its summed statistics [775].

        Raises:
            MissingAsset: the pristine parameters are not here.
        """
        return pooled(statistics, pristine())


def _quirks(metric: Metric) -> core.Quirks:
    return cast(core.Quirks, metric.preprocessing["quirks"])


def _parameters_for(about: About) -> core.Parameters | Measurement:
    """`pristine`, or the missing measurement of a clip that has no NIQE: below 96×96, or parameters absent."""
    if min(about.shape[1:]) < core.BLOCK:
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
