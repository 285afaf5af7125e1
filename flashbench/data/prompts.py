"""Suites of prompts: VBench's with its long rewrites, the laptop's, and users' files; and the order they are taken in.

VBench's 946 lines hold 944 prompts (Z. Huang et al., CVPR 2024): the two that stand in two suites are one prompt that
serves the dimensions of both, with the first line's rewrite. A prompt is known by the hash of its original text in
Unicode's composed form, so that neither case nor a file system's spelling makes two prompts one, or one two.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from flashbench.assets import registry
from flashbench.data import records, scenes
from flashbench.data.records import Record
from flashbench.errors import InvalidError, MissingAsset, UsageError, did_you_mean
from flashbench.types import Case, Prompt

_T = TypeVar("_T")

VBENCH = "vbench"
SUITES = (
    "appearance_style", "color", "human_action", "multiple_objects", "object_class", "overall_consistency", "scene",
    "spatial_relationship", "subject_consistency", "temporal_flickering", "temporal_style",
)  # fmt: skip
"""VBench's eleven folders of prompts, each called by a dimension that it alone serves."""
REWRITES: Mapping[str, str] = MappingProxyType({"longer": "vbench-longer-prompts"})
"""Rewrite → the asset whose lines are those of `FULL_INFO`: GPT-4o's long prompts, which the paper generates from."""
REWRITERS: Mapping[str, str] = MappingProxyType({"longer": "GPT-4o"})
"""Rewrite → the model that wrote it."""
FULL_INFO = "vbench-full-info"
LAPTOP: Mapping[str, str] = MappingProxyType({"laptop": "test", "laptop-dev": "dev"})
"""The laptop's suites → their split of `flashbench.data.scenes`."""
FLICKERING = "temporal_flickering"
NATIVE_FLICKERING = "vbench_temporal_flickering"
FILES = (".txt", ".csv", ".tsv", ".jsonl", ".json")
"""A suite whose name ends so is a user's file."""
_FIX = "write one prompt a line (.txt), or CSV or JSONL with `prompt` and perhaps `original`, the text to score against"


def prompt_of(original: str, text: str | None = None, **about: Any) -> Prompt:
    """The prompt `original`, to be generated from `text` (a rewrite) if there is one; `about`: further fields."""
    composed = unicodedata.normalize("NFC", original)
    return Prompt(id=hashlib.sha256(composed.encode()).hexdigest(), text=text or original, original=original, **about)


def suite(name: str, *, rewrite: str | None = None) -> tuple[Prompt, ...]:
    """The prompts of a suite in its own order, each once.

    Args:
        name: `vbench`, one of its eleven suites (`vbench:overall_consistency`), `laptop` (held-out combinations, for
            tests), `laptop-dev`, or a user's file (`FILES`).
        rewrite: `longer`, to generate VBench's prompts from GPT-4o's rewrites; None for the prompts as they are.

    Raises:
        UsageError: no suite or rewrite has that name.
        MissingAsset: VBench's prompts are not here.
        InvalidError: a file that is none of prompts.
    """
    family, _, part = name.partition(":")
    if family == VBENCH:
        if rewrite not in (None, *REWRITES):
            raise did_you_mean("rewrite", str(rewrite), REWRITES)
        if name != VBENCH and part not in SUITES:
            raise did_you_mean("suite", name, [f"{VBENCH}:{part}" for part in SUITES])
        return tuple(prompt for prompt in _vbench(rewrite) if name == VBENCH or part in prompt.suites)
    if rewrite is not None:
        raise UsageError(f"only VBench's prompts have rewrites, not those of {name!r}", fix="leave `rewrite` out")
    if Path(name).suffix.lower() in FILES:
        return _file(Path(name))
    if name not in LAPTOP:
        raise did_you_mean("suite", name, (VBENCH, *(f"{VBENCH}:{part}" for part in SUITES), *LAPTOP))
    return _laptop(LAPTOP[name])


