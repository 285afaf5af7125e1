"""Networks without weights: the released ones and a tier's trained ones on the meta device, walked through once.

A walk is the real sampler with the real network's code on tensors that have shapes alone, so that a size, a setting or
a layer that does not fit fails here as it would on the GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from flashbench.errors import InvalidError
from flashbench.systems import released
from flashbench.types import Geometry, Settings

if TYPE_CHECKING:
    import torch

DEAD = 64
"""Rows of the position table that the official transformers store and never read."""
RANK = 128
"""Of the adapters that the released Stage I still has beside its weights."""
TEXT, TEXT_WIDTH = 226, 4096
"""Tokens and channels of T5's states."""


@dataclass(frozen=True)
class Layout:
    """What an official file must hold: tensors (None where nobody counted) and elements."""

    tensors: int | None
    elements: int
    read: int
    """Elements that a network is made of."""


LAYOUTS: Mapping[str, Layout] = {
    "stage1": Layout(None, 5_903_533_632, 5_570_283_072),
    "stage2": Layout(565, 1_696_399_168, 1_696_276_288),
    "vae": Layout(436, 215_583_907, 215_583_907),
}
"""Of the release's files as its own loader expects them (Stage II and the autoencoder counted on its code)."""


@dataclass(frozen=True)
class Walk:
    """What one clip of a row asks of a network."""

    latent: tuple[int, ...]
    tokens: int
    """Of a forward, the text's included."""
    evaluations: int
    forwards: int
    """Guidance makes each evaluation a batch of two."""

    def __str__(self) -> str:
        frames, channels, height, width = self.latent
        made = f"{self.evaluations} evaluations of {self.forwards // self.evaluations}"
        return f"latent {frames}x{channels}x{height}x{width}, {self.tokens:,} tokens, {made}"


class Walked:
    """A network on the meta device that runs once for each shape of its input, and counts its evaluations."""

    def __init__(self, network: Any) -> None:
        self.network, self.config, self.dtype = network, network.config, network.dtype
        self.evaluations = self.forwards = 0
        self._seen: set[tuple[int, ...]] = set()

    def fresh(self) -> Walked:
        """The network itself, with its counts of evaluations and forwards set to 0."""
        self.evaluations = self.forwards = 0
        return self

    def __call__(self, *, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor, **told: Any) -> Any:
        """An output of the shape of the input; InvalidError if the network's is another."""
        self.evaluations, self.forwards = self.evaluations + 1, self.forwards + len(hidden_states)
        shapes = (*hidden_states.shape, *encoder_hidden_states.shape)
        if shapes not in self._seen:
            out = self.network(hidden_states=hidden_states, encoder_hidden_states=encoder_hidden_states, **told).sample
            if out.shape != hidden_states.shape:
                what = f"{type(self.network).__name__} turns {list(hidden_states.shape)} into {list(out.shape)}"
                raise InvalidError(what, fix="correct the network's channels")
            self._seen.add(shapes)
        return SimpleNamespace(sample=hidden_states)

    def walk(self, latent: torch.Tensor, words: int) -> Walk:
        """What was counted since `fresh`: the walk of one clip with latents of that shape."""
        _, frames, channels, height, width = latent.shape
        tokens = words + frames * height * width // self.config.patch_size**2
        return Walk((frames, channels, height, width), tokens, self.evaluations, self.forwards)


# --- the released cascade ---------------------------------------------------------------------------------------


@cache
def official(component: str) -> Any:
    """The released network `stage1`, `stage2` or `vae` on the meta device, the two stages as `Walked`."""
    import torch
    from diffusers import AutoencoderKLCogVideoX

    from flashbench.cascade.transformer import Stage1Transformer, Stage2Transformer

    with torch.device("meta"):
        if component == "vae":
            return AutoencoderKLCogVideoX(
                block_out_channels=(128, 256, 256, 512),
                layers_per_block=3,
                latent_channels=16,
                down_block_types=("CogVideoXDownBlock3D",) * 4,
                up_block_types=("CogVideoXUpBlock3D",) * 4,
            ).eval()
        return Walked((Stage1Transformer() if component == "stage1" else Stage2Transformer()).eval())


