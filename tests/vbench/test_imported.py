"""Imported runs of VBench: rows, totals with intervals, and videos under VBench's names."""

from __future__ import annotations

import errno
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flashbench import jackknife, stats
from flashbench.errors import InvalidError
from flashbench.vbench import dimensions, imported, naming, results
from flashbench.vbench.dimensions import DIMENSIONS
from flashbench.vbench.results import ResultFile

PROMPTS = ("a cat", "a dog - asleep", "v1.5 façade", "the last")


def entry(path: str, value: object) -> dict[str, object]:
    return {"video_path": path, "video_results": value}


def whole(seed: int = 0, drop: str = "") -> ResultFile:
    """A run in which every prompt serves every dimension twice."""
    rng, content = np.random.default_rng(seed), {}
    for name, one in DIMENSIONS.items():
        values = one.low + (one.high - one.low) * rng.uniform(0.2, 0.9, (len(PROMPTS), 2))
        videos = [entry(f"videos/{p}-{i}.mp4", values[g, i]) for g, p in enumerate(PROMPTS) for i in range(2)]
        if name != drop:
            content[name] = [float(values.mean()), videos]
    return ResultFile("run_eval_results.json", content)


def by_metric(found: list[imported.Total]) -> dict[str, imported.Total]:
    return {one.metric.removeprefix("vbench:"): one for one in found}


def test_rows() -> None:
    content: dict[str, Any] = {
        "scene": [0.5, [entry("x\\y/a dog - asleep-3.mp4", 0.25), entry("free name.mkv", "bad")]],
        "imaging_quality": [0.6, [entry("d/a cat-0.mp4", 61.5)]],
        "temporal_style": [0.2, [entry("s/a cat-1_002.mp4", 0.2), entry("s/a cat-1_full.mp4", 0.3)]],
    }
    run = imported.imported([ResultFile("a_eval_results.json", content)])
    assert [tuple(row.values())[:4] for row in run.rows] == [
        ("a cat-0", "a cat", 0, "vbench:imaging_quality"),
        ("a dog - asleep-3", "a dog - asleep", 3, "vbench:scene"),
        ("free name", "free name", 0, "vbench:scene"),
        ("a cat-1_002", "a cat", 1, "vbench:temporal_style"),
        ("a cat-1_full", "a cat", 1, "vbench:temporal_style"),
    ]
    assert [row["value"] for row in run.rows][:2] == [0.615, 0.25]
    assert math.isnan(run.rows[2]["value"]) and run.rows[2]["reason"] == "is 'bad', no number"
    assert run.overalls == {"scene": 0.5, "imaging_quality": 0.6, "temporal_style": 0.2}
    assert run.findings[0].startswith("no results of subject_consistency")


def test_one_video_twice() -> None:
    files = [ResultFile(f"{name}_eval_results.json", {"scene": [0.5, [entry("a-0.mp4", 0.5)]]}) for name in "ab"]
    assert len(imported.imported(files).rows) == 1
    nan = [ResultFile(f"{name}_eval_results.json", {"scene": [0.5, [entry("a-0.mp4", None)]]}) for name in "ab"]
    assert len(imported.imported(nan).rows) == 1
    files.append(ResultFile("c_eval_results.json", {"scene": [0.5, [entry("b/a-0.mp4", 0.6)]]}))
    with pytest.raises(InvalidError, match=r"two values of scene for b/a-0.mp4: 0.5 and 0.6"):
        imported.imported(files)


def test_totals_with_intervals_over_prompts() -> None:
    file = whole()
    found = by_metric(imported.totals(imported.imported([file]), stats.pooled))
    assert list(found) == [*dimensions.AGGREGATES, *DIMENSIONS]
    means = {name: value[0] for name, value in file.content.items()}
    for name, aggregate in dimensions.AGGREGATES.items():
        one = found[name]
        assert one.value == pytest.approx(aggregate(means)) == pytest.approx(one.official)
        assert one.low < one.value < one.high and one.reason == "" and one.clusters == 4
    assert (found["total"].n, found["quality"].n, found["semantic"].of) == (128, 56, 72)
    videos = [one["video_results"] for one in file.content["scene"][1]]
    of_prompts = np.array(videos).reshape(4, 2).mean(axis=1)
    low, high, _ = jackknife.interval(of_prompts)
    scene = found["scene"]
    assert (scene.value, scene.low, scene.high) == pytest.approx((of_prompts.mean(), low, high))


def test_a_prompt_that_serves_other_dimensions_is_no_unit() -> None:
    file = whole()
    alone = by_metric(imported.totals(imported.imported([file]), stats.pooled))["scene"]
    content = {**file.content, "color": [0.5, [entry(f"other {i}-0.mp4", 0.5) for i in range(9)]]}
    both = by_metric(imported.totals(imported.imported([ResultFile(file.name, content)]), stats.pooled))
    assert both["scene"] == alone and both["total"].clusters == 13


