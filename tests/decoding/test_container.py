"""The stream, the pictures and the times of a file, and damage that its decoder only logs."""

from __future__ import annotations

import struct
import threading
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import cv2
import numpy as np
import pytest
from av.stream import Disposition
from support import made_videos as made

from flashbench import video
from flashbench.decoding import damage, log
from flashbench.decoding.container import Unreadable, packets
from flashbench.decoding.frames import pictures
from flashbench.decoding.source import Times, average, probe, times_of
from flashbench.errors import InvalidError
from flashbench.types import Frames

CLIP = made.frames(12, 48, 64)
EXACT = {"qp": "0", "g": "4", "bf": "0"}


def shown(path: Path) -> list[Frames]:
    return [picture.frame for picture in pictures(path)]


def several(path: Path, *clips: Frames, stills: tuple[int, ...] = (), default: int | None = None) -> Path:
    """A file of several lossless streams, one for each clip; `stills` are attached pictures."""
    with av.open(str(path), "w") as container:
        streams = []
        for number, clip in enumerate(clips):
            stream = container.add_stream("mjpeg" if number in stills else "ffv1", rate=8)
            stream.height, stream.width = clip.shape[1:3]
            stream.pix_fmt = "yuvj444p" if number in stills else "bgr0"
            stream.disposition = Disposition.attached_pic if number in stills else Disposition(int(number == default))
            streams.append(stream)
        for place in range(max(map(len, clips))):
            for stream, clip in zip(streams, clips, strict=True):
                if place < len(clip):
                    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(clip[place]), format="rgb24")
                    container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode())
    return path


def boxes(content: bytes, start: int, end: int) -> dict[bytes, tuple[int, int]]:
    """Type → where a box of an mp4 begins and ends, of those on one level."""
    found = {}
    while start < end:
        length, kind = struct.unpack_from(">I4s", content, start)
        found[kind] = (start, start + length)
        start += length
    return found


def inside(content: bytes, *kinds: bytes) -> int:
    """Where the content of a nested box of an mp4 begins."""
    start, end = 0, len(content)
    for kind in kinds:
        start, end = boxes(content, start, end)[kind]
        start += 8
    return start


def with_cover(path: Path, plain: Path) -> Path:
    """The mp4 with a cover as iTunes writes it, which FFmpeg gives as a stream before the video."""
    content = plain.read_bytes()
    image = cv2.imencode(".jpg", np.full((64, 64, 3), 200, np.uint8))[1].tobytes()

    def box(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I4s", 8 + len(data), kind) + data

    item = box(b"covr", box(b"data", struct.pack(">II", 13, 0) + image))
    meta = bytes(4) + box(b"hdlr", bytes(8) + b"mdirappl" + bytes(9)) + box(b"ilst", item)
    start, end = boxes(content, 0, len(content))[b"moov"]
    parts = boxes(content, start + 8, end)
    head, *rest = [content[a:b] for kind, (a, b) in parts.items() if kind != b"udta"]
    moov = box(b"moov", head + box(b"udta", box(b"meta", meta)) + b"".join(rest))
    assert end == len(content), "what is behind the index would move"
    path.write_bytes(content[:start] + moov)
    return path


def edited(path: Path, plain: Path, first: int, count: int, fps: int = 8) -> Path:
    """The mp4 with an edit list that shows `count` pictures from number `first`."""
    content = bytearray(plain.read_bytes())
    movie, media = (
        struct.unpack_from(">I", content, inside(content, *kinds) + 12)[0]
        for kinds in ((b"moov", b"mvhd"), (b"moov", b"trak", b"mdia", b"mdhd"))
    )
    at = inside(content, b"moov", b"trak", b"edts", b"elst") + 8
    struct.pack_into(">Ii", content, at, movie * count // fps, media * first // fps)
    path.write_bytes(content)
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plain") / "plain.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8, options=EXACT)
        stream.height, stream.width, stream.pix_fmt = *CLIP.shape[1:3], "yuv444p"
        for picture in CLIP:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_a_cover_is_not_the_video(plain: Path, tmp_path: Path) -> None:
    cover = with_cover(tmp_path / "cover.mp4", plain)
    with av.open(str(cover)) as container:
        assert [stream.codec_context.name for stream in container.streams.video] == ["mjpeg", "h264"]
    assert np.array_equal(shown(cover), shown(plain))
    assert probe(cover) == probe(plain)
    assert np.array_equal(video.read(cover).frames, shown(plain))


def test_of_several_streams_the_default_one_is_the_video(tmp_path: Path) -> None:
    other = made.frames(12, 32, 32, seed=3)
    for default, expected in ((0, other), (1, CLIP)):
        path = several(tmp_path / f"{default}.mkv", other, CLIP, default=default)
        assert np.array_equal(shown(path), expected)
        assert (probe(path)[0].height, probe(path)[0].frames) == (expected.shape[1], 12)


def test_a_file_with_a_cover_alone_holds_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        sound, cover = container.add_stream("aac", rate=44100), container.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt, cover.disposition = 48, 64, "yuvj444p", Disposition.attached_pic
        container.mux(cover.encode(av.VideoFrame.from_ndarray(CLIP[0], format="rgb24")))
        silence = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        silence.sample_rate = 44100
        container.mux(sound.encode(silence))
        for stream in (cover, sound):
            container.mux(stream.encode())
    with pytest.raises(Unreadable, match="no video stream in it, only a cover picture"):
        probe(path)


@pytest.mark.parametrize(("first", "count"), [(0, 5), (2, 6), (4, 8), (7, 1)])
def test_an_edit_list_says_what_is_shown(first: int, count: int, plain: Path, tmp_path: Path) -> None:
    path = edited(tmp_path / "edited.mp4", plain, first, count)
    source, times = probe(path)
    assert source.frames == len(times.starts) == count
    assert np.array_equal(shown(path), shown(plain)[first : first + count])


@pytest.mark.parametrize("codec", ["mpeg4", "mjpeg"])
def test_the_empty_chunks_of_an_avi_are_no_pictures(codec: str, tmp_path: Path) -> None:
    """Its muxer writes one for each time at which nothing new is shown."""
    path = tmp_path / "dropped.avi"
    kept = [0, 1, 4, 5, 9]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=8)
        stream.height, stream.width = CLIP.shape[1:3]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for number in kept:
            frame = av.VideoFrame.from_ndarray(CLIP[number], format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 8)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert path.read_bytes().count(b"00dc" + bytes(4)) >= 5
    source, times = probe(path)
    assert source.frames == len(shown(path)) == len(kept)
    assert [start * 8 for start in times.starts] == kept and source.variable_rate and source.longest == 0.5


