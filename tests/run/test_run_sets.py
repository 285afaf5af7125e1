"""Further sets of cases through a whole run: clips, keys, inputs, tables, contact sheet, show, audit, gate, limit."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from support import smoke
from support.made_textures import picture, textures

from flashbench import metrics, systems
from flashbench.assets import registry
from flashbench.checks.audit import audit_results
from flashbench.checks.gate import gate
from flashbench.checks.show import describe
from flashbench.data import material, scene_clips, scenes, synthetic
from flashbench.data.scene_clips import scene_clip
from flashbench.errors import InvalidError, UsageError
from flashbench.metrics.base import measure
from flashbench.planning import plan
from flashbench.protocol.compose import load_protocol, trials
from flashbench.protocol.types import Trial
from flashbench.reporting.contact import ABSENT
from flashbench.reporting.document import markdown
from flashbench.run import inputs as run_inputs
from flashbench.run.declared import declared
from flashbench.run.files import read_manifest
from flashbench.run.identity import clip_key
from flashbench.run.options import Options
from flashbench.run.phases import run_protocols
from flashbench.run.score import numerics
from flashbench.scores.table import read_scores, to_parquet
from flashbench.store import Store
from flashbench.systems import inputs
from flashbench.systems.base import Request, reference_of
from flashbench.types import Case, Clip, Geometry

__all__ = ["textures"]
SIZE = Geometry(frames=5, height=64, width=64, fps=Fraction(8))
ATTRIBUTES = ("attribute_color", "attribute_shape", "attribute_motion", "attribute_background", "single_object")


def request(case: Case, geometry: Geometry = SIZE) -> Request:
    return Request(case=case, settings={}, geometry=geometry, reference=None, models={})


def original(case: Case, geometry: Geometry = SIZE) -> Clip:
    return systems.get("original").make(request(case, geometry))


def cases(fields: str) -> tuple[Case, ...]:
    return load_protocol("nfe", tier="smoke", overrides=[f"cases={{{fields}}}"]).cases


# --- what a case is made from -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("textures")
def test_the_original_of_a_scene_is_its_clip() -> None:
    for case in cases("set: scenes, split: dev, limit: 2, per_source: 2, first: 3"):
        number, index = (int(part) for part in case.id.removeprefix("scene-").split("/"))
        expected = scene_clip(scenes.SCENES[number], index, 5, 64, 64)
        assert index in (3, 4) and np.array_equal(original(case).frames, expected)
        made = replace(request(case), reference=original(case))
        assert reference_of(made).digest == original(case).digest
        assert inputs.low(made).shape == (5, 16, 16, 3), "the low-quality input is made as of material"


@pytest.mark.usefixtures("textures")
def test_attributes_are_read_back_right_on_every_scene() -> None:
    chosen = [metrics.get(name) for name in ATTRIBUTES]
    found = []
    for case in cases("set: scenes, split: test"):
        assert case.prompt is not None
        found.append([one.value for one in measure(chosen, original(case), prompt=case.prompt.original)])
    shares = dict(zip(ATTRIBUTES, np.mean(found, axis=0), strict=True))
    assert len(found) == 48 and min(shares.values()) >= 0.95, shares


@pytest.mark.usefixtures("textures")
def test_material_of_another_number_and_scale() -> None:
    (case,) = cases("set: material, split: test, limit: 1, first: 1")
    assert case.id == f"{case.source}/1"
    twice = replace(SIZE, scale=2)
    expected = material.case_clip(material.source(str(case.source)), 1, 5, 64, 64)
    made = replace(request(case, twice), reference=original(case, twice))
    assert reference_of(made).digest == expected.digest and inputs.low(made).shape == (5, 32, 32, 3)


def test_procedural_clips_of_other_numbers_are_others() -> None:
    first, second = (original(case) for case in cases("set: synthetic, count: 1, per_source: 2"))
    assert np.array_equal(first.frames, synthetic.synthetic_clip(5, 64, 64, 0))
    assert first.digest != second.digest
    shifted = cases("set: synthetic, count: 1, first: 1")
    assert [case.id for case in shifted] == ["synthetic-0/1"] and original(shifted[0]).digest == second.digest


def test_a_source_of_material_is_not_called_as_what_is_made_without_one(tmp_path: Path) -> None:
    (file := tmp_path / "sources.yaml").write_text(
        "sources: [{id: scene-3, split: dev, asset: a, kind: image, package: p, member: m, licence: l, caption: c}]"
    )
    with pytest.raises(UsageError, match="source 'scene-3': clips that are made without a source are called so"):
        material.read_sources(file)


def test_a_prompt_has_no_original() -> None:
    with pytest.raises(InvalidError, match="has no original clip") as caught:
        reference_of(request(Case(id="p", cluster="p", seed=0)))
    assert "scenes" in caught.value.fix


# --- keys and inputs --------------------------------------------------------------------------------------------------


def key(case: Case, geometry: Geometry = SIZE) -> str:
    variant = load_protocol("nfe", tier="smoke").variants[-6]
    assert variant.row == "original"
    trial = Trial(variant=variant, case=case, geometry=geometry)
    return clip_key(trial, store=Store(), models={}, given=None, numerics="")


def test_the_key_of_a_scene_holds_its_photograph_and_the_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = cases("set: scenes, split: test, limit: 2")
    number = int(first.cluster.removeprefix("scene-"))
    plain = key(first)
    assert len({plain, key(second), key(first, replace(SIZE, scale=2)), key(replace(first, id="scene-1/1"))}) == 4
    with monkeypatch.context() as patch:
        patch.setattr(scenes, "VERSION", 1000)
        assert key(first) != plain
    with monkeypatch.context() as patch:
        patch.setattr(material, "VERSION", 1000)
        assert key(first) != plain
    whole = material.source_hash
    behind = scenes.BACKGROUNDS[scenes.SCENES[number].background][0]
    for changed, moves in ((behind, True), ("cat", False)):
        with monkeypatch.context() as patch:
            patch.setattr(material, "source_hash", lambda name, changed=changed: whole(name) + "x" * (name == changed))
            assert (key(first) != plain) == moves, changed


def fetched(monkeypatch: pytest.MonkeyPatch, name: str, tier: str, *overrides: str) -> set[str]:
    """Assets of material that a run of the protocol would pull on a machine that has none."""
    pulled: set[str] = set()
    with monkeypatch.context() as patch:
        patch.setattr(registry, "present", lambda _: False)
        patch.setattr(registry, "pull", lambda names, **_: pulled.update(names))
        run_inputs.ensure_assets([load_protocol(name, tier=tier, overrides=overrides)], material=True)
    return {asset for asset in pulled if asset.startswith("material/")}


def test_a_run_fetches_the_photographs_behind_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    behind = {material.source(name).asset for name, _ in scenes.BACKGROUNDS.values()}
    assert fetched(monkeypatch, "enhancers", "smoke") == behind and len(behind) == 4
    assert fetched(monkeypatch, "enhancers", "smoke", "sets=null") == set()
    assert fetched(monkeypatch, "stages", "smoke") == behind, "Stage I's recipe reads them"
    assert fetched(monkeypatch, "enhancers", "smoke", "recipes.pool.material=scenes", "sets=null") == behind
    everything = {source.asset for source in material.read_sources()}
    assert fetched(monkeypatch, "nfe", "laptop") == everything
    assert fetched(monkeypatch, "nfe", "smoke", "recipes.pool.material=sources+scenes") == everything


# --- a whole run ------------------------------------------------------------------------------------------------------

# Rows that need no model: seconds without torch's networks.
OVERRIDES = (
    "rows=[]", "controls=[original,bicubic]", "baseline=bicubic", "metrics=[psnr,sharpness]", "primary=[psnr]",
    "sets.x2.rows=[]", "sets.x2.baseline=bicubic", "sets.scenes.rows=[]", "sets.scenes.baseline=bicubic",
    "sets.scenes.metrics=[psnr,attribute_color]",
)  # fmt: skip
RESULTS = Path("results/smoke")
OPTIONS = Options(tier="smoke", workers=0, overrides=OVERRIDES, results=RESULTS)


@pytest.fixture(scope="module")
def drawn() -> Iterator[None]:
    """Scenes are drawn over the stand-ins, and nothing is fetched, as long as the tests of this file run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(material, "picture", picture)
        patch.setattr(run_inputs, "_fetch", lambda _: None)
        scene_clips._texture.cache_clear()
        yield
    scene_clips._texture.cache_clear()


