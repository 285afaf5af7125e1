#!/usr/bin/env bash
# PyAV and OpenCV on a 10-bit 4:2:0 film: white is 253, not 255, and through OpenCV grey has a tint.
#
# One would expect the same RGB from 8 bits and from the same samples times four, or a closer value. Both libraries
# convert by FFmpeg's swscale. For 4:2:0 and 4:2:2 of 10 bits white (Y = 940, no chroma) becomes (253, 253, 253) in
# rgb24, mid grey (504) 126 instead of 128; for 4:4:4 of 10 bits white is 255 again. OpenCV asks for bgr24, where red
# and blue take another way than green: 255, 253, 255, and every grey leans to magenta.
# It matters where 8-bit and 10-bit encodes of one source are compared in RGB: for flat grey the two equal
# pictures have a PSNR of 42 dB, and OpenCV's tint enters every metric of colour.
#
# Seen with PyAV 18.1.0 (FFmpeg 8.1) and opencv-python-headless 4.12.0.88 (FFmpeg 5.1), x86-64, for black, grey, white:
#   yuv420p      PyAV [0, 0, 0] [128, 128, 128] [255, 255, 255]   OpenCV the same
#   yuv420p10le  PyAV [0, 0, 0] [126, 126, 126] [253, 253, 253]   OpenCV [0, 0, 0] [128, 126, 128] [255, 253, 255]
#   yuv444p10le  PyAV [0, 0, 0] [128, 128, 128] [255, 255, 255]   OpenCV the same
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
python3 -m venv v
v/bin/pip install -q av==18.1.0 opencv-python-headless==4.12.0.88 numpy==2.2.6
v/bin/python - <<'EOF'
import sys

import av
import cv2
import numpy as np

seen = {}
for pixels in ("yuv420p", "yuv420p10le", "yuv444p10le"):
    scale, kind = (4, np.uint16) if "10" in pixels else (1, np.uint8)
    with av.open(f"{pixels}.mkv", "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = pixels
        for luma in (16, 126, 235):
            frame = av.VideoFrame(64, 64, pixels)
            for plane, value in zip(frame.planes, (luma, 128, 128), strict=True):
                plane.update(np.full(plane.buffer_size // kind().itemsize, value * scale, kind).tobytes())
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with av.open(f"{pixels}.mkv") as container:
        pyav = [frame.to_ndarray(format="rgb24")[32, 32].tolist() for frame in container.decode(video=0)]
    capture = cv2.VideoCapture(f"{pixels}.mkv")
    opencv = [capture.read()[1][32, 32, ::-1].tolist() for _ in range(3)]
    seen[pixels] = pyav, opencv
    print(pixels, "PyAV", *pyav, "OpenCV", *opencv)
grey = [[value] * 3 for value in (0, 128, 255)]
low = [[value] * 3 for value in (0, 126, 253)]
expected = {
    "yuv420p": (grey, grey),
    "yuv420p10le": (low, [[0, 0, 0], [128, 126, 128], [255, 253, 255]]),
    "yuv444p10le": (grey, grey),
}
sys.exit(None if seen == expected else "the behaviour has changed")
EOF
