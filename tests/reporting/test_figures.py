"""Figures: what is drawn, that it is the same each time; contact sheets: every pixel where it belongs."""

from __future__ import annotations

import math
import re
import sys
import xml.etree.ElementTree as ET
from fractions import Fraction

import cv2
import numpy as np
import pandas as pd
import pytest
from support.fake_scores import protocol, synthetic

from flashbench.errors import InvalidError
from flashbench.protocol.types import Protocol
from flashbench.reporting import contact, tables
from flashbench.reporting.figures import figure, panels, style
from flashbench.types import Clip

CONTROLS = {"original": (2.0, 0.0), "bicubic": (14.0, 23.2)}
NFE = {f"nfe={n}": (3.2 + 2 / n**2, 22.0 - n / 8) for n in (1, 2, 4, 8)}
STRENGTH = {f"degradation_step={s},training={t}": (3.2, 21.0) for t in ("wide", "narrow") for s in (650, 675, 900)}
STRENGTH.pop("degradation_step=900,training=narrow")
PUBLISHED = {
    "v1": {"nfe=1": {"niqe": 5.148}, "nfe=4": {"niqe": 4.501}},
    "v4": {"nfe=1": {"niqe": 5.148}, "nfe=4": {"niqe": 4.501}},
}


def made(rows: dict[str, tuple[float, float]], replicas: int = 1, **more: object) -> tuple[Protocol, pd.DataFrame]:
    scores = synthetic({**rows, **CONTROLS}, clusters=5, replicas=replicas)
    asked = protocol([*rows, *CONTROLS], cases=sorted(set(scores["case"])), **more)
    return asked, tables.build(asked, scores)


