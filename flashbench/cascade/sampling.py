"""FlashVideo's two samplers, as free functions over a network.

Stage I (`generate`) denoises text-conditioned noise by SDE-DPM-Solver++(2M) with a zero-SNR schedule and dynamic
guidance. Stage II (`refine`) degrades the low-quality latent and follows the flow from there (arXiv 2502.05179).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from flashbench.cascade import degrade, solvers
from flashbench.cascade.solvers import OnStep, Velocity
from flashbench.errors import UsageError, did_you_mean

Rounding: TypeAlias = Literal["none", "bf16"]
MULTIPLE = 16
"""Generated heights and widths are multiples of this many pixels: 8 of the codec times a patch of 2."""
METHODS: Mapping[str, tuple[Callable[..., tuple[Tensor, int]], int]] = {
    "euler": (solvers.euler, 1),
    "midpoint": (solvers.midpoint, 2),
}
"""Methods for Stage II with their evaluations per step."""

STAGE1_PRESETS: Mapping[str, dict[str, Any]] = {
    "paper": {"steps": 50, "guidance": 8.0},
    "release": {"steps": 51, "guidance": 8.0},
}
STAGE2_PRESETS: Mapping[str, dict[str, Any]] = {
    "paper": {"nfe": 4, "shift": 2.5, "guidance": 13.0, "degradation_step": 675, "rounding": "none"},
    "release": {"nfe": 5, "shift": 2.5, "guidance": 13.0, "degradation_step": 675, "rounding": "bf16"},
}
"""`paper`: the numbers of the paper's tables, with the release's time shift (the paper prints even steps and never
mentions it). `release`: what the released script runs, bf16 rounding of time and degradation step included."""


class Sample(NamedTuple):
    """The latent that a sampler made, and what it cost."""

    latent: Tensor
    evaluations: int
    """Evaluations of the velocity, counted where it is called."""
    network_forwards: tuple[int, int]
    """Forwards per sample with and without the condition; guidance needs both."""


def check_size(height: int, width: int) -> None:
    """Refuse a generated size in pixels that is not divisible by 16: UsageError. (The input may have any size.)"""
    if height % MULTIPLE or width % MULTIPLE or height <= 0 or width <= 0:
        near = " x ".join(str(max(MULTIPLE, side // MULTIPLE * MULTIPLE)) for side in (height, width))
        raise UsageError(f"cannot generate {height} x {width}: both sides must be multiples of 16", fix=f"use {near}")


def time_grid(nfe: int, shift: float = 2.5, rounding: Rounding = "none") -> Tensor:
    """Flow times (nfe + 1,) from 0 (degraded low quality) to 1 (high quality), float32, or bf16 for `rounding` bf16.

    t = 1 - s (1 - u) / (1 + (s - 1)(1 - u)) for even u: `shift` s > 1 spends more steps near 0, s = 1 is even. The
    release computes all of it in bf16, which is not the float32 grid rounded once.
    """
    if nfe < 1:
        raise UsageError(f"nfe must be at least 1, not {nfe}", fix="the paper uses 4")
    if not 0 < shift < math.inf:
        raise UsageError(f"shift is {shift}, not a number above 0", fix="1 is an even grid; the release uses 2.5")
    if rounding not in ("none", "bf16"):
        raise did_you_mean("rounding", str(rounding), ("none", "bf16"))
    rest = 1 - torch.linspace(0, 1, nfe + 1, dtype=torch.bfloat16 if rounding == "bf16" else torch.float32)
    return 1 - shift * rest / (1 + (shift - 1) * rest)


def stages(method: str) -> int:
    """Evaluations per step of a method; a UsageError with the nearest name if there is none."""
    if method not in METHODS:
        raise did_you_mean("method", method, METHODS)
    return METHODS[method][1]


def check_refine(
    *, nfe: int, shift: float, guidance: float, degradation_step: int | Tensor | None, method: str, rounding: Rounding
) -> None:
    """Refuse settings that `refine` cannot run with: UsageError. Cheap, so that a cascade can ask before Stage I."""
    if not math.isfinite(guidance):
        raise UsageError(f"guidance is {guidance}", fix="1 means no guidance; the paper uses 13")
    degrade.coefficients(degradation_step)
    per_step = stages(method)
    time_grid(nfe, shift, rounding)
    if nfe % per_step:
        divisor = f"the {per_step} evaluations of a {method} step"
        raise UsageError(f"nfe {nfe} is not divisible by {divisor}", fix="use an even nfe")


def guided(
    stage2: Callable[..., Any],
    context: Tensor,
    uncond: Tensor | None,
    guidance: float,
    degradation_step: int | Tensor,
    rounding: Rounding = "none",
) -> Velocity:
    """The velocity v_u + guidance (v_c - v_u) of `stage2`; at guidance 1 the unconditional half is not computed.

    `context` (B, L, D); `uncond` of the same shape, None meaning zeros, which is what FlashVideo uses. Both halves are
    one batch (conditional first), so that one evaluation is one call of the network. With `rounding` bf16 the network
    is told the time and the degradation step as bf16 holds them (675 as 676).
    """
    single = guidance == 1
    contexts = context if single else torch.cat([context, torch.zeros_like(context) if uncond is None else uncond])

    def rounded(value: float) -> Tensor:
        return torch.tensor(value, dtype=torch.bfloat16 if rounding == "bf16" else torch.float64)

    step = degradation_step if rounding == "none" else torch.as_tensor(degradation_step).bfloat16().float()
    if isinstance(step, Tensor) and step.ndim and not single:
        step = torch.cat([step, step])

    def velocity(x: Tensor, time: float) -> Tensor:
        states = x if single else torch.cat([x, x])
        out: Tensor = stage2(
            hidden_states=states.to(context.dtype),
            encoder_hidden_states=contexts,
            timestep=float(1000 - 1000 * rounded(time)),
            degradation_step=step,
        ).sample.to(x.dtype)
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
    degradation_step: int | Tensor | None = 675,
    noise: Tensor | None,
    uncond: Tensor | None = None,
    method: str = "euler",
    rounding: Rounding = "none",
    on_step: OnStep = solvers.keep,
) -> Sample:
    """Enhance the clean scaled low-quality latent `lq` (B, T, C, H, W): degrade it, then follow the flow.

    `nfe` counts evaluations: the midpoint method makes nfe / 2 steps of two. `noise` has the shape of `lq`. A
    `degradation_step` of None adds no noise (`noise` is then None); the network is told step 0. `rounding` bf16 rounds
    the time grid and the step that the network is told, as the release does; the degradation uses the exact step.
    `on_step` is called with (number, timestep, x) after each step and may return another x.
    Returns the high-quality latent with its counted cost. Raises UsageError for a wrong setting or shape.
    """
    settings: dict[str, Any] = {"degradation_step": degradation_step, "method": method, "rounding": rounding}
    check_refine(nfe=nfe, shift=shift, guidance=guidance, **settings)
    if degradation_step is None:
        start = lq
    elif noise is None or noise.shape != lq.shape:
        shape = None if noise is None else list(noise.shape)
        raise UsageError(f"noise of shape {shape} for a latent of {list(lq.shape)}", fix="draw noise of its shape")
    else:
        start = degrade.latent(lq, degradation_step, noise)
    velocity = guided(stage2, context, uncond, guidance, 0 if degradation_step is None else degradation_step, rounding)
    solve, per_step = METHODS[method]

    def after_step(number: int, time: float, x: Tensor) -> Tensor:
        return on_step(number, 1000 - 1000 * time, x)

    latent, evaluations = solve(velocity, start, time_grid(nfe // per_step, shift, rounding), after_step)
    return Sample(latent, evaluations, (evaluations, 0 if guidance == 1 else evaluations))


class Stage1Schedule(NamedTuple):
    """Stage I's steps, each field of length N; float64 except the timesteps."""

    timesteps: Tensor
    """What the network is told, int64, falling from 999."""
    alpha: Tensor
    """sqrt(alpha_bar) that the solver uses: the zero-SNR rescaling of these N entries alone."""
    alpha_denoiser: Tensor
    """sqrt(alpha_bar) that turns v into x_0: the nearest entry of the full table of 1000."""
    guidance: Tensor
    """Effective guidance scale."""


