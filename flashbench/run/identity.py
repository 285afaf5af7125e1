"""Keys of models and clips: everything that decides what a training or a trial makes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flashbench import keys, systems
from flashbench.laptop.settings import RELEASED
from flashbench.protocol.compose import own_settings
from flashbench.protocol.types import Protocol, Trial
from flashbench.store import Store
from flashbench.systems import checkpoints
from flashbench.types import Case, Settings

NOISE_RECIPE = 2
"""Version of `systems.inputs`: how a case's noise and low-quality input are drawn."""


TRAINED = ("flow", "regression", "vanilla", "stage1", "tuned")
"""Kinds of recipe that depend on the training replica; the others are fitted without randomness."""


BUILT = (*TRAINED, "codec", "pool", "labels", "scenes", "text", "official", "given")
"""Kinds of recipe that become a model in the store: of somebody else's weights, what they are or a copy."""


def recipe_key(protocol: Protocol, name: str, replica: int) -> str:
    """Key of the model that recipe `name` makes: its settings, code version, material, needs, replica, numerics."""
    from flashbench.data import material
    from flashbench.laptop import settings as recipe_settings

    settings = protocol.recipes[name]
    synthetic = settings.get("material") == "synthetic" or settings["kind"] in RELEASED
    read = {"assets": checkpoints.identity(settings["component"])} if settings["kind"] == "official" else {}
    return keys.key(
        "model",
        settings=recipe_settings.identity(own_settings(settings)),
        version=recipe_settings.VERSION,
        material=None if synthetic else [material.VERSION, material.material_hash("train")],
        needs=need_keys(protocol, name, replica),
        replica=replica if settings["kind"] in TRAINED else None,
        numerics=keys.numerics_class(threads=1),  # `recipes.build` trains on one thread, whatever the tier
        **read,
    )


def need_keys(protocol: Protocol, name: str, replica: int) -> dict[str, str]:
    """Role → key of each model that recipe `name` reads."""
    needs = protocol.recipes[name]["needs"]
    return {role: recipe_key(protocol, need, replica) for role, need in needs.items()}


def clip_numerics(protocol: Protocol, settings: Settings) -> dict[str, str | int]:
    """The numerics class of a clip: a system may have settings `device` and `dtype`."""
    how = {name: str(settings[name]) for name in ("device", "dtype") if name in settings}
    return keys.numerics_class(threads=protocol.threads, **how)


def _source_identity(case: Case) -> Any:
    """What the original clip of a case is made from."""
    from flashbench.data import material, scenes

    if case.source is None or case.kind == "synthetic":
        return case.source
    if case.kind == "scenes":
        background = scenes.SCENES[int(case.source.partition("-")[2])].background
        photograph = material.source_hash(scenes.BACKGROUNDS[background][0])
        return [material.VERSION, scenes.VERSION, case.source, photograph]
    return [material.VERSION, case.source, material.source_hash(case.source)]


def clip_key(trial: Trial, *, store: Store, models: Mapping[str, str], given: str | None, numerics: Any) -> str:
    """Key of a trial's clip. `models` are keys of finished models; `given`: digest of the clip it is made from."""
    system = trial.variant.system
    prompt = trial.case.prompt
    text: Any = prompt.text if prompt else None
    if prompt and trial.variant.settings.get("noise") == "official":
        text = [text, prompt.line]  # its seed is made of the line
    return keys.key(
        "clip",
        system=[system.name, system.version],
        settings=system.identity(trial.variant.settings),
        models={name: store.model_digest(key) for name, key in models.items()},
        input=_source_identity(trial.case) if given is None else given,
        low=trial.case.low if given is not None else None,
        case=trial.case.id,
        seed=trial.case.seed,
        prompt=text,
        noise=NOISE_RECIPE,
        geometry=trial.geometry,
        numerics=numerics,
        **systems.third_party(system),
    )
