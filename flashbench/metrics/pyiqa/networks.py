"""Networks of pyiqa, built from files that were verified before, and never from the network.

pyiqa is called as a library: while its constructors run, `handed_over` stands in for what they fetch and open with.
What they ask for is looked up by its file's name, so that any of its metrics can be built whose files are assets.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import math
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any, TypeAlias
from urllib.parse import unquote, urlparse

import numpy as np
import torch
from torch import Tensor, nn

from flashbench.errors import InvalidError
from flashbench.types import Frames

Weights: TypeAlias = Callable[[str], Path]
"""Asset name → its file, whose sha256 was found right just now; raises MissingAsset, IntegrityError."""

CROP, GRID, ROWS = 224, 5, {"upstream": 4, "full": 5}
"""MANIQA: pixels of a crop, crops per row, and rows: upstream takes the first 20 of 25, never the bottom ones."""
CROPS_AT_ONCE = 4
"""Bounds the memory; the score is that of all crops at once to the last digits of float32."""

ASSETS: Mapping[str, str] = {
    "musiq_koniq_ckpt-e95806b9.pth": "musiq-koniq",
    "musiq_spaq_ckpt-358bb6af.pth": "musiq-spaq",
    "ckpt_koniq10k.pt": "maniqa-koniq",
    "MANIQA_PIPAL-ae6d356b.pth": "maniqa-pipal",
    "vit_base_patch8_224": "vit-base-patch8",
    "RN50.pt": "clip-rn50",
    "LPIPS_v0.1_alex-df73285e.pth": "lpips-alex",
    "LPIPS_v0.1_vgg-a78928a0.pth": "lpips-vgg",
    "DISTS_weights-f5e65c96.pth": "dists",
    "alexnet-owt-7be5be79.pth": "alexnet",
    "vgg16-397923af.pth": "vgg16",
}
"""Name of the file (of timm's model) that pyiqa asks for → name of the asset; of any other file it is `pyiqa/FILE`."""

_BORROWERS = ("pyiqa", "clip", "timm", "torchvision", "transformers", "huggingface_hub", "open_clip", "facexlib")
"""Packages whose modules may hold the functions under names of their own."""
_LOCK = threading.RLock()
_REFUSED = "a metric of pyiqa reads files of the asset registry only"


def asset_of(file: str) -> str:
    """The asset's name of a file or URL that pyiqa asks for."""
    name = PurePosixPath(unquote(urlparse(file).path)).name
    return ASSETS.get(name, f"pyiqa/{name}")


class _Lender:
    """What stands in for the loaders: verified files by name, and nothing else."""

    def __init__(self, weights: Weights) -> None:
        import timm

        self.weights, self.names = weights, dict[str, str]()
        self.undefined: Exception | None = None
        # The originals, for use while their names lead here.
        self.jit_load: Callable[..., Any] = torch.jit.load
        self.create_model: Callable[..., Any] = timm.create_model

    def file(self, url: str, *_: Any, **__: Any) -> str:
        """The verified file for a URL or a model's name."""
        name = asset_of(url)
        try:
            path = str(self.weights(name))
        except Exception as error:
            self.undefined = self.undefined or error  # the constructor may catch it and go on without
            raise
        self.names[path] = name
        return path

    def lent(self, file: Any) -> tuple[str, str]:
        """Path and asset of an argument of a loader, if it is a file that was lent."""
        path = str(getattr(file, "name", file))
        if path not in self.names:
            raise self.refuse(f"open {Path(path).name}")
        return path, self.names[path]

    def refuse(self, what: str) -> InvalidError:
        """The error for anything else, which also ends the construction if the caller swallows it."""
        error = InvalidError(f"pyiqa wanted to {what}: refused", fix=_REFUSED)
        self.undefined = self.undefined or error
        return error

    def load(self, file: Any, *_: Any, **__: Any) -> Any:
        """For torch.load: the file's tensors, and never an object that a pickle makes."""
        path, name = self.lent(file)
        return read(Path(path), name)

    def archive(self, file: Any, *_: Any, **__: Any) -> Any:
        """For torch.jit.load; what is no archive raises RuntimeError, as the original does."""
        return self.jit_load(self.lent(file)[0], map_location="cpu")

    def tensors(self, url: str, *_: Any, **__: Any) -> Any:
        """For torch.hub.load_state_dict_from_url."""
        return self.load(self.file(url))

    def timm_model(self, name: str, pretrained: bool = False, **options: Any) -> Any:
        """For timm.create_model: its own way of taking weights that are in memory."""
        if pretrained:
            state = self.load(self.file(name))
            options["pretrained_cfg_overlay"] = {"state_dict": state}
            if "pos_embed" in state and "blocks.0.norm1.weight" in state:
                options |= vit_size(state["pos_embed"].shape[-1], _count(state, "blocks."))
        return self.create_model(name, pretrained=pretrained, **options)

    def offline(self, *where: Any, **_: Any) -> Any:
        """For whatever opens a connection."""
        raise self.refuse(f"connect to {where[0] if where else 'the network'}")

    def hub(self, *what: Any, **named: Any) -> Any:
        """For downloads from Hugging Face, whose cache is read unverified."""
        raise self.refuse(f"fetch {what or tuple(named.values())[:2]} from Hugging Face")


def read(path: Path, name: str) -> Any:
    """Tensors of the verified file of asset `name`, on the CPU: safetensors, or what weights_only reads.

    Raises:
        InvalidError: it holds anything but tensors and plain containers of them.
    """
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise InvalidError(
                f"asset {name} is not a safetensors file: {error}", fix="see its registry entry"
            ) from error
    try:
        # By its home's name: `torch.load` itself is replaced while a constructor runs.
        return torch.serialization.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch has one kind for each way in which a file is no state dict
        what = f"asset {name} is refused: it is not a plain state dict ({type(error).__name__})"
        raise InvalidError(
            what, fix=f"do not trust this file; flashbench assets pull {name} fetches another"
        ) from error


def _bound(function: Any, home: tuple[ModuleType, str]) -> list[tuple[ModuleType, str]]:
    """Where `function` is bound: at home, and under any name in a module that may have imported it by name."""
    places = [home] if vars(home[0]).get(home[1]) is function else []
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in _BORROWERS and isinstance(module, ModuleType):
            places += [(module, key) for key, value in list(vars(module).items()) if value is function]
    return places


@contextlib.contextmanager
def substituted(pairs: list[tuple[ModuleType, str, Callable[..., Any]]]) -> Iterator[None]:
    """Replaces functions (home, name, stand-in) for calls of this thread, everywhere, and restores them always.

    Modules that are imported meanwhile and take a stand-in by name are put right too.
    """
    owner = threading.get_ident()

    def only_here(original: Callable[..., Any], stand_in: Callable[..., Any]) -> Callable[..., Any]:
        def either(*arguments: Any, **named: Any) -> Any:
            return (stand_in if threading.get_ident() == owner else original)(*arguments, **named)

        return either

    with _LOCK:
        swaps = []
        try:
            for home, name, stand_in in pairs:
                original = getattr(home, name)
                either = only_here(original, stand_in)
                swaps.append((original, either, (home, name)))
                for module, key in _bound(original, (home, name)):
                    setattr(module, key, either)
            yield
        finally:
            for original, either, place in reversed(swaps):
                for module, key in _bound(either, place):
                    setattr(module, key, original)


def _openai_clip() -> ModuleType | None:
    """The module of openai-clip that downloads, which only some metrics need; None where it cannot be imported."""
    with warnings.catch_warnings(), contextlib.suppress(ModuleNotFoundError):  # setuptools 82 has no pkg_resources
        warnings.simplefilter("ignore")  # that pkg_resources is deprecated: whoever runs a metric cannot mend it
        return importlib.import_module("clip.clip")
    return None


@contextlib.contextmanager
def handed_over(weights: Weights) -> Iterator[_Lender]:
    """Constructors of pyiqa run in this context get their files from `weights`, and nothing from anywhere else.

    Raises:
        InvalidError: they wanted the network, or to open another file, even where they went on without.
    """
    import huggingface_hub
    import pyiqa.archs.clip_model
    import pyiqa.utils.download_util
    import timm

    lender = _Lender(weights)
    pairs: list[tuple[ModuleType, str, Callable[..., Any]]] = [
        (pyiqa.utils.download_util, "load_file_from_url", lender.file),
        (pyiqa.archs.clip_model, "_download", lender.file),
        (torch, "load", lender.load),
        (torch.jit, "load", lender.archive),
        (torch.hub, "load_state_dict_from_url", lender.tensors),
        (timm, "create_model", lender.timm_model),
        (huggingface_hub, "hf_hub_download", lender.hub),
        (huggingface_hub, "snapshot_download", lender.hub),
        (socket, "getaddrinfo", lender.offline),
        (socket, "create_connection", lender.offline),
    ]
    if (clip := _openai_clip()) is not None:
        pairs.append((clip, "_download", lender.file))
    with substituted(pairs):
        yield lender
    if lender.undefined is not None:
        raise lender.undefined


HEAD = 64
"""Channels of a head of attention in the networks whose size is read off their weights."""


def vit_size(width: int, blocks: int) -> dict[str, Any]:
    """What timm is told of a vision transformer of that width: of 768 and 12, ViT-B itself."""
    return {"embed_dim": width, "depth": blocks, "num_heads": max(1, width // HEAD)}


def maniqa_size(width: int) -> dict[str, int]:
    """What pyiqa is told of a MANIQA on a backbone of that width."""
    return {"embed_dim": width, "dim_mlp": width}


def _size(metric: str, weights: Weights) -> dict[str, int]:
    """The size of a network as its own weights have it, where pyiqa would take the published one for granted."""
    asset = next((name for start, name in _SIZED.items() if metric == start), None)
    if asset is None:
        return {}
    state = read(weights(asset), asset)
    if asset.startswith("maniqa") and "conv1.weight" in state:
        return maniqa_size(state["conv1.weight"].shape[0])
    if asset.startswith("musiq") and "embedding.weight" in state:
        width, blocks = state["embedding.weight"].shape[0], "transformer_encoder.transformer."
        inner = state[f"{blocks}encoderblock_0.mlp.fc1.weight"].shape[0]
        size = {"hidden_size": width, "mlp_dim": inner, "num_heads": max(1, width // HEAD)}
        return size | {"num_layers": _count(state, blocks)}
    return {}


_SIZED = {"musiq": "musiq-koniq", "musiq-spaq": "musiq-spaq", "maniqa": "maniqa-koniq", "maniqa-pipal": "maniqa-pipal"}
"""pyiqa's name of a network → the asset that tells its size."""


def _count(state: Mapping[str, Any], prefix: str) -> int:
    """Different members of a list of modules."""
    return len({key.removeprefix(prefix).partition(".")[0] for key in state if key.startswith(prefix)})


class Network:
    """A metric of pyiqa on a device, in eval mode."""

    def __init__(self, model: Any, assets: tuple[str, ...] = (), device: str = "cpu") -> None:
        self.model, self.device = model, device
        self.assets = assets
        """Names of the assets that it was built from, in the order in which they were asked for."""

    def score(self, frame: Frames, reference: Frames | None = None) -> float:
        """Score of a frame [H, W, 3], beside `reference` [H, W, 3] if the metric compares; NaN if it is not finite.

        Frames go through the network one by one, so that no score depends on what it is batched with.

        Raises:
            RuntimeError, ValueError, AssertionError, LookupError: the network has no answer to such a frame.
        """
        images = [tensor(image).to(self.device) for image in (frame, reference) if image is not None]
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of interpolation and the like: nothing that a user could change
            value = self.run(*images)
        return value if math.isfinite(value) else math.nan

    def run(self, *images: Tensor) -> float:
        """What pyiqa answers for images [1, 3, H, W] in 0 … 1."""
        output = self.model(*images)
        if not isinstance(output, Tensor) or output.numel() != 1:
            raise ValueError("more than a number came out")
        return float(output)


class Maniqa(Network):
    """MANIQA with its crops in small batches, and the bottom row if wanted.

    S. Yang et al., CVPRW 2022 (arXiv 2204.08958), eq. 6: Σ w·s / Σ w, over the patches of all crops of a frame.
    """

    def __init__(self, model: Any, assets: tuple[str, ...], crops: str, device: str = "cpu") -> None:
        super().__init__(model, assets, device)
        self.rows = ROWS[crops]
        self.parts: dict[str, list[Tensor]] = {"score": [], "weight": []}
        for name, part in self.parts.items():
            branch: nn.Module = getattr(model.net, f"fc_{name}")
            branch.register_forward_hook(lambda module, given, out, part=part: part.append(out.double()))

    def run(self, *images: Tensor) -> float:
        """MANIQA's weighted mean over the crops of a frame, `CROPS_AT_ONCE` of them at a time, equal ones once."""
        import pyiqa.archs.maniqa_arch as home

        image = enlarged(images[0])
        places = self._places(image)
        different = list(dict.fromkeys(places))
        parts = [different[first : first + CROPS_AT_ONCE] for first in range(0, len(different), CROPS_AT_ONCE)]
        upcoming = iter(parts)
        for part in self.parts.values():
            part.clear()
        with substituted([(home, "uniform_crop", lambda image, **_: _crops(image, next(upcoming)))]):
            for _ in parts:
                self.model(image)
        rows = [different.index(place) for place in places]
        scores, weights = (
            torch.cat([out.flatten(1) for out in self.parts[name]])[rows].flatten() for name in ("score", "weight")
        )
        return float((scores * weights).sum() / (weights.sum() + 1e-8))

    def _places(self, image: Tensor) -> list[tuple[int, int]]:
        """Top and left of the rows · 5 crops of an image [1, 3, H, W], row by row."""
        down, right = ((size - CROP) // (GRID - 1) for size in image.shape[2:])
        return [(down * i, right * j) for i in range(self.rows) for j in range(GRID)]


def enlarged(image: Tensor) -> Tensor:
    """An image [1, 3, H, W] of which the shorter side is at most that of a crop, so much larger that it is 225 pixels.

    That is pyiqa's rule, of which `Maniqa` takes the place together with the crops.
    """
    shorter = min(image.shape[2:])
    if shorter > CROP:
        return image
    return nn.functional.interpolate(image, scale_factor=(CROP + 1) / shorter, mode="bilinear")


def _crops(image: Tensor, places: Sequence[tuple[int, int]]) -> Tensor:
    """The crops [n, 3, 224, 224] of an image [1, 3, H, W] at `places`."""
    return torch.cat([image[..., y : y + CROP, x : x + CROP] for y, x in places])


def tensor(frame: Frames) -> Tensor:
    """uint8 [H, W, 3] → float32 [1, 3, H, W] in 0 … 1."""
    scaled = frame.astype(np.float32) / np.float32(255)
    return torch.from_numpy(np.ascontiguousarray(scaled.transpose(2, 0, 1)[None]))


def build(metric: str, weights: Weights, *, crops: str = "upstream", device: str = "cpu") -> Network:
    """The network of pyiqa's `metric` from verified files on a device; `crops` (upstream or full) is MANIQA's.

    No global generator moves: what the constructor initialises is overwritten or drawn from a copy of torch's.

    Raises:
        MissingAsset, IntegrityError: what `weights` raises.
        InvalidError: a file is no plain state dict, or the metric wanted anything but its files.
        RuntimeError, KeyError: a file holds other weights.
    """
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # deprecations among its dependencies
        from pyiqa.models.inference_model import InferenceModel

        with handed_over(weights) as lender, torch.random.fork_rng(devices=[]):
            model = InferenceModel(metric, device=torch.device(device), **_size(metric, weights))
    model.requires_grad_(False)
    used = tuple(dict.fromkeys(lender.names.values()))
    if metric.startswith("maniqa"):
        return Maniqa(model, used, crops, device)
    if metric == "clipiqa":
        _remember_text(model.net.clip_model[0])
    return Network(model, used, device)


def _remember_text(clip_model: Any) -> None:
    """Encode the prompts once: they are the same for every frame."""
    encode, encoded = clip_model.encode_text, list[Tensor]()

    def remembered(text: Tensor) -> Tensor:
        if not encoded:
            encoded.append(encode(text))
        return encoded[0]

    clip_model.encode_text = remembered
