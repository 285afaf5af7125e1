"""Seeded weights for pyiqa's networks, on the shelf of a test registry, and pyiqa's own answer with them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from flashbench.assets import registry
from flashbench.metrics.pyiqa.metric import DISTS, LEARNED, LPIPS, LPIPS_VGG
from flashbench.types import Frames
from support.registry_entry import entry, wheel_source

METRICS = {metric.name: metric for metric in (*LEARNED, LPIPS, LPIPS_VGG, DISTS)}


class Shelf:
    """A registry of files that lie in the cache already."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.listed = folder, dict[str, Any]()

    def add(self, name: str, write: Callable[[Path], object], suffix: str = ".pth") -> Path:
        draft = self.folder / f"draft{suffix}"
        write(draft)
        self.listed[name] = entry(draft.read_bytes(), wheel_source(f"{name}{suffix}"))
        (self.folder / "registry.yaml").write_text(yaml.safe_dump({"version": 1, "assets": self.listed}), "utf-8")
        registry._read.cache_clear()  # two files may come within one tick of the clock
        file = registry.get(name).file
        file.parent.mkdir(parents=True, exist_ok=True)
        draft.replace(file)
        return file


def empty_shelf(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """A registry and a cache of their own, for as long as the test runs."""
    monkeypatch.setenv("FLASHBENCH_ASSETS", str(folder / "registry.yaml"))
    monkeypatch.setenv("FLASHBENCH_CACHE", str(folder / "cache"))
    (folder / "registry.yaml").write_text(yaml.safe_dump({"version": 1, "assets": {}}), "utf-8")
    return Shelf(folder)


def frames(count: int, height: int, width: int, seed: int = 0) -> Frames:
    """Smooth colours with noise on them."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    base = 128 + 60 * np.sin(x / 17)[..., None] * np.cos(y / 23)[..., None] * np.array([1, 0.6, -0.4])
    return np.clip(base + generator.normal(0, 25, (count, height, width, 3)), 0, 255).astype(np.uint8)


def images(clip: Frames) -> torch.Tensor:
    return torch.from_numpy(clip).permute(0, 3, 1, 2).float() / 255


def inference_model(name: str, **options: Any) -> Any:
    """pyiqa's own, without help."""
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        from pyiqa.models.inference_model import InferenceModel

        torch.manual_seed(7)
        return InferenceModel(name, device=torch.device("cpu"), **options)


def save(model: Any) -> Callable[[Path], object]:
    return lambda path: torch.save(dict(model.state_dict()), path)


def musiq(shelf: Shelf, name: str = "musiq-koniq") -> Any:
    """pyiqa's MUSIQ with seeded weights, which are on the shelf."""
    model = inference_model("musiq", pretrained=False)
    shelf.add(name, save(model.net))
    return model


def maniqa(shelf: Shelf) -> Any:
    """pyiqa's MANIQA with seeded weights, which are on the shelf."""
    import timm

    original = timm.create_model
    backbones = []

    def unpretrained(name: str, pretrained: bool = False) -> Any:
        backbones.append(original(name, pretrained=False))
        return backbones[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timm, "create_model", unpretrained)
        model = inference_model("maniqa", pretrained=False)
    shelf.add("vit-base-patch8", save(backbones[0]))
    shelf.add("maniqa-koniq", save(model.net))
    return model


def first_row(model: Any, clip: Frames) -> float:
    """pyiqa's own score of a frame by the first five of MANIQA's crops."""
    import pyiqa.archs.maniqa_arch as home

    crops = home.uniform_crop
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(home, "uniform_crop", lambda image, **named: crops(image, **named)[:5])
        return float(model(images(clip)))


def clip_archive(path: Path) -> None:
    """A small CLIP of RN50's form with seeded weights, as a TorchScript archive like OpenAI's."""
    from pyiqa.archs.clip_model import CLIP

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(3)
        model = CLIP(16, 224, (1, 1, 1, 1), 8, None, 77, 49408, 64, 1, 2).eval()
        text = torch.ones(1, 77, dtype=torch.long)
        torch.jit.save(torch.jit.trace(model, (torch.zeros(1, 3, 224, 224), text), check_trace=False), str(path))
