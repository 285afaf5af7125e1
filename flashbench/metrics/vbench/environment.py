"""VBench's own environment: a virtual environment in the cache, made from the pinned list beside this file.

vbench 0.1.5 cannot share an environment with FlashBench's own metrics (transformers, pyiqa and NumPy in other
versions), so it gets an interpreter with packages of its own, several GB of them. It is complete when its marker is
there, which is written last; one that is not complete is made anew, for nothing tells how far an interrupted pip came.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import IO

from flashbench.assets.registry import Report
from flashbench.errors import InvalidError, MissingAsset, on_disk
from flashbench.paths import cache_root

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
VERSION = (3, 11)
"""The Python that the list was resolved for."""
ROOM = 12 * 10**9
"""Bytes that must be free: what is installed, and the wheels on their way."""
PATIENCE = 20.0
"""Seconds of silence after which a user is told that it still goes on."""
_MARKER = "complete.json"
_FIRST = ("setuptools", "wheel")
"""What builds the few packages that have no wheel: installed before them, in the versions of the list."""
_TELLING = re.compile(r"(Collecting|Processing|Building wheel for|Installing collected packages) ?([^\s:]*)|Do.*[MG]B")
"""What pip says that tells how far it is; each package is collected, or processed where it is a file in a folder."""
_FREE = "free some space, or choose another folder with FLASHBENCH_CACHE"


@cache
def digest() -> str:
    """sha256 of the list of VBench's pinned packages, which is the environment's identity."""
    return hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()


@cache
def pins() -> Mapping[str, str]:
    """Package → version, of the pinned list of VBench's packages."""
    lines = [line.partition("#")[0].strip() for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines()]
    return dict(line.split("==") for line in lines if line)


def place() -> Path:
    """The folder where VBench's environment is, or will be: another list of packages has another folder."""
    return cache_root() / "environments" / f"vbench-{digest()[:12]}"