def test_empty_packets_are_not_decoded() -> None:
    """Theora writes one for a picture that stays; the packet without a buffer, at the end, empties the decoder."""
    written = [SimpleNamespace(size=size, buffer_ptr=at, is_corrupt=False) for size, at in ((9, 1), (0, 2), (0, 0))]
    container: Any = SimpleNamespace(demux=lambda stream: iter(written))
    assert list(packets(container, None)) == [written[0], written[2]]  # type: ignore[arg-type]


@pytest.mark.parametrize("last", [Fraction(1, 100), Fraction(1, 8)])
def test_the_rate_is_the_containers_word_unless_its_times_say_otherwise(last: Fraction) -> None:
    """Also where the last picture's length is wrong, and where times are rounded."""
    unit = Fraction(1, 1000)
    steady = Times(tuple(Fraction(number, 8) for number in range(12)), last)
    assert average(steady, Fraction(8), unit) == average(steady, Fraction(600), unit) == 8
    film = Times(tuple(Fraction(round(number * 1001 / 24), 1000) for number in range(48)), last)
    assert average(film, Fraction(24000, 1001), unit) == Fraction(24000, 1001)
    held = Times(tuple(Fraction(at, 8) for at in (0, 1, 2, 3, 12)), last)
    assert average(held, Fraction(8), unit) == Fraction(8, 3)
    assert average(Times((Fraction(0),), last), Fraction(24), unit) == 24


def test_the_rate_of_a_gif_is_that_of_its_pictures(tmp_path: Path) -> None:
    path = made.write(tmp_path / "a.gif", CLIP, codec="gif", pixels="rgb8", fps=60)
    assert probe(path)[0].fps == pytest.approx(60, rel=0.05)


