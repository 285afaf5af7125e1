"""What `dvc` shows of a clone (a protocol's line of metrics, the plots of its table), and an experiment with it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from support import smoke
from support.made_results import faked, made_scores, write_results

import flashbench
from flashbench.protocol.types import Protocol
from flashbench.reporting import claims, tables
from flashbench.reporting.summary import headline

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def protocol() -> Protocol:
    return flashbench.load_protocol("nfe", tier="smoke")


def git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


def made(protocol: Protocol, replicas: int = 1, **more: Any) -> tuple[pd.DataFrame, str]:
    scores = made_scores(
        protocol, lambda row, name: 22.0 if name == "psnr" else 4.0 + (row == "nfe=1"), replicas=replicas, **more
    )
    protocol = faked(protocol)
    table = tables.build(protocol, scores)
    return table, headline(protocol, table, claims.evaluate(protocol, scores))


@pytest.mark.parametrize("replicas", [1, 3])
def test_it_is_the_baselines_numbers_and_the_count_of_claims(protocol: Protocol, replicas: int) -> None:
    table, text = made(protocol, replicas)
    found = json.loads(text)
    own = table[table["row"] == "nfe=4"].groupby("metric")["value"].mean()
    assert found == {
        "niqe_pooled": pytest.approx(own["niqe_pooled"]), "psnr": pytest.approx(own["psnr"]),
        "holds": 0, "exceeds": 0, "contradicted": 0, "undecided": 1,  # it has too few clusters
    }  # fmt: skip


def test_a_missing_number_is_null(protocol: Protocol) -> None:
    _, text = made(protocol, missing={"nfe=4": "no clip"})
    assert json.loads(text) == {
        "niqe_pooled": None,
        "psnr": None,
        "holds": 0,
        "exceeds": 0,
        "contradicted": 0,
        "undecided": 1,
    }


def test_the_tables_plot_is_declared_for_every_protocol() -> None:
    declared = yaml.safe_load((ROOT / "dvc.yaml").read_text("utf-8"))["plots"]
    named = {Path(path).stem: how for entry in declared for path, how in entry.items()}
    assert set(named) == {path.stem for path in (ROOT / "protocols").glob("*.yaml")}
    for name, how in named.items():
        assert how == {"x": "value", "y": "row", "template": "rows", "title": name}
    template = json.loads((ROOT / ".dvc" / "plots" / "rows.json").read_text("utf-8"))
    fields = {entry["field"] for entry in template["spec"]["layer"][1]["encoding"]["tooltip"]}
    assert fields <= {*tables.COLUMNS, "rev", "<DVC_METRIC_X>"}


@pytest.mark.slow
def test_dvc_shows_metrics_and_plots_of_a_clone(tmp_path: Path, protocol: Protocol) -> None:
    for name in ("dvc.yaml", ".dvc/config", ".dvc/plots/rows.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "params.yaml").write_text("tier: smoke\n", encoding="utf-8")
    table = write_results(tmp_path / "results", protocol, made_scores(protocol))
    (tmp_path / "results" / "smoke" / "nfe" / "metrics.json").write_text(made(protocol)[1], encoding="utf-8")
    git(tmp_path, "init")

    def dvc(*arguments: str) -> Any:
        command = [sys.executable, "-m", "dvc", *arguments, "--json"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    metrics = dvc("metrics", "show", "results/smoke/nfe/metrics.json")
    shown = metrics[""]["data"]["results/smoke/nfe/metrics.json"]["data"]
    assert shown["undecided"] == 1 and shown["psnr"] == pytest.approx(22, abs=0.2)
    (plot,) = dvc("plots", "show", "results/smoke/tables/nfe.csv")["data"]["results/smoke/tables/nfe.csv"]
    values = plot["content"]["data"]["values"]
    assert [(line["row"], line["metric"]) for line in values] == list(zip(table["row"], table["metric"], strict=True))


@pytest.mark.slow
def test_an_experiment_with_other_seeds_makes_their_clips(tmp_path: Path) -> None:
    for name in ("flashbench", "protocols"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", "versions.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "params.yaml").write_text("tier: smoke\n", encoding="utf-8")
    (tmp_path / ".gitignore").write_text("store\n__pycache__\n", encoding="utf-8")
    binaries = str(Path(sys.executable).parent)
    environment = smoke.environment(
        tmp_path, PATH=f"{binaries}:{os.environ['PATH']}", PYTHONPATH=str(tmp_path), DVC_NO_ANALYTICS="1",
        FLASHBENCH_PROTOCOLS=str(tmp_path / "protocols"), PYTHONDONTWRITEBYTECODE="1",
    )  # fmt: skip

    def dvc(*arguments: str) -> None:
        command = [sys.executable, "-m", "dvc", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stdout + done.stderr

    git(tmp_path, "init")
    dvc("init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--message", "a clone")
    dvc("exp", "run", "--set-param", "protocols/nfe.yaml:seeds=2", "generate@nfe")
    changed = yaml.safe_load((tmp_path / "protocols" / "nfe.yaml").read_text("utf-8"))
    assert changed == yaml.safe_load((ROOT / "protocols" / "nfe.yaml").read_text("utf-8")) | {"seeds": 2}
    clips = (tmp_path / "results" / "smoke" / "nfe" / "clips.jsonl").read_text("utf-8").splitlines()
    assert {json.loads(line)["seed"] for line in clips} == {0, 1}
    assert not (tmp_path / "results" / "smoke" / "strength").exists(), "only what was asked for"
