"""The dry run: what fits is said with its shapes, and what does not fit is named."""

from __future__ import annotations

import dataclasses
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from support.scratch_protocols import write

from flashbench import systems
from flashbench.cascade.transformer import Stage2Transformer
from flashbench.data import prompts
from flashbench.errors import InvalidError, MissingAsset, UsageError
from flashbench.laptop import recipes, stage1, text
from flashbench.laptop.settings import resolve
from flashbench.planning import dry_run as rehearsal
from flashbench.planning import networks, stand_ins
from flashbench.protocol.compose import names, tiers
from flashbench.run.options import Options
from flashbench.types import Geometry

PAPER = Options(tier="paper")


def dry_run(folder: Path, monkeypatch: pytest.MonkeyPatch, **fields: Any) -> list[str]:
    write(folder, monkeypatch, **fields)
    return rehearsal.dry_run(["probe"], PAPER)


def test_a_protocol_that_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = dry_run(tmp_path, monkeypatch)
    said = "\n".join(lines)
    assert "stage1: 5,903,533,632 elements" in said and "stage2: 565 tensors, 1,696,399,168 elements" in said
    assert "vae: 436 tensors, 215,583,907 elements" in said
    assert "cases: 100 of prompts, 100 clips a row" in said
    # (1 + 4/4) latent frames of 4x6 and 2x3 patches, and 226 tokens of text.
    assert (
        "Stage I, one clip a case for all rows: 5 frames of 32x48, latent 2x16x4x6, 238 tokens, 3 evaluations of 2"
        in said
    )
    row = next(line for line in lines if "row nfe=2" in line)
    assert "5 frames of 64x96, latent 2x16x8x12, 274 tokens, 2 evaluations of 2" in row
    flop = 4 * (24 * 30 * 274 * 1920**2 + 4 * 30 * 274**2 * 1920)
    assert f"{flop / 1e12:.4g} TFLOP" in row and "flashvideo-stage2 not present" in row
    assert "row bicubic: 5 frames of 64x96" in said and lines[-2] == "  3 rows fit"
    assert re.search(
        r"absent: t5-xxl/shard-1, for model text: model-00001-of-00002.safetensors .*Apache-2.0.* from https", said
    )
    assert "stand-ins of the same number and suites (flashbench assets pull vbench-full-info" in lines[-1]


def test_no_guidance_is_one_forward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = dry_run(tmp_path, monkeypatch, rows=[{"guidance": [1, 7]}], baseline="guidance=7")
    one, two = (next(line for line in lines if f"row guidance={value}:" in line) for value in (1, 7))
    assert "4 evaluations of 1" in one and "4 evaluations of 2" in two


def test_a_metric_that_no_prompt_serves_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidError, match="none of the prompts serves"):
        dry_run(tmp_path, monkeypatch, metrics=["niqe", "vbench_long:color"], cases={"suite": "vbench:scene"})


def test_a_size_that_cannot_be_made_is_refused_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="sides must be multiples of 16"):
        dry_run(tmp_path, monkeypatch, rows=[{"size": ["64x90"]}], baseline="size=64x90")


def test_evaluations_that_are_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(systems.get("flashvideo_release")), "evaluations", lambda self, settings: 5)
    with pytest.raises(InvalidError, match="row 'nfe=1': 5 evaluations are declared, 1 were made"):
        dry_run(tmp_path, monkeypatch)


def test_a_network_of_other_channels() -> None:
    with torch.device("meta"):
        small = {"num_attention_heads": 1, "num_layers": 1, "time_embed_dim": 8, "text_embed_dim": 4}
        wrong = networks.Walked(Stage2Transformer(in_channels=16, out_channels=8, max_text_seq_length=4, **small))
        latent, context = torch.empty(1, 2, 16, 4, 4), torch.empty(1, 4, 4)
        with pytest.raises(InvalidError, match=r"turns \[1, 2, 16, 4, 4\] into \[1, 2, 8, 4, 4\]"):
            wrong(hidden_states=latent, encoder_hidden_states=context, timestep=1.0)


