"""`flashbench score`: anybody's videos through metrics, one after the other, as a table, a record and a report.

A video that cannot be read is rows with the reason, like a metric that cannot run; whatever was measured stays in the
store, so the same call after Ctrl-C, or with more videos or metrics, measures what is missing.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import flashbench
from flashbench import keys, stats
from flashbench.engine import LocalEngine, Report, Task
from flashbench.errors import UsageError, on_disk
from flashbench.metrics.base import Metric
from flashbench.metrics.device import on
from flashbench.metrics.vbench.measured import in_suite
from flashbench.progress import Progress
from flashbench.store import Store, write_whole
from flashbench.types import Measurement
from flashbench.videos import inputs, table
from flashbench.videos.inputs import Video
from flashbench.videos.measuring import BadReference, Measured, Opened, measure_file
from flashbench.videos.reading import Unreadable
from flashbench.videos.wanted import FRAME_QUALITY, Wanted, wanted

if TYPE_CHECKING:
    import pandas as pd

RECORD, SCHEMA = "run.json", 1
"""Name of a run's record, and the version of its form."""
_LIBRARIES = ("numpy", "scipy", "av", "pandas", "pyarrow", "torch", "torchvision", "timm", "pyiqa", "vbench")


@dataclass(kw_only=True)
class Run:
    """What scoring a set of videos gave."""

    label: str
    """The folder's name: `row` in the table."""
    wanted: Wanted
    videos: list[Video]
    table: pd.DataFrame
    """A row for each video and metric, in the order of `scoring.COLUMNS`."""
    about: list[dict[str, Any]]
    """For each video what its file is, or the reason why it cannot be read."""
    remarks: list[str] = field(default_factory=list)
    """What a user should know besides: prompts without a video and the like."""

    @property
    def unreadable(self) -> list[tuple[str, str]]:
        """(video, reason) of inputs that could not be read, or whose scoring failed."""
        return [(entry["case"], entry["reason"]) for entry in self.about if entry["reason"]]

    @cached_property
    def estimates(self) -> list[stats.Estimate]:
        """Each metric's mean over the videos with its interval, in the order of the metrics."""
        of = len(self.videos)
        return [stats.estimate(self.table, metric, self.label, of=of) for metric in self.wanted.metrics]

    @property
    def suite(self) -> str:
        """Where the prompts come from as far as it is known: `vbench`, `own`, `unknown`, or empty without prompts."""
        prompts = {video.prompt for video in self.videos if video.prompt}
        return {True: "vbench", False: "own", None: "unknown" if prompts else ""}[in_suite(prompts)]

    def record(self) -> dict[str, Any]:
        """Content of run.json: all that decided the numbers, and where each came from."""
        return {
            "schema": SCHEMA,
            "protocol": self.wanted.protocol,
            "protocol_hash": self.wanted.hash,
            "settings": self.wanted.settings,
            "metrics": self.wanted.about_metrics(),
            "numerics": keys.scoring_class(*self.wanted.libraries, device=self.wanted.device),
            "versions": {
                "flashbench": flashbench.__version__,
                "python": platform.python_version(),
                **keys.versions(*_LIBRARIES),
            },
            "command": ["flashbench", *sys.argv[1:]] if Path(sys.argv[0]).name.startswith("flashbench") else [],
            "row": self.label,
            "suite": self.suite,
            "remarks": self.remarks,
            "videos": self.about,
        }


def score(
    videos: str | Path | Sequence[str | Path],
    metrics: Iterable[str | Metric] | str | None = None,
    prompts: str | Path | Mapping[str, str] | None = None,
    *,
    reference: str | Path | None = None,
    frames: int | str = "all",
    size: str = "native",
    out: str | Path | None = None,
    store: str | Path | None = None,
    device: str = "cpu",
) -> pd.DataFrame:
    """Score videos; returns a row for each video and metric, columns as in scores.parquet.

    Args:
        videos: files, folders, globs, folders of png.
        metrics: names or `Metric`s; all of the protocol `adhoc/frame-quality` if not given.
        prompts: CSV or JSONL file with path, prompt, seed; VBench's JSON of file to prompt, or such a mapping;
            `vbench` reads them from names `{prompt}-{index}.mp4`.
        reference: folder with videos of the same names, for metrics of a pair.
        frames: `all`, or a number: the middles of as many equal parts of each video.
        size: `native`, or `HEIGHTxWIDTH` in pixels to which every frame is resized.
        out: folder for scores.parquet, scores.csv, scores.md and run.json; nothing is written if not given.
        store: folder of the store; `$FLASHBENCH_STORE` or `.flashbench/store` if not given.
        device: where trained networks run: `cpu`, `cuda` or `cuda:N`.

    A video that cannot be read, and a metric that cannot run, are rows with NaN and the reason.

    Raises:
        UsageError: something asked for is not there or not known.
        InvalidError: the store or `out` cannot be written.
    """
    done = run(
        videos, metrics, prompts, reference=reference, frames=frames, size=size, out=out, store=store, device=device
    )
    return done.table


