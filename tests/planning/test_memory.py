"""Memory from shapes: what is known by arithmetic, what PyTorch's own profiler sees, the released networks' sizes."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from flashbench import systems
from flashbench.cascade.alive import most_alive
from flashbench.planning import memory
from flashbench.types import Geometry

SMALL = Geometry(frames=9, height=64, width=96, fps=Fraction(8))


def test_what_is_dropped_is_not_counted_on() -> None:
    given = torch.empty(1000, device="meta")

    def chain() -> torch.Tensor:
        found = given
        for _ in range(5):
            found = found + 1  # 4 kB each: the one before is alive until this one is there
        return found

    def kept() -> list[torch.Tensor]:
        return [given + 1 for _ in range(5)]

    assert most_alive(chain) == 2 * 4000 and most_alive(kept) == 5 * 4000
    assert most_alive(lambda: given.view(10, 100)[2:].add_(1)) == 0, (
        "views and what is written in place are nothing new"
    )


def test_attention_keeps_no_scores() -> None:
    query = torch.empty(1, 2, 5000, 64, device="meta")
    found = most_alive(lambda: torch.nn.functional.scaled_dot_product_attention(query, query, query))
    assert found == query.nbytes and found < 5000**2 * 4


def test_it_agrees_with_pytorchs_own_count() -> None:
    """Of a network in this CPU's memory: the profiler's running sum of bytes is an account of its own."""
    torch.manual_seed(0)
    layers = [torch.nn.Linear(256, 1024), torch.nn.SiLU(), torch.nn.Linear(1024, 256), torch.nn.LayerNorm(256)]
    network, given = torch.nn.Sequential(*layers).eval(), torch.randn(4096, 256)
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        network(given)
    most = now = 0
    for event in seen.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    counted = most_alive(lambda: network(given))
    assert most > 0 and counted == pytest.approx(most, rel=0.02)
    shape, network = torch.empty(4096, 256, device="meta"), network.to("meta")
    assert most_alive(lambda: network(shape)) == counted, "shapes alone say the same"


def test_stage_2_grows_with_its_pixels_and_halves_its_activations_in_half_precision() -> None:
    system = systems.get("flashvideo_release")
    settings = {**system.defaults}
    half = memory.need(system, settings, SMALL)
    whole = memory.need(system, {**settings, "dtype": "float32"}, SMALL)
    assert whole.weights == 2 * half.weights
    assert half.weights == pytest.approx(2 * (5.570e9 + 1.696e9 + 0.2156e9) + 9.5246e9, rel=1e-3)
    assert half.decode < whole.decode < 2.2 * half.decode
    wide = memory.need(system, settings, replace(SMALL, width=192))
    assert wide.decode == pytest.approx(2 * half.decode, rel=0.05) and wide.encode > 1.8 * half.encode
    assert wide.total == wide.weights + max(wide.encode, wide.sample, wide.decode)
    plain = memory.need(system, {**settings, "guidance": 1.0}, SMALL)
    assert 0.4 < plain.sample / half.sample < 0.6 and plain.decode == half.decode, (
        "a guided evaluation is a batch of two"
    )


def test_stage_1_encodes_nothing() -> None:
    system = systems.get("stage1_release")
    found = memory.need(system, dict(system.defaults), SMALL)
    assert found.encode == 0 and found.stage == "Stage I" and found.guided
