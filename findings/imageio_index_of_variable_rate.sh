#!/usr/bin/env bash
# imageio with PyAV: imread(file, index=i) is not the i-th picture of imiter(file) where the frame rate varies.
#
# One would expect index to count pictures, in every file. imageio turns it into a time by the nominal rate unless
# `constant_framerate` is False, and sets that by a flag of the container's format which neither Matroska nor MP4 has,
# not by the file. So pictures are skipped, repeated, or said not to exist, without a warning; in MP4 the last two
# indices give a picture that is long past. Pass constant_framerate=False.
# It matters where frames are sampled by index (eight of a clip, say): the sample is another one than the list's.
#
# Seen with imageio 2.38.1, PyAV 18.1.0, for 12 pictures 20 ms apart, then 12 80 ms apart:
#   film.mkv  imread 0 1 2 3 8 9 10 11 12 13 14 15 16 17 16 17 18 19 20 21 22 23 StopIteration StopIteration
#   film.mp4  imread 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 16 16
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
python3 -m venv v
v/bin/pip install -q imageio==2.38.1 av==18.1.0 numpy==2.2.6
v/bin/python - <<'EOF'
import sys
from fractions import Fraction

import av
import imageio.v3 as iio
import numpy as np

times = [20 * k for k in range(12)] + [240 + 80 * k for k in range(12)]  # milliseconds


def number(picture):
    return round(picture.mean() / 10)


def at(path, index):
    try:
        return number(iio.imread(path, plugin="pyav", index=index))
    except StopIteration:
        return "StopIteration"


seen = {}
for path in ("film.mkv", "film.mp4"):
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.gop_size = 8
        for grey, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 10 * grey, np.uint8), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    seen[path] = [number(picture) for picture in iio.imiter(path, plugin="pyav")], [at(path, k) for k in range(24)]
    print(path, "imiter", *seen[path][0], "\n         imread", *seen[path][1])
matroska = [*range(4), *range(8, 18), *range(16, 24), *["StopIteration"] * 2]
expected = {"film.mkv": matroska, "film.mp4": [*range(22), 16, 16]}
same = all(seen[path] == (list(range(24)), read) for path, read in expected.items())
sys.exit(None if same else "the behaviour has changed")
EOF
