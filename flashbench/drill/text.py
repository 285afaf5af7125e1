"""A T5 encoder of a few channels, and a tokenizer of letters and words, in the form of the released files."""

from __future__ import annotations

import re
from collections.abc import Iterable

from transformers import T5Config, T5Tokenizer

from flashbench.drill.layout import TEXT

LETTERS = 64
"""Entries that the vocabulary of letters needs."""


def config(vocabulary: int = LETTERS) -> T5Config:
    """The encoder's configuration, for so many tokens."""
    return T5Config(
        vocab_size=vocabulary, d_model=TEXT, d_kv=8, d_ff=32, num_layers=1, num_heads=2, feed_forward_proj="gated-gelu"
    )


def words(text: str) -> list[str]:
    """The different words of a text, sorted."""
    return sorted(set(re.findall(r"[A-Za-z]{2,}", text)))


def tokenizer(known: Iterable[str] = ()) -> T5Tokenizer:
    """A tokenizer of small letters, alone and at the beginning of a word, and of the `known` words.

    With them a prompt of those words has about as many tokens as with the real one, and is not cut.
    """
    letters = "abcdefghijklmnopqrstuvwxyz"
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((f"▁{c}", -2.0) for c in letters)]
    vocab += [*((c, -3.0) for c in f"{letters},.▁"), *((f"▁{word}", -1.0) for word in known)]
    return T5Tokenizer(vocab=vocab, extra_ids=0)
