#!/usr/bin/env bash
# A trimmed MP4: decord ends with copies of the last picture, and imageio states more pictures than it gives.
#
# `ffmpeg -ss 0.75 -i in.mp4 -c copy out.mp4` trims without encoding: the file begins at a key frame, and an edit list
# says which pictures a player leaves out. One would expect len(reader) to be the number of pictures that it yields, all
# of them different, or an error. decord counts the stored pictures, gets fewer from the decoder, and fills up with
# copies of the last; imageio's properties and OpenCV's CAP_PROP_FRAME_COUNT give the stored number too.
# It matters to flicker and motion (the end stands still), and to "eight frames evenly spread": their places are wrong.
#
# Seen with decord 0.6.0, imageio 2.38.1 with PyAV 18.1.0, opencv-python-headless 4.12.0.88, pictures 18 … 47:
#   decord says 36, gives 18 … 46 47 47 47 47 47 47 47; imageio says 36, gives 30; OpenCV says 36, gives 30
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
python3 -m venv v
v/bin/pip install -q decord==0.6.0 imageio==2.38.1 av==18.1.0 opencv-python-headless==4.12.0.88 \
    imageio-ffmpeg==0.6.0 numpy==2.2.6
v/bin/python - <<'EOF'
import subprocess
import sys

import cv2
import decord
import imageio.v3 as iio
import imageio_ffmpeg
import numpy as np

ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error"]
film = np.arange(48, dtype=np.uint8).repeat(64 * 64) * 5
whole = ["-i", "-", "-pix_fmt", "yuv420p", "-c:v", "libx264", "-g", "12", "-sc_threshold", "0", "whole.mp4"]
subprocess.run([*ffmpeg, *"-f rawvideo -pix_fmt gray -s 64x64 -r 24".split(), *whole], input=film.tobytes(), check=True)
subprocess.run([*ffmpeg, "-ss", "0.75", "-i", "whole.mp4", "-c", "copy", "film.mp4"], check=True)


def numbers(pictures):
    return [round(picture.mean() / 5) for picture in pictures]


reader = decord.VideoReader("film.mp4")
capture = cv2.VideoCapture("film.mp4")
count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
pictures = []
while (read := capture.read())[0]:
    pictures.append(read[1])
seen = {
    "decord": (len(reader), numbers(reader[k].asnumpy() for k in range(len(reader)))),
    "imageio": (iio.improps("film.mp4", plugin="pyav").shape[0], numbers(iio.imiter("film.mp4", plugin="pyav"))),
    "OpenCV": (count, numbers(pictures)),
}
for name, (says, gives) in seen.items():
    print(f"{name} says {says}, gives {len(gives)}: {gives}")
true = list(range(18, 48))
same = seen == {"decord": (36, true + [47] * 6), "imageio": (36, true), "OpenCV": (36, true)}
sys.exit(None if same else "the behaviour has changed")
EOF
