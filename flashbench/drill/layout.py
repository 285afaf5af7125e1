"""The layout of FlashVideo's official files, for a network of any size: names and shapes, written out.

They come from the description of the release's layout and not from the plan of `cascade.official`, which reads such
files: a mistake there does not pass because the drill repeats it.
"""

from __future__ import annotations

from typing import TypeAlias

Shapes: TypeAlias = dict[str, tuple[int, ...]]
"""A module's name, under which `weight` and `bias` stand, to the shape of its weight."""

WIDTH, LAYERS, TIME, TEXT, CHANNELS = 128, 2, 32, 24, 16
"""Width, blocks, channels of the time's and of the text's embedding, channels of the latent."""
RANK = 4
"""Of Stage I's adapters."""
PREFIX = "model.diffusion_model."
"""Of a transformer's keys."""


def transformer_shapes(stage: int) -> Shapes:
    """Modules of the transformer of Stage I or II."""
    shapes: Shapes = {
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
    """Whether the released Stage I has adapters beside that module's weight."""
    return name.endswith(("query_key_value", "attention.dense")) or ".adaLN_modulations." in name


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
    """Modules of the autoencoder with those channels at each resolution, and as many blocks."""
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
