"""The statistics of a methods section in words: sets of cases, intervals and tests, as scores and `stats` have them.

Every sentence is a `flashbench.methods.Method`: its text, and the keys of what is to be cited for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from flashbench import metrics as registry
from flashbench import stats
from flashbench.errors import FlashBenchError
from flashbench.methods import BENJAMINI_HOCHBERG, HOLM, Method, method
from flashbench.metrics.base import Metric
from flashbench.protocol.cases import of_part
from flashbench.protocol.types import Protocol
from flashbench.reporting import tables, vbench_table
from flashbench.reporting.numbers import counted
from flashbench.types import Case, CaseKind

NONE = Method("")


@dataclass(frozen=True, kw_only=True)
class CaseSet:
    """A set of cases as its table has it, counted in the scores."""

    name: str
    unit: str
    """What a cluster is."""
    rows: int
    """Rows with any value."""
    absent: int
    """Rows without."""
    clips: int
    """Clips that each row was asked for."""
    clusters: int
    """Their clusters."""
    scored: Mapping[str, tuple[int, int]]
    """Metric with any value → fewest and most clusters that have one, over rows and trainings."""
    metrics: tuple[Metric, ...]
    """The table's, as far as they are known here."""
    protocol: Protocol | None
    """The protocol on these cases, if it is known."""

    @property
    def text(self) -> str:
        """Rows, clips, clusters and unit; baseline and primary metrics if they are known."""
        texts = [
            f"{counted(self.rows, 'row')} of {counted(self.clips, 'clip')} each in {counted(self.clusters, 'cluster')} "
            f"(unit: {self.unit})"
        ]
        if self.absent:
            texts.append(f"{counted(self.absent, 'further row')} without a value")
        if fewer := [low for low, _ in self.scored.values() if low < self.clusters]:
            texts.append(f"values from {min(fewer)} clusters up where some clips have none")
        if self.protocol is not None:
            texts.append(f"baseline `{self.protocol.baseline}`, primary {', '.join(self.protocol.primary)}")
        return ", ".join(texts)

    @property
    def estimated(self) -> list[Metric]:
        """Metrics that have an interval in some row: enough clusters, and known here."""
        return [m for m in self.metrics if self.scored.get(m.name, (0, 0))[1] >= stats.MIN_CLUSTERS]

    @property
    def tested(self) -> list[Metric]:
        """Metrics whose differences between rows are tested."""
        return [metric for metric in self.estimated if not metric.computed] if self.rows > 1 else []


def case_sets(scores: pd.DataFrame, metrics: Sequence[Metric], protocol: Protocol | None) -> list[CaseSet]:
    """The sets of cases of a protocol's scores.

    Args:
        scores: the table of a protocol's scores.parquet.
        metrics: those of its metrics that are known here.
        protocol: the protocol that asked for the scores. Without it cases are of one set where they are made from the
            same kind of thing and the same rows answer them, and the set with the most rows comes first.
    """
    if protocol is None:
        return [_case_set(kind, kind, lines, metrics) for kind, lines in _apart(scores)]
    found = []
    for part in protocol.parts:
        if len(lines := of_part(part, scores)):
            view = vbench_table.view(part, lines)
            found.append(_case_set(part.case_set, part.kind, view.scores, view.part.metrics, view.part))
    return found


def _case_set(
    name: str, kind: CaseKind, lines: pd.DataFrame, metrics: Sequence[Metric], protocol: Protocol | None = None
) -> CaseSet:
    valued = lines[_has_value(lines)]
    rows = valued["row"].nunique()
    return CaseSet(
        name=name,
        unit=tables.UNITS[kind],
        rows=rows,
        absent=lines["row"].nunique() - rows,
        clips=len(lines[["case", "seed"]].drop_duplicates()),
        clusters=lines["cluster"].nunique(),
        scored=clusters(lines),
        metrics=tuple(metrics),
        protocol=protocol,
    )


def _apart(scores: pd.DataFrame) -> Iterator[tuple[CaseKind, pd.DataFrame]]:
    """(what its cases are made from, lines) of each set of cases."""
    together: dict[tuple[CaseKind, tuple[str, ...]], list[str]] = {}
    for case, lines in scores.groupby("case"):
        name, cluster = str(case), str(lines["cluster"].iloc[0])
        kind = Case(id=name, cluster=cluster, seed=0, source=None if name == cluster else cluster).kind
        together.setdefault((kind, tuple(sorted(set(lines["row"])))), []).append(name)
    for (kind, _), cases in sorted(together.items(), key=lambda item: (-len(item[0][1]), item[0])):
        yield kind, scores[scores["case"].isin(cases)]


