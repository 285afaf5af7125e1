"""Deliberate lies: each is told once, and each is found."""

from __future__ import annotations

import json
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import smoke

from flashbench import audit, generate, score, systems, video
from flashbench.errors import IntegrityError, InvalidError
from flashbench.protocol import load_protocol, trials
from flashbench.run import Options
from flashbench.store import Store
from flashbench.systems.flashvideo import FlashVideo
from flashbench.types import Clip, Settings


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("honest")
    smoke.run(folder, "nfe")
    smoke.claims(folder)
    return folder


@pytest.fixture
def folder(honest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to lie in, with the store and the working folder set to it."""
    shutil.copytree(honest, tmp_path / "copy")
    for name, value in smoke.environment(tmp_path / "copy").items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def _findings(*, clips: bool = False) -> list[str]:
    return audit.audit_results(["nfe"], Options(tier="smoke"), clips=clips)


def _scores(folder: Path) -> Path:
    return folder / "results/smoke/nfe/scores.parquet"


def _edit(path: Path, *, row: str, metric: str) -> None:
    scores = score.read_scores(path)
    chosen = (scores["row"] == row) & (scores["metric"] == metric)
    assert chosen.any()
    scores.loc[chosen, "value"] -= 0.5
    path.write_bytes(score.to_parquet(scores))


def test_the_truth_has_no_findings(folder: Path) -> None:
    assert _findings(clips=True) == []


class _IgnoresNfe(FlashVideo):
    """Always takes one step, whatever its settings say."""

    def make(self, request: systems.Request) -> Clip:
        lying: Settings = {**request.settings, "nfe": 1}
        return super().make(
            systems.Request(
                case=request.case,
                settings=lying,
                geometry=request.geometry,
                reference=request.reference,
                models=request.models,
            )
        )


def test_a_system_that_ignores_nfe_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(systems._registry(), "flashvideo", _IgnoresNfe())
    store, protocol = Store(), load_protocol("nfe", tier="smoke")
    trial = next(t for t in trials(protocol) if t.variant.row == "nfe=4")
    (planned,) = generate.plan(protocol, [trial], store=store)
    shutil.rmtree(store.root / "clips" / planned.key[:2] / planned.key)
    with pytest.raises(InvalidError, match="declare 4 network evaluations, 1 were counted"):
        generate.make_clip(
            store=store, key=planned.key, report=lambda *_: None, trial=trial,
            models=planned.models, original=planned.original,
        )  # fmt: skip
    assert not store.has_clip(planned.key)


def test_a_swapped_clip_is_refused(folder: Path) -> None:
    store = Store()
    line = next(x for x in generate.read_manifest(folder / "results/smoke/nfe/clips.jsonl") if x["row"] == "nfe=4")
    path = store.root / "clips" / line["key"][:2] / line["key"] / "clip.mkv"
    real = video.read(path, fps=Fraction(8))
    video.write_lossless(path, Clip(255 - real.frames, real.fps))
    with pytest.raises(IntegrityError, match="not the one that was made"):
        store.clip(line["key"])
    assert any("not the one that was made" in finding for finding in _findings(clips=True))
    shutil.rmtree(store.root / "scores")
    with pytest.raises(IntegrityError, match="not the one that was made"):
        smoke.run(folder, "nfe")


def test_a_swapped_clip_with_a_forged_record_is_found(folder: Path) -> None:
    store = Store()
    line = next(x for x in generate.read_manifest(folder / "results/smoke/nfe/clips.jsonl") if x["row"] == "nfe=4")
    record = store.clip_record(line["key"])
    forged = Clip(np.zeros((5, 96, 192, 3), np.uint8), Fraction(8))
    store.put_clip(line["key"], forged, {k: v for k, v in record.items() if k not in ("digest", "key", "fps")})
    assert any("the manifest says" in finding for finding in _findings())


def test_an_edited_score_row_differs_from_the_store(folder: Path) -> None:
    _edit(_scores(folder), row="nfe=4", metric="niqe")
    findings = _findings()
    assert any("nfe=4" in f and "niqe" in f and "sealed record" in f for f in findings)


def test_the_command_says_so_with_exit_1(folder: Path) -> None:
    _edit(_scores(folder), row="nfe=4", metric="niqe")
    done = smoke.flashbench(folder, "audit", "results", "nfe", "--tier", "smoke", check=False)
    assert done.returncode == 1 and "sealed record" in done.stdout and "findings" in done.stderr


def test_an_edited_score_row_differs_from_dvc_lock_where_there_is_no_store(folder: Path) -> None:
    import hashlib

    path = Path("results/smoke/nfe/scores.parquet")
    md5 = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    Path("dvc.lock").write_text(json.dumps({"stages": {"score@nfe": {"outs": [{"path": str(path), "md5": md5}]}}}))
    shutil.rmtree(folder / "store")
    assert _findings() == []
    _edit(path, row="nfe=4", metric="psnr")
    assert any("dvc.lock" in finding for finding in _findings())


@pytest.mark.parametrize("name", ["tables/nfe.md", "tables/nfe.csv", "tables/nfe.tex", "claims.md", "metrics.json"])
def test_an_edited_table_does_not_follow_from_the_scores(folder: Path, name: str) -> None:
    path = folder / "results/smoke" / name
    text = path.read_text(encoding="utf-8")
    digit = next(i for i, letter in enumerate(text) if letter in "2345678")
    path.write_text(text[:digit] + "9" + text[digit + 1 :], encoding="utf-8")
    assert any(name in finding and "does not follow" in finding for finding in _findings())


def test_a_missing_value_is_never_zero(folder: Path) -> None:
    scores = pd.read_parquet(_scores(folder))
    missing = scores[scores["value"].isna()]
    assert (missing["reason"] != "").all()
