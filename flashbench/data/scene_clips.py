"""Clips of captioned scenes (`data.scenes`): an antialiased object that moves over a photographic texture."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from flashbench.data import material
from flashbench.data.scenes import BACKGROUNDS, COLORS, MOTIONS, RADIUS, SCENES, SPAN, TEMPLATES, Scene, held_out
from flashbench.data.shapes import cover
from flashbench.types import Frames

Floats = npt.NDArray[np.float32]

VIEW = 2.0
"""Short side of a texture, in clip heights: what a clip may be cut from."""
CONTRAST = 18.0
"""Standard deviation of a texture's grey levels about its tint, where a clip does not ask for another."""
WANDER = 0.02
"""How far the middle of the way may lie from the clip's, in heights of the clip."""


def scene_clip(scene: Scene, index: int, frames: int, height: int, width: int, contrast: float = CONTRAST) -> Frames:
    """Clip `index` of a scene, uint8 [frames, height, width, 3]: where the texture is cut and the way lies varies.

    `contrast` is the standard deviation of its texture's grey levels, at least 0.
    """
    seed = hashlib.sha256(f"scene|{scene}|{index}".encode()).digest()
    draw = np.random.Generator(np.random.PCG64(int.from_bytes(seed[:16], "big")))
    texture = _texture(scene.background, height, width, contrast)
    top, left = (
        int(draw.integers(0, full - side + 1)) for full, side in zip(texture.shape, (height, width), strict=False)
    )
    ground = texture[top : top + height, left : left + width]
    middle = np.array([width, height]) / 2 + draw.uniform(-WANDER, WANDER, 2) * height
    way = np.array(MOTIONS[scene.motion]) * SPAN * height
    clip = np.empty((frames, height, width, 3), np.uint8)
    for number in range(frames):
        x, y = middle + way * (number / max(frames - 1, 1) - 0.5)
        mask = cover(scene.shape, x, y, RADIUS * height, height, width)[..., None]
        clip[number] = np.clip(np.rint(ground * (1 - mask) + np.array(COLORS[scene.color]) * mask), 0, 255)
    return clip


@lru_cache(maxsize=16)
def _texture(background: str, height: int, width: int, contrast: float) -> Floats:
    """A background's texture at the scale of clips of that size: float32 [H, W, 3] in 0 to 255."""
    name, colour = BACKGROUNDS[background]
    photograph = cv2.cvtColor(material.picture(material.source(name)).frames[0], cv2.COLOR_RGB2GRAY)
    factor = VIEW * max(height, width) / min(photograph.shape)
    size = (round(photograph.shape[1] * factor), round(photograph.shape[0] * factor))
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    grey = cv2.resize(photograph, size, interpolation=interpolation).astype(np.float32)
    grey = contrast * (grey - grey.mean()) / grey.std()
    return np.clip(np.array(colour, dtype=np.float32) + grey[..., None], 0, 255)


def training_scene(index: int) -> tuple[Scene, int]:
    """(scene, template of its caption) of training clip `index`: the scenes that are not held out, in turn."""
    chosen = [scene for scene in SCENES if not held_out(scene)]
    turn, place = divmod(index, len(chosen))
    return chosen[place], (place + turn) % len(TEMPLATES)