def test_a_missing_dimension_is_never_0() -> None:
    found = by_metric(imported.totals(imported.imported([whole(drop="color")]), stats.pooled))
    for name in ("total", "semantic", "color"):
        one = found[name]
        assert math.isnan(one.value) and math.isnan(one.official) and one.reason == "no results of color", one
    assert found["quality"].value > 0 and found["quality"].reason == ""


def test_an_overall_alone_and_values_that_are_none() -> None:
    file = whole()
    content = dict(file.content) | {"color": [0.7], "scene": [0.5, [*file.content["scene"][1][:-1], entry("b-0", 3)]]}
    found = by_metric(imported.totals(imported.imported([ResultFile(file.name, content)]), stats.pooled))
    assert math.isnan(found["color"].value) and found["color"].official == 0.7
    assert found["color"].reason == found["total"].reason.split("; ")[0] == "only an overall, no videos, of color"
    assert found["scene"].reason == "1 of 8 values missing: is 3, outside 0 … 1" and found["scene"].n == 7
    assert found["total"].official == pytest.approx(
        dimensions.total({name: value[0] for name, value in content.items()})
    )


def test_two_prompts_have_no_interval() -> None:
    videos = [entry(f"{p}-0.mp4", 0.5) for p in PROMPTS[:2]]
    run = imported.imported([ResultFile("a_eval_results.json", {"scene": [0.5, videos]})])
    scene = by_metric(imported.totals(run, stats.pooled))["scene"]
    assert scene.value == 0.5 and math.isnan(scene.low) and scene.reason == "an interval needs 3 clusters, here 2"


def test_import_export_import_keeps_rows_and_totals(tmp_path: Path) -> None:
    first = [whole(1)]
    again = results.read(results.export(first, tmp_path / "x.zip"))
    assert imported.imported(again) == imported.imported(first)
    assert imported.totals(imported.imported(again), stats.pooled) == imported.totals(
        imported.imported(first), stats.pooled
    )


# --- videos -----------------------------------------------------------------------------------------------------


@pytest.fixture
def videos(tmp_path: Path) -> list[Path]:
    made = [tmp_path / f"{n}.mkv" for n in range(4)]
    for n, path in enumerate(made):
        path.write_bytes(bytes([n]))
    return made


def test_videos_get_vbenchs_names(tmp_path: Path, videos: list[Path]) -> None:
    prompts = ["a cat", "A CAT", "x" * 300, "a/b"]
    out = tmp_path / "new" / "out"
    named = imported.name_videos([(file, prompt, 0) for file, prompt in zip(videos, prompts, strict=True)], out)
    assert named[0].file == "a cat-0.mp4" and [one.official for one in named] == [True, False, False, False]
    assert [(out / one.file).read_bytes() for one in named] == [bytes([n]) for n in range(4)]
    assert os.path.samefile(out / "a cat-0.mp4", videos[0]), "a hard link"
    matched = naming.match([one.file for one in named], prompts, naming.read_manifest(out / imported.MANIFEST))
    assert {prompt for prompt, _ in matched.found.values()} == set(prompts) and not matched.unknown


def test_nothing_is_overwritten(tmp_path: Path, videos: list[Path]) -> None:
    samples = [(videos[0], "a cat", 0), (videos[1], "a dog", 0)]
    (out := tmp_path / "out").mkdir()
    for taken in ("a dog-0.mp4", imported.MANIFEST):
        (out / taken).write_text("mine")
        with pytest.raises(InvalidError, match="is there already"):
            imported.name_videos(samples, out)
        assert [(path.name, path.read_text()) for path in out.iterdir()] == [(taken, "mine")], "nothing was begun"
        (out / taken).unlink()
    with pytest.raises(InvalidError, match="no file"):
        imported.name_videos([(tmp_path / "absent.mp4", "a", 0)], out)
    (tmp_path / "x.gif").touch()
    with pytest.raises(InvalidError, match="is a GIF"):
        imported.name_videos([(tmp_path / "x.gif", "a", 0)], out)
    with pytest.raises(InvalidError, match="cannot write into"):
        imported.name_videos(samples, videos[0] / "below a file")


def test_a_copy_where_there_are_no_links(tmp_path: Path, videos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    (one,) = imported.name_videos([(videos[3], "a cat", 2)], tmp_path / "out")
    assert (tmp_path / "out" / one.file).read_bytes() == b"\x03"
    assert json.loads((tmp_path / "out" / imported.MANIFEST).read_text())["index"] == 2
