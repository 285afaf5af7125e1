"""The convolution path, the loss in pixels, and the other settings of Stage II's recipes that came with them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from flashbench import keys, systems
from flashbench.cascade import degrade, precondition, training
from flashbench.cascade.codec import latent_shape
from flashbench.cascade.training import Batch, Phase, Training, flow_loss, generator, l1_loss
from flashbench.cascade.transformer import Stage2Transformer
from flashbench.data.synthetic import synthetic_clip
from flashbench.errors import InvalidError, UsageError
from flashbench.laptop import recipes, settings
from flashbench.laptop.convolution import ConvolutionalTransformer, ConvolutionalVanilla, ConvolutionPath
from flashbench.laptop.klt import KLTCodec
from flashbench.laptop.vanilla import VanillaTransformer, closed_form
from flashbench.planning import networks
from flashbench.protocol.compose import load_protocol
from flashbench.systems.base import counted_evaluations, resolve
from flashbench.types import Geometry

MOMENTS = torch.tensor([[4.0, 9.0, 1.0], [3.0, 8.0, 0.5], [2.0, 6.0, -0.3]])
"""E[H^2], E[L^2] and E[HL] of three channels."""
OPTIONS: dict[str, Any] = {
    "num_attention_heads": 1,
    "num_layers": 1,
    "time_embed_dim": 16,
    "text_embed_dim": 8,
    "max_text_seq_length": 1,
}
MATERIAL: dict[str, Any] = {"material": "synthetic", "clips": 4, "frames": 5, "size": 64}
NETWORK: dict[str, Any] = {"heads": 1, "layers": 1, "time_embed_dim": 16, "crop": 32, "batch": 2}
NEW: dict[str, Any] = {
    "degradation_low": 0,
    "degradation_high": 200,
    "convolution": 8,
    "loss_units": "pixel",
    "warmup": 3,
    "cosine_from": 0.3,
    "ema": 0.995,
    "codec_residual": True,
    "back_projection": True,
}
"""The settings of the recipe that the tier's showcase is meant to have, but for size and steps."""
LOW: dict[str, Any] = {
    "blur_sigma": [0.3, 1.0],
    "noise_sigma": [0.0, 3.0],
    "jpeg_quality": [80, 95],
    "mild_probability": 0.5,
}
Make = Callable[..., Path]


