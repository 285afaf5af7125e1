"""The runs that `drift` compares, from folders or from memory: scored beside the baseline, paired, of one shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashbench.comparison import pairing
from flashbench.comparison.pairing import Pairing
from flashbench.drifting.distances import lines_of
from flashbench.errors import UsageError
from flashbench.metrics.base import Metric
from flashbench.videos.result import Run
from flashbench.videos.score import score_videos
from flashbench.videos.scorer import Scorer

if TYPE_CHECKING:
    import pandas as pd

_CHEAP = "temporal_flicker"
"""What the baseline is decoded for if no metric of single clips is asked for."""


@dataclass(frozen=True, kw_only=True)
class Runs:
    """Scored runs beside the baseline."""

    labels: tuple[str, ...]
    """As the user named them, the baseline first."""
    baseline: pd.DataFrame
    sides: tuple[tuple[str, pd.DataFrame, Pairing], ...]
    """Candidate, and the baseline run again if there is one."""
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()


def in_files(
    baseline: str | Path, candidate: str | Path, again: str | Path | None, kinds: Sequence[Metric], prompts: Any,
    device: str,
) -> Runs:  # fmt: skip
    """Score folders of videos beside the baseline's.

    Raises:
        UsageError: one is no folder.
        InvalidError: nothing pairs.
    """
    given = [str(path) for path in (baseline, candidate, again) if path is not None]
    for path in given:
        if not Path(path).is_dir():
            raise UsageError(f"{path} is not a folder", fix="give folders of videos of the same names")
    first = score_videos(given[0], _alone(kinds), prompts, device=device)
    runs = [score_videos(path, kinds, reference=given[0], device=device) for path in given[1:]]
    shapes = [_shapes(run) for run in (first, *runs)]
    unread = [f"`{path}`: {case}: {why}" for path, run in zip(given, (first, *runs), strict=True)
              for case, why in run.unreadable]  # fmt: skip
    return _paired(given, [run.table for run in (first, *runs)], shapes, unread, first.remarks)


def in_memory(
    baseline: Any, candidate: Any, again: Any, kinds: Sequence[Metric], prompts: Any,
    fps: int | float | str | Fraction, device: str,
) -> Runs:  # fmt: skip
    """Score clips in memory beside the baseline's.

    Raises:
        UsageError: a side is neither a sequence nor a mapping of clips, or there are not as many prompts as clips.
        InvalidError: nothing pairs.
    """
    import pandas as pd

    names = ["baseline", "candidate", "again"]
    sides = [_named(clips, name) for clips, name in zip((baseline, candidate, again), names, strict=True)
             if clips is not None]  # fmt: skip
    texts = {} if prompts is None else _named(prompts, "prompts")
    if texts and set(texts) != set(sides[0]):
        raise UsageError(
            f"{len(texts)} prompts for {len(sides[0])} clips", fix="give each clip of the baseline its prompt"
        )
    alone, both = Scorer(_alone(kinds), device=device), Scorer(kinds, device=device)
    tables = [pd.concat(alone(clip, fps=fps, prompt=texts.get(case), case=case) for case, clip in sides[0].items())]
    for clips in sides[1:]:
        tables.append(pd.concat(
            both(clip, fps=fps, case=case, reference=sides[0].get(case)) for case, clip in clips.items()
        ))  # fmt: skip
    frames = [{str(row.case): (int(row.frames),) for row in lines_of(table)} for table in tables]
    return _paired(names[: len(sides)], tables, frames, [], [])


def _alone(kinds: Sequence[Metric]) -> list[str | Metric]:
    return [kind for kind in kinds if kind.scope != "pair"] or [_CHEAP]


def _named(clips: Any, what: str) -> dict[str, Any]:
    if isinstance(clips, Mapping):
        named = {str(name): clip for name, clip in clips.items()}
    elif isinstance(clips, str) or not hasattr(clips, "__len__"):
        raise UsageError(f"{what} is no sequence and no mapping", fix="give a list of clips, or name → clip")
    else:
        named = {f"{number:06d}": clip for number, clip in enumerate(clips)}
    if not named:
        raise UsageError(f"{what} is empty", fix="give at least one clip")
    return named


def _shapes(run: Run) -> dict[str, tuple[Any, ...]]:
    return {entry["case"]: tuple(entry.get(key) for key in ("frames", "height", "width", "fps")) for entry in run.about}


def _paired(
    labels: Sequence[str], tables: Sequence[pd.DataFrame], shapes: Sequence[Mapping[str, tuple[Any, ...]]],
    problems: list[str], notes: Sequence[str],
) -> Runs:  # fmt: skip
    """Pair by name; what is lost on one side, or of another size, length or rate, cannot be compared."""
    sides = []
    for label, table, shape in zip(labels[1:], tables[1:], shapes[1:], strict=True):
        paired = pairing.pair(tables[0], table, "name", (labels[0], label))
        for absent, where in zip(paired.alone, (label, labels[0]), strict=True):
            if absent:
                problems.append(f"`{where}` lacks {len(absent)} clips, {absent[0][0]} among them")
        apart = [(a, b) for (a, _), (b, _) in paired.pairs if _known(shapes[0][a], shape[b])]
        if apart:
            before, after = (" ".join(map(str, x)) for x in (shapes[0][apart[0][0]], shape[apart[0][1]]))
            problems.append(
                f"{len(apart)} clips of `{label}` differ from `{labels[0]}` in frames, height, width or rate: "
                f"{apart[0][1]}: {after}, not {before}"
            )
        sides.append((label, table, paired))
    return Runs(
        labels=tuple(labels), baseline=tables[0], sides=tuple(sides), problems=tuple(problems), notes=tuple(notes)
    )


def _known(before: tuple[Any, ...], after: tuple[Any, ...]) -> bool:
    return before != after and None not in (*before, *after)
