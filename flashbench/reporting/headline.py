"""A protocol in one line of `dvc metrics show`: the baseline's main numbers, and how its claims came out."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from flashbench.reporting import totals
from flashbench.reporting.claims import BESIDE, OUTCOMES
from flashbench.types import Protocol


def headline(protocol: Protocol, table: pd.DataFrame, judged: Sequence[Mapping[str, Any]]) -> str:
    """JSON of metric → the baseline's value, and outcome → number of claims; flat, so that protocols share columns.

    Args:
        protocol: names the baseline and the primary metrics; PSNR stands beside them where it is measured.
        table: the long table of `tables.build`; of several training replicas, the mean.
        judged: the results of `claims.evaluate`.
    """
    protocol = totals.shown(protocol)
    own = table[(table["row"] == protocol.baseline) & (table["cases"] == protocol.case_set)]
    line: dict[str, float | int | None] = {}
    for name in dict.fromkeys((*protocol.primary, *({BESIDE} & set(protocol.metrics)))):
        value = float(own[own["metric"] == name]["value"].mean())
        line[name] = value if math.isfinite(value) else None
    line |= {outcome: sum(result["outcome"] == outcome for result in judged) for outcome in OUTCOMES}
    return json.dumps(line, indent=1, allow_nan=False) + "\n"
