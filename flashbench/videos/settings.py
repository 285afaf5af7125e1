"""What is measured, and on what of a video: metrics by name, frames, size."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from flashbench import keys, metrics
from flashbench.assets import registry
from flashbench.errors import UsageError
from flashbench.metrics.base import Metric
from flashbench.metrics.device import CPU, checked
from flashbench.paths import PACKAGE, protocol_root, read_yaml
from flashbench.vbench.dimensions import DIMENSIONS
from flashbench.vbench.long import PREFIXES

FRAME_QUALITY = "adhoc/frame-quality"
LARGEST = 16384
"""Pixels of a side that frames can be resized to."""
CUSTOM = "adhoc/custom"
"""Name of the protocol where metrics are chosen by hand."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Metrics, and the frames and size at which they see a video."""

    protocol: str
    metrics: tuple[Metric, ...]
    frames: int | str = "all"
    """`all`, or how many: the middles of as many equal parts of the video."""
    size: tuple[int, int] | None = None
    """Height, width; None: as it is."""
    fps: Fraction | None = None
    """Frames a second at which a video is looked at, before `frames` are chosen; None: all its pictures."""
    device: str = "cpu"
    """Where networks run."""
    unavailable: Mapping[str, str] = field(default_factory=dict)
    """Metric → why it cannot run on this machine; looked up once."""
    fresh: bool = False
    """Measure again what the store has; in no hash, as it decides no number."""

    @property
    def settings(self) -> dict[str, Any]:
        """Frames, size and rate as they are written down; a rate only where one is asked for."""
        size = "native" if self.size is None else f"{self.size[0]}x{self.size[1]}"
        return {"frames": self.frames, "size": size, **({} if self.fps is None else {"fps": str(self.fps)})}

    @property
    def libraries(self) -> tuple[str, ...]:
        """What the metrics that can run here compute with, besides NumPy, SciPy and OpenCV."""
        used = {name for metric in self.metrics if metric.name not in self.unavailable for name in metric.libraries}
        return tuple(sorted(used))

    def about_metrics(self) -> dict[str, Any]:
        """Name → identity, sha256 of its assets, why it cannot run here (or empty), and code that is not ours."""
        return {
            metric.name: {
                "identity": keys.plain(metric.identity),
                "assets": {name: _sha256(name) for name in metric.assets},
                "obstacle": self.unavailable.get(metric.name, ""),
                **metrics.third_party(metric),
            }
            for metric in self.metrics
        }

    @property
    def hash(self) -> str:
        """The protocol's hash: metrics by their identity, weights, frames, size."""
        about = {
            name: {**{field: value for field, value in entry.items() if field != "third_party"}, "obstacle": ""}
            for name, entry in self.about_metrics().items()
        }
        return keys.key("adhoc", metrics=about, **self.settings)


def wanted(
    chosen: Iterable[str | Metric] | str | Metric | None = None,
    *,
    frames: int | str = "all",
    size: str = "native",
    fps: int | float | str | Fraction | None = None,
    device: str = "cpu",
    fresh: bool = False,
) -> Wanted:
    """Metrics by name (`listed`; None: the protocol `adhoc/frame-quality`) and settings as a user writes them.

    Raises:
        UsageError: no such metric, an empty name, number of frames, size or device; a metric twice.
    """
    names: Sequence[str | Metric]
    if chosen is None:
        default = _frame_quality()
        names, frames = default["metrics"], default["frames"] if frames == "all" else frames
    else:
        names = [name for asked in listed(chosen) for name in _all_of(asked)]
    asked_of = tuple(metrics.get(name) if isinstance(name, str) else name for name in names)
    if not asked_of:
        raise UsageError("no metric is asked for", fix="leave them out for all of adhoc/frame-quality, or name some")
    labels = [metric.name for metric in asked_of]
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise UsageError(f"metric {twice[0]} is asked for twice", fix="name it once")
    protocol = FRAME_QUALITY if chosen is None else CUSTOM
    unavailable = {metric.name: reason for metric in asked_of if (reason := metric.unavailable)}
    return Wanted(
        protocol=protocol,
        metrics=asked_of,
        frames=_frames(frames),
        size=_size(size),
        fps=None if fps is None else rate(fps),
        device=device if device == CPU else checked(device),
        unavailable=unavailable,
        fresh=fresh,
    )


