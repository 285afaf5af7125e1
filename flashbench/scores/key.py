"""Keys of scores, and what is noted beside a value."""

from __future__ import annotations

import math

from flashbench import keys, metrics
from flashbench.assets import registry
from flashbench.metrics import calibration, device
from flashbench.metrics.base import Metric
from flashbench.types import Measurement


def score_key(metric: Metric, *, clip: str, reference: str | None, prompt: str | None = None) -> str:
    """Key of one score: the metric's identity, the clips' digests, the parameters' sha256, the numerics class.

    Of a metric that is not ours it holds the code, too: `metrics.third_party`.
    `reference` counts for metrics of a pair only, `prompt` for those that read it.
    """
    known = registry.current()
    read = {"prompt": prompt} if metric.reads_prompt else {}
    return keys.key(
        "score",
        metric=metric.identity,
        clip=clip,
        reference=reference if metric.scope == "pair" else None,
        assets={name: known.get(name).sha256 for name in metric.assets},
        unofficial=known.unofficial and bool(metric.assets),
        numerics=keys.scoring_class(*metric.libraries, device=device.current()),
        **read,
        **metrics.third_party(metric),
    )


def noted(metric: Metric, found: Measurement) -> str:
    """The reason of a row: the measurement's own, and what is to be known of the metric's weights.

    `unofficial weights`: none of the package's registry. `uncalibrated`: nobody has compared what they give on this
    machine with published scores (`flashbench doctor --calibrate`).
    """
    unofficial = "unofficial weights" if registry.current().unofficial and metric.assets else ""
    uncalibrated = "" if math.isnan(found.value) else calibration.note(metric)
    return "; ".join(filter(None, (found.reason, unofficial, uncalibrated)))
