"""How much memory the released cascade needs at a size: its own code on the meta device, tensor by tensor.

Counted are the tensors that are alive at once, weights included. Not counted is what only a device adds: workspaces of
convolutions, fragments of the allocator, the CUDA context. Attention is taken as one kernel that keeps no scores.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from flashbench import systems
from flashbench.assets import registry
from flashbench.planning import networks
from flashbench.systems import released
from flashbench.systems.base import System
from flashbench.types import Geometry, Settings

NETWORKS = ("stage1", "stage2", "vae")
_SYSTEMS = {"stage1": "stage1_release", "stage2": "flashvideo_release"}


class Alive(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Bytes of the storages that operations made and that are still alive, and the most of them at once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run the operation and count what it made."""
        given = {_identity(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor) and _identity(leaf) not in given | self._known:
                self._add(leaf.untyped_storage())
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        size, mark = storage.nbytes(), storage._cdata
        self._known.add(mark)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._drop, mark, size)

    def _drop(self, mark: int, size: int) -> None:
        self._known.discard(mark)
        self.now -= size


def _identity(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


class _OneKernel(TorchFunctionMode):
    """Attention whose only tensor is its output, as the fused kernels of a GPU have it."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Replace attention, run anything else."""
        told = dict(kwargs or {})
        if func is torch.nn.functional.scaled_dot_product_attention:
            query = args[0] if args else told["query"]
            value = args[2] if len(args) > 2 else told["value"]
            return query.new_empty((*query.shape[:-1], value.shape[-1]))
        return func(*args, **told)


def most_alive(block: Callable[[], object]) -> int:
    """The most bytes that are alive at once of what the operations in `block` make; it is run without gradients."""
    with torch.no_grad(), _OneKernel(), Alive() as counted:
        block()
    return int(counted.most)


@dataclass(frozen=True)
class Need:
    """GPU memory of a stage at a size, in bytes: weights, and what is alive at once beside them in each step."""

    stage: str
    """`Stage I` or `Stage II`."""
    size: tuple[int, int]
    frames: int
    guided: bool
    tiles: str
    weights: int
    """Of both stages, autoencoder and text encoder: a worker keeps what it has loaded."""
    encode: int
    """Of the enlarged clip of Stage I; 0 for Stage I itself."""
    sample: int
    decode: int

    @property
    def total(self) -> int:
        """What must fit at once."""
        return self.weights + max(self.encode, self.sample, self.decode)


def need(system: System, settings: Settings, geometry: Geometry) -> Need:
    """What a released system needs for one clip."""
    dtype = getattr(torch, str(settings["dtype"]))
    first = system.component == "stage1"
    guided = settings["guidance"] != (0 if first else 1)
    tiles = "none" if first else str(settings["tiles"])
    return Need(
        stage="Stage I" if first else "Stage II",
        size=(geometry.height, geometry.width),
        frames=geometry.frames,
        guided=guided,
        tiles=tiles,
        weights=weights(dtype),
        encode=0 if first else _encoding(dtype, geometry),
        sample=_sampling(system.component, dtype, geometry, guided=guided),
        decode=_decoding(dtype, geometry, tiles),
    )


@cache
def weights(dtype: torch.dtype) -> int:
    """Bytes of the two stages, the autoencoder and T5's encoder in that precision."""
    elements = sum(p.numel() for part in NETWORKS for p in _network(part, dtype).parameters())
    text = sum(registry.get(f"t5-xxl/shard-{number}").bytes or 0 for number in (1, 2)) // torch.bfloat16.itemsize
    return int((elements + text) * dtype.itemsize)


@cache
def _sampling(component: str, dtype: torch.dtype, geometry: Geometry, *, guided: bool) -> int:
    """A few evaluations: more of them need no more."""
    network, context = _network(component, dtype), _shape(1, networks.TEXT, networks.TEXT_WIDTH, dtype=dtype)
    latent = _shape(*_latent(geometry), dtype=dtype)
    told = dict(systems.get(_SYSTEMS[component]).defaults) | {"guidance": float(guided) * 8 + (component == "stage2")}
    if component == "stage1":
        draws = [latent] * 2
        return most_alive(lambda: released.sample_stage1(network, context, latent, draws, told | {"steps": 3}))
    return most_alive(lambda: released.sample_stage2(network, context, latent, latent, told | {"nfe": 2}))


@cache
def _encoding(dtype: torch.dtype, geometry: Geometry) -> int:
    network, noise = _network("vae", dtype), _shape(*_latent(geometry))
    pixels = _shape(1, 3, geometry.frames, geometry.height, geometry.width)
    return most_alive(lambda: released.encode(network, pixels, noise, 1.0))


@cache
def _decoding(dtype: torch.dtype, geometry: Geometry, tiles: str) -> int:
    network, latent = _network("vae", dtype), _shape(*_latent(geometry), dtype=dtype)
    return most_alive(lambda: released.decode(network, latent, 1.0, tiles))


def _latent(geometry: Geometry) -> tuple[int, int, int, int, int]:
    return released.latent_shape(geometry.frames, geometry.height, geometry.width)


def _shape(*sides: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(sides, device="meta", dtype=dtype)


@cache
def _network(component: str, dtype: torch.dtype) -> Any:
    """The released network `stage1`, `stage2` or `vae` on the meta device in that precision."""
    official = networks.official(component)
    network = copy.deepcopy(official if component == "vae" else official.network)
    torch.nn.Module.to(network, dtype)
    return network
