"""Two tables of scores line by line: how they are aligned, and what differs in a line beyond a tolerance.

A line is a sample: one metric on one clip. It is compared whole, so that an equal value on other frames or statistics
is a change too. Two columns are not compared: `key` (of the store: it names the code's version, not a result) and
`reason` (words, which name the machine's state); a number that comes or goes is a change of the value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from flashbench.metrics.base import Metric, SetMetric

AT = ["row", "case", "seed", "replica", "metric"]
"""What a line is found by: its place in a file says nothing."""
_UNLIKE = ("cluster", "frames", "set", "geometry")


def clip(at: Sequence[object]) -> str:
    """A line's clip in words."""
    row, case, seed, replica, *_ = at
    return f"{row} · {case} · seed {seed} · replica {replica}"


def missing(wanted: pd.Index[Any], have: pd.Index[Any]) -> Iterator[str]:
    """What `have` lacks of `wanted`, both of `AT`: the largest thing that is gone whole, then single clips."""
    gone = wanted.difference(have)
    for level in ("metric", "row", "case", "replica"):
        whole = sorted(set(wanted.get_level_values(level)) - set(have.get_level_values(level)))
        yield from (f"the {level} {name} is missing" for name in whole)
        gone = gone[~gone.get_level_values(level).isin(whole)]
    lost: dict[str, list[str]] = {}
    for at in gone:
        lost.setdefault(clip(at), []).append(at[4])
    counts = Counter(clip(at) for at in wanted) if lost else Counter[str]()
    for text, metrics in sorted(lost.items()):
        some = "" if len(metrics) == counts[text] else f"{', '.join(sorted(metrics))} of "
        yield f"{some}{text} is missing"


def unmade(baseline: pd.DataFrame, current: pd.DataFrame) -> Iterator[str]:
    """Clips of aligned lines that the baseline has and the current side does not, with its reasons."""
    at = current[(current["clip"] == "") & (baseline["clip"] != "")]
    reasons = {clip(place): str(why) or "no reason given" for place, why in zip(at.index, at["reason"], strict=True)}
    yield from (f"{text} was not made: {why}" for text, why in sorted(reasons.items()))


def unmeasured(table: pd.DataFrame, other: pd.DataFrame) -> dict[str, str]:
    """Metrics of which only `table` has values at all, with the reason of `other`."""
    has = [set(side.index[~no_value(side)].get_level_values("metric")) for side in (table, other)]
    silent = has[0] - has[1]
    return {metric: str(other.xs(metric, level="metric")["reason"].iloc[0]) for metric in silent}


def silent(baseline: pd.DataFrame, current: pd.DataFrame) -> dict[str, str]:
    """Metrics without any value on either side of aligned lines, with the current reason."""
    neither = no_value(baseline) & no_value(current)
    metrics = current.index.get_level_values("metric")
    names = sorted(set(metrics) - set(metrics[~neither]))
    return {name: str(current.xs(name, level="metric")["reason"].iloc[0]) for name in names}


def gone(baseline: pd.DataFrame, current: pd.DataFrame) -> list[str]:
    """Values of aligned lines that the baseline has and the current side has not, with its reasons."""
    lost = current[no_value(current) & ~no_value(baseline)].reset_index()
    columns = (lost[name] for name in ("row", "case", "seed", "metric", "reason"))
    return sorted(
        f"{metric} of {row} · {case} · seed {seed} has no value any more: {why}"
        for row, case, seed, metric, why in zip(*columns, strict=True)
    )


def no_value(lines: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Lines with neither a number nor statistics of a set metric."""
    return np.asarray(lines["value"].isna() & (lines["statistics"].map(len) == 0), dtype=np.bool_)


def unlike(baseline: pd.DataFrame, current: pd.DataFrame) -> Iterator[str]:
    """Why aligned lines are not of the same samples: cluster, number of frames, set of cases, geometry."""
    for column in _UNLIKE:
        if column in baseline and column in current:
            first, second = baseline[column], current[column]
            at = first.index[(first != second).to_numpy()]
            if len(at):
                what = "number of frames" if column == "frames" else column
                pairs = f"{first.loc[at[0]]} → {second.loc[at[0]]}"
                yield f"the {what} of {len(at)} scores is another, first of {clip(at[0])}: {pairs}"


def differs(metric: Metric, before: pd.DataFrame, after: pd.DataFrame, allowed: float) -> list[str]:
    """For each aligned line of one row and metric what differs by more than `allowed`, in words; empty if nothing does.

    At 0 all must be equal to the last bit, the clip's digest too. Above it the value and every frame's may move by as
    much, in the metric's unit, and so may the value of the whole set if one clip's statistics, or all, are exchanged.
    """
    first, second = (side["value"].to_numpy(dtype=np.float64) for side in (before, after))
    fields: list[list[str]] = [[] if _near(a, b, allowed) else ["value"] for a, b in zip(first, second, strict=True)]
    moved = {
        "frames": [not _alike(a, b, allowed) for a, b in zip(before["per_frame"], after["per_frame"], strict=True)],
        "statistics": _statistics(metric, before["statistics"].tolist(), after["statistics"].tolist(), allowed),
        "clip": [allowed == 0 and a != b for a, b in zip(before["clip"], after["clip"], strict=True)],
    }
    for name, places in moved.items():
        for place in np.flatnonzero(places):
            fields[place].append(name)
    return [", ".join(names) for names in fields]


def _near(a: float, b: float, allowed: float) -> bool:
    return bool(a == b or (np.isnan(a) and np.isnan(b)) or abs(b - a) <= allowed)


def _alike(a: npt.ArrayLike, b: npt.ArrayLike, allowed: float) -> bool:
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if first.shape != second.shape:
        return False
    with np.errstate(invalid="ignore"):  # inf − inf
        near = (first == second) | (np.isnan(first) & np.isnan(second)) | (np.abs(second - first) <= allowed)
    return bool(near.all())


def _statistics(
    metric: Metric, before: Sequence[npt.ArrayLike], after: Sequence[npt.ArrayLike], allowed: float
) -> list[bool]:
    """Which clips' statistics differ: at all, or by what they do to the value of the set, finalised on either side."""
    pairs = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in zip(before, after, strict=True)]
    unequal = [not _alike(a, b, 0) for a, b in pairs]
    if allowed == 0 or not any(unequal) or not isinstance(metric, SetMetric):
        return unequal
    if len({side.shape for pair in pairs for side in pair if side.size}) != 1:
        return unequal
    if any(a.size != b.size for a, b in pairs):  # statistics that came or went have no distance
        return [a.size != b.size for a, b in pairs]
    kept = [pair for pair in pairs if pair[0].size]
    total = np.sum([a for a, _ in kept], axis=0)
    value = metric.finalize(total)
    if not _moves(value, metric.finalize(np.sum([b for _, b in kept], axis=0)), allowed):
        return [one and _moves(value, metric.finalize(total - a + b), allowed)
                for one, (a, b) in zip(unequal, pairs, strict=True)]  # fmt: skip
    return unequal


def _moves(value: float, other: float, allowed: float) -> bool:
    """Whether a set's value moves by more than is allowed; where it has none, that nothing moved cannot be known."""
    return not abs(other - value) <= allowed
