"""Official files, state dicts and diffusers folders give the same networks; what does not fit is listed."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLCogVideoX
from safetensors.torch import load_file, save_file
from support import official

from flashbench.cascade.checkpoint import load_stage1, load_stage2, load_vae
from flashbench.cascade.transformer import Stage1Transformer
from flashbench.errors import InvalidError, UsageError


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return official.release(tmp_path_factory.mktemp("official"))


def test_parameter_counts_of_the_release() -> None:
    with torch.device("meta"):
        stage1, vae = Stage1Transformer(), AutoencoderKLCogVideoX()
    assert sum(value.numel() for value in stage1.parameters()) == 5_570_283_072
    assert sum(value.numel() for value in vae.parameters()) == 215_583_907
    assert len(official.vae_shapes((128, 256, 256, 512), 3)) * 2 == 436


def test_a_file_and_its_state_dict_are_the_same(release: Path) -> None:
    assert same(load_stage1(release / "stage1.pt"), load_stage1(official.transformer(1, lora=True)))
    assert same(load_stage2(str(release / "stage2.pt")), load_stage2({"module": official.transformer(2)}))
    assert same(load_vae(release / "3d-vae.pt"), load_vae(official.vae()))


def test_keys_may_come_without_their_prefix() -> None:
    state = {key.removeprefix(official.PREFIX): value for key, value in official.transformer(2).items()}
    assert same(load_stage2(state), load_stage2(official.transformer(2)))
    inside = {f"first_stage_model.{key}": value for key, value in official.vae().items()}
    assert same(load_vae(inside), load_vae(official.vae()))


def test_configurations_are_read_off_the_shapes() -> None:
    stage1, vae = load_stage1(official.transformer(1)), load_vae(official.vae())
    assert (stage1.config.num_attention_heads, stage1.config.num_layers, stage1.config.time_embed_dim) == (2, 2, 32)
    assert (stage1.config.text_embed_dim, stage1.config.in_channels, stage1.config.patch_size) == (24, 16, 2)
    assert tuple(vae.config.block_out_channels) == (32, 32, 64, 64)
    assert (vae.config.layers_per_block, vae.config.latent_channels) == (1, 16)
    assert not stage1.training and not vae.training
    assert load_stage1(official.transformer(1), max_text_seq_length=7).config.max_text_seq_length == 7


def test_adapters_are_merged_as_by_hand() -> None:
    state = official.transformer(1, lora=True)
    merged, plain = load_stage1(state), load_stage1(official.merged(state))
    for key, value in plain.state_dict().items():
        assert torch.allclose(merged.state_dict()[key], value, atol=1e-6), key
    twice = load_stage1(state, lora_alpha=2.0).transformer_blocks[0].attn1.to_q.weight
    once, base = (
        model.transformer_blocks[0].attn1.to_q.weight for model in (merged, load_stage1(state, lora_alpha=0.0))
    )
    assert torch.allclose(twice - base, 2 * (once - base), atol=1e-6)
    assert (once - base).abs().max() > 0.01


def test_layouts_that_the_release_loads_as_well() -> None:
    """Plain names beside adapters, which apply; `original` without adapters, which has none to apply."""
    state = official.transformer(1, lora=True)
    beside = {key.replace(".original.", "."): value for key, value in state.items()}
    assert same(load_stage1(beside), load_stage1(state))
    without = {key: value for key, value in state.items() if ".matrix_" not in key}
    assert same(load_stage1(without), load_stage1(state, lora_alpha=0.0))


def test_half_precision_merges_in_float32_and_rounds_once() -> None:
    state = {key: value.bfloat16() for key, value in official.transformer(1, lora=True).items()}
    weight = load_stage1(state, torch_dtype=torch.bfloat16).transformer_blocks[1].attn1.to_out[0].weight
    exact = official.merged({key: value.float() for key, value in state.items()})
    want = exact[f"{official.PREFIX}transformer.layers.1.attention.dense.weight"].bfloat16()
    assert weight.dtype == torch.bfloat16 and torch.equal(weight, want)
    assert load_stage1(state).dtype == torch.float32


def test_the_model_shares_no_memory_with_the_state() -> None:
    state = official.transformer(2)
    model = load_stage2(state)
    before = model.proj_out.weight.clone()
    for value in state.values():
        value.zero_()
    assert torch.equal(model.proj_out.weight, before)


@pytest.mark.parametrize("absolute", [False, True])
def test_saved_folders_load_again(tmp_path: Path, absolute: bool) -> None:
    model = load_stage1(official.transformer(1), use_rotary_positional_embeddings=not absolute, max_text_seq_length=5)
    model.save_pretrained(tmp_path / "stage1")
    x, context = torch.ones(1, 2, 16, 4, 6), torch.ones(1, 3, official.TEXT)
    with torch.no_grad():
        want = model(x, context, 10).sample
        for source in (tmp_path, tmp_path / "stage1"):
            assert torch.equal(load_stage1(source)(x, context, 10).sample, want)


def test_what_does_not_fit_is_listed_at_once() -> None:
    state = official.transformer(1, lora=True)
    del state[official.PREFIX + "time_embed.0.bias"]
    del state[official.PREFIX + "transformer.layers.0.attention.dense.matrix_B.0"]
    state[official.PREFIX + "transformer.layers.0.mlp.extra.weight"] = torch.zeros(1)
    state[official.PREFIX + "mixins.final_layer.linear.bias"] = torch.zeros(3)
    state[official.PREFIX + "transformer.layers.1.mlp.dense_h_to_4h.matrix_A.0"] = torch.zeros(4, 128)
    state[official.PREFIX + "transformer.layers.1.odd.matrix_A.0"] = torch.zeros(4, 128)
    with pytest.raises(InvalidError) as caught:
        load_stage1(state)
    told = str(caught.value)
    for part in (
        "missing: time_embed.0.bias",
        "unexpected: transformer.layers.0.mlp.extra.weight",
        "mixins.final_layer.linear.bias [3] (expected [64])",
        "transformer.layers.0.attention.dense: weight [128, 128] with A [[4, 128]], B []",
        "transformer.layers.1.mlp.dense_h_to_4h: weight [512, 128] with A [[4, 128]], B []",
        "transformer.layers.1.odd.matrix_A.0: without transformer.layers.1.odd.weight",
    ):
        assert part in told


def test_the_wrong_stage_is_told() -> None:
    with pytest.raises(InvalidError, match="unexpected: ref_step_time_embedding"):
        load_stage1(official.transformer(2))
    with pytest.raises(InvalidError, match="missing: ref_step_time_embedding"):
        load_stage2(official.transformer(1))
    with pytest.raises(InvalidError, match="no autoencoder weights"):
        load_vae(official.transformer(1))
    with pytest.raises(InvalidError, match="no Stage I weights"):
        load_stage1(official.vae())


class Surprise:
    """Something that a checkpoint must not bring to life."""


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    damaged, other, objects = (tmp_path / name for name in ("stage1.pt", "list.pt", "objects.pt"))
    damaged.write_bytes(b"version https://git-lfs.github.com/spec/v1")
    torch.save([1, 2], other)
    torch.save({"module": {"x": Surprise()}}, objects)
    for path, told in (
        (damaged, "cut short, or a git-lfs pointer"),
        (other, "no state dict"),
        (objects, "more than ten"),
    ):
        with pytest.raises(InvalidError, match=told):
            load_stage1(path)
    with pytest.raises(UsageError, match="no file or folder"):
        load_stage1(tmp_path / "absent.pt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"holds neither stage1.pt nor a config.json"):
        load_stage1(tmp_path / "empty")


def test_what_training_frameworks_leave_beside_the_weights(tmp_path: Path) -> None:
    beside = {"lr": np.float64(0.1), "rng": np.arange(3), "args": argparse.Namespace(mode="finetune"), "step": 3}
    torch.save({"module": official.transformer(2), **beside}, tmp_path / "stage2.pt")
    torch.save({"module": official.transformer(2)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name in ("stage2.pt", "old.pt"):
        assert same(load_stage2(tmp_path / name), load_stage2(official.transformer(2)))
    assert same(load_stage2(tmp_path), load_stage2(official.transformer(2)))  # the official folder itself


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    load_stage1(official.transformer(1)).save_pretrained(tmp_path / "stage1")
    load_stage2(official.transformer(2)).save_pretrained(tmp_path / "stage2")
    return tmp_path


def test_folders_are_checked_as_well(saved: Path) -> None:
    with pytest.raises(InvalidError, match="holds a Stage1Transformer, not a Stage2Transformer"):
        load_stage2(saved / "stage1")
    with pytest.raises(InvalidError, match="unexpected: transformer_blocks.1"):
        load_stage1(saved, num_layers=1)
    with pytest.raises(InvalidError, match="missing: transformer_blocks.2"):
        load_stage1(saved, num_layers=3)
    for source in (saved, official.transformer(1)):
        with pytest.raises(UsageError, match="unknown setting of Stage1Transformer 'num_layer'"):
            load_stage1(source, num_layer=1)  # type: ignore[arg-type]
    weights = saved / "stage1" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    tensors["surprise"] = tensors.pop("proj_out.bias").clone()
    save_file(tensors, weights, metadata={"format": "pt"})
    for load in (load_stage1, Stage1Transformer.from_pretrained):
        with pytest.raises(InvalidError, match=r"missing: proj_out.bias; unexpected: surprise"):
            load(saved / "stage1")
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InvalidError, match="cannot be loaded"):
        load_stage1(saved)
    (saved / "stage1" / "config.json").write_text("{")
    with pytest.raises(InvalidError, match="not a configuration"):
        load_stage1(saved)


def test_parameters_serve_as_a_state() -> None:
    state = {key: torch.nn.Parameter(value) for key, value in official.transformer(1, lora=True).items()}
    assert same(load_stage1(state), load_stage1(official.transformer(1, lora=True)))


def test_safetensors_with_official_names(tmp_path: Path) -> None:
    save_file({key: value.clone() for key, value in official.transformer(2).items()}, tmp_path / "stage2.safetensors")
    assert same(load_stage2(tmp_path / "stage2.safetensors"), load_stage2(official.transformer(2)))
