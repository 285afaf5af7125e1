"""What a run would do, before it does it: clips, GPU-hours, disk, absent assets, and what its design can show."""

from __future__ import annotations

import itertools
import math
import operator
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashbench import shares, stats
from flashbench.assets import registry
from flashbench.cascade import cost
from flashbench.data import prompts
from flashbench.errors import FlashBenchError, UsageError
from flashbench.metrics.requirements import absent as lacking
from flashbench.planning import stand_ins
from flashbench.planning.dry_run import missing
from flashbench.planning.networks import LAYOUTS
from flashbench.protocol.compose import load_protocol, sized
from flashbench.protocol.types import Protocol, Trial, Variant
from flashbench.reporting.numbers import amount, counted, digits, given
from flashbench.run.generate import plan, source_clip
from flashbench.run.identity import TRAINED, recipe_key
from flashbench.scores.table import read_scores
from flashbench.store import Store
from flashbench.systems.base import System
from flashbench.systems.checkpoints import COMPONENTS, absent
from flashbench.systems.released import Released
from flashbench.types import Geometry, Settings

if TYPE_CHECKING:
    from flashbench.run.options import Options

BYTES_PER_PIXEL = 1.14
"""Of a lossless clip in the store: mean over the laptop tier's 1,752 clips of Stage II (9 frames of 192x192)."""
SHARED = "Stage I, shared by all rows"
WIDTHS = {"stage1": 2, "stage2": 2, "vae": 4}
"""Bytes per element of the release's files, where their size is not known."""


@dataclass(frozen=True)
class Work:
    """Clips of one kind: of a row, or Stage I's that all rows share."""

    name: str
    clips: int
    here: int
    seconds: float
    """Of all its clips on the device of the paper's times, networks alone; NaN where nothing is known."""
    pixels: int
    why: str = ""
    """Why there are none."""

    def __str__(self) -> str:
        if self.why:
            return f"{self.name}: no clips: {self.why}"
        hours = "" if math.isnan(self.seconds) else f", {amount(self.seconds / 3600, 'GPU-hours')}"
        return f"{self.name}: {self.here:,} of {self.clips:,} clips are there{hours}"


def describe(name: str, options: Options) -> str:
    """A text about what a run of the protocol `name` would do, before it does it.

    It tells models, rows and Stage I with their clips and GPU-hours, disk, absent assets, the smallest difference.
    """
    protocol, note = stand_ins.load(name, options)
    title = f"{protocol.title} ({protocol.table or 'own'})"
    lines = [f"{protocol.name} at {protocol.tier}: {title}, protocol {protocol.hash[:12]}"]
    store, work = Store(), []
    lines += [f"  {line}" for line in _models(protocol, options.replicas, store)]
    for part in protocol.parts:
        work += list(_work(protocol, part, options.replicas, store))
    lines += [f"  {item}" for item in work]
    shared = sum(item.clips for item in work if item.name == SHARED)
    clips, here = sum(item.clips for item in work), sum(item.here for item in work)
    text = f"{clips - shared:,} clips" + (f" and {shared:,} of Stage I" if shared else "")
    scores = planned_scores(protocol) * len(options.replicas)
    text += f": {here:,} are there, {clips - here:,} to be made; {scores:,} scores"
    lines += [text, *_hours(work), *_disk(protocol, work), *(f"absent: {line}" for line in missing(protocol))]
    lines += [f"prompts: {note}"] if note else []
    tested = stand_ins.load(name, replace(options, shard=None))[0] if options.shard else protocol
    return "\n".join([*lines, *(_resolves(part, Path("results/laptop")) for part in tested.parts)])


