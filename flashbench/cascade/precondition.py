"""Closed-form preconditioning of the flow from three moments per channel.

A small network learns faster when its input and its target have unit variance and the part of the velocity that is
linear in x_t is given (the idea of Karras et al. 2022, arXiv 2206.00364, section 5, for the flow from a degraded
low-quality latent to the high-quality one). Official weights were trained without: there, no moments, the identity.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from flashbench.cascade import degrade


class Coefficients(NamedTuple):
    """velocity = k * x + g * net(x * input_scale); each (B, 1, C, 1, 1)."""

    input_scale: Tensor
    k: Tensor
    g: Tensor


def moments(high: Tensor, low: Tensor) -> Tensor:
    """E[H^2], E[L^2] and E[HL] per channel of paired scaled latents (N, T, C, H, W), as float32 (3, C)."""
    dims = (0, 1, 3, 4)
    high, low = high.double(), low.double()
    return torch.stack([(high**2).mean(dims), (low**2).mean(dims), (high * low).mean(dims)]).float()


def coefficients(moments: Tensor, time: Tensor, step: Tensor) -> Coefficients:
    """The preconditioner at flow times `time` (B,) in [0, 1] and degradation steps `step` (B,) for `moments` (3, C).

    With x_0 = a L + sigma n and x_1 = H: x_t = (1 - t) x_0 + t x_1 has variance V_x, the velocity v = x_1 - x_0 has
    V_v, and k = cov(v, x_t) / V_x, g = sqrt(V_v - cov^2 / V_x), so that the network's target (v - k x_t) / g has unit
    variance and no correlation with x_t.
    """
    a, sigma = degrade.coefficients(step)
    high, low, cross = moments.double().unbind(0)
    t, a, sigma = (value.to(moments.device).double().reshape(-1, 1) for value in (time, a, sigma))
    start = a**2 * low + sigma**2
    joint = a * cross
    variance = (1 - t) ** 2 * start + t**2 * high + 2 * t * (1 - t) * joint
    covariance = (1 - t) * joint + t * high - (1 - t) * start - t * joint
    total = high + start - 2 * joint
    # H and L can be equal up to rounding in a channel (an untrained or synthetic fit): keep the root real.
    rest = (total - covariance**2 / variance).clamp_min(1e-12)
    shape = (*variance.shape, 1, 1)
    values = (variance.rsqrt(), covariance / variance, rest.sqrt())
    return Coefficients(*(value.float().reshape(shape).unsqueeze(1) for value in values))
