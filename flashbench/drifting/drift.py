"""`flashbench drift`: has an engine drifted from its baseline, on the same prompts and seeds?

The candidate's distance from the baseline is compared with that of the baseline run again (`signs`), one-sided, prompts
being the unit; where the baseline was not run again, or gives the same bytes again, with a margin that the user states.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from flashbench import stats
from flashbench.drifting import plan, signs
from flashbench.drifting.distances import (
    PSNR,
    SQUARED_ERROR,
    Side,
    array,
    by_prompt,
    clusters,
    label,
    measurable,
    rows_of,
    side,
)
from flashbench.drifting.distances import margin as as_distance
from flashbench.drifting.sides import Runs, in_files, in_memory
from flashbench.errors import UsageError, did_you_mean
from flashbench.metrics.base import Metric
from flashbench.progress import quiet
from flashbench.reporting import verdicts
from flashbench.types import Floats
from flashbench.videos.settings import listed, wanted

if TYPE_CHECKING:
    import pandas as pd

OFFLINE, LEARNED = ("psnr", "ssim", "temporal_flicker"), ("lpips", "dists")
"""Metrics if none are named: these, and those of the second where their weights are there."""
Word: TypeAlias = Literal["within", "beyond", "undecided"]
_SPREAD_FROM = 3
"""Prompts from which a spread is estimated."""
_STATUS: Mapping[Word, verdicts.Status] = {"within": "pass", "beyond": "regression", "undecided": "inconclusive"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one metric says."""

    metric: str
    outcome: Word
    against: Literal["again", "margin", "nothing"]
    """What the candidate's distances were tested against."""
    candidate: float
    """Mean distance of the candidate from the baseline, over prompts, as `distances` has it."""
    again: float
    """The same of the baseline run again; NaN without."""
    ratio: float
    """(1 + r) / (1 − r) of the mean of r = (candidate − again) / (candidate + again) over prompts."""
    margin: float
    """As a distance; NaN where it was not used."""
    p: float
    """Of "no farther"; one-sided."""
    adjusted: float
    """By Holm over the metrics."""
    p_within: float
    """Of "at least `most` times as far", or "at least as far as the margin"."""
    prompts: int
    worst: tuple[str, ...]
    """Prompts at the top, the farthest first."""
    reason: str = ""
    """Why it is undecided."""


@dataclass(frozen=True, kw_only=True)
class Drift:
    """What `drift` found."""

    baseline: str
    candidate: str
    again: str
    """Empty without."""
    rows: tuple[Row, ...]
    pairs: int
    identical: int
    """Pairs of candidate and baseline that are one clip."""
    identical_again: int
    """The same of the baseline run again."""
    alpha: float
    most: float
    """The ratio that `within` excludes."""
    problems: tuple[str, ...] = ()
    """Why the sides cannot be compared."""
    notes: tuple[str, ...] = field(default=())

    @property
    def status(self) -> verdicts.Status:
        """pass, regression, inconclusive or invalid."""
        outcomes = [_STATUS[row.outcome] for row in self.rows]
        return verdicts.status(problems=self.problems, gaps=(), outcomes=outcomes)

    @property
    def verdict(self) -> str:
        """within, beyond, undecided, or incomparable."""
        words: Mapping[str, str] = {status: word for word, status in _STATUS.items()}
        return words.get(self.status, "incomparable")

    @property
    def table(self) -> pd.DataFrame:
        """A line for each metric, the fields of `Row` as columns."""
        import pandas as pd

        return pd.DataFrame([vars(row) for row in self.rows], columns=list(Row.__dataclass_fields__))


