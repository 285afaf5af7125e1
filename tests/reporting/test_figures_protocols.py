"""Figures of the protocols that are no plain sweep: levels, sizes, rows without clips, quality against cost."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from support.fake_scores import FakeSystem, protocol
from support.made_results import alike, made_scores

from flashbench.protocol.types import Protocol, Variant
from flashbench.reporting import tables
from flashbench.reporting.figures import cost, figure, panels

Values = dict[str, dict[str, float]]
"""Row → metric → mean score."""


def made(values: Values, missing: dict[str, str] | None = None, **more: Any) -> tuple[Protocol, pd.DataFrame]:
    names = tuple(next(iter(values.values())))
    more = {"metrics": tuple(map(alike, names)), "primary": names[:1], **more}
    asked = protocol(list(values), cases=[f"s{i}/0" for i in range(5)], **more)
    systems = {row: dict(part.split("=") for part in row.split(",") if "=" in part).get("system") for row in values}
    variants = tuple(Variant(row=row, system=FakeSystem(system or "flashvideo")) for row, system in systems.items())
    asked = replace(asked, variants=variants)
    return asked, tables.build(asked, made_scores(asked, lambda row, name: values[row][name], missing=missing))


def texts(svg: bytes) -> list[str]:
    return ["".join(node.itertext()) for node in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are drawn, to look at their axes."""
    from matplotlib.figure import Figure

    seen: list[Any] = []
    monkeypatch.setattr(Figure, "suptitle", lambda self, *_, **__: seen.append(self))
    return seen


POSITIONS = {
    f"positions={kind},size={size}": {"niqe_pooled": 4 + size / 400 * slope, "psnr": 22.0}
    for kind, slope in (("rope", 1.0), ("absolute", 2.0))
    for size in (192, 256, 384)
}


def test_two_kinds_of_positions_are_two_curves_over_size_in_a_panel_for_each_metric(drawn: list[Any]) -> None:
    asked, table = made(POSITIONS, curve="size", published={}, title="Positions")
    shown = texts(figure.draw(asked, table))
    niqe, psnr = drawn[0].axes
    assert list(niqe.get_xticks()) == [192, 256, 384] and "niqe_pooled" in niqe.get_ylabel()
    assert "psnr" in psnr.get_ylabel()
    assert shown.count("● positions rope") == shown.count("■ positions absolute") == 2


def test_one_size_keeps_its_interval_where_a_band_has_no_width(drawn: list[Any]) -> None:
    asked, table = made({row: POSITIONS[row] for row in POSITIONS if "192" in row}, curve="size", published={})
    figure.draw(asked, table)
    low, high = table.loc[0, ["low", "high"]]
    bars = [tuple(line.get_ydata()) for line in drawn[0].axes[0].lines if len(line.get_xdata()) == 2]
    assert (low, high) in bars


def test_a_size_of_two_sides_lies_at_its_height() -> None:
    assert panels.place("positions=rope,size=1072x1920", "size") == (1072.0, "positions rope")
    assert panels.place("size=2k", "size") == (None, ""), "no number, no place"
    assert panels.place("bicubic", "size") == panels.place("nfe=4", "size") == panels.place("nfe=4", None) == (None, "")


def test_a_curve_without_a_name_takes_its_systems_where_there_are_several() -> None:
    rows = {f"size={size}{more}": {"psnr": 20.0} for more in ("", ",system=bicubic") for size in (192, 256, 576)}
    gone = {"size=576": "no source is large enough", "size=576,system=bicubic": "no source is large enough"}
    asked, table = made(rows, curve="size", missing=gone)
    lines = {line.label: line.x for line in panels.measured_lines(asked, table, "psnr")}
    assert lines == {"flashvideo": (192.0, 256.0), "system bicubic": (192.0, 256.0)}


