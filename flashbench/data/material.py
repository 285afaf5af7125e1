"""The laptop tier's material: photographs and videos with their split, cut into clips.

A photograph becomes a clip by a drifting camera (pan, zoom, slight rotation, all sub-pixel); a video by a crop and a
frame stride. Nothing is ever enlarged: a source is shrunk by area averaging where it is larger than needed, and a clip
never leaves its picture. Every clip is a pure function of its arguments and of the source's file.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import av
import cv2
import numpy as np
import numpy.typing as npt
import yaml

from flashbench.assets import registry
from flashbench.data.views import MARGIN, Picture, cut, shrink
from flashbench.errors import InvalidError, UsageError, did_you_mean
from flashbench.paths import protocol_root
from flashbench.types import Clip, Frames

VERSION = 1
"""Of everything below that changes a pixel."""

FPS = Fraction(8)
VIEW = 2.2
"""Short side of the shrunk picture of a case, in units of the clip's long side: what a case sees of its source."""
VIDEO_SHORT_SIDE = 480
"""Videos are kept decoded at this short side at most."""

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
_FIELDS = {"id", "split", "asset", "kind", "package", "member", "licence", "caption"}


# --- sources ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Source:
    """A photograph, or a scene of a video: the unit of statistics of the laptop tier."""

    id: str
    split: Split
    asset: str
    kind: Literal["image", "video"]
    package: str
    member: str
    licence: str
    caption: str
    size: tuple[int, int] | None = None
    """Height and width as decoded (`picture`), for `too_small`."""
    frames: tuple[int, int] | None = None
    """Of a video: first frame of the scene, and the one after its last."""


def read_sources(path: Path | None = None) -> tuple[Source, ...]:
    """The sources of `path`, by default `protocols/material/sources.yaml`, in the file's order.

    Raises:
        UsageError: the file cannot be read, a field is wrong, an id or caption comes twice, or an asset (a film,
            whatever its scenes) lies in two splits.
    """
    file = (protocol_root() / "material" / "sources.yaml" if path is None else path).absolute()
    try:
        return _read(file, file.stat().st_mtime_ns)
    except OSError as error:
        raise UsageError(f"the list of sources {file} cannot be read: {error.strerror}", fix="restore it") from error


@lru_cache(maxsize=4)
def _read(path: Path, changed: int) -> tuple[Source, ...]:
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        why = " ".join(str(error).split())
        raise UsageError(f"the list of sources {path} cannot be read: {why}", fix="restore it") from error
    if not isinstance(content, dict) or not isinstance(content.get("sources"), list):
        raise UsageError(f"{path}: no list `sources`", fix="see protocols/material/sources.yaml")
    sources = tuple(_source(path, entry) for entry in content["sources"])
    split_of: dict[str, str] = {}
    for field in ("id", "caption"):
        values = [getattr(source, field) for source in sources]
        if twice := sorted({value for value in values if values.count(value) > 1}):
            raise UsageError(f"{path}: {field} {twice[0]!r} comes twice", fix="keep one")
    for source in sources:
        if split_of.setdefault(source.asset, source.split) != source.split:
            raise UsageError(f"{path}: asset {source.asset} lies in two splits", fix="put all its scenes into one")
    return sources


def _source(path: Path, entry: Any) -> Source:
    if not isinstance(entry, dict) or entry.keys() - {"frames", "size"} != _FIELDS:
        names = ", ".join(sorted(_FIELDS))
        raise UsageError(f"{path}: a source has the fields {names} (and frames, size), not {entry}")
    where = f"{path}: source {entry['id']!r}"
    for field in _FIELDS:
        if not isinstance(entry[field], str) or not entry[field].strip():
            raise UsageError(f"{where}: {field} is not a text")
    if entry["id"].startswith(("scene-", "synthetic-")):
        raise UsageError(f"{where}: clips that are made without a source are called so", fix="give it another id")
    if entry["split"] not in SPLITS:
        raise did_you_mean(f"split ({where})", entry["split"], SPLITS)
    if entry["kind"] not in ("image", "video"):
        raise did_you_mean(f"kind ({where})", entry["kind"], ("image", "video"))
    frames = entry.get("frames")
    if (entry["kind"] == "video") != (frames is not None):
        raise UsageError(f"{where}: a video has `frames`, an image has none")
    if frames is not None:
        is_range = isinstance(frames, list) and [type(edge) for edge in frames] == [int, int]
        if not is_range or not 0 <= frames[0] < frames[1]:
            raise UsageError(f"{where}: frames is [first, one after the last], not {frames}")
        frames = (frames[0], frames[1])
    size = entry.get("size")
    if size is not None and (not isinstance(size, list) or [type(side) for side in size] != [int, int]):
        raise UsageError(f"{where}: size is [height, width], not {size}")
    return Source(**(entry | {"frames": frames, "size": None if size is None else (size[0], size[1])}))


def source(name: str) -> Source:
    """The source with id `name`; a `UsageError` with the nearest one if there is none."""
    sources = {entry.id: entry for entry in read_sources()}
    if name not in sources:
        raise did_you_mean("source of material", name, sources)
    return sources[name]


def too_small(name: str, height: int, width: int) -> str:
    """Why source `name` has no clip of `height` x `width` pixels; empty if it has: nothing is ever enlarged."""
    entry = source(name)
    if entry.size is None:
        return ""  # then cutting the clip says so
    edge = 2 * math.ceil(MARGIN) if entry.kind == "image" else 0
    if entry.size[0] >= height + edge and entry.size[1] >= width + edge:
        return ""
    return f"its source has {entry.size[0]}x{entry.size[1]} pixels, and material is never enlarged"


def source_hash(name: str) -> str:
    """Identity of source `name` in keys: its file's sha256 and its frames, whatever it is called."""
    return _hash([_identity(source(name))])


