"""FlashVideo's two networks on diffusers' CogVideoX transformer.

Both stages are the CogVideoX block ("expert adaLN") with raw integer 3D rotary positions on the image tokens; Stage II
adds embeddings of the latent frame count and of the degradation step (arXiv 2502.05179, section 3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import CogVideoXTransformer3DModel, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import CogVideoXPatchEmbed, TimestepEmbedding, get_timestep_embedding
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from torch import Tensor, nn
from torch.nn import functional

from flashbench.cascade import official, precondition, rope
from flashbench.errors import UsageError

__all__ = ["ModelMixin", "PositionedTransformer", "Stage1Transformer", "Stage2Transformer"]
# diffusers loads a pipeline's component only if it finds ModelMixin in the namespace of the component's module.

_CHOSEN = (
    "num_attention_heads", "num_layers", "in_channels", "out_channels", "patch_size", "time_embed_dim",
    "text_embed_dim", "max_text_seq_length", "use_rotary_positional_embeddings",
)  # fmt: skip
"""Settings of diffusers' network that a stage leaves open."""


def aligned(module: Any) -> Any:
    """Copy the weights in place: one mapped from its file may begin at any byte, and matrix products round by that."""
    for parameter in module.parameters():
        parameter.data = parameter.data.clone()
    return module


def check_loaded(what: str, info: Mapping[str, Any]) -> None:
    """Raise InvalidError for weights that diffusers made up, left out or could not place; `info` is its account."""
    groups = {kind: [str(key) for key in info[f"{kind}_keys"]] for kind in ("missing", "unexpected", "mismatched")}
    official.refuse(what, groups, "fetch or convert the folder again; adapters must be merged before saving")


class PairSinusoid(nn.Module):
    """Sinusoidal features of two numbers per sample: (B, 2) to (B, 2, dim), cosines first."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, pair: Tensor) -> Tensor:
        """Sinusoidal features of `pair` (B, 2) as (B, 2, dim)."""
        features = get_timestep_embedding(pair.flatten(), self.dim, flip_sin_to_cos=True, downscale_freq_shift=0)
        return features.unflatten(0, (-1, 2))


class RefinementEmbedding(nn.Module):
    """Sum of the embeddings of the latent frame count and of the degradation step."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.frames = TimestepEmbedding(dim, out)
        self.degradation = TimestepEmbedding(dim, out)

    def forward(self, features: Tensor) -> Tensor:
        """Embed the features (B, 2, dim) of (frame count, degradation step) to (B, out)."""
        frames, degradation = features.unbind(1)
        embedding: Tensor = self.frames(frames) + self.degradation(degradation)
        return embedding


class _AbsolutePatchEmbed(CogVideoXPatchEmbed):  # type: ignore[misc]
    """diffusers' patch embedding, which builds its sin-cos table at each forward, with the table kept per shape."""

    def _get_positional_embeddings(
        self, sample_height: int, sample_width: int, sample_frames: int, device: torch.device | None = None
    ) -> Tensor:
        tables: dict[Any, Tensor] = self.__dict__.setdefault("_kept", {})
        key = (sample_height, sample_width, sample_frames, device)
        if key not in tables:
            with torch.inference_mode(False):
                tables[key] = super()._get_positional_embeddings(*key)
        return tables[key]


