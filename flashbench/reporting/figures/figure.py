"""Figures of a protocol as SVG: the measured curve with its band, the published curve beside it on its own axis.

Reads the long table of `reporting.tables`, measures nothing. The same table gives the same bytes: ids are salted with
a constant, no date and no version is written, text stays text.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from flashbench.errors import InvalidError
from flashbench.protocol.types import Protocol
from flashbench.reporting import vbench_table
from flashbench.reporting.figures import cost, panels
from flashbench.reporting.figures.panels import QUOTED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = ("niqe_pooled", "psnr")
"""Metrics of the measured panels beside the primary ones, where the protocol has them."""
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "flashbench", "svg.fonttype": "none", "font.family": "DejaVu Sans", "font.size": 9.0,
    "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10.0, "axes.titlelocation": "left",
    "axes.edgecolor": "#888888", "axes.linewidth": 0.8, "xtick.color": "#444444", "ytick.color": "#444444",
    "axes.axisbelow": True, "figure.facecolor": "white",
}  # fmt: skip

_STYLING = threading.Lock()
"""The style is the process's while a figure is drawn: two threads draw one after the other."""


def draw(protocol: Protocol, table: pd.DataFrame) -> bytes:
    """The protocol's figure as SVG: curves over `protocol.curve`, or rows with their intervals where it has none.

    A protocol that predicts seconds has quality over cost instead (`figure_cost`).

    Args:
        protocol: names the setting of the horizontal axis and the published numbers.
        table: the long table of `tables.build`, of one set of cases and one or more replicas.

    Raises:
        InvalidError: matplotlib is not installed.
    """
    protocol = vbench_table.shown(protocol)
    with _style() as new:
        draw = cost.draw if cost.SECONDS in protocol.metric_names else _panels
        figure = draw(new, protocol, table)
        figure.suptitle(f"{protocol.title}, {protocol.tier} tier", x=0.01, ha="left", fontsize=11, fontweight="bold")
        buffer = io.BytesIO()
        about = {"Date": None, "Creator": None, "Title": f"{protocol.name}, protocol hash {protocol.hash}"}
        figure.savefig(buffer, format="svg", metadata=about)
    return buffer.getvalue()


@contextmanager
def _style() -> Iterator[type[Figure]]:
    """The class of figures, with our style for the time of the block whatever the reader's matplotlibrc."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InvalidError("figures need matplotlib", fix="pip install 'flashbench[repro]'") from error
    with _STYLING, mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield Figure


def _panels(new: type[Figure], protocol: Protocol, table: pd.DataFrame) -> Figure:
    """A panel for each metric that is shown, and one for the published NIQE: curves beside curves, rows beside rows."""
    cells = {row: cells for rows in protocol.published.values() for row, cells in rows.items() if QUOTED in cells}
    quoted = [cell[QUOTED] for rows in protocol.published.values() for cell in rows.values() if QUOTED in cell]
    rows = [variant.row for variant in protocol.variants]
    told = panels.published_lines(protocol) if protocol.curve else []
    if protocol.curve and not told:
        rows = [row for row in rows if row in cells]  # a list of the rows that the paper has, beside curves
    shown = (*protocol.primary, *SHOWN, *([QUOTED] if quoted else []))
    chosen = [name for name in dict.fromkeys(shown) if name in protocol.metric_names]
    count, height = len(chosen) + bool(quoted), 3.3 if protocol.curve else 1.4 + 0.3 * (len(rows) + 2)
    down, across = (2, 2) if count == 4 else (1, count)
    size = ((4.6 if protocol.curve else 4.2) * across, height * down + 0.3)
    figure = new(figsize=size, layout="constrained")
    axes = np.atleast_1d(figure.subplots(down, across, sharey=not protocol.curve)).ravel()
    beside, equal = panels.around(quoted), bool(quoted) and (bool(told) or not protocol.curve) and QUOTED in chosen
    for ax, name in zip(axes, chosen, strict=False):
        ends = panels.limits(protocol, table, name, beside if name == QUOTED and equal else (0.0, 0.0))
        if name == QUOTED and equal:
            span = max(high - low for low, high in (beside, ends))
            beside, ends = panels.widened(beside, span), panels.widened(ends, span)
        (panels.measured_curve if protocol.curve else panels.measured_rows)(ax, protocol, table, name, ends)
    if quoted and told:
        panels.published_curve(axes[-1], protocol, beside)
        panels.same_places(axes[-2], axes[-1])
    elif quoted:
        panels.published_rows(axes[-1], protocol, rows, beside)
    if quoted:
        axes[-1].set_title(f"Published, {protocol.table}: other material{', equal span' if equal else ''}")
    return figure
