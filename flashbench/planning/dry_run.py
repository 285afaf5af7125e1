"""A dry run: every network, size, setting, metric and prompt of a protocol, without weights, GPU or a single clip."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flashbench.assets import registry
from flashbench.data import prompts
from flashbench.errors import FlashBenchError, InvalidError
from flashbench.laptop.settings import RELEASED
from flashbench.metrics.base import About
from flashbench.metrics.requirements import absent
from flashbench.metrics.vbench import environment, weights
from flashbench.planning import networks, stand_ins
from flashbench.protocol.compose import sized
from flashbench.protocol.types import Protocol, Variant
from flashbench.systems.checkpoints import COMPONENTS
from flashbench.systems.released import Released
from flashbench.types import Geometry

if TYPE_CHECKING:
    from flashbench.run.options import Options

TRAINED = ("flow", "regression", "vanilla", "stage1")
"""Kinds of recipe whose networks are built from the recipe's settings."""


def dry_run(names: Sequence[str], options: Options) -> list[str]:
    """Lines about all that runs of the protocols `names` would need, as `rehearse` gives them for each.

    Where VBench's prompts are not here, stand-ins of the same number take their place.
    """
    lines = []
    for name in names:
        protocol, note = stand_ins.load(name, options)
        lines += rehearse(protocol) + ([f"  prompts: {note}"] if note else [])
    return lines


def rehearse(protocol: Protocol) -> list[str]:
    """Lines about everything that a run would need: official files, rows with shapes and cost, metrics, absent assets.

    Raises:
        InvalidError: something does not fit; it names the row, metric or file.
    """
    lines = [f"{protocol.name} at {protocol.tier}: {protocol.title} ({protocol.table or 'own'}), dry run"]
    used = {str(r["component"]) for r in protocol.recipes.values() if r["kind"] in RELEASED} - {"text"}
    lines += [f"  file {networks.check_layout(component)}" for component in sorted(used)]
    for part in protocol.parts:
        seeds = f"{len(part.cases):,} clips a row"
        lines.append(f"  cases: {len({case.cluster for case in part.cases}):,} of {part.case_set}, {seeds}")
        if part.preview is not None:
            walked = _row(part, protocol.recipes, part.preview.variant, part.preview.geometry)
            lines.append(f"  Stage I, one clip a case for all rows: {walked}")
        for variant in part.variants:
            lines.append(f"  row {variant.row}: {_row(part, protocol.recipes, variant, sized(part.geometry, variant))}")
        lines += [f"  {line}" for line in _metrics(part)]
    lines += [f"  absent: {line}" for line in missing(protocol)]
    return [*lines, f"  {sum(len(part.variants) for part in protocol.parts)} rows fit"]


def _row(part: Protocol, recipes: Mapping[str, Mapping[str, Any]], variant: Variant, geometry: Geometry) -> str:
    """What a row would do; InvalidError where it could not."""
    system, shape = variant.system, f"{geometry.frames} frames of {geometry.height}x{geometry.width}"
    try:
        system.check(variant.settings, geometry)
        why = system.unavailable(variant.settings, recipes)
        walk = _walk(part, recipes, variant, geometry)
        cost = system.cost(variant.settings, geometry, recipes).get("tflop")
    except FlashBenchError as error:
        what = f"{part.name} at {part.tier}, row {variant.row!r}: {error.what}"
        raise InvalidError(what, fix=error.fix) from error
    except (RuntimeError, ValueError, LookupError, TypeError) as error:
        what = f"{part.name} at {part.tier}, row {variant.row!r}: {geometry} does not run: {error}"
        raise InvalidError(what, fix="correct the row's size or settings, or its recipe") from error
    if walk is not None and walk.evaluations != (declared := system.evaluations(variant.settings)):
        what = f"{part.name}, row {variant.row!r}: {declared} evaluations are declared, {walk.evaluations} were made"
        raise InvalidError(what, fix="correct `evaluations` of the system")
    details = [] if walk is None and why else [shape, *([str(walk)] if walk else [])]
    details += [_flop(cost)] if cost else []
    return "; ".join([*([", ".join(details)] if details else []), *([f"not made here: {why}"] if why else [])])


def _flop(tflop: float) -> str:
    """In the unit that keeps the number above 1."""
    unit, size = next((pair for pair in (("PFLOP", 1e3), ("TFLOP", 1.0)) if tflop >= pair[1]), ("GFLOP", 1e-3))
    return f"{tflop / size:,.4g} {unit}"