def run(
    videos: str | Path | Sequence[str | Path],
    metrics: Iterable[str | Metric] | str | None = None,
    prompts: str | Path | Mapping[str, str] | None = None,
    *,
    reference: str | Path | None = None,
    frames: int | str = "all",
    size: str = "native",
    out: str | Path | None = None,
    store: str | Path | None = None,
    device: str = "cpu",
    workers: int = 1,
) -> Run:
    """`score` with all that it found out. `workers`: processes that score videos at the same time."""
    asked = wanted(metrics, frames=frames, size=size, device=device)
    label, found = inputs.find([videos] if isinstance(videos, str | Path) else videos)
    remarks: list[str] = []
    if prompts is not None:
        found, remarks = inputs.prompted(found, prompts)
    if reference is None and asked.protocol != FRAME_QUALITY and all(m.scope == "pair" for m in asked.metrics):
        what = f"{', '.join(metric.name for metric in asked.metrics)}: compared with a reference, and there is none"
        raise UsageError(what, fix="add --reference DIR, a folder with videos of the same names")
    beside = inputs.references(found, Path(reference)) if reference is not None else {}
    if reference is not None and (alone := [video.case for video in found if video.case not in beside]):
        remarks.append(f"{len(alone)} of {len(found)} videos have no reference, {alone[0]} among them")
    kept = Store(Path(store) if store is not None else None)
    if out is not None:
        _writable(Path(out), asked, label, found)
    if workers > 1:
        _ahead(found, beside, asked, kept, workers)
    with on(asked.device):
        rows, about = _measured(label, found, beside, asked, kept)
    remarks += _same(about)
    done = Run(label=label, wanted=asked, videos=found, table=table.frame(rows), about=about, remarks=remarks)
    if out is not None:
        write(done, Path(out))
    return done


def write(done: Run, out: Path) -> None:
    """Write scores.parquet, scores.csv, scores.md and run.json into the folder `out`, each whole or not at all.

    Raises:
        InvalidError: it cannot be written.
    """
    from flashbench.reporting.markup import markdown
    from flashbench.scoring import to_parquet
    from flashbench.videos.report import blocks, to_csv

    with on_disk(f"{out} cannot be written", fix="give a folder with room in it; the scores are in the store"):
        for name, content in {
            "scores.parquet": to_parquet(done.table, done.wanted.hash),
            "scores.csv": to_csv(done).encode(),
            "scores.md": markdown(blocks(done)).encode(),
            RECORD: (json.dumps(done.record(), indent=1, ensure_ascii=False) + "\n").encode(),
        }.items():
            write_whole(out / name, content, draft=out / f".{name}.part")


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
    if isinstance(before, dict) and (before.get("protocol_hash"), before.get("row")) != (asked.hash, label):
        what = f"--out {out} holds another run: {len(before.get('metrics', ()))} metrics on {before.get('row')}"
        raise UsageError(what, fix="give another folder, or remove that one")


