"""Bring your own: a checkpoint as one more row of a protocol."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from support import smoke

from flashbench import systems
from flashbench.cascade import checkpoint as checkpoint_module
from flashbench.cascade.transformer import Stage2Transformer
from flashbench.errors import InvalidError, UsageError
from flashbench.planning import dry_run
from flashbench.protocol.compose import load_protocol
from flashbench.protocol.own_weights import with_weights
from flashbench.run.options import Options


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A folder that looks like a saved network: its bytes are hashed, not read."""
    (folder := tmp_path / "my net.v2").mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "diffusion_pytorch_model.safetensors").write_bytes(b"weights")
    return folder


def test_a_row_with_the_settings_of_the_baseline(checkpoint: Path) -> None:
    protocol = load_protocol("nfe", tier="smoke")
    grown = with_weights(protocol, "flashvideo", checkpoint)
    assert [v.row for v in grown.variants] == [
        "nfe=1",
        "nfe=4",
        "weights=my-net-v2",
        *(v.row for v in protocol.variants[2:]),
    ]
    own, like = grown.variants[2], protocol.variants[1]
    assert own.settings == {**like.settings, "training": "given-my-net-v2"} and own.size == like.size
    recipe = grown.recipes["given-my-net-v2"]
    assert recipe["component"] == "stage2" and recipe["path"] == str(checkpoint) and recipe["needs"] == {}
    assert grown.baseline == protocol.baseline and grown.claims == protocol.claims
    assert all(part.hash == grown.hash for part in grown.parts) and grown.hash != protocol.hash


def test_the_hash_is_of_the_weights_not_of_their_place(checkpoint: Path, tmp_path: Path) -> None:
    protocol = load_protocol("nfe", tier="smoke")
    first = with_weights(protocol, "flashvideo", checkpoint).hash
    (other := tmp_path / "elsewhere").mkdir()
    moved = checkpoint.rename(other / checkpoint.name)
    (moved / "notes.txt").write_text("nothing that is read")
    assert with_weights(protocol, "flashvideo", moved).hash == first
    (moved / "diffusion_pytorch_model.safetensors").write_bytes(b"Weights")
    assert with_weights(protocol, "flashvideo", moved).hash != first


def test_what_cannot_take_weights(checkpoint: Path, tmp_path: Path) -> None:
    protocol = load_protocol("nfe", tier="smoke")
    with pytest.raises(UsageError, match="system that takes weights 'bicubic'"):
        with_weights(protocol, "bicubic", checkpoint)
    with pytest.raises(UsageError, match="system with rows in nfe at smoke: 'stage1'"):
        with_weights(protocol, "stage1", checkpoint)
    with pytest.raises(UsageError, match="there are no weights at"):
        with_weights(protocol, "flashvideo", tmp_path / "nothing")
    grown = with_weights(protocol, "flashvideo", checkpoint)
    with pytest.raises(UsageError, match="has a row 'weights=my-net-v2' already"):
        with_weights(grown, "flashvideo", checkpoint)


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.bin", "stage2.ckpt"])
def test_a_pickle_is_refused_before_anything_is_read(checkpoint: Path, name: str) -> None:
    (checkpoint / name).write_bytes(b"pickle")
    with pytest.raises(UsageError, match=f"{name} is a pickle, which nothing here loads"):
        with_weights(load_protocol("nfe", tier="smoke"), "flashvideo", checkpoint)


def test_a_folder_without_safetensors_is_never_loaded(tmp_path: Path) -> None:
    network = Stage2Transformer(num_attention_heads=1, num_layers=1, text_embed_dim=8)
    network.save_pretrained(tmp_path, safe_serialization=False)
    assert [path.name for path in tmp_path.glob("*.bin")] == ["diffusion_pytorch_model.bin"]
    with pytest.raises(InvalidError, match="cannot be loaded"):
        checkpoint_module.load_stage2(tmp_path)


@pytest.mark.parametrize(
    ("name", "system"), [("nfe", "flashvideo"), ("nfe", "l1"), ("tuning", "stage1"), ("stages", "flashvideo")]
)
def test_a_dry_run_takes_every_system_that_takes_weights(checkpoint: Path, name: str, system: str) -> None:
    lines = dry_run.dry_run([name], Options(system=system, weights=checkpoint))
    assert any(line.strip().startswith("row weights=my-net-v2:") for line in lines)
    grown = with_weights(load_protocol(name), system, checkpoint)
    variant = next(v for v in grown.variants if v.row.startswith("weights="))
    assert systems.get(system).cost(variant.settings, grown.geometry, grown.recipes) == {}


def test_a_system_without_weights_is_refused() -> None:
    with pytest.raises(UsageError, match="--system is only for a row of --weights"):
        Options(system="flashvideo").protocol("nfe")


@pytest.mark.slow
def test_a_run_with_ones_own_weights(tmp_path: Path) -> None:
    """The network that the tier trained, given back to it, makes the same clips; another form is refused."""
    smoke.flashbench(tmp_path, "run", "nfe", "--tier", "smoke")
    theirs = tmp_path / "results" / "smoke" / "models" / "wide-0"
    table = (tmp_path / "results/smoke/tables/nfe.md").read_bytes()
    smoke.flashbench(tmp_path, "run", "nfe", "--tier", "smoke", "--system", "flashvideo", "--weights", str(theirs))
    assert (tmp_path / "results/smoke/tables/nfe.md").read_bytes() == table, "the tier's own results stay"
    out = tmp_path / "results/own/smoke"
    lines = [json.loads(line) for line in (out / "nfe" / "clips.jsonl").read_text().splitlines()]
    clips = {row: [line["digest"] for line in lines if line["row"] == row] for row in ("nfe=4", "weights=wide-0")}
    assert clips["nfe=4"] == clips["weights=wide-0"] and len(clips["nfe=4"]) == 3
    scores = pd.read_parquet(out / "nfe" / "scores.parquet")
    assert {"nfe=4", "weights=wide-0"} <= set(scores["row"])
    assert "weights=wide-0" in (out / "tables" / "nfe.md").read_text()
    assert not [
        path
        for path in out.rglob("*")
        if path.suffix in (".md", ".csv", ".json", ".jsonl") and str(tmp_path) in path.read_text()
    ]
    codec = tmp_path / "results" / "smoke" / "models" / "codec"
    wrong = smoke.flashbench(tmp_path, "run", "nfe", "--tier", "smoke", "--weights", str(codec), check=False)
    assert wrong.returncode == 3 and "Traceback" not in wrong.stderr
