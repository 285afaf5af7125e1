"""The drill is the paper tier with declared differences: compared key by key, composed and resolved."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from flashbench.paths import protocol_root
from flashbench.planning import dry_run, stand_ins
from flashbench.protocol import compose
from flashbench.protocol.types import Protocol

DECLARED = {
    "sizes": r"(geometry|preview)\.(height|width)|sizes\..*",
    "frames": r"geometry\.frames",
    "prompts": r"cases\.limit|cases\.flicker_seeds",
    "seeds": r"seeds",
    "weights": r"assets|recipes\.\w+\.(kind|phases|needs\.\w+|positions|objective|adaptation|rank)",
    "machine": r"(preview\.)?settings\.(device|dtype)|budget\.workers",
    "words": r"tier|notice",
}
"""Why a key of the composed configuration may differ, and which keys those are."""
NAMES = compose.names()


def flat(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of a configuration with its dotted place; a list is a leaf."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from flat(inner, f"{place}.{name}" if place else str(name))
    else:
        yield place, value


def composed(name: str, tier: str) -> dict[str, Any]:
    return dict(flat(compose._compose(protocol_root() / f"{name}.yaml", name, tier, ())))


def loaded(name: str, tier: str) -> Protocol:
    return compose.load(name, tier, (), stand_ins.suite)


def differing(name: str) -> set[str]:
    paper, drill = composed(name, "paper"), composed(name, "drill")
    gone = object()
    return {key for key in paper.keys() | drill.keys() if paper.get(key, gone) != drill.get(key, gone)}


@pytest.mark.parametrize("name", NAMES)
def test_every_key_is_the_papers_or_declared(name: str) -> None:
    keys = differing(name)
    unknown = [key for key in sorted(keys) if not any(re.fullmatch(why, key) for why in DECLARED.values())]
    assert not unknown, f"{name} differs in {unknown}"
    # Whatever is compared is there: rows, metrics and claims are leaves that must have been found equal.
    assert {"rows", "metrics", "primary", "baseline", "claims"} <= composed(name, "drill").keys() - keys


def test_every_declared_difference_is_one() -> None:
    keys = set[str]().union(*map(differing, NAMES))
    for why, pattern in DECLARED.items():
        assert any(re.fullmatch(pattern, key) for key in keys), why
    assert "recipes.narrow.kind" not in keys and "recipes.stage1.kind" not in keys


@pytest.mark.parametrize("name", NAMES)
def test_a_loaded_protocol_has_the_papers_rows_and_metrics(name: str) -> None:
    paper, drill = loaded(name, "paper"), loaded(name, "drill")
    machine = {"device": "cpu", "dtype": "float32"}
    for ours, theirs in zip(drill.variants, paper.variants, strict=True):
        assert (ours.row, ours.system.name) == (theirs.row, theirs.system.name)
        moved = {key: value for key, value in machine.items() if key in theirs.settings}
        assert ours.settings == {**theirs.settings, **moved}
        assert (ours.size is None) == (theirs.size is None)
    for field in ("metric_names", "primary", "baseline", "margins", "claims", "published", "table", "title", "curve"):
        assert getattr(drill, field) == getattr(paper, field), field
    # What is trained here goes on from a released network, which then is a recipe too.
    assert paper.recipes.keys() <= drill.recipes.keys() <= paper.recipes.keys() | {"narrow", "stage1"}
    for recipe, ours in ((recipe, drill.recipes[recipe]) for recipe in paper.recipes):
        released = paper.recipes[recipe]["kind"] == "official" and recipe != "tuned_lora"
        assert ours["kind"] == ("official" if released else "tuned")
        assert ours["component"] == paper.recipes[recipe]["component"]
    assert "a drill" in drill.notice and f"{drill.geometry.frames} frames" in drill.notice and not paper.notice
    assert drill.hash != paper.hash


def test_all_five_scorers_are_in_every_protocol_of_the_paper_tier() -> None:
    five = {"niqe", "musiq", "maniqa", "clipiqa", "dover_technical", "dover_aesthetic"}
    lacking = {name: sorted(five - {*loaded(name, "paper").metric_names}) for name in NAMES}
    assert not {name: metrics for name, metrics in lacking.items() if metrics}


def test_sizes_keep_their_order() -> None:
    areas = [compose._size(size) for size in ("256x480", "1072x1920", "1440x2560")]
    sizes = composed("positions", "drill")
    ours = [compose._size(sizes[f"sizes.{height}x{width}"]) for height, width in areas]
    assert ours == sorted(ours) and all(side % 16 == 0 for size in ours for side in size)
    geometry = loaded("nfe", "drill").geometry
    assert (geometry.height, geometry.width) == ours[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_networks_of_the_official_shapes_need_no_other_change(name: str) -> None:
    """The files' layouts and every row, walked through on the meta device with the released sizes of the networks."""
    lines = dry_run.rehearse(loaded(name, "drill"))
    assert any("every key has its place" in line for line in lines)
    assert lines[-1].endswith("rows fit")
