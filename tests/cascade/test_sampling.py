"""Samplers on flows whose answer is known, and the bookkeeping of evaluations."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flashbench.cascade import degrade, sampling, solvers
from flashbench.cascade.transformer import Stage2Transformer
from flashbench.errors import UsageError


def small(**config: Any) -> Stage2Transformer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Stage2Transformer(
            num_attention_heads=1,
            num_layers=1,
            in_channels=4,
            out_channels=4,
            time_embed_dim=16,
            text_embed_dim=8,
            max_text_seq_length=1,
            **config,
        ).eval()


@given(nfe=st.integers(1, 50), shift=st.floats(1.0, 5.0))
def test_time_grid_rises_from_zero_to_one(nfe: int, shift: float) -> None:
    grid = sampling.time_grid(nfe, shift)
    assert len(grid) == nfe + 1 and abs(grid[0]) < 1e-6 and grid[-1] == 1
    assert (grid.diff() > 0).all()
    assert (grid <= torch.linspace(0, 1, nfe + 1) + 1e-6).all(), "a shift above 1 spends its steps near 0"


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("midpoint", 2)])
def test_methods_converge_with_their_order(method: str, order: int) -> None:
    """On dx/dt = x cos(t), whose solution is exp(sin(t))."""
    solve, per_step = sampling.METHODS[method]

    def error(steps: int) -> float:
        calls = []

        def velocity(x: torch.Tensor, t: float) -> torch.Tensor:
            calls.append(t)
            return x * math.cos(t)

        grid = sampling.time_grid(steps, 2.5).double()
        out, evaluations = solve(velocity, torch.ones((), dtype=torch.float64), grid / grid[-1])
        assert evaluations == len(calls) == per_step * steps
        return abs(float(out) - math.exp(math.sin(1)))

    orders = [math.log2(error(n) / error(2 * n)) for n in (128, 256, 512)]
    assert all(abs(found - order) < 0.07 for found in orders), orders


@pytest.mark.parametrize("solve", [solvers.euler, solvers.midpoint])
def test_a_constant_velocity_is_followed_exactly(solve: Any) -> None:
    out, _ = solve(lambda x, t: torch.full_like(x, 3.0), torch.zeros(2), sampling.time_grid(5, 2.5))
    assert torch.allclose(out, torch.full((2,), 3.0))


def test_the_grid_of_the_release() -> None:
    """What bf16 makes of times, model times and the degradation step; published beside the released code."""
    seen: dict[int, list[tuple[float, float]]] = {}
    for nfe in (4, 5):

        def record(*, timestep: float, degradation_step: float, hidden_states: Any, nfe: int = nfe, **_: Any) -> Any:
            seen.setdefault(nfe, []).append((timestep, degradation_step))
            return SimpleNamespace(sample=torch.zeros_like(hidden_states))

        z = torch.zeros(1, 1, 4, 2, 2)
        sampling.refine(record, z, torch.zeros(1, 1, 8), nfe=nfe, noise=z, rounding="bf16")
    assert seen[4] == [(1000, 676), (884, 676), (712, 676), (452, 676)]
    assert seen[5] == [(1000, 676), (904, 676), (784, 676), (624, 676), (384, 676)]
    grid = sampling.time_grid(4, 2.5, "bf16")
    assert grid.dtype == torch.bfloat16
    assert grid.tolist() == [0, 0.1171875, 0.28515625, 0.546875, 1]
    assert not torch.equal(sampling.time_grid(5, 2.5).bfloat16(), sampling.time_grid(5, 2.5, "bf16"))


def test_stage1_schedule_is_the_releases() -> None:
    schedule = sampling.stage1_schedule(51)
    assert schedule.timesteps[:6].tolist() == [999, 979, 959, 940, 920, 901]
    assert schedule.timesteps[-3:].tolist() == [58, 39, 19]
    assert schedule.alpha[0] == 0 and schedule.alpha[-1] == pytest.approx(0.991082, abs=1e-6)
    table = degrade.alphas().double()
    assert all(float((table - value).abs().min()) == 0 for value in schedule.alpha_denoiser)
    assert (schedule.alpha_denoiser - schedule.alpha).abs().max() < 6e-4
    published = [8.287, 4.004, 2.404, 5.046, 6.275, 2.003, 6.806, 1.616, 1.024]
    assert schedule.guidance[:9].tolist() == pytest.approx(published, abs=5e-4)
    assert schedule.guidance[-4:].tolist() == pytest.approx([1.034, 1.000, 1.000, 1.185], abs=5e-4)
    assert float(schedule.guidance.mean()) == pytest.approx(4.672, abs=5e-4)


@given(steps=st.integers(2, 999))
def test_stage1_schedules_fall_to_no_signal(steps: int) -> None:
    schedule = sampling.stage1_schedule(steps, guidance=8)
    assert (schedule.timesteps.diff() < 0).all() and (schedule.alpha.diff() > 0).all()
    assert schedule.timesteps[0] == 999 and schedule.alpha[0] == 0 and schedule.alpha[-1] < 1
    assert ((schedule.guidance >= 1) & (schedule.guidance <= 9)).all()
    assert (sampling.stage1_schedule(steps, guidance=0).guidance == 1).all()


def gaussian(mean: float, spread: float) -> Any:
    """The exact v for data of that distribution, as a network of Stage I."""
    table = degrade.alphas().double()

    def stage1(*, hidden_states: torch.Tensor, timestep: float, **_: Any) -> Any:
        a = float(table[int(timestep)])
        sigma = math.sqrt(1 - a * a)
        clean = mean + a * spread**2 / (a * a * spread**2 + sigma**2) * (hidden_states - a * mean)
        return SimpleNamespace(sample=(a * hidden_states - clean) / sigma)

    return stage1


def test_stage1_samples_a_known_distribution() -> None:
    draw = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 1, 1, 200, 200, generator=draw)
    out = sampling.generate(gaussian(2.0, 0.5), noise, torch.zeros(1, 1, 1), steps=50, guidance=0, step_noise=draw)
    assert float(out.latent.mean()) == pytest.approx(2.0, abs=0.02)
    assert float(out.latent.std()) == pytest.approx(0.5, abs=0.02)
    assert (out.evaluations, out.network_forwards) == (50, (50, 0))


def test_stage1_guidance_and_its_forwards() -> None:
    """Guidance acts on the estimates of x_0: a constant difference of 1 ends as the last step's scale less one."""
    batches = []

    def stage1(*, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor, timestep: float) -> Any:
        batches.append(len(hidden_states))
        a = float(sampling.stage1_schedule(10).alpha_denoiser[len(batches) - 1])
        clean = encoder_hidden_states[:, :1, :1, None, None] * torch.ones_like(hidden_states)
        return SimpleNamespace(sample=(a * hidden_states - clean) / math.sqrt(1 - a * a))

    noise, context = torch.zeros(2, 1, 1, 2, 2), torch.ones(2, 1, 1)
    out = sampling.generate(stage1, noise, context, steps=10, guidance=8, step_noise=[noise] * 9)
    assert batches == [4] * 10 and (out.evaluations, out.network_forwards) == (10, (10, 10))
    last = float(sampling.stage1_schedule(10, 8).guidance[-1])
    assert torch.allclose(out.latent, torch.full_like(noise, last), atol=1e-4)


