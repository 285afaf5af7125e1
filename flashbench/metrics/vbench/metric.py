"""VBench's dimensions as metrics, by VBench itself in its own environment (`environment`), one clip at a time.

| name | what VBench is asked about |
|---|---|
| `vbench:DIM` | the whole clip, VBench's standard run, on exactly the frames that are scored |
| `vbench_long:DIM` | VBench-Long's clips, cut as its paper describes (`corrected`), frames as they are |
| `vbench_long_official:DIM` | the same as its code does it (`official`): encoded again, in the lengths of the mix |

A video's value is the mean over its clips; over videos, `vbench_long_official` is the mean over clips, so a long video
counts for more, and the others are means over videos. subject_consistency and background_consistency of VBench-Long
are fused with its fast score, as with `--dev_flag`. A clip of which one part has no value has none.

Weights are VBench's own business: it fetches them when it first needs them (`VBENCH_CACHE_DIR`, else ~/.cache/vbench).
"""

from __future__ import annotations

import atexit
import json
import math
import os
import sys
import tempfile
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from flashbench.assets import registry
from flashbench.errors import FlashBenchError, UsageError, did_you_mean
from flashbench.metrics.base import About, Metric, SetMetric, Stream
from flashbench.metrics.registry import family
from flashbench.metrics.vbench import environment, recording, worker
from flashbench.metrics.vbench.recording import Recorded
from flashbench.types import Floats, Measurement, Scalar
from flashbench.vbench import dimensions, long, slow_fast
from flashbench.vbench.long import PREFIXES, How

DEVICES = ("cpu", "cuda")
STAND_IN = "vbench-stand-in"
SUITE = "vbench-full-info"
"""The asset with VBench's prompts and their labels."""
TIMEOUT, START_TIMEOUT = 7200.0, 600.0
"""Seconds for an answer, for which weights of up to 4.5 GB may have to come first; seconds until VBench is imported."""
FAST = "fast:"
OVER_TIME = frozenset(
    {
        "subject_consistency",
        "background_consistency",
        "temporal_flickering",
        "motion_smoothness",
        "dynamic_degree",
    }
)
"""Dimensions that compare neighbouring frames; the others look at single frames, or at parts of the clip's length."""
_ABSENT = "VBench's environment is not here: flashbench assets pull vbench"
_NO_SUITE = f"VBench's prompts are not here: flashbench assets pull {SUITE}"


@dataclass(frozen=True, kw_only=True)
class Recorder(Metric):
    """Keeps a clip's frames in a file, once for all of VBench's dimensions; has no value of its own."""

    device: str

    def stream(self, about: About) -> Stream:
        """A `Recorded`: without a file where VBench's environment is not here or the file cannot be written."""
        if program(self.device) is None:
            return Recorded(value=math.nan, reason=_ABSENT, about=about)
        return (yield from recording.record(about))


