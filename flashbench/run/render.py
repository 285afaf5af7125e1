"""The phase `tables`: everything that follows from scores alone, and the contact sheets."""

from __future__ import annotations

import importlib.util
import json
from typing import TYPE_CHECKING, Any

from flashbench.progress import say
from flashbench.protocol.types import Protocol
from flashbench.run.files import read_manifest, write
from flashbench.run.options import Options
from flashbench.scores.table import read_scores
from flashbench.store import Store
from flashbench.types import Case

if TYPE_CHECKING:
    import pandas as pd

SHEET_CASES, SHEET_PROMPTS = 4, 12
"""Cases on a contact sheet; more where they are prompts, whose clips are small and have no reference beside them."""


def render(protocol: Protocol, scores: pd.DataFrame) -> dict[str, bytes]:
    """Everything that follows from scores alone: path under the tier's results → content."""
    from flashbench.reporting import claims, tables
    from flashbench.reporting.figures import figure, forest, style
    from flashbench.reporting.summary import headline

    table, comparisons = tables.build(protocol, scores), tables.comparisons(protocol, scores)
    judged = claims.evaluate(protocol, scores)
    text = json.dumps(judged, sort_keys=True, indent=1, allow_nan=False)
    drawn = {}
    if importlib.util.find_spec("matplotlib"):  # of the extra `repro`: without it, everything but figures
        own = table[table["cases"] == protocol.case_set]
        for kind in style.KINDS:
            drawn[f"figures/{protocol.name}.{kind}"] = figure.draw(protocol, own, kind)
            drawn[f"figures/{protocol.name}-claims.{kind}"] = forest.draw(protocol, judged, kind)
    return drawn | {
        f"tables/{protocol.name}.csv": tables.to_csv(table).encode(),
        f"tables/{protocol.name}.md": tables.to_markdown(protocol, table, comparisons).encode(),
        f"tables/{protocol.name}.tex": tables.to_latex(protocol, table, comparisons).encode(),
        f"{protocol.name}/claims.json": f"{text}\n".encode(),
        f"{protocol.name}/metrics.json": headline(protocol, table, judged).encode(),
    }


def _label(case: Case) -> str:
    """What a contact sheet calls a case: its prompt, or its material; a scene's clip is both."""
    if case.prompt is None or case.kind in ("material", "synthetic"):
        return case.id
    return case.prompt.original if case.source is None else f"{case.id}: {case.prompt.original}"


def write_tables(protocol: Protocol, store: Store, options: Options) -> None:
    """The phase `tables`: write what `render` makes of a protocol's scores, and the contact sheets of its clips.

    The sheets are one picture: that of the protocol's own cases, then of each further set, under their titles. A clone
    that has made no clips gets everything else, from the scores that are in git.
    """
    from flashbench.reporting import contact

    scores = read_scores(options.root / protocol.name / "scores.parquet", protocol.hash)
    for name, content in render(protocol, scores).items():
        write(options.root / name, content)
        say(f"{protocol.name}: wrote {options.root / name}")
    place = options.root / protocol.name / "clips.jsonl"
    if not place.exists():
        return say(f"{protocol.name}: no contact sheet: {place} is not here; the phase generate makes it")
    manifest = read_manifest(place)
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
            sheets.append(contact.contact_sheet(shown, cases, of=len(labels), title=part.title))
    if sheets:
        write(options.root / protocol.name / "contact.png", contact.png(contact.below(sheets)))
