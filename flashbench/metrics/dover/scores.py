"""DOVER's scores of a video: raw scores, and the two ways of turning them into percentages. Higher is better.

A raw score is the mean of a branch's map and lies around 0. DOVER's script turns it into a percentage with the mean
and the deviation of its own predictions on LIVE-VQC, and since August 2023 it takes those of the *other* branch. Papers
print what the script prints: the technical percentage is then near 2 to 12, the aesthetic one near 95 to 99.9.

* `upstream_percentages` are what papers print.
* `matched_percentages` take each branch's own mean and deviation.

They are different metrics and must not stand in one column. Sampling is random, so a score comes from `repeats`
draws, with their spread; on a 49-frame clip only the places of the fragments vary, and the aesthetic score is fixed.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence, Sized
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit

from flashbench.types import Floats, Frames

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from flashbench.metrics.dover.network import Dover
    from flashbench.metrics.dover.views import Plan, Views

_TECHNICAL_STATISTICS = (-0.08285, 0.03774)
"""Mean and deviation of DOVER's own technical scores on LIVE-VQC, as its script writes them."""
_AESTHETIC_STATISTICS = (0.1107, 0.07355)
_TECHNICAL_WEIGHT, _AESTHETIC_WEIGHT = 0.6104, 0.3896


@dataclass(frozen=True)
class RawScores:
    """Raw scores of a video, one of each branch per repeat: float64 (R,)."""

    technical: Floats
    aesthetic: Floats


@dataclass(frozen=True)
class Percentages:
    """Percentages, 0 to 100, one per repeat: float64 (R,). `overall` fuses the two before the sigmoid."""

    technical: Floats
    aesthetic: Floats
    overall: Floats


def score(
    model: Dover,
    frames: Iterable[Frames],
    generator: Generator,
    *,
    antialias: bool,
    count: int | None = None,
    repeats: int = 1,
) -> RawScores:
    """Raw scores of a video from `repeats` draws, in one pass over its frames.

    Args:
        model: the network, on the device where it shall run.
        frames: uint8 [H, W, 3], RGB; an array [T, H, W, 3], or a stream of which one frame at a time is held.
        generator: a CPU generator; the same state gives the same scores.
        antialias: how frames are shrunk for the aesthetic branch (`dover_views.views`).
        count: how many frames a stream has; not needed for what has a length.
        repeats: draws of frames and fragments.

    Raises:
        ValueError: no frames, frames below 32×32, of changing size or fewer than `count`, a stream without `count`,
            or no repeats.
    """
    from flashbench.metrics.dover import views as dover_views

    if count is None:
        if not isinstance(frames, Sized):
            raise ValueError("a stream of frames needs its count")
        count = len(frames)
    if repeats < 1:
        raise ValueError(f"repeats are 1 or more, not {repeats}")
    stream = iter(frames)
    first = next(stream, None)
    if first is None:
        raise ValueError("a video without frames has no score")
    height, width = first.shape[:2]
    plans = [dover_views.plan(count, height, width, generator) for _ in range(repeats)]
    return score_views(model, plans, dover_views.views(chain([first], stream), plans, antialias=antialias))


def score_views(model: Dover, plans: Sequence[Plan], views: Sequence[Views]) -> RawScores:
    """Raw scores of a video from the views of each plan, one per plan."""
    from flashbench.metrics.dover import views as dover_views

    device = next(model.parameters()).device
    technical, aesthetic = [], []
    seen: dict[bytes, float] = {}

    def technically(clip: Tensor) -> float:
        # In a frame whose cells are no larger than a fragment nothing is random, and draws show the same.
        content = hashlib.sha256(clip.numpy().tobytes()).digest()
        if content not in seen:
            seen[content] = model.technical(dover_views.normalise(clip[None].to(device))).item()
        return seen[content]

    for plan, view in zip(plans, views, strict=True):
        technical.append(float(np.mean([technically(clip) for clip in view.technical])))
        chosen = plan.aesthetic.tobytes()
        if chosen not in seen:  # the frames decide this branch, and in a short video they are always the same
            seen[chosen] = model.aesthetic(dover_views.normalise(view.aesthetic.to(device))).item()
        aesthetic.append(seen[chosen])
    return RawScores(np.array(technical), np.array(aesthetic))


def upstream_percentages(raw: RawScores) -> Percentages:
    """What DOVER's `evaluate_a_set_of_videos.py` writes, and papers print: constants of the other branch."""
    return _percentages(raw, technical=_AESTHETIC_STATISTICS, aesthetic=_TECHNICAL_STATISTICS)


def matched_percentages(raw: RawScores) -> Percentages:
    """Percentages with each branch's own constants: not comparable with what papers print."""
    return _percentages(raw, technical=_TECHNICAL_STATISTICS, aesthetic=_AESTHETIC_STATISTICS)


def spread(values: Floats) -> float:
    """Standard deviation over repeats (R,), N − 1; NaN for one repeat, never 0."""
    return float(np.std(values, ddof=1)) if values.size > 1 else math.nan


def _percentages(raw: RawScores, *, technical: tuple[float, float], aesthetic: tuple[float, float]) -> Percentages:
    t = (raw.technical - technical[0]) / technical[1]
    a = (raw.aesthetic - aesthetic[0]) / aesthetic[1]
    overall = _TECHNICAL_WEIGHT * t + _AESTHETIC_WEIGHT * a
    return Percentages(100 * expit(t), 100 * expit(a), 100 * expit(overall))
