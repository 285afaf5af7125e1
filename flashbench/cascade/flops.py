"""FLOP of FlashVideo's networks, from shapes alone.

A forward of a CogVideoX transformer of L layers and width d over N tokens (image and text) takes 24 L N d^2 FLOP in
linear layers and 4 L N^2 d in attention; embeddings and the last layer, 0.02 % at the paper's sizes, are left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from flashbench.errors import UsageError

VAE_ENCODE, VAE_DECODE = (13_823_744, 8_691_840), (21_694_464, 18_538_432)
"""FLOP per pixel of the first frame and of each later one: exact at any size and however the frames are chunked,
without the overlap of the release's two tiles."""
T5_FLOP = 24 * (2 * 226 * (4 * 4096**2 + 3 * 4096 * 10240) + 4 * 226**2 * 4096)
"""T5-v1.1-XXL's encoder over 226 tokens."""


@dataclass(frozen=True)
class Architecture:
    """A transformer; `patch` is a side in latent pixels, of 8 pixels each."""

    name: str
    layers: int
    width: int
    parameters: int
    text_tokens: int = 226
    patch: int = 2


STAGE1 = Architecture("Stage I", layers=42, width=3072, parameters=5_570_283_072)
STAGE2 = Architecture("Stage II", layers=30, width=1920, parameters=1_696_276_288)


@dataclass(frozen=True)
class Stage:
    """Evaluations of one network on one sample of `size` (height, width) pixels; guidance doubles their forwards.

    Raises UsageError for sides that are no multiples of 16 (patch 2), frames that are not 4n + 1, no evaluations.
    """

    network: Architecture
    size: tuple[int, int]
    frames: int
    evaluations: int
    guided: bool = True

    def __post_init__(self) -> None:
        side = 8 * self.network.patch
        if any(pixels < side or pixels % side for pixels in self.size):
            nearest = spelled([max(side, pixels // side * side) for pixels in self.size])
            raise UsageError(f"the sides of {spelled(self.size)} are not multiples of {side}", fix=f"write {nearest}")
        if self.frames < 1 or self.frames % 4 != 1:
            raise UsageError(f"{self.frames} frames are not 4n + 1", fix=f"take {max(0, self.frames) // 4 * 4 + 1}")
        if self.evaluations < 1:
            raise UsageError(f"{self.evaluations} evaluations make no video", fix="take 1 or more")

    @property
    def tokens(self) -> int:
        """Tokens of a forward: the text's, and for a patch of 2 (1 + (frames - 1) / 4) (height / 16) (width / 16)."""
        video = (1 + self.frames // 4) * math.prod(self.size) // (8 * self.network.patch) ** 2
        return self.network.text_tokens + video

    @property
    def forwards(self) -> int:
        """Network forwards of all evaluations."""
        return self.evaluations * (2 if self.guided else 1)

    @property
    def linear(self) -> int:
        """FLOP of the linear layers over all forwards."""
        return self.forwards * 24 * self.network.layers * self.tokens * self.network.width**2

    @property
    def attention(self) -> int:
        """FLOP of attention's two products over all forwards."""
        return self.forwards * 4 * self.network.layers * self.tokens**2 * self.network.width


def spelled(size: Sequence[int]) -> str:
    """A size (height, width) in text, as in `1072x1920`."""
    return "x".join(map(str, size))