def _has_value(lines: pd.DataFrame) -> pd.Series:
    return lines["value"].notna() | (lines["statistics"].map(len) > 0)


def clusters(scores: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """Metric → fewest and most clusters with a value, over the rows and trainings that have any."""
    valued = scores[_has_value(scores)]
    counts = valued.groupby(["metric", "row", "replica"])["cluster"].nunique().groupby("metric").agg(["min", "max"])
    return {str(name): (int(low), int(high)) for name, low, high in counts.itertuples()}


def intervals(metrics: Sequence[Metric], *, paired: bool = False) -> Method:
    """How the metrics' intervals are made, or where `paired` those of their differences."""
    names: dict[Method, list[str]] = {}
    for metric in metrics:
        names.setdefault(method(metric, paired=paired), []).append(metric.name)
    texts = [f"{method.text} ({', '.join(dict.fromkeys(own))})" for method, own in names.items()]
    return Method("; ".join(texts), _cited(*names))


def of_videos(metrics: Sequence[Metric], scored: Mapping[str, tuple[int, int]], unit: str) -> Method:
    """The intervals of one set of videos; `scored` has the fewest and most clusters of each metric."""
    known = [metric for metric in metrics if scored.get(metric.name, (0, 0))[1] >= stats.MIN_CLUSTERS]
    if not known:
        return Method(_too_few(unit)) if metrics else NONE
    counts = sorted({scored[metric.name][1] for metric in known})
    how_many = f"{counts[0]}–{counts[-1]} clusters" if len(counts) > 1 else counted(counts[0], "cluster")
    told = intervals(known)
    text = f"Intervals are 95 % over {how_many} (unit: {unit}): {told.text}."
    return Method(f"{text} {_too_few(unit)}" if len(known) < len(metrics) else text, told.cite)


def of_protocol(sets: Sequence[CaseSet], *, replicas: int) -> Method:
    """Sets of cases, intervals and tests of a protocol's tables."""
    told = [one.text if len(sets) == 1 else f"{one.name}: {one.text}" for one in sets]
    each = f" Each of {replicas} trainings has its own values and tests." if replicas > 1 else ""
    opening = f"{'Cases' if len(sets) == 1 else 'Sets of cases'}: {'; '.join(told)}.{each}"
    estimated = [metric for one in sets for metric in one.estimated]
    if not estimated:
        return Method(f"{opening} {_too_few('cluster')}")
    values = intervals(estimated)
    methods = [Method(f"{opening} Intervals are 95 %, two-sided, over clusters: {values.text}.", values.cite)]
    if any(most < stats.MIN_CLUSTERS for one in sets for _, most in one.scored.values()):
        methods.append(Method(_too_few("cluster")))
    if tested := [metric for one in sets for metric in one.tested]:
        methods += [_differences(tested), _families(sets)]
    return Method(" ".join(method.text for method in methods), _cited(*methods))


def _differences(tested: Sequence[Metric]) -> Method:
    """The paired tests: those metrics by name whose differences are treated otherwise than their values."""
    other = [metric for metric in tested if method(metric, paired=True) != method(metric)]
    told = intervals(other, paired=True)
    text = "Every row is compared with its set's baseline over the pairs of clips (same case and seed) that both have"
    if len(other) < len(tested):
        text += ", by the same methods on the differences" + (f", and by {told.text}" if other else "")
    else:
        text += f", by {told.text}"
    return Method(f"{text}.", told.cite)


def _families(sets: Sequence[CaseSet]) -> Method:
    """How p values are adjusted. Which metrics are primary only the protocol says; without it both kinds are told."""
    known = [one for one in sets if one.protocol is not None]
    families = {m.name in one.protocol.primary for one in known if one.protocol is not None for m in one.tested}
    parts = {
        HOLM: "over all tests of primary metrics" if not known or True in families else "",
        BENJAMINI_HOCHBERG: "over all others" if not known or False in families else "",
    }
    used = {method: text for method, text in parts.items() if text}
    each = ", in each set of cases by itself" if len(sets) > 1 else ""
    return Method(
        f"P values are adjusted by {' and by '.join(f'{m.text} {text}' for m, text in used.items())}{each}.",
        _cited(*used),
    )


def _too_few(unit: str) -> str:
    where = "clusters" if unit == "cluster" else f"clusters (unit: {unit})"
    return f"With fewer than {stats.MIN_CLUSTERS} {where}, no interval is given."


def _cited(*methods: Method) -> tuple[str, ...]:
    return tuple(dict.fromkeys(key for method in methods for key in method.cite))


def known(names: Iterable[str]) -> list[Metric]:
    """The metrics of those names that are known here."""
    found = []
    for name in names:
        try:
            found.append(registry.get(name))
        except FlashBenchError:
            continue
    return found
