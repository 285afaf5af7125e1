"""VBench's file names, `{prompt}-{index}.mp4`, both ways, for any prompt.

A name belongs to a prompt if and only if all of it before the last `-` is that prompt (in Unicode's composed form: some
file systems decompose names). Prefixes mean nothing: of VBench's 944 prompts, 337 pairs are prefixes of each other.

A prompt whose name would not fit a file system, would leave its folder, or would meet another name where case does not
count gets a safe name instead, `{words}~{hash}-{index}.mp4`, which only a manifest leads back to its prompt.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flashbench.errors import InvalidError, on_disk

NAME_MAX = 255
"""Bytes of a file's name on the common file systems."""
LONG_ROOM = len("_full")
"""Bytes that VBench-Long appends to the names of clips: give `limit=NAME_MAX - LONG_ROOM` for its videos."""
SUFFIXES = frozenset({".mp4", ".mkv", ".webm", ".mov", ".avi", ".gif"})
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
_FIX = "write the manifest again (flashbench vbench export)"


@dataclass(frozen=True)
class Named:
    """The file of one sample of a prompt."""

    file: str
    prompt: str
    index: int
    reason: str = ""
    """Why the file does not have VBench's name; empty where it has."""

    @property
    def official(self) -> bool:
        """Whether VBench itself finds the file by its name."""
        return not self.reason


@dataclass(frozen=True, kw_only=True)
class Matched:
    """What the files of a folder are samples of."""

    found: Mapping[str, tuple[str, int]]
    """File → (prompt, index)."""
    unknown: Mapping[str, str]
    """File → why it belongs to no prompt."""
    absent: tuple[str, ...]
    """Prompts without any file."""


def file_name(prompt: str, index: int, suffix: str = ".mp4") -> str:
    """VBench's name of a sample; `invalid` says whether a file may have it."""
    return f"{prompt}-{index}{suffix}"


def invalid(name: str, *, limit: int = NAME_MAX) -> str:
    """Why no file can safely have this name; empty where it can."""
    try:
        size = max(len(unicodedata.normalize(form, name).encode()) for form in ("NFC", "NFD"))
    except UnicodeEncodeError:
        return "the prompt is not valid Unicode"
    if size > limit:
        return f"the name would take {size} of {limit} bytes"
    if separators := sorted({"/", "\\"} & set(name)):
        return f"the prompt holds {separators[0]}, which separates folders"
    if any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in name):
        return "the prompt holds a control character"
    return ""


def plan(samples: Iterable[tuple[str, int]], *, suffix: str = ".mp4", limit: int = NAME_MAX) -> list[Named]:
    """A file name for every (prompt, index), in order; no two are the same, whatever the file system makes of case.

    VBench's own names come first: a safe name never takes one that a later sample could have had.
    """
    names = [(prompt, index, file_name(prompt, index, suffix)) for prompt, index in samples]
    taken: dict[str, str] = {}
    reasons = []
    for prompt, _, name in names:
        reason = invalid(name, limit=limit) or ("" if prompt.strip() else "the prompt is empty")
        first = taken.get(_folded(name))
        if not reason and first is not None:
            reason = f"prompt and index are asked for twice: {name}" if first == name else f"too like {first}"
        if not reason:
            taken[_folded(name)] = name
        reasons.append(reason)
    named = []
    for (prompt, index, name), reason in zip(names, reasons, strict=True):
        if reason:
            name = _safe(prompt, index, suffix, taken)
            taken[_folded(name)] = name
        named.append(Named(name, prompt, index, reason))
    return named


def parse(file: str) -> tuple[str, int] | None:
    """(prompt, index) of a name as VBench reads it, composed (NFC); None where it has no index."""
    base, dot, end = file.rpartition(".")
    stem = base if (dot + end).lower() in SUFFIXES else file
    prompt, dash, index = stem.rpartition("-")
    return (_composed(prompt), int(index)) if dash and prompt and _INDEX.fullmatch(index) else None


