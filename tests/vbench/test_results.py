"""VBench's result files: lossless, and never believed blindly."""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashbench.errors import InvalidError
from flashbench.vbench import results
from flashbench.vbench.dimensions import DIMENSIONS
from flashbench.vbench.results import ResultFile

NAME = "results_2026-01-31-12:30:59_eval_results.json"


def entry(path: str, value: object, **more: object) -> dict[str, object]:
    return {"video_path": path, "video_results": value, **more}


CONTENT = {
    "subject_consistency": [0.1 + 0.2, [entry("v/a dog-0.mp4", 0.9123456789012345), entry("b", 10.98, cnt=11)]],
    "imaging_quality": [0.6686933368155237, [entry("a", 56.49358892440796), entry("b", 0.66), entry("c", 101)]],
    "dynamic_degree": [0.5, [entry("a", True), entry("b", False)]],
    "motion_smoothness": [math.nan, []],
    "human action": ["0.25", [entry("a", "0.5"), entry("b", "n/a"), entry("c", None), entry("d", [1])]],
    "color": [1e-300, [entry("façade-0.mp4", -0.02, frame_results=[1.5, None, "x", {"y": 5e-324}])], "more"],
    "scene": [0.4],
}


def put(folder: Path, content: object, name: str = NAME) -> Path:
    (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder / name


def same(a: object, b: object) -> bool:
    """Equality of JSON data in which NaN equals NaN and 1, 1.0 and true differ."""
    return repr(a) == repr(b)


def test_import_export_import_is_lossless(tmp_path: Path) -> None:
    put(tmp_path, CONTENT)
    put(tmp_path, {"appearance_style": [0.2, []]}, "b_eval_results.json")
    put(tmp_path, [1], "b_full_info.json")
    first = results.read(tmp_path)
    assert [file.name for file in first] == ["b_eval_results.json", NAME]
    packed = results.export(first, tmp_path / "one.zip")
    second = results.read(packed)
    assert same(first, second)
    assert same(second[1].content, CONTENT)
    assert results.export(second, tmp_path / "two.zip").read_bytes() == packed.read_bytes()


def test_the_submission_has_the_json_files_at_its_top_level(tmp_path: Path) -> None:
    put(tmp_path, CONTENT)
    packed = results.export(results.read(tmp_path), tmp_path / "out.zip")
    with zipfile.ZipFile(packed) as archive:
        assert archive.namelist() == [NAME]
        assert archive.read(NAME).decode().startswith('{\n    "subject_consistency": [\n        0.30000000000000004,')
        assert archive.testzip() is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True, allow_infinity=True) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(sorted(DIMENSIONS)), st.lists(json_values, min_size=1, max_size=3)))
def test_any_content_survives(tmp_path_factory: pytest.TempPathFactory, content: dict[str, list[object]]) -> None:
    path = tmp_path_factory.mktemp("r") / "out.zip"
    file = ResultFile(NAME, content)
    (back,) = results.read(results.export([file], path))
    assert same(back, file)
    results.overalls([back])


def test_overalls_with_what_is_wrong(tmp_path: Path) -> None:
    found, findings = results.overalls(results.read(put(tmp_path, CONTENT)))
    assert found["subject_consistency"] == 0.1 + 0.2
    assert found["human_action"] == 0.25
    assert math.isnan(found["motion_smoothness"]) and set(found) == {key.replace(" ", "_") for key in CONTENT}
    assert (
        findings[0] == f"{NAME}: the overall of motion_smoothness is NaN: VBench found no video, or could not read it"
    )
    assert findings[1].startswith("no results of background_consistency, temporal_flickering,")


def test_two_files_that_disagree(tmp_path: Path) -> None:
    for name, value in (("a", 0.5), ("b", 0.5), ("c", 0.6)):
        put(tmp_path, {"scene": [value, []]}, f"{name}_eval_results.json")
    files = results.read(tmp_path)
    assert results.overalls(files[:2])[0] == {"scene": 0.5}
    found, findings = results.overalls(files)
    assert math.isnan(found["scene"]) and findings[0].startswith("c_eval_results.json: another overall of scene")


