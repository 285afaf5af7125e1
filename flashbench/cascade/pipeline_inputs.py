"""What users hand to the pipeline, checked and brought into its layout."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from flashbench.cascade import sampling
from flashbench.cascade.sampling import Rounding
from flashbench.cascade.vae import TILES, Tiles
from flashbench.errors import UsageError, did_you_mean

logger = logging.getLogger(__name__)
Callback: TypeAlias = Callable[..., Any] | None
Generators: TypeAlias = torch.Generator | Sequence[torch.Generator] | None
Video: TypeAlias = list[Image.Image] | list[list[Image.Image]] | np.ndarray[Any, Any] | Tensor

PREVIEW_SIZE, REFINE_SIZES = (256, 480), ((1072, 1920), (1440, 2560))
FRAMES, STEP_RANGE = 49, (600, 900)
"""Sizes in pixels, frames and degradation steps that the released weights were trained for."""
OUTPUTS = ("pil", "np", "pt", "latent")


@dataclass(frozen=True)
class Refinement:
    """The settings of a Stage II; wrong ones are refused here, before anything is computed."""

    size: tuple[int, int]
    posterior: str
    tiles: Tiles
    nfe: int
    guidance: float
    degradation_step: int
    shift: float
    method: str
    rounding: Rounding

    def __post_init__(self) -> None:
        sampling.check_size(*self.size)
        if self.posterior not in ("sample", "mean"):
            raise did_you_mean("posterior", self.posterior, ("sample", "mean"))
        if self.tiles not in TILES:
            raise did_you_mean("tiling", self.tiles, TILES)
        sampling.check_refine(**self.sampler)

    @property
    def sampler(self) -> dict[str, Any]:
        """What `sampling.refine` takes."""
        names = ("nfe", "guidance", "degradation_step", "shift", "method", "rounding")
        return {name: getattr(self, name) for name in names}

    def check(self, frames: int, height: int, width: int) -> None:
        """Refuse or warn of a clip of that size; see `check_request`."""
        check_request(frames, *self.size, REFINE_SIZES, step=self.degradation_step)
        stretch = (self.size[0] / height) / (self.size[1] / width)
        if not 0.9 < stretch < 1.1:
            logger.warning(f"a clip of {height}x{width} is stretched to {self.size[0]}x{self.size[1]}")


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
    """Clips (1, 3, T, H, W) in [-1, 1], float32; UsageError for what is no video."""
    if isinstance(video, (list, tuple)):
        video = _stacked(video)
    if isinstance(video, np.ndarray):
        shape, channels = list(video.shape), -1
    elif isinstance(video, Tensor):
        shape, channels = list(video.shape), -3
    else:
        raise UsageError(f"a video cannot be a {type(video).__name__}", fix="give PIL images, an array or a tensor")
    if len(shape) not in (4, 5) or 0 in shape or shape[channels] != 3:
        fix = "arrays are (T, H, W, 3) or (B, T, H, W, 3), tensors (T, 3, H, W) or (B, T, 3, H, W)"
        raise UsageError(f"a video of shape {shape}", fix=fix)
    whole = video.dtype in (np.uint8, torch.uint8)
    frames = torch.as_tensor(video).float() / (255 if whole else 1)
    if not (float(frames.min()) >= 0 and float(frames.max()) <= 1):
        raise UsageError("a video outside [0, 1], or not finite", fix="scale floats to [0, 1], or give uint8")
    if len(shape) == 4:
        frames = frames[None]
    order = (0, 4, 1, 2, 3) if channels == -1 else (0, 2, 1, 3, 4)
    return list((2 * frames - 1).permute(order).split(1))


def _stacked(video: Sequence[Any]) -> np.ndarray[Any, Any] | Tensor:
    """A list of frames, or of lists of frames, as one array or tensor."""
    flat: list[Any] = [_stacked(item) if isinstance(item, (list, tuple)) else item for item in video]
    flat = [np.asarray(item.convert("RGB")) if isinstance(item, Image.Image) else item for item in flat]
    kinds = {type(item) for item in flat}
    shapes = {(tuple(item.shape), str(item.dtype)) for item in flat if isinstance(item, (np.ndarray, Tensor))}
    if len(kinds) != 1 or len(shapes) != 1:
        what = "no frames" if not flat else "frames that are no images, or not all of one size and kind"
        raise UsageError(what, fix="give PIL images, arrays or tensors of one size")
    return torch.stack(flat) if isinstance(flat[0], Tensor) else np.stack(flat)


def prompts(prompt: str | Sequence[str] | None, embeds: Tensor | None, copies: int, width: int) -> list[str]:
    """The prompts as a list (empty if their states are given); UsageError for anything else."""
    if (prompt is None) == (embeds is None):
        fix = "give one of the two" if prompt is None else "give only one of the two"
        raise UsageError("a call needs a prompt or its prompt_embeds", fix=fix)
    if copies < 1:
        raise UsageError(f"num_videos_per_prompt is {copies}", fix="give 1 or more")
    if embeds is not None:
        if not isinstance(embeds, Tensor) or embeds.ndim != 3 or embeds.shape[2] != width:
            found = list(embeds.shape) if isinstance(embeds, Tensor) else type(embeds).__name__
            raise UsageError(
                f"prompt_embeds of {found}", fix=f"give a tensor (B, L, {width}), as encode_prompt returns"
            )
        return []
    texts = [prompt] if isinstance(prompt, str) else list(prompt) if isinstance(prompt, (list, tuple)) else []
    if not texts or not all(isinstance(text, str) for text in texts):
        raise UsageError(f"a prompt cannot be {prompt!r}", fix="give a text or a list of texts")
    return texts


def check_callback(asked: Sequence[str], known: Sequence[str]) -> None:
    """Refuse tensors that a callback cannot have: UsageError with the nearest name."""
    for name in asked:
        if name not in known:
            raise did_you_mean("tensor of a callback", name, known)


def changed(returned: Any, latents: Tensor) -> Tensor:
    """The latents after a callback that returned `returned`: a dict that may hold others of the same shape, or None."""
    new = returned.get("latents", latents) if isinstance(returned, dict) else latents
    if (
        not (returned is None or isinstance(returned, dict))
        or not isinstance(new, Tensor)
        or new.shape != latents.shape
    ):
        fix = f"return None, or a dict with latents of shape {list(latents.shape)}"
        raise UsageError("callback_on_step_end returned something else than latents", fix=fix)
    return new


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
    if not isinstance(generator, (list, tuple)) or not all(isinstance(each, torch.Generator) for each in generator):
        raise UsageError(f"a generator cannot be {generator!r}", fix="give torch.Generator().manual_seed(0)")
    if len(generator) != clips:
        raise UsageError(f"{len(generator)} generators for {clips} clips", fix="give one, or one per clip")
    return list(generator)
