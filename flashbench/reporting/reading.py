"""What a reader asks of a protocol's results: its numbers beside the paper's, what is missing, the claims, differences.

Everything is read from a tier's results folder. Arguments and errors that are not told are those of
`reporting.results`. Text is for reading; the numbers behind it are those of `results` and `claims`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from flashbench import stats
from flashbench.errors import did_you_mean
from flashbench.protocol.cases import of_part
from flashbench.protocol.compose import load_protocol
from flashbench.protocol.published import VERSIONS
from flashbench.protocol.types import Protocol
from flashbench.reporting import numbers, vbench_table
from flashbench.reporting.results import folder, judged, results
from flashbench.scores.table import read_scores

ALL, VALUED = "all", "all that have values elsewhere"
QUOTED = "niqe"
"""Published metric that differences are of, where it is measured too."""
_TOLD = ("effect", "low", "high", "p", "n", "of", "clusters")
_DIFFERENCES = (
    "replica", "metric", "unit", "direction", "than", *_TOLD, *(f"published_{version}" for version in VERSIONS),
    "reason",
)  # fmt: skip


def side_by_side(
    protocol: str, metrics: Sequence[str] = (), *, tier: str = "laptop", root: str | Path | None = None,
    replicas: bool = False,
) -> pd.DataFrame:  # fmt: skip
    """The protocol's table with the paper's beside it: a line for each row, columns (metric, measured | v1 | v4).

    Cells are text: a value with its 95 % interval as tables write it, the paper's numbers as printed (one column
    `v1 = v4` where both versions print the same), `n/a` for what has no value (`missing` says why), `–` for what the
    paper does not print. A metric that no row has measured has the paper's columns alone; one that follows from
    settings is `computed`. `clips` are those that were scored, of those that were asked for. Only the protocol's own
    cases are shown; further sets are in `results`.

    Args:
        protocol: its name, e.g. `nfe`.
        metrics: names of those to show; if none, the primary ones and all that the paper prints.
        tier: whose results.
        root: the folder that holds a folder for each tier.
        replicas: all training replicas, as lines of their own, rather than replica 0.

    Raises:
        UsageError: there are no such results, or no such metric. InvalidError: the table is another version's.
    """
    table = _own(results(protocol, tier=tier, root=root, replicas=replicas))
    known = list(dict.fromkeys(table["metric"]))
    if unknown := [name for name in metrics if name not in known]:
        raise did_you_mean(f"metric of {protocol}", unknown[0], known)
    asked = vbench_table.shown(load_protocol(protocol, tier=tier))
    printed = table[[f"published_{version}" for version in VERSIONS]].notna().any(axis=1)
    quoted = set(table[printed]["metric"])
    chosen = list(metrics) or [name for name in known if name in asked.primary or name in quoted]
    several = table["replica"].nunique() > 1
    lines = table.set_index(["row", "replica"] if several else ["row"])
    index = lines.index.unique()
    columns: dict[tuple[str, str], Sequence[str]] = {}
    for name in chosen:
        part = lines[lines["metric"] == name].loc[index]
        head = numbers.named(name, part["direction"].iloc[0], part["unit"].iloc[0])
        computed = name in asked.metric_names and asked.metric(name).computed
        columns |= {(head, side): cells for side, cells in _sides(part, computed).items()}
    shown = lines[lines["metric"].isin(chosen) & lines["value"].notna()]
    columns["clips", ""] = [_clips(shown[shown.index == at], lines) for at in index]
    return pd.DataFrame(columns, index=index)


def _own(table: pd.DataFrame) -> pd.DataFrame:
    """The lines on the protocol's own cases, which come first."""
    own: pd.DataFrame = table[table["cases"] == table["cases"].iloc[0]]
    return own


