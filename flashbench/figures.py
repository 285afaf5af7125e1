"""Figures of a protocol as SVG: the measured curve with its band, the published curve beside it on its own axis.

Reads the long table of `flashbench.tables`, measures nothing. The same table gives the same bytes: ids are salted with
a constant, no date and no version is written, text stays text. Colours are Okabe and Ito's, safe for colour-blind
readers; every line is also told apart by its marker and labelled where it ends.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from flashbench.errors import InvalidError
from flashbench.published import VERSIONS
from flashbench.tables import is_control
from flashbench.types import Protocol

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")
GREY = "#5A5A5A"
SHOWN = ("niqe_pooled", "psnr")
"""Metrics of the measured panels, where the protocol has them; its primary metrics otherwise."""
QUOTED = "niqe"
"""Published metric of the panel beside."""
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "flashbench", "svg.fonttype": "none", "font.family": "DejaVu Sans", "font.size": 9.0,
    "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10.0, "axes.titlelocation": "left",
    "axes.edgecolor": "#888888", "axes.linewidth": 0.8, "xtick.color": "#444444", "ytick.color": "#444444",
    "axes.axisbelow": True, "figure.facecolor": "white",
}  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One curve: points sorted by x, bounds NaN where there is no interval."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def draw(protocol: Protocol, table: pd.DataFrame) -> bytes:
    """The protocol's figure as SVG: curves over `protocol.curve`, or rows with their intervals where it has none.

    Args:
        protocol: names the setting of the horizontal axis and the published numbers.
        table: the long table of `tables.build`, of one or more replicas.

    Raises:
        InvalidError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InvalidError("figures need matplotlib", fix="pip install 'flashbench[repro]'") from error
    chosen = [name for name in SHOWN if name in protocol.metrics] or list(protocol.primary)
    quoted = any(QUOTED in cells for rows in protocol.published.values() for cells in rows.values())
    panels = len(chosen) + quoted
    rows = len(protocol.variants)
    with mpl.rc_context():
        mpl.rcdefaults()  # a figure does not depend on the reader's matplotlibrc
        mpl.rcParams.update(_STYLE)
        height = 3.7 if protocol.curve else 1.4 + 0.3 * rows
        figure = Figure(figsize=(4.3 * panels if protocol.curve else 1.6 + 3.3 * panels, height), layout="constrained")
        axes = np.atleast_1d(figure.subplots(1, panels, sharey=not protocol.curve)).ravel()
        for ax, name in zip(axes, chosen, strict=False):
            (_measured_curve if protocol.curve else _measured_rows)(ax, protocol, table, name)
        if quoted:
            (_published_curve if protocol.curve else _published_rows)(axes[-1], protocol)
        figure.suptitle(f"{protocol.title}, {protocol.tier} tier", x=0.01, ha="left", fontsize=11, fontweight="bold")
        buffer = io.BytesIO()
        about = {"Date": None, "Creator": None, "Title": f"{protocol.name}, protocol hash {protocol.hash}"}
        figure.savefig(buffer, format="svg", metadata=about)
    return buffer.getvalue()


def measured_lines(protocol: Protocol, table: pd.DataFrame, metric: str) -> list[Line]:
    """The measured curves of a metric: one for each combination of the other settings and each replica."""
    several = table["replica"].nunique() > 1
    found: dict[str, list[tuple[float, float, float, float]]] = {}
    for line in _records(table, metric):
        x, label = _place(str(line["row"]), protocol.curve)
        if x is not None and not math.isnan(line["value"]):
            label = f"{label} r{line['replica']}".strip() if several else label
            found.setdefault(label, []).append((x, line["value"], line["low"], line["high"]))
    return [Line(label, *zip(*sorted(points), strict=True)) for label, points in found.items()]


