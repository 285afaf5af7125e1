"""A tier's results of any protocol from made-up scores, for tests of what reads them; no clip or metric is run."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from flashbench import metrics
from flashbench.protocol.cases import asked_of
from flashbench.protocol.types import Protocol
from flashbench.reporting import claims, tables
from support.fake_scores import FakeMetric, frame, line

Level = Callable[[str, str], float]
"""(row, metric) → mean of the scores."""
BASE = {"niqe_pooled": 4.0, "niqe": 4.6, "psnr": 22.0, "tflop": 0.4, "evaluations": 4.0, "predicted_seconds": 90.0}


def alike(name: str) -> FakeMetric:
    """A metric with the direction and unit of the real one, and the mean of its scores as its value."""
    real = metrics.get(name)
    return FakeMetric(name, real.direction, real.unit)


def faked(protocol: Protocol) -> Protocol:
    """The protocol with metrics that are `alike` in place of its own."""
    sets = tuple(map(faked, protocol.sets))
    return replace(protocol, metrics=tuple(alike(metric.name) for metric in protocol.metrics), sets=sets)


def made_scores(
    protocol: Protocol, level: Level | None = None, *, replicas: int = 1, missing: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Scores of every row, case and metric, noise paired over rows; rows of `missing` are NaN with that reason."""
    lines = []
    for replica in range(replicas):
        for part in protocol.parts:
            rng = np.random.default_rng([replica, len(part.cases)])
            noise = {(case.id, name): rng.normal(0, 0.1) for case in part.cases for name in part.metric_names}
            for variant in part.variants:
                for case in part.cases:
                    for name in (metric.name for metric in asked_of(part, case)):
                        why = (missing or {}).get(variant.row, "")
                        why = "PSNR is infinite" if (variant.system.name, name) == ("original", "psnr") else why
                        middle = level(variant.row, name) if level else BASE.get(name, 0.5)
                        value = math.nan if why else middle + noise[case.id, name] + rng.normal(0, 0.01)
                        about = {"cluster": case.cluster, "seed": case.seed, "replica": replica, "reason": why}
                        lines.append(line(variant.row, case.id, name, value, **about))
    return frame(lines)


def write_results(root: Path, protocol: Protocol, scores: pd.DataFrame, *, replicas: bool = False) -> pd.DataFrame:
    """Write the table and the claims as `flashbench run` lays them out under `root`; returns the table."""
    folder = root / protocol.tier / ("replicas" if replicas else "")
    for place in (folder / "tables", folder / protocol.name):
        place.mkdir(parents=True, exist_ok=True)
    protocol = faked(protocol)
    table = tables.build(protocol, scores)
    (folder / "tables" / f"{protocol.name}.csv").write_text(tables.to_csv(table), encoding="utf-8")
    judged = claims.evaluate(protocol, scores)
    (folder / protocol.name / "claims.json").write_text(json.dumps(judged), encoding="utf-8")
    return table
