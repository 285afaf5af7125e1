"""`lanczos`: the low-quality input enlarged by a Lanczos kernel, a second floor beside `bicubic`."""

from __future__ import annotations

import cv2
import numpy as np

from flashbench.systems import Request, System
from flashbench.systems.inputs import low
from flashbench.types import Clip


class Lanczos(System):
    """OpenCV's Lanczos interpolation over 8×8 pixels, frame by frame."""

    name = "lanczos"
    version = 1

    def make(self, request: Request) -> Clip:
        """Enlarge."""
        geometry = request.geometry
        size = (geometry.width, geometry.height)
        frames = [cv2.resize(frame, size, interpolation=cv2.INTER_LANCZOS4) for frame in low(request)]
        return Clip(np.stack(frames), geometry.fps)


LANCZOS = Lanczos()