@cache
def check_layout(component: str) -> str:
    """A line about the official file of `component`; InvalidError where our plan of it has other counts."""
    from flashbench.cascade.official import autoencoder_plan, transformer_plan

    expected, model = LAYOUTS[component], official(component)
    if component == "vae":
        plan = autoencoder_plan(model, 4)
        tensors, unread = len(plan), 0
    else:
        plan = transformer_plan(model.network, model.config, 1 if component == "stage1" else 2)
        tensors, unread = len(plan) + 1, DEAD * model.config.num_attention_heads * 64
        if component == "stage1":
            unread += sum(_adapters(key, entry.shape) for key, entry in plan.items())
    read = sum(entry.size for entry in plan.values())
    layout = Layout(tensors if expected.tensors is not None else None, read + unread, read)
    if layout != expected:
        what = f"the plan of {component} has {layout}, the released file {expected}"
        raise InvalidError(what, fix="correct cascade/official.py or the network's configuration")
    counted = "" if expected.tensors is None else f"{expected.tensors} tensors, "
    return (
        f"{component}: {counted}{expected.elements:,} elements, {expected.read:,} of them read; every key has its place"
    )


def _adapters(key: str, shape: tuple[int, ...]) -> int:
    """Elements of the low-rank matrices beside an official weight; queries, keys and values have a pair each."""
    adapted = ("query_key_value.weight", "attention.dense.weight")
    if not key.endswith(adapted) and not ("adaLN_modulations." in key and key.endswith(".weight")):
        return 0
    rows, columns = shape
    return RANK * ((3 if "query_key_value" in key else 1) * columns + rows)


def walk_stage1(settings: Settings, geometry: Geometry) -> Walk:
    """The released Stage I with its decoding."""
    from flashbench.cascade.vae import STAGE1_SCALE

    network, context = official("stage1").fresh(), _shape(1, TEXT, TEXT_WIDTH)
    noise = _shape(*released.latent_shape(geometry.frames, geometry.height, geometry.width))
    draws = [noise] * (int(str(settings["steps"])) - 1)
    latent = released.sample_stage1(network, context, noise, draws, settings)
    _check_decoding(tuple(latent.shape), geometry, STAGE1_SCALE, "none")
    walk: Walk = network.walk(latent, TEXT)
    return walk


def walk_stage2(settings: Settings, geometry: Geometry, preview: Geometry) -> Walk:
    """The released Stage II with the enlargement of Stage I's clip, its encoding, degradation and decoding."""
    from flashbench.cascade.vae import STAGE2_SCALE

    network, context = official("stage2").fresh(), _shape(1, TEXT, TEXT_WIDTH)
    latent = _shape(*_encoded(geometry, preview.height, preview.width))
    degrading = latent if settings["degradation"] == "pixel+latent" else None
    latent = released.sample_stage2(network, context, latent, degrading, settings)
    _check_decoding(tuple(latent.shape), geometry, STAGE2_SCALE, str(settings["tiles"]))
    walk: Walk = network.walk(latent, TEXT)
    return walk


@cache
def _encoded(geometry: Geometry, height: int, width: int) -> tuple[int, ...]:
    """The shape of the latent of a clip of `height` x `width`, enlarged to the geometry."""
    from flashbench.cascade import degrade, vae

    given = _shape(1, 3, geometry.frames, height, width)
    low = degrade.resize(given, geometry.height, geometry.width)
    noise = _shape(*released.latent_shape(*low.shape[2:]))
    return tuple(released.encode(official("vae"), low, noise, vae.STAGE2_SCALE).shape)


@cache
def _check_decoding(latent: tuple[int, ...], geometry: Geometry, scale: float, tiles: str) -> None:
    """Refuse a latent whose pixels are not the geometry's."""
    pixels = released.decode(official("vae"), _shape(*latent), scale, tiles)
    expected = (1, 3, geometry.frames, geometry.height, geometry.width)
    if tuple(pixels.shape) != expected:
        what = f"the last decoding gives {list(pixels.shape)}, not {list(expected)}"
        raise InvalidError(what, fix="take sides that are multiples of 16, and 4n + 1 frames")


