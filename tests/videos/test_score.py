"""`flashbench.score` and `Scorer`: every file its rows, the same rows on every way, nothing measured twice."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from support import made_videos as made

import flashbench
from flashbench import metrics, stats
from flashbench.data import prompts
from flashbench.decoding.source import Source, Times
from flashbench.errors import InvalidError, UsageError
from flashbench.metrics.base import FrameMetric, Pair
from flashbench.scores.table import COLUMNS, read_scores
from flashbench.types import Clip
from flashbench.videos import measure as measuring
from flashbench.videos import read, score, settings
from flashbench.videos.measure import measure_file

FAST = ["laplacian_variance", "temporal_flicker", "psnr"]
SAME = ["metric", "value", "per_frame", "frames", "reason", "clip", "key"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clips")
    for seed in range(4):
        made.lossless(root / f"clip{seed}.mkv", made.frames(seed=seed))
    return root


def rows(table: pd.DataFrame, case: str) -> list[dict[str, Any]]:
    part = table[table["case"] == case][SAME]
    return [{key: None if value != value else value for key, value in row.items()} for row in part.to_dict("records")]


def value(table: pd.DataFrame, metric: str, case: str | None = None) -> float:
    chosen = table[(table["metric"] == metric) & ((table["case"] == case) if case else True)]
    (found,) = chosen["value"]
    return float(found)


def test_rows_hold_what_the_metrics_say(folder: Path) -> None:
    table = flashbench.score(folder, FAST)
    assert tuple(table.columns) == COLUMNS and len(table) == 4 * 3
    assert set(table["row"]) == {folder.name} and set(table["protocol"]) == {"adhoc/custom"}
    for seed in range(4):
        clip = Clip(made.frames(seed=seed), 8)
        direct = metrics.get("temporal_flicker").measure(clip)
        (row,) = table[(table["case"] == f"clip{seed}.mkv") & (table["metric"] == "temporal_flicker")].to_dict(
            "records"
        )
        assert (row["value"], tuple(row["per_frame"]), row["clip"]) == (direct.value, direct.per_frame, clip.digest)
        assert (row["frames"], row["cluster"]) == (5, f"clip{seed}.mkv")
    alone = table[table["metric"] == "psnr"]
    assert (
        set(alone["reason"]) == {"no reference: --reference DIR"}
        and alone["value"].isna().all()
        and set(alone["key"]) == {""}
    )


def test_the_same_rows_by_any_way(folder: Path, tmp_path: Path) -> None:
    """Twice, in another order, one by one, in several processes, in memory as arrays or tensors."""
    first = flashbench.score(folder, FAST)
    backwards = sorted(folder.iterdir(), reverse=True)
    ways = [
        flashbench.score(folder, FAST),
        flashbench.score(backwards, FAST[::-1], store=tmp_path / "another"),
        pd.concat([flashbench.score(path, FAST, store=tmp_path / "third") for path in backwards]),
        score.score_videos(folder, FAST, store=tmp_path / "fourth", workers=2).table,
    ]
    scorer = flashbench.Scorer(FAST)
    for seed in range(4):
        case, frames = f"clip{seed}.mkv", made.frames(seed=seed)
        expected = sorted(rows(first, case), key=lambda row: str(row["metric"]))
        tensor = torch.from_numpy(frames).permute(0, 3, 1, 2)
        memory = [scorer(given, fps=8, case=case) for given in (frames, tensor, tensor / 255, list(frames))]
        for way in (*ways, *memory):
            assert sorted(rows(way, case), key=lambda row: str(row["metric"])) == expected


def test_nothing_is_decoded_twice(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = flashbench.score(folder, FAST[:1])
    decoded: list[str] = []
    pictures = read.pictures
    monkeypatch.setattr(read, "pictures", lambda path: decoded.append(path.name) or pictures(path))
    again = flashbench.score(folder, FAST[:1])
    pd.testing.assert_frame_equal(again, first)
    (renamed := tmp_path / "other name.mkv").write_bytes((folder / "clip0.mkv").read_bytes())
    assert value(flashbench.score(renamed, FAST[:1]), FAST[0]) == value(first, FAST[0], "clip0.mkv")
    assert decoded == []
    both = flashbench.score(folder, FAST[:2])
    assert sorted(decoded) == sorted(path.name for path in folder.iterdir()), "once for all metrics that are missing"
    assert rows(both[both["metric"] == FAST[0]], "clip1.mkv") == rows(first, "clip1.mkv")


def test_frames_and_size_are_what_metrics_see(folder: Path) -> None:
    table = flashbench.score(folder / "clip0.mkv", FAST[:2], frames=2, size="48x96")
    clip = made.frames(seed=0)[[1, 3]]
    seen = np.stack([read.resized(frame, (48, 96)) for frame in clip])
    assert set(table["clip"]) == {Clip(seen, Fraction(16, 5)).digest}
    assert value(table, FAST[0]) == metrics.get(FAST[0]).measure(Clip(seen, Fraction(8))).value
    assert set(table["frames"]) == {2}
    whole = flashbench.score(folder / "clip0.mkv", FAST[:2])
    assert set(whole["clip"]) != set(table["clip"])


def test_references(folder: Path, tmp_path: Path) -> None:
    (truth := tmp_path / "truth").mkdir()
    made.lossless(truth / "clip0.mkv", made.frames(seed=0))
    made.lossless(truth / "clip1.mkv", made.frames(seed=9))
    made.lossless(truth / "clip2.mkv", made.frames(7, seed=2))
    (truth / "clip3.mkv").write_bytes(b"")
    done = score.score_videos(folder, FAST, reference=truth)
    found = {case: rows(done.table, case)[-1] for case in (f"clip{i}.mkv" for i in range(4))}
    assert found["clip0.mkv"]["reason"] == "PSNR is infinite: 5 of 5 frames equal the reference"
    direct = metrics.get("psnr").measure(Clip(made.frames(seed=1), 8), Clip(made.frames(seed=9), 8))
    assert found["clip1.mkv"]["value"] == direct.value
    assert "clip is 5×96×192, reference is 7×96×192" in found["clip2.mkv"]["reason"]
    assert found["clip3.mkv"]["reason"] == "its reference cannot be read: the file is empty"
    assert done.unreadable == [("clip3.mkv", "its reference cannot be read: the file is empty")]
    assert not math.isnan(value(done.table, FAST[0], "clip3.mkv")), "the video itself is scored"
    pd.testing.assert_frame_equal(score.score_videos(folder, FAST, reference=truth).table, done.table)


def test_a_container_that_lies_about_its_frames(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of frames is part of the digest, and metrics choose frames by it."""
    honest = flashbench.score(folder / "clip0.mkv", FAST[:2], store=folder.parent / "honest")
    probe = read.probe

    def lying(path: Path) -> tuple[Source, Times]:
        source, times = probe(path)
        return replace(source, frames=8), times

    monkeypatch.setattr(read, "probe", lying)
    pd.testing.assert_frame_equal(flashbench.score(folder / "clip0.mkv", FAST[:2]), honest)


