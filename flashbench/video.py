"""Clips to files and back: lossless FFV1 for what we make, and a plain reader for anybody's video.

FFV1 in Matroska with pixel format bgr0 (RGB matrix, full range) returns every byte; yuv444p is off by up to 2
levels, and the encoder refuses gbrp and rgb24.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import ColorRange

from flashbench.errors import InvalidError
from flashbench.types import Clip, Frames

_BITEXACT = {"flags": "+bitexact", "fflags": "+bitexact"}


def write_lossless(path: Path, clip: Clip) -> None:
    """Write `clip` to `path` (FFV1, mkv): reading it back gives the same bytes; the file has no times in it.

    Raises:
        OSError: the file cannot be written (a full disk, an unwritable folder).
    """
    _, height, width, _ = clip.frames.shape
    with av.open(str(path), "w", format="matroska", container_options=_BITEXACT) as container:
        stream = container.add_stream("ffv1", rate=clip.fps, options={"flags": "+bitexact", "slicecrc": "1"})
        stream.width, stream.height, stream.pix_fmt = width, height, "bgr0"
        stream.codec_context.color_range = ColorRange.JPEG.value
        stream.codec_context.colorspace = 0  # AVCOL_SPC_RGB: no matrix
        stream.codec_context.thread_count = 1
        for frame in clip.frames:
            # rgb24 to bgr0 only moves bytes; PyAV has no direct bgr0 input.
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24").reformat(format="bgr0")
            for packet in stream.encode(picture):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def read(path: Path, *, fps: Fraction | None = None) -> Clip:
    """Decode a whole video to RGB; `fps` overrides the container's (average) rate.

    Raises:
        InvalidError: the file is missing, is no video, is cut short or holds no frame.
    """
    with _opened(path) as (container, stream):
        rate = fps or stream.average_rate or stream.guessed_rate or Fraction(8)
        return Clip(np.stack(list(_decoded(path, container, stream))), Fraction(rate))


def frames(path: Path) -> Iterator[Frames]:
    """The frames of `read` one after the other, uint8 [H, W, 3]; holds one.

    Raises:
        InvalidError: as in `read`, when it is come upon.
    """
    with _opened(path) as (container, stream):
        yield from _decoded(path, container, stream)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The container and its video stream; what FFmpeg says in the block becomes an `InvalidError`."""
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise InvalidError(f"{path.name} holds no video stream", fix="give a video file")
            yield container, container.streams.video[0]
    except (FFmpegError, OSError) as error:
        raise InvalidError(f"{path} cannot be decoded: {error}", fix="check that the file is a whole video") from error


def _decoded(path: Path, container: Any, stream: Any) -> Iterator[Frames]:
    empty = True
    for frame in container.decode(stream):
        empty = False
        yield frame.to_ndarray(format="rgb24")
    if empty:
        raise InvalidError(f"{path} holds no frame", fix="check that the file is a whole video")
