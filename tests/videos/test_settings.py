"""Metrics as they are named: `a,b`, lists, objects, by Python and by the command line alike."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.made_videos import lossless

import flashbench
from flashbench.errors import UsageError
from flashbench.metrics.detail import LAPLACIAN_VARIANCE
from flashbench.videos import settings

TWO = ["laplacian_variance", "temporal_flicker"]
FRAMES = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "written",
    [
        "laplacian_variance,temporal_flicker",
        " laplacian_variance , temporal_flicker\n",
        ["laplacian_variance, temporal_flicker"],
        ("laplacian_variance", "temporal_flicker"),
        (name for name in TWO),
        [LAPLACIAN_VARIANCE, "temporal_flicker"],
    ],
)
def test_several_by_any_way(written: Any) -> None:
    assert [metric.name for metric in settings.wanted(written).metrics] == TWO


def test_one_by_any_way() -> None:
    for written in ("psnr", ["psnr"], " psnr "):
        assert [metric.name for metric in settings.wanted(written).metrics] == ["psnr"]
    assert settings.wanted(LAPLACIAN_VARIANCE).metrics == (LAPLACIAN_VARIANCE,)


def test_names_with_colons_stay_whole() -> None:
    names = [metric.name for metric in settings.wanted("vbench:scene, pyiqa:topiq_nr,niqe").metrics]
    assert names == ["vbench:scene", "pyiqa:topiq_nr", "niqe"]
    assert len(settings.wanted("vbench,psnr").metrics) == 17


@pytest.mark.parametrize("written", ["", " ", ",", "psnr,", ",psnr", "psnr,,ssim", ["psnr", ""], ["psnr, ,ssim"]])
def test_an_empty_name_is_refused_where_it_stands(written: Any) -> None:
    with pytest.raises(UsageError, match="an empty name among the metrics") as caught:
        settings.wanted(written)
    assert "psnr,ssim" in caught.value.fix


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("psnr,niqq", "unknown metric 'niqq'"),
        ("psnr,psnr", "asked for twice"),
        ([["psnr"]], "is not a metric"),
        (3, "3 is not a metric"),
        ([None], "None is not a metric"),
    ],
)
def test_what_is_no_metric(written: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        settings.wanted(written)


def test_score_scorer_and_compare_take_commas(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for number in range(3):
            (tmp_path / name).mkdir(exist_ok=True)
            lossless(tmp_path / name / f"{number}.mkv", FRAMES + np.uint8(3 * number))
    asked, store = ", ".join(TWO), tmp_path / "store"
    table = flashbench.score(tmp_path / "a", asked, store=store)
    assert table["metric"].unique().tolist() == TWO
    assert table.equals(flashbench.score(tmp_path / "a", TWO, store=store))
    assert flashbench.Scorer(asked)(FRAMES)["metric"].tolist() == TWO
    scored = [flashbench.score(tmp_path / name, store=store, metrics=TWO) for name in ("a", "b")]
    assert flashbench.compare(*scored, metrics=asked)["metric"].tolist() == TWO
    assert flashbench.compare(*scored, metrics=asked).equals(flashbench.compare(*scored, metrics=TWO))
    with pytest.raises(UsageError, match="empty name"):
        flashbench.compare(*scored, metrics="psnr,")


def test_the_command_line_says_the_same(tmp_path: Path) -> None:
    lossless(tmp_path / "a.mkv", FRAMES)
    program = [sys.executable, "-m", "flashbench.cli", "score", str(tmp_path / "a.mkv"), "--metrics"]
    done = subprocess.run([*program, ",".join(TWO)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and all(name in done.stdout for name in TWO), done.stderr
    done = subprocess.run([*program, "psnr,,ssim"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and "an empty name among the metrics 'psnr,,ssim'" in done.stderr
    assert "Traceback" not in done.stderr
