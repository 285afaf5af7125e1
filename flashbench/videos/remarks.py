"""What a file is that its numbers do not show, one line for each kind: fields, pixels, times, tags, transparency."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

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
_OF_OTHERS = "that alone can move values"
_OF_RATES = "metrics over time compare steps of other lengths; `--fps N`, at most the lower rate, looks at both alike"
_BT601 = "BT.601"
_SAME: Mapping[str, str] = {"untagged": _BT601, "bt470bg": _BT601, "smpte170m": _BT601}
_SDR: Mapping[str, str] = {"smpte170m": "bt709", "bt2020-10": "bt709", "bt2020-12": "bt709"}
"""Transfers of one function (ITU-T H.273, table 3)."""


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


def of_pairs(pairs: Sequence[tuple[str, Facts, Facts]], other: str, *, rates: bool = True) -> list[str]:
    """Remarks on pairs (name, what is measured, what it is compared with) whose files say different things.

    Args:
        pairs: the pairs.
        other: what the second of a pair is called, such as `its reference`.
        rates: whether frames a second count; not where both were resampled to one rate.
    """
    remarks = []
    for fact, name, meaning in _FACTS if rates else _FACTS[:-1]:
        differing = [
            (case, *told) for case, own, its in pairs if len(set(told := (fact(own), fact(its)))) > 1 and all(told)
        ]
        if differing:
            case, own, its = differing[0]
            which = f"{case}: {own}, {other} {its}"
            remarks.append(f"{len(differing)} of {len(pairs)} pairs differ in {name} ({which}): {meaning}")
    return remarks


def untagged(source: Facts) -> bool:
    """Whether a rule of ours chooses the matrix: samples are YUV, and nothing says which."""
    return source["matrix"] == "untagged" and source["chroma"] not in ("rgb", "gray")


def _of_yuv(source: Facts, text: str) -> str:
    return "" if source["chroma"] in ("rgb", "gray") else text


def _matrix(source: Facts) -> str:
    return _of_yuv(source, _SAME.get(matrix := str(source["matrix"]), matrix))


def _range(source: Facts) -> str:
    return _of_yuv(source, "limited" if source["range"] == "untagged" else source["range"])


def _primaries(source: Facts) -> str:
    return "" if source["primaries"] == "untagged" else source["primaries"]


def _transfer(source: Facts) -> str:
    return "" if source["transfer"] == "untagged" else _SDR.get(transfer := str(source["transfer"]), transfer)


def _depth(source: Facts) -> str:
    return str(source["depth"])


def _fields(source: Facts) -> str:
    return "progressive" if source["field_order"] == "unknown" else source["field_order"]


def _aspect(source: Facts) -> str:
    return str(source["pixel_aspect"])


def _rate(source: Facts) -> str:
    return f"{float(Fraction(source['fps'])):.5g}"


_FACTS: tuple[tuple[Callable[[Facts], str], str, str], ...] = (
    (_matrix, "colour matrix", _OF_OTHERS),
    (_range, "range", _OF_OTHERS),
    (_primaries, "primaries", _OF_OTHERS),
    (_transfer, "transfer", _OF_OTHERS),
    (_depth, "bits a sample", _OF_OTHERS),
    (_fields, "field order", _OF_OTHERS),
    (_aspect, "pixel aspect", _OF_OTHERS),
    (_rate, "frames a second", _OF_RATES),
)
"""What is compared of a pair (empty: not said), its name, and what a difference means; the rate last."""


def sources_of(entries: Sequence[Mapping[str, Any]]) -> dict[str, Facts]:
    """Name → source of the entries of run.json's videos that have one of this version's form."""
    kept = {}
    for entry in entries:
        source = entry.get("source")
        if isinstance(source, Mapping) and "field_order" in source:
            kept[str(entry["case"])] = source
    return kept
