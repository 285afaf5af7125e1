"""`flashbench score`: anybody's videos through metrics, one after the other, as a table, a record and a report.

A video that cannot be read is rows with the reason, like a metric that cannot run; whatever was measured stays in the
store, so the same call after Ctrl-C, or with more videos or metrics, measures what is missing.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashbench import keys
from flashbench.decoding.container import Unreadable
from flashbench.engine import LocalEngine, Report, Task
from flashbench.errors import UsageError, did_you_mean, on_disk
from flashbench.metrics.base import Metric
from flashbench.metrics.device import CPU, on
from flashbench.progress import Progress, quiet
from flashbench.progress import Task as Bar
from flashbench.scores import facts, table
from flashbench.scores.measure import NO_REFERENCE, Scored, lasting
from flashbench.store import Store
from flashbench.types import Measurement
from flashbench.videos import find, remarks
from flashbench.videos.find import Video
from flashbench.videos.margins import Margins, margin_of
from flashbench.videos.measure import BadReference, Measured, Opened, measure_file
from flashbench.videos.report import write
from flashbench.videos.result import RECORD, Run
from flashbench.videos.settings import FRAME_QUALITY, Wanted, listed, wanted

if TYPE_CHECKING:
    import pandas as pd


def score(
    videos: str | Path | Sequence[str | Path],
    metrics: Iterable[str | Metric] | str | None = None,
    prompts: str | Path | Mapping[str, str] | None = None,
    *,
    reference: str | Path | None = None,
    frames: int | str = "all",
    size: str = "native",
    fps: int | float | str | Fraction | None = None,
    out: str | Path | None = None,
    store: str | Path | None = None,
    device: str = "cpu",
    fresh: bool = False,
    margin: Margins = None,
    primary: Iterable[str] | str = (),
    progress: bool = True,
) -> pd.DataFrame:
    """Score videos; returns a row for each video and metric, columns as in scores.parquet.

    Args:
        videos: files, folders, globs, folders of numbered pictures.
        metrics: names (`a,b`, or a list) or `Metric`s; all of the protocol `adhoc/frame-quality` if not given.
        prompts: CSV, JSON or JSONL file with path, prompt, seed; VBench's JSON of file to prompt, or such a mapping;
            `vbench` reads them from names `{prompt}-{index}.mp4`.
        reference: folder with videos of the same names, for metrics of a pair.
        frames: `all`, or a number: the middles of as many equal parts of each video.
        size: `native`, or `HEIGHTxWIDTH` in pixels to which every frame is resized.
        fps: frames a second: the pictures nearest in time to every 1/fps, of a reference too; all pictures if not
            given. Nothing is interpolated; metrics over time refuse a rate above a video's own.
        out: folder for scores.parquet, scores.csv, scores.md and run.json; nothing is written if not given.
        store: folder of the store; `$FLASHBENCH_STORE` or `.flashbench/store` if not given.
        device: where trained networks run: `cpu`, `cuda` or `cuda:N`.
        fresh: measure again what the store has scores of.
        margin, primary: kept with the scores for `flashbench gate`, whose baseline they may become, and used for
            nothing else: how much worse still counts as no worse, as in `flashbench.compare`, and names of metrics of
            which the gate must know something.
        progress: show on stderr how far it has come.

    A video that cannot be read, and a metric that cannot run, are rows with NaN and the reason. The table's `attrs`
    hold the content of run.json under that name, by which `flashbench.compare` knows what the files are.

    Raises:
        UsageError: something asked for is not there or not known.
        InvalidError: the store or `out` cannot be written.
    """
    with quiet(not progress):
        done = score_videos(
            videos, metrics, prompts, reference=reference, frames=frames, size=size, fps=fps, out=out, store=store,
            device=device, fresh=fresh, margin=margin, primary=primary,
        )  # fmt: skip
    done.table.attrs[RECORD] = done.record()
    return done.table


def score_videos(
    videos: str | Path | Sequence[str | Path],
    metrics: Iterable[str | Metric] | str | None = None,
    prompts: str | Path | Mapping[str, str] | None = None,
    *,
    reference: str | Path | None = None,
    frames: int | str = "all",
    size: str = "native",
    fps: int | float | str | Fraction | None = None,
    out: str | Path | None = None,
    store: str | Path | None = None,
    device: str = "cpu",
    workers: int = 1,
    fresh: bool = False,
    margin: Margins = None,
    primary: Iterable[str] | str = (),
) -> Run:
    """`score` with all that it found out. `workers`: processes that score videos at the same time."""
    asked = wanted(metrics, frames=frames, size=size, fps=fps, device=device, fresh=fresh)
    declared = _declared(asked, margin, primary)
    label, chosen, notes = find.find([videos] if isinstance(videos, str | Path) else videos)
    if prompts is not None:
        chosen, unmatched = find.prompted(chosen, prompts)
        notes += unmatched
    if reference is None and asked.protocol != FRAME_QUALITY and all(m.scope == "pair" for m in asked.metrics):
        what = f"{', '.join(metric.name for metric in asked.metrics)}: compared with a reference, and none is given"
        raise UsageError(what, fix="add --reference DIR, a folder with videos of the same names")
    beside = find.references(chosen, Path(reference)) if reference is not None else {}
    if reference is not None and (alone := [video.case for video in chosen if video.case not in beside]):
        notes.append(f"{len(alone)} of {len(chosen)} videos have no reference, {alone[0]} among them")
    kept = Store(Path(store) if store is not None else None)
    if out is not None:
        _writable(Path(out), asked, label, chosen)
    done_by_others = _ahead(chosen, beside, asked, kept, workers) if workers > 1 else frozenset()
    with nullcontext() if asked.device == CPU else on(asked.device):
        unpaired = NO_REFERENCE if reference is None else f"no video of its name in {_posix(Path(reference))}"
        rows, about = _measured(label, chosen, beside, asked, kept, done_by_others, unpaired)
    notes += _told(about, asked)
    done = Run(
        label=label, wanted=asked, videos=chosen, table=table.table(rows), about=about, remarks=notes, declared=declared
    )
    if out is not None:
        write(done, Path(out))
    return done


def _declared(asked: Wanted, margin: Margins, primary: Iterable[str] | str) -> dict[str, Any]:
    """Margins by metric and primary metrics, for a gate whose baseline the scores become.

    Raises:
        UsageError: of a metric that is not measured, or that has no better or worse; or no number above 0.
    """
    known = {metric.name: metric for metric in asked.metrics}
    named = [x if isinstance(x, str) else x.name for x in listed(primary)] if primary else []
    for name in named:
        if name not in known:
            raise did_you_mean("primary metric", name, known)
    margins = {name: margin_of(margin, metric, asked.metrics) for name, metric in known.items()}
    return {"margins": {name: x for name, x in margins.items() if not math.isnan(x)}, "primary": named}


def _writable(out: Path, asked: Wanted, label: str, videos: Sequence[Video]) -> None:
    """Fail before hours of work, not after; and write over no other run, and into no folder of videos.

    Raises:
        UsageError: the folder holds the videos, or a run of other metrics, settings or videos.
        InvalidError: it cannot be written.
    """
    here = os.path.realpath(out)
    if any(here in (os.path.realpath(video.path.parent), os.path.realpath(video.path)) for video in videos):
        raise UsageError(f"--out {out} holds the videos themselves", fix="give a folder of its own")
    with on_disk(f"{out} cannot be written", fix="give another folder in --out"):
        out.mkdir(parents=True, exist_ok=True)
        (probe := out / ".flashbench").write_bytes(b"")
        probe.unlink()
        before = json.loads((out / RECORD).read_bytes()) if (out / RECORD).is_file() else None
    row = find.composed(str(before.get("row"))) if isinstance(before, dict) else label
    if isinstance(before, dict) and (before.get("protocol_hash"), row) != (asked.hash, label):
        what = f"--out {out} holds another run: {len(before.get('metrics', ()))} metrics on {before.get('row')}"
        raise UsageError(what, fix="give another folder, or remove that one")


def _measured(
    label: str,
    videos: Sequence[Video],
    beside: Mapping[str, Path],
    asked: Wanted,
    store: Store,
    done_by_others: frozenset[str],
    unpaired: str,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows, and what is known of each video; of those `done_by_others` everything is in the store, fresh or not."""
    opened: dict[str, Opened | Unreadable] = {}
    rows, about = list[dict[str, Any]](), list[dict[str, Any]]()
    with Progress() as progress:
        looking = progress.add("looking at videos", len(videos), "videos")
        for number, video in enumerate(videos, 1):
            mine = replace(asked, fresh=False) if video.case in done_by_others else asked
            opened[video.case] = _open(video.path, mine, store, video.case)
            looking.update(number, video.case)
        whole = [file for file in opened.values() if isinstance(file, Opened)]
        bar = progress.add("scoring", sum(file.length for file in whole), "frames")
        done = 0
        for video in videos:
            file, other = opened[video.case], beside.get(video.case)
            result, reason = _one(file, other, video, asked, store, bar, unpaired)
            rows += _rows(label, video, asked, result, reason)
            about.append(_about(video, file, other, result, reason))
            done += file.length if isinstance(file, Opened) else 0
            bar.update(min(done, bar.total or 0), video.case)
    return rows, about


