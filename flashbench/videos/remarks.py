"""What a file is that its numbers do not show, one line for each kind: fields, pixels, times, tags, transparency."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flashbench.videos.find import stem

Facts = Mapping[str, Any]
"""A `Source` as run.json holds it."""

_UNEVEN = "show their pictures for unequal times ({})"
_ONCE = ": every picture counts once; `--fps N` takes the nearest in time"
_KINDS: tuple[tuple[Callable[[Facts], str], str], ...] = (
    (
        lambda source: "" if source["field_order"] in ("progressive", "unknown") else source["field_order"],
        "are interlaced ({}): each frame is measured as stored, with lines of two moments",
    ),
    (
        lambda source: "" if source["pixel_aspect"] == "1/1" else source["pixel_aspect"],
        "have pixels that are not square ({}): measured as stored, not stretched",
    ),
    (
        lambda source: f"up to {source['longest']:.3g} s" if source["variable_rate"] else "",
        _UNEVEN,
    ),
    (
        lambda source: f"{source['repeated']} of {source['frames']}" if source.get("repeated") else "",
        "repeat pictures exactly ({}): metrics over time see no change there",
    ),
    (
        lambda source: source["pixel_format"] if untagged(source) else "",
        "name no colour matrix ({}): read as BT.601, FFmpeg's default",
    ),
    (
        lambda source: f"{source['depth']} bits" if source["depth"] > 8 else "",
        "have more than 8 bits a sample ({}): measured at 8, which hides banding",
    ),
    (
        lambda source: "transparency" if source.get("transparent") else "",
        "are not opaque ({}): measured on black",
    ),
)
"""What marks a kind (empty: not of it), and what is said of it; the first video's mark stands in the brackets."""


def of_videos(sources: Mapping[str, Facts], *, resampled: bool = False) -> list[str]:
    """Remarks on videos by their names: one for each kind that there is, with the first of its kind as an example.

    `resampled` says that pictures were taken at one rate (`--fps`).
    """
    remarks = []
    for mark, said in _KINDS:
        if marked := {case: text for case, source in sources.items() if (text := mark(source))}:
            first, text = next(iter(marked.items()))
            line = f"{len(marked)} of {len(sources)} videos {said.format(f'{first}: {text}')}"
            remarks.append(line + ("" if said is not _UNEVEN or resampled else _ONCE))
    return remarks


def of_names(names: Sequence[str]) -> list[str]:
    """A remark on names that look like several samples of each prompt: one set of numbers under two or more stems."""
    numbers: dict[str, set[int]] = {}
    for name in names:
        if match := re.fullmatch(r"(.*[^0-9])([0-9]{1,9})", stem(name), re.DOTALL):
            numbers.setdefault(match[1], set()).add(int(match[2]))
    sets = Counter(frozenset(found) for found in numbers.values() if len(found) > 1)
    shared = next(((found, count) for found, count in sets.most_common(1) if count > 1), None)
    if shared is None:
        return []
    stems = [text for text, found in numbers.items() if found == shared[0]]
    which = " and ".join(f"{text}{min(shared[0])} … {text}{max(shared[0])}" for text in stems[:2])
    what = f"names share one set of {len(shared[0])} numbers under {len(stems)} stems ({which})"
    return [f"{what}: if a stem is a prompt, say so by --prompts, for its samples are not independent"]


def untagged(source: Facts) -> bool:
    """Whether a rule of ours chooses the matrix: samples are YUV, and nothing says which."""
    return source["matrix"] == "untagged" and source["chroma"] not in ("rgb", "gray")


def sources_of(entries: Sequence[Mapping[str, Any]]) -> dict[str, Facts]:
    """Name → source of the entries of run.json's videos that have one of this version's form."""
    kept = {}
    for entry in entries:
        source = entry.get("source")
        if isinstance(source, Mapping) and "field_order" in source:
            kept[str(entry["case"])] = source
    return kept