def listed(chosen: Iterable[str | Metric] | str | Metric) -> list[str | Metric]:
    """Metrics one by one, as the command line and Python write them: `a,b`, a list, a list with `a,b` in it, objects.

    Names are not looked up; blanks around them do not count, and `vbench:scene` is one name.

    Raises:
        UsageError: a name is empty, or something is neither a name nor a `Metric`.
    """
    each: list[str | Metric] = []
    try:
        given = [chosen] if isinstance(chosen, str | Metric) else list(chosen)
    except TypeError as error:
        raise _no_metric(chosen) from error
    for asked in given:
        if isinstance(asked, str):
            parts = [part.strip() for part in asked.split(",")]
            if not all(parts):
                what = f"an empty name among the metrics {asked!r}"
                raise UsageError(what, fix="write names with one comma between, as in psnr,ssim")
            each += parts
        elif isinstance(asked, Metric):
            each.append(asked)
        else:
            raise _no_metric(asked)
    return each


def _no_metric(thing: object) -> UsageError:
    return UsageError(f"{thing!r} is not a metric", fix="give names, or flashbench.metrics.Metric objects")


def _all_of(asked: str | Metric) -> list[str | Metric]:
    """A metric; `vbench`, `vbench_long` and `vbench_long_official` are all of VBench's dimensions."""
    return [f"{asked}:{name}" for name in DIMENSIONS] if asked in PREFIXES else [asked]


def protocol_file(name: str) -> Mapping[str, Any] | None:
    """What the file of a protocol says, here or in the package; None if there is none of that name."""
    for root in (protocol_root(), PACKAGE / "shipped" / "protocols"):  # a user's own copy need not have it
        if (path := root / f"{name}.yaml").is_file():
            return read_yaml(path)
    return None


def _frame_quality() -> Mapping[str, Any]:
    if (found := protocol_file(FRAME_QUALITY)) is not None:
        return found
    raise UsageError(f"{protocol_root()} has no {FRAME_QUALITY}.yaml", fix="name metrics, or see FLASHBENCH_PROTOCOLS")


def _frames(text: int | str) -> int | str:
    if text == "all":
        return text
    if not re.fullmatch("[0-9]{1,9}", str(text)) or int(text) < 1:
        raise UsageError(f"invalid --frames {text!r}", fix="write all, or a number from 1")
    return int(text)


def _size(text: str) -> tuple[int, int] | None:
    if text == "native":
        return None
    match = re.fullmatch("([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", str(text))
    if not match or max(size := (int(match[1]), int(match[2]))) > LARGEST:
        fix = f"write native, or HEIGHTxWIDTH such as 1080x1920, at most {LARGEST} each"
        raise UsageError(f"invalid --size {text!r}", fix=fix)
    return size


def rate(fps: int | float | str | Fraction) -> Fraction:
    """A frame rate as people write it; 23.976 and 29.97 stand for 24000/1001 and 30000/1001.

    Raises:
        UsageError: it is no number above 0.
    """
    try:
        rate = Fraction(fps)
    except (ValueError, OverflowError, ZeroDivisionError, TypeError) as error:
        raise UsageError(f"invalid frame rate {fps!r}", fix="write 24, 23.976 or '24000/1001'") from error
    if isinstance(fps, float) or "." in str(fps):
        film = Fraction(1000 * round(rate), 1001)  # 23.976 and 29.97 stand for these
        rate = film if abs(film - rate) < Fraction(1, 1000) else rate.limit_denominator(1001)
    if rate <= 0:
        raise UsageError(f"invalid frame rate {fps!r}", fix="write a number above 0")
    return rate


def _sha256(asset: str) -> str:
    """What the registry says of an asset; `unknown` where it has none of that name."""
    known = registry.current()
    return known.get(asset).sha256 if asset in known.names() else "unknown"
