"""One call for the whole flow of a protocol, phase by phase; each phase reads and writes files under results/<tier>.

- `models/` (shared by protocols), `<protocol>/clips.jsonl`, `<protocol>/contact.png`: in DVC's cache
- `<protocol>/scores.parquet`, `tables/<protocol>.{md,csv,tex}`, `figures/<protocol>{,-claims}.{svg,png}`: in git
- `claims.md`, `metrics.json`: over all protocols (`summarise`), in git
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from flashbench.engine import Engine, LocalEngine
from flashbench.errors import InvalidError, UsageError, did_you_mean, on_disk
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


def run_protocols(names: Sequence[str], phases: Sequence[Phase] = PHASES, options: Options | None = None) -> None:
    """Run `phases` of the protocols `names`, in the phases' order.

    Raises:
        UsageError: an unknown name. InvalidError: an input that cannot be read, or a clip that cannot be made; at the
            end, when all else is done, a metric that failed.
    """
    options = options or Options()
    for phase in phases:
        if phase not in PHASES:
            raise did_you_mean("phase", phase, PHASES)
    protocols = [options.protocol(name) for name in names]
    if (options.limit or options.overrides) and options.results is None:
        what = "a limited or changed protocol would replace the tier's results"
        raise UsageError(what, fix="give its results a folder of their own: --results DIR")
    making = bool({"train", "generate"} & set(phases))
    if not making:
        results_folder(options)
    store = Store()
    with on_disk(f"the folder {options.root} cannot be written", fix="choose --results"):
        options.root.mkdir(parents=True, exist_ok=True)
    ensure_assets(protocols, material=making)
    first = protocols[0]
    workers = first.budget.get("workers", 2) if options.workers is None else options.workers
    failed: list[str] = []
    with LocalEngine(workers=workers, threads=first.threads) as engine:
        if "train" in phases:
            train_and_publish(protocols, store, options, engine)
        for protocol in protocols:
            if "generate" in phases:
                _generate(protocol, store, options, engine)
            if "score" in phases:
                failed += _score(protocol, store, options, engine)
            if "tables" in phases:
                write_tables(protocol, store, options)
    if failed:
        what = f"{len(failed)} scores are missing, because a metric failed: {failed[0]}"
        raise InvalidError(what, fix="mend the metric; the same command measures what is missing")


def _generate(protocol: Protocol, store: Store, options: Options, engine: Engine) -> None:
    wanted = trials(protocol, replicas=options.replicas)
    lines = generate(protocol, wanted, store=store, engine=engine)
    write(options.root / protocol.name / "clips.jsonl", manifest(lines))


def _score(protocol: Protocol, store: Store, options: Options, engine: Engine) -> list[str]:
    lines = read_manifest(options.root / protocol.name / "clips.jsonl")
    table, failed = score(protocol, lines, store=store, engine=engine, fresh=options.fresh)
    what = declared(protocol, {line["replica"] for line in lines})
    content = to_parquet(table, protocol.hash, numerics(protocol, lines), what)
    write(options.root / protocol.name / "scores.parquet", content)
    return failed
