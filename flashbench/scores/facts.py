"""What two videos differ in besides their pictures: rate, repeats, size, coding, tags …, and which metrics that moves.

A *fact* is read off an entry of run.json's videos: what the file is, and what of it metrics saw. Where a pair differs
in one, a difference of a metric that the fact moves is not known to be the pictures'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

from flashbench.errors import did_you_mean
from flashbench.metrics.base import Metric

Entry: TypeAlias = Mapping[str, Any]
"""An entry of run.json's videos, or of a reference's; what it lacks is not known, and differs from nothing."""
Told: TypeAlias = Callable[[Entry], str]
Moves: TypeAlias = Callable[[Metric, Entry, Entry], bool]

_NEAR = Fraction(1, 4)
"""Shares of frames that repeat within compression noise are told apart from here: a slow motion has some too."""
_BT601 = "BT.601"
_SAME: Mapping[str, str] = {"untagged": _BT601, "bt470bg": _BT601, "smpte170m": _BT601}
_SDR: Mapping[str, str] = {"smpte170m": "bt709", "bt2020-10": "bt709", "bt2020-12": "bt709"}
"""Transfers of one function (ITU-T H.273, table 3)."""


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One thing that two videos may differ in."""

    name: str
    """What `--despite` calls it."""
    title: str
    """What a sentence calls it."""
    told: Told
    """What an entry says; empty where it is not known."""
    moves: Moves
    """Whether it moves a metric's values of two such videos."""
    meaning: str
    """What a difference means."""
    apart: Callable[[Entry, Entry], bool] | None = None
    """Whether two known entries differ, where that is not whether they are told alike."""

    def differs(self, one: Entry, other: Entry) -> bool:
        """Whether two entries are known to differ; the same either way round."""
        texts = self.told(one), self.told(other)
        return all(texts) and (self.apart(one, other) if self.apart else texts[0] != texts[1])


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A fact in which some pairs of two sides differ."""

    fact: str
    """`Fact.name`."""
    title: str
    pairs: int
    of: int
    case: str
    """The first pair that differs, and what either side says there."""
    own: str
    its: str
    meaning: str

    def line(self, whose: str, *, of: str = "") -> str:
        """As a sentence without its end; `whose` is the other side, `of` whose the pairs are."""
        what = f"{self.pairs} of {self.of} pairs{of} differ in {self.title}"
        return f"{what} ({self.case}: {self.own}, {whose} {self.its}): {self.meaning}"


def between(pairs: Sequence[tuple[str, Entry, Entry]]) -> list[Difference]:
    """Facts in which pairs (name, what is measured, what it is compared with) differ, each with how many do."""
    differences = []
    for fact in FACTS:
        if differing := [(case, own, its) for case, own, its in pairs if fact.differs(own, its)]:
            case, own, its = differing[0]
            differences.append(
                Difference(
                    fact=fact.name,
                    title=fact.title,
                    pairs=len(differing),
                    of=len(pairs),
                    case=case,
                    own=fact.told(own),
                    its=fact.told(its),
                    meaning=fact.meaning,
                )  # fmt: skip
            )
    return differences


def in_the_way(metric: Metric, pairs: Iterable[tuple[Entry, Entry]], despite: Iterable[str] = ()) -> tuple[str, ...]:
    """Names of the facts that move a metric and in which some of the pairs differ, but for those in `despite`.

    `rate` covers what follows from it in a pair: another number of frames, and pictures repeated to reach it.
    """
    despite, found = set(despite), dict[str, None]()
    for own, its in pairs:
        differing = [fact for fact in FACTS if fact.differs(own, its)]
        names = {fact.name for fact in differing}
        covered = despite | (OF_TIME if "rate" in names & despite else set())
        found |= {f.name: None for f in differing if f.name not in covered and f.moves(metric, own, its)}
    return tuple(name for name in NAMES if name in found)


def remedy(
    metric: Metric, pairs: Sequence[tuple[Entry, Entry]], held: tuple[str, ...], despite: Iterable[str]
) -> tuple[str, ...]:
    """Those of the facts `in_the_way` that `despite` is to name besides, for none to be left."""
    short = tuple(name for name in held if name == "rate" or name not in OF_TIME)
    return held if short == held or in_the_way(metric, pairs, (*despite, *short)) else short


def checked(names: Iterable[str] | str) -> tuple[str, ...]:
    """Names of facts as people write them, `rate,size` or a list.

    Raises:
        UsageError: one is no fact's.
    """
    texts = [names] if isinstance(names, str) else list(names)
    each = [part.strip() for text in texts for part in text.split(",")]
    for name in each:
        if name not in NAMES:
            raise did_you_mean("fact in --despite", name, NAMES)
    return tuple(dict.fromkeys(each))


def entries_of(entries: Sequence[Entry], reader: Mapping[str, Any] | None = None) -> dict[str, Entry]:
    """Name → entry of run.json's videos, each with the `reader` of its run; of another version's, without its source.

    A video that could not be read whole has no entry: nothing is known of what metrics would have seen.
    """
    kept: dict[str, Entry] = {}
    for entry in entries:
        if entry.get("reason") and not entry.get("clip"):
            continue
        here = {name: value for name, value in entry.items() if name != "source" or "field_order" in (value or {})}
        kept[str(entry["case"])] = {**here, **({"reader": reader} if reader else {})}
    return kept


def _of_source(told: Callable[[Mapping[str, Any]], str]) -> Told:
    return lambda entry: told(source) if (source := entry.get("source")) else ""


def _of_yuv(name: str, text: Callable[[str], str]) -> Told:
    return _of_source(lambda source: "" if source["chroma"] in ("rgb", "gray") else text(str(source[name])))


def _tag(name: str, text: Callable[[str], str] = str) -> Told:
    return _of_source(lambda source: "" if source[name] == "untagged" else text(str(source[name])))


def _rate(entry: Entry) -> str:
    rate = entry.get("fps") or (entry.get("source") or {}).get("fps")
    return f"{float(Fraction(rate)):.5g}" if rate else ""


def _repeats(entry: Entry) -> str:
    found, frames = entry.get("repeats"), entry.get("frames")
    if not found or not frames:
        return ""
    near = f", {found['near']} within noise" if found["near"] > found["exact"] else ""
    return f"{found['exact']} of {frames}{near}"


def _repeats_apart(one: Entry, other: Entry) -> bool:
    exact = one["repeats"]["exact"] != other["repeats"]["exact"]
    near = [Fraction(entry["repeats"]["near"], entry["frames"]) for entry in (one, other)]
    return exact or abs(near[0] - near[1]) >= _NEAR


def _size(entry: Entry) -> str:
    height, width = entry.get("height"), entry.get("width")
    return f"{height}×{width}" if height and width else ""


def _loss(source: Mapping[str, Any]) -> str:
    lossless = source.get("lossless")
    return "" if lossless is None else "lossless" if lossless else "lossy"


def _reader(entry: Entry) -> str:
    reader = entry.get("reader")
    if not reader:
        return ""
    library = (reader.get("libraries") or {}).get("av", "?")
    return f"reader {reader.get('reader')}, colour {reader.get('colour')}, {reader.get('swscale')}, av {library}"


def _over_time(metric: Metric, *_: Entry) -> bool:
    return metric.over_time


def _counts_frames(metric: Metric, *_: Entry) -> bool:
    """Metrics of neighbours or ends of a video, and set values that move with how much goes into them."""
    return metric.over_time or metric.scope == "video" or metric.finite_sample_bias


def _every(metric: Metric, *_: Entry) -> bool:
    return not metric.computed


def _both_lossy(metric: Metric, one: Entry, other: Entry) -> bool:
    return not metric.computed and all((entry["source"]).get("lossless") is False for entry in (one, other))


_OF_OTHERS = "that alone can move values"
_OF_RATES = "metrics over time compare steps of other lengths; `--fps N`, at most the lower rate, looks at both alike"
FACTS: tuple[Fact, ...] = (
    Fact(name="rate", title="frames a second", told=_rate, moves=_over_time, meaning=_OF_RATES),
    Fact(
        name="repeats", title="pictures that repeat the one before", told=_repeats, moves=_over_time,
        meaning="metrics over time take a repeated picture for calm", apart=_repeats_apart,
    ),
    Fact(
        name="frames", title="number of frames", told=lambda entry: str(entry.get("frames") or ""),
        moves=_counts_frames, meaning="values are of other stretches of time",
    ),
    Fact(
        name="size", title="size", told=_size, moves=_every,
        meaning="most metrics depend on it: score both with the same --size to leave it out",
    ),
    Fact(
        name="loss", title="coding with or without loss", told=_of_source(_loss), moves=_every,
        meaning="what a codec smooths away or adds is measured too",
    ),
    Fact(
        name="codec", title="codec", told=_of_source(lambda source: str(source["codec"])), moves=_both_lossy,
        meaning=_OF_OTHERS,
    ),
    Fact(
        name="depth", title="bits a sample", told=_of_source(lambda source: str(source["depth"])), moves=_every,
        meaning=_OF_OTHERS,
    ),
    Fact(
        name="tags", title="colour matrix", told=_of_yuv("matrix", lambda text: _SAME.get(text, text)), moves=_every,
        meaning=_OF_OTHERS,
    ),
    Fact(
        name="tags", title="range", told=_of_yuv("range", lambda text: "limited" if text == "untagged" else text),
        moves=_every, meaning=_OF_OTHERS,
    ),
    Fact(name="tags", title="primaries", told=_tag("primaries"), moves=_every, meaning=_OF_OTHERS),
    Fact(
        name="tags", title="transfer", told=_tag("transfer", lambda text: _SDR.get(text, text)), moves=_every,
        meaning=_OF_OTHERS,
    ),
    Fact(
        name="fields", title="field order", moves=_every, meaning=_OF_OTHERS,
        told=_of_source(lambda source: str(source["field_order"]).replace("unknown", "progressive")),
    ),
    Fact(
        name="aspect", title="pixel aspect", told=_of_source(lambda source: str(source["pixel_aspect"])),
        moves=_every, meaning=_OF_OTHERS,
    ),
    Fact(name="reader", title="reader", told=_reader, moves=_every, meaning="score both with one FlashBench"),
)  # fmt: skip
"""In the order in which they are told."""
NAMES = tuple(dict.fromkeys(fact.name for fact in FACTS))
OF_TIME = frozenset({"rate", "repeats", "frames"})
