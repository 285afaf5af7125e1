"""Calibration: golden scores of the synthetic clip, and pyiqa's images against its published table."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open
from support.learned_weights import METRICS, Shelf, empty_shelf, frames, images, inference_model, musiq, save

from flashbench import metrics
from flashbench.assets import registry
from flashbench.errors import IntegrityError, InvalidError, MissingAsset
from flashbench.metrics import calibration
from flashbench.metrics.base import FrameMetric, Metric, Pair
from flashbench.metrics.computed import Recorded
from flashbench.metrics.pyiqa import metric as learned
from flashbench.types import Frames

GOLDEN = Path(__file__).parents[1] / "golden" / "niqe.safetensors"
MUSIQ = METRICS["musiq"]


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    yield empty_shelf(tmp_path, monkeypatch)
    learned._network.cache_clear()


@pytest.fixture
def pristine(monkeypatch: pytest.MonkeyPatch) -> None:
    """NIQE's parameters, from the golden file."""
    from flashbench.metrics import niqe

    with safe_open(GOLDEN, "np") as file:
        parameters = file.get_tensor("params.mu_prisparam"), file.get_tensor("params.cov_prisparam")
    monkeypatch.setattr(niqe, "pristine", lambda: parameters)


# --- the synthetic clip -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(270, 480), (1080, 1920)])
def test_synthetic_frames_are_the_golden_files(size: tuple[int, int]) -> None:
    with safe_open(GOLDEN, "np") as file:
        expected = file.metadata()[f"synth.{size[1]}x{size[0]}.rgb_sha256"]
    assert hashlib.sha256(calibration.synthetic(1, *size).tobytes()).hexdigest() == expected


def test_the_synthetic_clip_moves_and_differs_from_its_reference() -> None:
    clip, reference = calibration.clips()
    assert clip.frames.shape == reference.frames.shape == (*calibration.SHAPE, 3)
    assert len({frame.tobytes() for frame in clip.frames}) == calibration.SHAPE[0]
    assert np.unique(reference.frames).size == 16
    assert np.abs(clip.frames.astype(int) - reference.frames).max() == 8


@pytest.mark.usefixtures("pristine")
def test_every_metric_without_a_network_scores_as_before() -> None:
    everything = [metric for metric in map(metrics.get, metrics.names()) if not metric.learned]
    # The synthetic clip has no prompt, and nobody recorded what it cost.
    known = [metric for metric in everything if not metric.reads_prompt and not isinstance(metric, Recorded)]
    checks = calibration.check([metric for metric in known if not metric.fallible])
    absent = [metric for metric in known if not metric.fallible and metric.name not in {each.metric for each in checks}]
    add = [
        f"{m.name}: {{value: {v!r}, tolerance: 1.0e-6}}"
        for m, (v, _) in zip(absent, calibration.values(absent), strict=True)
    ]
    assert add == [], "put these under `golden` in flashbench/metrics/calibration.yaml, if they are right"
    assert {check.metric for check in checks} == set(calibration._table()["golden"])
    assert [str(check) for check in checks if not check.ok] == []


@dataclass(frozen=True, kw_only=True)
class Odd(FrameMetric):
    """A PSNR that is not one."""

    answer: float

    def frame(self, pair: Pair) -> float:
        if math.isinf(self.answer):
            raise ZeroDivisionError("no such thing")
        return self.answer


@pytest.mark.parametrize(
    ("answer", "said"), [(34.8, "34.8, expected 34.806"), (math.nan, "no psnr in 5 of 5"), (math.inf, "no such thing")]
)
def test_a_damaged_metric_is_told(answer: float, said: str) -> None:
    damaged = Odd(name="psnr", direction="higher", unit="dB", range=(0, math.inf), answer=answer)
    right, wrong = calibration.check([metrics.get("ssim"), damaged])
    assert right.ok and not wrong.ok and said in str(wrong)


# --- pyiqa's images ---------------------------------------------------------------------------------------------


def test_the_table_is_about_metrics_and_images_that_there_are() -> None:
    table = calibration._table()["published"]
    known = registry.current()
    for name, scores in table["scores"].items():
        metric = metrics.get(name)
        assert len(scores) == len(table["images"]) == len(calibration.published(metric)) == 5
        for image in calibration.images(metric):
            assert known.get(image).non_commercial and known.get(image).bytes == 589_878
    assert calibration.published(metrics.get("maniqa")) == {} and calibration.images(metrics.get("clipiqa")) == ()


@pytest.mark.usefixtures("pristine")
@pytest.mark.parametrize("name", ["psnr", "niqe"])
def test_what_needs_no_network_scores_pyiqas_images_as_its_table_says(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLASHBENCH_CACHE", str(tmp_path))
    metric = metrics.get(name)
    with pytest.raises(MissingAsset, match="calibration/I03"):
        calibration.calibrate(metric)
    registry.pull(calibration.images(metric), report=lambda line: None)  # they lie in pyiqa's wheel
    checks = calibration.calibrate(metric)
    assert [check.on for check in checks] == ["I03", "I04", "I06", "I08", "I19"]
    assert [str(check) for check in checks if not check.ok] == []
    # No network, no note; and nothing to record.
    assert calibration.note(metric) == "" and not (tmp_path / "calibrated").exists()


def photographs(shelf: Shelf, count: int = 2) -> Frames:
    """Small stand-ins on the shelf, with references that are other ones; returns images, then references."""
    shots = frames(2 * count, 64, 80)
    for number, shot in enumerate(shots):
        name = f"calibration/P{number % count}{'-reference' if number >= count else ''}"
        shelf.add(name, writer(shot), ".bmp")
    return shots


def writer(image: Frames) -> Callable[[Path], object]:
    return lambda path: cv2.imwrite(str(path), image[..., ::-1])


def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **scores: list[float]) -> None:
    """A table of its own."""
    (file := tmp_path / f"table-{len(list(tmp_path.glob('table*')))}.yaml").write_text(
        yaml.safe_dump(
            {"published": {"images": ["P0", "P1"], "digits": 1e-4, "relative": 1e-3, "scores": scores}, "golden": {}}
        ),
        "utf-8",
    )
    monkeypatch.setattr(calibration, "TABLE", file)


