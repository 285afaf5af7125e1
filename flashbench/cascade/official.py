"""The layout of FlashVideo's official checkpoints and what each of their tensors becomes in diffusers' models.

A plan says for every official key its shape and its targets; the reader in `checkpoint` and the converter in `convert`
follow the same plan.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from flashbench.cascade import rope
from flashbench.errors import InvalidError

PREFIX = "model.diffusion_model."
VAE_PREFIX = "first_stage_model."
FOREIGN = (VAE_PREFIX, "conditioner.")
"""Prefixes of other models' weights that a transformer's file may hold."""
DEAD = ("transformer.position_embeddings.weight", "mixins.pos_embed.freqs_sin", "mixins.pos_embed.freqs_cos")
"""Keys that the official networks store and never read."""
LORA_ALPHA = 1.0
"""SwissArmyTransformer's default, which the release's configuration leaves as it is: the scaling is 1 / rank."""


class Target(NamedTuple):
    """A tensor of a diffusers model, made of the chunks `taken` of an official tensor cut into `chunks` rows."""

    name: str
    chunks: int = 1
    taken: tuple[int, ...] = (0,)

    def of(self, tensor: Tensor) -> Tensor:
        """A copy, so that the model shares no memory with the file or with its other tensors."""
        if self.chunks == 1:
            return tensor.detach().clone()
        parts = tensor.detach().chunk(self.chunks)
        return torch.cat([parts[index] for index in self.taken])


class Entry(NamedTuple):
    """An official tensor's shape and targets."""

    shape: tuple[int, ...]
    targets: tuple[Target, ...]

    @property
    def size(self) -> int:
        """Elements of the official tensor."""
        return math.prod(self.shape)


Plan: TypeAlias = dict[str, Entry]


@dataclass(frozen=True)
class Lora:
    """A weight with low-rank adapters that the release merges when it starts: W + alpha / r * rows of B_k A_k."""

    original: Tensor
    downs: tuple[Tensor, ...]
    ups: tuple[Tensor, ...]
    dtype: torch.dtype
    alpha: float

    @property
    def shape(self) -> torch.Size:
        """The shape of the merged weight."""
        return self.original.shape

    @torch.no_grad()
    def merged(self) -> Tensor:
        """The weight with its adapters added in float32, then cast as the release does."""
        scale = self.alpha / self.downs[0].shape[0]
        weight = self.original.to(torch.float32, copy=True)
        rows = weight.split([up.shape[0] for up in self.ups])
        for part, up, down in zip(rows, self.ups, self.downs, strict=True):
            part.addmm_(up.float(), down.float(), alpha=scale)
        return weight.to(self.dtype)


State: TypeAlias = dict[str, "Tensor | Lora"]

_WHOLE = {
    "mixins.patch_embed.proj": "patch_embed.proj",
    "mixins.patch_embed.text_proj": "patch_embed.text_proj",
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "transformer.final_layernorm": "norm_final",
    "mixins.final_layer.norm_final": "norm_out.norm",
    "mixins.final_layer.adaLN_modulation.1": "norm_out.linear",
    "mixins.final_layer.linear": "proj_out",
}
_STAGE2 = {
    "time_size_embedding.0": "ofs_embedding.frames.linear_1",
    "time_size_embedding.2": "ofs_embedding.frames.linear_2",
    "ref_step_time_embedding.0": "ofs_embedding.degradation.linear_1",
    "ref_step_time_embedding.2": "ofs_embedding.degradation.linear_2",
}
# Twelve chunks of each block's adaLN: (shift, scale, gate) of attention and MLP for the image, then the same for text.
_LAYER: dict[str, tuple[Target, ...]] = {
    "mixins.adaln_layer.adaLN_modulations.{i}.1": (
        Target("norm1.linear", 12, (0, 1, 2, 6, 7, 8)),
        Target("norm2.linear", 12, (3, 4, 5, 9, 10, 11)),
    ),
    "mixins.adaln_layer.query_layernorm_list.{i}": (Target("attn1.norm_q"),),
    "mixins.adaln_layer.key_layernorm_list.{i}": (Target("attn1.norm_k"),),
    "transformer.layers.{i}.input_layernorm": (Target("norm1.norm"),),
    "transformer.layers.{i}.post_attention_layernorm": (Target("norm2.norm"),),
    "transformer.layers.{i}.attention.query_key_value": tuple(
        Target(f"attn1.to_{letter}", 3, (index,)) for index, letter in enumerate("qkv")
    ),
    "transformer.layers.{i}.attention.dense": (Target("attn1.to_out.0"),),
    "transformer.layers.{i}.mlp.dense_h_to_4h": (Target("ff.net.0.proj"),),
    "transformer.layers.{i}.mlp.dense_4h_to_h": (Target("ff.net.2"),),
}


