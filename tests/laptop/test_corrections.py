"""Corrections without training: the codec's own loss, back-projection, and the mean over places of its grid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from flashbench import systems
from flashbench.cascade import degrade
from flashbench.cascade.codec import to_frames, to_tensor
from flashbench.data.synthetic import synthetic_clip
from flashbench.errors import InvalidError, UsageError
from flashbench.laptop import recipes
from flashbench.laptop.corrections import (
    FILE,
    Corrections,
    back_project,
    codec_residual,
    over_shifts,
    pattern,
)
from flashbench.laptop.klt import BLOCK, KLTCodec
from flashbench.laptop.settings import SHIFTS, padded
from flashbench.systems.base import Request, counted_evaluations, resolve
from flashbench.systems.inputs import low as low_of
from flashbench.types import Case, Clip, Geometry

BOTH = Corrections(codec_residual=True, back_projection=True)


def clip(side: int = 64, variant: int = 0) -> Tensor:
    return to_tensor(synthetic_clip(5, side, side, variant))


def klt(channels: int) -> KLTCodec:
    clips = (synthetic_clip(5, 64, 64, variant) for variant in range(3))
    return KLTCodec.fit(clips, channels=channels, scale=1.0, blocks=256, seed=0)


def shrunk(frames: Tensor, side: int) -> Tensor:
    return degrade.resize(frames, side, side, "bicubic")


# --- the codec's own loss ---------------------------------------------------------------------------------------------


def test_a_lossless_codec_has_no_residual() -> None:
    whole = KLTCodec(torch.zeros(BLOCK), torch.eye(BLOCK), torch.linspace(0.5, 2, BLOCK))
    assert codec_residual(whole, clip()).abs().max() < 1e-5
    decoded = torch.rand(1, 3, 5, 64, 64)
    corrected = Corrections(codec_residual=True)(lambda *_: decoded, whole, clip(), clip(16))
    torch.testing.assert_close(corrected, decoded, atol=1e-5, rtol=0)


def test_a_network_that_changes_nothing_gives_the_enlarged_clip_back_whatever_the_codec_loses() -> None:
    """decode(encode(up)) + (up - decode(encode(up))) = up: only what the network changes passes through the codec."""
    codec, up = klt(4), clip()
    decoded = codec.decode(codec.encode(up))
    assert (decoded - up).abs().max() > 0.1
    corrected = Corrections(codec_residual=True)(lambda *_: decoded, codec, up, clip(16))
    torch.testing.assert_close(corrected, up, atol=1e-6, rtol=0)


# --- back-projection --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("variant", [0, 1, 2])
def test_back_projection_brings_the_reduction_near_to_the_low_clip(scale: int, variant: int) -> None:
    """The error left is (1 - SU)(low - S x): small at every turn, and next to nothing for what varies slowly."""
    low, frames = shrunk(clip(variant=variant), 64 // scale), torch.zeros(1, 3, 5, 64, 64)
    errors = []
    for _ in range(4):
        errors.append(float((low - shrunk(frames, 64 // scale)).square().mean().sqrt()))
        frames = back_project(frames, low)
    assert errors[1] < 0.25 * errors[0] and errors == sorted(errors, reverse=True) and errors[3] < 0.1 * errors[0]


def test_back_projection_corrects_what_is_smooth_to_first_order() -> None:
    grid = torch.linspace(0, 2 * torch.pi, 65)[:64]
    wave = 0.3 * torch.sin(grid)[None, None, None, :, None] * torch.cos(grid) * torch.ones(1, 3, 5, 1, 1)
    frames, low = clip(), shrunk(clip(), 16)
    left = shrunk(back_project(frames + wave, low), 16) - low
    assert left[..., 2:-2, 2:-2].abs().max() < 0.03 * 0.3


def test_frames_whose_reduction_is_the_low_clip_stay() -> None:
    frames = clip()
    assert torch.equal(back_project(frames, shrunk(frames, 16)), frames)
    assert torch.equal(back_project(frames, shrunk(frames, 32)), frames)


def test_back_projection_is_affine_and_takes_any_size() -> None:
    """P(w x + (1 - w) y) = w P(x) + (1 - w) P(y) for one low clip of sides that divide nothing."""
    one, two = clip(), clip(variant=1)
    low = degrade.resize(clip(variant=2), 13, 21, "bicubic")
    both = 0.3 * back_project(one, low) + 0.7 * back_project(two, low)
    torch.testing.assert_close(back_project(0.3 * one + 0.7 * two, low), both, atol=1e-5, rtol=0)


# --- what a model says of its clips -----------------------------------------------------------------------------------


def test_no_corrections_write_no_file_and_change_nothing(tmp_path: Path) -> None:
    Corrections().write(tmp_path)
    assert not list(tmp_path.iterdir()) and Corrections.read(tmp_path) == Corrections()
    frames = clip()
    assert Corrections()(lambda *_: frames, klt(4), clip(variant=1), clip(16)) is frames


@pytest.mark.parametrize("chosen", [BOTH, Corrections(codec_residual=True), Corrections(back_projection=True)])
def test_corrections_are_read_as_they_were_written(chosen: Corrections, tmp_path: Path) -> None:
    chosen.write(tmp_path)
    assert Corrections.read(tmp_path) == chosen == Corrections.of(chosen._asdict() | {"kind": "flow"})
    assert json.loads((tmp_path / FILE).read_text()) == chosen._asdict()


@pytest.mark.parametrize("text", ["{", '{"back_projektion": true}', "3"])
def test_a_damaged_file_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(InvalidError, match="is damaged"):
        Corrections.read(tmp_path)


# --- the systems ------------------------------------------------------------------------------------------------------

GEOMETRY = Geometry(frames=5, height=64, width=64, fps=8, scale=4)
NETWORK: dict[str, Any] = {"heads": 1, "layers": 1, "time_embed_dim": 16, "crop": 32, "batch": 2, "steps": 0}
MATERIAL: dict[str, Any] = {"material": "synthetic", "clips": 3, "frames": 5, "size": 64}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An untrained network of each kind without corrections, and `KIND corrected` that goes on from it for no step."""
    root = tmp_path_factory.mktemp("models")

    def build(name: str, chosen: dict[str, Any], **inputs: Path) -> Path:
        (root / name).mkdir()
        state = root / f"{name}.state"
        recipes.build(chosen, inputs=inputs, out=root / name, state=state, replica=0, report=lambda *said: None)
        return root / name

    made = {"codec": build("codec", {"kind": "codec", "channels": 8, **MATERIAL})}
    inputs = made | {"pool": build("pool", {"kind": "pool", **MATERIAL}, **made)}
    for kind in ("flow", "regression", "vanilla"):
        made[kind] = build(kind, {"kind": kind, **NETWORK}, **inputs)
        corrected = {"kind": kind, **NETWORK, **BOTH._asdict()}
        made[f"{kind} corrected"] = build(f"{kind} corrected", corrected, init=made[kind], **inputs)
    return made


