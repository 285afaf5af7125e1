"""A table of scores in other shapes: a line for each metric with its interval, a line for each clip."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from flashbench import metrics as registry
from flashbench import stats
from flashbench.errors import InvalidError
from flashbench.metrics.base import Metric
from flashbench.scores.clusters import by_content
from flashbench.scores.table import COLUMNS

if TYPE_CHECKING:
    import pandas as pd

ROW, CLIP = ("protocol", "row", "replica"), ("protocol", "row", "case", "cluster", "prompt", "seed", "replica")
"""Columns that name a row of a table of results, and one of its clips."""


def summary(table: pd.DataFrame, metrics: Iterable[Metric] = ()) -> pd.DataFrame:
    """Each metric's value over the clips of a row, with its 95 % interval, as `flashbench score` prints it.

    Args:
        table: scores as `flashbench.score`, `Scorer` or a scores.parquet has them.
        metrics: those that are registered under no name, where the scores are of some.

    Returns:
        protocol, row, replica, metric, value, low, high (NaN without an interval), unit, direction, n (clips with a
        value), of (clips), clusters, and the reason why there is no value, no interval, or fewer clips. Clips of one
        prompt or source, and clips of equal content, are one cluster. Lines are in the order of the table.

    Raises:
        UsageError: a metric has a name that is not known.
        InvalidError: columns are missing.
    """
    import pandas as pd

    _whole(table)
    own, lines = {metric.name: metric for metric in metrics}, list[dict[str, object]]()
    for (protocol, row, replica), part in table.groupby(list(ROW), sort=False):
        once = by_content(part)
        for name in dict.fromkeys(part["metric"].astype(str)):
            metric = own.get(name) or registry.get(name)
            found = stats.estimate(once, metric, str(row), replica=int(str(replica)))
            lines.append({
                "protocol": protocol, "row": row, "replica": replica, "metric": name, "value": found.value,
                "low": found.low, "high": found.high, "unit": metric.unit, "direction": metric.direction, "n": found.n,
                "of": found.of, "clusters": found.clusters, "reason": found.reason,
            })  # fmt: skip
    columns = [*ROW, "metric", "value", "low", "high", "unit", "direction", "n", "of", "clusters", "reason"]
    return pd.DataFrame(lines, columns=columns)


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """A line for each clip: protocol, row, case, cluster, prompt, seed, replica, and a column for each metric.

    Lines and metrics are in the order of the table. Without a value it is NaN; the reason is in the table.

    Raises:
        InvalidError: columns are missing, or a clip has two scores of a metric.
    """
    _whole(table)
    twice = table[table.duplicated([*CLIP, "metric"])]
    if len(twice):
        row, case, metric = (twice[name].iloc[0] for name in ("row", "case", "metric"))
        what = f"{len(twice)} scores are there twice, {metric} of {case} in {row} among them"
        raise InvalidError(what, fix="take the tables one by one, or give their clips other names (case) or seeds")
    clips = table[list(CLIP)].drop_duplicates(ignore_index=True)
    for name in dict.fromkeys(table["metric"].astype(str)):
        values = table.loc[table["metric"] == name, [*CLIP, "value"]].rename(columns={"value": name})
        clips = clips.merge(values, on=list(CLIP), how="left")
    return clips


def _whole(table: pd.DataFrame) -> None:
    if absent := [name for name in COLUMNS if name not in table.columns]:
        fix = "give what `flashbench.score` or `Scorer` returned, or a scores.parquet read by pandas"
        raise InvalidError(f"the table of scores has no {', '.join(absent)}", fix=fix)
