"""The stages of a dvc.yaml without DVC: templates filled in, in the file's order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Stage:
    """A stage as DVC would run it."""

    name: str
    """As DVC calls it, e.g. `score@nfe`."""
    commands: tuple[str, ...]
    deps: tuple[str, ...]
    """Files and folders that it reads, relative to where its commands run."""
    params: Mapping[str, tuple[str, ...]]
    """File → keys that it reads of it; none for the whole file."""
    outs: tuple[str, ...]


def stages(tier: str, file: str = "dvc.yaml", root: Path = ROOT) -> dict[str, Stage]:
    """The stages of `file` by name, at `tier`."""
    declared = yaml.safe_load((root / file).read_text(encoding="utf-8"))["stages"]
    found = {}
    for name, stage in declared.items():
        for protocol in stage.get("matrix", {}).get("protocol", [""]):
            own = f"{name}@{protocol}" if protocol else name
            found[own] = _stage(own, _filled(stage, {"${tier}": tier, "${item.protocol}": protocol}))
    return found


def _filled(node: Any, values: Mapping[str, str]) -> Any:
    if isinstance(node, dict):
        return {_filled(key, values): _filled(value, values) for key, value in node.items()}
    if isinstance(node, list):
        return [_filled(item, values) for item in node]
    if isinstance(node, str):
        for name, value in values.items():
            node = node.replace(name, value)
    return node


def _stage(name: str, stage: Mapping[str, Any]) -> Stage:
    declared = [*(stage.get("outs") or ()), *(stage.get("metrics") or ())]
    params = [entry.items() for entry in stage.get("params") or ()]
    return Stage(
        name=name,
        commands=tuple([stage["cmd"]] if isinstance(stage["cmd"], str) else stage["cmd"]),
        deps=tuple(stage["deps"]),
        params={file: tuple(keys or ()) for items in params for file, keys in items},
        outs=tuple(next(iter(out)) if isinstance(out, dict) else out for out in declared),
    )


def components(stage: Stage, versions: Mapping[str, Any]) -> set[str]:
    """The components whose versions a stage reads: `recipes`, `metrics psnr`, `systems flashvideo`."""
    found = set()
    for key in stage.params.get("versions.yaml", ()):
        node: Any = versions
        for part in key.split("."):
            node = node[part]
        found |= {" ".join(path[-2:]) for path in _leaves(node, key.split("."))}
    return found


def _leaves(node: Any, path: list[str]) -> list[list[str]]:
    if not isinstance(node, dict):
        return [path]
    return [leaf for name, inner in node.items() for leaf in _leaves(inner, [*path, name])]