@pytest.fixture(scope="module")
def done(drawn: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets")
    with smoke.inside(folder):
        run_protocols(["enhancers"], options=OPTIONS)
    return folder


@pytest.fixture
def here(done: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in smoke.environment(done).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(done)
    return done


def scores_of(folder: Path) -> pd.DataFrame:
    return read_scores(folder / "enhancers" / "scores.parquet")


@pytest.mark.usefixtures("here")
def test_every_set_is_made_scored_and_shown() -> None:
    scores = scores_of(RESULTS)
    rows = {"": {"original", "bicubic"}, "x2": {"original", "bicubic", "bicubic_back_projection"}}
    for case, found in scores.groupby("case"):
        assert set(found["row"]) == rows["x2" if str(case).endswith("/1") else ""]
    attribute = scores[scores["metric"] == "attribute_color"]
    assert set(attribute["cluster"].str.partition("-")[0]) == {"scene"} and (attribute["value"] == 1).all()
    psnr = scores[(scores["metric"] == "psnr") & (scores["row"] == "bicubic")].set_index("case")["value"]
    assert psnr["synthetic-0/1"] > psnr["synthetic-0/0"], "enlarged by two, not by four"
    text = (RESULTS / "tables/enhancers.md").read_text("utf-8")
    assert [one for one in text.splitlines() if one.startswith("## ") and "Published" not in one] == [
        "## Enlarging twice", "## Captioned scenes",
    ]  # fmt: skip
    table = pd.read_csv(RESULTS / "tables/enhancers.csv")
    assert list(table["cases"].unique()) == ["synthetic", "x2", "scenes"]


@pytest.mark.usefixtures("here")
def test_the_contact_sheet_has_every_set_at_native_pixels() -> None:
    sheet = cv2.imread(str(RESULTS / "enhancers/contact.png"))
    assert sheet is not None
    store, top = Store(), 0
    for case, row in (
        ("synthetic-0/0", "original"), ("synthetic-0/1", "original"), ("synthetic-1/1", "bicubic_back_projection"),
    ):  # fmt: skip
        lines = read_manifest(RESULTS / "enhancers/clips.jsonl")
        (line,) = [one for one in lines if (one["case"], one["row"]) == (case, row)]
        frame = np.ascontiguousarray(store.clip(line["key"]).frames[2][:, :, ::-1])
        left, at = cv2.minMaxLoc(cv2.matchTemplate(sheet, frame, cv2.TM_SQDIFF))[2]
        np.testing.assert_array_equal(sheet[at : at + 96, left : left + 192], frame)
        assert at > top, "further sets below the own cases"
        top = at
    assert not (sheet == ABSENT).all(axis=2).sum() > 1000, "every row of a set has its clips"


@pytest.mark.usefixtures("here")
def test_show_names_the_set_and_its_command_makes_its_clips_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    document, commands = describe("enhancers/bicubic", OPTIONS)
    text = markdown(document)
    heads = [one for one in text.splitlines() if one.startswith("## On")]
    assert heads == [
        "## On synthetic: Enhancers, Table 3 of the paper", "## On x2: Enlarging twice",
        "## On scenes: Captioned scenes",
    ]  # fmt: skip
    _, (again,) = describe("enhancers/bicubic_back_projection", OPTIONS)
    words = shlex.split(again)
    cut = tuple(words[at + 1] for at, word in enumerate(words) if word == "-S")
    own = Options(tier="smoke", overrides=cut).protocol("enhancers")
    whole = [one for one in trials(OPTIONS.protocol("enhancers")) if one.variant.row == "bicubic_back_projection"]
    assert trials(own) == whole and len(whole) == 2 and len(commands) == 3
    made = {line["key"]: line["digest"] for line in read_manifest(RESULTS / "enhancers/clips.jsonl")
            if line["row"] == "bicubic_back_projection"}  # fmt: skip
    monkeypatch.setenv("FLASHBENCH_STORE", "empty")
    run_protocols(["enhancers"], ("generate",), replace(OPTIONS, overrides=cut, results=Path("again")))
    assert {one: Store().clip(one).digest for one in made} == made
    assert len(list(Store().root.rglob("clip.mkv"))) == 4, "and the two originals"


@pytest.mark.usefixtures("here")
def test_audit_checks_every_set(tmp_path: Path) -> None:
    assert audit_results(["enhancers"], OPTIONS, clips=True) == []
    shutil.copytree(RESULTS, tmp_path / "forged")
    scores = scores_of(RESULTS)
    at = (scores["case"] == "scene-29/0") & (scores["row"] == "bicubic") & (scores["metric"] == "psnr")
    assert at.sum() == 1
    scores.loc[at, "value"] += 1
    digest = OPTIONS.protocol("enhancers").hash
    (tmp_path / "forged/enhancers/scores.parquet").write_bytes(to_parquet(scores, digest))
    lines = read_manifest(RESULTS / "enhancers/clips.jsonl")
    swapped = [one | {"system": "unsharp"} if one["case"] == "synthetic-0/1" else one for one in lines]
    content = "".join(json.dumps(one) + "\n" for one in swapped)
    (tmp_path / "forged/enhancers/clips.jsonl").write_text(content, encoding="utf-8")
    findings = audit_results(["enhancers"], replace(OPTIONS, results=tmp_path / "forged"))
    assert any("bicubic · scene-29/0" in one and "value differs" in one for one in findings)
    assert sum("synthetic-0/1" in one and "not those of the protocol's row" in one for one in findings) == 3


@pytest.mark.usefixtures("here")
def test_the_gate_names_the_set_that_moved(tmp_path: Path) -> None:
    shutil.copytree(RESULTS, tmp_path / "moved")
    scores = scores_of(RESULTS)
    at = (scores["case"] == "synthetic-1/1") & (scores["row"] == "bicubic") & (scores["metric"] == "sharpness")
    scores.loc[at, "value"] += 1e-6
    protocol = OPTIONS.protocol("enhancers")
    classes = numerics(protocol, read_manifest(RESULTS / "enhancers/clips.jsonl"))
    content = to_parquet(scores, protocol.hash, classes, declared(protocol, [0]))
    (tmp_path / "moved/enhancers/scores.parquet").write_bytes(content)
    assert gate(str(RESULTS), OPTIONS, names=["enhancers"]).code == 0
    verdict = gate(str(RESULTS), replace(OPTIONS, results=tmp_path / "moved"), names=["enhancers"])
    (finding,) = verdict.findings
    assert verdict.code == 1 and (finding.cases, finding.row, finding.metric) == ("x2", "bicubic", "sharpness")


@pytest.mark.usefixtures("here")
def test_plan_counts_the_clips_of_every_set() -> None:
    text = plan.describe("enhancers", OPTIONS)
    assert "row bicubic, on x2: 2 of 2 clips are there" in text and "row bicubic, on scenes: 2 of 2 clips" in text
    assert "16 clips: 16 are there, 0 to be made" in text
    assert "2 clusters (scenes) resolve nothing" in text


@pytest.mark.usefixtures("here")
def test_a_limit_cuts_every_set() -> None:
    run_protocols(["enhancers"], options=replace(OPTIONS, limit=1, results=Path("limited")))
    found: dict[str, Any] = scores_of(Path("limited")).groupby("cluster")["case"].unique().map(list).to_dict()
    assert found == {
        "synthetic-0": ["synthetic-0/0", "synthetic-0/1"], "scene-153": ["scene-153/0"],
    }  # fmt: skip
