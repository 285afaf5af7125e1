"""The cascade against outputs of the official code (tests/golden/flashvideo_*.safetensors)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from flashbench.cascade import degrade, rope, sampling
from flashbench.cascade.checkpoint import load_stage2
from flashbench.cascade.official import PREFIX
from flashbench.cascade.transformer import Stage2Transformer
from flashbench.errors import InvalidError, UsageError

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / "flashvideo_stage2.safetensors")


@pytest.fixture(scope="module")
def stage2(golden: dict[str, torch.Tensor]) -> Stage2Transformer:
    return load_stage2(golden)


def worst(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max())


def test_rotary_tables() -> None:
    golden = load_file(GOLDEN / "flashvideo_rope.safetensors")
    for frames, height, width in ((3, 4, 6), (2, 5, 9)):
        cos, sin = rope.tables(frames, height, width)
        assert worst(cos, golden[f"cos_t{frames}_h{height}_w{width}"]) <= 1e-6
        assert worst(sin, golden[f"sin_t{frames}_h{height}_w{width}"]) <= 1e-6
    cos, sin = rope.tables(13, 90, 160)
    rows = golden["rows_t13_h90_w160"]
    assert worst(cos[rows], golden["rows_cos_t13_h90_w160"]) <= 1e-6
    assert worst(sin[rows], golden["rows_sin_t13_h90_w160"]) <= 1e-6


def test_rotary_tables_are_built_once_per_shape(stage2: Stage2Transformer) -> None:
    assert rope.tables(2, 3, 4)[0] is rope.tables(2, 3, 4)[0]
    first = stage2._tables(2, 3, 4, torch.zeros(()))
    assert stage2._tables(2, 3, 4, torch.zeros(())) is first
    assert stage2._tables(2, 4, 4, torch.zeros(()))[0].shape == (32, 64)


def test_degradation() -> None:
    golden = load_file(GOLDEN / "flashvideo_degradation.safetensors")
    assert worst(degrade.alphas(), golden["alphas_cumprod_sqrt_shift1"]) <= 1e-6
    steps = [int(key.removeprefix("out_step")) for key in golden if key.startswith("out_step")]
    assert len(steps) == 15
    for step in steps:
        assert worst(degrade.latent(golden["z"], step, golden["noise"]), golden[f"out_step{step}"]) <= 1e-6


def test_time_grid(golden: dict[str, torch.Tensor]) -> None:
    for nfe in (1, 2, 4, 5):
        assert worst(sampling.time_grid(nfe, 2.5), golden[f"grid.t_n{nfe}_shift2.5"]) <= 1e-6


def test_forward(golden: dict[str, torch.Tensor], stage2: Stage2Transformer) -> None:
    with torch.no_grad():
        for name, step in (("fwd", 675), ("fwd2", 700)):
            out = stage2(
                hidden_states=golden[f"{name}.x"],
                encoder_hidden_states=golden[f"{name}.context"],
                timestep=golden[f"{name}.timesteps"],
                degradation_step=step,
            ).sample
            assert worst(out, golden[f"{name}.out"]) <= 1e-5


def test_sampler(golden: dict[str, torch.Tensor], stage2: Stage2Transformer) -> None:
    outputs = [key for key in golden if key.startswith("sample.out_")]
    assert len(outputs) == 6
    for key in outputs:
        nfe, guidance, shift, step = (
            float(part.lstrip("nfecgshitp")) for part in key.removeprefix("sample.out_").split("_")
        )
        sample = sampling.refine(
            stage2,
            golden["sample.lq_latent"],
            golden["sample.context"],
            nfe=int(nfe),
            shift=shift,
            guidance=guidance,
            degradation_step=int(step),
            noise=golden["sample.noise"],
        )
        assert worst(sample.latent, golden[key]) <= 1e-4, key
        assert sample.evaluations == nfe
        assert sample.network_forwards == (nfe, 0 if guidance == 1 else nfe)


def test_unconditional_zeros_are_the_default(golden: dict[str, torch.Tensor], stage2: Stage2Transformer) -> None:
    inputs = (golden["sample.lq_latent"], golden["sample.context"])
    options = {"nfe": 1, "guidance": 7.0, "noise": golden["sample.noise"]}
    given = sampling.refine(stage2, *inputs, uncond=golden["sample.uncond_context"], **options)
    assert torch.equal(given.latent, sampling.refine(stage2, *inputs, **options).latent)


def test_saved_and_loaded_network_is_the_same(stage2: Stage2Transformer, tmp_path: Path) -> None:
    stage2.save_pretrained(tmp_path)
    again = Stage2Transformer.from_pretrained(tmp_path)
    assert (tmp_path / "diffusion_pytorch_model.safetensors").exists()
    assert dict(again.state_dict().items()).keys() == stage2.state_dict().keys()
    x, context = torch.ones(1, 2, 16, 4, 4), torch.zeros(1, 5, 24)
    with torch.no_grad():
        same = torch.equal(again(x, context, 500.0).sample, stage2(x, context, 500.0).sample)
    assert same


def test_faulty_weights_are_listed(golden: dict[str, torch.Tensor]) -> None:
    weights = {key: value for key, value in golden.items() if key.startswith(PREFIX)}
    bias = PREFIX + "mixins.final_layer.linear.bias"
    broken = {key: value for key, value in weights.items() if key != bias}
    broken[PREFIX + "surprise.weight"] = torch.zeros(1)
    broken[PREFIX + "time_embed.2.bias"] = torch.zeros(7)
    with pytest.raises(
        InvalidError,
        match=r"missing: mixins.final_layer.linear.bias; unexpected: surprise.weight; mis-shaped: time_embed.2.bias",
    ):
        load_stage2(broken)
    with pytest.raises(InvalidError, match="no Stage II weights"):
        load_stage2({"conditioner.weight": torch.zeros(1)})
    foreign = weights | {"first_stage_model.weight": torch.zeros(1)}
    assert load_stage2(foreign).config.num_layers == 2


def test_parameter_count_of_the_released_size() -> None:
    with torch.device("meta"):
        network = Stage2Transformer()
    assert sum(value.numel() for value in network.parameters()) == 1_696_276_288


def test_latents_that_do_not_divide_into_patches_are_refused(stage2: Stage2Transformer) -> None:
    with pytest.raises(UsageError, match="does not divide"):
        stage2(torch.zeros(1, 1, 16, 5, 4), torch.zeros(1, 5, 24), 500.0)
