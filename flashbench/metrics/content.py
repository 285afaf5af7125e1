"""Whether a clip shows what its prompt asks for: the laptop's scenes, read back from the pixels.

A pixel belongs to the object where it is nearer to a colour of `scenes.COLORS` than to the clip's own background, which
is the median of its edges. Colour, shape (best overlap with a shape of the same area and centre), motion and the
number of objects follow from the connected parts. On scenes as they are made the checker is right on all 288 clips at
48, 64 and 80 pixels (48 clips at 256), blurred by a standard deviation of 1/80 of the height or not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from flashbench.data import scenes
from flashbench.data.shapes import cover
from flashbench.metrics.base import About, Metric, Stream
from flashbench.metrics.registry import register
from flashbench.types import Frames, Measurement, Scope

EDGE = 0.05
"""Width of the clip's edges, in its heights: they are background."""
APART = 50.0
"""Distance in RGB, at least, of an object's pixels from the background."""
PART = 0.2
"""Area of a second part that counts as an object, of the expected area."""
SIZES = (0.45, 2.0)
"""Area of a single object, of the expected area."""
WAY = 0.05
"""Way in heights of the clip below which nothing moves."""
_PALETTE = np.array(list(scenes.COLORS.values()), dtype=np.float32)
_GROUNDS = np.array([colour for _, colour in scenes.BACKGROUNDS.values()], dtype=np.float32)


class Seen(NamedTuple):
    """What one frame of a clip shows: its ground, and the number, place, colour and shape of its objects."""

    ground: npt.NDArray[np.float32]
    """Median RGB of the edges."""
    objects: int
    plausible: bool
    """Whether the largest has about the expected area."""
    centre: tuple[float, float] = (0.0, 0.0)
    color: int = 0
    """Place in `scenes.COLORS`."""
    overlap: tuple[float, ...] = (0.0, 0.0, 0.0)
    """With each of `scenes.SHAPES`: intersection over union."""


@dataclass(frozen=True, kw_only=True)
class Attribute(Metric):
    """1 where the clip shows what the prompt says of one attribute, otherwise 0."""

    attribute: str
    scope: Scope = "prompt"

    @property
    def binary(self) -> bool:
        """Whether the value is 1 or 0: always, for an attribute is shown or it is not."""
        return True

    @property
    def source(self) -> Metric:
        """The metric whose pass over the frames serves all attributes: that of the colour."""
        return COLOR

    def stream(self, about: About) -> Stream:
        """Look at every frame of the clip; missing where its prompt is none of the laptop's scenes."""
        scene = scenes.parse(about.prompt or "")
        if scene is None:
            return Measurement.missing("the prompt is none of the laptop's scenes")
        sightings = []
        while (pair := (yield)) is not None:
            sightings.append(_look(pair.frame))
        shown = _shown(sightings, about.shape[1], scene)
        return Measurement(value=float(shown[0]), statistics=tuple(map(float, shown)))

    def derive(self, measurement: Measurement) -> Measurement:
        """This attribute's part of the measurement that the shared pass over the frames gave."""
        if not measurement.statistics:
            return measurement
        return replace(measurement, value=measurement.statistics[ORDER.index(self.attribute)], statistics=())


ORDER = ("color", "shape", "motion", "background", "single")
"""Attributes in the order of the pass's findings."""


def _look(frame: Frames) -> Seen:
    pixels = frame.astype(np.float32)
    height, width = frame.shape[:2]
    edge = max(1, round(EDGE * height))
    inside = np.zeros((height, width), bool)
    inside[edge:-edge, edge:-edge] = True
    ground = np.median(pixels[~inside], axis=0).astype(np.float32)
    away = np.linalg.norm(pixels - ground, axis=-1)
    near = np.linalg.norm(pixels[:, :, None] - _PALETTE, axis=-1)
    object_mask = ((near.min(-1) < away) & (away > APART)).astype(np.uint8)
    count, labels, stats, centres = cv2.connectedComponentsWithStats(object_mask, connectivity=8)
    expected = np.pi * (scenes.RADIUS * height) ** 2
    areas = stats[1:, cv2.CC_STAT_AREA]
    large = [number for number in range(1, count) if areas[number - 1] > PART * expected]
    if not large:
        return Seen(ground, 0, False)
    largest = max(large, key=lambda number: int(areas[number - 1]))
    area, mask = float(areas[largest - 1]), labels == largest
    colours = np.bincount(near[mask].argmin(-1), minlength=len(_PALETTE))
    x, y = centres[largest] + 0.5
    return Seen(
        ground,
        len(large),
        SIZES[0] * expected < area < SIZES[1] * expected,
        (float(x), float(y)),
        int(colours.argmax()),
        tuple(_overlap(mask, cover(shape, x, y, np.sqrt(area / np.pi), height, width)) for shape in scenes.SHAPES),
    )


def _overlap(mask: npt.NDArray[np.bool_], cover: npt.NDArray[np.float32]) -> float:
    return float(np.minimum(mask, cover).sum() / np.maximum(mask, cover).sum())


def _shown(sightings: list[Seen], height: int, scene: scenes.Scene) -> tuple[bool, ...]:
    """Whether each attribute of `ORDER` is shown."""
    ground = np.median([sighting.ground for sighting in sightings], axis=0)
    background = list(scenes.BACKGROUNDS)[int(np.linalg.norm(_GROUNDS - ground, axis=-1).argmin())]
    single = all(sighting.objects == 1 and sighting.plausible for sighting in sightings)
    present = [sighting for sighting in sightings if sighting.objects]
    if not present:
        return False, False, False, background == scene.background, False
    color = list(scenes.COLORS)[int(np.bincount([sighting.color for sighting in present]).argmax())]
    shape = scenes.SHAPES[int(np.mean([sighting.overlap for sighting in present], axis=0).argmax())]
    way = np.subtract(present[-1].centre, present[0].centre)
    directions = {name: float(np.dot(way, step)) for name, step in scenes.MOTIONS.items()}
    motion = max(directions, key=lambda name: directions[name])
    moves = directions[motion] > WAY * height
    return (
        color == scene.color,
        shape == scene.shape,
        moves and motion == scene.motion,
        background == scene.background,
        single,
    )


def _attribute(name: str, attribute: str) -> Attribute:
    return Attribute(
        name=name, attribute=attribute, direction="higher", unit="", range=(0.0, 1.0),
        preprocessing={"scenes": scenes.VERSION, "edge": EDGE, "apart": APART, "part": PART, "way": WAY},
    )  # fmt: skip


COLOR = _attribute("attribute_color", "color")
SHAPE = _attribute("attribute_shape", "shape")
MOTION = _attribute("attribute_motion", "motion")
BACKGROUND = _attribute("attribute_background", "background")
SINGLE_OBJECT = _attribute("single_object", "single")
register(COLOR, SHAPE, MOTION, BACKGROUND, SINGLE_OBJECT)
