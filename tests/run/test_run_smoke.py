"""The whole flow at the smoke tier: everything is made once, shared, and made again byte for byte."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from support import smoke

from flashbench import metrics
from flashbench.errors import InvalidError
from flashbench.protocol.compose import load_protocol

METRICS = len(load_protocol("nfe", tier="smoke").metrics)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("smoke")
    smoke.run(folder, "nfe")
    return folder


def _made(text: str) -> dict[str, int]:
    return {what: int(count) for count, what in re.findall(r"made (\d+) (clips|scores)", text)}


def test_every_file_is_there(done: Path) -> None:
    names = set(smoke.results(done))
    assert {f"smoke/tables/nfe.{kind}" for kind in ("md", "csv", "tex")} <= names
    assert {"smoke/figures/nfe.svg", "smoke/nfe/scores.parquet", "smoke/nfe/clips.jsonl"} <= names
    assert (done / "results/smoke/nfe/contact.png").read_bytes()[:4] == b"\x89PNG"


def test_every_trial_and_metric_has_a_row(done: Path) -> None:
    scores = pd.read_parquet(done / "results/smoke/nfe/scores.parquet")
    assert len(scores) == 8 * 3 * METRICS and not scores.duplicated(["row", "case", "seed", "replica", "metric"]).any()
    assert ((scores["value"].notna()) | (scores["reason"] != "")).all()
    psnr = scores[scores["metric"] == "psnr"].set_index(["row", "case"])["value"]
    assert psnr["original"].isna().all(), "equal clips have no finite PSNR"
    assert (psnr["codec"] > psnr["noise"]).all()


def test_evaluations_are_the_counted_ones(done: Path) -> None:
    lines = pd.read_json(done / "results/smoke/nfe/clips.jsonl", lines=True)
    counted = lines.groupby("row")["evaluations"].unique().map(list).to_dict()
    assert counted["nfe=1"] == [1] and counted["nfe=4"] == [4] and counted["bicubic"] == [0] and counted["l1"] == [1]


def test_a_second_run_makes_nothing_and_writes_the_same(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = smoke.results(done)
    smoke.run(done, "nfe")
    text = capsys.readouterr().err
    assert _made(text) == {"clips": 0, "scores": 0} and "built 0 models" in text
    assert smoke.results(done) == before


def test_a_metric_that_fails_costs_its_own_rows_only(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(type(metrics.get("psnr")), "compare", lambda *_: 1 / 0)
        with pytest.raises(InvalidError, match="scores are missing, because a metric failed: .*psnr failed: ZeroDiv"):
            smoke.run(done, "nfe", fresh=True, results=Path("failing"))
    scores = pd.read_parquet(done / "failing/nfe/scores.parquet")
    lost = scores["reason"].str.startswith("failed: ZeroDivisionError")
    assert lost.sum() > 20 and set(scores[lost]["metric"]) == {"psnr"}
    before = pd.read_parquet(done / "results/smoke/nfe/scores.parquet")
    assert scores[~lost]["value"].equals(before[~lost]["value"]) and (done / "failing/tables/nfe.md").exists()
    smoke.run(done, "nfe", results=Path("failing"))
    assert (done / "failing/nfe/scores.parquet").read_bytes() == smoke.results(done)["smoke/nfe/scores.parquet"]


def test_one_more_value_makes_only_its_clips(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    smoke.run(done, "nfe", overrides=("rows=[{nfe: [1, 2, 4]}]",), results=Path("wider"))
    text = capsys.readouterr().err
    assert _made(text) == {"clips": 3, "scores": 3 * METRICS} and "built 0 models" in text


def test_protocols_share_clips_and_trainings(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    smoke.run(done, "degradation", results=Path("other"))
    text = capsys.readouterr().err
    assert _made(text)["clips"] == 2 * 3, "only the rows trained on pixels and on nothing are new"
    assert "built 2 models" in text


@pytest.mark.slow
def test_an_empty_store_and_other_processes_give_the_same_bytes(done: Path, tmp_path: Path) -> None:
    smoke.flashbench(tmp_path, "run", "nfe", "--tier", "smoke", "--workers", "2")
    assert smoke.results(done) == smoke.results(tmp_path)


def test_claims_and_metrics_follow(done: Path) -> None:
    smoke.claims(done)
    assert "# Claims, smoke tier" in (done / "results/smoke/claims.md").read_text()
    metrics = json.loads((done / "results/smoke/metrics.json").read_text())
    assert metrics["smoke"]["nfe"]["nfe=4"]["psnr"] > 0
    for name in ("claims.md", "metrics.json"):
        (done / "results/smoke" / name).unlink()
