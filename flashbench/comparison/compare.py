"""`flashbench compare`: is one set of videos better than another? Paired tests, one verdict and sentence per metric.

The clips of two runs are paired before anything is scored (`comparison.pairing`), each metric's differences go through
`stats.contrast` with the cluster as their unit, and p values are adjusted in their families (`comparison.family`).
Runs whose scores mean different things (another version, weights, frames, size, numerics) are refused. Where pairs
differ in what moves a metric besides the pictures (`scores.facts`) there is no verdict, and where clips of one side are
lost (`comparison.losses`) it has to stand in the worst case.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from flashbench import metrics as registry
from flashbench.comparison import family, pairing, preflight
from flashbench.comparison.losses import lost
from flashbench.comparison.pairing import Clip, Pairing
from flashbench.comparison.verdict import Compared, Contest, combined, decide, difference, remarks, units
from flashbench.errors import InvalidError, UsageError, did_you_mean
from flashbench.metrics.base import Metric
from flashbench.progress import quiet
from flashbench.reporting.numbers import counted, plain
from flashbench.scores import facts
from flashbench.scores.facts import Difference, Entry
from flashbench.scores.runs import RECORD, ScoredRun, chosen, is_run, read_run, split_row, unlike
from flashbench.videos import find
from flashbench.videos.find import composed
from flashbench.videos.margins import Margins, margin_of
from flashbench.videos.remarks import of_names, of_videos, sources_of
from flashbench.videos.settings import listed

Source: TypeAlias = str | Path | pd.DataFrame | ScoredRun
"""Videos, a scored run, `FOLDER:ROW` of a protocol's results, or a table of scores."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What decides how verdicts are made, beside the scores."""

    primary: tuple[str, ...] = ()
    """Metrics of the family that decides; those of the protocol, or all, if none are named."""
    despite: tuple[str, ...] = ()
    """Facts that may differ (`scores.facts.NAMES`)."""
    ignore_missing: bool = False
    """Whether clips that one side lost are left out of account."""


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
    fps: int | float | str | Fraction | None = None,
    device: str = "cpu",
    workers: int = 1,
    primary: Iterable[str] | str = (),
    despite: Iterable[str] | str = (),
    ignore_missing: bool = False,
    progress: bool = True,
) -> pd.DataFrame:
    """Compare videos or scored runs with a baseline, pair by pair; returns a line per metric and run.

    Args:
        a: the baseline: videos, a folder of `score --out`, a scores.parquet, `results/TIER/PROTOCOL:ROW`, or the table
            that `score` returned.
        b: what is compared with it: one such source, several, or a mapping of label to source.
        margin: how much worse still counts as no worse, in each metric's unit, or in % where its scale is "log": a
            number for all metrics, or a mapping of metric to number (`*` for all others).
        metrics: names (`a,b`, or a list) or `Metric`s; all that the runs share if not given.
        pairs: `auto` (names if any are shared, else prompts, else names but for what all of a side have at one end),
            `name`, `prompt`, `order`, or a CSV or JSONL with a column for each run.
        prompts, reference, frames, size, fps, device: as in `flashbench.score`, for sources that are videos.
        workers: processes that score videos at the same time.
        primary: names of the metrics that decide: Holm's family is these times the runs, and the rest is exploratory.
            Those of the protocol if none are named; all metrics that have a direction if it has none.
        despite: facts in which pairs may differ all the same, such as `rate` (`flashbench.scores.facts.NAMES`).
        ignore_missing: leave clips that one side has lost out of account.
        progress: show on stderr how far the scoring of videos has come.

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
    scoring: dict[str, Any] = {
        "prompts": prompts, "reference": reference, "frames": frames, "size": size, "fps": fps, "device": device,
        "workers": workers,
    }  # fmt: skip
    with quiet(not progress):
        return compare_runs(
            sources, margin=margin, metrics=metrics, pairs=pairs, primary=primary, despite=despite,
            ignore_missing=ignore_missing, **scoring,
        ).table  # fmt: skip


def compare_runs(
    sources: Sequence[tuple[str, Source]],
    *,
    baseline: str = "",
    margin: Margins = None,
    metrics: Iterable[str | Metric] | str | None = None,
    pairs: str | Path = "auto",
    primary: Iterable[str] | str = (),
    despite: Iterable[str] | str = (),
    ignore_missing: bool = False,
    **scoring: Any,
) -> Compared:
    """`compare` of (label, source) with all that it found out; without a label a source has its own.

    Args:
        baseline: a label, or a source as it was written; the first source if empty.
    """
    asked = None if metrics is None else listed(metrics)
    rules = Rules(
        primary=tuple(x if isinstance(x, str) else x.name for x in listed(primary)) if primary else (),
        despite=facts.checked(despite) if despite else (),
        ignore_missing=ignore_missing,
    )
    names = [label or (preflight.path(source) if isinstance(source, str | Path) else "") for label, source in sources]
    notes = preflight.check(
        sources, names, baseline, margin=margin, metrics=asked, primary=rules.primary, pairs=pairs, scoring=scoring
    )
    known = [outline(source, label, scoring.get("prompts")) for label, source in sources]
    outlines = labelled(known, names)
    written = {composed(label): label for label in outlines}
    written |= {composed(name): label for name, label in zip(names, outlines, strict=True) if name}
    asked_for = [composed(name) for name in (baseline, preflight.path(baseline), plain(baseline))]
    first = next((written[name] for name in asked_for if name in written), plain(baseline) or next(iter(outlines), ""))
    if first in outlines:
        others = [label for label in outlines if label != first]
        pairing.pairings({label: run.table for label, run in outlines.items()}, first, others, pairs)
    runs = {
        label: load(source, label, metrics=asked, **scoring) if preflight.is_videos(source) else run
        for (label, run), (_, source) in zip(outlines.items(), sources, strict=True)
    }
    compared = judge(runs, first, margin=margin, metrics=asked, pairs=pairs, rules=rules)
    return replace(compared, notes=(*notes, *compared.notes))


def outline(source: Source, label: str = "", prompts: str | Path | Mapping[str, str] | None = None) -> ScoredRun:
    """A run as far as it is known before anything is scored: of videos, which there are (no scores)."""
    if not preflight.is_videos(source):
        return load(source, label)
    found = find.find([str(source)])
    videos = found.videos if prompts is None else find.prompted(found.videos, prompts)[0]
    lines = [(video.case, video.cluster, video.seed) for video in videos]
    return ScoredRun(label=label or found.label, table=pd.DataFrame(lines, columns=["case", "cluster", "seed"]))


def load(
    source: Source, label: str = "", *, metrics: Sequence[str | Metric] | None = None, **scoring: Any
) -> ScoredRun:
    """A scored run from whatever a user names; videos are scored first, with `scoring` as in `flashbench.score`."""
    if isinstance(source, ScoredRun):
        run = source
    elif isinstance(source, pd.DataFrame):
        table = chosen(source, label or "the table")
        record = table.attrs.get(RECORD)
        table = table.copy(deep=False)
        table.attrs = {}  # which pandas would copy at every step
        run = ScoredRun(label=str(table["row"].iloc[0]) if len(table) else "table", table=table, record=record)
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
    rules: Rules | None = None,
    lookup: Callable[[str], Metric] = registry.get,
) -> Compared:
    """Compare labelled runs with the one labelled `baseline`; `compare` with all that it found out."""
    if baseline not in runs:
        raise did_you_mean("baseline", baseline, runs)
    others = [label for label in runs if label != baseline]
    if not others:
        raise UsageError("a comparison needs two runs, and one is given", fix="name at least two")
    rules = rules or Rules()
    metrics = None if metrics is None else list(metrics)
    named = None if metrics is None else [metric if isinstance(metric, str) else metric.name for metric in metrics]
    own = {metric.name: metric for metric in metrics or () if not isinstance(metric, str)}
    names, notes = _metrics(runs, baseline, named)
    family.known(rules.primary, names)
    kinds = [own.get(name) or lookup(name) for name in names]
    margins = {kind.name: margin_of(margin, kind, kinds) for kind in kinds}
    for label in others:
        notes += _same_meaning(runs[baseline], runs[label], names, (baseline, label))
    tables = {label: run.table for label, run in runs.items()}
    pairings = pairing.pairings(tables, baseline, others, pairs)
    contests, differences = list[Contest](), dict[str, tuple[Difference, ...]]()
    for label in others:
        first, second, labels = runs[baseline], runs[label], (baseline, label)
        same_references(first, second, [x.name for x in kinds if x.scope == "pair"], pairings[label], labels)
        found, apart, told = _contests(first, second, kinds, pairings[label], labels, rules)
        contests += [replace(contest, margin=margins[contest.metric.name]) for contest in found]
        differences[label], notes = apart, notes + told
    tested = [contest.metric.name for contest in contests if not math.isnan(contest.p)]
    protocols = {str(name) for table in tables.values() for name in table["protocol"].unique()}
    return Compared(
        baseline=baseline,
        results=decide(contests, family.primary(tested, rules.primary, protocols)),
        pairings=pairings,
        facts=differences,
        units=units(pd.concat(tables.values())),
        notes=tuple(dict.fromkeys([*notes, *_samples(runs)])),
        unreadable=tuple(line for label, run in runs.items() for line in _unreadable(label, run)),
        metrics=tuple(kinds),
        runs=runs,
    )


def _contests(
    first: ScoredRun, second: ScoredRun, kinds: Sequence[Metric], paired: Pairing, labels: tuple[str, str], rules: Rules
) -> tuple[list[Contest], tuple[Difference, ...], list[str]]:
    """Every metric's contest without its margin, in what pairs differ besides, and notes on the pairs."""
    table, bare = combined(first.table, second.table, paired, lost=not rules.ignore_missing)
    entries = [_entries(run) for run in (first, second)]
    pairs = [(b[0], entries[1].get(b, {}), entries[0].get(a, {})) for a, b in paired.pairs]
    apart = tuple(facts.between(pairs))
    both = [(own, its) for _, own, its in pairs] if apart else []
    together = [kind.name for kind in kinds]
    contests = []
    for kind in kinds:
        scored = table[table["metric"] == kind.name]
        held = facts.in_the_way(kind, both, rules.despite)
        contests.append(
            Contest(
                table=scored, metric=kind, labels=labels, margin=math.nan, contrast=difference(scored, kind),
                shown=family.shown(kind, together, rules.primary), facts=held, ignoring=rules.ignore_missing,
                despite=facts.remedy(kind, both, held, rules.despite), lost=lost(scored, kind),
            )
        )  # fmt: skip
    between = [f"{replace(found, case=plain(found.case)).line(f'in `{labels[0]}`')}." for found in apart]
    return contests, apart, remarks(table, labels, bare) + between + _files(first, second, labels)


