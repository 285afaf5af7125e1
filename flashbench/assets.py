"""The files that FlashBench reads but does not ship: parameters, weights, prompts, material.

The registry (`assets.yaml`, or the file that `FLASHBENCH_ASSETS` names) says for each what needs it, where it comes
from, its size, sha256 and licence. A fetched file lies in the cache under its sha256 and enters it by an atomic rename
after size and sha256 were found right, so two processes may pull at once, an interrupted pull leaves nothing behind
that is read, and nothing is opened before it is what the registry says.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO, Any

from flashbench.errors import IntegrityError, MissingAsset, UsageError, did_you_mean, on_disk
from flashbench.keys import file_sha256
from flashbench.paths import PACKAGE, cache_root, read_yaml

Report = Callable[[str], None]

SOURCE_FIELDS = {"installed": ("package", "member"), "wheel": ("package", "version", "member")}
"""What a source of each kind says besides its kind."""
_FORM = {"package": r"[A-Za-z0-9][A-Za-z0-9._-]*", "version": r"[0-9][A-Za-z0-9.!+]*"}
"""Neither can be mistaken for an option of pip."""
_ASSET_FIELDS = {"needed_by", "bytes", "sha256", "licence", "non_commercial", "home", "sources"}
_STALE = 24 * 3600
"""Seconds after which the working folder of a killed pull is removed by the next one."""


@dataclass(frozen=True, kw_only=True)
class AssetSource:
    """One place where an asset can be had: a kind of `SOURCE_FIELDS` and its fields."""

    kind: str
    fields: Mapping[str, str]

    def __str__(self) -> str:
        version = f" {self.fields['version']}" if "version" in self.fields else ""
        return f"{self.kind} {self.fields['package']}{version}"


@dataclass(frozen=True, kw_only=True)
class Asset:
    """A file of the registry."""

    name: str
    needed_by: str
    bytes: int
    sha256: str
    licence: str
    non_commercial: bool
    home: str
    sources: tuple[AssetSource, ...]
    """In the order in which they are tried."""

    @property
    def file(self) -> Path:
        """Where it lies in the cache once it was fetched."""
        suffix = PurePosixPath(self.sources[0].fields["member"]).suffix
        base = re.sub(r"[^A-Za-z0-9._-]", "_", self.name.rpartition("/")[2])
        return cache_root() / "assets" / self.sha256[:2] / f"{self.sha256}-{base}{suffix}"


@dataclass(frozen=True)
class Registry:
    """All assets by name."""

    assets: Mapping[str, Asset]
    unofficial: bool
    """Read from `FLASHBENCH_ASSETS`: scores made with its files carry the note `unofficial weights`."""

    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        return tuple(sorted(self.assets))

    def get(self, name: str) -> Asset:
        """The asset `name`; a `UsageError` with the nearest name if there is none."""
        if name not in self.assets:
            raise did_you_mean("asset", name, self.assets)
        return self.assets[name]


# --- the registry -----------------------------------------------------------------------------------------------


def registry() -> Registry:
    """The package's registry, or the file that `FLASHBENCH_ASSETS` names in its place.

    Raises:
        UsageError: the file cannot be read, or is no registry.
    """
    chosen = os.environ.get("FLASHBENCH_ASSETS")
    file = Path(chosen).absolute() if chosen else PACKAGE / "assets.yaml"
    try:
        changed = file.stat().st_mtime_ns
    except OSError as error:
        what = f"the registry of assets {file} cannot be read: {error.strerror}"
        raise UsageError(what, fix="see FLASHBENCH_ASSETS") from error
    return Registry(_read(file, changed), unofficial=bool(chosen))


@lru_cache(maxsize=4)
def _read(file: Path, changed: int) -> Mapping[str, Asset]:
    listed = read_yaml(file).get("assets")
    if not isinstance(listed, dict):
        raise UsageError(f"{file}: no mapping `assets`", fix="see flashbench/assets.yaml for the form")
    return {name: _asset(f"{file}: asset {name!r}", str(name), entry) for name, entry in listed.items()}


def _asset(where: str, name: str, entry: Any) -> Asset:
    if not isinstance(entry, dict) or entry.keys() - {"note"} != _ASSET_FIELDS:
        raise UsageError(f"{where} does not have exactly the fields {', '.join(sorted(_ASSET_FIELDS))} (and note)")
    if type(entry["bytes"]) is not int or type(entry["non_commercial"]) is not bool:
        raise UsageError(f"{where}: bytes is a whole number, non_commercial true or false")
    if not re.fullmatch(r"[0-9a-f]{64}", str(entry["sha256"])):
        raise UsageError(f"{where}: sha256 is not 64 hexadecimal digits")
    if not entry["sources"] or not isinstance(entry["sources"], list):
        raise UsageError(f"{where} has no sources")
    text = {key: str(entry[key]) for key in ("needed_by", "sha256", "licence", "home")}
    sources = tuple(_source(where, source) for source in entry["sources"])
    return Asset(name=name, bytes=entry["bytes"], non_commercial=entry["non_commercial"], sources=sources, **text)


def _source(where: str, entry: Any) -> AssetSource:
    kind = entry.get("kind") if isinstance(entry, dict) else None
    if kind not in SOURCE_FIELDS:
        raise did_you_mean(f"kind of source ({where})", str(kind), SOURCE_FIELDS)
    fields = {key: str(value) for key, value in entry.items() if key != "kind"}
    if fields.keys() != set(SOURCE_FIELDS[kind]):
        raise UsageError(f"{where}: a source of kind {kind} has the fields {', '.join(SOURCE_FIELDS[kind])}")
    for key, form in _FORM.items():
        if key in fields and not re.fullmatch(form, fields[key]):
            raise UsageError(f"{where}: {fields[key]!r} is no {key}")
    member = PurePosixPath(fields["member"])
    if member.is_absolute() or ".." in member.parts or "\\" in fields["member"]:
        raise UsageError(f"{where}: the member {fields['member']!r} leaves its package")
    return AssetSource(kind=kind, fields=fields)


# --- what is here -----------------------------------------------------------------------------------------------


def get(name: str) -> Asset:
    """The registry's entry for `name`."""
    return registry().get(name)


