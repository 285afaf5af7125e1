"""`flashbench vbench`: other people's VBench results as scores, ours as VBench's files, videos under VBench's names."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashbench import keys, stats
from flashbench.errors import InvalidError, UsageError, on_disk
from flashbench.reporting import numbers
from flashbench.reporting.document import Block, Cell, Notes
from flashbench.scores import table
from flashbench.scores.table import read_scores, to_parquet
from flashbench.store import write_whole
from flashbench.vbench import imported, naming, results
from flashbench.vbench.dimensions import DIMENSIONS
from flashbench.vbench.long import PREFIXES
from flashbench.videos import find

if TYPE_CHECKING:
    import pandas as pd

PROTOCOL = "vbench/imported"
RESULTS = "vbench"
"""Folder of a run that keeps the imported files as they were."""


def read(source: Path) -> list[results.ResultFile]:
    """VBench's result files of a folder, a file, a ZIP, or a run that imported or scored them.

    Raises:
        InvalidError: there are none, or a file is none.
    """
    if (source / RESULTS).is_dir():
        return results.read(source / RESULTS)
    if (source / "scores.parquet").is_file():
        return as_files(read_scores(source / "scores.parquet"))
    return results.read(source)


def bring(source: Path, out: Path | None = None) -> list[Block]:
    """Read VBench's results and report Quality, Semantic, Total and dimensions with intervals.

    With `out`, scores.parquet (metrics `vbench:DIM`, for `flashbench compare`) and the files themselves go there.

    Raises:
        InvalidError: nothing to read, a file that is none, or a folder that cannot be written.
    """
    files = read(source)
    run = _scored(source) or imported.imported(files)
    if out is not None:
        with on_disk(f"{out} cannot be written", fix="give another folder in --out"):
            for file in files:
                write_whole(out / RESULTS / file.name, results.text(file).encode(), draft=out / f".{RESULTS}.part")
            key = keys.key("vbench", files={file.name: results.text(file) for file in files})
            content = to_parquet(_table(run, out.name), key)
            write_whole(out / "scores.parquet", content, draft=out / ".scores.part")
    prompts = len({row["cluster"] for row in run.rows})
    title = f"VBench's results in {source.name}: {len(files)} files, {prompts} prompts"
    findings = [Block("subheading", "Findings"), Block("notes", notes=run.findings)] if run.findings else []
    return [Block("heading", title), *totals(run), *findings]


def totals(run: imported.Imported) -> list[Block]:
    """A grid of Total, Quality, Semantic and the dimensions, in percent."""
    notes = Notes()
    grid = [[Cell(text) for text in ("", "videos' mean", "95 % interval", "VBench's overall", "values", "prompts")]]
    for total in imported.totals(run, stats.pooled):
        name = total.metric.removeprefix(imported.PREFIX)
        if name in DIMENSIONS and not total.of and math.isnan(total.official):
            continue  # the aggregates that need it say so
        interval = numbers.ABSENT
        if not math.isnan(total.low):
            interval = f"{numbers.percent(total.low)} … {numbers.percent(total.high)}"
        value, official = numbers.percent(total.value), numbers.percent(total.official)
        cells = [value + notes.mark(total.reason), interval, official, f"{total.n}/{total.of}"]
        grid.append([Cell(name.replace("_", " ")), *map(Cell, cells), Cell(str(total.clusters))])
    about = "Percent. Intervals: jackknife over prompts; of dynamic degree and human action, which are shares, "
    about += "Wilson's. A missing dimension leaves what needs it without a value; VBench's script counts it as 0."
    return [Block("grid", grid=grid), Block("notes", notes=notes.lines()), Block("text", about)]


def of_scores(scores: pd.DataFrame) -> dict[str, imported.Imported]:
    """Prefix (`vbench`, `vbench_long` …) → the run of VBench's dimensions of which a table of scores has values."""
    lines: dict[str, list[dict[str, Any]]] = {}
    for row in scores[["case", "cluster", "seed", "metric", "value", "reason", "per_frame"]].to_dict("records"):
        prefix, colon, name = str(row["metric"]).partition(":")
        if colon and prefix in PREFIXES:
            # VBench-Long's own overall is a mean over clips, of which `per_frame` holds a video's.
            parts = list(row.pop("per_frame")) if PREFIXES[prefix] == "official" else []
            values = parts if len(parts) > 1 else [row["value"]]
            lines.setdefault(prefix, []).extend({**row, "metric": imported.PREFIX + name, "value": x} for x in values)  # type: ignore[dict-item]
    return {
        prefix: imported.Imported(rows=tuple(rows), overalls={}, findings=())
        for prefix, rows in lines.items()
        if any(not math.isnan(row["value"]) for row in rows)
    }


