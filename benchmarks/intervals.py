"""What the intervals cover, and how often their tests find what is not there, simulated with the package's functions.

    .venv/bin/python benchmarks/intervals.py [--draws 10000] [means] [shares] [pooled]

A line of the Markdown table is a cell: an interval, a number of clusters, seeds of each, and a kind of values.

* truth: what the interval is of. coverage: the part of intervals that hold it, – where fewer than 1 % of draws have
  one. error: the Monte Carlo standard error of coverage.
* false_alarms: the part of tests that reject at 5 % where nothing differs, whether or not there is an interval.
* width_ratio: mean width / that of the interval of an oracle that knows the true spread.
* too_few: the part of draws without an interval because too few clusters differ, or none: such rows are equal.

The intervals of means are here. `intervals_NAME.py` beside this script has others: `cells(draws)` gives lines, dicts
with the columns `HEAD`. Exit code 1: a cell covers less than 93 %, a test rejects more than 5.5 %, each by more than
four Monte Carlo errors, or too few differ where they should not.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import special

from flashbench import means

Floats: TypeAlias = npt.NDArray[np.float64]
Line: TypeAlias = dict[str, Any]
CLUSTERS, SEEDS = (5, 12, 30, 100), (1, 5)
COVERAGE, FALSE_ALARMS = 0.93, 0.055
LEAST = 0.01
"""Part of the draws that must have an interval for a coverage to be told."""
HEAD = (
    "interval",
    "clusters",
    "seeds",
    "values",
    "truth",
    "coverage",
    "error",
    "false_alarms",
    "width_ratio",
    "too_few",
)


# --- means -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Values:
    """A distribution of one clip's value, or of the difference of a pair."""

    name: str
    draw: Callable[[np.random.Generator, tuple[int, ...]], Floats]
    """Of variance `variance` around 0."""
    variance: float
    log: bool = False
    """The draws are logarithms: the values are positive, the truth a geometric mean or its percent change."""
    ties: float = 0.0
    """Part of the clusters whose value is exactly 0."""


def _normal(scale: float) -> Callable[[np.random.Generator, tuple[int, ...]], Floats]:
    return lambda rng, shape: scale * rng.standard_normal(shape)


