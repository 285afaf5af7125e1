"""The stages of dvc.yaml at the smoke tier: run without DVC they give what `flashbench run` gives, and with DVC exactly
those are stale whose data, versions or layout changed."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo
from dvc.stage.serialize import to_lockfile
from dvc.utils.serialize import dump_yaml
from support import smoke
from support.dvc_stages import stages
from typer.testing import CliRunner

from flashbench.cli.program import app
from flashbench.protocol import compose
from tools import notebooks

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("flashbench", "notebooks", "protocols", "tools")
FILES = (".dvcignore", "dvc.yaml", "versions.yaml", "tests/contract/code_identity.json")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in which every stage's commands have run at the smoke tier, in order."""
    folder = tmp_path_factory.mktemp("clone")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / "params.yaml").write_text("tier: smoke\n", encoding="utf-8")
    (folder / ".gitignore").write_text("store\n__pycache__\n", encoding="utf-8")
    for stage in stages("smoke", root=folder).values():
        absent = [name for name in (*stage.deps, *stage.params) if not (folder / name).exists()]
        assert absent == [], f"{stage.name} reads what no stage before made"
        with smoke.inside(folder):
            for command in stage.commands:
                run(command)
        assert [out for out in stage.outs if not (folder / out).exists()] == [], stage.name
    return folder


def run(command: str) -> None:
    """Run a stage's command in this process: seconds, where a process of its own imports torch first."""
    program, *arguments = shlex.split(command)
    if program == "python":
        assert arguments[0] == "tools/notebooks.py" and notebooks.main(arguments[1:]) == 0, command
        return
    assert program == "flashbench", command
    done = CliRunner().invoke(app, [*arguments, *(["--workers", "0"] if arguments[0] == "run" else [])])
    assert done.exit_code == 0, f"{command}: {done.output}"


def test_without_dvc_the_stages_give_what_flashbench_run_gives(
    clone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "store").symlink_to(clone / "store")
    smoke.run(tmp_path, *compose.names())
    made = re.findall(r"(?:built|made) (\d+) (?:models|clips|scores)", capsys.readouterr().err)
    assert len(made) == 1 + 2 * len(compose.names()) and set(made) == {"0"}, "the stages made everything"
    smoke.claims(tmp_path)
    expected, found = smoke.results(tmp_path), smoke.results(clone)
    assert {f"smoke/{name}/scores.parquet" for name in compose.names()} | {"smoke/claims.md"} <= set(expected)
    assert {name for name in expected if found.get(name) != expected[name]} == set()


@pytest.fixture(scope="module")
def locked(clone: Path) -> Path:
    """The clone under git and DVC, with a dvc.lock of what is there."""
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run([*git, "init"], cwd=clone, check=True, capture_output=True)
    dvc(clone, "init", "--quiet")
    commit(clone)
    subprocess.run([*git, "add", "."], cwd=clone, check=True, capture_output=True)
    subprocess.run([*git, "commit", "--message", "a clone"], cwd=clone, check=True, capture_output=True)
    assert stale(clone) == set()
    return clone


def commit(folder: Path) -> None:
    """As `dvc commit --force`, which writes dvc.lock anew for every stage: minutes, where this takes seconds."""
    entries = {}
    with smoke.inside(folder), Repo() as repo, repo.lock:
        for stage in repo.index.stages:
            stage.save(run_cache=False)
            stage.commit()
            entries |= to_lockfile(stage)
    dump_yaml(str(folder / "dvc.lock"), {"schema": "2.0", "stages": entries})


@pytest.fixture
def edited(locked: Path) -> Iterator[Path]:
    """The clone, to edit; afterwards it is as before."""
    yield locked
    subprocess.run(["git", "checkout", "."], cwd=locked, check=True, capture_output=True)


def python(folder: Path, *arguments: str) -> str:
    """Run this interpreter in the clone, with the clone's code."""
    environment = smoke.environment(
        folder, PYTHONPATH=str(folder), FLASHBENCH_PROTOCOLS=str(folder / "protocols"), DVC_NO_ANALYTICS="1"
    )
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def dvc(folder: Path, *arguments: str) -> str:
    return python(folder, "-m", "dvc", *arguments)


def stale(folder: Path) -> set[str]:
    """Stages that `dvc status` names."""
    return set(yaml.safe_load(dvc(folder, "status", "--json")))


def replaced(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_an_edited_message_makes_nothing_stale(edited: Path) -> None:
    replaced(edited / "flashbench/errors.py", "did you mean", "perhaps you mean")
    replaced(edited / "flashbench/metrics/fidelity.py", "PSNR is infinite", "PSNR has no end")
    with (edited / "flashbench/store.py").open("a", encoding="utf-8") as stream:
        stream.write('\nWORDS = "of no consequence"\n')
    python(edited, "tools/identity.py", "pin", "--no-numbers-moved")
    assert stale(edited) == set()


def test_a_raised_metric_makes_the_stages_stale_that_score_and_tabulate_with_it(edited: Path) -> None:
    replaced(edited / "flashbench/metrics/fidelity.py", 'name="psnr"', 'name="psnr", version=2')
    python(edited, "tools/identity.py", "pin", "--no-numbers-moved")
    with_it = {name for name in compose.names() if "psnr" in compose.load_protocol(name, tier="smoke").metric_names}
    assert with_it and "vbench" not in with_it
    phases = ("score", "tables", "notebooks")
    assert stale(edited) == {f"{phase}@{name}" for phase in phases for name in with_it} | {"claims", "paper_tables"}


def test_a_raised_metric_of_another_tier_makes_nothing_stale(edited: Path) -> None:
    path = edited / "versions.yaml"
    versions = yaml.safe_load(path.read_text(encoding="utf-8"))
    versions["metrics"]["musiq"] += 1
    for used in versions["protocols"]["paper"].values():
        used["metrics"] |= {"musiq": 2} if "musiq" in used["metrics"] else {}
    path.write_text(yaml.safe_dump(versions), encoding="utf-8")
    assert stale(edited) == set()


def test_an_edited_layout_makes_documents_stale_and_nothing_else(edited: Path) -> None:
    with (edited / "flashbench/reporting/tables.py").open("a", encoding="utf-8") as stream:
        stream.write("\nWIDTH = 3\n")
    documents = ("tables", "claims", "notebooks", "paper_tables")
    assert stale(edited) == {name for name in stages("smoke") if name.partition("@")[0] in documents}
