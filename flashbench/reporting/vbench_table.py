"""Table 1 from scores: VBench's sixteen dimensions in percent, and Quality, Semantic and Total made of them.

A dimension is scored only on the clips whose prompts serve it. The three aggregates are the arithmetic of
`vbench.dimensions` on the dimensions' own values, so that every row of the table adds up; one that lacks a
dimension has no value and says which. Their intervals, and those of differences between rows, leave out one prompt at a
time, from all the dimensions that it serves together (delete-one-prompt jackknife), so that dimensions which share
prompts are not taken for independent. Simulated with five seeds a prompt they cover 0.94 to 0.96 from 2 prompts a suite
up; with one seed, where dynamic_degree is a coin for each prompt, 0.94 at 6 prompts a suite and 0.85 at 3.

What a part of VBench's prompts gives is no VBench score, and is never called so.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from flashbench.data import prompts
from flashbench.metrics.base import Metric, SetMetric
from flashbench.protocol.cases import asked_of
from flashbench.protocol.types import Protocol
from flashbench.types import Case, Floats
from flashbench.vbench import dimensions, recompute
from flashbench.vbench.dimensions import DIMENSIONS

AGGREGATES: Mapping[str, str] = MappingProxyType(
    {"total_score": "total", "quality_score": "quality", "semantic_score": "semantic"}
)
"""Column of the paper's table → aggregate of the dimensions."""
_LOWS = np.array([dimension.low for dimension in DIMENSIONS.values()])
_CLIP = ["row", "replica", "case", "seed"]


@dataclass(frozen=True, kw_only=True)
class View:
    """A set of a protocol's cases as the paper's table shows it: what `stats` and the tables read in their place."""

    part: Protocol
    """With the table's columns for metrics."""
    scores: pd.DataFrame
    of: Mapping[str, int]
    """Metric → clips a row that are asked for it."""


@dataclass(frozen=True, kw_only=True)
class _Aggregate(SetMetric):
    """Total, Quality or Semantic in percent, from sums and counts of the sixteen dimensions [32]."""

    weights: tuple[float, ...]
    """How far it moves with each dimension."""
    finite_sample_bias: ClassVar[bool] = False

    def finalize(self, statistics: Floats) -> float:
        """Their weighted sum; NaN where one that it needs was not measured."""
        pairs, weights = statistics.reshape(len(DIMENSIONS), 2), np.array(self.weights)
        sums, counts = pairs[weights > 0].T
        if not counts.all():
            return math.nan
        return float(100 * (sums / counts - _LOWS[weights > 0]) @ weights[weights > 0])


@dataclass(frozen=True, kw_only=True)
class _Percent(SetMetric):
    """A dimension that pools clips, in percent."""

    whole: Metric = field(hash=False)
    finite_sample_bias: ClassVar[bool] = False

    @property
    def binary(self) -> bool:
        """Whether the dimension is a share."""
        return self.whole.binary

    def finalize(self, statistics: Floats) -> float:
        """100 times its own value."""
        assert isinstance(self.whole, SetMetric)
        return 100 * self.whole.finalize(statistics)


@dataclass(frozen=True, kw_only=True)
class _Share(Metric):
    """A dimension that VBench answers with yes or no, in percent."""

    @property
    def binary(self) -> bool:
        """Whether it is a share: it is."""
        return True


def shown(part: Protocol) -> Protocol:
    """A set of cases with the columns of the paper's table: as it is, unless that table prints VBench's Total.

    Then its metrics are Total, Quality, Semantic and the sixteen dimensions under the paper's names, in percent, and
    after them the protocol's others. The three are `total_score_of_a_subset` and so on for a part of VBench's prompts,
    `…_of_other_prompts` for other people's.
    """
    if not _prints_total(part):
        return part
    columns = dimension_metrics(part.metric_names)
    names = {name: dimension for dimension, name in columns.items()}
    totals = {name: name + _suffix(part) for name in AGGREGATES}
    renamed = names | totals
    aggregates = [_aggregate(totals[name], aggregate) for name, aggregate in AGGREGATES.items()]
    percent = [
        _dimension(dimension, part.metric(columns[dimension]) if dimension in columns else None)
        for dimension in DIMENSIONS
    ]
    return replace(
        part,
        metrics=(*aggregates, *percent, *(metric for metric in part.metrics if metric.name not in names)),
        primary=tuple(renamed.get(name, name) for name in part.primary),
        margins={renamed.get(name, name): 100 * x if name in names else x for name, x in part.margins.items()},
    )


