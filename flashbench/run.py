"""One call for the whole flow of a protocol, phase by phase; each phase reads and writes files under results/<tier>.

- `models/` (shared by protocols), `<protocol>/clips.jsonl`, `<protocol>/contact.png`: in DVC's cache
- `<protocol>/scores.parquet`, `tables/<protocol>.{md,csv,tex}`, `figures/<protocol>.svg`: in git
- `claims.md`, `metrics.json`: over all protocols (`summarise`), in git
"""

from __future__ import annotations

import difflib
import importlib.util
import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from flashbench import assets, generate, metrics, score
from flashbench.engine import Engine, LocalEngine
from flashbench.errors import InvalidError, MissingAsset, UsageError, did_you_mean
from flashbench.progress import say
from flashbench.protocol import load_protocol, trials
from flashbench.protocol import names as known_protocols
from flashbench.store import Store
from flashbench.types import Phase, Protocol

if TYPE_CHECKING:
    import pandas as pd

PHASES: tuple[Phase, ...] = get_args(Phase)
SHEET_CASES = 4
"""Cases on a contact sheet."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a run may be told besides the protocol."""

    tier: str = "laptop"
    replicas: tuple[int, ...] = (0,)
    results: Path | None = None
    limit: int | None = None
    workers: int | None = None
    overrides: tuple[str, ...] = ()

    @property
    def root(self) -> Path:
        """Folder of the tier's results."""
        return self.results or Path("results") / self.tier


def run(names: Sequence[str], phases: Sequence[Phase] = PHASES, options: Options | None = None) -> None:
    """Run `phases` of the protocols `names`, in the phases' order.

    Raises:
        UsageError: an unknown name. InvalidError: an input that cannot be read, or a clip that cannot be made.
    """
    options = options or Options()
    for phase in phases:
        if phase not in PHASES:
            raise did_you_mean("phase", phase, PHASES)
    protocols = [load_protocol(name, tier=options.tier, overrides=options.overrides) for name in names]
    if (options.limit or options.overrides) and options.results is None:
        what = "a limited or changed protocol would replace the tier's results"
        raise UsageError(what, fix="give its results a folder of their own: --results DIR")
    if not {"train", "generate"} & set(phases):
        results_folder(options)
    store = Store()
    _writable(options.root)
    with _engine(protocols[0], options) as engine:
        if "train" in phases:
            _train(protocols, store, options, engine)
        for protocol in protocols:
            for phase, body in _BODIES.items():
                if phase in phases:
                    body(protocol, store, options, engine)


def results_folder(options: Options) -> Path:
    """The folder of results to read.

    Raises:
        UsageError: there is no such folder.
    """
    root = options.root
    if not root.is_dir():
        there = sorted(str(path) for path in root.parent.glob("*") if path.is_dir()) if root.parent.is_dir() else []
        close = difflib.get_close_matches(str(root), there, n=1, cutoff=0.4)
        fix = f"did you mean {close[0]}?" if close else "run `flashbench run PROTOCOL` first, or give --results"
        raise UsageError(f"there is no folder {root}", fix=fix)
    return root


def _engine(protocol: Protocol, options: Options) -> LocalEngine:
    chosen = options.workers if options.workers is not None else protocol.budget.get("workers")
    return LocalEngine(workers=int(str(chosen if chosen is not None else 2)), threads=generate.threads(protocol))