def request(models: dict[str, Path], system: str, **settings: Any) -> Request:
    return Request(
        case=Case(id="synthetic-0/0", cluster="synthetic-0", seed=0, source="synthetic-0", low={}),
        settings=resolve(systems.get(system), settings),
        geometry=GEOMETRY,
        reference=Clip(synthetic_clip(5, 64, 64, 0), GEOMETRY.fps),
        models=models,
    )


def made(models: dict[str, Path], system: str, **settings: Any) -> np.ndarray:
    return systems.get(system).make(request(models, system, **settings)).frames


@pytest.mark.parametrize(
    ("system", "kind", "settings"),
    [("flashvideo", "flow", {"nfe": 2}), ("l1", "regression", {}), ("vanilla", "vanilla", {"nfe": 2})],
)
def test_a_recipes_corrections_reach_its_clips(
    models: dict[str, Path], system: str, kind: str, settings: dict[str, Any]
) -> None:
    """The clip of the corrected model is the plain one's, corrected: up to what rounding to 8 bits takes from it."""
    plain = made(models, system, training=kind, **settings)
    corrected = made(models, system, training=f"{kind} corrected", **settings)
    assert not np.array_equal(plain, corrected)
    small = to_tensor(low_of(request(models, system, **settings)))
    up, codec = degrade.resize(small, 64, 64), recipes.load_codec(models["codec"])
    again = to_frames(BOTH(lambda *_: to_tensor(plain), codec, up, small))
    inside = (plain > 0) & (plain < 255)
    assert np.abs(again.astype(int) - corrected)[inside].mean() < 1

    def error(frames: np.ndarray) -> float:
        return float((shrunk(to_tensor(frames), 16) - small).square().mean())

    assert error(corrected) < error(plain)


def test_bicubic_with_back_projection_is_a_control(models: dict[str, Path]) -> None:
    plain, projected = made({}, "bicubic"), made({}, "bicubic_back_projection")
    small = to_tensor(low_of(request({}, "bicubic")))

    def error(frames: np.ndarray) -> float:
        return float((shrunk(to_tensor(frames), 16) - small).square().mean())

    assert error(projected) < 0.5 * error(plain)