def view(part: Protocol, scores: pd.DataFrame) -> View:
    """A set of cases as it is `shown`, with the scores of its columns.

    A dimension that is not scored here has lines with NaN and the reason.

    Args:
        part: the protocol on one set of its cases.
        scores: those of these cases (`protocol.cases.of_part`).
    """
    of = Counter(metric.name for case in part.cases for metric in asked_of(part, case))
    if not _prints_total(part):
        return View(part=part, scores=scores, of=of)
    columns, display = dimension_metrics(part.metric_names), shown(part)
    aggregates = [metric for metric in display.metrics if isinstance(metric, _Aggregate)]
    clips = scores.drop_duplicates(_CLIP)
    lines = [scores[~scores["metric"].isin(columns.values())]]
    lines += [
        _dimension_lines(part, scores, clips, dimension, columns.get(dimension), display.metric(dimension))
        for dimension in DIMENSIONS
    ]
    shares = _shares(part, scores, clips, columns)
    lines += [_aggregate_lines(part, clips, shares, aggregate) for aggregate in aggregates]
    needed = {dimension: [dimension] for dimension in DIMENSIONS} | {
        aggregate.name: _needed(aggregate) for aggregate in aggregates
    }
    return View(
        part=display,
        scores=pd.concat([frame for frame in lines if len(frame)] or [scores], ignore_index=True),
        of={**of, **{name: sum(_serves(case, among) for case in part.cases) for name, among in needed.items()}},
    )


def _prints_total(part: Protocol) -> bool:
    return any("total_score" in cells for rows in part.published.values() for cells in rows.values())


def dimension_metrics(names: Sequence[str]) -> dict[str, str]:
    """Dimension → the metric that Table 1 takes it from: those of the first of VBench's prefixes that is there.

    `vbench:DIM` and `vbench_long:DIM` are two scales, never mixed in a Total; the native temporal flickering, which is
    both on a clip that is not cut, stands in where the prefix has none.
    """
    prefix = next((name.partition(":")[0] for name in names if ":" in name and prompts.dimension_of(name)), None)
    columns = {prompts.dimension_of(name): name for name in names if name.partition(":")[0] == prefix}
    if prompts.NATIVE_FLICKERING in names:
        columns.setdefault(prompts.FLICKERING, prompts.NATIVE_FLICKERING)
    return columns


def _suffix(part: Protocol) -> str:
    """What keeps a result from being taken for VBench's: empty only for all of its prompts."""
    suite = part.subset.suite if part.subset else ""
    if suite.partition(":")[0] != prompts.VBENCH:
        return "_of_other_prompts"
    whole = part.subset is not None and suite == prompts.VBENCH and part.subset.chosen == part.subset.of
    return "" if whole else "_of_a_subset"


def _aggregate(name: str, aggregate: str) -> _Aggregate:
    weights = tuple(recompute.sensitivity(dimension, aggregate) for dimension in DIMENSIONS.values())
    bounds = (-math.inf, math.inf)  # VBench's normalisation does not clip
    return _Aggregate(name=name, direction="higher", unit="%", range=bounds, weights=weights)


def _dimension(name: str, measured: Metric | None) -> Metric:
    if measured is not None and measured.pooled:
        return _Percent(name=name, direction="higher", unit="%", range=(0.0, 100.0), whole=measured)
    kind = _Share if DIMENSIONS[name].binary else Metric
    return kind(name=name, direction="higher", unit="%", range=(0.0, 100.0), scope="video")


def _needed(aggregate: _Aggregate) -> list[str]:
    return [name for name, weight in zip(DIMENSIONS, aggregate.weights, strict=True) if weight > 0]


def _serves(case: Case, names: Sequence[str]) -> bool:
    served = case.prompt.dimensions if case.prompt else ()
    return not served or any(name in served for name in names)


