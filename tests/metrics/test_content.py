"""The exact checker: right on scenes as they are made, at every size and blurred, and sees what it must."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import pytest
from support.made_textures import textures

from flashbench import metrics
from flashbench.data import scene_clips, scenes
from flashbench.data.scene_clips import scene_clip
from flashbench.data.scenes import Scene
from flashbench.data.shapes import cover
from flashbench.metrics import content
from flashbench.metrics.base import measure
from flashbench.types import Clip, Frames

__all__ = ["textures"]
NAMES = ("attribute_color", "attribute_shape", "attribute_motion", "attribute_background", "single_object")
METRICS = [metrics.get(name) for name in NAMES]
SCENE = Scene("blue", "triangle", "right", "gravel")
pytestmark = pytest.mark.usefixtures("textures")


def found(frames: Frames, scene: Scene = SCENE) -> dict[str, float]:
    """What the checker says of a clip whose prompt is `scene`."""
    said = measure(METRICS, Clip(frames, Fraction(8)), prompt=scenes.caption(scene, 0))
    return {name: one.value for name, one in zip(NAMES, said, strict=True)}


def shares(side: int, count: int, sigma: float = 0.0) -> dict[str, float]:
    """Share of clips of scenes on which each attribute is found, blurred by `sigma` heights of the clip."""
    total = dict.fromkeys(NAMES, 0.0)
    for number in range(count):
        scene = scenes.SCENES[number * 37 % len(scenes.SCENES)]
        clip = scene_clip(scene, 10_000 + number, 5, side, side)
        if sigma:
            clip = np.stack([cv2.GaussianBlur(frame, (0, 0), sigma * side) for frame in clip])
        total = {name: total[name] + value for name, value in found(clip, scene).items()}
    return {name: value / count for name, value in total.items()}


# --- right on what is there -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "count", "sigma"), [(64, 36, 0.0), (80, 36, 0.0), (64, 36, 1 / 80), (256, 4, 1 / 80)])
def test_scenes_are_read_back(side: int, count: int, sigma: float) -> None:
    assert min(shares(side, count, sigma).values()) >= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [0.0, 1 / 80])
@pytest.mark.parametrize("side", [64, 80, 256])
def test_all_scenes_are_read_back(side: int, sigma: float) -> None:
    assert min(shares(side, 288 if side < 256 else 96, sigma).values()) >= 0.97


def test_a_clip_enlarged_four_times_is_read_as_it_was() -> None:
    small = scene_clip(SCENE, 0, 5, 64, 64)
    large = np.stack([cv2.resize(frame, (256, 256), interpolation=cv2.INTER_CUBIC) for frame in small])
    assert found(small) == found(large) == dict.fromkeys(NAMES, 1.0)


# --- wrong on what is not ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "missed"),
    [
        ({"color": "purple"}, "attribute_color"),
        ({"shape": "circle"}, "attribute_shape"),
        ({"shape": "square"}, "attribute_shape"),
        ({"motion": "left"}, "attribute_motion"),
        ({"motion": "up"}, "attribute_motion"),
        ({"background": "brick"}, "attribute_background"),
    ],
)
def test_another_value_is_missed_and_nothing_else(asked: dict[str, str], missed: str) -> None:
    clip = scene_clip(SCENE, 1, 5, 64, 64)
    assert found(clip, replace(SCENE, **asked)) == {name: float(name != missed) for name in NAMES}


def test_an_object_that_stands_still_does_not_move() -> None:
    clip = np.repeat(scene_clip(SCENE, 2, 5, 64, 64)[2:3], 5, axis=0)
    assert found(clip) == {name: float(name != "attribute_motion") for name in NAMES}


def test_a_second_object_in_one_frame_is_seen() -> None:
    clip = scene_clip(SCENE, 3, 5, 64, 64)
    for frame, alone in ((0, 0.0), (None, 1.0)):
        ghost = clip.copy()
        if frame is not None:
            cv2.circle(ghost[frame], (52, 8), 7, scenes.COLORS["red"], -1)
        assert found(ghost)["single_object"] == alone


def test_specks_are_no_object() -> None:
    clip = scene_clip(SCENE, 4, 5, 64, 64)
    clip[:, 4:7, 50:53] = scenes.COLORS["yellow"]
    assert found(clip)["single_object"] == 1.0


@pytest.mark.parametrize("factor", [0.5, 1.7])
def test_an_object_of_another_size_is_not_the_one(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene_clips, "RADIUS", factor * scenes.RADIUS)
    clip = scene_clip(replace(SCENE, shape="circle"), 5, 5, 64, 64)
    assert found(clip, replace(SCENE, shape="circle"))["single_object"] == 0.0


def test_without_an_object_only_the_background_is_right() -> None:
    empty = np.clip(scene_clips._texture("gravel", 64, 64, scene_clips.CONTRAST)[:64, :64], 0, 255).astype(np.uint8)
    assert found(np.repeat(empty[None], 5, axis=0)) == {name: float(name == "attribute_background") for name in NAMES}


# --- as metrics -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", [None, "a cat plays the piano"])
def test_a_prompt_that_is_no_scene_has_no_value(prompt: str | None) -> None:
    clip = Clip(scene_clip(SCENE, 6, 5, 64, 64), Fraction(8))
    for metric in METRICS:
        said = metric.measure(clip, prompt=prompt)
        assert math.isnan(said.value) and said.reason == "the prompt is none of the laptop's scenes"


def test_one_pass_serves_all(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[Frames] = []
    look = content._look

    def counted(frame: Frames) -> content.Seen:
        looked.append(frame)
        return look(frame)

    monkeypatch.setattr(content, "_look", counted)
    found(scene_clip(SCENE, 7, 5, 64, 64))
    assert len(looked) == 5, "once a frame"


def test_they_are_metrics_of_prompt_and_video_without_weights() -> None:
    for metric in METRICS:
        assert (metric.scope, metric.direction, metric.range, metric.assets) == ("prompt", "higher", (0.0, 1.0), ())
        assert metric.identity["preprocessing"]["scenes"] == scenes.VERSION


@pytest.mark.parametrize("shape", scenes.SHAPES)
def test_cover_has_the_area_of_the_circle_at_any_place(shape: str) -> None:
    rows, columns = np.mgrid[:64, :64] + 0.5
    for x, y in ((32.0, 32.0), (30.3, 35.8)):
        drawn = cover(shape, x, y, 12.0, 64, 64)
        assert drawn.sum() == pytest.approx(math.pi * 144, rel=0.03), "OpenCV fills the points of the outline too"
        assert drawn.min() >= 0 and drawn.max() == 1
        middle = ((drawn * columns).sum() / drawn.sum(), (drawn * rows).sum() / drawn.sum())
        assert middle == pytest.approx((x, y), abs=0.15)
