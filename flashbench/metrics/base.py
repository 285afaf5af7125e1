"""What a metric is: a frozen declaration of how a clip becomes a number, and the function that does it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from flashbench.types import Clip, Direction, Measurement, Scalar, Scope

Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Metric(ABC):
    """One way of scoring a clip. Pure: the same clip (and reference) gives the same measurement."""

    name: str
    version: int = 1
    """Raised whenever numbers move."""
    direction: Direction
    unit: str
    range: tuple[float, float]
    """Lowest and highest possible value; infinite where there is no bound."""
    scope: Scope
    preprocessing: Mapping[str, Scalar] = field(default_factory=dict, hash=False)
    """Everything that decides the number and is not in `version`: channel, border, averaging, quirks …"""
    assets: tuple[str, ...] = ()
    """Names in the asset registry of the weights or parameters that the metric reads."""
    licence: str = "Apache-2.0"
    deterministic: bool = True

    @abstractmethod
    def measure(self, clip: Clip, reference: Clip | None = None) -> Measurement:
        """Score `clip`; a pair metric compares it with `reference`.

        Input that has no value (too small, flat, no reference, absent weights) gives NaN with its reason.
        """

    @property
    def identity(self) -> Mapping[str, Any]:
        """All declared fields, sorted by name, ready for canonical JSON; goes into score keys."""
        return {item.name: _plain(getattr(self, item.name)) for item in sorted(fields(self), key=lambda f: f.name)}


@dataclass(frozen=True, kw_only=True)
class SetMetric(Metric):
    """A metric of a set of clips: `measure` also returns sufficient statistics, which add up over clips."""

    scope: Scope = "set"

    @abstractmethod
    def finalize(self, statistics: Floats) -> float:
        """Value of a set of clips from the elementwise sum of their statistics; NaN where it is undefined."""


@dataclass(frozen=True, kw_only=True)
class PairMetric(Metric):
    """A metric of a clip beside a reference of the same shape."""

    scope: Scope = "pair"

    def measure(self, clip: Clip, reference: Clip | None = None) -> Measurement:
        """`compare`; NaN where there is no reference, or one of another shape."""
        if reference is None:
            return Measurement.missing("no reference")
        if clip.frames.shape != reference.frames.shape:
            return Measurement.missing(f"clip is {size(clip)}, reference is {size(reference)} (frames×height×width)")
        return self.compare(clip, reference)

    @abstractmethod
    def compare(self, clip: Clip, reference: Clip) -> Measurement:
        """Score `clip` beside `reference`, frame by frame; what has no value gives NaN with its reason."""


def _plain(value: object) -> object:
    """Tuples as lists, mappings sorted, infinite bounds as text: JSON has no infinity."""
    if isinstance(value, Mapping):
        return {key: _plain(value[key]) for key in sorted(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def size(clip: Clip) -> str:
    """`frames×height×width` of a clip."""
    return "×".join(map(str, clip.frames.shape[:3]))


def frame_mean(values: Iterable[float], missing: str) -> Measurement:
    """Mean over the frames that have a value; `missing` says why a frame has none, and the reason counts them."""
    per_frame = np.fromiter(values, np.float64)
    absent = int(np.isnan(per_frame).sum())
    reason = f"{missing} in {absent} of {per_frame.size} frames" if absent else ""
    value = math.nan if absent == per_frame.size else float(np.nanmean(per_frame))
    return Measurement(value=value, per_frame=tuple(per_frame.tolist()), reason=reason)