def stage1_schedule(steps: int, guidance: float = 8.0) -> Stage1Schedule:
    """The release's schedule of Stage I for `steps` evaluations in 2..999.

    The dynamic guidance is w = 1 + s (1 - cos(pi ((N - t) / N)^5)) / 2 with s = `guidance` and N = `steps`. Its t is
    the timestep in 0..999 where the step's number was surely meant, so that w jumps about between 1 and 1 + s; the
    released results are made so.
    """
    if not math.isfinite(guidance):
        raise UsageError(f"guidance is {guidance}", fix="0 means no guidance; the paper uses 8")
    if not 2 <= steps < degrade.STEPS:
        raise UsageError(f"Stage I takes 2 to {degrade.STEPS - 1} steps, not {steps}", fix="the paper uses 50")
    times = np.linspace(degrade.STEPS - 1, 0, steps, endpoint=False).astype(int).tolist()
    timesteps = torch.tensor(times)
    alpha = degrade.zero_snr(degrade.scaled_linear()[timesteps.flip(0)]).flip(0)
    table = degrade.alphas().double()
    nearest = (alpha[:, None] - table).abs().argmin(1)
    scales = [1 + guidance * (1 - math.cos(math.pi * ((steps - time) / steps) ** 5)) / 2 for time in times]
    return Stage1Schedule(timesteps, alpha, table[nearest], torch.tensor(scales, dtype=torch.float64))


