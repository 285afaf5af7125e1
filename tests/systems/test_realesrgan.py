"""The Real-ESRGAN system: ncnn's file read to the last byte, and the network against hand-made truths."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from flashbench import systems
from flashbench.assets import registry
from flashbench.errors import InvalidError
from flashbench.systems import realesrgan
from flashbench.systems.base import Request
from flashbench.systems.realesrgan import FULL, HALF, Layer, enlarge, read_layers
from flashbench.types import Case, Clip, Geometry

CHANNELS = (3, 5, 12)
"""A tiny network that enlarges by two; 135 weights of float16 need padding."""


def layers(seed: int = 0) -> tuple[Layer, ...]:
    draw = np.random.default_rng(seed)

    def values(*shape: int) -> np.ndarray:
        return draw.normal(size=shape).astype(np.float16).astype(np.float32)

    pairs = list(zip(CHANNELS[:-1], CHANNELS[1:], strict=True))
    return tuple(
        Layer(values(made, given, 3, 3), values(made), values(made) if number < len(pairs) - 1 else None)
        for number, (given, made) in enumerate(pairs)
    )


def packed(given: tuple[Layer, ...], flags: tuple[int, ...]) -> bytes:
    parts = []
    for layer, flag in zip(given, flags, strict=True):
        block = layer.weight.astype("<f2" if flag == HALF else "<f4").tobytes()
        parts += [struct.pack("<I", flag), block, b"\0" * (-len(block) % 4), layer.bias.astype("<f4").tobytes()]
        parts += [] if layer.slope is None else [layer.slope.astype("<f4").tobytes()]
    return b"".join(parts)


@pytest.mark.parametrize("flags", [(HALF, HALF), (FULL, HALF), (HALF, FULL)])
def test_layers_are_read_as_they_were_written(tmp_path: Path, flags: tuple[int, ...]) -> None:
    (file := tmp_path / "net.bin").write_bytes(packed(layers(), flags))
    for found, wanted in zip(read_layers(file, CHANNELS), layers(), strict=True):
        np.testing.assert_array_equal(found.weight, wanted.weight)
        np.testing.assert_array_equal(found.bias, wanted.bias)
        assert (found.slope is None) == (wanted.slope is None)
        if wanted.slope is not None:
            np.testing.assert_array_equal(found.slope, wanted.slope)


WHOLE = packed(layers(), (HALF, FULL))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it ends early"),
        (WHOLE[:2], "it ends early"),
        (WHOLE[:40], "it ends within the weights of convolution 0"),
        (WHOLE[:-1], "it ends within the bias of convolution 1"),
        (WHOLE + b"\0", "1 bytes are left"),
        (b"\x01" + WHOLE[1:], "convolution 0 has the type 0x1306b01"),
        (WHOLE[:4] + b"\x00\x7c" + WHOLE[6:], "the weights of convolution 0 is not finite"),
        (WHOLE[:-4] + struct.pack("<f", float("nan")), "the bias of convolution 1 is not finite"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    (file := tmp_path / "net.bin").write_bytes(content)
    with pytest.raises(InvalidError, match=why):
        read_layers(file, CHANNELS)


def test_enlarging_is_the_convolutions_and_the_nearest_pixels() -> None:
    """Against plain sums: zero padding, PReLU, pixel shuffle in the order (channel, row, column)."""
    given, frame = layers(1), np.random.default_rng(2).random((3, 4, 6)).astype(np.float32)

    def convolve(image: np.ndarray, layer: Layer) -> np.ndarray:
        padded = np.pad(image.astype(np.float64), ((0, 0), (1, 1), (1, 1)))
        height, width = image.shape[1:]
        out = np.zeros((len(layer.bias), height, width)) + layer.bias[:, None, None]
        for dy in range(3):
            for dx in range(3):
                part = padded[:, dy : dy + height, dx : dx + width]
                out += np.einsum("oi,ihw->ohw", layer.weight[:, :, dy, dx].astype(np.float64), part)
        return out if layer.slope is None else np.where(out > 0, out, layer.slope[:, None, None] * out)

    hidden = convolve(convolve(frame, given[0]), given[1])
    wanted = np.zeros((3, 8, 12))
    for channel in range(3):
        for row in range(8):
            for column in range(12):
                phase = 4 * channel + 2 * (row % 2) + column % 2
                wanted[channel, row, column] = (
                    hidden[phase, row // 2, column // 2] + frame[channel, row // 2, column // 2]
                )
    found = enlarge(given, torch.from_numpy(frame)[None])[0].numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def request(geometry: Geometry, low: np.ndarray) -> Request:
    case = Case(id="a/0", cluster="a", seed=0, source=None)
    preview = Clip(low, geometry.fps)
    return Request(case=case, settings={}, geometry=geometry, reference=None, preview=preview, models={})


def test_zero_weights_give_nearest_pixels_resized_to_the_geometry(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nothing = tuple(
        Layer(0 * layer.weight, 0 * layer.bias, None if layer.slope is None else layer.slope) for layer in layers()
    )
    monkeypatch.setattr(realesrgan.registry, "path", lambda name: tmp_path)
    monkeypatch.setattr(realesrgan, "_layers", lambda path: nothing)
    low = np.random.default_rng(3).integers(0, 256, (5, 16, 16, 3), np.uint8)
    system = systems.get("realesrgan")
    twice = system.make(request(Geometry(frames=5, height=32, width=32, fps=Fraction(8), scale=2), low))
    np.testing.assert_array_equal(twice.frames, low.repeat(2, 1).repeat(2, 2))
    other = system.make(request(Geometry(frames=5, height=48, width=64, fps=Fraction(8), scale=2), low))
    assert other.frames.shape == (5, 48, 64, 3)
    assert abs(float(other.frames.mean()) - float(low.mean())) < 2


def test_its_weights_are_part_of_its_identity() -> None:
    found = systems.get("realesrgan").identity({})
    assert found == {"weights": "548a36f9c3f4ab8da56cd3b13badf23968bee207b396dad14d04b830e5f2ab2d"}


def test_absent_weights_are_an_obstacle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FLASHBENCH_CACHE", str(tmp_path))
    reason = systems.get("realesrgan").unavailable({}, {})
    assert reason == "weights not present: flashbench assets pull realesrgan-animevideov3"


@pytest.mark.skipif(not registry.present(realesrgan.ASSET), reason="the weights are not here")
def test_released_weights_give_what_ncnn_gives() -> None:
    """Four pixels of ncnn 1.0.20261020 (float32, on the CPU) with the released files."""
    given = read_layers(registry.path(realesrgan.ASSET))
    assert len(given) == 18 and sum(layer.weight.size + layer.bias.size for layer in given) + 17 * 64 == 621_424
    ramp = torch.arange(3 * 6 * 8, dtype=torch.float32).reshape(1, 3, 6, 8) * 37 % 101 / 101
    found = enlarge(given, ramp)[0]
    assert found.shape == (3, 24, 32)
    for place, wanted in NCNN.items():
        assert float(found[place]) == pytest.approx(wanted, abs=2e-6)


NCNN = {(0, 0, 0): 0.3301856, (0, 11, 17): 0.6425562, (1, 12, 9): 0.2287777, (2, 23, 31): 0.2534919}
