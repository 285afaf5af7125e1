"""Stage II sampling: the shifted time grid and Euler's method, as free functions over a velocity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from flashbench.cascade import degrade
from flashbench.errors import UsageError

Velocity: TypeAlias = Callable[[Tensor, float], Tensor]
"""dx/dt at (x, t)."""
MULTIPLE = 16
"""Generated heights and widths are multiples of this many pixels: 8 of the codec times a patch of 2."""


class Sample(NamedTuple):
    """What a sampler made, and what it cost."""

    latent: Tensor
    evaluations: int
    """Evaluations of the velocity, counted where it is called."""
    network_forwards: tuple[int, int]
    """Forwards per sample with and without the condition; guidance other than 1 needs both."""


def check_size(height: int, width: int) -> None:
    """Refuse a generated size in pixels that is not divisible by 16: UsageError. (The input may have any size.)"""
    if height % MULTIPLE or width % MULTIPLE or height <= 0 or width <= 0:
        near = " x ".join(str(max(MULTIPLE, round(side / MULTIPLE) * MULTIPLE)) for side in (height, width))
        raise UsageError(f"cannot generate {height} x {width}: both sides must be multiples of 16", fix=f"use {near}")


def time_grid(nfe: int, shift: float = 2.5) -> Tensor:
    """Flow times, float32 (nfe + 1,) from 0 (degraded low quality) to 1 (high quality).

    t = 1 - s (1 - u) / (1 + (s - 1)(1 - u)) for even u: `shift` s > 1 spends more steps near 0, s = 1 is even.
    """
    if nfe < 1:
        raise UsageError(f"nfe must be at least 1, not {nfe}", fix="the paper uses 4")
    rest = 1 - torch.linspace(0, 1, nfe + 1)
    return 1 - shift * rest / (1 + (shift - 1) * rest)


def euler(velocity: Velocity, x: Tensor, times: Tensor | Sequence[float]) -> tuple[Tensor, int]:
    """Integrate dx/dt = velocity(x, t) over `times` by Euler's method; returns the last x and the evaluations made."""
    grid = [float(t) for t in times]
    evaluations = 0
    for now, then in zip(grid, grid[1:], strict=False):
        x = x + (then - now) * velocity(x, now)
        evaluations += 1
    return x, evaluations


def guided(
    stage2: Callable[..., Any], context: Tensor, uncond: Tensor | None, guidance: float, degradation_step: int
) -> Velocity:
    """The velocity v_u + guidance (v_c - v_u) of `stage2`; at guidance 1 the unconditional half is not computed.

    `context` (B, L, D); `uncond` of the same shape, None meaning zeros, which is what FlashVideo uses. Both halves are
    one batch (conditional first), so that one evaluation is one call of the network.
    """
    single = guidance == 1
    contexts = context if single else torch.cat([context, torch.zeros_like(context) if uncond is None else uncond])

    def velocity(x: Tensor, time: float) -> Tensor:
        states = x if single else torch.cat([x, x])
        out: Tensor = stage2(
            hidden_states=states,
            encoder_hidden_states=contexts,
            timestep=1000 - 1000 * time,
            degradation_step=degradation_step,
        ).sample
        if single:
            return out
        conditional, unconditional = out.chunk(2)
        return unconditional + guidance * (conditional - unconditional)

    return velocity


@torch.no_grad()
def refine(
    stage2: Callable[..., Any],
    lq: Tensor,
    context: Tensor,
    *,
    nfe: int = 4,
    shift: float = 2.5,
    guidance: float = 13.0,
    degradation_step: int | None = 675,
    noise: Tensor | None,
    uncond: Tensor | None = None,
) -> Sample:
    """Enhance the clean scaled low-quality latent `lq` (B, T, C, H, W): degrade it, then follow the flow.

    `noise` has the shape of `lq`. A `degradation_step` of None adds no noise (`noise` is then None); the network is
    told step 0. Returns the high-quality latent with its counted cost. Raises UsageError for a wrong setting or shape.
    """
    if degradation_step is None:
        start = lq
    elif noise is None or noise.shape != lq.shape:
        shape = None if noise is None else list(noise.shape)
        raise UsageError(f"noise of shape {shape} for a latent of {list(lq.shape)}", fix="draw noise of its shape")
    else:
        start = degrade.latent(lq, degradation_step, noise)
    velocity = guided(stage2, context, uncond, guidance, degradation_step or 0)
    latent, evaluations = euler(velocity, start, time_grid(nfe, shift))
    return Sample(latent, evaluations, (evaluations, 0 if guidance == 1 else evaluations))
