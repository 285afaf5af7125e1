"""FlashVideo's Stage II network on diffusers' CogVideoX transformer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import CogVideoXTransformer3DModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import TimestepEmbedding, get_timestep_embedding
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from torch import Tensor, nn

from flashbench.cascade import precondition, rope
from flashbench.errors import UsageError


class PairSinusoid(nn.Module):
    """Sinusoidal features of two numbers per sample: (B, 2) to (B, 2, dim), cosines first."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, pair: Tensor) -> Tensor:
        """Embed `pair` (B, 2)."""
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


class Stage2Transformer(CogVideoXTransformer3DModel):  # type: ignore[misc]
    """Stage II: velocity of the flow from a degraded low-quality latent (t = 0) to a high-quality one (t = 1).

    diffusers' CogVideoX transformer with FlashVideo's rotary tables at integer positions, its two extra embeddings (in
    diffusers' `ofs` slots, which the forward pass adds to the time embedding) and its epsilon in the last norm.
    `moments` (3 x in_channels, see `precondition.moments`) turns preconditioning on; official weights have none. With
    `out_channels` = 2 `in_channels` the second half multiplies the network's input and is added to the first half: a
    local gain per channel, which lets a narrow network cancel noise in flat places that its width cannot carry through.
    """

    counts_as_evaluation = True
    """One forward of this module is one network evaluation."""

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
    ) -> None:
        super().__init__(
            num_attention_heads=num_attention_heads,
            attention_head_dim=rope.HEAD_DIM,
            num_layers=num_layers,
            in_channels=in_channels,
            out_channels=out_channels,
            patch_size=patch_size,
            time_embed_dim=time_embed_dim,
            text_embed_dim=text_embed_dim,
            max_text_seq_length=max_text_seq_length,
            use_rotary_positional_embeddings=True,
        )
        width = num_attention_heads * rope.HEAD_DIM
        self.norm_out.norm.eps = 1e-6
        self.ofs_proj = PairSinusoid(width)
        self.ofs_embedding = RefinementEmbedding(width, time_embed_dim)
        self._rotary: dict[tuple[int, int, int, torch.device], tuple[Tensor, Tensor]] = {}

    @classmethod
    def extract_init_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Leave out what diffusers' constructor registers by itself and this class fixes, which it would warn about."""
        fixed = cls._get_init_keys(CogVideoXTransformer3DModel) - cls._get_init_keys(cls)
        return super().extract_init_dict({k: v for k, v in config_dict.items() if k not in fixed}, **kwargs)

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """As in diffusers, but with weights that give the same bits as the weights that were saved."""
        loaded = super().from_pretrained(*args, **kwargs)
        for parameter in (loaded[0] if isinstance(loaded, tuple) else loaded).parameters():
            # A weight mapped from its file may begin at any byte, and matrix products round by alignment.
            parameter.data = parameter.data.clone()
        return loaded

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
        batch, frames, _, height, width = hidden_states.shape
        patch = self.config.patch_size
        if height % patch or width % patch:
            raise UsageError(
                f"a latent of {height}x{width} does not divide into patches of {patch}",
                fix="generate sizes that are multiples of 16 pixels",
            )
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
            encoder_hidden_states=encoder_hidden_states,
            timestep=time,
            ofs=torch.stack([torch.full_like(step, frames), step], dim=1),
            image_rotary_emb=self._tables(frames, height // patch, width // patch, device),
            return_dict=False,
            **kwargs,
        )
        if self.config.out_channels == 2 * self.config.in_channels:
            sample, local_gain = sample.chunk(2, dim=2)
            sample = sample + local_gain * hidden_states
        velocity = shift + gain * sample
        return Transformer2DModelOutput(sample=velocity) if return_dict else (velocity,)

    def _tables(self, frames: int, height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Rotary tables on `device`; the cache is keyed by shape, so a later resolution never sees a stale one."""
        key = (frames, height, width, device)
        if key not in self._rotary:
            cos, sin = rope.tables(frames, height, width)
            self._rotary[key] = cos.to(device), sin.to(device)
        return self._rotary[key]
