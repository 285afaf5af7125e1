"""One call for the whole flow of a protocol, phase by phase; each phase reads and writes files under results/<tier>.

- `models/` (shared by protocols), `<protocol>/clips.jsonl`, `<protocol>/contact.png`: in DVC's cache
- `<protocol>/scores.parquet`, `tables/<protocol>.{md,csv,tex}`, `figures/<protocol>{,-claims}.{svg,png}`: in git
- `claims.md`, `metrics.json`: over all protocols (`summarise`), in git
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from flashbench.engine import Engine, LocalEngine
from flashbench.errors import InvalidError, UsageError, did_you_mean, on_disk
from flashbench.progress import say
from flashbench.protocol.compose import trials
from flashbench.protocol.types import Protocol
from flashbench.run.declared import declared
from flashbench.run.files import manifest, read_manifest, write
from flashbench.run.generate import generate
from flashbench.run.inputs import ensure_assets
from flashbench.run.options import Options, results_folder
from flashbench.run.render import write_tables
from flashbench.run.score import numerics, score
from flashbench.run.train import train_and_publish
from flashbench.scores.table import to_parquet
from flashbench.store import Store
from flashbench.types import Phase

PHASES: tuple[Phase, ...] = get_args(Phase)
SHARD_PHASES: tuple[Phase, ...] = tuple(phase for phase in PHASES if phase != "tables")


def run_protocols(names: Sequence[str], phases: Sequence[Phase] | None = None, options: Options | None = None) -> None:
    """Run `phases` of the protocols `names`, in the phases' order; all by default, of a shard those that need no other.

    A shard's clips and scores go into the store, and nothing into the results: made without `shard`, where the store
    has what all shards made, they are the same bytes as if one machine had made everything.

    Raises:
        UsageError: an unknown name, or options that exclude each other. InvalidError: an input that cannot be read, or
            a clip that cannot be made; at the end, when all else is done, a metric that failed.
    """
    options = options or Options()
    phases = phases or (SHARD_PHASES if options.shard else PHASES)
    for phase in phases:
        if phase not in PHASES:
            raise did_you_mean("phase", phase, PHASES)
    protocols = [options.protocol(name) for name in names]
    making = bool({"train", "generate"} & set(phases)) or options.shard is not None
    _check_results(phases, options, making=making)
    store = Store()
    ensure_assets(protocols, material=making)
    first = protocols[0]
    workers = first.budget.get("workers", 2) if options.workers is None else options.workers
    failed: list[str] = []
    with LocalEngine(workers=workers, threads=first.threads) as engine:
        if "train" in phases:
            train_and_publish(protocols, store, options, engine)
        for protocol in protocols:
            lines = _generate(protocol, store, options, engine) if options.shard or "generate" in phases else None
            if "score" in phases:
                failed += _score(protocol, lines if options.shard else None, store, options, engine)
            if "tables" in phases:
                write_tables(protocol, store, options)
    if options.shard:
        say(f"shard {options.shard} is in the store; with all shards in one store, the command without --shard goes on")
    if failed:
        what = f"{len(failed)} scores are missing, because a metric failed: {failed[0]}"
        raise InvalidError(what, fix="mend the metric; the same command measures what is missing")


def _check_results(phases: Sequence[Phase], options: Options, *, making: bool) -> None:
    """Refuse options that would write the wrong results, and make the folder of the right ones."""
    if options.shard:
        if "tables" in phases:
            fix = "leave --shard out, where the store has the clips and scores of all shards"
            raise UsageError("tables are of all cases, not of a shard", fix=fix)
        if options.results is not None:
            raise UsageError("a shard writes into the store alone, not into --results", fix="leave --results out")
        return
    if (options.limit or options.overrides) and options.results is None:
        what = "a limited or changed protocol would replace the tier's results"
        raise UsageError(what, fix="give its results a folder of their own: --results DIR")
    if not making:
        results_folder(options)
    with on_disk(f"the folder {options.root} cannot be written", fix="choose --results"):
        options.root.mkdir(parents=True, exist_ok=True)


def _generate(protocol: Protocol, store: Store, options: Options, engine: Engine) -> list[dict[str, Any]]:
    wanted = trials(protocol, replicas=options.replicas)
    lines = generate(protocol, wanted, store=store, engine=engine)
    if not options.shard:
        write(options.root / protocol.name / "clips.jsonl", manifest(lines))
    return lines


def _score(
    protocol: Protocol, lines: Sequence[Mapping[str, Any]] | None, store: Store, options: Options, engine: Engine
) -> list[str]:
    """Measure the clips of `lines`, or of an earlier call's manifest; returns a line for each metric that failed."""
    lines = read_manifest(options.root / protocol.name / "clips.jsonl") if lines is None else lines
    table, failed = score(protocol, lines, store=store, engine=engine, fresh=options.fresh)
    if not options.shard:
        what = declared(protocol, {line["replica"] for line in lines})
        content = to_parquet(table, protocol.hash, numerics(protocol, lines), what)
        write(options.root / protocol.name / "scores.parquet", content)
    return failed
