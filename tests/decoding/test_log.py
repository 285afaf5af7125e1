"""FFmpeg's messages are heard for as long as a file is open, and PyAV's logging is then as it was."""

from __future__ import annotations

import threading
from pathlib import Path

import av
import pytest
from support import made_videos as made

from flashbench.decoding import log
from flashbench.decoding.container import Unreadable, opened
from flashbench.decoding.source import probe

CLIP = made.frames(4, 48, 64)


def test_it_is_on_until_the_file_is_closed(tmp_path: Path) -> None:
    """PyAV fails, aloud, on a message of a decoder's thread that comes after its logging was switched off."""
    before = av.logging.get_level()
    with opened(made.lossless(tmp_path / "a.mkv", CLIP)) as (container, stream):
        assert av.logging.get_level() == av.logging.WARNING
        next(container.decode(stream))
    assert av.logging.get_level() == before


def test_the_last_of_several_switches_it_off() -> None:
    before = av.logging.get_level()
    with log.listening() as first:
        with log.listening() as second:
            (other := threading.Thread(target=av.logging.log, args=(av.logging.ERROR, "a", "b"))).start()
            other.join()
        assert av.logging.get_level() == av.logging.WARNING
    assert av.logging.get_level() == before and first is second and list(first) == [(av.logging.ERROR, "a", "b")]


def test_a_codec_without_a_decoder_is_a_reason(tmp_path: Path) -> None:
    path = made.write(tmp_path / "a.avi", CLIP, codec="mjpeg", pixels="yuvj420p")
    path.write_bytes(path.read_bytes().replace(b"MJPG", b"ZZZ0"))
    with pytest.raises(Unreadable, match="no decoder"):
        probe(path)