def material_hash(split: Split | None = None) -> str:
    """Identity of all sources, or of those of `split`: ids, sha256 of their files, frames, and their order.

    The order counts because training draws sources by their place in the list.
    """
    chosen = [entry for entry in read_sources() if split in (None, entry.split)]
    return _hash([[entry.id, _identity(entry)] for entry in chosen])


def _identity(entry: Source) -> list[Any]:
    return [registry.get(entry.asset).sha256, entry.kind, entry.frames]


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()


# --- decoding -----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def picture(entry: Source) -> Picture:
    """The decoded source, kept for the process: about 0.5 GB for all of the material.

    Raises:
        MissingAsset: its file was not fetched.
        IntegrityError: its file is not what the registry says.
        InvalidError: its file cannot be decoded, or the scene is not in it.
    """
    path = registry.path(entry.asset)
    frames = _decode_image(path) if entry.frames is None else _decode_video(path, *entry.frames)
    return Picture.of(entry.id, frames)


def _decode_image(path: Path) -> Frames:
    image = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise InvalidError(f"{path} is not an image that OpenCV reads", fix="flashbench assets verify")
    return np.ascontiguousarray(image[None, :, :, ::-1], dtype=np.uint8)


def _decode_video(path: Path, first: int, end: int) -> Frames:
    frames: list[Frames] = []
    try:
        with av.open(str(path)) as container:
            for number, frame in enumerate(container.decode(video=0)):
                if number >= end:
                    break
                if number >= first:
                    frames.append(_limit(frame.to_ndarray(format="rgb24")))
    except av.error.FFmpegError as error:
        raise InvalidError(f"{path} cannot be decoded: {error}", fix="flashbench assets verify") from error
    if len(frames) != end - first:
        raise InvalidError(f"{path} has no frames {first} to {end}", fix="correct `frames` in sources.yaml")
    return np.stack(frames)


def _limit(frame: npt.NDArray[Any]) -> Frames:
    height, width = frame.shape[:2]
    factor = VIDEO_SHORT_SIDE / min(height, width)
    return frame if factor >= 1 else shrink(frame, round(height * factor), round(width * factor))


# --- clips ------------------------------------------------------------------------------------------------------


def _generator(*what: str | int) -> np.random.Generator:
    seed = hashlib.sha256("|".join(map(str, what)).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(seed[:16], "big")))


def case_clip(entry: Source | str, index: int, frames: int, height: int, width: int) -> Clip:
    """Clip `index` of a source (or of its id), 8 frames a second: the same for every variant of a protocol.

    The picture is first shrunk to a short side of about 2.2 times the clip's long side, so that a clip shows a good
    part of its source in crisp detail. Clip 0 looks at the best of 16 random places by median gradient, the others at
    the best of 4.

    Raises:
        MissingAsset: the source's file was not fetched.
        UsageError: the source is too small or too short.
    """
    shown = picture(source(entry) if isinstance(entry, str) else entry)
    factor = min(1.0, VIEW * max(height, width) / min(shown.size))
    draw = _generator("case", shown.name, index)
    return Clip(cut(shown, factor, (frames, height, width), draw, tries=4 if index else 16), FPS)


def training_clips(
    count: int, frames: int, height: int, width: int, seed: int, sources: Sequence[Source] | None = None
) -> Iterator[Frames]:
    """`count` augmented clips, uint8 [T, H, W, 3], of the split `train` (or of `sources`), each source equally often.

    Clip k is `training_clip(k, …)`: it does not depend on `count` or on the other clips.
    """
    return (training_clip(index, frames, height, width, seed, sources) for index in range(count))


def training_source(index: int, seed: int, sources: Sequence[Source] | None = None) -> Source:
    """What clip `index` of the endless training set of `seed` is cut out of; reads no pixel."""
    chosen = [entry for entry in read_sources() if entry.split == "train"] if sources is None else list(sources)
    if any(entry.split != "train" for entry in chosen) or not chosen:
        raise UsageError("training takes sources of the split train", fix="leave dev and test alone")
    turn, place = divmod(index, len(chosen))
    order = _generator("training order", seed, turn).permutation(len(chosen))
    return chosen[int(order[place])]


def training_clip(
    index: int, frames: int, height: int, width: int, seed: int, sources: Sequence[Source] | None = None
) -> Frames:
    """Clip `index` of the endless training set of `seed`: uint8 [T, H, W, 3]."""
    shown = picture(training_source(index, seed, sources))
    draw = _generator("training", seed, index)
    # From the smallest picture that still leaves room to move, to the source's own pixels.
    smallest = min(1.0, 1.3 * max(height, width) / min(shown.size))
    factor = math.exp(draw.uniform(math.log(smallest), 0.0))
    # Now and then any place: skies and walls must be learnt too.
    clip = cut(shown, factor, (frames, height, width), draw, tries=1 if draw.random() < 0.2 else 4)
    return _augment(clip, draw)


def _augment(clip: Frames, draw: np.random.Generator) -> Frames:
    """Flips, time reversal, channel permutation, brightness and gamma."""
    if draw.random() < 0.5:
        clip = clip[:, :, ::-1]
    if draw.random() < 0.2:
        clip = clip[:, ::-1]
    if draw.random() < 0.5:
        clip = clip[::-1]
    if draw.random() < 0.3:
        clip = clip[..., draw.permutation(3)]
    clip = np.ascontiguousarray(clip)
    if draw.random() < 0.5:
        level = np.arange(256) / 255.0
        curve = draw.uniform(0.85, 1.1) * level ** draw.uniform(0.85, 1.18)
        clip = np.clip(np.rint(curve * 255.0), 0, 255).astype(np.uint8)[clip]
    return clip
