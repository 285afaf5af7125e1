"""The figure of differences from one row: measured, paired and with intervals, beside the differences that are printed.

Reads the table of `reporting.reading.differences`, measures nothing. The same table gives the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from flashbench.protocol.published import VERSIONS
from flashbench.protocol.types import Protocol
from flashbench.reporting.figures import panels
from flashbench.reporting.figures.panels import COLOURS, DASHED, GREY, INK, Label
from flashbench.reporting.figures.style import saved, style
from flashbench.reporting.tables import is_control, records

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Points = dict[str, list[tuple[float, float, float, float]]]
"""Name of a curve → its points (x, y, low, high)."""


def draw(protocol: Protocol, differences: pd.DataFrame, kind: str = "svg") -> bytes:
    """Curves over `protocol.curve` if every row that the paper prints lies on it, else rows with their intervals.

    Args:
        protocol: names the setting of the horizontal axis.
        differences: of one metric from one row, as `reading.differences` gives them.
        kind: of file, `svg` or `png`.

    Raises:
        InvalidError: matplotlib is not installed.
    """
    table = differences.reset_index()
    printed = _printed(table)
    quoted = {line["row"] for line in records(table) for column in printed.values() if not math.isnan(line[column])}
    placed = {row for row in table["row"] if panels.place(row, protocol.curve)[0] is not None}
    with style() as new:
        figure = new(figsize=(6.4, 3.7), layout="constrained")
        ax = figure.subplots()
        if len(placed) > 1 and quoted <= placed:
            _curves(ax, protocol, table, printed)
        else:
            _rows(figure, ax, table, printed, quoted)
        return saved(figure, protocol, kind)


def _printed(table: pd.DataFrame) -> dict[str, str]:
    """Name of a published series → its column: one where the versions print the same, none that is empty."""
    columns = {version: f"published_{version}" for version in VERSIONS}
    found = {version: column for version, column in columns.items() if table[column].notna().any()}
    if len(found) > 1 and all(table[column].equals(table[columns[VERSIONS[0]]]) for column in found.values()):
        return {" = ".join(found): columns[VERSIONS[0]]}
    return found


def _curves(ax: Axes, protocol: Protocol, table: pd.DataFrame, printed: Mapping[str, str]) -> None:
    """A curve for each combination of the other settings, and dashed ones for what the paper prints of them."""
    several = table["replica"].nunique() > 1
    measured: Points = {}
    quoted: Points = {}
    than = table["than"].iloc[0]
    zero, own = panels.place(than, protocol.curve)
    for line in records(table):
        x, label = panels.place(line["row"], protocol.curve)
        if x is None:
            continue
        if math.isfinite(line["effect"]):
            name = ", ".join(filter(None, (label, "measured", f"r{line['replica']}" if several else "")))
            start = [(zero, 0.0, 0.0, 0.0)] if zero is not None and label == own else []
            measured.setdefault(name, start).append((x, line["effect"], line["low"], line["high"]))
        for version, column in printed.items():
            if math.isfinite(line[column]) and line["replica"] == table["replica"].min():
                name = ", ".join(filter(None, (label, "published", version)))
                start = [(zero, 0.0, math.nan, math.nan)] if zero is not None and label == own else []
                quoted.setdefault(name, start).append((x, line[column], math.nan, math.nan))
    lines = panels.lines_of(measured) + panels.lines_of(quoted, dashed=True)
    values = [y for line in lines for y in (*line.y, *line.low, *line.high) if math.isfinite(y)]
    ends = panels.around([*values, 0.0])
    ax.axhline(0.0, **(DASHED | {"color": INK, "linestyle": "-"}))
    level: list[Label] = [(f"0: {panels.readable(than)}", 0.0, INK, True)]
    panels.curves(ax, lines, protocol.curve or "", level, ends)
    ax.set_title(_title(printed))
    ax.set_ylabel(_axis(table, "above"))
    _absent(ax, table)


def _rows(figure: Figure, ax: Axes, table: pd.DataFrame, printed: Mapping[str, str], quoted: set[str]) -> None:
    """The rows that the paper prints and those that are no controls."""
    than = table["than"].iloc[0]
    known = quoted | {line["row"] for line in records(table) if math.isfinite(line["effect"])}
    rows = [row for row in dict.fromkeys(table["row"]) if row in quoted or (row in known and not is_control(row))]
    at = {row: i for i, row in enumerate(rows)}
    figure.set_size_inches(7.2, 1.6 + 0.3 * len(at))
    replicas = sorted(set(table["replica"]))
    values = [0.0]
    for line in records(table):
        height = at.get(line["row"])
        if height is None:
            continue
        lift = 0.16 * (replicas.index(line["replica"]) - (len(replicas) - 1) / 2)
        if math.isfinite(line["effect"]):
            bounds = [line[name] for name in ("low", "high") if math.isfinite(line[name])]
            ax.plot(bounds, [height + lift] * len(bounds), color=COLOURS[0], linewidth=1.6, zorder=2)
            ax.plot([line["effect"]], [height + lift], "o", color=COLOURS[0], markersize=5, zorder=3)
            values += [line["effect"], *bounds]
    for i, (version, column) in enumerate(printed.items()):
        style: dict[str, Any] = {"markerfacecolor": "none", "markersize": 9.0 - 4 * i, "markeredgewidth": 1.6}
        points = [(line[column], at[line["row"]]) for line in records(table) if line["row"] in at]
        points = [point for point in points if math.isfinite(point[0])]
        ax.plot(*zip(*points, strict=True), "o", color=COLOURS[1 + i], label=f"published {version}", **style)
        values += [x for x, _ in points]
    ax.plot([], [], "o-", color=COLOURS[0], markersize=5, label="measured")
    ax.axvline(0.0, **(DASHED | {"color": INK, "linestyle": "-"}))
    ax.set_yticks(list(at.values()), [*map(panels.readable, at)])
    ax.set_ylim(len(at) - 0.4, -0.6)
    ax.set_xlim(*panels.around(values))
    ax.grid(axis="x", color="#E9E9E9", linewidth=0.6)
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    ax.set_title(f"{_title(printed)}; 0 is {panels.readable(than)}")
    ax.set_xlabel(_axis(table, "right of"))
    _absent(ax, table)


def _title(printed: Mapping[str, str]) -> str:
    return f"Measured in pairs, 95 % interval{'; published as printed' if printed else ''}"


def _axis(table: pd.DataFrame, side: str) -> str:
    """Metric, unit, and on which side of 0 the better rows lie."""
    line = records(table)[0]
    unit = f" ({line['unit']})" if line["unit"] else ""
    opposite = {"above": "below", "right of": "left of"}[side]
    better = {"higher": f", {side} 0 is better", "lower": f", {opposite} 0 is better", "none": ""}[line["direction"]]
    return f"difference in {line['metric']}{unit}{better}"


def _absent(ax: Axes, table: pd.DataFrame) -> None:
    """Say why nothing was measured, where nothing was."""
    if table["effect"].isna().all():
        reason = "; ".join(dict.fromkeys(filter(None, table["reason"])))
        text = f"not measured: {reason}"
        ax.text(0.5, 0.02, text, transform=ax.transAxes, ha="center", va="bottom", fontsize=8, color=GREY, wrap=True)