def test_times() -> None:
    steady = times_of([(Fraction(n, 24), Fraction(1, 24)) for n in range(48)], Fraction(24))
    assert steady.nearest(Fraction(8)) == list(range(0, 48, 3)), "two seconds are sixteen frames"
    assert steady.nearest(Fraction(24)) == list(range(48))
    assert steady.nearest(Fraction(48)) == [n // 2 for n in range(96)], "a tie is the earlier picture's"
    assert steady.nearest(Fraction(10)) == [round(2.4 * n - 1e-9) for n in range(20)]
    held = Times((Fraction(0), Fraction(1, 10), Fraction(11, 10)), Fraction(1, 10))
    assert held.nearest(Fraction(4)) == [0, 1, 1, 2, 2], "at 0, 0.25, 0.5, 0.75 and 1 s of 1.2"
    late = Times(tuple(5 + start for start in held.starts), held.last)
    assert late.nearest(Fraction(4)) == held.nearest(Fraction(4)), "counted from the first picture"
    assert times_of([(None, Fraction(0))] * 3, Fraction(8)).starts == (0, Fraction(1, 8), Fraction(1, 4))
    assert times_of([(Fraction(1), Fraction(0))] * 2, Fraction(8)).starts == (0, Fraction(1, 8)), "no two at once"
    assert Times((), Fraction(1)).nearest(Fraction(8)) == []
    shuffled = [(Fraction(n), Fraction(1)) for n in (0, 2, 1)]
    assert times_of(shuffled, Fraction(1)).starts == (0, 1, 2), "an AVI has the order of decoding"


@pytest.mark.parametrize("unit", [1000, 90_000, 30_000])
@pytest.mark.parametrize("rate", [Fraction(24), Fraction(30), Fraction(24000, 1001), Fraction(2997, 100), Fraction(60)])
def test_at_its_own_rate_every_picture_comes_once(rate: Fraction, unit: int) -> None:
    """Whatever the container rounds times to, and whether 29.97 means 2997/100 or 30000/1001."""
    asked = {Fraction(2997, 100): Fraction(30000, 1001)}.get(rate, rate)
    for count in (7, 10, 16, 49, 100):
        ends = [Fraction(round(number / rate * unit), unit) for number in range(count + 1)]
        lasts = {ends[-1] - ends[-2], Fraction(int(unit / rate), unit), Fraction(int(unit / rate) + 1, unit)}
        for last in lasts:
            times = Times(tuple(ends[:-1]), last)
            assert times.nearest(asked) == list(range(count)), (count, last)


def flipped(path: Path, whole: Path, seed: int) -> Path:
    """A bit of a random packet turned over."""
    with av.open(str(whole)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content, random = bytearray(whole.read_bytes()), np.random.default_rng(seed)
    start, size = places[int(random.integers(len(places)))]
    content[start + int(random.integers(size // 4, size - 8))] ^= 1 << int(random.integers(8))
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("pixels", ["bgr0", "yuv420p"])
@pytest.mark.parametrize("seed", range(4))
def test_a_picture_whose_checksum_is_wrong_is_refused(pixels: str, seed: int, tmp_path: Path) -> None:
    """FFV1 has a checksum in each slice; FFmpeg says so in its log, and shows the picture before instead."""
    whole = tmp_path / "whole.mkv"
    with av.open(str(whole), "w") as container:
        stream = container.add_stream("ffv1", rate=8, options={"slicecrc": "1", "level": "3"})
        stream.height, stream.width, stream.pix_fmt = *CLIP.shape[1:3], pixels
        for picture in CLIP:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    assert len(shown(whole)) == len(CLIP)
    broken = flipped(tmp_path / "broken.mkv", whole, seed)
    with pytest.raises(Unreadable, match=r"damaged near picture \d+: .*CRC mismatch"):
        shown(broken)
    with pytest.raises(InvalidError, match=r"broken.mkv cannot be read: it is damaged near picture"):
        video.read(broken)


def test_damage_in_a_codec_with_references_is_refused(plain: Path, tmp_path: Path) -> None:
    """A flipped bit of H.264 is often another valid stream; what its decoder notices is refused."""
    good, silent, refused = shown(plain), 0, 0
    for seed in range(12):
        try:
            silent += not np.array_equal(shown(flipped(tmp_path / "broken.mp4", plain, seed)), good)
        except Unreadable:
            refused += 1
    assert refused >= 4 and silent + refused <= 12


def test_logging_is_as_it_was(plain: Path) -> None:
    before = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.INFO)
    try:
        for _ in pictures(plain):
            break  # left in the middle: its threads are still at work
        assert av.logging.get_level() == av.logging.INFO
    finally:
        av.logging.set_level(before[0])
    assert (av.logging.get_level(), av.logging.get_skip_repeated()) == before


def test_another_threads_damage_is_not_this_files(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = list[Path]()
    closely = damage._damage
    monkeypatch.setattr(damage, "_damage", lambda path: looked.append(path) or closely(path))

    def shout() -> None:
        av.logging.log(av.logging.ERROR, "h264", "error while decoding MB 3 5")

    for number, _ in enumerate(pictures(plain)):
        if number == 2:
            (other := threading.Thread(target=shout)).start()
            other.join()
    assert number + 1 == len(CLIP) and looked == [plain], "looked at once more, alone, and found whole"


def test_many_files_at_once(plain: Path, tmp_path: Path) -> None:
    """Each thread has the answer for its own file, and the listeners leave no trace."""
    whole = made.lossless(tmp_path / "whole.mkv", CLIP)
    content = bytearray(whole.read_bytes())
    content[len(content) // 2] ^= 0x10
    (broken := tmp_path / "broken.mkv").write_bytes(content)
    answers: dict[int, str] = {}

    def read(number: int) -> None:
        try:
            answers[number] = str(len(shown((plain, whole, broken)[number % 3])))
        except Unreadable as error:
            answers[number] = "damaged" if "damaged" in error.what else error.what

    threads = [threading.Thread(target=read, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == {n: ("12", "12", "damaged")[n % 3] for n in range(12)}
    assert av.logging.get_level() is None or av.logging.get_level() >= 0
    assert log._LISTENER._ears == 0
