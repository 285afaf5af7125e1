"""The nouns of FlashBench: frozen values that every other module passes around.

Nothing here reads a file, imports torch or knows a particular system or metric. A noun that has an
identity computes it from its own content (`Clip.digest`); identities that depend on code or on the machine
are made in `flashbench.keys`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Scalar: TypeAlias = str | int | float | bool | None
Settings: TypeAlias = Mapping[str, Scalar]
Frames: TypeAlias = npt.NDArray[np.uint8]
Direction: TypeAlias = Literal["higher", "lower", "none"]
Scope: TypeAlias = Literal["frame", "video", "prompt", "pair", "set"]
"""What a metric looks at; `prompt` is a prompt and a video, `pair` a video beside its reference."""
CaseKind: TypeAlias = Literal["material", "prompts", "scenes", "synthetic"]
Phase: TypeAlias = Literal["train", "generate", "score", "tables"]


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A text to generate from. Generate from `text` (perhaps a rewrite), score against `original`."""

    id: str
    """Hash of `original`."""
    text: str
    original: str
    dimensions: tuple[str, ...] = ()
    """VBench's dimensions that it serves; empty for other prompts, which are scored with everything."""
    line: int | None = None
    """Its place in the suite's file, from 0; of one that is there twice the first."""
    suites: tuple[str, ...] = ()
    """The parts of its suite that it stands in."""
    labels: Mapping[str, Any] = field(default_factory=dict)
    """Of VBench by dimension: what its detectors look for."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """The pairing unit: every variant of a protocol answers the same cases with the same noise."""

    id: str
    cluster: str
    """The prompt or the material's source: the unit of statistics."""
    seed: int
    source: str | None = None
    """What the low-quality input is made from: the id of a source of material, `scene-N` (number N of
    `data.scenes.SCENES`) or `synthetic-N`; None for a case that is a prompt alone."""
    prompt: Prompt | None = None
    """What the clip shows; of material its source's caption, where the protocol conditions on it."""
    low: Settings = field(default_factory=dict)
    """How the low-quality input is made from the source (`cascade.degrade`)."""

    @property
    def kind(self) -> CaseKind:
        """What the case is made from."""
        if self.source is None:
            return "prompts"
        made: dict[str, CaseKind] = {"scene": "scenes", "synthetic": "synthetic"}
        return made.get(self.source.partition("-")[0], "material")


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Size of the clip that a trial makes."""

    frames: int
    height: int
    width: int
    fps: Fraction
    scale: int = 4
    """The low-quality input is `height / scale` by `width / scale`."""


@dataclass(frozen=True)
class Clip:
    """Frames uint8 [T, H, W, 3] in RGB with their rate."""

    frames: Frames
    fps: Fraction

    def __post_init__(self) -> None:
        shape = self.frames.shape
        if self.frames.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or 0 in shape:
            raise ValueError(f"a clip is uint8 [T, H, W, 3] with T, H, W > 0, not {self.frames.dtype} {list(shape)}")

    @property
    def digest(self) -> str:
        """sha256 over shape, rate (a reduced fraction) and raw bytes; never over a container."""
        state = clip_hash(self.frames.shape[:3], self.fps)
        state.update(np.ascontiguousarray(self.frames).data)
        return state.hexdigest()


def clip_hash(shape: tuple[int, ...], fps: Fraction) -> hashlib._Hash:
    """The hash of a clip of `shape` (frames, height, width) before its frames' bytes: `Clip.digest` is its end."""
    return hashlib.sha256(f"{'x'.join(map(str, (*shape, 3)))}@{fps.numerator}/{fps.denominator}|".encode())


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What a metric says about one clip. A missing value is NaN with its reason, never 0."""

    value: float
    per_frame: tuple[float, ...] = ()
    reason: str = ""
    statistics: tuple[float, ...] = ()
    """Set metrics: sufficient statistics of the clip; those of a set are their elementwise sum."""

    def __post_init__(self) -> None:
        if math.isnan(self.value) and not self.reason:
            raise ValueError("a measurement that is NaN needs its reason")

    @classmethod
    def missing(cls, reason: str) -> Measurement:
        """A measurement that could not be made, and why."""
        return cls(value=math.nan, reason=reason)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A contrast that the paper (or the prototype) states, to be judged on measured scores.

    Either `better` and `than` name rows, or `equivalent` names two rows, `margin` how far apart they may be and
    `margin_reason` why so far. `note` says in a line why the tier's verdict differs from the paper's, and is printed
    only where it does.
    """

    id: str
    text: str
    source: str
    metric: str
    better: str | None = None
    than: str | None = None
    equivalent: tuple[str, str] | None = None
    margin: float | None = None
    margin_reason: str = ""
    primary: bool = False
    """One of the tier's few claims that are tested as one family, chosen beforehand; the others are exploratory."""
    control: bool = False
    """One of its rows stands for no arm of the paper's table; rows of `reporting.tables.CONTROLS` need not say so."""
    note: str = ""

    @property
    def rows(self) -> tuple[str, str]:
        """The two rows compared: (first, second); the effect is first − second."""
        if self.equivalent is not None:
            return self.equivalent
        assert self.better is not None and self.than is not None
        return self.better, self.than


Floats: TypeAlias = npt.NDArray[np.float64]
