"""Keys of scores, the numerics that a table of them belongs to, and what is noted beside a value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from flashbench import keys, metrics
from flashbench.assets import registry as assets
from flashbench.metrics import calibration, device
from flashbench.metrics.base import Metric
from flashbench.types import Measurement, Protocol


def score_key(metric: str | Metric, *, clip: str, reference: str | None, prompt: str | None = None) -> str:
    """Key of one score: the metric's identity, the clips' digests, the parameters' sha256, the numerics class.

    Of a metric that is not ours it holds the code, too: `metrics.third_party`.
    `reference` counts for metrics of a pair only, `prompt` for those that read it.
    """
    measured = metrics.get(metric) if isinstance(metric, str) else metric
    registry = assets.current()
    read = {"prompt": prompt} if measured.reads_prompt else {}
    return keys.key(
        "score",
        metric=measured.identity,
        clip=clip,
        reference=reference if measured.scope == "pair" else None,
        assets={name: registry.get(name).sha256 for name in measured.assets},
        unofficial=registry.unofficial and bool(measured.assets),
        numerics=keys.scoring_class(*measured.libraries, device=device.current()),
        **read,
        **metrics.third_party(measured),
    )


def noted(metric: str | Metric, found: Measurement) -> str:
    """The reason of a row: the measurement's own, and what is to be known of the metric's weights.

    `unofficial weights`: none of the package's registry. `uncalibrated`: nobody has compared what they give on this
    machine with published scores (`flashbench doctor --calibrate`).
    """
    named = metrics.get(metric) if isinstance(metric, str) else metric
    unofficial = "unofficial weights" if assets.current().unofficial and named.assets else ""
    uncalibrated = "" if math.isnan(found.value) else calibration.note(named)
    return "; ".join(filter(None, (found.reason, unofficial, uncalibrated)))


def numerics(protocol: Protocol, manifest: Sequence[Mapping[str, Any]]) -> str:
    """Canonical JSON of the numerics classes that made a manifest's clips, and of the one that scores them here.

    Only within them are scores the same to the last bit. `scores` has the libraries of all the protocol's metrics.
    """
    made = {keys.canonical_json(line.get("numerics")): line.get("numerics") for line in manifest if line["key"]}
    libraries = {name for part in protocol.parts for metric in part.metrics for name in metrics.get(metric).libraries}
    scores = keys.scoring_class(*sorted(libraries), device=device.current())
    return keys.canonical_json({"clips": [made[text] for text in sorted(made)], "scores": scores})
