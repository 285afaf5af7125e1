"""Figures of a protocol: the measured curve with its band, the published curve beside it on its own axis.

Reads the long table of `reporting.tables`, measures nothing. The same table gives the same bytes (`figures.style`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from flashbench.protocol.types import Protocol
from flashbench.reporting import vbench_table
from flashbench.reporting.figures import cost, panels
from flashbench.reporting.figures.panels import QUOTED
from flashbench.reporting.figures.style import saved, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = ("niqe_pooled", "psnr")
"""Metrics of the measured panels beside the primary ones, where the protocol has them."""


def draw(protocol: Protocol, table: pd.DataFrame, kind: str = "svg") -> bytes:
    """The protocol's figure: curves over `protocol.curve`, or rows with their intervals where it has none.

    A protocol that predicts seconds has quality over cost instead (`figure_cost`).

    Args:
        protocol: names the setting of the horizontal axis and the published numbers.
        table: the long table of `tables.build`, of one set of cases and one or more replicas.
        kind: of file, `svg` or `png`.

    Raises:
        InvalidError: matplotlib is not installed.
    """
    protocol = vbench_table.shown(protocol)
    with style() as new:
        draw = cost.draw if cost.SECONDS in protocol.metric_names else _panels
        figure = draw(new, protocol, table)
        return saved(figure, protocol, kind)


def _panels(new: type[Figure], protocol: Protocol, table: pd.DataFrame) -> Figure:
    """A panel for each metric that is shown, and one for the published NIQE: curves beside curves, rows beside rows."""
    cells = {row: cells for rows in protocol.published.values() for row, cells in rows.items() if QUOTED in cells}
    quoted = [cell[QUOTED] for rows in protocol.published.values() for cell in rows.values() if QUOTED in cell]
    shown = (*protocol.primary, *SHOWN, *([QUOTED] if quoted else []))
    chosen = [name for name in dict.fromkeys(shown) if name in protocol.metric_names]
    valued = set(table[table["metric"].isin(chosen) & ~table["value"].isna()]["row"]) | {*cells}
    rows = [variant.row for variant in protocol.variants if variant.row in valued]
    told = panels.published_lines(protocol) if protocol.curve else []
    if protocol.curve and not told:
        rows = [row for row in rows if row in cells]  # a list of the rows that the paper has, beside curves
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
        if protocol.curve:
            panels.measured_curve(ax, protocol, table, name, ends)
        else:
            panels.measured_rows(ax, protocol, table, name, rows, ends)
    if quoted and told:
        panels.published_curve(axes[-1], protocol, beside)
        panels.same_places(axes[-2], axes[-1])
    elif quoted:
        panels.published_rows(axes[-1], protocol, rows, beside)
    if quoted:
        axes[-1].set_title(f"Published, {protocol.table}: other material{', equal span' if equal else ''}")
    return figure
