"""What of a comparison can be wrong before anything is scored: a typing error must not cost hours."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flashbench import metrics as registry
from flashbench.comparison import family, pairing
from flashbench.errors import UsageError, did_you_mean
from flashbench.metrics.base import Metric
from flashbench.reporting.numbers import plain
from flashbench.scores.runs import SCORES, is_run, split_row
from flashbench.videos import find
from flashbench.videos.margins import EVERY
from flashbench.videos.media import Kind, kind

_SCORING: Mapping[str, Any] = {
    "prompts": None, "reference": None, "frames": "all", "size": "native", "fps": None, "device": "cpu", "workers": 1,
}  # fmt: skip
"""Options of scoring and their defaults: for sources that are videos."""


def check(
    sources: Sequence[tuple[str, Any]],
    names: Sequence[str],
    baseline: str,
    *,
    margin: object,
    metrics: Sequence[str | Metric] | None,
    primary: Sequence[str],
    pairs: str | Path,
    scoring: Mapping[str, Any],
) -> list[str]:
    """Refuse what cannot be compared, and notes on options that will not be used.

    Raises:
        UsageError: fewer than two sources, one that is not there, a baseline that is none of them, a metric or a way of
            pairing that is not known, options of scoring where nothing is scored.
    """
    if len(sources) < 2:
        raise UsageError("a comparison needs two runs, and one is given", fix="name at least two")
    videos = [source for _, source in sources if is_videos(source)]
    found = [find.find([source]) for source in videos]
    notes = [f"`{plain(one.label)}`: {plain(remark)}." for one in found for remark in one.remarks]
    labels = {label for label, _ in sources if label} | {plain(os.path.basename(name)) for name in names}
    known_names = {find.composed(name) for name in {*labels, *names}}
    if videos and baseline and not {find.composed(baseline), find.composed(path(baseline))} & known_names:
        raise did_you_mean("baseline", baseline, [name for name in names if name])
    known = [metric if isinstance(metric, str) else metric.name for metric in metrics or ()]
    for name in known if metrics and not any(isinstance(metric, Metric) for metric in metrics) else ():
        registry.get(name)
    for name in margin if isinstance(margin, Mapping) else ():
        if name != EVERY and name not in (known or registry.names()) and ":" not in name:
            raise did_you_mean("metric with a margin", name, known or registry.names())
    family.known((name for name in primary if known or ":" not in name), known or registry.names())
    if str(pairs) not in pairing.WAYS and not Path(pairs).is_file():
        raise UsageError(
            f"no way of pairing called {str(pairs)!r}", fix=f"{', '.join(pairing.WAYS)}, or a manifest file"
        )
    if pairs == "prompt" and len(videos) == len(sources) and scoring.get("prompts") is None:
        raise UsageError("videos without prompts do not pair by prompt", fix="add --prompts")
    return notes + _idle(sources, scoring)


def path(text: str | Path) -> str:
    """A path as it is compared with others: `w/` is `w`."""
    return os.path.normpath(os.path.expanduser(text)) if str(text) else ""


def _idle(sources: Sequence[tuple[str, Any]], scoring: Mapping[str, Any]) -> list[str]:
    """Refuse options of scoring where nothing is scored; a note where only some sources are.

    Raises:
        UsageError: such an option is given, and no source is videos.
    """
    given = [f"--{name}" for name, default in _SCORING.items() if scoring.get(name, default) != default]
    done = [str(label or (source if isinstance(source, str | Path) else "a table"))
            for label, source in sources if not is_videos(source)]  # fmt: skip
    if not given or not done:
        return []
    what = f"{', '.join(given)} {'is' if len(given) == 1 else 'are'} for videos"
    if len(done) == len(sources):
        raise UsageError(f"{what}; these are scored already", fix="leave it out, or score them again with it")
    return [f"{what}, not for what is scored already: {plain(', '.join(done))}."]


def is_videos(source: object) -> bool:
    """Whether a source is videos, which are to be scored."""
    if not isinstance(source, str | Path):
        return False
    place, row = split_row(str(source))
    return not row and not is_run(place)


def only_scores(folder: Path) -> None:
    """Refuse a folder of scores that holds videos too: they may have changed since.

    Raises:
        UsageError: it does.
    """
    if folder.is_dir() and any(kind(x) is Kind.VIDEO for x in folder.rglob("*")):
        fix = f"give the --out folder apart, or {folder / SCORES} itself to use its scores"
        raise UsageError(f"{folder} holds videos and a {SCORES}, which may be older", fix=fix)
