#!/usr/bin/env bash
# PyAV, H.264 with B frames in AVI: pictures come in the right order, and their times jump back and forth.
#
# One would expect that frame.pts and frame.time of decoded pictures rise, as they do for the same stream in MP4. AVI
# stores no presentation times; FFmpeg numbers the packets in the order of the file, which for B frames is the order of
# decoding, and each picture keeps the number of its own packet. The order of the pictures is right all the same.
# It matters to code that sorts pictures by time, picks them at a rate, or takes differences of times for a frame rate:
# the film is shuffled by it. With MPEG-4 part 2 in AVI the times rise.
#
# Seen with PyAV 18.1.0 (FFmpeg 8.1), the pictures' numbers as read from the pictures, and their times:
#   AVI  pictures 0 1 2 3 4 5 6 7 8 9 10 11   times in 1/24 s 1 3 4 2 6 7 5 9 10 8 12 11
#   MP4  pictures 0 1 2 3 4 5 6 7 8 9 10 11   times in 1/24 s 0 1 2 3 4 5 6 7 8 9 10 11
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
python3 -m venv v
v/bin/pip install -q av==18.1.0 numpy==2.2.6
v/bin/python - <<'EOF'
import sys

import av
import numpy as np

seen = {}
for kind in ("avi", "mp4"):
    with av.open(f"film.{kind}", "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width = stream.height = 64
        stream.pix_fmt, stream.options = "yuv420p", {"bf": "2", "b-adapt": "0"}
        for number in range(12):
            grey = np.full((64, 64, 3), 20 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode())
    with av.open(f"film.{kind}") as container:
        frames = list(container.decode(video=0))
    numbers = [round(frame.to_ndarray(format="rgb24").mean() / 20) for frame in frames]
    ticks = [round(float(frame.time) * 24) for frame in frames]
    seen[kind] = numbers == list(range(12)), ticks == sorted(ticks)
    print(kind, "pictures", numbers, "times in 1/24 s", ticks)
sys.exit(None if seen == {"avi": (True, False), "mp4": (True, True)} else "the behaviour has changed")
EOF
