"""The forest plot of a protocol's claims: the paired differences that they rest on, with a place for each training.

A panel holds claims of one metric, whose differences share an axis: those between the paper's own arms apart from the
others, which are often many times larger. Reads judged claims, measures nothing.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from flashbench.protocol.types import Protocol
from flashbench.reporting import numbers
from flashbench.reporting.claims import Result
from flashbench.reporting.figures.panels import COLOURS, GREY, INK, MARKERS, around, readable
from flashbench.reporting.figures.style import saved, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Panel: TypeAlias = tuple[str, bool]
"""A metric, and whether the claims are the paper's between its own arms."""

_ROW, _LINE = 0.52, 0.15
"""Inches of a claim of at most three lines, and of each line more."""
_AROUND = 0.95
"""Inches of a panel around its claims: its title, its axis and the name of that."""
_WIDE = 46
"""Characters of a line of a claim's text."""
_BAND = "#DCE9F2"


def draw(protocol: Protocol, judged: Sequence[Result], kind: str = "svg") -> bytes:
    """Effects with their intervals, a thin line over their range with one cluster left out, and the margins.

    Claims on what is computed have no interval, and those without an effect nothing to draw: they are left out.

    Args:
        protocol: names the figure.
        judged: its claims from `claims.evaluate`.
        kind: of file, `svg` or `png`.

    Raises:
        InvalidError: matplotlib is not installed.
    """
    panels = _panels(protocol, judged)
    with style() as new:
        if not panels:
            figure = new(figsize=(6.4, 1.0), layout="constrained")
            figure.text(0.012, 0.3, f"No claim rests on what is measured at the {protocol.tier} tier.", color=GREY)
            return saved(figure, protocol, kind)
        heights = [_AROUND + _high(claims) * len(claims) for claims in panels.values()]
        figure = new(figsize=(9.0, sum(heights) + 0.75), layout="constrained")
        axes = figure.subplots(len(panels), 1, height_ratios=heights, squeeze=False)[:, 0]
        for ax, ((metric, paper), claims) in zip(axes, panels.items(), strict=True):
            _panel(ax, claims, metric)
            group = "The paper's claims between its own arms" if paper else "This project's, and those against controls"
            ax.set_title(f"{group}: {metric}")
        _legend(figure, panels)
        return saved(figure, protocol, kind)


def _panels(protocol: Protocol, judged: Sequence[Result]) -> dict[Panel, list[Result]]:
    """The claims of each panel, the paper's first."""
    drawn = [
        result
        for result in judged
        if not protocol.metric(result["metric"]).computed
        and any(line["effect"] is not None for line in result["replicas"])
    ]
    found: dict[Panel, list[Result]] = {}
    for result in sorted(drawn, key=lambda result: not result["paper"]):
        found.setdefault((result["metric"], result["paper"]), []).append(result)
    return found


def _high(claims: Sequence[Result]) -> float:
    """Inches of each claim of a panel: room for the longest of their names."""
    return _ROW + _LINE * max(0, *(_named(result).count("\n") - 2 for result in claims))


def _panel(ax: Axes, claims: Sequence[Result], metric: str) -> None:
    ends = [0.0]
    for place, result in enumerate(claims):
        ends += _row(ax, place, result)
    low, high = around(ends)
    ax.set_xlim(low, high)
    ax.set_ylim(len(claims) - 0.4, -0.6)
    ax.axvline(0.0, color=INK, linewidth=0.8, zorder=1)
    ax.grid(axis="x", color="#E9E9E9", linewidth=0.6)
    ax.set_yticks(range(len(claims)), [_named(result) for result in claims])
    ax.tick_params(axis="y", length=0)
    for label, result in zip(ax.get_yticklabels(), claims, strict=True):
        label.set_fontweight("bold" if result["primary"] else "normal")
    unit, direction = claims[0]["unit"], claims[0]["direction"]
    better = {"higher": "right of 0 favours the first", "lower": "left of 0 favours the first", "none": ""}[direction]
    ax.set_xlabel(", ".join(filter(None, (f"difference of {numbers.named(metric, direction, unit)}", better))))


def _row(ax: Axes, place: int, result: Result) -> list[float]:
    """Draw a claim at its height; all that has to be within the axis."""
    ends: list[float] = []
    if result["margin"] is not None:
        margin = result["margin"]
        ax.fill_between([-margin, margin], place - 0.4, place + 0.4, color=_BAND, linewidth=0, zorder=0)
        ends += [-margin, margin]
    lines = result["replicas"]
    for i, line in enumerate(lines):
        if line["effect"] is None:
            continue
        height = place + 0.24 * (i - (len(lines) - 1) / 2)
        colour, marker = COLOURS[i % len(COLOURS)], list(MARKERS)[i % len(MARKERS)]
        spans = ((line["low"], line["high"], 2.2), (line["left_out_low"], line["left_out_high"], 0.7))
        for low, high, width in spans:
            if low is not None and high is not None:
                ax.plot([low, high], [height, height], color=colour, linewidth=width, solid_capstyle="butt", zorder=2)
                ends += [low, high]
        if line["left_out_low"] is not None:  # thin ends above the interval, which is nearly always longer
            whisker = [line["left_out_low"], line["left_out_high"]]
            ax.plot(whisker, [height] * 2, "|", color=colour, markersize=7, markeredgewidth=0.7, zorder=3)
        ax.plot([line["effect"]], [height], marker, color=colour, markersize=4, zorder=4)
        ends.append(line["effect"])
    if result["label"]:
        ax.annotate(
            result["label"], (1.0, place), (4, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
            fontsize=7, color=GREY, va="center", annotation_clip=False,
        )  # fmt: skip
    return ends


def _named(result: Result) -> str:
    """What is claimed, and of which difference."""
    said = textwrap.fill(result["text"], _WIDE)
    first, second = readable(result["first"]).split(", "), readable(result["second"]).split(", ")
    common = [word for word in first if word in second]
    own = [", ".join(word for word in words if word not in common) for words in (first, second)]
    at = f" ({', '.join(common)})" if common and all(own) else ""
    names = own if all(own) else [", ".join(first), ", ".join(second)]
    return f"{said}\n{textwrap.fill(f'{names[0]} − {names[1]}{at}', _WIDE + 14)}"


def _legend(figure: Figure, panels: dict[Panel, list[Result]]) -> None:
    """What lines, bands and bold names mean, and the trainings where there are several."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    claims = [result for part in panels.values() for result in part]
    replicas = list(dict.fromkeys(line["replica"] for result in claims for line in result["replicas"]))
    styles = zip(replicas, COLOURS, MARKERS, strict=False)
    shown: list[Line2D | Patch] = [
        Line2D([], [], color=colour, marker=marker, markersize=4, linestyle="", label=f"training r{replica}")
        for replica, colour, marker in styles
    ]
    shown = shown if len(replicas) > 1 else []
    shown.append(Line2D([], [], color=COLOURS[0], linewidth=2.2, label="interval (95 %, of an equivalence 90 %)"))
    whisker = {"color": COLOURS[0], "linewidth": 0.7, "marker": "|", "markersize": 7, "markeredgewidth": 0.7}
    shown.append(Line2D([], [], **whisker, label="range with one cluster left out"))  # type: ignore[arg-type]
    if any(result["margin"] is not None for result in claims):
        shown.append(Patch(color=_BAND, label="margin"))
    if any(result["primary"] for result in claims):
        shown.append(Line2D([], [], linestyle="", label="bold: primary claim"))
    figure.legend(handles=shown, loc="outside lower right", ncols=3, frameon=False, fontsize=8)
