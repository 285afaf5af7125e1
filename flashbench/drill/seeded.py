"""Weights that come from a counter, so that they are the same numbers on every machine; they say nothing of quality."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from flashbench.types import Floats


def uniform(name: str, count: int) -> Floats:
    """`count` numbers in (-1, 1): splitmix64 over a counter, seeded by the name's sha256, the upper 24 bits of each."""
    seed = np.uint64(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little"))
    z = seed + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    numbers: Floats = ((z >> np.uint64(40)).astype(np.float64) * 2 + 1 - 2**24) / 2**24
    return numbers


def weight(tag: str, key: str, shape: tuple[int, ...]) -> Tensor:
    """The float32 tensor of a key: scales around 1, biases around 0, matrices that keep the power of what goes in."""
    x = uniform(f"{tag}:{key}", math.prod(shape)).reshape(shape)
    if key.endswith("position_bias_table"):
        x *= 0.5
    elif key.endswith(".gamma"):
        x = 0.3 + 0.1 * x
    elif len(shape) <= 1:
        x = 1 + 0.1 * x if key.endswith((".weight", "_var", "scale")) else 0.1 * x
    else:
        x *= math.sqrt(3 / math.prod(shape[1:]))
    return torch.from_numpy(np.asarray(x, np.float32))


def state(tag: str, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the names and shapes of `like`; whole numbers, which are no weights, stay as they are there."""
    return {
        key: weight(tag, key, tuple(value.shape)) if value.is_floating_point() else value.clone()
        for key, value in like.items()
    }
