"""Labels: what is known of a pool's clips beside their latents, namely their captions and a score.

They are a recipe of their own, because a pool is the same with and without them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from flashbench.errors import InvalidError, UsageError, did_you_mean
from flashbench.types import Frames

SCORES = ("niqe", "none")
"""By which clips can be ranked. `niqe`: of the middle frame, lower is better (Mittal et al. 2013)."""


def captions(material: str, count: int, seed: int) -> list[str]:
    """The captions of the first `count` training clips of a material: those of their sources."""
    if material == "synthetic":
        return [f"A procedural pattern, number {seed + number}." for number in range(count)]
    from flashbench.data.material import training_source

    return [training_source(number, seed).caption for number in range(count)]


def write_labels(
    texts: Sequence[str],
    clips: Iterable[Frames],
    *,
    score: str,
    encode: Callable[[Sequence[str]], Tensor] | None,
    folder: Path,
    report: Callable[[int], None],
) -> dict[str, int]:
    """Label `clips`, whose captions are `texts`, into `folder`/labels.safetensors; returns its counts.

    Each different caption goes through `encode` once ((n) texts to (n, L, D)); None keeps no captions. `clips` are not
    looked at where `score` is `none`. Raises UsageError for an unknown score.
    """
    if score not in SCORES:
        raise did_you_mean("score of a labels recipe", score, SCORES)
    tensors = {"clips": torch.tensor(len(texts))}
    if encode is not None:
        different = list(dict.fromkeys(texts))
        tensors["caption"] = torch.tensor([different.index(text) for text in texts])
        tensors["contexts"] = encode(different).float().contiguous()
    if score != "none":
        tensors["score"] = torch.tensor(_scores(clips, report), dtype=torch.float64)
    save_file(tensors, folder / "labels.safetensors")
    return {"clips": len(texts), "captions": len(set(texts)) if encode else 0}


def _scores(clips: Iterable[Frames], report: Callable[[int], None]) -> list[float]:
    from flashbench.metrics.niqe import niqe, pristine

    parameters, scores = pristine(), []
    for number, clip in enumerate(clips):
        scores.append(float(niqe(clip[len(clip) // 2][np.newaxis], parameters)[0]))
        report(number + 1)
    return scores


@dataclass(frozen=True)
class Labels:
    """The labels of a pool's clips."""

    contexts: Tensor | None
    """Of their captions, (clips, L, D)."""
    scores: tuple[float, ...] | None
    """Lower is better; NaN where a clip has none."""

    @classmethod
    def read(cls, folder: Path) -> Labels:
        """The labels of a finished `labels` recipe."""
        tensors = load_file(folder / "labels.safetensors")
        contexts = tensors["contexts"][tensors["caption"]] if "contexts" in tensors else None
        return cls(contexts, tuple(tensors["score"].tolist()) if "score" in tensors else None)

    def best(self, share: float) -> list[int]:
        """Indices of the best `share` (in 0 to 1) of the clips by their score, best first.

        Raises UsageError for a share out of range or labels without scores, InvalidError where too few have one.
        """
        if not 0 < share <= 1:
            raise UsageError(f"best is {share}", fix="give a share of the pool above 0 and up to 1")
        if self.scores is None:
            raise UsageError("the labels hold no scores to choose the best by", fix="give the labels recipe a score")
        ranked = sorted((value, number) for number, value in enumerate(self.scores) if not math.isnan(value))
        count = max(1, round(share * len(self.scores)))
        if len(ranked) < count:
            what = f"{count} clips are wanted, and {len(ranked)} of {len(self.scores)} have a score"
            raise InvalidError(what, fix="NIQE needs clips of at least 192 x 96 pixels that are not flat")
        return [number for _, number in ranked[:count]]