def _shape(*sides: int) -> torch.Tensor:
    """A tensor of that shape, without values."""
    import torch

    return torch.empty(sides, device="meta")


# --- networks that a tier trains --------------------------------------------------------------------------------


def trained(recipe: Mapping[str, Any], channels: int) -> Any:
    """The network of a flow, regression, vanilla or Stage I recipe on the meta device, for latents of `channels`."""
    import torch

    from flashbench.cascade.transformer import Stage1Transformer, Stage2Transformer
    from flashbench.laptop import text
    from flashbench.laptop.convolution import ConvolutionalTransformer, ConvolutionalVanilla
    from flashbench.laptop.vanilla import VanillaTransformer

    options: dict[str, Any] = {
        "num_attention_heads": recipe["heads"],
        "num_layers": recipe["layers"],
        "time_embed_dim": recipe["time_embed_dim"],
        "text_embed_dim": text.WIDTH if reads_text(recipe) else 8,
        "max_text_seq_length": text.LENGTH if reads_text(recipe) else 1,
        "use_rotary_positional_embeddings": recipe.get("positions", "rope") == "rope",
    }
    gains = 1 + (2 if recipe["kind"] == "vanilla" else 1) * bool(recipe.get("local_gain"))
    path = {"convolution": recipe["convolution"]} if recipe.get("convolution") else {}
    with torch.device("meta"):
        if recipe["kind"] == "stage1":
            return Stage1Transformer(in_channels=channels, out_channels=channels, **options).eval()
        if recipe["kind"] == "vanilla":
            known = {"slope": [1.0] * channels, "low_power": [1.0] * channels, "noise_scale": recipe["noise_scale"]}
            moments = [[1.0] * 2 * channels] * 3
            sides = {"in_channels": 2 * channels, "out_channels": gains * channels}
            kind = ConvolutionalVanilla if path else VanillaTransformer
            return kind(**sides, moments=moments, **known, **path, **options).eval()
        sides = {"in_channels": channels, "out_channels": gains * channels}
        kind = ConvolutionalTransformer if path else Stage2Transformer
        return kind(**sides, moments=[[1.0] * channels] * 3, **path, **options).eval()


def reads_text(recipe: Mapping[str, Any]) -> bool:
    """Whether a recipe's network is conditioned on texts."""
    return recipe["kind"] == "stage1" or bool(recipe.get("text"))


def walk_trained(recipe: Mapping[str, Any], channels: int, settings: Settings, geometry: Geometry) -> Walk:
    """A trained network's sampler on latents of `channels` of a codec with strides 4 and 8, without that codec."""
    import torch

    from flashbench.cascade import sampling
    from flashbench.systems.flashvideo import around

    network = Walked(trained(recipe, channels))
    words, width = network.config.max_text_seq_length, network.config.text_embed_dim
    frames, shifts = 1 + (geometry.frames - 1) // 4, int(str(settings.get("shifts", 1)))
    geometry = around(geometry, {"shifts": shifts})
    latent = _shape(1, frames, network.config.in_channels, geometry.height // 8, geometry.width // 8)
    context, guidance = _shape(1, words, width), float(str(settings.get("guidance", 1.0)))
    with torch.no_grad():
        if recipe["kind"] == "stage1":
            steps = int(str(settings["steps"]))
            sampling.generate(
                network, latent, context, steps=steps, guidance=guidance, step_noise=[latent] * (steps - 1)
            )
        else:
            noisy = settings.get("degradation") == "pixel+latent"
            for _ in range(shifts):
                sampling.refine(
                    network, latent, context,
                    nfe=int(str(settings.get("nfe", 1))),
                    shift=float(str(settings.get("shift", 1.0))),
                    guidance=guidance,
                    degradation_step=int(str(settings["degradation_step"])) if noisy else None,
                    noise=latent if noisy else None,
                )  # fmt: skip
    return network.walk(latent, words)
