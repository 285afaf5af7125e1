"""VBench-Long's static filter for temporal_flickering: which clips stand still, given the flow of their frames."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from flashbench.vbench import long

TOP = 0.02
"""Share of the fastest pixels whose mean is a frame pair's score."""
PER_PROMPT = 5
"""Static clips that are kept of each prompt."""


def flow_score(magnitude: npt.NDArray[np.floating], *, top: float = TOP) -> float:
    """Mean of the largest int(top·H·W) values of a flow's magnitude [H, W], in pixels; NaN where that is none."""
    values = np.asarray(magnitude, dtype=np.float64).ravel()
    count = int(top * values.size)
    if count < 1:
        return math.nan
    return float(np.mean(np.partition(values, values.size - count)[-count:]))


def threshold(height: int, width: int) -> float:
    """Flow score T = 3·min(H, W) / 256, in pixels, above which a frame pair moves."""
    return 3 * min(height, width) / 256


def allowed(frames: int) -> int:
    """Moving pairs that a static clip of n frames may have: C = round(2·n / 16); halves round to even, as in Python."""
    return round(2 * frames / 16)


def is_static(
    consecutive: Sequence[float], first_to_last: float, last_to_first: float, *, height: int, width: int
) -> bool:
    """Whether a clip stands still: at most C of its pairs move, and both long flows are at most 2·T·C. NaN moves.

    Args:
        consecutive: `flow_score` of every pair of consecutive frames, one fewer than frames.
        first_to_last: that of the flow from the first frame to the last.
        last_to_first: that of the flow back.
        height: of the frames, pixels.
        width: of the frames, pixels.
    """
    limit, most = threshold(height, width), allowed(len(consecutive) + 1)
    moving = sum(not score <= limit for score in consecutive)
    return moving <= most and max(first_to_last, last_to_first) <= 2 * limit * most


def kept(
    static: Mapping[str, bool], prompts: Mapping[str, str], *, mode: long.Mode, most: int = PER_PROMPT
) -> tuple[str, ...]:
    """Paths of the clips that stay, in sorted order: the first `most` static ones (clips, not videos) of each prompt.

    Args:
        static: clip's path → whether it stands still.
        prompts: clip's path → prompt of its video.
        mode: `official` never finds clips called `_full`, so short videos drop out.
        most: clips of each prompt.
    """
    counts: Counter[str] = Counter()
    chosen = []
    for path in _findable(sorted(static), mode):
        if static[path] and counts[prompts[path]] < most:
            counts[prompts[path]] += 1
            chosen.append(path)
    return tuple(chosen)


def _findable(paths: Iterable[str], mode: long.Mode) -> Iterable[str]:
    for path in paths:
        parsed = long.parse(path.rpartition("/")[2].rpartition(".")[0])
        if mode == "corrected" or (parsed is not None and parsed[1] != long.FULL):
            yield path
