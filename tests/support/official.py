"""A small FlashVideo in the layout of the official release: seeded weights under official names, and T5 beside them.

The names and shapes are written out here from the layout's description, not taken from the code under test.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from transformers import T5Config, T5EncoderModel, T5Tokenizer

WIDTH, LAYERS, TIME, TEXT, CHANNELS = 128, 2, 32, 24, 16
RANK = 4
PREFIX = "model.diffusion_model."


def transformer_shapes(stage: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "mixins.patch_embed.proj": (WIDTH, CHANNELS, 2, 2),
        "mixins.patch_embed.text_proj": (WIDTH, TEXT),
        "time_embed.0": (TIME, WIDTH),
        "time_embed.2": (TIME, TIME),
        "transformer.final_layernorm": (WIDTH,),
        "mixins.final_layer.norm_final": (WIDTH,),
        "mixins.final_layer.linear": (4 * CHANNELS, WIDTH),
        "mixins.final_layer.adaLN_modulation.1": (2 * WIDTH, TIME),
    }
    for i in range(LAYERS):
        layer, mixin = f"transformer.layers.{i}", "mixins.adaln_layer"
        shapes |= {
            f"{mixin}.adaLN_modulations.{i}.1": (12 * WIDTH, TIME),
            f"{mixin}.query_layernorm_list.{i}": (64,),
            f"{mixin}.key_layernorm_list.{i}": (64,),
            f"{layer}.input_layernorm": (WIDTH,),
            f"{layer}.post_attention_layernorm": (WIDTH,),
            f"{layer}.attention.query_key_value": (3 * WIDTH, WIDTH),
            f"{layer}.attention.dense": (WIDTH, WIDTH),
            f"{layer}.mlp.dense_h_to_4h": (4 * WIDTH, WIDTH),
            f"{layer}.mlp.dense_4h_to_h": (WIDTH, 4 * WIDTH),
        }
    if stage == 2:
        for name in ("ref_step_time_embedding", "time_size_embedding"):
            shapes |= {f"{name}.0": (TIME, WIDTH), f"{name}.2": (TIME, TIME)}
    return shapes


def adapted(name: str) -> bool:
    return name.endswith(("query_key_value", "attention.dense")) or ".adaLN_modulations." in name


def transformer(stage: int, lora: bool = False, seed: int = 0) -> dict[str, Tensor]:
    """A state dict as under `module`, with the dead and foreign keys that the facts name."""
    draw = torch.Generator().manual_seed(seed + stage)
    state: dict[str, Tensor] = {}
    for name, shape in transformer_shapes(stage).items():
        original = f"{name}.original" if lora and adapted(name) else name
        scale = 0.1 if len(shape) == 1 else shape[-1] ** -0.5
        state[f"{original}.weight"] = float(len(shape) == 1) + scale * torch.randn(shape, generator=draw)
        state[f"{original}.bias"] = 0.1 * torch.randn(shape[0], generator=draw)
        if lora and adapted(name):
            for k in range(parts := 3 if name.endswith("query_key_value") else 1):
                state[f"{name}.matrix_A.{k}"] = torch.randn(RANK, shape[1], generator=draw)
                state[f"{name}.matrix_B.{k}"] = 0.1 * torch.randn(shape[0] // parts, RANK, generator=draw)
    state["transformer.position_embeddings.weight"] = torch.zeros(64, WIDTH)
    state["mixins.pos_embed.freqs_sin"] = state["mixins.pos_embed.freqs_cos"] = torch.zeros(3)
    return {PREFIX + key: value for key, value in state.items()} | {"conditioner.embedders.0.x": torch.zeros(2)}


def merged(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same state with its adapters merged by hand: W + 1/rank * rows of B_k A_k."""
    out = {}
    for key, value in state.items():
        if ".matrix_" in key:
            continue
        if key.endswith(".original.weight"):
            module = key.removesuffix(".original.weight")
            parts = sum(name.startswith(f"{module}.matrix_A.") for name in state)
            rows = [state[f"{module}.matrix_B.{k}"] @ state[f"{module}.matrix_A.{k}"] for k in range(parts)]
            value = value + torch.cat(rows) / RANK
        out[key.replace(".original.", ".")] = value
    return out


Shapes = dict[str, tuple[int, ...]]


