"""Deliberate lies: each is told once, and each is found."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support import smoke

from flashbench import keys, systems, video
from flashbench.checks import audit
from flashbench.errors import IntegrityError, InvalidError
from flashbench.protocol.compose import load_protocol, trials
from flashbench.run.files import manifest, read_manifest
from flashbench.run.generate import make_clip, plan
from flashbench.run.options import Options
from flashbench.scores.table import ORDER, read_scores, to_parquet
from flashbench.store import Store
from flashbench.systems.flashvideo import FlashVideo
from flashbench.systems.registry import REGISTRY
from flashbench.types import Clip, Settings

Lie = Callable[[pd.DataFrame], pd.DataFrame]


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


@pytest.fixture
def careful(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose liar rewrites everything that follows from the scores: recomputing it finds nothing."""
    monkeypatch.setattr(audit, "render", lambda *_: {})
    monkeypatch.setattr(audit, "summary", lambda *_: {})
    return folder


def _findings(*, clips: bool = False) -> list[str]:
    return audit.audit_results(["nfe"], Options(tier="smoke"), clips=clips)


def _scores(folder: Path) -> Path:
    return folder / "results/smoke/nfe/scores.parquet"


def _write(path: Path, scores: pd.DataFrame) -> None:
    path.write_bytes(to_parquet(scores, load_protocol("nfe", tier="smoke").hash))


def _edit(path: Path, *, row: str, metric: str) -> None:
    scores = read_scores(path)
    chosen = (scores["row"] == row) & (scores["metric"] == metric)
    assert chosen.any()
    scores.loc[chosen, "value"] -= 0.5
    _write(path, scores)


def _lock(path: Path, *outs: Path) -> None:
    """A dvc.lock in the working folder that names `outs` as they are now."""
    named = [
        {"path": str(out), "md5": hashlib.md5(out.read_bytes(), usedforsecurity=False).hexdigest()} for out in outs
    ]
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"stages": {"score@nfe": {"outs": named}, "train": {"cmd": "no outs"}}}))


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
    ours = REGISTRY._ours["flashvideo"]
    monkeypatch.setitem(REGISTRY._ours, "flashvideo", ours._replace(thing=_IgnoresNfe()))
    store, protocol = Store(), load_protocol("nfe", tier="smoke")
    trial = next(t for t in trials(protocol) if t.variant.row == "nfe=4")
    (planned,) = plan(protocol, [trial], store=store)
    assert not store.has_clip(planned.key), "code that is not ours has clips of its own"
    with pytest.raises(InvalidError, match="declare 4 network evaluations, 1 were counted"):
        make_clip(
            store=store, key=planned.key, report=lambda *_: None, trial=trial,
            models=planned.models, given=planned.given,
        )  # fmt: skip
    assert not store.has_clip(planned.key)


def test_a_swapped_clip_is_refused(careful: Path) -> None:
    store = Store()
    line = next(x for x in read_manifest(careful / "results/smoke/nfe/clips.jsonl") if x["row"] == "nfe=4")
    path = store.root / "clips" / line["key"][:2] / line["key"] / "clip.mkv"
    real = video.read(path, fps=Fraction(8))
    video.write_lossless(path, Clip(255 - real.frames, real.fps))
    with pytest.raises(IntegrityError, match="not the one that was made"):
        store.clip(line["key"])
    assert any("not the one that was made" in finding for finding in _findings(clips=True))
    shutil.rmtree(store.root / "scores")
    with pytest.raises(IntegrityError, match="not the one that was made"):
        smoke.run(careful, "nfe")


def test_a_swapped_clip_with_a_forged_record_is_found(careful: Path) -> None:
    store = Store()
    line = next(x for x in read_manifest(careful / "results/smoke/nfe/clips.jsonl") if x["row"] == "nfe=4")
    record = store.clip_record(line["key"])
    forged = Clip(np.zeros((5, 96, 192, 3), np.uint8), Fraction(8))
    store.put_clip(line["key"], forged, {k: v for k, v in record.items() if k not in ("digest", "key", "fps")})
    assert any("the manifest says" in finding for finding in _findings())


def test_an_edited_score_row_differs_from_the_store(careful: Path) -> None:
    _edit(_scores(careful), row="nfe=4", metric="niqe")
    findings = _findings()
    assert any("nfe=4" in f and "niqe" in f and "sealed record" in f for f in findings)


def test_the_command_says_so_with_exit_1(folder: Path) -> None:
    _edit(_scores(folder), row="nfe=4", metric="niqe")
    done = smoke.flashbench(folder, "audit", "results", "nfe", "--tier", "smoke", check=False)
    assert done.returncode == 1 and "sealed record" in done.stdout and "findings" in done.stderr