def _measured(
    label: str, videos: Sequence[Video], beside: Mapping[str, Path], asked: Wanted, store: Store
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows, and what is known of each video."""
    opened: dict[str, Opened | Unreadable] = {}
    rows, about = list[dict[str, Any]](), list[dict[str, Any]]()
    with Progress() as progress:
        looking = progress.add("looking at videos", len(videos), "videos")
        for number, video in enumerate(videos, 1):
            opened[video.case] = _open(video.path, asked, store)
            looking.update(number, video.case)
        whole = [one for one in opened.values() if isinstance(one, Opened)]
        bar = progress.add("scoring", sum(one.total for one in whole), "frames")
        done = 0
        for video in videos:
            file, other = opened[video.case], beside.get(video.case)
            seen = 0

            def advance(video: Video = video, done: int = done) -> None:
                nonlocal seen
                seen += 1
                bar.update(min(done + seen, bar.total or 0), video.case)

            result, reason = _one(file, other, video, asked, store, advance)
            rows += _rows(label, video, asked, result, reason)
            about.append(_about(video, file, other, result, reason))
            done += file.total if isinstance(file, Opened) else 0
            bar.update(min(done, bar.total or 0), video.case)
    return rows, about


def _open(path: Path, asked: Wanted, store: Store) -> Opened | Unreadable:
    try:
        return Opened(path, asked, store)
    except Unreadable as error:
        return error


def _one(
    file: Opened | Unreadable, other: Path | None, video: Video, asked: Wanted, store: Store, advance: Any
) -> tuple[Measured | None, str]:
    """What one video gave, and what was wrong with its files (empty if nothing)."""
    if isinstance(file, Unreadable):
        return None, file.what
    paired, reason = None, ""
    if other is not None and any(metric.scope == "pair" for metric in asked.metrics):
        reference = _open(other, asked, store)
        paired = reference if isinstance(reference, Opened) else None
        reason = f"its reference {reference.what}" if isinstance(reference, Unreadable) else ""
    try:
        try:
            result = measure_file(file, paired, prompt=video.prompt, store=store, advance=advance)
        except BadReference as error:
            reason = f"its reference {error.what}"
            result = measure_file(file, None, prompt=video.prompt, store=store, advance=advance)
    except Unreadable as error:
        return None, error.what
    return result, reason or ("a metric failed" if result.failed else "")


def _rows(label: str, video: Video, asked: Wanted, result: Measured | None, reason: str) -> list[dict[str, Any]]:
    about: dict[str, Any] = {"protocol": asked.protocol, "row": label, "case": video.case, "cluster": video.cluster}
    about |= {"seed": video.seed, "replica": 0}
    if result is None:
        missing = [Measurement.missing(reason)] * len(asked.metrics)
        return table.lines({**about, "frames": 0, "clip": ""}, asked.metrics, missing, [""] * len(missing))
    found = list(result.found)
    if reason.startswith("its reference"):
        pair = [metric.scope == "pair" and metric.name not in asked.obstacles for metric in asked.metrics]
        found = [Measurement.missing(reason) if hit else one for hit, one in zip(pair, found, strict=True)]
    return table.lines({**about, "frames": result.shape[0], "clip": result.clip}, asked.metrics, found, result.keys)


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
        beside = {"file": _posix(other), "clip": result.reference} if other is not None and result.reference else None
        entry |= {
            "reference": beside,
            "clip": result.clip,
            "frames": frames,
            "height": height,
            "width": width,
            "fps": rate,
        }
    return entry


def _posix(path: Path) -> str:
    return path.as_posix().encode("utf-8", "backslashreplace").decode()


def _same(about: Sequence[Mapping[str, Any]]) -> list[str]:
    """A remark on videos that are one clip: they are no independent observations."""
    first: dict[str, str] = {}
    again = [
        (e["case"], first[e["clip"]])
        for e in about
        if e.get("clip") and first.setdefault(e["clip"], e["case"]) != e["case"]
    ]
    if not again:
        return []
    which = f"{again[0][0]} that of {again[0][1]}"
    return [f"{len(again)} of {len(about)} videos are the same clip as another ({which}): intervals are too narrow"]


def _ahead(videos: Sequence[Video], beside: Mapping[str, Path], asked: Wanted, store: Store, workers: int) -> None:
    """Score in several processes; what they could not is tried again, and told, by this one."""
    shared = {"metrics": [metric.name for metric in asked.metrics], "device": asked.device, **asked.settings}
    tasks = [
        Task(
            key=keys.key("videos", path=str(video.path.absolute()), prompt=video.prompt, **shared),
            label=video.case,
            function="flashbench.videos.score:work",
            arguments={**shared, "path": video.path, "reference": beside.get(video.case), "video": video},
        )
        for video in videos
    ]
    with LocalEngine(workers=workers, threads=_threads(asked)) as engine:
        engine.run(tasks, store=store, title="scoring", unit="videos")


def _threads(asked: Wanted) -> int:
    """As many as this process would use: the number is part of the keys of what torch computes."""
    if "torch" not in asked.libraries:
        return 1
    import torch

    return torch.get_num_threads()


def work(
    *, store: Store, key: str, report: Report, metrics: Sequence[str], frames: int | str, size: str, device: str,
    path: Path, reference: Path | None, video: Video,
) -> Mapping[str, Any]:  # fmt: skip
    """Task: score one video into the store; a video that cannot be read is left to the process that asked."""
    asked = wanted(metrics, frames=frames, size=size, device=device)
    with on(device):
        _one(_open(path, asked, store), reference, video, asked, store, lambda: None)
    return {}
