"""The training loop against one that is written out by hand, and its checkpoint in adversity."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import training_toys as toys

from flashbench.cascade.training import Phase, Training, generator, loop, objectives
from flashbench.errors import InvalidError


@pytest.fixture(autouse=True)
def _own_accelerator() -> Iterator[None]:
    toys.forget_accelerators()
    yield
    toys.forget_accelerators()


def test_the_loop_is_adamw_with_warmup_clip_and_cosine(tmp_path: Path) -> None:
    """Rate, betas, decay and clip are what the settings say."""
    settings = Training(
        phases=(Phase(name="one", steps=6, batch=2),), learning_rate=3e-3, betas=(0.8, 0.9), weight_decay=0.1,
        clip=0.05, warmup=2, cosine_from=0.5, floor=0.1, ema=0.0,
    )  # fmt: skip
    trained, _ = toys.run(tmp_path, settings)
    ours = toys.network(settings)
    optimizer = torch.optim.AdamW(ours.parameters(), lr=1.0, betas=(0.8, 0.9), weight_decay=0.1, fused=True)
    norms = []
    for step in range(6):
        draw = generator(3, "train", step)
        batch = toys.source(settings.phases[0], draw)
        optimizer.zero_grad()
        objectives.loss(ours, batch, settings, settings.phases[0], draw).backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(ours.parameters(), 0.05)))
        place = max(0.0, (step - 3) / 3)
        fall = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * place))
        optimizer.param_groups[0]["lr"] = 3e-3 * min(1.0, (step + 1) / 2) * fall
        optimizer.step()
    assert min(norms) > 0.05, "the clip must act"
    for name, value in trained.named_parameters():
        assert torch.allclose(value, dict(ours.named_parameters())[name], atol=1e-6), name


def test_a_checkpoint_without_all_its_tensors_is_set_aside(tmp_path: Path) -> None:
    trained, _ = toys.run(tmp_path, toys.FULL)
    path = tmp_path / "state.safetensors"
    with loop.safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    del tensors["first.proj_out.bias"]
    save_file(tensors, path, metadata=metadata)
    said: list[str] = []
    again, _ = toys.run(tmp_path, toys.FULL, report=lambda done, total, text: said.append(text))
    assert "the checkpoint is damaged, and kept as other.safetensors" in said[0]
    assert toys.same(again, trained)


def test_a_full_disk_leaves_no_half_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(tensors: object, path: Path, **_: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(loop, "save_file", full)
    with pytest.raises(InvalidError, match="No space left"):
        toys.run(tmp_path, toys.FULL)
    assert not list(tmp_path.glob("state.*"))