def _open(path: Path, asked: Wanted, store: Store, label: str = "") -> Opened | Unreadable:
    try:
        return Opened(path, asked, store, label)
    except Unreadable as error:
        return error


def _one(
    file: Opened | Unreadable,
    other: Path | None,
    video: Video,
    asked: Wanted,
    store: Store,
    bar: Bar | None = None,
    unpaired: str = NO_REFERENCE,
) -> tuple[Measured | None, str]:
    """What one video gave, and what was wrong with its files (empty if nothing). `unpaired`: why `other` is None."""
    if isinstance(file, Unreadable):
        return None, file.what
    paired, reason = None, ""
    if other is not None and any(metric.scope == "pair" for metric in asked.metrics):
        reference = _open(other, asked, store)
        paired = reference if isinstance(reference, Opened) else None
        reason = f"its reference {reference.what}" if isinstance(reference, Unreadable) else ""
    measure = partial(measure_file, prompt=video.prompt, store=store, bar=bar)
    try:
        try:
            result = measure(file, paired, unpaired=reason or unpaired)
        except BadReference as error:
            reason = f"its reference {error.what}"
            result = measure(file, None, unpaired=reason)
    except Unreadable as error:
        return None, error.what
    return result, reason or ("a metric failed" if result.failed else "")


def _rows(label: str, video: Video, asked: Wanted, result: Measured | None, reason: str) -> list[dict[str, Any]]:
    about: dict[str, Any] = {"protocol": asked.protocol, "row": label, "case": video.case, "cluster": video.cluster}
    about |= {"prompt": video.prompt, "seed": video.seed, "replica": 0}
    if result is None:
        missing = Measurement.missing(reason)
        nothing = [Scored(metric=metric, measurement=missing) for metric in asked.metrics]
        return table.lines({**about, "frames": 0, "clip": ""}, nothing)
    return table.lines({**about, "frames": result.shape[0], "clip": result.digests.clip}, result.answers)


