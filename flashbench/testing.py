"""For pytest: fail a test where videos are worse than a baseline's, in the sentences of `flashbench compare`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

from flashbench.comparison.compare import Source, compare_runs
from flashbench.comparison.verdict import sentence
from flashbench.metrics.base import Metric
from flashbench.progress import quiet
from flashbench.videos.margins import Margins


def assert_not_worse(
    baseline: Source,
    candidate: Source,
    *,
    margin: Margins = None,
    metrics: Iterable[str | Metric] | str | None = None,
    primary: Iterable[str] | str = (),
    undecided: Literal["pass", "fail"] = "pass",
    **options: Any,
) -> None:
    """Assert that a candidate is not worse than its baseline on any metric that decides.

    Without a margin this asks whether it is shown to be worse: what is undecided passes, unless `undecided="fail"`.
    With a margin it asks whether it is shown to be no worse than that, which undecided is not. Nothing passes that
    could not have failed: too few clips for any verdict, or pairs that differ in what moves all metrics, fail.

    Args:
        baseline, candidate: videos, scored runs, a scores.parquet or tables, as `flashbench.compare` takes them.
        margin, metrics, primary: as in `flashbench.compare`.
        undecided: whether an undecided metric without a margin passes.
        options: further ones of `flashbench.compare`: pairs, prompts, reference, frames, size, fps, device, workers,
            despite, ignore_missing.

    Raises:
        AssertionError: it is worse, or cannot be shown not to be; the text says on what.
        UsageError, InvalidError: as from `flashbench.compare`.
    """
    __tracebackhide__ = True
    with quiet():
        found = compare_runs(
            [("", baseline), ("", candidate)], margin=margin, metrics=metrics, primary=primary, **options
        )
    fails = [f"{line} could not be scored whole" for line in found.unreadable] + list(found.gaps)
    for result in found.deciding:
        strict = undecided == "fail" or not math.isnan(result.margin) or bool(result.missing)
        if result.verdict in ("worse", "none") or (result.verdict in ("undecided", "differs") and strict):
            fails.append(sentence(result, found.units))
    if fails:
        raise AssertionError("\n".join(fails))
