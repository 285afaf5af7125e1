"""Do results add up? Every score against its clip and the store's record, every file against dvc.lock and itself.

Five witnesses: the protocol (which rows there are), the manifest and the store (a score was measured on a clip of that
digest), dvc.lock (a file is what its stage wrote), recomputation (keys, tables, figures, claims), and the other tables
of the folder (`across`). A clone has no store and perhaps no manifest: notes on stderr say what could not be checked.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
import yaml

from flashbench import keys
from flashbench.checks.across import Table, across
from flashbench.checks.remote import fetching
from flashbench.errors import FlashBenchError, IntegrityError, InvalidError
from flashbench.metrics.base import Metric
from flashbench.progress import say
from flashbench.protocol.cases import asked_of
from flashbench.protocol.types import Protocol
from flashbench.run.files import read_manifest
from flashbench.run.inputs import ensure_assets
from flashbench.run.options import Options
from flashbench.run.render import render
from flashbench.run.summary import scored, summary
from flashbench.scores.measure import score_key
from flashbench.scores.table import noted, read_scores
from flashbench.store import Store
from flashbench.types import Measurement

Row: TypeAlias = Mapping[str, Any]

SUMMARY = ("claims.md", "metrics.json")
_CLIP = ("row", "case", "seed", "replica")
_LINE = ("protocol", "row", "case", "cluster", "seed", "replica")
_READ = {*_LINE, "system", "settings", "key", "digest", "original_key", "original"}
_SHADES = 8
"""Of 256, that two drawings of the same figure may differ by."""
_NUMBER = re.compile(rb"(?<![\w.])[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?!\w)")


def audit_results(names: Sequence[str], options: Options, *, clips: bool = False) -> list[str]:
    """One line per finding; an empty list means that the results of the protocols stand.

    `clips` also decodes every clip that the manifests name and checks its digest.

    Raises:
        InvalidError: scores are missing altogether, or were made under another form of the protocol.
    """
    store = Store()
    findings, compared = _against_lock(options.root, names)
    whole, total, checked = True, 0, 0
    for name in names:
        protocol = options.protocol(name)
        ensure_assets([protocol], material=False)
        path, manifest = options.root / name / "scores.parquet", options.root / name / "clips.jsonl"
        table = read_scores(path, protocol.hash)
        rows: list[Any] = table.to_dict("records")
        lines, broken = _lines(manifest, f"flashbench run {name} --tier {options.tier} --phase train --phase generate")
        replicas = {item["replica"] for item in (*rows, *lines)}
        wrong = list(_grid(path, protocol, rows, replicas, measured=True))
        faults, sealed = _scores(path, protocol, rows, lines, store)
        findings += [*broken, *wrong, *faults]
        whole, total, checked = whole and not wrong, total + len(rows), checked + sealed
        if manifest.exists():
            findings += _grid(manifest, protocol, lines, replicas, measured=False)
            findings += _manifest(manifest, protocol, lines, store, decode=clips)
        if not wrong:
            findings += _against_itself(options.root, expected := render(protocol, table))
            if not any(file.endswith(".svg") for file in expected):
                say(f"{name}: its figures are not checked: matplotlib is absent (pip install 'flashbench[repro]')")
    if not whole:
        say("what follows from scores is not recomputed where their rows are wrong")
    elif any((options.root / file).exists() for file in SUMMARY):
        findings += _against_itself(options.root, summary(scored(options), options))
    findings += across(options.root, _tables(options))
    decoded = "decoded" if clips else "not decoded"
    say(f"{checked} of {total} scores checked against the store, {compared} files against dvc.lock, clips {decoded}")
    return findings


def _tables(options: Options) -> Iterator[Table]:
    """All protocols of the folder with their scores, whichever are audited: tables are compared with each other."""
    for name in scored(options):
        try:
            protocol = options.protocol(name)
            scores = read_scores(options.root / name / "scores.parquet", protocol.hash)
        except FlashBenchError as error:
            say(f"{name} is not compared with the other tables: {error.what}")
        else:
            yield protocol, scores


def _against_lock(root: Path, names: Sequence[str]) -> tuple[list[str], int]:
    """Findings, and how many files were compared with the nearest dvc.lock above and replicas/dvc.lock beside it."""
    folder, locked = root.resolve(), dict[Path, str]()
    for above in folder.parents:
        # Both have their paths from the same folder: the stages of replicas/dvc.yaml say `wdir: ..`.
        for lock in (above / "dvc.lock", above / "replicas/dvc.lock"):
            content = yaml.safe_load(lock.read_text(encoding="utf-8")) if lock.exists() else None
            stages = (content or {}).get("stages") or {}
            outs = [out for stage in stages.values() for out in stage.get("outs") or ()]
            locked |= {Path(os.path.normpath(above / out["path"])): out["md5"] for out in outs}
        if locked:
            break
    findings, compared = [], 0
    for path in locked:
        inside = path.relative_to(folder) if path.is_relative_to(folder) else Path("/")
        ours = {*inside.parts[:1], inside.stem.removesuffix("-claims")} & {*names} or str(inside) in SUMMARY
        if ours and path.is_file():  # a clone may lack what is in DVC's cache
            compared += 1
            if hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() != locked[path]:
                findings.append(f"{root / inside} is not the file that dvc.lock records")
    if not compared:
        say(f"no dvc.lock names files of {root}")
    return findings, compared


def _lines(path: Path, making: str) -> tuple[list[dict[str, Any]], list[str]]:
    """The manifest's usable lines (none where it is missing), and findings about the others."""
    if not path.exists():
        say(f"{path} is not here ({fetching(making)}): scores are not compared with clips")
        return [], []
    lines = read_manifest(path)
    usable = [line for line in lines if isinstance(line, dict) and line.keys() >= _READ]
    return usable, [f"{path}: {len(lines) - len(usable)} broken lines"] if len(usable) < len(lines) else []