def python() -> Path | None:
    """The interpreter of VBench's environment; None where the environment is not complete."""
    interpreter = place() / "bin" / "python"
    try:
        marker = json.loads((place() / _MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    # The interpreter is a link to the one that made it, which may have been removed since.
    whole = isinstance(marker, dict) and marker.get("requirements") == digest() and os.access(interpreter, os.X_OK)
    return interpreter if whole else None


def build(report: Report, near: Path | None = None) -> Path:
    """Make VBench's environment, if it is not complete; returns its interpreter.

    pip installs exactly the list, with its own configuration (`PIP_*`, pip.conf: mirrors, proxies), and then checks
    that every package has what it asks for. `report` gets a line for each thing done.

    Args:
        report: takes lines for people.
        near: a folder of wheels and source packages that stands in for the network.

    Raises:
        InvalidError: another Python than the list's, no `venv`, no room, or packages that do not go together.
        MissingAsset: a package could not be fetched.
    """
    with _lock(report) as lock:
        if (interpreter := python()) is not None:
            return interpreter
        if sys.version_info[:2] != VERSION:
            here, pinned = ".".join(map(str, sys.version_info[:2])), ".".join(map(str, VERSION))
            what = f"VBench's environment is pinned for Python {pinned}, and this is Python {here}"
            raise InvalidError(what, fix=f"install flashbench with Python {pinned} and run this again there")
        folder = place()
        with on_disk(f"{folder} cannot be written", fix=_FREE):
            if (free := shutil.disk_usage(folder.parent).free) < ROOM:
                what = f"{folder.parent} has {free / 1e9:.1f} GB free; VBench's environment takes {ROOM / 1e9:.0f} GB"
                raise InvalidError(what, fix=_FREE)
            begun = time.monotonic()
            scratch = folder.with_name(f"{folder.name}.tmp")
            shutil.rmtree(scratch, ignore_errors=True)  # what a killed build left
            try:
                scratch.mkdir()
                _Build(folder, scratch, report, near, lock).run()
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
            report(f"VBench's environment is complete: {folder} ({time.monotonic() - begun:.0f} s)")
    return folder / "bin" / "python"


@contextmanager
def _lock(report: Report) -> Iterator[int]:
    """Held by one build of a place at a time, and by the programs that it starts: a killed build may leave pip."""
    lock = place().with_name(f"{place().name}.lock")
    with on_disk(f"the cache {cache_root()} cannot be written", fix=_FREE):
        lock.parent.mkdir(parents=True, exist_ok=True)
        handle = lock.open("ab")
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("another process is building VBench's environment: waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle.fileno()


@dataclass
class _Build:
    """One build, in an environment that starts empty."""

    where: Path
    scratch: Path
    report: Report
    near: Path | None
    lock: int
    """Descriptor that the programs hold too."""
    output: list[str] = field(default_factory=list)
    """What the last program printed."""
    begun: int = 0
    """Packages that pip has begun with."""

    def run(self) -> None:
        """Make the environment, fill it, check it, mark it."""
        interpreter = str(self.where / "bin" / "python")
        self.report(f"making VBench's environment: {len(pins())} packages, several GB")
        if self._call([sys.executable, "-P", "-m", "venv", "--clear", str(self.where)]):
            self._refuse("Python's venv cannot make an environment")
        # -I: nothing of this environment's variables or of the working directory is found by that interpreter.
        pip = [interpreter, "-I", "-m", "pip", "--disable-pip-version-check", "--no-input", "--no-color"]
        install = [*pip, "install", "--progress-bar", "off", "--no-deps", "--no-warn-script-location"]
        install += [] if self.near is None else ["--no-index", "--find-links", str(self.near)]
        first = [f"{name}=={pins()[name]}" for name in _FIRST]
        # The second one builds with what the first one brought, not with whatever is newest on that day.
        for what in (first, ["--no-build-isolation", "--requirement", str(REQUIREMENTS)]):
            if self._call([*install, *what]):
                self._refuse("pip could not install VBench's packages")
        self.report("checking that the packages go together")
        if self._call([*pip, "check"]):
            self._refuse("VBench's packages do not go together")
        if self._call([interpreter, "-I", "-c", "import vbench, torch, torchvision, cv2, decord"]):
            self._refuse("VBench's packages are installed and cannot be imported")
        marker = self.where / _MARKER
        whole = {"requirements": digest(), "python": sys.version.split()[0], "packages": dict(pins())}
        (part := marker.with_suffix(".part")).write_text(json.dumps(whole, indent=1), encoding="utf-8")
        os.replace(part, marker)

    def _call(self, command: Sequence[str]) -> int:
        """Run a program to its end, passing on what tells a user how far it is; returns its exit code."""
        self.output = []
        outside = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_CONSTRAINT"}
        # pip's temporary files are as large as its wheels, and /tmp may be small.
        variables = {k: v for k, v in os.environ.items() if k not in outside} | {"TMPDIR": str(self.scratch)}
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=variables,
            text=True, errors="replace", pass_fds=(self.lock,),
        )  # fmt: skip
        assert process.stdout is not None
        try:
            for line in self._lines(process.stdout):
                self.output.append(line)
                if telling := _TELLING.match(line.strip()):
                    begins = telling[1] in ("Collecting", "Processing")
                    self.begun += begins
                    text = f"{telling[1]} {Path(telling[2]).name}".strip() if telling[1] else line.strip()
                    self.report(f"{text} ({self.begun} of {len(pins())})" if begins else text)
            return process.wait()
        finally:
            process.kill()
            process.wait()
            process.stdout.close()

    def _lines(self, stream: IO[str]) -> Iterator[str]:
        """Lines as they come; in a long silence, a word to the user."""
        queue, begun = Queue[str | None](), time.monotonic()

        def read() -> None:
            with suppress(ValueError):  # closed under us: the build was interrupted
                for line in stream:
                    queue.put(line.rstrip("\n"))
            queue.put(None)

        Thread(target=read, daemon=True).start()
        while True:
            try:
                line = queue.get(timeout=PATIENCE)
            except Empty:
                self.report(f"still going on, {time.monotonic() - begun:.0f} s")
                continue
            if line is None:
                return
            yield line

    def _refuse(self, what: str) -> None:
        """Raise what the last program's output means."""
        text = "\n".join(self.output)
        if "No space left on device" in text:
            raise InvalidError(f"{what}: no space left on device", fix=_FREE)
        lines = [line for line in self.output if line.startswith(("ERROR: ", "Error: "))] or self.output[-1:]
        why = lines[0].partition(": ")[2] or lines[0] if lines else "it said nothing"
        if "ensurepip" in text or "No module named venv" in text:
            fix = "install Python's venv (Debian: python3-venv), then flashbench assets pull vbench"
            raise InvalidError(f"{what}: {sys.executable} has no venv with pip", fix=fix)
        if "libGL" in text:
            fix = "install OpenGL's library (Debian: libgl1 libglib2.0-0), then flashbench assets pull vbench"
            raise InvalidError(f"{what}: {why}", fix=fix)
        network = re.search(r"No matching distribution|Could not find a version|connection|resolve|timed out", text)
        if network:
            collect = f"pip download --no-deps -r {REQUIREMENTS}"
            fix = f"check the network and pip's index (pip config list), or collect the packages elsewhere ({collect}) "
            fix += "and run flashbench assets pull vbench --from FOLDER"
            raise MissingAsset(f"{what}: {why}", fix=fix)
        raise InvalidError(f"{what}: {why}", fix="see the lines above, then flashbench assets pull vbench")
