"""One picture file to 8-bit RGB: what every format may hold, and the rule for it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from flashbench.decoding import picture

RGB = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8), (0, 0), 2)
ALPHA = np.random.default_rng(1).integers(0, 256, (24, 40), np.uint8)
ON_BLACK = np.rint(RGB * (ALPHA[..., None] / 255)).astype(np.uint8)
GREY = np.repeat(RGB[..., :1], 3, axis=2)


def saved(path: Path, image: Any, **options: Any) -> Path:
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


def by_opencv(path: Path, samples: np.ndarray) -> Path:
    channels = samples if samples.ndim == 2 else samples[..., [2, 1, 0, 3][: samples.shape[2]]]
    done, content = cv2.imencode(path.suffix, channels)
    assert done
    path.write_bytes(content.tobytes())
    return path


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff", ".webp"])
def test_lossless_formats_give_every_byte(suffix: str, tmp_path: Path) -> None:
    options = {"lossless": True} if suffix == ".webp" else {}
    frame, transparent = picture.rgb(saved(tmp_path / f"1{suffix}", RGB, **options))
    assert np.array_equal(frame, RGB) and not transparent


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_a_jpeg_is_what_opencv_decodes(options: dict[str, Any], tmp_path: Path) -> None:
    path = saved(tmp_path / "1.jpg", RGB, quality=90, **options)
    decoded = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(picture.rgb(path)[0], decoded[..., ::-1])


def test_grey_palettes_one_bit_and_cmyk_become_rgb(tmp_path: Path) -> None:
    grey = Image.fromarray(GREY[..., 0])
    for suffix in (".png", ".bmp", ".tif"):
        assert np.array_equal(picture.rgb(saved(tmp_path / f"g{suffix}", grey))[0], GREY)
        bits = picture.rgb(saved(tmp_path / f"b{suffix}", grey.convert("1")))[0]
        assert np.array_equal(bits[..., 0], np.asarray(grey.convert("1")) * np.uint8(255))
        palette = Image.fromarray(RGB).quantize(16)
        colours = np.asarray(palette.convert("RGB"))
        assert np.array_equal(picture.rgb(saved(tmp_path / f"p{suffix}", palette))[0], colours)
    for suffix in (".jpg", ".tif"):
        cmyk = picture.rgb(saved(tmp_path / f"c{suffix}", Image.fromarray(RGB).convert("CMYK")))[0]
        assert np.abs(cmyk.astype(int) - RGB).mean() < 6


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bits_become_the_nearest_eight(suffix: str, tmp_path: Path) -> None:
    whole = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = np.rint(whole / 257).astype(np.uint8)
    assert np.array_equal(picture.rgb(by_opencv(tmp_path / f"g{suffix}", whole))[0][..., 1], expected)
    colours = np.stack([whole, whole.T, whole[::-1]], axis=2)
    frame = picture.rgb(by_opencv(tmp_path / f"c{suffix}", colours))[0]
    assert np.array_equal(frame, np.stack([expected, expected.T, expected[::-1]], axis=2))
    assert np.array_equal(picture.rgb(by_opencv(tmp_path / f"e{suffix}", RGB.astype(np.uint16) * 257))[0], RGB)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_transparency_is_shown_on_black(suffix: str, tmp_path: Path) -> None:
    lossless = {"lossless": True, "exact": True} if suffix == ".webp" else {}
    path = saved(tmp_path / f"a{suffix}", np.dstack([RGB, ALPHA]), **lossless)
    frame, transparent = picture.rgb(path)
    assert transparent
    assert np.array_equal(frame, ON_BLACK)
    opaque = saved(tmp_path / f"o{suffix}", np.dstack([RGB, np.full_like(ALPHA, 255)]), **lossless)
    assert np.array_equal(picture.rgb(opaque)[0], RGB) and not picture.rgb(opaque)[1]


def test_transparency_of_every_kind_of_png(tmp_path: Path) -> None:
    deep = np.dstack([RGB, ALPHA]).astype(np.uint16) * 257
    assert np.array_equal(picture.rgb(by_opencv(tmp_path / "deep.png", deep))[0], ON_BLACK)
    grey = saved(tmp_path / "la.png", Image.merge("LA", [Image.fromarray(GREY[..., 0]), Image.fromarray(ALPHA)]))
    assert np.array_equal(picture.rgb(grey)[0], np.rint(GREY * (ALPHA[..., None] / 255)).astype(np.uint8))
    key = tuple(int(x) for x in RGB[3, 5])
    keyed = saved(tmp_path / "rgb.png", RGB, transparency=key)
    assert np.array_equal(picture.rgb(keyed)[0], np.where((key == RGB).all(axis=2, keepdims=True), 0, RGB))
    assert picture.rgb(keyed)[1]
    level = int(GREY[3, 5, 0])
    keyed = saved(tmp_path / "grey.png", Image.fromarray(GREY[..., 0]), transparency=level)
    assert np.array_equal(picture.rgb(keyed)[0], np.where(level == GREY, 0, GREY)) and picture.rgb(keyed)[1]
    bits = saved(tmp_path / "bits.png", Image.fromarray(GREY[..., 0]).convert("1"), transparency=1)
    assert not picture.rgb(bits)[0].any(), "white is transparent"
    palette = Image.fromarray(RGB).quantize(16)
    shown = np.asarray(palette.convert("RGB"))
    keyed = saved(tmp_path / "p.png", palette, transparency=3)
    assert np.array_equal(picture.rgb(keyed)[0], np.where((np.asarray(palette) == 3)[..., None], 0, shown))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_pictures_are_turned_as_exif_says(suffix: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x112] = 6
    plain, turned = saved(tmp_path / f"p{suffix}", RGB), saved(tmp_path / f"t{suffix}", RGB, exif=exif)
    assert np.array_equal(picture.rgb(turned)[0], np.rot90(picture.rgb(plain)[0], -1))


def faults(tmp_path: Path) -> dict[str, tuple[Path, str]]:
    images = [Image.fromarray(np.roll(RGB, n, axis=1)) for n in range(3)]
    several: dict[str, Any] = {"save_all": True, "append_images": images[1:]}
    exif = Image.Exif()
    exif[0x112] = 6
    rgba = np.dstack([RGB, ALPHA])
    (text := tmp_path / "text.png").write_text("no picture")
    (empty := tmp_path / "empty.jpg").write_bytes(b"")
    (head := tmp_path / "head.webp").write_bytes(b"RIFF\x10\0\0\0WEBPVP8X")
    (big := tmp_path / "big.tif").write_bytes(b"II+\0" + bytes(20))
    whole = saved(tmp_path / "whole.png", RGB).read_bytes()
    (cut := tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (flipped := tmp_path / "flipped.png").write_bytes(whole[:300] + bytes([whole[300] ^ 1]) + whole[301:])
    return {
        "tiff pages": (saved(tmp_path / "pages.tif", images[0], **several), "pages.tif holds 3 pictures"),
        "apng": (saved(tmp_path / "a.png", images[0], **several), "a.png holds 3 pictures"),
        "webp": (saved(tmp_path / "a.webp", images[0], **several), "a.webp holds 3 pictures"),
        "float": (by_opencv(tmp_path / "f.tiff", (RGB / 255).astype(np.float32)), "samples of 32 bits, floating"),
        "undeclared": (by_opencv(tmp_path / "u.tiff", rgba.astype(np.uint16) * 257), "does not declare"),
        "grey alpha tiff": (
            saved(tmp_path / "la.tif", Image.merge("LA", [Image.fromarray(x) for x in (GREY[..., 0], ALPHA)])),
            "transparency that is not read",
        ),
        "turned": (saved(tmp_path / "turned.png", rgba, exif=exif), "transparent and turned by EXIF"),
        "text": (text, "text.png is not a picture"),
        "empty": (empty, "empty.jpg is not a picture"),
        "head": (head, "head.webp is not a picture"),
        "big": (big, "is a BigTIFF"),
        "cut": (cut, "cut.png is not a picture"),
        "flipped": (flipped, "flipped.png is not a picture"),
    }


def test_what_there_is_no_rule_for_is_refused(tmp_path: Path) -> None:
    for name, (path, said) in faults(tmp_path).items():
        with pytest.raises(ValueError, match=said):
            picture.rgb(path)
            pytest.fail(name)


def test_any_bytes_are_a_picture_or_a_reason(tmp_path: Path) -> None:
    """Heads that break off or lie, of every format."""
    draw = np.random.default_rng(3)
    path = tmp_path / "x.png"
    for kind in ("PNG", "WEBP", "TIFF", "JPEG", "BMP"):
        Image.fromarray(RGB).save(content := io.BytesIO(), kind)
        for _ in range(40):
            broken = bytearray(content.getvalue()[: int(draw.integers(4, 200))])
            broken[int(draw.integers(4, len(broken) + 1)) - 1] = int(draw.integers(256))
            path.write_bytes(broken)
            with pytest.raises(ValueError, match="x.png"):
                picture.rgb(path)
