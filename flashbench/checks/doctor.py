"""`flashbench doctor`: what this machine can measure, what it lacks, and whether it measures right.

Sections come one by one, so that a user reads the first while the last is computed. None changes anything but a
calibration that succeeds.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from flashbench import keys, metrics
from flashbench.assets import registry
from flashbench.checks import readiness
from flashbench.errors import EXTRAS, CheckFailed, FlashBenchError
from flashbench.metrics import calibration, requirements
from flashbench.metrics.base import Metric
from flashbench.metrics.requirements import pull
from flashbench.paths import cache_root
from flashbench.progress import on_terminal
from flashbench.version import __version__

_DISTRIBUTIONS = (
    "torch", "torchvision", "pyiqa", "timm", "openai-clip", "setuptools", "numpy", "scipy", "pandas", "pyarrow",
    "omegaconf", "diffusers", "transformers", "accelerate", "peft", "safetensors", "pillow", "matplotlib", "dvc",
)  # fmt: skip
_IMPORTED_AS = {"pillow": "PIL", "timm": "pyiqa", "openai-clip": "pyiqa"}
"""Distribution → the name under which its extra is known."""
_WIDTH = 20
"""Of the first column on plain lines."""


@dataclass(frozen=True)
class Section:
    """Lines of two columns under a title; `failures` counts those that say that something measures wrong."""

    title: str
    lines: tuple[tuple[str, str], ...]
    failures: int = 0


def doctor(*, calibrate: bool = False) -> None:
    """Print all sections of the report on this machine.

    Raises:
        CheckFailed: a metric does not score as it should.
    """
    failures = 0
    for section in examine(calibrate=calibrate):
        show(section)
        failures += section.failures
    if failures:
        fix = "see the lines `differs`; install the versions of constraints.txt, or run flashbench assets verify"
        raise CheckFailed(f"scores that are not what they should be: {failures}", fix=fix)


def examine(*, calibrate: bool = False) -> Iterator[Section]:
    """The sections of the report on this machine, each as soon as it is known."""
    known = [metrics.get(name) for name in metrics.names()]
    yield Section("versions", (*_versions(), *_conflicts(known)))
    yield Section("devices", tuple(_devices()))
    yield Section("metrics", tuple(readiness.abilities(known)))
    yield Section("VBench's dimensions", tuple(readiness.dimensions()))
    yield Section("licences", tuple(readiness.licences(known)))
    yield Section("folders", tuple(_folders()))
    yield _synthetic(known)
    yield _photographs(known) if calibrate else Section("metrics with weights", tuple(_states(known)))


def show(section: Section) -> None:
    """Print a section: a table as wide as the terminal, or a line for each line where there is none."""
    if not on_terminal(sys.stdout):
        print(section.title)
        for name, text in section.lines:
            print(f"  {name:{_WIDTH}}  {text}".replace("\n", "\n" + " " * (_WIDTH + 4)))
        return
    from rich.console import Console  # not at the top: importing rich draws from Python's global generator
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for name, text in section.lines:
        table.add_row(Text(f"  {name}", no_wrap=True), Text(text))
    console = Console(file=sys.stdout)
    console.print(Text(section.title, style="bold"))
    console.print(table)


# --- what is here -----------------------------------------------------------------------------------------------


def _versions() -> readiness.Lines:
    import av
    import cv2

    yield "flashbench", __version__
    yield "Python", f"{platform.python_version()}, {platform.platform()}"
    yield "CPU", keys.cpu_isa()
    libraries = (f"{name} {'.'.join(map(str, number))}" for name, number in sorted(av.library_versions.items()))
    yield "PyAV", f"{av.__version__} with FFmpeg's {', '.join(libraries)}"
    here, absent = [f"OpenCV {cv2.__version__}"], defaultdict[str, list[str]](list)
    for name in _DISTRIBUTIONS:
        if (version := keys.package_version(name)) != "absent":
            here.append(f"{name} {version}")
        else:
            absent[EXTRAS.get(_IMPORTED_AS.get(name, name), "")].append(name)
    yield "packages", ", ".join(here)
    for extra, names in absent.items():
        yield "absent", ", ".join(names) + (f"\npip install 'flashbench[{extra}]'" if extra else "")


def _conflicts(known: Sequence[Metric]) -> readiness.Lines:
    users = defaultdict[str, list[str]](list)
    for metric in known:
        users[requirements.conflict(metric.assets, metric.preprocessing.get("pyiqa"))].append(metric.name)
    for conflict in sorted(filter(None, users)):
        yield "conflict", f"{conflict}\ncannot run: {', '.join(users[conflict])}"


def _devices() -> readiness.Lines:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    yield "CPU", f"{cores} cores, {memory / 2**30:.1f} GiB of memory"
    if keys.package_version("torch") == "absent":
        yield "GPU", f"not known without torch: pip install 'flashbench[{EXTRAS['torch']}]'"
        return
    import torch

    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        yield f"GPU {number}", f"{properties.name}, {properties.total_memory / 2**30:.1f} GiB of memory"
    if not torch.cuda.device_count():
        yield "GPU", "none that torch can use"


def _folders() -> readiness.Lines:
    store = Path(os.environ.get("FLASHBENCH_STORE") or ".flashbench/store").absolute()  # a Store would make it
    for name, place in (("store", store), ("cache", cache_root().absolute())):
        existing = next(folder for folder in (place, *place.parents) if folder.exists())
        writable = "writable" if os.access(existing, os.W_OK) else "not writable"
        free = shutil.disk_usage(existing).free
        yield name, f"{place}\n{_held(place) / 1e9:.2f} GB held, {free / 1e9:.1f} GB free, {writable}"


def _held(place: Path) -> int:
    """Bytes of the files under a folder."""
    total = 0
    for folder, _, names in os.walk(place):
        for name in names:
            with suppress(FileNotFoundError):  # another process may be done with it just now
                total += os.lstat(os.path.join(folder, name)).st_size
    return total


# --- whether it measures right ----------------------------------------------------------------------------------


def _synthetic(known: Sequence[Metric]) -> Section:
    begun = time.monotonic()
    able = [metric for metric in known if not metric.learned and not metric.unavailable]
    damaged = {name for metric in able for name, state in registry.verify(metric.assets) if state != "ok"}
    wrong = [f"{name} is damaged: flashbench assets pull {name}" for name in sorted(damaged)]
    checks = calibration.check([metric for metric in able if damaged.isdisjoint(metric.assets)])
    wrong += [str(check) for check in checks if not check.ok]
    right = ", ".join(check.metric for check in checks if check.ok)
    lines = (("ok", f"{right} ({time.monotonic() - begun:.1f} s)"), *(("differs", text) for text in wrong))
    return Section("metrics without weights, on a synthetic clip", lines, len(wrong))


def _states(known: Sequence[Metric]) -> readiness.Lines:
    states = defaultdict[str, list[str]](list)
    for metric in (metric for metric in known if metric.learned):
        published = "" if calibration.published(metric) else " (no published calibration)"
        states["calibrated" if calibration.calibrated(metric) else calibration.NOTE + published].append(metric.name)
    for state, names in sorted(states.items()):
        label, _, reason = state.partition(" ")
        yield label, " ".join(filter(None, [", ".join(names), reason]))
    if states[calibration.NOTE]:
        yield "to calibrate", "flashbench doctor --calibrate"


def _photographs(known: Sequence[Metric]) -> Section:
    lines, failures, lacking = list[tuple[str, str]](), 0, dict[str, None]()
    for metric in filter(calibration.published, known):
        if reason := metric.unavailable:
            lines.append(("not scored", f"{metric.name}: {reason}"))
        elif absent := requirements.absent(calibration.images(metric)):
            lines.append(("not scored", f"{metric.name}: {len(absent)} calibration images are not here"))
            lacking |= dict.fromkeys(absent)
        elif wrong := _calibrate(metric):
            lines += [("differs", text) for text in wrong]
            failures += len(wrong)
        else:
            lines.append(("ok", f"{metric.name}: scores as published"))
    if lacking:
        lines.append(("to fetch", pull(lacking)))
    without = [m.name for m in known if m.learned and not calibration.published(m)]
    lines.append((calibration.NOTE, f"{', '.join(without)} (no published calibration)"))
    return Section("metrics on pyiqa's calibration images", tuple(lines), failures)


def _calibrate(metric: Metric) -> list[str]:
    """What differs."""
    try:
        return [str(check) for check in calibration.calibrate(metric) if not check.ok]
    except FlashBenchError as error:  # a damaged file
        return [f"{metric.name}: {error.what}"]
