"""Small MUSIQ, MANIQA, CLIPIQA and DOVER of seeded weights, in the official files' form: names, nesting and all.

The names are those that pyiqa's and our own networks ask for, so that the files are read by what reads the official
ones; only widths and numbers of blocks differ, which both read off the tensors.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from flashbench.drill.seeded import state
from flashbench.metrics.dover.network import Dover, relative_position_index
from flashbench.metrics.pyiqa import networks

DOVER = 32, ((1, 2, 1, 1), (1, 2, 1, 1))
"""Channels of the first stage; blocks of the four stages of each: the second of a stage is of another kind."""
MUSIQ = {"hidden_size": 64, "mlp_dim": 64, "num_heads": 1, "num_layers": 2}
MANIQA, BLOCKS = 32, 10
"""Channels, and blocks of the backbone, of which MANIQA reads the seventh to the tenth."""


def dover() -> dict[str, Tensor]:
    """The plain content of DOVER.pth."""
    model = Dover(*DOVER)
    for name, buffer in model.named_buffers():
        if name.endswith("relative_position_index"):
            buffer.copy_(relative_position_index())
    return state("dover", model.state_dict())


def musiq() -> dict[str, Tensor]:
    """The state dict of pyiqa's MUSIQ."""
    with _quiet():
        from pyiqa.archs import musiq_arch

        return state("musiq", musiq_arch.MUSIQ(pretrained=False, **MUSIQ).state_dict())


def maniqa() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The state dict of pyiqa's MANIQA, and that of its backbone as timm has it."""
    with _quiet():
        import timm
        from pyiqa.archs import maniqa_arch

        size = networks.vit_size(MANIQA, BLOCKS)
        vit = timm.create_model("vit_base_patch8_224", pretrained=False, **size)
        pairs = [(timm, "create_model", lambda name, **_: vit)]
        with networks.substituted(pairs):
            whole = maniqa_arch.MANIQA(pretrained=False, **networks.maniqa_size(MANIQA)).state_dict()
    return state("maniqa", whole), state("vit", vit.state_dict())


def clip() -> Mapping[str, Tensor]:
    """The state dict of OpenAI's CLIP with a ResNet, of few channels."""
    with _quiet():
        from pyiqa.archs.clip_model import CLIP

        return state("clip", CLIP(16, 224, (1, 1, 1, 1), 8, None, 77, 49408, 64, 1, 2).state_dict())


def files() -> dict[str, Any]:
    """Asset to what its file holds, by `torch.save`."""
    whole, backbone = maniqa()
    return {
        "musiq-koniq": musiq(),
        "maniqa-koniq": whole,
        "vit-base-patch8": backbone,
        "clip-rn50": clip(),
        "dover": dover(),
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what pyiqa says while it is imported, and without a draw from torch's global generator."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        yield
