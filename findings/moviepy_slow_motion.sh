#!/usr/bin/env bash
# moviepy plays an MP4 of variable frame rate in slow motion, and its second part is never seen.
#
# One would expect clip.get_frame(t) to show what a player shows at t, give or take a picture. moviepy asks FFmpeg for
# raw pictures at FFmpeg's own constant rate (50 per second here, the finest step in the file), and takes the k-th of
# them for the one at k divided by the *average* rate that FFmpeg's banner names (21.68 here). So the film runs at less
# than half its speed, and iteration ends when the file's duration is over, before the last 40 of 150 pictures.
# It matters to whoever reads screen recordings or phones' videos, which are of variable rate, or draws frames "at 2 s"
# for a metric or a prompt's check.
#
# Seen with moviepy 2.2.1, imageio-ffmpeg 0.6.0 (FFmpeg 7.0.2), on 100 pictures 20 ms apart, then 50 100 ms apart:
#   at second        1   2   4   6   (last)
#   picture seen    21  43  86 106   109
#   picture true    50 100 120 140   149
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
python3 -m venv v
v/bin/pip install -q moviepy==2.2.1 imageio-ffmpeg==0.6.0 av==18.1.0 numpy==2.2.6
v/bin/python - <<'EOF'
import sys
from fractions import Fraction

import av
import numpy as np
from moviepy import VideoFileClip

times = [20 * k for k in range(100)] + [2000 + 100 * k for k in range(50)]  # milliseconds
bits = np.arange(8)
with av.open("film.mp4", "w") as container:
    stream = container.add_stream("libx264", rate=50)
    stream.width, stream.height, stream.pix_fmt, stream.options = 128, 64, "yuv420p", {"bf": "0", "crf": "10"}
    stream.codec_context.time_base = Fraction(1, 1000)
    for number, time in enumerate(times):
        bars = np.repeat((number >> bits & 1) * 255, 16).astype(np.uint8)  # the picture's number in eight bars
        frame = av.VideoFrame.from_ndarray(np.broadcast_to(bars[None, :, None], (64, 128, 3)).copy(), format="rgb24")
        frame.pts, frame.time_base = time, Fraction(1, 1000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def number(picture):
    return int(((picture[32, 8::16, 1] > 128) << bits).sum())


clip = VideoFileClip("film.mp4", audio=False)
seen = {at: number(clip.get_frame(at)) for at in (1.0, 2.0, 4.0, 6.0)}
true = {at: max(k for k, time in enumerate(times) if time <= 1000 * at) for at in seen}
last = max(number(picture) for picture in clip.iter_frames())
print(f"fps {clip.fps}, duration {clip.duration}, last picture seen {last}; at second: seen {seen}, true {true}")
sys.exit(None if all(seen[at] < true[at] / 2 for at in (1.0, 2.0)) and last < 120 else "the behaviour has changed")
EOF
