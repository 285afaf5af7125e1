"""temporal_flickering: VBench's arithmetic written out in float32, closed forms, files."""

from __future__ import annotations

import math
import subprocess
import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from flashbench import video
from flashbench.errors import InvalidError
from flashbench.metrics.vbench import environment, flicker, recording, worker
from flashbench.metrics.vbench import metric as measured
from flashbench.types import Clip

RNG = np.random.default_rng(0)


def as_vbench(frames: list[np.ndarray]) -> float:
    """The sheet's formula as VBench computes it: float32 frames, OpenCV's difference, NumPy's float32 mean."""
    floats = [np.array(frame, dtype=np.float32) for frame in frames]
    errors = [np.mean(cv2.absdiff(a, b)) for a, b in zip(floats, floats[1:], strict=False)]
    return (255.0 - np.mean(np.array(errors)).item()) / 255.0


def clip(frames: object) -> Clip:
    return Clip(np.asarray(frames, dtype=np.uint8), Fraction(8))


def encode(path: Path, codec: str = "libx264", pixels: str = "yuv420p", matrix: int = 2, frames: int = 24) -> Path:
    """A moving, noisy clip of 96×160; `matrix` as H.273 counts them: 1 is BT.709, 6 BT.601, 2 says nothing."""
    y, x = np.mgrid[:96, :160]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=8)
        stream.width, stream.height, stream.pix_fmt = 160, 96, pixels
        stream.codec_context.colorspace = matrix
        for t in range(frames):
            frame = np.stack([127 + 100 * np.sin((x + 3 * t) / 17), 127 + 90 * np.cos((y - t) / 11), (x + y) % 256], -1)
            picture = np.clip(frame + RNG.normal(0, 8, frame.shape), 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def by_opencv(path: Path) -> list[np.ndarray]:
    """A file's frames as OpenCV decodes them, BGR."""
    capture, frames = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG), []
    while (answer := capture.read())[0]:
        frames.append(answer[1])
    capture.release()
    return frames


@pytest.fixture
def encoded(tmp_path: Path) -> Path:
    """A clip in H.264, 24 frames of 96×160."""
    return encode(tmp_path / "clip-0.mp4")


def test_closed_forms() -> None:
    still = np.full((4, 8, 8, 3), 90)
    assert flicker.score(clip(still).frames).value == 1
    blink = np.stack([np.full((8, 8, 3), 255 * (t % 2)) for t in range(5)])
    assert flicker.score(clip(blink).frames).value == 0
    ramp = np.stack([np.full((8, 8, 3), 10 * t) for t in range(5)])
    found = flicker.score(clip(ramp).frames)
    assert found.value == pytest.approx(245 / 255) and found.per_frame == pytest.approx([245 / 255] * 4)


@pytest.mark.parametrize("shape", [(2, 17, 23), (9, 64, 48), (3, 1080, 1920)])
def test_equal_to_vbenchs_arithmetic(shape: tuple[int, int, int]) -> None:
    frames = RNG.integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert flicker.score(frames).value == pytest.approx(as_vbench(list(frames)), abs=1e-6)


@pytest.mark.parametrize(("codec", "matrix"), [("libx264", 2), ("libx264", 6), ("mpeg4", 2), ("libx265", 2)])
def test_a_plain_file_as_vbench_scores_it(codec: str, matrix: int, tmp_path: Path) -> None:
    """OpenCV, by which VBench decodes, is the reference on 8 bits by BT.601: an independent way to the same pixels."""
    path = encode(tmp_path / "clip.mp4", codec, matrix=matrix)
    frames = by_opencv(path)
    assert len(frames) == 24 and frames[0].shape == (96, 160, 3)
    found = flicker.score_file(path)
    assert found.value == pytest.approx(as_vbench(frames), abs=1e-6)
    assert len(found.per_frame) == 23 and 0.9 < found.value < 1


@pytest.mark.parametrize(
    ("codec", "pixels", "matrix"),
    [("libx264", "yuv420p", 1), ("libx264", "yuv420p10le", 1), ("libsvtav1", "yuv420p", 1), ("ffv1", "yuv444p12le", 6)],
)
def test_any_file_is_scored_on_the_frames_that_other_metrics_see(
    codec: str, pixels: str, matrix: int, tmp_path: Path
) -> None:
    path = encode(tmp_path / "clip.mkv", codec, pixels, matrix)
    clip = video.read(path)
    assert len(clip.frames) == 24
    assert flicker.score_file(path) == flicker.TEMPORAL_FLICKERING.measure(clip)


