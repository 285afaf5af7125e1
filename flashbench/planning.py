"""What a run would do, before it does it: models and clips that are there, and those that are missing."""

from __future__ import annotations

from flashbench import generate, systems
from flashbench.protocol import load_protocol, trials
from flashbench.run import Options
from flashbench.store import Store
from flashbench.types import Protocol, Trial


def describe(name: str, options: Options) -> str:
    """A short text: each recipe as `there` or `recipe:<hash>`, clips there and missing per row.

    A clip whose model is not trained yet has no key, so it counts as missing.
    """
    protocol = load_protocol(name, tier=options.tier, overrides=options.overrides)
    store = Store()
    wanted = trials(protocol, replicas=options.replicas, limit=options.limit)
    there = {id(trial): _is_there(protocol, trial, store) for trial in wanted}
    lines = [f"{protocol.name} at {protocol.tier}: {protocol.title} ({protocol.table}), protocol {protocol.hash[:12]}"]
    for replica in options.replicas:
        for recipe in protocol.recipes:
            key = generate.recipe_key(protocol, recipe, replica)
            state = "there" if store.has_model(key) else "to be built"
            lines.append(f"  model {recipe} (replica {replica}): {state}, recipe:{key[:12]}")
    for variant in protocol.variants:
        own = [trial for trial in wanted if trial.variant.row == variant.row]
        lines.append(f"  row {variant.row}: {sum(there[id(t)] for t in own)} of {len(own)} clips are there")
    made = sum(there.values())
    scores = len(wanted) * len(protocol.metrics)
    lines.append(f"{len(wanted)} trials: {made} clips are there, {len(wanted) - made} to be made; {scores} scores")
    return "\n".join(lines)


def _is_there(protocol: Protocol, trial: Trial, store: Store) -> bool:
    names = systems.get(trial.variant.system).models(trial.variant.settings)
    models = [generate.recipe_key(protocol, name, trial.replica) for name in names]
    original = generate.original_clip(protocol, trial.case, store=store)
    if not store.has_clip(original.key) or not all(map(store.has_model, models)):
        return False
    (planned,) = generate.plan(protocol, [trial], store=store)
    return store.has_clip(planned.key)
