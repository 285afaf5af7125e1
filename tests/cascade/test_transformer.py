"""Positions, sizes and precision of the two networks; their arithmetic is held by golden values and references."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from diffusers import CogVideoXTransformer3DModel
from diffusers.models.embeddings import CogVideoXPatchEmbed
from torch._subclasses.fake_tensor import FakeTensorMode

from flashbench.cascade import degrade, rope
from flashbench.cascade.transformer import Stage1Transformer, Stage2Transformer
from flashbench.errors import UsageError

SMALL: dict[str, Any] = {
    "num_attention_heads": 2,
    "num_layers": 2,
    "in_channels": 4,
    "out_channels": 4,
    "time_embed_dim": 16,
    "text_embed_dim": 8,
    "max_text_seq_length": 5,
}


def build(cls: Any = Stage1Transformer, **config: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return cls(**SMALL, **config).eval()


def states(frames: int = 3, height: int = 4, width: int = 6, tokens: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    return torch.randn(2, frames, 4, height, width, generator=draw), torch.randn(2, tokens, 8, generator=draw)


@torch.no_grad()
def test_absolute_positions_are_diffusers_own() -> None:
    ours = build(use_rotary_positional_embeddings=False)
    theirs = CogVideoXTransformer3DModel(**SMALL, attention_head_dim=64).eval()
    theirs.load_state_dict(ours.state_dict())
    theirs.norm_out.norm.eps = 1e-6
    for frames, height, width in ((3, 4, 6), (2, 6, 4)):
        x, context = states(frames, height, width)
        want = theirs(x, context, torch.tensor([3, 3])).sample
        assert torch.equal(ours(x, context, 3).sample, want)


@torch.no_grad()
@pytest.mark.parametrize("cls", [Stage1Transformer, Stage2Transformer])
def test_positions_matter_and_differ(cls: Any) -> None:
    rotary, absolute = build(cls), build(cls, use_rotary_positional_embeddings=False)
    absolute.load_state_dict(rotary.state_dict())
    x, context = states()
    one, other = (model(x, context, 500.0).sample for model in (rotary, absolute))
    assert one.shape == other.shape == x.shape and (one - other).abs().max() > 1e-3


@torch.no_grad()
def test_text_is_padded_for_absolute_positions_only() -> None:
    absolute, rotary = build(use_rotary_positional_embeddings=False), build()
    x, context = states(tokens=3)
    padded = torch.nn.functional.pad(context, (0, 0, 0, 2))
    assert torch.equal(absolute(x, context, 7).sample, absolute(x, padded, 7).sample)
    assert not torch.equal(rotary(x, context, 7).sample, rotary(x, padded, 7).sample)
    longer = torch.zeros(2, 6, 8)
    assert rotary(x, longer, 7).sample.shape == x.shape
    with pytest.raises(UsageError, match="a context of 6 tokens is longer than 5"):
        absolute(x, longer, 7)


@torch.no_grad()
def test_absolute_tables_are_built_once_per_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    model, built = build(use_rotary_positional_embeddings=False), []
    original = CogVideoXPatchEmbed._get_positional_embeddings

    def counted(self: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        built.append(args)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(CogVideoXPatchEmbed, "_get_positional_embeddings", counted)
    for _ in range(3):
        for height in (4, 6):
            model(*states(height=height), 1)
    assert len(built) == 2


@pytest.mark.parametrize("rotary", [True, False])
def test_tables_from_inference_mode_serve_training(rotary: bool) -> None:
    model = build(use_rotary_positional_embeddings=rotary)
    x, context = states(frames=1, height=2, width=14)
    with torch.inference_mode():
        model(x, context, 1)
    model(x, context, 1).sample.sum().backward()
    assert all(value.grad is not None for value in model.parameters())
    assert torch.equal(copy.deepcopy(model)(x, context, 1).sample, model(x, context, 1).sample)


@torch.no_grad()
@pytest.mark.parametrize("mode", [lambda: torch.device("meta"), lambda: FakeTensorMode(allow_non_fake_inputs=True)])
def test_tables_from_other_devices_and_modes_serve_everybody(mode: Any) -> None:
    """A table is kept for the whole process, whoever asked for it first."""
    rope.tables.cache_clear()
    degrade.alphas.cache_clear()
    with mode():
        build(Stage2Transformer)(torch.zeros(1, 3, 4, 8, 6), torch.zeros(1, 2, 8), 5.0)
        degrade.alphas()
    assert rope.tables(3, 4, 3)[0].device.type == "cpu" and float(rope.tables(3, 4, 3)[0][0, 0]) == 1
    assert float(degrade.alphas()[-1]) == 0
    out = build(Stage2Transformer)(torch.zeros(1, 3, 4, 8, 6), torch.zeros(1, 2, 8), 5.0)
    assert out.sample.isfinite().all()


@torch.no_grad()
def test_one_network_serves_two_precisions() -> None:
    model = build()
    x, context = states()
    before = model(x, context, 3).sample
    model.to(torch.bfloat16)(x.bfloat16(), context.bfloat16(), 3)
    tables = model._tables(3, 2, 3, x.bfloat16())
    assert tables[0].dtype == torch.bfloat16 and model._tables(3, 2, 3, x)[0].dtype == torch.float32
    assert torch.equal(build()(x, context, 3).sample, before)


@torch.no_grad()
def test_timesteps_are_numbers_or_one_per_sample() -> None:
    model = build()
    x, context = states()
    apart = torch.cat([model(x[i : i + 1], context[i : i + 1], t).sample for i, t in enumerate((3, 900))])
    assert torch.allclose(model(x, context, torch.tensor([3, 900])).sample, apart, atol=1e-5)
    assert torch.equal(model(x, context, 3).sample, model(x, context, torch.tensor([3.0, 3.0])).sample)
    assert torch.equal(model(x, context, 3, return_dict=False)[0], model(x, context, 3).sample)


@torch.no_grad()
@pytest.mark.parametrize("cls", [Stage1Transformer, Stage2Transformer])
def test_half_precision_stays_near(cls: Any) -> None:
    exact, half = build(cls), build(cls).to(torch.bfloat16)
    x, context = states()
    out = half(x.bfloat16(), context.bfloat16(), 500.0).sample
    assert out.dtype == torch.bfloat16
    want = exact(x, context, 500.0).sample
    assert (out.float() - want).norm() / want.norm() < 0.03


def test_odd_latents_are_refused() -> None:
    with pytest.raises(UsageError, match="a latent of 3x4 does not divide into patches of 2"):
        build()(torch.zeros(1, 1, 4, 3, 4), torch.zeros(1, 1, 8), 0)
