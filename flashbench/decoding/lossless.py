"""Whether a stream is coded without loss: by what its codec always is, or by what its parameter sets say.

Of H.264 the sequence parameter set says so (`qpprime_y_zero_transform_bypass_flag`, ITU-T H.264, 7.3.2.1.1), which x264
sets at `-qp 0` and `-crf 0`; of HEVC the picture parameter set (`transquant_bypass_enabled_flag`, ITU-T H.265,
7.3.2.3.1). Where a codec may be either and nothing is read of it (VP9, AV1, JPEG 2000), a stream counts as lossy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import av
from av.codec.codec import Properties

_SPS, _PPS = 7, 34
"""Types of H.264's sequence parameter set and of HEVC's picture parameter set."""
_HIGH_444 = 244
"""H.264's only profile that can do without loss."""
_NEVER = ("gif",)
"""FFmpeg calls it lossless: its 256 colours are."""


def is_lossless(stream: av.VideoStream) -> bool:
    """Whether the pictures that were given to its encoder come back, but for a change of colour model before it."""
    codec = stream.codec_context.codec
    # Numbers: FFmpeg has properties that PyAV has no name for.
    lossy, lossless = (codec.properties & kind.value for kind in (Properties.LOSSY, Properties.LOSSLESS))
    if codec.name in _NEVER or not lossless:
        return False
    if not lossy:
        return True
    sets = bytes(stream.codec_context.extradata or b"")
    try:
        if codec.canonical_name == "h264":
            return any(_bypass_h264(unit) for unit in _units(sets, 5) if unit[0] & 31 == _SPS)
        if codec.canonical_name == "hevc":
            return any(_bypass_hevc(unit) for unit in _units(sets, 22) if unit[0] >> 1 & 63 == _PPS)
    except IndexError:  # parameter sets that are cut
        pass
    return False


def _units(sets: bytes, head: int) -> Iterator[bytes]:
    """The units of parameter sets, without the bytes that keep start codes apart.

    They stand behind start codes (annex B), or with their lengths behind a `head` of so many bytes (ISO/IEC 14496-15).
    """
    if sets.startswith((b"\0\0\1", b"\0\0\0\1")):
        found = [unit for unit in re.split(b"\0\0\0?\1", sets) if unit]
    else:
        found = list(_counted(sets, head))
    return (unit.replace(b"\0\0\3", b"\0\0") for unit in found)


def _counted(sets: bytes, head: int) -> Iterator[bytes]:
    """Units of avcC (a list of sequence sets, its number in 5 bits) or hvcC (lists, each with a type and a number)."""
    avc = head == 5
    at, lists = (head, 1) if avc else (head + 1, sets[head])
    for _ in range(lists):
        count = sets[at] & 31 if avc else int.from_bytes(sets[at + 1 : at + 3], "big")
        at += 1 if avc else 3
        for _ in range(count):
            size = int.from_bytes(sets[at : at + 2], "big")
            if unit := sets[at + 2 : at + 2 + size]:
                yield unit
            at += 2 + size


class _Bits:
    """Bits of a unit, one after the other."""

    def __init__(self, unit: bytes) -> None:
        self._unit, self._at = unit, 0

    def take(self, count: int = 1) -> int:
        """An unsigned number of so many bits; IndexError beyond the end."""
        value = 0
        for _ in range(count):
            value = value << 1 | self._unit[self._at >> 3] >> (7 - (self._at & 7)) & 1
            self._at += 1
        return value

    def golomb(self) -> int:
        """An unsigned number in Exp-Golomb code; of a signed one, something of the same length."""
        zeros = 0
        while not self.take():
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)


def _bypass_h264(unit: bytes) -> bool:
    if unit[1] != _HIGH_444:
        return False
    bits = _Bits(unit[4:])  # behind type, profile, constraints and level
    bits.golomb()  # seq_parameter_set_id
    if bits.golomb() == 3:  # chroma_format_idc: 4:4:4
        bits.take()  # separate_colour_plane_flag
    bits.golomb(), bits.golomb()  # bit_depth_luma_minus8, bit_depth_chroma_minus8
    return bool(bits.take())


def _bypass_hevc(unit: bytes) -> bool:
    bits = _Bits(unit[2:])
    bits.golomb(), bits.golomb()  # pps_pic_parameter_set_id, pps_seq_parameter_set_id
    bits.take(7)  # dependent_slice_segments_enabled_flag … cabac_init_present_flag
    bits.golomb(), bits.golomb(), bits.golomb()  # num_ref_idx_l0, l1, init_qp_minus26
    bits.take(2)  # constrained_intra_pred_flag, transform_skip_enabled_flag
    if bits.take():  # cu_qp_delta_enabled_flag
        bits.golomb()  # diff_cu_qp_delta_depth
    bits.golomb(), bits.golomb()  # pps_cb_qp_offset, pps_cr_qp_offset
    bits.take(3)  # pps_slice_chroma_qp_offsets_present_flag, weighted_pred_flag, weighted_bipred_flag
    return bool(bits.take())
