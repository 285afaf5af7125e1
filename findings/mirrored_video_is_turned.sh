#!/usr/bin/env bash
# A mirrored MP4: OpenCV and decord turn it by half a circle instead; PyAV's frame.rotation says 180 degrees.
#
# An MP4's display matrix can turn a picture and mirror it: front cameras and editors write the latter, and FFmpeg's
# `-display_hflip` does. One would expect a reader that heeds the matrix to mirror, or else to leave the picture alone.
# OpenCV and decord read an angle off the matrix: the angle of a mirror from left to right comes out as 180 degrees, so
# the picture stands on its head, and a mirror from top to bottom as 0, so that nothing is done. PyAV turns nothing, and
# its frame.rotation gives the same angles. The FFmpeg program, and so moviepy and imageio, mirrors.
# It matters to detectors of text, faces and left or right in generated videos: some readers see the film
# upside down, and nothing in a table shows it.
#
# Seen with opencv-python-headless 4.12.0.88, decord 0.6.0, PyAV 18.1.0, FFmpeg 7.0.2 (imageio-ffmpeg 0.6.0); the four
# quarters, row by row, of a picture that is stored as RGBW (red, green, blue, white):
#   left to right   right: GRWB   FFmpeg GRWB   OpenCV WBGR   decord WBGR   PyAV's rotation -180
#   top to bottom   right: BWRG   FFmpeg BWRG   OpenCV RGBW   decord RGBW   PyAV's rotation 0
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
python3 -m venv v
v/bin/pip install -q av==18.1.0 opencv-python-headless==4.12.0.88 decord==0.6.0 imageio-ffmpeg==0.6.0 numpy==2.2.6
v/bin/python - <<'EOF'
import subprocess
import sys

import av
import cv2
import decord
import imageio_ffmpeg
import numpy as np

ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error"]
names = {(255, 0, 0): "R", (0, 255, 0): "G", (0, 0, 255): "B", (255, 255, 255): "W"}
quarters = np.array(list(names), np.uint8).reshape(2, 2, 3)
picture = np.kron(quarters, np.ones((32, 48, 1), np.uint8))
raw = "-f rawvideo -pix_fmt rgb24 -s 96x64".split()
film = ["-i", "-", "-pix_fmt", "yuv444p", "-c:v", "libx264", "-qp", "0", "film.mp4"]
subprocess.run([*ffmpeg, *raw, *film], input=picture.tobytes(), check=True)


def read(picture):
    return "".join(names[tuple((picture[y, x] > 127) * 255)] for y in (16, 48) for x in (24, 72))


seen = {}
for flip in ("hflip", "vflip"):
    path = f"{flip}.mp4"
    subprocess.run([*ffmpeg, f"-display_{flip}", "-i", "film.mp4", "-c", "copy", path], check=True)
    shown = subprocess.run([*ffmpeg, "-i", path, *raw, "-"], capture_output=True, check=True).stdout
    with av.open(path) as container:
        frame = next(container.decode(video=0))
    seen[flip] = (
        read(np.frombuffer(shown, np.uint8)[: 64 * 96 * 3].reshape(64, 96, 3)),
        read(cv2.VideoCapture(path).read()[1][..., ::-1]),
        read(decord.VideoReader(path)[0].asnumpy()),
        frame.rotation,
    )
    print(flip, "FFmpeg {}, OpenCV {}, decord {}, PyAV's rotation {}".format(*seen[flip]))
expected = {"hflip": ("GRWB", "WBGR", "WBGR", -180), "vflip": ("BWRG", "RGBW", "RGBW", 0)}
sys.exit(None if seen == expected else "the behaviour has changed")
EOF
