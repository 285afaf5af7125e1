"""Whether a file ends where it says it ends: what containers write of their own length, without decoding.

FFmpeg reads a file that breaks off as one that ends, in most containers without a word. What a file says is written in
the lengths of its outer parts; a file that was cut exactly between two parts, where nothing says how many there are,
cannot be told from a whole one.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

_BOXES = frozenset(b"ftyp moov moof mdat meta mfra free skip wide uuid udta sidx ssix styp emsg prft pnot".split())
"""Boxes that stand at the top of an ISO base media file (ISO/IEC 14496-12); behind any other may be anything."""
_SEGMENT, _CLUSTER, _EBML = b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75", b"\x1a\x45\xdf\xa3"
_TOP = (_CLUSTER, b"\x1c\x53\xbb\x6b", b"\x11\x4d\x9b\x74", b"\x15\x49\xa9\x66", b"\x16\x54\xae\x6b")
"""Matroska's parts of a segment that end a cluster of unknown length (RFC 9559): cluster, cues, heads, info, tracks."""
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
"""GUIDs of ASF's header and of its file properties, which hold the file's size (ASF specification, 3.1 and 3.2)."""
_ENDS = ((b"GIF8", "GIF", b";"), (b"\x89PNG\r\n", "PNG", b"IEND\xaeB`\x82"))
"""Pictures whose last bytes are always the same."""
_PACKETS = ((188, 0), (192, 4), (204, 0))
"""MPEG transport streams: bytes of a packet, and at which of them its sync byte stands (plain, m2ts, with parity)."""
_SURE = 5
"""Sync bytes in a row that no text has by chance."""


def cut_short(path: Path) -> str:
    """Why a video file is not whole, as far as its outer parts tell; empty if they tell nothing.

    Raises:
        OSError: it cannot be read.
        ValueError: they are damaged.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(4096)
        for is_such, declared in _CONTAINERS:
            if is_such(head):
                length = declared(file, size)
                return f"it is cut short: {size:,} of at least {length:,} bytes are there" if length > size else ""
        for start, name, end in _ENDS:
            if head.startswith(start) and not path.read_bytes().rstrip(b"\0").endswith(end):
                return f"it is cut short: the end of the {name} is not there"
    length, begin = transport(head)
    if length and (rest := (size - begin) % length):
        return f"it is cut short: its last packet has {rest} of {length} bytes"
    return ""


def transport(head: bytes) -> tuple[int, int]:
    """(bytes of a packet, where the first whole one begins) of an MPEG transport stream with this head; (0, 0) if none.

    A stream that was recorded from a broadcast may begin within a packet.
    """
    for length, at in _PACKETS:
        for begin in range(length) if len(head) >= _SURE * length else (0,):  # a short one begins where it should
            marks = head[begin + at :: length][:_SURE]
            if len(marks) >= 2 and set(marks) == {0x47}:
                return length, begin
    return 0, 0


def _boxes(file: BinaryIO, size: int) -> int:
    """Where the last box of an ISO base media file ends, by its own word; zeros may fill it up behind that.

    Raises:
        ValueError: zeros stand for a box within the file, as where a download left a hole.
    """
    at = 0
    while at + 8 <= size:
        file.seek(at)
        length, kind = struct.unpack(">I4s", file.read(8))
        if not length and not any(kind) and any(map(any, iter(lambda: file.read(1 << 16), b""))):
            raise ValueError(f"it is damaged: zeros stand at byte {at:,}, where a box should begin")
        if kind not in _BOXES or length == 0:  # 0: up to the end, whatever that is
            return size
        if length == 1:
            length = int.from_bytes(file.read(8), "big")
        if length < 8:
            return size
        at += length
    return at


def _riff(file: BinaryIO, size: int) -> int:
    """Where the last RIFF part ends (AVI, WebP): large AVIs have several. A length of none or all bits is unknown."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        kind, length = struct.unpack("<4sI", file.read(8))
        if kind != b"RIFF" or length in (0, 0xFFFFFFFF):
            return size
        at += 8 + length
        at += at % 2 if at < size else 0
    return at


def _matroska(file: BinaryIO, size: int) -> int:
    """Where a segment ends, or its last part that says so (RFC 8794, 9559: the EBML head, then one segment)."""
    at, length = _element(file, 0, size)[1:]
    kind, at, length = _element(file, at + length, size)
    if kind != _SEGMENT:
        return size
    if length >= 0:
        return at + length
    while at < size:  # a segment that was written to a pipe: its parts follow one another
        kind, at, length = _element(file, at, size)
        if length < 0 and kind == _CLUSTER:
            at, length = _cluster(file, at, size), 0
        if length < 0 or not kind:
            return size
        at += length
    return at