def _t3(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return rng.standard_t(3, shape)


KINDS = (
    Values(name="normal", draw=_normal(1.0), variance=1.0),
    Values(name="t₃", draw=_t3, variance=3.0),
    Values(name="lognormal, σ 0.5", draw=_normal(0.5), variance=0.25, log=True),
    Values(name="lognormal, σ 1", draw=_normal(1.0), variance=1.0, log=True),
    Values(name="normal, 90 % ties", draw=_normal(1.0), variance=1.0, ties=0.9),
)
SHIFT = 1.0
"""Mean of the draws that are not ties, where something differs."""
SEED_VARIANCE = 0.5
"""Of one seed, in units of the clusters' own variance."""


def _units(kind: Values, shape: tuple[int, int], seeds: int, shift: float, rng: np.random.Generator) -> Floats:
    """[draws, clusters] means over the seeds of a cluster; of logarithms where the kind is one of them."""
    own = shift + kind.draw(rng, shape)
    if seeds > 1:
        noise = math.sqrt(SEED_VARIANCE * kind.variance) * rng.standard_normal((*shape, seeds))
        values = np.exp(own[..., None] + noise) if kind.log else own[..., None] + noise
        own = (np.log(values) if kind.log else values).mean(axis=-1)
    return own * (rng.random(shape) >= kind.ties) if kind.ties else own


def student(kind: Values, clusters: int, seeds: int, draws: int, rng: np.random.Generator) -> Line:
    """The line of a mean's interval: of values, or of paired differences."""
    shape, told = (draws, clusters), partial(_told, kind)
    found = means.student(_units(kind, shape, seeds, SHIFT, rng))
    null = means.student(_units(kind, shape, seeds, 0.0, rng))
    noise = SEED_VARIANCE * kind.variance / seeds if seeds > 1 else 0.0
    there = 1 - kind.ties
    variance = there * (kind.variance + noise + SHIFT**2) - (there * SHIFT) ** 2
    middle, half = there * SHIFT, special.ndtri((1 + means.LEVEL) / 2) * math.sqrt(variance / clusters)
    has = ~np.isnan(found.low)
    low, high, truth = told(found.low[has]), told(found.high[has]), float(told(middle))
    coverage = width = math.nan
    if has.mean() >= LEAST:
        coverage = float(((low <= truth) & (truth <= high)).mean())
        width = float((high - low).mean() / (told(middle + half) - told(middle - half)))
    return {
        "interval": "Student's t of logarithms" if kind.log else "Student's t",
        "clusters": clusters, "seeds": seeds, "values": kind.name, "truth": f"{truth:.3g}", "coverage": coverage,
        "error": math.sqrt(coverage * (1 - coverage) / max(has.sum(), 1)),
        "false_alarms": float((null.p < 1 - means.LEVEL).mean()), "width_ratio": width,
        "too_few": float(1 - has.mean()),
    }  # fmt: skip


def _told(kind: Values, middle: Floats | float) -> Floats:
    """On the scale that documents print: percent change of a mean of log ratios."""
    return 100 * np.expm1(middle) if kind.log else np.asarray(middle)


def cells(draws: int) -> Iterator[Line]:
    """The lines of means."""
    for number, (kind, clusters, seeds) in enumerate(itertools.product(KINDS, CLUSTERS, SEEDS)):
        yield student(kind, clusters, seeds, draws, np.random.default_rng([20261130, number]))


# --- the table ---------------------------------------------------------------------------------------------------


def missed(line: Line, draws: int) -> list[str]:
    """What misses its target, in words."""
    place = "{interval}, {clusters} clusters, {seeds} seeds, {values}".format(**line)
    found = []
    if line["coverage"] + 4 * line["error"] < COVERAGE:
        found.append(f"{place}: covers {line['coverage']:.3f}")
    if line["false_alarms"] - 4 * math.sqrt(FALSE_ALARMS * (1 - FALSE_ALARMS) / draws) > FALSE_ALARMS:
        found.append(f"{place}: false alarms {line['false_alarms']:.3f}")
    if line["too_few"] and line["clusters"] > min(CLUSTERS) and "ties" not in line["values"]:
        found.append(f"{place}: no interval in {line['too_few']:.3f}")
    return found


def _text(value: Any) -> str:
    return str(value) if not isinstance(value, float) else "–" if math.isnan(value) else f"{value:.3f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate and print; 0 if every cell meets its targets, else 1."""
    beside = {path.stem.removeprefix("intervals_"): path.stem for path in Path(__file__).parent.glob("intervals_*.py")}
    parser = argparse.ArgumentParser(description="Coverage and false alarms of every interval and test.")
    parser.add_argument("--draws", type=int, default=10_000, help="of each cell")
    parser.add_argument("which", nargs="*", metavar="NAME", help=f"all of means, {', '.join(beside)} if none is named")
    asked = parser.parse_args(arguments)
    if unknown := set(asked.which) - {"means", *beside}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known are means, {', '.join(beside)}")
    sources = {"means": cells} | {name: importlib.import_module(stem).cells for name, stem in sorted(beside.items())}
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
    count, wrong, start = 0, list[str](), time.process_time()
    for name, lines in sources.items():
        for line in lines(asked.draws) if name in asked.which or not asked.which else ():
            print(f"| {' | '.join(_text(line[column]) for column in HEAD)} |", flush=True)
            count, wrong = count + 1, [*wrong, *missed(line, asked.draws)]
    print(f"\n{count} cells, {time.process_time() - start:.0f} CPU seconds; {len(wrong)} targets missed.")
    print("".join(f"- {text}\n" for text in wrong), end="")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