def present(name: str) -> bool:
    """Whether `name` was fetched; says nothing about its content."""
    return get(name).file.is_file()


def path(name: str) -> Path:
    """Where the verified file of asset `name` lies.

    Raises:
        MissingAsset: it was not fetched.
        IntegrityError: it is not what the registry says.
    """
    asset = get(name)
    status = _status(asset)
    if status == "absent":
        raise MissingAsset(f"asset {name} is not here", fix=f"flashbench assets pull {name}")
    if status != "ok":
        what = f"asset {name} is {status}: {asset.file} differs from the registry's size or sha256"
        raise IntegrityError(what, fix=f"flashbench assets pull {name} (replaces it)")
    return asset.file


def verify(names: Iterable[str]) -> list[tuple[str, str]]:
    """Hash the files of `names` anew: (name, `ok` | `absent` | `damaged`) each, in the order given."""
    _hash_of.cache_clear()
    return [(name, _status(get(name))) for name in names]


def describe() -> list[str]:
    """The registry as lines for people: status, size, name, licence, need."""
    lines = []
    for _, asset in sorted(registry().assets.items()):
        limits = ", non-commercial" if asset.non_commercial else ""
        size = f"{asset.bytes / 1e6:8.2f} MB"
        lines.append(f"{_status(asset):8} {size}  {asset.name:26} {asset.licence}{limits}; for {asset.needed_by}")
    return lines


def _status(asset: Asset) -> str:
    with on_disk(f"{asset.file} cannot be read", fix="see FLASHBENCH_CACHE"):
        try:
            state = asset.file.stat()
        except (FileNotFoundError, NotADirectoryError):
            return "absent"
    if state.st_size != asset.bytes:
        return "damaged"
    seen = _hash_of(asset.file, state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)
    return "ok" if seen == asset.sha256 else "damaged"


@lru_cache(maxsize=1024)
def _hash_of(file: Path, size: int, modified: int, changed: int, inode: int) -> str:
    """The sha256 of `file`; the rest is what would be different if it had been touched since."""
    with on_disk(f"{file} cannot be read", fix="see FLASHBENCH_CACHE"):
        return file_sha256(file)


# --- fetching ---------------------------------------------------------------------------------------------------


def pull(names: Iterable[str], *, report: Report) -> list[Path]:
    """Fetch the assets `names` that are not here or damaged; returns where all of them lie, in the order given.

    What can be fetched is fetched even if another asset cannot. `report` gets one line for each thing done.

    Raises:
        MissingAsset: for one or more, no source gave the right file.
        InvalidError: the cache cannot be written.
    """
    wanted = [get(name) for name in names]
    needed = list({asset.name: asset for asset in wanted if _status(asset) != "ok"}.values())
    failures: list[tuple[Asset, MissingAsset]] = []
    if needed:
        root, fix = cache_root(), "free some space, or choose another folder with FLASHBENCH_CACHE"
        with (
            on_disk(f"the cache of assets {root} cannot be written", fix=fix),
            tempfile.TemporaryDirectory(dir=_working_folder(root), ignore_cleanup_errors=True) as folder,
        ):
            session = _Session(Path(folder), report)
            for asset in needed:
                if problem := session.fetch(asset):
                    failures.append((asset, problem))
    if failures:
        raise _missing(failures)
    return [asset.file for asset in wanted]


def _working_folder(root: Path) -> Path:
    """The folder of unfinished downloads, on the file system of the cache so that a rename is atomic."""
    working = root / "pulling"
    working.mkdir(parents=True, exist_ok=True)
    for left in working.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another pull may be done with it just now
            if time.time() - left.stat().st_mtime > _STALE:
                shutil.rmtree(left, ignore_errors=True)
    return working


