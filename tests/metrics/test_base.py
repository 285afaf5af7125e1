"""The contract of metrics: one pass over the frames for all of them, whoever keeps what."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest

from flashbench import metrics
from flashbench.metrics import base
from flashbench.metrics.base import About, FrameMetric, Metric, Pair, Stream
from flashbench.types import Clip, Frames, Measurement

KIND = {"direction": "none", "unit": "", "range": (0.0, 255.0)}


def clip(seed: int, frames: int = 4, height: int = 100, width: int = 120) -> Clip:
    draw = np.random.default_rng(seed)
    return Clip(draw.integers(0, 256, (frames, height, width, 3), dtype=np.uint8), Fraction(8))


@dataclass(frozen=True, kw_only=True)
class Mean(FrameMetric):
    def frame(self, pair: Pair) -> float:
        return float(pair.frame.mean()) if pair.frame[0, 0, 0] else float("nan")


@dataclass(frozen=True, kw_only=True)
class Whole(Metric):
    """As an outsider may write one: on the clip, with the reference only if it is a pair metric."""

    def measure(self, clip: Clip, reference: Clip | None = None, prompt: str | None = None) -> Measurement:
        return Measurement(value=float(len(clip.frames)) + (0 if reference is None else 0.5))


@dataclass(frozen=True, kw_only=True)
class Costly(Metric):
    def stream(self, about: About) -> Stream:
        RUNS.append(about)
        while (yield) is not None:
            pass
        return Measurement(value=2.0, statistics=(3.0, 4.0))


@dataclass(frozen=True, kw_only=True)
class Part(Metric):
    place: int

    @property
    def source(self) -> Metric:
        return Costly(name="costly", scope="video", **KIND)

    def derive(self, found: Measurement) -> Measurement:
        return Measurement(value=found.statistics[self.place])


RUNS: list[About] = []


def test_every_metric_streams_what_it_measures() -> None:
    """One pass for all equals each alone, on a clip with and without a reference."""
    first, second = clip(0), clip(1)
    every = [metrics.get(name) for name in metrics.names()]
    for reference in (None, second):
        together = base.measure(every, first, reference)
        alone = [metric.measure(first, reference) for metric in every]
        for metric, one, other in zip(every, together, alone, strict=True):
            assert one.reason == other.reason, metric.name
            np.testing.assert_equal((one.value, one.per_frame), (other.value, other.per_frame), metric.name)


@pytest.mark.parametrize("name", metrics.names())
def test_nothing_crashes_on_odd_input(name: str) -> None:
    metric = metrics.get(name)
    black = np.zeros((3, 64, 64, 3), np.uint8)
    shapes = ((1, 100, 100), (2, 1, 1), (3, 7, 5), (2, 97, 131))
    for odd in [black, np.full_like(black, 255), *(np.zeros((*shape, 3), np.uint8) + 7 for shape in shapes)]:
        for reference in (None, Clip(odd, Fraction(8)), clip(3)):
            found = metric.measure(Clip(odd, Fraction(8)), reference)
            assert np.isfinite(found.value) or found.reason


@pytest.mark.parametrize("name", metrics.names())
def test_frames_are_let_go(name: str) -> None:
    """However long the video, a metric holds a few frames at most."""
    alive: list[weakref.ref[Frames]] = []
    most = 0

    def frames() -> Iterator[Pair]:
        nonlocal most
        draw = np.random.default_rng(0)
        for _ in range(12):
            both = [draw.integers(0, 256, (100, 100, 3), dtype=np.uint8) for _ in range(2)]
            alive.extend(weakref.ref(frame) for frame in both)
            yield Pair(*both)
            del both
            most = max(most, sum(ref() is not None for ref in alive))

    shape = (12, 100, 100)
    base.measure_frames([metrics.get(name)], About(shape=shape, reference=shape), frames())
    assert most <= 6


def test_means_leave_out_frames_without_a_value() -> None:
    frames = np.full((3, 2, 2, 3), 10, np.uint8)
    frames[1, 0, 0, 0] = 0
    found = Mean(name="mean", **KIND).measure(Clip(frames, Fraction(8)))
    assert found.value == 10 and found.reason == "no mean in 1 of 3 frames"
    assert np.isnan(found.per_frame[1]) and len(found.per_frame) == 3


def test_a_metric_may_ask_for_the_whole_clip() -> None:
    video, pair = Whole(name="whole", scope="video", **KIND), Whole(name="whole", scope="pair", **KIND)
    one, two = base.measure([video, pair], clip(0), clip(1))
    assert (one.value, two.value) == (4.0, 4.5)


def test_a_shared_source_runs_once() -> None:
    RUNS.clear()
    parts = [Part(name=f"part{place}", scope="video", place=place, **KIND) for place in (0, 1)]
    found = base.measure([*parts, Mean(name="mean", **KIND)], clip(0))
    assert [m.value for m in found[:2]] == [3.0, 4.0] and len(RUNS) == 1


def test_a_reference_that_ends_early() -> None:
    frames = clip(0).frames
    pairs = [Pair(frame, frames[0] if number < 2 else None) for number, frame in enumerate(frames)]
    about = About(shape=(4, 100, 120), reference=(4, 100, 120))
    for name in ("ssim", "sharpness", "temporal_error"):
        (found,) = base.measure_frames([metrics.get(name)], about, pairs)
        assert "in 2 of" in found.reason
