"""The files that FlashBench reads but does not ship: parameters, weights, prompts, material.

The registry (`assets.yaml`, or the file that `FLASHBENCH_ASSETS` or a tier names) says for each what needs it, where
it comes from, its size, sha256 and licence. A file enters the cache, under its sha256, by an atomic rename after size
and sha256 were found right, so nothing is opened before it is what the registry says. Where the registry knows no
sha256, that of the first file whose user trusts it goes into a lock file (`assets.lock` in the cache, or
`FLASHBENCH_ASSETS_LOCK`), which is then binding.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO, Any

from flashbench.assets import download
from flashbench.errors import IntegrityError, MissingAsset, UsageError, did_you_mean, on_disk
from flashbench.keys import file_sha256
from flashbench.paths import PACKAGE, cache_root, read_yaml

Report = Callable[[str], None]

UNKNOWN = "unknown"
"""What the registry says of a size or sha256 that nobody has told us."""
SOURCE_FIELDS = {"installed": ("package", "member"), "wheel": ("package", "version", "member")} | download.FIELDS
"""What a source of each kind says besides its kind; the last names the file."""
_NAME, _INSIDE = r"[A-Za-z0-9][\w.+-]*", r"(?!/)(?!(.*/)?\.\.(/|$))[^\\\n]+"
_FORM = {"package": _NAME, "version": r"[0-9][A-Za-z0-9.!+]*", "tag": _NAME, "repo": f"{_NAME}/{_NAME}"}
_FORM |= {"member": _INSIDE, "file": _INSIDE, "url": r"https?://\S+", "revision": r"[0-9a-f]{40}|main"}
_FORM |= {"bytes": r"\d+|unknown", "sha256": "[0-9a-f]{64}|unknown", "non_commercial": "True|False"}
"""Nothing here can be mistaken for an option of pip, or leaves its package or repository."""
_ASSET_FIELDS = {"needed_by", "bytes", "sha256", "licence", "non_commercial", "home", "sources"}
_OF_TIER = "FLASHBENCH_ASSETS_OF_TIER"
"""Set for this process and those that it starts while it runs a tier that has a registry of its own (`of_tier`)."""
_STALE = 7 * 24 * 3600
"""Seconds after which what an interrupted pull left is removed by the next one."""


@dataclass(frozen=True, kw_only=True)
class AssetSource:
    """One place where an asset can be had: a kind of `SOURCE_FIELDS` and its fields."""

    kind: str
    fields: Mapping[str, str]

    def __str__(self) -> str:
        if self.kind in download.FIELDS:
            return download.address(self.kind, self.fields)
        return " ".join([self.kind, self.fields["package"], self.fields.get("version", "")]).strip()

    @property
    def file(self) -> PurePosixPath:
        """The path of the file within the source: in its package, wheel or repository, or its URL."""
        return PurePosixPath(self.fields[SOURCE_FIELDS[self.kind][-1]])


@dataclass(frozen=True, kw_only=True)
class Asset:
    """A file of the registry; `str` of it tells somebody who brings it by hand what to look for."""

    name: str
    needed_by: str
    bytes: int | None
    sha256: str
    """`UNKNOWN` if neither registry nor lock file know it; then, or if they know only that, `bytes` may be None."""
    licence: str
    non_commercial: bool
    home: str
    sources: tuple[AssetSource, ...]
    """In the order in which they are tried."""

    @property
    def file(self) -> Path:
        """Where the asset lies in the cache once it was fetched."""
        base = re.sub(r"[^A-Za-z0-9._-]", "_", self.name.rpartition("/")[2]) + self.sources[0].file.suffix
        return cache_root() / "assets" / self.sha256[:2] / f"{self.sha256}-{base}"

    def __str__(self) -> str:
        size = "size unknown" if self.bytes is None else f"{self.bytes:,} bytes"
        limits = ", non-commercial" if self.non_commercial else ""
        return f"{self.sources[-1].file.name} ({size}, sha256 {self.sha256}, licence {self.licence}{limits})"


@dataclass(frozen=True)
class Registry:
    """All assets by name."""

    assets: Mapping[str, Asset]
    unofficial: bool
    """Read from `FLASHBENCH_ASSETS`: scores made with its files carry the note `unofficial weights`."""
    lock: Path

    def names(self) -> tuple[str, ...]:
        """The names of all assets, sorted."""
        return tuple(sorted(self.assets))

    def get(self, name: str) -> Asset:
        """The asset `name`; a `UsageError` with the nearest name if there is none."""
        if name not in self.assets:
            raise did_you_mean("asset", name, self.assets)
        return self.assets[name]


def current() -> Registry:
    """The package's registry, or the file that `FLASHBENCH_ASSETS` names in its place, and what the lock file adds."""
    chosen = os.environ.get("FLASHBENCH_ASSETS") or os.environ.get(_OF_TIER)
    pinned = os.environ.get("FLASHBENCH_ASSETS_LOCK")
    lock = Path(pinned or cache_root() / "assets.lock")
    file = Path(chosen).absolute() if chosen else PACKAGE / "assets" / "assets.yaml"
    try:
        return Registry(_read(file, _stamp(file), lock, _stamp(lock) if lock.is_file() else None), bool(chosen), lock)
    except OSError as error:
        what = f"the registry of assets {file} cannot be read: {error.strerror}"
        raise UsageError(what, fix="see FLASHBENCH_ASSETS") from error