def _missing(failures: Sequence[tuple[Asset, MissingAsset]]) -> MissingAsset:
    names = " ".join(asset.name for asset, _ in failures)
    reasons = "; ".join(dict.fromkeys(problem.what for _, problem in failures))
    fix = next((f"{problem.fix}, then " for _, problem in failures if problem.fix), "")
    what = f"{len(failures)} of the assets asked for could not be fetched ({names}): {reasons}"
    return MissingAsset(what, fix=f"{fix}flashbench assets pull {names}")


class _Session:
    """One pull: its working folder, and the wheels that it has downloaded, each once."""

    def __init__(self, folder: Path, report: Report) -> None:
        self.folder, self.report = folder, report
        self.wheels: dict[tuple[str, str], Path | MissingAsset] = {}

    def fetch(self, asset: Asset) -> MissingAsset | None:
        """Try the sources in order until the right file is in the cache; returns why none gave it."""
        problems = []
        for source in asset.sources:
            part = self.folder / asset.sha256
            try:
                {"installed": self._from_installed, "wheel": self._from_wheel}[source.kind](source, asset, part)
            except MissingAsset as problem:
                problems.append(problem)
                continue
            asset.file.parent.mkdir(parents=True, exist_ok=True)
            os.replace(part, asset.file)
            self.report(f"{asset.name}: {asset.bytes:,} bytes from {source}")
            return None
        # The last source is the one that any machine should have; the ones before it only save the download.
        return problems[-1]

    def _from_installed(self, source: AssetSource, asset: Asset, part: Path) -> None:
        # The top package's folder: to find a subpackage's, Python would import the package.
        found = importlib.util.find_spec(source.fields["package"].partition(".")[0])
        for folder in (found.submodule_search_locations if found is not None else None) or ():
            file = Path(folder) / source.fields["member"]
            if file.is_file() and os.access(file, os.R_OK):
                with file.open("rb") as stream:
                    return _copy(stream, asset, part, str(source))
        raise MissingAsset(f"{source} is not here")

    def _from_wheel(self, source: AssetSource, asset: Asset, part: Path) -> None:
        wheel = self._wheel(source.fields["package"], source.fields["version"])
        member = source.fields["member"]
        try:
            # Read by its exact name and written under one of ours: what a wheel calls its members leads nowhere.
            with zipfile.ZipFile(wheel) as archive, archive.open(member) as stream:
                _copy(stream, asset, part, f"{source}, {member}")
        except KeyError as error:
            raise MissingAsset(f"{source} has no member {member}") from error
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
            raise MissingAsset(f"{source} is damaged ({error})") from error

    def _wheel(self, package: str, version: str) -> Path:
        """The wheel, downloaded once a pull; a failure is remembered too."""
        key = (package, version)
        if key not in self.wheels:
            self.report(f"downloading the wheel {package} {version}")
            try:
                self.wheels[key] = _download(package, version, self.folder / f"{package}-{version}")
            except MissingAsset as problem:
                self.wheels[key] = problem
        found = self.wheels[key]
        if isinstance(found, MissingAsset):
            raise found
        return found


def _copy(stream: IO[bytes], asset: Asset, part: Path, origin: str) -> None:
    """Copy at most the size that the registry states, and insist on it and on the sha256."""
    state, left = hashlib.sha256(), asset.bytes + 1
    with part.open("wb") as out:
        while left > 0 and (block := stream.read(min(left, 1 << 20))):
            state.update(block)
            left -= len(block)
            out.write(block)
        out.flush()
        os.fsync(out.fileno())
    if left != 1 or state.hexdigest() != asset.sha256:
        part.unlink()
        raise MissingAsset(f"{origin}: not the registry's {asset.bytes:,} bytes with sha256 {asset.sha256[:12]}…")


def _download(package: str, version: str, folder: Path) -> Path:
    """The wheel's file, fetched by this interpreter's pip; only wheels, so nothing is built or run."""
    folder.mkdir()
    # -P: not a pip.py that lies in the working directory.
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--quiet", "--disable-pip-version-check", "--dest", str(folder), f"{package}=={version}"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode == 0 and wheels:
        return wheels[0]
    said = done.stderr.strip()
    if "No module named pip" in said:
        raise MissingAsset(f"{sys.executable} has no pip", fix=f"run {sys.executable} -m ensurepip")
    if "No space left on device" in said:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    errors = [line.removeprefix("ERROR: ") for line in said.splitlines() if line.startswith("ERROR: ")]
    why = (errors or said.splitlines() or [f"pip ended with code {done.returncode}"])[-1]
    fix = "check the network and pip's index (pip config list); without a network, put the wheel into a folder and set"
    raise MissingAsset(f"the wheel {package} {version}: {why}", fix=f"{fix} PIP_NO_INDEX=1 PIP_FIND_LINKS=FOLDER")
