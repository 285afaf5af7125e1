"""A folder of pictures is one numbered sequence, or refused with what is wrong in it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support import made_videos as made

from flashbench.decoding.container import Unreadable
from flashbench.videos import pictures
from flashbench.videos import read as reading
from flashbench.videos.score import score_videos

CLIP = made.frames(6, 32, 48)


def folder(root: Path, names: list[str], clip: np.ndarray = CLIP) -> Path:
    root.mkdir(parents=True)
    for number, name in enumerate(names):
        done, content = cv2.imencode(Path(name).suffix, clip[number % len(clip)][..., ::-1])
        assert done
        (root / name).write_bytes(content.tobytes())
    return root


@pytest.mark.parametrize(
    "names",
    [
        ["0.png", "1.png", "2.png"],
        ["frame9.png", "frame10.png", "frame11.png"],
        ["0998.jpg", "0999.jpg", "1000.jpg"],
        ["shot2_0001_v3.png", "shot2_0002_v3.png", "shot2_0003_v3.png"],
        ["out (1).PNG", "out (2).png", "out (3).png"],
        ["0.png", "5.png", "10.png", "15.png"],
        ["0.5.png", "1.0.png", "1.5.png"],
        ["frame_0.25.png", "frame_0.5.png", "frame_0.75.png", "frame_1.0.png"],
        ["t0.png", "t0.033.png", "t0.067.png", "t0.1.png", "t0.133.png"],
        ["0.png", "33.png", "67.png", "100.png", "133.png"],
        ["0.png", "2.png", "5.png", "7.png", "10.png"],
        ["v1.8.png", "v1.9.png", "v1.10.png"],
        ["clip.v1.0009.png", "clip.v1.0010.png"],
        ["7.png"],
        ["whatever.png"],
        ["a1.jpg", "a2.jpeg", "a3.JPG"],
        ["1403636579763555584.png", "1403636579813555456.png"],
    ],
)
def test_numbers_order_a_sequence(names: list[str]) -> None:
    assert pictures.ordered(sorted(names, reverse=True)) == names and pictures.ordered(sorted(names)) == names


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["0000.png", "0000.jpg", "0001.png", "0001.jpg"], "0000.jpg and 0000.png have one number, and 1 more"),
        (["01.png", "1.png", "2.png"], "01.png and 1.png have one number"),
        (["0000.png", "0001.png", "preview.png"], "preview.png has another form of name than 0000.png"),
        (["0.png", "1.png", "Cover.jpg"], "Cover.jpg has another form"),
        (["0001.png", "0002.png", "0002 (1).png", "0003.png"], r"0002 \(1\).png has another form"),
        (["0001.png", "0002.png", "0003.png", "0003_1.png"], "0003_1.png has another form"),
        (["a_0001.png", "a_0002.png", "b_0001.png", "b_0002.png"], "b_0001.png, b_0002.png have another form"),
        ([f"{a}{n}.png" for a in "ab" for n in range(5)], "b0.png, b1.png, b2.png and 2 more have another form"),
        (["0000.png", "0001.png", "0002.png", "0004.png"], "0003.png is missing$"),
        (["f8.png", "f9.png", "f12.png", "f13.png"], "f10.png is missing, and 1 more"),
        (["0.png", "5.png", "15.png", "20.png"], "10.png is missing$"),
        (["0.png", "2.png", "3.png", "4.png"], "1.png is missing$"),
        (["0.0.png", "0.5.png", "1.5.png", "2.0.png"], "1.0.png is missing$"),
        (["t0.000.png", "t0.033.png", "t0.067.png", "t0.133.png", "t0.167.png"], "t0.100.png is missing$"),
        (["v1.8.png", "v1.9.png", "v1.11.png", "v1.12.png"], "v1.10.png is missing$"),
        (["0.png", "5.png", "10.png", "12.png", "17.png"], "10.png and 12.png are 2 apart, most are 5"),
        (["0.png", "2.png", "4.png", "5.png", "7.png"], "4.png and 5.png are 1 apart, most are 2"),
        (["1.png", "2.png", "3.jpg", "4.png"], "3.jpg has another format than the others, which are png"),
        (["cat.png", "dog.png"], "cat.png, dog.png have no number"),
        (["1_1.png", "1_2.png", "2_1.png", "2_2.png"], "have another form"),
    ],
)
def test_what_is_no_sequence_is_refused_with_the_reason(names: list[str], said: str) -> None:
    for given_names in (sorted(names), sorted(names, reverse=True)):
        with pytest.raises(ValueError, match=f"its {len(names)} pictures are not one numbered sequence: .*{said}"):
            pictures.ordered(given_names)


@given(
    before=st.text("ab_ -é.", max_size=4),
    after=st.text("ab_ -é", max_size=4),
    start=st.integers(0, 10**6),
    step=st.integers(1, 50),
    count=st.integers(4, 40),
    width=st.integers(1, 8),
    data=st.data(),
)
def test_a_gap_is_found_wherever_it_is(
    before: str, after: str, start: int, step: int, count: int, width: int, data: st.DataObject
) -> None:
    names = [f"{before}{start + step * n:0{width}d}{after}.png" for n in range(count)]
    shuffled = data.draw(st.permutations(names))
    assert pictures.ordered(shuffled) == names
    absent = names[data.draw(st.integers(1, count - 2))]
    assert f"{absent} is missing" in pictures.fault([name for name in shuffled if name != absent])
    assert pictures.fault([*shuffled, f"{before}{start}{after} copy.png"])


def test_other_files_do_not_matter(tmp_path: Path) -> None:
    root = folder(tmp_path / "f", [f"{n}.png" for n in range(6)])
    for name in ("meta.json", "notes.txt", "Thumbs.db", ".DS_Store", ".hidden.png", "._0.png"):
        (root / name).write_bytes(b"x")
    assert np.array_equal(np.stack(made.decoded(root)), CLIP)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff", ".webp"])
def test_every_format_is_a_video(suffix: str, tmp_path: Path) -> None:
    root = tmp_path / "f"
    root.mkdir()
    for number, frame in enumerate(CLIP):
        options = {"lossless": True} if suffix == ".webp" else {}
        Image.fromarray(frame).save(root / f"{number:03d}{suffix}", **options)
    assert np.array_equal(np.stack(made.decoded(root)), CLIP)
    source, _ = reading.probe(root)
    about = (source.frames, source.codec, source.alpha, source.container)
    assert about == (6, suffix[1:], False, "folder")


def test_one_transparent_picture_makes_the_folder_so(tmp_path: Path) -> None:
    root = folder(tmp_path / "f", [f"{n}.png" for n in range(6)])
    opaque = np.dstack([CLIP[2], np.full(CLIP[2].shape[:2], 255, np.uint8)])
    Image.fromarray(opaque).save(root / "2.png")
    assert not any(picture.transparent for picture in reading.pictures(root))
    opaque[:16, :, 3] = 0
    Image.fromarray(opaque).save(root / "4.png")
    assert [picture.transparent for picture in reading.pictures(root)] == [False] * 4 + [True, False]
    assert score_videos(root, "laplacian_variance").remarks == [
        "1 of 1 videos are not opaque (f: transparency): measured on black"
    ]
    frames = made.decoded(root)
    assert not frames[4][:16].any() and np.array_equal(frames[4][16:], CLIP[2][16:])


def test_several_pictures_in_one_are_no_frame(tmp_path: Path) -> None:
    images = [Image.fromarray(frame) for frame in CLIP]
    for suffix in (".webp", ".tif", ".png"):
        root = tmp_path / suffix[1:]
        root.mkdir()
        for number in range(4):
            more = {"save_all": True, "append_images": images[1:3]} if number == 2 else {}
            images[number].save(root / f"{number}{suffix}", **more)
        with pytest.raises(Unreadable, match=f"2{suffix} holds 3 pictures"):
            made.decoded(root)


def test_animated_webp_is_a_video(tmp_path: Path) -> None:
    images = [Image.fromarray(frame) for frame in CLIP]
    path = tmp_path / "a.webp"
    images[0].save(path, save_all=True, append_images=images[1:], duration=40, lossless=True)
    source, _ = reading.probe(path)
    assert (source.frames, source.height, source.width, source.fps) == (6, 32, 48, Fraction(25))
    assert (source.codec, source.variable_rate, source.alpha) == ("webp", False, False)
    assert np.array_equal(np.stack(made.decoded(path)), CLIP)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(Unreadable, match="cut short"):
        reading.probe(path)