ENHANCERS: Values = {
    "flashvideo": {"niqe_pooled": 3.8, "niqe": 4.5},
    **{f"nfe={n},system=vanilla": {"niqe_pooled": 4 + 1 / n, "niqe": 5 + 1 / n} for n in (1, 4, 8, 30)},
    "realesrgan": {"niqe_pooled": 4.6, "niqe": 5.2},
    "venhancer": {"niqe_pooled": 0.0, "niqe": 0.0},
    "bicubic": {"niqe_pooled": 7.7, "niqe": 9.0},
}
TABLE_3 = {"v4": {"flashvideo": {"niqe": 4.501}, "venhancer": {"niqe": 5.33}, "unknown": {"niqe": 6.0}}}


def test_rows_off_the_curve_are_levels_and_rows_without_clips_are_not_drawn(drawn: list[Any]) -> None:
    asked, table = made(ENHANCERS, {"venhancer": "no weights"}, curve="nfe", baseline="flashvideo", published=TABLE_3)
    shown = texts(figure.draw(asked, table))
    values = table[table["metric"] == "niqe_pooled"].set_index("row")["value"]
    for row, arrow in (("flashvideo", ""), ("realesrgan", ""), ("bicubic", "↑ ")):
        assert f"{arrow}{row} {values[row]:.2f}" in shown
    assert shown.count("● system vanilla") == 2
    measured, _, paper = drawn[0].axes
    low, high = measured.get_ylim()
    assert low < values["flashvideo"] < high, "the baseline is within the panel"
    assert measured.get_xscale() == "log" and list(measured.get_xticks()) == [1, 4, 8, 30]
    assert [label.get_text() for label in paper.get_yticklabels()] == ["flashvideo", "venhancer"]
    points = sorted(x for line in paper.lines for x in line.get_xdata())
    assert points == [4.501, 5.33], "the paper's numbers of our rows, as rows, where it has no curve"
    assert "equal span" not in paper.get_title()


def test_primary_metrics_are_shown_and_a_panel_without_a_value_says_why() -> None:
    rows = {f"nfe={n}": {"musiq": 1.0, "psnr": 22.0} for n in (1, 2)}
    asked, table = made(rows, published={})
    table.loc[table["metric"] == "musiq", ["value", "low", "high"]] = math.nan
    table.loc[table["metric"] == "musiq", "reason"] = "weights not present"
    shown = texts(figure.draw(asked, table))
    assert "n/a: weights not present" in shown and "musiq, higher is better" in shown


def test_published_places_beyond_the_measured_keep_their_own_axis(drawn: list[Any]) -> None:
    rows = {f"size={size}": {"niqe": 4.5} for size in (192, 256)}
    for sizes, same in (((1072, 1440), False), ((192, 256), True)):
        paper = {"v4": {f"size={size}": {"niqe": 4.5} for size in sizes}}
        asked, table = made(rows, curve="size", published=paper)
        figure.draw(asked, table)
        measured, published = drawn[-1].axes
        assert (measured.get_xlim() == published.get_xlim()) is same
        assert (list(measured.get_xticks()) == list(published.get_xticks())) is same
        low, high = published.get_xlim()
        assert low < min(sizes) and max(sizes) < high


def test_a_row_of_the_paper_beside_ours_keeps_its_name(drawn: list[Any]) -> None:
    rows = {f"size={size}": {"niqe": 4.5} for size in (192, 256)}
    paper = {"resolution=1080p": {"niqe": 4.501}, "size=192": {"niqe": 4.501}, "resolution=2k": {"niqe": 4.463}}
    asked, table = made(rows, curve="size", published={"v4": paper})
    figure.draw(asked, table)
    named = {text.get_text(): text.xy for text in drawn[0].axes[-1].texts if "resolution" in text.get_text()}
    assert named == {"resolution=1080p": (192.0, 4.501)}, "and one that stands beside none is not drawn"


