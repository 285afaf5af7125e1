"""Real-ESRGAN as a system: the released realesr-animevideov3 (X. Wang, L. Xie, C. Dong, Y. Shan, ICCVW 2021,
arXiv 2107.10833), a real pretrained enhancer beside the paper's own, whose weights cannot be had.

Each frame goes through 18 convolutions with PReLU between them, pixel shuffle by 4, and the nearest enlargement added.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from flashbench.assets import registry
from flashbench.errors import InvalidError
from flashbench.systems import inputs
from flashbench.systems.base import Request, System
from flashbench.systems.registry import register
from flashbench.types import Clip, Frames, Geometry, Scalar, Settings

if TYPE_CHECKING:
    import torch

ASSET = "realesrgan-animevideov3"
SCALE = 4
CHANNELS = (3, *[64] * 17, 3 * SCALE**2)
"""Of the input and of each convolution's output."""
HALF, FULL = 0x01306B47, 0
"""ncnn's flags before a block of weights: float16, float32."""
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Layer:
    """A 3x3 convolution and the PReLU behind it, float32."""

    weight: Floats
    """(out, in, 3, 3)."""
    bias: Floats
    slope: Floats | None
    """(out,); None behind the last."""


def read_layers(path: Path, channels: tuple[int, ...] = CHANNELS) -> tuple[Layer, ...]:
    """The layers of an ncnn `.bin` file of 3x3 convolutions between `channels`, with PReLU behind all but the last.

    Raises InvalidError for a file that is shorter or longer than that, of an unknown type, or not finite.
    """
    content = path.read_bytes()
    place = 0

    def take(dtype: str, count: int, what: str) -> Floats:
        nonlocal place
        size = np.dtype(dtype).itemsize * count
        if place + size > len(content):
            raise _broken(path, f"it ends within {what}")
        values = np.frombuffer(content, dtype, count, place).astype(np.float32)
        if not np.isfinite(values).all():
            raise _broken(path, f"{what} is not finite")
        place += -(-size // 4) * 4  # a block of float16 is padded to 4 bytes
        return values

    layers = []
    for number, (incoming, outgoing) in enumerate(zip(channels[:-1], channels[1:], strict=True)):
        flag = int.from_bytes(content[place : place + 4], "little") if place + 4 <= len(content) else -1
        if flag not in (HALF, FULL):
            raise _broken(path, f"convolution {number} has the type {flag:#x}" if flag >= 0 else "it ends early")
        place += 4
        weight = take("<f2" if flag == HALF else "<f4", outgoing * incoming * 9, f"the weights of convolution {number}")
        bias = take("<f4", outgoing, f"the bias of convolution {number}")
        last = number == len(channels) - 2
        slope = None if last else take("<f4", outgoing, f"the slopes behind convolution {number}")
        layers.append(Layer(weight.reshape(outgoing, incoming, 3, 3), bias, slope))
    if place != len(content):
        raise _broken(path, f"{len(content) - place} bytes are left")
    return tuple(layers)


def _broken(path: Path, why: str) -> InvalidError:
    return InvalidError(f"{path} is not a file of these weights: {why}", fix=f"flashbench assets pull {ASSET}")


def enlarge(layers: tuple[Layer, ...], frames: torch.Tensor) -> torch.Tensor:
    """Frames (T, 3, h, w) in [0, 1] to (T, 3, s h, s w), not clamped, where the last layer makes 3 s^2 channels."""
    import torch
    from torch.nn import functional

    scale = round((len(layers[-1].bias) / 3) ** 0.5)
    hidden = frames
    for layer in layers:
        weight, bias = torch.from_numpy(layer.weight), torch.from_numpy(layer.bias)
        hidden = functional.conv2d(hidden, weight, bias, padding=1)
        if layer.slope is not None:
            hidden = functional.prelu(hidden, torch.from_numpy(layer.slope))
    return functional.pixel_shuffle(hidden, scale) + functional.interpolate(frames, scale_factor=scale, mode="nearest")


@lru_cache(maxsize=1)
def _layers(path: Path) -> tuple[Layer, ...]:
    return read_layers(path)


class RealESRGAN(System):
    """realesr-animevideov3, 4 times larger, then resized (antialiased bicubic) where the geometry is another factor.

    Every frame for itself, RGB, zero padding; no recipe, no noise, no setting.
    """

    name = "realesrgan"
    version = 1
    assets: ClassVar[tuple[str, ...]] = (ASSET,)

    def identity(self, settings: Settings) -> dict[str, Scalar]:
        """The settings, and the sha256 of the Real-ESRGAN weights."""
        return super().identity(settings) | {"weights": registry.get(ASSET).sha256}

    def unavailable(self, settings: Settings, recipes: Mapping[str, Mapping[str, Any]]) -> str:
        """Why the Real-ESRGAN weights cannot be used; empty if they are on this machine."""
        return "" if registry.present(ASSET) else f"weights not present: flashbench assets pull {ASSET}"

    def make(self, request: Request) -> Clip:
        """Enlarge every frame of the low-quality input."""
        return Clip(_enlarged(inputs.low(request), request.geometry), request.geometry.fps)


def _enlarged(low: Frames, geometry: Geometry) -> Frames:
    import torch

    from flashbench.cascade import degrade

    layers, frames = _layers(registry.path(ASSET)), []
    with torch.no_grad():
        for frame in low:  # one at a time, as the hidden layers of a frame take 64 times its own memory
            pixels = torch.from_numpy(frame.astype(np.float32) / 255).permute(2, 0, 1)[None]
            large = degrade.resize(enlarge(layers, pixels), geometry.height, geometry.width, "bicubic")
            frames.append((large[0].clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())
    return np.stack(frames)


register(RealESRGAN())
