"""Metrics: one file per way of scoring a clip, which registers what it defines (`flashbench.metrics.registry`)."""

from __future__ import annotations

from flashbench.metrics.base import FrameMetric, Metric, Pair, PairMetric, SetMetric
from flashbench.metrics.registry import GROUP, families, get, names, third_party

__all__ = [
    "GROUP",
    "FrameMetric",
    "Metric",
    "Pair",
    "PairMetric",
    "SetMetric",
    "families",
    "get",
    "names",
    "third_party",
]
