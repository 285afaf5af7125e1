#!/usr/bin/env bash
# PyAV decodes an FFV1 file whose checksum is wrong without error, warning or mark; the picture is damaged.
#
# FFV1 is the archive's codec: each slice can carry a CRC, so that damage is found. One would expect that a file with
# one flipped bit raises an error, or that the frame's `is_corrupt`, which PyAV has for this, is True. The decoder does
# notice, but says so in FFmpeg's log only, which PyAV keeps off unless asked. All pictures come out, none is marked,
# and those from the damaged one to the next key frame are wrong. {"err_detect": "explode"} changes nothing.
# It matters where masters are kept as FFV1 because it checks itself: a score of a damaged master looks like any other.
# Ask for the log: av.logging.set_level(av.logging.ERROR), then av.logging.Capture() around the decoding.
#
# Seen with PyAV 18.1.0 (FFmpeg 8.1), a bit of picture 5 of 10 flipped, with and without "explode":
#   10 pictures, wrong: [5, 6, 7, 8, 9], is_corrupt: [], log: slice CRC mismatch
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
python3 -m venv v
v/bin/pip install -q av==18.1.0 numpy==2.2.6
v/bin/python -W error - <<'EOF'
import sys
from pathlib import Path

import av
import numpy as np

film = np.random.default_rng(0).integers(0, 256, (10, 64, 64), dtype=np.uint8)
with av.open("film.mkv", "w") as container:
    stream = container.add_stream("ffv1", rate=10)
    stream.width = stream.height = 64
    stream.pix_fmt, stream.options = "gray", {"level": "3", "slices": "4", "slicecrc": "1"}
    for picture in film:
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="gray")))
    container.mux(stream.encode())
with av.open("film.mkv") as container:
    packet = [packet for packet in container.demux(video=0) if packet.size][5]
    place = packet.pos + packet.size // 3
data = bytearray(Path("film.mkv").read_bytes())
data[place] ^= 1
Path("flipped.mkv").write_bytes(data)


def read(path, options):
    """The number of pictures, those that are wrong, those that are marked, and the log's words."""
    av.logging.set_level(av.logging.ERROR)
    with av.logging.Capture() as log, av.open(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.options = options
        frames = list(container.decode(stream))
    wrong = [k for k, (frame, true) in enumerate(zip(frames, film, strict=True)) if (frame.to_ndarray() != true).any()]
    marked = [k for k, frame in enumerate(frames) if frame.is_corrupt]
    print(f"{path} {options}: {len(frames)} pictures, wrong: {wrong}, is_corrupt: {marked}, log: {log}")
    return len(frames), wrong, marked, any("CRC mismatch" in line[2] for line in log)


whole, damaged = (10, [], [], False), (10, [5, 6, 7, 8, 9], [], True)
same = read("film.mkv", {}) == whole and all(
    read("flipped.mkv", options) == damaged for options in ({}, {"err_detect": "explode"})
)
sys.exit(None if same else "the behaviour has changed")
EOF
