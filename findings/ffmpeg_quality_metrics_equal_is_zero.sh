#!/usr/bin/env bash
# ffmpeg-quality-metrics 3.13.0: PSNR of two equal videos is summarised as 0 dB, the worst value there is.
#
# One would expect infinity, or a capped value such as 100 dB, for a video compared with itself. Per picture the package
# does say inf. Its summary leaves infinite pictures out of the mean, the minimum and the maximum, and the mean of none
# is written as 0. Where only some pictures are equal, the "average" is that of the damaged ones alone: below, one
# damaged picture among ten gives the same average as ten damaged pictures would.
# It matters where a table is sorted by psnr_avg: a lossless encode comes last, and a video with few damaged pictures
# cannot be told from one that is damaged throughout.
#
# Seen with ffmpeg-quality-metrics 3.13.0 and the FFmpeg 9.0.2 of imageio-ffmpeg 0.8.1:
#   equal          per picture inf … inf    summary {'average': 0.0, 'min': 0.0, 'max': 0.0}
#   1 of 10 noisy  per picture inf … 18.45  summary {'average': 18.45, 'min': 18.45, 'max': 18.45}
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
python3 -m venv v
v/bin/pip install -q ffmpeg-quality-metrics==3.13.0 imageio-ffmpeg==0.8.1 numpy==2.2.6
v/bin/python - <<'EOF'
import os
import subprocess
import sys

import imageio_ffmpeg
import numpy as np
from ffmpeg_quality_metrics import FfmpegQualityMetrics

ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()


def write(path, pictures):
    pipe = [ffmpeg, "-v", "error", "-f", "rawvideo", "-pix_fmt", "gray", "-s", "64x64", "-r", "10", "-i", "-"]
    subprocess.run([*pipe, "-c:v", "ffv1", path], input=pictures.tobytes(), check=True)


generator = np.random.default_rng(0)
film = generator.integers(60, 196, (10, 64, 64), dtype=np.uint8)
noisy = film.copy()
noisy[9] = np.clip(film[9] + generator.normal(0, 31, (64, 64)), 0, 255)
write("film.mkv", film)
write("copy.mkv", film)
write("noisy.mkv", noisy)

seen = {}
for name in ("copy", "noisy"):
    metrics = FfmpegQualityMetrics("film.mkv", f"{name}.mkv", ffmpeg_path=ffmpeg, tmp_dir=os.getcwd())
    rows = [row["psnr_avg"] for row in metrics.calculate(["psnr"])["psnr"]]
    summary = metrics.get_global_stats()["psnr"]["psnr_avg"]
    seen[name] = rows, {key: float(summary[key]) for key in ("average", "min", "max")}
    print(name, rows, seen[name][1])
equal, partly = seen["copy"], seen["noisy"]
same = (
    all(value == float("inf") for value in equal[0])
    and equal[1] == {"average": 0, "min": 0, "max": 0}
    and np.isfinite(partly[0]).sum() == 1
    and abs(partly[1]["average"] - partly[0][9]) < 0.01
)
sys.exit(None if same else "the behaviour has changed")
EOF