@pytest.mark.parametrize("component", sorted(networks.LAYOUTS))
def test_an_official_file_of_another_layout(component: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = dataclasses.replace(networks.LAYOUTS[component], elements=networks.LAYOUTS[component].elements + 1)
    monkeypatch.setitem(networks.LAYOUTS, component, wrong)
    networks.check_layout.cache_clear()
    with pytest.raises(InvalidError, match=f"the plan of {component}"):
        networks.check_layout(component)
    networks.check_layout.cache_clear()


# --- networks that a tier trains --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["flow", "regression", "vanilla"])
@pytest.mark.parametrize("gain", [True, False])
def test_networks_are_those_that_recipes_train(kind: str, gain: bool) -> None:
    """Their names, shapes and configuration, without building a pool."""

    class Stub:
        channels = 16
        contexts = torch.zeros(2, text.LENGTH, text.WIDTH) if kind == "flow" else None

        def moments(self) -> torch.Tensor:
            return torch.ones(3, self.channels)

    given: dict[str, Any] = {"kind": kind, "heads": 1, "layers": 1, "time_embed_dim": 32, "local_gain": gain}
    _, settings = resolve(given | ({"text": True, "positions": "absolute"} if kind == "flow" else {}))
    made = recipes._fresh(kind, settings, Stub(), Stub(), 0)  # type: ignore[arg-type]
    ours = networks.trained({"kind": kind, **settings}, 16)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in made.state_dict().items()}
    same = ("max_text_seq_length", "use_rotary_positional_embeddings", "in_channels", "out_channels")
    assert [ours.config[name] for name in same] == [made.config[name] for name in same]


def test_stage1_is_that_which_recipes_train() -> None:
    _, settings = resolve({"kind": "stage1", "heads": 1, "layers": 1, "time_embed_dim": 32})
    contexts = torch.zeros(2, text.LENGTH, text.WIDTH)
    made = stage1._fresh(settings, torch.zeros(1, 2, 16, 4, 4), contexts, 0)
    ours = networks.trained({"kind": "stage1", **settings}, 16)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in made.state_dict().items()}


@pytest.mark.parametrize(
    ("kind", "settings", "forwards"),
    [
        ("flow", {"nfe": 3, "degradation": "pixel+latent", "degradation_step": 675, "shift": 2.5, "guidance": 4.0}, 6),
        ("flow", {"nfe": 3, "degradation": "none", "degradation_step": 675, "shift": 2.5}, 3),
        ("regression", {}, 1),
        ("vanilla", {"nfe": 4, "shift": 2.5}, 4),
        ("stage1", {"steps": 3, "guidance": 8.0}, 6),
    ],
)
def test_trained_networks_are_walked(kind: str, settings: dict[str, Any], forwards: int) -> None:
    _, recipe = resolve({"kind": kind, "heads": 1, "layers": 1, "time_embed_dim": 32})
    geometry = Geometry(frames=9, height=32, width=48, fps=Fraction(8))
    walk = networks.walk_trained({"kind": kind, **recipe}, 16, settings, geometry)
    words = text.LENGTH if kind == "stage1" else 1
    assert walk.forwards == forwards and walk.tokens == words + 3 * 2 * 3
    assert walk.latent == (3, 32 if kind == "vanilla" else 16, 4, 6)


def test_the_smoke_tier_is_rehearsed_too() -> None:
    lines = rehearsal.dry_run(["nfe"], Options(tier="smoke"))
    assert any("row nfe=4: 5 frames of 96x192, latent 2x16x12x24" in line for line in lines)
    assert lines[-1].endswith("rows fit")


# --- stand-ins --------------------------------------------------------------------------------------------------


def test_stand_ins_are_as_many_as_vbench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASHBENCH_CACHE", str(tmp_path))
    with pytest.raises(MissingAsset):
        prompts.suite("vbench")
    whole = stand_ins.suite("vbench", rewrite="longer")
    assert len(whole) == len({prompt.id for prompt in whole}) == 944
    assert [len(stand_ins.suite(f"vbench:{name}")) for name in stand_ins.SIZES] == list(stand_ins.SIZES.values())
    assert len(prompts.vbench_cases(whole, 5, 25)) == 6220 and len(prompts.vbench_cases(whole, 5, 5)) == 4720
    served = [prompt for prompt in whole if "motion_smoothness" in prompt.dimensions]
    assert len(served) == 72 and all("dynamic_degree" in prompt.dimensions for prompt in served)
    assert prompts.ordered(whole)[:64] == prompts.ordered(whole)[:128][:64]


def test_suites_that_are_here_are_read(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("a cat\na dog\n")
    assert [prompt.text for prompt in stand_ins.suite(str(tmp_path / "mine.txt"))] == ["a cat", "a dog"]


# --- the repository's protocols ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("tier", sorted({*tiers()} - {"drill"}))  # tests/protocol/test_drill.py has the drill's
@pytest.mark.parametrize("name", names())
def test_every_protocol_at_every_tier(name: str, tier: str) -> None:
    lines = rehearsal.dry_run([name], Options(tier=tier))
    assert any(line.endswith("rows fit") for line in lines)
