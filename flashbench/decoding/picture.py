"""One picture file to 8-bit RGB, by one rule for each thing that its format may hold.

Grey, palettes, one bit and CMYK become RGB as OpenCV decodes them, turned as EXIF says. Samples of 16 bits become
round(x / 257). What is not opaque is shown on black (`alpha.over_black`), after that. A file of several pictures (pages
of a TIFF, an animated PNG or WebP) is none.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from flashbench.decoding import webp
from flashbench.decoding.alpha import over_black
from flashbench.types import Frames

_ASSOCIATED, _STRAIGHT = 1, 2
"""Of TIFF's ExtraSamples: colours that are multiplied with their alpha already, and such that are not."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What a file's head says of its samples."""

    kind: str
    """`png`, `webp`, `tiff`, or `other`: opaque, of 8 bits."""
    pictures: int = 1
    bits: int = 8
    """Of a sample."""
    alpha: bool = False
    """Whether it can be transparent; only its pixels tell whether it is."""
    key: int | None = None
    """Of a grey PNG: the sample that is transparent."""
    tags: dict[int, list[int]] = field(default_factory=dict)
    """Of a TIFF's first page: tag → whole numbers."""


def rgb(path: Path) -> tuple[Frames, bool]:
    """(the picture uint8 [H, W, 3] in RGB, whether any pixel of it is not opaque).

    Raises:
        OSError: it cannot be read.
        ValueError: it is no whole picture, holds several, or samples of another kind; the message names the file.
    """
    content = path.read_bytes()
    try:
        about = stored(path, content)
        if about.pictures > 1:
            raise ValueError(f"holds {about.pictures} pictures: it is no single frame")
        if about.kind == "tiff":
            _check_tiff(about)
        return _decoded(content, about)
    except (ValueError, struct.error, IndexError, cv2.error) as error:
        why = str(error) if isinstance(error, ValueError) else "is not a picture"
        raise ValueError(f"{os.fsencode(path.name).decode('utf-8', 'backslashreplace')} {why}") from error


def stored(path: Path, content: bytes) -> Stored:
    """What the head of a picture file says of its samples.

    Raises:
        ValueError, struct.error, IndexError: the head is not whole.
    """
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png(content)
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        flags, lossless = content[20], content[12:16] == b"VP8L"
        alpha = bool(int.from_bytes(content[21:25], "little") >> 28 & 1) if lossless else bool(flags & 0x10)
        return Stored(kind="webp", pictures=webp.pictures(path), alpha=alpha and content[12:16] != b"VP8 ")
    if content[:4] in (b"II*\0", b"MM\0*"):
        return _tiff(content)
    if content[:4] in (b"II+\0", b"MM\0+"):
        raise ValueError("is a BigTIFF, which is not read: save it as TIFF or PNG")
    return Stored(kind="other")


def _decoded(content: bytes, about: Stored) -> tuple[Frames, bool]:
    colour = _imdecode(content, cv2.IMREAD_COLOR | (cv2.IMREAD_ANYDEPTH if about.bits == 16 else 0))
    if not about.alpha:
        return _reduced(cv2.cvtColor(colour, cv2.COLOR_BGR2RGB)), False
    whole = _imdecode(content, cv2.IMREAD_UNCHANGED)
    if whole.ndim == 3 and whole.shape[2] == 4:
        bgr, alpha = whole[..., :3], _reduced(whole[..., 3])
    elif about.key is not None and whole.ndim == 2:
        bgr, alpha = colour, np.where(whole == about.key, 0, 255).astype(np.uint8)
    else:
        raise ValueError("has a transparency that is not read: save it as PNG in RGB and alpha")
    opaque = bool((alpha == 255).all())
    seen = _reduced(np.ascontiguousarray(bgr[..., ::-1]))
    if about.kind == "tiff":
        kind = about.tags.get(338, [0])[0]
        if not opaque and kind not in (_ASSOCIATED, _STRAIGHT):
            raise ValueError("does not declare what its fourth channel is (TIFF's ExtraSamples): save it as PNG")
        # OpenCV has multiplied 8 bits by alpha, by the same rule.
        return (over_black(seen, alpha) if kind == _STRAIGHT and about.bits == 16 else seen), not opaque
    if not opaque and (bgr.shape != colour.shape or not np.array_equal(bgr, colour)):
        raise ValueError("is transparent and turned by EXIF, which is not read: turn its pixels")
    return (over_black(seen, alpha), True) if not opaque else (_reduced(colour[..., ::-1].copy()), False)


