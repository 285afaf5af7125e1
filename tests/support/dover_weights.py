"""Weights of DOVER's shape that come from a counter, not from a file: the ones that its golden outputs were made with.

golden/dover_keys.json lists every key of the official model with its shape. golden/dover_tiny.safetensors holds what
the official code (VQAssessment/DOVER f1ddc96) answers with these weights, in float32 on the CPU: an input, and the
scores, the score maps and 32 probes of each block, at floor(linspace(0, n - 1)) of its elements.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from flashbench.drill.seeded import uniform

GOLDEN = Path(__file__).parents[1] / "golden"
KEYS = {
    key: (tuple(shape), dtype)
    for key, (shape, dtype) in json.loads((GOLDEN / "dover_keys.json").read_text(encoding="utf-8")).items()
}
TAG = "dover-golden-v1:"


def weight(key: str, shape: tuple[int, ...]) -> Tensor:
    x = uniform(TAG + key, math.prod(shape)).reshape(shape)
    if key.endswith("position_bias_table"):
        x *= 0.5
    elif key.endswith(".gamma"):
        x = 0.3 + 0.1 * x
    elif len(shape) == 1:
        x = 1 + 0.1 * x if key.endswith(".weight") else 0.1 * x
    else:
        x *= math.sqrt(3 / math.prod(shape[1:]))
    return torch.from_numpy(x.astype(np.float32))


def index() -> Tensor:
    """The (392, 392) rows of a full 8×7×7 window's bias table, written out token by token."""
    place = np.array([(d, h, w) for d in range(8) for h in range(7) for w in range(7)])
    d, h, w = np.moveaxis(place[:, None] - place[None], -1, 0)
    return torch.from_numpy(((d + 7) * 13 + (h + 6)) * 13 + (w + 6)).long()


def state() -> dict[str, Tensor]:
    """The whole state dict: 381 keys, 56,218,302 weights and twelve index buffers."""
    return {key: index() if dtype == "int64" else weight(key, shape) for key, (shape, dtype) in KEYS.items()}