@dataclass(frozen=True, kw_only=True)
class ThroughVBench(Metric):
    """One dimension of VBench, of the whole clip or of VBench-Long's clips."""

    dimension: str
    how: How
    device: str

    @property
    def reads_prompt(self) -> bool:
        """Whether the value depends on the prompt: the dimension reads it, or it decides how long the clips are."""
        dimension = dimensions.dimension(self.dimension)
        return dimension.reads != "video" or self.how == "official"

    @property
    def over_time(self) -> bool:
        """Whether the value depends on the rate or on neighbours in time: of some dimensions (`OVER_TIME`)."""
        return self.dimension in OVER_TIME

    @property
    def binary(self) -> bool:
        """Whether VBench answers yes or no, so that a row's value is a share: of dynamic_degree and human_action."""
        return dimensions.dimension(self.dimension).binary

    @property
    def fallible(self) -> bool:
        """Whether a missing value may be the machine's fault: always; weights are not fetched, a worker is killed."""
        return True

    @property
    def unavailable(self) -> str:
        """Why this machine cannot run the metric: VBench's environment, or the asset with its labels, is not here."""
        return super().unavailable or ("" if program(self.device) else _ABSENT)

    @property
    def source(self) -> Metric:
        """The metric that records the clip in a file, which all dimensions share."""
        return _recorder(self.device)

    def stream(self, about: About) -> Stream:
        """VBench's value of the clip: `derive` from the file that the recorder leaves."""
        return self.derive((yield from self.source.stream(about)))

    def derive(self, measurement: Measurement) -> Measurement:
        """VBench's value of the recorded clip.

        NaN: no environment; a prompt or labels that the dimension needs and the clip lacks; whatever VBench fails at,
        weights that it cannot fetch among it.
        """
        if not isinstance(measurement, Recorded):
            return measurement  # the pass over the frames failed
        try:
            entries = _entries(measurement.about.prompt)
            if entries is None and not self._indifferent:
                return Measurement.missing(_NO_SUITE)
            request = self._asked(measurement.about.prompt or "", entries or ())
            if isinstance(request, str):
                return Measurement.missing(request)
            if measurement.file is None:
                return Measurement.missing(measurement.reason)
            return self._answers(measurement, request, self._pieces(measurement, entries or ()))
        except FlashBenchError as error:
            return Measurement.missing(error.what)

    @property
    def _indifferent(self) -> bool:
        """Whether nothing depends on which of VBench's prompts it is."""
        dimension = dimensions.dimension(self.dimension)
        lengths = self.how == "whole" or (self.how == "corrected" and dimension.clip_seconds == long.CUSTOM_SECONDS)
        return dimension.reads != "labels" and lengths

    def _asked(self, prompt: str, entries: Sequence[Mapping[str, Any]]) -> worker.Request | str:
        """What to ask of a file whose name is still open, or why there is nothing to ask."""
        mine = (entry.get("auxiliary_info", {}) for entry in entries if self.dimension in entry["dimension"])
        labels: Mapping[str, Any] = next((info for info in mine if self.dimension in info), {})
        lacks = dimensions.undefined_without(self.dimension, prompt=bool(prompt), labels=bool(labels))
        return lacks or worker.Request(video="", dimension=self.dimension, prompt=prompt, labels=labels)

    def _pieces(self, recorded: Recorded, entries: Sequence[Mapping[str, Any]]) -> tuple[long.Piece, ...]:
        if self.how == "whole":
            return (long.Piece(long.FULL, 0, recorded.frames),)
        served = {name for entry in entries for name in entry["dimension"]}
        seconds = long.seconds(self.how, self.dimension, served, custom=not entries)
        return long.split(self.how, recorded.frames, recorded.about.fps, seconds)

    def _answers(self, recorded: Recorded, request: worker.Request, pieces: Sequence[long.Piece]) -> Measurement:
        """VBench's values of the pieces as one; its `per_frame` lists those of several pieces."""
        mode: long.Mode = "corrected" if self.how == "whole" else self.how
        if (device := (self.device, self.dimension)) in _HOPELESS:
            return Measurement.missing(_HOPELESS[device])
        vbench = _worker(self.device)
        with recording.cut(recorded, pieces, mode) as files:
            parts = [vbench.ask(_of(request, file)) for file in files]
            fast = slow_fast.EXTRACTORS[True]
            if len(files) > 1 and self.dimension in fast and not any(math.isnan(part.value) for part in parts):
                with tempfile.TemporaryDirectory(prefix="flashbench-vbench-") as folder:
                    joined = recording.first_frames(files, Path(folder) / "first.mp4", mode, recorded.about.fps)
                    parts = self._fused(parts, vbench.ask(_of(request, joined, FAST)))
        failed = [part.reason for part in parts if math.isnan(part.value)]
        if failed:
            if hopeless := next((why for why in failed if _UNFETCHED in why or _UNANSWERED in why), ""):
                _HOPELESS[device] = hopeless
            several = f"{len(failed)} of {len(parts)} clips: " if len(parts) > 1 else ""
            return Measurement.missing(several + "; ".join(dict.fromkeys(failed)))
        values = tuple(part.value for part in parts)
        whole = long.overall(mode, [("", value) for value in values])
        return self._measured(whole.value, values if len(values) > 1 else ())

    def _fused(self, slow: Sequence[Measurement], fast: Measurement) -> list[Measurement]:
        """Every clip's score with the consistency between their first frames; NaN where that has none."""
        if math.isnan(fast.value):
            return [fast for _ in slow]
        return [Measurement(value=slow_fast.fuse(self.dimension, part.value, fast.value)) for part in slow]

    def _measured(self, value: float, parts: tuple[float, ...]) -> Measurement:
        return Measurement(value=value, per_frame=parts)


