"""Clips to files and back: lossless FFV1 for what we make, and anybody's video as a clip in memory.

FFV1 in Matroska with pixel format bgr0 (RGB matrix, full range) returns every byte; yuv444p is off by up to 2
levels, and the encoder refuses gbrp and rgb24.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange

from flashbench.decoding.container import Unreadable
from flashbench.decoding.frames import pictures
from flashbench.decoding.source import probe
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
    """Decode a whole video by the rules of `flashbench.decoding`; `fps` overrides the container's (average) rate.

    Raises:
        InvalidError: the file is missing, is no video, is cut short or damaged, or holds no frame.
    """
    shown = np.stack(list(frames(path)))
    return Clip(shown, fps or probe(path)[0].fps)


def frames(path: Path) -> Iterator[Frames]:
    """The frames of `read` one after the other, uint8 [H, W, 3]; holds one.

    Raises:
        InvalidError: as in `read`, when it is come upon.
    """
    try:
        for picture in pictures(path):
            yield picture.frame
    except Unreadable as error:
        raise InvalidError(f"{path} {error.what}", fix=error.fix) from error
