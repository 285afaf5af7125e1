"""Executes the notebooks of a clone and renders them as pages that need nothing from outside.

    python tools/notebooks.py NAME... [--tier TIER]     notebooks/NAME.ipynb -> results/TIER/notebooks/NAME.html

The notebooks themselves stay as they are, without outputs. The same results give the same bytes.
"""

from __future__ import annotations

import argparse
import html
import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter
from pygments.formatters import HtmlFormatter
from traitlets.config import Config

NOTEBOOKS = Path("notebooks")
PARAMETERS = "parameters"
"""Tag of the cell that says `tier = "laptop"`; another tier is set in a cell after it."""
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 "DejaVu Sans", Verdana, sans-serif; color: #222; max-width: 72rem; margin: 2rem auto; }}
.highlight {{ background: #f6f6f6; padding: 0.1rem 0.8rem; overflow-x: auto; }}
pre {{ font: 13px/1.45 "DejaVu Sans Mono", monospace; }}
table {{ border-collapse: collapse; font-size: 13px; margin: 0.8rem 0; }}
th, td {{ padding: 0.2rem 0.6rem; text-align: right; vertical-align: top; }}
tbody tr:nth-child(odd) {{ background: #f6f6f6; }}
img {{ max-width: 100%; }}
.anchor-link {{ display: none; }}
{colours}
</style>
</head>
<body>
{body}
</body>
</html>
"""


def executed(path: Path, tier: str) -> nbformat.NotebookNode:
    """The notebook with its outputs, run where it lies; `CellExecutionError` where a cell fails."""
    notebook = nbformat.read(path, as_version=4)
    if tier != "laptop":
        place = next(i for i, cell in enumerate(notebook.cells) if PARAMETERS in cell.metadata.get("tags", ()))
        chosen = nbformat.v4.new_code_cell(f"tier = {tier!r}", id="chosen-tier")
        notebook.cells.insert(place + 1, chosen)
    with tempfile.TemporaryDirectory() as folder:  # nothing of the reader's own settings, and nothing written to them
        about = {"metadata": {"path": str(path.parent)}}
        local = Config({"KernelManager": {"transport": "ipc", "connection_file": f"{folder}/kernel.json"}})  # no port
        client = NotebookClient(notebook, config=local, timeout=600, resources=about, record_timing=False)
        client.execute(env={**os.environ, "IPYTHONDIR": folder, "PYDEVD_DISABLE_FILE_VALIDATION": "1"})
    return notebook


def page(notebook: nbformat.NotebookNode, title: str) -> str:
    """The executed notebook as HTML with everything inside it."""
    exporter = HTMLExporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True)
    body, _ = exporter.from_notebook_node(notebook)
    colours = HtmlFormatter(style="default").get_style_defs(".highlight")
    return PAGE.format(title=html.escape(title), colours=colours, body=body)


def main(arguments: list[str]) -> int:
    """Execute and render the notebooks named in the arguments; 0 done, 2 wrong call, 3 a notebook that fails."""
    parser = argparse.ArgumentParser(usage=__doc__)
    known = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
    parser.add_argument("names", nargs="+", choices=known)
    parser.add_argument("--tier", default="laptop")
    chosen = parser.parse_args(arguments)
    folder = Path("results", chosen.tier, "notebooks")
    folder.mkdir(parents=True, exist_ok=True)
    for name in chosen.names:
        path = NOTEBOOKS / f"{name}.ipynb"
        try:
            made = page(executed(path, chosen.tier), f"{name}, {chosen.tier} tier")
        except CellExecutionError as error:
            print(f"error: {path} fails: {error}", file=sys.stderr)
            return 3
        (folder / f"{name}.html").write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
