"""Metrics by trained networks, through pyiqa: MUSIQ, MANIQA, CLIPIQA, LPIPS, DISTS, and any other as `pyiqa:NAME`.

MUSIQ: J. Ke et al., ICCV 2021. MANIQA: S. Yang et al., CVPRW 2022. CLIPIQA: J. Wang et al., AAAI 2023. LPIPS: R. Zhang
et al., CVPR 2018. DISTS: K. Ding et al., TPAMI 44(5), 2022. Frames go in as they are, one by one, on `device.current`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashbench.errors import (
    InvalidError,
    MissingAsset,
    MissingDependency,
    UsageError,
    did_you_mean,
    missing_dependency,
)
from flashbench.keys import package_version
from flashbench.metrics import device
from flashbench.metrics.base import About, FrameMetric, Pair, PairMetric, Stream, frame_mean
from flashbench.metrics.registry import family, register
from flashbench.types import Direction, Frames, Measurement, Scalar, Scope

if TYPE_CHECKING:
    from flashbench.metrics.pyiqa.networks import Network

PREFIX = "pyiqa:"
_SETS = ("fid", "inception_score")
"""Prefixes of pyiqa's metrics of sets of images, which no frame has."""
_NO_ANSWER = (ArithmeticError, AssertionError, LookupError, RuntimeError, ValueError)
"""What pyiqa's networks raise for frames that they cannot take."""


def verified(name: str) -> Path:
    """The file of asset `name`, its sha256 found right.

    Raises:
        MissingAsset: it is not here, or the registry does not know it.
        IntegrityError: it is not what the registry says.
    """
    from flashbench.assets import registry

    if name not in registry.current().names():
        raise MissingAsset(f"no asset {name} in the registry")
    return registry.path(name)


