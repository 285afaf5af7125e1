"""`flashbench cite RUN`: a methods paragraph, the protocol's hash, and BibTeX for what a run used.

All of it comes from the run's files, `stats` and citations.yaml; what a run does not say is told as missing, never
guessed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashbench import keys
from flashbench.errors import FlashBenchError, InvalidError
from flashbench.methods import BENJAMINI_HOCHBERG, HOLM, Method
from flashbench.reporting import methods
from flashbench.reporting.bibliography import always, bibtex, of_system, source
from flashbench.reporting.numbers import counted, digits
from flashbench.scores import facts
from flashbench.scores.runs import COMPARISON, RECORD, SCORES, read_comparison, read_record, same_run
from flashbench.scores.table import read_scores, stored
from flashbench.version import __version__

if TYPE_CHECKING:
    import pandas as pd

    from flashbench.protocol.types import Protocol

_PREFIX = 12
"""Digits of a sha256 that a text shows."""
_LIBRARIES = {"av": "PyAV", "numpy": "NumPy", "scipy": "SciPy", "opencv": "OpenCV", "torch": "PyTorch"}
"""How a text calls libraries, in the order in which it names them; others come last, as their packages are called."""
_GIVE = "give a folder that `flashbench score --out` or `compare --out` wrote, or a protocol's results"


@dataclass(frozen=True, kw_only=True)
class Citation:
    """What to write about a run."""

    paragraph: str
    protocol: str
    protocol_hash: str
    entries: tuple[str, ...]
    """Keys of the BibTeX entries, in order of first use."""
    bibtex: str
    remarks: tuple[str, ...]
    """What the run does not say, and metrics that have no paper to cite."""
    results: tuple[str, ...] = ()
    """Of a comparison: each verdict as a sentence."""

    @property
    def text(self) -> str:
        """Paragraph, protocol with its hash, remarks and BibTeX, as `flashbench cite` prints them."""
        hashed = f"Protocol: {self.protocol}, hash {self.protocol_hash or 'not recorded'}"
        results, remarks = ("\n".join(f"- {line}" for line in lines) for lines in (self.results, self.remarks))
        return "\n\n".join(filter(None, (self.paragraph, results, hashed, remarks, self.bibtex))) + "\n"


def cite(run: Path) -> Citation:
    """What to write about a scored run or a comparison; of a folder that holds both, about the run.

    Args:
        run: a folder of `flashbench score --out` or `compare --out`, or a protocol's results, results/TIER/PROTOCOL.

    Raises:
        InvalidError: it is none of them, or its files cannot be read.
    """
    folder = run.parent if run.name in (RECORD, SCORES, COMPARISON) else run
    if run.name != COMPARISON and (record := read_record(folder / RECORD)) is not None:
        return _of_videos(record, _scores(folder / SCORES, record))
    scored = run.name != COMPARISON and (folder / SCORES).is_file()
    if not scored and (record := read_comparison(folder / COMPARISON)) is not None:
        return _of_comparison(record)
    if not scored:
        raise InvalidError(f"{run} has neither {RECORD} nor {SCORES} nor {COMPARISON}", fix=_GIVE)
    return _of_protocol(folder)


def _scores(file: Path, record: Mapping[str, Any]) -> pd.DataFrame | None:
    """The scores beside a run.json, if they are there."""
    if not file.is_file():
        return None
    table = read_scores(file)
    same_run(record, file)
    return table


def _unmeasured(table: pd.DataFrame | None, record: Mapping[str, Any]) -> dict[str, str]:
    """Metric → why it has no value in a run: an obstacle of the machine, or what its scores say."""
    reasons = {name: str(x["obstacle"]) for name, x in record["metrics"].items() if x.get("obstacle")}
    if table is not None:
        for name, lines in table.groupby("metric", sort=False):
            if lines["value"].isna().all():
                reasons.setdefault(str(name), "; ".join(dict.fromkeys(filter(None, lines["reason"]))))
    return reasons


def _of_videos(record: Mapping[str, Any], table: pd.DataFrame | None) -> Citation:
    """Of a run.json and the scores beside it."""
    unmeasured = _unmeasured(table, record)
    videos = [video for video in record["videos"] if video.get("clip")]
    lost = len(record["videos"]) - len(videos)
    used = {name: about for name, about in record["metrics"].items() if name not in unmeasured}
    version = str(record["versions"].get("flashbench", "unknown"))
    protocol, settings = str(record.get("protocol", "")), record["settings"]
    unit = "prompt" if any(video.get("prompt") for video in videos) else "video"
    count = len({video.get("prompt") or video["case"] for video in videos})
    scored = dict.fromkeys(used, (count, count)) if table is None else methods.clusters(table)
    intervals = methods.of_videos(methods.known(used), scored, unit)
    sentences = [
        f"Scores were computed with FlashBench {version} under the protocol {protocol} (hash "
        f"{record['protocol_hash'][:_PREFIX]}).",
        _material(videos),
        *(
            [f"{counted(lost, 'further file')} could not be read and {'is' if lost == 1 else 'are'} left out."]
            * (lost > 0)
        ),
        _seen(settings),
        _referenced(videos, used),
        _prompted(videos, str(record.get("suite", ""))),
        _measured(used),
        _computed(used, record["versions"], read=_readers(videos, settings)),
        intervals.text,
    ]
    absent = [f"Not measured: {name} ({reason})." for name, reason in unmeasured.items()] + _foreign(used)
    entries = facts.entries_of(videos)
    beside = [(case, entry, entry["reference"]) for case, entry in entries.items() if entry.get("reference")]
    absent += [f"{found.line('its reference')}." for found in facts.between(beside)]
    if any(video.get("prompt") for video in videos) and record.get("suite") != "vbench":
        absent.append("Which suite the prompts come from is not known to the run: name and cite it.")
    names = [*used, *(["vbench"] if record.get("suite") == "vbench" else [])]
    return _citation(
        " ".join(filter(None, sentences)),
        protocol,
        record["protocol_hash"],
        names,
        version,
        absent,
        last=intervals.cite,
    )


def _of_protocol(folder: Path) -> Citation:
    """Of results/TIER/PROTOCOL."""
    table = read_scores(folder / SCORES)
    names = list(dict.fromkeys(table.loc[table["value"].notna(), "metric"].astype(str)))
    name = str(table["protocol"].iloc[0]) if len(table) else folder.name
    digest, tier = stored(folder / SCORES, "protocol"), folder.resolve().parent.name
    sentences = [
        f"Scores were computed with FlashBench {__version__} under the protocol {name} at the {tier} tier "
        f"(hash {digest[:_PREFIX]}).",
    ]
    remarks = ["Versions and weights are those of this installation: a protocol's scores.parquet does not name them."]
    protocol, systems = None, tuple[str, ...]()
    try:
        protocol = _same_protocol(name, tier, digest)
        shape = protocol.geometry
        sentences.append(
            f"Clips have {shape.frames} frames of {shape.height}×{shape.width} pixels at {_rate(shape.fps)} frames per "
            "second and are kept without loss (FFV1, RGB)."
        )
        systems = tuple(dict.fromkeys(x.system.name for part in protocol.parts for x in part.variants))
        sentences.append(f"Systems: {', '.join(systems)}.")
    except FlashBenchError as error:
        remarks.append(
            f"The protocol {name} that is here is not the one of these results: {error.what}. Sets of cases are told "
            "apart by the rows that answer them; which metrics are primary is not known."
        )
    sentences.append(_measured({metric: _declared(metric) for metric in names}))
    sentences.append(_computed(names, _installed(names), read={"av"}))
    statistics = methods.of_protocol(
        methods.case_sets(table, methods.known(names), protocol), replicas=table["replica"].nunique()
    )
    sentences.append(statistics.text)
    first = [key for system in systems for key in of_system(system)]
    return _citation(
        " ".join(sentences), name, digest, names, __version__, remarks + _foreign(names), first=first,
        last=statistics.cite,
    )  # fmt: skip


def _same_protocol(name: str, tier: str, digest: str) -> Protocol:
    """The protocol of that name and hash.

    Raises:
        FlashBenchError: none is here.
    """
    from flashbench.protocol.compose import load_protocol

    protocol = load_protocol(name, tier=tier)
    if protocol.hash != digest:
        raise InvalidError(f"its hash here is {protocol.hash[:_PREFIX]}")
    return protocol


def _of_comparison(record: Mapping[str, Any]) -> Citation:
    """Of a compare.json."""
    baseline, results, runs = str(record["baseline"]), record["results"], record["runs"]
    others = [label for label in runs if label != baseline]
    used = {x["metric"]: record["metrics"].get(x["metric"], {}) for x in results if x["n"]}
    unsaid = [name for name, about in used.items() if not about.get("identity")]
    used |= {name: used[name] | _declared(name) for name in unsaid}
    tested = [x for x in results if x["p"] is not None]
    protocols = list(dict.fromkeys((run["protocol"], run["protocol_hash"]) for run in runs.values()))
    protocol, digest = protocols[0] if len(protocols) == 1 else (", ".join(dict.fromkeys(x for x, _ in protocols)), "")
    settings, versions = runs[baseline].get("settings") or {}, runs[baseline].get("versions") or {}
    tests = _tests(record, used, tested)
    sentences = [
        f"{', '.join(others)} {'was' if len(others) == 1 else 'were'} compared with {baseline} by FlashBench "
        f"{record['flashbench']}, clip by clip.",
        *(text for texts in record["pairs"].values() for text in texts),
        _seen(settings) if settings else "",
        _measured(used),
        _computed(used, versions, read=()) if versions else "",
        tests.text,
    ]
    remarks = [f"Left out: {text}." for text in dict.fromkeys(_excluded(x) for x in results) if text]
    remarks += [f"Not read, or not whole: {text}." for text in record["unreadable"]]
    for other, differences in record.get("facts", {}).items():
        told = [facts.Difference(**found).line(f"in {baseline}", of=f" of {other}") for found in differences]
        remarks += [f"{line}." for line in told]
    remarks.append("The videos of each run are described by `flashbench cite` of that run.")
    if unsaid:
        remarks.append("Versions and weights of metrics are those of this installation: the runs do not name them.")
    return _citation(
        " ".join(filter(None, sentences)), protocol, digest, used, record["flashbench"], remarks, last=tests.cite,
        results=[str(x["sentence"]) for x in results if x["n"]],
    )  # fmt: skip


def _tests(record: Mapping[str, Any], used: Mapping[str, Any], tested: Sequence[Mapping[str, Any]]) -> Method:
    """How a comparison tested: clusters, intervals and p as its record has them, and what was adjusted."""
    unit = str(record["units"])
    if not tested:
        return Method(f"Nothing was tested (unit of statistics: {unit}).")
    counts = sorted({x["clusters"] for x in tested})
    how_many = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]}–{counts[-1]}"
    names: dict[Method, list[str]] = {}
    for name in dict.fromkeys(x["metric"] for x in tested):
        own = used[name].get("method") or {}
        names.setdefault(Method(own.get("text", "?"), tuple(own.get("cite", ()))), []).append(name)
    told = "; ".join(f"{method.text} ({', '.join(own)})" for method, own in names.items())
    text = (
        f"Values and differences are over the pairs in which both have a score. Intervals of paired differences are "
        f"95 %, two-sided, over {how_many} {unit}: {told}."
    )
    decisive = [x for x in tested if x.get("primary", True)]
    others = len(tested) - len(decisive)
    adjusting = [HOLM] * (len(decisive) > 1) + [BENJAMINI_HOCHBERG] * (others > 0)
    if len(decisive) > 1:
        which = "the primary metrics" if others else "the comparison"
        text += f" P values are adjusted by {HOLM.text} over all {len(decisive)} tests of {which}."
    if others:
        text += f" {counted(others, 'exploratory test')} {'is' if others == 1 else 'are'} adjusted by "
        text += f"{BENJAMINI_HOCHBERG.text}."
    if any(x["margin"] is not None for x in tested):
        text += (
            " No worse means that the worse end of the two-sided interval is within the margin, a one-sided test of "
            "non-inferiority at 2.5 %, each metric by itself."
        )
    if any(x.get("worst") for x in tested):
        text += " Where one side alone lacks a score, a verdict must stand with the lost clips as bad for it as any."
    return Method(text, tuple(key for method in (*names, *adjusting) for key in method.cite))


def _excluded(result: Mapping[str, Any]) -> str:
    """Why a metric's pairs do not all count; empty if they do."""
    if result["n"] == result["of"]:
        return ""
    return f"{result['metric']} of {result['other']}, {result['of'] - result['n']} of {result['of']} pairs: " + (
        re.sub(r"^[0-9]+ of [0-9]+ pairs left out: ", "", str(result["reason"])) or "no score"
    )


