"""Which metrics a comparison tests, and as what: few primary ones by Holm, the rest by Benjamini and Hochberg.

A family of all that can be measured decides nothing on few pairs. Primary are the metrics that are named (`--primary`)
or that the protocol declares; without either, or where none of the protocol's has a value, all are. What has no better
or worse, or is another metric on another scale, is shown and not tested, unless it is named as primary.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from flashbench import stats
from flashbench.errors import did_you_mean
from flashbench.metrics.base import Metric
from flashbench.types import Floats
from flashbench.videos.settings import protocol_file

TWINS: Mapping[str, str] = {
    "vbench_temporal_flickering": "temporal_flicker",
    "dover_technical_raw": "dover_technical",
    "dover_technical_matched": "dover_technical",
    "dover_aesthetic_raw": "dover_aesthetic",
    "dover_aesthetic_matched": "dover_aesthetic",
}
"""Metric → the one that it is on another scale: both order any two clips alike, so one test says it all."""


def shown(metric: Metric, together: Collection[str], asked: Collection[str] = ()) -> str:
    """Why a metric is shown and not tested beside others; empty if it is tested.

    Args:
        metric: the metric.
        together: names of all that are compared.
        asked: those that are named as primary.
    """
    if metric.name in asked:
        return ""
    if metric.direction == "none":
        return "it has no better or worse"
    twin = TWINS.get(metric.name, "")
    return f"it is {twin} on another scale" if twin in together else ""


def declared(protocols: Iterable[str]) -> frozenset[str]:
    """The primary metrics of protocols by their names; of what is no protocol here, none."""
    found: set[str] = set()
    for name in protocols:
        if re.fullmatch(r"[\w-]+(/[\w-]+)*", name):
            found.update((protocol_file(name) or {}).get("primary") or ())
    return frozenset(found)


def primary(tested: Sequence[str], asked: Sequence[str], protocols: Iterable[str]) -> frozenset[str]:
    """The metrics that are primary: those `asked` for, or of the `tested` ones those of the protocols, or all."""
    return frozenset(asked) or (declared(protocols) & frozenset(tested)) or frozenset(tested)


def known(asked: Iterable[str], names: Iterable[str]) -> None:
    """Refuse primary metrics that are not among `names`.

    Raises:
        UsageError: one is not.
    """
    names = list(names)
    for name in asked:
        if name not in names:
            raise did_you_mean("primary metric", name, names)


def adjusted(p: Floats, primaries: Sequence[bool]) -> Floats:
    """Of p values [N]: adjusted by Holm among the primary ones, by Benjamini and Hochberg among the rest; NaN stays."""
    first = np.asarray(primaries, dtype=bool)
    return np.where(first, stats.holm(np.where(first, p, np.nan)), _rest(np.where(first, np.nan, p)))


def _rest(p: Floats) -> Floats:
    return p if np.isnan(p).all() else stats.benjamini_hochberg(p)


def least(metric: Metric, tests: int) -> int:
    """Fewest clusters at which a metric's test can resolve anything, as one of so many tests.

    Student's t needs three; turning the signs of clusters' differences has a p of 2^(1 − clusters) at least.
    """
    if not metric.binary:
        return stats.MIN_CLUSTERS
    return max(stats.MIN_CLUSTERS, 1 + math.ceil(math.log2(max(tests, 1) / (1 - stats.LEVEL)) - 1e-9))
