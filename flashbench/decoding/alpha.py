"""The one rule for transparency, in pictures and in videos: straight alpha, shown on black."""

from __future__ import annotations

import numpy as np

from flashbench.types import Frames


def over_black(rgb: Frames, alpha: Frames) -> Frames:
    """The RGB picture uint8 [H, W, 3] as it shows on black under `alpha` uint8 [H, W]: round(rgb · alpha / 255).

    The alpha is straight: a colour is stored as it is, not multiplied already. An opaque picture comes back unchanged.
    """
    if (alpha == 255).all():
        return rgb
    return ((rgb.astype(np.uint16) * alpha[..., None].astype(np.uint16) + 127) // 255).astype(np.uint8)