def _forged(scores: pd.DataFrame) -> pd.DataFrame:
    chosen = (scores["row"] == "nfe=4") & (scores["metric"] == "niqe")
    scores.loc[chosen, "value"] -= 0.5
    scores.loc[chosen, "key"] = "0" * 64
    return scores


def _swapped(scores: pd.DataFrame) -> pd.DataFrame:
    scores["row"] = scores["row"].replace({"nfe=4": "noise", "noise": "nfe=4"})
    return scores.sort_values(ORDER, ignore_index=True)


def _borrowed(scores: pd.DataFrame) -> pd.DataFrame:
    """nfe=4 gets what was measured on the noise control, key and clip included."""
    kept, noise = scores[scores["row"] != "nfe=4"], scores[scores["row"] == "noise"]
    return pd.concat([kept, noise.assign(row="nfe=4")]).sort_values(ORDER, ignore_index=True)


def _dropped(scores: pd.DataFrame) -> pd.DataFrame:
    return scores[(scores["row"] != "nfe=4") | (scores["case"] != "synthetic-1/0")]


def _doubled(scores: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([scores, scores.iloc[:1]])


def _renamed(scores: pd.DataFrame) -> pd.DataFrame:
    return scores.replace({"row": {"nfe=4": "nfe=44"}})


def _one_cluster(scores: pd.DataFrame) -> pd.DataFrame:
    return scores.assign(cluster="synthetic-0")


def _another_reason(scores: pd.DataFrame) -> pd.DataFrame:
    return scores.assign(reason=scores["reason"].replace("", "measured twice"))


def _finer(scores: pd.DataFrame) -> pd.DataFrame:
    """Values per frame are moved; the means stay."""
    return scores.assign(per_frame=scores["per_frame"].map(lambda values: values * 1.01))


LIES = [
    (_forged, "the key is not that"),
    (_swapped, "of another clip"),
    (_borrowed, "of another clip"),
    (_dropped, "is missing"),
    (_doubled, "comes twice"),
    (_renamed, "is not in the protocol"),
    (_one_cluster, "is not in the protocol"),
]


@pytest.mark.parametrize(("lie", "words"), LIES, ids=[lie.__name__ for lie, _ in LIES])
def test_rows_that_lie_are_found_without_a_store(careful: Path, lie: Lie, words: str) -> None:
    shutil.rmtree(careful / "store")
    _write(_scores(careful), lie(read_scores(_scores(careful))))
    assert any(words in finding for finding in _findings())


@pytest.mark.parametrize(("lie", "field"), [(_another_reason, "reason"), (_finer, "per_frame")])
def test_every_field_is_compared_with_the_sealed_record(careful: Path, lie: Lie, field: str) -> None:
    _write(_scores(careful), lie(read_scores(_scores(careful))))
    assert any(f"{field} differs from the store's sealed record" in finding for finding in _findings())


def test_a_score_that_the_store_lacks_is_counted_as_not_checked(
    careful: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = read_scores(_scores(careful))
    key = scores[(scores["row"] == "nfe=4") & (scores["metric"] == "psnr")]["key"].iloc[0]
    (Store().root / "scores" / key[:2] / f"{key}.json").unlink()
    assert _findings() == []
    assert f"{len(scores) - 1} of {len(scores)} scores checked" in capsys.readouterr().err


def test_scores_of_another_machine_are_not_called_forged(
    careful: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(careful / "store")
    monkeypatch.setattr(keys, "scoring_class", lambda *_, **__: {"isa": "another"})
    assert _findings() == []
    assert "another numerics class: keys not recomputed" in capsys.readouterr().err


def test_a_manifest_that_names_another_rows_clip_is_found(careful: Path) -> None:
    path = careful / "results/smoke/nfe/clips.jsonl"
    lines = read_manifest(path)
    ours, theirs = (next(x for x in lines if x["row"] == row) for row in ("nfe=4", "noise"))
    ours |= {field: theirs[field] for field in ("key", "digest")}
    path.write_bytes(manifest(lines))
    assert any("another system" in finding for finding in _findings())
    ours |= {field: theirs[field] for field in ("system", "settings")}
    path.write_bytes(manifest(lines))
    assert any("are not those of the protocol's row" in finding for finding in _findings())


def test_a_manifest_with_fewer_lines_is_found(careful: Path) -> None:
    path = careful / "results/smoke/nfe/clips.jsonl"
    path.write_bytes(manifest(read_manifest(path)[1:]) + b"{}\n")
    findings = _findings()
    assert any("clips.jsonl" in finding and "is missing" in finding for finding in findings)
    assert any("1 broken lines" in finding for finding in findings)


def test_an_edited_score_row_differs_from_dvc_lock_where_there_is_no_store(careful: Path) -> None:
    path = Path("results/smoke/nfe/scores.parquet")
    _lock(Path("dvc.lock"), path)
    shutil.rmtree(careful / "store")
    assert _findings() == []
    _edit(path, row="nfe=4", metric="psnr")
    assert any("dvc.lock" in finding for finding in _findings())


@pytest.mark.parametrize("lock", ["dvc.lock", "replicas/dvc.lock"])
@pytest.mark.parametrize("name", ["nfe/clips.jsonl", "nfe/contact.png", "figures/nfe.svg", "claims.md"])
def test_every_output_is_compared_with_dvc_lock_from_wherever(
    folder: Path, name: str, lock: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path("results/smoke") / name
    _lock(Path(lock), path)
    path.write_bytes(path.read_bytes() + b"\n")
    monkeypatch.chdir(folder.parent)
    findings, compared = audit._against_lock((folder / "results/smoke"), ["nfe"])
    assert compared == 1 and findings == [f"{folder / path} is not the file that dvc.lock records"]


def test_what_was_checked_is_said(careful: Path, capsys: pytest.CaptureFixture[str]) -> None:
    total = len(read_scores(_scores(careful)))
    assert _findings() == []
    said = capsys.readouterr().err
    assert "no dvc.lock names files" in said
    assert f"{total} of {total} scores checked against the store, 0 files against dvc.lock, clips not decoded" in said
    shutil.rmtree(careful / "store")
    (careful / "results/smoke/nfe/clips.jsonl").unlink()
    _lock(Path("dvc.lock"), Path("results/smoke/nfe/scores.parquet"), Path("results/smoke/claims.md"))
    assert _findings() == []
    said = capsys.readouterr().err
    assert "scores are not compared with clips" in said and "no dvc.lock" not in said
    assert f"0 of {total} scores checked against the store, 2 files against dvc.lock" in said


def test_one_summary_without_the_other_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "render", lambda *_: {})
    (folder / "results/smoke/claims.md").unlink()
    assert _findings() == ["results/smoke/claims.md is missing"]


def test_without_matplotlib_the_figure_alone_is_not_checked(
    careful: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = careful / "results/smoke/tables/nfe.md"
    drawn = {"tables/nfe.md": table.read_bytes()}
    monkeypatch.setattr(audit, "render", lambda *_: drawn)
    assert _findings() == []
    assert "matplotlib is absent" in capsys.readouterr().err
    table.write_text(table.read_text() + "\n")
    assert any("nfe.md" in finding for finding in _findings())


@pytest.mark.parametrize(
    ("ours", "theirs", "same"),
    [
        (b"| 4.2790410050326530 |", b"| 4.2790410050326512 |", True),
        (b"| -0.000 |", b"| 0.000 |", True),
        (b"x 1.25e-3", b"x 1.2500000000001e-3", True),
        (b"| 4.279 |", b"| 4.278 |", False),
        (b"| 4.279041005 |", b"| 4.279041015 |", False),
        (b"| 12000000000000 |", b"| 12000000000001 |", False),
        (b"| 4.279 |", b"| 4.279 better |", False),
        (b"key 7e512a", b"key 7e513a", False),
        (b"key 7e512", b"key 7e513", False),
        (b"| nan |", b"| 1.0 |", False),
    ],
)
def test_only_the_last_digits_of_numbers_may_move(ours: bytes, theirs: bytes, same: bool) -> None:
    assert audit._same_text(ours, theirs) is same and audit._same_text(theirs, ours) is same


def test_edited_files_do_not_follow_from_the_scores(folder: Path) -> None:
    names = [f"tables/nfe.{kind}" for kind in ("md", "csv", "tex")]
    names += ["figures/nfe.svg", "nfe/claims.json", "claims.md", "metrics.json"]
    for name in names:
        path = folder / "results/smoke" / name
        text = path.read_text(encoding="utf-8")
        digit = next(i for i, letter in enumerate(text) if letter in "2345678")
        path.write_text(text[:digit] + "9" + text[digit + 1 :], encoding="utf-8")
    edited = {finding.split(" ")[0] for finding in _findings() if "does not follow" in finding}
    assert edited == {f"results/smoke/{name}" for name in names}


def test_a_missing_value_is_never_zero(folder: Path) -> None:
    scores = pd.read_parquet(_scores(folder))
    missing = scores[scores["value"].isna()]
    assert (missing["reason"] != "").all()
