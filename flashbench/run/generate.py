"""From trials to clips: makes what the store does not have, and lists the clips.

`make_clip` (a trial) runs in the engine's workers and looks into the store first, so a rerun makes only what is
missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flashbench import keys, systems
from flashbench.engine import Engine, Report, Task, say_made
from flashbench.errors import InvalidError
from flashbench.protocol.types import Protocol, Trial, Variant
from flashbench.run.identity import clip_key, clip_numerics, recipe_key
from flashbench.run.meter import metered
from flashbench.store import Store
from flashbench.systems.base import Request, counted_evaluations
from flashbench.types import Clip


@dataclass(frozen=True)
class PlannedClip:
    """A trial with its key, the keys of what it reads, and the key of the clip that it is made from."""

    trial: Trial
    key: str
    models: Mapping[str, str]
    given: str | None
    """The case's original, or Stage I's clip of its prompt; None for what is made from nothing."""


def make_clip(
    *, store: Store, key: str, report: Report, trial: Trial, models: Mapping[str, str], given: str | None
) -> Mapping[str, Any]:
    """Task: make one trial's clip, checking that the declared number of evaluations was the real one."""
    if store.has_clip(key):
        return store.clip_record(key)
    system = trial.variant.system
    request = Request(
        case=trial.case,
        settings=trial.variant.settings,
        geometry=trial.geometry,
        reference=store.clip(given) if given and trial.preview is None else None,
        preview=store.clip(given) if given and trial.preview is not None else None,
        models={name: store.model(model) for name, model in models.items()},
    )
    device = str(trial.variant.settings.get("device", "cpu"))
    with counted_evaluations() as counted, metered(device) as taken:
        clip = system.make(request)
    _check(trial, clip, declared=system.evaluations(trial.variant.settings), counted=counted[0])
    record = {
        "system": system.name,
        "settings": keys.plain(trial.variant.settings),
        "case": trial.case.id,
        "seed": trial.case.seed,
        "replica": trial.replica,
        "models": dict(models),
        "evaluations": counted[0],
        **taken,
    }
    store.put_clip(key, clip, record)
    return store.clip_record(key)


def _check(trial: Trial, clip: Clip, *, declared: int, counted: int) -> None:
    where = f"system {trial.variant.system.name!r}, row {trial.variant.row!r}, case {trial.case.id}"
    if declared != counted:
        what = f"{where}: the settings declare {declared} network evaluations, {counted} were counted"
        raise InvalidError(what, fix="make the system do what its settings say, or correct `evaluations`")
    expected = (trial.geometry.frames, trial.geometry.height, trial.geometry.width, 3)
    if clip.frames.shape != expected or clip.fps != trial.geometry.fps:
        what = f"{where}: the clip is {list(clip.frames.shape)} at {clip.fps} fps, not {list(expected)}"
        raise InvalidError(what, fix="return frames of the trial's geometry")


def plan(protocol: Protocol, trials: Iterable[Trial], *, store: Store) -> list[PlannedClip]:
    """Keys for `trials`; every model and every clip that they are made from must be in the store already."""
    remembered: dict[Any, PlannedClip] = {}
    planned = []
    for trial in trials:
        before = source_clip(protocol, trial, store=store, found=remembered)
        if trial.variant.system.name == "original":
            assert before is not None
            planned.append(PlannedClip(trial, before.key, {}, None))
            continue
        models = _model_keys(protocol, trial)
        given = None if before is None else before.key
        digest = None if given is None else store.clip_record(given)["digest"]
        numerics = clip_numerics(protocol, trial.variant.settings)
        key = clip_key(trial, store=store, models=models, given=digest, numerics=numerics)
        planned.append(PlannedClip(trial, key, models, given))
    return planned


def source_clip(
    protocol: Protocol, trial: Trial, *, store: Store, found: dict[Any, PlannedClip] | None = None
) -> PlannedClip | None:
    """What a trial's clip is made from: the case's original at its size, Stage I's clip of the prompt, or nothing.

    `found` remembers those of trials before.
    """
    case, remembered = trial.case, {} if found is None else found
    if not trial.variant.system.enhances:
        return None
    if trial.preview is None:
        original = systems.get("original")
        variant = Variant(row="original", system=original, settings=systems.resolve(original, {}))
        made = Trial(variant=variant, case=case, geometry=trial.geometry)
        at: Any = (case.id, case.seed, trial.geometry)
    else:
        made = replace(trial, variant=trial.preview.variant, geometry=trial.preview.geometry)
        at = (case.id, case.seed, trial.replica)
    if at not in remembered:
        models = _model_keys(protocol, made)
        numerics = clip_numerics(protocol, made.variant.settings)
        key = clip_key(made, store=store, models=models, given=None, numerics=numerics)
        remembered[at] = PlannedClip(made, key, models, None)
    return remembered[at]


