"""What a run knows of a clip without looking at it: counted evaluations, FLOP and seconds that follow from shapes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from flashbench.metrics.base import About, Metric, Stream
from flashbench.metrics.registry import register
from flashbench.types import Measurement, Scope


@dataclass(frozen=True, kw_only=True)
class Recorded(Metric):
    """A quantity that a run's manifest states for each clip: the same for every clip of a row."""

    scope: Scope = "video"

    @property
    def computed(self) -> bool:
        """Whether the value is computed and not measured: always, for it is known before the clip is made."""
        return True

    def stream(self, about: About) -> Stream:
        """A missing measurement: nobody wrote down how a clip from elsewhere was made."""
        while (yield) is not None:
            pass
        return Measurement.missing("known only of clips that a protocol made")


EVALUATIONS = Recorded(name="evaluations", direction="lower", unit="", range=(0.0, math.inf))
TFLOP = Recorded(name="tflop", direction="lower", unit="TFLOP", range=(0.0, math.inf))
PREDICTED_SECONDS = Recorded(name="predicted_seconds", direction="lower", unit="s", range=(0.0, math.inf))
register(EVALUATIONS, TFLOP, PREDICTED_SECONDS)
