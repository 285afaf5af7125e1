"""What a decoder puts beside a frame: display matrix, data of HDR …"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import av
from av.sidedata.sidedata import Type


def beside(frame: av.VideoFrame) -> Mapping[Type, Any]:
    """Kind → the data of that kind (bytes-like) that a frame carries."""
    return cast(Mapping[Type, Any], frame.side_data)


def _unnamed(kinds: type[Type], number: int) -> Type:
    kind = object.__new__(kinds)
    vars(kind).update(_name_=f"UNNAMED_{number}", _value_=number)
    return kind


# PyAV lists the kinds that it has names for; any other (EXIF, views of a stereo pair …) would make all unreadable.
Type._missing_ = classmethod(_unnamed)  # type: ignore[assignment]