def _citation(
    paragraph: str,
    protocol: str,
    digest: str,
    names: Iterable[str],
    version: str,
    remarks: Sequence[str],
    *,
    first: Sequence[str] = (),
    last: Sequence[str] = (),
    results: Sequence[str] = (),
) -> Citation:
    """With the entries of systems `first` and those of statistics `last`."""
    keys, notes = [*always(), *first], list(remarks)
    for name in names:
        entry = source(name)
        if entry is None:
            notes.append(f"No citation is known for {name}: cite it as its package says.")
            continue
        keys += entry.cite
        if entry.none:
            notes.append(f"{name}: {entry.none}.")
    unique = tuple(dict.fromkeys([*keys, *last]))
    return Citation(
        paragraph=paragraph,
        protocol=protocol,
        protocol_hash=digest,
        entries=unique,
        bibtex=bibtex(unique, version=version),
        remarks=tuple(notes),
        results=tuple(results),
    )


def _foreign(names: Iterable[str]) -> list[str]:
    """Remarks on metrics that are not installed here."""
    here = {metric.name for metric in methods.known(names)}
    return [f"How intervals of {x} are made is not known here: it is not installed." for x in names if x not in here]


def _material(videos: Sequence[Mapping[str, Any]]) -> str:
    if not videos:
        return "No video could be read."
    sources = [video.get("source") or {} for video in videos]
    sizes = _several(f"{video['height']}×{video['width']}" for video in videos)
    lengths = _several(str(video["frames"]) for video in videos)
    # The file's own rate: that of a clip of chosen frames is lower.
    rates = _several(_rate(file.get("fps", video["fps"])) for file, video in zip(sources, videos, strict=True))
    codecs = _several("/".join(filter(None, (s.get("codec"), s.get("pixel_format")))) or "unknown" for s in sources)
    containers = _several(s.get("container") or "unknown" for s in sources)
    matrices = _several(s.get("matrix") or "unknown" for s in sources)
    return (
        f"{counted(len(videos), 'video').capitalize()} were scored: {lengths} frames each, {sizes} "
        f"pixels (height×width), {rates} frames per second; codec and pixel format {codecs}, container "
        f"{containers}, colour matrix {matrices} (untagged video is read as BT.601)."
    ).replace("1 video were", "1 video was")


