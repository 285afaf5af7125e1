"""Scores of videos as a table with the columns of every scores.parquet, a row for each video and metric."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flashbench.metrics.base import Metric
from flashbench.scoring import COLUMNS, noted
from flashbench.types import Measurement

if TYPE_CHECKING:
    import pandas as pd


def lines(
    about: Mapping[str, Any], metrics: Sequence[Metric], found: Sequence[Measurement], keys: Sequence[str]
) -> list[dict[str, Any]]:
    """A row for each metric of one video; `about` has the columns that they share."""
    return [
        {
            **about,
            "metric": metric.name,
            "value": measurement.value,
            "per_frame": list(measurement.per_frame),
            "reason": noted(metric, measurement),
            "key": key,
            "statistics": list(measurement.statistics),
        }
        for metric, measurement, key in zip(metrics, found, keys, strict=True)
    ]


def frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """The rows as a table, in their order."""
    import pandas as pd

    return pd.DataFrame(list(rows), columns=list(COLUMNS))
