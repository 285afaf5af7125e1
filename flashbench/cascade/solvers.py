"""Numerical methods of the two samplers, as free functions; named after the methods that they implement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

Velocity: TypeAlias = Callable[[Tensor, float], Tensor]
"""dx/dt at (x, t)."""
OnStep: TypeAlias = Callable[[int, float, Tensor], Tensor]
"""Called after each step with (number of the step, its time, x); x goes on as what it returns."""


def keep(number: int, time: float, x: Tensor) -> Tensor:
    """The `OnStep` that returns x as it is."""
    return x


def euler(velocity: Velocity, x: Tensor, times: Tensor | Sequence[float], on_step: OnStep = keep) -> tuple[Tensor, int]:
    """Integrate dx/dt = velocity(x, t) over `times` by Euler's method (order 1, one evaluation per step).

    Returns the last x and the number of evaluations made.
    """
    evaluations = 0
    for number, (now, gap) in enumerate(_steps(times)):
        x = on_step(number, now, x + gap * velocity(x, now))
        evaluations += 1
    return x, evaluations


def midpoint(
    velocity: Velocity, x: Tensor, times: Tensor | Sequence[float], on_step: OnStep = keep
) -> tuple[Tensor, int]:
    """Integrate dx/dt = velocity(x, t) by the explicit midpoint rule (order 2, two evaluations per step)."""
    evaluations = 0
    for number, (now, gap) in enumerate(_steps(times)):
        half = x + 0.5 * gap * velocity(x, now)
        x = on_step(number, now, x + gap * velocity(half, now + 0.5 * gap))
        evaluations += 2
    return x, evaluations


def _steps(times: Tensor | Sequence[float]) -> list[tuple[float, float]]:
    """(time, length) of every step; the lengths of a grid in bf16 are rounded to bf16 like the grid itself."""
    grid = [float(time) for time in times]
    if isinstance(times, Tensor) and times.dtype == torch.bfloat16:
        return list(zip(grid, times.diff().tolist(), strict=False))
    return [(now, then - now) for now, then in zip(grid, grid[1:], strict=False)]


def dpm_solver_pp_2m_sde(
    denoise: Callable[[Tensor, int], Tensor],
    x: Tensor,
    alpha: Tensor,
    noise: Callable[[int], Tensor],
    on_step: OnStep = keep,
) -> tuple[Tensor, int]:
    """SDE-DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095) on the variance-preserving path.

    `denoise(x, number)` estimates x_0 at step `number`; `alpha` (N,), float64 and rising, is the share of x_0 in x at
    each step (0 at first for a zero-SNR schedule); `noise(number)` is the standard normal noise of a step, asked for
    at all but the last, whose result is the estimate itself. Returns the last x and the number of evaluations made.
    """
    steps, evaluations = len(alpha), 0
    sigma = (1 - alpha**2).sqrt()
    log_snr = (alpha / sigma).log()
    length = log_snr.diff()
    before: Tensor | None = None
    for number in range(steps):
        estimate = denoise(x, number)
        evaluations += 1
        if number == steps - 1:
            x = estimate
        else:
            h, scale = length[number], sigma[number + 1]
            direction = estimate
            # From pure noise the first step is infinitely long in log-SNR: the second then has nothing to extrapolate.
            if before is not None and bool(length[number - 1].isfinite()):
                r = float(length[number - 1] / h)
                direction = (1 + 1 / (2 * r)) * estimate - 1 / (2 * r) * before
            x = (
                float(scale / sigma[number] * (-h).exp()) * x
                - float((-2 * h).expm1() * alpha[number + 1]) * direction
                + float(scale * (1 - (-2 * h).exp()).sqrt()) * noise(number)
            )
        before = estimate
        x = on_step(number, float(alpha[number]), x)
    return x, evaluations