def test_what_lies_outside_a_panel_of_rows_is_written_once_for_all_replicas() -> None:
    rows = {"degradation=none": {"psnr": 22.0}, "degradation=pixel": {"psnr": 21.0}, "codec": {"psnr": 99.0}}
    asked, table = made(rows, curve=None)
    copies = pd.concat([table.assign(replica=replica) for replica in range(3)], ignore_index=True)
    value = table[table["row"] == "codec"]["value"].iloc[0]
    assert texts(figure.draw(asked, copies)).count(f"{value:.2f} →") == 1


NOTHING = {"niqe_pooled": 0.0, "psnr": 0.0, "tflop": 0.0, "predicted_seconds": 0.0}
COST: Values = {
    **{f"design=flashvideo,nfe={n}": NOTHING | {"niqe_pooled": 4 - n / 9, "psnr": 22, "tflop": n} for n in (1, 2, 4)},
    **{f"design=vanilla,nfe={n}": NOTHING | {"niqe_pooled": 5.0, "psnr": 21, "tflop": 9.0 + n} for n in (1, 4)},
    "paper=stage1": NOTHING | {"predicted_seconds": 30.0},
    "paper=single-stage": NOTHING | {"predicted_seconds": 2200.0},
    "bicubic": NOTHING | {"niqe_pooled": 5.2, "psnr": 23.0},
}
TIMES = {v: {"paper=stage1": {cost.SECONDS: 30.1}, "paper=single-stage": {cost.SECONDS: 2150.0}} for v in ("v1", "v4")}


def priced() -> tuple[Protocol, pd.DataFrame]:
    """Rows have either cost and quality, or predicted seconds, as in the protocol."""
    asked, table = made(COST, curve=None, published=TIMES, table="Figure 1", baseline="design=flashvideo,nfe=4")
    paper, free = table["row"].str.startswith("paper="), table["row"] == "bicubic"
    seconds, work = table["metric"] == "predicted_seconds", table["metric"] == "tflop"
    table.loc[(paper & ~seconds) | (~paper & seconds) | (free & work), ["value", "low", "high"]] = math.nan
    return asked, table


def test_published_seconds_stand_over_the_predicted_ones(drawn: list[Any]) -> None:
    asked, table = priced()
    shown = texts(figure.draw(asked, table))
    seconds = drawn[0].axes[0]
    predicted = table[(table["metric"] == "predicted_seconds")].set_index("row")["value"]
    identity, points = seconds.lines
    assert list(identity.get_xdata()) == list(identity.get_ydata())
    assert list(points.get_xdata()) == [predicted["paper=stage1"], predicted["paper=single-stage"]]
    assert list(points.get_ydata()) == [30.1, 2150.0]
    assert seconds.get_xscale() == seconds.get_yscale() == "log" and seconds.get_xlim() == seconds.get_ylim()
    assert {"stage1", "single-stage"} <= set(shown)


def test_quality_is_a_curve_over_flop_for_each_design(drawn: list[Any]) -> None:
    asked, table = priced()
    figure.draw(asked, table)
    _, quality, fidelity = drawn[0].axes
    value = table.set_index(["row", "metric"])["value"]
    (curve,) = [line for line in quality.lines if len(line.get_xdata()) == 3]
    rows = [f"design=flashvideo,nfe={n}" for n in (1, 2, 4)]
    assert list(curve.get_xdata()) == [value[row, "tflop"] for row in rows]
    assert list(curve.get_ydata()) == [value[row, "niqe_pooled"] for row in rows]
    assert quality.get_xscale() == "log" and "psnr" in fidelity.get_ylabel()
    named = {text.get_text() for text in quality.texts}
    assert {"● flashvideo", "■ vanilla", "1", "2", "4", f"bicubic {value['bicubic', 'niqe_pooled']:.2f}"} <= named


def test_without_times_or_runs_the_panels_of_cost_say_so() -> None:
    asked, table = priced()
    table = table.assign(reason="not run at this tier")
    table.loc[:, ["value", "low", "high"]] = math.nan
    shown = texts(figure.draw(replace(asked, published={}), table))
    assert "n/a: no published time" in shown and shown.count("n/a: not run at this tier") == 2