def test_scores_of_videos(tmp_path: Path) -> None:
    found = {(one.dimension, one.path): one for one in results.scores(results.read(put(tmp_path, CONTENT)))}
    value = {key: one.value for key, one in found.items()}
    assert value["subject_consistency", "v/a dog-0.mp4"] == 0.9123456789012345
    assert found["subject_consistency", "b"].reason == "is 10.98, outside 0 … 1"
    assert value["imaging_quality", "a"] == pytest.approx(0.5649358892440796)
    assert value["imaging_quality", "b"] == 0.66
    assert math.isnan(value["imaging_quality", "c"])
    assert (value["dynamic_degree", "a"], value["dynamic_degree", "b"]) == (1, 0)
    assert value["human_action", "a"] == 0.5
    assert found["human_action", "b"].reason == "is 'n/a', no number"
    assert found["human_action", "c"].reason == "is absent"
    assert found["human_action", "d"].reason == "is list, no number"
    assert value["color", "façade-0.mp4"] == -0.02
    assert all(math.isnan(one.value) == bool(one.reason) for one in found.values())


def test_numbers_too_large_for_a_float() -> None:
    value, reason = results.number(10**400)
    assert math.isnan(value) and reason == "is too large"
    value, reason = results.number(math.inf)
    assert math.isnan(value) and "outside" in reason


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("[1]", "not a mapping"),
        ("{", "is not JSON"),
        ('{"scene": [0.1, []], "scene": [0.2, []]}', "a key is there twice"),
        ('{"scene": 0.4}', "not a list with an overall"),
        ('{"scene": []}', "not a list with an overall"),
        ('{"sceen": [0.4, []]}', "unknown VBench dimension 'sceen'"),
        ('{"scene": ' + "[" * 100_000, "is not JSON"),
    ],
)
def test_files_that_are_no_results(tmp_path: Path, data: str, why: str) -> None:
    path = tmp_path / NAME
    path.write_text(data)
    with pytest.raises(InvalidError, match=why) as caught:
        results.read(path)
    assert NAME in str(caught.value)


def test_an_entry_without_a_path(tmp_path: Path) -> None:
    files = results.read(put(tmp_path, {"scene": [0.4, [{"video_results": 1}]]}))
    with pytest.raises(InvalidError, match="entry 0 of scene has no video_path"):
        results.scores(files)


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="holds no"):
        results.read(tmp_path)
    with pytest.raises(InvalidError, match="cannot read"):
        results.read(tmp_path / "absent")


def test_archives_that_lie(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    data = json.dumps({"scene": [0.5, []]})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../up_eval_results.json", data)
        archive.writestr("__MACOSX/._up_eval_results.json", b"\0")
        archive.writestr("notes.txt", "x")
    assert [file.name for file in results.read(path)] == ["up_eval_results.json"], "read in memory, under its last name"
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("other/up_eval_results.json", data)
    with pytest.raises(InvalidError, match="twice"):
        results.read(path)
    broken = bytearray(path.read_bytes())
    broken[40] ^= 0xFF
    path.write_bytes(broken)
    with pytest.raises(InvalidError, match="cannot be unpacked|twice|is not JSON"):
        results.read(path)


@pytest.mark.parametrize(
    "name", ["../x_eval_results.json", "a/b_eval_results.json", "a\\b_eval_results.json", "x.json"]
)
def test_names_that_leave_the_archive_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidError, match="invalid name"):
        results.export([ResultFile(name, {})], tmp_path / "out.zip")
    assert not list(tmp_path.iterdir())


def test_an_archive_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="cannot write"):
        results.export([ResultFile(NAME, {})], tmp_path / "absent" / "out.zip")
    with pytest.raises(InvalidError, match="one name"):
        results.export([ResultFile(NAME, {}), ResultFile(NAME, {})], tmp_path / "out.zip")
