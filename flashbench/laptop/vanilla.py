"""The vanilla cascade: Stage II as a flow from pure noise, conditioned on the low-quality latent by concatenation.

What the paper compares with in Figure 1 and Table 3 (arXiv 2502.05179): the low-quality clip is a condition, not the
start. Here the state of the flow is the latent with the clean low-quality latent beside it, whose velocity is zero, so
that the objective and the sampler of `cascade` serve as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from torch import Tensor

from flashbench.cascade import degrade, precondition, sampling
from flashbench.cascade.training import Batch, Pairs, Phase, Source, context_for
from flashbench.cascade.transformer import PositionedTransformer


class Preconditioned(NamedTuple):
    """velocity = guess + k * rest + g * net(network_input), for the noisy half."""

    guess: Tensor
    rest: Tensor
    k: Tensor
    g: Tensor
    network_input: Tensor
    """(B, T, 2C, H, W)"""


class VanillaTransformer(PositionedTransformer):
    """Velocity of the flow from noise (t = 0) to the high-quality latent (t = 1), given the low-quality one.

    Channels come in two halves, (x_t, L), and so goes the velocity: (v, 0). The blocks, positions and the local gain
    are Stage II's (of the noisy half and of the condition here). What is known in closed form is given: `slope` (C)
    predicts H from L, `low_power` (C) is E[L^2], `moments` (3, 2C) are those of the flow from noise to what is left of
    H, once per half: see `closed_form`.
    """

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
        noise_scale: float = 1.0,
        patch_size: int = 2,
        time_embed_dim: int = 512,
        text_embed_dim: int = 8,
        max_text_seq_length: int = 1,
        use_rotary_positional_embeddings: bool = True,
    ) -> None:
        super().__init__()

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        timestep: float | Tensor,
        degradation_step: int | Tensor = 0,
        return_dict: bool = True,
        **kwargs: Any,
    ) -> Transformer2DModelOutput | tuple[Tensor]:
        """Velocity (B, T, 2C, H, W), zero in its second half, at (x_t, L) and `timestep` = 1000 (1 - t).

        There is no degradation here: `degradation_step` is 0.
        """
        context, rotary = self._positions(hidden_states, encoder_hidden_states)
        device = hidden_states.device
        time = torch.as_tensor(timestep, device=device, dtype=torch.float32).expand(len(hidden_states))
        guess, rest, k, g, network_input = self.preconditioned(hidden_states, time)
        (sample,) = super().forward(
            hidden_states=network_input,
            encoder_hidden_states=context,
            timestep=time,
            image_rotary_emb=rotary,
            return_dict=False,
            **kwargs,
        )
        if self.config.out_channels == 3 * rest.shape[2]:
            sample, *gains = sample.chunk(3, dim=2)
            sample = sample + sum(gain * half for gain, half in zip(gains, network_input.chunk(2, dim=2), strict=True))
        velocity = torch.cat([guess + k * rest + g * sample, torch.zeros_like(rest)], dim=2)
        return Transformer2DModelOutput(sample=velocity) if return_dict else (velocity,)

    def preconditioned(self, hidden_states: Tensor, time: Tensor) -> Preconditioned:
        """What is known in closed form at (x_t, L) (B, T, 2C, H, W) and timesteps `time` (B,)."""
        noisy, low = hidden_states.chunk(2, dim=2)
        table = torch.tensor(self.config.moments, device=hidden_states.device)[:, : noisy.shape[2]]
        scale, k, g = precondition.coefficients(table, 1 - time / 1000, torch.zeros_like(time))
        guess = torch.tensor(self.config.slope, device=hidden_states.device).reshape(-1, 1, 1) * low
        rest = noisy - (1 - time / 1000).reshape(-1, 1, 1, 1, 1) * guess
        power = torch.tensor(self.config.low_power, device=hidden_states.device).reshape(-1, 1, 1)
        return Preconditioned(guess, rest, k, g, torch.cat([rest * scale, low * power.rsqrt()], dim=2))


def closed_form(moments: Tensor, noise_scale: float) -> dict[str, Any]:
    """`slope`, `low_power` and `moments` of a `VanillaTransformer` from E[H^2], E[L^2] and E[HL], (3, C).

    With H = b L + e, b = E[HL] / E[L^2], x_t - t b L = (1 - t) n + t e is a flow from noise n of standard deviation
    `noise_scale` to e: its preconditioner is FlashVideo's with that noise for L, uncorrelated with e.
    """
    high, low, cross = moments.double().unbind(0)
    slope = cross / low
    a, sigma = (float(value) for value in degrade.coefficients(0))  # the step at which `precondition` is asked
    start = torch.full_like(low, (noise_scale**2 - sigma**2) / a**2)
    # H and L can be equal up to rounding in a channel.
    residual = (high - slope * cross).clamp_min(1e-6)
    flow = torch.stack([residual, start, torch.zeros_like(low)])
    # The second half's velocity is known; it has the first one's weights in the loss, which stay finite so.
    return {"moments": flow.repeat(1, 2).tolist(), "slope": slope.tolist(), "low_power": low.tolist()}


def from_noise(pairs: Pairs, noise_scale: float) -> Source:
    """A source of pairs in the joint space: (H, L) is reached from (noise, L)."""

    def draw_batch(phase: Phase, draw: torch.Generator) -> Batch:
        high, low = pairs(phase.batch, draw)
        noise = noise_scale * torch.randn(high.shape, generator=draw)
        return Batch(torch.cat([high, low], dim=2), torch.cat([noise, low], dim=2))

    return draw_batch


@torch.no_grad()
def vanilla_sample(
    network: VanillaTransformer, low: Tensor, *, nfe: int, noise: Tensor, shift: float = 2.5
) -> sampling.Sample:
    """The high-quality latent for the clean scaled latent `low` (B, T, C, H, W) from `noise` of its shape.

    `nfe` Euler steps of the grid of `sampling.time_grid`. Raises UsageError for a wrong setting.
    """
    start = torch.cat([network.config.noise_scale * noise, low], dim=2)
    sample = sampling.refine(
        network,
        start,
        context_for(network, len(low)),
        nfe=nfe,
        shift=shift,
        guidance=1.0,
        degradation_step=None,
        noise=None,
    )
    return sample._replace(latent=sample.latent[:, :, : low.shape[2]])
