"""The one measuring path: what of a clip is missing, one pass over its frames for that, and what of it is kept.

Every door comes through here: a protocol's clips (`run.score`), anybody's videos (`videos.measure`) and frames in
memory (`videos.scorer`, without a store). A door says how to pass over its clip; which metrics are asked, and which
answers outlive the call, is decided here alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from flashbench.metrics.base import Metric
from flashbench.scores.key import score_key
from flashbench.store import Store
from flashbench.types import Measurement

NO_REFERENCE = "no reference: --reference DIR"


class Digests(NamedTuple):
    """Which clip is measured, and beside which reference (None without one)."""

    clip: str
    reference: str | None


Pass: TypeAlias = Callable[[Sequence[Metric], dict[str, str]], tuple[Sequence[Measurement], Digests]]
"""Passes once over a clip with some metrics, and takes failures as `metrics.base.measure_frames` does."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of one clip."""

    metrics: Sequence[Metric]
    digests: Digests | None
    """None where only a pass will tell."""
    prompt: str | None = None
    unpaired: str = ""
    """Why metrics of a pair are not asked; empty where there is a reference."""
    unavailable: Mapping[str, str] = field(default_factory=dict)
    """Metric → why it is not asked: it cannot run on this machine, or the clip's numbers are none."""
    fresh: bool = False
    """Measure again what the store has."""

    def reason(self, metric: Metric) -> str:
        """Why `metric` is not asked; empty if it is."""
        return self.unavailable.get(metric.name) or (self.unpaired if metric.scope == "pair" else "")


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A metric's answer on one clip."""

    metric: Metric
    measurement: Measurement
    key: str = ""
    """Of the score; empty for what was not asked."""
    failed: bool = False
    """Whether the metric raised an error, so that its answer is not kept."""


def known(question: Question, store: Store | None) -> dict[str, Scored]:
    """Metric → its answer, of those that need no pass: what is not asked, and what the store has."""
    found = {}
    for metric in question.metrics:
        if reason := question.reason(metric):
            found[metric.name] = Scored(metric=metric, measurement=Measurement.missing(reason))
        elif store is not None and question.digests is not None and not question.fresh:
            key = _key(metric, question.digests, question.prompt)
            if (kept := store.score(key)) is not None:
                found[metric.name] = Scored(metric=metric, measurement=kept, key=key)
    return found


def score(question: Question, one_pass: Pass, store: Store | None) -> tuple[list[Scored], Digests]:
    """Every metric's answer, in their order: those that are `known`, the others by one pass.

    An answer is kept in the store unless the metric raised an error, or is missing by a cause that may be the
    machine's (`Metric.fallible`): such a metric is asked again the next time.
    """
    found, digests = known(question, store), question.digests
    absent = [metric for metric in question.metrics if metric.name not in found]
    if absent or digests is None:
        failures: dict[str, str] = {}
        measurements, digests = one_pass(absent, failures)
        for metric, measurement in zip(absent, measurements, strict=True):
            failed = metric.name in failures
            answer = Scored(
                metric=metric, measurement=measurement, key=_key(metric, digests, question.prompt), failed=failed
            )
            found[metric.name] = answer
            if store is not None and lasting(answer):
                store.put_score(answer.key, measurement, {"metric": metric.name, "clip": digests.clip})
    return [found[metric.name] for metric in question.metrics], digests


def lasting(answer: Scored) -> bool:
    """Whether an answer follows from the clip, so that it is kept; or may be another one the next time."""
    return not answer.failed and not (answer.metric.fallible and math.isnan(answer.measurement.value))


def _key(metric: Metric, digests: Digests, prompt: str | None) -> str:
    return score_key(metric, clip=digests.clip, reference=digests.reference, prompt=prompt)