@dataclass(frozen=True, kw_only=True)
class _Fails(FrameMetric):
    def frame(self, pair: Pair) -> float:
        if pair.frame.mean() > 0:
            raise ZeroDivisionError("as a bug would")
        return 1.0


FAILS = _Fails(name="fails", direction="higher", unit="", range=(0, 1))


def test_a_metric_that_fails_spoils_no_other(folder: Path) -> None:
    done = score.score_videos(folder / "clip0.mkv", [FAILS, FAST[0]])
    assert rows(done.table, "clip0.mkv")[0]["reason"] == "failed: ZeroDivisionError: as a bug would"
    assert not math.isnan(value(done.table, FAST[0]))
    assert done.unreadable == [("clip0.mkv", "a metric failed")]
    again = score.score_videos(folder / "clip0.mkv", [FAILS, FAST[0]])
    assert again.unreadable, "a failure is not kept"


def test_what_cannot_run_is_a_row_with_its_reason(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLASHBENCH_CACHE", str(tmp_path / "empty"))
    done = score.score_videos(folder, out=tmp_path / "out")
    names = [metric.name for metric in done.wanted.metrics]
    assert list(done.table["metric"]) == names * 4 and done.wanted.protocol == "adhoc/frame-quality"
    musiq = done.table[done.table["metric"] == "musiq"]
    assert musiq["value"].isna().all()
    assert set(musiq["reason"]) == {"musiq-koniq not present: flashbench assets pull musiq-koniq"}
    assert done.unreadable == []
    text = (tmp_path / "out/scores.md").read_text("utf-8")
    assert "- musiq: musiq-koniq not present: flashbench assets pull musiq-koniq" in text
    assert f"hash `{done.wanted.hash}`" in text and "| clip3.mkv |" in text


def test_files_of_a_run(folder: Path, tmp_path: Path) -> None:
    prompts = {f"clip{i}.mkv": "a fox" if i < 2 else f"dog {i}" for i in range(4)}
    done = score.score_videos(folder, FAST[:2], prompts, out=tmp_path / "out")
    kept = read_scores(tmp_path / "out/scores.parquet", done.wanted.hash)
    assert kept[["case", "value", "cluster"]].equals(done.table[["case", "value", "cluster"]])
    lines = pd.read_csv(tmp_path / "out/scores.csv", keep_default_na=False)
    assert list(lines["prompt"][:2]) == ["a fox"] * 2 and float(lines["value"][0]) == done.table["value"][0]
    record = json.loads((tmp_path / "out/run.json").read_text("utf-8"))
    assert record["settings"] == {"frames": "all", "size": "native"} and record["protocol_hash"] == done.wanted.hash
    assert record["metrics"][FAST[0]]["identity"]["version"] == 1
    (first, *_) = record["videos"]
    assert (first["clip"], first["source"]["codec"], first["fps"]) == (done.table["clip"][0], "ffv1", "8/1")
    estimate = stats.estimate(done.table, metrics.get(FAST[0]), folder.name)
    assert estimate.clusters == 3, "two videos of one prompt are one"
    text = (tmp_path / "out/scores.md").read_text("utf-8")
    assert (
        f"| {estimate.value:.1f} | {estimate.low:.1f} … {estimate.high:.1f} |" in text
        and "Student's t over prompts" in text
    )


def test_a_share_says_that_its_interval_is_wilsons(folder: Path, tmp_path: Path) -> None:
    asked = {f"clip{n}.mkv": one.original for n, one in enumerate(prompts.suite("laptop")[:4])}
    done = score.score_videos(folder, ["single_object", FAST[0]], asked, out=tmp_path / "out")
    found = stats.estimate(done.table, metrics.get("single_object"), folder.name)
    assert (found.value, found.low) == (0, 0) and found.high == pytest.approx(1 - 0.05**0.25)
    text = (tmp_path / "out/scores.md").read_text("utf-8")
    assert "| 0.00 | 0.00 … 0.53 |" in text and "over prompts; single_object: a share, Wilson's" in text


def test_out_overwrites_nothing_else(folder: Path, tmp_path: Path) -> None:
    (other := tmp_path / "another").mkdir()
    (other / "x.mkv").write_bytes((folder / "clip0.mkv").read_bytes())
    for _ in range(2):
        score.score_videos(folder, FAST[:1], out=tmp_path / "out")
    for videos, names in ((folder, FAST[:2]), (other, FAST[:1])):
        with pytest.raises(UsageError, match=f"holds another run: 1 metrics on {folder.name}"):
            score.score_videos(videos, names, out=tmp_path / "out")
    with pytest.raises(UsageError, match="holds the videos themselves"):
        score.score_videos(folder, FAST[:1], out=folder)


def test_wrong_calls(folder: Path, tmp_path: Path) -> None:
    for options, said in (
        ({"metrics": ["niqq"]}, "unknown metric 'niqq'"),
        ({"metrics": ["niqe", "niqe"]}, "asked for twice"),
        ({"metrics": []}, "no metric is asked for"),
        ({"frames": "some"}, "--frames 'some'"),
        ({"frames": 0}, "--frames 0"),
        ({"size": "1080"}, "--size '1080'"),
        ({"size": "0x10"}, "--size '0x10'"),
        ({"reference": tmp_path / "gone"}, "is not a folder"),
        ({"metrics": ["psnr"]}, "add --reference DIR"),
        ({"metrics": [3]}, "3 is not a metric"),
        ({"size": "20000x16"}, "at most 16384 each"),
    ):
        with pytest.raises(UsageError, match=said):
            flashbench.score(folder, **options)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InvalidError, match="file cannot be written"):
        flashbench.score(folder, FAST, out=tmp_path / "file")


