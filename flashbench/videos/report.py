"""What scoring videos gave, to read: each metric's mean with its interval, every video's value, what is missing."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from flashbench import stats
from flashbench.errors import on_disk
from flashbench.metrics.base import Metric
from flashbench.reporting import numbers
from flashbench.reporting.document import Block, Cell, Notes
from flashbench.store import write_whole
from flashbench.vbench.dimensions import of_part
from flashbench.videos import vbench
from flashbench.videos.result import RECORD, Run

MOST_VIDEOS = 40
"""Videos up to which the report lists each; scores.csv always does."""


def blocks(done: Run, *, every_video: bool = True) -> list[Block]:
    """The report on scored videos as a document; `every_video` asks for the grid of all, if they are not too many."""
    pairs = list(zip(done.wanted.metrics, done.estimates, strict=True))
    shown = [pair for pair in pairs if not math.isnan(pair[1].value)]
    notes = Notes()
    title = f"{numbers.counted(len(done.videos), 'video')} of {done.label}"
    document = [
        Block("heading", title),
        *([Block("grid", grid=_grid(done, shown, notes), columns="llrrrr")] if shown else []),
    ]
    document.append(Block("notes", notes=notes.lines()))
    if every_video and shown and 1 < len(done.videos) <= MOST_VIDEOS:
        grid = _videos(done, shown)
        document += [Block("subheading", "Each video"), Block("grid", grid=grid)]
    dimensions = any(":" in metric.name for metric in done.wanted.metrics)
    for prefix, run in vbench.of_scores(done.table).items() if dimensions else ():
        if len({row["metric"] for row in run.rows}) < len(of_part("quality")):
            continue  # no aggregate was asked for
        document += [Block("subheading", f"VBench's totals of `{prefix}`"), *vbench.totals(run)]
    if skipped := _skipped(done, [metric for metric, estimate in pairs if math.isnan(estimate.value)]):
        document += [Block("subheading", "Not measured"), Block("notes", notes=skipped)]
    if done.unreadable:
        lines = [f"{case}: {reason}" for case, reason in done.unreadable]
        document += [Block("subheading", "Not read, or not whole"), Block("notes", notes=lines)]
    document += [Block("text", remark) for remark in done.remarks]
    return [*document, Block("text", _footer(done))]


def to_json(done: Run) -> str:
    """`scores.reading.summary` of the run as a list of objects, one for each metric; null for what is missing."""
    from flashbench.scores.reading import summary

    plain = [
        {name: None if isinstance(x, float) and not math.isfinite(x) else x for name, x in line.items()}
        for line in summary(done.table, done.wanted.metrics).to_dict("records")
    ]
    return json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _grid(done: Run, shown: list[tuple[Metric, stats.Estimate]], notes: Notes) -> list[list[Cell]]:
    head = ["metric", "unit", "mean", "95 % interval", "lowest … highest", "n"]
    grid = [[Cell(text) for text in head]]
    for metric, estimate in shown:
        values = _values(done, metric)
        places = _places(estimate)
        interval = spread = numbers.ABSENT
        if not math.isnan(estimate.high):
            interval = f"{numbers.number(estimate.low, places)} … {numbers.number(estimate.high, places)}"
        if len(values) > 1:
            spread = f"{numbers.number(min(values), places)} … {numbers.number(max(values), places)}"
        grid.append(
            [
                Cell(numbers.named(metric.name, metric.direction)),
                Cell(metric.unit),
                Cell(
                    numbers.number(estimate.value, places)
                    + notes.mark(estimate.reason if estimate.n > 1 or estimate.n < estimate.of else "")
                ),
                Cell(interval),
                Cell(spread),
                Cell(f"{estimate.n}/{estimate.of}"),
            ]
        )
    return grid


def _videos(done: Run, shown: list[tuple[Metric, stats.Estimate]]) -> list[list[Cell]]:
    """Videos × metrics, for set metrics too: a video's own value, with the decimals of the mean."""
    places = {metric.name: _places(estimate) for metric, estimate in shown}
    by_video: dict[str, dict[str, float]] = {}
    for case, name, value in zip(done.table["case"], done.table["metric"], done.table["value"], strict=True):
        by_video.setdefault(case, {})[name] = value
    grid = [[Cell("video"), *map(Cell, places)]]
    for case, values in by_video.items():
        grid.append([Cell(case), *(Cell(numbers.number(values[name], places[name])) for name in places)])
    return grid


