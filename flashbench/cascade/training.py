"""Training of Stage II: flow matching from degraded low-quality latents, and the L1 regression it is compared with.

All randomness of a step is a function of (seed, step), so that a run resumed from a checkpoint repeats, bit for bit on
the CPU at one thread count, the run that was never interrupted; no generator state is stored.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from flashbench.cascade import degrade, precondition
from flashbench.errors import InvalidError

Report: TypeAlias = Callable[[int, int, str], None]
"""Called with (steps done, steps in all, a line of text)."""
Pairs: TypeAlias = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]
"""(batch size, generator) to clean scaled latents (high quality, low quality), each (B, T, C, H, W)."""

CHECKPOINT_SECONDS = float(os.environ.get("FLASHBENCH_CHECKPOINT_SECONDS") or 15)
"""Work that a kill may cost. A checkpoint takes about a tenth of a second."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """Settings of one training."""

    objective: Literal["flow", "l1"] = "flow"
    steps: int
    batch: int = 4
    degradation_steps: tuple[int, int] | None = (600, 900)
    """Range of the latent degradation's step, both ends included; None trains without latent degradation."""
    time_shift: float = 1.0
    """Flow times are uniform ones sent through the sampler's shift; more than 1 spends more of them near t = 0."""
    learning_rate: float = 1.5e-3
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 1e-4
    clip: float = 1.0
    """Largest norm of the gradient."""
    warmup: int = 10
    cosine_from: float = 0.5
    """Share of the steps after which the learning rate falls to `floor` of itself along a cosine."""
    floor: float = 0.05
    ema: float = 0.99


def generator(seed: int, purpose: str, step: int) -> torch.Generator:
    """A CPU generator that depends on nothing but its arguments."""
    digest = hashlib.sha256(f"{seed}|{purpose}|{step}".encode()).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def flow_loss(network: nn.Module, high: Tensor, low: Tensor, settings: Training, draw: torch.Generator) -> Tensor:
    """Flow-matching loss of a batch of clean latents (B, T, C, H, W); draws step, time and noise from `draw`.

    x_0 is the degraded `low`, x_1 = `high`, and the network is asked for x_1 - x_0 at x_t = (1 - t) x_0 + t x_1. The
    squared error is weighted by 1 / (g rms(g)) per channel: what the preconditioned network itself misses, each channel
    counted by its share g / rms(g) of the velocity that is not known beforehand.
    """
    batch = len(high)
    strata = torch.arange(batch, dtype=torch.float32)
    uniform = (strata[torch.randperm(batch, generator=draw)] + torch.rand(batch, generator=draw)) / batch
    time = uniform / (settings.time_shift - (settings.time_shift - 1) * uniform)
    start, step = low, torch.zeros(batch, dtype=torch.long)
    if settings.degradation_steps is not None:
        first, last = settings.degradation_steps
        place = (strata[torch.randperm(batch, generator=draw)] + torch.rand(batch, generator=draw)) / batch
        step = first + (place * (last + 1 - first)).long().clamp_max(last - first)
        start = degrade.latent(low, step, torch.randn(low.shape, generator=draw))
    t = time.reshape(-1, 1, 1, 1, 1)
    out = _forward(network, (1 - t) * start + t * high, time, step)
    gain = _gain(network, time, step)
    weight = 1 / (gain * gain.square().mean(2, keepdim=True).sqrt())
    return (weight * (out - (high - start)).square()).mean()


def l1_loss(network: nn.Module, high: Tensor, low: Tensor) -> Tensor:
    """L1 regression of the same network: low + velocity(low, t = 0, step 0) against `high`, in units of rms(g)."""
    zero = torch.zeros(len(high))
    out = low + _forward(network, low, zero, zero.long())
    scale = _gain(network, zero, zero.long()).square().mean(2, keepdim=True).sqrt()
    return ((out - high).abs() / scale).mean()


def context_for(network: Any, batch: int) -> Tensor:
    """The unconditional context of a network: zeros (B, L, D)."""
    return torch.zeros(batch, network.config.max_text_seq_length, network.config.text_embed_dim)


def _forward(network: Any, x: Tensor, time: Tensor, step: Tensor) -> Tensor:
    out: Tensor = network(
        hidden_states=x,
        encoder_hidden_states=context_for(network, len(x)),
        timestep=1000 - 1000 * time,
        degradation_step=step,
    ).sample
    return out


def _gain(network: Any, time: Tensor, step: Tensor) -> Tensor:
    if network.config.moments is None:
        return torch.ones(len(time), 1, 1, 1, 1)
    return precondition.coefficients(torch.tensor(network.config.moments), time, step).g


