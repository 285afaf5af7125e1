"""`flashbench costs`: what clips took, from the store's records, by rows; and never in a file of the results."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import smoke

from flashbench.checks import costs
from flashbench.cli import program
from flashbench.errors import InvalidError
from flashbench.reporting.document import markdown
from flashbench.run.files import read_manifest
from flashbench.run.meter import KINDS
from flashbench.run.options import Options
from flashbench.run.phases import run_protocols
from flashbench.store import Store

OVERRIDES = (
    "rows=[]", "controls=[original,bicubic,unsharp]", "baseline=bicubic", "claims=[]", "metrics=[psnr]",
    "primary=[psnr]", "sets=null",
)  # fmt: skip
OPTIONS = Options(tier="smoke", workers=0, overrides=OVERRIDES, results=Path("results/smoke"))


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("honest")
    with smoke.inside(folder):
        run_protocols(["nfe"], ("train", "generate"), OPTIONS)
    return folder


@pytest.fixture(autouse=True)
def _inside(honest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(honest, folder)
    for name, value in smoke.environment(folder).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(folder)


def lines(row: str) -> list[dict[str, Any]]:
    return [line for line in read_manifest(Path("results/smoke/nfe/clips.jsonl")) if line["row"] == row]


def rewrite(key: str, **fields: Any) -> None:
    """A clip's record with other fields; None takes one away."""
    store = Store()
    record = {**store.clip_record(key), **fields}
    store.put_clip(key, store.clip(key), {name: value for name, value in record.items() if value is not None})


def test_every_clip_has_its_seconds_and_its_memory() -> None:
    store = Store()
    for line in lines("bicubic") + lines("unsharp"):
        record = store.clip_record(line["key"])
        assert record["seconds"] > 0 and record["memory"]["kind"] in ("resident", "process")
        assert record["memory"]["mebibytes"] > 50 and "thread" in record["device"], "Python alone holds as much"


def test_medians_and_quartiles_of_known_numbers() -> None:
    for line, seconds, memory in zip(lines("bicubic"), (1.0, 2.0, 4.0), (900, 800, 1000), strict=True):
        rewrite(line["key"], seconds=seconds, memory={"kind": "allocated", "mebibytes": memory}, device="GPU X")
    text = markdown(costs.describe("nfe", OPTIONS)[0])
    assert "| `bicubic` | 3 | 0 | 2.00 [1.50, 3.00] | 900 [850, 950] [b] |" in text
    assert f"- [b] {KINDS['allocated']}" in text and "Made on " in text and "GPU X" in text
    assert "| `original` | 3 |" in text, "what rows are made from took time, too"


@pytest.mark.parametrize(
    ("values", "expected"),
    [([5], "5"), ([2, 2, 2], "2"), ([], "–"), ([1, np.nan], "1"), ([1.04, 1.0, 1.08], "1.040 [1.020, 1.060]")],
)
def test_quartiles(values: list[float], expected: str) -> None:
    assert costs.quartiles(values) == expected


def test_records_of_an_older_version_are_read() -> None:
    for line in lines("bicubic"):
        rewrite(line["key"], memory=None, device=None, megabytes=700)
    for line in lines("unsharp"):
        rewrite(line["key"], memory=None, device=None, seconds=None)
    text = markdown(costs.describe("nfe", OPTIONS)[0])
    assert f"- [a] {KINDS['process']}" in text or f"- [b] {KINDS['process']}" in text
    assert "| 700 [" in text, "with the note that it is of the worker's whole life"
    assert "| `unsharp` | 3 | 0 | – | – |" in text


def test_a_manifest_of_an_older_version_is_read() -> None:
    path = Path("results/smoke/nfe/clips.jsonl")
    old = [{k: v for k, v in line.items() if k not in ("numerics", "cost")} for line in read_manifest(path)]
    path.write_text("".join(json.dumps(line) + "\n" for line in old))
    assert "| `bicubic` | 3 |" in markdown(costs.describe("nfe", OPTIONS)[0])


def test_clips_that_are_not_here_are_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shutil.rmtree(Store().clip_path(lines("bicubic")[0]["key"]).parent)
    text = markdown(costs.describe("nfe", OPTIONS)[0])
    assert "| `bicubic` | 2 |" in text and "Not in this store: 1 clip of the manifest." in text
    monkeypatch.setenv("FLASHBENCH_STORE", str(tmp_path / "empty"))
    with pytest.raises(InvalidError, match="none of the 9 clips of nfe is in the store"):
        costs.describe("nfe", OPTIONS)


def test_the_command_line_and_its_file(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in Path("results").rglob("*") if path.is_file()}
    changed = [word for item in OVERRIDES for word in ("-S", item)]
    words = ["flashbench", "costs", "nfe", "--tier", "smoke", "--out", "costs.csv", *changed]
    monkeypatch.setattr(program.signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as caught:
        program.main()
    assert not caught.value.code and capsys.readouterr().out == markdown(costs.describe("nfe", OPTIONS)[0])
    with Path("costs.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    store = Store()
    assert tuple(rows[0]) == costs.COLUMNS and len(rows) == 9
    for row in rows:
        record = store.clip_record(row["key"])
        assert float(row["seconds"]) == pytest.approx(record["seconds"], rel=1e-5)
        assert float(row["memory_mib"]) == record["memory"]["mebibytes"] and row["device"] == record["device"]
    assert {path: path.read_bytes() for path in Path("results").rglob("*") if path.is_file()} == before


def test_nothing_measured_stands_in_the_results() -> None:
    """Two runs, one of them slower: what is kept of them in results/ is the same bytes."""
    manifest = Path("results/smoke/nfe/clips.jsonl").read_bytes()
    for line in lines("bicubic"):
        rewrite(line["key"], seconds=1e6)
    run_protocols(["nfe"], ("generate",), OPTIONS)
    assert Path("results/smoke/nfe/clips.jsonl").read_bytes() == manifest


@pytest.mark.slow
def test_stage_1_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASHBENCH_STORE", str(tmp_path / "other"))
    options = Options(tier="smoke", workers=0, results=Path("staged"))
    run_protocols(["stages"], ("train", "generate"), options)
    text = markdown(costs.describe("stages", options)[0])
    assert "| Stage I, shared by all rows | 2 | 2 |" in text and "| `stages=2` | 2 | 2 |" in text