def _seen(settings: Mapping[str, Any]) -> str:
    frames, size = settings.get("frames"), settings.get("size")
    taken = "All frames were used" if frames == "all" else f"The middles of {frames} equal parts were used as frames"
    kept = "at their native size" if size == "native" else f"resized to {str(size).replace('x', '×')} pixels"
    return f"{taken}, {kept}."


def _referenced(videos: Sequence[Mapping[str, Any]], used: Iterable[str]) -> str:
    """That metrics of a pair had references, and for how many videos."""
    pairs = [metric.name for metric in methods.known(used) if metric.scope == "pair"]
    count = sum(bool((video.get("reference") or {}).get("clip")) for video in videos)
    if not pairs or not count:
        return ""
    how_many = "" if count == len(videos) else f" ({count} of {len(videos)} have one)"
    return f"For {', '.join(pairs)} they were compared with references of the same names{how_many}."


def _prompted(videos: Sequence[Mapping[str, Any]], suite: str) -> str:
    prompts = [str(video["prompt"]) for video in videos if video.get("prompt")]
    if not prompts:
        return ""
    most = max(Counter(prompts).values())
    whose = " of VBench" if suite == "vbench" else ""
    return f"They answer {counted(len(set(prompts)), 'prompt')}{whose}, with up to {counted(most, 'sample')} each."