@dataclass(frozen=True, kw_only=True)
class OfficialLong(ThroughVBench, SetMetric):
    """VBench-Long as its code does it: over videos a mean over clips, whose sum and number are the statistics."""

    finite_sample_bias: ClassVar[bool] = False

    def finalize(self, statistics: Floats) -> float:
        """Mean over VBench-Long's clips, from summed statistics [sum, number]."""
        return float(statistics[0] / statistics[1]) if statistics[1] else math.nan

    def _measured(self, value: float, parts: tuple[float, ...]) -> Measurement:
        clips = max(len(parts), 1)
        total = math.fsum(parts) if parts else value
        return Measurement(value=value, per_frame=parts, statistics=(total, float(clips)))


def names() -> tuple[str, ...]:
    """All names that `through_vbench` knows."""
    return tuple(f"{prefix}:{name}" for prefix in PREFIXES for name in dimensions.DIMENSIONS)


def through_vbench(name: str) -> Metric:
    """The metric called `vbench:DIM`, `vbench_long:DIM` or `vbench_long_official:DIM`.

    It runs on the CPU, or on the device that `FLASHBENCH_VBENCH_DEVICE` names (cpu, cuda).

    Raises:
        UsageError: there is no such name or device.
    """
    prefix, _, dimension = name.partition(":")
    if prefix not in PREFIXES or dimension not in dimensions.DIMENSIONS:
        near = [candidate for candidate in names() if candidate.startswith(f"{prefix}:")]
        raise did_you_mean("metric of VBench", name, near or names())
    device = os.environ.get("FLASHBENCH_VBENCH_DEVICE", "cpu")
    if device not in DEVICES:
        raise UsageError(f"invalid FLASHBENCH_VBENCH_DEVICE={device}", fix=f"set one of {', '.join(DEVICES)}")
    how, declared = PREFIXES[prefix], dimensions.dimension(dimension)
    official = how == "official"
    metric_class = OfficialLong if official else ThroughVBench
    return metric_class(
        name=name,
        dimension=dimension,
        how=how,
        device=device,
        direction="higher",
        unit="",
        # Cosines may be a little below 0.
        range=(-1.0 if declared.name in ("temporal_style", "overall_consistency", "appearance_style") else 0.0, 1.0),
        scope="set" if official else "video" if declared.reads == "video" else "prompt",
        preprocessing=_preprocessing(how, dimension),
        assets=((SUITE,) if declared.reads == "labels" else ()) + _stand_in(),
        licence="Apache-2.0 (vbench); weights: see VBench",
        deterministic=device == "cpu",
    )


for _prefix in PREFIXES:
    family(_prefix, "DIM", through_vbench)


