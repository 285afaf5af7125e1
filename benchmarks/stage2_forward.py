"""Our Stage II forward against diffusers' plain CogVideoX transformer of the same size, weights and input, on the CPU.

What FlashVideo adds (two embeddings, rotary tables that the model looks up itself) must cost next to nothing. The two
run in pairs, in alternating order, on one thread; the ratio is the median over the pairs, so that a neighbour's load
falls on both. Exit 1 if it is above the limit, or if rotary tables were built more often than once per shape.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from diffusers import CogVideoXTransformer3DModel
from torch import Tensor

from flashbench.cascade import rope
from flashbench.cascade.transformer import Stage2Transformer

HEADS, LAYERS, TEXT_DIM = 8, 4, 4096


def models() -> tuple[Stage2Transformer, CogVideoXTransformer3DModel]:
    """Ours and diffusers' with the same seeded weights."""
    size = {"num_attention_heads": HEADS, "num_layers": LAYERS, "text_embed_dim": TEXT_DIM}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ours = Stage2Transformer(**size).eval()
    plain = CogVideoXTransformer3DModel(
        attention_head_dim=rope.HEAD_DIM, out_channels=16, use_rotary_positional_embeddings=True, **size
    ).eval()
    plain.load_state_dict({name: w for name, w in ours.state_dict().items() if not name.startswith("ofs_")})
    return ours, plain


def inputs(frames: int, height: int, width: int) -> dict[str, Tensor]:
    """A latent of so many frames and patches, a context and a time."""
    generator = torch.Generator().manual_seed(1)
    latent = torch.randn(1, frames, 16, 2 * height, 2 * width, generator=generator)
    context = torch.randn(1, 226, TEXT_DIM, generator=generator)
    return {"hidden_states": latent, "encoder_hidden_states": context, "timestep": torch.tensor([700.0])}


def seconds(forward: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    forward()
    return time.perf_counter() - start


def compare(pairs: int, shapes: list[tuple[int, int, int]]) -> tuple[list[tuple[float, float]], int]:
    """Seconds of (ours, diffusers') pair by pair at the first shape, and how often rotary tables were asked for."""
    ours, plain = models()
    given = inputs(*shapes[0])
    rotary = rope.tables(*shapes[0])
    rope.tables.cache_clear()
    both: list[Callable[[], object]] = [
        lambda: ours(**given, degradation_step=675),
        lambda: plain(**given, image_rotary_emb=rotary),
    ]
    times = []
    with torch.no_grad():
        for shape in shapes:
            ours(**inputs(*shape))
        both[1]()
        for pair in range(pairs):
            order = (0, 1) if pair % 2 == 0 else (1, 0)
            took = {which: seconds(both[which]) for which in order}
            times.append((took[0], took[1]))
    asked = rope.tables.cache_info()
    return times, asked.hits + asked.misses


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--limit", type=float, default=1.05, help="exit 1 if the median ratio is above it")
    options = parser.parse_args()
    torch.set_num_threads(1)
    shapes = [(3, 12, 16), (3, 8, 12)]
    times, built = compare(options.pairs, shapes)
    ours, plain = np.median(times, axis=0)
    low, ratio, high = np.quantile([a / b for a, b in times], [0.25, 0.5, 0.75])
    print(f"width {HEADS * rope.HEAD_DIM}, {LAYERS} layers, {np.prod(shapes[0])} + 226 tokens, float32, one thread")
    print(f"Stage2Transformer {ours:.3f} s, CogVideoXTransformer3DModel {plain:.3f} s (medians)")
    print(
        f"ratio {ratio:.4f}, quartiles {low:.4f} to {high:.4f}, {len(times)} interleaved pairs, limit {options.limit}"
    )
    print(f"rotary tables built {built} times for {len(shapes)} shapes in {len(times) + len(shapes)} forwards")
    return int(ratio > options.limit or built != len(shapes))


if __name__ == "__main__":
    sys.exit(main())
