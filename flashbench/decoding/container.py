"""A video file opened: its one video stream, or the reason why it is no whole video."""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import cv2
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

from flashbench.decoding.log import listening
from flashbench.decoding.whole import cut_short
from flashbench.errors import InvalidError

FIX = "check that the file is a whole video, or leave it out"
_STILLS = Disposition.attached_pic | Disposition.timed_thumbnails


class Unreadable(InvalidError):
    """A file that is no whole video; the others can still be scored."""


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Whatever a file does to its decoder is a reason why it cannot be read.

    Raises:
        Unreadable: the body failed, or the file is a pipe or a device.
    """
    try:
        regular(path)
        yield
    except Unreadable:
        raise
    except InvalidError as error:
        raise Unreadable(f"cannot be read: {error.what}", fix=error.fix) from error
    except (FFmpegError, OSError) as error:
        raise Unreadable(f"cannot be read: {error.strerror or error}", fix=FIX) from error
    except (ValueError, IndexError, OverflowError, ZeroDivisionError, struct.error, cv2.error, MemoryError) as error:
        raise Unreadable(f"cannot be read: {error}", fix=FIX) from error


def regular(path: Path) -> None:
    """Refuse what never ends, or waits for somebody who writes: pipes and devices.

    Raises:
        Unreadable: it is such a file.
        OSError: it is not there.
    """
    if not (stat.S_ISREG(mode := path.stat().st_mode) or stat.S_ISDIR(mode)):
        raise Unreadable("is not a regular file", fix=FIX)


@contextmanager
def opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its video stream, decoded by as many threads as FFmpeg likes.

    Raises:
        ValueError: the file is empty, cut short, or holds no video.
        FFmpegError, OSError: it cannot be opened.
    """
    if (size := path.stat().st_size) == 0:
        raise ValueError("the file is empty")
    if reason := cut_short(path):
        raise ValueError(reason)
    # Through Python's file, whose name may be anything: FFmpeg takes `a:b`, `concat:` and `-` for something else.
    with listening(), path.open("rb") as file, av.open(file, metadata_errors="replace") as container:
        assert isinstance(container, InputContainer)
        stream = _video(container)
        if stream.codec_context is None:
            raise ValueError("its video is of a codec for which there is no decoder here")
        if any(entry.pos + entry.size > size for entry in stream.index_entries if entry.pos >= 0):
            raise ValueError("it is cut short: its index names pictures beyond its end")
        stream.thread_type = "AUTO"
        try:
            yield container, stream
        finally:
            # Its threads may still log, which needs the GIL, and closing waits for them without giving it up.
            if stream.codec_context.is_open:
                stream.codec_context.flush_buffers()


def packets(container: InputContainer, stream: VideoStream) -> Iterator[av.Packet[VideoStream]]:
    """What is to be decoded, in order; the last, without bytes, asks the decoder for what it still holds.

    Empty packets (Theora's for a picture that stays, AVI's) are no pictures, and FFmpeg takes none.

    Raises:
        ValueError: one is not whole.
        FFmpegError: the file cannot be read on.
    """
    for packet in container.demux(stream):
        if packet.is_corrupt and packet.size:
            raise ValueError("it is cut short or damaged: a packet is not whole")
        if packet.size or not packet.buffer_ptr:
            yield packet


def _video(container: InputContainer) -> VideoStream:
    """The stream that `av_find_best_stream` picks, but never a cover or a preview.

    Raises:
        ValueError: there is none.
    """
    moving = [stream for stream in container.streams.video if not stream.disposition & _STILLS]
    if not moving:
        still = "no video stream in it, only a cover picture" if container.streams.video else "no video stream in it"
        raise ValueError(still)
    best = container.streams.best("video")
    for stream in moving:
        if best is not None and stream.index == best.index:
            return stream
    return max(moving, key=lambda stream: (bool(stream.disposition & Disposition.default), -stream.index))
