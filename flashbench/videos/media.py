"""Which files are videos, which pictures, and which look like either and are not read.

By suffix, and by the first bytes where a suffix has two meanings: `.ts` is MPEG-TS or TypeScript, a WebP or AVIF is
animated or still.
"""

from __future__ import annotations

import os
import stat
from enum import Enum
from pathlib import Path

from flashbench.decoding import webp
from flashbench.decoding.whole import transport

STREAMS = (".ts", ".m2ts", ".mts")
"""Suffixes of MPEG transport streams; the first and the last are TypeScript's too."""
VIDEOS = (
    ".mp4", ".mkv", ".webm", ".mov", ".avi", ".gif", ".m4v", ".mpg", ".mpeg", ".y4m", ".flv", ".wmv", ".3gp", ".ogv",
    *STREAMS, ".webp", ".avif",
)  # fmt: skip
"""Suffixes of videos that are looked for in folders (WebP, AVIF: animated ones); a file that is named may have any."""
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
"""A folder that holds such files (WebP: still ones) and no video is a video itself: they are its frames."""
UNREAD = (
    ".rm", ".rmvb", ".mxf", ".vob", ".asf", ".f4v", ".gifv", ".divx", ".dv", ".3g2", ".qt", ".ogm", ".m1v", ".m2v",
    ".mpv", ".ivf", ".obu", ".264", ".h264", ".265", ".h265", ".hevc", ".vvc", ".nut", ".swf", ".mj2", ".apng", ".heic",
    ".heif", ".jxl", ".jp2", ".j2k", ".exr", ".dpx", ".hdr", ".tga", ".ppm", ".pgm", ".pnm", ".psd", ".dng", ".jpe",
    ".mpe", ".m2p", ".mk3d", ".mjpeg", ".mjpg", ".m4s", ".tp", ".trp", ".av1", ".yuv", ".avifs", ".heics",
)  # fmt: skip
"""Suffixes of videos and pictures that are not looked for: a remark names them."""


class Kind(Enum):
    """What a file is to a search for videos."""

    VIDEO = "video"
    PICTURE = "picture"
    UNREAD = "unread"
    """Looks like a video or a picture, and is not read."""
    OTHER = "other"


def kind(path: Path) -> Kind:
    """What a file is; one that cannot be looked into is what its suffix says. Hidden pictures are none."""
    suffix = os.path.splitext(path.name)[1].lower() or path.name.lower()
    if path.name.startswith("._"):  # what macOS keeps beside a file of that name
        return Kind.OTHER
    if suffix in (*STREAMS, ".webp", ".avif"):
        try:
            found = _looked_into(path, suffix)
        except OSError:
            found = Kind.VIDEO
    elif suffix in VIDEOS:
        return Kind.VIDEO
    else:
        found = Kind.PICTURE if suffix in PICTURES else Kind.UNREAD if suffix in UNREAD else Kind.OTHER
    hidden = path.name.startswith(".") and found is not Kind.VIDEO
    return Kind.OTHER if hidden else found


def _looked_into(path: Path, suffix: str) -> Kind:
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe waits for somebody who writes
        return Kind.VIDEO
    if suffix == ".webp":
        return Kind.VIDEO if webp.pictures(path) > 1 else Kind.PICTURE
    with path.open("rb") as file:
        head = file.read(8192)
    if suffix == ".avif":
        brands = head[8 : int.from_bytes(head[:4], "big")] if head[4:8] == b"ftyp" else b""
        return Kind.VIDEO if b"avis" in (brands[at : at + 4] for at in range(0, len(brands), 4)) else Kind.UNREAD
    if any(transport(head)):
        return Kind.VIDEO
    return Kind.UNREAD if b"\0" in head else Kind.OTHER  # text is TypeScript
