"""Notebooks: stripped, on the public API alone, and they run from a clone's results; their pages are self-contained."""

from __future__ import annotations

import ast
import base64
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from support.made_results import made_scores, write_results

import flashbench
from flashbench.reporting.results import Drawing

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("degradation", "nfe", "positions", "tuning")
TOOL = [sys.executable, str(ROOT / "tools" / "notebooks.py")]
BESIDE = {"tuning": "object_class"}
"""Published metric that the notebook shows, where it is not NIQE."""


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)


def level(row: str, name: str) -> float:
    """Rows differ by a value of their own, so that a mixed-up row shows."""
    return {"niqe_pooled": 4.0, "psnr": 22.0}.get(name, 0.5) + sum(map(ord, row)) % 97 / 100


def clone(folder: Path, *names: str, tier: str = "laptop") -> Path:
    """A folder with the notebooks and results of those protocols, as a clone has."""
    shutil.copytree(ROOT / "notebooks", folder / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    for name in names:
        protocol = flashbench.load_protocol(name, tier=tier)
        write_results(folder / "results", protocol, made_scores(protocol, level))
    return folder


def test_these_notebooks_are_there() -> None:
    assert sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb")) == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_valid_and_stripped_and_says_nothing_of_a_machine(name: str) -> None:
    notebook = read(name)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code and all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert [cell.source for cell in code if "parameters" in cell.metadata.get("tags", ())] == ['tier = "laptop"']
    text = (ROOT / "notebooks" / f"{name}.ipynb").read_text("utf-8")
    assert not re.search(r"/(work|tmp|root|home|Users)\b", text)
    assert sum(len(cell.source.splitlines()) for cell in code) <= 20, "a few lines"
    imported = {node.names[0].name for node in ast.walk(ast.parse(source(notebook))) if isinstance(node, ast.Import)}
    assert imported == {"flashbench", "pandas"}


def source(notebook: nbformat.NotebookNode) -> str:
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")


def shown(notebook: nbformat.NotebookNode) -> list[Any]:
    """What its cells show: the value of each one's last line, where that is an expression."""
    names: dict[str, Any] = {}
    values = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            tree = ast.parse(cell.source)
            last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
            exec(compile(tree, "cell", "exec"), names)
            if isinstance(last, ast.Expr):
                values.append(eval(compile(ast.Expression(last.value), "cell", "eval"), names))
    return values


@pytest.mark.parametrize(
    "name", ["nfe", "tuning", *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES[::2])]
)
def test_it_shows_the_numbers_beside_the_papers_and_the_claims(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pandas as pd

    clone(tmp_path, name)
    monkeypatch.chdir(tmp_path / "notebooks")
    monkeypatch.setenv("FLASHBENCH_PROTOCOLS", str(ROOT / "protocols"))
    protocol = flashbench.load_protocol(name)
    with pd.option_context("display.max_colwidth", 50):
        table, *_, claims = values = shown(read(name))
    (drawing,) = [value for value in values if isinstance(value, Drawing)]
    assert f"{name}, protocol hash {protocol.hash}".encode() in drawing.svg
    assert list(claims["text"]) == [claim.text for claim in protocol.claims]
    assert {"value", "low", "high", "n", "of", "published_v1", "published_v4"} <= set(table.columns)
    assert list(dict.fromkeys(table.index)) == [variant.row for variant in protocol.variants]
    long = flashbench.results(name)
    primary = long[(long["metric"].isin(protocol.primary)) & (long["cases"] == protocol.case_set)]
    assert sorted(table["value"]) == sorted(primary["value"].round(3))
    quoted = {
        (row, version): cells[BESIDE.get(name, "niqe")]
        for version, rows in protocol.published.items()
        for row, cells in rows.items()
        if BESIDE.get(name, "niqe") in cells and row in table.index
    }
    for (row, version), number in quoted.items():
        assert set(table.loc[[row], f"published_{version}"]) == {round(number, 3)}
    assert bool(quoted) == (name != "positions"), "Figure 8 prints no numbers"


@pytest.mark.slow
def test_pages_hold_everything_and_are_the_same_each_time(tmp_path: Path) -> None:
    folder = clone(tmp_path, *NAMES)
    before = {path.name: path.read_bytes() for path in (folder / "notebooks").iterdir()}
    pages = []
    for _ in range(2):
        done = subprocess.run([*TOOL, *NAMES], cwd=folder, capture_output=True, text=True, timeout=600)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        pages.append({name: (folder / "results/laptop/notebooks" / f"{name}.html").read_bytes() for name in NAMES})
    assert pages[0] == pages[1]
    assert before == {path.name: path.read_bytes() for path in (folder / "notebooks").iterdir()}
    for name, page in pages[0].items():
        text = page.decode("utf-8")
        assert not re.findall(r'(?:src|href)="(?!data:|#)', text) and "http" not in re.sub(r"base64,[^\"]+", "", text)
        (image,) = re.findall(r"data:image/svg\+xml;base64,([^\"]+)", text)
        protocol = flashbench.load_protocol(name)
        assert protocol.title.encode() in base64.b64decode(image)
        table = flashbench.results(name, root=folder / "results")
        value = table[table["metric"] == protocol.primary[0]]["value"].iloc[0]
        assert f"{value:.3f}" in text and str(tmp_path) not in text


@pytest.mark.slow
def test_another_tier_and_what_fails(tmp_path: Path) -> None:
    folder = clone(tmp_path, "nfe", tier="smoke")

    def tool(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*TOOL, *arguments], cwd=folder, capture_output=True, text=True, timeout=600)

    done = tool("nfe", "--tier", "smoke")
    assert done.returncode == 0, done.stderr
    assert (folder / "results" / "smoke" / "notebooks" / "nfe.html").is_file()
    absent = tool("nfe")
    assert absent.returncode == 3 and "notebooks/nfe.ipynb fails" in absent.stderr
    assert "no folder results/laptop" in absent.stderr
    assert not (folder / "results" / "laptop" / "notebooks" / "nfe.html").exists()
    assert tool("nef").returncode == 2


def test_files_are_as_a_stripping_tool_leaves_them() -> None:
    for name in NAMES:
        path = ROOT / "notebooks" / f"{name}.ipynb"
        text = path.read_text("utf-8")
        assert text == json.dumps(json.loads(text), indent=1, ensure_ascii=False) + "\n"
