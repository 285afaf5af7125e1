"""Margins: how much worse still counts as no worse, as a user gives them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from flashbench.errors import UsageError, did_you_mean
from flashbench.metrics.base import Metric

Margins: TypeAlias = float | Mapping[str, float] | None
"""In each metric's unit, or in % where its scale is "log": of all metrics, or of each by its name."""
EVERY = "*"
"""Stands for all metrics without a margin of their own."""


def parse_margins(texts: Sequence[str]) -> dict[str, float] | None:
    """Margins as a command line has them: `0.1` for all metrics, `niqe=0.1` for one.

    Raises:
        UsageError: one is no number above 0, or a metric has two.
    """
    margins: dict[str, float] = {}
    for text in texts:
        name, equals, number = text.rpartition("=")
        key = name.strip() if equals else EVERY
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not (value > 0 and math.isfinite(value)) or not key:
            raise UsageError(f"invalid --margin {text!r}", fix="write a number above 0, or METRIC=NUMBER")
        if key in margins:
            raise UsageError(f"two margins for {'all metrics' if key == EVERY else key}", fix="give one")
        margins[key] = value
    return margins or None


def margin_of(margin: Margins, kind: Metric, kinds: Sequence[Metric]) -> float:
    """The margin of one of the metrics `kinds`; NaN where it has none.

    Raises:
        UsageError: a margin is no number above 0, or of a metric that is not among them or has no better or worse.
    """
    if margin is None:
        return math.nan
    if not isinstance(margin, Mapping):
        margin = {EVERY: margin}
    for name, value in margin.items():
        if name != EVERY and name not in (kind.name for kind in kinds):
            raise did_you_mean("metric with a margin", name, [kind.name for kind in kinds])
        if not isinstance(value, int | float | np.number) or not value > 0:
            raise UsageError(f"invalid margin {value!r}: not a number above 0", fix="give it in the metric's unit")
    if kind.direction == "none":
        if kind.name in margin:
            raise UsageError(f"{kind.name} has no better or worse, so no margin", fix="leave it out")
        return math.nan
    return float(margin.get(kind.name, margin.get(EVERY, math.nan)))