def within_budget(name: str, options: Options, hours: float) -> int:
    """The largest `cases.limit` whose clips, Stage I's included, take at most that many GPU-hours.

    Raises:
        UsageError: the tier has no GPU cost, its cases are no prompts, or the first prompt takes longer.
    """
    whole = replace(options, limit=None, shard=None, overrides=(*options.overrides, "cases.limit=null"))
    protocol, _ = stand_ins.load(name, whole)
    if protocol.subset is None:
        what = f"the cases of {name} at {protocol.tier} are not prompts, of which a budget could take the first"
        raise UsageError(what, fix="use --limit")
    spent, taken = 0.0, 0
    each = [sum(seconds_of(variant, part.geometry, part) for variant in kinds(part)) for part in protocol.parts]
    if not sum(each) > 0:
        raise UsageError(f"no GPU cost is known of {name} at {protocol.tier}", fix="use --limit, or --tier paper")
    counts = [list(Counter(case.cluster for case in part.cases).values()) for part in protocol.parts]
    for further in itertools.zip_longest(*counts, fillvalue=0):  # what a limit larger by one adds on each set of cases
        spent += sum(map(operator.mul, each, further)) * len(options.replicas)
        if spent > hours * 3600:
            break
        taken += 1
    if not taken:
        what = f"the first prompt of {name} takes {digits(spent / 3600, 2)} GPU-hours, more than {given(hours)}"
        raise UsageError(what, fix="give a larger budget")
    return taken


def parse_budget(text: str) -> float:
    """GPU-hours of `2gpuh`; UsageError for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?gpuh", text)
    if not match or not float(match[1]) > 0:
        raise UsageError(f"invalid budget {text!r}", fix="write GPU-hours like 2gpuh")
    return float(match[1])


# --- models and clips -------------------------------------------------------------------------------------------


def _models(protocol: Protocol, replicas: Sequence[int], store: Store) -> Iterator[str]:
    for name, recipe in protocol.recipes.items():
        if recipe["kind"] in ("unreleased", "official"):
            yield f"model {name}: {recipe.get('why') or absent(recipe['component']) or 'released, here'}"
            continue
        for replica in replicas if recipe["kind"] in TRAINED else replicas[:1]:
            key = recipe_key(protocol, name, replica)
            state = "there" if store.has_model(key) else "to be built"
            yield f"model {name} (replica {replica}): {state}, recipe:{key[:12]}"


def _work(protocol: Protocol, part: Protocol, replicas: Sequence[int], store: Store) -> Iterator[Work]:
    """Stage I's clips, then those of each row; a row that is Stage I's clip itself makes none again."""
    preview = part.preview
    for variant in ([preview.variant] if preview else []) + list(part.variants):
        shared = preview is not None and variant is preview.variant
        geometry = preview.geometry if preview and shared else sized(part.geometry, variant)
        where = f", on {part.set_name}" if part.set_name else ""
        name = SHARED if shared else f"row {variant.row}{where}"
        if preview and not shared and _same(variant, geometry, preview.variant, preview.geometry):
            yield Work(name, 0, 0, 0.0, 0, "they are Stage I's")
            continue
        if why := _never(variant.system, variant.settings, protocol.recipes):
            yield Work(name, 0, 0, 0.0, 0, why)
            continue
        count = len(part.cases) * len(replicas)
        trial = Trial(variant=variant, case=part.cases[0], geometry=geometry, preview=preview)
        here = sum(
            _is_there(protocol, replace(trial, case=case, replica=replica), store)
            for replica in replicas
            if _built(protocol, [variant, *([preview.variant] if preview else [])], replica, store)
            for case in part.cases
        )
        seconds = seconds_of(variant, geometry, protocol) * count
        yield Work(name, count, here, seconds, count * geometry.frames * geometry.height * geometry.width)


def kinds(protocol: Protocol) -> list[Variant]:
    """The variants that make a clip of their own for each case, Stage I's among them with its size, first."""
    preview = protocol.preview
    variants = (
        [] if preview is None else [replace(preview.variant, size=(preview.geometry.height, preview.geometry.width))]
    )
    for variant in protocol.variants:
        own = sized(protocol.geometry, variant)
        if preview and _same(variant, own, preview.variant, preview.geometry):
            continue
        if not _never(variant.system, variant.settings, protocol.recipes):
            variants.append(variant)
    return variants


def _same(variant: Variant, size: Geometry, other: Variant, its: Geometry) -> bool:
    alike = (variant.system, variant.settings) == (other.system, other.settings)
    return alike and (size.height, size.width, size.frames) == (its.height, its.width, its.frames)


