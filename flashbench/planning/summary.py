"""What a run of several protocols would take together: clips that they share once, downloads with licences, memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flashbench.assets import registry
from flashbench.metrics.vbench import weights
from flashbench.planning import stand_ins
from flashbench.planning.dry_run import needed, vbench_asked
from flashbench.planning.networks import LAYOUTS
from flashbench.planning.plan import BYTES_PER_PIXEL, WIDTHS, kinds, planned_scores, seconds_of
from flashbench.protocol.compose import sized
from flashbench.protocol.types import Protocol, Variant
from flashbench.reporting.document import Block, Cell
from flashbench.run.identity import recipe_key
from flashbench.systems.checkpoints import COMPONENTS
from flashbench.systems.released import Released

if TYPE_CHECKING:
    from flashbench.run.options import Options


@dataclass
class Sum:
    """Clips by what decides their bytes (two that are alike are one), with their seconds and pixels; and scores."""

    clips: dict[Any, tuple[float, int]] = field(default_factory=dict)
    scores: int = 0

    def line(self, name: str) -> list[Cell]:
        """A line of the grid: clips, GPU-hours, gigabytes and scores."""
        seconds, pixels = (sum(values) for values in zip((0.0, 0), *self.clips.values(), strict=True))
        texts = (f"{len(self.clips):,}", f"{seconds / 3600:,.1f}", f"{pixels * BYTES_PER_PIXEL / 1e9:,.1f}")
        return [Cell(name), *map(Cell, texts), Cell(f"{self.scores:,}")]


def describe(names: Sequence[str], options: Options) -> list[Block]:
    """A document: clips, GPU-hours, disk and scores of each protocol and of all together; downloads; GPU memory.

    Nothing of it depends on what this machine has: all is counted as if it were to be made and fetched.
    """
    protocols, notes = [], dict[str, None]()
    for name in names:
        protocol, note = stand_ins.load(name, options)
        protocols.append(protocol)
        notes |= {note.partition(": ")[2]: None} if note else {}
    together, grid = Sum(), [list(map(Cell, ("protocol", "clips", "GPU-hours", "GB of clips", "scores")))]
    for protocol in protocols:
        own = Sum(dict(_clips(protocol, options.replicas)), planned_scores(protocol) * len(options.replicas))
        together.clips |= own.clips
        together.scores += own.scores
        grid.append(own.line(protocol.name))
    grid.append(together.line("together"))
    blocks = [Block("heading", f"What {len(protocols)} protocols take, {options.tier} tier"), Block("grid", grid=grid)]
    blocks += [Block("text", _CLIPS), *_downloads(protocols), *_memory(protocols)]
    return [*blocks, *(Block("text", f"Prompts: {note}.") for note in notes)]


_CLIPS = (
    "Clips that several protocols share are made once, Stage I's among them. GPU-hours are of the networks alone, by "
    "the paper's own times on its GPU, which it does not name; clips are lossless, at "
    f"{BYTES_PER_PIXEL} bytes a pixel, the mean of the laptop tier's clips of Stage II."
)


def _clips(protocol: Protocol, replicas: Sequence[int]) -> Iterator[tuple[Any, tuple[float, int]]]:
    """What decides each clip of the protocol, with its seconds and pixels; Stage I's clips first."""
    for part in protocol.parts:
        preview = part.preview
        for variant in kinds(part):
            before = _about(protocol, preview.variant) if preview and variant.system.enhances else None
            geometry = sized(part.geometry, variant)
            spent = seconds_of(variant, geometry, protocol)
            spent = 0.0 if math.isnan(spent) else spent  # nothing is known of what a laptop takes
            shape = (geometry.frames, geometry.height, geometry.width)
            for case in part.cases:
                for replica in replicas:
                    about = (_about(protocol, variant), before, case.id, case.seed, replica, shape)
                    yield about, (spent, shape[0] * shape[1] * shape[2])


def _about(protocol: Protocol, variant: Variant) -> Any:
    system = variant.system
    models = {name: recipe_key(protocol, name, 0) for name in system.models(variant.settings)}
    return system.name, tuple(sorted(system.identity(variant.settings).items())), tuple(sorted(models.items()))


