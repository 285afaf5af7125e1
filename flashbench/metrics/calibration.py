"""Whether metrics score as they should: on clips made here, and on pyiqa's calibration images.

Metrics without a trained network score a small synthetic clip, whose values are kept in `calibration.yaml`. Metrics by
trained networks carry the note `uncalibrated` until they have scored pyiqa's calibration images (five of TID2013's,
N. Ponomarenko et al., Signal Processing: Image Communication 30, 2015) as its published table says; that is recorded
under the metric's identity, its weights and the libraries, so that with others it is uncalibrated again.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from flashbench import keys
from flashbench.assets import registry
from flashbench.errors import InvalidError, on_disk
from flashbench.metrics import device
from flashbench.metrics.base import About, Metric, Pair, SetMetric, measure_frames
from flashbench.paths import cache_root, read_yaml
from flashbench.types import Clip, Frames

TABLE = Path(__file__).with_name("calibration.yaml")
"""Golden values of the synthetic clip, and what is kept of pyiqa's table."""
NOTE = "uncalibrated"
SHAPE = (5, 270, 480)
"""Frames, height, width of the synthetic clip."""


@dataclass(frozen=True)
class Check:
    """A metric's value beside the one it should have; `reason` where it has none."""

    metric: str
    on: str
    """What it scored."""
    found: float
    expected: float
    tolerance: float
    """Largest difference that is none, in the metric's unit."""
    reason: str = ""

    @property
    def ok(self) -> bool:
        """Whether it is; NaN never is."""
        return abs(self.found - self.expected) <= self.tolerance

    def __str__(self) -> str:
        found = f"no value ({self.reason})" if math.isnan(self.found) else f"{self.found:.10g}"
        return f"{self.metric} on {self.on}: {found}, expected {self.expected:.10g} ± {self.tolerance:.2g}"


