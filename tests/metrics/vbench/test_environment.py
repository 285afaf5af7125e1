"""VBench's environment, built by a Python of straw; and once for real, from wheels made here."""

from __future__ import annotations

import fcntl
import json
import re
import stat
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flashbench.errors import FlashBenchError, InvalidError, MissingAsset
from flashbench.metrics.vbench import environment

# Stands for the Python that makes the environment and, copied by its "venv", for the one inside it.
STRAW = r"""#!{python}
import os, pathlib, shutil, sys, time
words, mode = sys.argv[1:], pathlib.Path({mode!r}).read_text()
with open({log!r}, "a") as log: log.write(" ".join(words) + "\n")
step = "venv" if "venv" in words else "check" if "check" in words else "import" if "-c" in words else "install"
if step == mode.partition(":")[0]:
    print("something before\n" + mode.partition(":")[2]); sys.exit(1)
if step == "venv":
    place = pathlib.Path(words[-1])
    if "--clear" in words: shutil.rmtree(place, ignore_errors=True)
    (place / "bin").mkdir(parents=True); shutil.copy(sys.argv[0], place / "bin" / "python")
elif step == "install":
    print("Collecting vbench==0.1.5 (from -r list)\n  Downloading v.whl (12.3 MB)\n  Downloading x.whl (1 kB)")
    if mode == "slowly": sys.stdout.flush(); time.sleep(0.3)
    print("Installing collected packages: a, b, c\nTMPDIR " + os.environ["TMPDIR"])
"""

