"""What the intervals cover, and how often their tests find what is not there, simulated with the package's functions.

    .venv/bin/python benchmarks/intervals.py [--draws 10000] [means] [shares] [pooled] [alternatives]

A line of the Markdown table is a cell: an interval, a number of clusters, seeds of each, and a kind of values.

* truth: what the interval is of. coverage: the part of intervals that hold it, – where fewer than 1 % of draws have
  one. error: the Monte Carlo standard error of coverage.
* false_alarms: the part of tests that reject at 5 % where nothing differs, whether or not there is an interval.
* power: the part that reject where something does.
* width_ratio: mean width / that of the interval of an oracle that knows the true spread.
* too_few: the part of draws without an interval because too few clusters differ, or none: such rows are equal.

Below the table stands every cell that covers less than 93 %, gives more than 5.5 % false alarms, or has too few
clusters where it should not. Exit code 1: one of them by more than three Monte Carlo errors. Cells of means are here,
those of shares and of pooled NIQE in the files beside; `alternatives`, what was not chosen for the latter, only if it
is named.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import intervals_pooled
import intervals_shares
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
    "power",
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
        "false_alarms": float((null.p < 1 - means.LEVEL).mean()), "power": float((found.p < 1 - means.LEVEL).mean()),
        "width_ratio": width, "too_few": float(1 - has.mean()),
    }  # fmt: skip


def _told(kind: Values, middle: Floats | float) -> Floats:
    """On the scale that documents print: percent change of a mean of log ratios."""
    return 100 * np.expm1(middle) if kind.log else np.asarray(middle)


def cells(draws: int) -> Iterator[Line]:
    """The lines of means."""
    for number, (kind, clusters, seeds) in enumerate(itertools.product(KINDS, CLUSTERS, SEEDS)):
        yield student(kind, clusters, seeds, draws, np.random.default_rng([20261130, number]))


# --- the table ---------------------------------------------------------------------------------------------------


CELLS = {
    "means": cells, "shares": intervals_shares.cells, "pooled": intervals_pooled.cells,
    "alternatives": intervals_pooled.alternatives,
}  # fmt: skip
USED = ("means", "shares", "pooled")


class Miss(NamedTuple):
    """A target that a cell misses."""

    text: str
    beyond: bool
    """By more than three Monte Carlo errors."""


def missed(line: Line, draws: int) -> list[Miss]:
    """What misses its target."""
    place = "{interval}, {clusters} clusters, {seeds} seeds, {values}, {truth}".format(**line)
    coverage, alarms, found = line["coverage"], line["false_alarms"], list[Miss]()
    if coverage < COVERAGE:
        found.append(Miss(f"{place}: covers {coverage:.3f}", coverage + 3 * line["error"] < COVERAGE))
    if alarms > FALSE_ALARMS:
        error = math.sqrt(FALSE_ALARMS * (1 - FALSE_ALARMS) / line.get("draws", draws))
        found.append(Miss(f"{place}: false alarms {alarms:.3f}", alarms - 3 * error > FALSE_ALARMS))
    if line["too_few"] and line["clusters"] > min(CLUSTERS) and "ties" not in line["values"]:
        found.append(Miss(f"{place}: no interval in {line['too_few']:.3f}", True))
    return found


def _text(value: Any) -> str:
    return str(value) if not isinstance(value, float) else "–" if math.isnan(value) else f"{value:.3f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate and print; 0 if every cell meets its targets, else 1."""
    parser = argparse.ArgumentParser(description="Coverage and false alarms of every interval and test.")
    parser.add_argument("--draws", type=int, default=10_000, help="of each cell; of pooled values 1,000 at most")
    which = parser.add_argument(
        "which", nargs="*", metavar="NAME", help=f"of {', '.join(CELLS)}; {', '.join(USED)} if none"
    )
    asked = parser.parse_args(arguments)
    if unknown := set(asked.which) - set(CELLS):
        parser.error(str(argparse.ArgumentError(which, f"unknown: {', '.join(sorted(unknown))}")))
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
    count, wrong, start = 0, list[Miss](), time.process_time()
    for name in asked.which or USED:
        for line in CELLS[name](asked.draws):
            print(f"| {' | '.join(_text(line[column]) for column in HEAD)} |", flush=True)
            count, wrong = count + 1, [*wrong, *(missed(line, asked.draws) if name in USED else ())]
    beyond = sum(miss.beyond for miss in wrong)
    print(
        f"\n{count} cells, {time.process_time() - start:.0f} CPU seconds; "
        f"{len(wrong)} targets missed, {beyond} beyond noise."
    )
    print("".join(f"- {miss.text}{'' if miss.beyond else ' (within noise)'}\n" for miss in wrong), end="")
    return int(beyond > 0)


if __name__ == "__main__":
    sys.exit(main())
