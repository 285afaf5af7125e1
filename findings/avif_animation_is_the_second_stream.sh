#!/usr/bin/env bash
# An AVIF animation that Pillow writes has two video streams; the first, which everybody takes, is one still picture.
#
# One would expect streams.video[0] of PyAV, FFmpeg's way to the video of a file, to be the animation, as it is for GIF
# and APNG. In an AVIF sequence the first picture is also stored as a still item, and FFmpeg 8 shows that item as stream
# 0, and the film as stream 1: `container.decode(video=0)` ends after one picture, without a word.
# imageio's plugin
# takes the first stream too. OpenCV's VideoCapture counts eight pictures and reads none (its wheel has no AV1 decoder);
# PyAV's streams.best("video") finds the film.
# It matters to whoever reads generated clips in this small format: a metric over time has one picture to look at.
#
# Seen with Pillow 12.0.0, PyAV 18.1.0 (FFmpeg 8.1), imageio 2.38.1, eight pictures saved:
#   Pillow 8, PyAV video=0: 1, video=1: 8, best: stream 1, imageio 1, OpenCV says 8 and reads 0
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
python3 -m venv v
v/bin/pip install -q pillow==12.0.0 av==18.1.0 imageio==2.38.1 opencv-python-headless==4.12.0.88 numpy==2.2.6
v/bin/python - <<'EOF'
import sys

import av
import cv2
import imageio.v3 as iio
import numpy as np
from PIL import Image

film = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)
first, *rest = map(Image.fromarray, film)
first.save("film.avif", save_all=True, append_images=rest, duration=40)
with Image.open("film.avif") as image:
    seen = {"Pillow": image.n_frames}
for number in (0, 1):
    with av.open("film.avif") as container:
        seen[f"PyAV video={number}"] = sum(1 for _ in container.decode(video=number))
with av.open("film.avif") as container:
    seen["PyAV best"] = container.streams.best("video").index
seen["imageio with pyav"] = len(iio.imread("film.avif", plugin="pyav"))
capture = cv2.VideoCapture("film.avif")
seen["OpenCV says"] = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
seen["OpenCV reads"] = 0
while capture.read()[0]:
    seen["OpenCV reads"] += 1
print(seen)
expected = {"Pillow": 8, "PyAV video=0": 1, "PyAV video=1": 8, "PyAV best": 1, "imageio with pyav": 1}
expected |= {"OpenCV says": 8, "OpenCV reads": 0}
sys.exit(None if seen == expected else "the behaviour has changed")
EOF
