"""Downloads: resumed, never trusted, never kept when wrong, and clear words when they cannot be had."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import shutil
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from flashbench.assets import download, registry
from flashbench.cli import program
from flashbench.errors import InvalidError, MissingAsset, UsageError

CONTENT = random.Random(1).randbytes(300_000)
PATH = "/org/name/resolve/main/w/model.pth"
SOURCE = {"kind": "huggingface", "repo": "org/name", "revision": "main", "file": "w/model.pth"}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """A server on this machine that does what it is told to, and keeps what it was asked."""

    def __init__(self) -> None:
        self.files = {PATH: CONTENT}
        self.ranges, self.length = True, True
        self.cuts: list[int] = []
        """Bytes after which the next answers end too early."""
        self.statuses: list[int] = []
        """What the next answers are instead of 200."""
        self.hangs = 0
        self.location = ""
        self.asked: list[tuple[str, str | None]] = []
        self.over = threading.Event()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub.answer(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, asked: BaseHTTPRequestHandler) -> None:
        wanted = asked.headers["Range"]
        self.asked.append((asked.path, wanted))
        if self.hangs:
            self.hangs -= 1
            self.over.wait(5)
            return
        content = self.files.get(asked.path)
        status = self.statuses.pop(0) if self.statuses else 200 if content is not None else 404
        begin = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.ranges else 0
        if status == 200 and begin:
            status = 206 if begin < len(content or b"") else 416
        asked.send_response(status)
        if self.location:
            asked.send_header("Location", self.location)
        rest = (content or b"")[begin:] if status in (200, 206) else b""
        if self.length:
            asked.send_header("Content-Length", str(len(rest)))
        asked.end_headers()
        asked.wfile.write(rest[: self.cuts.pop(0)] if self.cuts else rest)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    made = Hub()
    for name in ("HF_ENDPOINT", "FLASHBENCH_MIRROR_GITHUB", "FLASHBENCH_MIRROR_RAW"):
        monkeypatch.setenv(name, made.url)
    monkeypatch.delenv("FLASHBENCH_MIRROR_HUGGINGFACE", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "PAUSE", 0.0)
    monkeypatch.setattr(download, "TIMEOUT", 0.3)
    yield made
    made.over.set()
    made.server.shutdown()
    made.server.server_close()


class Desk:
    """A registry, a cache, and what a pull said."""

    def __init__(self, folder: Path) -> None:
        self.cache, self.registry, self.lock = folder / "cache", folder / "registry.yaml", folder / "cache/assets.lock"
        self.said: list[str] = []

    def declare(self, content: bytes = CONTENT, *sources: dict[str, str], **change: Any) -> None:
        entry = {
            "needed_by": "a test", "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(),
            "licence": "CC0-1.0", "non_commercial": False, "home": "nowhere", "sources": list(sources) or [SOURCE],
        } | change  # fmt: skip
        self.registry.write_text(yaml.safe_dump({"assets": {"model": entry}}), "utf-8")

    def pull(self, **options: Any) -> bytes:
        (file,) = registry.pull(["model"], report=self.said.append, **options)
        assert file == registry.path("model")
        return file.read_bytes()

    def leave(self, part: bytes, content: bytes = CONTENT) -> Path:
        file = self.cache / "pulling" / f"{hashlib.sha256(content).hexdigest()}.part"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(part)
        return file

    def kept(self) -> list[bytes]:
        return [content for file in self.cache.rglob("*") if file.is_file() and (content := file.read_bytes())]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    made = Desk(tmp_path)
    monkeypatch.setenv("FLASHBENCH_ASSETS", str(made.registry))
    monkeypatch.setenv("FLASHBENCH_CACHE", str(made.cache))
    monkeypatch.delenv("FLASHBENCH_ASSETS_LOCK", raising=False)
    made.declare()
    return made


# --- where things lie -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "path"),
    [
        (SOURCE, PATH),
        ({"kind": "raw", "repo": "o/n", "revision": COMMIT, "file": "a b/c.txt"}, f"/o/n/{COMMIT}/a%20b/c.txt"),
        (
            {"kind": "github-release", "repo": "o/n", "tag": "v1.0", "file": "D.pth"},
            "/o/n/releases/download/v1.0/D.pth",
        ),
    ],
)
def test_each_kind_of_source_is_fetched_from_its_mirror(hub: Hub, desk: Desk, source: Any, path: str) -> None:
    hub.files = {path: CONTENT}
    desk.declare(CONTENT, source)
    assert desk.pull() == CONTENT
    assert hub.asked == [(path, None)]
    assert desk.said == [f"model: 300,000 bytes from {hub.url}{path}"]
    assert desk.pull() == CONTENT and len(hub.asked) == 1


def test_the_own_mirror_variable_goes_before_hf_endpoint(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {key: text for key, text in SOURCE.items() if key != "kind"}
    monkeypatch.setenv("FLASHBENCH_MIRROR_HUGGINGFACE", "https://mirror.example/hf/")
    assert download.address("huggingface", fields) == f"https://mirror.example/hf{PATH}"
    monkeypatch.delenv("FLASHBENCH_MIRROR_HUGGINGFACE")
    monkeypatch.delenv("HF_ENDPOINT")
    assert download.address("huggingface", fields) == f"https://huggingface.co{PATH}"


@pytest.mark.parametrize(
    "mirror", ["http://mirror.example", "ftp://127.0.0.1", "file:///etc", "http://127.0.0.1.evil.example"]
)
def test_only_https_or_this_machine(mirror: str, hub: Hub, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", mirror)
    with pytest.raises(UsageError, match="not https") as raised:
        desk.pull()
    assert "HF_ENDPOINT" in raised.value.fix


# --- connections that break -------------------------------------------------------------------------------------


def test_a_cut_connection_is_taken_up_again(hub: Hub, desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    hub.cuts = [100_000, 70_000, 1]
    assert desk.pull() == CONTENT
    assert [wanted for _, wanted in hub.asked] == [None, "bytes=100000-", "bytes=170000-", "bytes=170001-"]
    assert "downloading model  300/300" in capsys.readouterr().err
    assert desk.kept() == [CONTENT]


def test_a_server_without_ranges_sends_everything_again(hub: Hub, desk: Desk) -> None:
    hub.ranges, hub.cuts = False, [100_000]
    assert desk.pull() == CONTENT


def test_an_interrupted_pull_goes_on_in_the_next(hub: Hub, desk: Desk) -> None:
    hub.cuts = [200_000, 0, 0, 0]
    with pytest.raises(MissingAsset, match="the connection was cut, 3 times"):
        desk.pull()
    assert desk.kept() == [CONTENT[:200_000]]
    hub.asked.clear()
    assert desk.pull() == CONTENT
    assert hub.asked == [(PATH, "bytes=200000-")]
    assert desk.kept() == [CONTENT]


@pytest.mark.parametrize("left", [b"another file" * 1000, CONTENT[:-1] + b"!", CONTENT + b"more"])
def test_a_wrong_beginning_is_found_out_and_thrown_away(hub: Hub, desk: Desk, left: bytes) -> None:
    desk.leave(left)
    assert desk.pull() == CONTENT
    assert desk.kept() == [CONTENT]


def test_a_whole_file_of_unknown_size_is_asked_for_again(hub: Hub, desk: Desk) -> None:
    desk.declare(bytes="unknown")
    desk.leave(CONTENT)
    assert desk.pull() == CONTENT
    assert [wanted for _, wanted in hub.asked] == ["bytes=300000-", None]


def test_a_server_that_hangs_is_given_up(hub: Hub, desk: Desk) -> None:
    hub.hangs = 3
    with pytest.raises(MissingAsset, match="timed out, 3 times"):
        desk.pull()
    hub.hangs = 2
    assert desk.pull() == CONTENT


def test_a_busy_server_is_asked_again_and_a_refusal_is_final(hub: Hub, desk: Desk) -> None:
    hub.statuses = [503, 429]
    assert desk.pull() == CONTENT
    desk.declare(b"other", SOURCE | {"file": "gone.pth"})
    with pytest.raises(MissingAsset, match="404"):
        desk.pull()
    assert len(hub.asked) == 4


def test_a_redirect_away_from_https_is_refused(hub: Hub, desk: Desk) -> None:
    hub.statuses, hub.location = [302], "ftp://127.0.0.1/model.pth"
    with pytest.raises(MissingAsset, match=r"leads away from https|302"):
        desk.pull()
    hub.statuses, hub.location = [302], f"{hub.url}/elsewhere"
    hub.files["/elsewhere"] = CONTENT
    assert desk.pull() == CONTENT


def test_offline_says_what_from_where_and_how_to_bring_it(
    desk: Desk, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise download.socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example")
    monkeypatch.setattr(download.socket, "getaddrinfo", offline)
    with pytest.raises(MissingAsset) as raised:
        desk.pull()
    said = str(raised.value)
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    assert f"model.pth (300,000 bytes, sha256 {sha256}, licence CC0-1.0)" in said
    assert f"https://hub.example{PATH}" in said and "flashbench assets import" in said and "name resolution" in said


# --- wrong content, full disks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("lie", [CONTENT[:-1] + b"!", CONTENT + b"!", CONTENT[:-1], b"<html>not logged in</html>"])
@pytest.mark.parametrize("length", [True, False])
def test_wrong_content_is_never_kept(hub: Hub, desk: Desk, lie: bytes, length: bool) -> None:
    hub.files, hub.length = {PATH: lie}, length
    with pytest.raises(MissingAsset, match=r"not the registry's|the connection was cut"):
        desk.pull()
    assert not registry.present("model")
    assert not any(hashlib.sha256(lie).digest() == hashlib.sha256(kept).digest() for kept in desk.kept())
    hub.files = {PATH: CONTENT}
    assert desk.pull() == CONTENT


def test_the_next_source_is_tried(hub: Hub, desk: Desk) -> None:
    desk.declare(CONTENT, SOURCE | {"file": "gone.pth"}, SOURCE)
    assert desk.pull() == CONTENT


@pytest.mark.parametrize("early", [True, False])
def test_a_full_disk_is_an_invalid_error(hub: Hub, desk: Desk, monkeypatch: pytest.MonkeyPatch, early: bool) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    usage = shutil.disk_usage(".")._replace(free=1000)
    monkeypatch.setattr(*((shutil, "disk_usage", lambda path: usage) if early else (os, "fsync", full)))
    with pytest.raises(InvalidError, match="No space left on device"):
        desk.pull()
    assert not registry.present("model")


def test_a_cache_that_cannot_be_written_is_an_invalid_error(hub: Hub, desk: Desk) -> None:
    desk.cache.write_text("a file")
    with pytest.raises(InvalidError, match="cannot be written"):
        desk.pull()


def test_two_pulls_at_once_download_once(hub: Hub, desk: Desk) -> None:
    pulls = [threading.Thread(target=desk.pull) for _ in range(3)]
    hub.cuts = [1000]
    for pull in pulls:
        pull.start()
    for pull in pulls:
        pull.join(20)
    assert registry.path("model").read_bytes() == CONTENT
    assert len(hub.asked) == 2


# --- trust on first use -----------------------------------------------------------------------------------------


def test_an_unknown_sha256_is_refused_then_trusted_then_binding(hub: Hub, desk: Desk) -> None:
    desk.declare(bytes="unknown", sha256="unknown")
    with pytest.raises(MissingAsset, match="sha256 of model.pth") as raised:
        desk.pull()
    assert "--trust-first-use" in raised.value.fix and hub.asked == [] and not desk.lock.exists()
    assert registry.verify(["model"]) == [("model", "absent")] and "unknown MB" in registry.describe()[0]

    assert desk.pull(trust=True) == CONTENT
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    assert yaml.safe_load(desk.lock.read_text()) == {"model": {"bytes": len(CONTENT), "sha256": sha256}}
    assert registry.get("model").sha256 == sha256 and registry.verify(["model"]) == [("model", "ok")]

    shutil.rmtree(desk.cache / "assets")
    hub.files[PATH] = CONTENT[:-1] + b"!"
    with pytest.raises(MissingAsset, match="not the registry's"):
        desk.pull(trust=True)
    hub.files[PATH] = CONTENT
    assert desk.pull() == CONTENT


def test_the_lock_file_has_a_place_of_ones_own(
    hub: Hub, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "deep" / "my.lock"
    monkeypatch.setenv("FLASHBENCH_ASSETS_LOCK", str(lock))
    desk.declare(bytes="unknown", sha256="unknown")
    desk.leave(b"rest of another day", SOURCE["file"].encode())
    assert desk.pull(trust=True) == CONTENT
    assert lock.is_file() and not desk.lock.exists()
    lock.write_text("model: {bytes: 3, sha256: abc}\n")
    with pytest.raises(UsageError, match="invalid sha256"):
        registry.get("model")


# --- without a network ------------------------------------------------------------------------------------------


def test_a_folder_stands_in_for_the_network(hub: Hub, desk: Desk, tmp_path: Path) -> None:
    folder = tmp_path / "stick" / "deep"
    folder.mkdir(parents=True)
    (folder / "model.pth").write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(MissingAsset, match=r"model\.pth .300,000 bytes, sha256 .* is not in"):
        desk.pull(near=tmp_path / "stick")
    (folder / "renamed").write_bytes(CONTENT)
    assert desk.pull(near=tmp_path / "stick") == CONTENT
    assert hub.asked == [] and (folder / "renamed").is_file()


def test_import_knows_a_file_by_its_sha256(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "whatever").write_bytes(CONTENT)
    assert registry.bring([tmp_path / "whatever"], report=desk.said.append) == [registry.path("model")]
    (tmp_path / "model.pth").write_bytes(CONTENT[:-1])
    with pytest.raises(MissingAsset, match="is not an asset of the registry") as raised:
        registry.bring([tmp_path / "model.pth"], report=desk.said.append)
    assert "model.pth (300,000 bytes" in raised.value.fix and "299,999 bytes" in raised.value.what
    with pytest.raises(InvalidError, match="cannot be read"):
        registry.bring([tmp_path / "absent"], report=desk.said.append)


def test_import_of_an_unknown_sha256_goes_by_the_name_and_needs_trust(desk: Desk, tmp_path: Path) -> None:
    desk.declare(bytes="unknown", sha256="unknown")
    for name in ("other", "model.pth"):
        (tmp_path / name).write_bytes(CONTENT)
    with pytest.raises(MissingAsset, match="not an asset of the registry"):
        registry.bring([tmp_path / "other"], report=desk.said.append, trust=True)
    with pytest.raises(MissingAsset, match="sha256 of model.pth"):
        registry.bring([tmp_path / "model.pth"], report=desk.said.append)
    assert registry.bring([tmp_path / "model.pth"], report=desk.said.append, trust=True) == [registry.path("model")]


def test_the_commands(
    hub: Hub, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.pth").write_bytes(CONTENT)
    program.app(["assets", "import", str(tmp_path / "model.pth")], standalone_mode=False)
    program.app(["assets", "pull", "model", "--from", str(tmp_path), "--trust-first-use"], standalone_mode=False)
    assert capsys.readouterr().out.split() == [str(registry.path("model"))] * 2


def test_old_leavings_are_removed(hub: Hub, desk: Desk) -> None:
    old, new = desk.leave(b"old", b"1"), desk.leave(b"new", b"2")
    os.utime(old, (time.time() - 8 * 24 * 3600,) * 2)
    assert desk.pull() == CONTENT
    assert not old.exists() and new.exists()
