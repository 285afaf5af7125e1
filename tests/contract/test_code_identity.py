"""Arithmetic cannot change under an unchanged version."""

from __future__ import annotations

import shutil
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from flashbench import keys
from flashbench.types import Clip
from tools import identity

ROOT = Path(__file__).parents[2]


def test_code_and_pins_agree() -> None:
    assert identity.findings(identity.pinned(ROOT), identity.current()) == []


def test_the_versions_that_dvc_reads_are_those_of_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    assert identity.unlike(ROOT) == []
    components = identity.components()
    raised = components | {"metric psnr": ("flashbench.metrics.fidelity", components["metric psnr"][1] + 1)}
    monkeypatch.setattr(identity, "components", lambda: raised)
    monkeypatch.setattr(identity, "used_at", lambda tier: {})
    assert "metrics, protocols are not what the code has" in identity.unlike(ROOT)[0]


def test_every_system_and_metric_is_pinned() -> None:
    single = {"cases", "keys", "material", "noise", "recipes"}
    assert {"system flashvideo", "system bicubic", "metric niqe_pooled", "metric psnr", *single} <= set(
        identity.pinned(ROOT)
    )


def test_the_sampler_is_part_of_flashvideo_and_of_nothing_simpler() -> None:
    closure = keys.import_closure("flashbench.systems.flashvideo", stop=identity.WORDS)
    assert {"flashbench.cascade.sampling", "flashbench.cascade.transformer", "flashbench.laptop.recipes"} <= set(
        closure
    )
    assert "flashbench.metrics.fidelity" not in closure, "of the metrics only what ranks and reads clips"


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of the same shape, to edit."""
    shutil.copytree(ROOT / "flashbench", tmp_path / "edited", ignore=shutil.ignore_patterns("__pycache__"))
    for path in (tmp_path / "edited").rglob("*.py"):
        text = path.read_text(encoding="utf-8").replace("from flashbench", "from edited")
        path.write_text(text.replace("import flashbench", "import edited"), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path / "edited"
    for name in [name for name in sys.modules if name.split(".")[0] == "edited"]:
        del sys.modules[name]


def _hash() -> str:
    return keys.closure_hash("edited.systems.flashvideo")


def test_a_docstring_of_the_sampler_changes_nothing(copy: Path) -> None:
    before = _hash()
    path = copy / "cascade" / "sampling.py"
    text = path.read_text(encoding="utf-8")
    first = text.index('"""') + 3
    path.write_text(text[:first] + "Other words. " + text[first:] + "\n# a comment\n", encoding="utf-8")
    assert _hash() == before


def test_arithmetic_of_the_sampler_without_a_new_version_is_found(copy: Path) -> None:
    before = _hash()
    path = copy / "cascade" / "sampling.py"
    text = path.read_text(encoding="utf-8")
    assert "1 - shift * rest" in text
    path.write_text(text.replace("1 - shift * rest", "1 - 1.01 * shift * rest"), encoding="utf-8")
    after = _hash()
    assert after != before
    pinned = {"system flashvideo": {"version": 1, "closure": before}}
    assert "bump the version" in identity.findings(pinned, {"system flashvideo": {"version": 1, "closure": after}})[0]
    bumped = identity.findings(pinned, {"system flashvideo": {"version": 2, "closure": after}})
    assert "is not pinned" in bumped[0]


def test_psnr_is_made_of_few_modules() -> None:
    closure = set(keys.import_closure("flashbench.metrics.fidelity", stop=identity.WORDS))
    assert {"flashbench.metrics.fidelity", "flashbench.metrics.base"} <= closure and len(closure) <= 5, sorted(closure)


def test_what_vbench_needs_of_the_machine_is_no_business_of_other_components(copy: Path) -> None:
    words = frozenset(name.replace("flashbench", "edited") for name in identity.WORDS)
    modules = {module.replace("flashbench", "edited") for module, _ in identity.components().values()}
    modules.add("edited.metrics.vbench.metric")

    def closures() -> dict[str, str]:
        return {module: keys.closure_hash(module, stop=words) for module in sorted(modules)}

    before, path = closures(), copy / "metrics" / "vbench" / "environment.py"
    text = path.read_text(encoding="utf-8")
    assert "ROOM = 12 * 10**9" in text
    path.write_text(text.replace("ROOM = 12 * 10**9", "ROOM = 13 * 10**9"), encoding="utf-8")
    after = closures()
    assert [module for module in after if after[module] != before[module]] == ["edited.metrics.vbench.metric"]


def test_digest_of_a_clip_is_golden() -> None:
    clip = Clip(np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3), Fraction(8))
    assert clip.digest == "653aeef88f623a2d051ba02badc85ed5fe8e507822a949d0644aae9c2c0d4974"
