"""Reading FlashVideo's official Stage II weights into diffusers' layout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from flashbench.cascade import rope
from flashbench.cascade.transformer import Stage2Transformer
from flashbench.errors import InvalidError

PREFIX = "model.diffusion_model."
DEAD = ("transformer.position_embeddings.weight", "mixins.pos_embed.freqs_sin", "mixins.pos_embed.freqs_cos")
"""Keys that the official model stores and never reads."""

_WHOLE = {
    "mixins.patch_embed.proj": "patch_embed.proj",
    "mixins.patch_embed.text_proj": "patch_embed.text_proj",
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "time_size_embedding.0": "ofs_embedding.frames.linear_1",
    "time_size_embedding.2": "ofs_embedding.frames.linear_2",
    "ref_step_time_embedding.0": "ofs_embedding.degradation.linear_1",
    "ref_step_time_embedding.2": "ofs_embedding.degradation.linear_2",
    "transformer.final_layernorm": "norm_final",
    "mixins.final_layer.norm_final": "norm_out.norm",
    "mixins.final_layer.adaLN_modulation.1": "norm_out.linear",
    "mixins.final_layer.linear": "proj_out",
}
_LAYER = {
    "input_layernorm": "norm1.norm",
    "post_attention_layernorm": "norm2.norm",
    "attention.dense": "attn1.to_out.0",
    "mlp.dense_h_to_4h": "ff.net.0.proj",
    "mlp.dense_4h_to_h": "ff.net.2",
}


def load_stage2(source: Mapping[str, Tensor], **config: Any) -> Stage2Transformer:
    """A Stage II network in eval mode from a state dict with official key names.

    The configuration is read off the tensors' shapes; `config` overrides it. Keys of other parts of the official file
    are passed over. Raises InvalidError that lists missing, unexpected and mis-shaped keys.
    """
    state = {key.removeprefix(PREFIX): value for key, value in source.items() if key.startswith(PREFIX)}
    state = {key: value for key, value in state.items() if key not in DEAD}
    anchors = (
        "mixins.patch_embed.proj.weight",
        "mixins.patch_embed.text_proj.weight",
        "time_embed.0.weight",
        "mixins.final_layer.linear.weight",
    )
    absent = [key for key in anchors if key not in state]
    if absent:
        raise InvalidError(
            f"no Stage II weights here: missing {', '.join(PREFIX + key for key in absent)}",
            fix="pass the `module` state dict of FlashVideo's stage2.pt",
        )
    patch, text, time, last = (state[key] for key in anchors)
    layers = [int(key.split(".")[2]) for key in state if key.startswith("transformer.layers.")]
    inferred = {
        "num_attention_heads": patch.shape[0] // rope.HEAD_DIM,
        "num_layers": max(layers, default=-1) + 1,
        "in_channels": patch.shape[1],
        "patch_size": patch.shape[2],
        "out_channels": last.shape[0] // patch.shape[2] ** 2,
        "time_embed_dim": time.shape[0],
        "text_embed_dim": text.shape[1],
    }
    model = Stage2Transformer(**(inferred | config))
    converted = _convert(state)
    _check(model.state_dict(), converted)
    model.load_state_dict(converted)
    return model.eval()


def _convert(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Official names (without prefix) to diffusers'; a name that is not known keeps its own."""
    out: dict[str, Tensor] = {}
    for key, value in state.items():
        name, _, kind = key.rpartition(".")
        parts = name.split(".")
        if name in _WHOLE:
            out[f"{_WHOLE[name]}.{kind}"] = value
        elif name.startswith("mixins.adaln_layer.adaLN_modulations."):
            # Twelve chunks: (shift, scale, gate) of attention and MLP for the image, then the same for the text.
            chunks = value.chunk(12)
            block = f"transformer_blocks.{parts[3]}"
            out[f"{block}.norm1.linear.{kind}"] = torch.cat([*chunks[0:3], *chunks[6:9]])
            out[f"{block}.norm2.linear.{kind}"] = torch.cat([*chunks[3:6], *chunks[9:12]])
        elif name.startswith(("mixins.adaln_layer.query_layernorm_list.", "mixins.adaln_layer.key_layernorm_list.")):
            out[f"transformer_blocks.{parts[3]}.attn1.norm_{parts[2][0]}.{kind}"] = value
        elif name.startswith("transformer.layers.") and ".".join(parts[3:]) in _LAYER:
            out[f"transformer_blocks.{parts[2]}.{_LAYER['.'.join(parts[3:])]}.{kind}"] = value
        elif name.startswith("transformer.layers.") and parts[3:] == ["attention", "query_key_value"]:
            for letter, part in zip("qkv", value.chunk(3), strict=True):
                out[f"transformer_blocks.{parts[2]}.attn1.to_{letter}.{kind}"] = part
        else:
            out[key] = value
    return out


def _check(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    """Raise InvalidError that lists every key that does not fit."""
    missing = sorted(set(expected) - set(given))
    unexpected = sorted(set(given) - set(expected))
    shapes = [
        f"{key} {list(given[key].shape)} (expected {list(expected[key].shape)})"
        for key in sorted(set(expected) & set(given))
        if expected[key].shape != given[key].shape
    ]
    groups = {"missing": missing, "unexpected": unexpected, "mis-shaped": shapes}
    faults = [f"{name}: {', '.join(keys)}" for name, keys in groups.items() if keys]
    if faults:
        raise InvalidError(
            "the Stage II weights do not fit the network; " + "; ".join(faults),
            fix="check that the file is whole and the configuration overrides are right",
        )
