"""What the two stages are trained for: functions of a network and a batch of clean latents.

All draws are made on the CPU, so that they do not depend on where the network is, and each from a given generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from flashbench.cascade import degrade, precondition
from flashbench.cascade.training.data import Batch
from flashbench.cascade.training.settings import Phase, Training
from flashbench.errors import InvalidError, UsageError


def loss(network: nn.Module, batch: Batch, settings: Training, phase: Phase, draw: torch.Generator) -> Tensor:
    """The loss that `settings.objective` names, with contexts dropped at `settings.text_dropout`.

    Raises InvalidError where the batch lacks the low-quality side that the objective needs.
    """
    batch = batch._replace(context=drop_text(batch.context, settings.text_dropout, draw))
    if settings.objective == "v":
        return v_loss(network, batch, draw)
    if settings.objective == "l1":
        return l1_loss(network, batch, channel_power=settings.channel_power)
    shift, power = settings.time_shift, settings.channel_power
    return flow_loss(network, batch, phase, draw, time_shift=shift, channel_power=power)


def flow_loss(
    network: nn.Module,
    batch: Batch,
    phase: Phase,
    draw: torch.Generator,
    *,
    time_shift: float = 1.0,
    channel_power: Sequence[float] = (),
) -> Tensor:
    """Flow-matching loss of Stage II (arXiv 2502.05179, section 3.3; Lipman et al. 2022, arXiv 2210.02747).

    x_0 is the degraded low-quality latent, x_1 the high-quality one, and the network is asked for x_1 - x_0 at
    x_t = (1 - t) x_0 + t x_1. Time, step and noise come from `draw`, times and steps stratified over the batch. The
    squared error is weighted by 1 / (g rms(g)) per channel: what a preconditioned network itself misses, each channel
    counted by its share g / rms(g) of the velocity that is not known beforehand. Without moments the weight is 1. With
    `channel_power` p (C) the weight is p / mean(p g^2): what is missed in the units of p, in all of what is not known.
    """
    high, low = batch.high, _low(batch)
    size = len(high)
    strata = torch.arange(size, dtype=torch.float32)
    uniform = (strata[torch.randperm(size, generator=draw)] + torch.rand(size, generator=draw)) / size
    time = uniform / (time_shift - (time_shift - 1) * uniform)
    start, step = low, torch.zeros(size, dtype=torch.long)
    if phase.degradation == "pixel+latent":
        first, last = phase.degradation_steps
        place = (strata[torch.randperm(size, generator=draw)] + torch.rand(size, generator=draw)) / size
        step = first + (place * (last + 1 - first)).long().clamp_max(last - first)
        start = degrade.latent(low, step, torch.randn(low.shape, generator=draw).to(low))
    t = time.reshape(-1, 1, 1, 1, 1).to(high)
    out = _velocity(network, (1 - t) * start + t * high, batch.context, time, step)
    gain = _gain(network, time, step).to(high)
    if channel_power:
        power = _power(channel_power, high)
        weight = power / (power * gain.square()).mean(2, keepdim=True)
    else:
        weight = 1 / (gain * gain.square().mean(2, keepdim=True).sqrt())
    return (weight * (out - (high - start)).square()).mean()


def l1_loss(network: nn.Module, batch: Batch, *, channel_power: Sequence[float] = ()) -> Tensor:
    """L1 regression of the same network: low + velocity(low, t = 0, step 0) against `high`, in units of rms(g).

    With `channel_power` p (C) the error of a channel is multiplied by sqrt(p) and is in units of rms(sqrt(p) g).
    """
    high, low = batch.high, _low(batch)
    zero = torch.zeros(len(high))
    out = low + _velocity(network, low, batch.context, zero, zero.long())
    gain = _gain(network, zero, zero.long()).to(high)
    if not channel_power:
        return ((out - high).abs() / gain.square().mean(2, keepdim=True).sqrt()).mean()
    power = _power(channel_power, high)
    return ((out - high).abs() * (power / (power * gain.square()).mean(2, keepdim=True)).sqrt()).mean()


def v_loss(network: nn.Module, batch: Batch, draw: torch.Generator) -> Tensor:
    """Mean squared error of Stage I's v-prediction (Salimans & Ho 2022, arXiv 2202.00512).

    The timestep is uniform in 0..999, a that entry of the zero-SNR table `degrade.alphas`, and the network is asked for
    v = a noise - sqrt(1 - a^2) x at a x + sqrt(1 - a^2) noise.
    """
    clean = batch.high
    step = torch.randint(degrade.STEPS, (len(clean),), generator=draw)
    noise = torch.randn(clean.shape, generator=draw).to(clean)
    a, sigma = (value.reshape(-1, 1, 1, 1, 1).to(clean) for value in degrade.coefficients(step))
    out: Tensor = network(
        hidden_states=a * clean + sigma * noise,
        encoder_hidden_states=_context(network, clean, batch.context),
        timestep=step.to(clean.device),
    ).sample
    return (out - (a * noise - sigma * clean)).square().mean()


def drop_text(context: Tensor | None, share: float, draw: torch.Generator) -> Tensor | None:
    """Contexts (B, L, D) of which each is replaced by zeros, the unconditional one, with probability `share`."""
    if context is None:
        return None
    mask = torch.rand(len(context), generator=draw) >= share
    # Chosen and not multiplied, so that an embedding that is not finite does not survive as NaN.
    return torch.where(mask.to(context.device).reshape(-1, 1, 1), context, torch.zeros_like(context))


def context_for(network: Any, batch: int) -> Tensor:
    """The unconditional context of a network: zeros (B, L, D)."""
    config = configuration(network)
    return torch.zeros(batch, config.max_text_seq_length, config.text_embed_dim)


def _low(batch: Batch) -> Tensor:
    if batch.low is None:
        raise InvalidError("the source gave no low-quality latents", fix="train Stage II on pairs, or use objective v")
    if batch.low.shape != batch.high.shape:
        what = f"low-quality latents of shape {tuple(batch.low.shape)} beside {tuple(batch.high.shape)}"
        raise InvalidError(what, fix="enlarge low-quality clips to the size of the others before encoding them")
    return batch.low


def configuration(network: Any) -> Any:
    """The network's configuration, which is one level down where several processes train it."""
    return getattr(network, "module", network).config


def _context(network: Any, like: Tensor, context: Tensor | None) -> Tensor:
    return context_for(network, len(like)).to(like) if context is None else context


def _velocity(network: Any, x: Tensor, context: Tensor | None, time: Tensor, step: Tensor) -> Tensor:
    out: Tensor = network(
        hidden_states=x,
        encoder_hidden_states=_context(network, x, context),
        timestep=1000 - 1000 * time.to(x.device),
        degradation_step=step.to(x.device),
    ).sample
    return out


def _power(channel_power: Sequence[float], like: Tensor) -> Tensor:
    """The weights as (C, 1, 1) beside latents (B, T, C, H, W); UsageError for another number of channels."""
    if len(channel_power) != like.shape[2]:
        what = f"channel_power has {len(channel_power)} numbers for {like.shape[2]} channels"
        raise UsageError(what, fix="give one a channel")
    return torch.tensor(channel_power, device=like.device, dtype=like.dtype).reshape(-1, 1, 1)


def _gain(network: Any, time: Tensor, step: Tensor) -> Tensor:
    moments = getattr(configuration(network), "moments", None)
    if moments is None:
        return torch.ones(len(time), 1, 1, 1, 1)
    return precondition.coefficients(torch.tensor(moments), time, step).g