def _grid(
    path: Path, protocol: Protocol, rows: Iterable[Row], replicas: Iterable[int], *, measured: bool
) -> Iterator[str]:
    """Every row that the protocol asks for is there, once, and no other."""
    fields = (*_LINE, "metric", "frames") if measured else _LINE
    expected = {
        (protocol.name, variant.row, case.id, case.cluster, case.seed, replica, *more)
        for part in protocol.parts
        for case in part.cases
        for variant in part.variants
        for replica in replicas
        for more in ([(metric.name, part.geometry.frames) for metric in asked_of(part, case)] if measured else [()])
    }
    counts = Counter(tuple(row[field] for field in fields) for row in rows)
    for what, wrong in (
        ("is missing", expected - counts.keys()),
        ("is not in the protocol", counts.keys() - expected),
        ("comes twice", {row for row, count in counts.items() if count > 1}),
    ):
        yield from (f"{path}: the row {' · '.join(map(str, row))} {what}" for row in sorted(wrong, key=str))


def _where(path: Path, row: Row) -> str:
    metric = f" · {row['metric']}" if "metric" in row else ""
    return f"{path}: {row['row']} · {row['case']} · seed {row['seed']} · replica {row['replica']}{metric}"


def _scores(
    path: Path, protocol: Protocol, rows: Sequence[Row], lines: Sequence[Row], store: Store
) -> tuple[list[str], int]:
    """Findings about each score, its clip, its key and the store's record, and how many records there were."""
    originals = {
        (variant.row, case.id)
        for part in protocol.parts
        for variant in part.variants
        if variant.system.name == "original" and not variant.size
        for case in part.cases
    }
    by_clip = {tuple(line[field] for field in _CLIP): line for line in lines}
    references = {
        (row["case"], row["seed"], row["replica"]): row["clip"]
        for row in rows
        if (row["row"], row["case"]) in originals
    }
    texts = {case.id: case.prompt.original for part in protocol.parts for case in part.cases if case.prompt}
    measured = {metric.name: metric for part in protocol.parts for metric in part.metrics}
    findings, forged, right, checked = list[str](), list[str](), 0, 0
    for row in rows:
        if row["metric"] not in measured or not row["key"]:
            continue  # the grid says so, or no clip was made
        where, at = _where(path, row), tuple(row[field] for field in _CLIP)
        if at in by_clip and row["clip"] != by_clip[at]["digest"]:
            findings.append(f"{where}: the score is of another clip than clips.jsonl names")
        reference = by_clip[at]["original"] if at in by_clip else references.get(at[1:])
        if reference or measured[row["metric"]].scope != "pair":
            about = {"clip": row["clip"], "reference": reference, "prompt": texts.get(row["case"])}
            key = score_key(measured[row["metric"]], **about)
            right += key == row["key"]
            forged += [f"{where}: the key is not that of metric, clip and reference"] if key != row["key"] else []
        try:
            measurement = store.score(str(row["key"]))
        except IntegrityError as error:
            findings.append(f"{where}: {error.what}")
            continue
        if measurement:  # else it was never measured here (a clone): then dvc.lock vouches, and the count says so
            checked += 1
            record = json.loads(store.score_path(row["key"]).read_text(encoding="utf-8"))["body"]
            edited = _edited(row, measured[row["metric"]], measurement, record)
            findings += [f"{where}: {field} differs from the store's sealed record" for field in edited]
    if forged and not right:  # keys hold the machine's numerics class
        say(f"{path}: scores are of another numerics class: keys not recomputed")
    return findings + (forged if right else []), checked


