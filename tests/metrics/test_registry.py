"""What every metric declares, and how it is found."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import sys
from collections.abc import Iterator
from fractions import Fraction
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from flashbench import metrics, registry
from flashbench.errors import UsageError
from flashbench.metrics import fidelity
from flashbench.metrics.registry import REGISTRY
from flashbench.scores.measure import score_key
from flashbench.types import Clip

OURS = ("flat_noise", "niqe", "niqe_pooled", "psnr", "sharpness", "ssim", "temporal_error")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[EntryPoint]]:
    """Entry points that other packages offer."""
    offered: list[EntryPoint] = []
    monkeypatch.setattr(registry, "entry_points", lambda group: offered if group == metrics.GROUP else [])
    REGISTRY.__dict__.pop("_offered", None)
    yield offered
    REGISTRY.__dict__.pop("_offered", None)


def offer(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, "flashbench.metrics")


def test_ours_are_there() -> None:
    assert set(OURS) <= set(metrics.names())
    assert list(metrics.names()) == sorted(metrics.names())


@pytest.mark.parametrize("name", OURS)
def test_a_metric_declares_itself(name: str) -> None:
    metric = metrics.get(name)
    assert metric.name == name and metric.version >= 1
    assert metric.range[0] < metric.range[1]
    assert {"channel", "border", "frames", "averaging"} <= set(metric.preprocessing)
    assert isinstance(metric, metrics.SetMetric) == metric.pooled
    identity = metric.identity
    assert list(identity) == sorted(field.name for field in dataclasses.fields(metric) if field.name != "scale")
    assert json.loads(json.dumps(identity, allow_nan=False)) == identity
    with pytest.raises(dataclasses.FrozenInstanceError):
        metric.version = 2  # type: ignore[misc]


def test_identity_moves_with_every_declared_field() -> None:
    metric = metrics.get("psnr")
    changes = {"version": 2, "unit": "B", "range": (0.0, 1.0), "preprocessing": {"border": 4}, "assets": ("w",)}
    for field, changed in changes.items():
        assert dataclasses.replace(metric, **{field: changed}).identity != metric.identity


def test_identity_does_not_depend_on_the_order_of_declaration() -> None:
    metric = metrics.get("psnr")
    turned = dict(reversed(metric.preprocessing.items()))
    assert json.dumps(dataclasses.replace(metric, preprocessing=turned).identity) == json.dumps(metric.identity)


def test_unknown_names_get_a_suggestion() -> None:
    with pytest.raises(UsageError, match="did you mean 'niqe_pooled'"):
        metrics.get("niqe_poled")


def test_a_metric_of_another_package(installed: list[EntryPoint], monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = dataclasses.replace(fidelity.PSNR, name="their_psnr")
    monkeypatch.setattr(fidelity, "THEIRS", theirs, raising=False)
    installed.append(offer("their_psnr", "flashbench.metrics.fidelity:THEIRS"))
    assert metrics.get("their_psnr") is theirs
    assert set(OURS) | {"their_psnr"} < set(metrics.names()) == {*REGISTRY._ours, "their_psnr"}


def test_nobody_replaces_ours(installed: list[EntryPoint]) -> None:
    installed.append(offer("psnr", "flashbench.metrics.fidelity:SSIM"))
    assert metrics.get("psnr") is fidelity.PSNR, "a name that we gave later must not stop a package's users"
    assert metrics.get("ssim") is fidelity.SSIM


@pytest.mark.parametrize("room", ["metrics", "systems"])
def test_a_new_one_in_this_repository_is_one_file(room: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    defined = {
        "metrics": "from dataclasses import replace\nfrom flashbench.metrics.fidelity import PSNR\n"
        "MINE = replace(PSNR, name='mine')",
        "systems": "from flashbench.systems.controls import Bicubic\n"
        "MINE = type('Mine', (Bicubic,), {'name': 'mine'})()",
    }[room]
    text = f"{defined}\nfrom flashbench.{room}.registry import register\nregister(MINE)\n"
    (tmp_path / "mine.py").write_text(text, "utf-8")
    home = importlib.import_module(f"flashbench.{room}")
    found = importlib.import_module(f"flashbench.{room}.registry").REGISTRY
    assert "mine" not in home.names()
    monkeypatch.setattr(home, "__path__", [*home.__path__, str(tmp_path)])
    monkeypatch.setattr(found, "_discovered", False)
    monkeypatch.setattr(found, "_ours", dict(found._ours))
    try:
        assert "mine" in home.names() and home.get("mine").name == "mine"
    finally:
        sys.modules.pop(f"flashbench.{room}.mine", None)
        home.__dict__.pop("mine", None)


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("no_such_package.at_all:METRIC", "cannot be loaded"),
        ("flashbench.metrics.fidelity:ABSENT", "cannot be loaded"),
        ("flashbench.metrics.fidelity:PSNR", "is not a flashbench.metrics.Metric named"),
        ("flashbench.metrics.fidelity:psnr", "is not a flashbench.metrics.Metric named"),
    ],
)
def test_a_broken_package_is_named(installed: list[EntryPoint], value: str, complaint: str) -> None:
    installed.append(offer("theirs", value))
    with pytest.raises(UsageError, match=complaint) as caught:
        metrics.get("theirs")
    assert value in str(caught.value)


MINE = """from dataclasses import dataclass
from flashbench.metrics import FrameMetric, Pair

@dataclass(frozen=True, kw_only=True)
class Mine(FrameMetric):
    def frame(self, pair: Pair) -> float:
        return float(pair.frame.mean())

MINE = Mine(name="mine", direction="none", unit="", range=(0.0, 255.0))
"""


def test_the_key_of_a_users_own_metric_holds_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))

    def key(text: str) -> str:
        (tmp_path / "my_script.py").write_text(text, "utf-8")
        sys.modules.pop("my_script", None)
        importlib.invalidate_caches()
        return score_key(importlib.import_module("my_script").MINE, clip="a", reference=None)

    try:
        first = key(MINE)
        assert key(MINE.replace("mean()", "std()")) != first, "the declaration is the same, the code is not"
        assert key(MINE) == first
    finally:
        sys.modules.pop("my_script", None)


@pytest.mark.parametrize("name", ["psnr", "sharpness", "ssim", "temporal_error"])
def test_measuring_is_pure(name: str) -> None:
    rng = np.random.default_rng(0)
    frames, reference = (rng.integers(0, 256, (3, 40, 41, 3), dtype=np.uint8) for _ in range(2))
    kept = frames.copy(), reference.copy()
    frames.setflags(write=False)
    reference.setflags(write=False)
    metric = metrics.get(name)
    first = metric.measure(Clip(frames, Fraction(8)), Clip(reference, Fraction(8)))
    assert first == metric.measure(Clip(kept[0], Fraction(8)), Clip(kept[1], Fraction(8)))
    assert math.isfinite(first.value) and metric.range[0] <= first.value <= metric.range[1]
    assert (frames == kept[0]).all() and (reference == kept[1]).all()


def test_only_networks_name_libraries_and_no_identity_does() -> None:
    for name in metrics.names():
        metric = metrics.get(name)
        network = set(metric.assets) - {"niqe-pristine"}
        assert bool(metric.libraries) == bool(network), name
        assert "torch" in metric.libraries or not network, name
        assert list(metric.libraries) == sorted(metric.libraries) and "libraries" not in metric.identity