def _cluster(file: BinaryIO, at: int, size: int) -> int:
    """Where a cluster of unknown length ends: before the next part of the segment, or with its own last element."""
    while at < size:
        kind, inside, length = _element(file, at, size)
        if kind in _TOP or not kind or length < 0:
            break
        at = inside + length
    return at


def _element(file: BinaryIO, at: int, size: int) -> tuple[bytes, int, int]:
    """(ID, where its content begins, its length or −1 if unknown) of the EBML element at a place; no ID at the end."""
    file.seek(at)
    head = file.read(12)
    if not head or not head[0]:
        return b"", size, 0
    wide = 9 - head[0].bit_length()
    if len(head) <= wide or not head[wide]:
        return b"", size, 0
    long = 9 - head[wide].bit_length()
    if len(head) < wide + long:
        return head[:wide], at + wide + long, 0  # it ends within its own head: beyond the file
    value = int.from_bytes(head[wide : wide + long], "big") & ((1 << 7 * long) - 1)
    return head[:wide], at + wide + long, -1 if value == (1 << 7 * long) - 1 else value


def _flash(file: BinaryIO, size: int) -> int:
    """Where the last tag of an FLV ends."""
    file.seek(5)
    at = int.from_bytes(file.read(4), "big") + 4
    while at + 11 <= size:
        file.seek(at + 1)
        at += 11 + int.from_bytes(file.read(3), "big") + 4
    if at < size:  # within the head of a tag
        return at + 11
    return (
        at if at > size + 4 else size
    )  # the length of the last tag, four bytes behind it, is left out by some writers


def _ogg(file: BinaryIO, size: int) -> int:
    """Where the last page of an Ogg ends (RFC 3533, section 6)."""
    back = min(size, 1 << 17)
    file.seek(size - back)
    tail = file.read()
    at = tail.rfind(b"OggS\0")
    if at < 0:
        return size
    page = tail[at:]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return size + 1
    return size - back + at + 27 + page[26] + sum(page[27 : 27 + page[26]])


def _asf(file: BinaryIO, size: int) -> int:
    """What an ASF says of its size, unless it is a broadcast, which does not know."""
    file.seek(0)
    head = file.read(1 << 16)
    at = head.find(_ASF_FILE)
    if at < 0 or len(head) < at + 92:
        return size
    length = int.from_bytes(head[at + 40 : at + 48], "little")
    return size if head[at + 88] & 1 else length


def _ivf(file: BinaryIO, size: int) -> int:
    """Where the last frame of an IVF ends."""
    at = 32
    while at < size:
        file.seek(at)
        at += 12 + int.from_bytes(file.read(4), "little")
    return at


def _y4m(file: BinaryIO, size: int) -> int:
    """Where the last frame of a YUV4MPEG2 ends, all of one length; `size` where its head tells no length."""
    file.seek(0)
    head = file.readline(4096).split()
    marks = {word[:1]: word[1:].decode("ascii", "replace") for word in head[1:]}
    shape = marks.get(b"W", ""), marks.get(b"H", "")
    chroma = re.fullmatch(r"(420|422|444|411|mono)(alpha)?(?:jpeg|mpeg2|paldv)?(?:p?(\d+))?", marks.get(b"C", "420"))
    if not (all(text.isdecimal() for text in shape) and chroma):
        return size
    width, height = map(int, shape)
    across, down = {"420": (2, 2), "422": (2, 1), "444": (1, 1), "411": (4, 1), "mono": (1, 1)}[chroma[1]]
    samples = width * height * (2 if chroma[2] else 1)
    if chroma[1] != "mono":
        samples += 2 * -(-width // across) * -(-height // down)
    frame = len(b"FRAME\n") + samples * (2 if chroma[3] else 1)
    began = file.tell()
    file.seek(began)
    if file.readline(4096) not in (b"FRAME\n", b""):  # heads of frames that say more differ in length
        return size
    return began + -(-(size - began) // frame) * frame


_CONTAINERS: tuple[tuple[Callable[[bytes], bool], Callable[[BinaryIO, int], int]], ...] = (
    (lambda head: head[4:8] in _BOXES, _boxes),
    (lambda head: head.startswith(b"RIFF"), _riff),
    (lambda head: head.startswith(_EBML), _matroska),
    (lambda head: head.startswith(b"FLV"), _flash),
    (lambda head: head.startswith(b"OggS"), _ogg),
    (lambda head: head.startswith(_ASF_HEADER), _asf),
    (lambda head: head.startswith(b"DKIF"), _ivf),
    (lambda head: head.startswith(b"YUV4MPEG2 "), _y4m),
)
