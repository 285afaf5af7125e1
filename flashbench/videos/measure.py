"""One video, decoded once: what all metrics say of it, by content from the store or by a pass over its frames.

Memory holds a frame of the video, one of its reference, and what each metric keeps. Scores are kept under the clip's
digest, which only decoding tells; so what a file decodes to is kept under the file's own hash.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from flashbench import keys
from flashbench.decoding.container import Unreadable
from flashbench.decoding.source import Source, Times, times_of
from flashbench.metrics.base import About, Metric, Pair, Pass
from flashbench.metrics.repeats import EXACT, NOISE, Repeats
from flashbench.progress import Task
from flashbench.scores.measure import NO_REFERENCE, Answers, Digests, Question, Scored
from flashbench.store import Store
from flashbench.types import Frames, Measurement, clip_hash
from flashbench.videos import read
from flashbench.videos.settings import Wanted

FACTS = 1
"""Version of what is kept of a file: raised whenever more is."""


class Opened:
    """A file that can be read: what its container says, and what it is known to decode to.

    Raises:
        Unreadable: it is no whole video.
    """

    def __init__(self, path: Path, wanted: Wanted, store: Store, label: str = "") -> None:
        self.path, self.wanted = path, wanted
        self.label = label or path.name
        """What progress calls it."""
        self._stamp = read.stamp(path)
        self.sha256 = read.content_hash(path)
        self.key = keys.key("video", facts=FACTS, file=self.sha256, **read.reader(), **wanted.settings)
        """Key of what it decodes to: its bytes, what is taken of it, and the software that reads it."""
        known = store.facts(self.key)
        self.digest: str | None = known["digest"] if known else None
        """Of the clip that metrics see, if it was decoded before."""
        self._times: Times | None = None
        if known:
            self.source = Source.from_json(known["source"])
            self.length, self.fps = int(known["frames"]), Fraction(known["fps"])
            self.repeats = dict(known["repeats"])
        else:
            self.source, self._times = read.probe(path)
            self._count()

    length: int
    """Frames that metrics see."""
    fps: Fraction
    """Their rate."""
    repeats: Mapping[str, int]
    """How many of them are the one before: `exact`, byte for byte, and `near`, these and within compression noise."""

    def unchanged(self) -> bool:
        """Whether the file is still the one that was hashed, as far as its size and times tell."""
        return read.stamp(self.path) == self._stamp

    def settle(self, passed: Passing) -> bool:
        """Take what decoding showed in place of what the container said; returns whether that had been right."""
        before = (self.source.frames, list(self.taken()))
        self.source = replace(
            self.source, frames=passed.decoded, repeated=passed.repeated, transparent=passed.transparent
        )
        self.repeats = passed.repeats()
        self._times = times_of(passed.shown, self.source.fps)
        return before == (self.source.frames, self._count())

    def keep(self, passed: Passing, store: Store) -> None:
        """Keep what it decodes to."""
        facts = {"digest": passed.digest, "frames": self.length, "fps": str(self.fps), "source": self.source.to_json()}
        facts["repeats"] = self.repeats
        store.put_facts(self.key, facts)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, height, width that metrics see."""
        return self.length, *(self.wanted.size or (self.source.height, self.source.width))

    def resampled(self) -> Sequence[int]:
        """Numbers of the pictures that are there to choose from: all, or at `--fps` those nearest in time."""
        if self.wanted.fps is None:
            return range(self.source.frames)
        if self._times is None:
            self._times = read.probe(self.path)[1]
        return self._times.nearest(self.wanted.fps)

    def taken(self) -> Sequence[int]:
        """Numbers of the pictures that metrics see, in order; one that stays longer than a frame comes again."""
        return read.chosen(self.resampled(), self.wanted.frames)

    def _count(self) -> list[int]:
        """Find the number and the rate of the frames that metrics see; returns their numbers."""
        there = self.resampled()
        taken = list(read.chosen(there, self.wanted.frames))
        self.length, self.fps = len(taken), self.wanted.fps or self.source.fps
        if len(taken) < len(there):
            self.fps = self.fps * len(taken) / len(there)
        return taken

    def too_slow(self) -> str:
        """Why metrics over time are not asked at `--fps`: pictures would repeat; empty if they are."""
        if self.wanted.fps is None or len(set(numbers := self.resampled())) == len(numbers):
            return ""
        shown, asked = f"{float(self.source.lowest_fps):.4g}", f"{float(self.wanted.fps):.4g}"
        where = " where they stay longest" if self.source.variable_rate else ""
        return f"--fps {asked} would repeat pictures: it has {shown} a second{where}"

    def passing(self) -> Passing:
        """A pass over its frames."""
        return Passing(self)


