"""One call for the whole flow of a protocol, phase by phase; each phase reads and writes files under results/<tier>.

- `models/` (shared by protocols), `<protocol>/clips.jsonl`, `<protocol>/contact.png`: in DVC's cache
- `<protocol>/scores.parquet`, `tables/<protocol>.{md,csv,tex}`, `figures/<protocol>.svg`: in git
- `claims.md`, `metrics.json`: over all protocols (`summarise`), in git
"""

from __future__ import annotations

import difflib
import importlib.util
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from flashbench import assets, generate, metrics, scoring, systems
from flashbench.cases import Suite
from flashbench.engine import Engine, LocalEngine
from flashbench.errors import InvalidError, MissingAsset, UsageError, did_you_mean, on_disk
from flashbench.laptop.settings import FOREIGN, TEXT_ENCODER
from flashbench.progress import say
from flashbench.protocol import load, trials
from flashbench.protocol import names as known_protocols
from flashbench.store import Store, write_whole
from flashbench.systems.own import with_weights
from flashbench.types import Case, Phase, Protocol

if TYPE_CHECKING:
    import pandas as pd

PHASES: tuple[Phase, ...] = get_args(Phase)
SHEET_CASES, SHEET_PROMPTS = 4, 12
"""Cases on a contact sheet; more where they are prompts, whose clips are small and have no reference beside them."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a run may be told besides the protocol."""

    tier: str = "laptop"
    replicas: tuple[int, ...] = (0,)
    results: Path | None = None
    limit: int | None = None
    """Only the first prompts of the suite, or sources: the override `cases.limit`."""
    workers: int | None = None
    overrides: tuple[str, ...] = ()
    system: str | None = None
    """What `weights` are given to: `flashvideo` unless named."""
    weights: Path | None = None
    """A checkpoint of one's own: one more row."""

    def protocol(self, name: str, suite: Suite | None = None) -> Protocol:
        """The protocol `name` under these options; `suite` as in `protocol.load`."""
        limit = () if self.limit is None else (f"cases.limit={self.limit}",)
        found = load(name, self.tier, (*self.overrides, *limit), suite)
        if self.weights is not None:
            return with_weights(found, self.system or "flashvideo", self.weights)
        if self.system is not None:
            raise UsageError("--system says what --weights are given to, and there are none", fix="add --weights PATH")
        return found

    @property
    def root(self) -> Path:
        """Folder of the tier's results; with weights of one's own another, so that they replace nothing."""
        return self.results or Path("results") / ("own" if self.weights else "") / self.tier


