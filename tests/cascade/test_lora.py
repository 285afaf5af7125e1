"""Adapters of low rank: what trains, what merging gives, what full rank can reproduce; and the package's examples."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from support import official
from support import training_toys as toys

from flashbench.cascade import FlashVideoPipeline, training
from flashbench.cascade.training import attach, attached, generator, merge
from flashbench.cascade.transformer import Stage1Transformer
from flashbench.errors import UsageError


@pytest.fixture(autouse=True)
def _own_accelerator() -> Iterator[None]:
    """accelerate keeps its state per process; other tests must not meet the one of these."""
    toys.forget_accelerators()
    yield
    toys.forget_accelerators()


def forward(net: Any) -> torch.Tensor:
    draw = generator(0, "forward", 0)
    x, context = torch.randn(2, *toys.SHAPE, generator=draw), torch.randn(2, 3, 8, generator=draw)
    with torch.no_grad():
        return net(hidden_states=x, encoder_hidden_states=context, timestep=torch.tensor([20, 900])).sample


def test_only_adapters_train_and_merging_folds_them_in(tmp_path: Path) -> None:
    base = toys.weights(toys.network(toys.LORA))
    net = toys.network(toys.LORA)
    untouched = forward(net)
    attach(net, rank=4, alpha=2.0, seed=3)
    assert torch.equal(forward(net), untouched), "adapters begin as nothing"
    net, _ = toys.run(tmp_path, replace(toys.LORA, learning_rate=1e-2), net=net)
    for name, value in base.items():
        parts = name.rsplit(".", 1)
        now = dict(net.named_parameters())
        kept = now[name] if name in now else now[f"{parts[0]}.base_layer.{parts[1]}"]
        assert torch.equal(kept, value), f"{name} is frozen"
    unmerged = forward(net)
    assert (unmerged - untouched).abs().max() > 1e-3
    merge(net)
    torch.testing.assert_close(forward(net), unmerged, atol=2e-6, rtol=0)
    assert not attached(net) and toys.weights(net).keys() == base.keys()
    assert all(value.requires_grad for value in net.parameters())
    changed = {name for name, value in toys.weights(net).items() if not torch.equal(value, base[name])}
    ends = tuple(f".{target}.weight" for target in training.TARGETS)
    assert changed == {name for name in base if name.endswith(ends)}
    assert len(changed) == 2 * 6


def full_rank(net: Any) -> None:
    """Adapters that can be any update: A is the identity, B zero, the scaling 1."""
    attach(net, rank=64, alpha=64.0)
    for name, value in net.named_parameters():
        if "lora_A" in name:
            value.data = torch.eye(64)


def test_full_rank_adapters_train_like_the_weights_themselves(tmp_path: Path) -> None:
    """While B is zero, A has no gradient and B that of W: one step of both trainings is the same update."""
    one = replace(toys.PHASES[0], steps=1)
    full = replace(toys.FULL, objective="v", phases=(one,), clip=1e6, ema=0.0, weight_decay=0.0, warmup=0)
    expected, _ = toys.run(tmp_path / "full", full)
    net = toys.network(full)
    full_rank(net)
    before = toys.weights(toys.network(full))
    toys.run(tmp_path / "lora", replace(full, adaptation="lora", rank=64, alpha=64.0), net=net)
    merge(net)
    merged, wanted = toys.weights(net), toys.weights(expected)
    for name in [name for name in wanted if not torch.equal(merged[name], before[name])]:
        torch.testing.assert_close(merged[name], wanted[name], atol=1e-6, rtol=0)
        assert (wanted[name] - before[name]).abs().max() > 1e-4


def test_full_rank_adapters_reproduce_a_full_rank_update(tmp_path: Path) -> None:
    """Every update of the adapted weights by a training of nine steps, factored by its singular values."""
    trained, _ = toys.run(tmp_path, toys.KINDS["v"])
    before, after = toys.weights(toys.network(toys.LORA)), toys.weights(trained)
    net = toys.network(toys.LORA)
    attach(net, rank=64, alpha=1.0)
    for name, module in net.named_modules():
        if hasattr(module, "lora_A"):
            update = (after[f"{name}.weight"] - before[f"{name}.weight"]).double() * 64
            left, values, right = torch.linalg.svd(update, full_matrices=False)
            assert int((values > 1e-6 * values[0]).sum()) > 32, "the update is not of low rank"
            module.lora_B["default"].weight.data = (left * values.sqrt()).float()
            module.lora_A["default"].weight.data = (values.sqrt()[:, None] * right).float()
    merge(net)
    adapted = [name for name, value in toys.weights(net).items() if not torch.equal(value, before[name])]
    assert len(adapted) == 2 * 6
    for name in adapted:
        torch.testing.assert_close(toys.weights(net)[name], after[name], atol=1e-5, rtol=0)
    reference = toys.network(toys.LORA)
    reference.load_state_dict(before | {name: after[name] for name in adapted})
    torch.testing.assert_close(forward(net), forward(reference), atol=1e-5, rtol=0)


def test_adapters_of_the_official_network_by_number() -> None:
    """The release's 333,053,952, and for each block the down-projection that diffusers' second adaLN has of its own."""
    with torch.device("meta"):
        net = Stage1Transformer()
    attach(net)
    count = sum(value.numel() for value in net.parameters() if value.requires_grad)
    assert count == 333_053_952 + 42 * 128 * 512
    merge(net)
    assert sum(value.numel() for value in net.parameters()) == 5_570_283_072


def test_adapters_depend_on_the_seed_alone() -> None:
    nets = [toys.network(toys.LORA) for _ in range(3)]
    before = torch.random.get_rng_state()
    for net, seed in zip(nets, (1, 1, 2), strict=True):
        attach(net, rank=4, seed=seed)
    assert torch.equal(before, torch.random.get_rng_state())
    assert toys.same(nets[0], nets[1]) and not toys.same(nets[0], nets[2])


def test_adapters_and_full_training_do_not_mix(tmp_path: Path) -> None:
    net = toys.network(toys.LORA)
    with pytest.raises(UsageError, match="no adapters to merge"):
        merge(net)
    attach(net, rank=4, alpha=2.0)
    with pytest.raises(UsageError, match="adaptation is 'full'"):
        toys.run(tmp_path, replace(toys.LORA, adaptation="full"), net=net)
    with pytest.raises(UsageError, match="adapters of rank 4 and alpha 2.0, not 8 and 2.0"):
        toys.run(tmp_path, replace(toys.LORA, rank=8), net=net)


SMALLER = {
    "steps=2000, batch=8, size=(528, 960)": "steps=2, batch=2, size=(32, 48)",
    "steps=500, size=(1072, 1920), frames=49": "steps=1, size=(48, 32), frames=5",
    "steps=1000, batch=4": "steps=2, batch=1, size=(16, 32), frames=5",
    "height=256, width=480, num_frames=49": "height=16, width=32, num_frames=5, num_inference_steps=2",
}
"""Sizes of the examples, and what a test has time for."""


def test_the_examples_run_as_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall(r"(?:^    .*\n|^\n(?=    ))+", f"{inspect.getdoc(training)}\n", re.MULTILINE)
    assert len(blocks) == 2 and all(len(re.findall(r"^ +\S", block, re.MULTILINE)) < 25 for block in blocks)
    text = "\n".join(map(inspect.cleandoc, blocks))
    for long, short in SMALLER.items():
        assert text.count(long) == 1
        text = text.replace(long, short)
    monkeypatch.chdir(tmp_path)
    official.release(tmp_path / "flashvideo")
    draw = generator(0, "videos", 0)
    save_file(
        {
            prompt: torch.randint(256, (3, 5, 48, 48), generator=draw, dtype=torch.uint8)
            for prompt in ("a cat", "a dog")
        },
        tmp_path / "videos.safetensors",
    )
    made: dict[str, Any] = {}
    exec(compile(text, "examples", "exec"), made)
    said = capsys.readouterr().out
    assert "3 3 loss" in said and "2 2 loss" in said, "both were trained, Stage II over both phases"
    assert (tmp_path / "stage2" / "losses.csv").read_text().count("\n") == 4
    assert [len(made["frames"]), len(made["frames"][0]), made["frames"][0][0].size] == [1, 5, (32, 16)]
    before = FlashVideoPipeline.from_official("flashvideo")
    for name in ("stage1", "stage2"):
        trained, kept = getattr(made["pipe"], name), getattr(made["tuned"], name)
        assert toys.same(trained, kept) and not toys.same(trained, getattr(before, name))
    assert not attached(made["tuned"].stage1)
