"""Videos as strangers have them, made on the spot."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from flashbench.types import Frames
from flashbench.videos import read


def frames(count: int = 5, height: int = 96, width: int = 192, seed: int = 0) -> Frames:
    """A textured picture that moves by three pixels a frame: uint8 [T, H, W, 3]."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 255, (height // 8 + 2, width // 8 + count + 2, 3), np.uint8)
    picture = cv2.resize(coarse, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
    return np.stack([picture[:height, 3 * i : 3 * i + width] for i in range(count)])


def write(
    path: Path, clip: Frames, *, fps: int = 8, codec: str = "libx264", pixels: str = "yuv420p", **options: str
) -> Path:
    """`clip` as a video of the container that the suffix says."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=Fraction(fps))
        stream.height, stream.width = clip.shape[1:3]
        stream.pix_fmt = pixels
        for frame in clip:
            for packet in stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def lossless(path: Path, clip: Frames) -> Path:
    """FFV1: reading it gives the same bytes."""
    return write(path, clip, codec="ffv1", pixels="bgr0")


def decoded(path: Path) -> list[Frames]:
    """The frames of a video or of a folder of pictures, as `score` reads them."""
    return [picture.frame for picture in read.pictures(path)]


def variable(path: Path, clip: Frames) -> Path:
    """An mp4 whose frames stay for 33 or 120 ms."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.height, stream.width = clip.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        at = 0
        for number, picture in enumerate(clip):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = at, Fraction(1, 1000)
            at += 33 if number % 3 else 120
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def pictures(folder: Path, clip: Frames) -> Path:
    """A folder of png, numbered without leading zeros."""
    folder.mkdir(parents=True)
    for number, frame in enumerate(clip):
        done, content = cv2.imencode(".png", frame[..., ::-1])
        assert done
        (folder / f"frame{number}.png").write_bytes(content.tobytes())
    return folder


def turned(path: Path, whole: Path, a: float, b: float, c: float, d: float) -> Path:
    """The mp4 `whole` with the display matrix (a b 0; c d 0; 0 0 1) in its track's header."""
    content = bytearray(whole.read_bytes())
    at = content.index(struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30), content.index(b"tkhd"))
    a, b, c, d = (round(number * (1 << 16)) for number in (a, b, c, d))
    content[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    return path
