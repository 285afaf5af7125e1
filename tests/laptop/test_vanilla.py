"""The vanilla cascade: its closed form, its network, and its training and sampling at a tiny size."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from flashbench import systems
from flashbench.cascade import degrade, precondition, sampling
from flashbench.cascade.training import Batch, Phase, flow_loss, generator
from flashbench.data.synthetic import synthetic_clip
from flashbench.errors import UsageError
from flashbench.laptop import recipes
from flashbench.laptop.vanilla import VanillaTransformer, closed_form, from_noise, vanilla_sample
from flashbench.systems.base import Request, counted_evaluations
from flashbench.types import Case, Clip, Geometry

POWERS = torch.tensor([[4.0, 9.0, 1.0], [3.0, 8.0, 0.5], [2.0, 6.0, -0.3]])
"""E[H^2], E[L^2] and E[HL] of three channels."""
PHASE = Phase(name="vanilla", steps=1, batch=6, degradation="pixel")


def pairs(batch: int, draw: torch.Generator, moments: Tensor = POWERS) -> tuple[Tensor, Tensor]:
    """Gaussian latents (B, 2, 3, 4, 4) of those moments."""
    high, low, cross = (row.reshape(3, 1, 1) for row in moments)
    first, second = torch.randn(2, batch, 2, 3, 4, 4, generator=draw)
    return cross / low.sqrt() * first + (high - cross**2 / low).sqrt() * second, low.sqrt() * first


def network(noise_scale: float = 1.0, out: int = 1, **more: Any) -> VanillaTransformer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        options: dict[str, Any] = {"num_attention_heads": 1, "num_layers": 1, "time_embed_dim": 16} | more
        made = VanillaTransformer(
            in_channels=6, out_channels=3 * out, noise_scale=noise_scale, **closed_form(POWERS, noise_scale), **options
        )
    return made.eval()


def silenced(net: VanillaTransformer) -> VanillaTransformer:
    """The network without what it learns: the closed form is left."""
    with torch.no_grad():
        net.proj_out.weight.zero_()
        net.proj_out.bias.zero_()
    return net


@pytest.mark.parametrize("noise_scale", [1.0, 3.0])
@pytest.mark.parametrize("time", [0.0, 0.4, 0.9, 1.0])
def test_the_closed_form_is_the_best_linear_guess_of_the_velocity(noise_scale: float, time: float) -> None:
    """Least squares of v = H - n on (x_t, L) over many samples finds the same weights, and leaves the variance g^2."""
    draw = generator(0, "closed form", 0)
    high, low = pairs(2000, draw)
    noise = noise_scale * torch.randn(high.shape, generator=draw)
    state, velocity = (1 - time) * noise + time * high, high - noise
    net = silenced(network(noise_scale))
    with torch.no_grad():
        given = torch.cat([state, low], dim=2)
        guess = net(given, torch.zeros(len(high), 1, 8), 1000 - 1000 * time).sample
    assert guess[:, :, 3:].eq(0).all(), "the condition does not move"
    step = torch.zeros(1, dtype=torch.long)
    gains = precondition.coefficients(torch.tensor(net.config.moments), torch.tensor([time]), step).g.flatten()
    assert torch.equal(gains[:3], gains[3:])
    for channel in range(3):
        features = torch.stack([state[:, :, channel].flatten(), low[:, :, channel].flatten()], 1).double()
        target = velocity[:, :, channel].flatten().double()
        best = features @ torch.linalg.lstsq(features, target).solution
        found = guess[:, :, channel].flatten().double()
        assert (found - best).std() < 0.03 * target.std()
        assert (found - target).std() == pytest.approx(float(gains[channel]), rel=0.03)


def test_in_one_step_the_closed_form_regresses_and_drops_the_noise() -> None:
    """At NFE 1 the linear guess is b L, whatever the noise."""
    _, low = pairs(2, generator(0, "one step", 0))
    noise = torch.randn(low.shape, generator=generator(1, "one step", 0))
    sample = vanilla_sample(silenced(network(3.0)), low, nfe=1, noise=noise)
    slope = (POWERS[2] / POWERS[1]).reshape(3, 1, 1)
    torch.testing.assert_close(sample.latent, slope * low, rtol=1e-4, atol=1e-4)
    assert sample.evaluations == 1 and sample.latent.shape == low.shape


def test_many_steps_of_the_closed_form_give_the_spread_of_the_material() -> None:
    """Of Gaussian latents the closed form is the true velocity of the mean field: samples have H's moments."""
    _, low = pairs(200, generator(0, "spread", 0))
    noise = torch.randn(low.shape, generator=generator(1, "spread", 0))
    made = vanilla_sample(silenced(network()), low, nfe=40, noise=noise).latent
    found = precondition.moments(made, low)
    torch.testing.assert_close(found, POWERS, rtol=0.1, atol=0.05)


