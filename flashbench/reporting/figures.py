"""Figures of a protocol as SVG: the measured curve with its band, the published curve beside it on its own axis.

Reads the long table of `reporting.tables`, measures nothing. The same table gives the same bytes: ids are salted with
a constant, no date and no version is written, text stays text. Colours are Okabe and Ito's, safe for colour-blind
readers; every line is also told apart by its marker and labelled where it ends.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd
from scipy.optimize import isotonic_regression

from flashbench.errors import InvalidError
from flashbench.published import VERSIONS
from flashbench.reporting.tables import is_control, records
from flashbench.types import Protocol

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = {"o": "●", "s": "■", "^": "▲", "D": "◆", "v": "▼", "P": "✚"}
"""Markers of the lines, with the sign that stands for each in a name."""
GREY = "#5A5A5A"
DASHED: dict[str, Any] = {"color": "#9A9A9A", "linewidth": 0.8, "linestyle": (0, (4, 3)), "zorder": 1}
SHOWN = ("niqe_pooled", "psnr")
"""Metrics of the measured panels, where the protocol has them; its primary metrics otherwise."""
QUOTED = "niqe"
"""Published metric: its panel stands beside the measured one, with an axis of the same span."""
NEAR = 0.6
"""Controls farther from the curves than this share of the curves' range are named at the edge of the panel."""
Limits: TypeAlias = tuple[float, float]
"""Lower and upper end of an axis."""
Label: TypeAlias = tuple[str, float, str, bool]
"""Text, level, colour, whether a leader ties it to its level."""
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
    quoted = [cells[QUOTED] for rows in protocol.published.values() for cells in rows.values() if QUOTED in cells]
    shown = (*SHOWN, QUOTED) if quoted else SHOWN
    chosen = [name for name in shown if name in protocol.metrics] or list(protocol.primary)
    panels, height = len(chosen) + bool(quoted), 3.3 if protocol.curve else 1.4 + 0.3 * (len(protocol.variants) + 2)
    down, across = (2, 2) if panels == 4 else (1, panels)
    beside = _around(quoted)
    limits = {name: _limits(protocol, table, name, beside if name == QUOTED else (0.0, 0.0)) for name in chosen}
    title = f"Published, {protocol.table}: other material"
    if quoted and QUOTED in limits:
        title += ", equal span"
        span = max(high - low for low, high in (beside, limits[QUOTED]))
        beside, limits[QUOTED] = _widened(beside, span), _widened(limits[QUOTED], span)
    with mpl.rc_context():
        mpl.rcdefaults()  # a figure does not depend on the reader's matplotlibrc
        mpl.rcParams.update(_STYLE)
        figure = Figure(figsize=((4.6 if protocol.curve else 4.2) * across, height * down + 0.3), layout="constrained")
        axes = np.atleast_1d(figure.subplots(down, across, sharey=not protocol.curve)).ravel()
        for ax, name in zip(axes, chosen, strict=False):
            (_measured_curve if protocol.curve else _measured_rows)(ax, protocol, table, name, limits[name])
        if quoted:
            (_published_curve if protocol.curve else _published_rows)(axes[-1], protocol, beside)
            axes[-1].set_title(title)
            if protocol.curve and QUOTED in limits:
                axes[-1].set_xlim(axes[-2].get_xlim())  # slopes compare only where both axes do
        figure.suptitle(f"{protocol.title}, {protocol.tier} tier", x=0.01, ha="left", fontsize=11, fontweight="bold")
        buffer = io.BytesIO()
        about = {"Date": None, "Creator": None, "Title": f"{protocol.name}, protocol hash {protocol.hash}"}
        figure.savefig(buffer, format="svg", metadata=about)
    return buffer.getvalue()


def measured_lines(protocol: Protocol, table: pd.DataFrame, metric: str) -> list[Line]:
    """The measured curves of a metric: one for each combination of the other settings and each replica."""
    several = table["replica"].nunique() > 1
    found: dict[str, list[tuple[float, float, float, float]]] = {}
    for line in records(table, metric=metric):
        x, label = _place(str(line["row"]), protocol.curve)
        if x is not None and not math.isnan(line["value"]):
            label = f"{label} r{line['replica']}".strip() if several else label
            found.setdefault(label, []).append((x, line["value"], line["low"], line["high"]))
    return [Line(label, *zip(*sorted(points), strict=True)) for label, points in found.items()]


