"""dvc.yaml: stages depend on data and on the versions of what they use; replica 0 and the replicas are apart."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from support.dvc_stages import Stage, components, stages

from flashbench import keys
from flashbench.protocol import compose
from flashbench.protocol.types import Protocol

ROOT = Path(__file__).parents[2]
FILES = ("dvc.yaml", "replicas/dvc.yaml")
MAKING = ("train", "generate", "score", "run")
"""Stages that train, generate and score: code reaches them by versions alone."""
CARRYING = (
    "assets", "cascade", "data", "engine", "errors", "keys", "laptop", "metrics", "paths", "progress", "protocol",
    "run.files", "run.inputs", "run.options", "scores", "store", "systems", "types", "video",
)  # fmt: skip
"""Of what documents are made by: rooms under a version, and modules that carry what they are given."""


def _phase(stage: Stage) -> str:
    return stage.name.partition("@")[0]


def _uses(protocol: Protocol) -> tuple[set[str], set[str]]:
    """Metrics and systems of a protocol, found from its trials."""
    trials = compose.trials(protocol)
    systems = {trial.variant.system.name for trial in trials}
    systems |= {"original" for trial in trials if trial.case.source is not None}
    systems |= {part.preview.variant.system.name for part in protocol.parts if part.preview}
    metrics = {name for part in protocol.parts for name in part.metric_names}
    return {f"metrics {name}" for name in metrics}, {f"systems {name}" for name in systems}


@pytest.mark.parametrize("file", FILES)
def test_no_code_is_a_dependency_of_training_clips_and_scores(file: str) -> None:
    made = [stage for stage in stages("laptop", file).values() if _phase(stage) in MAKING]
    assert made
    for stage in made:
        rest = [dep for dep in stage.deps if not dep.startswith(("protocols/", "results/laptop/"))]
        assert [dep for dep in rest if not dep.endswith(".yaml")] == [], stage.name


@pytest.mark.parametrize("file", FILES)
def test_every_dependency_is_there_or_made_by_a_stage_before(file: str) -> None:
    made: set[str] = set()
    for stage in stages("laptop", file).values():
        absent = [name for name in {*stage.deps, *stage.params} if name not in made and not (ROOT / name).exists()]
        assert absent == [], stage.name
        made |= set(stage.outs)


@pytest.mark.parametrize("name", compose.names())
def test_every_component_of_a_protocol_is_a_parameter_of_its_stages(name: str) -> None:
    written = yaml.safe_load((ROOT / "versions.yaml").read_text(encoding="utf-8"))
    metrics, systems = _uses(compose.load_protocol(name))
    main, replicas = ({own: components(s, written) for own, s in stages("laptop", file).items()} for file in FILES)
    making = {"keys", "cases", "recipes", "material", "noise"}
    assert main["train"] == {"keys", "recipes", "material"}
    assert main[f"generate@{name}"] == systems | making
    assert main[f"score@{name}"] == metrics | systems | {"keys", "cases"}
    assert main[f"tables@{name}"] == metrics | systems
    assert metrics | systems <= main["claims"] and metrics | systems <= replicas["tables"]
    assert metrics | systems | making <= replicas["run"]


@pytest.mark.parametrize(
    ("entry", "stage"),
    [
        ("run.render", "tables@nfe"),
        ("run.summary", "claims"),
        ("reporting.drawings", "notebooks@nfe"),
        ("reporting.reading", "paper_tables"),
    ],  # fmt: skip
)
def test_code_that_documents_are_made_by_is_a_dependency_of_theirs(entry: str, stage: str) -> None:
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in (ROOT / "flashbench").rglob("*.py")]
    carrying = tuple(f"flashbench.{name}" for name in CARRYING)
    stop = frozenset({"flashbench", *(name.removesuffix(".__init__") for name in modules if name.startswith(carrying))})
    laid_out = keys.import_closure(f"flashbench.{entry}", stop=stop)
    assert {"flashbench.stats", "flashbench.reporting.tables", "flashbench.vbench.recompute"} <= set(laid_out)
    for deps in (stages("laptop")[stage].deps, stages("laptop", "replicas/dvc.yaml")["tables"].deps):
        covered = {ROOT / dep for dep in deps}
        assert [name for name, path in laid_out.items() if not covered & {path, *path.parents}] == []


@pytest.mark.parametrize("phase", ["generate", "score", "tables"])
def test_every_protocol_has_a_stage_per_phase(phase: str) -> None:
    found = {stage.name: stage for stage in stages("laptop").values() if _phase(stage) == phase}
    assert set(found) == {f"{phase}@{name}" for name in compose.names()}
    for name in compose.names():
        stage, own = found[f"{phase}@{name}"], f"protocols/{name}.yaml"
        # As parameters once: `dvc exp show` and `dvc params diff` want them, and every copy makes dvc.lock slower.
        assert (own in stage.params, own in stage.deps) == (phase == "generate", phase != "generate")


def test_every_notebook_has_a_stage_that_reads_what_it_shows() -> None:
    found = stages("laptop")
    names = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    by_name = {name: found[name if name == "paper_tables" else f"notebooks@{name}"] for name in names}
    assert set(by_name) == {*compose.names(), "paper_tables"}
    for name, stage in by_name.items():
        assert stage.commands == (f"python tools/notebooks.py {name} --tier laptop",)
        assert stage.outs == (f"results/laptop/notebooks/{name}.html",)
        shown = compose.names() if name == "paper_tables" else (name,)
        read = {f"notebooks/{name}.ipynb", "tools/notebooks.py", *(f"results/laptop/tables/{one}.csv" for one in shown)}
        own = ("claims.json", "contact.png", "scores.parquet")
        read |= set() if name == "paper_tables" else {f"results/laptop/{name}/{file}" for file in own}
        assert read | {f"protocols/{one}.yaml" for one in shown} <= set(stage.deps)


def test_one_stage_trains_what_all_protocols_share() -> None:
    stage = stages("laptop")["train"]
    named = stage.commands[0].partition(" --")[0].split()[2:]
    assert set(named) == set(compose.names()) and {f"protocols/{name}.yaml" for name in named} <= set(stage.deps)


def test_replicas_have_outputs_of_their_own() -> None:
    main, replicas = ({out for stage in stages("laptop", file).values() for out in stage.outs} for file in FILES)
    assert main and replicas and not main & replicas
    assert all(name.startswith("results/laptop/replicas/") for name in replicas)
