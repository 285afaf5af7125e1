"""`flashbench gate` on real clips of the smoke tier: every change of one fails it, an identical rerun passes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from support import gated, made_videos, smoke
from support.gated import BASELINE, RESULTS, judge, keep, options

from flashbench import keys, video
from flashbench.checks.gate_report import blocks
from flashbench.engine import LocalEngine
from flashbench.protocol.compose import trials
from flashbench.reporting.document import markdown
from flashbench.run import generate
from flashbench.run.files import read_manifest
from flashbench.run.phases import run_protocols
from flashbench.run.score import score
from flashbench.scores.table import read_scores
from flashbench.store import Store
from flashbench.systems import inputs
from flashbench.types import Clip

pytestmark = pytest.mark.slow  # the rules have fast tests of their own: test_gate_rules.py
Line = dict[str, Any]


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("honest")
    with smoke.inside(folder):
        run_protocols(["nfe"], ("train", "generate", "score"), options())
    return folder


@pytest.fixture(autouse=True)
def _inside(honest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in smoke.environment(honest).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(honest)
    gated.quick(monkeypatch)


def lines() -> list[Line]:
    return read_manifest(RESULTS / "nfe/clips.jsonl")


def rescored(manifest: list[Line], folder: Path) -> Path:
    """Results of a manifest's clips, scored by the real metrics."""
    with LocalEngine(workers=0) as engine:
        table, _ = score(options().protocol("nfe"), manifest, store=Store(), engine=engine)
        return keep(table, folder)


def remade(**settings: int) -> Callable[[Line], Clip]:
    """The line's clip as the system makes it under other settings."""

    def change(line: Line) -> Clip:
        protocol, store = options().protocol("nfe"), Store()
        trial = next(t for t in trials(protocol) if (t.variant.row, t.case.id) == (line["row"], line["case"]))
        variant = replace(trial.variant, settings={**trial.variant.settings, **settings})
        with LocalEngine(workers=0) as engine:
            (made,) = generate.generate(protocol, [replace(trial, variant=variant)], store=store, engine=engine)
        return store.clip(made["key"])

    return change


def shifted(line: Line) -> Clip:
    clip = Store().clip(line["key"])
    return Clip(np.roll(clip.frames, 1, axis=2), clip.fps)


def lossy(line: Line) -> Clip:
    clip = Store().clip(line["key"])
    path = made_videos.write(Path("lossy.mp4"), clip.frames)
    return video.read(path, fps=clip.fps)


def bilinear(line: Line) -> Clip:
    protocol = options().protocol("nfe")
    case = next(case for case in protocol.cases if case.id == line["case"])
    low = inputs.low_quality(case, Store().clip(line["original_key"]), protocol.geometry)
    size = (protocol.geometry.width, protocol.geometry.height)
    frames = [cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR) for frame in low]
    return Clip(np.stack(frames), protocol.geometry.fps)


@pytest.mark.parametrize(
    ("row", "change"),
    [
        pytest.param("nfe=4", remade(nfe=1), id="NFE 4 to 1"),
        pytest.param("nfe=4", remade(degradation_step=300), id="degradation_step 675 to 300"),
        pytest.param("nfe=4", shifted, id="one pixel"),
        pytest.param("nfe=4", lossy, id="H.264"),
        pytest.param("bicubic", bilinear, id="resize"),
    ],
)
def test_a_changed_clip_fails(row: str, change: Callable[[Line], Clip], tmp_path: Path) -> None:
    manifest = lines()
    for line in (line for line in manifest if line["row"] == row):
        clip = change(line)
        key = keys.key("mutation", clip=clip.digest)
        line |= {"key": key, "digest": Store().put_clip(key, clip, {})}
    verdict = judge(rescored(manifest, tmp_path))
    assert (verdict.status, int(verdict.code)) == ("regression", 1)
    assert verdict.compared == {"nfe": 4 * 3 * 9} and not verdict.problems
    assert {finding.row for finding in verdict.findings} == {row}
    assert {"niqe", "niqe_pooled", "psnr", "ssim", "temporal_residual"} <= {
        finding.metric for finding in verdict.findings
    }
    (psnr,) = (finding for finding in verdict.findings if finding.metric == "psnr")
    before, after = (_psnr(folder, row) for folder in (RESULTS, tmp_path))
    assert psnr.effect.effect == pytest.approx((after - before).mean())
    assert psnr.effect.low < psnr.effect.effect < psnr.effect.high and psnr.effect.clusters == 3
    worst = (after - before).abs().idxmax()
    assert (psnr.worst[0].case, psnr.worst[0].before, psnr.worst[0].after) == (worst, before[worst], after[worst])
    assert all(one.differs == "value, frames, clip" for one in psnr.worst)
    said = markdown(blocks(verdict))
    assert f"`{row}`" in said and "`psnr`" in said and worst in said


def _psnr(folder: Path, row: str) -> pd.Series:
    table = read_scores(folder / "nfe/scores.parquet")
    return table[(table["row"] == row) & (table["metric"] == "psnr")].set_index("case")["value"]


def test_one_missing_clip_is_invalid(tmp_path: Path) -> None:
    manifest = [line for line in lines() if (line["row"], line["case"]) != ("nfe=4", "synthetic-1/0")]
    verdict = judge(rescored(manifest, tmp_path))
    assert (verdict.status, int(verdict.code), verdict.findings) == ("invalid", 3, ())
    assert verdict.problems == ("nfe: nfe=4 · synthetic-1/0 · seed 0 · replica 0 is missing",)


def test_an_identical_rerun_passes(honest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(honest / "store/clips", tmp_path / "again/clips")
    monkeypatch.setenv("FLASHBENCH_STORE", str(tmp_path / "again"))
    folder = rescored(lines(), tmp_path)
    assert len(list((tmp_path / "again/scores").rglob("*.json"))) > 50, "the metrics ran"
    verdict = judge(folder)
    assert (verdict.status, verdict.findings, verdict.problems, verdict.notes) == ("pass", (), (), ())
    assert "0 of 108 scores changed" in markdown(blocks(verdict))


def test_another_order_passes(tmp_path: Path) -> None:
    table = read_scores(Path(BASELINE)).sample(frac=1, random_state=5, ignore_index=True)
    assert table["row"].iloc[:20].nunique() > 1
    assert judge(keep(table, tmp_path)).status == "pass"
    assert judge(RESULTS, str(tmp_path)).status == "pass"


def test_a_run_says_which_numerics_class_it_is_of() -> None:
    assert all(line["numerics"] == keys.numerics_class(threads=1) for line in lines())
    assert judge(keep(read_scores(Path(BASELINE)), Path("same"), gated.numerics())).status == "pass"
