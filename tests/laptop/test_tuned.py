"""Further training of released networks: what changes, what does not, and that it repeats itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support import official

from flashbench.cascade import checkpoint
from flashbench.errors import UsageError
from flashbench.laptop import recipes
from flashbench.systems import checkpoints

SMALL = {"batch": 1, "size": [16, 32], "frames": 5}
PHASES = [
    {"name": "images", "steps": 1, **SMALL, "frames": 1, "images": 1.0},
    {"name": "images and videos", "steps": 2, **SMALL, "images": 0.5},
    {"name": "narrow", "steps": 1, **SMALL, "degradation_steps": [650, 750]},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return official.release(tmp_path_factory.mktemp("official"))


def built(folder: Path, out: Path, **settings: Any) -> dict[str, Any]:
    state = out.with_name(f"{out.name}-state")
    for place in (out, state):
        place.mkdir()
    recipe = {"kind": "tuned", "phases": PHASES, "learning_rate": 1e-2, **settings}
    return recipes.build(
        recipe, inputs=dict.fromkeys(("init", "codec", "text"), folder), out=out, state=state, replica=0,
        report=lambda *told: None, load=checkpoints.fresh,
    )  # fmt: skip


def changed(component: str, folder: Path, out: Path) -> set[str]:
    """Names of the weights that a training moved."""
    load = getattr(checkpoint, f"load_{component}")
    before, after = load(folder).state_dict(), load(out).state_dict()
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_stage2_through_its_phases(folder: Path, tmp_path: Path) -> None:
    assert built(folder, tmp_path / "one")["steps"] == 4
    moved = changed("stage2", folder, tmp_path / "one")
    assert {"proj_out.weight", "transformer_blocks.0.ff.net.0.proj.weight"} <= moved
    assert str(folder) not in (tmp_path / "one/config.json").read_text()
    built(folder, tmp_path / "two")
    weights = [(tmp_path / name / "diffusion_pytorch_model.safetensors").read_bytes() for name in ("one", "two")]
    assert weights[0] == weights[1]
    built(folder, tmp_path / "three", seed=1)
    assert (tmp_path / "three/diffusion_pytorch_model.safetensors").read_bytes() != weights[0]


def test_adapters_move_what_the_release_adapts_and_full_tuning_the_rest_too(folder: Path, tmp_path: Path) -> None:
    phases = [{"name": "video", "steps": 2, "degradation": "none", **SMALL}]
    built(folder, tmp_path / "lora", component="stage1", adaptation="lora", rank=4, phases=phases)
    built(folder, tmp_path / "full", component="stage1", phases=phases)
    lora, full = (changed("stage1", folder, tmp_path / name) for name in ("lora", "full"))
    adapted = (
        ".to_q.weight",
        ".to_k.weight",
        ".to_v.weight",
        ".to_out.0.weight",
        "norm1.linear.weight",
        "norm2.linear.weight",
    )
    assert lora and all(name.endswith(adapted) for name in lora)
    assert lora < full and "transformer_blocks.0.ff.net.0.proj.weight" in full - lora


def test_absolute_positions_stay_with_the_network(folder: Path, tmp_path: Path) -> None:
    built(folder, tmp_path / "absolute", positions="absolute")
    network = checkpoint.load_stage2(tmp_path / "absolute")
    assert network.config.use_rotary_positional_embeddings is False
    assert checkpoint.load_stage2(folder).config.use_rotary_positional_embeddings is True


def test_regression_is_another_objective(folder: Path, tmp_path: Path) -> None:
    losses = [built(folder, tmp_path / name, objective=name)["loss"] for name in ("flow", "l1")]
    assert losses[0] != losses[1]


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"component": "vae"}, "unknown component of a tuned recipe 'vae'"),
        ({"positions": "learned"}, "unknown positions of a tuned recipe 'learned'"),
        ({"phases": [{"name": "x", "steps": 1}]}, "phase 'x' has no size or no frames"),
        ({"phases": []}, "a training without phases"),
        ({"step": 3}, "unknown setting of a tuned recipe 'step'"),
    ],
)
def test_wrong_settings(folder: Path, tmp_path: Path, settings: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        built(folder, tmp_path / "out", **settings)


def test_what_it_must_be_given(folder: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"out": tmp_path, "state": tmp_path, "replica": 0, "report": lambda *told: None}
    with pytest.raises(UsageError, match="reads released weights"):
        recipes.build({"kind": "tuned", "phases": PHASES}, inputs={}, **options)
    with pytest.raises(UsageError, match="without codec, text"):
        recipes.build({"kind": "tuned", "phases": PHASES}, inputs={"init": folder}, load=checkpoints.fresh, **options)
