"""`flashbench compare`: is one set of videos better than another? Paired tests, one verdict and sentence per metric.

The clips of two runs are paired (`comparison.pairing`), each metric's differences go through `stats.contrast`
with the cluster as their unit, and all p values of the call are one family (Holm). Runs whose scores mean different
things (another version, weights, frames, size, numerics) are refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from flashbench import metrics as registry
from flashbench import stats
from flashbench.comparison import pairing, preflight
from flashbench.comparison.pairing import Pairing
from flashbench.comparison.preflight import EVERY
from flashbench.comparison.verdict import Compared, combined, difference, remarks, result, units
from flashbench.errors import InvalidError, UsageError, did_you_mean
from flashbench.metrics.base import Metric
from flashbench.reporting.numbers import counted, plain
from flashbench.scores.runs import ScoredRun, chosen, is_run, read_run, split_row
from flashbench.videos.find import composed
from flashbench.videos.remarks import of_pairs, of_videos, sources_of
from flashbench.videos.settings import listed

Source: TypeAlias = str | Path | pd.DataFrame | ScoredRun
"""Videos, a scored run, `FOLDER:ROW` of a protocol's results, or a table of scores."""
Margins: TypeAlias = float | Mapping[str, float] | None


def compare(
    a: Source,
    b: Source | Mapping[str, Source] | Sequence[Source],
    *,
    margin: Margins = None,
    metrics: Iterable[str | Metric] | str | None = None,
    pairs: str | Path = "auto",
    prompts: str | Path | Mapping[str, str] | None = None,
    reference: str | Path | None = None,
    frames: int | str = "all",
    size: str = "native",
) -> pd.DataFrame:
    """Compare videos or scored runs with a baseline, pair by pair; returns a line per metric and run.

    Args:
        a: the baseline: videos, a folder of `score --out`, a scores.parquet, `results/TIER/PROTOCOL:ROW`, or the table
            that `score` returned.
        b: what is compared with it: one such source, several, or a mapping of label to source.
        margin: how much worse still counts as no worse, in each metric's unit, or in % where its scale is "log": a
            number for all metrics, or a mapping of metric to number (`*` for all others).
        metrics: names (`a,b`, or a list) or `Metric`s; all that the runs share if not given. Holm's family is all of
            them times the runs.
        pairs: `auto` (names if any are shared, else prompts), `name`, `prompt`, or a CSV or JSONL with a column for
            each run.
        prompts, reference, frames, size: as in `flashbench.score`, for sources that are videos.

    Columns: `flashbench.comparison.verdict.COLUMNS` and `sentence`. Fewer than three clusters give no verdict.

    Raises:
        UsageError: something asked for is not there or not known, or is for videos where all is scored already.
        InvalidError: averages instead of clips' scores, scores that mean different things, or nothing that pairs.
    """
    sources: list[tuple[str, Source]] = [("", a)]
    if isinstance(b, Mapping):
        sources += b.items()
    elif isinstance(b, str | Path | pd.DataFrame | ScoredRun):
        sources.append(("", b))
    else:
        sources += [("", source) for source in b]
    scoring: dict[str, Any] = {"prompts": prompts, "reference": reference, "frames": frames, "size": size}
    return compare_runs(sources, margin=margin, metrics=metrics, pairs=pairs, **scoring).table


def compare_runs(
    sources: Sequence[tuple[str, Source]],
    *,
    baseline: str = "",
    margin: Margins = None,
    metrics: Iterable[str | Metric] | str | None = None,
    pairs: str | Path = "auto",
    **scoring: Any,
) -> Compared:
    """`compare` of (label, source) with all that it found out; without a label a source has its own.

    Args:
        baseline: a label, or a source as it was written; the first source if empty.
    """
    asked = None if metrics is None else listed(metrics)
    names = [label or (preflight.path(source) if isinstance(source, str | Path) else "") for label, source in sources]
    notes = preflight.check(sources, names, baseline, margin=margin, metrics=asked, pairs=pairs, scoring=scoring)
    runs = labelled([load(source, label, metrics=asked, **scoring) for label, source in sources], names)
    written = {composed(label): label for label in runs}
    written |= {composed(name): label for name, label in zip(names, runs, strict=True) if name}
    asked_for = [composed(name) for name in (baseline, preflight.path(baseline), plain(baseline))]
    first = next((written[name] for name in asked_for if name in written), plain(baseline) or next(iter(runs), ""))
    compared = judge(runs, first, margin=margin, metrics=asked, pairs=pairs)
    return replace(compared, notes=(*notes, *compared.notes))


