"""How many pictures a GIF holds: FFmpeg takes those that no graphic control block parts for one.

GIF89a (CompuServe, 1990): a head, then blocks; an image is a descriptor, a table of colours and sub-blocks of data.
"""

from __future__ import annotations

from pathlib import Path


def pictures(path: Path) -> int:
    """Images of a GIF file; 0 if it is none.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        if file.read(4) != b"GIF8":
            return 0
    content, count = path.read_bytes(), 0
    at = 13 + _table(content, 10)
    while at + 10 < len(content):
        if content[at] == 0x2C:  # an image, and the byte before its data
            count += 1
            at += 10 + _table(content, at + 9) + 1
        elif content[at] == 0x21:  # an extension, and its label
            at += 2
        else:
            break
        while at < len(content) and content[at]:
            at += content[at] + 1
        at += 1
    return count


def _table(content: bytes, at: int) -> int:
    """Bytes of the table of colours that the flags at a place tell."""
    return 3 << (content[at] & 7) + 1 if content[at] & 0x80 else 0