def test_interrupted_scoring_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure, seen = measuring.measure_file, list[Path]()

    def breaking(opened: measuring.Opened, *rest: Any, **named: Any) -> measuring.Measured:
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(opened.path)
        return measure(opened, *rest, **named)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(score, "measure_file", breaking)
        flashbench.score(folder, FAST)
    decoded: list[str] = []
    pictures = read.pictures
    monkeypatch.setattr(read, "pictures", lambda path: decoded.append(path.name) or pictures(path))
    flashbench.score(folder, FAST)
    assert decoded == ["clip2.mkv", "clip3.mkv"]


def test_the_protocols_hash_names_metrics_frames_and_size() -> None:
    hashes = {
        settings.wanted(FAST).hash,
        settings.wanted(FAST[:2]).hash,
        settings.wanted(FAST, frames=3).hash,
        settings.wanted(FAST, size="96x96").hash,
    }
    assert len(hashes) == 4 and settings.wanted(FAST).hash in hashes


@pytest.mark.parametrize(
    ("prompt", "suite"), [(None, ""), ("a fox", "own"), ("In a still frame, a stop sign", "vbench")]
)
def test_a_run_knows_vbenchs_prompts(
    prompt: str | None, suite: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flashbench.metrics.vbench import metric as measured
    from flashbench.reporting.cite import cite

    entry = {"prompt_en": "In a still frame, a stop sign", "dimension": ["temporal_flickering"]}
    (suite_file := tmp_path / "suite.json").write_text(json.dumps([entry]))
    monkeypatch.setattr(measured.registry, "present", lambda name: True)
    monkeypatch.setattr(measured.registry, "path", lambda name: suite_file)
    prompts = {"clip0.mkv": prompt} if prompt else None
    done = score.score_videos(folder / "clip0.mkv", FAST[:1], prompts, out=tmp_path / "out")
    assert done.suite == suite == json.loads((tmp_path / "out/run.json").read_text("utf-8"))["suite"]
    text = cite(tmp_path / "out").text
    assert ("1 prompt of VBench" in text) == ("huang2024vbench" in text) == (suite == "vbench")
    assert ("Which suite the prompts come from is not known" in text) == (suite == "own")


def test_a_video_that_changes_meanwhile_is_kept_under_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a training loop does that overwrites its samples."""
    path = made.lossless(tmp_path / "clip.mkv", made.frames(seed=0))
    other = made.lossless(tmp_path / "other.mkv", made.frames(seed=3)).read_bytes()
    before = path.read_bytes()
    measure = measure_file

    def swapping(opened: measuring.Opened, *rest: Any, **named: Any) -> measuring.Measured:
        path.write_bytes(other)
        return measure(opened, *rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr(score, "measure_file", swapping)
        done = score.score_videos(path, FAST[:1])
    assert done.unreadable == [("clip.mkv", "changed while it was being scored")]
    path.write_bytes(before)
    assert (
        value(flashbench.score(path, FAST[:1]), FAST[0]) == metrics.get(FAST[0]).measure(Clip(made.frames(), 8)).value
    )


def test_frames_chosen_of_a_longer_reference_are_of_other_moments(folder: Path, tmp_path: Path) -> None:
    (truth := tmp_path / "truth").mkdir()
    made.lossless(truth / "clip0.mkv", made.frames(10, seed=0))
    for frames in ("all", 3):
        table = flashbench.score(folder / "clip0.mkv", ["psnr", "temporal_flicker"], reference=truth, frames=frames)
        assert math.isnan(value(table, "psnr")) and not math.isnan(value(table, "temporal_flicker"))
        (reason,) = table[table["metric"] == "psnr"]["reason"]
        assert ("clip has 5 frames, its reference 10" if frames == 3 else "clip is 5×96×192") in reason


def test_one_clip_twice_is_remarked(folder: Path, tmp_path: Path) -> None:
    for name in ("a.mkv", "b.mkv"):
        (tmp_path / name).write_bytes((folder / "clip0.mkv").read_bytes())
    done = score.score_videos(tmp_path, FAST[:1])
    assert done.remarks == [
        "1 of 2 videos are the same clip as another (b.mkv that of a.mkv): equal clips are one cluster"
    ]


def test_a_run_names_its_references(folder: Path, tmp_path: Path) -> None:
    done = score.score_videos(folder / "clip0.mkv", ["psnr"], reference=folder)
    (entry,) = done.record()["videos"]
    assert entry["reference"]["clip"] == entry["clip"] == Clip(made.frames(seed=0), 8).digest
    (entry,) = score.score_videos(folder / "clip0.mkv", FAST[:1], reference=folder).record()["videos"]
    assert entry["reference"] is None, "nothing was compared with it"