def transformer_plan(model: torch.nn.Module, config: Mapping[str, Any], stage: int) -> Plan:
    """The plan of a transformer; `model` (on the meta device) gives the shapes, `config` the number of layers."""
    modules: dict[str, tuple[Target, ...]] = {
        official: (Target(name),) for official, name in (_WHOLE | (_STAGE2 if stage == 2 else {})).items()
    }
    for i in range(config["num_layers"]):
        for official, targets in _LAYER.items():
            inside = tuple(target._replace(name=f"transformer_blocks.{i}.{target.name}") for target in targets)
            modules[official.format(i=i)] = inside
    state = model.state_dict()
    plan: Plan = {}
    for official, targets in modules.items():
        for parameter in ("weight", "bias"):
            parts = tuple(target._replace(name=f"{target.name}.{parameter}") for target in targets)
            rows = sum(state[target.name].shape[0] for target in parts)
            plan[f"{official}.{parameter}"] = Entry((rows, *state[parts[0].name].shape[1:]), parts)
    return plan


def autoencoder_plan(model: torch.nn.Module, levels: int) -> Plan:
    """The plan of the autoencoder with `levels` resolutions; `model` (on the meta device) gives names and shapes."""
    rules: tuple[tuple[str, Any], ...] = (
        (r"\.resnets\.", ".block."),
        (r"mid_block\.block\.(\d)", lambda match: f"mid.block_{int(match[1]) + 1}"),
        (r"down_blocks\.", "down."),
        (r"up_blocks\.(\d+)", lambda match: f"up.{levels - 1 - int(match[1])}"),
        (r"(down|up)samplers\.0", r"\1sample"),
        (r"conv_shortcut", "nin_shortcut"),
    )

    def official(name: str) -> str:
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        return name

    return {official(name): Entry(tuple(value.shape), (Target(name),)) for name, value in model.state_dict().items()}


def transformer_state(source: Mapping[str, Tensor], alpha: float = LORA_ALPHA) -> tuple[State, list[str]]:
    """The tensors of a transformer by official name without prefix, adapters folded in, and what is wrong with those.

    Dead keys and those of other parts of the file are left out.
    """
    if any(key.startswith(PREFIX) for key in source):
        source = {key.removeprefix(PREFIX): value for key, value in source.items() if key.startswith(PREFIX)}
    state: State = {}
    faults: list[str] = []
    for key, value in source.items():
        if key in DEAD or key.startswith(FOREIGN) or ".matrix_A." in key or ".matrix_B." in key:
            continue
        name, _, parameter = key.rpartition(".")
        module = name.removesuffix(".original")
        downs, ups = (
            [source[adapter] for adapter in _numbered(source, f"{module}.matrix_{letter}.")] for letter in ("A", "B")
        )
        if parameter != "weight" or not (downs or ups):
            state[f"{module}.{parameter}"] = value
        elif _adapters_fit(value, downs, ups):
            bias = source.get(f"{name}.bias", value)
            state[f"{module}.weight"] = Lora(value, tuple(downs), tuple(ups), bias.dtype, alpha)
        else:
            state[f"{module}.weight"] = value
            shapes = f"A {[list(down.shape) for down in downs]}, B {[list(up.shape) for up in ups]}"
            faults.append(f"{module}: weight {list(value.shape)} with {shapes}")
    for key in source:
        module = key.split(".matrix_")[0]
        if module != key and f"{module}.weight" not in state:
            faults.append(f"{key}: without {module}.weight")
    return state, faults


def _numbered(source: Mapping[str, Tensor], prefix: str) -> Iterator[str]:
    number = 0
    while (key := f"{prefix}{number}") in source:
        yield key
        number += 1


def _adapters_fit(weight: Tensor, downs: list[Tensor], ups: list[Tensor]) -> bool:
    if not downs or len(downs) != len(ups) or any(matrix.ndim != 2 for matrix in (*downs, *ups)):
        return False
    rank = downs[0].shape[0]
    return (
        all(tuple(down.shape) == (rank, weight.shape[1]) for down in downs)
        and all(up.shape[1] == rank for up in ups)
        and sum(up.shape[0] for up in ups) == weight.shape[0]
    )


def autoencoder_state(source: Mapping[str, Tensor]) -> State:
    """The tensors of the autoencoder by official name; those of its loss and of other models are left out."""
    if any(key.startswith(VAE_PREFIX) for key in source):
        source = {key.removeprefix(VAE_PREFIX): value for key, value in source.items() if key.startswith(VAE_PREFIX)}
    return {key: value for key, value in source.items() if not key.startswith(("loss", PREFIX, *FOREIGN))}


