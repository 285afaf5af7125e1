"""What users hand to the pipeline, checked and brought into its layout."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from diffusers.video_processor import VideoProcessor
from PIL import Image
from torch import Tensor

from flashbench.cascade import sampling
from flashbench.errors import UsageError, did_you_mean

logger = logging.getLogger(__name__)
Generators: TypeAlias = torch.Generator | Sequence[torch.Generator] | None
Video: TypeAlias = list[Image.Image] | list[list[Image.Image]] | np.ndarray[Any, Any] | Tensor

PREVIEW_SIZE, REFINE_SIZES = (256, 480), ((1072, 1920), (1440, 2560))
FRAMES, STEP_RANGE = 49, (600, 900)
"""Sizes in pixels, frames and degradation steps that the released weights were trained for."""
OUTPUTS = ("pil", "np", "pt", "latent")


def check_request(
    frames: int, height: int, width: int, sizes: Sequence[tuple[int, int]], step: int | None = None
) -> None:
    """Refuse what cannot be made, and warn of what the release does not do."""
    sampling.check_size(height, width)
    if frames < 1 or (frames - 1) % 4:
        raise UsageError(f"{frames} frames cannot be made", fix=f"give 4n + 1, e.g. {max(1, frames // 4 * 4 + 1)}")
    odd = []
    if (height, width) not in sizes:
        odd.append(f"{height}x{width} instead of " + " or ".join(f"{h}x{w}" for h, w in sizes))
    if frames != FRAMES:
        odd.append(f"{frames} frames instead of {FRAMES}")
    if step is not None and not STEP_RANGE[0] <= step <= STEP_RANGE[1]:
        odd.append(f"degradation_step {step}, trained from {STEP_RANGE[0]} to {STEP_RANGE[1]}")
    if odd:
        logger.warning(f"outside what the released weights were made for: {', '.join(odd)}")


def pixels(video: Video) -> list[Tensor]:
    """Clips (1, 3, T, H, W) in [-1, 1], float32."""
    if isinstance(video, np.ndarray) and video.dtype == np.uint8:
        video = video.astype(np.float32) / 255
    elif isinstance(video, Tensor):
        video = video.float() / 255 if video.dtype == torch.uint8 else video.float()
    if isinstance(video, (np.ndarray, Tensor)):
        shown = list(video.shape)
        if len(shown) not in (4, 5) or shown[-1 if isinstance(video, np.ndarray) else -3] != 3:
            fix = "arrays are (T, H, W, 3) or (B, T, H, W, 3), tensors (T, 3, H, W) or (B, T, 3, H, W)"
            raise UsageError(f"a video of shape {shown}", fix=fix)
        if not (float(video.min()) >= 0 and float(video.max()) <= 1):
            raise UsageError("a video outside [0, 1], or not finite", fix="scale floats to [0, 1], or give uint8")
    return list(VideoProcessor(do_resize=False).preprocess_video(video).float().split(1))


def check_output(output_type: str) -> None:
    """Refuse an output type that does not exist: UsageError with the nearest name."""
    if output_type not in OUTPUTS:
        raise did_you_mean("output_type", output_type, OUTPUTS)


def generators(generator: Generators, clips: int) -> list[torch.Generator]:
    """One generator per clip; without any a fresh one with a random seed, which leaves torch's global one alone."""
    if generator is None:
        generator = torch.Generator()
        generator.seed()
    if isinstance(generator, torch.Generator):
        return [generator] * clips
    if len(generator) != clips:
        raise UsageError(f"{len(generator)} generators for {clips} clips", fix="give one, or one per clip")
    return list(generator)
