#!/usr/bin/env bash
# OpenCV 5 heeds a video's BT.709 tag, OpenCV 4 did not: the same two lines of code give other colours.
#
# One would expect an upgrade of OpenCV to leave cv2.VideoCapture's pixels alone.
# OpenCV 4.12 converts every video by BT.601. OpenCV 5.0 converts a file that says BT.709, as most HD files do, by
# BT.709, and a file without the tag as before.
# It matters to all whose published numbers were made through OpenCV 4: they cannot be had with 5, and a benchmark whose
# requirements say `opencv-python>=4` gives either.
#
# Seen on x86-64 with opencv-python-headless 4.12.0.88 and 5.0.0.93, for one lossless H.264 file of (180, 80, 60):
#   untagged   4.12: [179, 80, 59]  5.0: [179, 80, 59]
#   BT.709     4.12: [179, 80, 59]  5.0: [188, 88, 56]   PSNR between them 31 dB
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
python3 -m venv v
v/bin/pip install -q av==18.1.0 numpy==2.2.6
v/bin/pip install -q --no-deps --target old opencv-python-headless==4.12.0.88
v/bin/pip install -q --no-deps --target new opencv-python-headless==5.0.0.93
v/bin/python - <<'EOF'
import av
import numpy as np

for name, matrix in (("untagged", None), ("bt709", 1)):
    with av.open(f"{name}.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt, stream.options = "yuv444p", {"qp": "0"}
        if matrix:
            stream.codec_context.colorspace = matrix
        # The samples are BT.601's of (180, 80, 60) in both files: only the tag differs.
        picture = np.full((64, 64, 3), (180, 80, 60), np.uint8)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
EOF
for release in old new; do
    PYTHONPATH=$release v/bin/python - <<'EOF' | tee -a seen
import cv2

for name in ("untagged", "bt709"):
    print(cv2.__version__, name, cv2.VideoCapture(f"{name}.mp4").read()[1][32, 32, ::-1].tolist())
EOF
done
diff seen - <<'EOF' || { echo "the behaviour has changed" >&2; exit 1; }
4.12.0 untagged [179, 80, 59]
4.12.0 bt709 [179, 80, 59]
5.0.0 untagged [179, 80, 59]
5.0.0 bt709 [188, 88, 56]
EOF
