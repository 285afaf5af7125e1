"""Further sets of a protocol's cases: composition, names, cases apart, hash, and one's own weights on them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from support import smoke

from flashbench.data import scenes
from flashbench.errors import UsageError
from flashbench.planning import dry_run
from flashbench.protocol import compose
from flashbench.protocol.own_weights import with_weights
from flashbench.protocol.types import Protocol
from flashbench.run.options import Options

X2 = ("sets.x2.geometry.scale=2", "sets.x2.cases.first=1")


def loaded(*overrides: str, name: str = "nfe", tier: str = "smoke") -> Protocol:
    return compose.load_protocol(name, tier=tier, overrides=overrides)


def only(protocol: Protocol) -> Protocol:
    (part,) = protocol.sets
    return part


# --- composition ------------------------------------------------------------------------------------------------------


def test_a_set_has_the_protocols_fields_but_for_its_own() -> None:
    main = loaded(*X2, "sets.x2.title=Twice")
    part = only(main)
    assert (part.set_name, part.title, part.case_set, main.case_set) == ("x2", "Twice", "x2", "synthetic")
    assert main.parts == (main, part) and part.geometry.scale == 2 and part.geometry.width == main.geometry.width
    assert part.variants == main.variants and part.metric_names == main.metric_names and part.baseline == main.baseline
    assert [case.id for case in part.cases] == ["synthetic-0/1", "synthetic-1/1", "synthetic-2/1"]
    assert (part.claims, part.margins, part.published) == ((), {}, {}) and main.claims and main.published
    assert part.hash == main.hash and part.recipes == main.recipes


def test_every_field_can_be_a_sets_own() -> None:
    part = only(
        loaded(
            *X2, "sets.x2.rows=[{row: [mine], with: {nfe: 2}}]", "sets.x2.baseline=mine", "sets.x2.controls=[bicubic]",
            "sets.x2.metrics=[psnr,ssim]", "sets.x2.settings.training=narrow", "sets.x2.low.blur_sigma=[0.1,0.2]",
        )
    )  # fmt: skip
    assert [variant.row for variant in part.variants] == ["mine", "bicubic"] and part.baseline == "mine"
    assert part.variants[0].settings["training"] == "narrow" and part.variants[0].settings["shift"] == 2.5
    assert part.metric_names == ("psnr", "ssim")
    assert part.primary == ("psnr",), "the first, as the protocol's is not there"
    assert part.cases[0].low["blur_sigma"] == [0.1, 0.2] and part.cases[0].low["jpeg_quality"] == [80, 95]
    assert "narrow" in part.recipes
    kept = only(loaded(*X2, "sets.x2.metrics=[psnr,niqe_pooled]"))
    assert kept.primary == ("niqe_pooled",), "the protocol's own, where the set measures it"


def test_another_system_takes_of_the_common_settings_those_that_it_knows() -> None:
    rows = ("sets.x2.rows=[{row: [v]}]", "sets.x2.baseline=v", "sets.x2.system=vanilla")
    part = only(loaded(*X2, *rows, "sets.x2.settings.training=vanilla"))
    assert part.variants[0].system.name == "vanilla" and part.variants[0].settings["training"] == "vanilla"
    assert "degradation_step" not in part.variants[0].settings


def test_a_set_that_is_null_is_none() -> None:
    assert loaded("sets.cascade=null", tier="laptop").sets == ()
    assert [part.case_set for part in loaded(tier="laptop").parts] == ["material", "cascade"]
    assert loaded("sets={x2: null}").hash == loaded().hash
    spelt = loaded(*X2, "sets.x2.rows=null")
    assert only(spelt).variants == spelt.variants, "a field that is null is the protocol's own"


def test_the_limit_holds_on_every_set() -> None:
    one = Options(tier="smoke", limit=1).protocol("enhancers")
    assert [len(part.cases) for part in one.parts] == [1, 1, 1]
    own = loaded(*X2, "sets.x2.cases.limit=2")
    assert [len(part.cases) for part in own.parts] == [3, 2], "a set's own limit is for itself"


def test_one_prompt_set_has_its_own_stage_1() -> None:
    part = only(loaded("sets.cascade.preview.settings.steps=7", tier="laptop"))
    assert part.preview is not None and part.preview.variant.settings["steps"] == 7
    assert part.preview.geometry.height == 64
    previews = {trial.case.kind: trial.preview for trial in compose.trials(loaded(tier="laptop"))}
    assert previews["material"] is None and previews["prompts"] is not None


@pytest.mark.parametrize("name", compose.names())
def test_shipped_sets_have_titles_and_cases_of_their_own(name: str) -> None:
    for tier in ("smoke", "laptop"):
        parts = loaded(name=name, tier=tier).parts
        ids = [case.id for part in parts for case in {case.id: case for case in part.cases}.values()]
        assert len(ids) == len(set(ids)) and len({part.case_set for part in parts}) == len(parts)
        assert all(part.title != part.set_name for part in parts)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("sets.x2.geometry.scale=2",), "set 'x2': case synthetic-0/0 is also one of the protocol's own"),
        ((*X2, "sets.again.cases.first=1"), "set 'again': case synthetic-0/1 is also in set 'x2'"),
        (("sets.synthetic.cases.first=1",), "a set called 'synthetic' would pass for the protocol's own cases"),
        (("sets.material.cases.first=1",), "a set called 'material' would pass for cases of another kind"),
        (("sets={x-2: {cases: {first: 1}}}",), "invalid name 'x-2' of a set"),
        (("sets=[x2]",), "`sets` of protocols/nfe.yaml is ['x2']"),
        (("sets.x2=3",), "`sets.x2` of protocols/nfe.yaml is 3"),
        (("sets.x2.clams=[]",), "field in `sets.x2` of protocols/nfe.yaml: 'clams'"),
        (("sets.x2.cases.frist=1",), "field in `sets.x2.cases` of protocols/nfe.yaml: 'frist'; did you mean 'first'"),
        (("sets.x2.cases.first=-1",), "set 'x2': cases.first is -1, not a whole number from 0"),
        ((*X2, "sets.x2.baseline=nfe=5"), "set 'x2': unknown row 'nfe=5'"),
        ((*X2, "sets.x2.rows=[{nfe: [0]}]", "sets.x2.baseline=nfe=0"), "set 'x2': nfe is 0"),
        (("sets.s.cases.set=scene",), "set 's': unknown case set 'scene'; did you mean 'scenes'"),
        (("sets.s.cases={set: scenes, split: train}",), "unknown split of scenes 'train'"),
        (("cascade.cases.limit=1",), "unknown field in override 'cascade.cases.limit'"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_apart_or_made_is_refused(overrides: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        loaded(*overrides)
    assert said in re.sub(r"\n\s*fix: ", "; ", str(caught.value)), str(caught.value)


def test_the_remedy_for_cases_that_are_not_apart() -> None:
    with pytest.raises(UsageError) as caught:
        loaded("sets.x2.geometry.scale=2")
    assert "`cases.first`" in caught.value.fix and loaded(*X2)


def test_a_users_mistake_is_told_in_two_lines(tmp_path: Path) -> None:
    said = smoke.flashbench(tmp_path, "plan", "nfe", "--tier", "smoke", "-S", "sets.x2.geometry.scale=2", check=False)
    assert said.returncode == 2 and "Traceback" not in said.stderr and not said.stdout
    assert "set 'x2': case synthetic-0/0 is also one of the protocol's own" in said.stderr
    assert "fix: give it clips of its own: another `cases.first`" in said.stderr


# --- identity ---------------------------------------------------------------------------------------------------------


def test_one_hash_follows_what_moves_numbers_on_any_set() -> None:
    plain = loaded(*X2).hash
    moved = ("geometry.scale=1", "cases.first=2", "low.blur_sigma=[0,1]", "cases.limit=1")
    assert len({plain, loaded().hash, *(loaded(*X2, f"sets.x2.{one}").hash for one in moved)}) == 2 + len(moved)
    assert loaded(*X2, "sets.x2.title=Other words").hash == plain
    renamed = loaded("sets.twice.geometry.scale=2", "sets.twice.cases.first=1")
    assert renamed.hash != plain, "scores say which set by the cases alone, tables by its name"


# --- scenes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("split", "count"), [("test", 48), ("dev", 24)])
def test_scenes_are_the_held_out_ones_of_a_split(split: str, count: int) -> None:
    cases = loaded(f"cases={{set: scenes, split: {split}, per_source: 2}}", "sets=null").cases
    assert len(cases) == 2 * count and len({case.cluster for case in cases}) == count
    for case in cases:
        assert case.kind == "scenes" and case.source == case.cluster and case.prompt is not None
        scene = scenes.SCENES[int(case.cluster.removeprefix("scene-"))]
        assert scenes.parse(case.prompt.text) == scene and scenes.held_out(scene)
    assert {case.prompt.text for case in cases if case.prompt} == set(scenes.captions(split))


def test_few_scenes_are_spread_over_shapes() -> None:
    cases = loaded("cases={set: scenes, split: test, limit: 6}").cases
    shapes = [scenes.SCENES[int(case.cluster.removeprefix("scene-"))].shape for case in cases]
    assert sorted(shapes) == sorted(scenes.SHAPES * 2)


def test_metrics_of_attributes_and_of_pairs_go_with_scenes() -> None:
    lines = dry_run.dry_run(["enhancers"], Options(tier="smoke"))
    assert "  cases: 2 of scenes, 2 clips a row" in lines and any("row flashvideo_scenes: 5 frames" in x for x in lines)


# --- one's own weights ------------------------------------------------------------------------------------------------


def test_own_weights_are_a_row_of_every_set_with_such_rows(tmp_path: Path) -> None:
    (folder := tmp_path / "mine").mkdir()
    (folder / "diffusion_pytorch_model.safetensors").write_bytes(b"weights")
    protocol = loaded(*X2, name="enhancers")
    grown = with_weights(protocol, "flashvideo", folder)
    rows: dict[str, list[Any]] = {
        part.case_set: [v for v in part.variants if v.row == "weights=mine"] for part in grown.parts
    }
    assert {name: len(found) for name, found in rows.items()} == {"synthetic": 1, "x2": 1, "scenes": 1}
    settings = {name: found[0].settings for name, found in rows.items()}
    assert [settings[name]["nfe"] for name in rows] == [4, 2, 2], "as the baseline of each set"
    assert settings["x2"]["degradation_step"] == 100
    assert {one["training"] for one in settings.values()} == {"given-mine"}
    assert {part.hash for part in grown.parts} == {grown.hash} != {protocol.hash}
    assert all("given-mine" in part.recipes for part in grown.parts)
    vanilla = with_weights(loaded(name="nfe"), "l1", folder)
    assert [v.row for v in vanilla.variants][-1] == "weights=mine"
    without = loaded(*X2, "sets.x2.rows=[]", "sets.x2.controls=[bicubic]", "sets.x2.baseline=bicubic")
    assert [v.row for v in only(with_weights(without, "flashvideo", folder)).variants] == ["bicubic"]
