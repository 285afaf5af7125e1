"""Random draws that are a function of what they are for."""

from __future__ import annotations

import hashlib

import numpy as np


def philox(*what: str | int) -> np.random.Generator:
    """NumPy's Philox under a key of 128 bits of sha256 of `what`, joined by "|".

    torch's CPU generator keeps 32 bits of its seed: among 10,000 cases, two would share noise once in a hundred times.
    """
    digest = hashlib.sha256("|".join(map(str, what)).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "big")))