def _sides(part: pd.DataFrame, computed: bool) -> dict[str, Sequence[str]]:
    """`measured` or `computed`, `v1` and `v4` → cells of one metric, a line for each row."""
    sides: dict[str, Sequence[str]] = {}
    bounds = list(zip(part["value"], part["low"], part["high"], strict=True))
    if computed:  # and has no interval
        bounds = [(value, math.nan, math.nan) for value, _, _ in bounds]
    if part["value"].notna().any():
        places = numbers.places(((high - low) / 2 for _, low, high in bounds), part["value"])
        halved = all(numbers.even(*values) for values in bounds)
        sides["computed" if computed else "measured"] = [
            numbers.estimate(*values, places, halved=halved) for values in bounds
        ]
    printed = {version: part[f"published_{version}"] for version in VERSIONS}
    places = numbers.printed_places(x for column in printed.values() for x in column.dropna())
    written = {version: _printed(column, places) for version, column in printed.items() if column.notna().any()}
    if len(written) == len(VERSIONS) and len(set(map(tuple, written.values()))) == 1:
        return sides | {" = ".join(VERSIONS): next(iter(written.values()))}
    return sides | written


def _printed(column: pd.Series[Any], places: int) -> list[str]:
    return [numbers.ABSENT if math.isnan(value) else numbers.number(value, places) for value in column]


def _clips(valued: pd.DataFrame, lines: pd.DataFrame) -> str:
    """`33–34/34`: clips that the values of a row stand on, of those asked for."""
    counts = sorted(set(valued["n"])) or [0]
    return f"{'–'.join(map(str, dict.fromkeys((counts[0], counts[-1]))))}/{lines['of'].max()}"


def missing(
    protocol: str, *, tier: str = "laptop", root: str | Path | None = None, replicas: bool = False
) -> pd.DataFrame:
    """Why values of the protocol's own cases are missing: a line for each reason and the metrics and rows it holds of.

    `all` stands for every row, or every metric, and `all that have values elsewhere` for every metric that some row
    has. Errors as in `side_by_side`.
    """
    table = _own(results(protocol, tier=tier, root=root, replicas=replicas))
    absent, valued = table[table["value"].isna()], set(table[table["value"].notna()]["metric"])
    found: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (reason, row), part in absent.groupby(["reason", "row"], sort=False):
        found.setdefault((str(reason), tuple(dict.fromkeys(part["metric"]))), []).append(str(row))
    lines = []
    for (reason, metrics), rows in found.items():
        line = {"metrics": _listed(metrics, table["metric"]), "rows": _listed(rows, table["row"]), "reason": reason}
        lines.append(line | ({"metrics": VALUED} if len(metrics) > 1 and set(metrics) == valued else {}))
    return pd.DataFrame(lines, columns=["metrics", "rows", "reason"])


def _listed(names: Sequence[str], known: pd.Series[Any]) -> str:
    return ALL if set(names) == set(known) else ", ".join(names)


def verdicts(
    protocol: str, *, tier: str = "laptop", root: str | Path | None = None, replicas: bool = False
) -> pd.DataFrame:
    """The claims as people read them: a line for each, by its id, with the paired difference that it rests on.

    `difference` is first − second with the interval that decides (95 %, of an equivalence 90 %) and the number of
    pairs; with several trainings there is one for each. `beside` says what the same pairs say of PSNR and of a metric
    of detail, where they are measured. Errors as in `claims`.
    """
    _, found = judged(protocol, tier, root, replicas)
    lines = []
    for claim in found:
        each = [_difference(line, claim["unit"]) for line in claim["replicas"]]
        lines.append(
            {
                "id": claim["id"], "outcome": claim["outcome"], "claim": claim["text"],
                "difference": "; ".join(each), "of": f"{claim['metric']}, {claim['first']} − {claim['second']}",
                "margin": "" if claim["margin"] is None else f"±{numbers.given(claim['margin'])}",
                "beside": "; ".join(map(_beside, claim["replicas"])).strip("; "),
                "why": "; ".join(filter(None, (claim["why"], claim["label"], claim["note"]))),
            }
        )  # fmt: skip
    columns = ["id", "outcome", "claim", "difference", "of", "margin", "beside", "why"]
    return pd.DataFrame(lines, columns=columns).set_index("id")