def _writable(root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidError(f"the folder {root} cannot be written: {error.strerror}", fix="choose --results") from error


def write(path: Path, content: bytes) -> None:
    """Write a result whole or not at all.

    Raises:
        InvalidError: the folder cannot be written, or the disk is full.
    """
    draft = path.with_name(f".{path.name}.draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(content)
        draft.replace(path)
    except OSError as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        fix = "free disk space or choose --results; what is in the store is kept"
        raise InvalidError(f"{path} cannot be written: {error.strerror}", fix=fix) from error


def ensure_assets(protocols: Sequence[Protocol], *, material: bool) -> None:
    """Fetch what the protocols read and this machine lacks: parameters of metrics and, if asked, the material."""
    wanted = {name for protocol in protocols for metric in protocol.metrics for name in metrics.get(metric).assets}
    if material and any(_reads_material(protocol) for protocol in protocols):
        from flashbench.laptop.material import read_sources

        wanted |= {source.asset for source in read_sources()}
    missing = [name for name in sorted(wanted) if not assets.present(name)]
    try:
        if missing:
            assets.pull(missing, report=say)
    except MissingAsset as error:
        if material:
            raise
        say(f"{error.what}: its rows will be NaN")  # a metric without its parameters is a reason, not a failure


def _reads_material(protocol: Protocol) -> bool:
    return any(not (case.source or "").startswith("synthetic-") for case in protocol.cases)


def _train(protocols: Sequence[Protocol], store: Store, options: Options, engine: Engine) -> None:
    ensure_assets(protocols, material=True)
    built = generate.train(protocols, store=store, engine=engine, replicas=options.replicas)
    say(f"{', '.join(protocol.name for protocol in protocols)}: built {built} models, the others were in the store")
    folder = options.root / "models"
    for protocol in protocols:
        for name, settings in protocol.recipes.items():
            if settings["kind"] == "pool":
                continue  # hundreds of megabytes that only training reads
            for replica in options.replicas if settings["kind"] in generate.TRAINED else (0,):
                place = folder / (f"{name}-{replica}" if settings["kind"] in generate.TRAINED else name)
                _publish(store, generate.recipe_key(protocol, name, replica), place)


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


def _generate(protocol: Protocol, store: Store, options: Options, engine: Engine) -> None:
    ensure_assets([protocol], material=True)
    wanted = [trial for replica in options.replicas for trial in trials(protocol, replica=replica, limit=options.limit)]
    lines = generate.generate(protocol, wanted, store=store, engine=engine)
    write(options.root / protocol.name / "clips.jsonl", generate.manifest(lines))


def _score(protocol: Protocol, store: Store, options: Options, engine: Engine) -> None:
    ensure_assets([protocol], material=False)
    manifest = generate.read_manifest(options.root / protocol.name / "clips.jsonl")
    table = score.score(protocol, manifest, store=store, engine=engine)
    write(options.root / protocol.name / "scores.parquet", score.to_parquet(table, protocol.hash))


def render(protocol: Protocol, scores: pd.DataFrame) -> dict[str, bytes]:
    """Everything that follows from scores alone: path under the tier's results → content."""
    from flashbench import claims, figures, tables

    table = tables.build(protocol, scores)
    results = claims.evaluate(protocol, scores)
    drawn = {}
    if importlib.util.find_spec("matplotlib"):  # of the extra `repro`: without it, everything but the figure
        drawn[f"figures/{protocol.name}.svg"] = figures.draw(protocol, table)
    return drawn | {
        f"tables/{protocol.name}.csv": tables.to_csv(table).encode(),
        f"tables/{protocol.name}.md": tables.to_markdown(protocol, scores, table).encode(),
        f"tables/{protocol.name}.tex": tables.to_latex(protocol, scores, table).encode(),
        f"{protocol.name}/claims.json": _json(results).encode(),
    }


def _json(value: Any) -> str:
    def known(item: Any) -> Any:
        if isinstance(item, Mapping):
            return {name: known(inner) for name, inner in item.items()}
        if isinstance(item, list | tuple):
            return [known(inner) for inner in item]
        return None if isinstance(item, float) and math.isnan(item) else item

    return json.dumps(known(value), sort_keys=True, indent=1, allow_nan=False) + "\n"


def _tables(protocol: Protocol, store: Store, options: Options, engine: Engine) -> None:
    from flashbench import contact

    ensure_assets([protocol], material=False)
    scores = score.read_scores(options.root / protocol.name / "scores.parquet", protocol.hash)
    for name, content in render(protocol, scores).items():
        write(options.root / name, content)
        say(f"{protocol.name}: wrote {options.root / name}")
    manifest = generate.read_manifest(options.root / protocol.name / "clips.jsonl")
    cases = list(dict.fromkeys(line["case"] for line in manifest))[:SHEET_CASES]
    first = min(options.replicas)
    sheet: dict[str, dict[str, Any]] = {variant.row: {} for variant in protocol.variants}
    for line in manifest:
        if line["case"] in cases and line["replica"] == first and line["seed"] == 0:
            sheet[line["row"]][line["case"]] = store.clip(line["key"])
    write(
        options.root / protocol.name / "contact.png",
        contact.png(contact.contact_sheet(sheet, cases, of=len(protocol.cases))),
    )


_BODIES: Mapping[Phase, Callable[[Protocol, Store, Options, Engine], None]] = {
    "generate": _generate,
    "score": _score,
    "tables": _tables,
}


def scored(options: Options) -> list[str]:
    """Protocols whose scores are there."""
    return [name for name in known_protocols() if (options.root / name / "scores.parquet").exists()]


def summary(names: Sequence[str], options: Options) -> dict[str, bytes]:
    """claims.md and metrics.json of a tier, from the protocols' tables and claims."""
    from flashbench import claims, tables

    protocols = [load_protocol(name, tier=options.tier, overrides=options.overrides) for name in names]
    ensure_assets(protocols, material=False)
    results, built = [], []
    for protocol in protocols:
        scores = score.read_scores(options.root / protocol.name / "scores.parquet", protocol.hash)
        built.append(tables.build(protocol, scores))
        results.append((protocol, claims.evaluate(protocol, scores)))
    return {
        "claims.md": claims.claims_markdown(results).encode(),
        "metrics.json": tables.metrics_json(built).encode(),
    }


def summarise(options: Options) -> None:
    """Write claims.md and metrics.json over all protocols whose scores are there.

    Raises:
        InvalidError: there are none.
    """
    results_folder(options)
    names = scored(options)
    if not names:
        raise InvalidError(f"no protocol has scores under {options.root}", fix="run `flashbench run PROTOCOL` first")
    for name, content in summary(names, options).items():
        write(options.root / name, content)
        say(f"wrote {options.root / name}")
