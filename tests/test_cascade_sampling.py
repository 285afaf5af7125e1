"""Samplers on flows whose answer is known, and the bookkeeping of evaluations."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flashbench.cascade import sampling
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


def test_euler_converges_with_order_one() -> None:
    def error(nfe: int) -> float:
        out, evaluations = sampling.euler(
            lambda x, t: x * math.cos(t), torch.ones((), dtype=torch.float64), sampling.time_grid(nfe, 2.5)
        )
        assert evaluations == nfe
        return abs(float(out) - math.exp(math.sin(1)))

    ratios = [error(n) / error(2 * n) for n in (128, 256, 512)]
    assert all(1.9 < ratio < 2.1 for ratio in ratios), ratios


def test_euler_is_exact_where_the_velocity_is_constant() -> None:
    out, _ = sampling.euler(lambda x, t: torch.full_like(x, 3.0), torch.zeros(2), sampling.time_grid(5, 2.5))
    assert torch.allclose(out, torch.full((2,), 3.0))


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
    with pytest.raises(UsageError, match="degradation_step 1000 is outside 0 to 999"):
        sampling.refine(small(), z, context, degradation_step=1000, noise=z)


@pytest.mark.parametrize("size", [(200, 192), (192, 100), (0, 16), (8, 16)])
def test_sizes_that_are_no_multiple_of_16_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="multiples of 16"):
        sampling.check_size(*size)


def test_sizes_that_are_multiples_of_16_pass() -> None:
    sampling.check_size(1072, 1920)