def _asked(part: Protocol, clips: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """The clips whose prompts serve one of some dimensions; all if none does, to say so."""
    ids = {case.id for case in part.cases if _serves(case, names)}
    return clips[clips["case"].isin(ids)] if ids else clips


def _dimension_lines(
    part: Protocol, scores: pd.DataFrame, clips: pd.DataFrame, name: str, source: str | None, metric: Metric
) -> pd.DataFrame:
    """The scores of a dimension in percent; NaN with the reason where the protocol does not ask for it."""
    if source is not None and any(_serves(case, [name]) for case in part.cases):
        own = scores[scores["metric"] == source]
        return own.assign(metric=name, value=own["value"] if metric.pooled else 100 * own["value"])
    asked = _asked(part, clips, [name])
    return _without_value(asked, name, [_absence(part, name)] * len(asked))


def _absence(part: Protocol, name: str) -> str:
    """Why no clip has a value of a dimension."""
    if not any(_serves(case, [name]) for case in part.cases):
        return "none of these prompts serves it"
    own = any(case.prompt and case.prompt.dimensions for case in part.cases)
    why = "" if name == prompts.FLICKERING else "it needs VBench's own environment and weights"
    if dimensions.undefined_without(name, prompt=True, labels=own):
        why = "it needs VBench's labels, which only its own prompts have"
    return ": ".join(filter(None, (f"not scored at the {part.tier} tier", why)))


def _without_value(clips: pd.DataFrame, name: str, reasons: Sequence[str]) -> pd.DataFrame:
    empty: list[Any] = [[] for _ in range(len(clips))]
    return clips.assign(metric=name, value=math.nan, per_frame=empty, statistics=empty, reason=list(reasons), key="")


@dataclass(frozen=True)
class _Shares:
    """What each clip adds to the dimensions.

    A dimension's shares of a prompt add up to (mean over its clips, 1), or to the metric's own sums where it pools
    clips: so summed over clips they give the dimension's own value.
    """

    sums: Floats
    """[clips, dimensions, 2]: sum and count."""
    lacking: list[list[str]]
    """Clip → dimensions that it was asked for and has no value of."""
    scored: Mapping[tuple[str, int], set[str]]
    """(row, replica) → dimensions with a value."""


def _shares(part: Protocol, scores: pd.DataFrame, clips: pd.DataFrame, columns: Mapping[str, str]) -> _Shares:
    place = {key: number for number, key in enumerate(_keys(clips))}
    shares = _Shares(np.zeros((len(clips), len(DIMENSIONS), 2)), [[] for _ in place], defaultdict(set))
    for at, dimension in ((at, dimension) for at, dimension in enumerate(DIMENSIONS) if dimension in columns):
        own = scores[scores["metric"] == columns[dimension]]
        pooled = part.metric(columns[dimension]).pooled
        groups = list(zip(own["row"], own["replica"], own["cluster"], strict=True))
        counts = Counter(group for group, value in zip(groups, own["value"], strict=True) if not math.isnan(value))
        values = own["statistics"] if pooled else own["value"]
        for key, group, value in zip(_keys(own), groups, values, strict=True):
            if len(value) == 0 if pooled else math.isnan(value):
                shares.lacking[place[key]].append(dimension)
            else:
                shares.sums[place[key], at] = value if pooled else (value / counts[group], 1 / counts[group])
                shares.scored[key[:2]].add(dimension)
    return shares


def _aggregate_lines(part: Protocol, clips: pd.DataFrame, shares: _Shares, aggregate: _Aggregate) -> pd.DataFrame:
    """A line for each clip that serves a dimension of the aggregate, with its share in the sums and counts [32]."""
    needed = _needed(aggregate)
    asked = _asked(part, clips, needed)
    chosen = np.flatnonzero(clips["case"].isin(asked["case"]))
    sums = (shares.sums[chosen] * (np.array(aggregate.weights) > 0)[:, None]).reshape(len(chosen), 2 * len(DIMENSIONS))
    absent = {
        key: [dimension for dimension in needed if dimension not in shares.scored.get(key, ())]
        for key in set(_rows(asked))
    }
    why = {key: f"{len(x)} of {len(needed)} dimensions are missing: {', '.join(x)}" for key, x in absent.items() if x}
    reasons, statistics = list[str](), list[Any]()
    for number, key, own in zip(chosen, _rows(asked), sums, strict=True):
        lacks = ", ".join(dimension for dimension in shares.lacking[number] if dimension in needed)
        reasons.append(why.get(key) or (f"without {lacks}" if lacks else ""))
        statistics.append(own if own.any() and key not in why else [])
    return _without_value(asked, aggregate.name, reasons).assign(statistics=statistics)


def _keys(lines: pd.DataFrame) -> Iterator[tuple[Any, ...]]:
    return zip(*(lines[name] for name in _CLIP), strict=True)


def _rows(lines: pd.DataFrame) -> Iterator[tuple[Any, ...]]:
    return zip(lines["row"], lines["replica"], strict=True)