def _entries(run: ScoredRun) -> dict[Clip, Entry]:
    """Clip → what is known of it besides its scores: of run.json where there is one, and its number of frames."""
    known = facts.entries_of(run.record["videos"], run.record.get("reader")) if run.record else {}
    clips = run.table[["case", "seed", "frames"]].drop_duplicates(["case", "seed"])
    return {
        (str(case), int(seed)): {"frames": int(frames), **known.get(str(case), {})}
        for case, seed, frames in zip(
            clips["case"].astype(str), clips["seed"].astype(int), clips["frames"], strict=True
        )
    }


def _samples(runs: Mapping[str, ScoredRun]) -> list[str]:
    """A note on runs without prompts whose names look like several samples of each."""
    notes = []
    for label, run in runs.items():
        cases, clusters = run.table["case"].astype(str), run.table["cluster"].astype(str)
        if (cases == clusters).all():
            notes += [f"`{label}`: {plain(text)}." for text in of_names(list(dict.fromkeys(cases)))]
    return notes


def _unreadable(label: str, run: ScoredRun) -> list[str]:
    videos = run.record["videos"] if run.record else []
    return [plain(f"{label}: {video['case']}: {video['reason']}") for video in videos if video.get("reason")]


def _files(first: ScoredRun, second: ScoredRun, labels: tuple[str, str]) -> list[str]:
    """Notes on what the files of either run are, and on what they differ in from their references."""
    notes = []
    for label, run in zip(labels, (first, second), strict=True):
        if run.record is None:
            continue
        resampled = bool(run.record["settings"].get("fps"))
        entries = facts.entries_of(run.record["videos"])
        beside = [(case, entry, entry["reference"]) for case, entry in entries.items() if entry.get("reference")]
        own = of_videos(sources_of(run.record["videos"]), resampled=resampled)
        own += [found.line("its reference") for found in facts.between(beside)]
        notes += [f"`{label}`: {plain(text)}." for text in own]
    return notes


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


def _same_meaning(first: ScoredRun, second: ScoredRun, names: Sequence[str], labels: tuple[str, str]) -> list[str]:
    """Refuse scores that mean different things; a note where that could not be checked."""
    if first.record is None or second.record is None:
        if first.protocol_hash and first.protocol_hash == second.protocol_hash:
            return []
        lacking = [f"`{x}`" for x, run in zip(labels, (first, second), strict=True) if run.record is None]
        verb = "has" if len(lacking) == 1 else "have"
        who = " and ".join(lacking)
        return [f"Not checked whether metrics, weights and settings are the same: {who} {verb} no run.json."]
    if differing := unlike(first.record, second.record, names):
        shown = "; ".join(f"{key}: {old} in {labels[0]!r}, {new} in {labels[1]!r}" for key, old, new in differing[:4])
        more = f" (and {len(differing) - 4} more)" if len(differing) > 4 else ""
        what = f"the scores of {labels[0]!r} and {labels[1]!r} mean different things: {shown}{more}"
        raise InvalidError(what, fix="score both with the same FlashBench, metrics, frames and size, on one machine")
    return []


def same_references(
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
