"""Bring your own: a checkpoint as one more row of a protocol."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import smoke

from flashbench.errors import UsageError
from flashbench.own import with_weights
from flashbench.protocol import load_protocol


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


@pytest.mark.slow
def test_a_run_with_ones_own_weights(tmp_path: Path) -> None:
    """The network that the tier trained, given back to it, makes the same clips; another form is refused."""
    smoke.flashbench(tmp_path, "run", "nfe", "--tier", "smoke")
    theirs = tmp_path / "results" / "smoke" / "models" / "wide-0"
    refused = smoke.flashbench(tmp_path, "run", "nfe", "--tier", "smoke", "--weights", str(theirs), check=False)
    assert refused.returncode == 2 and "--results" in refused.stderr
    command = ("run", "nfe", "--tier", "smoke", "--weights", str(theirs), "--results", "out")
    smoke.flashbench(tmp_path, *command)
    lines = [json.loads(line) for line in (tmp_path / "out" / "nfe" / "clips.jsonl").read_text().splitlines()]
    clips = {row: [line["digest"] for line in lines if line["row"] == row] for row in ("nfe=4", "weights=wide-0")}
    assert clips["nfe=4"] == clips["weights=wide-0"] and len(clips["nfe=4"]) == 3
    scores = pd.read_parquet(tmp_path / "out" / "nfe" / "scores.parquet")
    assert {"nfe=4", "weights=wide-0"} <= set(scores["row"])
    assert "weights=wide-0" in (tmp_path / "out" / "tables" / "nfe.md").read_text()
    assert not [
        path
        for path in (tmp_path / "out").rglob("*")
        if path.suffix in (".md", ".csv", ".json", ".jsonl") and str(tmp_path) in path.read_text()
    ]
    codec = tmp_path / "results" / "smoke" / "models" / "codec"
    wrong = smoke.flashbench(tmp_path, *command[:-3], str(codec), "--results", "no", check=False)
    assert wrong.returncode == 3 and "Traceback" not in wrong.stderr
