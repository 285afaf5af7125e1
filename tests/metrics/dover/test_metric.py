"""DOVER as metrics: one run of the network for all of its numbers, from a verified file."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from support import dover_weights
from support.registry_entry import entry, wheel_source

from flashbench.assets import registry as assets
from flashbench.errors import IntegrityError
from flashbench.metrics import base
from flashbench.metrics.dover import metric as video_quality
from flashbench.metrics.dover import network, scores
from flashbench.metrics.dover import views as dover_views
from flashbench.types import Clip


def clip(frames: int = 4, height: int = 48, width: int = 64) -> Clip:
    draw = np.random.default_rng(frames)
    return Clip(draw.integers(0, 256, (frames, height, width, 3), dtype=np.uint8), Fraction(8))


def test_without_weights_every_number_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry(tmp_path, monkeypatch, b"absent")
    for found in base.measure(video_quality.DOVER, clip()):
        assert np.isnan(found.value) and found.reason == "weights not present: flashbench assets pull dover"


def test_small_frames_and_unknown_lengths_have_none() -> None:
    assert "at least 32×32" in video_quality.RAW.measure(clip(height=31)).reason
    about = base.About(shape=(0, 48, 64))
    assert "number of frames is not known" in base.measure_frames([video_quality.RAW], about, [])[0].reason


def test_names_say_which_constants() -> None:
    names = [metric.name for metric in video_quality.DOVER]
    assert len(set(names)) == 8 and {"dover_technical", "dover_technical_matched", "dover_technical_raw"} < set(names)
    assert all(metric.assets == ("dover",) and not metric.deterministic for metric in video_quality.DOVER)
    assert all("non-commercial" in metric.licence for metric in video_quality.DOVER)
    assert len({metric.source for metric in video_quality.DOVER}) == 1
    assert {metric.libraries for metric in video_quality.DOVER} == {("torch",)}


def registry(folder: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> Path:
    """A registry of one asset, `dover`, and where its verified file lies."""
    file = folder / "assets.yaml"
    file.write_text(yaml.safe_dump({"version": 1, "assets": {"dover": entry(content, wheel_source("DOVER.pth"))}}))
    monkeypatch.setenv("FLASHBENCH_ASSETS", str(file))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    return assets.get("dover").file


@pytest.mark.slow
def test_all_numbers_come_from_one_verified_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = dover_weights.state()
    torch.save(state, tmp_path / "DOVER.pth")
    content = (tmp_path / "DOVER.pth").read_bytes()
    place = registry(tmp_path, monkeypatch, content)
    place.parent.mkdir(parents=True)
    place.write_bytes(content)
    once = {**video_quality.RAW.preprocessing, "repeats": 1}
    chosen = [replace(metric, preprocessing=once) for metric in video_quality.DOVER]
    found = dict(zip((m.name for m in chosen), base.measure(chosen, clip()), strict=True))
    draw = torch.Generator().manual_seed(0)
    plans = [dover_views.plan(4, 48, 64, draw)]
    views = dover_views.views(clip().frames, plans, antialias=True)
    raw = scores.score_views(network.load(state), plans, views)
    assert found["dover_technical_raw"].value == pytest.approx(float(raw.technical[0]), abs=1e-6)
    assert found["dover_aesthetic_raw"].per_frame == pytest.approx(raw.aesthetic.tolist(), abs=1e-6)
    upstream, matched = scores.upstream_percentages(raw), scores.matched_percentages(raw)
    assert found["dover_overall"].value == pytest.approx(float(upstream.overall[0]))
    assert found["dover_technical_matched"].value == pytest.approx(float(matched.technical[0]))
    flipped = bytearray(content)
    flipped[1000] ^= 1
    place.write_bytes(bytes(flipped))
    video_quality._network.cache_clear()
    with pytest.raises(IntegrityError, match="dover"):
        base.measure(chosen[:1], clip())
