#!/usr/bin/env bash
# FFmpeg's 4:2:0 to RGB depends on the processor: without vector instructions the same file gives other pixels.
#
# One would expect that one build of FFmpeg decodes one file to one RGB picture, since H.264, FFV1 and their kin are
# exact. The decoders are; the conversion to rgb24 is not. Its vector code and its C code round differently: a third of
# all samples differ, by up to three levels. `-cpuflags 0` shows what a machine without that code would give. Enlarged
# or reduced, the same pictures are equal again: only the direct conversion has two ways.
# `-sws_flags bicubic+accurate_rnd+bitexact` makes both equal.
# It matters for "the same result to the last bit on any machine", and to caches that are keyed by the file alone.
#
# Seen with FFmpeg 9.0.2 of imageio-ffmpeg 0.8.1, x86-64:
#   direct   : 33% of samples differ, by 3 at most
#   reduced  : 0% of samples differ, by 0 at most
#   bitexact : 0% of samples differ, by 0 at most
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
python3 -m venv v
v/bin/pip install -q imageio-ffmpeg==0.8.1 numpy==2.2.6
v/bin/python - <<'EOF'
import platform
import subprocess
import sys

import imageio_ffmpeg
import numpy as np

if platform.machine() != "x86_64":
    sys.exit("this script needs an x86-64 processor")
ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error"]
noise = "testsrc2=size=320x240:rate=5:duration=1,noise=alls=40:all_seed=1"
subprocess.run([*ffmpeg, "-f", "lavfi", "-i", noise, "-pix_fmt", "yuv420p", "-c:v", "ffv1", "film.mkv"], check=True)


def pixels(flags, *options):
    call = [*ffmpeg, *flags, "-i", "film.mkv", *options, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    return np.frombuffer(subprocess.run(call, capture_output=True, check=True).stdout, np.uint8).astype(int)


seen = {}
for name, options in {
    "direct": (),
    "reduced": ("-s", "160x120"),
    "bitexact": ("-sws_flags", "bicubic+accurate_rnd+bitexact"),
}.items():
    difference = np.abs(pixels((), *options) - pixels(("-cpuflags", "0"), *options))
    seen[name] = round(float((difference > 0).mean()), 2), int(difference.max())
    print(f"{name:9}: {seen[name][0]:.0%} of samples differ, by {seen[name][1]} at most")
same = seen["direct"][0] > 0.1 and seen["reduced"] == seen["bitexact"] == (0.0, 0)
sys.exit(None if same else "the behaviour has changed")
EOF