def load(
    source: Source, label: str = "", *, metrics: Sequence[str | Metric] | None = None, **scoring: Any
) -> ScoredRun:
    """A scored run from whatever a user names; videos are scored first, with `scoring` as in `flashbench.score`."""
    if isinstance(source, ScoredRun):
        run = source
    elif isinstance(source, pd.DataFrame):
        table = chosen(source, label or "the table")
        run = ScoredRun(label=str(table["row"].iloc[0]) if len(table) else "table", table=table)
    else:
        path, row = split_row(str(source))
        if row or is_run(path):
            if not row:
                preflight.only_scores(path)
            run = read_run(path, row)
        else:
            from flashbench.videos import score

            done = score.score_videos(path, metrics, **scoring)
            run = ScoredRun(label=done.label, table=done.table, record=done.record(), protocol_hash=done.wanted.hash)
    return replace(run, label=label or run.label)


def labelled(runs: Sequence[ScoredRun], names: Sequence[str] = ()) -> dict[str, ScoredRun]:
    """Label → run; labels that two runs share become `names`, or are numbered."""
    shared = len({run.label for run in runs}) < len(runs)
    labels = list(names) if shared and len(set(names)) == len(runs) else [run.label for run in runs]
    by_label: dict[str, ScoredRun] = {}
    for label, run in zip(map(plain, labels), runs, strict=True):
        number, unique = 1, label
        while unique in by_label:
            number += 1
            unique = f"{label} ({number})"
        by_label[unique] = run
    return by_label


def judge(
    runs: Mapping[str, ScoredRun],
    baseline: str,
    *,
    margin: Margins = None,
    metrics: Iterable[str | Metric] | None = None,
    pairs: str | Path = "auto",
    lookup: Callable[[str], Metric] = registry.get,
) -> Compared:
    """Compare labelled runs with the one labelled `baseline`; `compare` with all that it found out."""
    if baseline not in runs:
        raise did_you_mean("baseline", baseline, runs)
    others = [label for label in runs if label != baseline]
    if not others:
        raise UsageError("a comparison needs two runs, and one is given", fix="name at least two")
    metrics = None if metrics is None else list(metrics)
    named = None if metrics is None else [metric if isinstance(metric, str) else metric.name for metric in metrics]
    own = {metric.name: metric for metric in metrics or () if not isinstance(metric, str)}
    names, notes = _metrics(runs, baseline, named)
    kinds = [own.get(name) or lookup(name) for name in names]
    margins = {kind.name: _margin(margin, kind, kinds) for kind in kinds}
    for label in others:
        notes += _same_meaning(runs[baseline], runs[label], names, (baseline, label))
    tables = {label: run.table for label, run in runs.items()}
    pairings = _pairings(tables, baseline, others, pairs)
    contrasts, tested = [], []
    for label in others:
        first, second, labels = runs[baseline], runs[label], (baseline, label)
        _same_references(first, second, [x.name for x in kinds if x.scope == "pair"], pairings[label], labels)
        tested.append(scores := combined(tables[baseline], tables[label], pairings[label]))
        notes += remarks(scores, labels) + _sizes(first, second, pairings[label], labels)
        notes += _files(first, second, pairings[label], labels)
        contrasts += [(scores, kind, difference(scores, kind), labels) for kind in kinds]
    p = np.array([found.p for _, _, found, _ in contrasts], dtype=np.float64)
    tests = int(np.count_nonzero(~np.isnan(p)))
    results = tuple(
        result(scores, kind, found, labels, margins[kind.name], adjusted=float(adjusted), tests=tests)
        for (scores, kind, found, labels), adjusted in zip(contrasts, stats.holm(p), strict=True)
    )
    return Compared(
        baseline=baseline,
        results=results,
        pairings=pairings,
        units=units(pd.concat(tested)),
        notes=tuple(dict.fromkeys(notes)),
        unreadable=tuple(line for label, run in runs.items() for line in _unreadable(label, run)),
        metrics=tuple(kinds),
        runs=runs,
    )


