#!/usr/bin/env bash
# FFmpeg's psnr filter compares in a pixel format of its own choice: an RGB film equals its 4:2:0 copy, and PSNR(a, b)
# differs from PSNR(b, a).
#
# One would expect that a comparison of RGB with 4:2:0 counts the lost colour detail, and that PSNR, a function of a
# squared difference, does not ask which video comes first. In fact both inputs are brought to one format first:
# * RGB against 4:2:0: RGB is reduced to 4:2:0 too, by the very conversion under test, and the result is infinite;
#   compared in RGB, the same copy has 13 dB, since the film's colours change from pixel to pixel.
# * 8 bits against 10: the first input's depth decides. 10 bits are brought down to 8 in one order, and 8 are taken up
#   to 10 in the other; the two orders are several dB apart.
# It matters to whoever measures a codec against an RGB master or a 10-bit encode against an 8-bit one: put
# `format=gbrp` (or gbrp10le) before the filter on both sides.
#
# Seen with FFmpeg 9.0.2 of imageio-ffmpeg 0.8.1 on x86-64: rgb, yuv420p inf; the same in gbrp 12.97; 8, 10 bits 54.08;
# 10, 8 bits 58.31.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
python3 -m venv v
v/bin/pip install -q imageio-ffmpeg==0.8.1 numpy==2.2.6
v/bin/python - <<'EOF'
import re
import subprocess
import sys

import imageio_ffmpeg
import numpy as np

ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
film = np.random.default_rng(0).integers(0, 256, (5, 128, 128, 3), dtype=np.uint8)


def write(path, source, pixels):
    lossless = ["-pix_fmt", pixels, "-c:v", "ffv1", path]
    subprocess.run([ffmpeg, "-v", "error", *source, *lossless], input=film.tobytes(), check=True)


def psnr(first, second, before="null"):
    graph = f"[0]{before}[a];[1]{before}[b];[a][b]psnr"
    call = [ffmpeg, "-hide_banner", "-i", first, "-i", second, "-lavfi", graph, "-f", "null", "-"]
    log = subprocess.run(call, capture_output=True, text=True, check=True).stderr
    return float(re.search(r"average:(\S+)", log)[1])


write("rgb.mkv", "-f rawvideo -pix_fmt rgb24 -s 128x128 -i -".split(), "gbrp")
write("yuv.mkv", ["-i", "rgb.mkv"], "yuv420p")
write("ten.mkv", ["-i", "rgb.mkv"], "yuv420p10le")
seen = {
    "rgb, yuv420p": psnr("rgb.mkv", "yuv.mkv"),
    "rgb, yuv420p, both as gbrp": psnr("rgb.mkv", "yuv.mkv", "format=gbrp"),
    "8, 10 bits": psnr("yuv.mkv", "ten.mkv"),
    "10, 8 bits": psnr("ten.mkv", "yuv.mkv"),
}
print(seen)
infinite, in_rgb, up, down = seen.values()
sys.exit(None if infinite == float("inf") and in_rgb < 20 and abs(up - down) > 2 else "the behaviour has changed")
EOF
