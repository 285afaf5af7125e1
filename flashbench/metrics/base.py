"""What a metric is: a frozen declaration of how a clip becomes a number, and the function that does it.

A metric sees its frames one after the other, so that a video is decoded once for all metrics and never held whole:
`stream` is a coroutine that is sent a `Pair` per frame, then None, and returns its `Measurement`. `measure` runs it on
a clip in memory.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from fractions import Fraction
from itertools import chain, repeat
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

import numpy as np

from flashbench.errors import FlashBenchError
from flashbench.metrics import requirements
from flashbench.types import Clip, Direction, Floats, Frames, Measurement, Scalar, Scope


class Pair(NamedTuple):
    """A frame uint8 [H, W, 3] in RGB, and the reference's at the same place if there is one."""

    frame: Frames
    reference: Frames | None = None


@dataclass(frozen=True, kw_only=True)
class About:
    """What a metric is told before the frames come."""

    shape: tuple[int, int, int]
    """Frames, height, width. The number of frames is the container's word, 0 where it has none."""
    fps: Fraction = Fraction(8)
    reference: tuple[int, int, int] | None = None
    """The same of the reference, if there is one."""
    prompt: str | None = None

    @property
    def size(self) -> str:
        """`frames×height×width`."""
        return "×".join(map(str, self.shape))


Scale: TypeAlias = Literal["identity", "log"]
Stream: TypeAlias = Generator[None, Pair | None, Measurement]


@dataclass(frozen=True, kw_only=True)
class Metric(ABC):
    """One way of scoring a clip. Pure: the same clip (and reference, and prompt) gives the same measurement.

    A random metric declares its `seed` in `preprocessing` and draws from a generator of its own.
    """

    name: str
    version: int = 1
    """Raised whenever numbers move."""
    direction: Direction
    unit: str
    range: tuple[float, float]
    """Lowest and highest possible value; infinite where there is no bound."""
    scope: Scope
    scale: Scale = "identity"
    """Where clips are averaged and compared: log for positive metrics whose values spread over their multiples.

    It decides no clip's value and is in no key.
    """
    preprocessing: Mapping[str, Scalar] = field(default_factory=dict, hash=False)
    """Everything that decides the number and is not in `version`: channel, border, averaging, quirks …"""
    assets: tuple[str, ...] = ()
    """Names in the asset registry of the weights or parameters that the metric reads."""
    licence: str = "Apache-2.0"
    deterministic: bool = True
    finite_sample_bias: ClassVar[bool] = False
    """Whether a set's value moves with the number of its clips even on average, so that only equal sets compare."""

    def undefined(self, about: About) -> str:
        """Why a clip like that has no value at all; empty if it may have one."""
        return ""

    def stream(self, about: About) -> Stream:
        """Take in a clip's frames in their order and return what they measure; see the module's description.

        Input that has no value (too small, flat, no reference, absent weights) gives NaN with its reason. By default
        the frames are kept and `measure`d as a clip, for metrics that need it whole: one of the two is to be written.
        """
        frames, references = [], []
        while (pair := (yield)) is not None:
            frames.append(pair.frame)
            references.append(pair.reference)
        kept = [frame for frame in references if frame is not None and self.scope == "pair"]
        reference = Clip(np.stack(kept), about.fps) if kept else None
        return self.measure(Clip(np.stack(frames), about.fps), reference)

    def measure(self, clip: Clip, reference: Clip | None = None, prompt: str | None = None) -> Measurement:
        """Score a clip in memory, a pair metric beside `reference`, a metric of prompt and video against `prompt`."""
        return measure([self], clip, reference, prompt)[0]

    @property
    def libraries(self) -> tuple[str, ...]:
        """Distributions beyond NumPy, SciPy and OpenCV whose version may decide a value's last digits."""
        return ()

    @property
    def reads_prompt(self) -> bool:
        """Whether its value depends on the video's prompt."""
        return self.scope == "prompt"

    @property
    def over_time(self) -> bool:
        """Whether the value depends on the frame rate or on which frames are neighbours, and not on single frames.

        The same scene at another rate, or with frames repeated, then has another value. False where a metric looks at
        frames alone, or at places that are parts of the clip's whole length.
        """
        return False

    @property
    def binary(self) -> bool:
        """Whether a clip's value is yes or no, so that a row's is a share: the upper end of `range`, or 0.

        Between them lies a clip of several parts of which each is one or the other, as VBench-Long's.
        """
        return False

    @property
    def pooled(self) -> bool:
        """Whether a set's value is made from sums over its clips, and is not the mean of their values: `SetMetric`."""
        return False

    @property
    def computed(self) -> bool:
        """Whether its value follows from the settings, the same for every clip: nothing to test."""
        return False

    @property
    def learned(self) -> bool:
        """Whether its values come from a trained network, so that somebody has to compare them with published ones."""
        return bool(self.assets) and "torch" in self.libraries

    @property
    def fallible(self) -> bool:
        """Whether a missing value may be the machine's fault (a network, another process), so that it is not kept."""
        return False

    @property
    def unavailable(self) -> str:
        """Why this machine cannot run it now, and what helps; empty if it can. Says nothing about a clip."""
        if not (self.assets or self.libraries):
            return ""
        return requirements.unavailable(self.assets, self.libraries, self.preprocessing.get("pyiqa"))

    @property
    def source(self) -> Metric:
        """The metric whose measurement this one is derived from: itself, unless several share costly work."""
        return self

    def derive(self, measurement: Measurement) -> Measurement:
        """This metric's measurement from its source's."""
        return measurement

    @property
    def identity(self) -> Mapping[str, Any]:
        """What decides a clip's value: all declared fields but `scale`, by name, ready for canonical JSON, for keys."""
        names = sorted(item.name for item in fields(self) if item.name != "scale")
        return {name: _plain(getattr(self, name)) for name in names}