def published_lines(protocol: Protocol) -> list[Line]:
    """The published curves of NIQE: one line where the versions agree, else one for each version that has it."""
    merged: dict[tuple[str, tuple[tuple[float, float], ...]], list[str]] = {}
    for version in VERSIONS:
        found: dict[str, list[tuple[float, float]]] = {}
        for row, cells in protocol.published.get(version, {}).items():
            x, label = _place(row, protocol.curve)
            if x is not None and QUOTED in cells:
                found.setdefault(label, []).append((x, cells[QUOTED]))
        for label, points in found.items():
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


def _limits(protocol: Protocol, table: pd.DataFrame, metric: str, beside: Limits) -> Limits:
    """Ends of a measured axis at least as long as the one beside: own rows with intervals, and the near controls."""
    own = [
        y for line in records(table, metric=metric) if not is_control(line["row"])
        for y in (line["value"], line["low"], line["high"]) if math.isfinite(y)
    ]  # fmt: skip
    low, high = (min(own), max(own)) if own else (-math.inf, math.inf)
    reach = max(NEAR * (high - low), (beside[1] - beside[0] - high + low) / 2)
    near = {row for row, y in _controls(table, metric) if low - reach <= y <= high + reach}
    ends = ("value",) if protocol.curve else ("value", "low", "high")  # a control's interval is drawn in its row only
    lines = [line for line in records(table, metric=metric) if line["row"] in near]
    return _around(own + [line[end] for line in lines for end in ends if math.isfinite(line[end])])


def _around(values: Sequence[float]) -> Limits:
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    return _widened((low, high), 1.16 * (high - low) or 1.0)


def _widened(limits: Limits, span: float) -> Limits:
    middle = sum(limits) / 2
    return middle - span / 2, middle + span / 2


def _controls(table: pd.DataFrame, metric: str) -> list[tuple[str, float]]:
    """(row, value) of the controls of the first replica, where the value is finite."""
    lines = records(table, metric=metric, replica=table["replica"].min())
    return [(r["row"], r["value"]) for r in lines if is_control(r["row"]) and math.isfinite(r["value"])]


def _measured_curve(ax: Axes, protocol: Protocol, table: pd.DataFrame, metric: str, limits: Limits) -> None:
    labels = []
    for row, level in _controls(table, metric):
        arrow = "↓ " if level < limits[0] else "↑ " if level > limits[1] else ""
        labels.append((f"{arrow}{row} {level:.2f}", level, GREY, not arrow))
        if not arrow:
            ax.axhline(level, **DASHED)
    _curves(ax, measured_lines(protocol, table, metric), protocol.curve or "", labels, limits)
    which = f"; controls of r{table['replica'].min()}" if table["replica"].nunique() > 1 else ""
    ax.set_title(f"Measured, band: 95 % interval{which}")
    ax.set_ylabel(_axis(table, metric))


def _published_curve(ax: Axes, protocol: Protocol, limits: Limits) -> None:
    _curves(ax, published_lines(protocol), protocol.curve or "", [], limits)
    ax.set_ylabel("niqe, lower is better")


def _curves(ax: Axes, lines: Sequence[Line], setting: str, labels: Sequence[Label], limits: Limits) -> None:
    """Draw lines with their bands; names stand beside the axes, with their marker, at the height of the end."""
    ticks = sorted({x for line in lines for x in line.x})
    for i, line in enumerate(lines):
        colour, (marker, sign) = COLOURS[i % len(COLOURS)], list(MARKERS.items())[i % len(MARKERS)]
        ax.plot(line.x, line.y, color=colour, marker=marker, markersize=4, linewidth=1.6, zorder=3)
        if not all(map(math.isnan, line.low)):
            ax.fill_between(line.x, line.low, line.high, color=colour, alpha=0.18, linewidth=0, zorder=2)
        if line.label:
            labels = [*labels, (f"{sign} {line.label}", line.y[-1], colour, line.x[-1] == ticks[-1])]
    ax.set_xlabel(setting)
    ax.grid(axis="y", color="#E9E9E9", linewidth=0.6)
    if 0 < len(ticks) <= 9 and len(set(np.diff(ticks).tolist())) <= 1:
        ax.set_xticks(ticks)
    ax.set_ylim(*limits)
    ordered = sorted(labels, key=lambda item: (item[1], item[0]))
    heights = _apart([level for _, level, _, _ in ordered], 0.066, limits)
    for (text, level, colour, led), height in zip(ordered, heights, strict=True):
        leader = {"arrowstyle": "-", "color": colour, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 0, "relpos": (0, 0.5)}
        ax.annotate(
            text, (1.0, min(max(level, limits[0]), limits[1])), (1.05, height), va="center", ha="left", fontsize=8,
            color=colour, xycoords=("axes fraction", "data"), textcoords=("axes fraction", "data"),
            annotation_clip=False, arrowprops=leader if led else None,
        )  # fmt: skip


