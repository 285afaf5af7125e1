#!/usr/bin/env bash
# PySceneDetect: how many scenes a video of variable frame rate has depends on the backend and on the container.
#
# One would expect the same cuts from `opencv` and `pyav`, which decode the same pictures, and from MP4 and MKV with the
# same stream. ContentDetector drops cuts that are nearer than min_scene_len, 15 pictures unless told, and turns that
# into a time by the video's rate. For a variable rate the backends have different rates: PyAV's is the finest step in
# an MP4 (50 here, a scene may last 0.3 s), OpenCV's the average (17, 0.9 s): three true cuts vanish.
# It matters to benchmarks of long videos that are cut into scenes first and scored scene by scene (VBench-Long does
# so): set min_scene_len in seconds, or make the rate constant before.
#
# Seen with scenedetect 0.7.2, PyAV 18.1.0, OpenCV 5.0.0.93; true cuts at 0.8, 1.6, 2.4, 6.4 and 10.4 s:
#   mp4  opencv: 6.4 10.4    pyav: 0.8 1.6 2.4 6.4 10.4
#   mkv  opencv and pyav: 0.8 1.6 2.4 6.4 10.4
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
python3 -m venv v
v/bin/pip install -q scenedetect==0.7.2 av==18.1.0 opencv-python==5.0.0.93 numpy==2.4.6
v/bin/python - <<'EOF'
import sys
from fractions import Fraction

import av
import numpy as np
from scenedetect import ContentDetector, SceneManager, open_video

generator = np.random.default_rng(1)
squares = generator.integers(0, 256, (6, 9, 12, 3), dtype=np.uint8)
shots = squares.repeat(16, axis=1).repeat(16, axis=2)
times = [20 * k for k in range(121)] + [2400 + 100 * k for k in range(1, 120)]  # milliseconds; 40 pictures a shot


def write(path):
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt, stream.options = 192, 144, "yuv420p", {"bf": "0", "crf": "12"}
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.roll(shots[number // 40], number, 1), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


write("film.mp4")
write("film.mkv")
seen = {}
for kind, backend in (("mp4", "opencv"), ("mp4", "pyav"), ("mkv", "opencv"), ("mkv", "pyav")):
    video = open_video(f"film.{kind}", backend=backend)
    manager = SceneManager()
    manager.add_detector(ContentDetector())
    manager.detect_scenes(video)
    seen[kind, backend] = [round(start.seconds, 1) for start, _ in manager.get_scene_list()][1:]
    print(kind, backend, f"rate {float(video.frame_rate):.2f}", "cuts", seen[kind, backend])
true = [0.8, 1.6, 2.4, 6.4, 10.4]
short = seen.pop(("mp4", "opencv"))
same = short == [6.4, 10.4] and all(cuts == true for cuts in seen.values())
sys.exit(None if same else "the behaviour has changed")
EOF