def _never(system: System, settings: Settings, recipes: Mapping[str, Mapping[str, Any]]) -> str:
    """Why such clips can be made on no machine; absent assets and GPUs are no reason."""
    fetched = isinstance(system, Released) or lacking(system.assets)
    return System.unavailable(system, settings, recipes) if fetched else system.unavailable(settings, recipes)


def seconds_of(variant: Variant, geometry: Geometry, protocol: Protocol) -> float:
    """Seconds of a clip's networks: the paper's own where it printed them, else by rates fitted to its times."""
    system = variant.system
    geometry = sized(geometry, variant)
    if isinstance(system, Released) and (known := cost.PUBLISHED.get(system.stage(variant.settings, geometry))):
        return known
    costs = system.cost(variant.settings, geometry, protocol.recipes)
    return costs.get("predicted_seconds", math.nan if "tflop" in costs else 0.0)


def _is_there(protocol: Protocol, trial: Trial, store: Store) -> bool:
    """Whether the store has a trial's clip; every model that it is made with must be there."""
    source = source_clip(protocol, trial, store=store)
    if source is not None and not store.has_clip(source.key):
        return False
    (planned,) = plan(protocol, [trial], store=store)
    return store.has_clip(planned.key)


def _built(protocol: Protocol, variants: Sequence[Variant], replica: int, store: Store) -> bool:
    """Whether every model that the variants read is there: a clip whose model is not built yet has no key."""
    names = [name for variant in variants for name in variant.system.models(variant.settings)]
    return all(store.has_model(recipe_key(protocol, name, replica)) for name in names)


def planned_scores(protocol: Protocol) -> int:
    """Scores of one replica: of VBench's dimensions those that a prompt serves, of rows those that have clips."""
    return sum(
        prompts.serves(case, metric.name)
        for part in protocol.parts
        for variant in part.variants
        if not _never(variant.system, variant.settings, protocol.recipes)
        for metric in part.metrics
        for case in part.cases
    )


# --- what it takes and what it shows ----------------------------------------------------------------------------


def _hours(work: Sequence[Work]) -> list[str]:
    """GPU-hours of what is not there, with the device that they are of."""
    known = [item for item in work if item.clips and not math.isnan(item.seconds)]
    total = sum(item.seconds * (1 - item.here / item.clips) for item in known) / 3600
    if not total:
        return []
    device = cost.rates(None, None, None)
    return [
        f"{amount(total, 'GPU-hours')} for what is missing, of the networks alone (VAE and text encoder: "
        "`flashbench cost`), by the paper's own times (30.1 s and 72.2 s a clip) on its GPU, which it does not name; "
        f"for other settings by {device.linear / 1e12:.0f} TFLOP/s in linear layers and "
        f"{device.attention / 1e12:.0f} in attention,"
        f" {device.origin}"
    ]


def _disk(protocol: Protocol, work: Sequence[Work]) -> list[str]:
    missing_pixels = sum(item.pixels * (1 - item.here / item.clips) for item in work if item.clips)
    lines = [
        f"disk: about {amount(missing_pixels * BYTES_PER_PIXEL / 1e9, 'GB')} of lossless clips, at {BYTES_PER_PIXEL} "
        "bytes a pixel: the mean of the laptop tier's clips of Stage II"
    ]
    sizes = []
    for recipe in protocol.recipes.values():
        for name in COMPONENTS[recipe["component"]] if recipe["kind"] == "official" else ():
            entry, layout = registry.get(name), LAYOUTS.get(recipe["component"])
            about = layout.elements * WIDTHS[recipe["component"]] if layout else 0
            sizes.append(about if entry.bytes is None else entry.bytes)
    if sizes:
        lines.append(f"weights: about {amount(sum(sizes) / 1e9, 'GB')} of {counted(len(sizes), 'file')}")
    return lines