def learning_rate(settings: Training, step: int) -> float:
    """Rate of step 0, 1, ...: a linear warm-up, then constant, then a cosine down to `floor`."""
    rise = min(1.0, (step + 1) / max(1, settings.warmup))
    start = settings.cosine_from * settings.steps
    place = max(0.0, (step - start) / max(1.0, settings.steps - start))
    fall = settings.floor + (1 - settings.floor) * 0.5 * (1 + math.cos(math.pi * place))
    return settings.learning_rate * rise * fall


class _Run:
    """Weights, their moving average, AdamW's moments, the step and the losses: everything a checkpoint holds."""

    def __init__(self, network: nn.Module, settings: Training, fingerprint: str) -> None:
        self.network, self.settings, self.fingerprint = network, settings, fingerprint
        self.parameters = dict(network.named_parameters())
        self.average = {name: value.detach().clone() for name, value in self.parameters.items()}
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(),
            lr=settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.losses: list[float] = []

    def step(self, pairs: Pairs, seed: int) -> None:
        """One optimiser step."""
        number, settings = len(self.losses), self.settings
        draw = generator(seed, "train", number)
        high, low = pairs(settings.batch, draw)
        if settings.objective == "flow":
            loss = flow_loss(self.network, high, low, settings, draw)
        else:
            loss = l1_loss(self.network, high, low)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters.values(), settings.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(settings, number)
        self.optimizer.step()
        keep = min(settings.ema, (1 + number) / (10 + number))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.values()), list(self.parameters.values()), 1 - keep)
        self.losses.append(loss.item())
        if not math.isfinite(self.losses[-1]):
            raise InvalidError(f"the loss of step {number} is {self.losses[-1]}", fix="lower the learning rate")

    def save(self, path: Path) -> None:
        """Write the checkpoint; a reader sees the old one or the new one, never half of one."""
        tensors = {"losses": torch.tensor(self.losses, dtype=torch.float64)}
        for name, value in self.parameters.items():
            state = self.optimizer.state[value]
            tensors |= {
                f"weight.{name}": value.detach(),
                f"average.{name}": self.average[name],
                f"first.{name}": state["exp_avg"],
                f"second.{name}": state["exp_avg_sq"],
            }
        part = path.with_suffix(".part")
        try:
            save_file(tensors, part, metadata={"fingerprint": self.fingerprint})
            os.replace(part, path)
        except (SafetensorError, OSError) as error:
            fix = "free disk space; training goes on from the checkpoint before"
            raise InvalidError(f"the checkpoint {path} cannot be written: {error}", fix=fix) from error

    def load(self, path: Path) -> None:
        """Go on from a checkpoint of the same training; one of another training is passed over."""
        try:
            opened = safe_open(path, "pt")
        except SafetensorError:  # damaged, as by a power loss: training begins again
            return
        with opened as file:
            if (file.metadata() or {}).get("fingerprint") != self.fingerprint:
                return
            self.losses = file.get_tensor("losses").tolist()
            with torch.no_grad():
                for name, value in self.parameters.items():
                    value.copy_(file.get_tensor(f"weight.{name}"))
                    self.average[name].copy_(file.get_tensor(f"average.{name}"))
                    self.optimizer.state[value] = {
                        "step": torch.tensor(float(len(self.losses))),
                        # Cloned, because a tensor mapped from a file may begin at any byte and round differently.
                        "exp_avg": file.get_tensor(f"first.{name}").clone(),
                        "exp_avg_sq": file.get_tensor(f"second.{name}").clone(),
                    }


def train(
    network: nn.Module,
    pairs: Pairs,
    settings: Training,
    *,
    seed: int,
    state: Path,
    report: Report,
    identity: str = "",
) -> list[float]:
    """Train `network` in place, leave it with its averaged weights in eval mode, and return the loss of every step.

    A checkpoint (state.safetensors, and progress.json to read) is written into the folder `state` every
    `CHECKPOINT_SECONDS` and after the last step; a later call with the same settings, seed and `identity` (what else
    the result depends on: the digests of data and initial weights) goes on from it. Raises InvalidError when the loss
    is not finite.
    """
    fingerprint = json.dumps({"settings": asdict(settings), "seed": seed, "identity": identity}, sort_keys=True)
    run = _Run(network, settings, fingerprint)
    path = state / "state.safetensors"
    if path.exists():
        run.load(path)
    network.train()
    saved = time.monotonic()
    while len(run.losses) < settings.steps:
        run.step(pairs, seed)
        done = len(run.losses)
        if done == settings.steps or time.monotonic() - saved >= CHECKPOINT_SECONDS:
            run.save(path)
            progress = {"step": done, "steps": settings.steps, "loss": run.losses[-1]}
            (state / "progress.json").write_text(json.dumps(progress) + "\n")
            saved = time.monotonic()
        report(done, settings.steps, f"loss {sum(run.losses[-20:]) / len(run.losses[-20:]):.4f}")
    with torch.no_grad():
        for name, value in run.parameters.items():
            value.copy_(run.average[name])
    network.eval()
    return run.losses