def check(what: str, plan: Plan, state: State, faults: list[str]) -> None:
    """Raise InvalidError that lists every key that does not fit."""
    shapes = {key: entry.shape for key, entry in plan.items()}
    compare(what, shapes, {key: tuple(value.shape) for key, value in state.items()}, faults)


def compare(
    what: str, expected: Mapping[str, tuple[int, ...]], shapes: Mapping[str, tuple[int, ...]], faults: list[str]
) -> None:
    """Raise InvalidError unless weights have the expected names and shapes and `faults` of adapters is empty."""
    missing, unexpected = sorted(set(expected) - set(shapes)), sorted(set(shapes) - set(expected))
    shaped = [
        f"{key} {list(shapes[key])} (expected {list(expected[key])})"
        for key in sorted(set(expected) & set(shapes))
        if shapes[key] != expected[key]
    ]
    fix = "check that it is the right file, that it is whole and that the configuration overrides are right"
    if any(key.startswith("time_size_embedding") for key in (*unexpected, *missing)):
        fix = "these are the weights of Stage " + ("II" if unexpected else "I, or of an incomplete Stage II")
    refuse(what, {"missing": missing, "unexpected": unexpected, "mis-shaped": shaped, "LoRA": faults}, fix)


def refuse(what: str, groups: Mapping[str, Sequence[str]], fix: str) -> None:
    """Raise InvalidError that lists the keys of every group that has any."""
    lines = [f"{name}: {', '.join(keys)}" for name, keys in groups.items() if keys]
    if lines:
        raise InvalidError(f"the weights do not fit {what}; " + "; ".join(lines), fix=fix)


def pieces(entry: Entry, value: Tensor | Lora) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors that an official tensor becomes."""
    tensor = value.merged() if isinstance(value, Lora) else value
    for target in entry.targets:
        yield target.name, target.of(tensor)


def transformer_config(state: State, stage: int) -> dict[str, Any]:
    """The configuration that the shapes of `state` tell; InvalidError if the tensors that tell it are not there."""
    anchors = (
        "mixins.patch_embed.proj.weight",
        "mixins.patch_embed.text_proj.weight",
        "time_embed.0.weight",
        "mixins.final_layer.linear.weight",
    )
    absent = [key for key in anchors if key not in state or state[key].shape[0] == 0]
    if absent:
        raise InvalidError(
            f"no Stage {'I' * stage} weights here: missing {', '.join(PREFIX + key for key in absent)}",
            fix="this is a part of a diffusers folder: pass the folder"
            if any(key.startswith("transformer_blocks.") for key in state)
            else f"pass FlashVideo's stage{stage}.pt, or the state dict under its key `module`",
        )
    patch, text, time, last = (state[key].shape for key in anchors)
    layers = [int(match[1]) for key in state if (match := re.match(r"transformer\.layers\.(\d+)\.", key))]
    return {
        "num_attention_heads": patch[0] // rope.HEAD_DIM,
        "num_layers": max(layers, default=-1) + 1,
        "in_channels": patch[1],
        "patch_size": patch[2],
        "out_channels": last[0] // patch[2] ** 2,
        "time_embed_dim": time[0],
        "text_embed_dim": text[1],
    }


def autoencoder_config(state: State) -> dict[str, Any]:
    """The autoencoder's configuration that the shapes of `state` tell, without groups and compression in time."""
    matches = [re.fullmatch(r"encoder\.down\.(\d+)\.block\.(\d+)\.conv2\.conv\.weight", key) for key in state]
    blocks = [(int(match[1]), int(match[2])) for match in matches if match]
    if not blocks or "decoder.conv_in.conv.weight" not in state:
        raise InvalidError(
            "no autoencoder weights here: missing encoder.down.0.block.0.conv2.conv.weight or "
            "decoder.conv_in.conv.weight",
            fix="pass FlashVideo's 3d-vae.pt, or the state dict under its key `state_dict`",
        )
    levels = max(level for level, _ in blocks) + 1
    widths = [state.get(f"encoder.down.{level}.block.0.conv2.conv.weight") for level in range(levels)]
    return {
        "block_out_channels": tuple(0 if width is None else width.shape[0] for width in widths),
        "layers_per_block": max(block for _, block in blocks) + 1,
        "latent_channels": state["decoder.conv_in.conv.weight"].shape[1],
        "down_block_types": ("CogVideoXDownBlock3D",) * levels,
        "up_block_types": ("CogVideoXUpBlock3D",) * levels,
    }