Straw = Callable[[str], None]
LIST = "# why\nsetuptools==80.9.0\nwheel==0.45.1\nvbench==0.1.5  # of them\n"


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small list, an empty cache."""
    (tmp_path / "requirements.txt").write_text(LIST)
    monkeypatch.setattr(environment, "REQUIREMENTS", tmp_path / "requirements.txt")
    monkeypatch.setattr(environment, "ROOM", 1)
    monkeypatch.setattr(environment, "VERSION", sys.version_info[:2])
    monkeypatch.setenv("FLASHBENCH_CACHE", str(tmp_path / "cache"))
    for cached in (environment.digest, environment.pins):
        cached.cache_clear()
    yield tmp_path
    for cached in (environment.digest, environment.pins):
        cached.cache_clear()


@pytest.fixture
def straw(small: Path, monkeypatch: pytest.MonkeyPatch) -> Straw:
    """Sets what the Python of straw does; it logs what it was called with to `log`."""
    program, mode = small / "python", small / "mode"
    program.write_text(STRAW.format(python=sys.executable, mode=str(mode), log=str(small / "log")))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    mode.write_text("")
    monkeypatch.setattr(environment.sys, "executable", str(program))
    return lambda text: (mode.write_text(text), None)[1]


def test_the_list_is_whole_and_names_no_place() -> None:
    lines = [line for line in environment.REQUIREMENTS.read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9][\w.-]*==[0-9][\w.+]*", line) for line in lines)
    pins = environment.pins()
    assert len(pins) == len(lines) == len({name.lower().replace("-", "_") for name in pins})
    wanted = {"vbench": "0.1.5", "torch": "2.6.0", "numpy": "1.26.4", "transformers": "4.33.2", "pyiqa": "0.1.10"}
    assert wanted.items() <= dict(pins).items() and {"setuptools", "wheel"} <= set(pins)


def test_a_build(straw: Straw, small: Path) -> None:
    said: list[str] = []
    assert environment.python() is None
    made = environment.build(said.append)
    assert made == environment.python() == environment.place() / "bin" / "python"
    assert environment.place().parent == small / "cache" / "environments"
    assert said[1:-2] == [
        "Collecting vbench==0.1.5 (1 of 3)", "Downloading v.whl (12.3 MB)", "Installing collected packages",
        "Collecting vbench==0.1.5 (2 of 3)", "Downloading v.whl (12.3 MB)", "Installing collected packages",
    ]  # fmt: skip
    assert said[0].startswith("making VBench's environment: 3 packages") and "is complete" in said[-1]
    venv, first, rest, check, imports = (small / "log").read_text().splitlines()
    assert "-m venv --clear" in venv and first.endswith("setuptools==80.9.0 wheel==0.45.1")
    assert "--no-deps" in rest and "--no-build-isolation --requirement" in rest and check.endswith("check")
    assert "import vbench" in imports
    assert {path.name for path in environment.place().parent.iterdir()} == {
        environment.place().name, f"{environment.place().name}.lock"
    }  # fmt: skip
    assert environment.build(said.append) == made and len((small / "log").read_text().splitlines()) == 5


def test_what_is_not_complete(straw: Straw, small: Path) -> None:
    environment.build(print)
    marker = environment.place() / "complete.json"
    content = marker.read_text()
    for text in ("", "[]", json.dumps({"requirements": "0" * 64})):
        marker.write_text(text)
        assert environment.python() is None
    marker.write_text(content)
    assert environment.python() is not None
    (environment.place() / "bin" / "python").unlink()  # as when the Python that made it was removed
    assert environment.python() is None
    (environment.place() / "left").touch()
    (scratch := environment.place().with_name(f"{environment.place().name}.tmp")).mkdir()
    (scratch / "left").touch()
    environment.build(print)
    assert not (environment.place() / "left").exists(), "what an interrupted build left is no beginning"
    assert not scratch.exists()


@pytest.mark.parametrize(
    ("mode", "error", "what", "fix"),
    [
        ("venv:No module named venv", InvalidError, "has no venv with pip", "python3-venv"),
        ("venv:The virtual environment was not created because ensurepip is not", InvalidError, "venv", "python3-venv"),
        ("venv:Error: [Errno 13] Permission denied", InvalidError, "Permission denied", "lines above"),
        ("install:ERROR: Could not install: [Errno 28] No space left on device", InvalidError, "no space", "CACHE"),
        ("install:ERROR: No matching distribution found for a==1", MissingAsset, "found for a==1", "check the network"),
        ("install:ERROR: Failed building wheel for a", InvalidError, "Failed building wheel", "lines above"),
        ("check:a 1 has requirement b<2, but you have b 2.", InvalidError, "do not go together.*b<2", "lines above"),
        ("import:ImportError: libGL.so.1: cannot open", InvalidError, "cannot be imported.*libGL", "libgl1"),
    ],
)
def test_failures(straw: Straw, mode: str, error: type[FlashBenchError], what: str, fix: str) -> None:
    straw(mode)
    with pytest.raises(error, match=what) as raised:
        environment.build(lambda line: None)
    assert fix in raised.value.fix and environment.python() is None
    straw("")
    assert environment.build(lambda line: None) == environment.python()


def test_another_python(straw: Straw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "VERSION", (3, 2))
    with pytest.raises(InvalidError, match="pinned for Python 3.2, and this is") as raised:
        environment.build(print)
    assert "with Python 3.2" in raised.value.fix


def test_no_room_and_no_folder(straw: Straw, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "ROOM", 10**18)
    with pytest.raises(InvalidError, match=r"GB free; VBench's environment takes 1000000000 GB"):
        environment.build(print)
    monkeypatch.setenv("FLASHBENCH_CACHE", str(small / "mode" / "below a file"))
    with pytest.raises(InvalidError, match="cannot be written"):
        environment.build(print)


def test_a_second_build_waits(straw: Straw) -> None:
    said: list[str] = []
    place = environment.place()
    place.parent.mkdir(parents=True)
    with place.with_name(f"{place.name}.lock").open("ab") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        thread = threading.Thread(target=environment.build, args=(said.append,))
        thread.start()
        deadline = time.monotonic() + 10
        while not said and time.monotonic() < deadline:
            time.sleep(0.01)
        assert said == ["another process is building VBench's environment: waiting for it"]
        assert not place.exists()
        fcntl.flock(handle, fcntl.LOCK_UN)
        thread.join()
    assert environment.python() is not None


def test_a_silence_is_explained(straw: Straw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "PATIENCE", 0.1)
    said: list[str] = []
    straw("slowly")
    environment.build(said.append)
    assert any(line.startswith("still going on") for line in said)


def wheel(folder: Path, name: str, version: str, *modules: str, needs: str = "") -> None:
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        info = f"{name}-{version}.dist-info"
        for module in modules:
            archive.writestr(f"{module}.py", "")
        head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        archive.writestr(f"{info}/METADATA", head + (f"Requires-Dist: {needs}\n" if needs else ""))
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


@pytest.mark.slow
def test_a_build_for_real_without_a_network(small: Path) -> None:
    (near := small / "near").mkdir()
    with pytest.raises(MissingAsset, match="satisfies the requirement setuptools==80.9.0"):
        environment.build(print, near)
    wheel(near, "setuptools", "80.9.0", "setuptools")
    wheel(near, "wheel", "0.45.1", "wheel")
    wheel(near, "vbench", "0.1.5", "vbench", "torch", "torchvision", "cv2", "decord", needs="absent>=2")
    with pytest.raises(InvalidError, match="do not go together: .*absent"):
        environment.build(print, near)
    wheel(near, "vbench", "0.1.5", "vbench", "torch", "torchvision", "cv2", "decord")
    said: list[str] = []
    assert environment.build(said.append, near) == environment.python()
    assert "Processing vbench-0.1.5-py3-none-any.whl (3 of 3)" in said
