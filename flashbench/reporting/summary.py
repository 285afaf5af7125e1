"""A protocol in one line of `dvc metrics show`: the baseline's main numbers, and how its claims came out."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from flashbench.protocol.types import Protocol
from flashbench.reporting import vbench_table
from flashbench.reporting.claims import BESIDE, OUTCOMES


def headline(protocol: Protocol, table: pd.DataFrame, judged: Sequence[Mapping[str, Any]]) -> str:
    """JSON of metric → the baseline's value, and outcome → number of claims; flat, so that protocols share columns.

    Args:
        protocol: names the baseline and the primary metrics; PSNR stands beside them where it is measured.
        table: the long table of `tables.build`; of several training replicas, the mean.
        judged: the results of `claims.evaluate`.
    """
    protocol = vbench_table.shown(protocol)
    own = table[(table["row"] == protocol.baseline) & (table["cases"] == protocol.case_set)]
    line: dict[str, float | int | None] = {}
    for name in dict.fromkeys((*protocol.primary, *({BESIDE} & set(protocol.metric_names)))):
        value = float(own[own["metric"] == name]["value"].mean())
        line[name] = value if math.isfinite(value) else None
    line |= {outcome: sum(result["outcome"] == outcome for result in judged) for outcome in OUTCOMES}
    return json.dumps(line, indent=1, allow_nan=False) + "\n"


def metrics_json(tables: Iterable[pd.DataFrame]) -> str:
    """JSON of tier → protocol → row → metric → value, for `dvc metrics`; null is missing.

    Where a table has several replicas, `replica 0` and so on stand between protocol and row; then, of a further set of
    cases, its name.
    """
    nested: dict[str, Any] = {}
    for table in tables:
        several, own = table["replica"].nunique() > 1, table["cases"].iloc[0]
        for line in table[table["reason"].map(lambda why: not why.startswith("not scored at"))].to_dict("records"):
            at = nested.setdefault(line["tier"], {}).setdefault(line["protocol"], {})
            at = at.setdefault(f"replica {line['replica']}", {}) if several else at
            at = at if line["cases"] == own else at.setdefault(line["cases"], {})
            value = line["value"]
            at.setdefault(line["row"], {})[line["metric"]] = value if math.isfinite(value) else None
    return json.dumps(nested, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