def published_lines(protocol: Protocol) -> list[Line]:
    """The published curves of NIQE: one line where the versions agree, else one for each version that has it."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for version in VERSIONS:
        for row, cells in protocol.published.get(version, {}).items():
            x, label = _place(row, protocol.curve)
            if x is not None and QUOTED in cells:
                found.setdefault((label, version), []).append((x, cells[QUOTED]))
    merged: dict[tuple[str, tuple[tuple[float, float], ...]], list[str]] = {}
    for (label, version), points in found.items():
        merged.setdefault((label, tuple(sorted(points))), []).append(version)
    lines = []
    for (label, curve), versions in merged.items():
        nothing = (math.nan,) * len(curve)
        xs, ys = zip(*curve, strict=True)
        lines.append(Line(", ".join(filter(None, (label, " = ".join(versions)))), xs, ys, nothing, nothing))
    return lines


def _place(row: str, curve: str | None) -> tuple[float | None, str]:
    """(x, label of the line) of a row id; x is None for controls and rows without the curve's setting."""
    if curve is None or is_control(row):
        return None, ""
    settings = dict(part.split("=", 1) for part in row.split(","))
    at = settings.pop(curve, None)
    return (None if at is None else float(at)), ", ".join(f"{name} {value}" for name, value in settings.items())


def _measured_curve(ax: Axes, protocol: Protocol, table: pd.DataFrame, metric: str) -> None:
    first = int(table["replica"].min())
    controls = [
        (f"{line['row']} {line['value']:.2f}", float(line["value"]), GREY)
        for line in _records(table[table["replica"] == first], metric)
        if is_control(str(line["row"])) and math.isfinite(line["value"])
    ]
    for _, level, _ in controls:
        ax.axhline(level, color="#9A9A9A", linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    _curves(ax, measured_lines(protocol, table, metric), protocol.curve or "", controls)
    which = f"; controls of r{first}" if table["replica"].nunique() > 1 else ""
    ax.set_title(f"Measured, band: 95 % interval{which}")
    ax.set_ylabel(_axis(table, metric))


def _published_curve(ax: Axes, protocol: Protocol) -> None:
    _curves(ax, published_lines(protocol), protocol.curve or "", [])
    ax.set_title(_beside(protocol))
    ax.set_ylabel("niqe, lower is better")


def _curves(ax: Axes, lines: Sequence[Line], setting: str, labels: list[tuple[str, float, str]]) -> None:
    """Draw lines with their bands; names stand where a line ends, those at the right edge beside the axes."""
    ticks = sorted({x for line in lines for x in line.x})
    for i, line in enumerate(lines):
        colour, last = COLOURS[i % len(COLOURS)], line.x[-1]
        ax.plot(line.x, line.y, color=colour, marker=MARKERS[i % len(MARKERS)], markersize=4, linewidth=1.6, zorder=3)
        if not all(map(math.isnan, line.low)):
            ax.fill_between(line.x, line.low, line.high, color=colour, alpha=0.18, linewidth=0, zorder=2)
        if line.label and last == ticks[-1]:
            labels = [*labels, (line.label, line.y[-1], colour)]
        elif line.label:
            others = [float(np.interp(last, other.x, other.y)) for other in lines if other is not line]
            side = -1 if others and line.y[-1] < max(others) else 1
            ax.annotate(
                line.label, (last, line.y[-1]), (0, 11 * side), textcoords="offset points", ha="center", va="center",
                color=colour, fontsize=8, bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.6},
            )  # fmt: skip
    ax.set_xlabel(setting)
    ax.grid(axis="y", color="#E9E9E9", linewidth=0.6)
    ax.margins(y=0.08)
    if 0 < len(ticks) <= 9 and len(set(np.diff(ticks).tolist())) <= 1:
        ax.set_xticks(ticks)
    _margin_labels(ax, labels)