def _resolves(part: Protocol, results: Path) -> str:
    """The smallest true difference that the paired test would find, alone and in the family of the primary metrics.

    In units of the spread that it has to overcome; of shares, where a quarter of pairs of clips differ, which is the
    mean square of clusters' differences if a cluster's pairs do so alike.
    """
    served = {
        metric.name: len({case.cluster for case in part.cases if prompts.serves(case, metric.name)})
        for metric in part.metrics
        if not metric.computed
    }
    tests = _family(part)
    groups: dict[tuple[bool, int], list[str]] = {}
    for name, count in served.items():
        groups.setdefault((part.metric(name).binary, count), []).append(name)
    units, lines = _CLUSTERS[part.kind], []
    for (share, count), names in sorted(groups.items(), key=lambda item: (item[0][0], -item[0][1])):
        alone, within = (_least(part, count, size, share=share) for size in (1, tests))
        if math.isnan(alone):
            least = "six are the least for shares" if share else "three are the least"
            lines.append(f"{count} clusters ({part.case_set}) resolve nothing{_of(names, served)}: {least}")
            continue
        text = f"smallest difference found with 80 % power over {count:,} {units}: {digits(alone, 2)}"
        text += (
            " where a quarter of pairs differ, alike within a cluster"
            if share
            else " standard deviations of a cluster's paired difference"
        )
        if set(names) & set(part.primary) and tests > 1:
            first = "none" if math.isnan(within) else digits(within, 2)
            text += f" in one test, {first} at Holm's first step over {counted(tests, 'primary test')}"
        lines.append(f"{text}{_of(names, served)}")
    if known := _known(part, results, served, tests):
        unit = {name: " %" if part.metric(name).scale == "log" else "" for name in known}
        told = ", ".join(f"{digits(size, 2)}{unit[name]} on {name}" for name, size in known.items())
        lines.append(f"by the spread of the laptop tier's scores {told}")
    return "\n".join(lines)


def _family(part: Protocol) -> int:
    """Number of tests of primary metrics: of the rows that have clips, except the baseline, one each."""
    rows = [v for v in part.variants if v.row != part.baseline and not _never(v.system, v.settings, part.recipes)]
    tested = [metric for metric in map(part.metric, part.primary) if not metric.computed]
    return max(sum((metric.scope, row.row) != ("pair", stats.REFERENCE) for metric in tested for row in rows), 1)


def _least(part: Protocol, clusters: int, tests: int, *, share: bool) -> float:
    """The smallest difference that is found at 5 % / tests: of a share, or in standard deviations."""
    alpha = (1 - stats.LEVEL) / tests
    if not share:
        return stats.smallest_resolvable(1 / math.sqrt(max(clusters, 1)), clusters, alpha=alpha)
    clips = len(part.cases) / max(len({case.cluster for case in part.cases}), 1)
    return shares.smallest_resolvable(0.25, clusters, clips, alpha=alpha)


def _of(names: Sequence[str], among: Mapping[str, int]) -> str:
    """Metrics in brackets; empty where they are all there are."""
    return f" ({', '.join(names)})" if len(names) < len(among) else ""


_CLUSTERS = {"material": "sources", "prompts": "prompts", "scenes": "scenes", "synthetic": "procedural clips"}


def _known(part: Protocol, results: Path, served: Mapping[str, int], tests: int) -> dict[str, float]:
    """Metric → smallest difference from the baseline by the laptop tier's spread, median over its rows."""
    try:
        parts = {laptop.set_name: laptop for laptop in load_protocol(part.name, tier="laptop").parts}
        laptop = parts[part.set_name]
        scores = read_scores(results / part.name / "scores.parquet")
    except (FlashBenchError, KeyError):
        return {}
    scores = scores[scores["case"].isin({case.id for case in laptop.cases}) & (scores["replica"] == 0)]
    rows, known = [row for row in scores["row"].unique() if row != laptop.baseline], {}
    scored = set(laptop.metric_names) & set(scores["metric"])
    for metric in (metric for metric in part.metrics if metric.name in scored and not metric.computed):
        contrasts = [stats.contrast(scores, metric, row, laptop.baseline) for row in rows]
        size = tests if metric.name in part.primary else 1
        count = served[metric.name]
        least = sorted(stats.least_found(c, metric, clusters=count, tests=size) for c in contrasts if c.se > 0)
        if least and not any(map(math.isnan, least)):
            known[metric.name] = least[len(least) // 2]
    return known