def _edited(row: Row, metric: Metric, measurement: Measurement, about: Row) -> Iterator[str]:
    """Fields of a row that are not those of its sealed record."""
    yield from (field for field in ("metric", "clip") if row[field] != about[field])
    for field in ("value", "per_frame", "statistics"):
        dtype = np.float32 if field == "statistics" else np.float64  # as scores.parquet keeps them
        if not np.array_equal(
            np.asarray(getattr(measurement, field), dtype), np.asarray(row[field], dtype), equal_nan=True
        ):
            yield field
    if row["reason"] != noted(metric, measurement):
        yield "reason"


def _manifest(path: Path, protocol: Protocol, lines: Iterable[Row], store: Store, *, decode: bool) -> Iterator[str]:
    """Each line names a clip of its row's system and settings, with the digests that the store has."""
    variants = {
        (variant.row, case.id): (variant.system.name, keys.plain(variant.settings))
        for part in protocol.parts
        for variant in part.variants
        for case in part.cases
    }
    for line in lines:
        if not line["key"]:
            continue  # no clip was made, and the line says why
        where, made = _where(path, line), (line["system"], line["settings"])
        if made != variants.get((line["row"], line["case"]), made):
            yield f"{where}: the clip's system or settings are not those of the protocol's row"
        for key, digest in (("key", "digest"), ("original_key", "original")):
            if not store.has_clip(line[key]):
                continue
            try:
                record = store.clip_record(line[key])
                stored = store.clip(line[key]).digest if decode and key == "key" else record["digest"]
            except InvalidError as error:
                yield f"{where}: {error.what}"
                continue
            if stored != line[digest]:
                yield f"{where}: the store's {digest} is {stored[:12]}, the manifest says {line[digest][:12]}"
            source = (record.get("system"), record.get("settings"))  # the original, or Stage I's clip
            about = (*(made if key == "key" else source), line["case"], line["seed"])
            if about != tuple(record.get(field) for field in ("system", "settings", "case", "seed")):
                yield f"{where}: the store's clip is of another system, settings, case or seed"


def _against_itself(root: Path, expected: Mapping[str, bytes]) -> Iterator[str]:
    for name, content in expected.items():
        path = root / name
        if not path.exists():
            yield f"{path} is missing"
        elif not (_same_picture if path.suffix == ".png" else _same_text)(path.read_bytes(), content):
            yield f"{path} does not follow from the scores: it was edited, or made from others"


def _same_picture(ours: bytes, theirs: bytes) -> bool:
    """The same pixels but for shades, which the last digits of numbers may move."""
    pictures = [
        cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None for data in (ours, theirs)
    ]
    first, second = (None if picture is None else picture.astype(np.int16) for picture in pictures)
    if first is None or second is None or first.shape != second.shape:
        return False
    return int(np.abs(first - second).max()) <= _SHADES


def _same_text(ours: bytes, theirs: bytes) -> bool:
    """Equal but for the last digits of numbers (relative 1e-9), which another CPU's linear algebra may move."""
    if _NUMBER.split(ours) != _NUMBER.split(theirs):
        return False
    pairs = zip(_NUMBER.findall(ours), _NUMBER.findall(theirs), strict=True)
    return all(a == b or (b"." in a + b and math.isclose(float(a), float(b), rel_tol=1e-9)) for a, b in pairs)
