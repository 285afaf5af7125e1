"""Metrics by trained networks: pyiqa's scores from verified files, with seeded weights under a test registry."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.learned_weights import (
    METRICS,
    Shelf,
    clip_archive,
    empty_shelf,
    first_row,
    frames,
    images,
    inference_model,
    maniqa,
    musiq,
    save,
)

from flashbench.errors import UsageError
from flashbench.metrics.pyiqa import metric as learned
from flashbench.metrics.pyiqa import networks
from flashbench.metrics.pyiqa.metric import DISTS, LPIPS, LPIPS_VGG, Learned, with_frames
from flashbench.types import Clip


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    yield empty_shelf(tmp_path, monkeypatch)
    learned._network.cache_clear()


# --- the same as pyiqa's own ------------------------------------------------------------------------------------


def test_musiq_is_pyiqas_whatever_it_is_batched_with(shelf: Shelf) -> None:
    own = musiq(shelf)
    clip = frames(3, 70, 90)
    found = METRICS["musiq"].measure(Clip(clip, 8))
    with torch.inference_mode():
        together = own(images(clip)).flatten().numpy()
    np.testing.assert_allclose(found.per_frame, together, atol=1e-6, rtol=0)
    assert np.ptp(together) > 1e-4 and found.value == pytest.approx(np.mean(found.per_frame))
    backwards = METRICS["musiq"].measure(Clip(clip[::-1], 8))
    assert backwards.per_frame == found.per_frame[::-1]
    assert METRICS["musiq"].measure(Clip(clip[1:2], 8)).per_frame == found.per_frame[1:2]
    # Frames by a field: the middles of equal parts.
    two = with_frames(METRICS["musiq"], 2)
    assert two.identity != METRICS["musiq"].identity
    assert two.measure(Clip(clip, 8)).per_frame == (found.per_frame[0], found.per_frame[2])


def test_clipiqa_is_pyiqas(shelf: Shelf) -> None:
    file = shelf.add("clip-rn50", clip_archive, ".pt")
    own = inference_model("clipiqa", backbone=str(file))
    clip = frames(2, 64, 96)
    found = METRICS["clipiqa"].measure(Clip(clip, 8))
    with torch.inference_mode():
        together = own(images(clip)).flatten().numpy()
    np.testing.assert_allclose(found.per_frame, together, atol=1e-6, rtol=0)
    assert np.ptp(together) > 1e-6


def test_clipiqa_encodes_its_prompts_once(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyiqa.archs.clip_model import CLIP

    shelf.add("clip-rn50", clip_archive, ".pt")
    calls, encode = [], CLIP.encode_text
    monkeypatch.setattr(CLIP, "encode_text", lambda self, text: calls.append(1) or encode(self, text))
    METRICS["clipiqa"].measure(Clip(frames(3, 32, 40), 8))
    assert len(calls) == 1


@pytest.mark.slow
def test_maniqa_is_pyiqas_in_small_batches_of_crops(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the first row of crops: all twenty take a core minutes, and the Toy below has them all."""
    own, clip = maniqa(shelf), frames(1, 232, 236)
    monkeypatch.setitem(networks.ROWS, "upstream", 1)
    found = METRICS["maniqa"].measure(Clip(clip, 8))
    assert found.value == pytest.approx(first_row(own, clip), abs=1e-6), found.reason


class Toy(torch.nn.Module):
    """What MANIQA does around its network: crops, two branches over patches, one number."""

    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Module()
        self.net.fc_score, self.net.fc_weight = torch.nn.Tanh(), torch.nn.Sigmoid()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        import pyiqa.archs.maniqa_arch as home

        patches = torch.nn.functional.avg_pool2d(home.uniform_crop(image, crop_size=224, crop_num=20), 8)
        patches = patches.mean(1).flatten(1)[..., None]
        score, weight = self.net.fc_score(patches), self.net.fc_weight(patches)
        return (score * weight).sum() / (weight.sum() + 1e-8)


