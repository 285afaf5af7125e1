"""`flashbench show PROTOCOL/ROW[/METRIC]`: what is behind a row. Its values, its clips, and how to make one again."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flashbench import keys, stats
from flashbench.checks.remote import fetching
from flashbench.errors import UsageError, did_you_mean
from flashbench.metrics.base import Metric
from flashbench.progress import say
from flashbench.protocol.cases import of_part
from flashbench.protocol.types import Protocol, Variant
from flashbench.reporting import numbers
from flashbench.reporting.document import Block, Cell, Notes
from flashbench.run.files import read_manifest
from flashbench.run.options import Options, results_folder
from flashbench.scores.table import read_scores
from flashbench.store import Store
from flashbench.types import Case

if TYPE_CHECKING:
    import pandas as pd

_DIGITS = 12
"""Of a clip's digest."""
_AGAIN = "again"
"""Folder of results for the command that makes a clip again."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """A row of a protocol, and perhaps one of its metrics."""

    protocol: Protocol
    row: str
    metric: str
    """Empty for all."""

    @property
    def parts(self) -> list[tuple[Protocol, Variant]]:
        """The protocol on each of its sets of cases that has the row, with the row's variant."""
        pairs = [(part, variant) for part in self.protocol.parts for variant in part.variants]
        return [(part, variant) for part, variant in pairs if variant.row == self.row]


def parse(text: str, options: Options) -> Address:
    """The address that a text names: `protocol/row` or `protocol/row/metric`.

    Raises:
        UsageError: it has another form, or names something unknown.
    """
    name, slash, rest = text.partition("/")
    protocol = options.protocol(name)
    rows = list(dict.fromkeys(variant.row for part in protocol.parts for variant in part.variants))
    if not slash or not rest:
        raise UsageError(f"{text!r} names no row", fix=f"write protocol/row, e.g. {name}/{rows[0]}")
    row, metric = rest, ""
    if rest not in rows and "/" in rest:
        row, _, metric = rest.rpartition("/")
    if row not in rows:
        raise did_you_mean(f"row of {name}", row, rows)
    address = Address(protocol=protocol, row=row, metric=metric)
    known = {name for part, _ in address.parts for name in part.metric_names}
    if metric and metric not in known:
        raise did_you_mean(f"metric of {name}", metric, known)
    return address


def describe(text: str, options: Options, *, case: str = "") -> tuple[list[Block], list[str]]:
    """A protocol's row as a document (values with intervals, clips with their places), and commands to make it again.

    Args:
        text: protocol/row[/metric].
        options: the tier, folder and overrides of the results.
        case: only this case, with the command for it alone.

    Raises:
        UsageError: an unknown row, metric or case. InvalidError: the protocol has no scores, or of another form.
    """
    at = parse(text, options)
    path = results_folder(options) / at.protocol.name / "scores.parquet"
    scores = read_scores(path, at.protocol.hash)
    scores = scores[scores["row"] == at.row]
    cases = {entry.id: entry for part, _ in at.parts for entry in part.cases}
    if case and case not in cases:
        raise did_you_mean(f"case of {at.protocol.name}", case, cases)
    place, lines = path.with_name("clips.jsonl"), None
    if place.exists():
        manifest = read_manifest(place)
        lines = {_clip(line): line for line in manifest if line["row"] == at.row}
    else:
        how = fetching(f"flashbench run {at.protocol.name} --tier {options.tier} --phase train --phase generate")
        say(f"{place} is not here ({how}): which of the store's clips these are is not known")
    store, commands = Store(), list[str]()
    document = [Block("heading", f"{at.protocol.name}/{at.row}, {options.tier} tier")]
    for part, variant in at.parts:
        own = of_part(part, scores)
        if case and case not in {entry.id for entry in part.cases}:
            continue
        title = part.title if part.set_name or not part.table else f"{part.title}, {part.table} of the paper"
        document.append(Block("subheading", f"On {part.case_set}: {title}"))
        document.append(Block("text", _about(part, variant)))
        metrics = [metric for metric in part.metrics if at.metric in ("", metric.name)]
        document += _values(own, metrics)
        document += _clips(part, own[own["case"] == case] if case else own, at.metric, lines, store)
        selected = next((entry for entry in part.cases if entry.id == case), None)
        replicas = sorted({int(replica) for replica in own["replica"]})
        commands.append(command(at.protocol, part, variant, options, replicas=replicas, case=selected))
    what = f"The store is `{store.root}`. What it has is not made twice; this makes {'it' if case else 'them'} again:"
    return [*document, Block("text", what)], commands


def _about(part: Protocol, variant: Variant) -> str:
    settings = ", ".join(f"`{name}` {value}" for name, value in sorted(variant.settings.items()))
    height, width = variant.size or (part.geometry.height, part.geometry.width)
    evaluations = variant.system.evaluations(variant.settings)
    size = f"{part.geometry.frames} frames of {height}×{width}"
    return (
        f"System `{variant.system.name}`, {size}, network evaluations: {evaluations}. Settings: {settings or 'none'}."
    )


