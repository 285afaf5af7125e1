"""From trials to clips: trains what variants need, makes what the store does not have, and lists the clips.

Two kinds of task run in the engine's workers: `build_model` (a recipe of the laptop tier) and `make_clip` (a trial).
Both look into the store first, so a rerun makes only what is missing.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flashbench import keys, systems
from flashbench.engine import Engine, Report, Task, say_made
from flashbench.errors import InvalidError
from flashbench.laptop.settings import FOREIGN
from flashbench.protocol import own_settings
from flashbench.store import Store
from flashbench.systems import weights
from flashbench.systems.base import Request, counted_evaluations
from flashbench.types import Case, Clip, Protocol, Settings, Trial, Variant

NOISE_RECIPE = 1
"""Version of `systems.inputs`: how a case's noise and low-quality input are drawn."""

TRAINED = ("flow", "regression", "vanilla", "stage1")
"""Kinds of recipe that depend on the training replica; the others are fitted without randomness."""
BUILT = (*TRAINED, "codec", "pool", "labels", "scenes", "text", "official", "given")
"""Kinds of recipe that become a model in the store: of somebody else's weights, what they are or a copy."""


# --- keys -------------------------------------------------------------------------------------------------------


def recipe_key(protocol: Protocol, name: str, replica: int) -> str:
    """Key of the model that recipe `name` makes: its settings, code version, material, needs, replica, numerics."""
    from flashbench.laptop import material
    from flashbench.laptop import settings as recipe_settings

    settings = protocol.recipes[name]
    synthetic = settings.get("material") == "synthetic" or settings["kind"] in FOREIGN
    read = {"assets": weights.identity(settings["component"])} if settings["kind"] == "official" else {}
    return keys.key(
        "model",
        settings=recipe_settings.identity(own_settings(settings)),
        version=recipe_settings.VERSION,
        material=None if synthetic else [material.VERSION, material.material_hash("train")],
        needs=_need_keys(protocol, name, replica),
        replica=replica if settings["kind"] in TRAINED else None,
        numerics=keys.numerics_class(threads=1),  # `recipes.build` trains on one thread, whatever the tier
        **read,
    )


def _need_keys(protocol: Protocol, name: str, replica: int) -> dict[str, str]:
    needs = protocol.recipes[name]["needs"]
    return {role: recipe_key(protocol, need, replica) for role, need in needs.items()}


def threads(protocol: Protocol) -> int:
    """Threads per worker: part of the numerics class."""
    return protocol.budget.get("threads", 1)


def _numerics(protocol: Protocol, settings: Settings) -> dict[str, str | int]:
    """The numerics class of a clip: a system may have settings `device` and `dtype`."""
    how = {name: str(settings[name]) for name in ("device", "dtype") if name in settings}
    return keys.numerics_class(threads=threads(protocol), **how)


def _source_identity(case: Case) -> Any:
    """What the original clip of a case is made from."""
    from flashbench.laptop import material

    if case.source is None or case.source.startswith("synthetic-"):
        return case.source
    return [material.VERSION, case.source, material.source_hash(case.source)]


def clip_key(trial: Trial, *, store: Store, models: Mapping[str, str], given: str | None, numerics: Any) -> str:
    """Key of a trial's clip. `models` are keys of finished models; `given`: digest of the clip it is made from."""
    system = systems.get(trial.variant.system)
    prompt = trial.case.prompt
    said: Any = prompt.text if prompt else None
    if prompt and trial.variant.settings.get("noise") == "official":
        said = [said, prompt.line]  # its seed is made of the line
    return keys.key(
        "clip",
        system=[system.name, system.version],
        settings=system.identity(trial.variant.settings),
        models={name: store.model_digest(key) for name, key in models.items()},
        input=_source_identity(trial.case) if given is None else given,
        low=trial.case.low if given is not None else None,
        case=trial.case.id,
        seed=trial.case.seed,
        prompt=said,
        noise=NOISE_RECIPE,
        geometry=trial.geometry,
        numerics=numerics,
    )


# --- training ---------------------------------------------------------------------------------------------------