def seeded(kind: Any, **more: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind(**OPTIONS, **more).eval()


def called(network: Any, x: Tensor, time: Tensor, step: Tensor) -> Tensor:
    context = torch.zeros(len(x), 1, 8)
    out: Tensor = network(x, context, 1000 - 1000 * time, step).sample
    return out


def pair(kind: str) -> tuple[Any, Any]:
    """A network without the path and one with it, of the same seed."""
    if kind == "flow":
        known: dict[str, Any] = {"in_channels": 3, "out_channels": 6, "moments": MOMENTS.tolist()}
        return seeded(Stage2Transformer, **known), seeded(ConvolutionalTransformer, convolution=5, **known)
    known = {"in_channels": 6, "out_channels": 9, **closed_form(MOMENTS, 1.0)}
    return seeded(VanillaTransformer, **known), seeded(ConvolutionalVanilla, convolution=5, **known)


def inputs_of(kind: str) -> tuple[Tensor, Tensor, Tensor]:
    draw = generator(0, "inputs", 0)
    x = torch.randn(2, 2, 6 if kind == "vanilla" else 3, 4, 6, generator=draw)
    return x, torch.tensor([0.2, 0.9]), torch.tensor([0, 0] if kind == "vanilla" else [0, 500])


# --- the path ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("kind", ["flow", "vanilla"])
def test_an_untrained_path_changes_no_bit(kind: str) -> None:
    plain, network = pair(kind)
    for name, value in plain.named_parameters():
        assert torch.equal(value, network.get_parameter(name)), "the path's weights are drawn after the others"
    assert torch.equal(called(plain, *inputs_of(kind)), called(network, *inputs_of(kind)))


@torch.no_grad()
@pytest.mark.parametrize("kind", ["flow", "vanilla"])
def test_the_path_is_added_in_the_preconditioner(kind: str) -> None:
    """A path that gives 1 everywhere moves the velocity by g, and the condition's velocity by nothing."""
    plain, network = pair(kind)
    network.path.leave.bias.fill_(1)
    x, time, step = inputs_of(kind)
    table = torch.tensor(network.config.moments)[:, :3]
    g = precondition.coefficients(table, time, step).g.expand(2, 2, 3, 4, 6)
    moved = called(network, x, time, step) - called(plain, x, time, step)
    torch.testing.assert_close(moved[:, :, :3], g, atol=1e-5, rtol=1e-5)
    assert not moved[:, :, 3:].any()


@torch.no_grad()
def test_the_path_sees_a_neighbourhood_in_its_frame_and_the_next() -> None:
    """Three 3x3 convolutions reach three latent pixels, in the frames beside too, and no other frame or sample."""
    path = random_path()
    x = torch.randn(2, 4, 4, 12, 12, generator=generator(0, "x", 0))
    other = x.clone()
    other[0, 1, :, 6, 6] += 1
    time, step = torch.tensor([3.0, 700.0]), torch.tensor([0.0, 20.0])
    changed = (path(other, time, step) - path(x, time, step)).abs().amax(2) > 0
    assert changed[0, 1, 3:10, 3:10].all()
    changed[0, 1, 3:10, 3:10] = False
    for beside in (0, 2):
        assert changed[0, beside, 3:10, 3:10].all()
        changed[0, beside, 3:10, 3:10] = False
    assert not changed.any()


@torch.no_grad()
def test_the_path_is_told_time_and_step_of_each_sample() -> None:
    path = random_path()
    x = torch.randn(1, 2, 4, 6, 6, generator=generator(0, "x", 0)).repeat(3, 1, 1, 1, 1)
    out = path(x, torch.tensor([100.0, 100.0, 900.0]), torch.tensor([0.0, 150.0, 0.0]))
    assert len({value.numpy().tobytes() for value in out}) == 3
    torch.testing.assert_close(out[1:2], path(x[:1], torch.tensor([100.0]), torch.tensor([150.0])))


def random_path() -> ConvolutionPath:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        path = ConvolutionPath(4, 4, 6, 16)
        for parameter in path.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return path


@torch.no_grad()
def test_a_forward_is_one_evaluation() -> None:
    for kind in ("flow", "vanilla"):
        with counted_evaluations() as counted:
            called(pair(kind)[1], *inputs_of(kind))
        assert counted[0] == 1


# --- the loss in pixels -----------------------------------------------------------------------------------------------


class Wrong:
    """A network with `MOMENTS` that errs by `error` (C, 1, 1) times g wherever it is asked."""

    def __init__(self, batch: Batch, error: Tensor, by_g: bool) -> None:
        self.batch, self.error, self.by_g = batch, error, by_g
        self.config = type("Config", (), dict(moments=MOMENTS.tolist(), max_text_seq_length=1, text_embed_dim=1))

    def __call__(self, hidden_states: Tensor, timestep: Tensor, degradation_step: Tensor, **rest: Any) -> Any:
        high, low = self.batch.high, self.batch.low
        assert low is not None
        g = precondition.coefficients(MOMENTS, 1 - timestep / 1000, degradation_step).g if self.by_g else 1.0
        return type("Out", (), {"sample": high - low + self.error * g})


def pairs() -> Batch:
    first, second = torch.randn(2, 4, 2, 3, 4, 4, generator=generator(0, "pairs", 0))
    return Batch(first, second)


POWER = (0.5, 2.0, 8.0)
CLEAN = Phase(name="clean", steps=1, degradation="pixel")


def test_the_weights_of_what_is_not_known_sum_to_one() -> None:
    """An error of the size of g in every channel, what an untrained network has, costs 1 in whatever units."""
    network: Any = Wrong(pairs(), torch.ones(3, 1, 1), by_g=True)
    for power in (POWER, tuple(100 * value for value in POWER), (1.0, 1.0, 1.0)):
        cost = flow_loss(network, network.batch, CLEAN, generator(0, "draw", 0), channel_power=power)
        assert float(cost) == pytest.approx(1, rel=1e-4)


def test_channels_count_by_their_power() -> None:
    costs = []
    for channel in range(3):
        network: Any = Wrong(pairs(), torch.eye(3)[channel].reshape(3, 1, 1), by_g=False)
        costs.append(float(flow_loss(network, network.batch, CLEAN, generator(0, "draw", 0), channel_power=POWER)))
    assert [cost / costs[0] for cost in costs] == pytest.approx([1, 4, 16], rel=1e-4)
    costs = []
    for channel in range(3):
        network = Wrong(pairs(), torch.eye(3)[channel].reshape(3, 1, 1), by_g=False)
        costs.append(float(l1_loss(network, network.batch, channel_power=POWER)))
    assert [cost / costs[0] for cost in costs] == pytest.approx([1, 2, 4], rel=1e-4)


def test_gain_to_the_minus_two_is_the_squared_error_in_pixels() -> None:
    """The codec's rows are orthonormal, so that its decoder scales the error of channel c by 1 / gain_c."""
    clips = (synthetic_clip(5, 64, 64, variant) for variant in range(3))
    codec = KLTCodec.fit(clips, channels=12, scale=3.0, blocks=256, seed=0)
    chosen = settings.resolve({"kind": "flow", "loss_units": "pixel"})[1]
    power = torch.tensor(recipes._channel_power("flow", chosen, codec)).float()
    latent, error = torch.randn(2, 1, 2, 12, 8, 8, generator=generator(0, "latent", 0))
    error[:, 0] = 0  # the first frame is the mean of its copies
    pixels = (codec.decode(latent + error) - codec.decode(latent)).square().sum()
    assert float(pixels) == pytest.approx(float((power.reshape(-1, 1, 1) * error.square()).sum()), rel=1e-4)
    assert recipes._channel_power("vanilla", chosen, codec) == 2 * recipes._channel_power("flow", chosen, codec)
    assert recipes._channel_power("flow", chosen | {"loss_units": "latent"}, codec) == ()


def test_wrong_channel_powers_are_refused() -> None:
    network: Any = Wrong(pairs(), torch.ones(3, 1, 1), by_g=True)
    with pytest.raises(UsageError, match="channel_power has 2 numbers for 3 channels"):
        flow_loss(network, network.batch, CLEAN, generator(0, "draw", 0), channel_power=(1.0, 2.0))
    for options, message in (
        ({"channel_power": (1.0, 0.0)}, "channel_power holds 0 or less"),
        ({"channel_power": ("a",)}, "channel_power of the training is"),
        ({"channel_power": 3.0}, "channel_power of the training is"),
        ({"channel_power": (1.0,), "objective": "v"}, "channel_power for objective v"),
    ):
        with pytest.raises(UsageError, match=message):
            Training(phases=(CLEAN,), **options)  # type: ignore[arg-type]
    assert Training(phases=(CLEAN,), channel_power=[1.0, 2]).channel_power == (1.0, 2)  # type: ignore[arg-type]


# --- recipes ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Build a recipe and return its folder; a folder that exists is returned as it is."""
    root = tmp_path_factory.mktemp("recipes")

    def build(name: str, chosen: dict[str, Any], report: Any = lambda *said: None, **inputs: Path) -> Path:
        out, state = root / name, root / f"{name}.state"
        if not (out / "config.json").exists():
            out.mkdir(exist_ok=True)
            recipes.build(chosen, inputs=inputs, out=out, state=state, replica=0, report=report)
        return out

    return build


@pytest.fixture(scope="module")
def inputs(make: Make) -> dict[str, Path]:
    codec = make("codec", {"kind": "codec", "channels": 16, **MATERIAL})
    return {"codec": codec, "pool": make("pool", {"kind": "pool", **MATERIAL}, codec=codec)}


def digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(path.name.encode() + path.read_bytes() for path in files)).hexdigest()


