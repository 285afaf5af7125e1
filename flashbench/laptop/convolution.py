"""A small convolution path beside the transformer: what is local and places detail, where patches of 16 pixels cannot.

It stands in the preconditioner, velocity = k x + g (transformer(s x) + path(s x)), so that the transformers are what
they are without it; its last layer is zero at the start of training, where the two networks are the same function.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from torch import Tensor, nn
from torch.nn import functional

from flashbench.cascade import precondition
from flashbench.cascade.transformer import PairSinusoid, Stage2Transformer
from flashbench.laptop.vanilla import VanillaTransformer


class ConvolutionPath(nn.Module):
    """A 3x3 convolution to `width` channels, residual 3x3 (modulated by time and step), residual over 3 frames, 3x3."""

    def __init__(self, in_channels: int, out_channels: int, width: int, embed_dim: int) -> None:
        """`embed_dim` is the width of the sinusoidal features of time and of step, and of the layer over both."""
        super().__init__()
        self.features = PairSinusoid(embed_dim)
        self.embedding = nn.Linear(2 * embed_dim, embed_dim)
        self.modulation = nn.Linear(embed_dim, 2 * width)
        self.enter = nn.Conv2d(in_channels, width, 3, padding=1)
        self.residual = nn.Conv2d(width, width, 3, padding=1)
        self.across = nn.Conv1d(width, width, 3, padding=1)
        self.leave = nn.Conv2d(width, out_channels, 3, padding=1)
        for parameter in (*self.modulation.parameters(), *self.across.parameters(), *self.leave.parameters()):
            nn.init.zeros_(parameter)

    def forward(self, states: Tensor, timestep: Tensor, step: Tensor) -> Tensor:
        """Latents (B, T, C, H, W) to (B, T, C', H, W) at `timestep` in [0, 1000] and degradation `step`, both (B,)."""
        batch, frames = states.shape[:2]
        embedding = self.embedding(self.features(torch.stack([timestep, step], dim=1)).flatten(1))
        modulation: Tensor = self.modulation(functional.silu(embedding))
        scale, shift = modulation.repeat_interleave(frames, dim=0)[..., None, None].chunk(2, dim=1)
        hidden = self.enter(states.flatten(0, 1))
        hidden = hidden + self.residual(functional.silu((1 + scale) * hidden + shift))
        over_time = functional.silu(hidden).unflatten(0, (batch, frames)).permute(0, 3, 4, 2, 1).flatten(0, 2)
        over_time = self.across(over_time).unflatten(0, (batch, *hidden.shape[-2:]))
        hidden = hidden + over_time.permute(0, 4, 3, 1, 2).flatten(0, 1)
        out: Tensor = self.leave(functional.silu(hidden))
        return out.unflatten(0, (batch, frames))


class ConvolutionalTransformer(Stage2Transformer):
    """Stage II with a `ConvolutionPath` of width `convolution`; other arguments are its parent's, `moments` needed."""

    @register_to_config
    def __init__(
        self,
        num_attention_heads: int,
        num_layers: int,
        in_channels: int,
        out_channels: int,
        moments: Sequence[Sequence[float]],
        convolution: int,
        patch_size: int = 2,
        time_embed_dim: int = 512,
        text_embed_dim: int = 8,
        max_text_seq_length: int = 1,
        use_rotary_positional_embeddings: bool = True,
    ) -> None:
        super().__init__(
            num_attention_heads=num_attention_heads,
            num_layers=num_layers,
            in_channels=in_channels,
            out_channels=out_channels,
            patch_size=patch_size,
            time_embed_dim=time_embed_dim,
            text_embed_dim=text_embed_dim,
            max_text_seq_length=max_text_seq_length,
            moments=moments,
            use_rotary_positional_embeddings=use_rotary_positional_embeddings,
        )
        self.path = ConvolutionPath(in_channels, in_channels, convolution, time_embed_dim)

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        timestep: float | Tensor,
        degradation_step: int | Tensor = 675,
        return_dict: bool = True,
        **kwargs: Any,
    ) -> Transformer2DModelOutput | tuple[Tensor]:
        """Velocity at x_t, as in `Stage2Transformer`."""
        (velocity,) = super().forward(
            hidden_states, encoder_hidden_states, timestep, degradation_step, return_dict=False, **kwargs
        )
        time, step = (_numbers(value, hidden_states) for value in (timestep, degradation_step))
        table = torch.tensor(self.config.moments, device=hidden_states.device)
        scale, _, g = precondition.coefficients(table, 1 - time / 1000, step)
        velocity = velocity + g * self.path(scale * hidden_states, time, step)
        return Transformer2DModelOutput(sample=velocity) if return_dict else (velocity,)


class ConvolutionalVanilla(VanillaTransformer):
    """The vanilla cascade's network with a `ConvolutionPath` over the noisy half and the condition."""

    @register_to_config
    def __init__(
        self,
        num_attention_heads: int,
        num_layers: int,
        in_channels: int,
        out_channels: int,
        moments: Sequence[Sequence[float]],
        slope: Sequence[float],
        low_power: Sequence[float],
        convolution: int,
        noise_scale: float = 1.0,
        patch_size: int = 2,
        time_embed_dim: int = 512,
        text_embed_dim: int = 8,
        max_text_seq_length: int = 1,
        use_rotary_positional_embeddings: bool = True,
    ) -> None:
        super().__init__(
            num_attention_heads=num_attention_heads,
            num_layers=num_layers,
            in_channels=in_channels,
            out_channels=out_channels,
            moments=moments,
            slope=slope,
            low_power=low_power,
            noise_scale=noise_scale,
            patch_size=patch_size,
            time_embed_dim=time_embed_dim,
            text_embed_dim=text_embed_dim,
            max_text_seq_length=max_text_seq_length,
            use_rotary_positional_embeddings=use_rotary_positional_embeddings,
        )
        self.path = ConvolutionPath(in_channels, in_channels // 2, convolution, time_embed_dim)

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        timestep: float | Tensor,
        degradation_step: int | Tensor = 0,
        return_dict: bool = True,
        **kwargs: Any,
    ) -> Transformer2DModelOutput | tuple[Tensor]:
        """Velocity (B, T, 2C, H, W), zero in its second half, as in `VanillaTransformer`."""
        (velocity,) = super().forward(
            hidden_states, encoder_hidden_states, timestep, degradation_step, return_dict=False, **kwargs
        )
        time = _numbers(timestep, hidden_states)
        known = self.preconditioned(hidden_states, time)
        local = known.g * self.path(known.network_input, time, torch.zeros_like(time))
        velocity = velocity + torch.cat([local, torch.zeros_like(local)], dim=2)
        return Transformer2DModelOutput(sample=velocity) if return_dict else (velocity,)


def _numbers(value: float | Tensor, like: Tensor) -> Tensor:
    """A number or numbers (B,) as float32 (B,) beside `like` (B, ...)."""
    return torch.as_tensor(value, device=like.device, dtype=torch.float32).expand(len(like))
