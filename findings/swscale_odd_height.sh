#!/usr/bin/env bash
# PyAV, FFmpeg's swscale: one more row of pixels changes how the chroma of the whole picture is enlarged, and its grey.
#
# One would expect that 4:2:0 of 17 rows becomes RGB as 4:2:0 of 16 rows does, its last row aside. In fact swscale has a
# fast way for even heights, which repeats each row of chroma, and takes its general way for odd ones, which
# interpolates between rows and rounds otherwise: mid grey is 128 in a picture of 16 rows and 126 in one of 17.
# It matters where clips are cropped to an odd size, or one system's height is odd and another's even: flat areas differ
# by two levels and every edge of colour by up to half its height, and no metric can tell this from the systems.
#
# Seen with PyAV 18.1.0 (FFmpeg 8.1, its default flags), x86-64. Red of one column; chroma steps in the middle:
#   16 rows: 128 128 128 128 128 128 128 128 242 242 242 242 242 242 242 242
#   17 rows: 126 126 126 126 126 126 126 181 242 242 242 242 242 242 242 242 242
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


def red(height):
    """One column's red: grey above, Cr 200 from the fifth row of chroma on."""
    frame = av.VideoFrame(32, height, "yuv420p")
    for plane, top, bottom in zip(frame.planes, (126, 128, 128), (126, 128, 200), strict=True):
        samples = np.full((plane.height, plane.line_size), top, np.uint8)
        samples[4:] = bottom
        plane.update(samples.tobytes())
    return frame.to_ndarray(format="rgb24")[:, 8, 0].tolist()


even, odd = red(16), red(17)
print("16 rows:", *even)
print("17 rows:", *odd)
same = even == [128] * 8 + [242] * 8 and odd == [126] * 7 + [181] + [242] * 9
sys.exit(None if same else "the behaviour has changed")
EOF
