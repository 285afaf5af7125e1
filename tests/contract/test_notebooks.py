"""Notebooks: one for each protocol and one for the paper, on the public API alone, with outputs that are those of the
committed results; they run from a clone at any tier, and their pages are self-contained."""

from __future__ import annotations

import ast
import base64
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from IPython.core.formatters import DisplayFormatter
from support import committed

import flashbench
from flashbench.protocol import compose
from flashbench.reporting.tables import to_csv
from flashbench.run.render import render
from flashbench.scores.table import read_scores

ROOT = Path(__file__).resolve().parents[2]
PAPER = "paper_tables"
NAMES = (*compose.names(), PAPER)
TOOL = [sys.executable, str(ROOT / "tools" / "notebooks.py")]
SVG, RENEW = "image/svg+xml", "python tools/notebooks.py --renew"


def read(name: str, root: Path = ROOT) -> nbformat.NotebookNode:
    return nbformat.read(root / "notebooks" / f"{name}.ipynb", as_version=4)


def code(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tagged(cell: nbformat.NotebookNode, tag: str) -> bool:
    return tag in cell.metadata.get("tags", ())


def clone(folder: Path, tier: str = "laptop") -> Path:
    """The notebooks and a tier's committed results; of smoke, whose tables are not committed, made of its scores."""
    shutil.copytree(ROOT / "notebooks", folder / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    for name in compose.names():
        place = folder / "results" / tier / name
        place.mkdir(parents=True)
        scores = shutil.copy(committed.results() / tier / name / "scores.parquet", place)
        if tier == "laptop":
            shutil.copy(committed.results() / tier / name / "claims.json", place)
            continue
        protocol = flashbench.load_protocol(name, tier=tier)
        for path, content in render(protocol, read_scores(Path(scores), protocol.hash)).items():
            (folder / "results" / tier / path).parent.mkdir(exist_ok=True)
            (folder / "results" / tier / path).write_bytes(content)
    if tier == "laptop":
        shutil.copytree(committed.results() / tier / "tables", folder / "results" / tier / "tables")
    return folder


def texts(svg: str) -> list[str]:
    """What a drawing says: its names and numbers, without the places of its lines."""
    return re.findall(r">([^<>]*\S[^<>]*)</(?:text|dc:title)>", svg)


def values(cells: Sequence[nbformat.NotebookNode], names: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Cells with what each shows: the value of its last line, where that is an expression."""
    for cell in cells:
        tree = ast.parse(cell.source)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, cell.id, "exec"), names)
        if isinstance(last, ast.Expr):
            yield cell, eval(compile(ast.Expression(last.value), cell.id, "eval"), names)


@pytest.fixture
def display() -> Iterator[Any]:
    """A notebook's formatter; the options that cells set are undone."""
    with pd.option_context("display.max_colwidth", 50, "display.max_columns", 20):
        yield DisplayFormatter().format


def shown(value: Any, display: Any) -> dict[str, str]:
    return {kind: str(data) for kind, data in display(value)[0].items()}


def test_there_is_one_for_each_protocol_and_one_for_the_paper() -> None:
    assert {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")} == {*NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_valid_and_uses_the_public_api_alone(name: str) -> None:
    path = ROOT / "notebooks" / f"{name}.ipynb"
    notebook, text = read(name), path.read_text("utf-8")
    nbformat.validate(notebook)
    assert notebook.metadata == {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    assert text == json.dumps(json.loads(text), indent=1, ensure_ascii=False) + "\n", (
        "as a tool for notebooks writes it"
    )
    assert not re.search(r"/(work|tmp|root|home|Users)\b", text)
    assert len(text) < 250_000, "small"
    cells = code(notebook)
    assert [cell.source for cell in cells if tagged(cell, "parameters")] == ['tier = "laptop"']
    lines = [line for cell in cells for line in cell.source.splitlines()]
    assert len(lines) <= (40 if name == PAPER else 16), "a few lines"
    tree = ast.parse("\n".join(lines))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert {alias.name for node in imports for alias in node.names} == {"flashbench", "pandas"}
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "flashbench"
    }
    assert used and used <= set(flashbench.__all__)


@pytest.mark.parametrize("name", NAMES)
def test_every_cell_that_shows_something_has_its_output(name: str) -> None:
    cells = code(read(name))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), "run from the top"
    for cell in cells:
        shows = isinstance(ast.parse(cell.source).body[-1], ast.Expr)
        assert len(cell.outputs) == shows, cell.id
        for output in cell.outputs:
            assert output.output_type == "execute_result" and len(output.data) == 1, cell.id
            assert "image/png" not in output.data, "pictures of clips are not in every clone"


def check_is_renewed(name: str, display: Any, *, drawings: bool) -> int:
    """Compare the committed outputs of a notebook with those of the committed results; returns how many."""
    compared = 0
    cells = code(read(name))
    if not drawings:
        cells = [cell for cell in cells if SVG not in (cell.outputs or [{"data": ()}])[0]["data"]]
    for cell, value in values(cells, {}):
        ((kind, kept),) = cell.outputs[0].data.items()
        now = shown(value, display)[kind]
        stale = f"{name}, cell {cell.id}: the results moved; run {RENEW}"
        if kind == SVG:
            assert texts(kept) and texts(kept) == texts(now), stale
        else:
            assert kept == now, stale
        compared += 1
    return compared


@pytest.mark.parametrize("name", NAMES)
def test_tables_in_notebooks_are_those_of_the_committed_results(
    name: str, display: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(clone(tmp_path) / "notebooks")
    assert check_is_renewed(name, display, drawings=False) == (24 if name == PAPER else 4)


@pytest.mark.slow
@pytest.mark.parametrize("name", compose.names())
def test_figures_in_notebooks_are_those_of_the_committed_results(
    name: str, display: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(clone(tmp_path) / "notebooks")
    assert check_is_renewed(name, display, drawings=True) == 7


def test_an_output_that_is_stale_is_found(display: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = clone(tmp_path)
    path = folder / "results" / "laptop" / "tables" / "preference.csv"
    table = flashbench.results("preference", root=folder / "results")
    at = (table["row"] == "preference=after") & (table["metric"] == "niqe_pooled") & (table["cases"] == "material")
    table.loc[at, "value"] += 0.01
    path.write_text(to_csv(table), encoding="utf-8")
    monkeypatch.chdir(folder / "notebooks")
    with pytest.raises(AssertionError, match=r"preference, cell table: the results moved; run .* --renew"):
        check_is_renewed("preference", display, drawings=False)


@pytest.mark.slow
def test_they_run_at_another_tier_from_its_scores_and_every_cell_is_a_value_or_a_reason(
    display: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = clone(tmp_path, "smoke")
    monkeypatch.chdir(folder / "notebooks")
    for name in NAMES:
        cells = [cell for cell in code(read(name)) if not tagged(cell, "parameters")]
        found = [value for _, value in values(cells, {"tier": "smoke"})]
        assert len(found) == (24 if name == PAPER else 7)
        assert all(shown(value, display) for value in found)
        for table in (value for value in found if isinstance(value, pd.DataFrame)):
            assert not table.isna().any().any() and "" not in table.get("reason", pd.Series(["-"])).tolist(), name


@pytest.mark.slow
def test_the_tool_renews_them_from_a_clone_and_its_pages_hold_everything(tmp_path: Path) -> None:
    folder = clone(tmp_path)
    picture = base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
    )
    (folder / "results" / "laptop" / "nfe" / "contact.png").write_bytes(picture)
    done = subprocess.run([*TOOL, "--renew"], cwd=folder, capture_output=True, text=True, timeout=900)
    assert (done.returncode, done.stderr) == (0, "")
    for name in NAMES:
        renewed, kept = read(name, folder), read(name)
        assert [cell.source for cell in renewed.cells] == [cell.source for cell in kept.cells]
        for mine, other in zip(code(renewed), code(kept), strict=True):
            said = [(kind, texts(data) if kind == SVG else data) for o in mine.outputs for kind, data in o.data.items()]
            assert said == [
                (kind, texts(data) if kind == SVG else data) for o in other.outputs for kind, data in o.data.items()
            ], f"{name}, cell {mine.id}: run {RENEW}"
        page = (folder / "results/laptop/notebooks" / f"{name}.html").read_text("utf-8")
        assert not re.findall(r'(?:src|href)="(?!data:|#)', page) and str(tmp_path) not in page
        assert "http" not in re.sub(r"base64,[^\"]+", "", page)
        images = [base64.b64decode(image) for image in re.findall(r"data:image/svg\+xml;base64,([^\"]+)", page)]
        assert len(images) == (0 if name == PAPER else 3)
        if name != PAPER:
            protocol = flashbench.load_protocol(name)
            assert all(f"{name}, protocol hash {protocol.hash}".encode() in image for image in images)
        assert (base64.b64encode(picture).decode() in re.sub(r"\s", "", page)) == (name == "nfe")
    pages = {path.name: path.read_bytes() for path in (folder / "results/laptop/notebooks").iterdir()}
    once = {name: read(name, folder) for name in NAMES}
    again = ("nfe", PAPER)
    done = subprocess.run([*TOOL, *again], cwd=folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert pages == {path.name: path.read_bytes() for path in (folder / "results/laptop/notebooks").iterdir()}
    assert {name: read(name, folder) for name in NAMES} == once


def test_wrong_calls_of_the_tool(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")

    def tool(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*TOOL, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=100)

    unknown, tier = tool("nef"), tool("nfe", "--renew", "--tier", "smoke")
    assert unknown.returncode == 2 and "no notebook 'nef'; there are cost, degradation" in unknown.stderr
    assert tier.returncode == 2 and "--renew takes no other" in tier.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_a_notebook_without_results_says_so(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    absent = subprocess.run([*TOOL, "nfe"], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert absent.returncode == 3 and "notebooks/nfe.ipynb fails" in absent.stderr
    assert "no folder results/laptop" in absent.stderr
    assert not (tmp_path / "results" / "laptop" / "notebooks" / "nfe.html").exists()
