"""Videos as streams of frames: every container, whole or refused; the choice and size of frames."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from support import made_videos as made

from flashbench.decoding.container import Unreadable
from flashbench.decoding.source import Source
from flashbench.types import Clip, clip_hash
from flashbench.videos import read as reading

CLIP = made.frames()
CONTAINERS = {
    "mp4": {},
    "mkv": {},
    "mov": {},
    "webm": {"codec": "libvpx-vp9"},
    "avi": {"codec": "mpeg4"},
    "gif": {"codec": "gif", "pixels": "rgb8"},
}


@pytest.fixture(scope="module")
def containers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("containers")
    return {suffix: made.write(folder / f"clip.{suffix}", CLIP, **options) for suffix, options in CONTAINERS.items()}


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_every_container_gives_its_frames(suffix: str, containers: dict[str, Path]) -> None:
    (source, _), frames = reading.probe(containers[suffix]), made.decoded(containers[suffix])
    assert (source.frames, source.height, source.width) == CLIP.shape[:3] == (len(frames), *frames[0].shape[:2])
    assert source.fps == (Fraction(25, 3) if suffix == "gif" else 8), "a GIF counts hundredths of seconds"
    assert not source.variable_rate and source.matrix == "untagged"
    assert np.abs(np.stack(frames).astype(int) - CLIP).mean() < (25 if suffix == "gif" else 12)


def test_lossless_video_and_pictures_give_every_byte(tmp_path: Path) -> None:
    odd = made.frames(12, 97, 193)
    assert np.array_equal(np.stack(made.decoded(made.lossless(tmp_path / "clip.mkv", odd))), odd)
    folder = made.pictures(tmp_path / "frames", odd)  # frame10 after frame9
    assert np.array_equal(np.stack(made.decoded(folder)), odd)
    source, _ = reading.probe(folder)
    assert (source.frames, source.height, source.width, source.fps) == (12, 97, 193, 8)


@pytest.mark.parametrize("suffix", CONTAINERS)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.97])
def test_a_file_that_is_cut_short_is_refused(
    suffix: str, share: float, containers: dict[str, Path], tmp_path: Path
) -> None:
    content = containers[suffix].read_bytes()
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(content[: int(share * len(content))])
    with pytest.raises(Unreadable, match="cannot be read"):
        reading.probe(cut)
        made.decoded(cut)


def test_an_mp4_with_its_index_in_front_is_refused_too(tmp_path: Path) -> None:
    """FFmpeg would give the frames that are there, without a word."""
    whole = made.write(tmp_path / "whole.mp4", made.frames(40), fps=8, movflags="faststart", preset="ultrafast", g="1")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: int(0.9 * whole.stat().st_size)])
    with pytest.raises(Unreadable, match=r"cut short: [\d,]+ of at least [\d,]+ bytes are there"):
        reading.probe(cut)
        made.decoded(cut)


def test_damaged_frames_are_refused(containers: dict[str, Path], tmp_path: Path) -> None:
    content = bytearray(containers["mp4"].read_bytes())
    middle = content.index(b"mdat") + 700
    content[middle : middle + 40] = bytes(40)
    (broken := tmp_path / "broken.mp4").write_bytes(content)
    with pytest.raises(Unreadable, match="damaged|Invalid data"):
        made.decoded(broken)


def test_text_and_sound_are_no_video(tmp_path: Path) -> None:
    (text := tmp_path / "text.mp4").write_text("this is no video\n" * 20)
    with pytest.raises(Unreadable, match="Invalid data"):
        reading.probe(text)
    (folder := tmp_path / "frames").mkdir()
    (folder / "1.png").write_bytes(b"no picture")
    with pytest.raises(Unreadable, match="1.png is not a picture"):
        reading.probe(folder)


def test_a_variable_rate_is_noted(tmp_path: Path) -> None:
    source, _ = reading.probe(made.variable(tmp_path / "phone.mp4", CLIP))
    assert source.variable_rate and source.frames == len(CLIP)


def test_pictures_of_two_sizes_are_no_clip(tmp_path: Path) -> None:
    folder = made.pictures(tmp_path / "frames", CLIP)
    (made.pictures(tmp_path / "other", CLIP[:, :48]) / "frame0.png").replace(folder / "frame5.png")
    with pytest.raises(Unreadable, match="frame5.png is 48×192, unlike frame0.png, 96×192"):
        made.decoded(folder)


def test_sources_survive_json(containers: dict[str, Path]) -> None:
    source, _ = reading.probe(containers["gif"])
    assert Source.from_json(source.to_json()) == source


@pytest.mark.parametrize(("total", "wanted", "numbers"), [(9, 3, [1, 4, 7]), (9, 1, [4]), (10, 4, [1, 3, 6, 8])])
def test_chosen_frames_are_the_middles_of_equal_parts(total: int, wanted: int, numbers: list[int]) -> None:
    assert reading.chosen(range(total), wanted) == numbers
    assert reading.chosen(range(total), "all") == range(total) and reading.chosen(range(wanted), total) == range(wanted)


def test_resizing_keeps_what_fits_and_a_constant(tmp_path: Path) -> None:
    frame = CLIP[0]
    assert reading.resized(frame, None) is frame and reading.resized(frame, (96, 192)) is frame
    for size in ((48, 96), (200, 100), (192, 384)):
        flat = reading.resized(np.full((96, 192, 3), 77, np.uint8), size)
        assert flat.shape == (*size, 3) and (flat == 77).all()
    halved = frame.reshape(48, 2, 96, 2, 3).mean(axis=(1, 3))
    assert np.abs(reading.resized(frame, (48, 96)) - halved).max() <= 0.5, "area average"


def test_the_streamed_hash_is_the_clips_digest() -> None:
    state = clip_hash(CLIP.shape[:3], Fraction(24000, 1001))
    for frame in CLIP:
        state.update(frame.data)
    assert state.hexdigest() == Clip(CLIP, Fraction(24000, 1001)).digest


@pytest.mark.parametrize("matrix", [(a, 0, 0, d) for a in (1, -1) for d in (1, -1)] +
                         [(0, b, c, 0) for b in (1, -1) for c in (1, -1)])  # fmt: skip
def test_a_display_matrix_turns_and_mirrors(
    matrix: tuple[int, ...], containers: dict[str, Path], tmp_path: Path
) -> None:
    a, b, c, d = matrix
    path = made.turned(tmp_path / "turned.mp4", containers["mp4"], a, b, c, d)
    stored, upright = (made.decoded(p)[0] for p in (containers["mp4"], path))
    source, _ = reading.probe(path)
    y, x = np.indices(stored.shape[:2])
    across, down = a * x + c * y, b * x + d * y  # ISO 14496-12, 6.2.2: where the pixel at x, y is shown
    expected = np.empty(upright.shape, np.uint8)
    expected[down - down.min(), across - across.min()] = stored
    assert upright.shape == (source.height, source.width, 3) and np.array_equal(upright, expected)
    assert source.mirrored == (a * d - b * c < 0)


@pytest.mark.parametrize("matrix", [(0.7071, 0.7071, -0.7071, 0.7071), (2, 0, 0, 1), (1, 0, 0, 0), (0.99, 0, 0, 1)])
def test_other_display_matrices_are_refused(
    matrix: tuple[float, float, float, float], containers: dict[str, Path], tmp_path: Path
) -> None:
    path = made.turned(tmp_path / "turned.mp4", containers["mp4"], *matrix)
    for read in (reading.probe, lambda path: made.decoded(path)):
        with pytest.raises(Unreadable, match="its display matrix is not a quarter turn"):
            read(path)


@pytest.mark.timeout(20)
def test_pipes_and_devices_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "zero.mp4").symlink_to("/dev/zero")
    (tmp_path / "frames").mkdir()
    os.mkfifo(tmp_path / "frames" / "1.png")
    for name in ("pipe.mp4", "zero.mp4", "frames"):
        for read in (reading.content_hash, reading.probe, reading.stamp, lambda path: made.decoded(path)):
            with pytest.raises(Unreadable, match="is not a regular file"):
                read(tmp_path / name)


def test_a_folder_without_pictures_says_so(tmp_path: Path) -> None:
    for read in (reading.content_hash, reading.probe, reading.stamp, lambda path: made.decoded(path)):
        with pytest.raises(Unreadable, match="holds no picture"):
            read(tmp_path)


def test_a_size_that_no_picture_has_is_refused() -> None:
    with pytest.raises(Unreadable, match="cannot be resized to 1×1099511627776"):
        reading.resized(CLIP[0], (1, 1 << 40))


def test_a_stamp_changes_with_its_file(tmp_path: Path) -> None:
    folder = made.pictures(tmp_path / "frames", CLIP)
    whole, one = reading.stamp(folder), reading.stamp(folder / "frame1.png")
    assert (whole, one) == (reading.stamp(folder), reading.stamp(folder / "frame1.png"))
    os.utime(folder / "frame1.png", ns=(0, 1))
    assert whole != reading.stamp(folder) and one != reading.stamp(folder / "frame1.png")
    with pytest.raises(Unreadable, match="No such file"):
        reading.stamp(tmp_path / "gone.mp4")