def parse_margins(texts: Sequence[str]) -> dict[str, float] | None:
    """Margins as a user writes them: `0.1` for all metrics, `niqe=0.1` for one.

    Raises:
        UsageError: one is no number above 0, or a metric has two.
    """
    margins: dict[str, float] = {}
    for text in texts:
        name, equals, number = text.rpartition("=")
        key = name.strip() if equals else EVERY
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not (value > 0 and math.isfinite(value)) or not key:
            raise UsageError(f"invalid --margin {text!r}", fix="write a number above 0, or METRIC=NUMBER")
        if key in margins:
            raise UsageError(f"two margins for {'all metrics' if key == EVERY else key}", fix="give one")
        margins[key] = value
    return margins or None


def _unreadable(label: str, run: ScoredRun) -> list[str]:
    videos = run.record["videos"] if run.record else []
    return [plain(f"{label}: {video['case']}: {video['reason']}") for video in videos if video.get("reason")]


def _files(first: ScoredRun, second: ScoredRun, pairing: Pairing, labels: tuple[str, str]) -> list[str]:
    """Notes on what the files of either run are, and on pairs whose files say different things of light and time."""
    sources = [sources_of(run.record["videos"]) if run.record else {} for run in (first, second)]
    resampled = any(bool(run.record and run.record["settings"].get("fps")) for run in (first, second))
    known = [(a, b) for (a, _), (b, _) in pairing.pairs if a in sources[0] and b in sources[1]]
    between = of_pairs([(b, sources[1][b], sources[0][a]) for a, b in known], f"in `{labels[0]}`", rates=not resampled)
    told = {label: of_videos(run, resampled=resampled) for label, run in zip(labels, sources, strict=True)}
    own = [f"`{label}`: {text}" for label, texts in told.items() for text in texts]
    return [plain(f"{note}.") for note in (*between, *own)]


