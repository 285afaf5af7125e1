#!/usr/bin/env bash
# mediapy reads a portrait video of a phone as garbage: the pixels of tall pictures, cut into wide ones.
#
# Phones store portrait videos lying down, with a display matrix that turns them. One would expect mediapy.read_video to
# give tall pictures, or wide ones that lie down. FFmpeg turns the pictures before it hands over the raw bytes; mediapy
# takes height and width from the words that FFmpeg prints about the stored stream, 64 by 96 here, and cuts the bytes of
# 96 by 64 into rows of the wrong length. The shape looks right for the file, no error is raised, and a picture's sum,
# mean and colours are right too: only who looks at it sees stripes.
# It matters wherever videos from phones are references: every metric of structure is of noise.
#
# Seen with mediapy 1.2.7 and FFmpeg 7.0.2 (imageio-ffmpeg 0.6.0). Stored are 64 rows of 96: quarters R G / B W. Shown
# are 96 rows of 64, quarters G W / R B. Read are 64 rows of 96, the first two of them:
#   GGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGG
#   WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
python3 -m venv v
v/bin/pip install -q mediapy==1.2.7 imageio-ffmpeg==0.6.0 numpy==2.2.6
v/bin/python - <<'EOF'
import subprocess
import sys

import imageio_ffmpeg
import mediapy
import numpy as np

ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error"]
mediapy.set_ffmpeg(ffmpeg[0])
names = {(255, 0, 0): "R", (0, 255, 0): "G", (0, 0, 255): "B", (255, 255, 255): "W"}
picture = np.array(list(names), np.uint8).reshape(2, 2, 3).repeat(32, 0).repeat(48, 1)
film = "-f rawvideo -pix_fmt rgb24 -s 96x64 -i - -pix_fmt yuv444p -c:v libx264 -qp 0 film.mp4".split()
subprocess.run([*ffmpeg, *film], input=picture.tobytes() * 5, check=True)
subprocess.run([*ffmpeg, "-display_rotation", "90", "-i", "film.mp4", "-c", "copy", "portrait.mp4"], check=True)

raw = subprocess.run([*ffmpeg, "-i", "portrait.mp4", *"-f rawvideo -pix_fmt rgb24 -".split()], capture_output=True)
shown = np.frombuffer(raw.stdout, np.uint8).reshape(-1, 96, 64, 3)[0]
video = np.asarray(mediapy.read_video("portrait.mp4"))
print("shape", video.shape, "rows 1 and 2:")
for row in video[0, :2]:
    print("".join(names[tuple((pixel > 127) * 255)] for pixel in row))
same = video.shape[1:] == (64, 96, 3) and np.array_equal(video[0].ravel(), shown.ravel())
sys.exit(None if same else "the behaviour has changed")
EOF