def drift(
    baseline: Any,
    candidate: Any,
    again: Any = None,
    *,
    margin: Mapping[str, float] | None = None,
    metrics: Iterable[str | Metric] | str | None = None,
    prompts: Any = None,
    alpha: float = signs.ALPHA,
    change: float = 100.0,
    fps: int | float | str | Fraction = 8,
    device: str = "cpu",
    progress: bool = True,
) -> Drift:
    """Compare a candidate engine with its baseline, clip by clip: within, beyond, undecided, or incomparable.

    Args:
        baseline, candidate: folders of videos of the same names; or clips in memory, each as `Scorer` takes it, in one
            order, or as mappings of name to clip.
        again: the baseline run again (another batch, kernel or GPU), in the same form.
        margin: metric → the least PSNR or similarity, or the most of a distance, that still counts as equal; used
            where the baseline was not run again, or gave the same bytes again.
        metrics: names (`a,b`, or a list) or `Metric`s; psnr, ssim, temporal_flicker, and lpips and dists where their
            weights are there, if not given.
        prompts: as in `flashbench.score`, for folders; for clips in memory a prompt each, in their form. Clips of one
            prompt are one cluster. Without prompts each clip is one.
        alpha: of false alarms, over all metrics (Holm), 0 … 0.5.
        change: in %: `within` says that a change this large is excluded at alpha.
        fps: of clips in memory.
        device: where trained networks run.
        progress: show on stderr how far it has come.

    Raises:
        UsageError: something asked for is not there or not known, or neither `again` nor a margin is given.
        InvalidError: nothing pairs.
    """
    kinds, notes = _kinds(metrics)
    margins = _margins(margin, kinds)
    if again is None and (bare := [label(kind) for kind in kinds if label(kind) not in margins]):
        what = f"{', '.join(bare)}: neither the baseline run again nor a margin"
        fix = (
            "run the baseline again and name it (--again), state margins (--margin psnr=40), or name fewer metrics (-m)"
        )
        raise UsageError(what, fix=fix)
    if not 0 < alpha < 0.5 or not change > 0:
        raise UsageError(
            f"invalid alpha {alpha:g} or change {change:g} %", fix="give alpha in 0 … 0.5, a change above 0"
        )
    folders = isinstance(baseline, str | Path)
    if any(isinstance(x, str | Path) != folders for x in (candidate, again) if x is not None):
        raise UsageError("folders and clips in memory do not mix", fix="give all sides as folders, or all as clips")
    with quiet(not progress):
        if folders:
            runs = in_files(baseline, candidate, again, kinds, prompts, device)
        else:
            runs = in_memory(baseline, candidate, again, kinds, prompts, fps, device)
    return _judge(runs, kinds, margins, alpha, 1 + change / 100, notes, chosen=metrics is not None)


def _kinds(metrics: Iterable[str | Metric] | str | None) -> tuple[tuple[Metric, ...], list[str]]:
    asked = [*OFFLINE, *LEARNED] if metrics is None else listed(metrics)
    chosen = wanted([SQUARED_ERROR if name == PSNR else name for name in asked])
    if metrics is not None:
        if bad := [reason for kind in chosen.metrics if (reason := measurable(kind))]:
            raise UsageError(bad[0], fix="name psnr, ssim, lpips, dists or temporal_flicker")
        return chosen.metrics, []
    lacking = [f"Not compared: {name}: {chosen.unavailable[name]}." for name in LEARNED if name in chosen.unavailable]
    return tuple(kind for kind in chosen.metrics if kind.name not in chosen.unavailable), lacking


def _margins(stated: Mapping[str, float] | None, kinds: Sequence[Metric]) -> dict[str, float]:
    named = {label(kind): kind for kind in kinds}
    for name in stated or ():
        if name not in named:
            raise did_you_mean("metric with a margin", name, named)
    return {name: as_distance(named[name], value) for name, value in (stated or {}).items()}


def _judge(
    runs: Runs, kinds: Sequence[Metric], margins: Mapping[str, float], alpha: float, most: float, notes: list[str],
    *, chosen: bool,
) -> Drift:  # fmt: skip
    prompts, rows = clusters(runs.baseline), rows_of(runs.baseline)
    sides = [side(label, table, runs.baseline, paired) for label, table, paired in runs.sides]
    problems, tried = list(runs.problems), list[_Try]()
    for kind in kinds if not problems else ():
        means, lacking = zip(*(by_prompt(kind, one, rows, prompts) for one in sides), strict=True)
        absent = [line for lines in lacking for line in lines]
        if len(absent) == sum(len(one.partners) for one in sides) and not chosen:
            notes.append(f"Not compared: {label(kind)}: {absent[0]}.")
        elif absent:
            more = f" (and {len(absent) - 1} more)" if len(absent) > 1 else ""
            problems.append(f"{absent[0]}{more}")
        else:
            tried.append(_tried(label(kind), means, margins.get(label(kind), math.nan), most))
    if not tried and not problems:
        problems.append("no metric has a value")
    adjusted = stats.holm(np.array([one.p for one in tried], dtype=np.float64))
    found = tuple(_row(one, float(p), alpha, len(tried), most) for one, p in zip(tried, adjusted, strict=True))
    return Drift(
        baseline=runs.labels[0], candidate=sides[0].label, again=sides[1].label if len(sides) > 1 else "", rows=found,
        pairs=len(sides[0].partners), identical=len(sides[0].identical), alpha=alpha, most=most,
        identical_again=len(sides[1].identical) if len(sides) > 1 else 0, problems=tuple(problems),
        notes=(*notes, *runs.notes, *_repeats(sides)),
    )  # fmt: skip


