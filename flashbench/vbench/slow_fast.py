"""VBench-Long's slow-fast fusion for subject_consistency and background_consistency.

Slow: the dimension's score inside each clip. Fast: consistency c between the first frames of a video's clips, mapped
to the slow score's scale by a table m. A clip's fused score is w_in·slow + w_c2c·m(c), or slow alone where m(c) = 0 or
the video has a single clip. With `--dev_flag` (VBench-Long's README) w = (0.5, 0.5); without it w = (1, 0).
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType

import numpy as np

from flashbench.errors import did_you_mean
from flashbench.types import Floats
from flashbench.vbench.long import Mode, Overall, overall

STEPS = 100
"""A table has a value at 0.00, 0.01 … 1.00."""
WEIGHTS: Mapping[bool, tuple[float, float]] = MappingProxyType({True: (0.5, 0.5), False: (1.0, 0.0)})
"""With `--dev_flag` or not → (within clips, between clips)."""
EXTRACTORS: Mapping[bool, Mapping[str, str]] = MappingProxyType(
    {
        True: MappingProxyType({"subject_consistency": "dinov2_vitb14", "background_consistency": "dreamsim"}),
        False: MappingProxyType({"subject_consistency": "dino_vitb16", "background_consistency": "clip_vitb32"}),
    }
)
"""With `--dev_flag` or not → dimension → the network that compares first frames."""


@cache
def table(dimension: str) -> Floats:
    """Values of a dimension's slow-fast map m at 0.00, 0.01 … 1.00: float64 [101], increasing from 0 to 1.

    They are VBench-Long's, to six decimals.

    Raises:
        UsageError: the dimension has no slow-fast table.
    """
    path = Path(__file__).with_name("slow_fast_tables.json")
    tables = json.loads(path.read_text(encoding="utf-8"))
    if dimension not in tables:
        raise did_you_mean("slow-fast dimension", dimension, tables)
    values = np.array(tables[dimension], dtype=np.float64) / 1e6
    values.flags.writeable = False
    return values


def mapped(dimension: str, consistency: float) -> float:
    """A consistency c on the slow score's scale, m(c).

    Linear between the table's values and constant outside 0 … 1; NaN stays NaN.
    """
    if math.isnan(consistency):
        return math.nan
    return float(np.interp(consistency, np.arange(STEPS + 1) / STEPS, table(dimension)))


def consistency(to_previous: Sequence[float], to_first: Sequence[float]) -> float:
    """Consistency c of a video: mean over its second and later first frames of the mean of two clamped cosines.

    Args:
        to_previous: cosine of each of them with the one before it.
        to_first: cosine of each of them with the first.

    Returns: 0 … 1; NaN for a video of a single clip.
    """
    pairs = [(max(0.0, a) + max(0.0, b)) / 2 for a, b in zip(to_previous, to_first, strict=True)]
    return math.fsum(pairs) / len(pairs) if pairs else math.nan


def fuse(dimension: str, slow: float, consistency: float, *, dev_flag: bool = True) -> float:
    """Fused score of one clip, 0 … 1, higher is better.

    Args:
        dimension: subject_consistency or background_consistency.
        slow: the clip's own score.
        consistency: c of its video; NaN where the video has a single clip.
        dev_flag: whether VBench-Long runs with `--dev_flag`.
    """
    fast = mapped(dimension, consistency)
    if math.isnan(fast) or fast == 0:
        return slow
    within, between = WEIGHTS[dev_flag]
    return within * slow + between * fast


def fused_overall(
    mode: Mode, dimension: str, slow: Sequence[tuple[str, float]], consistencies: Mapping[str, float],
    *, dev_flag: bool = True,
) -> Overall:  # fmt: skip
    """A dimension's value from (video, slow score) of every clip and c of every video.

    A video of two or more clips whose c is absent or NaN has no fused score: its clips count as missing.
    Not carried over: officially, where no video has two clips, subject_consistency pools frame pairs instead of clips,
    and without `--dev_flag` the run ends in a division by zero. Here such a set is the mean of its slow scores.
    """
    clips = Counter(video for video, _ in slow)
    fused = []
    for video, score in slow:
        c = consistencies.get(video, math.nan)
        undefined = clips[video] > 1 and math.isnan(c)
        alone = math.nan if clips[video] == 1 else c
        fused.append((video, math.nan if undefined else fuse(dimension, score, alone, dev_flag=dev_flag)))
    return overall(mode, fused)
