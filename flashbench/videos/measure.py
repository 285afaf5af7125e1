"""One video, decoded once: what all metrics say of it, by content from the store or by a pass over its frames.

Memory holds a frame of the video, one of its reference, and what each metric keeps. Scores are kept under the clip's
digest, which only decoding tells; so what a file decodes to is kept under the file's own hash.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from flashbench import keys
from flashbench.metrics.base import About, Pair, run
from flashbench.scores.key import score_key
from flashbench.store import Store
from flashbench.types import Frames, Measurement, clip_hash
from flashbench.videos import read
from flashbench.videos.read import Unreadable
from flashbench.videos.settings import NO_REFERENCE, Wanted

Advance = Callable[[], None]
"""Called after every frame of the video."""


class Opened:
    """A file that can be read: what its container says, and what it is known to decode to.

    Raises:
        Unreadable: it is no whole video.
    """

    def __init__(self, path: Path, wanted: Wanted, store: Store) -> None:
        self.path, self.wanted = path, wanted
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

    clip: str
    shape: tuple[int, int, int]
    fps: Fraction
    found: tuple[Measurement, ...]
    """In the order of the metrics."""
    keys: tuple[str, ...]
    """Score keys; empty for what was not asked of this clip."""
    failed: bool
    """Whether a metric failed."""
    reference: str = ""
    """Digest of the clip that it was compared with."""


def measure_file(
    opened: Opened, reference: Opened | None, *, prompt: str | None, store: Store, advance: Advance
) -> Measured:
    """Scores of a file beside its reference: those of the store, and the others by one pass over the frames.

    Raises:
        Unreadable: the video cannot be decoded to its end.
        BadReference: its reference cannot.
    """
    metrics, without = opened.wanted.metrics, ""
    paired = reference if any(metric.scope == "pair" for metric in metrics) else None
    if paired is not None and opened.wanted.frames != "all" and paired.total != opened.total:
        # The frames chosen of each would be of other moments.
        without = f"clip has {opened.total} frames, its reference {paired.total}"
        paired = None
    absent, found = [metric for metric in metrics if not opened.wanted.excuse(metric, paired)], dict[str, Measurement]()
    if opened.digest and (paired is None or paired.digest):
        asked = _asked(opened.wanted, opened.digest, paired.digest if paired else None, prompt)
        found = {name: score for name, key in asked.items() if (score := store.score(key))}
        absent = [metric for metric in absent if metric.name not in found]
        if not absent:
            return _measured(opened, opened.digest, asked, found, paired.digest if paired else "", without=without)
    while True:
        clip, other_clip = opened.passing(), paired.passing() if paired else None
        failures: dict[str, str] = {}
        about = About(shape=opened.shape, fps=opened.fps, reference=paired.shape if paired else None, prompt=prompt)
        fresh = run(absent, about, _pairs(clip, other_clip, advance), failures=failures)
        passes = [(opened, clip)] + ([(paired, other_clip)] if paired and other_clip else [])
        if all(one.total == by.decoded for one, by in passes):
            break
        for one, by in passes:
            one.total = by.decoded  # the container was wrong, and what it said is part of the digest
    for one, by in passes:
        if not one.unchanged():
            changed = Unreadable if one is opened else BadReference
            raise changed("changed while it was being scored", fix="score it again when it is finished")
        one.keep(by, store)
    asked = _asked(opened.wanted, clip.digest, other_clip.digest if other_clip else None, prompt)
    for metric, measurement in zip(absent, fresh, strict=True):
        found[metric.name] = measurement
        if metric.name not in failures and not (metric.fallible and math.isnan(measurement.value)):
            store.put_score(asked[metric.name], measurement, {"metric": metric.name, "clip": clip.digest})
    against = other_clip.digest if other_clip else ""
    return _measured(opened, clip.digest, asked, found, against, without=without, failed=bool(failures))


def _asked(wanted: Wanted, clip: str, reference: str | None, prompt: str | None) -> dict[str, str]:
    """Name → score key of the metrics that are asked."""
    asked = [metric for metric in wanted.metrics if not wanted.excuse(metric, reference)]
    return {m.name: score_key(m, clip=clip, reference=reference, prompt=prompt) for m in asked}


def _pairs(clip: Passing, reference: Passing | None, advance: Advance) -> Iterator[Pair]:
    """Frame by frame beside the reference, which is read to its end even where it is longer: its digest needs it."""
    others = iter(reference) if reference else iter(())
    for frame in clip:
        yield Pair(frame, _next(others))
        advance()
    while _next(others) is not None:
        pass


def _next(frames: Iterator[Frames]) -> Frames | None:
    try:
        return next(frames, None)
    except Unreadable as error:
        raise BadReference(error.what, fix=error.fix) from error


def _measured(
    opened: Opened,
    clip: str,
    asked: dict[str, str],
    found: dict[str, Measurement],
    reference: str | None,
    *,
    without: str,
    failed: bool = False,
) -> Measured:
    wanted, missing = opened.wanted, dict[str, Measurement]()
    for metric in wanted.metrics:
        if metric.name not in asked:
            reason = wanted.excuse(metric, None)
            missing[metric.name] = Measurement.missing(without if without and reason == NO_REFERENCE else reason)
    return Measured(
        clip=clip,
        shape=opened.shape,
        fps=opened.fps,
        found=tuple((found | missing)[metric.name] for metric in wanted.metrics),
        keys=tuple(asked.get(metric.name, "") for metric in wanted.metrics),
        failed=failed,
        reference=reference or "",
    )
