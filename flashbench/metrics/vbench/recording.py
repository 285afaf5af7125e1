"""A clip's frames as files that VBench reads: whole and lossless, or VBench-Long's clips of them.

H.264 in RGB (`libx264rgb`, quantiser 0) gives every byte back through all that VBench reads videos with: decord,
OpenCV, torchvision and PyAV (checked with noise at even and odd sizes, in VBench's environment).
"""

from __future__ import annotations

import math
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.error import FFmpegError
from av.video.stream import VideoStream

from flashbench.errors import InvalidError
from flashbench.metrics.base import About, Stream
from flashbench.types import Frames, Measurement
from flashbench.vbench.long import ENCODED, Mode, Piece

LOSSLESS = "mp4, libx264rgb, qp 0"
AGAIN = "mp4, each clip libx264 at 1024 kbit/s in yuv420p at int(fps)"
"""What VBench-Long makes of its clips: torchvision's `write_video` without options."""
BIT_RATE = 1_024_000
"""What PyAV 12, which is in VBench's environment, gives an encoder that is told nothing: no constant quality."""


class Writer:
    """Writes frames uint8 [H, W, 3] in RGB, all of one size, to an mp4. A context manager.

    Args:
        path: of the file.
        fps: frames per second.
        mode: `official` encodes as VBench-Long does; all else is lossless.
    """

    def __init__(self, path: Path, fps: Fraction, mode: Mode = "corrected") -> None:
        self.count = 0
        self.shape: tuple[int, ...] = ()
        self._container = av.open(str(path), "w", format="mp4")
        again = ENCODED[mode]
        options = {} if again else {"qp": "0", "preset": "ultrafast"}
        # PyAV's rate is a whole number or a fraction; VBench-Long gives a whole one.
        rate = int(fps) if again else fps
        stream: Any = self._container.add_stream("libx264" if again else "libx264rgb", rate=rate, options=options)
        stream.pix_fmt = "yuv420p" if again else "rgb24"
        if again:
            stream.bit_rate = BIT_RATE
        self._stream: VideoStream = stream

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def write(self, frame: Frames) -> None:
        """Add a frame.

        Raises:
            InvalidError: it has another size than the first.
        """
        if not self.count:
            self.shape = frame.shape
            self._stream.height, self._stream.width = frame.shape[:2]
        elif frame.shape != self.shape:
            raise InvalidError(f"frame {self.count} is of another size", fix="give frames of one size")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        for packet in self._stream.encode(picture):
            self._container.mux(packet)
        self.count += 1

    def close(self) -> None:
        """Finish the video file."""
        if self.count:
            for packet in self._stream.encode():
                self._container.mux(packet)
        self._container.close()


@dataclass(frozen=True, kw_only=True)
class Recorded(Measurement):
    """What the frames of a clip leave behind until its metrics have asked VBench; the file goes with it.

    A NaN measurement in itself: its `reason` says why there is no file, where there is none.
    """

    about: About
    file: Path | None = None
    frames: int = 0


def record(about: About) -> Stream:
    """Write the frames that come to a file; returns a `Recorded`, which says so where that failed."""
    folder, recorded = Path(tempfile.mkdtemp(prefix="flashbench-vbench-")), None
    try:
        with Writer(folder / "clip.mp4", about.fps) as writer:
            while (pair := (yield)) is not None:
                writer.write(pair.frame)
        reason = "recorded for VBench" if writer.count else "no frame came"
        file = folder / "clip.mp4" if writer.count else None
        recorded = Recorded(value=math.nan, reason=reason, about=about, file=file, frames=writer.count)
        weakref.finalize(recorded, shutil.rmtree, folder, ignore_errors=True)
        return recorded
    except (FFmpegError, OSError, InvalidError) as error:
        why = error.what if isinstance(error, InvalidError) else error.strerror or error
        return Recorded(value=math.nan, reason=f"the clip cannot be written for VBench: {why}", about=about)
    finally:
        if recorded is None:  # also where the pass over the frames was broken off
            shutil.rmtree(folder, ignore_errors=True)


def decoded(path: Path) -> Iterator[Frames]:
    """The frames of a file, uint8 [H, W, 3] in RGB."""
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield cast(Frames, frame.to_ndarray(format="rgb24"))


@contextmanager
def cut(recorded: Recorded, pieces: Sequence[Piece], mode: Mode) -> Iterator[list[Path]]:
    """Files of the pieces of a clip, in order, in one pass over its frames; removed at the end of the block.

    Raises:
        InvalidError: a piece cannot be encoded (H.264 in yuv420p takes no odd sides).
    """
    assert recorded.file is not None
    with tempfile.TemporaryDirectory(prefix="flashbench-vbench-", ignore_cleanup_errors=True) as folder:
        if len(pieces) == 1 and not ENCODED[mode]:
            yield [recorded.file]
            return
        files = [Path(folder) / f"{piece.part}.mp4" for piece in pieces]
        writers: dict[int, Writer] = {}
        try:
            for place, frame in enumerate(decoded(recorded.file)):
                for number, piece in enumerate(pieces):
                    if piece.start <= place < piece.stop:
                        if place == piece.start:
                            writers[number] = Writer(files[number], recorded.about.fps, mode)
                        writers[number].write(frame)
                        if place == piece.stop - 1:
                            writers.pop(number).close()
        except FFmpegError as error:
            raise InvalidError(
                f"clips of {recorded.about.size} cannot be encoded as VBench-Long does: {error}"
            ) from error
        finally:
            for writer in writers.values():
                writer.close()
        yield files


def first_frames(files: Sequence[Path], path: Path, mode: Mode, fps: Fraction) -> Path:
    """Write the first frame of every file to one video: what VBench-Long's fast score looks at."""
    with Writer(path, fps, mode) as writer:
        for file in files:
            writer.write(next(decoded(file)))
    return path
