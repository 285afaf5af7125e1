"""Panels of a figure: measured curves with their bands, rows with their intervals, the paper's numbers, names beside.

Colours are Okabe and Ito's, safe for colour-blind readers; every line is also told apart by its marker and labelled
where it ends.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd
from scipy.optimize import isotonic_regression

from flashbench.protocol.published import VERSIONS
from flashbench.protocol.types import Protocol
from flashbench.reporting import numbers
from flashbench.reporting.tables import is_control, records

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = {"o": "●", "s": "■", "^": "▲", "D": "◆", "v": "▼", "P": "✚"}
"""Markers of the lines, with the sign that stands for each in a name."""
GREY, INK = "#5A5A5A", "#111111"
DASHED: dict[str, Any] = {"color": "#9A9A9A", "linewidth": 0.8, "linestyle": (0, (4, 3)), "zorder": 1}
QUOTED = "niqe"
"""Published metric: its panel stands beside the measured one, with an axis of the same span."""
NEAR = 0.6
"""Levels farther from the curves than this share of the curves' range are named at the edge of the panel."""
PLACES = 2
"""Decimals of a level's number."""
WIDE = 10.0
"""An uneven curve whose last place is this many times its first has a logarithmic axis."""
Limits: TypeAlias = tuple[float, float]
"""Lower and upper end of an axis."""
Label: TypeAlias = tuple[str, float, str, bool]
"""Text, level, colour, whether a leader ties it to its level."""


@dataclass(frozen=True)
class Line:
    """One curve: points sorted by x, bounds NaN where there is no interval."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    dashed: bool = field(default=False, kw_only=True)


def measured_lines(protocol: Protocol, table: pd.DataFrame, metric: str) -> list[Line]:
    """The measured curves of a metric: one for each combination of the other settings and each replica.

    A curve without other settings is named after its system where there are several.
    """
    systems = {variant.row: variant.system.name for variant in protocol.variants}
    placed = [(line, *place(str(line["row"]), protocol.curve)) for line in records(table, metric=metric)]
    placed = [item for item in placed if item[1] is not None and not math.isnan(item[0]["value"])]
    several = len({label for _, _, label in placed}) > 1
    found: dict[str, list[tuple[float, float, float, float]]] = {}
    for line, x, label in placed:
        label = label or (systems[line["row"]] if several else "")
        label = f"{label} r{line['replica']}".strip() if table["replica"].nunique() > 1 else label
        found.setdefault(label, []).append((x or 0.0, line["value"], line["low"], line["high"]))
    return lines_of(found)


def lines_of(found: Mapping[str, Sequence[tuple[float, float, float, float]]], *, dashed: bool = False) -> list[Line]:
    """Lines from label → points (x, y, low, high) in any order."""
    lines = [Line(label, *zip(*sorted(points), strict=True)) for label, points in found.items()]
    return [replace(line, dashed=dashed) for line in lines]


def published_lines(protocol: Protocol) -> list[Line]:
    """The published curves of NIQE: one line where the versions agree, else one for each version that has it."""
    merged: dict[tuple[str, tuple[tuple[float, float], ...]], list[str]] = {}
    for version in VERSIONS:
        found: dict[str, list[tuple[float, float]]] = {}
        for row, cells in protocol.published.get(version, {}).items():
            x, label = place(row, protocol.curve)
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


def place(row: str, curve: str | None) -> tuple[float | None, str]:
    """(x, label of the line) of a row id; x is None for controls and rows without the curve's setting as a number.

    A size HEIGHTxWIDTH lies at its height.
    """
    settings = dict(part.split("=", 1) for part in row.split(",") if "=" in part)
    if curve is None or curve not in settings:
        return None, ""
    at = settings.pop(curve).split("x")[0]
    label = ", ".join(f"{name} {value}" for name, value in settings.items())
    return (float(at) if at.replace(".", "", 1).isdigit() else None), label


_READ = {"nfe": "{} evaluations", "size": "{} px", "system": "{}", "design": "{}"}
"""How a setting is read in a row's name; `name value` otherwise."""


