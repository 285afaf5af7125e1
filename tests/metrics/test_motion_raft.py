"""E*warp by RAFT: flows that are made to order, the network's own input, and weights that a test registry holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.learned_weights import Shelf, empty_shelf, frames
from torchvision.models.optical_flow import Raft_Large_Weights, raft_large

from flashbench.assets import registry
from flashbench.errors import IntegrityError, InvalidError
from flashbench.metrics import base, motion, motion_raft
from flashbench.metrics.motion_raft import EWARP_RAFT
from flashbench.types import Clip

UPDATES = 2
BRIEF = replace(EWARP_RAFT, preprocessing={**EWARP_RAFT.preprocessing, "flow_updates": UPDATES})


def clip(shown: Any) -> Clip:
    return Clip(np.asarray(shown, np.uint8), Fraction(8))


def network(x: float | None = None, y: float = 0.0, updates: int = UPDATES) -> Any:
    """raft_large with seeded weights; with x and y, one whose last layer answers that translation alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        made = raft_large(weights=None, progress=False).eval()
    if x is not None:
        last = made.update_block.flow_head.conv2
        with torch.no_grad():
            last.weight.zero_()
            last.bias.copy_(torch.tensor([x, y]) / 8 / updates)  # at an eighth of the size, in equal parts
    return made


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    motion_raft._network.cache_clear()
    yield empty_shelf(tmp_path, monkeypatch)
    motion_raft._network.cache_clear()


def put(shelf: Shelf, model: Any) -> Path:
    return shelf.add(motion_raft.WEIGHTS, lambda path: torch.save(model.state_dict(), path))


# --- the error under a known flow -------------------------------------------------------------------------------


def panning(count: int, dy: int, dx: int, height: int = 128, width: int = 160) -> Any:
    whole = frames(1, height + dy * count, width + dx * count)[0]
    return np.stack([whole[dy * t : dy * t + height, dx * t : dx * t + width] for t in range(count)])


def made_to_order(x: float, y: float) -> motion.Estimator:
    def flow(before: Any, after: Any) -> tuple[Any, Any]:
        forward = np.full((*before.shape[:2], 2), (x, y), np.float32)
        return forward, -forward

    return flow


def test_a_known_translation_has_no_error_and_another_one_has() -> None:
    first, second = panning(2, 3, 5)
    assert motion.warping_error(first, second, made_to_order(-5, -3)) < 1e-12
    still = motion.warping_error(first, second, made_to_order(0, 0))
    assert still == pytest.approx(motion.energy(first, second) / 255**2, rel=1e-6)
    assert motion.warping_error(first, second, made_to_order(5, 3)) > 0.001


def test_the_metric_is_a_thousand_times_the_error(monkeypatch: pytest.MonkeyPatch, shelf: Shelf) -> None:
    put(shelf, network())
    monkeypatch.setattr(motion_raft, "flows", lambda before, after, **_: made_to_order(-5, -3)(before, after))
    shown = panning(4, 3, 5)
    assert EWARP_RAFT.measure(clip(shown)).value < 1e-9
    shown[1::2] //= 2
    found = EWARP_RAFT.measure(clip(shown))
    flow = made_to_order(-5, -3)
    errors = [motion.warping_error(*shown[t : t + 2], flow) for t in range(3)]
    assert found.per_frame == tuple(1000 * error for error in errors) and not found.reason