@dataclass(frozen=True, kw_only=True)
class Learned(FrameMetric):
    """A network's score of each frame, averaged over the frames used that have one."""

    network: str
    """pyiqa's name of it."""
    smallest: int = 1
    """Pixels that a frame must have each way."""

    @property
    def libraries(self) -> tuple[str, ...]:
        """The distributions that a network of pyiqa computes with: pyiqa itself, and what it builds networks from."""
        return ("pyiqa", "timm", "torch", "torchvision")

    def undefined(self, about: About) -> str:
        """Why a clip has no score: frames that the network cannot take, or chosen ones of a clip of unknown length."""
        least = self.smallest
        if min(about.shape[1:]) < least:
            return f"clip is {about.size}: {self.name} needs frames of at least {least}×{least}"
        if self.preprocessing["frames"] != "all" and not about.shape[0]:
            return f"{self.name} uses {self.preprocessing['frames']} frames: the number of frames is not known"
        return ""

    def built(self) -> Network:
        """The metric's network with its weights; kept for the next clip of this process.

        Raises:
            MissingAsset, IntegrityError: a file is not here, or not what the registry says.
            MissingDependency: torch or pyiqa is not installed, or pyiqa in another version than declared.
        """
        declared = self.preprocessing["pyiqa"]
        if package_version("pyiqa") not in (declared, "absent"):
            what = f"pyiqa {package_version('pyiqa')} is installed: {self.name} is declared for {declared}"
            raise MissingDependency(what, fix=f"pip install pyiqa=={declared}")
        return _network(
            self.network, str(self.preprocessing.get("crops", "upstream")), _files(self.assets), device.current()
        )

    def frame(self, pair: Pair) -> float:
        """The network's score of a frame.

        Raises:
            RuntimeError, ValueError and the like: it has none.
        """
        return self.built().score(pair.frame)

    def stream(self, about: About) -> Stream:
        """Mean of the network's scores of the frames used.

        NaN: weights, torch or pyiqa absent; frames too small; no frame that the network has a score for.
        """
        if reason := self.undefined(about):
            return Measurement.missing(reason)
        try:
            self.built()
        except MissingAsset as error:
            return Measurement.missing(f"weights not present: {error.fix or error.what}")
        except MissingDependency as error:
            return Measurement.missing(str(error))
        chosen, number = self._chosen(about.shape[0]), -1
        values, failure = list[float](), ""
        while (pair := (yield)) is not None:
            number += 1
            if chosen is not None and number not in chosen:
                continue
            try:
                values.append(self.frame(pair))
            except _NO_ANSWER as error:
                values.append(math.nan)
                failure = (
                    failure or f" ({type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''})"
                )
        if not values:
            return Measurement.missing("no frame came")
        return frame_mean(values, f"no {self.name}{failure}")

    def _chosen(self, total: int) -> frozenset[int] | None:
        """Numbers of the frames used, the middles of equal parts of the clip; None: all."""
        frames = self.preprocessing["frames"]
        if frames == "all":
            return None
        count = min(int(str(frames)), total)
        return frozenset((2 * part + 1) * total // (2 * count) for part in range(count))


@dataclass(frozen=True, kw_only=True)
class LearnedPair(Learned, PairMetric):
    """A network's score of each frame beside the reference's."""

    scope: Scope = "pair"

    def undefined(self, about: About) -> str:
        """Why a clip has no score: no reference, one of another shape, or what `Learned` refuses."""
        return PairMetric.undefined(self, about) or super().undefined(about)

    def frame(self, pair: Pair) -> float:
        """The network's score of a frame beside its reference; NaN where the reference has come to its end."""
        return PairMetric.frame(self, pair)

    def compare(self, frame: Frames, reference: Frames) -> float:
        """The network's score of a frame beside the reference's."""
        return self.built().score(frame, reference)


def with_frames(metric: Learned, count: int) -> Learned:
    """`metric` on `count` frames of each clip, the middles of as many equal parts."""
    if count < 1:
        raise UsageError(f"{metric.name} on {count} frames", fix="at least one frame is needed")
    return replace(metric, preprocessing={**metric.preprocessing, "frames": count})


def _files(names: tuple[str, ...]) -> tuple[tuple[str, Path, str], ...]:
    """Name, verified file and sha256 of each asset; a MissingAsset that names all that are not here."""
    from flashbench.assets import registry

    files, absent = [], []
    for name in names:
        try:
            files.append((name, verified(name), registry.get(name).sha256))
        except MissingAsset:
            absent.append(name)
    if absent:
        raise MissingAsset(f"{len(absent)} assets are not here", fix=f"flashbench assets pull {' '.join(absent)}")
    return tuple(files)


@lru_cache(maxsize=8)
def _network(metric: str, crops: str, files: tuple[tuple[str, Path, str], ...], where: str) -> Network:
    """The network from verified `files`: other content, another entry."""
    here = {name: path for name, path, _ in files}
    return _build(metric, crops, lambda name: here.get(name) or verified(name), where)


def _build(metric: str, crops: str, weights: Callable[[str], Path], where: str = "cpu") -> Network:
    try:
        from flashbench.metrics.pyiqa import networks

        return networks.build(metric, weights, crops=crops, device=where)
    except ModuleNotFoundError as error:  # of pyiqa or of what it imports, pkg_resources among it
        absent = MissingDependency(f"{error.name} is not installed", fix="pip install 'flashbench[iqa]'")
        raise missing_dependency(error) or absent from error
    except (RuntimeError, LookupError) as error:
        what = f"{PREFIX}{metric} cannot be built from its weights: {type(error).__name__}: {str(error)[:300]}"
        raise InvalidError(what, fix="see the entries of its weights in the asset registry") from error


# --- declarations -----------------------------------------------------------------------------------------------

_LICENCE = "pyiqa: PolyForm-Noncommercial-1.0.0; weights: CC-BY-NC-SA-4.0"
_COMMON: Mapping[str, Scalar] = {
    "channel": "rgb",
    "resize": "none",
    "frames": "all",
    "averaging": "mean over frames",
    "pyiqa": "0.1.16",
}
_MULTISCALE: Mapping[str, Scalar] = {
    **_COMMON,
    "resize": "none, and bicubic without antialias to longer sides 224 and 384",
    "patch": 32,
}
_PROMPTS: Mapping[str, Scalar] = {**_COMMON, "prompts": "five pairs, mean", "position": "none"}
_INFINITE = (-math.inf, math.inf)


def _learned(name: str, network: str, *assets: str, **other: Any) -> Learned:
    """A declaration with what all of them share."""
    return Learned(name=name, network=network, assets=assets, direction="higher", unit="", licence=_LICENCE, **other)


def _maniqa(name: str, network: str, weights: str, crops: str) -> Learned:
    grid = {"size": 224, "grid": "5x5, the first four rows" if crops == "upstream" else "5x5", "crops": crops}
    declared = {**_COMMON, "resize": "none; bilinear to 225 where the shorter side is at most 224", **grid}
    files, bounds = (weights, "vit-base-patch8"), (0.0, math.inf)
    return _learned(name, network, *files, range=bounds, preprocessing=declared, smallest=32, version=2)


LEARNED: tuple[Learned, ...] = (
    _learned("musiq", "musiq", "musiq-koniq", range=_INFINITE, preprocessing=_MULTISCALE),
    _learned("musiq_spaq", "musiq-spaq", "musiq-spaq", range=_INFINITE, preprocessing=_MULTISCALE),
    _maniqa("maniqa", "maniqa", "maniqa-koniq", "upstream"),
    _maniqa("maniqa_full", "maniqa", "maniqa-koniq", "full"),
    _maniqa("maniqa_pipal", "maniqa-pipal", "maniqa-pipal", "upstream"),
    _maniqa("maniqa_pipal_full", "maniqa-pipal", "maniqa-pipal", "full"),
    _learned("clipiqa", "clipiqa", "clip-rn50", range=(0.0, 1.0), preprocessing=_PROMPTS, smallest=32),
)
"""MUSIQ and MANIQA were trained on KonIQ-10k unless their name says otherwise; `full` sees the bottom row of crops."""

LPIPS, LPIPS_VGG, DISTS = (
    LearnedPair(
        name=name,
        network=name.replace("_", "-"),
        assets=assets,
        direction="lower",
        unit="",
        range=(0.0, highest),
        licence=_LICENCE,
        preprocessing=_COMMON,
        smallest=smallest,
    )
    for name, assets, highest, smallest in (
        ("lpips", ("lpips-alex", "alexnet"), math.inf, 32),
        ("lpips_vgg", ("lpips-vgg", "vgg16"), math.inf, 32),
        ("dists", ("dists", "vgg16"), 2.0, 32),
    )
)
"""LPIPS version 0.1 by AlexNet and by VGG16, and DISTS."""
register(*LEARNED, LPIPS, LPIPS_VGG, DISTS)


# --- any other --------------------------------------------------------------------------------------------------


def through_pyiqa(name: str) -> Learned:
    """Declares pyiqa's metric `name` as `pyiqa:NAME`, on frames as they are, with weights from the asset registry.

    Its identity names the weights that are in the registry: those that its constructor asks for.

    Raises:
        UsageError: pyiqa has no such metric, or it scores sets of images.
        MissingDependency: torch or pyiqa is not installed.
    """
    try:
        from pyiqa import default_model_configs as configs
    except ModuleNotFoundError as error:
        raise missing_dependency(error) or error from error
    frames = {key: entry for key, entry in configs.DEFAULT_CONFIGS.items() if not key.startswith(_SETS)}
    if name not in frames:
        raise did_you_mean("metric of pyiqa", name, frames)
    entry = frames[name]
    metric_class = LearnedPair if entry.get("metric_mode") == "FR" else Learned
    direction: Direction = "lower" if entry.get("lower_better") else "higher"
    return metric_class(
        name=f"{PREFIX}{name}",
        network=name,
        assets=_asked_for(name),
        direction=direction,
        unit="",
        range=_INFINITE,
        licence=_LICENCE,
        preprocessing={**_COMMON, "pyiqa": package_version("pyiqa")},
    )


def _asked_for(network: str) -> tuple[str, ...]:
    """Assets of the registry that a constructor asks for, as far as it comes with those that are here."""
    from flashbench.assets import registry

    assets: list[str] = []

    def weights(name: str) -> Path:
        if name in registry.current().names():
            assets.append(name)
        return verified(name)

    with suppress(MissingAsset):
        _build(network, "upstream", weights)
    return tuple(dict.fromkeys(assets))


@lru_cache(maxsize=64)
def _of_the_family(name: str) -> Learned:
    return through_pyiqa(name.removeprefix(PREFIX))


family(PREFIX.removesuffix(":"), "NAME", _of_the_family)