def run(names: Sequence[str], phases: Sequence[Phase] = PHASES, options: Options | None = None) -> None:
    """Run `phases` of the protocols `names`, in the phases' order.

    Raises:
        UsageError: an unknown name. InvalidError: an input that cannot be read, or a clip that cannot be made.
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
    with LocalEngine(workers=workers, threads=generate.threads(first)) as engine:
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


def write(path: Path, content: bytes) -> None:
    """Write a result whole or not at all.

    Raises:
        InvalidError: the folder cannot be written, or the disk is full.
    """
    fix = "free disk space or choose --results; what is in the store is kept"
    with on_disk(f"{path} cannot be written", fix=fix):
        write_whole(path, content, draft=path.with_name(f".{path.name}.draft"))


def ensure_assets(protocols: Sequence[Protocol], *, material: bool) -> None:
    """Fetch what the protocols read and this machine lacks: parameters of metrics; if asked, what clips are made of.

    A metric without its parameters is a reason, not a failure. So is a released cascade: nobody fetches that unasked.
    """
    parts = [part for protocol in protocols for part in protocol.parts]
    try:
        _fetch({name for part in parts for metric in part.metrics for name in metrics.get(metric).assets})
    except MissingAsset as error:
        say(f"{error.what}: their rows will be NaN")
    if not material:
        return
    wanted = {name for part in parts for row in part.variants for name in systems.get(row.system).assets}
    kinds = {recipe["kind"] for protocol in protocols for recipe in protocol.recipes.values()}
    if "text" in kinds:
        wanted |= set(TEXT_ENCODER)
    sets = {part.case_set for part in parts}
    if "material" in sets or (sets != {"synthetic"} and kinds - set(FOREIGN)):
        from flashbench.laptop.material import read_sources

        wanted |= {source.asset for source in read_sources()}
    _fetch(wanted)


def _fetch(names: Iterable[str]) -> None:
    missing = [name for name in sorted(names) if not assets.present(name)]
    if missing:
        assets.pull(missing, report=say)


def _train(protocols: Sequence[Protocol], store: Store, options: Options, engine: Engine) -> None:
    built = generate.train(protocols, store=store, engine=engine, replicas=options.replicas)
    say(f"{', '.join(protocol.name for protocol in protocols)}: built {built} models, the others were in the store")
    folder = options.root / "models"
    for protocol in protocols:
        for name, settings in protocol.recipes.items():
            if settings["kind"] not in (*generate.TRAINED, "codec"):
                continue  # hundreds of megabytes that only training reads, or somebody else's weights
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
    wanted = trials(protocol, replicas=options.replicas)
    lines = generate.generate(protocol, wanted, store=store, engine=engine)
    write(options.root / protocol.name / "clips.jsonl", generate.manifest(lines))


def _score(protocol: Protocol, store: Store, options: Options, engine: Engine) -> None:
    manifest = generate.read_manifest(options.root / protocol.name / "clips.jsonl")
    table = scoring.score(protocol, manifest, store=store, engine=engine)
    content = scoring.to_parquet(table, protocol.hash, scoring.numerics(protocol, manifest))
    write(options.root / protocol.name / "scores.parquet", content)


def render(protocol: Protocol, scores: pd.DataFrame) -> dict[str, bytes]:
    """Everything that follows from scores alone: path under the tier's results → content."""
    from flashbench.reporting import claims, figures, tables
    from flashbench.reporting.headline import headline

    table, found = tables.build(protocol, scores), tables.comparisons(protocol, scores)
    judged = claims.evaluate(protocol, scores)
    text = json.dumps(judged, sort_keys=True, indent=1, allow_nan=False)
    drawn = {}
    if importlib.util.find_spec("matplotlib"):  # of the extra `repro`: without it, everything but the figure
        own = table[table["cases"] == protocol.case_set]
        drawn[f"figures/{protocol.name}.svg"] = figures.draw(protocol, own)
    return drawn | {
        f"tables/{protocol.name}.csv": tables.to_csv(table).encode(),
        f"tables/{protocol.name}.md": tables.to_markdown(protocol, table, found).encode(),
        f"tables/{protocol.name}.tex": tables.to_latex(protocol, table, found).encode(),
        f"{protocol.name}/claims.json": f"{text}\n".encode(),
        f"{protocol.name}/metrics.json": headline(protocol, table, judged).encode(),
    }


def _label(case: Case) -> str:
    """What a contact sheet calls a case: its prompt, or its material."""
    return case.id if case.source is not None or case.prompt is None else case.prompt.original


def _tables(protocol: Protocol, store: Store, options: Options, engine: Engine) -> None:
    from flashbench.reporting import contact

    scores = scoring.read_scores(options.root / protocol.name / "scores.parquet", protocol.hash)
    for name, content in render(protocol, scores).items():
        write(options.root / name, content)
        say(f"{protocol.name}: wrote {options.root / name}")
    manifest = generate.read_manifest(options.root / protocol.name / "clips.jsonl")
    sheets = []
    for part in protocol.parts:
        labels = {case.id: _label(case) for case in part.cases}
        cases = list(labels.values())[: SHEET_PROMPTS if part.subset else SHEET_CASES]
        shown: dict[str, dict[str, Any]] = {variant.row: {} for variant in part.variants}
        for line in manifest:
            first = (line["replica"], line["seed"]) == (min(options.replicas), 0)
            if labels.get(line["case"]) in cases and first and line["key"]:
                shown[line["row"]][labels[line["case"]]] = store.clip(line["key"])
        shown = {row: clips for row, clips in shown.items() if clips}
        if shown:
            sheets.append(contact.contact_sheet(shown, cases, of=len(labels)))
    if sheets:
        write(options.root / protocol.name / "contact.png", contact.png(contact.below(sheets)))


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
    from flashbench.reporting import claims, tables

    protocols = [options.protocol(name) for name in names]
    ensure_assets(protocols, material=False)
    results, built = [], []
    for protocol in protocols:
        scores = scoring.read_scores(options.root / protocol.name / "scores.parquet", protocol.hash)
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