def _values(done: Run, metric: Metric) -> list[float]:
    values = done.table.loc[done.table["metric"] == metric.name, "value"].to_numpy(dtype=np.float64)
    return [float(value) for value in values[~np.isnan(values)]]


def _skipped(done: Run, metrics: list[Metric]) -> list[str]:
    """Metrics without any value, together where the reason is one."""
    reasons: dict[str, list[str]] = {}
    broken = {reason for _, reason in done.unreadable}
    for metric in metrics:
        texts = done.table.loc[done.table["metric"] == metric.name, "reason"]
        own = list(dict.fromkeys(reason for reason in texts if reason not in broken))
        if own:
            reasons.setdefault("; ".join(own), []).append(metric.name)
    return [f"{', '.join(names)}: {reason}" for reason, names in reasons.items()]


def _footer(done: Run) -> str:
    unit = "prompt" if any(video.prompt for video in done.videos) else "video"
    settings: dict[str, Any] = done.wanted.settings
    text = f"Protocol `{done.wanted.protocol}`, hash `{done.wanted.hash}` · frames {settings['frames']}, "
    text += f"size {settings['size']}, " + (f"{settings['fps']} frames a second, " if "fps" in settings else "")
    text = text.removesuffix(", ") + f" · intervals: Student's t over {unit}s"
    pairs = zip(done.wanted.metrics, done.estimates, strict=True)
    shown = [metric for metric, found in pairs if not math.isnan(found.value)]
    shares = ", ".join(metric.name for metric in shown if metric.binary)
    text += f"; {shares}: a share, Wilson's" if shares else ""
    found = dict(zip((metric.name for metric in done.wanted.metrics), done.estimates, strict=True))
    logs = ", ".join(x.name for x in shown if found[x.name].scale == "log" and not x.pooled)
    text += f"; {logs}: geometric mean, t on logarithms" if logs else ""
    pooled = ", ".join(metric.name for metric in shown if metric.pooled and not metric.binary)
    text += f"; {pooled}: of all videos together, jackknife over {unit}s." if pooled else "."
    if biased := ", ".join(metric.name for metric in shown if metric.finite_sample_bias):
        text += f" {biased}: moves with the number of videos; value and interval are for that many, and compare over"
        text += " the same ones only."
    if any(entry.get("clip") and entry["frames"] < entry["source"]["frames"] for entry in done.about):
        text += " Metrics over time compare the frames that were taken, which are not neighbours."
    return text


def _places(estimate: stats.Estimate) -> int:
    return numbers.places_between(estimate.low, estimate.high, estimate.value)


def write(done: Run, out: Path) -> None:
    """Write scores.parquet, scores.csv, scores.md and run.json into the folder `out`, each whole or not at all.

    Raises:
        InvalidError: it cannot be written.
    """
    from flashbench.reporting.document import markdown
    from flashbench.scores.runs import packed
    from flashbench.scores.table import to_csv, to_parquet

    with on_disk(f"{out} cannot be written", fix="give a folder with room in it; the scores are in the store"):
        for name, content in {
            "scores.parquet": to_parquet(done.table, done.wanted.hash, run=packed(done.record())),
            "scores.csv": to_csv(done.table).encode(),
            "scores.md": markdown(blocks(done)).encode(),
            RECORD: (json.dumps(done.record(), indent=1, ensure_ascii=False) + "\n").encode(),
        }.items():
            write_whole(out / name, content, draft=out / f".{name}.part")