def synthetic(frames: int, height: int, width: int) -> Frames:
    """Frames of drifting stripes, chequers and noise by integer arithmetic: uint8 [T, H, W, 3], the same everywhere."""
    t, y, x, c = np.ogrid[:frames, :height, :width, :3]
    stripes = _triangle(3 * x + 2 * y + 5 * t + 40 * c, 97)
    rings = _triangle(x * x // 64 + y * y // 48 + 11 * t + 17 * c, 61)
    chequers = (((x + 2 * t) // 16 + (y + t) // 12 + c) % 2) * 64
    noise = (x * 73856093) ^ (y * 19349663) ^ (t * 83492791) ^ (c * 2654435761)
    noise = ((noise * 1103515245 + 12345) >> 16) & 31
    return np.clip((4 * stripes + 3 * rings + 2 * chequers) // 9 + noise, 0, 255).astype(np.uint8)


def _triangle(values: Any, period: int) -> Any:
    return np.abs(values % (2 * period) - period) * 255 // period


@lru_cache(maxsize=1)
def clips() -> tuple[Clip, Clip]:
    """The synthetic clip, and its reference: the same in 16 levels per channel."""
    frames = synthetic(*SHAPE)
    return Clip(frames, Fraction(8)), Clip(np.asarray(frames & 0xF0 | 8, np.uint8), Fraction(8))


def values(metrics: Sequence[Metric]) -> list[tuple[float, str]]:
    """What the metrics say of the synthetic clip beside its reference (a set metric: of that clip alone), and why not.

    A metric that fails has no value either.
    """
    clip, reference = clips()
    about = About(shape=clip.frames.shape[:3], fps=clip.fps, reference=reference.frames.shape[:3])
    measured = measure_frames(metrics, about, map(Pair, clip.frames, reference.frames), failures={})
    return [
        (metric.finalize(np.asarray(measurement.statistics)), measurement.reason)
        if isinstance(metric, SetMetric) and measurement.statistics
        else (measurement.value, measurement.reason)
        for metric, measurement in zip(metrics, measured, strict=True)
    ]


def check(metrics: Sequence[Metric]) -> list[Check]:
    """Score the synthetic clip with those of `metrics` that have a golden value."""
    golden = _table()["golden"]
    known = [metric for metric in metrics if metric.name in golden]
    checks = []
    for metric, (found, reason) in zip(known, values(known), strict=True):
        expected, relative = (float(golden[metric.name][name]) for name in ("value", "tolerance"))
        checks.append(Check(metric.name, "the synthetic clip", found, expected, relative * abs(expected), reason))
    return checks


# --- pyiqa's calibration images ---------------------------------------------------------------------------------


def published(metric: Metric) -> Mapping[str, float]:
    """Image → published score; empty if the table does not hold the metric."""
    table = _table()["published"]
    scores = table["scores"].get(metric.name, [])
    return dict(zip(table["images"], map(float, scores), strict=True)) if scores else {}


def images(metric: Metric) -> tuple[str, ...]:
    """Names of the assets that calibrating it reads: images, and their references if it compares."""
    parts = ("", "-reference") if metric.scope == "pair" else ("",)
    return tuple(f"calibration/{name}{part}" for name in published(metric) for part in parts)


def calibrate(metric: Metric) -> list[Check]:
    """Score the calibration images; if all scores are the published ones, that is recorded.

    Raises:
        MissingAsset: an image is not here.
        IntegrityError, InvalidError: a file is not what it should be, or the record cannot be written.
    """
    limits, checks = _table()["published"], []
    for name, expected in published(metric).items():
        clip = _image(f"calibration/{name}")
        reference = _image(f"calibration/{name}-reference") if metric.scope == "pair" else None
        measurement = metric.measure(clip, reference)
        tolerance = float(limits["digits"]) + float(limits["relative"]) * abs(expected)
        checks.append(Check(metric.name, name, measurement.value, expected, tolerance, measurement.reason))
    if metric.learned and checks and all(each.ok for each in checks):
        _record(metric, {each.on: each.found for each in checks})
    return checks


def calibrated(metric: Metric) -> bool:
    """Whether it scored the calibration images as published: with these weights, its identity and these libraries."""
    if not metric.learned or not published(metric):
        return False
    key, file = _place(metric)
    try:
        sealed = json.loads(file.read_text(encoding="utf-8"))
        body = sealed["body"]
        whole = keys.key("seal", body=body) == sealed["sha256"]
    except (OSError, ValueError, TypeError, KeyError):
        return False  # absent, or no record: the next calibration writes it anew
    return bool(whole and body["key"] == key and body["scores"].keys() == published(metric).keys())


def note(metric: Metric) -> str:
    """What a row's reason says of it: `uncalibrated`, or nothing for calibrated metrics and those without a network."""
    return NOTE if metric.learned and not calibrated(metric) else ""


def _table() -> dict[str, Any]:
    return _read(TABLE)


@lru_cache(maxsize=4)
def _read(file: Path) -> dict[str, Any]:
    return read_yaml(file)


def _image(name: str) -> Clip:
    """The image of an asset as a clip of one frame."""
    pixels: Any = cv2.imdecode(np.fromfile(registry.path(name), np.uint8), cv2.IMREAD_COLOR)
    if pixels is None:
        raise InvalidError(f"asset {name} is not an image", fix="see its entry in the asset registry")
    return Clip(np.ascontiguousarray(pixels[None, ..., ::-1]), Fraction(1))


def _place(metric: Metric) -> tuple[str, Path]:
    """Key and file of its record.

    Threads are left out of the numerics class: what they move is a thousandth of the tolerance, and a calibration in
    one process is to count in workers with other numbers of threads.
    """
    known = registry.current().assets
    key = keys.key(
        "calibrated",
        metric=metric.identity,
        assets={name: known[name].sha256 if name in known else registry.UNKNOWN for name in metric.assets},
        table=published(metric),
        numerics={"isa": keys.cpu_isa(), **keys.versions("numpy", "scipy", *metric.libraries)},
        device=device.current(),
    )
    return key, cache_root() / "calibrated" / f"{key}.json"


def _record(metric: Metric, scores: Mapping[str, float]) -> None:
    key, file = _place(metric)
    body = {"key": key, "metric": metric.name, "scores": dict(scores)}
    text = json.dumps({"body": body, "sha256": keys.key("seal", body=body)}, indent=1)
    with on_disk(f"the record {file} cannot be written", fix="free some space, or see FLASHBENCH_CACHE"):
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent, ignore_cleanup_errors=True) as folder:
            (draft := Path(folder) / file.name).write_text(text, encoding="utf-8")
            os.replace(draft, file)
