"""The loop over optimiser steps, and its checkpoints: safetensors and JSON, and nothing else."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from flashbench.cascade.training import lora, objectives
from flashbench.cascade.training.data import Batch, Source, check_batch
from flashbench.cascade.training.log import plot_losses, replace_text, write_losses
from flashbench.cascade.training.settings import Training, generator, learning_rate
from flashbench.errors import InvalidError, UsageError, on_disk

Report: TypeAlias = Callable[[int, int, str], None]
"""Called with (steps done, steps in all, a line of text)."""

CHECKPOINT_SECONDS = float(os.environ.get("FLASHBENCH_CHECKPOINT_SECONDS") or 15)
"""Work that a kill may cost."""
QUICK = 0.5
"""Seconds; checkpoints that take longer are written less often, in proportion."""


class _Run:
    """Weights, their moving average, AdamW's moments, the step and the losses: everything a checkpoint holds."""

    def __init__(
        self, network: Any, optimizer: Any, parameters: dict[str, nn.Parameter], settings: Training, fingerprint: str,
        accelerator: Accelerator,
    ) -> None:  # fmt: skip
        self.network, self.optimizer, self.accelerator = network, optimizer, accelerator
        self.parameters, self.settings, self.fingerprint = parameters, settings, fingerprint
        averaged = parameters if settings.ema else {}
        self.average = {name: value.detach().clone() for name, value in averaged.items()}
        self.losses: list[float] = []

    def step(self, source: Source, seed: int) -> None:
        """One optimiser step."""
        number, settings, accelerator = len(self.losses), self.settings, self.accelerator
        rank = accelerator.process_index
        draw = generator(seed, f"train rank {rank}" if rank else "train", number)
        phase = settings.phase(number)
        phase = replace(phase, batch=phase.batch // accelerator.num_processes)
        batch = source(phase, draw)
        check_batch(batch, phase, objectives.configuration(self.network))
        batch = _placed(batch, accelerator.device)
        loss = objectives.loss(self.network, batch, settings, phase, draw)
        self.optimizer.zero_grad(set_to_none=True)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(list(self.parameters.values()), settings.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(settings, number)
        self.optimizer.step()
        if self.average:
            keep = min(settings.ema, (1 + number) / (10 + number))
            with torch.no_grad():
                torch._foreach_lerp_(list(self.average.values()), list(self.parameters.values()), 1 - keep)
        self.losses.append(accelerator.reduce(loss.detach(), "mean").item())
        if not math.isfinite(self.losses[-1]):
            raise InvalidError(f"the loss of step {number} is {self.losses[-1]}", fix="lower the learning rate")

    def save(self, folder: Path) -> None:
        """Write the checkpoint, then what is read off it; a reader sees old files or new ones, never half of one."""
        tensors = {"losses": torch.tensor(self.losses, dtype=torch.float64)}
        for name, value in self.parameters.items():
            state = self.optimizer.state[value]  # empty for a weight that no gradient has reached
            tensors |= {
                f"weight.{name}": value.detach(),
                f"first.{name}": state.get("exp_avg", torch.zeros_like(value)),
                f"second.{name}": state.get("exp_avg_sq", torch.zeros_like(value)),
            }
        tensors |= {f"average.{name}": value for name, value in self.average.items()}
        path = folder / "state.safetensors"
        part = path.with_suffix(".part")
        try:
            save_file(tensors, part, metadata={"fingerprint": self.fingerprint})
            with part.open("rb") as file:
                os.fsync(
                    file.fileno()
                )  # renamed before its bytes are on the disk, it could be empty after a power loss
            os.replace(part, path)
            self.log(folder)
        except (SafetensorError, OSError) as error:
            part.unlink(missing_ok=True)
            fix = "free disk space; training goes on from the checkpoint before"
            raise InvalidError(f"the checkpoint {path} cannot be written: {error}", fix=fix) from error

    def log(self, folder: Path) -> None:
        """Write progress.json and losses.csv of the checkpoint as it is."""
        done = len(self.losses)
        phase = self.settings.phase(done - 1).name
        progress = {"step": done, "steps": self.settings.steps, "phase": phase, "loss": self.losses[-1]}
        replace_text(folder / "progress.json", json.dumps(progress) + "\n")
        write_losses(folder / "losses.csv", self.settings, self.losses)

    def load(self, folder: Path) -> str:
        """Go on from the folder's checkpoint; otherwise, why not: a power loss may have damaged it."""
        try:
            opened = safe_open(folder / "state.safetensors", "pt")
        except SafetensorError:
            return "damaged"
        with opened as file:
            theirs, ours = (
                json.loads(text) for text in ((file.metadata() or {}).get("fingerprint", "{}"), self.fingerprint)
            )
            if other := sorted(name for name in theirs.keys() | ours if theirs.get(name) != ours.get(name)):
                return f"of another training (other {', '.join(other)})"
            expected = {f"{part}.{name}" for part in ("weight", "first", "second") for name in self.parameters}
            if not (expected | {"losses"} | {f"average.{name}" for name in self.average}) <= set(file.keys()):
                return "damaged"
            self.losses = file.get_tensor("losses").tolist()
            with torch.no_grad():
                for name, value in self.parameters.items():
                    value.copy_(file.get_tensor(f"weight.{name}"))
                    self.optimizer.state[value] = {
                        "step": torch.tensor(float(len(self.losses)), device=value.device),
                        # Cloned, because a tensor mapped from a file may begin at any byte and round differently.
                        "exp_avg": file.get_tensor(f"first.{name}").clone().to(value.device),
                        "exp_avg_sq": file.get_tensor(f"second.{name}").clone().to(value.device),
                    }
                for name, average in self.average.items():
                    average.copy_(file.get_tensor(f"average.{name}"))
        return ""

    def finish(self) -> None:
        """Give the parameters their averages."""
        with torch.no_grad():
            for name, value in self.average.items():
                self.parameters[name].copy_(value)


def _silent(done: int, total: int, text: str) -> None:
    """Report nothing."""


def train(
    network: nn.Module,
    source: Source,
    settings: Training,
    *,
    seed: int,
    state: str | Path,
    report: Report = _silent,
    identity: str = "",
    accelerator: Accelerator | None = None,
    plot: bool = True,
) -> list[float]:
    """Train `network` in place, leave it with its averaged weights in eval mode, and return the loss of every step.

    The network comes in float32 and is placed by `accelerator` (accelerate's own choice if None), which also casts
    (bf16) and spreads a batch over processes that hold a copy of the network each and see the same folder `state`.
    Adapters (`settings.adaptation`) stay attached: `merge` folds them in.

    Into the folder `state` go, every `CHECKPOINT_SECONDS` and after the last step, the checkpoint state.safetensors
    and, to read, progress.json and losses.csv; losses.svg at the end if `plot`. A later call with the same settings,
    seed, initial weights and `identity` (a name or digest of the data, which nothing else tells apart) goes on from the
    checkpoint. One of another training is kept as other.safetensors, other2.safetensors, ..., and training begins.

    Raises UsageError for what cannot be trained like this and for batches that are not what a phase orders,
    InvalidError when the loss is not finite or a checkpoint cannot be written.
    """
    accelerator = accelerator or Accelerator()
    state = _folder(state)
    _check(settings, accelerator)
    _check_stage(network, settings)
    _adapt(network, settings, seed)
    about = {"settings": asdict(settings), "seed": seed, "identity": identity, "precision": accelerator.mixed_precision}
    about["processes"] = accelerator.num_processes
    with _prepared(network, settings, accelerator) as (wrapped, optimizer, parameters):
        # Only now, because accelerate may have given every process the weights of the first.
        about["initial weights"] = _digest(network)
        run = _Run(wrapped, optimizer, parameters, settings, json.dumps(about, sort_keys=True), accelerator)
        _resume(run, state, report)
        network.train()
        saved, interval = time.monotonic(), CHECKPOINT_SECONDS
        while len(run.losses) < settings.steps:
            run.step(source, seed)
            done = len(run.losses)
            now = time.monotonic()
            if accelerator.is_main_process:
                if done == settings.steps or now - saved >= interval:
                    run.save(state)
                    saved = time.monotonic()
                    interval = CHECKPOINT_SECONDS * max(1.0, (saved - now) / QUICK)
                report(done, settings.steps, f"loss {sum(run.losses[-20:]) / len(run.losses[-20:]):.4f}")
        if plot and run.losses and accelerator.is_main_process:
            line = plot_losses(state / "losses.svg", settings, run.losses)
            report(settings.steps, settings.steps, line)
        run.finish()
    network.eval()
    return run.losses


def _resume(run: _Run, state: Path, report: Report) -> None:
    """Go on from a checkpoint where there is one; only the main process writes."""
    path, main, total = state / "state.safetensors", run.accelerator.is_main_process, run.settings.steps
    exists = path.exists()
    wrong = run.load(state) if exists else ""
    run.accelerator.wait_for_everyone()
    if not main:
        return
    with on_disk(f"the folder {state} cannot be made", fix="give another folder for the checkpoint"):
        state.mkdir(parents=True, exist_ok=True)
    if wrong:
        names = (state / f"other{number if number > 1 else ''}.safetensors" for number in count(1))
        renamed = path.rename(next(name for name in names if not name.exists()))
        report(0, total, f"the checkpoint is {wrong}, and kept as {renamed.name}: training begins")
    elif exists:
        run.log(state)  # a kill may have come between the checkpoint and its log
        done = len(run.losses)
        end = ", its end: to train anew, give another folder" if done == total else ""
        report(done, total, f"going on from step {done} of {total}{end}")


def _digest(network: Any) -> str:
    """sha256 of what a training begins with: the network's configuration and its weights, frozen ones too."""
    config = {name: value for name, value in network.config.items() if not name.startswith("_")}
    state = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name, value in network.named_parameters():
        state.update(f"{name} {tuple(value.shape)} {value.dtype} {value.requires_grad}".encode())
        state.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return state.hexdigest()


def _adapt(network: Any, settings: Training, seed: int) -> None:
    if settings.adaptation == "lora":
        lora.attach(network, rank=settings.rank, alpha=settings.alpha, seed=seed)
    elif lora.attached(network):
        raise UsageError("the network has adapters, and adaptation is 'full'", fix="merge them, or train with 'lora'")
    trained = {value.dtype for value in network.parameters() if value.requires_grad}
    if trained != {torch.float32}:
        names = ", ".join(sorted(map(str, trained))) or "none"
        fix = "load the network in float32, not frozen; Accelerator(mixed_precision='bf16') computes in bf16"
        raise UsageError(f"weights to train of type {names}, not torch.float32", fix=fix)


@contextmanager
def _prepared(
    network: Any, settings: Training, accelerator: Accelerator
) -> Iterator[tuple[Any, Any, dict[str, nn.Parameter]]]:
    """The network and an optimiser in accelerate's wrapping, which is off the network again at the end."""
    forward = network.__dict__.get("forward")
    if settings.gradient_checkpointing:
        network.enable_gradient_checkpointing()
    parameters = {name: value for name, value in network.named_parameters() if value.requires_grad}
    optimizer = torch.optim.AdamW(
        parameters.values(),
        lr=settings.learning_rate,
        betas=settings.betas,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    try:
        wrapped, prepared = accelerator.prepare(network, optimizer)
        yield wrapped, prepared, parameters
    finally:
        if settings.gradient_checkpointing:
            network.disable_gradient_checkpointing()
        accelerator.unwrap_model(network, keep_fp32_wrapper=False)
        if forward is None:  # accelerate leaves a bound method, which would tie a copy of the network to this one
            network.__dict__.pop("forward", None)


def _placed(batch: Batch, device: torch.device) -> Batch:
    low, context = (value if value is None else value.to(device, torch.float32) for value in batch[1:])
    return Batch(batch.high.to(device, torch.float32), low, context)


def _check(settings: Training, accelerator: Accelerator) -> None:
    """UsageError for what accelerate can do and a checkpoint of this module does not hold."""
    if accelerator.distributed_type not in (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU):
        what = f"training distributed as {accelerator.distributed_type.value}"
        raise UsageError(what, fix="run one process, or several that hold the whole network each")
    if accelerator.mixed_precision not in ("no", "bf16"):
        raise UsageError(f"training in {accelerator.mixed_precision}", fix="use mixed_precision 'no' or 'bf16'")
    if accelerator.gradient_accumulation_steps != 1:
        steps = accelerator.gradient_accumulation_steps
        raise UsageError(f"gradient_accumulation_steps is {steps}", fix="use 1 and more processes")
    for phase in settings.phases:
        if phase.batch % accelerator.num_processes:
            what = f"batch {phase.batch} of phase {phase.name!r} over {accelerator.num_processes} processes"
            raise UsageError(what, fix="make the batch a multiple of the processes")


def _check_stage(network: nn.Module, settings: Training) -> None:
    """UsageError for an objective of the other stage: only Stage II is told the degradation step."""
    second = "degradation_step" in inspect.signature(type(network).forward).parameters
    if second == (settings.objective == "v"):
        what = f"objective {settings.objective!r} for a {type(network).__name__}"
        raise UsageError(what, fix="train Stage I with 'v', Stage II with 'flow' or 'l1'")


def _folder(state: str | Path) -> Path:
    folder = Path(state)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"state {state} is a file", fix="give a folder for the checkpoint and the log")
    return folder
