"""Downloads: where a file of a hub lies, and how it comes over https in as many attempts as it needs; wheels, by pip.

Mirrors are environment variables, each the address that stands in for a host: `FLASHBENCH_MIRROR_HUGGINGFACE` (or
`HF_ENDPOINT`), `FLASHBENCH_MIRROR_GITHUB` and `FLASHBENCH_MIRROR_RAW`. Plain http is taken from 127.0.0.1 only.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from flashbench.errors import MissingAsset, UsageError
from flashbench.progress import Progress

_HF, _GITHUB = ("FLASHBENCH_MIRROR_HUGGINGFACE", "HF_ENDPOINT"), ("FLASHBENCH_MIRROR_GITHUB",)
HOSTS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "huggingface": (_HF, "https://huggingface.co", "/{repo}/resolve/{revision}/{file}"),
    "github-release": (_GITHUB, "https://github.com", "/{repo}/releases/download/{tag}/{file}"),
    "raw": (("FLASHBENCH_MIRROR_RAW",), "https://raw.githubusercontent.com", "/{repo}/{revision}/{file}"),
    "url": ((), "", "{url}"),
}
"""Kind of source → the variables that name a mirror (the first that is set), its host, and where its files lie."""
FIELDS = {kind: tuple(re.findall(r"{(\w+)}", path)) for kind, (_, _, path) in HOSTS.items()}
TIMEOUT, ATTEMPTS, PAUSE, BLOCK = 30.0, 3, 1.0, 1 << 16
"""Seconds without an answer; attempts in a row that bring nothing; seconds between two; bytes read at a time."""


def address(kind: str, fields: Mapping[str, str]) -> str:
    """The https address of a source of `kind` (a key of `HOSTS`), at its mirror if there is one."""
    mirrors, host, path = HOSTS[kind]
    host = next((os.environ[name] for name in mirrors if os.environ.get(name)), host).rstrip("/")
    url = host + path.format_map({key: quote(text, safe="/:?&=") for key, text in fields.items()})
    where = urlsplit(url)
    if not where.hostname or (where.scheme != "https" and (where.scheme, where.hostname) != ("http", "127.0.0.1")):
        raise UsageError(
            f"invalid address {url}: not https", fix=f"see {' and '.join(mirrors) or 'the registry of assets'}"
        )
    return url


def download(url: str, out: IO[bytes], *, size: int | None, name: str) -> None:
    """Append to `out`, open at its end, what `url` has beyond; anew from the start where the server cannot do that.

    A connection that breaks or hangs is taken up again; what has come stays in `out`, for the caller to check.
    `MissingAsset`: the server refuses, has a file of another size, or `ATTEMPTS` in a row brought nothing.
    """
    attempts, most, task, opener = ATTEMPTS, out.tell(), None, build_opener(_SameScheme())
    with Progress() as progress:
        while size is None or out.tell() < size:
            headers = {"User-Agent": "flashbench"} | ({"Range": f"bytes={out.tell()}-"} if out.tell() else {})
            try:
                with opener.open(Request(url, headers=headers), timeout=TIMEOUT) as answer:
                    total = _place(answer, out, size)
                    task = task or progress.add(name, total and -(-total // 1000), "kB", done=out.tell() // 1000)
                    while (size is None or out.tell() <= size) and (block := answer.read(BLOCK)):
                        out.write(block)
                        task.update(-(-out.tell() // 1000))
                if total is None or out.tell() >= total:
                    return
                problem = "the connection was cut"
            except (URLError, HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
                problem, code = str(error), 0
                if isinstance(error, HTTPError):
                    code = error.code
                    error.close()
                # Offline, somebody else's server, or a refusal: another attempt would hear the same.
                offline = isinstance(getattr(error, "reason", None), socket.gaierror | ssl.SSLCertVerificationError)
                if offline or (400 <= code < 500 and code not in (408, 416, 429)):
                    raise MissingAsset(f"{url}: {problem}") from error
                if code == 416:  # what is here is longer than what is there
                    out.truncate(out.seek(0))
            attempts, most = ATTEMPTS if out.tell() > most else attempts - 1, max(most, out.tell())
            if not attempts:
                raise MissingAsset(f"{url}: {problem}, {ATTEMPTS} times")
            time.sleep(PAUSE)


class _SameScheme(HTTPRedirectHandler):
    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        if urlsplit(newurl).scheme != urlsplit(req.full_url).scheme:
            fp.close()
            raise MissingAsset(f"{req.full_url}: leads away from https, to {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _place(answer: Any, out: IO[bytes], size: int | None) -> int | None:
    """Put `out` where the answer goes on; returns how long the file will be, if anybody knows."""
    begin = out.tell() if answer.status == 206 else 0
    length = answer.headers["Content-Length"]
    total = begin + int(length) if length else None
    if None not in (size, total) and size != total:
        raise MissingAsset(f"{answer.url}: {total:,} bytes, not the registry's {size:,}")
    out.truncate(out.seek(begin))
    if total and shutil.disk_usage(os.path.dirname(out.name)).free < total - begin:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return total


def wheel(package: str, version: str, folder: Path, near: Path | None = None) -> Path | MissingAsset:
    """A wheel, fetched by this interpreter's pip, or why not; only wheels, so nothing is built or run."""
    folder.mkdir()
    # -P: not a pip.py that lies in the working directory.
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--quiet", "--disable-pip-version-check", "--dest", str(folder), f"{package}=={version}"]
    command += [] if near is None else ["--no-index", "--find-links", str(near)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    wheels, stderr = sorted(folder.glob("*.whl")), done.stderr.strip()
    if done.returncode == 0 and wheels:
        return wheels[0]
    if "No module named pip" in stderr:
        return MissingAsset(f"{sys.executable} has no pip", fix=f"run {sys.executable} -m ensurepip")
    if "No space left on device" in stderr:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    lines = [line for line in stderr.splitlines() if line.startswith("ERROR: ")] or stderr.splitlines()
    why = lines[-1].removeprefix("ERROR: ") if lines else f"pip ended with code {done.returncode}"
    fix = "check the network and pip's index (pip config list); without a network, put the wheel into a folder and set"
    return MissingAsset(f"the wheel {package} {version}: {why}", fix=f"{fix} PIP_NO_INDEX=1 PIP_FIND_LINKS=FOLDER")