def readable(row: str) -> str:
    """A row's id in words: `4 evaluations, vanilla` of `nfe=4,system=vanilla`."""
    words = []
    for part in row.split(","):
        name, equals, value = part.partition("=")
        text = _READ.get(name, f"{name} {{}}").format(value) if equals else part
        words.append("1 evaluation" if part == "nfe=1" else text.replace("_", " "))
    return ", ".join(words)


def limits(protocol: Protocol, table: pd.DataFrame, metric: str, beside: Limits) -> Limits:
    """Ends of a measured axis at least as long as the one beside: the curves (or rows that are no controls) and the
    baseline with their intervals, and the levels near them.
    """
    lines = records(table, metric=metric)
    kept = [line for line in lines if not _aside(protocol, line["row"]) or line["row"] == protocol.baseline]
    own = [y for line in kept for y in (line["value"], line["low"], line["high"]) if math.isfinite(y)]
    low, high = (min(own), max(own)) if own else (-math.inf, math.inf)
    reach = max(NEAR * (high - low), (beside[1] - beside[0] - high + low) / 2)
    near = {row for row, y in _levels(protocol, table, metric) if low - reach <= y <= high + reach}
    ends = ("value",) if protocol.curve else ("value", "low", "high")  # a level's interval is drawn in its row only
    lines = [line for line in lines if line["row"] in near]
    return around(own + [line[end] for line in lines for end in ends if math.isfinite(line[end])])


def around(values: Sequence[float]) -> Limits:
    """Limits with a margin around values."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    return widened((low, high), 1.16 * (high - low) or 1.0)


def widened(ends: Limits, span: float) -> Limits:
    """Limits of that length with the same middle."""
    middle = sum(ends) / 2
    return middle - span / 2, middle + span / 2


def _aside(protocol: Protocol, row: str) -> bool:
    """Whether a row is a level beside the curves, or a control among rows."""
    return is_control(row) if protocol.curve is None else place(row, protocol.curve)[0] is None


def _levels(protocol: Protocol, table: pd.DataFrame, metric: str) -> list[tuple[str, float]]:
    """(row, value) of the first replica's rows that stand aside, where the value is finite."""
    lines = records(table, metric=metric, replica=table["replica"].min())
    aside = [line for line in lines if _aside(protocol, line["row"])]
    return [(line["row"], line["value"]) for line in aside if math.isfinite(line["value"])]


def measured_curve(ax: Axes, protocol: Protocol, table: pd.DataFrame, metric: str, ends: Limits) -> None:
    """The curves of a metric, and its other rows as levels: the baseline's in ink, the others' dashed."""
    labels: list[Label] = []
    for row, level in _levels(protocol, table, metric):
        arrow = "↓ " if level < ends[0] else "↑ " if level > ends[1] else ""
        base = row == protocol.baseline
        labels.append(
            (f"{arrow}{readable(row)} {numbers.number(level, PLACES)}", level, INK if base else GREY, not arrow)
        )
        if not arrow:
            ax.axhline(level, **(DASHED | {"color": INK, "linestyle": "-"} if base else DASHED))
    curves(ax, measured_lines(protocol, table, metric), protocol.curve or "", labels, ends)
    which = f"; levels of r{table['replica'].min()}" if labels and table["replica"].nunique() > 1 else ""
    ax.set_title(f"Measured, band: 95 % interval{which}")
    ax.set_ylabel(axis(table, metric))
    absent(ax, table, metric)


def published_curve(ax: Axes, protocol: Protocol, ends: Limits) -> None:
    """The paper's curves; a row of the paper that stands beside one of ours under another name keeps its own."""
    curves(ax, published_lines(protocol), protocol.curve or "", [], ends)
    names = set()
    for rows in protocol.published.values():
        ours = {row: cells for row, cells in rows.items() if place(row, protocol.curve)[0] is not None}
        theirs = {row: cells for row, cells in rows.items() if row not in ours and QUOTED in cells}
        for row, cells in theirs.items():
            names |= {
                (row, place(own, protocol.curve)[0], cells[QUOTED]) for own, same in ours.items() if same == cells
            }
    for row, x, y in sorted(names):
        ax.annotate(row, (x or 0.0, y), (0, 6), textcoords="offset points", fontsize=7, color=GREY, rotation=60)
    ax.set_ylabel(f"{QUOTED}, lower is better")


