"""A small FlashVideo in the layout of the official release: seeded weights under official names, and T5 beside them.

The names and shapes are those of `flashbench.drill.layout`, which are written out from the layout's description.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from transformers import T5EncoderModel

from flashbench.drill.layout import PREFIX, RANK, TEXT, WIDTH, adapted, transformer_shapes, vae_shapes
from flashbench.drill.text import config, tokenizer

__all__ = ["PREFIX", "TEXT", "adapted", "merged", "release", "text", "transformer", "vae", "vae_shapes"]


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
    tokenizer().save_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        T5EncoderModel(config()).save_pretrained(folder)


def release(folder: Path, dtype: torch.dtype = torch.float32, lora: bool = True) -> Path:
    """The official folder, Stage I with adapters that are not merged."""
    folder.mkdir(parents=True, exist_ok=True)
    for stage in (1, 2):
        state = {key: value.to(dtype) for key, value in transformer(stage, lora=lora and stage == 1).items()}
        torch.save({"module": state, "dp_world_size": 8}, folder / f"stage{stage}.pt")
    torch.save({"state_dict": vae()}, folder / "3d-vae.pt")
    text(folder / "google" / "t5-v1_1-xxl")
    return folder
