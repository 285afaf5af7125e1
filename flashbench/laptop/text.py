"""The laptop tier's text encoder: the token states of all-MiniLM-L6-v2 (sentence-transformers, Apache-2.0), offline."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from flashbench.assets import registry
from flashbench.errors import IntegrityError
from flashbench.laptop.settings import TEXT_ENCODER

LENGTH = 20
"""Tokens of a text: longer ones are cut, shorter ones end in zeros, which the unconditional context is made of."""
WIDTH = 384
"""Channels of a token."""


def write(folder: Path) -> dict[str, int]:
    """Into `folder` goes which encoder it is: the weights stay where the assets are."""
    about = {"class": "MiniLM", "sha256": {name: registry.current().get(name).sha256 for name in TEXT_ENCODER}}
    (folder / "config.json").write_text(json.dumps(about | {"length": LENGTH}, indent=2, sort_keys=True) + "\n")
    return {"length": LENGTH, "width": WIDTH}


def check(folder: Path) -> None:
    """Raise an `IntegrityError` where `folder` (see `write`) names another encoder than this one."""
    theirs = json.loads((folder / "config.json").read_text(encoding="utf-8"))["sha256"]
    if theirs != {name: registry.current().get(name).sha256 for name in TEXT_ENCODER}:
        raise IntegrityError(f"{folder} names another text encoder", fix="delete it, and train again")


@torch.no_grad()
def encode(texts: Sequence[str]) -> Tensor:
    """Token states (B, `LENGTH`, `WIDTH`), float32, zero behind a text's end.

    Each text goes through alone, so that it does not depend on what stands beside it. Raises MissingAsset.
    """
    tokenizer, model = _encoder()
    states = torch.zeros(len(texts), LENGTH, WIDTH)
    for number, text in enumerate(texts):
        tokens = tokenizer(text, truncation=True, max_length=LENGTH, return_tensors="pt")
        states_of_text = model(**tokens).last_hidden_state[0]
        states[number, : len(states_of_text)] = states_of_text
    return states


@cache
def _encoder() -> tuple[Any, Any]:
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    config, weights, words = (registry.path(name) for name in TEXT_ENCODER)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(words))
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    model = BertModel(BertConfig(**json.loads(config.read_text(encoding="utf-8"))), add_pooling_layer=False)
    state = {name: value for name, value in load_file(weights).items() if not name.startswith("pooler.")}
    mismatch = model.load_state_dict(state, strict=False)
    if mismatch.missing_keys or set(mismatch.unexpected_keys) - {"embeddings.position_ids"}:
        raise IntegrityError(f"the text encoder does not fit: {mismatch}", fix="flashbench assets verify")
    return tokenizer, model.eval()