def test_stage1_noise_from_a_generator_is_drawn_as_by_the_release() -> None:
    noise = torch.randn(1, 1, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    options: dict[str, Any] = {"steps": 4, "guidance": 0}
    context = torch.zeros(1, 1, 1)
    drawn = sampling.generate(gaussian(0, 1), noise, context, step_noise=torch.Generator().manual_seed(2), **options)
    draw = torch.Generator().manual_seed(2)
    first, _, second, _, third = (torch.randn(noise.shape, generator=draw) for _ in range(5))
    given_noise = sampling.generate(gaussian(0, 1), noise, context, step_noise=[first, second, third], **options)
    assert torch.equal(drawn.latent, given_noise.latent)
    with pytest.raises(UsageError, match="2 step noises for 4 steps"):
        sampling.generate(gaussian(0, 1), noise, context, step_noise=[first, second], **options)


def test_a_step_per_sample() -> None:
    draw = torch.Generator().manual_seed(3)
    z, noise = (torch.randn(2, 1, 4, 2, 2, generator=draw) for _ in range(2))
    context, network = torch.ones(2, 1, 8), small()
    options: dict[str, Any] = {"nfe": 2, "rounding": "bf16", "guidance": 3.0}
    both = sampling.refine(network, z, context, noise=noise, degradation_step=torch.tensor([675, 750]), **options)
    apart = [
        sampling.refine(network, z[i : i + 1], context[:1], noise=noise[i : i + 1], degradation_step=step, **options)
        for i, step in enumerate((675, 750))
    ]
    assert torch.allclose(both.latent, torch.cat([one.latent for one in apart]), atol=1e-5)


def test_a_network_in_half_precision_refines_exact_latents() -> None:
    z = torch.randn(1, 1, 4, 2, 2, generator=torch.Generator().manual_seed(3))
    network = small().to(torch.bfloat16)
    out = sampling.refine(network, z, torch.zeros(1, 1, 8, dtype=torch.bfloat16), nfe=1, noise=z)
    assert out.latent.dtype == torch.float32


def test_steps_may_change_the_latent() -> None:
    seen = []

    def on_step(number: int, time: float, x: torch.Tensor) -> torch.Tensor:
        seen.append((number, round(time, 4)))
        return torch.zeros_like(x)

    z = torch.ones(1, 1, 4, 2, 2)
    out = sampling.refine(small(), z, torch.zeros(1, 1, 8), nfe=2, noise=z, shift=1.0, on_step=on_step)
    assert seen == [(0, 1000.0), (1, 500.0)] and not out.latent.any()


@pytest.mark.parametrize("guidance", [1.0, 13.0])
def test_evaluations_returned_are_the_forwards_that_a_hook_sees(guidance: float) -> None:
    network, seen = small(), []

    def hook(module: torch.nn.Module, inputs: object, output: object) -> None:
        if getattr(module, "counts_as_evaluation", False):
            seen.append(module)

    z = torch.randn(1, 1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    handle = torch.nn.modules.module.register_module_forward_hook(hook)
    try:
        sample = sampling.refine(network, z, torch.ones(1, 1, 8), nfe=3, guidance=guidance, noise=z)
    finally:
        handle.remove()
    assert sample.evaluations == len(seen) == 3
    assert sample.network_forwards == (3, 0 if guidance == 1 else 3)


def test_guidance_one_never_computes_the_unconditional_half() -> None:
    batches = []

    def network(**inputs: Any) -> SimpleNamespace:
        batches.append(len(inputs["hidden_states"]))
        return SimpleNamespace(sample=inputs["encoder_hidden_states"].mean() + inputs["hidden_states"] * 0)

    z, context = torch.zeros(1, 1, 4, 2, 2), torch.ones(1, 1, 8)
    sampling.refine(network, z, context, nfe=2, guidance=1.0, noise=z)
    sampling.refine(network, z, context, nfe=2, guidance=4.0, noise=z)
    assert batches == [1, 1, 2, 2]


def test_guidance_extrapolates_from_the_unconditional() -> None:
    def network(**inputs: Any) -> SimpleNamespace:
        return SimpleNamespace(
            sample=inputs["encoder_hidden_states"].mean((1, 2)).reshape(-1, 1, 1, 1, 1) + 0 * inputs["hidden_states"]
        )

    z = torch.zeros(1, 1, 4, 2, 2)
    out = sampling.refine(
        network,
        z,
        torch.full((1, 1, 8), 2.0),
        nfe=4,
        guidance=3.0,
        noise=z,
        degradation_step=700,
        uncond=torch.full((1, 1, 8), 0.5),
    )
    assert torch.allclose(out.latent, torch.full_like(z, 0.5 + 3 * 1.5))


def test_no_degradation_starts_from_the_latent_itself() -> None:
    def still(**inputs: Any) -> SimpleNamespace:
        assert inputs["degradation_step"] == 0
        return SimpleNamespace(sample=torch.zeros_like(inputs["hidden_states"]))

    z = torch.randn(1, 1, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    out = sampling.refine(still, z, torch.zeros(1, 1, 8), guidance=1.0, degradation_step=None, noise=None)
    assert torch.equal(out.latent, z)


def test_wrong_calls_say_what_is_wrong() -> None:
    z, context = torch.zeros(1, 1, 4, 2, 2), torch.zeros(1, 1, 8)
    with pytest.raises(UsageError, match="nfe must be at least 1"):
        sampling.refine(small(), z, context, nfe=0, noise=z)
    with pytest.raises(UsageError, match="noise of shape"):
        sampling.refine(small(), z, context, noise=z[:, :, :2])
    with pytest.raises(UsageError, match="unknown method 'heun'"):
        sampling.refine(small(), z, context, noise=z, method="heun")
    with pytest.raises(UsageError, match="nfe 3 is not divisible by the 2 evaluations of a midpoint step"):
        sampling.refine(small(), z, context, nfe=3, noise=z, method="midpoint")
    with pytest.raises(UsageError, match="unknown rounding 'fp16'"):
        sampling.refine(small(), z, context, noise=z, rounding="fp16")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="unknown rounding 'x'"):
        sampling.time_grid(4, 2.5, "x")  # type: ignore[arg-type]
    for change, told in (
        ({"shift": 0.0}, "shift is 0.0"),
        ({"guidance": math.nan}, "guidance is nan"),
        ({"degradation_step": 675.5}, "not a whole number"),
    ):
        with pytest.raises(UsageError, match=told):
            sampling.refine(small(), z, context, noise=z, **change)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="Stage I takes 2 to 999 steps, not 1"):
        sampling.stage1_schedule(1)
    with pytest.raises(UsageError, match="degradation_step 1000 is outside 0 to 999"):
        sampling.refine(small(), z, context, degradation_step=1000, noise=z)


@pytest.mark.parametrize("size", [(200, 192), (192, 100), (0, 16), (8, 16)])
def test_sizes_that_are_no_multiple_of_16_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="multiples of 16"):
        sampling.check_size(*size)


def test_sizes_that_are_multiples_of_16_pass() -> None:
    sampling.check_size(1072, 1920)
