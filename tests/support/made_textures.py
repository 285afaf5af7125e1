"""Stand-ins for the photographs behind the laptop's scenes, which a clone does not have."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest

from flashbench.data import material, scene_clips
from flashbench.data.views import Picture

SIDE = 160


def picture(found: Any) -> Picture:
    """Grey noise with structure at several scales, another one for every source; as a photograph of 160 x 160."""
    seed = int.from_bytes(hashlib.sha256(found.id.encode()).digest()[:4], "big")
    draw = np.random.default_rng(seed)
    grey = sum(cv2.GaussianBlur(draw.normal(size=(SIDE, SIDE)), (0, 0), s) * s for s in (0.7, 2.0, 5.0))
    level = np.clip(128 + 30 * grey / np.std(grey), 0, 255).astype(np.uint8)
    return Picture.of(found.id, np.repeat(level[None, :, :, None], 3, axis=3))


@pytest.fixture
def textures(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Scenes are made over the stand-ins."""
    monkeypatch.setattr(material, "picture", picture)
    scene_clips._texture.cache_clear()
    yield
    scene_clips._texture.cache_clear()
