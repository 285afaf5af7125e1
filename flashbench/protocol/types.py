"""A table or figure of the paper as data: its rows, cases, metrics, claims and what they are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flashbench.errors import did_you_mean
from flashbench.metrics.base import Metric
from flashbench.systems.base import System
from flashbench.types import Case, CaseKind, Claim, Direction, Geometry, Settings


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way of answering a case: a system and its settings. `row` is its id in tables."""

    row: str
    system: System
    settings: Settings = field(default_factory=dict)
    size: tuple[int, int] | None = None
    """Height and width of its clips, where they are not the protocol's."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One clip to make."""

    variant: Variant
    case: Case
    geometry: Geometry
    replica: int = 0
    """Training seed of the models that the variant uses, apart from the case's sampling seed."""
    preview: Preview | None = None
    """Stage I's clip that it enhances where the case is a prompt alone."""


@dataclass(frozen=True, kw_only=True)
class Preview:
    """One clip of Stage I for a case, shared by everything that enhances it."""

    variant: Variant
    geometry: Geometry


@dataclass(frozen=True, kw_only=True)
class Subset:
    """The first prompts of a suite's fixed order."""

    suite: str
    chosen: int
    """Prompts chosen."""
    of: int
    """Prompts that the suite has."""
    hash: str
    """Of the chosen prompts' ids."""


@dataclass(frozen=True, kw_only=True)
class PublishedMetric:
    """What a metric's printed numbers are."""

    direction: Direction
    unit: str = ""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A table or figure of the paper as data: who answers what, and how it is judged."""

    name: str
    title: str
    tier: str
    table: str
    """The paper's table or figure, e.g. `Table 8`; empty of one's own protocol."""
    variants: tuple[Variant, ...]
    cases: tuple[Case, ...]
    geometry: Geometry
    metrics: tuple[Metric, ...]
    primary: tuple[str, ...]
    """Names of those that are tested as one family, declared beforehand."""
    baseline: str
    margins: Mapping[str, float]
    claims: tuple[Claim, ...]
    published: Mapping[str, Mapping[str, Mapping[str, float]]]
    """version (v1, v4) → row → metric → number."""
    curve: str | None
    """Setting on the horizontal axis of the figure, if the protocol draws one."""
    recipes: Mapping[str, Mapping[str, Any]]
    """Trainings by name: the settings of each, resolved for the tier, and under `needs` the recipes that it reads."""
    budget: Mapping[str, int]
    """The tier's workers and threads: not part of any key except through the numerics class."""
    hash: str
    """Of everything that decides a number; one for all sets of cases."""
    published_metrics: Mapping[str, PublishedMetric] = field(default_factory=dict)
    """Of each metric in `published` that is none of `metrics`."""
    preview: Preview | None = None
    """Stage I's clip that all systems enhance where a case is a prompt alone."""
    sets: tuple[Protocol, ...] = ()
    """Further sets of cases with their own rows, baseline and title, which decide no claim."""
    set_name: str = ""
    """What another protocol calls this further set of its cases; empty for a protocol itself."""
    case_fields: Mapping[str, Any] = field(default_factory=dict)
    """The configuration's `cases`, which stand for `cases`."""
    notice: str = ""
    """What the tier has to say of all its numbers, at the end of every table."""
    subset: Subset | None = None
    """Which part of a suite of prompts the cases are; None for others."""

    @property
    def threads(self) -> int:
        """Threads per worker: part of the numerics class."""
        return self.budget.get("threads", 1)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Names of the metrics, in their order: the columns of the table."""
        return tuple(metric.name for metric in self.metrics)

    def metric(self, name: str) -> Metric:
        """The protocol's metric called `name`; another name is a `UsageError` with the nearest one."""
        for metric in self.metrics:
            if metric.name == name:
                return metric
        raise did_you_mean(f"metric of {self.name}", name, self.metric_names)

    @property
    def parts(self) -> tuple[Protocol, ...]:
        """The protocol on its own cases, then on each of its further sets."""
        return (self, *self.sets)

    @property
    def kind(self) -> CaseKind:
        """What its cases are made from."""
        return self.cases[0].kind

    @property
    def case_set(self) -> str:
        """What tables call its set of cases: the name of a further set, or what a protocol's own are made from."""
        return self.set_name or self.kind