def same_places(measured: Axes, published: Axes) -> None:
    """Give both panels the horizontal axis of the measured one, if the published places are within: slopes compare."""
    ends, own = measured.get_xlim(), published.dataLim
    if ends[0] <= own.x0 and own.x1 <= ends[1] and published.get_xscale() == measured.get_xscale():
        published.set_xticks(measured.get_xticks())
        published.set_xlim(*ends)


def absent(ax: Axes, table: pd.DataFrame, metric: str) -> None:
    """Say in a panel without any value why there is none."""
    lines = records(table, metric=metric)
    if not any(math.isfinite(line["value"]) for line in lines):
        reason = "; ".join(dict.fromkeys(line["reason"] for line in lines if line["reason"]))
        text = textwrap.fill(f"{numbers.UNDEFINED}: {reason}", 44)
        ax.set_yticks([])
        ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", fontsize=8, color=GREY)


def curves(ax: Axes, lines: Sequence[Line], setting: str, labels: Sequence[Label], ends: Limits) -> None:
    """Draw lines with their bands; names stand beside the axes, with their marker, at the height of the end."""
    ticks = sorted({x for line in lines for x in line.x})
    for i, line in enumerate(lines):
        colour, (marker, sign) = COLOURS[i % len(COLOURS)], list(MARKERS.items())[i % len(MARKERS)]
        dashes = "--" if line.dashed else "-"
        ax.plot(line.x, line.y, dashes, color=colour, marker=marker, markersize=4, linewidth=1.6, zorder=3)
        if len(line.x) == 1:  # a band has no width there
            ax.plot(line.x * 2, (*line.low, *line.high), color=colour, linewidth=1.0, zorder=2)
        elif not all(map(math.isnan, line.low)):
            ax.fill_between(line.x, line.low, line.high, color=colour, alpha=0.18, linewidth=0, zorder=2)
        if line.label:
            labels = [*labels, (f"{sign} {line.label}", line.y[-1], colour, line.x[-1] == ticks[-1])]
    ax.set_xlabel(setting)
    ax.grid(axis="y", color="#E9E9E9", linewidth=0.6)
    _set_ticks(ax, ticks)
    ax.set_ylim(*ends)
    name_levels(ax, labels, ends)


def _set_ticks(ax: Axes, ticks: Sequence[float]) -> None:
    """The curve's own places where their numbers do not collide; logarithmic where they spread that way."""
    if not ticks:
        ax.set_xticks([])
        return
    even = len(set(np.diff(ticks).tolist())) <= 1
    if not even and min(ticks) > 0 and max(ticks) / min(ticks) >= WIDE:
        ax.set_xscale("log")
        ax.minorticks_off()
        ax.set_xticks(ticks, [numbers.given(tick) for tick in ticks])
    elif len(ticks) <= 9 and (even or np.diff(ticks).min() >= 0.1 * (ticks[-1] - ticks[0])):
        ax.set_xticks(ticks)


def name_levels(ax: Axes, labels: Sequence[Label], ends: Limits) -> None:
    """Names at the right of the axes, in the order of their levels and apart from each other."""
    ordered = sorted(labels, key=lambda item: (item[1], item[0]))
    heights = apart([level for _, level, _, _ in ordered], 0.066, ends)
    for (text, level, colour, led), height in zip(ordered, heights, strict=True):
        leader = {"arrowstyle": "-", "color": colour, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 0, "relpos": (0, 0.5)}
        ax.annotate(
            text, (1.0, min(max(level, ends[0]), ends[1])), (1.05, height), va="center", ha="left", fontsize=8,
            color=colour, xycoords=("axes fraction", "data"), textcoords=("axes fraction", "data"),
            annotation_clip=False, arrowprops=leader if led else None,
        )  # fmt: skip