def _imdecode(content: bytes, flags: int) -> Any:
    # Not imread, which knows no names outside the locale and says nothing where it fails.
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), flags) if content else None
    if picture is None:
        raise ValueError("is not a picture")
    return picture


def _reduced(samples: Any) -> Frames:
    """8-bit samples as they are, those of 16 bits as round(x / 257): 0 stays 0, and 65535 becomes 255."""
    if samples.dtype == np.uint16:
        samples = (samples.astype(np.uint32) + 128) // 257
    return np.asarray(samples, np.uint8)


def _png(content: bytes) -> Stored:
    """Of the chunks before the pixels (W3C PNG, 11.2 and 11.3): IHDR, acTL of an animation, tRNS."""
    pictures, alpha, key, bits, colour = 1, False, None, 8, 2
    for name, data in _chunks(content):
        if name == b"IHDR":
            bits, colour = data[8], data[9]
            alpha = colour in (4, 6)
        elif name == b"acTL":
            pictures = int.from_bytes(data[:4], "big")
        elif name == b"tRNS":
            alpha = True
            if colour == 0:
                scale = 255 // ((1 << bits) - 1) if bits < 8 else 1
                key = int.from_bytes(data[:2], "big") * scale
    return Stored(kind="png", pictures=pictures, bits=16 if bits == 16 else 8, alpha=alpha, key=key)


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at + 8 <= len(content):
        size, name = struct.unpack_from(">I4s", content, at)
        if name == b"IDAT":
            return
        yield name, content[at + 8 : at + 8 + size]
        at += 12 + size


def _tiff(content: bytes) -> Stored:
    """Of the directories (TIFF 6.0): how many pages, and of the first what its samples are."""
    order = "<" if content[:2] == b"II" else ">"
    at = first = struct.unpack_from(order + "I", content, 4)[0]
    seen = set[int]()
    while at and at not in seen:
        seen.add(at)
        (count,) = struct.unpack_from(order + "H", content, at)
        (at,) = struct.unpack_from(order + "I", content, at + 2 + 12 * count)
    tags = _tags(content, first, order)
    bits = max(tags.get(258, [1]))
    return Stored(kind="tiff", pictures=len(seen), bits=bits if bits > 8 else 8, alpha=_extra(tags) > 0, tags=tags)


def _tags(content: bytes, at: int, order: str) -> dict[int, list[int]]:
    """Tag → its values, of those whose type is SHORT or LONG."""
    tags: dict[int, list[int]] = {}
    for number in range(struct.unpack_from(order + "H", content, at)[0]):
        place = at + 2 + 12 * number
        tag, kind, count = struct.unpack_from(order + "HHI", content, place)
        if kind in (3, 4) and count <= 16:  # not the tables of a palette
            size, letter = (2, "H") if kind == 3 else (4, "I")
            where = place + 8 if count * size <= 4 else struct.unpack_from(order + "I", content, place + 8)[0]
            tags[tag] = list(struct.unpack_from(f"{order}{count}{letter}", content, where))
    return tags


def _extra(tags: dict[int, list[int]]) -> int:
    """Samples of a pixel that are no colour, by the kind of colours (PhotometricInterpretation)."""
    colours = {0: 1, 1: 1, 3: 1, 5: 4}.get(tags.get(262, [1])[0], 3)
    return tags.get(277, [1])[0] - colours


def _check_tiff(about: Stored) -> None:
    """Refuse samples for which there is no rule."""
    kind = max(about.tags.get(339, [1]))
    if about.bits not in (8, 16) or kind != 1:
        name = {1: "whole numbers", 2: "signed numbers", 3: "floating point"}.get(kind, "another kind")
        raise ValueError(f"holds samples of {about.bits} bits, {name}: 8 and 16 bits without sign are read")
    if about.bits == 16 and about.tags.get(262, [1])[0] not in (1, 2):
        raise ValueError("holds 16 bits of another kind than grey or RGB, which are read: save it as PNG")
    if _extra(about.tags) > 1:
        raise ValueError(f"has {_extra(about.tags)} channels besides its colours: save it as PNG")