def texts(svg: bytes) -> list[str]:
    return ["".join(node.itertext()) for node in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_the_same_table_gives_the_same_bytes_without_date_or_version() -> None:
    asked, table = made(NFE, published=PUBLISHED)
    svg = figure.draw(asked, table)
    assert svg == figure.draw(asked, table.sample(frac=1, random_state=2))
    assert b"matplotlib.org" not in svg and b"<dc:date>" not in svg and b"nfe, protocol hash 0123abcd" in svg


def test_a_readers_settings_change_nothing() -> None:
    import matplotlib as mpl

    asked, table = made(NFE)
    with mpl.rc_context({"lines.linewidth": 9.0, "axes.grid": True}):
        assert figure.draw(asked, table) == figure.draw(asked, table)
        inside = figure.draw(asked, table)
        assert mpl.rcParams["lines.linewidth"] == 9.0
    assert inside == figure.draw(asked, table)


def test_ids_of_an_svg_do_not_hang_on_the_last_bits_of_coordinates() -> None:
    asked, table = made(NFE)
    drawn = figure.draw(asked, table)
    (clip, *_) = re.findall(rb'id="(p[0-9a-f]{10})"', drawn)
    assert style._numbered(drawn.replace(clip, b"p0123456789"), asked.name) == drawn
    ids = set(re.findall(rb'id="([^"]+)"', drawn))
    assert set(re.findall(rb"url\(#([^)]+)\)", drawn)) | set(re.findall(rb'href="#([^"]+)"', drawn)) <= ids


def test_axes_name_metric_unit_and_direction_and_controls_are_labelled() -> None:
    asked, table = made(NFE, published=PUBLISHED)
    far = (table["row"] == "bicubic") & (table["metric"] == "niqe_pooled")
    table.loc[far, ["value", "low", "high"]] += 50
    shown = texts(figure.draw(asked, table))
    for label in ("niqe_pooled, lower is better", "psnr (dB), higher is better", "niqe, lower is better", "nfe"):
        assert label in shown
    value = table[far]["value"].iloc[0]
    assert f"↑ bicubic {value:.2f}" in shown and "● v1 = v4" in shown, "far controls are named at the edge"
    near = table[(table["row"] == "bicubic") & (table["metric"] == "psnr")]["value"].iloc[0]
    assert f"bicubic {near:.2f}" in shown
    assert sum("original " in label for label in shown) == 2, "its PSNR is infinite and has no line"


def test_a_far_control_does_not_flatten_the_curve_and_niqe_spans_are_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    seen: list[Figure] = []
    monkeypatch.setattr(Figure, "suptitle", lambda self, *_, **__: seen.append(self))
    asked, table = made(NFE, published=PUBLISHED)
    figure.draw(asked, table)
    pooled, _, measured, published = seen[0].axes
    own = table[table["row"].isin(NFE) & (table["metric"] == "niqe_pooled")]
    low, high = pooled.get_ylim()
    assert low < own["low"].min() and own["high"].max() < high
    assert own["high"].max() - own["low"].min() > (high - low) / 2.6
    spans = [ax.get_ylim()[1] - ax.get_ylim()[0] for ax in (measured, published)]
    assert spans[0] == pytest.approx(spans[1]) and measured.get_xlim() == published.get_xlim()


@pytest.mark.parametrize("levels", [[1.0, 1.01, 1.02, 5.0], [-9.0, -8.0, 20.0, 21.0], [3.0] * 6, []])
def test_names_keep_their_order_and_distance_within_the_axis(levels: list[float]) -> None:
    places = panels.apart(levels, 0.1, (0.0, 10.0))
    assert len(places) == len(levels) and all(b - a > 1 - 1e-9 for a, b in zip(places, places[1:], strict=False))
    assert all(-1e-9 <= place <= 10 + 1e-9 for place in places)


def test_measured_lines_are_the_tables_values_in_order_of_the_setting() -> None:
    asked, table = made(NFE)
    (line,) = panels.measured_lines(asked, table.sample(frac=1, random_state=4), "niqe_pooled")
    part = table[table["metric"] == "niqe_pooled"].set_index("row")
    assert line.x == (1.0, 2.0, 4.0, 8.0) and line.label == ""
    assert line.y == tuple(part.loc[list(NFE), "value"])
    assert line.low == tuple(part.loc[list(NFE), "low"]) and all(a < b for a, b in zip(line.low, line.y, strict=True))


def test_other_settings_make_a_line_each() -> None:
    numbers = {"v4": {row: {"niqe": 4.5 + i / 10} for i, row in enumerate(STRENGTH)}}
    asked, table = made(STRENGTH, curve="degradation_step", published=numbers)
    lines = {line.label: line.x for line in panels.measured_lines(asked, table, "psnr")}
    assert lines == {"training wide": (650.0, 675.0, 900.0), "training narrow": (650.0, 675.0)}
    assert [line.label for line in panels.published_lines(asked)] == ["training wide, v4", "training narrow, v4"]
    shown = texts(figure.draw(asked, table))
    assert shown.count("● training wide") == shown.count("■ training narrow") == 3


def test_versions_that_differ_are_two_lines() -> None:
    other = {**PUBLISHED, "v4": {"nfe=1": {"niqe": 5.2}, "nfe=4": {"niqe": 4.6}}}
    asked, _ = made(NFE, published=other)
    assert {line.label: line.y for line in panels.published_lines(asked)} == {"v1": (5.148, 4.501), "v4": (5.2, 4.6)}


def test_missing_values_are_left_out_of_a_line() -> None:
    asked, table = made(NFE)
    table.loc[table["row"] == "nfe=2", ["value", "low", "high"]] = math.nan
    (line,) = panels.measured_lines(asked, table, "psnr")
    assert line.x == (1.0, 4.0, 8.0)
    assert figure.draw(asked, table)


def test_replicas_are_lines_of_their_own() -> None:
    asked, table = made(NFE, replicas=2)
    assert [line.label for line in panels.measured_lines(asked, table, "psnr")] == ["r0", "r1"]


def test_without_a_curve_rows_are_listed_with_their_intervals() -> None:
    rows = {f"degradation={kind}": (4.0, 21.0) for kind in ("none", "pixel", "pixel+latent")}
    numbers = {v: {"degradation=none": {"niqe": 12.02}, "degradation=pixel": {"niqe": 4.95}} for v in ("v1", "v4")}
    asked, table = made(rows, curve=None, published=numbers)
    shown = texts(figure.draw(asked, table))
    named = [panels.readable(row) for row in rows]
    assert [label for label in shown if label in named] == named * 2, "at the left of both lines of panels"
    far = table[(table["row"] == "bicubic") & (table["metric"] == "niqe_pooled")]["value"].iloc[0]
    assert f"{far:.2f} →" in shown and "n/a" in shown and shown.count("bicubic") > 2, "lines of controls are named"
    assert "v1" in shown and "v4" in shown


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, table = made(NFE)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InvalidError, match=r"flashbench\[repro\]"):
        figure.draw(asked, table)