def _preprocessing(how: How, dimension: str) -> dict[str, Scalar]:
    """What decides the number besides the dimension's own rules, which are VBench's."""
    settings: dict[str, Scalar] = {
        "vbench": environment.pins()["vbench"],
        "torch": environment.pins()["torch"],
        "requirements": environment.digest(),
        "container": recording.AGAIN if how == "official" else recording.LOSSLESS,
        "clips": "the whole clip",
        "averaging": "VBench's, on the clip",
    }
    if how != "whole":
        settings["clips"] = f"VBench-Long's, {how}: 2 s or 10 s by dimension; 2 s for prompts that are not VBench's"
        settings["averaging"] = (
            "mean over clips" if how == "official" else "mean over a video's clips, then over videos"
        )
        if dimension in slow_fast.EXTRACTORS[True]:
            settings["fast"] = f"{slow_fast.EXTRACTORS[True][dimension]} on first frames, mapped, 0.5 and 0.5"
    return settings


@lru_cache(maxsize=len(DEVICES))
def _recorder(device: str) -> Recorder:
    return Recorder(
        name="vbench_recording", device=device, direction="none", unit="", range=(-math.inf, math.inf), scope="video"
    )


def _of(request: worker.Request, file: Path, prefix: str = "") -> worker.Request:
    return worker.Request(
        video=str(file), dimension=prefix + request.dimension, prompt=request.prompt, labels=request.labels
    )


# --- VBench's prompts -------------------------------------------------------------------------------------------


def _entries(prompt: str | None) -> tuple[Mapping[str, Any], ...] | None:
    """VBench's entries with that prompt, none for others'; None where its prompts are not here."""
    if not prompt:
        return ()
    if not registry.present(SUITE):
        return None
    return _suite(registry.path(SUITE)).get(unicodedata.normalize("NFC", prompt), ())


def in_suite(prompts: Iterable[str]) -> bool | None:
    """Whether all of some prompts are VBench's; None where its prompts are not here, or none is given."""
    entries = [_entries(prompt) for prompt in prompts]
    return all(entries) if entries and None not in entries else None


@lru_cache(maxsize=2)
def _suite(path: Path) -> Mapping[str, tuple[Mapping[str, Any], ...]]:
    suite: dict[str, tuple[Mapping[str, Any], ...]] = {}
    for entry in json.loads(path.read_text(encoding="utf-8")):
        text = unicodedata.normalize("NFC", entry["prompt_en"])
        suite[text] = (*suite.get(text, ()), entry)
    return suite


# --- the worker -------------------------------------------------------------------------------------------------

_HOPELESS: dict[tuple[str, str], str] = {}
"""(device, dimension) → why no clip has its value in this process: a network that is silent would cost hours a clip."""
_UNFETCHED, _UNANSWERED = "weights could not be fetched", "did not answer within"
_WORKERS: dict[tuple[int, tuple[str, ...]], worker.Worker] = {}
"""(process, command) → its worker: a forked child must not speak through its parent's pipes."""


def _stand_in() -> tuple[str, ...]:
    """The asset that answers in place of VBench, where the registry has one: a rehearsal's (`flashbench/drill`)."""
    return (STAND_IN,) if STAND_IN in registry.current().names() else ()


def program(device: str) -> list[str] | None:
    """How VBench's worker is started on a device; None where its environment is not here."""
    if _stand_in():
        return [sys.executable, "-I", str(registry.path(STAND_IN)), "--device", device]
    interpreter = environment.python()
    return None if interpreter is None else worker.command(interpreter, device=device)


def _worker(device: str) -> worker.Worker:
    """This process's worker on a device; it starts when it is first asked."""
    command = program(device)
    assert command is not None  # the recorder looked
    key = (os.getpid(), tuple(command))
    if key not in _WORKERS:
        if not any(process == key[0] for process, _ in _WORKERS):
            atexit.register(close)
        _WORKERS[key] = worker.Worker(command, timeout=TIMEOUT, start_timeout=START_TIMEOUT)
    return _WORKERS[key]


def close() -> None:
    """End this process's workers and forget what they could not do; the next question starts them again."""
    _HOPELESS.clear()
    for key in [key for key in _WORKERS if key[0] == os.getpid()]:
        _WORKERS.pop(key).close()