def as_files(scores: pd.DataFrame) -> list[results.ResultFile]:
    """Our scores of `vbench:DIM` as a VBench result file: each dimension's mean over videos, and every video's value.

    Raises:
        InvalidError: there are none.
    """
    run = of_scores(scores).get("vbench")
    if run is None:
        raise InvalidError(
            "these scores hold no value of vbench:DIM", fix="flashbench score VIDEOS -m vbench --out RUN"
        )
    content: dict[str, list[Any]] = {}
    for name in DIMENSIONS:
        rows = [row for row in run.rows if row["metric"] == imported.PREFIX + name and not math.isnan(row["value"])]
        if rows:
            overall = math.fsum(row["value"] for row in rows) / len(rows)
            places = _places((row["cluster"], row["seed"], row["case"]) for row in run.rows)
            listed = [{"video_path": _path(row, places), "video_results": row["value"]} for row in rows]
            content[name] = [overall, listed]
    return [results.ResultFile(f"flashbench{results.ENDING}", content)]


def send(source: Path, out: Path) -> tuple[Path, list[str]]:
    """Write the leaderboard's ZIP from results or a run; (its path, what it lacks).

    A video of a run goes by VBench's name of its prompt and seed, or without a prompt by its own.

    Raises:
        InvalidError: nothing to read, or the ZIP cannot be written.
    """
    files = read(source)
    path, run = results.export(files, out), _scored(source)
    alone = {row["case"] for row in run.rows if row["cluster"] == row["case"]} if run else set()
    note = [f"{len(alone)} videos have no prompt ({min(alone)} among them) and go by their own names"] if alone else []
    return path, [*note, *results.overalls(files)[1]]


def name(
    videos: Sequence[str], prompts: str | Mapping[str, str], folder: Path, *, long: bool = False
) -> list[naming.Named]:
    """Put videos into `folder` under VBench's names of their prompts, with a manifest; see `runs.name_videos`.

    Raises:
        UsageError: a video has no prompt.
    """
    prompted, _ = find.prompted(find.find(list(videos)).videos, prompts)
    if alone := [video.case for video in prompted if video.prompt is None]:
        raise UsageError(f"{len(alone)} videos have no prompt, {alone[0]} among them", fix="add them to the prompts")
    limit = naming.NAME_MAX - (naming.LONG_ROOM if long else 0)
    places = _places((v.prompt or "", v.seed, v.case) for v in prompted)
    samples = [(v.path, v.prompt or "", places[v.case]) for v in prompted]
    return imported.name_videos(samples, folder, limit=limit)


def _scored(source: Path) -> imported.Imported | None:
    """The run of VBench's dimensions that a folder of `flashbench score --out` holds, with its prompts."""
    if (source / RESULTS).is_dir() or not (source / "scores.parquet").is_file():
        return None
    return of_scores(read_scores(source / "scores.parquet")).get("vbench")


def _places(samples: Iterable[tuple[str, int, str]]) -> dict[str, int]:
    """Case → which sample of its prompt it is, from (prompt, seed, case): VBench looks for 0, 1, 2 …"""
    counts: Counter[str] = Counter()
    places = {}
    for prompt, _, case in sorted(set(samples)):
        places[case] = counts[prompt]
        counts[prompt] += 1
    return places


def _path(row: Mapping[str, Any], places: Mapping[str, int]) -> str:
    """The name that VBench's file gives a video."""
    prompted = row["cluster"] != row["case"]
    return naming.file_name(row["cluster"], places[row["case"]]) if prompted else str(row["case"])


def _table(run: imported.Imported, label: str) -> pd.DataFrame:
    shared: dict[str, Any] = {"protocol": PROTOCOL, "row": label, "replica": 0, "per_frame": [], "frames": 0}
    shared |= {"clip": "", "key": "", "statistics": []}
    return table.table({**shared, **row} for row in run.rows)
