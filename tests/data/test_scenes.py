"""The laptop's captioned scenes: what captions say, which combinations are held out, and the clips that show them."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import fields

import numpy as np
import pytest
from support.made_textures import textures

from flashbench.data import scene_clips, scenes
from flashbench.data.scene_clips import scene_clip, training_scene
from flashbench.data.scenes import Scene

__all__ = ["textures"]
VALUES = {"color": tuple(scenes.COLORS), "shape": scenes.SHAPES, "motion": tuple(scenes.MOTIONS),
          "background": tuple(scenes.BACKGROUNDS)}  # fmt: skip
HELD = [scene for scene in scenes.SCENES if scenes.held_out(scene)]
TRAINED = [scene for scene in scenes.SCENES if not scenes.held_out(scene)]


# --- words ------------------------------------------------------------------------------------------------------------


def test_parse_is_the_inverse_of_caption() -> None:
    said = {scenes.caption(scene, n): scene for scene in scenes.SCENES for n in range(len(scenes.TEMPLATES))}
    assert len(said) == 288 * len(scenes.TEMPLATES), "no two captions are the same text"
    assert all(scenes.parse(text) == scene for text, scene in said.items())


@pytest.mark.parametrize("text", ["", "a cat", "a red circle", "a pink circle moves to the left over green grass"])
def test_other_texts_are_no_scene(text: str) -> None:
    assert scenes.parse(text) is None
    assert scenes.parse(scenes.caption(scenes.SCENES[0], 0).upper()) is None


# --- held out ---------------------------------------------------------------------------------------------------------


def test_a_quarter_is_held_out_and_every_value_is_trained_as_often_as_its_kind() -> None:
    assert (len(scenes.SCENES), len(HELD)) == (288, 72)
    for kind, values in VALUES.items():
        for chosen in (HELD, TRAINED):
            counted = Counter(getattr(scene, kind) for scene in chosen)
            assert counted.keys() == set(values)
            assert max(counted.values()) - min(counted.values()) <= 0.35 * len(chosen) / len(values), kind


def test_every_pair_of_values_is_in_training() -> None:
    for one, two in itertools.combinations((field.name for field in fields(Scene)), 2):
        seen = {(getattr(scene, one), getattr(scene, two)) for scene in TRAINED}
        assert seen == set(itertools.product(VALUES[one], VALUES[two])), (one, two)


def test_dev_and_test_are_held_out_and_share_no_scene() -> None:
    split = {name: [scenes.parse(text) for text in scenes.captions(name)] for name in ("dev", "test")}
    assert {name: len(found) for name, found in split.items()} == {"dev": 24, "test": 48}
    assert set(split["dev"]) | set(split["test"]) == set(HELD) and not set(split["dev"]) & set(split["test"])
    for kind, values in VALUES.items():
        assert {getattr(scene, kind) for scene in split["test"] if scene} == set(values)


def test_training_draws_no_scene_that_is_held_out() -> None:
    drawn = [training_scene(number) for number in range(3 * len(TRAINED))]
    assert Counter(scene for scene, _ in drawn) == dict.fromkeys(TRAINED, 3)
    assert len(set(drawn)) == len(drawn), "each scene comes with all templates in turn"


# --- clips ------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("textures")
def test_a_clip_is_a_function_of_its_arguments() -> None:
    scene = Scene("red", "square", "left", "grass")
    clip = scene_clip(scene, 3, 5, 48, 64)
    assert clip.shape == (5, 48, 64, 3) and clip.dtype == np.uint8
    assert np.array_equal(clip, scene_clip(scene, 3, 5, 48, 64))
    assert not np.array_equal(clip, scene_clip(scene, 4, 5, 48, 64))


@pytest.mark.usefixtures("textures")
@pytest.mark.parametrize("shape", scenes.SHAPES)
@pytest.mark.parametrize("motion", scenes.MOTIONS)
def test_the_object_has_its_area_and_goes_its_way(shape: str, motion: str) -> None:
    side, frames = 96, 5
    clip = scene_clip(Scene("white", shape, motion, "frost"), 0, frames, side, side)
    inside = (clip == scenes.COLORS["white"]).all(-1)
    area = np.pi * (scenes.RADIUS * side) ** 2
    assert inside.sum((1, 2)) == pytest.approx(area, rel=0.12), "but for its antialiased rim"
    centres = np.array([np.argwhere(frame).mean(0)[::-1] for frame in inside])
    expected = np.outer(np.linspace(0, scenes.SPAN * side, frames), scenes.MOTIONS[motion])
    assert centres - centres[0] == pytest.approx(expected, abs=0.6)


@pytest.mark.usefixtures("textures")
@pytest.mark.parametrize("background", scenes.BACKGROUNDS)
def test_a_texture_has_its_tint_and_contrast_at_every_size(background: str) -> None:
    for side in (64, 256):
        texture = scene_clips._texture(background, side, side, scene_clips.CONTRAST)
        assert min(texture.shape[:2]) >= scene_clips.VIEW * side - 1
        assert texture.mean((0, 1)) == pytest.approx(scenes.BACKGROUNDS[background][1], abs=1.5)
        assert texture.std((0, 1)) == pytest.approx(scene_clips.CONTRAST, abs=1.5)
