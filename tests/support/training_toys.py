"""A tiny network with something to learn, and a program that trains it slowly enough to be killed.

python training_toys.py STATE_FOLDER KIND
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from safetensors.torch import save_file
from torch import Tensor

from flashbench.cascade.training import Batch, Phase, Training, train
from flashbench.cascade.transformer import Stage1Transformer, Stage2Transformer

SHAPE = (2, 4, 6, 6)
"""T, C, H, W of a latent."""
PHASES = (
    Phase(name="wide", steps=4, batch=2),
    Phase(name='narrow, "last"', steps=5, batch=4, degradation_steps=(650, 750)),
)
FULL = Training(phases=PHASES, learning_rate=1e-3, ema=0.9)
LORA = replace(FULL, objective="v", adaptation="lora", rank=4, alpha=2.0)
KINDS = {"flow": FULL, "l1": replace(FULL, objective="l1"), "v": replace(FULL, objective="v"), "lora": LORA}
LONG = 60
"""Steps of the program's phases, together."""


def network(settings: Training, seed: int = 0, **more: Any) -> Any:
    """Weights by `seed`, with a last layer that is no longer small, so that every gradient counts."""
    kind = Stage1Transformer if settings.objective == "v" else Stage2Transformer
    options: dict[str, Any] = {
        "num_attention_heads": 1, "num_layers": 2, "in_channels": 4, "out_channels": 4, "time_embed_dim": 64,
        "text_embed_dim": 8, "max_text_seq_length": 3,
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(**(options | more))


def source(phase: Phase, draw: torch.Generator) -> Batch:
    """Low is high and noise; the context is as random as they are."""
    high = torch.randn(phase.batch, *SHAPE, generator=draw)
    low = 0.7 * high + 0.5 * torch.randn(high.shape, generator=draw)
    return Batch(high, low, torch.randn(phase.batch, 3, 8, generator=draw))


def silent(done: int, total: int, text: str) -> None:
    pass


def run(state: Path, settings: Training, report: Any = silent, net: Any = None, **more: Any) -> tuple[Any, list[float]]:
    """Train on the CPU; (network, losses)."""
    net = network(settings) if net is None else net
    if "accelerator" not in more:
        more["accelerator"] = Accelerator(cpu=True, mixed_precision="no")
    options = {"plot": False, "seed": 3} | more
    return net, train(net, source, settings, state=state, report=report, **options)


def long(settings: Training) -> Training:
    """The same in `LONG` steps, half of them in each phase."""
    return replace(settings, phases=tuple(replace(phase, steps=LONG // 2) for phase in settings.phases))


def weights(net: Any) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in net.named_parameters()}


def same(a: Any, b: Any) -> bool:
    """Whether two networks have the same bits."""
    left, right = weights(a), weights(b)
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def forget_accelerators() -> None:
    AcceleratorState._reset_state(True)
    GradientState._reset_state()


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    accelerator = Accelerator(cpu=True, mixed_precision="no")
    trained, _ = run(folder, long(KINDS[sys.argv[2]]), lambda *_: time.sleep(0.05), accelerator=accelerator)
    save_file(weights(trained), folder / f"trained{accelerator.process_index}.safetensors")
    accelerator.end_training()