def _difference(line: Mapping[str, Any], unit: str) -> str:
    effect = _signed(line)
    return effect if effect == numbers.UNDEFINED else f"{effect} {unit}".strip() + f", {line['n']} pairs"


def _signed(line: Mapping[str, Any]) -> str:
    if line["effect"] is None:
        return numbers.UNDEFINED
    bounds = (math.nan if line[name] is None else line[name] for name in ("low", "high"))
    return numbers.signed(line["effect"], *bounds)


def _beside(line: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_signed(other)}" for name, other in line["beside"].items())


def differences(
    protocol: str, metric: str | None = None, than: str | None = None, *, tier: str = "laptop",
    root: str | Path | None = None, replicas: bool = False,
) -> pd.DataFrame:  # fmt: skip
    """Each row minus one row, paired by clip, with the same difference of the paper's numbers beside.

    A line for each other row of the protocol's own cases (and replica), by its name: `effect` in `unit` with its 95 %
    interval and two-sided `p` (not adjusted for the number of rows), over `n` pairs of `of` in `clusters`, NaN with a
    `reason` where it could not be measured; `published_v1` and `published_v4` are the printed numbers' differences,
    NaN where the paper prints none. On the log scale `unit` is %, which the paper's have none of.

    Args:
        protocol: its name, e.g. `nfe`.
        metric: its name; if not given NIQE where it is measured and published, else the first that is both, else the
            first primary one.
        than: the row that is subtracted; if not given the protocol's baseline, or the first row that the paper prints
            where it does not print the baseline.
        tier: whose results.
        root: the folder that holds a folder for each tier.
        replicas: all training replicas rather than replica 0.

    Raises:
        UsageError: there are no such results, metric or row. InvalidError: the scores are of another version of the
            protocol.
    """
    within = folder(protocol, tier, root, replicas)
    asked = load_protocol(protocol, tier=tier)
    scores = read_scores(within / protocol / "scores.parquet", asked.hash)
    view = vbench_table.view(asked, of_part(asked, scores))
    chosen = view.part.metric(metric or _shared(view.part, set(view.scores.dropna(subset="value")["metric"])))
    rows = [variant.row for variant in asked.variants]
    if than is not None and than not in rows:
        raise did_you_mean(f"row of {protocol}", than, rows)
    printed = {
        version: {row: cells[chosen.name] for row, cells in asked.published.get(version, {}).items()
                  if chosen.name in cells and row in rows}
        for version in VERSIONS
    }  # fmt: skip
    than = than or _reference(asked, printed, set(view.scores["row"]))
    lines = []
    for replica in sorted(set(view.scores["replica"])):
        for row in (row for row in rows if row != than):
            found = stats.contrast(view.scores, chosen, row, than, replica=int(replica))
            line = {name: getattr(found, name) for name in (*_TOLD, "replica", "metric", "unit", "reason")}
            line |= {"row": row, "than": than, "direction": chosen.direction}
            for version, column in printed.items():
                known = found.scale == "identity" and row in column and than in column
                line[f"published_{version}"] = column[row] - column[than] if known else math.nan
            lines.append(line)
    return pd.DataFrame(lines, columns=["row", *_DIFFERENCES]).set_index("row")


def _shared(part: Protocol, measured: set[str]) -> str:
    """A metric that is measured and published, NIQE before others; else the first primary one."""
    quoted = {name for rows in part.published.values() for cells in rows.values() for name in cells}
    both = [name for name in part.metric_names if name in quoted and name in measured]
    return QUOTED if QUOTED in both else (*both, *part.primary)[0]


def _reference(protocol: Protocol, printed: Mapping[str, Mapping[str, float]], scored: set[str]) -> str:
    """The baseline, or the first row that is printed and scored if the baseline is not printed."""
    quoted = {row for column in printed.values() for row in column}
    if not quoted or protocol.baseline in quoted:
        return protocol.baseline
    return next((v.row for v in protocol.variants if v.row in quoted and v.row in scored), protocol.baseline)
