"""A tiny FlashVideo of seeded weights in the official files' form: stage1.pt, stage2.pt, 3d-vae.pt and T5's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import T5EncoderModel

from flashbench.drill import layout
from flashbench.drill.seeded import state, weight
from flashbench.drill.text import LETTERS, config, tokenizer, words

WIDTHS = (32, 32, 32, 32)
"""Channels of the autoencoder at each resolution: as few as its groups of 32 allow."""
TIED = "encoder.embed_tokens.weight"


def _filled(tag: str, shapes: layout.Shapes, original: bool = False) -> dict[str, Tensor]:
    """Weight and bias of each module; `original`: as beside adapters."""
    filled: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        key = f"{name}.original" if original and layout.adapted(name) else name
        filled[f"{key}.weight"] = weight(tag, f"{key}.weight", shape)
        filled[f"{key}.bias"] = weight(tag, f"{key}.bias", shape[:1])
    return filled


def transformer(stage: int) -> dict[str, Tensor]:
    """What stage1.pt and stage2.pt hold under `module`: Stage I with adapters that are not merged yet; dead keys."""
    tag, shapes = f"stage{stage}", layout.transformer_shapes(stage)
    filled = _filled(tag, shapes, original=stage == 1)
    for name, shape in shapes.items() if stage == 1 else ():
        if layout.adapted(name):
            for k in range(parts := 3 if name.endswith("query_key_value") else 1):
                for letter, sides in (("A", (layout.RANK, shape[1])), ("B", (shape[0] // parts, layout.RANK))):
                    key = f"{name}.matrix_{letter}.{k}"
                    filled[key] = weight(tag, key, sides)
    filled["transformer.position_embeddings.weight"] = torch.zeros(64, layout.WIDTH)
    filled["mixins.pos_embed.freqs_sin"] = torch.zeros(3)
    filled["mixins.pos_embed.freqs_cos"] = torch.zeros(3)
    return {layout.PREFIX + key: value for key, value in filled.items()}


def autoencoder() -> dict[str, Tensor]:
    """What 3d-vae.pt holds under `state_dict`, with a key of its loss that nothing reads."""
    return _filled("vae", layout.vae_shapes(WIDTHS)) | {"loss.logvar": torch.zeros(())}


def files() -> dict[str, Any]:
    """Official file name to what `torch.save` writes into it."""
    return {
        "stage1.pt": {"module": transformer(1), "dp_world_size": 8},
        "stage2.pt": {"module": transformer(2), "dp_world_size": 8},
        "3d-vae.pt": {"state_dict": autoencoder()},
    }


def write_text(folder: Path, prompts: str = "") -> None:
    """T5's encoder in two shards with their index, its configuration, and a tokenizer of the words of `prompts`."""
    folder.mkdir(parents=True, exist_ok=True)
    form = config(LETTERS + len(known := words(prompts)))
    form.save_pretrained(folder)
    tokenizer(known).save_pretrained(folder)
    with torch.device("meta"):
        names = T5EncoderModel(form).state_dict()
    whole = list(state("t5", {key: value for key, value in names.items() if key != TIED}).items())
    places: dict[str, str] = {}
    for number in (1, 2):
        half = dict(whole[number - 1 :: 2])
        places |= dict.fromkeys(half, shard := f"model-0000{number}-of-00002.safetensors")
        save_file(half, folder / shard, metadata={"format": "pt"})
    index = {"metadata": {"total_size": sum(v.nbytes for _, v in whole)}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", "utf-8")
