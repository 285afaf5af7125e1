"""Protocols on a machine that has no prompts: as many stand-ins as VBench has, in the same suites."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from flashbench.data import prompts
from flashbench.errors import MissingAsset
from flashbench.protocol.types import Protocol
from flashbench.types import Prompt
from flashbench.vbench.dimensions import DIMENSIONS

if TYPE_CHECKING:
    from flashbench.run.options import Options

SIZES = {
    "appearance_style": 90, "color": 85, "human_action": 100, "multiple_objects": 82, "object_class": 79,
    "overall_consistency": 93, "scene": 86, "spatial_relationship": 84, "subject_consistency": 72,
    "temporal_flickering": 75, "temporal_style": 100,
}  # fmt: skip
"""Lines of VBench's suites."""
SHARED = ("appearance_style", "overall_consistency", 2)
"""Two suites, and how many prompts stand in both: 946 lines are 944 prompts."""


def suite(name: str, *, rewrite: str | None = None) -> Sequence[Prompt]:
    """The prompts of a suite; of VBench's, where they are not here, stand-ins of the same number and dimensions."""
    try:
        return prompts.suite(name, rewrite=rewrite)
    except MissingAsset:
        part, end = name.partition(":")[2], ", rewritten" if rewrite else ""
        return tuple(
            replace(prompt, text=prompt.text + end) for prompt in _stand_ins() if not part or part in prompt.suites
        )


def _stand_ins() -> list[Prompt]:
    first, second, count = SHARED
    stand_ins: list[Prompt] = []
    for name, size in SIZES.items():
        for number in range(size - (count if name == second else 0)):
            suites = (first, second) if name == first and number < count else (name,)
            served = tuple(d.name for d in DIMENSIONS.values() if d.suite in suites)
            text = f"stand-in {number} of {name}"
            stand_ins.append(prompts.prompt_of(text, dimensions=served, suites=suites, line=len(stand_ins)))
    return stand_ins


def load(name: str, options: Options) -> tuple[Protocol, str]:
    """The protocol `name`, and what it stands on where its prompts are not here; otherwise the second is empty."""
    try:
        return options.protocol(name), ""
    except MissingAsset as error:
        return options.protocol(name, suite), f"{error.what}; stand-ins of the same number and suites ({error.fix})"
