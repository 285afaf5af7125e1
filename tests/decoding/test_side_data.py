"""Data beside frames: of kinds that PyAV has no name for, too."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from support import made_videos as made

from flashbench.decoding.frames import pictures
from flashbench.decoding.source import probe

CLIP = made.frames(3, 48, 64)
TURNS = {1: (0, False), 2: (0, True), 3: (180, False), 4: (180, True), 6: (270, False), 8: (90, False)}


def camera(path: Path, orientation: int) -> Path:
    """Motion JPEG as cameras write it, each picture with EXIF and its orientation."""
    entry = struct.pack(">HHIHH", 0x112, 3, 1, orientation, 0)
    exif = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 1) + entry + bytes(4)
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=8)
        stream.height, stream.width = CLIP.shape[1:3]
        stream.pix_fmt = "yuvj420p"
        for number, frame in enumerate(CLIP):
            content = cv2.imencode(".jpg", frame[..., ::-1])[1].tobytes()
            packet = av.Packet(content[:2] + segment + content[2:])
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 8), True
            packet.pts = packet.dts = number
            container.mux(packet)
    return path


@pytest.mark.parametrize("orientation", TURNS)
def test_motion_jpeg_with_exif_is_read_and_turned(orientation: int, tmp_path: Path) -> None:
    source, _ = probe(path := camera(tmp_path / "a.avi", orientation))
    assert (source.rotation, source.mirrored) == TURNS[orientation]
    (plain, *_), (turned, *_) = (
        [picture.frame for picture in pictures(file)] for file in (camera(tmp_path / "b.avi", 1), path)
    )
    stored = np.rot90(turned[:, ::-1] if source.mirrored else turned, -source.rotation // 90)
    assert np.array_equal(stored, plain)