def test_maniqas_mean_is_over_all_crops_and_full_sees_the_bottom_row(monkeypatch: pytest.MonkeyPatch) -> None:
    toy, clip = Toy(), frames(1, 400, 300)
    changed = clip[0].copy()
    changed[-40:] = 0  # below the fourth row of crops, which ends at 132 + 224
    with torch.inference_mode():
        whole = float(toy(images(clip)))  # pyiqa's own crops, all at once
    upstream, full = (networks.Maniqa(Toy(), (), crops) for crops in ("upstream", "full"))
    assert upstream.score(clip[0]) == pytest.approx(whole, abs=1e-6)
    assert upstream.score(changed) == upstream.score(clip[0])
    assert abs(full.score(changed) - full.score(clip[0])) > 1e-4
    monkeypatch.setattr(networks, "CROPS_AT_ONCE", 7)
    assert upstream.score(clip[0]) == pytest.approx(whole, abs=1e-6)


@pytest.mark.parametrize("shape", [(224, 224), (112, 208), (40, 300), (224, 400), (225, 225)])
def test_small_frames_are_enlarged_as_pyiqa_does_and_equal_crops_made_once(shape: tuple[int, int]) -> None:
    """At most 224 pixels on the shorter side: 225 of them, of which many of the twenty crops are the same."""
    toy, clip, made = Toy(), frames(1, *shape), []
    with torch.inference_mode():
        whole = float(toy(images(clip)))
    own = Toy()
    own.net.fc_score.register_forward_hook(lambda module, given, out: made.append(len(given[0])))
    assert networks.Maniqa(own, (), "upstream").score(clip[0]) == pytest.approx(whole, abs=1e-6)
    assert max(made) <= networks.CROPS_AT_ONCE
    assert sum(made) == {(224, 224): 1, (112, 208): 5, (40, 300): 5, (224, 400): 5, (225, 225): 1}[shape]


def test_the_crops_are_where_the_facts_say() -> None:
    rows = torch.arange(1080.0).view(1, 1, 1080, 1).expand(1, 3, 1080, 1920)
    network = object.__new__(networks.Maniqa)
    for crops, tops in (("upstream", [0, 214, 428, 642]), ("full", [0, 214, 428, 642, 856])):
        network.rows = networks.ROWS[crops]
        found = networks._crops(rows, network._places(rows))
        assert found[::5, 0, 0, 0].tolist() == tops and found.shape[1:] == (3, 224, 224)


def alexnet_and_lpips(shelf: Shelf) -> Any:
    import torchvision

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        backbone = torchvision.models.alexnet(weights=None)
    shelf.add("alexnet", save(backbone))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: backbone.state_dict())
        model = inference_model("lpips", pretrained=False)
    linear = {key: value.abs() for key, value in model.net.state_dict().items() if key.startswith("lin")}
    shelf.add("lpips-alex", lambda path: torch.save(linear, path))
    model.net.load_state_dict(linear, strict=False)
    return model


@pytest.mark.slow
def test_lpips_is_pyiqas(shelf: Shelf) -> None:
    own = alexnet_and_lpips(shelf)
    clip, reference = frames(2, 32, 80), frames(2, 32, 80, seed=1)
    found = LPIPS.measure(Clip(clip, 8), Clip(reference, 8))
    with torch.inference_mode():
        together = own(images(clip), images(reference)).flatten().numpy()
    np.testing.assert_allclose(found.per_frame, together, atol=1e-6, rtol=0)
    assert LPIPS.measure(Clip(clip, 8), Clip(clip, 8)).value == 0


@pytest.mark.slow
def test_dists_and_lpips_by_vgg_come_from_verified_files(shelf: Shelf) -> None:
    import torchvision

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        shelf.add("vgg16", save(torchvision.models.vgg16(weights=None)))
        weights = {key: torch.rand(1, 1475, 1, 1) for key in ("alpha", "beta")}
    shelf.add("dists", lambda path: torch.save(weights, path))
    linear = {f"lin{n}.model.1.weight": torch.ones(1, c, 1, 1) for n, c in enumerate((64, 128, 256, 512, 512))}
    shelf.add("lpips-vgg", lambda path: torch.save(linear, path))
    clip, reference = Clip(frames(1, 32, 32), 8), Clip(frames(1, 32, 32, seed=1), 8)
    for metric in (DISTS, LPIPS_VGG):
        assert metric.measure(clip, clip).value == pytest.approx(0, abs=1e-6)
        assert metric.measure(clip, reference).value > 1e-3


