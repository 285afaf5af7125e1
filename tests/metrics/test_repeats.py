"""Repeated frames: closed forms, held frames and small motions through real codecs, light, properties."""

from __future__ import annotations

import io
import math
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flashbench.metrics import base, repeats
from flashbench.metrics.repeats import EXACT, NEW, NOISE, REPEATED_FRAMES, REPEATED_FRAMES_EXACT
from flashbench.types import Clip

SIZE = (96, 128)
GENTLE = {
    "x264": ("libx264", "yuv420p", {"crf": "18"}),
    "mpeg4": ("mpeg4", "yuv420p", {"qmin": "2", "qmax": "2", "b": "20M"}),
    "vp9": ("libvpx-vp9", "yuv420p", {"crf": "20", "b": "0", "deadline": "realtime", "cpu-used": "6"}),
}
HARSH = {
    "x264": ("libx264", "yuv420p", {"crf": "30"}),
    "mpeg4": ("mpeg4", "yuv420p", {"qmin": "5", "qmax": "5", "b": "20M"}),
    "vp9": ("libvpx-vp9", "yuv420p", {"crf": "35", "b": "0", "deadline": "realtime", "cpu-used": "6"}),
}


def clip(frames: Any) -> Clip:
    return Clip(np.asarray(frames, np.uint8), Fraction(24))


def texture(sigma: float = 2.0, seed: int = 0, margin: int = 160) -> Any:
    """A smooth random texture, margin and all, in float32 [H, W, 3]."""
    shape = (SIZE[0] + margin, SIZE[1] + margin)
    blurred = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=shape), (0, 0), sigma)
    return (128 + 35 * blurred / blurred.std())[..., None].repeat(3, axis=-1).astype(np.float32)


def at(whole: Any, x: float) -> Any:
    """The window of `SIZE` that lies x pixels to the right and a third of that below."""
    move = np.array([[1, 0, 10 + x], [0, 1, 10 + x / 3]], np.float32)
    seen = cv2.warpAffine(whole, move, SIZE[::-1], flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)
    return np.clip(np.rint(seen), 0, 255).astype(np.uint8)


def panning(steps: Any, sigma: float = 2.0) -> Any:
    """A clip that pans by each of `steps` in turn, in pixels."""
    whole = texture(sigma)
    return np.stack([at(whole, x) for x in np.cumsum([0, *steps])])