def _walk(
    part: Protocol, recipes: Mapping[str, Mapping[str, Any]], variant: Variant, geometry: Geometry
) -> networks.Walk | None:
    """The row's network, walked through; None for a row without one."""
    recipe, system = recipes.get(str(variant.settings.get("training"))), variant.system
    if recipe is None:
        return None
    if recipe["kind"] in TRAINED:
        while "init" in recipe["needs"]:  # what goes on from another network has its form
            recipe = recipes[recipe["needs"]["init"]]
        codec = recipes["stage1_codec" if recipe["kind"] == "stage1" else "codec"]
        return networks.walk_trained(recipe, int(codec["channels"]), variant.settings, geometry)
    if not isinstance(system, Released):
        return None  # one's own network in place of a trained one: of whatever width, so checked when it is loaded
    if system.component == "stage1":
        return networks.walk_stage1(variant.settings, geometry)
    return networks.walk_stage2(variant.settings, geometry, part.preview.geometry if part.preview else geometry)


def _metrics(part: Protocol) -> Iterator[str]:
    """Metrics that could not run now, and why; InvalidError for one that no case or size can have."""
    case = part.cases[0]
    for metric in part.metrics:
        name = metric.name
        if metric.scope == "pair" and case.source is None:
            what = f"{part.name} at {part.tier}: metric {name!r} needs a reference, which prompts do not have"
            raise InvalidError(what, fix="leave it out")
        if metric.reads_prompt and case.prompt is None:
            what = f"{part.name} at {part.tier}: metric {name!r} reads a prompt, which the cases do not have"
            raise InvalidError(what, fix="leave it out, or set cases.captions: true")
        if not any(prompts.serves(candidate, name) for candidate in part.cases):
            what = f"{part.name} at {part.tier}: none of the prompts serves {name!r}"
            raise InvalidError(what, fix="leave it out, or take more prompts of its suite")
        for geometry in {sized(part.geometry, variant) for variant in part.variants}:
            shape = (geometry.frames, geometry.height, geometry.width)
            prompt = case.prompt.original if case.prompt else None
            about = About(shape=shape, fps=geometry.fps, reference=shape, prompt=prompt)
            if reason := metric.undefined(about):
                yield f"metric {name}: no value at {about.size}: {reason}"
        if (why := metric.unavailable) and not absent(metric.assets):
            yield f"metric {name}: {why}"


def missing(protocol: Protocol) -> list[str]:
    """A line for each asset that the protocol reads and that is not here: what needs it, source and licence."""
    wanted, lines = needed(protocol), []
    for asset in absent(wanted):
        entry = registry.get(asset)
        lines.append(f"{asset}, for {', '.join(dict.fromkeys(wanted[asset]))}: {entry} from {entry.sources[0]}")
    return [*lines, *weights.needs(vbench_asked(protocol), environment=environment.python() is not None)]


def vbench_asked(protocol: Protocol) -> dict[str, None]:
    """The dimensions that VBench itself measures for the protocol."""
    worked = [
        name for part in protocol.parts for name in part.metric_names if name.partition(":")[0].startswith("vbench")
    ]
    return dict.fromkeys(prompts.dimension_of(name) for name in worked if ":" in name)


def needed(protocol: Protocol) -> dict[str, list[str]]:
    """Asset → what of the protocol reads it, whether it is here or not."""
    needed: dict[str, list[str]] = {}
    for name, recipe in protocol.recipes.items():
        for asset in COMPONENTS[recipe["component"]] if recipe["kind"] == "official" else ():
            needed.setdefault(asset, []).append(f"model {name}")
    for part in protocol.parts:
        labelled = [case.prompt for case in part.cases if case.prompt and case.prompt.dimensions]
        rewritten = any(prompt.text != prompt.original for prompt in labelled)
        for asset in (*([prompts.FULL_INFO] if labelled else ()), *(prompts.REWRITES.values() if rewritten else ())):
            needed.setdefault(asset, []).append("prompts")
        for metric in part.metrics:
            for asset in metric.assets:
                needed.setdefault(asset, []).append(f"metric {metric.name}")
        for variant in part.variants:
            for asset in variant.system.assets:
                needed.setdefault(asset, []).append(f"row {variant.row}")
    return needed
