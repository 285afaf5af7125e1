"""Metrics by name: `register` stands where a metric is defined; other packages offer theirs by an entry point.

An entry point of the group `flashbench.metrics` is called as the metric and leads to a `Metric` instance of that name:

    [project.entry-points."flashbench.metrics"]
    my_metric = "my_package.metrics:MY_METRIC"
"""

from __future__ import annotations

from flashbench.metrics.base import Metric
from flashbench.registry import Registry

GROUP = "flashbench.metrics"
REGISTRY: Registry[Metric] = Registry("metric", Metric, package=__name__.rpartition(".")[0], group=GROUP)  # type: ignore[type-abstract]

register, names, get = REGISTRY.register, REGISTRY.names, REGISTRY.get
families, family = REGISTRY.families, REGISTRY.family
third_party = REGISTRY.third_party
