"""VBench's dimensions as metrics, asked of a worker that tells what it sees."""

from __future__ import annotations

import gc
import hashlib
import json
import math
import sys
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flashbench.errors import UsageError
from flashbench.metrics.base import About, Metric, Pair, SetMetric, measure
from flashbench.metrics.vbench import metric as measured
from flashbench.metrics.vbench.metric import through_vbench
from flashbench.types import Clip, Measurement
from flashbench.vbench import slow_fast
from flashbench.vbench.dimensions import DIMENSIONS

# Answers with the mean of the first pixel's red over the frames, / 255, and logs what it was asked and saw.
STAND_IN = r"""
import hashlib, json, sys, av
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    r = json.loads(line)
    with av.open(r["video"]) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        seen = {"frames": len(frames), "fps": str(stream.average_rate), "codec": stream.codec_context.name,
                "format": stream.pix_fmt, "sha256": hashlib.sha256(b"".join(f.tobytes() for f in frames)).hexdigest(),
                "values": [int(f[0, 0, 0]) for f in frames]}
    open(sys.argv[1], "a").write(json.dumps({**r, **seen}) + "\n")
    value = sum(seen["values"]) / 255 / len(frames)
    answer = {"value": value}
    if r["dimension"] == "motion_smoothness" and seen["values"][0] == 64: answer = {"missing": "weights could not be fetched"}
    if r["dimension"].startswith("fast:"): answer = {"value": 0.25} if r["dimension"] != "fast:background_consistency" else {"missing": "no DreamSim"}
    print(json.dumps({"id": r["id"], **answer}), flush=True)
"""  # noqa: E501

SUITE = [
    {"prompt_en": "a red bicycle", "dimension": ["color"], "auxiliary_info": {"color": {"color": "red"}}},
    {"prompt_en": "façade", "dimension": ["overall_consistency", "aesthetic_quality"]},
    {"prompt_en": "a dog", "dimension": ["subject_consistency"]},
]


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The stand-in in VBench's place; the log of what it was asked."""
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    (log := tmp_path / "log").touch()
    command = [sys.executable, "-I", str(tmp_path / "stand_in.py"), str(log)]
    monkeypatch.setattr(measured, "program", lambda device: command)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("FLASHBENCH_CACHE", str(tmp_path / "cache"))
    yield log
    measured.close()
    gc.collect()
    assert list((tmp_path / "tmp").iterdir()) == [], "nothing is left behind"


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """VBench's prompts, in small, under a registry of their own."""
    content = json.dumps(SUITE).encode()
    entry = {
        "needed_by": "tests", "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), "licence": "none",
        "non_commercial": False, "home": "here",
        "sources": [{"kind": "url", "url": "https://example.org/suite.json"}],
    }  # fmt: skip
    (tmp_path / "assets.yaml").write_text(json.dumps({"assets": {"vbench-full-info": entry}}))
    monkeypatch.setenv("FLASHBENCH_ASSETS", str(tmp_path / "assets.yaml"))
    file = measured.registry.get("vbench-full-info").file
    file.parent.mkdir(parents=True)
    file.write_bytes(content)


def clip(frames: int = 17, fps: Fraction = Fraction(8), size: tuple[int, int] = (16, 32)) -> Clip:
    """Noise whose first pixel says its frame's number · 4."""
    pixels = np.random.default_rng(0).integers(0, 256, (frames, *size, 3), dtype=np.uint8)
    pixels[:, :8, :8] = (4 * np.arange(frames, dtype=np.uint8))[:, None, None, None]
    return Clip(pixels, fps)


def log_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def sha256(frames: np.ndarray) -> str:
    return hashlib.sha256(frames.tobytes()).hexdigest()


def missing(found: Measurement, why: str) -> bool:
    return math.isnan(found.value) and why in found.reason


# --- names ------------------------------------------------------------------------------------------------------


