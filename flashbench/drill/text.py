"""A T5 encoder of a few channels, with a tokenizer of letters, in the form of the files that the release reads."""

from __future__ import annotations

from transformers import T5Config, T5Tokenizer

from flashbench.drill.layout import TEXT

CONFIG = T5Config(
    vocab_size=64, d_model=TEXT, d_kv=8, d_ff=32, num_layers=1, num_heads=2, feed_forward_proj="gated-gelu"
)


def tokenizer() -> T5Tokenizer:
    """A tokenizer that knows small letters, alone and at the beginning of a word."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((f"▁{c}", -2.0) for c in letters)]
    return T5Tokenizer(vocab=[*vocab, *((c, -3.0) for c in f"{letters},.▁")], extra_ids=0)
