#!/usr/bin/env bash
# One JPEG, read by Pillow and by PyAV: up to a hundred levels apart at edges of colour.
#
# A frame that is kept as JPEG and the same bytes in a Motion JPEG video are one picture; one would expect readers of it
# to differ by rounding. Pillow and OpenCV's imread (libjpeg-turbo) interpolate 4:2:0 chroma; FFmpeg's swscale, by which
# PyAV and most readers of video make RGB, repeats it. Which of the two is nearer to the picture before compression
# depends on the picture: here, with edges that lie on the chroma's grid, FFmpeg's is.
# It matters where one system's clips come as folders of JPEG and another's as MJPEG or MP4: the reader is in the score.
#
# Seen with Pillow 12.0.0, opencv-python-headless 4.12.0.88, PyAV 18.1.0 (FFmpeg 8.1) on x86-64, quality 95, coloured
# squares of 10 pixels:
#   Pillow, OpenCV equal; Pillow, PyAV at most 119 levels, PSNR 24.9 dB; original, Pillow 24.9; original, PyAV 37.3
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
python3 -m venv v
v/bin/pip install -q pillow==12.0.0 opencv-python-headless==4.12.0.88 av==18.1.0 numpy==2.2.6
v/bin/python - <<'EOF'
import sys

import av
import cv2
import numpy as np
from PIL import Image

squares = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
original = np.kron(squares, np.ones((10, 10, 1), np.uint8))
Image.fromarray(original).save("frame.jpg", quality=95)
with av.open("frame.jpg") as container:
    pyav = next(container.decode(video=0)).to_ndarray(format="rgb24")
pictures = {
    "original": original,
    "Pillow": np.asarray(Image.open("frame.jpg")),
    "OpenCV": cv2.imread("frame.jpg")[..., ::-1],
    "PyAV": pyav,
}


def compare(a, b):
    difference = pictures[a].astype(float) - pictures[b]
    largest, error = int(np.abs(difference).max()), (difference**2).mean()
    psnr = 10 * np.log10(255**2 / error) if error else np.inf
    print(f"{a}, {b}: at most {largest} levels, PSNR {psnr:.1f} dB")
    return largest, psnr


libjpeg, between = compare("Pillow", "OpenCV"), compare("Pillow", "PyAV")
compare("original", "Pillow")
compare("original", "PyAV")
sys.exit(None if libjpeg[0] == 0 and between[0] > 60 and between[1] < 30 else "the behaviour has changed")
EOF
