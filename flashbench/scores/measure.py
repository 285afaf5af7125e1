"""The one measuring path: what of a clip is missing, one pass over its frames for that, and what of it is kept.

Every door comes through here: a protocol's clips (`run.score`), anybody's videos (`videos.measure`) and frames in
memory (`videos.scorer`, without a store). A door passes over its clip; which metrics are asked, and which answers
outlive the call, is decided here alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from flashbench import keys, metrics
from flashbench.assets import registry
from flashbench.metrics import device
from flashbench.metrics.base import Metric
from flashbench.store import Store
from flashbench.types import Measurement

NO_REFERENCE = "no reference: --reference DIR"


class Digests(NamedTuple):
    """Which clip is measured, and beside which reference (None without one)."""

    clip: str
    reference: str | None


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
    """Metric → why it is not asked: it cannot run on this machine, or the clip has no numbers."""
    fresh: bool = False
    """Measure again what the store has."""
    recall: bool = True
    """Look up the kept scores of `unavailable` metrics, too. Their keys name torch's threads, and importing torch takes
    longer than a second `flashbench score`: a stranger without weights has none of them."""

    def reason(self, metric: Metric) -> str:
        """Why `metric` is not asked; empty if it is."""
        return self.unavailable.get(metric.name) or (self.unpaired if metric.scope == "pair" else "")


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A metric's answer on one clip."""

    metric: Metric
    measurement: Measurement
    key: str = ""
    """Of the score; empty for what was not asked, and for an answer that is not `lasting`."""
    failed: bool = False
    """Whether the metric raised an error, so that its answer is not kept."""


class Answers:
    """The answers to a question: what needs no pass at once (`known`), the rest when a door has passed over the clip.

    Args:
        question: which metrics are asked of which clip.
        store: where answers are looked up and kept; None for frames that live in memory only.
    """

    def __init__(self, question: Question, store: Store | None) -> None:
        self.question, self.digests, self._store = question, question.digests, store
        self._scored = known(question, store)

    @property
    def absent(self) -> list[Metric]:
        """Metrics that only a pass can answer."""
        return [metric for metric in self.question.metrics if metric.name not in self._scored]

    @property
    def complete(self) -> bool:
        """Whether every metric is answered, of a clip that is known."""
        return self.digests is not None and not self.absent

    def add(self, measurements: Sequence[Measurement], digests: Digests, failures: Mapping[str, str]) -> None:
        """Take what a pass gave for the metrics that were `absent`, in their order, and keep what is `lasting`."""
        self.digests = digests
        for metric, measurement in zip(self.absent, measurements, strict=True):
            scored = Scored(metric=metric, measurement=measurement, failed=metric.name in failures)
            if lasting(scored):
                key = score_key(metric, clip=digests.clip, reference=digests.reference, prompt=self.question.prompt)
                scored = replace(scored, key=key)
                if self._store is not None:
                    self._store.put_score(key, measurement, {"metric": metric.name, "clip": digests.clip})
            self._scored[metric.name] = scored

    def all(self) -> list[Scored]:
        """Every metric's answer, in their order."""
        return [self._scored[metric.name] for metric in self.question.metrics]


def known(question: Question, store: Store | None) -> dict[str, Scored]:
    """Metric → its answer, of those that need no pass: what the store has, and what is not asked.

    A score that was kept holds on a machine that cannot measure it now: its key names all that it was made with.
    """
    answers = {}
    for metric in question.metrics:
        if (kept := _kept(metric, question, store)) is not None:
            answers[metric.name] = kept
        elif reason := question.reason(metric):
            answers[metric.name] = Scored(metric=metric, measurement=Measurement.missing(reason))
    return answers


def _kept(metric: Metric, question: Question, store: Store | None) -> Scored | None:
    """A metric's answer in the store; None without one, or where it is to be measured again."""
    digests = question.digests
    if store is None or digests is None or question.fresh or (metric.scope == "pair" and question.unpaired):
        return None
    if not question.recall and metric.name in question.unavailable:
        return None
    if metric.assets and not set(metric.assets) <= set(registry.current().names()):
        return None  # of another registry: no key can be made here
    key = score_key(metric, clip=digests.clip, reference=digests.reference, prompt=question.prompt)
    if (measurement := store.score(key)) is None:
        return None
    scored = Scored(metric=metric, measurement=measurement, key=key)
    return scored if lasting(scored) else None


def lasting(scored: Scored) -> bool:
    """Whether an answer follows from the clip, so that it is kept; else the metric is asked again the next time.

    It does not where the metric raised an error, or is missing by a cause that may be the machine's
    (`Metric.fallible`).
    """
    return not scored.failed and not (scored.metric.fallible and math.isnan(scored.measurement.value))


def score_key(metric: Metric, *, clip: str, reference: str | None, prompt: str | None = None) -> str:
    """Key of one score: the metric's identity, the clips' digests, the parameters' sha256, the numerics class.

    `reference` counts for metrics of a pair only, `prompt` for those that read it. Of a metric that is not ours it
    holds the code, too: `metrics.third_party`.
    """
    read = {"prompt": prompt} if metric.reads_prompt else {}
    return keys.key(
        "score",
        metric=metric.identity,
        clip=clip,
        reference=reference if metric.scope == "pair" else None,
        assets={name: registry.current().get(name).sha256 for name in metric.assets},
        unofficial=unofficial(metric),
        numerics=numerics(metric.libraries),
        **read,
        **metrics.third_party(metric),
    )


def numerics(libraries: Sequence[str]) -> dict[str, str | int]:
    """What decides the last bits of a score: `keys.scoring_class` where networks run now."""
    return keys.scoring_class(*libraries, device=device.current() if "torch" in libraries else "cpu")


def unofficial(metric: Metric) -> bool:
    """Whether the metric reads weights that are none of this package's registry."""
    return bool(metric.assets) and registry.current().unofficial