def _model_keys(protocol: Protocol, trial: Trial) -> dict[str, str]:
    names = trial.variant.system.models(trial.variant.settings)
    return {name: recipe_key(protocol, name, trial.replica) for name in names}


def unavailable(protocol: Protocol, trial: Trial) -> str:
    """Why a trial's clip cannot be made on any machine of this tier; empty if it can."""
    system = trial.variant.system
    why = system.unavailable(trial.variant.settings, protocol.recipes)
    if not why and trial.preview is not None and system.enhances:
        before = trial.preview.variant
        why = before.system.unavailable(before.settings, protocol.recipes)
    if why or trial.case.source is None or trial.case.kind != "material":
        return why
    from flashbench.data import material

    return material.too_small(trial.case.source, trial.geometry.height, trial.geometry.width)


def generate(protocol: Protocol, trials: Sequence[Trial], *, store: Store, engine: Engine) -> list[dict[str, Any]]:
    """Make every missing clip of `trials`; returns one manifest line per trial, in order.

    A trial that cannot be made (`unavailable`) has a line without a clip, with its reason.
    """
    why = [unavailable(protocol, trial) for trial in trials]
    able = [trial for trial, reason in zip(trials, why, strict=True) if not reason]
    remembered: dict[Any, PlannedClip] = {}
    sources = [source_clip(protocol, trial, store=store, found=remembered) for trial in able]
    _make([item for item in sources if item], store=store, engine=engine, title=f"{protocol.name}: originals")
    planned = plan(protocol, able, store=store)
    made = _make(planned, store=store, engine=engine, title=f"{protocol.name}: clips")
    say_made(protocol.name, "clips", made, len(planned))
    lines = iter([_line(protocol, item, store) for item in planned])
    return [_about(protocol, t) | {"reason": r} if r else next(lines) for t, r in zip(trials, why, strict=True)]


def _make(planned: Iterable[PlannedClip], *, store: Store, engine: Engine, title: str) -> int:
    missing = {item.key: item for item in planned if not store.has_clip(item.key)}
    # Trials of one model together: a worker keeps the network it has loaded.
    ordered = sorted(missing.values(), key=lambda item: sorted(item.models.values()))
    tasks = [
        Task(
            key=item.key,
            label=f"{item.trial.variant.row} · {item.trial.case.id}",
            function="flashbench.run.generate:make_clip",
            arguments={"trial": item.trial, "models": dict(item.models), "given": item.given},
        )
        for item in ordered
    ]
    if tasks:
        engine.run(tasks, store=store, title=title, unit="clips")
    return len(tasks)


def _about(protocol: Protocol, trial: Trial) -> dict[str, Any]:
    """What a manifest line says of a trial before its clip is made."""
    system = trial.variant.system
    return {
        "protocol": protocol.name,
        "row": trial.variant.row,
        "case": trial.case.id,
        "cluster": trial.case.cluster,
        "seed": trial.case.seed,
        "replica": trial.replica,
        "system": system.name,
        "settings": keys.plain(trial.variant.settings),
        "prompt": None if trial.case.prompt is None else trial.case.prompt.original,
        "evaluations": 0,
        "cost": dict(system.cost(trial.variant.settings, trial.geometry, protocol.recipes)),
        "key": "",
        "digest": "",
        "original_key": "",
        "original": "",
        "reason": "",
    }


def _line(protocol: Protocol, item: PlannedClip, store: Store) -> dict[str, Any]:
    record, given = store.clip_record(item.key), item.given or item.key
    return _about(protocol, item.trial) | {
        "evaluations": record["evaluations"],
        "key": item.key,
        "digest": record["digest"],
        "original_key": given,
        "original": store.clip_record(given)["digest"],
        "numerics": clip_numerics(protocol, item.trial.variant.settings),
    }
