"""Two corrections of an enhanced clip that need no training: the codec's own loss, and the low-quality clip itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from flashbench.cascade import degrade
from flashbench.cascade.codec import Codec
from flashbench.errors import InvalidError

FILE = "corrections.json"


class Corrections(NamedTuple):
    """Which corrections a recipe's clips get, in this order."""

    codec_residual: bool = False
    """Add what the codec loses of the enlarged input, which is known."""
    back_projection: bool = False
    """Add the enlarged difference between the low-quality clip and the enhanced one made small (Irani & Peleg 1991)."""

    def __call__(self, decoded: Tensor, codec: Codec, enlarged: Tensor, low: Tensor) -> Tensor:
        """The corrected frames of `decoded` (B, 3, T, H, W), made of `enlarged` of its shape and `low` (B, 3, T, h, w).

        All in [-1, 1]; the result is not clamped.
        """
        if self.codec_residual:
            decoded = decoded + codec_residual(codec, enlarged)
        return back_project(decoded, low) if self.back_projection else decoded

    def write(self, folder: Path) -> None:
        """Write corrections.json beside a model, if there are any."""
        if any(self):
            (folder / FILE).write_text(json.dumps(self._asdict(), indent=2, sort_keys=True) + "\n", encoding="utf-8")

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Corrections:
        """Those that the settings of a recipe ask for."""
        return cls(**{name: bool(settings.get(name, False)) for name in cls._fields})

    @classmethod
    def read(cls, folder: Path) -> Corrections:
        """Those of the model in `folder`: none without the file. Raises InvalidError for a damaged one."""
        path = folder / FILE
        if not path.exists():
            return cls()
        try:
            return cls(**json.loads(path.read_text("utf-8")))
        except (ValueError, TypeError) as error:
            raise InvalidError(f"{path} is damaged: {error}", fix="train the recipe again") from error


def codec_residual(codec: Codec, frames: Tensor) -> Tensor:
    """What the codec loses of frames (B, 3, T, H, W), frames - decode(encode(frames)): zero for a lossless codec."""
    return frames - codec.decode(codec.encode(frames))


def back_project(frames: Tensor, low: Tensor) -> Tensor:
    """Add enlarge(low - shrink(frames)), both bicubic with antialiasing, to (B, 3, T, H, W); `low` is (B, 3, T, h, w).

    Frames whose reduction is `low` stay; the reduction of others comes nearer to it.
    """
    (height, width), size = frames.shape[-2:], low.shape[-2:]
    missing = low - degrade.resize(frames, size[0], size[1], "bicubic")
    return frames + degrade.resize(missing, height, width, "bicubic")
