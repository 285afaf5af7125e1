"""The content-addressed store: clips, scores and trained models under their keys.

One folder per kind, one entry per key, written whole or not at all: an entry is built in `tmp/` and renamed. Every
entry has a record with a checksum of its own and the sha256 of each file beside it, so that a swapped clip or an
edited score is noticed when it is read. The store answers which *sample* exists; which *stage* is stale is DVC's
question. Locks are held per key and die with their process.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

from flashbench import video
from flashbench.errors import IntegrityError, InvalidError, on_disk
from flashbench.keys import file_sha256
from flashbench.types import Clip, Measurement

RECORD = "record.json"


def _checksum(body: Mapping[str, Any]) -> str:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _seal(body: Mapping[str, Any]) -> bytes:
    return json.dumps({"body": body, "sha256": _checksum(body)}, sort_keys=True, indent=1).encode()


def _unseal(path: Path, key: str) -> dict[str, Any]:
    """The body of a record, which must be whole and that of `key`."""
    fix = f"remove {path.parent if path.name == RECORD else path}; the next run makes it again"
    try:
        sealed = json.loads(path.read_text(encoding="utf-8"))
        body: dict[str, Any] = dict(sealed["body"])
        expected = sealed["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"the record {path} is not readable: {error}", fix=fix) from error
    if _checksum(body) != expected:
        raise IntegrityError(f"the record {path} was edited: its checksum does not match", fix=fix)
    if body["key"] != key:
        raise IntegrityError(f"the record {path} belongs to another key", fix=fix)
    return body


def write_whole(path: Path, content: bytes, *, draft: Path) -> None:
    """Write a file whole or not at all, by way of `draft` on the same file system; OSError where it cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(content)
        draft.replace(path)
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def _files(folder: Path) -> dict[str, Path]:
    """Every file of an entry but its record, by relative name."""
    files = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: path for name, path in files.items() if name != RECORD}


