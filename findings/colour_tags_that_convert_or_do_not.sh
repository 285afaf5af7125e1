#!/usr/bin/env bash
# `-colorspace bt709 -color_range pc` writes a label in FFmpeg 7, converts the picture in FFmpeg 9; PyAV's attributes of
# the same names write the label.
#
# One would expect that an option for the colour of the output either always converts or never does. The same command
# of two releases of imageio-ffmpeg gives two files with equal tags and different samples. FFmpeg 7.0.2 converts RGB by
# BT.601 to limited range as ever and calls the result BT.709, full: every reader that heeds the tags shows other
# colours. FFmpeg 9.0.2 converts as the tags say. PyAV 18.1.0, on FFmpeg 8.1, does what version 7 did when a stream's
# codec_context.colorspace and color_range are set and frames come as rgb24.
# It matters to whoever writes reference videos from RGB arrays and thinks the tags make them right.
#
# Seen on x86-64; the picture is (200, 80, 0), samples are the first of Y, U, V:
#   FFmpeg 7.0.2   [108, 75, 186]   BT.709, full   decoded as [199, 91, 10]
#   FFmpeg 9.0.2   [100, 74, 191]   BT.709, full   decoded as [199, 81, 0]
#   PyAV 18.1.0    [108, 75, 186]   BT.709, full   decoded as [199, 91, 10]
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
python3 -m venv v
v/bin/pip install -q av==18.1.0 numpy==2.2.6
v/bin/pip install -q --no-deps --target old imageio-ffmpeg==0.6.0
v/bin/pip install -q --no-deps --target new imageio-ffmpeg==0.8.1
for release in old new; do
    ffmpeg=$(PYTHONPATH=$release v/bin/python -c 'import imageio_ffmpeg as i; print(i.get_ffmpeg_exe())')
    "$ffmpeg" -v error -f lavfi -i "color=0xC85000:s=64x64:d=0.1:r=10,format=rgb24" -pix_fmt yuv444p \
        -colorspace bt709 -color_primaries bt709 -color_trc bt709 -color_range pc -c:v libx264 -qp 0 "$release.mp4"
done
v/bin/python - <<'EOF'
import sys

import av
import numpy as np

with av.open("pyav.mp4", "w") as container:
    stream = container.add_stream("libx264", rate=10)
    stream.width = stream.height = 64
    stream.pix_fmt, stream.options = "yuv444p", {"qp": "0"}
    codec = stream.codec_context
    codec.colorspace = codec.color_primaries = codec.color_trc = 1  # BT.709
    codec.color_range = 2  # full
    picture = np.full((64, 64, 3), (200, 80, 0), np.uint8)
    container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
    container.mux(stream.encode())
seen = {}
for name in ("old", "new", "pyav"):
    with av.open(f"{name}.mp4") as container:
        frame = next(container.decode(video=0))
    samples = [int(np.frombuffer(plane, np.uint8)[0]) for plane in frame.planes]
    tags = int(frame.colorspace), int(frame.color_range)
    seen[name] = samples, tags
    print(name, samples, "matrix, range", tags, "decoded", frame.to_ndarray(format="rgb24")[8, 8].tolist())
expected = {"old": [108, 75, 186], "new": [100, 74, 191], "pyav": [108, 75, 186]}
same = all(seen[name] == (samples, (1, 2)) for name, samples in expected.items())
sys.exit(None if same else "the behaviour has changed")
EOF