class Pass:
    """One pass of several metrics over a clip: `send` every frame, then `end`. A shared `Metric.source` runs once.

    A metric that fails ends the pass, unless `failures` is there to take its name and the reason: then it is missing.
    """

    def __init__(self, metrics: Sequence[Metric], about: About, failures: dict[str, str] | None = None) -> None:
        self._metrics, self._failures = metrics, failures
        self._sources = list(dict.fromkeys(metric.source for metric in metrics))
        self._about, self._streams = about, dict[int, Stream]()
        self._ended: dict[int, Measurement] = {}
        self._failing: set[int] = set()
        self._send(None)  # to the first yield

    def send(self, pair: Pair) -> None:
        """Show the next frame, beside the reference's, to every metric."""
        self._send(pair)

    def end(self) -> list[Measurement]:
        """What every metric says, in their order."""
        self._send(None)
        places = [self._sources.index(metric.source) for metric in self._metrics]
        if self._failures is not None:
            for metric, place in zip(self._metrics, places, strict=True):
                if place in self._failing:
                    self._failures[metric.name] = self._ended[place].reason
        return [self._derived(metric, self._ended[place]) for metric, place in zip(self._metrics, places, strict=True)]

    def _send(self, pair: Pair | None) -> None:
        for number, source in enumerate(self._sources):
            if number in self._ended:
                continue
            try:
                if number not in self._streams:
                    self._streams[number] = source.stream(self._about)
                self._streams[number].send(pair)
            except StopIteration as end:
                self._ended[number] = end.value
            except FlashBenchError:
                raise
            except Exception as error:
                if self._failures is None:
                    raise
                self._ended[number] = Measurement.missing(_failed(error))
                self._failing.add(number)

    def _derived(self, metric: Metric, measurement: Measurement) -> Measurement:
        try:
            return metric.derive(measurement)
        except FlashBenchError:
            raise
        except Exception as error:
            if self._failures is None:
                raise
            self._failures[metric.name] = _failed(error)
            return Measurement.missing(_failed(error))


def _failed(error: Exception) -> str:
    return f"failed: {type(error).__name__}: {error}"[:300]


def measure_frames(
    metrics: Sequence[Metric], about: About, pairs: Iterable[Pair], *, failures: dict[str, str] | None = None
) -> list[Measurement]:
    """What every metric says of one `Pass` over the frames, in the order of the metrics."""
    whole = Pass(metrics, about, failures)
    for pair in pairs:
        whole.send(pair)
    return whole.end()


