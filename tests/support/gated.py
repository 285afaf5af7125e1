"""Scores to gate, for the tests of `flashbench gate`: kept as results, edited, and compared."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from flashbench import keys
from flashbench.checks.gate import Verdict, gate
from flashbench.protocol import compose
from flashbench.run import options as run_options
from flashbench.run import score
from flashbench.run.declared import declared
from flashbench.run.options import Options
from flashbench.scores.table import to_parquet

# Two rows of the flow, the reference and the floor: as the smoke tier, with fewer models to make.
OVERRIDES = ("controls=[original,bicubic]",)
RESULTS = Path("results/smoke")
BASELINE = "results/smoke/nfe/scores.parquet"

loaded = functools.lru_cache(compose.load)
"""Composing a protocol takes longer than gating it."""


def quick(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(run_options, "load", loaded)


def options(folder: Path = RESULTS, *overrides: str) -> Options:
    return Options(tier="smoke", workers=0, overrides=(*OVERRIDES, *overrides), results=folder)


def numerics(where: str = "", field: str = "", value: Any = None) -> str:
    """The class of this machine, or another in one field."""
    own = options().protocol("nfe")
    found = json.loads(score.numerics(own, [{"key": "-", "numerics": keys.numerics_class(threads=1)}]))
    if where:
        (found["clips"][0] if where == "clips" else found["scores"])[field] = value
    return keys.canonical_json(found)


def keep(
    table: pd.DataFrame, folder: Path, classes: str | None = None, *overrides: str, says: str | None = None
) -> Path:
    """`table` as the results of a folder, which `says` what it should hold: the protocol's own unless given."""
    own = options(folder, *overrides).protocol("nfe")
    (folder / "nfe").mkdir(parents=True, exist_ok=True)
    replicas = {int(replica) for replica in table["replica"]}
    says = declared(own, replicas) if says is None else says
    content = to_parquet(table, own.hash, numerics() if classes is None else classes, says)
    (folder / "nfe/scores.parquet").write_bytes(content)
    return folder


def judge(folder: Path, baseline: str = BASELINE, **more: Any) -> Verdict:
    return gate(baseline, options(folder), **{"names": ["nfe"], **more})