def build_model(
    *, store: Store, key: str, report: Report, settings: Mapping[str, Any], needs: Mapping[str, str], replica: int
) -> Mapping[str, Any]:
    """Task: build one recipe's model into the store, going on from its last checkpoint."""
    from flashbench.laptop import recipes

    if store.has_model(key):
        store.drop_training_state(key)  # a kill between keeping the model and this leaves it
        return store.model_record(key)
    inputs = {role: store.model(need) for role, need in needs.items()}
    started = time.monotonic()
    record: dict[str, Any] = {"settings": settings, "replica": replica, "needs": needs}
    with store.new_model(key, record) as folder:
        state = store.training_state(key)
        if settings["kind"] in FOREIGN:
            made = weights.build(settings, folder)
        else:
            made = recipes.build(settings, inputs=inputs, out=folder, state=state, replica=replica, report=report)
        record.update(made=made, seconds=round(time.monotonic() - started, 3), megabytes=_peak_megabytes())
    return store.model_record(key)


def train(protocols: Sequence[Protocol], *, store: Store, engine: Engine, replicas: Sequence[int]) -> int:
    """Build every model that the protocols' variants read and the store lacks; returns how many were built."""
    tasks: dict[str, Task] = {}
    for protocol in protocols:
        for replica in replicas:
            for name, settings in protocol.recipes.items():
                if settings["kind"] not in BUILT or weights.obstacle(settings):
                    continue
                key = recipe_key(protocol, name, replica)
                if store.has_model(key) or key in tasks:
                    continue
                needs = _need_keys(protocol, name, replica)
                label = f"train {name}" + (f" (replica {replica})" if replica else "")
                tasks[key] = Task(
                    key=key,
                    label=label if settings["kind"] in TRAINED else f"fit {name}",
                    function="flashbench.generate:build_model",
                    arguments={"settings": own_settings(settings), "needs": needs, "replica": replica},
                    needs=tuple(needs.values()),
                    steps=True,
                )
    if tasks:
        # What the longest chain waits for comes first among what is ready: that keeps both workers busy to the end.
        chain = _chains(tasks)
        engine.run(
            sorted(tasks.values(), key=lambda task: -chain[task.key]), store=store, title="models", unit="models"
        )
    return len(tasks)


def _chains(tasks: Mapping[str, Task]) -> dict[str, int]:
    """Task to the steps of the longest chain of trainings that begins with it."""
    found: dict[str, int] = {}

    def steps(key: str) -> int:
        if key not in found:
            after = [other for other, task in tasks.items() if key in task.needs]
            own = int(tasks[key].arguments["settings"].get("steps") or 0)
            found[key] = own + max(map(steps, after), default=0)
        return found[key]

    return {key: steps(key) for key in tasks}


# --- clips ------------------------------------------------------------------------------------------------------


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
    system = systems.get(trial.variant.system)
    request = Request(
        case=trial.case,
        settings=trial.variant.settings,
        geometry=trial.geometry,
        reference=store.clip(given) if given and trial.case.source else None,
        preview=store.clip(given) if given and not trial.case.source else None,
        models={name: store.model(model) for name, model in models.items()},
    )
    started = time.monotonic()
    with counted_evaluations() as counted:
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
        "seconds": round(time.monotonic() - started, 4),
        "megabytes": _peak_megabytes(),
    }
    store.put_clip(key, clip, record)
    return store.clip_record(key)


def _check(trial: Trial, clip: Clip, *, declared: int, counted: int) -> None:
    where = f"system {trial.variant.system!r}, row {trial.variant.row!r}, case {trial.case.id}"
    if declared != counted:
        what = f"{where}: the settings declare {declared} network evaluations, {counted} were counted"
        raise InvalidError(what, fix="make the system do what its settings say, or correct `evaluations`")
    wanted = (trial.geometry.frames, trial.geometry.height, trial.geometry.width, 3)
    if clip.frames.shape != wanted or clip.fps != trial.geometry.fps:
        what = f"{where}: the clip is {list(clip.frames.shape)} at {clip.fps} fps, not {list(wanted)}"
        raise InvalidError(what, fix="return frames of the trial's geometry")


