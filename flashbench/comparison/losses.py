"""Clips that one side has a score of and the other has not: gone, broken, too short. What could they have changed?

Whoever drops the worst clips of one side makes it better. So a verdict stands only where it also stands in the worst
case: every lost clip scored as whichever clip of either run is worst for that verdict (of shares: 0 or the whole).
A lost clip may be worse than any clip seen; no number bounds that, and the sentence says that clips are lost.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple, cast

import numpy as np
import pandas as pd

from flashbench.metrics.base import Metric, SetMetric
from flashbench.types import Floats

FIRST, SECOND = "0", "1"
"""Rows of a table of pairs: the baseline, and the run that is compared with it."""
GONE = "no such video"
"""Why a side has no score where it has no clip at all."""
ENDLESS = "is infinite"
"""In the reason of a clip whose value has no end, as PSNR of a frame that equals its reference."""


class Lost(NamedTuple):
    """Pairs in which one side alone has a score."""

    baseline: int = 0
    """In which the baseline has none."""
    other: int = 0
    causes: tuple[str, ...] = ()
    """Why, the commonest first."""

    @property
    def any(self) -> bool:
        """Whether there are such pairs."""
        return self.baseline + self.other > 0


def has(lines: pd.DataFrame, metric: Metric) -> pd.Series:
    """Which lines of a metric have a score; of a set metric, statistics."""
    if not metric.pooled:
        return lines["value"].notna()
    whole = [len(x) > 0 and not np.isnan(np.asarray(x, dtype=np.float64)).any() for x in lines["statistics"]]
    return pd.Series(whole, index=lines.index, dtype=bool)


def lost(table: pd.DataFrame, metric: Metric) -> Lost:
    """What a table of pairs has lost of a metric on one side alone."""
    gaps = _gaps(table[table["metric"] == metric.name], metric)
    sides, causes = Counter(gaps["row"]), Counter(gaps["why"])
    ordered = tuple(sorted(causes, key=lambda cause: (-causes[cause], cause)))
    return Lost(sides[FIRST], sides[SECOND], ordered)


def filled(table: pd.DataFrame, metric: Metric, sign: float) -> pd.DataFrame:
    """The lines of a metric with every lost clip at its worst for a difference of that sign (second minus first).

    The second's lost clips get the lowest value of any clip where the sign is positive, the highest where it is
    negative, and the first's the other way round; but one whose value is infinite gets the highest.
    """
    lines = table[table["metric"] == metric.name]
    scored = lines[has(lines, metric)]
    gaps = _gaps(lines, metric)
    own = _own(scored, metric)
    ends = scored.iloc[int(own.argmin())], scored.iloc[int(own.argmax())]
    parts = [scored]
    endless = gaps["why"].str.contains(ENDLESS, regex=False).astype(bool)
    highest = endless | ((gaps["row"] == SECOND) == (sign < 0))
    for end in (False, True):
        new = gaps[highest == end].drop(columns="why")
        value = float(end) * metric.range[1] if metric.binary else ends[end]["value"]
        given = [ends[end]["statistics"]] * len(new)
        parts.append(new.assign(value=value, statistics=pd.Series(given, index=new.index, dtype=object), reason=""))
    return pd.concat([part for part in parts if len(part)], ignore_index=True)


def _own(scored: pd.DataFrame, metric: Metric) -> Floats:
    """What each clip is worth alone [N]: its value, or that of its statistics; where those have none, as the mean."""
    if not metric.pooled:
        return scored["value"].to_numpy(dtype=np.float64)
    finalize = cast(SetMetric, metric).finalize
    own = np.array([finalize(np.asarray(x, dtype=np.float64)) for x in scored["statistics"]])
    return np.where(np.isnan(own), np.nanmean(own) if not np.isnan(own).all() else 0.0, own)


def _gaps(lines: pd.DataFrame, metric: Metric) -> pd.DataFrame:
    """A line for each clip that is lost, as its partner's but for the row, and `why`."""
    scored = has(lines, metric)
    sides = lines[scored].groupby(["case", "seed"])["row"].agg(set)
    alone = {pair for pair, rows in sides.items() if len(rows) == 1}
    pairs = list(zip(lines["case"], lines["seed"], strict=True))
    partners = lines[[bool(there) and pair in alone for there, pair in zip(scored, pairs, strict=True)]]
    flipped = partners.assign(row=[SECOND if row == FIRST else FIRST for row in partners["row"]], clip="")
    told = {
        (row, *pair): str(why)
        for row, pair, why, there in zip(lines["row"], pairs, lines["reason"], scored, strict=True)
        if not there
    }
    whose = zip(flipped["row"], flipped["case"], flipped["seed"], strict=True)
    return flipped.assign(why=[told.get(key, "") or GONE for key in whose])
