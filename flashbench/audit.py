"""Do results add up? Every score against the store's sealed record, every file against dvc.lock and against itself.

Three independent witnesses: the store (a score is what was measured on a clip whose bytes have that digest), dvc.lock
(a file is what the stage wrote), and recomputation (tables, figures and claims follow from the scores).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from flashbench import generate, score
from flashbench.errors import IntegrityError, InvalidError
from flashbench.protocol import load_protocol
from flashbench.run import Options, ensure_assets, render, scored, summary
from flashbench.store import Store
from flashbench.types import Measurement

if TYPE_CHECKING:
    import pandas as pd


def audit_results(names: Sequence[str], options: Options, *, clips: bool = False) -> list[str]:
    """One line per finding; an empty list means that the results of the protocols stand.

    `clips` also decodes every clip that the manifests name and checks its digest.

    Raises:
        InvalidError: scores or manifests are missing altogether.
    """
    findings: list[str] = []
    store = Store()
    locked = _locked(Path("dvc.lock"))
    for name in names:
        protocol = load_protocol(name, tier=options.tier, overrides=options.overrides)
        ensure_assets([protocol], material=False)
        path = options.root / name / "scores.parquet"
        scores = score.read_scores(path)
        findings += _against_lock(locked, [path])
        findings += _against_store(scores, store, path)
        findings += _against_itself(options.root, render(protocol, scores))
        findings += _manifest(options.root / name / "clips.jsonl", store, decode=clips)
    if all((options.root / name).exists() for name in ("claims.md", "metrics.json")):
        findings += _against_itself(options.root, summary(scored(options), options))
    return findings


def _locked(lock: Path) -> Mapping[Path, str]:
    """Path → md5 of every file that dvc.lock names as an output."""
    if not lock.exists():
        return {}
    stages = (yaml.safe_load(lock.read_text(encoding="utf-8")) or {}).get("stages") or {}
    outs = [out for stage in stages.values() for out in stage.get("outs") or ()]
    return {Path(out["path"]): out["md5"] for out in outs if not out["md5"].endswith(".dir")}


def _against_lock(locked: Mapping[Path, str], paths: Sequence[Path]) -> Iterator[str]:
    for path in paths:
        if path in locked and hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() != locked[path]:
            yield f"{path} is not the file that dvc.lock records"


def _against_store(scores: pd.DataFrame, store: Store, path: Path) -> Iterator[str]:
    for row in scores.to_dict("records"):
        where = f"{path}: {row['row']} · {row['case']} · {row['metric']}"
        try:
            found = store.score(row["key"])
        except IntegrityError as error:
            yield f"{where}: {error.what}"
            continue
        # A clone has no store; dvc.lock and recomputation still vouch for the file.
        if found is not None and not _same(found, row):
            yield f"{where}: {row['value']} differs from the store's sealed record ({found.value})"


def _same(found: Measurement, row: Mapping[Any, Any]) -> bool:
    pairs = [(found.value, row["value"])]
    kept = np.asarray(found.statistics, np.float32)  # as scores.parquet keeps them
    for ours, theirs in ((found.per_frame, row["per_frame"]), (kept, row["statistics"])):
        if len(ours) != len(theirs):
            return False
        pairs += list(zip(ours, theirs, strict=True))
    return all(a == b or (math.isnan(a) and math.isnan(b)) for a, b in pairs)


def _against_itself(root: Path, expected: Mapping[str, bytes]) -> Iterator[str]:
    for name, content in expected.items():
        path = root / name
        if not path.exists():
            yield f"{path} is missing"
        elif path.read_bytes() != content:
            yield f"{path} does not follow from the scores: it was edited, or made from others"


def _manifest(path: Path, store: Store, *, decode: bool) -> Iterator[str]:
    if not path.exists():
        return  # in DVC's cache, not in git: a clone may lack it
    for line in generate.read_manifest(path):
        where = f"{path}: {line['row']} · {line['case']}"
        if not store.has_clip(line["key"]):
            continue
        try:
            digest = store.clip(line["key"]).digest if decode else store.clip_record(line["key"])["digest"]
        except InvalidError as error:
            yield f"{where}: {error.what}"
            continue
        if digest != line["digest"]:
            yield f"{where}: the store's clip is {digest[:12]}, the manifest says {line['digest'][:12]}"