def test_names_and_identities(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [through_vbench(name) for name in measured.names()]
    assert len(made) == 48 and [metric.name for metric in made] == list(measured.names())
    assert len({json.dumps(metric.identity, sort_keys=True) for metric in made}) == 48
    assert through_vbench("vbench:scene") == through_vbench("vbench:scene")
    one = through_vbench("vbench_long_official:subject_consistency")
    assert isinstance(one, SetMetric) and one.scope == "set"
    said = one.identity["preprocessing"]
    assert said["vbench"] == "0.1.5" and len(said["requirements"]) == 64 and "yuv420p" in said["container"]
    assert "dinov2_vitb14" in said["fast"] and one.identity["device"] == "cpu"
    monkeypatch.setenv("FLASHBENCH_VBENCH_DEVICE", "cuda")
    assert through_vbench("vbench:scene").identity["device"] == "cuda"
    monkeypatch.setenv("FLASHBENCH_VBENCH_DEVICE", "tpu")
    with pytest.raises(UsageError, match="invalid FLASHBENCH_VBENCH_DEVICE=tpu"):
        through_vbench("vbench:scene")


@pytest.mark.parametrize("name", ["vbench:flickering", "vbench_log:scene", "vbench", "vbench:"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(UsageError, match="unknown metric of VBench"):
        through_vbench(name)
    with pytest.raises(UsageError) as raised:
        through_vbench("vbench:temporal_flickerin")
    assert "did you mean 'vbench:temporal_flickering'" in raised.value.fix


def test_what_depends_on_the_prompt() -> None:
    def reads(prefix: str) -> set[str]:
        made = [through_vbench(f"{prefix}:{name}") for name in DIMENSIONS]
        return {one.dimension for one in made if isinstance(one, measured.ThroughVBench) and one.reads_prompt}

    semantic = {name for name, one in DIMENSIONS.items() if one.part == "semantic"}
    assert reads("vbench") == reads("vbench_long") == semantic
    assert reads("vbench_long_official") == set(DIMENSIONS), "the prompt decides how long the clips are"


# --- the whole clip ---------------------------------------------------------------------------------------------


def test_without_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASHBENCH_CACHE", str(tmp_path / "empty"))
    found = through_vbench("vbench:temporal_flickering").measure(clip())
    assert missing(found, "VBench's environment is not here: flashbench assets pull vbench")
    assert missing(through_vbench("vbench:color").measure(clip()), "auxiliary labels"), "which is true everywhere"


@pytest.mark.parametrize("size", [(16, 32), (17, 33)])
@pytest.mark.parametrize("fps", [Fraction(8), Fraction(24000, 1001)])
def test_vbench_sees_the_very_frames(asked: Path, size: tuple[int, int], fps: Fraction) -> None:
    one = clip(5, fps, size)
    names = ("vbench:temporal_flickering", "vbench:dynamic_degree", "vbench_long:imaging_quality")
    found = measure([through_vbench(name) for name in names], one)
    assert [part.value for part in found] == [pytest.approx(8 / 255)] * 3
    log = log_of(asked)
    assert len({entry["video"] for entry in log}) == 1, "one file for all of them"
    assert all(entry["sha256"] == sha256(one.frames) and entry["fps"] == str(fps) for entry in log)
    assert [entry["dimension"] for entry in log] == ["temporal_flickering", "dynamic_degree", "imaging_quality"]


def test_frames_as_they_come_and_none(asked: Path) -> None:
    metric, one = through_vbench("vbench:aesthetic_quality"), clip(3)
    stream = metric.stream(About(shape=(0, 16, 32)))
    next(stream)
    for frame in one.frames:
        stream.send(Pair(frame))
    with pytest.raises(StopIteration) as ended:
        stream.send(None)
    assert ended.value.value.value == pytest.approx(4 / 255)
    empty = metric.stream(About(shape=(0, 16, 32)))
    next(empty)
    with pytest.raises(StopIteration) as ended:
        empty.send(None)
    assert missing(ended.value.value, "no frame came")


def test_a_pass_that_is_broken_off_leaves_nothing(asked: Path) -> None:
    stream = through_vbench("vbench:aesthetic_quality").stream(About(shape=(0, 16, 32)))
    next(stream)
    stream.send(Pair(clip().frames[0]))
    stream.close()


def test_frames_of_two_sizes_and_a_full_disk(asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metric = through_vbench("vbench:aesthetic_quality")
    stream = metric.stream(About(shape=(0, 16, 32)))
    next(stream)
    stream.send(Pair(clip().frames[0]))
    with pytest.raises(StopIteration) as ended:
        stream.send(Pair(clip(size=(8, 8)).frames[0]))
    assert missing(ended.value.value, "frame 1 is of another size")

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(measured.recording.Writer, "write", full)
    assert missing(metric.measure(clip()), "cannot be written for VBench: No space left on device")


# --- prompts and labels -----------------------------------------------------------------------------------------


def test_prompts_and_labels(asked: Path, suite: None) -> None:
    color, overall = through_vbench("vbench:color"), through_vbench("vbench:overall_consistency")
    assert missing(color.measure(clip(), prompt="a blue bicycle"), "auxiliary labels, which only its own prompts have")
    assert missing(color.measure(clip()), "auxiliary labels")
    assert missing(through_vbench("vbench:scene").measure(clip(), prompt="a red bicycle"), "auxiliary labels")
    assert missing(overall.measure(clip()), "needs the video's prompt")
    assert color.measure(clip(), prompt="a red bicycle").value > 0
    assert overall.measure(clip(), prompt="anything").value > 0
    labelled, free = log_of(asked)
    assert labelled["labels"] == {"color": {"color": "red"}} and labelled["prompt"] == "a red bicycle"
    assert free["labels"] == {} and free["prompt"] == "anything"


def test_without_vbenchs_prompts(asked: Path) -> None:
    absent = "VBench's prompts are not here: flashbench assets pull vbench-full-info"
    for name in ("vbench:color", "vbench_long:overall_consistency", "vbench_long_official:aesthetic_quality"):
        assert missing(through_vbench(name).measure(clip(), prompt="a cat"), absent)
    for name in ("vbench:overall_consistency", "vbench:aesthetic_quality", "vbench_long:aesthetic_quality"):
        assert through_vbench(name).measure(clip(), prompt="a cat").value > 0
    assert through_vbench("vbench_long_official:aesthetic_quality").measure(clip()).value > 0, "no prompt: 2 s"


# --- VBench-Long ------------------------------------------------------------------------------------------------


def lengths(log: Path) -> list[int]:
    return [entry["frames"] for entry in log_of(log)]


def test_clips_as_they_are(asked: Path) -> None:
    one = clip(40)
    found = through_vbench("vbench_long:dynamic_degree").measure(one)
    log = log_of(asked)
    assert [entry["sha256"] for entry in log] == [sha256(one.frames[a : a + 16]) for a in (0, 16, 24)]
    assert found.per_frame == pytest.approx([4 * (a + 7.5) / 255 for a in (0, 16, 24)])
    assert found.value == pytest.approx(np.mean(found.per_frame)) and found.statistics == ()


def test_clips_encoded_again(asked: Path) -> None:
    one, metric = clip(40, Fraction(899, 100)), through_vbench("vbench_long_official:dynamic_degree")
    found = metric.measure(one)
    log = log_of(asked)
    assert lengths(asked) == [16, 16, 16] and {entry["fps"] for entry in log} == {"8"}
    assert {(entry["codec"], entry["format"]) for entry in log} == {("h264", "yuv420p")}
    assert found.per_frame == pytest.approx([4 * (a + 7.5) / 255 for a in (0, 16, 24)], abs=0.02)
    assert found.statistics == (pytest.approx(sum(found.per_frame)), 3)
    short = metric.measure(clip(5, Fraction(8)))
    assert short.statistics == (short.value, 1) and short.per_frame == ()
    assert isinstance(metric, SetMetric)
    both = np.array(found.statistics) + np.array(short.statistics)
    assert metric.finalize(both) == pytest.approx((sum(found.per_frame) + short.value) / 4), "a mean over clips"
    assert math.isnan(metric.finalize(np.zeros(2)))


def test_the_encoders_bit_rate_is_that_of_vbench_long(tmp_path: Path) -> None:
    """1024 kbit/s, and not the constant quality that FFmpeg would choose: ten times larger for this clip."""
    y, x = np.mgrid[:96, :160]
    pictures = [np.stack([127 + 100 * np.sin((x + 3 * t) / 17)] * 3, -1) for t in range(16)]
    noise = np.random.default_rng(0).normal(0, 8, (16, 96, 160, 3))
    with measured.recording.Writer(tmp_path / "x.mp4", Fraction(8), "official") as writer:
        for picture, extra in zip(pictures, noise, strict=True):
            writer.write(np.clip(picture + extra, 0, 255).astype(np.uint8))
    assert 128_000 < (tmp_path / "x.mp4").stat().st_size < 384_000, "two seconds"


@pytest.mark.parametrize(
    ("name", "prompt", "expected"),
    [
        ("vbench_long:aesthetic_quality", "façade", [16, 16]),
        ("vbench_long:aesthetic_quality", None, [16, 16]),
        ("vbench_long_official:aesthetic_quality", "façade", [17]),  # the 10 s rule
        ("vbench_long_official:aesthetic_quality", "other", [16, 16]),
        ("vbench_long_official:aesthetic_quality", None, [16, 16]),
        ("vbench_long:overall_consistency", "façade", [17]),
        ("vbench_long:overall_consistency", "fac\u0327ade", [17]),
        ("vbench_long:overall_consistency", "other", [16, 16]),
    ],
)
def test_lengths_of_clips(asked: Path, suite: None, name: str, prompt: str | None, expected: list[int]) -> None:
    assert through_vbench(name).measure(clip(17), prompt=prompt).reason == ""
    assert lengths(asked) == expected


@pytest.mark.parametrize("prefix", ["vbench_long", "vbench_long_official"])
def test_the_fast_score_is_fused(asked: Path, prefix: str) -> None:
    found = through_vbench(f"{prefix}:subject_consistency").measure(clip(40))
    *slow, fast = log_of(asked)
    assert fast["dimension"] == "fast:subject_consistency" and fast["frames"] == 3
    assert fast["values"] == pytest.approx([0, 64, 96], abs=0 if prefix == "vbench_long" else 12)
    values = [sum(part["values"]) / 255 / 16 for part in slow]
    expected = [0.5 * value + 0.5 * slow_fast.mapped("subject_consistency", 0.25) for value in values]
    assert found.per_frame == pytest.approx(expected) and found.value == pytest.approx(np.mean(expected))
    assert missing(through_vbench(f"{prefix}:background_consistency").measure(clip(40)), "3 of 3 clips: no DreamSim")
    assert through_vbench(f"{prefix}:background_consistency").measure(clip(5)).value > 0, "one clip has no fast score"
    assert log_of(asked)[-1]["dimension"] == "background_consistency"


def test_a_clip_without_a_value_leaves_none(asked: Path) -> None:
    found = through_vbench("vbench_long:motion_smoothness").measure(clip(40))
    assert missing(found, "1 of 3 clips: weights could not be fetched") and found.per_frame == ()


def test_a_network_that_is_not_there_is_asked_once(asked: Path) -> None:
    metric, one = through_vbench("vbench:motion_smoothness"), clip(17)
    one.frames[0, :8, :8] = 64
    assert missing(metric.measure(one), "weights could not be fetched")
    for name in ("vbench:motion_smoothness", "vbench_long:motion_smoothness"):
        assert missing(through_vbench(name).measure(clip()), "weights could not be fetched")
    assert through_vbench("vbench:dynamic_degree").measure(one).value > 0 and len(log_of(asked)) == 2
    measured.close()
    assert metric.measure(clip()).value > 0


def test_what_cannot_be_cut(asked: Path) -> None:
    official = through_vbench("vbench_long_official:dynamic_degree")
    assert missing(official.measure(clip(17, size=(17, 33))), "17×17×33 cannot be encoded as VBench-Long does")
    assert missing(official.measure(clip(5, Fraction(1, 2))), "has no frame")
    assert through_vbench("vbench_long:dynamic_degree").measure(clip(17, size=(17, 33))).value > 0


def test_closed_workers_start_again(asked: Path) -> None:
    metric: Metric = through_vbench("vbench:aesthetic_quality")
    first = metric.measure(clip())
    measured.close()
    assert metric.measure(clip()) == first and len(log_of(asked)) == 2
