"""How much memory the released cascade needs at a size: its own code on the meta device, tensor by tensor.

Weights are included; `cascade.alive` says what is not.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from flashbench import systems
from flashbench.assets import registry
from flashbench.planning import networks
from flashbench.systems import released
from flashbench.systems.base import System
from flashbench.types import Geometry, Settings

if TYPE_CHECKING:
    import torch

NETWORKS = ("stage1", "stage2", "vae")
_SYSTEMS = {"stage1": "stage1_release", "stage2": "flashvideo_release"}
_STORED = 2
"""Bytes of an element in T5's files."""


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
    import torch

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
    text = sum(registry.get(f"t5-xxl/shard-{number}").bytes or 0 for number in (1, 2)) // _STORED
    return int((elements + text) * dtype.itemsize)


@cache
def _sampling(component: str, dtype: torch.dtype, geometry: Geometry, *, guided: bool) -> int:
    """A few evaluations: more of them need no more."""
    network, context = _network(component, dtype), _shape(1, networks.TEXT, networks.TEXT_WIDTH, dtype=dtype)
    latent = _shape(*_latent(geometry), dtype=dtype)
    told = dict(systems.get(_SYSTEMS[component]).defaults) | {"guidance": float(guided) * 8 + (component == "stage2")}
    if component == "stage1":
        draws = [latent] * 2
        return _most_alive(lambda: released.sample_stage1(network, context, latent, draws, told | {"steps": 3}))
    return _most_alive(lambda: released.sample_stage2(network, context, latent, latent, told | {"nfe": 2}))


@cache
def _encoding(dtype: torch.dtype, geometry: Geometry) -> int:
    network, noise = _network("vae", dtype), _shape(*_latent(geometry))
    pixels = _shape(1, 3, geometry.frames, geometry.height, geometry.width)
    return _most_alive(lambda: released.encode(network, pixels, noise, 1.0))


@cache
def _decoding(dtype: torch.dtype, geometry: Geometry, tiles: str) -> int:
    network, latent = _network("vae", dtype), _shape(*_latent(geometry), dtype=dtype)
    return _most_alive(lambda: released.decode(network, latent, 1.0, tiles))


def _latent(geometry: Geometry) -> tuple[int, int, int, int, int]:
    return released.latent_shape(geometry.frames, geometry.height, geometry.width)


def _shape(*sides: int, dtype: torch.dtype | None = None) -> torch.Tensor:
    import torch

    return torch.empty(sides, device="meta", dtype=dtype)


@cache
def _network(component: str, dtype: torch.dtype) -> Any:
    """The released network `stage1`, `stage2` or `vae` on the meta device in that precision."""
    import torch

    official = networks.official(component)
    network = copy.deepcopy(official if component == "vae" else official.network)
    torch.nn.Module.to(network, dtype)  # not diffusers' own, which warns of what it does not keep
    return network


def _most_alive(block: Callable[[], object]) -> int:
    from flashbench.cascade.alive import most_alive

    return most_alive(block)