def residual(name: str, before: int, after: int, spatial: bool) -> Shapes:
    """A residual block; `spatial`: the decoder's, whose norms look at the latent."""
    shapes: Shapes = {}
    for number, width in ((1, before), (2, after)):
        norm = f"{name}.norm{number}"
        shapes[f"{norm}.norm_layer" if spatial else norm] = (width,)
        if spatial:
            shapes[f"{norm}.conv_y.conv"] = shapes[f"{norm}.conv_b.conv"] = (width, CHANNELS, 1, 1, 1)
    shapes[f"{name}.conv1.conv"] = (after, before, 3, 3, 3)
    shapes[f"{name}.conv2.conv"] = (after, after, 3, 3, 3)
    if before != after:
        shapes[f"{name}.nin_shortcut"] = (after, before, 1, 1, 1)
    return shapes


def vae_shapes(widths: tuple[int, ...] = (32, 32, 64, 64), blocks: int = 1) -> Shapes:
    shapes: Shapes = {"encoder.conv_in.conv": (widths[0], 3, 3, 3, 3)}
    before = widths[0]
    for level, width in enumerate(widths):
        for number in range(blocks):
            shapes |= residual(f"encoder.down.{level}.block.{number}", before, width, False)
            before = width
        if level < len(widths) - 1:
            shapes[f"encoder.down.{level}.downsample.conv"] = (width, width, 3, 3)
    for number in (1, 2):
        shapes |= residual(f"encoder.mid.block_{number}", widths[-1], widths[-1], False)
        shapes |= residual(f"decoder.mid.block_{number}", widths[-1], widths[-1], True)
    shapes["encoder.norm_out"] = (widths[-1],)
    shapes["encoder.conv_out.conv"] = (2 * CHANNELS, widths[-1], 3, 3, 3)
    shapes["decoder.conv_in.conv"] = (widths[-1], CHANNELS, 3, 3, 3)
    before = widths[-1]
    for level in reversed(range(len(widths))):
        for number in range(blocks + 1):
            shapes |= residual(f"decoder.up.{level}.block.{number}", before, widths[level], True)
            before = widths[level]
        if level:
            shapes[f"decoder.up.{level}.upsample.conv"] = (before, before, 3, 3)
    shapes["decoder.norm_out.norm_layer"] = (widths[0],)
    shapes["decoder.norm_out.conv_y.conv"] = shapes["decoder.norm_out.conv_b.conv"] = (widths[0], CHANNELS, 1, 1, 1)
    shapes["decoder.conv_out.conv"] = (3, widths[0], 3, 3, 3)
    return shapes


def vae(widths: tuple[int, ...] = (32, 32, 64, 64), blocks: int = 1) -> dict[str, Tensor]:
    """A state dict as under `state_dict`, with keys of the loss that nothing reads."""
    draw = torch.Generator().manual_seed(7)
    state: dict[str, Tensor] = {}
    for name, shape in vae_shapes(widths, blocks).items():
        scale = 0.1 if len(shape) == 1 else torch.Size(shape[1:]).numel() ** -0.5
        state[f"{name}.weight"] = float(len(shape) == 1) + scale * torch.randn(shape, generator=draw)
        state[f"{name}.bias"] = 0.1 * torch.randn(shape[0], generator=draw)
    return state | {"loss.discriminator.weight": torch.zeros(3), "loss.logvar": torch.zeros(())}


def text(folder: Path) -> None:
    """A T5 encoder of `TEXT` channels with a tokenizer of letters."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((f"▁{c}", -2.0) for c in letters)]
    T5Tokenizer(vocab=[*vocab, *((c, -3.0) for c in f"{letters},.▁")], extra_ids=0).save_pretrained(folder)
    config = T5Config(
        vocab_size=64, d_model=TEXT, d_kv=8, d_ff=32, num_layers=1, num_heads=2, feed_forward_proj="gated-gelu"
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        T5EncoderModel(config).save_pretrained(folder)


def release(folder: Path, dtype: torch.dtype = torch.float32, lora: bool = True) -> Path:
    """The official folder, Stage I with adapters that are not merged."""
    folder.mkdir(parents=True, exist_ok=True)
    for stage in (1, 2):
        state = {key: value.to(dtype) for key, value in transformer(stage, lora=lora and stage == 1).items()}
        torch.save({"module": state, "dp_world_size": 8}, folder / f"stage{stage}.pt")
    torch.save({"state_dict": vae()}, folder / "3d-vae.pt")
    text(folder / "google" / "t5-v1_1-xxl")
    return folder
