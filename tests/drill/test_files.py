"""The drill's files: the official layout, the same bytes each time, read by what reads the official ones."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from support.smoke import flashbench

from flashbench.assets import registry
from flashbench.cascade import FlashVideoPipeline
from flashbench.cascade.convert import convert
from flashbench.data import prompts
from flashbench.drill import rehearsal, seeded
from flashbench.keys import file_sha256
from flashbench.metrics import get
from flashbench.protocol.compose import load_protocol
from flashbench.systems import checkpoints
from flashbench.types import Clip


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return rehearsal.write(tmp_path_factory.mktemp("official"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def drill(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The drill's registry in a cache of the module, read by this process as by a run of the tier."""
    monkeypatch.setenv("FLASHBENCH_CACHE", str(cache))
    monkeypatch.delenv("FLASHBENCH_ASSETS", raising=False)
    file = rehearsal.ready()
    registry.of_tier(file)
    yield file
    registry.of_tier(None)


def test_numbers_are_of_the_counter_alone() -> None:
    """Splitmix64 of the sha256 of `a`: the first four, and their power over many."""
    assert seeded.uniform("a", 4).tolist() == seeded.uniform("a", 9)[:4].tolist()
    many = seeded.uniform("b", 200_000)
    assert abs(many.mean()) < 0.01 and many.var() == pytest.approx(1 / 3, rel=0.01) and np.abs(many).max() < 1
    matrix = seeded.weight("t", "x.weight", (64, 256))
    assert matrix.dtype == torch.float32 and (matrix.var() * 256).item() == pytest.approx(1, rel=0.05)
    assert seeded.weight("t", "norm.weight", (1000,)).mean().item() == pytest.approx(1, abs=0.01)
    assert seeded.weight("t", "norm.bias", (1000,)).mean().item() == pytest.approx(0, abs=0.01)


def test_the_same_bytes_each_time(files: dict[str, Path], tmp_path: Path) -> None:
    again = rehearsal.write(tmp_path)
    assert {name: file_sha256(path) for name, path in files.items()} == {
        name: file_sha256(path) for name, path in again.items()
    }


def test_the_registry_lists_them_and_the_cache_has_them(drill: Path, files: dict[str, Path]) -> None:
    assert registry.current().unofficial
    assert dict(registry.verify(files)) == dict.fromkeys(files, "ok")
    assert {name: registry.get(name).sha256 for name in files} == {n: file_sha256(p) for n, p in files.items()}
    before = drill.stat().st_mtime_ns
    assert rehearsal.ready() == drill and drill.stat().st_mtime_ns == before
    package = registry.Registry
    registry.of_tier(None)
    assert isinstance(registry.current(), package) and not registry.current().unofficial
    names = {*registry.current().names()}
    registry.of_tier(drill)
    assert {*registry.current().names()} == names | {rehearsal.WORKER}


def test_convert_takes_them_and_the_pipeline_runs(files: dict[str, Path], tmp_path: Path) -> None:
    """The official folder, through the converter that a user runs, to a clip of both stages."""
    folder = files["flashvideo-stage1"].parent
    parts = convert(folder, tmp_path / "converted")
    assert parts == ["stage1", "stage2", "text_encoder", "tokenizer", "vae"]
    pipe = FlashVideoPipeline.from_pretrained(tmp_path / "converted")
    low = pipe.preview("a cat", height=16, width=32, num_frames=5, num_inference_steps=2, output_type="np").frames[0]
    high = pipe.refine(
        (low * 255).round().astype(np.uint8), "a cat", height=32, width=64, num_inference_steps=1, output_type="np"
    ).frames[0]
    assert low.shape == (5, 16, 32, 3) and high.shape == (5, 32, 64, 3)
    assert np.isfinite(high).all() and high.std() > 0.05


def test_official_recipes_read_them(drill: Path, tmp_path: Path) -> None:
    for component in checkpoints.COMPONENTS:
        assert checkpoints.absent(component) == ""
        (folder := tmp_path / component).mkdir()
        checkpoints.build({"kind": "official", "component": component}, folder)
        assert checkpoints.fresh(component, folder)


def test_the_prompts_are_vbenchs_first_twenty_and_fit_the_encoder(drill: Path, tmp_path: Path) -> None:
    suite = prompts.suite("vbench", rewrite="longer")
    assert len(suite) == 20 and all(len(prompt.text) > len(prompt.original) for prompt in suite)
    assert {name for prompt in suite for name in prompt.suites} == {*prompts.SUITES}
    (folder := tmp_path / "text").mkdir()
    checkpoints.build({"kind": "official", "component": "text"}, folder)
    tokenizer = checkpoints.fresh("text", folder)["tokenizer"]
    assert max(len(tokenizer(prompt.text).input_ids) for prompt in suite) <= 226


@pytest.mark.parametrize("name", ["musiq", "maniqa", "clipiqa", "dover_technical", "dover_aesthetic"])
def test_scorers_answer_with_them(drill: Path, name: str) -> None:
    clip = Clip(np.random.default_rng(0).integers(0, 256, (5, 112, 208, 3), dtype=np.uint8), 8)
    found = get(name).measure(clip)
    assert np.isfinite(found.value), found.reason


def test_vbenchs_stand_in_answers_and_is_in_the_key(drill: Path) -> None:
    metric = get("vbench_long:temporal_flickering")
    assert rehearsal.WORKER in metric.assets and metric.unavailable == ""
    clips = [Clip(np.full((5, 32, 48, 3), level, np.uint8), 8) for level in (10, 200)]
    first, second, again = (metric.measure(clip).value for clip in (*clips, clips[0]))
    assert 0 <= first <= 1 and first == again and first != second
    registry.of_tier(None)
    assert rehearsal.WORKER not in get("vbench_long:temporal_flickering").assets


def test_a_registry_of_ones_own_stands_above_the_tiers(drill: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the official files in it the drill would read those: nothing else changes."""
    own = drill.with_name("own.yaml")
    own.write_text(drill.read_text())
    monkeypatch.setenv("FLASHBENCH_ASSETS", str(own))
    load_protocol("nfe", tier="drill")
    assert os.environ.get("FLASHBENCH_ASSETS_OF_TIER") is None
    monkeypatch.delenv("FLASHBENCH_ASSETS")
    load_protocol("nfe", tier="drill")
    assert os.environ["FLASHBENCH_ASSETS_OF_TIER"] == str(drill.absolute())
    load_protocol("nfe", tier="smoke")
    assert "FLASHBENCH_ASSETS_OF_TIER" not in os.environ


def test_the_command(tmp_path: Path, cache: Path) -> None:
    told = flashbench(tmp_path, "assets", "drill", "official", FLASHBENCH_CACHE=str(cache))
    assert "flashvideo-stage1: official/stage1.pt" in told.stdout
    entries = json.loads((tmp_path / "official" / "VBench_full_info.json").read_text("utf-8"))
    assert len(entries) == 20
    again = flashbench(tmp_path, "assets", "drill", "official", FLASHBENCH_CACHE=str(cache), check=False)
    assert again.returncode == 2 and "is there already" in again.stderr