def coded(frames: Any, codec: str, pixels: str, options: dict[str, str]) -> Any:
    """The frames as a codec leaves them."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream: Any = container.add_stream(codec, rate=24, options=options)
        stream.height, stream.width, stream.pix_fmt = *SIZE, pixels
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    file.seek(0)
    with av.open(file) as container:
        out = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert len(out) == len(frames)
    return out


def test_the_share_of_exact_repeats_is_counted() -> None:
    frames = panning([0, 2, 0, 0, 2, 2, 0, 2])
    for metric in (REPEATED_FRAMES, REPEATED_FRAMES_EXACT):
        found = metric.measure(clip(frames))
        assert found.value == 4 / 8 and found.reason == ""
        assert found.per_frame == (1, 0, 1, 1, 0, 0, 1, 0)


def test_a_still_repeats_and_noise_is_told_from_equality() -> None:
    still = panning([0] * 9)
    for metric in (REPEATED_FRAMES, REPEATED_FRAMES_EXACT):
        assert metric.measure(clip(still)).value == 1
    noisy = still.copy()
    noisy[4:] += np.random.default_rng(0).integers(0, 2, still[0].shape, dtype=np.uint8)  # a key frame, say
    within, exact = base.measure([REPEATED_FRAMES, REPEATED_FRAMES_EXACT], clip(noisy))
    assert within.value == 8 / 9 and within.per_frame[3] == NEW, "half a level brighter is another light"
    noisy[4:] = still[4:] + np.random.default_rng(0).integers(-1, 2, still[0].shape).astype(np.int16)
    within, exact = base.measure([REPEATED_FRAMES, REPEATED_FRAMES_EXACT], clip(noisy))
    assert within.value == 1 and within.per_frame == (*[EXACT] * 3, NOISE, *[EXACT] * 5)
    assert exact.value == 8 / 9 and exact.per_frame == (1, 1, 1, 0, 1, 1, 1, 1, 1)


def test_one_frame_repeats_none() -> None:
    for metric in (REPEATED_FRAMES, REPEATED_FRAMES_EXACT):
        found = metric.measure(clip(panning([])))
        assert math.isnan(found.value) and found.reason == "a single frame repeats none"


@pytest.mark.parametrize("hold", [2, 3, 4])
@pytest.mark.parametrize("speed", [0.5, 2.0])
def test_held_frames_are_found_where_the_codec_is_gentle(speed: float, hold: int) -> None:
    steps = [speed if t % hold == hold - 1 else 0 for t in range(19)]
    held = np.array(steps) == 0
    for name, how in GENTLE.items():
        found = repeats.repeats(coded(panning(steps), *how)) > 0
        assert not found[~held].any(), (name, "a motion is called a repeat")
        # A step at either end has motion on one side only.
        assert found[hold:-hold][held[hold:-hold]].mean() >= 0.75, name


@pytest.mark.parametrize("name", HARSH)
def test_most_held_frames_are_found_where_it_is_not(name: str) -> None:
    steps = [2.0 if t % 3 == 2 else 0 for t in range(23)]
    held = np.array(steps) == 0
    found = repeats.repeats(coded(panning(steps), *HARSH[name])) > 0
    assert not found[~held].any()
    assert found[held].mean() > 0.5


@pytest.mark.parametrize("name", HARSH)
@pytest.mark.parametrize("speed", [0.25, 0.5, 1, 2, 4])
def test_a_small_motion_is_no_repeat(name: str, speed: float) -> None:
    frames = panning([speed] * 15)
    assert not repeats.repeats(frames).any()
    for how in (GENTLE[name], HARSH[name]):
        assert not repeats.repeats(coded(frames, *how)).any()


def test_a_small_object_that_moves_is_no_repeat() -> None:
    ground = at(texture(3), 0)
    frames = ground[None].repeat(15, axis=0)
    for t, frame in enumerate(frames):
        frame[40:52, 20 + t : 32 + t] = (200, 60, 60)
    assert not repeats.repeats(frames).any()
    for how in GENTLE.values():
        assert not repeats.repeats(coded(frames, *how)).any()


def test_light_that_changes_and_grain_are_no_repeats() -> None:
    still = at(texture(), 0).astype(float)
    brighter = np.stack([still + t for t in range(12)])
    flatter = np.stack([128 + (still - 128) * 0.98**t for t in range(12)])
    grain = np.stack([still + np.random.default_rng(t).normal(0, 3, still.shape) for t in range(12)])
    for frames in (brighter, flatter, grain):
        assert not repeats.repeats(np.clip(np.rint(frames), 0, 255).astype(np.uint8)).any()


def test_what_speeds_up_slows_down_or_is_cut_has_no_repeats() -> None:
    speeds = 0.2 + 4 * np.linspace(0, 1, 20) ** 2
    assert not repeats.repeats(panning(speeds)).any() and not repeats.repeats(panning(speeds[::-1])).any()
    frames = panning([0.5] * 20)
    frames[10:] = 255 - frames[10:]
    assert not repeats.repeats(frames).any()


@given(arrays(np.uint8, st.tuples(st.integers(2, 12), st.integers(1, 20), st.integers(1, 40), st.just(3))))
def test_properties_on_any_clip(frames: Any) -> None:
    within, exact = base.measure([REPEATED_FRAMES, REPEATED_FRAMES_EXACT], clip(frames))
    assert len(within.per_frame) == len(exact.per_frame) == len(frames) - 1
    assert 0 <= exact.value <= within.value <= 1
    equal = [np.array_equal(a, b) for a, b in zip(frames, frames[1:], strict=False)]
    assert [kind == EXACT for kind in within.per_frame] == equal and exact.value == np.mean(equal)
    twice = base.measure([REPEATED_FRAMES_EXACT], clip(frames.repeat(2, axis=0)))[0]
    assert twice.per_frame[::2] == (1,) * len(frames)
    backwards = REPEATED_FRAMES_EXACT.measure(clip(frames[::-1]))
    assert backwards.per_frame == exact.per_frame[::-1]


def test_the_derived_metric_is_what_the_common_pass_says() -> None:
    frames = clip(panning([0, 1, 0, 2, 0]))
    together = base.measure([REPEATED_FRAMES, REPEATED_FRAMES_EXACT], frames)
    assert together == [metric.measure(frames) for metric in (REPEATED_FRAMES, REPEATED_FRAMES_EXACT)]
    assert REPEATED_FRAMES.direction == REPEATED_FRAMES_EXACT.direction == "none"


def test_it_streams() -> None:
    """Only the blocks of seven steps are kept, whatever the length."""
    seen = repeats.Repeats()
    for frame in panning([1.0] * 40):
        seen.add(frame)
    assert len(seen._near) <= 2 * repeats.REACH + 1
    assert len(seen.end()) == 40


def test_frames_may_lie_in_memory_as_they_like() -> None:
    frames = panning([0, 0.5, 0, 0.5, 0, 1])
    np.testing.assert_array_equal(repeats.repeats(frames[:, ::-1]), repeats.repeats(frames[:, ::-1].copy()))


@pytest.mark.parametrize("factor", [2, 3])
def test_a_larger_picture_of_the_same_is_told_the_same(factor: int) -> None:
    """Each pixel as a square: what counts is the part of the picture, not its pixels."""
    frames = np.pad(panning([0, 2, 0, 0.5, 0, 0, 4, 0.25]), ((0, 0), (144, 144), (144, 144), (0, 0)), mode="edge")
    assert min(frames.shape[1:3]) == repeats.SIDE
    large = frames.repeat(factor, axis=1).repeat(factor, axis=2)
    np.testing.assert_array_equal(repeats.repeats(large), repeats.repeats(frames))


@pytest.mark.parametrize("size", [(1, 1), (15, 17), (16, 16), (577, 600)])
def test_any_size(size: tuple[int, int]) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (4, *size, 3), dtype=np.uint8)
    frames[2] = frames[1]
    assert repeats.repeats(frames).tolist() == [NEW, EXACT, NEW]