def of_tier(file: Path | None) -> None:
    """From now on let this process, and those that it starts, read a tier's own registry; None: the package's again.

    `FLASHBENCH_ASSETS`, which a user sets, stands above both.
    """
    if file is None:
        os.environ.pop(_OF_TIER, None)
    else:
        os.environ[_OF_TIER] = str(file.absolute())


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Meanwhile read the registry in `file`, whatever else is set."""
    before = os.environ.get("FLASHBENCH_ASSETS")
    os.environ["FLASHBENCH_ASSETS"] = str(file.absolute())
    try:
        yield
    finally:
        if before is None:
            del os.environ["FLASHBENCH_ASSETS"]
        else:
            os.environ["FLASHBENCH_ASSETS"] = before


def _stamp(file: Path) -> tuple[int, ...]:
    state = file.stat()  # what would be different if it had been touched since
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino


@lru_cache(maxsize=4)
def _read(file: Path, stamp: object, lock: Path, locked: object) -> Mapping[str, Asset]:
    listed, pins = read_yaml(file).get("assets"), read_yaml(lock) if locked else {}
    if not isinstance(listed, dict):
        raise UsageError(f"{file}: no mapping `assets`", fix="see flashbench/assets/assets.yaml for the form")
    for name, entry in listed.items():
        if isinstance(entry, dict) and entry.get("sha256") == UNKNOWN and isinstance(pin := pins.get(name), dict):
            listed[name] = entry | pin
    return {name: _asset(f"{file}: asset {name!r}", str(name), entry) for name, entry in listed.items()}


def _asset(where: str, name: str, entry: Any) -> Asset:
    if not isinstance(entry, dict) or entry.keys() - {"note"} != _ASSET_FIELDS:
        raise UsageError(f"{where} does not have exactly the fields {', '.join(sorted(_ASSET_FIELDS))} (and note)")
    for key in _FORM.keys() & entry:
        _form(where, key, entry[key])
    if not entry["sources"] or not isinstance(entry["sources"], list):
        raise UsageError(f"{where} has no sources")
    fields = {key: entry[key] for key in _ASSET_FIELDS} | {
        "bytes": None if entry["bytes"] == UNKNOWN else entry["bytes"]
    }
    return Asset(**fields | {"name": name, "sources": tuple(_source(where, source) for source in entry["sources"])})


def _source(where: str, entry: Any) -> AssetSource:
    kind = str(entry.get("kind")) if isinstance(entry, dict) else ""
    if kind not in SOURCE_FIELDS:
        raise did_you_mean(f"kind of source ({where})", kind, SOURCE_FIELDS)
    if entry.keys() - {"kind"} != set(SOURCE_FIELDS[kind]):
        raise UsageError(f"{where}: a source of kind {kind} has the fields {', '.join(SOURCE_FIELDS[kind])}")
    return AssetSource(kind=kind, fields={key: _form(where, key, entry[key]) for key in SOURCE_FIELDS[kind]})


def _form(where: str, key: str, value: Any) -> str:
    if not re.fullmatch(_FORM[key], str(value)) or (key == "bytes" and value != UNKNOWN and type(value) is not int):
        raise UsageError(f"{where}: invalid {key} {value!r}")
    return str(value)


def get(name: str) -> Asset:
    """The registry's entry for the asset `name`."""
    return current().get(name)


def present(name: str) -> bool:
    """Whether `name` was fetched; says nothing about its content."""
    return get(name).file.is_file()


def path(name: str) -> Path:
    """Where the file of asset `name` lies; `MissingAsset` if it does not, `IntegrityError` if it is another one."""
    asset = get(name)
    if (status := _status(asset)) == "absent":
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
    """The registry as lines for people: status, size, sha256, name, licence, need."""
    lines = []
    for _, asset in sorted(current().assets.items()):
        size = "unknown MB" if asset.bytes is None else f"{asset.bytes / 1e6:.2f} MB"
        limits = ", non-commercial" if asset.non_commercial else ""
        about = f"{asset.name:26} {asset.licence}{limits}; for {asset.needed_by}"
        lines.append(f"{_status(asset):8} {size:>11}  {asset.sha256[:7]}  {about}")
    return lines


