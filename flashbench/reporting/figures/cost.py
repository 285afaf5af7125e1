"""The figure of quality against cost: the paper's seconds beside the model's, and what designs attain per FLOP."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from flashbench.protocol.published import VERSIONS
from flashbench.protocol.types import Protocol
from flashbench.reporting import numbers
from flashbench.reporting.figures import panels
from flashbench.reporting.figures.panels import COLOURS, DASHED, GREY, Label, Limits, Line
from flashbench.reporting.tables import records

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

SECONDS, WORK = "predicted_seconds", "tflop"
"""Metrics of cost: a protocol that measures the first is drawn here."""
FIDELITY = "psnr"
STEPS = "nfe"
"""Setting along a design's curve, written at each point."""


def draw(new: type[Figure], protocol: Protocol, table: pd.DataFrame) -> Figure:
    """Seconds where the paper printed any, and the primary metrics and PSNR of what was run against its FLOP."""
    names = [name for name in dict.fromkeys((*protocol.primary, FIDELITY)) if name in protocol.metric_names]
    figure = new(figsize=(4.6 * (1 + len(names)), 3.6), layout="constrained")
    first, *others = figure.subplots(1, 1 + len(names))
    _seconds(first, protocol, table)
    for ax, name in zip(others, names, strict=True):
        _quality(ax, protocol, table, name)
    return figure


def _seconds(ax: Axes, protocol: Protocol, table: pd.DataFrame) -> None:
    """Published over predicted seconds, on equal logarithmic axes with the line on which they agree.

    The prediction's two rates are fitted to the very times that the paper prints: it shows that two rates are enough.
    """
    predicted = {line["row"]: line["value"] for line in records(table, metric=SECONDS)}
    points = {
        row: (predicted[row], cells[SECONDS])
        for version in VERSIONS
        for row, cells in protocol.published.get(version, {}).items()
        if SECONDS in cells and math.isfinite(predicted.get(row, math.nan))
    }
    ax.set_title(f"Seconds at the paper's sizes, {protocol.table}")
    ax.set_xlabel("FLOP at two rates fitted to these times (s)")
    ax.set_ylabel("published (s)")
    if not points:
        ax.set_xticks([])
        ax.set_yticks([])
        text = f"{numbers.UNDEFINED}: no published time"
        ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color=GREY)
        return
    values = [value for pair in points.values() for value in pair]
    ends = min(values) / 2, max(values) * 2
    ax.loglog(ends, ends, **DASHED)
    ax.loglog(*zip(*points.values(), strict=True), "o", color=COLOURS[0], markersize=5, zorder=3)
    for row, (x, y) in points.items():
        left = x > math.sqrt(ends[0] * ends[1])  # a name never crosses the edge, and stays off the line
        ax.annotate(
            _short(row), (x, y), (-7, 3) if left else (7, -3), textcoords="offset points", fontsize=8,
            ha="right" if left else "left", va="bottom" if left else "top",
        )  # fmt: skip
    ax.set_xlim(*ends)
    ax.set_ylim(*ends)
    _decimals(ax, ax.xaxis, ax.yaxis)


def _quality(ax: Axes, protocol: Protocol, table: pd.DataFrame, metric: str) -> None:
    """A curve for each design over its FLOP, with its evaluations at the points; rows without FLOP are levels."""
    found: dict[str, list[tuple[float, float, float, float]]] = {}
    steps: dict[tuple[float, float], str] = {}
    levels: list[tuple[str, float]] = []
    several = table["replica"].nunique() > 1
    work = {(line["row"], line["replica"]): line["value"] for line in records(table, metric=WORK)}
    for line in records(table, metric=metric):
        row, replica, x, y = line["row"], line["replica"], work[line["row"], line["replica"]], line["value"]
        if not math.isfinite(y):
            continue
        if not math.isfinite(x) or x <= 0:
            levels += [(row, y)] if replica == table["replica"].min() else []
            continue
        parts = row.split(",")
        label = ", ".join(dict.fromkeys(_short(part) for part in parts if not part.startswith(f"{STEPS}=")))
        label = f"{label} r{replica}" if several else label
        found.setdefault(label, []).append((x, y, line["low"], line["high"]))
        steps[x, y] = "".join(part.partition("=")[2] for part in parts if part.startswith(f"{STEPS}="))
    lines = panels.lines_of(found)
    ends = _limits(lines, levels)
    labels: list[Label] = []
    for row, y in levels:
        arrow = "↓ " if y < ends[0] else "↑ " if y > ends[1] else ""
        labels.append((f"{arrow}{row} {numbers.number(y, panels.PLACES)}", y, GREY, not arrow))
        if not arrow:
            ax.axhline(y, **DASHED)
    panels.curves(ax, lines, "", labels, ends)
    for (x, y), text in steps.items():
        ax.annotate(text, (x, y), (0, 5), textcoords="offset points", fontsize=7, ha="center", color=GREY)
    ax.set_title("Measured, band: 95 % interval; numbers: evaluations")
    ax.set_ylabel(panels.axis(table, metric))
    ax.set_xlabel("TFLOP of a clip's evaluations, computed")
    if lines:
        ax.set_xscale("log")
        _decimals(ax, ax.xaxis)
    else:
        panels.absent(ax, table, metric)


def _decimals(ax: Axes, *axes: Axis) -> None:
    """Plain numbers on logarithmic axes: at 1, 2 and 5 of each decade, or at 1 where there are many decades."""
    from matplotlib.ticker import LogLocator

    ax.minorticks_off()
    for axis in axes:
        low, high = axis.get_view_interval()
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
        axis.set_major_formatter("{x:,g}")


def _limits(lines: list[Line], levels: list[tuple[str, float]]) -> Limits:
    """Around the curves and their intervals; levels far from them are named at the edge."""
    own = [y for line in lines for y in (*line.y, *line.low, *line.high) if math.isfinite(y)]
    if not own:
        return panels.around([y for _, y in levels])
    low, high = min(own), max(own)
    reach = panels.NEAR * (high - low)
    return panels.around([*own, *(y for _, y in levels if low - reach <= y <= high + reach)])


def _short(row: str) -> str:
    """`flashvideo` of `design=flashvideo`; a control as it is."""
    return row.partition("=")[2] or row
