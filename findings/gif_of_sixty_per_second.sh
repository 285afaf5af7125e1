#!/usr/bin/env bash
# A GIF that imageio writes for 60 pictures per second has 100 to PyAV and OpenCV 5, and 10 to OpenCV 4.
#
# A GIF counts time in hundredths of a second, so one would expect 50 per second, the nearest that many viewers honour,
# from every reader. Pillow, by which imageio writes, cuts 16.67 ms down to 1 hundredth: 100 per second, 1.7 times too
# fast. The FFmpeg 5.1 inside OpenCV 4.12 takes a step of 1 hundredth for one of 10, as browsers do, the FFmpeg 8.1 of
# PyAV and OpenCV 5.0 takes it as it is. So one file lasts 0.1 s or 1 s by the wheel that reads it.
# It matters to metrics that use the rate (motion per second, frames drawn at 8 per second) on GIFs, which several
# galleries of generated videos hold.
#
# Seen with imageio 2.38.1, Pillow 12.0.0, PyAV 18.1.0 (FFmpeg 8.1), opencv-python-headless 4.12.0.88 and 5.0.0.93:
#   60 per second written: Pillow 100, PyAV 100, OpenCV 4.12 10, OpenCV 5.0 100
#   30 per second written: Pillow 33.3, PyAV 33.3, OpenCV 4.12 33.3, OpenCV 5.0 33.3
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
python3 -m venv v
v/bin/pip install -q imageio==2.38.1 pillow==12.0.0 av==18.1.0 numpy==2.2.6
v/bin/pip install -q --no-deps --target old opencv-python-headless==4.12.0.88
v/bin/pip install -q --no-deps --target new opencv-python-headless==5.0.0.93
v/bin/python - <<'EOF' | tee seen
import av
import imageio.v3 as iio
import numpy as np
from PIL import Image

film = np.random.default_rng(0).integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)
for rate in (60, 30):
    path = f"{rate}.gif"
    iio.imwrite(path, film, duration=1000 / rate)
    with Image.open(path) as image, av.open(path) as container:
        times = [float(frame.time) for frame in container.decode(video=0)]
        print(f"{rate}: Pillow {1000 / image.info['duration']:.1f}, PyAV {9 / (times[-1] - times[0]):.1f}")
EOF
for release in old new; do
    PYTHONPATH=$release v/bin/python - <<'EOF' | tee -a seen
import cv2

for rate in (60, 30):
    print(f"{rate}: OpenCV {cv2.__version__} {cv2.VideoCapture(f'{rate}.gif').get(cv2.CAP_PROP_FPS):.1f}")
EOF
done
diff seen - <<'EOF' || { echo "the behaviour has changed" >&2; exit 1; }
60: Pillow 100.0, PyAV 100.0
30: Pillow 33.3, PyAV 33.3
60: OpenCV 4.12.0 10.0
30: OpenCV 4.12.0 33.3
60: OpenCV 5.0.0 100.0
30: OpenCV 5.0.0 33.3
EOF
