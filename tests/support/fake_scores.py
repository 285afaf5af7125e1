"""Scores with known answers, for the tests of statistics, tables, figures and claims; no clip and no metric is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from flashbench.metrics.base import Scale
from flashbench.paths import protocol_root, read_yaml
from flashbench.protocol.published import published_metrics
from flashbench.protocol.types import Protocol, Variant
from flashbench.types import Case, Claim, Direction, Geometry, Scope, Settings

COLUMNS = (
    "protocol", "row", "case", "cluster", "prompt", "seed", "replica", "metric", "value", "unit", "direction",
    "per_frame", "frames", "reason", "clip", "key", "statistics",
)  # fmt: skip


def spread(statistics: npt.NDArray[np.float64]) -> float:
    """A set value with a closed form: the standard deviation from (count, sum, sum of squares); NaN below two."""
    count, total, squares = statistics
    return float("nan") if count < 2 else float(np.sqrt(max(squares - total**2 / count, 0.0) / (count - 1)))


@dataclass(frozen=True)
class FakeMetric:
    name: str
    direction: Direction = "higher"
    unit: str = ""
    scope: Scope = "video"
    scale: Scale = "identity"
    binary: bool = False
    computed: bool = False

    @property
    def pooled(self) -> bool:
        return self.scope == "set"

    @property
    def finite_sample_bias(self) -> bool:
        return self.pooled

    @property
    def over_time(self) -> bool:
        return self.name == "warping"

    @property
    def range(self) -> tuple[float, float]:
        return (0.0, 1.0) if self.binary else (-float("inf"), float("inf"))

    def finalize(self, statistics: npt.NDArray[np.float64]) -> float:
        return spread(statistics)


@dataclass(frozen=True)
class FakeSystem:
    name: str

    def models(self, settings: Settings) -> tuple[str, ...]:
        return (str(settings["training"]),) if "training" in settings else ()


METRICS = {
    metric.name: metric
    for metric in (
        FakeMetric("niqe_pooled", "lower", scope="set"),
        FakeMetric("niqe", "lower"),
        FakeMetric("psnr", "higher", "dB", "pair"),
        FakeMetric("sharpness", "none"),
        FakeMetric("warping", "lower", "levels²", scale="log"),
        FakeMetric("shown", "higher", binary=True),
        FakeMetric("tflop", "lower", "TFLOP", computed=True),
    )
}

PRINTED = published_metrics(read_yaml(protocol_root() / "published" / "metrics.yaml")["metrics"])


def metric(name: str) -> FakeMetric:
    return METRICS[name]


def line(row: str, case: str, name: str, value: float, **more: Any) -> dict[str, Any]:
    """One score; the cluster is the part of the case before the slash."""
    filled = {
        "protocol": "nfe", "row": row, "case": case, "cluster": case.split("/")[0], "seed": 0, "replica": 0,
        "metric": name, "value": value, "per_frame": [value], "frames": 1, "reason": "", "clip": "c", "key": "k",
        "statistics": [], "prompt": "", "unit": "", "direction": "",
    }  # fmt: skip
    return {**filled, **more}


def frame(lines: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(list(lines), columns=list(COLUMNS))


def protocol(rows: Sequence[str], *, cases: Sequence[str], curve: str | None = "nfe", **more: Any) -> Protocol:
    """A protocol with the fake metrics; `more` replaces fields."""
    fields: dict[str, Any] = dict(
        name="nfe",
        title="Number of function evaluations",
        tier="laptop",
        table="Table 8",
        variants=tuple(Variant(row=row, system=FakeSystem("flashvideo")) for row in rows),
        cases=tuple(Case(id=case, cluster=case.split("/")[0], seed=0, source=case.split("/")[0]) for case in cases),
        geometry=Geometry(frames=5, height=192, width=192, fps=Fraction(8)),
        metrics=tuple(map(metric, ("niqe_pooled", "niqe", "psnr"))),
        primary=("niqe_pooled",),
        baseline=rows[0],
        margins={},
        claims=(),
        published={},
        published_metrics=PRINTED,
        curve=curve,
        recipes={},
        budget={},
        hash="0123abcd",
    )
    return Protocol(**{**fields, **more})


def better(first: str, second: str, name: str = "niqe_pooled", **more: Any) -> Claim:
    return Claim(
        id=f"{first}-{second}",
        text="first beats second",
        source="Table 8",
        metric=name,
        better=first,
        than=second,
        **more,
    )


Level = Callable[[str], Mapping[str, float]]


def synthetic(
    rows: Mapping[str, tuple[float, float]],
    *,
    clusters: int = 10,
    per_cluster: int = 2,
    replicas: int = 1,
    seed: int = 0,
) -> pd.DataFrame:
    """Scores of every fake metric: row → (spread that `niqe_pooled` should find, mean PSNR), clips paired over rows."""
    rng = np.random.default_rng(seed)
    lines = []
    for replica in range(replicas):
        for g in range(clusters):
            level, scale = rng.normal(0, 2), rng.lognormal(0, 0.15)
            for i in range(per_cluster):
                blocks = scale * rng.standard_normal(40)
                for row, (sd, psnr) in rows.items():
                    case, x = f"source{g:02d}/{i}", sd * blocks + 0.1 * rng.standard_normal(40)
                    sums = [float(len(x)), float(x.sum()), float(x @ x)]
                    at: dict[str, Any] = {"replica": replica}
                    lines.append(line(row, case, "niqe_pooled", sd, statistics=sums, **at))
                    lines.append(line(row, case, "niqe", 1.2 * sd + rng.normal(0, 0.3), **at))
                    fidelity = float("nan") if row == "original" else psnr + level + rng.normal(0, 0.3)
                    why = "PSNR is infinite: 5 of 5 frames equal the reference" if row == "original" else ""
                    lines.append(line(row, case, "psnr", fidelity, reason=why, **at))
                    lines.append(line(row, case, "sharpness", rng.normal(1, 0.1), **at))
    return frame(lines)
