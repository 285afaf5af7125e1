"""Which clip of one run goes with which of another: by name, by prompt and seed, in order, or as a file says.

All of it needs names, prompts and seeds alone, so that what does not pair is found out before anything is scored.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from flashbench.data import records
from flashbench.errors import InvalidError, UsageError
from flashbench.reporting.numbers import counted, plain
from flashbench.videos.find import composed, stem

if TYPE_CHECKING:
    import pandas as pd

WAYS = ("auto", "name", "prompt", "order")
Clip: TypeAlias = tuple[str, int]
"""Case and seed: one clip of a run."""
_LISTED = 3
_MANIFEST = "write a CSV or JSONL with a column for each run, named as it is, and one pair of videos per line"


class Unpaired(InvalidError):
    """Two runs of which nothing pairs, with a `draft` of the manifest that would say what does."""

    def __init__(self, what: str, *, fix: str = "", draft: str = "") -> None:
        super().__init__(what, fix=fix)
        self.draft = draft
        """CSV: a column for each run, their videos in order side by side, to be put right by hand."""

    def __reduce__(self) -> tuple[object, ...]:
        return partial(type(self), fix=self.fix, draft=self.draft), (self.what,)


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """Pairs of clips of a baseline and another run."""

    way: str
    """`name`, `affix` (names but for what all of a side have at one end), `prompt`, `order` or `manifest`."""
    pairs: tuple[tuple[Clip, Clip], ...]
    alone: tuple[tuple[Clip, ...], tuple[Clip, ...]]
    """Clips of the baseline, and of the other, that have no partner."""
    affixes: tuple[str, str] = ("", "")
    """What was left out of the names of either side."""

    @property
    def lost(self) -> tuple[tuple[Clip, ...], tuple[Clip, ...]]:
        """Clips of either side whose partner is missing; a manifest, which names its pairs, leaves none missing."""
        return ((), ()) if self.way == "manifest" else self.alone

    def describe(self, first: str, second: str) -> list[str]:
        """What was paired how, and what is unmatched, as sentences."""
        without = " and ".join(f"`{plain(affix)}`" for affix in self.affixes if affix)
        rule = {
            "name": "by name", "affix": f"by name without {without}", "prompt": "by prompt and seed",
            "order": "in the order of their names", "manifest": "as the manifest says",
        }[self.way]  # fmt: skip
        lines = [f"{counted(len(self.pairs), 'pair')} of `{second}` and `{first}`, {rule}."]
        for label, clips in zip((first, second), self.alone, strict=True):
            if clips:
                shown = ", ".join(case for case, _ in clips[:_LISTED]) + (", …" if len(clips) > _LISTED else "")
                lines.append(f"{len(clips)} unmatched in `{label}`: {plain(shown)}.")
        return lines


def pairings(
    tables: Mapping[str, pd.DataFrame], baseline: str, others: Sequence[str], pairs: str | Path
) -> dict[str, Pairing]:
    """Other run → its pairs with the baseline, by one of `WAYS` or by a manifest.

    Raises:
        UsageError: neither a way nor a file.
        Unpaired: nothing pairs; with a draft of a manifest of all runs.
        InvalidError: a clip has two partners, or the manifest is of another form.
    """
    if pairs not in WAYS and not Path(pairs).is_file():
        what = f"invalid --pairs {pairs}: neither a way of pairing nor a file"
        raise UsageError(what, fix=f"{', '.join(WAYS)}, or a manifest")
    try:
        if pairs in WAYS:
            return {label: pair(tables[baseline], tables[label], str(pairs), (baseline, label)) for label in others}
        lines, found = manifest(Path(pairs), tables), {}
        for label in others:
            shared = [(clip, lines[label][line]) for line, clip in lines[baseline].items() if line in lines[label]]
            found[label] = paired(tables[baseline], tables[label], shared, "manifest", (baseline, label))
        return found
    except Unpaired as error:
        raise Unpaired(error.what, fix=error.fix, draft=draft({x: tables[x] for x in (baseline, *others)})) from error


def draft(tables: Mapping[str, pd.DataFrame]) -> str:
    """A manifest to be put right by hand: a column for each run, its videos in their order."""
    columns = [[case for case, _ in _in_order(clips(table))] for table in tables.values()]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(tables)
    writer.writerows(zip_longest(*columns, fillvalue=""))
    return stream.getvalue()


def pair(first: pd.DataFrame, second: pd.DataFrame, way: str, labels: tuple[str, str]) -> Pairing:
    """Pair the clips of two tables of scores, or of what will be scored: their columns case, seed and cluster.

    `auto` pairs by name if any name is shared, otherwise by prompt and seed, otherwise by names without what all of a
    side have at one end (`x_modelA`, `x_modelB`), which `name` does too. Names are paths below the folder that was
    scored; names that differ only in their suffix, or in how Unicode writes them (composed or not), pair where that
    leads to one file on each side. `order` pairs the first with the first, and so on, by names with their numbers.

    Raises:
        UsageError: no such way.
        Unpaired: nothing pairs, or there are not as many to pair in order.
        InvalidError: a clip has two partners.
    """
    if way not in WAYS:
        raise UsageError(f"no way of pairing called {way!r}", fix=f"{', '.join(WAYS)}, or a manifest file")
    here, there = clips(first), clips(second)
    if way == "order":
        if len(here) != len(there):
            what = f"{labels[1]!r} has {counted(len(there), 'video')}, {labels[0]!r} {len(here)}: no pairs in order"
            raise Unpaired(what, fix=_MANIFEST)
        return paired(first, second, zip(_in_order(here), _in_order(there), strict=True), "order", labels)
    if way != "prompt" and (chosen := _by_name(here, there, labels)):
        return paired(first, second, chosen, "name", labels)
    if way == "prompt" or (way == "auto" and _prompts(first) and _prompts(second)):
        chosen = _by_prompt(first, second, labels)
        if chosen or way == "prompt":
            return paired(first, second, chosen, "prompt", labels)
    chosen, affixes = _by_affix(here, there)
    return paired(first, second, chosen, "affix", labels, affixes)


def paired(
    first: pd.DataFrame, second: pd.DataFrame, pairs: Iterable[tuple[Clip, Clip]], way: str, labels: tuple[str, str],
    affixes: tuple[str, str] = ("", ""),
) -> Pairing:  # fmt: skip
    """The pairing of chosen pairs, with what they leave over.

    Raises:
        Unpaired: there is no pair.
    """
    ordered = tuple(sorted(pairs))
    if not ordered:
        first_clips, second_clips = clips(first), clips(second)
        what = f"no video of {labels[1]!r} pairs with one of {labels[0]!r}"
        if first_clips and second_clips:
            what += f": {second_clips[0][0]!r} there, {first_clips[0][0]!r} here"
        fix = "give them the same names, prompts (score --prompts), `--pairs order`, or a manifest"
        raise Unpaired(what, fix=f"{fix}: {_MANIFEST}")
    left, right = {a for a, _ in ordered}, {b for _, b in ordered}
    alone = tuple(a for a in clips(first) if a not in left), tuple(b for b in clips(second) if b not in right)
    return Pairing(way=way, pairs=ordered, alone=alone, affixes=affixes)


def clips(table: pd.DataFrame) -> list[Clip]:
    """The clips of a table of scores, sorted."""
    unique = table[["case", "seed"]].drop_duplicates()
    return sorted(zip(unique["case"].astype(str), unique["seed"].astype(int), strict=True))


def manifest(path: Path, tables: Mapping[str, pd.DataFrame]) -> dict[str, dict[int, Clip]]:
    """Run → line of the manifest → its clip. Columns are named after the runs, or as many as the runs and in order.

    Raises:
        InvalidError: the file cannot be read, has other columns, or names a video that a run does not have, or twice.
    """
    lines = _lines(path)
    columns = list(lines[0]) if lines else []
    labels = list(tables)
    if not all(composed(label) in columns for label in labels):
        if len(columns) != len(labels):
            what = f"{path} has the columns {', '.join(columns) or '(none)'}; the runs are {', '.join(labels)}"
            raise InvalidError(what, fix=_MANIFEST)
        column_of = dict(zip(labels, columns, strict=True))
    else:
        column_of = {label: composed(label) for label in labels}
    clips_by_run: dict[str, dict[int, Clip]] = {}
    for label, column in column_of.items():
        clips_by_text = _ways(clips(tables[label]))
        clip_by_line: dict[int, Clip] = {}
        for number, line in enumerate(lines):
            if not (text := str(line.get(column) or "").strip()):
                continue
            matches = clips_by_text.get(composed(text.replace("\\", "/").removeprefix("./")), ())
            if len(matches) != 1:
                what = f"{path}: {text!r} leads to {len(matches) or 'no'} video{'s' * (len(matches) > 1)} of {label!r}"
                raise InvalidError(what, fix="write the path below the folder that was scored")
            clip_by_line[number] = matches[0]
        if twice := [clip for clip, count in Counter(clip_by_line.values()).items() if count > 1]:
            raise InvalidError(f"{path} names {twice[0][0]!r} of {label!r} twice", fix="one line for each pair")
        clips_by_run[label] = clip_by_line
    return clips_by_run


def _by_name(first: list[Clip], second: list[Clip], labels: tuple[str, str]) -> list[tuple[Clip, Clip]]:
    """Pairs of equal names; of what is left, those equal in composed form; then those equal but for the suffix."""
    # A case with several seeds (a protocol's) pairs seed by seed; else seeds only say which prompt line a file answers.
    several = any(len({case for case, _ in side}) < len(side) for side in (first, second))
    pairs: list[tuple[Clip, Clip]] = []
    for name in (str, composed, stem):
        left = _grouped(first, name, several, {a for a, _ in pairs})
        right = _grouped(second, name, several, {b for _, b in pairs})
        for key in left.keys() & right.keys():
            for label, group in zip(labels, (left[key], right[key]), strict=True):
                if len(group) > 1:
                    alike = "in their suffix" if name is stem else "in how Unicode writes them"
                    what = f"{group[0][0]!r} and {group[1][0]!r} of {label!r} differ only {alike}"
                    raise InvalidError(what, fix="rename one, or say what pairs in a manifest (--pairs FILE)")
            pairs.append((left[key][0], right[key][0]))
    return pairs


def _grouped(side: list[Clip], name: Any, several: bool, taken: set[Clip]) -> dict[Clip, list[Clip]]:
    groups: dict[Clip, list[Clip]] = {}
    for case, seed in side:
        if (case, seed) not in taken:
            groups.setdefault((name(case), seed if several else 0), []).append((case, seed))
    return groups


def _by_affix(first: list[Clip], second: list[Clip]) -> tuple[list[tuple[Clip, Clip]], tuple[str, str]]:
    """Pairs of names that are equal without what all of either side begin or end with, and what that is.

    Of several such ends it is those that leave most pairs, and then the shortest.
    """
    best: tuple[tuple[Any, ...], list[tuple[Clip, Clip]], tuple[str, str]] = ((), [], ("", ""))
    sides = [{clip: stem(clip[0]) for clip in side} for side in (first, second)]
    for reverse in (False, True):
        ends = [_ends(list(side.values()), reverse) for side in sides]
        for affixes in product(*ends):
            if affixes[0] == affixes[1]:
                continue
            left, right = (_without(side, end, reverse) for side, end in zip(sides, affixes, strict=True))
            pairs = [(left[key], right[key]) for key in left.keys() & right.keys()]
            rank = (-len(pairs), len("".join(affixes)), reverse, sorted(affixes))
            if pairs and (not best[1] or rank < best[0]):
                best = rank, pairs, (affixes[0], affixes[1])
    return best[1], best[2]


def _ends(names: list[str], reverse: bool) -> list[str]:
    """What all names begin with (at `reverse`: end with), cut where a word ends; nothing, and no bare number."""
    turned = [name[::-1] for name in names] if reverse else names
    common = os.path.commonprefix(turned)
    cuts = [common[: at + 1] for at, mark in enumerate(common) if not mark.isalnum()]
    words = [cut for cut in cuts if any(mark.isalpha() for mark in cut)]
    return ["", *(word[::-1] if reverse else word for word in words)]


def _without(side: Mapping[Clip, str], end: str, reverse: bool) -> dict[str, Clip]:
    """Name without its end → clip; empty where two would be alike, or one have no name."""
    cut = {clip: (name.removesuffix(end) if reverse else name.removeprefix(end)) for clip, name in side.items()}
    found = {name: clip for clip, name in cut.items() if name}
    return found if len(found) == len(side) else {}


def _in_order(side: list[Clip]) -> list[Clip]:
    """By name, numbers in it by their value."""

    def key(clip: Clip) -> tuple[list[tuple[int, int, str]], Clip]:
        parts = re.split(r"([0-9]+)", stem(clip[0]))
        return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts], clip

    return sorted(side, key=key)


def _by_prompt(first: pd.DataFrame, second: pd.DataFrame, labels: tuple[str, str]) -> list[tuple[Clip, Clip]]:
    left, right = (_answers(table, label) for table, label in zip((first, second), labels, strict=True))
    return [(left[key], right[key]) for key in left.keys() & right.keys()]


def _answers(table: pd.DataFrame, label: str) -> dict[tuple[str, int], Clip]:
    """(prompt, seed) → the clip that answers it."""
    if not _prompts(table):
        raise InvalidError(f"{label!r} was scored without prompts", fix="score it with --prompts, or pair by name")
    unique = table[["cluster", "case", "seed"]].drop_duplicates().sort_values(["cluster", "seed", "case"])
    answers: dict[tuple[str, int], Clip] = {}
    for cluster, case, seed in unique.itertuples(index=False):
        key, clip = (composed(str(cluster)), int(seed)), (str(case), int(seed))
        if answers.setdefault(key, clip) != clip:
            what = f"{answers[key][0]!r} and {case!r} of {label!r} both answer {str(cluster)[:60]!r} with seed {seed}"
            raise InvalidError(what, fix="give each its seed (score --prompts), pair by name, or write a manifest")
    return answers


def _prompts(table: pd.DataFrame) -> bool:
    """Whether clusters are prompts (or sources), not the videos themselves."""
    return bool((table["cluster"].astype(str) != table["case"].astype(str)).any())


def _ways(side: list[Clip]) -> dict[str, list[Clip]]:
    """What a manifest may write → the clips that it leads to: the case, without suffix, or the ends of its path."""
    exact: dict[str, list[Clip]] = {}
    ways: dict[str, list[Clip]] = {}
    for case, seed in side:
        exact.setdefault(composed(case), []).append((case, seed))
        parts = composed(case).split("/")
        tails = ["/".join(parts[start:]) for start in range(len(parts))]
        for name in {*tails, *map(stem, tails)}:
            ways.setdefault(name, []).append((case, seed))
    return {**ways, **exact}


def _lines(path: Path) -> list[dict[str, Any]]:
    table = path.suffix.lower() in records.TABLES
    lines = records.read(path, records.table if table else records.objects, kind="a manifest", fix=_MANIFEST)
    return [{composed(str(name).strip()): value for name, value in line.fields.items()} for line in lines]