@torch.no_grad()
def generate(
    stage1: Callable[..., Any],
    noise: Tensor,
    context: Tensor,
    *,
    steps: int = 50,
    guidance: float = 8.0,
    step_noise: torch.Generator | Sequence[Tensor],
    uncond: Tensor | None = None,
    on_step: OnStep = solvers.keep,
) -> Sample:
    """Stage I: the scaled low-resolution latent for `context` (B, L, D) from `noise` (B, T, C, H, W), float32.

    `guidance` is the s of `stage1_schedule`; at 0 the unconditional half is not computed. `uncond` None means zeros.
    `step_noise` is the list of the steps - 1 noises that are used, or a generator to draw them from: as in the
    release, every step but the first draws twice and throws the first draw away. Returns the latent with its counted
    cost. Raises UsageError for a wrong setting or number of noises.
    """
    schedule = stage1_schedule(steps, guidance)
    noise = noise if noise.dtype == torch.float64 else noise.float()  # x stays exact between half-precision networks
    if not isinstance(step_noise, torch.Generator) and len(step_noise) != steps - 1:
        raise UsageError(f"{len(step_noise)} step noises for {steps} steps", fix=f"give {steps - 1}: the last has none")
    single = guidance == 0
    contexts = context if single else torch.cat([torch.zeros_like(context) if uncond is None else uncond, context])

    def denoise(x: Tensor, number: int) -> Tensor:
        states = (x if single else torch.cat([x, x])).to(context.dtype)
        v = stage1(
            hidden_states=states, encoder_hidden_states=contexts, timestep=float(schedule.timesteps[number])
        ).sample.to(x.dtype)
        a = float(schedule.alpha_denoiser[number])
        estimate = a * (x if single else torch.cat([x, x])) - math.sqrt(1 - a * a) * v
        if single:
            return estimate
        unconditional, conditional = estimate.chunk(2)
        return unconditional + float(schedule.guidance[number]) * (conditional - unconditional)

    def draw(number: int) -> Tensor:
        if not isinstance(step_noise, torch.Generator):
            return step_noise[number].to(noise)
        drawn = [
            torch.randn(noise.shape, generator=step_noise, device=step_noise.device) for _ in range(1 + (number > 0))
        ]
        return drawn[-1].to(noise)

    def after_step(number: int, alpha: float, x: Tensor) -> Tensor:
        return on_step(number, float(schedule.timesteps[number]), x)

    latent, evaluations = solvers.dpm_solver_pp_2m_sde(denoise, noise, schedule.alpha, draw, after_step)
    return Sample(latent, evaluations, (evaluations, 0 if single else evaluations))