# --- any other metric of pyiqa ----------------------------------------------------------------------------------


def test_any_metric_of_pyiqa(shelf: Shelf) -> None:
    clip, reference = Clip(frames(2, 96, 96), 8), Clip(frames(2, 96, 96, seed=1), 8)
    entropy = learned.through_pyiqa("entropy")
    assert (entropy.name, entropy.scope, entropy.direction) == ("pyiqa:entropy", "frame", "higher")
    assert len(entropy.measure(clip).per_frame) == 2 and entropy.measure(clip).value > 1
    ssim = learned.through_pyiqa("ssim")
    assert (ssim.scope, ssim.assets) == ("pair", ())
    assert ssim.measure(clip, clip).value == pytest.approx(1) and ssim.measure(clip, reference).value < 0.9
    assert ssim.measure(clip).reason == "no reference"
    with pytest.raises(UsageError, match="entropie"):
        learned.through_pyiqa("entropie")
    with pytest.raises(UsageError, match="fid"):
        learned.through_pyiqa("fid")


def test_any_metric_of_pyiqa_with_weights(shelf: Shelf) -> None:
    absent = learned.through_pyiqa("musiq-ava")
    assert "no asset pyiqa/musiq_ava_ckpt-e8d3f067.pth" in absent.measure(Clip(frames(1, 32, 32), 8)).reason
    own = musiq(shelf)
    metric = learned.through_pyiqa("musiq")
    assert metric.assets == ("musiq-koniq",)
    clip = frames(1, 40, 40)
    with torch.inference_mode():
        assert metric.measure(Clip(clip, 8)).value == pytest.approx(float(own(images(clip))), abs=1e-6)


# --- what has no value ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_without_weights_there_is_a_reason(metric: Learned, shelf: Shelf) -> None:
    clip = Clip(frames(1, 48, 48), 8)
    found = metric.measure(clip, clip)
    assert np.isnan(found.value)
    assert found.reason == f"weights not present: flashbench assets pull {' '.join(metric.assets)}"


@pytest.mark.parametrize("package", ["torch", "pyiqa", "pkg_resources"])
def test_without_a_package_there_is_a_reason(package: str, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.add("clip-rn50", lambda path: path.write_bytes(b"never opened"), ".pt")
    for name in [name for name in sys.modules if name.startswith(("flashbench.metrics.pyiqa.networks", "clip."))]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.split(".")[0] in ("pyiqa", "clip", package)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delattr("flashbench.metrics.pyiqa.networks", raising=False)
    found = METRICS["clipiqa"].measure(Clip(frames(1, 32, 32), 8))
    assert f"{package} is not installed" in found.reason and "flashbench[" in found.reason


def test_frames_that_a_network_cannot_take(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "at least 32×32" in METRICS["clipiqa"].measure(Clip(frames(1, 31, 64), 8)).reason
    musiq(shelf)
    flat = Clip(np.zeros((2, 1, 1, 3), np.uint8), 8)
    assert np.isfinite(METRICS["musiq"].measure(flat).value)
    sliver = METRICS["musiq"].measure(Clip(np.zeros((2, 1, 900, 3), np.uint8), 8))
    assert np.isnan(sliver.value) and "no musiq" in sliver.reason and "in 2 of 2 frames" in sliver.reason
    monkeypatch.setattr(networks.Network, "run", lambda self, image: float("inf"))
    assert METRICS["musiq"].measure(flat).reason == "no musiq in 2 of 2 frames"


def test_another_pyiqa_than_the_declared_one_is_refused(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learned, "package_version", lambda name: "0.1.14")
    assert "pyiqa 0.1.14 is installed" in METRICS["musiq"].measure(Clip(frames(1, 32, 32), 8)).reason
