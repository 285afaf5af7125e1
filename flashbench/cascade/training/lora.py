"""Low-rank adapters of Stage I (LoRA, Hu et al. 2021, arXiv 2106.09685), held by peft.

The release adapts what this does: the four linear maps of every attention and every block's adaLN, with alpha / rank =
1 / 128; not the feed-forward that the paper names, nor the final layer. It keeps the adaLN of a block in one linear
map where diffusers has two, so adapters here have one more down-projection per block and can be any of the release's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from flashbench.cascade.training.settings import generator
from flashbench.errors import UsageError

TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "norm1.linear", "norm2.linear")
"""Ends of the names of what is adapted."""


def attach(network: Any, *, rank: int = 128, alpha: float = 1.0, seed: int = 0) -> None:
    """Add adapters that change nothing yet and leave nothing else to train.

    The down-projections are a function of `seed`, the up-projections zero; both are float32 whatever the network is.
    A network that has adapters keeps them. Raises UsageError where those are of another rank or scaling.
    """
    if attached(network):
        _check(network, rank, alpha)
        return
    from peft import LoraConfig

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator(seed, "adapters", 0).initial_seed())
        # peft annotates alpha as an integer and divides by the rank.
        config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(TARGETS))  # type: ignore[arg-type]
        network.add_adapter(config)
    for name, value in network.named_parameters():
        value.requires_grad_("lora_" in name)
        if "lora_" in name:
            value.data = value.data.float()


def attached(network: nn.Module) -> bool:
    """Whether the network has adapters."""
    return any("lora_" in name for name, _ in network.named_parameters())


def merge(network: Any) -> None:
    """Fold the adapters into the weights, in place, and remove them: W + alpha / rank * B A; all can be trained again.

    Raises UsageError where there are none.
    """
    if not attached(network):
        raise UsageError("the network has no adapters to merge", fix="train it with adaptation='lora' first")
    network.fuse_lora()
    network.unload_lora()
    network.requires_grad_(True)


def _check(network: Any, rank: int, alpha: float) -> None:
    have = network.peft_config["default"]
    if (have.r, have.lora_alpha) != (rank, alpha):
        what = f"the network has adapters of rank {have.r} and alpha {have.lora_alpha}, not {rank} and {alpha}"
        raise UsageError(what, fix="train with those, or merge them first")