def _metrics(runs: Mapping[str, ScoredRun], baseline: str, asked: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Names of the metrics to compare, and notes on those that a run lacks."""
    have = {label: list(dict.fromkeys(run.table["metric"].astype(str))) for label, run in runs.items()}
    known = list(dict.fromkeys(name for names in have.values() for name in names))
    for name in asked or ():
        if name not in known:
            raise did_you_mean("metric of these runs", name, known)
    wanted = [name for name in asked or known if all(name in names for names in have.values())]
    notes = []
    for label, names in have.items():
        if lacking := [name for name in asked or known if name not in names]:
            notes.append(f"Not compared, because `{label}` has no score of them: {', '.join(lacking)}.")
    if not wanted:
        raise InvalidError("the runs share no metric", fix="score both with the same --metrics")
    return wanted, notes


def _margin(margin: Margins, kind: Metric, kinds: Sequence[Metric]) -> float:
    if margin is None:
        return math.nan
    if not isinstance(margin, Mapping):
        margin = {EVERY: margin}
    for name, value in margin.items():
        if name != EVERY and name not in (kind.name for kind in kinds):
            raise did_you_mean("metric with a margin", name, [kind.name for kind in kinds])
        if not isinstance(value, int | float | np.number) or not value > 0:
            raise UsageError(f"invalid margin {value!r}: not a number above 0", fix="give it in the metric's unit")
    if kind.direction == "none":
        if kind.name in margin:
            raise UsageError(f"{kind.name} has no better or worse, so no margin", fix="leave it out")
        return math.nan
    return float(margin.get(kind.name, margin.get(EVERY, math.nan)))


def _same_meaning(first: ScoredRun, second: ScoredRun, names: Sequence[str], labels: tuple[str, str]) -> list[str]:
    """Refuse scores that mean different things; a note where that could not be checked."""
    if first.record is None or second.record is None:
        if first.protocol_hash and first.protocol_hash == second.protocol_hash:
            return []
        lacking = [f"`{x}`" for x, run in zip(labels, (first, second), strict=True) if run.record is None]
        verb = "has" if len(lacking) == 1 else "have"
        who = " and ".join(lacking)
        return [f"Not checked whether metrics, weights and settings are the same: {who} {verb} no run.json."]
    apart = _apart("", _meaning(first.record, names), _meaning(second.record, names))
    if apart:
        shown = "; ".join(f"{key}: {old} in {labels[0]!r}, {new} in {labels[1]!r}" for key, old, new in apart[:4])
        more = f" (and {len(apart) - 4} more)" if len(apart) > 4 else ""
        what = f"the scores of {labels[0]!r} and {labels[1]!r} mean different things: {shown}{more}"
        raise InvalidError(what, fix="score both with the same FlashBench, metrics, frames and size, on one machine")
    return []


def _meaning(record: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    about = {name: record["metrics"].get(name, {}) for name in names}
    parts = {
        name: {key: entry.get(key) for key in ("identity", "assets", "third_party")} for name, entry in about.items()
    }
    return {"settings": record["settings"], "numerics": record.get("numerics"), **parts}


def _same_references(
    before: ScoredRun, after: ScoredRun, names: Sequence[str], paired: Pairing, labels: tuple[str, str]
) -> None:
    """Refuse metrics of a pair where paired videos were compared with different references.

    Raises:
        InvalidError: some were. Where only one has a reference there is no pair of scores, which the result tells.
    """
    if not names or before.record is None or after.record is None:
        return
    first, second = (
        {video["case"]: (video.get("reference") or {}).get("clip") for video in run.record["videos"]}
        for run in (before, after) if run.record is not None
    )  # fmt: skip
    beside = [(first.get(a[0]), second.get(b[0])) for a, b in paired.pairs]
    if apart := sum(bool(a and b and a != b) for a, b in beside):
        what = f"the references of {counted(apart, 'pair')} of {labels[1]!r} and {labels[0]!r} differ: not"
        fix = "score both against the same --reference, or name other --metrics"
        raise InvalidError(f"{what} comparing {', '.join(names)}", fix=fix)


def _sizes(before: ScoredRun, after: ScoredRun, paired: Pairing, labels: tuple[str, str]) -> list[str]:
    """A note where paired videos were scored at different sizes: most metrics depend on the size."""
    if before.record is None or after.record is None:
        return []
    first, second = (
        {video["case"]: (video.get("height"), video.get("width")) for video in record["videos"]}
        for record in (before.record, after.record)
    )
    apart = [(first.get(a[0]), second.get(b[0])) for a, b in paired.pairs if first.get(a[0]) != second.get(b[0])]
    known = [(a, b) for a, b in apart if a and b and None not in (*a, *b)]
    if not known:
        return []
    mine, theirs = (f"{size[0]}×{size[1]}" for size in known[0])
    verb = "differs" if len(known) == 1 else "differ"
    where = f"{theirs} in `{labels[1]}`, {mine} in `{labels[0]}`"
    text = f"{counted(len(known), 'pair')} {verb} in size ({where}), on which most metrics depend"
    return [f"{text}: score both with the same --size to leave it out."]


def _apart(where: str, old: Any, new: Any) -> list[tuple[str, str, str]]:
    """(place, old, new) of every difference of two JSON values."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = dict.fromkeys([*old, *new])
        return [line for key in keys for line in _apart(f"{where} {key}".strip(), old.get(key), new.get(key))]
    return [] if old == new else [(where, _short(old), _short(new))]


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"


def _pairings(
    tables: Mapping[str, pd.DataFrame], baseline: str, others: Sequence[str], pairs: str | Path
) -> dict[str, Pairing]:
    if pairs in pairing.WAYS:
        return {label: pairing.pair(tables[baseline], tables[label], str(pairs), (baseline, label)) for label in others}
    if not Path(pairs).is_file():
        raise UsageError(
            f"invalid --pairs {pairs}: neither a way of pairing nor a file",
            fix=f"{', '.join(pairing.WAYS)}, or a manifest",
        )
    lines = pairing.manifest(Path(pairs), tables)
    pairings = {}
    for label in others:
        shared = [(clip, lines[label][line]) for line, clip in lines[baseline].items() if line in lines[label]]
        pairings[label] = pairing.paired(tables[baseline], tables[label], shared, "manifest", (baseline, label))
    return pairings
