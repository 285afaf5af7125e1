"""Reading what a tier's results folder holds of a protocol: its table and its claims. Nothing is scored here.

For notebooks and scripts: everything that is read is in git, so a clone is enough.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from flashbench.errors import InvalidError, UsageError, did_you_mean
from flashbench.reporting.tables import COLUMNS

_TEXTS = ("tier", "protocol", "cases", "row", "metric", "unit", "direction", "reason")
_COUNTS = ("replica", "n", "of", "clusters")
_ONCE = (
    "id", "text", "source", "primary", "metric", "direction", "unit", "first", "second", "kind", "margin", "level",
    "outcome", "label", "why",
)  # fmt: skip
_FLOATS = ("effect", "low", "high", "p", "left_out_low", "left_out_high")
_EACH = ("replica", *_FLOATS, "n", "of", "clusters")


def results(
    protocol: str, *, tier: str = "laptop", root: str | Path | None = None, replicas: bool = False
) -> pd.DataFrame:
    """The long table of a protocol: a line for each set of cases (its own first), replica, row and metric.

    Columns are those of `reporting.tables.COLUMNS`: `value`, `low` and `high` (95 % interval) are in the metric's
    `unit`, NaN with a `reason` where there is none; `n` clips of `of`, in so many `clusters`, were scored;
    `published_v1` and `published_v4` are what the paper's versions print.

    Args:
        protocol: its name, e.g. `nfe`.
        tier: whose results.
        root: the folder that holds a folder for each tier; if not given, the `results` of the working directory, or of
            the nearest folder above it that has one.
        replicas: the table of all training replicas rather than that of replica 0.

    Raises:
        UsageError: there are no such results. InvalidError: the table is another version's.
    """
    path = folder(protocol, tier, root, replicas) / "tables" / f"{protocol}.csv"
    # Only `nan` is missing: an empty reason is a reason, and `none` is a direction and a degradation.
    types = {name: str if name in _TEXTS else int if name in _COUNTS else float for name in COLUMNS}
    missing = {name: ["nan"] for name, dtype in types.items() if dtype is float}
    try:
        table = pd.read_csv(path, dtype=types, keep_default_na=False, na_values=missing, encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InvalidError(f"{path} cannot be read: {error}", fix=again(protocol, tier)) from error
    if tuple(table.columns) != COLUMNS:
        what = f"{path} was written by another version: its columns are not {', '.join(COLUMNS)}"
        raise InvalidError(what, fix=again(protocol, tier))
    return table


def claims(
    protocol: str, *, tier: str = "laptop", root: str | Path | None = None, replicas: bool = False
) -> pd.DataFrame:
    """The claims of a protocol: a line for each claim and training replica.

    `outcome` (holds, exceeds, contradicted or undecided) and `why` are the claim's over all replicas and by itself:
    claims.md tests the `primary` ones of all protocols as one family. `effect` is first − second in `unit` with its
    interval of `level` (0.95, of an equivalence 0.9), NaN where it could not be measured, `p` that of the replica's
    test, and `left_out_low` to `left_out_high` the range of the effect with one cluster left out.

    Arguments and errors are those of `results`.
    """
    path, found = judged(protocol, tier, root, replicas)
    try:
        lines = [
            {name: claim[name] for name in _ONCE} | {name: line[name] for name in _EACH}
            for claim in found
            for line in claim["replicas"]
        ]
    except (KeyError, TypeError) as error:
        raise InvalidError(f"{path} cannot be read: {error!r}", fix=again(protocol, tier)) from error
    return pd.DataFrame(lines, columns=[*_ONCE, *_EACH]).astype(dict.fromkeys(("margin", *_FLOATS), float))


def judged(protocol: str, tier: str, root: str | Path | None, replicas: bool) -> tuple[Path, list[Any]]:
    """The file of the protocol's judged claims, and what `reporting.claims.evaluate` wrote there."""
    path = folder(protocol, tier, root, replicas) / protocol / "claims.json"
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidError(f"{path} cannot be read: {error!r}", fix=again(protocol, tier)) from error
    if not isinstance(found, list):
        raise InvalidError(f"{path} is no list of claims", fix=again(protocol, tier))
    return path, found


def folder(protocol: str, tier: str, root: str | Path | None, replicas: bool) -> Path:
    """The folder of the tier's results; it has a table of the protocol. Arguments and errors are those of `results`."""
    within = Path(tier, "replicas") if replicas else Path(tier)
    if root is None:
        here = Path.cwd()
        above = [place / "results" for place in (here, *here.parents)]
        places = [place for place in above if (place / within / "tables").is_dir()]
        if not places:
            what = f"no folder results/{within.as_posix()} from {here} upwards"
            raise UsageError(what, fix="work in a clone, run `flashbench run`, or give `root`")
        found = places[0] / within
    else:
        found = Path(root) / within
        if not (found / "tables").is_dir():
            raise UsageError(f"{found} holds no tables", fix="`root` is the folder that holds a folder for each tier")
    known = sorted(path.stem for path in (found / "tables").glob("*.csv"))
    if protocol not in known:
        raise did_you_mean(f"protocol in {found}:", protocol, known)
    return found


def again(protocol: str, tier: str) -> str:
    """The fix where results are not of this version."""
    return f"run `flashbench run {protocol} --tier {tier}` again"