def _values(scores: pd.DataFrame, metrics: Sequence[Metric]) -> list[Block]:
    """A grid of the row's values, a line for each metric and replica."""
    notes, grid = Notes(), [list(map(Cell, ("metric", "replica", "value", "low", "high", "n/of")))]
    for metric in metrics:
        for replica in sorted({int(replica) for replica in scores["replica"]}):
            estimate = stats.estimate(scores, metric, scores["row"].iloc[0], replica=replica)
            places = numbers.places_between(estimate.low, estimate.high, estimate.value)
            bounds = (estimate.value, estimate.low, estimate.high)
            cells = [numbers.ABSENT if math.isnan(bound) else numbers.number(bound, places) for bound in bounds]
            cells[0] += notes.mark(estimate.reason)
            texts = (str(replica), *cells, f"{estimate.n}/{estimate.of}")
            grid.append([Cell(metric.name, code=True), *map(Cell, texts)])
    return [Block("grid", grid=grid), *([Block("notes", notes=notes.lines())] if notes.texts else [])]


def _clips(
    part: Protocol, scores: pd.DataFrame, metric: str, lines: Mapping[Any, Mapping[str, Any]] | None, store: Store
) -> list[Block]:
    """A grid of the row's clips: case, seed, replica, score, digest, and where they are."""
    shown = metric if metric in part.metric_names else part.primary[0]
    grid = [list(map(Cell, ("case", "seed", "replica", shown, "clip", "where")))]
    notes = Notes()
    own = scores[scores["metric"] == shown].sort_values(["case", "seed", "replica"], kind="stable")
    for score in own.to_dict("records"):
        grid.append(
            [
                Cell(score["case"], code=True),
                Cell(str(score["seed"])),
                Cell(str(score["replica"])),
                Cell(numbers.digits(score["value"]) + notes.mark(score["reason"])),
                Cell(score["clip"][:_DIGITS] or numbers.ABSENT, code=bool(score["clip"])),
                Cell(_place(score, lines, store)),
            ]
        )
    blocks = [Block("grid", grid=grid, columns="lrrrll")]
    return [*blocks, Block("notes", notes=notes.lines())] if notes.texts else blocks


def _clip(line: Mapping[str, Any]) -> tuple[str, int, int]:
    return str(line["case"]), int(line["seed"]), int(line["replica"])


def _place(score: Mapping[Any, Any], lines: Mapping[Any, Mapping[str, Any]] | None, store: Store) -> str:
    """Where a scored clip lies, from the store's root."""
    if not score["clip"]:
        return "not made"
    if lines is None or (line := lines.get(_clip(score))) is None:
        return "not known"
    if not store.has_clip(line["key"]):
        return "not in the store"
    return str(store.clip_path(line["key"]).relative_to(store.root))


def command(
    protocol: Protocol, part: Protocol, variant: Variant, options: Options, *, replicas: Sequence[int],
    case: Case | None = None,
) -> str:  # fmt: skip
    """The command that makes a row's clips again, or those of one case (with the sources or prompts before it).

    The protocol is cut down to the row by overrides, a further set becoming its own cases. They are in no clip's key,
    so the clips are the same ones.
    """
    block: dict[str, Any] = {"row": [variant.row], "system": variant.system.name, "with": dict(variant.settings)}
    if variant.size:
        block["size"] = "x".join(map(str, variant.size))
    cut = [f"rows={keys.canonical_json([block])}", f"baseline={variant.row}", "controls=[]", "claims=[]", "beside=null"]
    cut += ["sets=null", *(_promoted(part) if part.set_name else ())]
    words = ["flashbench", "run", protocol.name, "--tier", options.tier, "--phase", "train", "--phase", "generate"]
    words += ["--replicas", ",".join(map(str, replicas)), "--results", _AGAIN]
    if case is not None:
        before = list(dict.fromkeys(entry.cluster for entry in part.cases))
        words += ["--limit", str(before.index(case.cluster) + 1)]
    return shlex.join([*words, *(word for item in (*options.overrides, *cut) for word in ("-S", item))])


def _promoted(part: Protocol) -> Iterator[str]:
    """Overrides that make a further set's cases those of the protocol itself."""
    fields: dict[str, Any] = {"geometry": part.geometry, "cases": part.case_fields, "low": part.cases[0].low}
    fields |= {"metrics": part.metric_names, "primary": part.primary}
    if part.preview:
        made, size = part.preview.variant, part.preview.geometry
        fields["preview"] = {"system": made.system.name, "settings": made.settings}
        fields["preview"] |= {"height": size.height, "width": size.width}
    yield from (f"{name}={keys.canonical_json(value)}" for name, value in fields.items())