class PositionedTransformer(CogVideoXTransformer3DModel):  # type: ignore[misc]
    """What both stages share: positions, FlashVideo's epsilon in the last norm, and loading.

    `use_rotary_positional_embeddings` chooses integer 3D rotary positions (FlashVideo) or CogVideoX-2B's absolute
    sin-cos ones (Figure 8 of the paper), which are added to the tokens behind a text of `max_text_seq_length`.
    """

    counts_as_evaluation = True
    """One forward of this module is one network evaluation."""

    def __init__(self) -> None:
        """Diffusers' network with the settings that the constructor of the stage has registered as its `config`."""
        chosen = {name: self.config[name] for name in _CHOSEN}
        super().__init__(attention_head_dim=rope.HEAD_DIM, **chosen)
        self.norm_out.norm.eps = 1e-6
        if not self.config.use_rotary_positional_embeddings:
            self.patch_embed.__class__ = _AbsolutePatchEmbed
        self._rotary: dict[tuple[int, int, int, torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}

    @classmethod
    def extract_init_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Leave out what diffusers' constructor registers by itself and this class fixes, which it would warn about."""
        fixed = cls._get_init_keys(CogVideoXTransformer3DModel) - cls._get_init_keys(cls)
        return super().extract_init_dict({k: v for k, v in config_dict.items() if k not in fixed}, **kwargs)

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """As in diffusers, but every weight must be there, and gives the same bits as the weight that was saved.

        Raises InvalidError that lists missing, unexpected and mis-shaped weights.
        """
        with_info = kwargs.pop("output_loading_info", False)
        model, info = super().from_pretrained(*args, **kwargs, output_loading_info=True)
        check_loaded(cls.__name__, info)
        return (aligned(model), info) if with_info else aligned(model)

    def _positions(self, hidden_states: Tensor, context: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """The context as the positions want it, and the rotary tables; UsageError for a size that does not fit."""
        _, frames, _, height, width = hidden_states.shape
        patch = self.config.patch_size
        if height % patch or width % patch:
            raise UsageError(
                f"a latent of {height}x{width} does not divide into patches of {patch}",
                fix="generate sizes that are multiples of 16 pixels",
            )
        if self.config.use_rotary_positional_embeddings:
            return context, self._tables(frames, height // patch, width // patch, hidden_states)
        missing = self.config.max_text_seq_length - context.shape[1]
        if missing < 0:
            raise UsageError(
                f"a context of {context.shape[1]} tokens is longer than {self.config.max_text_seq_length}",
                fix="truncate the prompt to max_text_seq_length",
            )
        return functional.pad(context, (0, 0, 0, missing)), None

    def _tables(self, frames: int, height: int, width: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Rotary tables of `like`'s device and dtype (the release rounds them to its own).

        The cache is keyed by shape, so a later resolution never sees a stale one.
        """
        key = (frames, height, width, like.device, like.dtype)
        if key not in self._rotary:
            cos, sin = rope.tables(frames, height, width)
            self._rotary[key] = cos.to(like), sin.to(like)
        return self._rotary[key]


class Stage1Transformer(PositionedTransformer):
    """Stage I: v-prediction of the low-resolution latent from text; defaults are the 5B network of the release."""

    @register_to_config
    def __init__(
        self,
        num_attention_heads: int = 48,
        num_layers: int = 42,
        in_channels: int = 16,
        out_channels: int = 16,
        patch_size: int = 2,
        time_embed_dim: int = 512,
        text_embed_dim: int = 4096,
        max_text_seq_length: int = 226,
        use_rotary_positional_embeddings: bool = True,
    ) -> None:
        super().__init__()

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        timestep: float | Tensor,
        return_dict: bool = True,
        **kwargs: Any,
    ) -> Transformer2DModelOutput | tuple[Tensor]:
        """Predict v = a * noise - sqrt(1 - a^2) * x_0 at x_t = a * x_0 + sqrt(1 - a^2) * noise
        (Salimans & Ho 2022, arXiv 2202.00512).

        `hidden_states` is x_t (B, T, C, H, W) with H and W divisible by the patch size, `encoder_hidden_states` the
        context (B, L, D), `timestep` in 0 (least noise) to 999, a number or (B,). Returns an output whose `.sample`
        is v (B, T, C, H, W). Raises UsageError for a wrong size.
        """
        context, rotary = self._positions(hidden_states, encoder_hidden_states)
        time = torch.as_tensor(timestep, device=hidden_states.device, dtype=torch.float32).expand(len(hidden_states))
        (v,) = super().forward(
            hidden_states=hidden_states,
            encoder_hidden_states=context,
            timestep=time,
            image_rotary_emb=rotary,
            return_dict=False,
            **kwargs,
        )
        return Transformer2DModelOutput(sample=v) if return_dict else (v,)


class Stage2Transformer(PositionedTransformer):
    """Stage II: velocity of the flow from a degraded low-quality latent (t = 0) to a high-quality one (t = 1).

    diffusers' CogVideoX transformer with FlashVideo's rotary tables at integer positions, its two extra embeddings (in
    diffusers' `ofs` slots, which the forward pass adds to the time embedding) and its epsilon in the last norm.
    `moments` (3 x in_channels, see `precondition.moments`) turns preconditioning on; official weights have none. With
    `out_channels` = 2 `in_channels` the second half multiplies the network's input and is added to the first half: a
    local gain per channel, which lets a narrow network cancel noise in flat places that its width cannot carry through.
    """

    @register_to_config
    def __init__(
        self,
        num_attention_heads: int = 30,
        num_layers: int = 30,
        in_channels: int = 16,
        out_channels: int = 16,
        patch_size: int = 2,
        time_embed_dim: int = 512,
        text_embed_dim: int = 4096,
        max_text_seq_length: int = 226,
        moments: Sequence[Sequence[float]] | None = None,
        use_rotary_positional_embeddings: bool = True,
    ) -> None:
        super().__init__()
        width = num_attention_heads * rope.HEAD_DIM
        self.ofs_proj = PairSinusoid(width)
        self.ofs_embedding = RefinementEmbedding(width, time_embed_dim)

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        timestep: float | Tensor,
        degradation_step: int | Tensor = 675,
        return_dict: bool = True,
        **kwargs: Any,
    ) -> Transformer2DModelOutput | tuple[Tensor]:
        """Velocity at x_t.

        `hidden_states` is x_t (B, T, C, H, W) with H and W divisible by the patch size, `encoder_hidden_states` the
        context (B, L, D), `timestep` = 1000 (1 - t) in [0, 1000] and `degradation_step` in 0..999, each a number or
        (B,).
        Returns an output whose `.sample` is the velocity dx/dt (B, T, C, H, W). Raises UsageError for a wrong size.
        """
        context, rotary = self._positions(hidden_states, encoder_hidden_states)
        batch, frames = hidden_states.shape[:2]
        device = hidden_states.device
        time = torch.as_tensor(timestep, device=device, dtype=torch.float32).expand(batch)
        step = torch.as_tensor(degradation_step, device=device, dtype=torch.float32).expand(batch)
        shift: Tensor | float = 0.0
        gain: Tensor | float = 1.0
        if self.config.moments is not None:
            table = torch.tensor(self.config.moments, device=device)
            scale, k, g = precondition.coefficients(table, 1 - time / 1000, step)
            shift, gain = k.to(hidden_states.dtype) * hidden_states, g.to(hidden_states.dtype)
            hidden_states = hidden_states * scale.to(hidden_states.dtype)
        (sample,) = super().forward(
            hidden_states=hidden_states,
            encoder_hidden_states=context,
            timestep=time,
            ofs=torch.stack([torch.full_like(step, frames), step], dim=1),
            image_rotary_emb=rotary,
            return_dict=False,
            **kwargs,
        )
        if self.config.out_channels == 2 * self.config.in_channels:
            sample, local_gain = sample.chunk(2, dim=2)
            sample = sample + local_gain * hidden_states
        velocity = shift + gain * sample
        return Transformer2DModelOutput(sample=velocity) if return_dict else (velocity,)