@pytest.mark.parametrize("kind", ["flow", "regression", "vanilla"])
def test_settings_at_their_first_values_train_the_same_bytes(make: Make, inputs: dict[str, Path], kind: str) -> None:
    plain = make(f"{kind} plain", {"kind": kind, "steps": 3, **NETWORK}, **inputs)
    spelt = make(f"{kind} spelt", {"kind": kind, "steps": 3, **NETWORK, **settings.ADDED[kind]}, **inputs)
    assert digest(plain) == digest(spelt)
    assert {path.name for path in plain.iterdir()} == {
        "config.json", "diffusion_pytorch_model.safetensors", "losses.safetensors",
    }  # fmt: skip
    config = json.loads((plain / "config.json").read_text())
    assert "convolution" not in config and config["_class_name"] in ("Stage2Transformer", "VanillaTransformer")


def new(kind: str, **more: Any) -> dict[str, Any]:
    own = NEW if kind == "flow" else {name: v for name, v in NEW.items() if not name.startswith("degradation")}
    return {"kind": kind, "steps": 6, **NETWORK, **own, **more}


@pytest.mark.parametrize("kind", ["flow", "regression", "vanilla"])
def test_a_new_recipe_resumes_bit_for_bit(
    make: Make, inputs: dict[str, Path], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make(f"{kind} whole", new(kind), **inputs)
    monkeypatch.setattr(training.loop, "CHECKPOINT_SECONDS", 0.0)

    def killed(done: int, total: int, text: str) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(f"{kind} killed", new(kind), report=killed, **inputs)
    assert digest(make(f"{kind} killed", new(kind), **inputs)) == digest(whole)


@pytest.mark.parametrize("kind", ["flow", "regression", "vanilla"])
def test_a_new_recipe_is_saved_whole(make: Make, inputs: dict[str, Path], kind: str) -> None:
    folder = make(f"{kind} whole", new(kind), **inputs)
    network: Any = (recipes.load_vanilla if kind == "vanilla" else recipes.load_network)(folder)
    saved = load_file(folder / "diffusion_pytorch_model.safetensors")
    assert saved.keys() == network.state_dict().keys()
    assert saved["path.leave.weight"].abs().max() > 0, "the path was trained"
    assert network.config.convolution == 8 and not network.training
    assert recipes.load_corrections(folder) == (True, True)
    assert str(folder.parent) not in (folder / "config.json").read_text()


def test_each_setting_moves_the_training(make: Make, inputs: dict[str, Path]) -> None:
    base = {"kind": "flow", "steps": 3, **NETWORK}
    digests = {digest(make("flow plain", base, **inputs))}
    for name in ("convolution", "loss_units", "warmup", "cosine_from", "codec_residual", "back_projection"):
        digests.add(digest(make(f"with {name}", base | {name: NEW[name]}, **inputs)))
    assert len(digests) == 7


@pytest.mark.parametrize("scale", [2, 4])
def test_the_showcase_recipe_end_to_end(make: Make, inputs: dict[str, Path], scale: int) -> None:
    """A pool degraded as the tier's low clips are, at x2 and x4; the loss falls, and clips have the asked size."""
    pool = make(f"pool {scale}", {"kind": "pool", "scale": scale, "low": LOW, **MATERIAL}, codec=inputs["codec"])
    folder = make(f"x{scale}", new("flow", steps=40), codec=inputs["codec"], pool=pool)
    losses = load_file(folder / "losses.safetensors")["losses"]
    assert losses[-10:].mean() < losses[:10].mean()
    network, codec = recipes.load_network(folder), recipes.load_codec(inputs["codec"])
    noise = torch.randn(latent_shape(16, codec.stride, 5, 64, 64), generator=generator(0, "noise", 0))
    low = synthetic_clip(5, 64 // scale, 64 // scale, 7)
    frames, count = recipes.enhance(
        network, codec, low, 64, 64, nfe=2, degradation_step=0, noise=noise,
        corrections=recipes.load_corrections(folder),
    )  # fmt: skip
    assert frames.shape == (5, 64, 64, 3) and count == 2 and frames.std() > 10


def test_a_pool_is_degraded_by_its_own_fields(make: Make, inputs: dict[str, Path]) -> None:
    def low(name: str, **more: Any) -> tuple[Tensor, Tensor]:
        found = load_file(make(name, {"kind": "pool", **MATERIAL, **more}, codec=inputs["codec"]) / "pool.safetensors")
        return found["low.none"], found["low.pixel"]

    plain, mild = low("pool"), low("pool 4", scale=4, low=LOW)
    assert torch.equal(plain[0], mild[0]) and not torch.equal(plain[1], mild[1])
    only = low("resized", low={"mild_probability": 1.0, "last_kernel": "bilinear"})
    assert torch.equal(only[1], only[0]), "mild alone is no degradation"


def test_photographs_and_scenes_come_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flashbench.data.material.training_clips", lambda count, *shape: iter(["photograph"] * count))
    monkeypatch.setattr(recipes, "scene_clip", lambda scene, number, *shape: f"scene {number}")
    both = {"material": "sources+scenes", "clips": 4, "frames": 5, "size": 64, "seed": 0, "contrast": 18.0}
    assert list(recipes._clips(both)) == ["photograph", "scene 0", "photograph", "scene 1"]
    with pytest.raises(UsageError, match="5 clips are not as many of sources as of scenes"):
        recipes._clips(both | {"clips": 5})


@pytest.mark.parametrize(
    ("low", "message"),
    [
        ({"blur_sigmas": [0.3, 1.0]}, "unknown field of a pixel degradation 'blur_sigmas'"),
        ({"blur_sigma": 1.0}, "blur_sigma of a pixel degradation is 1.0"),
        ({"blur_sigma": [1.0, 0.3]}, "blur_sigma of a pixel degradation is"),
        ({"noise_sigma": [-1, 3]}, "noise_sigma of a pixel degradation is"),
        ({"jpeg_quality": [80.0, 95.0]}, "jpeg_quality of a pixel degradation is"),
        ({"mild_probability": 2}, "mild_probability of a pixel degradation is 2"),
        ({"last_kernel": "lanczos"}, "last_kernel of a pixel degradation is 'lanczos'"),
        ({"kernels": []}, "kernels of a pixel degradation is"),
    ],
)
def test_a_wrong_degradation_is_refused(
    low: dict[str, Any], message: str, inputs: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        recipes.build(
            {"kind": "pool", "low": low, **MATERIAL}, inputs={"codec": inputs["codec"]}, out=tmp_path, state=tmp_path,
            replica=0, report=lambda *said: None,
        )  # fmt: skip


def test_a_tiers_low_is_a_degradation() -> None:
    for tier in ("laptop", "smoke"):
        protocol = load_protocol("nfe", tier=tier, overrides=["recipes.pool.low=${low}"])
        other = load_protocol("nfe", tier=tier, overrides=["recipes.pool.clips=7"])
        assert protocol.recipes["pool"]["low"] == LOW == protocol.cases[0].low
        given = degrade.PixelDegradation.of(LOW)
        assert (given.blur_sigma, given.jpeg_quality, given.last_kernel) == ((0.3, 1.0), (80, 95), "bicubic")
        assert protocol.hash != other.hash


def test_going_on_keeps_the_path(make: Make, inputs: dict[str, Path], tmp_path: Path) -> None:
    whole = make("flow whole", new("flow"), **inputs)
    again = make("again", new("flow", steps=0), init=whole, **inputs)
    ours, theirs = (load_file(path / "diffusion_pytorch_model.safetensors") for path in (whole, again))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    for width in (0, 9):
        with pytest.raises(UsageError, match=f"convolution {width} of a recipe that goes on from a network with 8"):
            recipes.build(
                new("flow", convolution=width), inputs=inputs | {"init": whole}, out=tmp_path, state=tmp_path,
                replica=0, report=lambda *said: None,
            )  # fmt: skip


def test_the_network_of_another_kind_is_refused(make: Make, inputs: dict[str, Path]) -> None:
    with pytest.raises(InvalidError, match="holds a ConvolutionalTransformer, not a VanillaTransformer or"):
        recipes.load_vanilla(make("flow whole", new("flow"), **inputs))


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"loss_units": "pixels"}, "unknown loss_units of a flow recipe 'pixels'"),
        ({"convolution": 1.5}, "convolution of a flow recipe is 1.5, not of type int"),
        ({"convolution": -1}, "convolution of a flow recipe is -1"),
        ({"cosine_from": 2.0}, "cosine_from is 2.0"),
        ({"warmup": -1}, "warmup is -1"),
        ({"codec_residual": 1}, "codec_residual of a flow recipe is 1, not of type bool"),
    ],
)
def test_wrong_settings_are_refused(
    chosen: dict[str, Any], message: str, inputs: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        recipes.build(
            {"kind": "flow", **NETWORK, **chosen}, inputs=inputs, out=tmp_path, state=tmp_path, replica=0,
            report=lambda *said: None,
        )  # fmt: skip


# --- keys, plans and costs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["flow", "regression", "vanilla"])
@pytest.mark.parametrize("name", ["convolution", "loss_units", "warmup", "cosine_from", "codec_residual"])
def test_new_settings_are_in_the_key_at_other_values_only(kind: str, name: str) -> None:
    def key(**more: Any) -> str:
        return keys.key("recipe", settings=settings.identity({"kind": kind, **more}))

    assert key() == key(**{name: settings.DEFAULTS[kind][name]}) != key(**{name: NEW[name]})
    assert name not in settings.identity({"kind": kind})[1]


def test_a_pools_degradation_is_in_its_key() -> None:
    def key(**more: Any) -> str:
        return keys.key("recipe", settings=settings.identity({"kind": "pool", **more}))

    assert key() == key(low={}) != key(low=LOW) != key(low=LOW | {"mild_probability": 0.4})


def test_a_plan_builds_the_network_that_a_training_builds(make: Make, inputs: dict[str, Path]) -> None:
    for kind in ("flow", "regression", "vanilla"):
        folder = make(f"{kind} whole", new(kind), **inputs)
        planned = networks.trained(settings.resolve(new(kind))[1] | {"kind": kind}, 16)
        saved = load_file(folder / "diffusion_pytorch_model.safetensors")
        assert {name: value.shape for name, value in planned.state_dict().items()} == {
            name: value.shape for name, value in saved.items()
        }


def test_the_cost_counts_convolutions() -> None:
    flashvideo, geometry = systems.get("flashvideo"), Geometry(frames=5, height=64, width=64, fps=8, scale=4)
    trained = {"kind": "flow"} | settings.resolve({"kind": "flow"})[1]
    tier = {"codec": {"kind": "codec", "channels": 16}, "wide": trained, "new": trained | {"convolution": 8}}

    def tflop(training: str) -> float:
        return flashvideo.cost(resolve(flashvideo, {"training": training}), geometry, tier)["tflop"]

    places = 2 * 8 * 8  # latent frames and pixels
    weights = sum(
        value.numel() for name, value in ConvolutionPath(16, 16, 8, 4).named_parameters()
        if name.split(".")[0] in ("enter", "residual", "across", "leave") and name.endswith("weight")
    )  # fmt: skip
    assert tflop("new") - tflop("wide") == pytest.approx(4 * 2 * places * weights / 1e12)


def test_a_new_network_enhances_at_any_size(make: Make, inputs: dict[str, Path]) -> None:
    """Every frame is finite and of 8 bits at a size that is not the training's."""
    network, codec = (
        recipes.load_network(make("flow whole", new("flow"), **inputs)),
        recipes.load_codec(inputs["codec"]),
    )
    noise = torch.randn(latent_shape(16, codec.stride, 9, 48, 80), generator=generator(0, "noise", 0))
    frames, _ = recipes.enhance(
        network, codec, synthetic_clip(9, 13, 21, 0), 48, 80, nfe=2, degradation_step=100, noise=noise
    )
    assert frames.shape == (9, 48, 80, 3) and frames.dtype == np.uint8
