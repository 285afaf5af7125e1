"""`flashbench cite RUN`: a methods paragraph, the protocol's hash, and BibTeX for what a run used.

All of it comes from the run's files and from citations.yaml; what a run does not say is told as missing, never guessed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from flashbench import keys
from flashbench import metrics as registry
from flashbench.errors import FlashBenchError, InvalidError
from flashbench.metrics.base import Metric
from flashbench.paths import PACKAGE, read_yaml
from flashbench.reporting.numbers import counted, digits
from flashbench.scores.runs import GIVE_SCORES, RECORD, SCORES, read_record, same_run
from flashbench.scores.table import read_scores, stored_hash
from flashbench.version import __version__

CITATIONS = PACKAGE / "reporting" / "citations.yaml"
_FIELDS = ("author", "title", "booktitle", "journal", "volume", "number", "pages", "howpublished", "note", "year")
_PREFIX = 12
"""Digits of a sha256 that a text shows."""
_LIBRARIES = {"av": "PyAV", "numpy": "NumPy", "scipy": "SciPy", "opencv": "OpenCV", "torch": "PyTorch"}
"""How a text calls libraries, in the order in which it names them; others come last, as their packages are called."""


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

    @property
    def text(self) -> str:
        """Paragraph, protocol with its hash, remarks and BibTeX, as `flashbench cite` prints them."""
        hashed = f"Protocol: {self.protocol}, hash {self.protocol_hash or 'not recorded'}"
        remarks = "\n".join(f"- {remark}" for remark in self.remarks)
        return "\n\n".join(filter(None, (self.paragraph, hashed, remarks, self.bibtex))) + "\n"


@dataclass(frozen=True)
class _Source:
    """How a metric is called and cited."""

    name: str
    cite: tuple[str, ...]
    none: str
    by: tuple[str, ...]


def cite(run: Path) -> Citation:
    """What to write about a scored run.

    Args:
        run: a folder of `flashbench score --out`, or a protocol's results, results/TIER/PROTOCOL.

    Raises:
        InvalidError: it is neither, or its files cannot be read.
    """
    folder = run.parent if run.name in (RECORD, SCORES) else run
    if (record := read_record(folder / RECORD)) is not None:
        return _of_videos(record, _unmeasured(folder / SCORES, record))
    if not (folder / SCORES).is_file():
        raise InvalidError(f"{run} has neither {RECORD} nor {SCORES}", fix=GIVE_SCORES)
    return _of_protocol(folder)


def source(metric: str) -> _Source | None:
    """How a metric is called and cited: the longest entry of citations.yaml that its name begins with, or None."""
    known: Mapping[str, Mapping[str, Any]] = _data()["metrics"]
    fitting = [x for x in known if metric == x or metric.startswith(x if x.endswith(":") else f"{x}_")]
    if not fitting:
        return None
    entry = known[max(fitting, key=len)]
    return _Source(
        str(entry["name"]), tuple(entry.get("cite", ())), str(entry.get("none", "")), tuple(entry.get("by", ()))
    )


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


def _unmeasured(scores: Path, record: Mapping[str, Any]) -> dict[str, str]:
    """Metric → why it has no value in a run: an obstacle of the machine, or what its scores say."""
    reasons = {name: str(x["obstacle"]) for name, x in record["metrics"].items() if x.get("obstacle")}
    if scores.is_file():
        table = read_scores(scores)
        same_run(record, scores)
        for name, lines in table.groupby("metric", sort=False):
            if lines["value"].isna().all():
                reasons.setdefault(str(name), "; ".join(dict.fromkeys(filter(None, lines["reason"]))))
    return reasons


def _of_videos(record: Mapping[str, Any], unmeasured: Mapping[str, str]) -> Citation:
    """Of a run.json."""
    videos = [video for video in record["videos"] if video.get("clip")]
    lost = len(record["videos"]) - len(videos)
    used = {name: about for name, about in record["metrics"].items() if name not in unmeasured}
    version = str(record["versions"].get("flashbench", "unknown"))
    protocol, settings = str(record.get("protocol", "")), record["settings"]
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
        _intervals([*used], len({video.get("prompt") or video["case"] for video in videos}), _unit(videos)),
    ]
    absent = [f"Not measured: {name} ({reason})." for name, reason in unmeasured.items()]
    if any(video.get("prompt") for video in videos) and record.get("suite") != "vbench":
        absent.append("Which suite the prompts come from is not known to the run: name and cite it.")
    names = [*used, *(["vbench"] if record.get("suite") == "vbench" else [])]
    return _citation(" ".join(filter(None, sentences)), protocol, record["protocol_hash"], names, version, absent)


def _of_protocol(folder: Path) -> Citation:
    """Of results/TIER/PROTOCOL."""
    table = read_scores(folder / SCORES)
    names = list(dict.fromkeys(table.loc[table["value"].notna(), "metric"].astype(str)))
    name = str(table["protocol"].iloc[0]) if len(table) else folder.name
    digest, tier = stored_hash(folder / SCORES), folder.resolve().parent.name
    rows, cases = table["row"].nunique(), len(table[["case", "seed"]].drop_duplicates())
    sentences = [
        f"Scores were computed with FlashBench {__version__} under the protocol {name} at the {tier} tier "
        f"(hash {digest[:_PREFIX]}): {counted(rows, 'row')} of {counted(cases, 'clip')} each.",
    ]
    remarks = ["Versions and weights are those of this installation: a protocol's scores.parquet does not name them."]
    systems = tuple[str, ...]()
    try:
        from flashbench.protocol.compose import load_protocol

        protocol = load_protocol(name, tier=tier)
        if protocol.hash != digest:
            raise InvalidError(f"its hash here is {protocol.hash[:_PREFIX]}")
        shape = protocol.geometry
        sentences.append(
            f"Clips have {shape.frames} frames of {shape.height}×{shape.width} pixels at {_rate(shape.fps)} frames per "
            "second and are kept without loss (FFV1, RGB)."
        )
        systems = tuple(dict.fromkeys(variant.system.name for variant in protocol.variants))
        sentences.append(f"Systems: {', '.join(systems)}.")
    except FlashBenchError as error:
        remarks.append(f"The protocol {name} that is here is not the one of these results: {error.what}.")
    sentences.append(_measured({metric: _declared(metric) for metric in names}))
    sentences.append(_computed(names, _installed(names), read={"av"}))
    sentences.append(_intervals(names, table["cluster"].nunique(), "source or prompt"))
    keys = [key for system in systems for key in _data()["systems"].get(system, ())]
    version = __version__
    return _citation(" ".join(sentences), name, digest, names, version, remarks, first=keys)


def _citation(
    paragraph: str,
    protocol: str,
    digest: str,
    names: Iterable[str],
    version: str,
    remarks: Sequence[str],
    first: Sequence[str] = (),
) -> Citation:
    keys, notes = [*_data()["always"], *first], list(remarks)
    for name in names:
        entry = source(name)
        if entry is None:
            notes.append(f"No citation is known for {name}: cite it as its package says.")
            continue
        keys += entry.cite
        if entry.none:
            notes.append(f"{name}: {entry.none}.")
    if any(_pooled(name) for name in names):
        keys += _data()["jackknife"]
    unique = tuple(dict.fromkeys(keys))
    return Citation(
        paragraph=paragraph,
        protocol=protocol,
        protocol_hash=digest,
        entries=unique,
        bibtex=bibtex(unique, version=version),
        remarks=tuple(notes),
    )


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
    pairs = [name for name in used if (metric := _known(name)) and metric.scope == "pair"]
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
    try:
        return (*by, *registry.get(name).libraries)
    except FlashBenchError:
        return by


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

    if (metric := _known(name)) is None:
        return {}
    known = assets.current()
    here = [asset for asset in metric.assets if asset in known.names()]
    return {"identity": metric.identity, "assets": {asset: known.get(asset).sha256 for asset in here}}


def _intervals(names: Sequence[str], clusters: int, unit: str) -> str:
    text = f"Intervals are 95 %, by Student's t over {counted(clusters, 'cluster')} (unit: {unit})"
    pooled = [name for name in names if _pooled(name)]
    return text + (f"; for {', '.join(pooled)} by the delete-one-cluster jackknife." if pooled else ".")


def _pooled(name: str) -> bool:
    return (metric := _known(name)) is not None and metric.pooled


def _known(name: str) -> Metric | None:
    """A metric by its name; None if no such metric is known here."""
    try:
        return registry.get(name)
    except FlashBenchError:
        return None


def _unit(videos: Sequence[Mapping[str, Any]]) -> str:
    return "prompt" if any(video.get("prompt") for video in videos) else "video"


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