def _status(asset: Asset) -> str:
    with on_disk(f"{asset.file} cannot be read", fix="see FLASHBENCH_CACHE"):
        try:
            return "ok" if asset.file.stat() and _is(asset, asset.file) else "damaged"
        except (FileNotFoundError, NotADirectoryError):
            return "absent"


def _is(asset: Asset, file: Path, *, named: bool = False) -> bool:
    """Whether `file` has the size and sha256 of `asset`; or, if none is known and `named`, its name."""
    if asset.sha256 == UNKNOWN:
        return named and file.name == asset.sources[-1].file.name
    stamp = _stamp(file)
    return asset.bytes in (None, stamp[0]) and _hash_of(file, *stamp) == asset.sha256


@lru_cache(maxsize=1024)
def _hash_of(file: Path, *stamp: int) -> str:
    return file_sha256(file)


def pull(names: Iterable[str], *, report: Report, near: Path | None = None, trust: bool = False) -> list[Path]:
    """Fetch the assets `names` that are not here or damaged; returns where all of them lie, in the order given.

    What can be fetched is fetched even if another asset cannot (`MissingAsset`). `report` gets a line for each thing
    done. Files and wheels anywhere in a folder `near` stand in for the network. `trust`: take the first file of an
    asset whose sha256 nobody knows, and bind this cache to it. `InvalidError`: the cache cannot be written.
    """
    assets = [get(name) for name in names]
    needed = {asset.name: asset for asset in assets if _status(asset) != "ok"}
    if needed:
        with _session(report, trust, near) as session:
            failures = {name: problems for name, asset in needed.items() if (problems := session.fetch(asset))}
        if failures:
            problems, absent = [problem for group in failures.values() for problem in group], " ".join(failures)
            reasons = "; ".join(dict.fromkeys(problem.what for problem in problems))
            fixes = "; ".join(dict.fromkeys(problem.fix for problem in problems if problem.fix)) or "look for them"
            what = f"{len(failures)} of the assets asked for could not be fetched ({absent}): {reasons}"
            raise MissingAsset(what, fix=f"{fixes}, then flashbench assets pull {absent}")
    return [get(asset.name).file for asset in assets]


def bring(files: Sequence[Path], *, report: Report, trust: bool = False) -> list[Path]:
    """Copy `files`, fetched elsewhere, into the cache: by sha256, or by name where none is known; see `pull`."""
    with _session(report, trust) as session:
        return [session.take(_named(file), file) for file in files]


def _named(file: Path) -> Asset:
    """The asset that `file` is."""
    assets = current().assets.values()
    with on_disk(f"{file} cannot be read", fix="name files that are there"):
        if asset := next((asset for asset in assets if _is(asset, file, named=True)), None):
            return asset
        what = f"{file} ({file.stat().st_size:,} bytes, sha256 {file_sha256(file)}) is not an asset of the registry"
    hints = "; ".join(str(asset) for asset in assets if file.name == asset.sources[-1].file.name)
    raise MissingAsset(what, fix=f"looked for: {hints or 'see flashbench assets list'}")


@contextmanager
def _session(report: Report, trust: bool, near: Path | None = None) -> Iterator[_Session]:
    """A pull with a folder for what is unfinished, on the file system of the cache so that a rename is atomic."""
    root, fix = cache_root(), "free some space, or choose another folder with FLASHBENCH_CACHE"
    with on_disk(f"the cache of assets {root} cannot be written", fix=fix):
        (working := root / "pulling").mkdir(parents=True, exist_ok=True)
        for leftover in working.iterdir():
            with suppress(FileNotFoundError):  # another pull may be done with it just now
                if time.time() - leftover.stat().st_mtime > _STALE:
                    shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        with tempfile.TemporaryDirectory(dir=working, ignore_cleanup_errors=True) as folder:
            yield _Session(Path(folder), report, trust, near)