def _measured(used: Mapping[str, Any]) -> str:
    """The metrics with their versions and weights."""
    if not used:
        return "No metric was measured."
    parts = []
    for name, about in used.items():
        entry, identity = source(name), about.get("identity") or {}
        details = [f"`{name}`", f"version {identity.get('version', 'unknown')}"]
        fixed = identity.get("preprocessing") or {}
        if library := fixed.get("pyiqa"):
            details.append(f"pyiqa {library}")
        if library := fixed.get("vbench"):
            details.append(f"vbench {library} with torch {fixed.get('torch')}, in an environment of its own")
        weights = [f"{asset} {str(digest)[:_PREFIX]}" for asset, digest in (about.get("assets") or {}).items()]
        details += [f"sha256 of weights or parameters: {', '.join(weights)}"] if weights else []
        parts.append(f"{entry.name if entry else name} ({'; '.join(details)})")
    return f"Metrics: {'; '.join(parts)}."


def _computed(names: Iterable[str], versions: Mapping[str, Any], *, read: Iterable[str]) -> str:
    """The libraries that took part, with their versions: those that `read` the frames, and those of the metrics."""
    took_part = {"numpy", *read} | {library for name in names for library in _libraries(name)}
    order = [*(name for name in _LIBRARIES if name in took_part), *sorted(took_part - _LIBRARIES.keys())]
    told = [
        f"{_LIBRARIES.get(name, name)} {versions[name]}" for name in order if versions.get(name, "absent") != "absent"
    ]
    return f"Libraries: {', '.join(told)}." if told else ""


