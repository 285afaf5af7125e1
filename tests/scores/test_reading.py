"""A table of scores by metric and by clip, and its columns in every form."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import made_videos as made
from support.scored_runs import LEVELS, scored

import flashbench
from flashbench import metrics, stats
from flashbench.checks.baseline import parse
from flashbench.errors import InvalidError, UsageError
from flashbench.scores.runs import read_run
from flashbench.scores.table import ADDED, COLUMNS, read_scores, to_csv, to_parquet

FAST = ["laplacian_variance", "temporal_flicker", "niqe_pooled"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four videos of three prompts, one of them twice, scored with --out."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(4):
        made.write(folder / f"{number}.mp4", made.frames(4, 96, 112, seed=number % 3))
    prompts = {f"{number}.mp4": ("a hill", "the sea", "a hill", "a road")[number] for number in range(4)}
    flashbench.score(folder, FAST, prompts, out=folder / "out", progress=False)
    return folder / "out"


def test_every_form_has_the_same_columns(run: Path) -> None:
    table = read_scores(run / "scores.parquet")
    written = pd.read_csv(run / "scores.csv", keep_default_na=False, na_values=["nan"])
    assert tuple(table.columns) == tuple(written.columns) == COLUMNS
    lists = ["per_frame", "statistics"]
    for name in lists:
        for text, numbers in zip(written[name], table[name], strict=True):
            assert np.float32(json.loads(text)).tolist() == np.float32(numbers).tolist()
    pd.testing.assert_frame_equal(written.drop(columns=lists), table.drop(columns=lists), check_exact=True)
    assert list(table["prompt"].unique()) == ["a hill", "the sea", "a road"]
    for name, unit, direction in table[["metric", "unit", "direction"]].drop_duplicates().to_numpy():
        assert (unit, direction) == (metrics.get(name).unit, metrics.get(name).direction)


def test_what_has_no_number_is_null_in_csv() -> None:
    table = scored("a", [1.0]).assign(per_frame=[[1.0, math.nan]], value=math.nan)
    (line,) = pd.read_csv(pd.io.common.StringIO(to_csv(table)), keep_default_na=False).to_dict("records")
    assert (line["per_frame"], line["value"], line["prompt"]) == ("[1.0, null]", "nan", "")


def test_files_from_before_are_read(tmp_path: Path) -> None:
    table = scored("a", LEVELS, "psnr").assign(prompt="", unit="dB", direction="higher")
    foreign = scored("a", LEVELS, "gone_since").assign(prompt="")
    both = pd.concat([table, foreign], ignore_index=True)
    read = pq.read_table(BytesIO(to_parquet(both, "hash")))
    before = read.drop_columns(list(ADDED)).cast(pa.schema([x for x in read.schema if x.name not in ADDED]))
    pq.write_table(before.replace_schema_metadata(read.schema.metadata), tmp_path / "scores.parquet")
    now = read_scores(tmp_path / "scores.parquet", "hash")
    pd.testing.assert_frame_equal(now, pd.read_parquet(BytesIO(to_parquet(both, "hash")))[list(COLUMNS)])
    assert dict(zip(now["metric"], now["unit"], strict=True)) == {"psnr": "dB", "gone_since": ""}
    assert tuple(read_run(tmp_path / "scores.parquet").table.columns) == COLUMNS
    parsed = parse((tmp_path / "scores.parquet").read_bytes(), "before")
    pd.testing.assert_frame_equal(parsed.table, now)


def test_a_summary_has_the_reports_intervals(run: Path) -> None:
    table = read_scores(run / "scores.parquet")
    lines = flashbench.summary(table).set_index("metric")
    assert list(lines.index) == FAST
    for name in FAST:
        # Videos 0 and 3 are one clip, and 0 and 2 of one prompt: two clusters are left.
        joined = table.assign(cluster=table["cluster"].replace("a road", "a hill"))
        found = stats.estimate(joined, metrics.get(name), table["row"].iloc[0])
        line = lines.loc[name]
        assert (line["n"], line["of"], line["clusters"]) == (4, 4, 2) == (found.n, found.of, found.clusters)
        assert line["value"] == found.value and line["unit"] == metrics.get(name).unit
        assert math.isnan(line["low"]) and line["reason"] == found.reason != ""


def test_a_summary_takes_metrics_that_no_name_stands_for() -> None:
    own = replace(metrics.get("psnr"), name="my_psnr", unit="mine")
    table = scored("a", LEVELS, "my_psnr")
    (line,) = flashbench.summary(table, [own]).to_dict("records")
    assert line["value"] == pytest.approx(np.mean(LEVELS)) and line["unit"] == "mine" and line["low"] < line["value"]
    with pytest.raises(UsageError, match="my_psnr"):
        flashbench.summary(table)


def test_wide_has_a_line_a_clip_and_a_column_a_metric(run: Path) -> None:
    table = read_scores(run / "scores.parquet")
    lines = flashbench.wide(table)
    assert list(lines.columns) == ["protocol", "row", "case", "cluster", "prompt", "seed", "replica", *FAST]
    assert list(lines["case"]) == ["0.mp4", "1.mp4", "2.mp4", "3.mp4"]
    for name in FAST:
        values = table[table["metric"] == name].set_index("case")["value"]
        np.testing.assert_array_equal(lines.set_index("case")[name], values[lines["case"]])
    few = flashbench.wide(table[(table["metric"] != FAST[0]) | (table["case"] == "1.mp4")])
    assert few[FAST[0]].isna().tolist() == [True, False, True, True]


def test_what_is_no_table_of_scores_is_refused(run: Path) -> None:
    table = read_scores(run / "scores.parquet")
    with pytest.raises(InvalidError, match=r"laplacian_variance of 0\.mp4"):
        flashbench.wide(pd.concat([table, table]))
    for shape in (flashbench.wide, flashbench.summary):
        with pytest.raises(InvalidError, match="no prompt, unit"):
            shape(table.drop(columns=["prompt", "unit"]))
