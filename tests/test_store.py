"""The store: entries are whole or absent, and a changed one is noticed."""

from __future__ import annotations

import json
import math
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from flashbench import video
from flashbench.errors import IntegrityError, InvalidError
from flashbench.store import Store
from flashbench.types import Clip, Measurement

KEY, OTHER = "ab" * 32, "cd" * 32


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def _clip(seed: int = 0) -> Clip:
    return Clip(np.random.default_rng(seed).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8), Fraction(8))


def _clip_file(store: Store, key: str) -> Path:
    return store.root / "clips" / key[:2] / key / "clip.mkv"


def test_clip_round_trip(store: Store) -> None:
    clip = _clip()
    assert not store.has_clip(KEY)
    assert store.put_clip(KEY, clip, {"evaluations": 4}) == clip.digest
    assert store.clip(KEY).digest == clip.digest
    assert store.clip_record(KEY)["evaluations"] == 4


def test_a_swapped_clip_is_noticed(store: Store) -> None:
    store.put_clip(KEY, _clip(), {})
    video.write_lossless(_clip_file(store, KEY), _clip(1))
    with pytest.raises(IntegrityError, match="not the one that was made"):
        store.clip(KEY)


def test_a_swapped_entry_is_noticed(store: Store) -> None:
    store.put_clip(KEY, _clip(), {})
    store.put_clip(OTHER, _clip(1), {})
    os.rename(_clip_file(store, KEY).parent, store.root / "away")
    os.rename(_clip_file(store, OTHER).parent, _clip_file(store, KEY).parent)
    with pytest.raises(IntegrityError, match="another key"):
        store.clip(KEY)


def test_an_edited_score_is_noticed(store: Store) -> None:
    store.put_score(KEY, Measurement(value=3.5, per_frame=(3.0, 4.0), statistics=(1.0,)), {"metric": "niqe"})
    assert store.score(KEY) == Measurement(value=3.5, per_frame=(3.0, 4.0), statistics=(1.0,))
    path = store.root / "scores" / KEY[:2] / f"{KEY}.json"
    path.write_text(path.read_text().replace("3.5", "2.5"))
    with pytest.raises(IntegrityError, match="edited"):
        store.score(KEY)
    path.write_text("{")
    with pytest.raises(IntegrityError, match="not readable"):
        store.score(KEY)


def test_a_missing_value_keeps_its_reason(store: Store) -> None:
    store.put_score(KEY, Measurement.missing("too small"), {})
    found = store.score(KEY)
    assert found is not None and math.isnan(found.value) and found.reason == "too small"


def test_a_measurement_without_value_needs_a_reason() -> None:
    with pytest.raises(ValueError, match="reason"):
        Measurement(value=math.nan)


def test_a_model_is_kept_when_its_block_ends(store: Store) -> None:
    (store.training_state(KEY) / "checkpoint").write_text("half")
    with store.new_model(KEY, {"made": 1}) as folder:
        (folder / "model.safetensors").write_bytes(b"weights")
        assert not store.has_model(KEY)
    assert (store.model(KEY) / "model.safetensors").read_bytes() == b"weights"
    assert not (store.root / "state" / KEY).exists()
    (store.model(KEY) / "model.safetensors").write_bytes(b"others")
    with pytest.raises(IntegrityError, match="not the file that training wrote"):
        store.model(KEY)


def test_a_file_that_training_did_not_write_is_noticed(store: Store) -> None:
    with store.new_model(KEY, {}) as folder:
        (folder / "model.safetensors").write_bytes(b"weights")
    (store.model(KEY) / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(IntegrityError, match="training did not write"):
        store.model(KEY)


def test_an_error_inside_a_model_is_not_blamed_on_the_disk(store: Store) -> None:
    with pytest.raises(FileNotFoundError), store.new_model(KEY, {}) as folder:
        (folder / "absent").read_bytes()


def test_a_failed_model_leaves_nothing_but_its_state(store: Store) -> None:
    (store.training_state(KEY) / "checkpoint").write_text("half")
    with pytest.raises(RuntimeError), store.new_model(KEY, {}) as folder:
        (folder / "model.safetensors").write_bytes(b"half")
        raise RuntimeError("training diverged")
    assert not store.has_model(KEY) and not list((store.root / "tmp").iterdir())
    assert (store.training_state(KEY) / "checkpoint").exists()


def test_model_digest_reads_content_only(store: Store) -> None:
    for key, seconds in ((KEY, 1.0), (OTHER, 2.0)):
        with store.new_model(key, {"seconds": seconds}) as folder:
            (folder / "model.safetensors").write_bytes(b"weights")
    assert store.model_digest(KEY) == store.model_digest(OTHER)


def test_a_full_disk_says_so_and_leaves_no_half_entry(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(video, "write_lossless", full)
    with pytest.raises(InvalidError, match="No space left") as caught:
        store.put_clip(KEY, _clip(), {})
    assert "free disk space" in caught.value.fix
    assert not store.has_clip(KEY) and not list((store.root / "tmp").iterdir())


def test_an_unwritable_store_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidError, match="cannot be written"):
        Store(tmp_path / "file" / "store")


def test_records_have_a_checksum_over_their_body(store: Store) -> None:
    store.put_clip(KEY, _clip(), {"evaluations": 4})
    path = _clip_file(store, KEY).parent / "record.json"
    sealed = json.loads(path.read_text())
    sealed["body"]["evaluations"] = 1
    path.write_text(json.dumps(sealed))
    with pytest.raises(IntegrityError, match="edited"):
        store.clip_record(KEY)
