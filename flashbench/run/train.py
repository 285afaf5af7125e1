"""The phase `train`: builds the models that variants read and the store lacks, and lays copies beside the results."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flashbench.engine import Engine, Report, Task, peak_megabytes
from flashbench.laptop.settings import FOREIGN
from flashbench.progress import say
from flashbench.protocol.compose import own_settings
from flashbench.protocol.types import Protocol
from flashbench.run.files import write
from flashbench.run.identity import BUILT, TRAINED, need_keys, recipe_key
from flashbench.run.options import Options
from flashbench.store import Store
from flashbench.systems import checkpoints


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
            made = checkpoints.build(settings, folder)
        else:
            made = recipes.build(
                    settings, inputs=inputs, out=folder, state=state, replica=replica, report=report,
                    load=checkpoints.fresh,
                )  # fmt: skip
        record.update(made=made, seconds=round(time.monotonic() - started, 3), megabytes=peak_megabytes())
    return store.model_record(key)


def train(protocols: Sequence[Protocol], *, store: Store, engine: Engine, replicas: Sequence[int]) -> int:
    """Build every model that the protocols' variants read and the store lacks; returns how many were built."""
    tasks: dict[str, Task] = {}
    for protocol in protocols:
        for replica in replicas:
            for name, settings in protocol.recipes.items():
                if settings["kind"] not in BUILT or checkpoints.unavailable(settings):
                    continue
                key = recipe_key(protocol, name, replica)
                if store.has_model(key) or key in tasks:
                    continue
                needs = need_keys(protocol, name, replica)
                label = f"train {name}" + (f" (replica {replica})" if replica else "")
                tasks[key] = Task(
                    key=key,
                    label=label if settings["kind"] in TRAINED else f"fit {name}",
                    function="flashbench.run.train:build_model",
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
    lengths: dict[str, int] = {}

    def steps(key: str) -> int:
        if key not in lengths:
            after = [other for other, task in tasks.items() if key in task.needs]
            own = int(tasks[key].arguments["settings"].get("steps") or 0)
            lengths[key] = own + max(map(steps, after), default=0)
        return lengths[key]

    return {key: steps(key) for key in tasks}


def train_and_publish(protocols: Sequence[Protocol], store: Store, options: Options, engine: Engine) -> None:
    """The phase `train`: build the models that are missing; unless of a shard, copy each under `models/` of results."""
    built = train(protocols, store=store, engine=engine, replicas=options.replicas)
    say(f"{', '.join(protocol.name for protocol in protocols)}: built {built} models, the others were in the store")
    if options.shard:
        return
    folder = options.root / "models"
    for protocol in protocols:
        for name, settings in protocol.recipes.items():
            if settings["kind"] not in (*TRAINED, "codec"):
                continue  # hundreds of megabytes that only training reads, or somebody else's weights
            for replica in options.replicas if settings["kind"] in TRAINED else (0,):
                place = folder / (f"{name}-{replica}" if settings["kind"] in TRAINED else name)
                _publish(store, recipe_key(protocol, name, replica), place)


def _publish(store: Store, key: str, folder: Path) -> None:
    """Copy a model's files (never its record: it has times) beside the results, with its key last."""
    mark = folder / "key"
    if mark.exists() and mark.read_text(encoding="utf-8") == key + "\n":
        return
    mark.unlink(missing_ok=True)
    source = store.model(key)
    for name in store.model_record(key)["files"]:
        write(folder / name, (source / name).read_bytes())
    write(mark, f"{key}\n".encode())