def _margin_labels(ax: Axes, labels: Sequence[tuple[str, float, str]]) -> None:
    """Names at their heights right of the axes, pushed apart where they would overlap."""
    bottom, top = ax.get_ylim()
    gap = 0.058 * (top - bottom)
    ordered = sorted(labels, key=lambda item: (item[1], item[0]))
    heights: list[float] = []
    for _, level, _ in ordered:
        heights.append(level if not heights else max(level, heights[-1] + gap))
    excess = max(heights[-1] - top, 0.0) if heights else 0.0
    for i in reversed(range(len(heights))):
        ceiling = top if i == len(heights) - 1 else heights[i + 1] - gap
        heights[i] = min(heights[i], ceiling) if excess else heights[i]
    for (text, level, colour), height in zip(ordered, heights, strict=True):
        ax.annotate(
            text, (1.0, level), (1.045, height), va="center", ha="left", fontsize=8, color=colour,
            xycoords=("axes fraction", "data"), textcoords=("axes fraction", "data"), annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 0},
        )  # fmt: skip
    ax.set_ylim(bottom, top)


def _measured_rows(ax: Axes, protocol: Protocol, table: pd.DataFrame, metric: str) -> None:
    at = _row_axis(ax, protocol)
    replicas = sorted(set(table["replica"]))
    for line in _records(table, metric):
        row, value = str(line["row"]), float(line["value"])
        if not math.isfinite(value):
            continue
        colour = GREY if is_control(row) else COLOURS[0]
        height = at[row] + 0.22 * (replicas.index(line["replica"]) - (len(replicas) - 1) / 2)
        if is_control(row) and line["replica"] == replicas[0]:
            ax.axvline(value, color="#B5B5B5", linewidth=0.7, linestyle=(0, (4, 3)), zorder=1)
        if not math.isnan(line["low"]):
            ax.plot([line["low"], line["high"]], [height, height], color=colour, linewidth=1.6, zorder=2)
        ax.plot([value], [height], "s" if is_control(row) else "o", color=colour, markersize=5, zorder=3)
    ax.set_title("Measured, 95 % interval")
    ax.set_xlabel(_axis(table, metric))


def _published_rows(ax: Axes, protocol: Protocol) -> None:
    at = _row_axis(ax, protocol)
    for i, version in enumerate(VERSIONS):
        cells = protocol.published.get(version, {})
        points = [(cells[row][QUOTED], at[row]) for row in at if QUOTED in cells.get(row, {})]
        style: dict[str, Any] = {"markerfacecolor": "none", "markersize": 9.0 - 4 * i, "markeredgewidth": 1.6}
        if points:
            ax.plot(
                *zip(*points, strict=True), linestyle="none", marker="o", color=COLOURS[1 + i], label=version, **style
            )
    if ax.lines:
        ax.legend(frameon=False, loc="best", handletextpad=0.2)
    ax.set_title(_beside(protocol))
    ax.set_xlabel("niqe, lower is better")


def _row_axis(ax: Axes, protocol: Protocol) -> dict[str, int]:
    """Row → height, in the protocol's order from the top."""
    at = {variant.row: i for i, variant in enumerate(protocol.variants)}
    ax.set_yticks(list(at.values()), list(at))
    ax.set_ylim(len(at) - 0.4, -0.6)
    ax.grid(axis="x", color="#E9E9E9", linewidth=0.6)
    return at


def _beside(protocol: Protocol) -> str:
    return f"Published, {protocol.table}: other material"


def _axis(table: pd.DataFrame, metric: str) -> str:
    """Metric, unit and direction for an axis."""
    line = _records(table, metric)[0]
    unit = f" ({line['unit']})" if line["unit"] else ""
    better = {"higher": ", higher is better", "lower": ", lower is better", "none": ""}[line["direction"]]
    return f"{metric}{unit}{better}"


def _records(table: pd.DataFrame, metric: str) -> list[dict[str, Any]]:
    lines = table[table["metric"] == metric].to_dict("records")
    return [{str(name): value for name, value in line.items()} for line in lines]
