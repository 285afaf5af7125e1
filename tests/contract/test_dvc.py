"""dvc.yaml: imports of a phase are dependencies of its stage, replica 0 and the replicas do not touch each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from flashbench import keys
from flashbench.protocol import compose

ROOT = Path(__file__).parents[2]
ENTRIES = {
    "train": ["flashbench.run.generate"],
    "generate": ["flashbench.run.generate"],
    "score": ["flashbench.run.phases"],
    "tables": ["flashbench.run.phases"],
    "claims": ["flashbench.run.phases"],
    "notebooks": ["flashbench.reporting.results"],
}
_DOCUMENTS = ("tables", "claims", "figures", "figure_cost", "panels", "contact", "markup", "headline", "totals")
LATER = {f"flashbench.reporting.{name}" for name in _DOCUMENTS}
LATER |= {"flashbench.stats", "flashbench.reporting"}
_MADE = ("recipes", "klt", "pool", "labels", "scene_clips", "stage1", "text", "vanilla")
NETWORKS = ("flashbench.cascade", *(f"flashbench.laptop.{name}" for name in _MADE))
"""What composing a protocol imports of the systems only inside the functions that make clips."""


def _stages(file: str = "dvc.yaml") -> dict[str, Any]:
    stages: dict[str, Any] = yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))["stages"]
    return stages


def _covered(path: Path, deps: list[str]) -> bool:
    return any(path == ROOT / dep or (ROOT / dep) in path.parents for dep in deps)


@pytest.mark.parametrize("phase", ENTRIES)
def test_every_import_is_a_dependency(phase: str) -> None:
    deps = [dep for dep in _stages()[phase]["deps"] if "$" not in dep]
    unused = (LATER if phase == "score" else set()) | {"flashbench.data.synthetic"}
    if phase not in ("train", "generate"):
        unused |= {name for name in keys.import_closure("flashbench.run.phases") if name.startswith(NETWORKS)}
    else:
        unused = set()
    stop = frozenset(unused)
    closure = {name: path for entry in ENTRIES[phase] for name, path in keys.import_closure(entry, stop=stop).items()}
    missing = sorted(name for name, path in closure.items() if not _covered(path.resolve(), deps))
    assert missing == []
    assert all((ROOT / dep).exists() for dep in deps), "a dependency does not exist"


@pytest.mark.parametrize("phase", ["train", "generate", "score", "tables"])
def test_every_protocol_has_a_stage_per_phase(phase: str) -> None:
    stage = _stages()[phase]
    if phase == "train":  # one stage for what all of them share
        named = stage["cmd"].partition(" --")[0].split()[2:]
        assert {f"protocols/{name}.yaml" for name in named} <= set(stage["deps"])
        assert set(named) == set(compose.names())
        return
    assert set(stage["matrix"]["protocol"]) == set(compose.names())
    own = "protocols/${item.protocol}.yaml"
    # As parameters once: `dvc exp show` and `dvc params diff` want them, and every copy makes dvc.lock slower to write.
    assert stage["params"] == [{own: None}] if phase == "generate" else own in stage["deps"]


def test_replicas_have_outputs_of_their_own() -> None:
    def outputs(file: str, folder: str) -> set[str]:
        entries = [
            out for stage in _stages(file).values() for out in (stage.get("outs") or []) + (stage.get("metrics") or [])
        ]
        names = [next(iter(out)) if isinstance(out, dict) else out for out in entries]
        return {str((ROOT / folder / name).resolve().relative_to(ROOT)) for name in names}

    main, replicas = outputs("dvc.yaml", "."), outputs("replicas/dvc.yaml", ".")  # its stages have `wdir: ..`
    assert main and replicas and not main & replicas
    assert all(name.startswith("results/${tier}/replicas/") for name in replicas)