def test_the_loss_of_the_closed_form_is_the_weighted_rest() -> None:
    """Per channel g^2 / (g rms(g)), and nothing for the condition: mean over both halves of g / (2 rms(g))."""
    source = from_noise(pairs_many := lambda batch, draw: pairs(200 * batch, draw), 1.0)
    phase = Phase(name="v", steps=1, batch=6, degradation="pixel")
    batch = source(phase, generator(0, "loss", 0))
    assert torch.equal(batch.high[:, :, 3:], batch.low[:, :, 3:]), "the condition lies beside both ends"
    high, low = pairs_many(6, generator(0, "loss", 0))
    assert torch.equal(batch.high, torch.cat([high, low], dim=2))
    net = silenced(network())
    loss = float(flow_loss(net, batch, phase, generator(1, "loss", 0)).detach())
    draw = generator(1, "loss", 0)
    size = len(high)
    uniform = (torch.arange(size)[torch.randperm(size, generator=draw)] + torch.rand(size, generator=draw)) / size
    g = precondition.coefficients(torch.tensor(net.config.moments), uniform, torch.zeros(size)).g
    wanted = float((g[:, :, :3] / g.square().mean(2, keepdim=True).sqrt()).mean() / 2)
    assert loss == pytest.approx(wanted, rel=0.03)


def test_noise_of_a_scale_is_drawn_at_that_scale() -> None:
    batch = from_noise(pairs, 3.0)(PHASE, generator(0, "scale", 0))
    assert isinstance(batch, Batch) and batch.context is None
    assert float(batch.low[:, :, :3].std()) == pytest.approx(3.0, rel=0.1)
    again = from_noise(pairs, 1.0)(PHASE, generator(0, "scale", 0))
    torch.testing.assert_close(3 * again.low[:, :, :3], batch.low[:, :, :3])


def test_local_gains_multiply_what_the_network_reads() -> None:
    plain, gains = network(), network(out=3)
    state = torch.randn(2, 2, 6, 4, 4, generator=generator(0, "gain", 0))
    context = torch.zeros(2, 1, 8)
    with torch.no_grad():
        gains.proj_out.weight.zero_()
        gains.proj_out.bias.zero_()
        base = gains(state, context, 400.0).sample
        torch.testing.assert_close(base, silenced(plain)(state, context, 400.0).sample)
        gains.proj_out.bias.view(-1, 4)[3:6] = 1.0  # of the noisy half, for all four pixels of a patch
        moved = gains(state, context, 400.0).sample - base
    noisy, low = state.chunk(2, dim=2)
    table = torch.tensor(gains.config.moments)[:, :3]
    scale, _, g = precondition.coefficients(table, torch.tensor([0.6]), torch.zeros(1))
    slope = (POWERS[2] / POWERS[1]).reshape(3, 1, 1)
    torch.testing.assert_close(moved[:, :, :3], g * scale * (noisy - 0.6 * slope * low), rtol=1e-4, atol=1e-4)


def test_the_network_round_trips_bit_for_bit(tmp_path: Path) -> None:
    net = network(noise_scale=2.0, out=3)
    net.save_pretrained(tmp_path)
    back = VanillaTransformer.from_pretrained(tmp_path).eval()
    state = torch.randn(1, 2, 6, 4, 4, generator=generator(0, "trip", 0))
    with torch.no_grad():
        first, second = (one(state, torch.zeros(1, 1, 8), 300.0, return_dict=False)[0] for one in (net, back))
    assert torch.equal(first, second)
    assert back.config.noise_scale == 2.0 and back.config.moments == net.config.moments


