"""Which files are videos: by suffix, and by content where a suffix has two meanings."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, features
from support import made_videos as made

from flashbench.videos import find
from flashbench.videos.media import PICTURES, UNREAD, VIDEOS, Kind, kind

CLIP = made.frames(6, 48, 64)
CONTAINERS = {
    "flv": {"codec": "flv"}, "wmv": {"codec": "wmv2"}, "ts": {}, "m2ts": {}, "mts": {}, "3gp": {},
    "ogv": {"codec": "vp8"}, "mpg": {"codec": "mpeg2video"}, "mpeg": {"codec": "mpeg1video"},
}  # fmt: skip


def written(path: Path, clip: np.ndarray, options: dict[str, str]) -> Path:
    rate = 25 if path.suffix.startswith(".mp") else 8
    if path.suffix == ".mts":  # FFmpeg writes it as plain MPEG-TS where it is told so
        made.write(path.with_suffix(".ts"), clip)
        return path.with_suffix(".ts").rename(path)
    return made.write(path, clip, fps=rate, **options)


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_more_containers_are_found_and_read(suffix: str, tmp_path: Path) -> None:
    path = written(tmp_path / f"a.{suffix}", CLIP, CONTAINERS[suffix])
    assert kind(path) is Kind.VIDEO and [video.path for video in find.find([tmp_path]).videos] == [path]
    frames = np.stack(made.decoded(path))
    assert frames.shape == CLIP.shape and np.abs(frames.astype(int) - CLIP).mean() < 20
    assert find.stem(f"x/a.{suffix.upper()}") == "x/a"


@pytest.mark.parametrize("name", ["index.ts", "module.mts", "empty.ts", "G.ts"])
def test_typescript_is_no_video(name: str, tmp_path: Path) -> None:
    content = {"empty.ts": "", "G.ts": "G" + "x" * 187}.get(name, "export const greeting: string = 'Good';\n" * 60)
    (tmp_path / name).write_text(content)
    assert kind(tmp_path / name) is Kind.OTHER


def test_bytes_that_are_neither_are_said_to_be_unread(tmp_path: Path) -> None:
    (tmp_path / "secret.ts").write_bytes(np.random.default_rng(1).integers(0, 256, 4096, np.uint8).tobytes())
    assert kind(tmp_path / "secret.ts") is Kind.UNREAD


def test_webp_is_a_video_where_it_moves(tmp_path: Path) -> None:
    images = [Image.fromarray(frame) for frame in CLIP]
    (tmp_path / "s").mkdir()
    for number, image in enumerate(images):
        image.save(tmp_path / "s" / f"{number}.webp")
    images[0].save(tmp_path / "a.webp", save_all=True, append_images=images[1:])
    images[0].save(tmp_path / "thumb.webp")
    label, videos, remarks = find.find([tmp_path])
    assert [video.case for video in videos] == ["a.webp", "s"]
    assert remarks == ["1 picture stands beside videos and was left out: thumb.webp"]


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow writes no AVIF")
def test_avif_is_a_video_where_it_moves(tmp_path: Path) -> None:
    images = [Image.fromarray(frame) for frame in CLIP]
    images[0].save(tmp_path / "still.avif")
    images[0].save(tmp_path / "a.avif", save_all=True, append_images=images[1:])
    found = find.find([tmp_path])
    assert [video.case for video in found.videos] == ["a.avif"]
    assert found.remarks == ["1 file looks like video or a picture and was not read: still.avif"]
    with av.open(str(tmp_path / "a.avif")) as container:
        assert max(stream.frames for stream in container.streams.video) == 6


def test_suffixes_have_one_meaning_each() -> None:
    assert not set(UNREAD) & {*VIDEOS, *PICTURES}
    assert set(VIDEOS) & set(PICTURES) == {".webp"}
