"""The cascade against tests/reference.py, FlashVideo written a second time, on weights of the official layout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support import official, reference
from torch import Tensor

from flashbench.cascade import degrade, rope, sampling, vae
from flashbench.cascade.checkpoint import load_stage1, load_stage2, load_vae

GOLDEN = Path(__file__).parents[1] / "golden"
ADAPTED = official.transformer(1, lora=True)
STAGE2 = official.transformer(2)
VAE = official.vae()


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def stage1() -> Any:
    return load_stage1(ADAPTED)


@pytest.fixture(scope="module")
def autoencoder() -> Any:
    return load_vae(VAE)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def worst(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max())


def test_the_reference_gives_what_the_official_code_gave() -> None:
    golden = load_file(GOLDEN / "flashvideo_stage2.safetensors")
    for name, step in (("fwd", 675), ("fwd2", 700)):
        inputs = (golden[f"{name}.{key}"] for key in ("x", "context", "timesteps"))
        assert worst(reference.stage2_forward(golden, *inputs, step), golden[f"{name}.out"]) <= 1e-5
    out = reference.stage2_sample(
        golden,
        *(golden[f"sample.{key}"] for key in ("lq_latent", "context", "uncond_context")),
        intervals=5,
        shift=2.5,
        guidance=13.0,
        step=675,
        noise=golden["sample.noise"],
    )
    assert worst(out, golden["sample.out_nfe5_cfg13_shift2.5_step675"]) <= 1e-4
    schedule = load_file(GOLDEN / "flashvideo_degradation.safetensors")["alphas_cumprod_sqrt_shift1"]
    # The last bit of powers and products is the processor's.
    assert worst(reference.zero_snr(range(1000)), schedule) <= 2.4e-7


@pytest.mark.parametrize("grid", [(1, 2, 3), (13, 5, 7), (3, 90, 160)])
def test_rotary_tables(grid: tuple[int, int, int]) -> None:
    angles = reference.rotary_angles(*grid)
    cos, sin = rope.tables(*grid)
    assert worst(cos, angles.cos()) <= 1e-6 and worst(sin, angles.sin()) <= 1e-6


@pytest.mark.parametrize(("batch", "grid"), [(1, (1, 4, 6)), (2, (3, 6, 10)), (1, (2, 10, 4)), (2, (13, 4, 6))])
def test_stage1_forward(stage1: Any, batch: int, grid: tuple[int, int, int]) -> None:
    x, context = randn(batch, grid[0], 16, *grid[1:]), randn(batch, 7, official.TEXT)
    t = torch.tensor([999.0, 19.0])[:batch]
    ours = stage1(hidden_states=x, encoder_hidden_states=context, timestep=t).sample
    assert worst(ours, reference.stage1_forward(ADAPTED, x, context, t)) <= 1e-5
    by_hand = official.merged(ADAPTED)
    assert worst(ours, reference.stage1_forward(by_hand, x, context, t)) <= 1e-5
    assert worst(ours, load_stage1(by_hand)(x, context, t).sample) <= 1e-5


@pytest.mark.parametrize("rank", [1, 16])
def test_adapters_of_any_rank_are_scaled_by_it(monkeypatch: pytest.MonkeyPatch, rank: int) -> None:
    monkeypatch.setattr(official, "RANK", rank)
    state = official.transformer(1, lora=True)
    x, context, t = randn(1, 2, 16, 4, 4), randn(1, 5, official.TEXT), torch.tensor([500.0])
    ours = load_stage1(state)(x, context, t).sample
    assert worst(ours, reference.stage1_forward(state, x, context, t)) <= 1e-5
    bare = {key: value for key, value in state.items() if ".matrix_" not in key}
    bare = {key.replace(".original.", "."): value for key, value in bare.items()}
    assert worst(ours, reference.stage1_forward(bare, x, context, t)) > 0.01


def test_stage1_schedule_has_the_published_numbers() -> None:
    schedule = sampling.stage1_schedule(51)
    times = schedule.timesteps.tolist()
    assert times[:6] == [999, 979, 959, 940, 920, 901] and times[-3:] == [58, 39, 19]
    trailing = (np.round(np.arange(1000, 0, -1000 / 51)) - 1).tolist()
    assert sum(ours != theirs for ours, theirs in zip(times, trailing, strict=True)) == 11
    weights = [8.287, 4.004, 2.404, 5.046, 6.275, 2.003, 6.806, 1.616, 1.024]
    assert np.allclose(schedule.guidance[:9], weights, atol=6e-4)
    assert np.allclose(schedule.guidance[-4:], [1.034, 1.000, 1.000, 1.185], atol=6e-4)
    assert float(schedule.guidance.mean()) == pytest.approx(4.672, abs=6e-4)
    full = degrade.alphas()
    assert schedule.alpha[0] == 0 and float(schedule.alpha[-1]) == pytest.approx(0.991082, abs=1e-6)
    assert float(full[19]) == pytest.approx(0.990460, abs=1e-6)
    off = (schedule.alpha[1:] / full[schedule.timesteps[1:]] - 1).abs().max()
    assert float(off) == pytest.approx(6.3e-4, abs=6e-6)


@pytest.mark.parametrize("steps", [2, 3, 27, 50, 51, 333])
def test_stage1_schedule(steps: int) -> None:
    schedule, times = sampling.stage1_schedule(steps, 6), reference.stage1_timesteps(steps)
    alpha, table = reference.zero_snr(times[::-1]).flip(0), reference.zero_snr(range(1000))
    assert schedule.timesteps.tolist() == times
    assert worst(schedule.alpha, alpha) <= 1e-6
    assert worst(schedule.alpha_denoiser, table[(alpha[:, None] - table).abs().argmin(1)]) <= 1e-6
    assert schedule.guidance.tolist() == pytest.approx(reference.stage1_guidance(steps, 6), rel=1e-12)


@pytest.mark.parametrize(("steps", "guidance"), [(2, 8.0), (5, 8.0), (5, 0.0), (51, 8.0), (51, 0.0)])
def test_stage1_sampler(stage1: Any, steps: int, guidance: float) -> None:
    noise, context = randn(1, 2, 16, 4, 6), randn(1, 7, official.TEXT)
    used = reference.stage1_noises(noise.shape, steps, torch.Generator().manual_seed(3))

    def predict(x: Tensor, condition: Tensor, t: Tensor) -> Tensor:
        return reference.stage1_forward(ADAPTED, x, condition, t)

    want = reference.stage1_sample(
        predict, noise, context, torch.zeros_like(context), steps=steps, scale=guidance, noises=used
    )
    for step_noise in (used, torch.Generator().manual_seed(3)):
        ours = sampling.generate(stage1, noise, context, steps=steps, guidance=guidance, step_noise=step_noise)
        assert worst(ours.latent, want) <= 1e-4
        assert (ours.evaluations, ours.network_forwards) == (steps, (steps, steps if guidance else 0))


def test_stage1_sampler_on_a_batch_with_its_own_unconditional_context(stage1: Any) -> None:
    noise, context, uncond = randn(2, 1, 16, 6, 4), randn(2, 3, official.TEXT), randn(2, 3, official.TEXT, seed=1)
    used = [randn(*noise.shape, seed=number) for number in range(4)]

    def predict(x: Tensor, condition: Tensor, t: Tensor) -> Tensor:
        return reference.stage1_forward(ADAPTED, x, condition, t)

    want = reference.stage1_sample(predict, noise, context, uncond, steps=5, scale=6.0, noises=used)
    ours = sampling.generate(stage1, noise, context, steps=5, guidance=6.0, step_noise=used, uncond=uncond)
    assert worst(ours.latent, want) <= 1e-4


@pytest.mark.parametrize("steps", [675, torch.tensor([600, 725])], ids=["one", "each"])
def test_stage2_forward_on_a_batch(steps: Any) -> None:
    x, context, t = randn(2, 3, 16, 6, 4), randn(2, 5, official.TEXT), torch.tensor([1000.0, 384.6154])
    ours = load_stage2(STAGE2)(
        hidden_states=x, encoder_hidden_states=context, timestep=t, degradation_step=steps
    ).sample
    assert worst(ours, reference.stage2_forward(STAGE2, x, context, t, steps)) <= 1e-5


@pytest.mark.parametrize(("method", "stages"), [("euler", 1), ("midpoint", 2)])
@pytest.mark.parametrize(("rounding", "dtype"), [("none", torch.float32), ("bf16", torch.bfloat16)])
@pytest.mark.parametrize(("nfe", "step", "shift", "guidance"), [(4, 650, 2.5, 13.0), (10, 725, 3.3, 7.0)])
def test_stage2_sampler(
    method: str, stages: int, rounding: Any, dtype: torch.dtype, nfe: int, step: int, shift: float, guidance: float
) -> None:
    lq, context, noise = randn(2, 3, 16, 4, 6), randn(2, 7, official.TEXT), randn(2, 3, 16, 4, 6, seed=1)
    options: dict[str, Any] = {"shift": shift, "guidance": guidance, "method": method, "noise": noise}
    ours = sampling.refine(
        load_stage2(STAGE2), lq, context, nfe=nfe, degradation_step=step, rounding=rounding, **options
    )
    want = reference.stage2_sample(
        STAGE2, lq, context, torch.zeros_like(context), intervals=nfe // stages, step=step, dtype=dtype, **options
    )
    assert worst(ours.latent, want) <= 1e-4
    assert (ours.evaluations, ours.network_forwards) == (nfe, (nfe, nfe))


@pytest.mark.parametrize(
    ("nfe", "times"), [(4, [1000, 884, 712, 452]), (5, [1000, 904, 784, 624, 384])], ids=["paper", "release"]
)
@pytest.mark.parametrize(("step", "seen"), [(675, 676), (650, 648), (725, 724), (750, 752), (600, 600), (700, 700)])
def test_what_bf16_rounding_tells_the_network(nfe: int, times: list[float], step: int, seen: float) -> None:
    told = []

    def network(**inputs: Any) -> SimpleNamespace:
        told.append((inputs["timestep"], inputs["degradation_step"]))
        return SimpleNamespace(sample=torch.zeros_like(inputs["hidden_states"]))

    z, noise = randn(1, 1, 16, 2, 2), randn(1, 1, 16, 2, 2, seed=1)
    out = sampling.refine(
        network, z, torch.zeros(1, 1, 8), nfe=nfe, noise=noise, degradation_step=step, rounding="bf16"
    )
    assert told == [(time, seen) for time in times]
    assert worst(out.latent, reference.degraded(z, step, noise)) <= 1e-6  # the degradation uses the exact step


@pytest.mark.parametrize(
    ("chunks", "size"),
    [((17, 16, 16), (16, 24)), ((9, 8), (32, 48)), ((13, 12), (24, 16)), ((5,), (32, 16)), ((1,), (16, 32))],
)
def test_vae_encodes(autoencoder: Any, chunks: tuple[int, ...], size: tuple[int, int]) -> None:
    frames = randn(1, 3, sum(chunks), *size).tanh()
    want = reference.vae_encode(VAE, frames, chunks)
    assert worst(vae.encode(autoencoder, frames, chunks=chunks), want) <= 2e-5
    noise = randn(*want.shape, seed=1)
    sampled = reference.vae_encode(VAE, frames, chunks, noise)
    assert worst(vae.encode(autoencoder, frames, chunks=chunks, noise=noise), sampled) <= 2e-5


@pytest.mark.parametrize(
    ("chunks", "batch"), [((3, 2, 2, 2, 2, 2), 1), ((3, 2), 2), ((5, 2), 1), ((1,), 1), ((2,), 1), ((2,), 2)]
)
def test_vae_decodes(autoencoder: Any, chunks: tuple[int, ...], batch: int) -> None:
    """(2,) is what the release decodes with `force_split`: the first frame of an even length is still one frame."""
    latent = randn(batch, sum(chunks), 16, 2, 3)
    want = reference.vae_decode(VAE, latent, chunks)
    assert want.shape == (batch, 3, 4 * sum(chunks) - 3, 16, 24)
    assert worst(vae.decode(autoencoder, latent, chunks=chunks), want) <= 2e-5


def test_vae_with_more_blocks_and_a_variance_that_is_clamped() -> None:
    state = official.vae((32, 64, 64, 128), 2)
    state["encoder.conv_out.conv.bias"][16] = 25.0  # the first channel's log-variance, past the limit of 20
    model, frames = load_vae(state), randn(2, 3, 5, 16, 16).tanh()
    noise = randn(2, 2, 16, 2, 2)
    want = reference.vae_encode(state, frames, (5,), noise)
    assert float(want[:, :, 0].abs().max()) > 1e4
    torch.testing.assert_close(vae.encode(model, frames, noise=noise), want, rtol=1e-5, atol=2e-5)
    latent = randn(1, 3, 16, 2, 2)
    assert worst(vae.decode(model, latent), reference.vae_decode(state, latent, (3,))) <= 2e-5
