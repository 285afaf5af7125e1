"""Ways of decoding in tiles, by name; apart from `vae`, so that settings are checked without loading diffusers."""

from __future__ import annotations

from typing import Literal, TypeAlias

Tiles: TypeAlias = Literal["none", "release", "blended"]
TILES: tuple[Tiles, ...] = ("none", "release", "blended")
"""`release`: two halves, each cropped at the middle; `blended`: the same halves, cross-faded where they overlap."""