class Store:
    """Entries by kind and key under one root folder: `$FLASHBENCH_STORE` or `.flashbench/store` if it is not given."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = Path(root or os.environ.get("FLASHBENCH_STORE") or ".flashbench/store").absolute()
        with on_disk(f"the store {self.root} cannot be written", fix="give a writable folder in FLASHBENCH_STORE"):
            for name in ("clips", "scores", "facts", "models", "state", "locks", "tmp"):
                (self.root / name).mkdir(parents=True, exist_ok=True)

    # --- clips --------------------------------------------------------------------------------------------------

    def has_clip(self, key: str) -> bool:
        """Whether a clip is here (its bytes are checked when it is read)."""
        return (self._entry("clips", key) / RECORD).exists()

    def put_clip(self, key: str, clip: Clip, record: Mapping[str, Any]) -> str:
        """Keep `clip` under `key`; returns its digest."""
        digest = clip.digest
        with self._new_entry("clips", key) as folder, self._disk_errors():
            video.write_lossless(folder / "clip.mkv", clip)
            rate = f"{clip.fps.numerator}/{clip.fps.denominator}"
            self._write_record(folder, {**record, "key": key, "digest": digest, "fps": rate})
        return digest

    def clip_record(self, key: str) -> dict[str, Any]:
        """The record of a clip, its checksum verified."""
        return self._record("clips", key)

    def clip(self, key: str) -> Clip:
        """The clip under `key`; its digest must be the recorded one.

        Raises:
            IntegrityError: the file or the record was changed since it was made.
        """
        record = self.clip_record(key)
        path = self.clip_path(key)
        clip = video.read(path, fps=Fraction(record["fps"]))
        if (digest := clip.digest) != (recorded := record["digest"]):
            what = f"the clip {path} is not the one that was made: digest {digest[:12]}, recorded {recorded[:12]}"
            raise IntegrityError(what, fix=f"remove {path.parent}; the next run makes it again")
        return clip

    def clip_path(self, key: str) -> Path:
        """The file of a clip."""
        return self._entry("clips", key) / "clip.mkv"

    # --- scores -------------------------------------------------------------------------------------------------

    def put_score(self, key: str, measurement: Measurement, about: Mapping[str, Any]) -> None:
        """Keep a measurement under its key with what it is about (metric, clip digest)."""
        body = {**about, "key": key, **asdict(measurement)}
        body["value"] = None if math.isnan(measurement.value) else measurement.value
        body["per_frame"] = [None if math.isnan(item) else item for item in measurement.per_frame]
        self._put(self.score_path(key), body)

    def score(self, key: str) -> Measurement | None:
        """The measurement under `key`, or None; its checksum is verified."""
        path = self.score_path(key)
        if not path.exists():
            return None
        body = _unseal(path, key)
        return Measurement(
            value=math.nan if body["value"] is None else body["value"],
            per_frame=tuple(math.nan if item is None else item for item in body["per_frame"]),
            reason=body["reason"],
            statistics=tuple(body["statistics"]),
        )

    def put_facts(self, key: str, facts: Mapping[str, Any]) -> None:
        """Keep what was found out about a file (JSON data) under the key of its content."""
        self._put(self._facts_path(key), {**facts, "key": key})

    def facts(self, key: str) -> dict[str, Any] | None:
        """The facts that `put_facts` kept under `key`, or None; its checksum is verified."""
        path = self._facts_path(key)
        return _unseal(path, key) if path.exists() else None

    # --- models -------------------------------------------------------------------------------------------------

    def has_model(self, key: str) -> bool:
        """Whether a finished model (or other built artifact) is here."""
        return (self._entry("models", key) / RECORD).exists()

    def model(self, key: str) -> Path:
        """Folder of a finished model, every file's sha256 verified.

        Raises:
            IntegrityError: a file is missing or not the one that was written.
        """
        folder = self._entry("models", key)
        files = self.model_record(key)["files"]
        fix = f"remove {folder}; the next run trains it again"
        if more := _files(folder).keys() - files.keys():
            raise IntegrityError(f"{folder} holds {min(more)}, which training did not write", fix=fix)
        for name, expected in files.items():
            path = folder / name
            if not path.exists() or file_sha256(path) != expected:
                raise IntegrityError(f"{path} is not the file that training wrote", fix=fix)
        return folder

    def model_record(self, key: str) -> dict[str, Any]:
        """The record of a model: `files` (name → sha256) and what its maker said."""
        return self._record("models", key)

    def model_digest(self, key: str) -> str:
        """One sha256 for a model's content: over its file names and their hashes."""
        files = self.model_record(key)["files"]
        return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()

    def training_state(self, key: str) -> Path:
        """Folder for the checkpoints of an unfinished model: survives kills, removed when the model is kept."""
        folder = self.root / "state" / key
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextmanager
    def new_model(self, key: str, record: dict[str, Any]) -> Iterator[Path]:
        """An empty folder to write a model's files into; kept under `key` when the block ends without an error.

        What the block adds to `record` is kept with it.
        """
        with self._new_entry("models", key) as folder:
            yield folder
            with self._disk_errors():
                files = {name: file_sha256(path) for name, path in _files(folder).items()}
                self._write_record(folder, {**record, "key": key, "files": files})
        self.drop_training_state(key)

    def drop_training_state(self, key: str) -> None:
        """Remove the checkpoints of a model that is finished."""
        shutil.rmtree(self.root / "state" / key, ignore_errors=True)

    # --- locks and files ----------------------------------------------------------------------------------------

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Hold the key's lock, waiting for whoever holds it; the kernel drops it when the process dies."""
        with (self.root / "locks" / key).open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def _entry(self, kind: str, key: str) -> Path:
        return self.root / kind / key[:2] / key

    def score_path(self, key: str) -> Path:
        """The file of a score's sealed record."""
        return self.root / "scores" / key[:2] / f"{key}.json"

    def _facts_path(self, key: str) -> Path:
        return self.root / "facts" / key[:2] / f"{key}.json"

    def _put(self, path: Path, body: Mapping[str, Any]) -> None:
        with self._disk_errors():
            write_whole(path, _seal(body), draft=self.root / "tmp" / f"{path.name}.{uuid.uuid4().hex}")

    def _record(self, kind: str, key: str) -> dict[str, Any]:
        path = self._entry(kind, key) / RECORD
        if not path.exists():
            raise InvalidError(f"the store has no {kind[:-1]} {key[:12]}", fix="run the phase that makes it")
        return _unseal(path, key)

    def _write_record(self, folder: Path, body: Mapping[str, Any]) -> None:
        (folder / RECORD).write_bytes(_seal(body))

    @contextmanager
    def _new_entry(self, kind: str, key: str) -> Iterator[Path]:
        final = self._entry(kind, key)
        folder = self.root / "tmp" / f"{key}.{uuid.uuid4().hex}"
        with self._disk_errors():
            folder.mkdir()
        try:
            yield folder  # its errors are its own: only the store's are about the disk
            with self._disk_errors():
                final.parent.mkdir(parents=True, exist_ok=True)
                if final.exists():
                    shutil.rmtree(final)
                os.replace(folder, final)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _disk_errors(self) -> AbstractContextManager[None]:
        fix = "free disk space or set FLASHBENCH_STORE to another folder; what is finished is kept"
        return on_disk(f"the store {self.root} could not be written", fix=fix)
