"""DOVER (Wu et al. 2023, arXiv 2211.04894) as metrics: raw scores, the percentages that papers print, and matched ones.

All of them derive from one run of the network. A score is the mean over `repeats` random draws, whose spread the
reason of a measurement does not hold but `per_frame` does: it lists the draws.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flashbench.errors import InvalidError, MissingAsset, missing_dependency
from flashbench.metrics import device
from flashbench.metrics.base import About, Metric, Stream
from flashbench.metrics.dover import scores
from flashbench.metrics.registry import register
from flashbench.types import Measurement

if TYPE_CHECKING:
    from flashbench.metrics.dover.network import Dover

WEIGHTS = "dover"
SMALLEST = 32
"""Pixels of a fragment: frames must hold one."""


@lru_cache(maxsize=1)
def _network(path: Path, sha256: str, where: str) -> Dover:
    """The network of a verified file; kept for the next clip of this process."""
    import torch

    from flashbench.metrics.dover import network

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's own kinds, for a file that is whole but no state dict
        raise InvalidError(
            f"{path} is not a state dict: {type(error).__name__}", fix=f"flashbench assets pull {WEIGHTS}"
        ) from error
    return network.load(state).to(where)


@dataclass(frozen=True, kw_only=True)
class DoverRaw(Metric):
    """Raw scores of DOVER's two branches; a measurement's statistics list the draws, technical then aesthetic."""

    @property
    def libraries(self) -> tuple[str, ...]:
        """The distributions that DOVER computes with: torch, for the network is our own."""
        return ("torch",)

    @property
    def over_time(self) -> bool:
        """Whether the value depends on the rate or on neighbours in time: always.

        Both networks read clips of 32 frames that are chosen by number, the technical ones every second frame.
        """
        return True

    def stream(self, about: About) -> Stream:
        """DOVER's raw scores of a clip.

        NaN: weights or torch absent, frames below 32×32, a container that does not say how many frames it has.
        """
        from flashbench.assets import registry

        if min(about.shape[1:]) < SMALLEST:
            return Measurement.missing(f"clip is {about.size}: DOVER needs frames of at least {SMALLEST}×{SMALLEST}")
        if not about.shape[0]:
            return Measurement.missing("DOVER chooses frames beforehand: the number of frames is not known")
        try:
            path = registry.path(WEIGHTS)
            import torch

            from flashbench.metrics.dover import views
        except MissingAsset:
            return Measurement.missing(f"weights not present: flashbench assets pull {WEIGHTS}")
        except ModuleNotFoundError as error:
            if (absent := missing_dependency(error)) is None:
                raise
            return Measurement.missing(str(absent))
        draw = torch.Generator().manual_seed(int(str(self.preprocessing["seed"])))
        plans = [views.plan(*about.shape, draw) for _ in range(int(str(self.preprocessing["repeats"])))]
        collector = views.Collector(plans, antialias=bool(self.preprocessing["antialias"]))
        while (pair := (yield)) is not None:
            collector.add(pair.frame)
        if collector.seen < collector.last:
            return Measurement.missing(f"{collector.seen + 1} frames came of {about.shape[0]}")
        raw = scores.score_views(
            _network(path, registry.get(WEIGHTS).sha256, device.current()), plans, collector.views()
        )
        draws = (*raw.technical.tolist(), *raw.aesthetic.tolist())
        return Measurement(value=float(np.mean(raw.technical)), statistics=draws)


@dataclass(frozen=True, kw_only=True)
class DoverScore(Metric):
    """One of the numbers that DOVER's raw scores are turned into."""

    branch: str
    """technical, aesthetic or overall."""
    constants: str
    """raw; upstream (each branch's percentage by the other's statistics, as papers print it); matched."""

    @property
    def libraries(self) -> tuple[str, ...]:
        """The distributions behind the raw scores, which this score is derived from."""
        return self.source.libraries

    @property
    def over_time(self) -> bool:
        """Whether the value depends on the rate or on neighbours in time: as the raw scores do."""
        return self.source.over_time

    @property
    def source(self) -> Metric:
        """The metric of the raw scores under the same preprocessing."""
        return replace(RAW, preprocessing=self.preprocessing)

    def derive(self, measurement: Measurement) -> Measurement:
        """This score from the raw scores: its mean over the draws, which `per_frame` lists."""
        if math.isnan(measurement.value):
            return measurement
        draws = np.array(measurement.statistics).reshape(2, -1)
        raw: Any = scores.RawScores(draws[0], draws[1])
        if self.constants != "raw":
            raw = getattr(scores, f"{self.constants}_percentages")(raw)
        values = getattr(raw, self.branch)
        return Measurement(value=float(np.mean(values)), per_frame=tuple(values.tolist()))


_PREPROCESSING: Mapping[str, Any] = {
    "views": "val-l1080p: 3 technical clips of 32 frames in 7x7 fragments of 32, 32 aesthetic frames at 224x224",
    "antialias": True,
    "repeats": 5,
    "seed": 0,
    "resize": "bilinear, uint8",
    "averaging": "mean over the map, clips, draws",
}
_LICENCE = "weights and upstream code: S-Lab License 1.0 (non-commercial); this implementation: Apache-2.0"
RAW = DoverRaw(
    name="dover_raw",
    direction="higher",
    unit="",
    range=(-math.inf, math.inf),
    scope="video",
    preprocessing=_PREPROCESSING,
    assets=(WEIGHTS,),
    licence=_LICENCE,
    deterministic=False,
)


def _score(branch: str, constants: str) -> DoverScore:
    return DoverScore(
        name=f"dover_{branch}" + ("" if constants == "upstream" else f"_{constants}"),
        direction="higher",
        unit="" if constants == "raw" else "%",
        range=(-math.inf, math.inf) if constants == "raw" else (0.0, 100.0),
        scope="video",
        preprocessing=_PREPROCESSING,
        assets=(WEIGHTS,),
        licence=_LICENCE,
        deterministic=False,
        branch=branch,
        constants=constants,
    )


DOVER = (
    *(_score(branch, "raw") for branch in ("technical", "aesthetic")),
    *(
        _score(branch, constants)
        for constants in ("upstream", "matched")
        for branch in ("technical", "aesthetic", "overall")
    ),
)
"""`dover_technical` and the like are the percentages that papers print."""
register(*DOVER)
