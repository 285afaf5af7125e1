"""Scored runs of anybody's videos with known values, for the tests of comparisons; no video is read."""

from __future__ import annotations

from typing import Any

import pandas as pd

from flashbench.comparison.compare import judge, labelled
from flashbench.comparison.verdict import Compared
from flashbench.scores.runs import ScoredRun
from support import fake_scores
from support.fake_scores import frame, line

LEVELS = [4.0, 4.5, 5.0, 5.5, 6.0, 4.2, 4.8, 5.2]
NOISE = [0.01, -0.02, 0.03, -0.01, 0.0, 0.02, -0.03, 0.0]


def shifted(by: float, scale: float = 1.0) -> list[float]:
    return [x + by + scale * e for x, e in zip(LEVELS, NOISE, strict=True)]


def scored(
    label: str, values: list[float], metric: str = "niqe", names: list[str] | None = None, **more: Any
) -> pd.DataFrame:
    """A run of videos v00.mp4 … with one metric; every clip is its own cluster."""
    cases = names or [f"v{i:02d}.mp4" for i in range(len(values))]
    about = {"protocol": "adhoc/custom"} | more
    lines = [
        line(label, case, metric, value, **({"cluster": case, "clip": f"{label}{case}"} | about))
        for case, value in zip(cases, values, strict=True)
    ]
    return frame(lines)


def run(table: pd.DataFrame, record: dict[str, Any] | None = None) -> ScoredRun:
    return ScoredRun(label=str(table["row"].iloc[0]), table=table, record=record)


def compared(*tables: pd.DataFrame, **more: Any) -> Compared:
    runs = labelled([run(table) for table in tables])
    return judge(runs, next(iter(runs)), lookup=fake_scores.metric, **more)  # type: ignore[arg-type]


def record(**more: Any) -> dict[str, Any]:
    niqe = {"identity": {"version": 1, "preprocessing": {"block": 96}}, "assets": {"niqe-pristine": "ab" * 32}}
    filled = {"settings": {"frames": "all", "size": "native"}, "numerics": {"isa": "AVX2"}, "metrics": {"niqe": niqe}}
    return {"schema": 1, "protocol_hash": "hash", "versions": {}, "videos": [], **filled, **more}
