"""What to cite for a metric, a system or a statistical method: citations.yaml, and BibTeX made from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from flashbench.paths import PACKAGE, read_yaml

CITATIONS = PACKAGE / "reporting" / "citations.yaml"
_FIELDS = (
    "author", "title", "booktitle", "journal", "volume", "number", "pages", "howpublished", "note", "doi", "year",
)  # fmt: skip


@dataclass(frozen=True)
class Source:
    """How a metric is called and cited."""

    name: str
    cite: tuple[str, ...]
    """Keys of entries."""
    none: str
    """Whose definition it is, where there is nothing (more) to cite."""
    by: tuple[str, ...]
    """Libraries that it computes with, besides NumPy and those that the metric itself declares."""


def source(metric: str) -> Source | None:
    """How a metric is called and cited: the longest entry of citations.yaml that its name begins with, or None."""
    known: Mapping[str, Mapping[str, Any]] = _data()["metrics"]
    fitting = [x for x in known if metric == x or metric.startswith(x if x.endswith(":") else f"{x}_")]
    if not fitting:
        return None
    entry = known[max(fitting, key=len)]
    return Source(
        str(entry["name"]), tuple(entry.get("cite", ())), str(entry.get("none", "")), tuple(entry.get("by", ()))
    )


def always() -> tuple[str, ...]:
    """Keys of what every text cites."""
    return tuple(_data()["always"])


def of_system(name: str) -> tuple[str, ...]:
    """Keys of a system's papers; none where it is nobody else's."""
    return tuple(_data()["systems"].get(name, ()))


def bibtex(keys: Iterable[str], *, version: str) -> str:
    """BibTeX of entries; `version` is FlashBench's."""
    return "\n\n".join(_entry(key, _data()["entries"][key], version) for key in dict.fromkeys(keys))


@cache
def _data() -> dict[str, Any]:
    return read_yaml(CITATIONS)


def _entry(key: str, fields: Mapping[str, Any], version: str) -> str:
    width = max(len(name) for name in _FIELDS if name in fields)
    lines = [
        f"  {name:<{width}} = {{{str(fields[name]).replace('VERSION', version)}}},"
        for name in _FIELDS
        if name in fields
    ]
    return "\n".join([f"@{fields['type']}{{{key},", *lines, "}"])