def _repeats(sides: Sequence[Side]) -> list[str]:
    if len(sides) > 1 and len(sides[1].identical) == len(sides[1].partners):
        return ["The baseline run again is the same, byte for byte: it says nothing of how far two runs may differ."]
    return []


@dataclass(frozen=True, kw_only=True)
class _Try:
    """A metric's distances and p values before the family is known."""

    metric: str
    candidate: Floats
    again: Floats | None
    margin: float
    p: float
    p_within: float
    worst: tuple[str, ...]


def _tried(metric: str, means: Sequence[Mapping[str, float]], far: float, most: float) -> _Try:
    order = sorted(means[0])
    candidate = array(means[0], order)
    again = array(means[1], order) if len(means) > 1 else None
    worst = tuple(sorted((name for name in order if means[0][name] > 0), key=lambda name: -means[0][name])[:3])
    p = p_within = math.nan
    if not candidate.any():
        p, p_within = 1.0, 0.0  # every clip is the baseline's: nothing to test
    elif again is not None and again.any():
        p, p_within = (float(x) for x in signs.against_again(candidate, again, most))
        far = math.nan
    elif not math.isnan(far):
        p, p_within = signs.against_margin(candidate, far)
    return _Try(metric=metric, candidate=candidate, again=again, margin=far, p=p, p_within=p_within, worst=worst)


def _row(one: _Try, adjusted: float, alpha: float, tests: int, most: float) -> Row:
    outcome: Word = "beyond" if adjusted <= alpha else "within" if one.p_within <= alpha else "undecided"
    again = one.again if one.again is not None else np.full_like(one.candidate, math.nan)
    tested = one.again is not None and bool(one.again.any())
    mean = float(signs.relative(one.candidate, again).mean()) if tested else math.nan
    return Row(
        metric=one.metric, outcome=outcome, candidate=float(one.candidate.mean()), again=float(again.mean()),
        against="again" if tested else "margin" if not math.isnan(one.margin) else "nothing",
        ratio=(1 + mean) / (1 - mean) if mean < 1 else math.inf if mean == 1 else math.nan,
        margin=one.margin, p=one.p, adjusted=adjusted, p_within=one.p_within, prompts=len(one.candidate),
        worst=one.worst, reason=_reason(one, alpha, tests, most) if outcome == "undecided" else "",
    )  # fmt: skip


def _reason(one: _Try, alpha: float, tests: int, most: float) -> str:
    """Why it is undecided, and what would help."""
    count, fewest = len(one.candidate), signs.least(alpha, tests)
    if math.isnan(one.p):
        return "the baseline run again does not differ from it: state a margin"
    if count < fewest:
        return f"{fewest - count} more prompts are needed before it can be decided at all: {fewest}, and here {count}"
    if one.again is None or not one.again.any():
        return "the margin lies inside what these prompts leave open"
    both = (one.candidate > 0) & (one.again > 0)
    if both.sum() < _SPREAD_FROM:
        return "too few prompts differ in both runs"
    spread = float(np.log(one.candidate[both] / one.again[both]).std(ddof=1)) / math.sqrt(2)
    prompts = plan.needed(100 * (most - 1), 0.95, spread, alpha=alpha, tests=tests) if spread > 0 else None
    number = f"about {prompts}" if prompts else f"more than {plan.MOST}"
    return f"{number} prompts find a change of {100 * (most - 1):.0f} % in 95 of 100 nights, at the spread seen here"