# --- places of the codec's grid ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shifts", SHIFTS)
def test_what_no_grid_changes_stays(shifts: int) -> None:
    """Frames that no place changes stay as they are, whatever is repeated around them."""
    frames = clip()
    seen: list[tuple[int, ...]] = []

    def same(shifted: Tensor, number: int) -> Tensor:
        seen.append(tuple(shifted.shape[-2:]))
        assert number == len(seen) - 1
        return shifted

    torch.testing.assert_close(over_shifts(same, frames, shifts, 8), frames)
    side = padded(frames.shape[-1], shifts, 8)
    assert seen == [(side, side)] * shifts and side % 8 == 0


def test_a_pattern_of_the_grid_averages_out() -> None:
    """A pattern that changes its sign with each half of a block vanishes over four places, and stays at one."""
    frames = clip()

    def patterned(shifted: Tensor, number: int) -> Tensor:
        half = (torch.arange(shifted.shape[-1]) // 4) % 2 * 2.0 - 1
        return shifted + 0.1 * half

    assert (over_shifts(patterned, frames, 1, 8) - frames).abs().min() == pytest.approx(0.1, abs=1e-6)
    torch.testing.assert_close(over_shifts(patterned, frames, 4, 8), frames)


def test_what_repeats_at_every_place_is_taken_out() -> None:
    """A pattern of half a block is the same at all places: their mean keeps it."""
    frames, tile = clip(), torch.tensor([[2.0, -1, -1, 0], [-1, 0, 1, 0], [-1, 1, 0, 0], [0, 0, 0, 0]])

    def patterned(shifted: Tensor, number: int) -> Tensor:
        return shifted + 0.1 * tile.repeat(*(side // 4 for side in shifted.shape[-2:]))

    torch.testing.assert_close(over_shifts(patterned, frames, 4, 8), frames)


def test_a_pattern_is_found_and_what_does_not_repeat_is_not() -> None:
    tile = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    tile -= tile.mean()
    repeated = tile.repeat(8, 12).expand(2, 3, 5, 32, 48)
    torch.testing.assert_close(pattern(repeated, 4), repeated)
    ramp = (torch.arange(32.0)[:, None] + 2 * torch.arange(48.0)).expand(2, 3, 5, 32, 48)
    torch.testing.assert_close(pattern(ramp, 4)[..., 8:-8, 8:-8], torch.zeros(2, 3, 5, 16, 32), atol=1e-4, rtol=0)
    noise = torch.randn((2, 3, 5, 32, 48), generator=torch.Generator().manual_seed(1))
    assert pattern(noise, 4).square().mean() < 0.2 * noise.square().mean()
    assert pattern(noise, 4).mean((-2, -1)).abs().max() < 0.05


@pytest.mark.parametrize(
    ("system", "kind", "settings"),
    [("flashvideo", "flow", {"nfe": 2}), ("l1", "regression", {}), ("vanilla", "vanilla", {"nfe": 2})],
)
def test_systems_average_over_places_and_count_all_evaluations(
    models: dict[str, Path], system: str, kind: str, settings: dict[str, Any]
) -> None:
    training = f"{kind} corrected"
    one, four = (made(models, system, training=training, shifts=shifts, **settings) for shifts in (1, 4))
    assert one.shape == four.shape and not np.array_equal(one, four)
    chosen = resolve(systems.get(system), {"training": training, "shifts": 4, **settings})
    with counted_evaluations() as counted:
        systems.get(system).make(request(models, system, training=training, shifts=4, **settings))
    assert counted[0] == systems.get(system).evaluations(chosen) == 4 * settings.get("nfe", 1)
    with pytest.raises(UsageError, match="shifts is 3"):
        systems.get(system).check(chosen | {"shifts": 3}, GEOMETRY)


def test_each_place_has_noise_of_its_own(models: dict[str, Path]) -> None:
    network, codec = recipes.load_network(models["flow"]), recipes.load_codec(models["codec"])
    low, shape = synthetic_clip(5, 16, 16, 0), recipes.noise_shape(8, codec, 5, 64, 64, 4)
    assert shape == (4, 2, 8, 10, 10) and recipes.noise_shape(8, codec, 5, 64, 64) == (1, 2, 8, 8, 8)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))

    def enhanced(noise: Tensor) -> np.ndarray:
        options: dict[str, Any] = {"nfe": 1, "degradation_step": 675, "noise": noise, "shifts": 4}
        return recipes.enhance(network, codec, low, 64, 64, **options)[0]

    first = enhanced(noise)
    for place in range(4):
        other = noise.clone()
        other[place] += 1
        assert not np.array_equal(enhanced(other), first)
    with pytest.raises(UsageError, match="noise of shape"):
        enhanced(noise[..., :8])
