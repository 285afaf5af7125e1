"""Recipes end to end at a tiny size: what they write, that they repeat, and that a kill changes nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from flashbench.cascade import training
from flashbench.cascade.codec import latent_shape
from flashbench.data.synthetic import synthetic_clip
from flashbench.errors import InvalidError, UsageError
from flashbench.laptop import recipes

MATERIAL = {"material": "synthetic", "clips": 4, "frames": 5, "size": 64}
NETWORK: dict[str, Any] = {"heads": 1, "layers": 1, "time_embed_dim": 16, "crop": 32, "batch": 2}
Make = Callable[..., Path]


def silent(done: int, total: int, text: str) -> None:
    pass


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Build a recipe and return its folder; a folder that exists is returned as it is."""
    root = tmp_path_factory.mktemp("recipes")

    def build(name: str, settings: dict[str, Any], replica: int = 0, report: Any = silent, **inputs: Path) -> Path:
        out, state = root / name, root / f"{name}.state"
        if (out / "config.json").exists():
            return out
        out.mkdir(exist_ok=True)
        state.mkdir(exist_ok=True)
        recipes.build(settings, inputs=inputs, out=out, state=state, replica=replica, report=report)
        return out

    return build


@pytest.fixture(scope="module")
def inputs(make: Make) -> dict[str, Path]:
    codec = make("codec", {"kind": "codec", "channels": 16, **MATERIAL})
    return {"codec": codec, "pool": make("pool", {"kind": "pool", **MATERIAL}, codec=codec)}


def digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(path.name.encode() + path.read_bytes() for path in files)).hexdigest()


@pytest.mark.parametrize("kind", ["flow", "regression"])
def test_training_repeats_bit_for_bit(make: Make, inputs: dict[str, Path], kind: str) -> None:
    settings = {"kind": kind, "steps": 3, **NETWORK}
    first, second = (make(f"{kind}{n}", settings, **inputs) for n in (1, 2))
    assert digest(first) == digest(second)
    assert digest(make(f"{kind} replica", settings, replica=1, **inputs)) != digest(first)
    assert str(first.parent) not in (first / "config.json").read_text(), "no path of this machine in an artifact"


def test_training_goes_on_from_its_checkpoint_bit_for_bit(
    make: Make, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"kind": "flow", "steps": 6, **NETWORK}
    whole = make("whole", settings, **inputs)
    monkeypatch.setattr(training.loop, "CHECKPOINT_SECONDS", 0.0)
    made: list[int] = []

    def killed(done: int, total: int, text: str) -> None:
        made.append(done)
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make("killed", settings, report=killed, **inputs)
    assert digest(make("killed", settings, report=lambda done, *rest: made.append(done), **inputs)) == digest(whole)
    assert made == [1, 2, 3, 3, 4, 5, 6]


def test_a_checkpoint_of_other_settings_is_not_continued(inputs: dict[str, Path], tmp_path: Path, make: Make) -> None:
    state = tmp_path / "state"
    state.mkdir()
    for number, steps in enumerate((2, 3)):
        out = tmp_path / str(number)
        out.mkdir()
        settings = {"kind": "flow", "steps": steps, **NETWORK}
        recipes.build(settings, inputs=inputs, out=out, state=state, replica=0, report=silent)
    assert digest(tmp_path / "1") == digest(make("fresh", {"kind": "flow", "steps": 3, **NETWORK}, **inputs))


def test_training_goes_on_from_another_network(make: Make, inputs: dict[str, Path]) -> None:
    wide = make("wide", {"kind": "flow", "steps": 2, **NETWORK}, **inputs)
    narrow = make(
        "narrow",
        {"kind": "flow", "steps": 0, "degradation_low": 650, "degradation_high": 750, **NETWORK},
        init=wide,
        **inputs,
    )
    for name, value in load_file(wide / "diffusion_pytorch_model.safetensors").items():
        assert torch.equal(value, load_file(narrow / "diffusion_pytorch_model.safetensors")[name])
    assert str(wide.parent) not in (narrow / "config.json").read_text()


def test_loss_falls_on_one_clip(make: Make, inputs: dict[str, Path]) -> None:
    folder = make("overfit", {"kind": "regression", "steps": 40, "degradation": "none", **NETWORK}, **inputs)
    losses = load_file(folder / "losses.safetensors")["losses"]
    assert len(losses) == 40
    assert losses[-10:].mean() < 0.9 * losses[:5].mean()


def test_untrained_network_is_seeded_and_leaves_the_global_generator_alone(make: Make, inputs: dict[str, Path]) -> None:
    before = torch.random.get_rng_state()
    folder = make("untrained", {"kind": "flow", "steps": 0, **NETWORK}, **inputs)
    assert torch.equal(before, torch.random.get_rng_state())
    network = recipes.load_network(folder)
    assert not network.training
    assert torch.tensor(network.config.moments).shape == (3, 16)


def test_enhance_is_a_function_of_its_arguments(make: Make, inputs: dict[str, Path]) -> None:
    network = recipes.load_network(make("untrained", {"kind": "flow", "steps": 0, **NETWORK}, **inputs))
    codec, low = recipes.load_codec(inputs["codec"]), synthetic_clip(5, 13, 21, 0)
    shape = latent_shape(network.config.in_channels, codec.stride, 5, 48, 80)
    assert shape == (1, 2, 16, 6, 10)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    options: dict[str, Any] = {"nfe": 3, "degradation_step": 675, "noise": noise}
    frames, evaluations = recipes.enhance(network, codec, low, 48, 80, **options)
    assert frames.shape == (5, 48, 80, 3) and frames.dtype == np.uint8 and evaluations == 3
    assert np.array_equal(frames, recipes.enhance(network, codec, low, 48, 80, **options)[0])
    other = recipes.enhance(network, codec, low, 48, 80, **(options | {"degradation_step": 850}))[0]
    assert not np.array_equal(frames, other)
    with pytest.raises(UsageError, match="multiples of 16"):
        recipes.enhance(network, codec, low, 52, 80, **options)


def test_regression_is_one_evaluation(make: Make, inputs: dict[str, Path]) -> None:
    network = recipes.load_network(make("regression1", {"kind": "regression", "steps": 3, **NETWORK}, **inputs))
    frames, evaluations = recipes.regress(
        network, recipes.load_codec(inputs["codec"]), synthetic_clip(5, 16, 16, 0), 64, 64
    )
    assert frames.shape == (5, 64, 64, 3) and evaluations == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "flows"}, "unknown kind of recipe 'flows'"),
        ({"kind": "flow", "step": 3}, "unknown setting of a flow recipe 'step'"),
        ({"kind": "pool", "material": "sythetic"}, "unknown material 'sythetic'"),
        ({"kind": "flow", "degradation": "pixels"}, "unknown degradation of a flow recipe 'pixels'"),
        ({"kind": "regression", "degradation": "pixel+latent"}, "unknown degradation of a regression recipe"),
        ({"kind": "flow", "crop": 40}, "crop 40 is not a multiple of 16"),
    ],
)
def test_wrong_settings_are_refused(
    settings: dict[str, Any], message: str, inputs: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message.replace("+", r"\+")):
        recipes.build(settings, inputs=inputs, out=tmp_path, state=tmp_path, replica=0, report=silent)


def test_a_loss_that_is_not_finite_stops_the_training(make: Make, inputs: dict[str, Path]) -> None:
    with pytest.raises(InvalidError, match="the loss of step"):
        make("diverged", {"kind": "flow", "steps": 30, "learning_rate": 1e30, **NETWORK}, **inputs)
