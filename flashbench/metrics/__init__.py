"""Metrics by name. Outsiders add theirs by an entry point of the group `flashbench.metrics`.

An entry point is called as the metric and leads to a `Metric` instance of the same name:

    [project.entry-points."flashbench.metrics"]
    my_metric = "my_package.metrics:my_metric"
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType

from flashbench.errors import UsageError, did_you_mean
from flashbench.metrics.base import Metric, PairMetric, SetMetric
from flashbench.metrics.computed import EVALUATIONS, PREDICTED_SECONDS, TFLOP
from flashbench.metrics.content import BACKGROUND, COLOR, MOTION, SHAPE, SINGLE_OBJECT
from flashbench.metrics.detail import LAPLACIAN_VARIANCE, SHARPNESS, SPECTRAL_SLOPE
from flashbench.metrics.distortion import MS_SSIM, MS_SSIM_Y, PSNR_Y, SSIM_Y
from flashbench.metrics.dover.metric import DOVER
from flashbench.metrics.fidelity import PSNR, SSIM
from flashbench.metrics.motion import (
    COLOUR_DRIFT,
    FRAME_DIFFERENCE_ENERGY,
    SHARPNESS_DRIFT,
    TEMPORAL_FLICKER,
    WARPING_ERROR,
)
from flashbench.metrics.motion_raft import EWARP_RAFT
from flashbench.metrics.naturalness import NIQE, NIQE_POOLED
from flashbench.metrics.pyiqa.metric import DISTS, LEARNED, LPIPS, LPIPS_VGG, through_pyiqa
from flashbench.metrics.texture import TEMPORAL_ERROR
from flashbench.metrics.vbench.flicker import TEMPORAL_FLICKERING
from flashbench.metrics.vbench.metric import PREFIXES, through_vbench

__all__ = ["GROUP", "PREFIXES", "Metric", "PairMetric", "SetMetric", "get", "names"]

GROUP = "flashbench.metrics"
_ALONE = (NIQE, NIQE_POOLED, LAPLACIAN_VARIANCE, SPECTRAL_SLOPE, *LEARNED, *DOVER)
_OVER_TIME = (
    COLOUR_DRIFT,
    EWARP_RAFT,
    FRAME_DIFFERENCE_ENERGY,
    SHARPNESS_DRIFT,
    TEMPORAL_FLICKER,
    TEMPORAL_FLICKERING,
    WARPING_ERROR,
)
_WITH_REFERENCE = (PSNR, PSNR_Y, SSIM, SSIM_Y, MS_SSIM, MS_SSIM_Y, SHARPNESS, TEMPORAL_ERROR, LPIPS, LPIPS_VGG, DISTS)
_ATTRIBUTES = (COLOR, SHAPE, MOTION, BACKGROUND, SINGLE_OBJECT)
_RECORDED = (EVALUATIONS, TFLOP, PREDICTED_SECONDS)
_OURS: Mapping[str, Metric] = MappingProxyType(
    {metric.name: metric for metric in (*_ALONE, *_OVER_TIME, *_WITH_REFERENCE, *_ATTRIBUTES, *_RECORDED)}
)


def names() -> tuple[str, ...]:
    """Names of all metrics, ours and installed ones, sorted."""
    return tuple(sorted({*_OURS, *_installed()}))


def get(name: str) -> Metric:
    """The metric called `name`; `pyiqa:NAME` is any metric of pyiqa, `vbench:DIM` and its kin are VBench's.

    Raises:
        UsageError: no metric has that name, or the package that offers it does not lead to a `Metric` of that name.
    """
    if name in _OURS:
        return _OURS[name]
    if name.startswith("pyiqa:"):
        return _through_pyiqa(name.removeprefix("pyiqa:"))
    if name.partition(":")[0] in PREFIXES and ":" in name:
        return through_vbench(name)
    entry = _installed().get(name)
    if entry is None:
        raise did_you_mean("metric", name, names())
    try:
        metric = entry.load()
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"metric {name!r} cannot be loaded from {entry.value}: {error}", fix="reinstall the package that offers it"
        ) from error
    if not isinstance(metric, Metric) or metric.name != name:
        raise UsageError(
            f"entry point {name!r} ({entry.value}) is not a flashbench.metrics.Metric named {name!r}",
            fix=f"let the entry point of group {GROUP} lead to a Metric instance of its own name",
        )
    return metric


@lru_cache(maxsize=64)
def _through_pyiqa(name: str) -> Metric:
    return through_pyiqa(name)


@lru_cache(maxsize=1)
def _installed() -> Mapping[str, EntryPoint]:
    return MappingProxyType({entry.name: entry for entry in entry_points(group=GROUP) if entry.name not in _OURS})