def pyiqas(model: Any, *clips: Frames) -> list[float]:
    with torch.inference_mode():
        return [float(value) for value in model(*map(images, clips)).flatten()]


def records(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache").glob("calibrated/*"))


def test_a_metric_is_calibrated_by_the_right_scores_only(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = pyiqas(musiq(shelf), photographs(shelf)[:2])
    publish(tmp_path, monkeypatch, musiq=[truth[0], truth[1] * 1.003])
    assert calibration.note(MUSIQ) == "uncalibrated"
    assert [check.ok for check in calibration.calibrate(MUSIQ)] == [True, False]
    assert not calibration.calibrated(MUSIQ) and records(tmp_path) == []
    publish(tmp_path, monkeypatch, musiq=[round(score, 4) for score in truth])
    assert not calibration.calibrated(MUSIQ)
    assert all(check.ok for check in calibration.calibrate(MUSIQ))
    assert calibration.calibrated(MUSIQ) and calibration.note(MUSIQ) == "" and len(records(tmp_path)) == 1

    # Nor does it hold for another metric, table, library or weights.
    assert not calibration.calibrated(replace(MUSIQ, version=MUSIQ.version + 1))
    with monkeypatch.context() as patch:
        publish(tmp_path, patch, musiq=[truth[0], truth[1] + 1])
        assert not calibration.calibrated(MUSIQ)
    with monkeypatch.context() as patch:
        patch.setattr(calibration.keys, "versions", lambda *names: dict.fromkeys(names, "0.0"))
        assert calibration.note(MUSIQ) == "uncalibrated"
    assert calibration.calibrated(MUSIQ)
    other = {key: value + 1e-3 for key, value in torch.load(registry.path("musiq-koniq"), weights_only=True).items()}
    shelf.add("musiq-koniq", lambda path: torch.save(other, path))
    assert calibration.note(MUSIQ) == "uncalibrated" and len(records(tmp_path)) == 1


def test_an_edited_record_does_not_count(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(tmp_path, monkeypatch, musiq=[1.0, 2.0])
    key, file = calibration._place(MUSIQ)
    calibration._record(MUSIQ, {"P0": 1.0, "P1": 2.0})
    assert calibration.calibrated(MUSIQ) and records(tmp_path) == [file]
    whole = json.loads(file.read_text("utf-8"))
    for damage in (
        {**whole, "body": {**whole["body"], "scores": {"P0": 1.5, "P1": 2.0}}},
        {**whole, "body": {**whole["body"], "key": key[::-1]}},
        {"sha256": whole["sha256"]},
        [],
    ):
        file.write_text(json.dumps(damage), "utf-8")
        assert not calibration.calibrated(MUSIQ)
    file.write_bytes(b"\xff{")
    assert not calibration.calibrated(MUSIQ)
    calibration._record(MUSIQ, {"P0": 1.0, "P1": 2.0})
    assert calibration.calibrated(MUSIQ) and file.read_text("utf-8") == json.dumps(whole, indent=1)


def test_a_pair_metric_is_scored_beside_the_references(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shots = photographs(shelf)
    model = lpips(shelf)
    publish(tmp_path, monkeypatch, lpips=pyiqas(model, shots[:2], shots[2:]))
    assert calibration.images(METRICS["lpips"])[:2] == ("calibration/P0", "calibration/P0-reference")
    checks = calibration.calibrate(METRICS["lpips"])
    assert all(check.ok for check in checks) and min(check.found for check in checks) > 1e-3
    assert calibration.calibrated(METRICS["lpips"])


def lpips(shelf: Shelf) -> Any:
    """pyiqa's LPIPS with seeded weights, which are on the shelf."""
    import torchvision

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        backbone = torchvision.models.alexnet(weights=None)
    shelf.add("alexnet", save(backbone))
    linear = {f"lin{n}.model.1.weight": torch.ones(1, c, 1, 1) for n, c in enumerate((64, 192, 384, 256, 256))}
    file = shelf.add("lpips-alex", lambda path: torch.save(linear, path))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torchvision.models, "alexnet", lambda **_: backbone)
        return inference_model("lpips", pretrained_model_path=str(file))


def test_damaged_images_are_refused(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photographs(shelf)
    publish(tmp_path, monkeypatch, musiq=[1.0, 2.0])
    file = shelf.add("calibration/P0", lambda path: path.write_bytes(b"no image"), ".bmp")
    with pytest.raises(InvalidError, match="calibration/P0 is not an image"):
        calibration.calibrate(MUSIQ)
    file.write_bytes(b"another!")
    with pytest.raises(IntegrityError, match="calibration/P0"):
        calibration.calibrate(MUSIQ)


def test_networks_that_the_table_does_not_hold_stay_uncalibrated() -> None:
    notes = {name: calibration.note(metrics.get(name)) for name in metrics.names()}
    assert {notes[name] for name in ("dover_overall", "maniqa", "clipiqa", "lpips_vgg")} == {"uncalibrated"}
    assert {notes[name] for name in ("niqe", "psnr", "warping_error")} == {""}
    dover: Metric = metrics.get("dover_overall")
    assert calibration.calibrate(dover) == [] and not calibration.calibrated(dover)