def clip(value: int, *, size: tuple[int, int] = (48, 160), frames: int = 5) -> Clip:
    """Frame t is filled with value + t."""
    pixels = np.empty((frames, *size, 3), dtype=np.uint8)
    pixels[:] = (value + np.arange(frames))[:, None, None, None]
    return Clip(pixels, Fraction(8))


ROWS = {
    "nfe=4": {"a/0": clip(10), "b/0": clip(20)},
    "degradation_step=675,training=narrow": {"a/0": clip(30)},
    "bicubic": {"a/0": clip(50), "b/0": clip(60)},
}


@pytest.mark.parametrize(("frame", "offset"), [(None, 2), (0, 0), (99, 4)])
def test_every_tile_is_there_at_native_pixels(frame: int | None, offset: int) -> None:
    sheet = contact.contact_sheet(ROWS, ["a/0", "b/0"], frame=frame)
    assert sheet.dtype == np.uint8 and sheet.shape[2] == 3
    for value in (10, 20, 30, 50, 60):
        assert (sheet == value + offset).all(axis=2).sum() >= 48 * 160
    exact = (sheet == 10 + offset).all(axis=2)
    top, left = np.argwhere(exact)[0]
    assert exact[top : top + 48, left : left + 160].all(), "a tile is the frame itself"


def test_a_missing_clip_is_a_grey_tile() -> None:
    sheet = contact.contact_sheet(ROWS, ["a/0", "b/0"])
    grey = (sheet == contact.ABSENT).all(axis=2).sum()
    assert 0.8 * 48 * 160 < grey <= 48 * 160


def test_a_narrow_sheet_wraps_its_columns() -> None:
    wide, narrow = (contact.contact_sheet(ROWS, ["a/0", "b/0"], width=width) for width in (1800, 340))
    assert wide.shape[1] > narrow.shape[1] and narrow.shape[1] <= 340 and narrow.shape[0] > wide.shape[0]
    for value in (10, 20, 30, 50, 60):
        assert (narrow == value + 2).all(axis=2).sum() >= 48 * 160


def test_clips_of_other_sizes_keep_theirs() -> None:
    rows = {"nfe=4": {"a/0": clip(10)}, "original": {"a/0": clip(90, size=(96, 200))}}
    sheet = contact.contact_sheet(rows, ["a/0"])
    assert (sheet == 12).all(axis=2).sum() == 48 * 160 and (sheet == 92).all(axis=2).sum() == 96 * 200


def test_headings_stay_clear_of_the_next_column() -> None:
    wide = 160
    rows = {f"degradation_step={s},training=narrow": {"a/0": clip(10 + i)} for i, s in enumerate((650, 675, 900))}
    sheet = contact.contact_sheet(rows, ["a/0"])
    top = int(np.argwhere((sheet == 12).all(axis=2))[0][0])
    head = sheet[: top - contact.LINE]
    for i in range(len(rows) + 1):
        left = i * (wide + contact.GAP)
        assert (head[:, left : left + contact.GAP] == contact.PAPER).all(), "columns are apart"
    assert (head != contact.PAPER).any()


def test_a_choice_of_cases_says_of_how_many() -> None:
    whole, part = (contact.contact_sheet(ROWS, ["a/0", "b/0"], of=of) for of in (2, 12))
    more = part.shape[0] - whole.shape[0]
    assert more > 0 and (part[:more] != contact.PAPER).any()
    np.testing.assert_array_equal(part[more:], whole)


def test_a_title_heads_the_sheet() -> None:
    whole, titled = (contact.contact_sheet(ROWS, ["a/0", "b/0"], title=title) for title in ("", "Enlarging twice"))
    more = titled.shape[0] - whole.shape[0]
    assert more > 0 and (titled[:more] != contact.PAPER).any()
    np.testing.assert_array_equal(titled[more:], whole)
    narrow = {"nfe=4": {"a/0": clip(10, size=(16, 16))}}
    assert contact.contact_sheet(narrow, ["a/0"], title="A title wider than its clips").shape[1] > 100


def test_no_clip_at_all_is_refused() -> None:
    with pytest.raises(InvalidError, match="needs a clip"):
        contact.contact_sheet({"nfe=4": {}}, ["a/0"])


def test_png_is_lossless_rgb_and_deterministic() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    data = contact.png(image)
    assert contact.png(image) == data
    read = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert read is not None
    np.testing.assert_array_equal(cv2.cvtColor(read, cv2.COLOR_BGR2RGB), image)