def _downloads(protocols: Sequence[Protocol]) -> list[Block]:
    """A line for each asset, files of one component together, and what VBench fetches itself."""
    wanted: dict[str, dict[str, None]] = {}
    for protocol in protocols:
        for asset, readers in needed(protocol).items():
            wanted.setdefault(asset, {}).update(dict.fromkeys(readers))
    groups: dict[tuple[str, str, bool], list[str]] = {}
    for asset in sorted(wanted):
        entry = registry.get(asset)
        groups.setdefault((asset.partition("/")[0], entry.licence, entry.non_commercial), []).append(asset)
    grid = [list(map(Cell, ("asset", "files", "GB", "licence", "read by")))]
    for (name, licence, limited), assets in groups.items():
        read_by = dict.fromkeys(reader for asset in assets for reader in wanted[asset])
        terms = f"{licence}; **non-commercial**" if limited else licence
        grid.append([Cell(name, code=True), *map(Cell, (str(len(assets)), _size(assets), terms, _short(read_by)))])
    asked = {name: None for protocol in protocols for name in vbench_asked(protocol)}
    told = weights.needs(asked, environment=False)
    blocks = [Block("subheading", "Downloads"), Block("grid", grid=grid, columns="lrrll"), Block("text", _ABOUT)]
    return [*blocks, *([Block("notes", notes=told)] if told else [])]


_ABOUT = (
    "A size with ≈ is of the elements that the release's loader expects: nobody has told the registry the file's own. "
    "`unknown`: nobody has, and nothing can be computed."
)


def _size(assets: Sequence[str]) -> str:
    known = [registry.get(asset).bytes for asset in assets]
    if None not in known:
        return f"{sum(filter(None, known)) / 1e9:.3f}"
    component = next((part for part, files in COMPONENTS.items() if set(assets) <= set(files)), "")
    layout = LAYOUTS.get(component)
    return f"≈ {layout.elements * WIDTHS[component] / 1e9:.1f}" if layout else "unknown"


def _short(readers: Iterable[str]) -> str:
    """What reads an asset: each kind once with its names."""
    kinds_of: dict[str, list[str]] = {}
    for reader in readers:
        kind, _, name = reader.partition(" ")
        kinds_of.setdefault(kind, []).append(name)
    return "; ".join(f"{kind} {', '.join(filter(None, names))}".strip() for kind, names in kinds_of.items())


def _memory(protocols: Sequence[Protocol]) -> list[Block]:
    """A line for each stage of the released cascade, size and way of decoding, with the protocols that have it."""
    from flashbench.planning import memory

    users: dict[memory.Need, dict[str, None]] = {}
    for protocol in protocols:
        for part in protocol.parts:
            for variant in kinds(part):
                if isinstance(variant.system, Released):
                    found = memory.need(variant.system, variant.settings, sized(part.geometry, variant))
                    users.setdefault(found, {})[protocol.name] = None
    if not users:
        return []
    heads = ("stage", "size", "tiles", "weights", "encode", "sample", "decode", "at once", "protocols")
    grid = [list(map(Cell, heads))]
    for one, names in sorted(users.items(), key=lambda item: item[0].total):
        numbers = (one.weights, one.encode, one.sample, one.decode, one.total)
        texts = [f"{number / 1e9:,.1f}" if number else "–" for number in numbers]
        named = f"{one.stage}, {'guided' if one.guided else 'not guided'}"
        size = f"{one.frames} x {one.size[0]} x {one.size[1]}"
        grid.append([*map(Cell, (named, size, one.tiles, *texts)), Cell(", ".join(names))])
    return [Block("subheading", "GPU memory (GB)"), Block("grid", grid=grid, columns="lllrrrrrl"), Block("text", _GPU)]


_GPU = (
    "Computed from shapes, without a GPU: of each step the tensors that it makes and that are alive at once, beside "
    "its input. At once: the weights and the largest step, without what a device adds (workspaces, fragments, its "
    "context). A worker keeps both stages, the autoencoder and the text encoder loaded. Size: frames, height, width."
)