def apart(levels: Sequence[float], gap: float, ends: Limits) -> list[float]:
    """Places for names of sorted levels, as near as they can be and at least `gap` of the axis apart."""
    low, high = ends
    steps = gap * (high - low) * np.arange(len(levels))
    free = isotonic_regression(np.clip(levels, low, high) - steps).x if levels else steps
    return list(map(float, np.clip(free, low, high - steps.max(initial=0.0)) + steps))


def measured_rows(
    ax: Axes, protocol: Protocol, table: pd.DataFrame, metric: str, rows: Sequence[str], ends: Limits
) -> None:
    """Those rows of a metric with their intervals, those of controls in grey."""
    at = _row_axis(ax, rows, ends)
    replicas = sorted(set(table["replica"]))
    outside: dict[tuple[str, bool], list[str]] = {}
    for line in records(table, metric=metric):
        row, value = line["row"], float(line["value"])
        if row not in at:
            continue
        if not ends[0] <= value <= ends[1]:
            text = numbers.number(value, PLACES)
            text = f"← {text}" if value < ends[0] else f"{text} →" if value > ends[1] else text
            outside.setdefault((row, value < ends[0]), []).append(text)
            continue
        colour = GREY if is_control(row) else COLOURS[0]
        height = at[row] + 0.22 * (replicas.index(line["replica"]) - (len(replicas) - 1) / 2)
        if not math.isnan(line["low"]):
            ax.plot([line["low"], line["high"]], [height, height], color=colour, linewidth=1.6, zorder=2)
        ax.plot([value], [height], "s" if is_control(row) else "o", color=colour, markersize=5, zorder=3)
    for (row, at_left), texts in outside.items():
        ax.text(
            0.01 if at_left else 0.99, at[row], "  ".join(dict.fromkeys(texts)), fontsize=8,
            color=GREY if is_control(row) else COLOURS[0], transform=ax.get_yaxis_transform(),
            ha="left" if at_left else "right", va="center",
        )  # fmt: skip
    near = sorted((y, row) for row, y in _levels(protocol, table, metric) if ends[0] <= y <= ends[1])
    for (value, row), height in zip(near, apart([y for y, _ in near], 0.045, ends), strict=True):
        ax.plot([value, value, height], [len(at) - 0.4, -0.6, -0.95], **DASHED)
        ax.text(height, -1.05, readable(row), rotation=90, ha="center", va="bottom", fontsize=7, color=GREY)
    ax.set_title("Measured, 95 % interval")
    ax.set_xlabel(axis(table, metric))


def published_rows(ax: Axes, protocol: Protocol, rows: Sequence[str], ends: Limits) -> None:
    """The paper's numbers of those rows."""
    at = _row_axis(ax, rows, ends)
    for i, version in enumerate(VERSIONS):
        cells = protocol.published.get(version, {})
        points = [(cells[row][QUOTED], at[row]) for row in at if QUOTED in cells.get(row, {})]
        style: dict[str, Any] = {"markerfacecolor": "none", "markersize": 9.0 - 4 * i, "markeredgewidth": 1.6}
        if points:
            ax.plot(*zip(*points, strict=True), "o", color=COLOURS[1 + i], label=version, **style)
    if ax.lines:
        ax.legend(frameon=False, loc="upper left", ncols=2, handletextpad=0.2)
    ax.set_xlabel(f"{QUOTED}, lower is better")


def _row_axis(ax: Axes, rows: Sequence[str], ends: Limits) -> dict[str, int]:
    """Row → height, in their order from the top, below room for a legend or for the names of controls."""
    at = {row: i for i, row in enumerate(rows)}
    ax.set_yticks(list(at.values()), [*map(readable, at)])
    ax.set_ylim(len(at) - 0.4, -2.7 if any(map(is_control, rows)) else -1.2)
    ax.set_xlim(*ends)
    ax.grid(axis="x", color="#E9E9E9", linewidth=0.6)
    return at


def axis(table: pd.DataFrame, metric: str) -> str:
    """Metric, unit and direction for an axis."""
    line = records(table, metric=metric)[0]
    unit = f" ({line['unit']})" if line["unit"] else ""
    better = {"higher": ", higher is better", "lower": ", lower is better", "none": ""}[line["direction"]]
    return f"{metric}{unit}{better}"
