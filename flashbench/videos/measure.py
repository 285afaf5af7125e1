"""One video, decoded once: what all metrics say of it, by content from the store or by a pass over its frames.

Memory holds a frame of the video, one of its reference, and what each metric keeps. Scores are kept under the clip's
digest, which only decoding tells; so what a file decodes to is kept under the file's own hash.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from flashbench import keys
from flashbench.metrics.base import About, Metric, Pair, Pass
from flashbench.progress import Task
from flashbench.scores.measure import NO_REFERENCE, Answers, Digests, Question, Scored
from flashbench.store import Store
from flashbench.types import Frames, Measurement, clip_hash
from flashbench.videos import read
from flashbench.videos.read import Unreadable
from flashbench.videos.settings import Wanted


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
        libraries = keys.versions("av", "numpy")
        self.key = keys.key("video", file=self.sha256, reader=read.READER, libraries=libraries, **wanted.settings)
        """Key of what it decodes to: its bytes, what is taken of it, and the software that reads it."""
        known = store.facts(self.key)
        self.digest: str | None = known["digest"] if known else None
        """Of the clip that metrics see, if it was decoded before."""
        self.source = read.Source.from_json(known["source"]) if known else read.probe(path)
        self.total: int = known["frames"] if known else self.source.frames
        """Frames of the file: what the container says until it was decoded."""

    def unchanged(self) -> bool:
        """Whether the file is still the one that was hashed, as far as its size and times tell."""
        return read.stamp(self.path) == self._stamp

    def keep(self, passed: Passing, store: Store) -> None:
        """Keep what it decodes to."""
        store.put_facts(self.key, {"digest": passed.digest, "frames": passed.decoded, "source": self.source.to_json()})

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, height, width that metrics see."""
        chosen = read.chosen(self.total, self.wanted.frames)
        return (
            self.total if chosen is None else len(chosen),
            *(self.wanted.size or (self.source.height, self.source.width)),
        )

    @property
    def fps(self) -> Fraction:
        """Rate of the frames that metrics see."""
        return self.source.fps * self.shape[0] / self.total if self.total else self.source.fps

    def passing(self) -> Passing:
        """A pass over its frames."""
        return Passing(self)


class Passing:
    """Iterates the frames that metrics see, hashing them as they go by."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        self._hash = clip_hash(opened.shape, opened.fps)
        self.decoded = 0

    def __iter__(self) -> Iterator[Frames]:
        chosen = read.chosen(self._opened.total, self._opened.wanted.frames)
        for number, frame in enumerate(read.frames(self._opened.path)):
            self.decoded += 1
            if chosen is None or number in chosen:
                seen = read.resized(frame, self._opened.wanted.size)
                self._hash.update(seen.data)
                yield seen

    @property
    def digest(self) -> str:
        """`Clip.digest` of what went by."""
        return self._hash.hexdigest()


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
    if paired is not None and wanted.frames != "all" and paired.total != opened.total:
        # The frames chosen of each would be of other moments.
        unpaired, paired = f"clip has {opened.total} frames, its reference {paired.total}", None
    question = Question(
        metrics=wanted.metrics,
        digests=_known_digests(opened, paired),
        prompt=prompt,
        unpaired=unpaired if paired is None else "",
        unavailable=wanted.unavailable,
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
    return Measured(digests=answers.digests, shape=opened.shape, fps=opened.fps, answers=tuple(answers.all()))


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
        if all(file.total == by.decoded for file, by in passes):
            break
        for file, by in passes:
            file.total = by.decoded  # the container was wrong, and what it said is part of the digest
    for file, by in passes:
        if not file.unchanged():
            changed = Unreadable if file is opened else BadReference
            raise changed("changed while it was being scored", fix="score it again when it is finished")
        file.keep(by, store)
    return measurements, Digests(clip.digest, other.digest if other else None)


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
