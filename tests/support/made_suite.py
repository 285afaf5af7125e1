"""A suite of the form of VBench's, in words of ours, and its rewrites.

Its eleven parts have their sizes; two prompts come twice, two differ in case, one is not ASCII.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from flashbench.assets import registry
from flashbench.data import prompts
from support.registry_entry import entry, wheel_source

SIZES = {
    "temporal_flickering": 75, "multiple_objects": 82, "human_action": 100, "subject_consistency": 72,
    "object_class": 79, "color": 85, "appearance_style": 90, "temporal_style": 100, "overall_consistency": 93,
    "scene": 86, "spatial_relationship": 84,
}  # fmt: skip
"""In the order of VBench's file."""
SERVED = {
    "subject_consistency": ["subject_consistency", "dynamic_degree", "motion_smoothness"],
    "scene": ["scene", "background_consistency"],
    "overall_consistency": ["overall_consistency", "aesthetic_quality", "imaging_quality"],
}
LABELLED = ("object_class", "multiple_objects", "color", "spatial_relationship", "scene", "appearance_style")
TWICE = ("a beach, waves lapping", "a bund, in oil")
CEDILLA = "rock-carved fa\u00e7ades"


def full_info() -> list[dict[str, Any]]:
    """946 entries of 944 prompts."""
    entries = []
    for suite, size in SIZES.items():
        for number in range(size):
            one: dict[str, Any] = {"prompt_en": f"{suite} {number}", "dimension": SERVED.get(suite, [suite])}
            if suite in LABELLED:
                one["auxiliary_info"] = {suite: {suite: f"label {number}"}}
            entries.append(one)
    at = {suite: sum(list(SIZES.values())[:place]) for place, suite in enumerate(SIZES)}
    for suite, place in (("appearance_style", 2), ("overall_consistency", 63)):
        entries[at[suite] + place]["prompt_en"] = TWICE[0]
        entries[at[suite] + place + 5]["prompt_en"] = TWICE[1]
    entries[at["overall_consistency"] + 1]["prompt_en"] = "a fantasy landscape"
    entries[at["overall_consistency"] + 2]["prompt_en"] = "A fantasy landscape"
    entries[at["scene"] + 1]["prompt_en"] = CEDILLA
    return entries


def rewrites() -> list[str]:
    """A line for each entry."""
    return [f"At length, line {line}: {one['prompt_en']}" for line, one in enumerate(full_info())]


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, **files: str) -> None:
    """The suite in a registry and a cache of its own; `files` (`full_info`, `longer`) replace or, empty, remove one."""
    content = {"full_info": json.dumps(full_info()), "longer": "\n".join(rewrites()) + "\n"} | files
    names = {"full_info": prompts.FULL_INFO, "longer": prompts.REWRITES["longer"]}
    listed = {names[one]: entry(text.encode(), wheel_source(f"{one}.txt")) for one, text in content.items()}
    (folder / "registry.yaml").write_text(yaml.safe_dump({"version": 1, "assets": listed}), "utf-8")
    monkeypatch.setenv("FLASHBENCH_ASSETS", str(folder / "registry.yaml"))
    monkeypatch.setenv("FLASHBENCH_CACHE", str(folder / "cache"))
    for one, text in content.items():
        file = registry.get(names[one]).file
        file.parent.mkdir(parents=True, exist_ok=True)
        if text:
            file.write_text(text, "utf-8")
