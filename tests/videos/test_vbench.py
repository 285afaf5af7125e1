"""VBench's results in and out of runs, and videos under its names, as the commands do it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
import pytest
from support import made_videos as made

from flashbench.errors import InvalidError, UsageError
from flashbench.reporting.document import markdown
from flashbench.scores import table
from flashbench.scores.table import read_scores, to_parquet
from flashbench.vbench import naming, results
from flashbench.vbench.dimensions import DIMENSIONS
from flashbench.videos import find, vbench

PROMPTS = ("a fox", "a dog - red", "rain")


def results_folder(root: Path, names: tuple[str, ...] = tuple(DIMENSIONS)) -> Path:
    root.mkdir(parents=True)
    for place, name in enumerate(names):
        videos = [
            {"video_path": f"samples/{prompt}-{index}.mp4", "video_results": 0.5 + 0.01 * place + 0.001 * (index + at)}
            for at, prompt in enumerate(PROMPTS)
            for index in range(2)
        ]
        overall = sum(video["video_results"] for video in videos) / len(videos)
        content = json.dumps({name: [overall, videos]}, indent=4)
        (root / f"results_2026-01-01-12:00:00_{name}_eval_results.json").write_text(content)
    return root


def test_import_export_import_is_lossless(tmp_path: Path) -> None:
    source = results_folder(tmp_path / "evaluation_results")
    vbench.bring(source, tmp_path / "one/run")
    path, lacking = vbench.send(tmp_path / "one/run", tmp_path / "submission.zip")
    assert lacking == []
    first, last = results.read(source), results.read(path)
    assert [(file.name, file.content) for file in first] == [(file.name, file.content) for file in last]
    vbench.bring(path, tmp_path / "two/run")
    for name in ("scores.parquet", *(f"vbench/{file.name}" for file in first)):
        assert (tmp_path / "one/run" / name).read_bytes() == (tmp_path / "two/run" / name).read_bytes()
    scores = read_scores(tmp_path / "one/run/scores.parquet")
    assert len(scores) == 16 * 6 and set(scores["cluster"]) == set(PROMPTS)


def test_totals_have_intervals_and_a_missing_dimension_is_no_zero(tmp_path: Path) -> None:
    whole = markdown(vbench.bring(results_folder(tmp_path / "whole")))
    total = next(line for line in whole.splitlines() if line.startswith("| total |"))
    assert "…" in total and "n/a" not in total and "96/96" in total
    lacking = markdown(vbench.bring(results_folder(tmp_path / "lacking", tuple(DIMENSIONS)[1:])))
    lines = {line.split("|")[1].strip(): line for line in lacking.splitlines() if line.startswith("|")}
    assert "n/a" in lines["total"] and "n/a" in lines["quality"] and "n/a" not in lines["semantic"]
    assert "no results of subject_consistency" in lacking


def test_our_own_scores_become_its_files(tmp_path: Path) -> None:
    shared = {
        "protocol": "adhoc/custom",
        "row": "clips",
        "replica": 0,
        "per_frame": [],
        "frames": 9,
        "clip": "",
        "key": "",
    }
    rows = [
        {**shared, "case": f"{prompt}-{i}.mp4", "cluster": prompt, "seed": i, "metric": metric, "value": value,
         "reason": "" if value == value else "no environment", "statistics": []}
        for prompt in PROMPTS for i in range(2)
        for metric, value in (("vbench:imaging_quality", 0.6 + 0.1 * i), ("vbench:scene", math.nan), ("niqe", 4.0))
    ]  # fmt: skip
    (run := tmp_path / "run").mkdir()
    (run / "scores.parquet").write_bytes(to_parquet(table.table(rows), "hash"))
    path, lacking = vbench.send(run, tmp_path / "out.zip")
    (file,) = results.read(path)
    assert set(file.content) == {"imaging_quality"}
    overall, videos = file.content["imaging_quality"]
    assert overall == pytest.approx(0.65) and len(videos) == 6
    assert "scene" in lacking[0] and "imaging_quality" not in lacking[0]
    assert set(vbench.of_scores(table.table(rows))) == {"vbench"}
    none = table.table(row for row in rows if row["metric"] == "niqe")
    assert vbench.of_scores(none) == {}
    with pytest.raises(InvalidError, match="no value of vbench:DIM"):
        vbench.as_files(none)


def test_videos_get_its_names_and_are_found_by_them(tmp_path: Path) -> None:
    (folder := tmp_path / "clips").mkdir()
    prompts = {"1.mkv": "a fox", "2.mkv": "A fox", "3.mkv": "rain / snow", "4.mkv": "naïve " + "x" * 260}
    for name in prompts:
        made.lossless(folder / name, made.frames(2))
    named = vbench.name([str(folder)], prompts, tmp_path / "named")
    assert [one.official for one in named] == [True, False, False, False]
    assert (tmp_path / "named/a fox-0.mp4").read_bytes() == (folder / "1.mkv").read_bytes()
    listed = {one.file: one.prompt for one in naming.read_manifest(tmp_path / "named/manifest.jsonl")}
    assert sorted(listed.values()) == sorted(prompts.values())
    videos, remarks = find.prompted(find.find([tmp_path / "named"]).videos, tmp_path / "named/manifest.jsonl")
    assert {video.case: video.prompt for video in videos} == listed and remarks == []
    with pytest.raises(UsageError, match="1 videos have no prompt, 2.mkv among them"):
        vbench.name([str(folder / "2.mkv")], {"1.mkv": "a fox"}, tmp_path / "other")
    assert isinstance(table.table([]), pd.DataFrame)


def test_official_long_totals_are_means_over_clips() -> None:
    shared = {"protocol": "p", "row": "r", "replica": 0, "frames": 9, "clip": "", "key": "", "reason": "", "seed": 0}
    rows = [
        {**shared, "case": f"{i}", "cluster": f"{i}", "metric": "vbench_long_official:temporal_flickering",
         "value": parts[0], "per_frame": parts if len(parts) > 1 else [], "statistics": [sum(parts), len(parts)]}
        for i, parts in enumerate(([0.9], [0.9], [0.9], [0.1] * 9))
    ]  # fmt: skip
    run = vbench.of_scores(table.table(rows))["vbench_long_official"]
    assert sum(row["value"] for row in run.rows) / len(run.rows) == pytest.approx(0.3)
    text = markdown(vbench.totals(run))
    assert "| temporal flickering | 30.00 |" in text and "12/12 | 4 |" in text


METRIC = "vbench:motion_smoothness"


def test_a_scored_run_keeps_its_prompts(tmp_path: Path) -> None:
    shared = {"protocol": "p", "row": "r", "replica": 0, "frames": 9, "clip": "", "key": "", "reason": ""}
    rows = [
        {**shared, "case": f"sub/vid{2 * at + i}.mp4", "cluster": prompt, "seed": 40 + i, "metric": METRIC,
         "value": 0.9, "per_frame": [], "statistics": []}
        for at, prompt in enumerate(PROMPTS) for i in range(2)
    ]  # fmt: skip
    rows.append({**rows[0], "case": "alone.mp4", "cluster": "alone.mp4"})
    (tmp_path / "run").mkdir()
    (tmp_path / "run/scores.parquet").write_bytes(to_parquet(table.table(rows), "hash"))
    assert "4 prompts" in markdown(vbench.bring(tmp_path / "run"))
    path, notes = vbench.send(tmp_path / "run", tmp_path / "out.zip")
    (file,) = results.read(path)
    paths = {video["video_path"] for video in file.content["motion_smoothness"][1]}
    assert paths == {f"{prompt}-{i}.mp4" for prompt in PROMPTS for i in range(2)} | {"alone.mp4"}
    assert notes[0] == "1 videos have no prompt (alone.mp4 among them) and go by their own names"