def test_degenerate_channels_stay_finite() -> None:
    """H = L up to rounding: nothing is left of H, and nothing becomes NaN."""
    same = closed_form(torch.tensor([[4.0], [4.0], [4.0]]), 1.0)
    assert np.isfinite(same["moments"]).all()
    g = precondition.coefficients(torch.tensor(same["moments"]), torch.tensor([0.5]), torch.zeros(1)).g
    assert g.isfinite().all() and (g > 0).all()
    a, sigma = degrade.coefficients(0)
    assert float(a**2 * same["moments"][1][0] + sigma**2) == pytest.approx(1.0)


# --- the recipe and the system ----------------------------------------------------------------------------------------

MATERIAL = {"material": "synthetic", "clips": 4, "frames": 5, "size": 64}
TINY: dict[str, Any] = {"kind": "vanilla", "heads": 1, "layers": 1, "time_embed_dim": 16, "crop": 32, "batch": 2}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("vanilla")
    made: dict[str, Path] = {}
    for name, settings in (
        ("codec", {"kind": "codec", "channels": 16, **MATERIAL}),
        ("pool", {"kind": "pool", **MATERIAL}),
        ("vanilla", TINY | {"steps": 4}),
        ("again", TINY | {"steps": 4}),
        ("other", TINY | {"steps": 4, "noise_scale": 4.0}),
    ):
        made[name] = root / name
        made[name].mkdir()
        recipes.build(
            settings, inputs=dict(made), out=made[name], state=root / f"{name}.state", replica=0, report=lambda *a: None
        )
    return made


def weights(folder: Path) -> bytes:
    return (folder / "diffusion_pytorch_model.safetensors").read_bytes()


def test_the_recipe_repeats_and_counts_its_noise_scale(built: dict[str, Path]) -> None:
    assert weights(built["vanilla"]) == weights(built["again"])
    assert weights(built["vanilla"]) != weights(built["other"])
    assert recipes.load_vanilla(built["other"]).config.noise_scale == 4.0


def test_the_system_makes_a_clip_in_as_many_evaluations_as_it_declares(built: dict[str, Path]) -> None:
    system = systems.get("vanilla")
    geometry = Geometry(frames=5, height=48, width=64, fps=Fraction(8), scale=4)
    case = Case(id="synthetic-0/0", cluster="synthetic-0", seed=0, source="synthetic-0")
    reference = Clip(synthetic_clip(5, 48, 64, 0), Fraction(8))

    def made(**chosen: Any) -> np.ndarray:
        settings = systems.resolve(system, chosen)
        system.check(settings, geometry)
        with counted_evaluations() as counted:
            clip = system.make(
                Request(case=case, settings=settings, geometry=geometry, reference=reference, models=built)
            )
        assert counted[0] == system.evaluations(settings) == settings["nfe"]
        assert clip.frames.shape == (5, 48, 64, 3)
        return clip.frames

    np.testing.assert_array_equal(made(nfe=3), made(nfe=3))
    assert not np.array_equal(made(nfe=3), made(nfe=1))
    assert not np.array_equal(made(nfe=3), made(nfe=3, shift=1.0))


@pytest.mark.parametrize("nfe", [0, 1001, 2.5, "4"])
def test_a_wrong_nfe_is_refused(nfe: Any) -> None:
    system, geometry = systems.get("vanilla"), Geometry(frames=5, height=48, width=64, fps=Fraction(8), scale=4)
    with pytest.raises(UsageError, match="nfe is"):
        system.check(systems.resolve(system, {"nfe": nfe}), geometry)


def test_guidance_and_grid_are_those_of_stage_2() -> None:
    """The sampler is `sampling.refine`: an identical call on the joint state gives the same latent."""
    net = network(out=3)
    _, low = pairs(1, generator(0, "refine", 0))
    noise = torch.randn(low.shape, generator=generator(1, "refine", 0))
    direct = sampling.refine(
        net, torch.cat([noise, low], 2), torch.zeros(1, 1, 8), nfe=5, shift=2.5, guidance=1.0,
        degradation_step=None, noise=None,
    )  # fmt: skip
    assert torch.equal(direct.latent[:, :, :3], vanilla_sample(net, low, nfe=5, noise=noise).latent)
    assert torch.equal(direct.latent[:, :, 3:], low)