def _libraries(name: str) -> tuple[str, ...]:
    """What a metric computes with besides NumPy, as far as it is known here."""
    entry = source(name)
    by = entry.by if entry else ()
    return (*by, *(library for metric in methods.known([name]) for library in metric.libraries))


def _readers(videos: Iterable[Mapping[str, Any]], settings: Mapping[str, Any]) -> set[str]:
    """The libraries by which frames came from files: OpenCV reads pictures, and resizes."""
    folders = {(video.get("source") or {}).get("container") == "folder" for video in videos}
    readers = {"opencv" if folder else "av" for folder in folders}
    return readers if settings.get("size", "native") == "native" else readers | {"opencv"}


def _installed(names: Iterable[str]) -> dict[str, str]:
    """The versions of libraries that are here; OpenCV's, whose distribution has several names, is always among them."""
    packages = {"av", "numpy", *(library for name in names for library in _libraries(name))} - {"opencv"}
    return keys.versions(*packages)


def _declared(name: str) -> dict[str, Any]:
    """What this installation says of a metric: its identity and its weights' sha256."""
    from flashbench.assets import registry as assets

    if not (found := methods.known([name])):
        return {}
    metric, known = found[0], assets.current()
    here = [asset for asset in metric.assets if asset in known.names()]
    return {"identity": metric.identity, "assets": {asset: known.get(asset).sha256 for asset in here}}


def _several(values: Iterable[str]) -> str:
    """One value, or the distinct ones with how often each occurs, the commonest first."""
    counts = Counter(values)
    if len(counts) == 1:
        return next(iter(counts))
    listed = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{value} ({count})" for value, count in listed[:5]) + (", …" if len(listed) > 5 else "")


def _rate(fps: Any) -> str:
    match = re.fullmatch("([0-9]+)/([0-9]+)", str(fps))
    if not match or int(match[2]) == 0:
        return str(fps)
    return digits(int(match[1]) / int(match[2]))
