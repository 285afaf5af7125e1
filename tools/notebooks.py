"""Executes the notebooks of a clone and renders them as pages that need nothing from outside.

    python tools/notebooks.py [NAME...] [--tier TIER]   notebooks/NAME.ipynb -> results/TIER/notebooks/NAME.html
    python tools/notebooks.py [NAME...] --renew         also writes the outputs into notebooks/NAME.ipynb

Without names all are done. The same results give the same bytes. Outputs in notebooks/ are those of the laptop tier;
contact sheets, which a clone has only after `make repro`, are in pages alone.
"""

from __future__ import annotations

import argparse
import copy
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
PARAMETERS, CLIPS = "parameters", "clips"
"""Tags of cells: of that which says `tier = "laptop"` (another tier is set in a cell after it), and of those that show
clips."""
_RICHNESS = ("text/plain", "text/html", "image/png", "image/svg+xml")
"""Kinds of output, of which the last one is kept."""
TIER = "laptop"
"""Whose outputs are committed."""
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
th, td {{ padding: 0.2rem 0.6rem; text-align: left; vertical-align: top; }}
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
    if tier != TIER:
        place = next(i for i, cell in enumerate(notebook.cells) if PARAMETERS in cell.metadata.get("tags", ()))
        chosen = nbformat.v4.new_code_cell(f"tier = {tier!r}", id="chosen-tier")
        notebook.cells.insert(place + 1, chosen)
    with tempfile.TemporaryDirectory() as folder:  # nothing of the reader's own settings, and nothing written to them
        about = {"metadata": {"path": str(path.parent)}}
        local = Config({"KernelManager": {"transport": "ipc", "connection_file": f"{folder}/kernel.json"}})  # no port
        client = NotebookClient(notebook, config=local, timeout=600, resources=about, record_timing=False)
        client.execute(env={**os.environ, "IPYTHONDIR": folder, "PYDEVD_DISABLE_FILE_VALIDATION": "1"})
    return notebook


def renew(path: Path, notebook: nbformat.NotebookNode) -> None:
    """Write the notebook with its outputs, small: no pictures of clips, each table once, nothing about the kernel."""
    kept = copy.deepcopy(notebook)
    kept.metadata.pop("language_info", None)
    for cell in (cell for cell in kept.cells if cell.cell_type == "code"):
        for output in cell.outputs:
            kind = "text/plain" if CLIPS in cell.metadata.get("tags", ()) else max(output.data, key=_RICHNESS.index)
            output.data = {kind: output.data[kind]}
    nbformat.write(kept, path)


def page(notebook: nbformat.NotebookNode, title: str) -> str:
    """The executed notebook as HTML with everything inside it."""
    exporter = HTMLExporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True)
    body, _ = exporter.from_notebook_node(notebook)
    colours = HtmlFormatter(style="default").get_style_defs(".highlight")
    return PAGE.format(title=html.escape(title), colours=colours, body=body)


def main(arguments: list[str]) -> int:
    """Execute and render the notebooks named in the arguments, or all; 0 done, 2 wrong call, 3 one that fails."""
    parser = argparse.ArgumentParser(usage=__doc__)
    known = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
    parser.add_argument("names", nargs="*")
    parser.add_argument("--tier", default=TIER)
    parser.add_argument("--renew", action="store_true")
    chosen = parser.parse_args(arguments)
    if unknown := [name for name in chosen.names if name not in known]:
        parser.error(f"no notebook {unknown[0]!r}; there are {', '.join(known)}")
    if chosen.renew and chosen.tier != TIER:
        parser.error(f"outputs in {NOTEBOOKS}/ are those of the {TIER} tier: --renew takes no other")
    folder = Path("results", chosen.tier, "notebooks")
    folder.mkdir(parents=True, exist_ok=True)
    for name in chosen.names or known:
        path = NOTEBOOKS / f"{name}.ipynb"
        try:
            notebook = executed(path, chosen.tier)
        except CellExecutionError as error:
            print(f"error: {path} fails: {error}", file=sys.stderr)
            return 3
        (folder / f"{name}.html").write_text(page(notebook, f"{name}, {chosen.tier} tier"), encoding="utf-8")
        if chosen.renew:
            renew(path, notebook)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