def plan(protocol: Protocol, trials: Iterable[Trial], *, store: Store) -> list[PlannedClip]:
    """Keys for `trials`; every model and every clip that they are made from must be in the store already."""
    found: dict[Any, PlannedClip] = {}
    planned = []
    for trial in trials:
        before = source_clip(protocol, trial, store=store, found=found)
        if trial.variant.system == "original":
            assert before is not None
            planned.append(PlannedClip(trial, before.key, {}, None))
            continue
        models = _model_keys(protocol, trial)
        given = None if before is None else before.key
        digest = None if given is None else store.clip_record(given)["digest"]
        numerics = _numerics(protocol, trial.variant.settings)
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
    if not systems.get(trial.variant.system).enhances:
        return None
    if case.source is not None:
        settings = systems.resolve(systems.get("original"), {})
        made = Trial(
            variant=Variant(row="original", system="original", settings=settings), case=case, geometry=trial.geometry
        )
        at: Any = (case.id, case.seed, trial.geometry)
    else:
        preview = next(part.preview for part in protocol.parts if part.preview)
        made = replace(trial, variant=preview.variant, geometry=preview.geometry)
        at = (case.id, case.seed, trial.replica)
    if at not in remembered:
        models = _model_keys(protocol, made)
        numerics = _numerics(protocol, made.variant.settings)
        key = clip_key(made, store=store, models=models, given=None, numerics=numerics)
        remembered[at] = PlannedClip(made, key, models, None)
    return remembered[at]


def _model_keys(protocol: Protocol, trial: Trial) -> dict[str, str]:
    names = systems.get(trial.variant.system).models(trial.variant.settings)
    return {name: recipe_key(protocol, name, trial.replica) for name in names}


def obstacle(protocol: Protocol, trial: Trial) -> str:
    """Why a trial's clip cannot be made on any machine of this tier; empty if it can."""
    system = systems.get(trial.variant.system)
    why = system.obstacle(trial.variant.settings, protocol.recipes)
    if not why and trial.case.source is None and system.enhances:
        before = next(part.preview for part in protocol.parts if part.preview).variant
        why = systems.get(before.system).obstacle(before.settings, protocol.recipes)
    if why or trial.case.source is None or trial.case.source.startswith("synthetic-"):
        return why
    from flashbench.laptop import material

    return material.too_small(trial.case.source, trial.geometry.height, trial.geometry.width)


def generate(protocol: Protocol, trials: Sequence[Trial], *, store: Store, engine: Engine) -> list[dict[str, Any]]:
    """Make every missing clip of `trials`; returns one manifest line per trial, in order.

    A trial that cannot be made (`obstacle`) has a line without a clip, with its reason.
    """
    why = [obstacle(protocol, trial) for trial in trials]
    able = [trial for trial, reason in zip(trials, why, strict=True) if not reason]
    found: dict[Any, PlannedClip] = {}
    sources = [source_clip(protocol, trial, store=store, found=found) for trial in able]
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
            function="flashbench.generate:make_clip",
            arguments={"trial": item.trial, "models": dict(item.models), "given": item.given},
        )
        for item in ordered
    ]
    if tasks:
        engine.run(tasks, store=store, title=title, unit="clips")
    return len(tasks)


def _about(protocol: Protocol, trial: Trial) -> dict[str, Any]:
    """What a manifest line says of a trial before its clip is made."""
    system = systems.get(trial.variant.system)
    return {
        "protocol": protocol.name,
        "row": trial.variant.row,
        "case": trial.case.id,
        "cluster": trial.case.cluster,
        "seed": trial.case.seed,
        "replica": trial.replica,
        "system": trial.variant.system,
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
        "numerics": _numerics(protocol, item.trial.variant.settings),
    }


def manifest(lines: Sequence[Mapping[str, Any]]) -> bytes:
    """Content of clips.jsonl: one clip a line, no times."""
    return "".join(json.dumps(line, sort_keys=True) + "\n" for line in lines).encode()


def read_manifest(path: Path) -> list[dict[str, Any]]:
    """Read clips.jsonl; an `InvalidError` where it is missing or broken."""
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        fix = "run `flashbench run PROTOCOL --phase generate` first"
        raise InvalidError(f"{path} cannot be read: {error}", fix=fix) from error


def _peak_megabytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