@pytest.fixture
def interpreter() -> Path:
    """That of VBench's own environment, several GB that only some machines have."""
    if (found := environment.python()) is None:
        pytest.skip("VBench's environment is not here: flashbench assets pull vbench")
    return found


@pytest.mark.isolated
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_equal_to_vbench_itself(interpreter: Path, encoded: Path, suffix: str) -> None:
    path = encoded
    if suffix == ".mkv":  # lossless, under a suffix that VBench itself would not open
        path = encoded.with_suffix(suffix)
        video.write_lossless(path, video.read(encoded))
    with worker.Worker(worker.command(interpreter), timeout=120) as vbench:
        theirs = vbench.ask(worker.Request(video=str(path), dimension="temporal_flickering"))
    assert theirs.reason == "" and flicker.score_file(path).value == pytest.approx(theirs.value, abs=1e-6)


@pytest.mark.isolated
def test_the_metrics_agree(interpreter: Path, encoded: Path) -> None:
    clip = video.read(encoded)
    try:
        theirs = measured.through_vbench("vbench:temporal_flickering").measure(clip)
    finally:
        measured.close()
    assert theirs.reason == "" and flicker.TEMPORAL_FLICKERING.measure(clip).value == pytest.approx(
        theirs.value, abs=1e-6
    )


ENCODE = """
import sys, numpy, torch
from torchvision.io import write_video
frames = numpy.frombuffer(open(sys.argv[1], "rb").read(), numpy.uint8).reshape(24, 96, 160, 3)
write_video(sys.argv[2], torch.from_numpy(frames.copy()), fps=8)
"""


@pytest.mark.isolated
def test_clips_are_encoded_again_as_vbench_long_does(interpreter: Path, encoded: Path, tmp_path: Path) -> None:
    clip = video.read(encoded)
    (tmp_path / "raw").write_bytes(clip.frames.tobytes())
    subprocess.run([interpreter, "-I", "-c", ENCODE, tmp_path / "raw", tmp_path / "theirs.mp4"], check=True)
    with recording.Writer(tmp_path / "ours.mp4", clip.fps, "official") as writer:
        for frame in clip.frames:
            writer.write(frame)
    ours, theirs = (flicker.score_file(tmp_path / f"{name}.mp4").value for name in ("ours", "theirs"))
    assert ours == pytest.approx(theirs, abs=1e-4), "the two FFmpegs may be of different versions"


def test_the_metric_and_the_order_of_channels() -> None:
    frames = RNG.integers(0, 256, (5, 20, 30, 3), dtype=np.uint8)
    metric = flicker.TEMPORAL_FLICKERING
    assert metric.measure(clip(frames)) == metric.measure(clip(frames[..., ::-1]))
    assert metric.measure(clip(frames)).value == flicker.score(frames).value


def test_one_frame_has_no_pair() -> None:
    found = flicker.TEMPORAL_FLICKERING.measure(clip(np.zeros((1, 4, 4, 3))))
    assert math.isnan(found.value) and found.reason == "temporal flickering needs two frames"


def test_frames_of_two_sizes_and_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="frame 1 is"):
        flicker.score(iter([np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8)]))
    (tmp_path / "empty.mp4").touch()
    for name in ("empty.mp4", "absent.mp4"):
        with pytest.raises(InvalidError, match="cannot be read"):
            flicker.score_file(tmp_path / name)


def test_frames_are_streamed(tmp_path: Path) -> None:
    shape = (270, 480, 3)

    def frames(count: int) -> object:
        return (np.full(shape, t % 7, dtype=np.uint8) for t in range(count))

    long = tmp_path / "long.mkv"
    video.write_lossless(long, clip(np.stack(list(frames(60)))))  # type: ignore[call-overload]
    for score in (lambda: flicker.score(frames(60)), lambda: flicker.score_file(long)):  # type: ignore[arg-type]
        tracemalloc.start()
        assert len(score().per_frame) == 59
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 8 * np.prod(shape)