def _apart(levels: Sequence[float], gap: float, limits: Limits) -> list[float]:
    """Places for names of sorted levels, as near as they can be and at least `gap` of the axis apart."""
    low, high = limits
    steps = gap * (high - low) * np.arange(len(levels))
    free = isotonic_regression(np.clip(levels, low, high) - steps).x if levels else steps
    return list(map(float, np.clip(free, low, high - steps.max(initial=0.0)) + steps))


def _measured_rows(ax: Axes, protocol: Protocol, table: pd.DataFrame, metric: str, limits: Limits) -> None:
    at = _row_axis(ax, protocol, limits)
    replicas = sorted(set(table["replica"]))
    for line in records(table, metric=metric):
        row, value = line["row"], float(line["value"])
        colour = GREY if is_control(row) else COLOURS[0]
        height = at[row] + 0.22 * (replicas.index(line["replica"]) - (len(replicas) - 1) / 2)
        if not limits[0] <= value <= limits[1]:
            at_left, text = (True, f"← {value:.2f}") if value < limits[0] else (False, f"{value:.2f} →")
            ax.text(
                0.01 if at_left else 0.99, height, "n/a" if math.isnan(value) else text, color=colour, fontsize=8,
                transform=ax.get_yaxis_transform(), ha="left" if at_left else "right", va="center",
            )  # fmt: skip
            continue
        if not math.isnan(line["low"]):
            ax.plot([line["low"], line["high"]], [height, height], color=colour, linewidth=1.6, zorder=2)
        ax.plot([value], [height], "s" if is_control(row) else "o", color=colour, markersize=5, zorder=3)
    near = sorted((y, row) for row, y in _controls(table, metric) if limits[0] <= y <= limits[1])
    for (value, row), place in zip(near, _apart([y for y, _ in near], 0.045, limits), strict=True):
        ax.plot([value, value, place], [len(at) - 0.4, -0.6, -0.95], **DASHED)
        ax.text(place, -1.05, row, rotation=90, ha="center", va="bottom", fontsize=7, color=GREY)
    ax.set_title("Measured, 95 % interval")
    ax.set_xlabel(_axis(table, metric))


def _published_rows(ax: Axes, protocol: Protocol, limits: Limits) -> None:
    at = _row_axis(ax, protocol, limits)
    for i, version in enumerate(VERSIONS):
        cells = protocol.published.get(version, {})
        points = [(cells[row][QUOTED], at[row]) for row in at if QUOTED in cells.get(row, {})]
        style: dict[str, Any] = {"markerfacecolor": "none", "markersize": 9.0 - 4 * i, "markeredgewidth": 1.6}
        if points:
            ax.plot(*zip(*points, strict=True), "o", color=COLOURS[1 + i], label=version, **style)
    if ax.lines:
        ax.legend(frameon=False, loc="upper left", ncols=2, handletextpad=0.2)
    ax.set_xlabel("niqe, lower is better")


def _row_axis(ax: Axes, protocol: Protocol, limits: Limits) -> dict[str, int]:
    """Row → height, in the protocol's order from the top, below room for the controls' names."""
    at = {variant.row: i for i, variant in enumerate(protocol.variants)}
    ax.set_yticks(list(at.values()), list(at))
    ax.set_ylim(len(at) - 0.4, -2.7)
    ax.set_xlim(*limits)
    ax.grid(axis="x", color="#E9E9E9", linewidth=0.6)
    return at


def _axis(table: pd.DataFrame, metric: str) -> str:
    """Metric, unit and direction for an axis."""
    line = records(table, metric=metric)[0]
    unit = f" ({line['unit']})" if line["unit"] else ""
    better = {"higher": ", higher is better", "lower": ", lower is better", "none": ""}[line["direction"]]
    return f"{metric}{unit}{better}"