# --- the network ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(128, 136), (131, 150)])
def test_frames_go_in_as_torchvision_prepares_them(height: int, width: int) -> None:
    """Its own transform and a padding at both ends, here by torch."""
    shown, model = frames(2, height, width), network()
    images = Raft_Large_Weights.C_T_SKHT_V2.transforms()(*(torch.from_numpy(f).permute(2, 0, 1)[None] for f in shown))
    down, right = -height % 8, -width % 8
    ends = (right // 2, right - right // 2, down // 2, down - down // 2)
    padded = [torch.nn.functional.pad(image, ends, mode="replicate") for image in images]
    with torch.inference_mode():
        found = [model(*pair, num_flow_updates=UPDATES)[-1][0] for pair in (padded, padded[::-1])]
    ours = motion_raft.flows(*shown, network=model, updates=UPDATES, longer=960)
    for flow, theirs in zip(ours, found, strict=True):
        inside = theirs[:, ends[2] : ends[2] + height, ends[0] : ends[0] + width].permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(flow, inside)
        assert flow.dtype == np.float32 and flow.shape == (height, width, 2)


@pytest.mark.parametrize(("longer", "height", "width"), [(960, 136, 200), (200, 272, 400), (160, 270, 318)])
def test_a_flow_at_a_smaller_size_is_scaled_back(longer: int, height: int, width: int) -> None:
    """A network that answers (6, −4) pixels of what it sees; RAFT's upsampling bends it at the edges."""
    rows, columns = motion_raft.flow_size(height, width, longer)
    assert max(rows, columns) == min(longer, width)
    shown = frames(2, height, width)
    for flow in motion_raft.flows(*shown, network=network(6, -4), updates=UPDATES, longer=longer):
        inside = flow[40:-40, 40:-40]
        np.testing.assert_allclose(
            inside, np.broadcast_to((6 * width / columns, -4 * height / rows), inside.shape), rtol=1e-5
        )


def test_without_motion_it_is_the_energy_of_differences(shelf: Shelf) -> None:
    put(shelf, network(0, 0))
    shown = frames(3, 130, 150)
    expected = [1000 * motion.energy(*shown[t : t + 2]) / 255**2 for t in range(2)]
    found = BRIEF.measure(clip(shown))
    assert found.per_frame == pytest.approx(expected, rel=1e-6) and found.value == pytest.approx(np.mean(expected))
    assert BRIEF.measure(clip(shown[:1].repeat(3, axis=0))).value == 0
    assert "single frame" in BRIEF.measure(clip(shown[:1])).reason


def test_the_verified_files_network_answers_the_same_each_time(shelf: Shelf) -> None:
    model = network()
    path = put(shelf, model)
    shown = frames(3, 128, 136)
    state = torch.get_rng_state()
    found = BRIEF.measure(clip(shown))
    flow = partial(motion_raft.flows, network=model, updates=UPDATES, longer=960)
    expected = [1000 * motion.warping_error(*shown[t : t + 2], flow) for t in range(2)]
    np.testing.assert_array_equal(found.per_frame, expected)
    motion_raft._network.cache_clear()
    np.testing.assert_array_equal(BRIEF.measure(clip(shown)).per_frame, expected)
    assert torch.equal(torch.get_rng_state(), state)
    assert motion_raft._network(path, registry.get(motion_raft.WEIGHTS).sha256, "cpu").corr_block.corr_pyramid == []


# --- what is absent, wrong or too small -------------------------------------------------------------------------


def test_without_weights_or_torch_it_says_so(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = "weights not present: flashbench assets pull raft-large"
    assert EWARP_RAFT.measure(clip(frames(2, 128, 128))).reason == missing
    put(shelf, network())
    monkeypatch.setitem(__import__("sys").modules, "torchvision.models.optical_flow", None)
    found = EWARP_RAFT.measure(clip(frames(2, 128, 128)))
    assert np.isnan(found.value) and "torchvision is not installed" in found.reason


def test_another_file_is_refused(shelf: Shelf) -> None:
    shelf.add(motion_raft.WEIGHTS, lambda path: torch.save({"weight": torch.zeros(3)}, path))
    with pytest.raises(InvalidError, match="does not hold raft_large's weights"):
        EWARP_RAFT.measure(clip(frames(2, 128, 128)))
    path = put(shelf, network())
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(IntegrityError, match="raft-large"):
        EWARP_RAFT.measure(clip(frames(2, 128, 128)))


@pytest.mark.parametrize(
    ("height", "width", "words"),
    [(127, 300, "1×127×300: RAFT needs frames of at least 128×128"), (200, 1920, "128×128, and sees 100×960")],
)
def test_small_frames_have_none(height: int, width: int, words: str) -> None:
    about = base.About(shape=(1, height, width))
    assert words in EWARP_RAFT.undefined(about) and not EWARP_RAFT.undefined(base.About(shape=(1, 1080, 1920)))
    with pytest.raises(ValueError, match="128×128"):
        motion_raft.flows(*np.zeros((2, height, width, 3), np.uint8), network=None, updates=1, longer=960)


def test_what_is_declared() -> None:
    declared = EWARP_RAFT.preprocessing
    assert {"flow", "flow_updates", "flow_longer_side", "occlusion", "motion_boundary", "scale"} <= set(declared)
    assert EWARP_RAFT.unit == "10⁻³" and EWARP_RAFT.libraries == ("torch", "torchvision")
    weights = Raft_Large_Weights.C_T_SKHT_V2
    entry = registry.current().get(motion_raft.WEIGHTS)
    assert str(entry.sources[0]) == weights.url and entry.sha256.startswith(weights.url[-12:-4])
    assert entry.bytes / 2**20 == pytest.approx(weights.meta["_file_size"], abs=1e-3)