def measure(
    metrics: Sequence[Metric],
    clip: Clip,
    reference: Clip | None = None,
    prompt: str | None = None,
    *,
    failures: dict[str, str] | None = None,
) -> list[Measurement]:
    """`measure_frames` on a clip in memory."""
    about = About(
        shape=clip.frames.shape[:3],
        fps=clip.fps,
        reference=None if reference is None else reference.frames.shape[:3],
        prompt=prompt,
    )
    references = repeat(None) if reference is None else chain(reference.frames, repeat(None))
    return measure_frames(metrics, about, map(Pair, clip.frames, references), failures=failures)


@dataclass(frozen=True, kw_only=True)
class FrameMetric(Metric):
    """A metric of single frames: the mean over those that have a value."""

    scope: Scope = "frame"

    @abstractmethod
    def frame(self, pair: Pair) -> float:
        """The value of a frame; NaN if it has none."""

    @property
    def undefined_frame(self) -> str:
        """What a frame without a value is said to lack."""
        return f"no {self.name}"

    def stream(self, about: About) -> Stream:
        """`frame` of every frame."""
        if reason := self.undefined(about):
            return Measurement.missing(reason)
        values = []
        while (pair := (yield)) is not None:
            values.append(self.frame(pair))
        return self.result(values)

    def result(self, values: Sequence[float]) -> Measurement:
        """What the frames' values say of the clip: their mean."""
        reason = self.undefined_for(values)
        return Measurement.missing(reason) if reason else frame_mean(values, self.undefined_frame)

    def undefined_for(self, values: Sequence[float]) -> str:
        """Why a clip whose frames have such values has none itself; empty if it has one."""
        return ""


@dataclass(frozen=True, kw_only=True)
class SetMetric(Metric):
    """A metric of a set of clips: its measurements also hold sufficient statistics, which add up over clips.

    One that looks at clips beside their references says so by its scope, `pair`.
    """

    scope: Scope = "set"
    finite_sample_bias: ClassVar[bool] = True
    """True unless the metric says otherwise: a distance between distributions falls as clips are added.

    See Chong and Forsyth, "Effectively unbiased FID and Inception Score", CVPR 2020. A mean, or a ratio of sums, has
    next to none and says False.
    """

    @property
    def pooled(self) -> bool:
        """Whether a set's value is made from sums over its clips: it is."""
        return True

    @abstractmethod
    def finalize(self, statistics: Floats) -> float:
        """Value of a set of clips from the elementwise sum of their statistics; NaN where it is undefined."""


def mismatch(about: About) -> str:
    """Why a clip cannot be compared with its reference: there is none, or it is of another shape; empty if it can."""
    if about.reference is None:
        return "no reference"
    other = "×".join(map(str, about.reference))
    return "" if about.shape == about.reference else f"clip is {about.size}, reference is {other} (frames×height×width)"


@dataclass(frozen=True, kw_only=True)
class PairMetric(FrameMetric):
    """A metric of a frame beside the reference's."""

    scope: Scope = "pair"

    def undefined(self, about: About) -> str:
        """No reference, another shape, or frames of a size that the metric has no value for."""
        return mismatch(about) or self.undefined_size(about)

    def undefined_size(self, about: About) -> str:
        """Why frames of that size have no value; empty if they may have one."""
        return ""

    def frame(self, pair: Pair) -> float:
        """`compare` of the frame with the reference's; NaN where the reference has come to its end."""
        return math.nan if pair.reference is None else self.compare(pair.frame, pair.reference)

    @abstractmethod
    def compare(self, frame: Frames, reference: Frames) -> float:
        """The value of a frame [H, W, 3] beside the reference's [H, W, 3]; NaN if it has none."""


def _plain(value: object) -> object:
    """Tuples as lists, mappings sorted, infinite bounds as text: JSON has no infinity."""
    if isinstance(value, Mapping):
        return {key: _plain(value[key]) for key in sorted(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def frame_mean(values: Iterable[float], missing: str) -> Measurement:
    """Mean over the frames that have a value; `missing` says why a frame has none, and the reason counts them."""
    per_frame = np.fromiter(values, np.float64)
    absent = int(np.isnan(per_frame).sum())
    reason = f"{missing} in {absent} of {per_frame.size} frames" if absent else ""
    value = math.nan if absent == per_frame.size else float(np.nanmean(per_frame))
    return Measurement(value=value, per_frame=tuple(per_frame.tolist()), reason=reason)