class Passing:
    """Iterates the frames that metrics see, hashing them as they go by."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        self._hash = clip_hash(opened.shape, opened.fps)
        self._repeats = Repeats()
        self.shown: list[tuple[Fraction | None, Fraction]] = []
        """(start, duration) in seconds of every picture of the file."""
        self.repeated = 0
        """Pictures that are the one before, byte for byte."""
        self.transparent = False

    def __iter__(self) -> Iterator[Frames]:
        taken = iter(self._opened.taken())
        due = next(taken, None)
        before = None
        for number, picture in enumerate(read.pictures(self._opened.path)):
            self.shown.append((picture.start, picture.duration))
            self.repeated += before is not None and _equal(before, picture.frame)
            self.transparent |= picture.transparent
            before = picture.frame
            if due != number:
                continue
            seen = read.resized(picture.frame, self._opened.wanted.size)
            while due == number:
                self._hash.update(seen.data)
                self._repeats.add(seen)
                yield seen
                due = next(taken, None)

    def repeats(self) -> dict[str, int]:
        """`Opened.repeats` of what went by."""
        kinds = self._repeats.end()
        return {"exact": int((kinds == EXACT).sum()), "near": int((kinds >= NOISE).sum())}

    @property
    def decoded(self) -> int:
        """Pictures of the file that went by."""
        return len(self.shown)

    @property
    def digest(self) -> str:
        """`Clip.digest` of what went by."""
        return self._hash.hexdigest()


def _equal(first: Frames, second: Frames) -> bool:
    # A few lines tell most pictures apart, thirty times faster than all.
    return np.array_equal(first[::32], second[::32]) and np.array_equal(first, second)


class BadReference(Unreadable):
    """The reference cannot be read; the video may be fine."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """All that was found out about a video."""

    digests: Digests
    shape: tuple[int, int, int]
    fps: Fraction
    answers: tuple[Scored, ...]
    """In the order of the metrics."""
    repeats: Mapping[str, int]
    """`Opened.repeats`."""
    reference: Mapping[str, Any] | None
    """What the reference's file is, and what metrics see of it, as entries of run.json's videos; None without one."""

    @property
    def failed(self) -> bool:
        """Whether a metric failed."""
        return any(answer.failed for answer in self.answers)


def measure_file(
    opened: Opened,
    reference: Opened | None,
    *,
    prompt: str | None,
    store: Store,
    bar: Task | None,
    unpaired: str = NO_REFERENCE,
) -> Measured:
    """Scores of a file beside its reference: those of the store, and the others by one pass over the frames.

    `unpaired` says why there is no reference where there is none.

    Raises:
        Unreadable: the video cannot be decoded to its end.
        BadReference: its reference cannot.
    """
    wanted = opened.wanted
    paired = reference if any(metric.scope == "pair" for metric in wanted.metrics) else None
    if paired is not None and wanted.frames != "all" and len(opened.resampled()) != len(paired.resampled()):
        # The frames chosen of each would be of other moments.
        unpaired = f"clip has {len(opened.resampled())} frames, its reference {len(paired.resampled())}"
        paired = None
    question = Question(
        metrics=wanted.metrics,
        digests=_known_digests(opened, paired),
        prompt=prompt,
        unpaired=unpaired if paired is None else "",
        unavailable={**_refused(opened, paired), **wanted.unavailable},
        fresh=wanted.fresh,
        recall=False,
    )

    answers = Answers(question, store)
    if not answers.complete:
        failures: dict[str, str] = {}
        measurements, digests = _pass(
            opened, paired, answers.absent, prompt=prompt, store=store, bar=bar, failures=failures
        )
        answers.add(measurements, digests, failures)
    assert answers.digests is not None
    return Measured(
        digests=answers.digests,
        shape=opened.shape,
        fps=opened.fps,
        answers=tuple(answers.all()),
        repeats=opened.repeats,
        reference=seen(paired) if paired is not None else None,
    )


def seen(opened: Opened) -> dict[str, Any]:
    """What a file is and what metrics see of it, as JSON data; once it has been decoded."""
    frames, height, width = opened.shape
    rate = f"{opened.fps.numerator}/{opened.fps.denominator}"
    shape = {"frames": frames, "height": height, "width": width, "fps": rate}
    return {"source": opened.source.to_json(), **shape, "repeats": dict(opened.repeats)}


def _known_digests(opened: Opened, reference: Opened | None) -> Digests | None:
    """What a file and its reference decode to, if both were decoded before."""
    if opened.digest is None or (reference is not None and reference.digest is None):
        return None
    return Digests(opened.digest, reference.digest if reference is not None else None)


def _pass(
    opened: Opened,
    reference: Opened | None,
    metrics: Sequence[Metric],
    *,
    prompt: str | None,
    store: Store,
    bar: Task | None,
    failures: dict[str, str],
) -> tuple[list[Measurement], Digests]:
    """Decode a file beside its reference once for `metrics`; what they decode to is kept in the store."""
    began = bar.done if bar is not None else 0
    while True:
        clip, other = opened.passing(), reference.passing() if reference else None
        failures.clear()
        about = About(
            shape=opened.shape, fps=opened.fps, reference=reference.shape if reference else None, prompt=prompt
        )
        whole = Pass(metrics, about, failures)
        for pair in _pairs(clip, other):
            whole.send(pair)
            if bar is not None:
                bar.advance(opened.label)
        measurements = whole.end()
        passes = [(opened, clip)] + ([(reference, other)] if reference and other else [])
        said = opened.length
        if all([file.settle(by) for file, by in passes]):
            break
        if bar is not None:  # the container was wrong, and what it said is part of the digest: once more
            bar.total = (bar.total or 0) + opened.length - said
            bar.update(began, opened.label)
    for file, by in passes:
        if not file.unchanged():
            changed = Unreadable if file is opened else BadReference
            raise changed("changed while it was being scored", fix="score it again when it is finished")
        file.keep(by, store)
    return measurements, Digests(clip.digest, other.digest if other else None)


def _refused(opened: Opened, reference: Opened | None) -> Mapping[str, str]:
    """Metric over time → why its value would tell of repeated pictures, where `--fps` asks for more than there are."""
    reason = opened.too_slow()
    if not reason and reference is not None and reference.too_slow():
        reason = f"its reference: {reference.too_slow()}"
    return {metric.name: reason for metric in opened.wanted.metrics if metric.over_time} if reason else {}


def _pairs(clip: Passing, reference: Passing | None) -> Iterator[Pair]:
    """Frame by frame beside the reference, which is read to its end even where it is longer: its digest needs it."""
    others = iter(reference) if reference else iter(())
    for frame in clip:
        yield Pair(frame, _next(others))
    while _next(others) is not None:
        pass


def _next(frames: Iterator[Frames]) -> Frames | None:
    try:
        return next(frames, None)
    except Unreadable as error:
        raise BadReference(error.what, fix=error.fix) from error