def _about(
    video: Video, file: Opened | Unreadable, other: Path | None, result: Measured | None, reason: str
) -> dict[str, Any]:
    """An entry of run.json's videos."""
    entry: dict[str, Any] = {
        "case": video.case,
        "file": _posix(video.path),
    }
    entry |= {"prompt": video.prompt, "seed": video.seed, "reason": reason}
    if isinstance(file, Opened):
        entry |= {"sha256": file.sha256, "source": file.source.to_json()}
    if result is not None:
        frames, height, width = result.shape
        rate = f"{result.fps.numerator}/{result.fps.denominator}"
        beside = other and {"file": _posix(other), "clip": result.digests.reference, **(result.reference or {})}
        entry |= {
            "reference": beside if result.digests.reference else None,
            "clip": result.digests.clip,
            "frames": frames,
            "height": height,
            "width": width,
            "fps": rate,
            "repeats": dict(result.repeats),
        }
    return entry


def _posix(path: Path) -> str:
    return path.as_posix().encode("utf-8", "backslashreplace").decode()


def _told(about: Sequence[Mapping[str, Any]], asked: Wanted) -> list[str]:
    """Remarks on what the files are, on pairs whose files differ, and on videos that are one clip."""
    known = facts.entries_of(about)
    sources = remarks.sources_of(about)
    pairs = [(case, entry, entry["reference"]) for case, entry in known.items() if entry.get("reference")]
    return [
        *remarks.of_videos(sources, resampled=asked.fps is not None),
        *(found.line("its reference") for found in facts.between(pairs)),
        *_same(about),
        *([] if any(entry["prompt"] for entry in about) else remarks.of_names([entry["case"] for entry in about])),
    ]


def _same(about: Sequence[Mapping[str, Any]]) -> list[str]:
    """A remark on videos that are one clip: they are no independent observations, and count as one cluster."""
    first: dict[str, str] = {}
    again = [
        (e["case"], first[e["clip"]])
        for e in about
        if e.get("clip") and first.setdefault(e["clip"], e["case"]) != e["case"]
    ]
    if not again:
        return []
    which = f"{again[0][0]} that of {again[0][1]}"
    return [f"{len(again)} of {len(about)} videos are the same clip as another ({which}): equal clips are one cluster"]


def _ahead(
    videos: Sequence[Video], beside: Mapping[str, Path], asked: Wanted, store: Store, workers: int
) -> frozenset[str]:
    """Score in several processes; returns the cases that they did whole. This one tries the others again, and tells."""
    tasks = {
        video.case: Task(
            key=keys.key("videos", path=str(video.path.absolute()), prompt=video.prompt, protocol=asked.hash),
            label=video.case,
            function="flashbench.videos.score:work",
            arguments={"asked": asked, "reference": beside.get(video.case), "video": video},
        )
        for video in videos
    }
    with LocalEngine(workers=workers, threads=_threads(asked)) as engine:
        done = engine.run(list(tasks.values()), store=store, title="scoring", unit="videos")
    return frozenset(case for case, task in tasks.items() if done[task.key]["whole"])


def _threads(asked: Wanted) -> int:
    """As many as this process would use: the number is part of the keys of what torch computes."""
    if "torch" not in asked.libraries:
        return 1
    import torch

    return torch.get_num_threads()


def work(
    *, store: Store, key: str, report: Report, asked: Wanted, reference: Path | None, video: Video
) -> Mapping[str, Any]:
    """Task: score one video into the store; a video that cannot be read is left to the process that asked."""
    with on(asked.device):
        result, reason = _one(_open(video.path, asked, store), reference, video, asked, store)
    return {"whole": result is not None and not reason and all(map(lasting, result.answers))}