def match(files: Iterable[str], prompts: Sequence[str], manifest: Iterable[Named] = ()) -> Matched:
    """Files of a folder by prompt: what the manifest says, otherwise the whole prompt before the index.

    Args:
        files: names without folders.
        prompts: the prompts asked for; exact duplicates are one prompt, and one file serves them all.
        manifest: names that are not VBench's.
    """
    composed = {_composed(prompt): prompt for prompt in prompts}
    folded = {_folded(prompt): prompt for prompt in prompts}
    listed = {_composed(named.file): named for named in manifest}
    samples: dict[str, tuple[str, int]] = {}
    unknown: dict[str, str] = {}
    for file in sorted(files):
        entry, parsed = listed.get(_composed(file)), parse(file)
        if entry is not None:
            parsed = (_composed(entry.prompt), entry.index)
        if parsed is None:
            unknown[file] = "its name does not end in -INDEX"
        elif parsed[0] in composed:
            samples[file] = (composed[parsed[0]], parsed[1])
        elif (near := folded.get(_folded(parsed[0]))) is not None:
            unknown[file] = f"its prompt differs from {near!r} in case"
        else:
            unknown[file] = "its prompt is not one of those asked for"
    present = {prompt for prompt, _ in samples.values()}
    return Matched(found=samples, unknown=unknown, absent=tuple(p for p in composed.values() if p not in present))


def hazards(prompt: str) -> list[str]:
    """Where VBench's own tools misread this prompt's file name."""
    lines = []
    if "_" in prompt:
        lines.append("VBench-Long cuts names at the first '_'")
    if "-" in prompt:
        lines.append("VBench's human_action cuts names at the first '-'")
    return lines


def manifest_text(named: Iterable[Named]) -> str:
    """JSON lines {path, prompt, index, reason}, as `flashbench score --prompts` reads them."""
    lines = [
        {"path": entry.file, "prompt": entry.prompt, "index": entry.index, "reason": entry.reason} for entry in named
    ]
    return "".join(json.dumps(line) + "\n" for line in lines)


def prompt_file(named: Iterable[Named]) -> dict[str, str]:
    """File → prompt: the content of VBench's `--prompt_file`."""
    return {entry.file: entry.prompt for entry in named}


def read_manifest(path: Path) -> list[Named]:
    """The entries of a manifest's file, as `manifest_text` writes them, in order.

    Raises:
        InvalidError: the file cannot be read, a line is none of a manifest, two lines name one file, or a line's path
            is not a plain file name.
    """
    with on_disk(f"cannot read {path}", fix="check the path"):
        content = path.read_bytes()
    entries: dict[str, Named] = {}
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            fields = json.loads(line)
            entry = Named(fields["path"], fields["prompt"], fields["index"], fields.get("reason", ""))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InvalidError(f"{place} is not a line of a manifest: {error!r}", fix=_FIX) from error
        texts = all(isinstance(text, str) for text in (entry.file, entry.prompt, entry.reason))
        if not texts or isinstance(entry.index, bool) or not isinstance(entry.index, int) or entry.index < 0:
            raise InvalidError(f"{place} is not a line of a manifest", fix=_FIX)
        if entry.file in ("", ".", "..") or invalid(entry.file):
            raise InvalidError(f"{place}: {entry.file!r} is not a plain file name", fix=_FIX)
        if _folded(entry.file) in entries:
            raise InvalidError(f"{place}: {entry.file} is listed twice", fix=_FIX)
        entries[_folded(entry.file)] = entry
    return list(entries.values())


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _folded(text: str) -> str:
    """Equal for names that some file system takes for the same."""
    return _composed(unicodedata.normalize("NFKD", text).casefold())


def _safe(prompt: str, index: int, suffix: str, taken: Mapping[str, str]) -> str:
    words = "-".join(re.findall(r"[a-z0-9]+", _folded(prompt)))[:60].strip("-") or "prompt"
    digest = hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    name, again = f"{words}~{digest}-{index}{suffix}", 1
    while _folded(name) in taken:
        again += 1
        name = f"{words}~{digest}~{again}-{index}{suffix}"
    return name