def ordered(prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
    """The prompts in the one order whose every beginning is spread over the suites as evenly as their sizes allow.

    By rounds: in each, one prompt of every suite that still has some, suites by name, the prompts of a suite by their
    ids, which are hashes. So the suites' numbers in a beginning differ by at most 1 until one is used up; the order is
    the same on every machine and in whatever order the prompts come, and a further prompt of one suite moves none past
    another of any other suite. A prompt of several suites counts for the largest of them.
    """
    sizes = Counter(name for prompt in prompts for name in prompt.suites)
    strata: dict[str, list[Prompt]] = {}
    for prompt in sorted(prompts, key=lambda prompt: prompt.id):
        strata.setdefault(max(prompt.suites, key=lambda name: (sizes[name], name), default=""), []).append(prompt)
    rounds = [(place, name, prompt) for name, members in strata.items() for place, prompt in enumerate(members)]
    return tuple(prompt for _, _, prompt in sorted(rounds, key=lambda place: place[:2]))


def subset_hash(prompts: Sequence[Prompt]) -> str:
    """sha256 of the prompts' ids, whatever their order."""
    return hashlib.sha256("\n".join(sorted(prompt.id for prompt in prompts)).encode()).hexdigest()


def vbench_cases(prompts: Sequence[Prompt], seeds: int, flicker_seeds: int) -> tuple[Case, ...]:
    """A case for each seed of each prompt: `seeds`, and `flicker_seeds` of those that serve temporal_flickering.

    VBench samples these 25 times and keeps static ones, the others 5 times: 6,220 cases of its 944 prompts.
    """
    return tuple(
        Case(id=prompt.id, cluster=prompt.id, seed=seed, prompt=prompt)
        for prompt in prompts
        for seed in range(flicker_seeds if FLICKERING in prompt.dimensions else seeds)
    )


def dimension_of(metric: str) -> str:
    """VBench's dimension that a metric measures (`vbench_long:color`, the native flickering); empty for others."""
    prefix, colon, name = metric.partition(":")
    return name if colon and prefix.startswith(VBENCH) else FLICKERING if metric == NATIVE_FLICKERING else ""


def serves(case: Case, metric: str) -> bool:
    """Whether a case is scored with `metric`: a prompt of VBench's only in the dimensions that it serves."""
    served = case.prompt.dimensions if case.prompt else ()
    return not served or dimension_of(metric) in ("", *served)


def read(path: Path, pick: Callable[[Mapping[str, Any]], _T], *, fix: str = _FIX) -> list[_T]:
    """`pick` of every entry of a file of prompts, as a mapping whose names are in small letters.

    The file is a table (`records.TABLES`), JSON lines, a JSON list of objects, pandas' JSON by columns or by lines, a
    JSON object of paths to prompts (or to objects with a prompt), or text with a prompt a line.

    Raises:
        InvalidError: the file cannot be read, is of no such form, or `pick` finds a field missing (KeyError) or of no
            use (ValueError).
    """

    def parse(text: str) -> list[_T]:
        return [_picked(pick, record) for record in _records(path.suffix.lower(), text)]

    return records.read(path, parse, kind="a file of prompts", fix=fix)


def _picked(pick: Callable[[Mapping[str, Any]], _T], record: Record) -> _T:
    try:
        return pick(record.fields)
    except KeyError as error:
        named = ", ".join(map(str, record.fields)) or "none"
        raise ValueError(f"{record.place} has no {error.args[0]}; it has {records.excerpt(named)}") from error
    except ValueError as error:
        raise ValueError(f"{record.place}: {error}") from error


def _records(suffix: str, text: str) -> list[Record]:
    """The entries of a file of prompts by its suffix and text, their names in small letters.

    Raises:
        ValueError: the text is of another form.
    """
    if suffix in records.TABLES or (suffix == ".txt" and _is_table(text)):
        return [_lowered(record) for record in records.table(text)]
    if suffix == ".txt" and not text.lstrip().startswith(("{", "[{")):
        lines = enumerate(text.split("\n"), 1)
        return [Record(f"line {number}", {"prompt": line.strip()}) for number, line in lines if line.strip()]
    found = records.objects(text)
    if len(found) == 1 and found[0].place == "entry 1" and text.lstrip().startswith("{"):
        return _of_object(found[0])
    return [_lowered(record) for record in found]


def _of_object(whole: Record) -> list[Record]:
    """The entries of a JSON object: its columns', its lines', those of its paths, or itself as one entry."""
    lowered = _lowered(whole)
    if isinstance(rows := lowered.fields.get("data"), list):  # pandas' orients `split` and `table`
        names = lowered.fields.get("columns")
        placed = [(f"entry {number}", row) for number, row in enumerate(rows, 1)]
        found = [Record(place, row if isinstance(row, Mapping) else _row(place, names, row)) for place, row in placed]
        return [_lowered(record) for record in found if not record.empty]
    if {"path", "prompt"} & lowered.fields.keys():
        columns = {n: dict(enumerate(x)) if isinstance(x, list) else x for n, x in lowered.fields.items()}
        if not all(isinstance(column, Mapping) for column in columns.values()):
            return [lowered]
        lines = dict.fromkeys(line for column in columns.values() for line in column)
        entries = {str(line): {name: column.get(line) for name, column in columns.items()} for line in lines}
        found = [Record(f"entry {name}", fields) for name, fields in entries.items()]
    else:
        found = []
        for name, value in whole.fields.items():
            place = f"the entry of {records.excerpt(name)}"
            about = _lowered(Record(place, value)).fields if isinstance(value, Mapping) else {"prompt": value}
            found.append(Record(place, {"path": name, **about}))
    return [record for record in found if not record.empty]


def _row(place: str, names: Any, row: Any) -> dict[str, Any]:
    if not (isinstance(names, list) and isinstance(row, list) and len(names) == len(row)):
        raise ValueError(f"{place} is neither an object nor a value for each of `columns`")
    return dict(zip(map(str, names), row, strict=True))


def _lowered(record: Record) -> Record:
    names = [name.strip().lower() for name in record.fields]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{record.place} has two fields called {records.excerpt(twice[0])}")
    return Record(record.place, dict(zip(names, record.fields.values(), strict=True)))


def _is_table(text: str) -> bool:
    """Whether a text is what spreadsheets call `Unicode text`: separated by tabs, the columns named first."""
    head = [name.strip().lower() for name in text.lstrip().split("\n", 1)[0].split("\t")]
    return len(head) > 1 and "prompt" in head


def _vbench(rewrite: str | None) -> tuple[Prompt, ...]:
    needed = [FULL_INFO, *([REWRITES[rewrite]] if rewrite else [])]
    if absent := [name for name in needed if not registry.present(name)]:
        what = f"VBench's prompts are not here ({', '.join(absent)})"
        raise MissingAsset(what, fix=f"flashbench assets pull {' '.join(absent)}")
    paths = [registry.path(name) for name in needed]
    try:
        entries = json.loads(paths[0].read_text("utf-8"))
        texts = paths[1].read_text("utf-8").rstrip("\n").split("\n") if rewrite else [None] * len(entries)
        if len(texts) != len(entries):
            raise ValueError(f"{len(texts)} rewrites of {len(entries)} prompts")
        lines = [_entry(line, *pair) for line, pair in enumerate(zip(entries, texts, strict=True))]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"{' and '.join(needed)} are not VBench's prompts: {error!r}"
        raise InvalidError(what, fix="see FLASHBENCH_ASSETS") from error
    return _unique(lines)


def _entry(line: int, entry: Mapping[str, Any], text: str | None) -> Prompt:
    dimensions = tuple(entry["dimension"])
    suites = tuple(name for name in dimensions if name in SUITES)
    labels = entry.get("auxiliary_info", {})
    return prompt_of(entry["prompt_en"], text, dimensions=dimensions, suites=suites, labels=labels, line=line)


def _unique(prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
    """Each prompt once, the first with what the others of its id serve."""
    by_id: dict[str, Prompt] = {}
    for prompt in prompts:
        first = by_id.setdefault(prompt.id, prompt)
        if first is not prompt:
            by_id[prompt.id] = replace(
                first,
                dimensions=tuple(dict.fromkeys(first.dimensions + prompt.dimensions)),
                suites=tuple(dict.fromkeys(first.suites + prompt.suites)),
                labels={**prompt.labels, **first.labels},
            )
    return tuple(by_id.values())


def _file(path: Path) -> tuple[Prompt, ...]:
    """A user's file: `prompt` is generated from, `original` (the prompt itself if absent) is scored against."""
    pairs = read(path, lambda entry: (_text(entry["prompt"]), _text(entry.get("original") or entry["prompt"])))
    if not pairs:
        raise InvalidError(f"{path} holds no prompt", fix=_FIX)
    return _unique([prompt_of(original, text, line=line) for line, (text, original) in enumerate(pairs)])


def _text(value: Any) -> str:
    """A prompt, which is Unicode and not blank (JSON can write what is not)."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a prompt is empty or no text")
    value.encode()
    return value


def _laptop(split: str) -> tuple[Prompt, ...]:
    """The captions of a split; shapes, which are the hardest to make, are the parts that a beginning is spread over."""
    return tuple(
        prompt_of(caption, line=line, suites=(scene.shape,) if (scene := scenes.parse(caption)) else ())
        for line, caption in enumerate(scenes.captions(split))
    )