@dataclass
class _Session:
    """One pull: its folder, what it may do, and the wheels that it has downloaded, each once."""

    folder: Path
    report: Report
    trust: bool
    near: Path | None
    wheels: dict[tuple[str, str], Path | MissingAsset] = field(default_factory=dict)

    def fetch(self, asset: Asset) -> list[MissingAsset]:
        """Try the sources in order until the right file is in the cache; returns why none gave it."""
        ways = {"installed": self._from_installed, "wheel": self._from_wheel}
        problems = [] if self.near is None else [MissingAsset(f"{asset} is not in {self.near}")]
        try:
            self._agree(asset)
            for file in sorted(self.near.rglob("*") if self.near else ()):
                if file.is_file() and _is(asset, file, named=True):
                    self.take(asset, file)
                    return []
        except MissingAsset as problem:
            return [problem]
        for source in asset.sources:
            try:
                if self.near is None or source.kind in ways:
                    ways.get(source.kind, self._from_web)(source, asset)
                    return []
            except MissingAsset as problem:
                problems.append(problem)
        return problems

    def _agree(self, asset: Asset) -> None:
        if asset.sha256 == UNKNOWN and not self.trust:
            fix = "if you trust the source, add --trust-first-use: the first file that comes is then binding here"
            raise MissingAsset(f"nobody has told FlashBench the sha256 of {asset}", fix=fix)

    def take(self, asset: Asset, file: Path, origin: str = "") -> Path:
        """Copy `file` into the cache as `asset`."""
        self._agree(asset)
        with file.open("rb") as stream:
            return self._copy(stream, asset, origin or str(file))

    def _from_web(self, source: AssetSource, asset: Asset) -> None:
        url = str(source)
        key = hashlib.sha256(url.encode()).hexdigest() if asset.sha256 == UNKNOWN else asset.sha256
        part = self.folder.parent / f"{key}.part"
        with part.open("ab") as out:
            fcntl.flock(out, fcntl.LOCK_EX)
            if _status(get(asset.name)) == "ok":
                return  # another pull brought it while this one waited
            if asset.sha256 == UNKNOWN:
                out.truncate(out.seek(0))  # nothing would tell whether the rest still belongs to it
            resumed = out.tell() > 0
            try:
                download.download(url, out, size=asset.bytes, name=f"downloading {asset.name}")
                out.flush()
                os.fsync(out.fileno())
                self._admit(part, asset, url)
                return
            except MissingAsset as problem:
                if part.stat().st_size or not resumed:
                    fix = f"check the network, or bring {asset} from {url} and run `flashbench assets import FILE`"
                    raise MissingAsset(problem.what, fix=fix) from problem
        self._from_web(source, asset)  # what an earlier pull left was not the beginning of this file

    def _from_installed(self, source: AssetSource, asset: Asset) -> None:
        # The top package's folder: to find a subpackage's, Python would import the package.
        spec = importlib.util.find_spec(source.fields["package"].partition(".")[0])
        for folder in (spec.submodule_search_locations if spec is not None else None) or ():
            file = Path(folder) / source.file
            if file.is_file() and os.access(file, os.R_OK):
                self.take(asset, file, str(source))
                return
        raise MissingAsset(f"{source} is not here")

    def _from_wheel(self, source: AssetSource, asset: Asset) -> None:
        key = source.fields["package"], source.fields["version"]
        if key not in self.wheels:
            self.report(f"downloading the wheel {' '.join(key)}")
            self.wheels[key] = download.wheel(*key, self.folder / "-".join(key), self.near)
        if isinstance(wheel := self.wheels[key], MissingAsset):
            raise wheel
        try:
            # Read by its exact name and written under one of ours: what a wheel calls its members leads nowhere.
            with zipfile.ZipFile(wheel) as archive, archive.open(source.fields["member"]) as stream:
                self._copy(stream, asset, str(source))
        except KeyError as error:
            raise MissingAsset(f"{source} has no member {source.file}") from error
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
            raise MissingAsset(f"{source} is damaged ({error})") from error

    def _copy(self, stream: IO[bytes], asset: Asset, origin: str) -> Path:
        """Copy at most the size that the registry states."""
        part, remaining = self.folder / "part", sys.maxsize if asset.bytes is None else asset.bytes + 1
        with part.open("wb") as out:
            while remaining > 0 and (block := stream.read(min(remaining, 1 << 20))):
                remaining -= out.write(block)
            out.flush()
            os.fsync(out.fileno())
        return self._admit(part, asset, origin)

    def _admit(self, part: Path, asset: Asset, origin: str) -> Path:
        """Let `part` into the cache if it is the asset; else nothing is left of it."""
        size, sha256 = part.stat().st_size, file_sha256(part)
        if asset.bytes not in (None, size) or asset.sha256 not in (UNKNOWN, sha256):
            os.truncate(part, 0)  # not removed: another pull may be waiting for it
            raise MissingAsset(f"{origin}: {size:,} bytes with sha256 {sha256[:12]}…, not the registry's {asset}")
        if asset.sha256 == UNKNOWN:
            (lock := current().lock).parent.mkdir(parents=True, exist_ok=True)
            with lock.open("a", encoding="utf-8") as out:
                out.write(json.dumps(asset.name) + f': {{bytes: {size}, sha256: "{sha256}"}}\n')
        asset = replace(asset, sha256=sha256)
        asset.file.parent.mkdir(parents=True, exist_ok=True)
        os.replace(part, asset.file)
        self.report(f"{asset.name}: {size:,} bytes from {origin}")
        return asset.file
