"""What tables of every protocol look like: lines that fit, nothing empty, published numbers apart, shares by bounds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
from support import scratch_protocols
from support.fake_scores import frame, line, metric, protocol, synthetic
from support.made_results import faked, made_scores

from flashbench import metrics
from flashbench import shares as statistics
from flashbench.errors import UsageError
from flashbench.paths import protocol_root, read_yaml
from flashbench.protocol.compose import load_protocol, names
from flashbench.protocol.published import VERSIONS, published_metrics
from flashbench.protocol.types import Protocol
from flashbench.reporting import tables
from flashbench.reporting.document import WIDE
from flashbench.reporting.numbers import ABSENT, UNDEFINED


def shares(asked: Protocol) -> Protocol:
    """The protocol with metrics that are shares where its own are."""
    chosen = tuple(replace(one, binary=metrics.get(one.name).binary) for one in faked(asked).metrics)  # type: ignore[type-var]
    return replace(asked, metrics=chosen, sets=tuple(map(shares, asked.sets)))


@cache
def made(name: str, replicas: int) -> tuple[str, str, pd.DataFrame]:
    """Markdown, LaTeX and the long table of a protocol of the laptop tier, from made-up scores."""
    asked = load_protocol(name)
    every = [variant for part in asked.parts for variant in part.variants]
    missing = {v.row: why for v in every if (why := v.system.unavailable(v.settings, asked.recipes))}
    scores = made_scores(asked, replicas=replicas, missing=missing)
    binary = scores["metric"].map(lambda one: metrics.get(one).binary) & scores["value"].notna()
    scores.loc[binary, "value"] = (scores["value"] > 0.45).astype(float)
    asked = shares(asked)
    table, found = tables.build(asked, scores), tables.comparisons(asked, scores)
    return tables.to_markdown(asked, table, found), tables.to_latex(asked, table, found), table


def grids(text: str) -> Iterator[list[list[str]]]:
    """Cells of each grid of a Markdown text, without the line below its head."""
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        lines = [[cell.strip(" *`") for cell in one.strip("|").split(" | ")] for one in block.splitlines()]
        yield [lines[0], *lines[2:]]


EVERY = [
    *((name, 1) for name in names()),
    *(pytest.param(name, 3, marks=pytest.mark.slow) for name in ("stages", "strength")),
]


@pytest.mark.parametrize(("name", "replicas"), EVERY)
def test_lines_fit_and_no_row_or_column_is_empty(name: str, replicas: int) -> None:
    text, latex, _ = made(name, replicas)
    found = list(grids(text))
    assert max(len(one) for one in text.splitlines() if one.startswith("|")) <= WIDE
    assert latex.count(r"\begin{tabular}") == len(found)
    for head, *rows in found:
        columns = list(zip(*rows, strict=True))[1:]
        assert len(head) > 1 and len(rows) > 0
        for cells in (*columns, *(row[1:] for row in rows if head[-1] != "clips" or len(head) > 2)):
            assert any(cell.split(" [")[0] not in (UNDEFINED, ABSENT) for cell in cells), (name, head)


@pytest.mark.parametrize("name", names())
def test_what_is_measured_stands_apart_from_what_is_published(name: str) -> None:
    text, _, table = made(name, 1)
    own = text.split("\n## ")
    measured, quoted = own[0], [one for one in own[1:] if one.startswith("Published in ")]
    assert len(quoted) == bool(table[["published_v1", "published_v4"]].notna().any().any())
    assert "(v1)" not in measured and "published" not in measured.lower()
    for head, *rows in (grid for one in quoted for grid in grids(one)):
        for row in rows:
            for title, cell in zip(head[1:], row[1:], strict=True):
                name_of = title.split(" ")[0]
                line = table[(table["row"] == row[0]) & (table["metric"] == name_of) & (table["cases"] != "cascade")]
                printed = {version: line[f"published_{version}"].iloc[0] for version in VERSIONS}
                told = {float(one) for one in re.findall(r"[\d.]+(?= \(|$)", cell)}
                assert told == {number for number in printed.values() if number == number}, (row[0], title)


def test_table_1_shows_what_runs_and_says_why_the_rest_does_not() -> None:
    text, _, table = made("vbench", 1)
    measured = text.split("## Published")[0]
    (grid,) = grids(measured)
    assert [one.split(" ")[0] for one in grid[0]] == [
        "row", "temporal_flickering", "attribute_color", "attribute_shape", "attribute_motion", "attribute_background",
        "single_object", "clips",
    ]  # fmt: skip
    assert [row[0] for row in grid[1:]] == ["flashvideo_8fps", "stage1"]
    reasons = [one for one in measured.splitlines() if one.startswith("- `")]
    for gone in ({*table["row"]} - {"flashvideo_8fps", "stage1"}) | {"imaging_quality", "total_score_of_other_prompts"}:
        assert any(f"`{gone}`" in one.split(": ")[0] for one in reasons), gone
    assert any("not scored at the laptop tier: it needs VBench's own environment" in one for one in reasons)
    quoted = list(grids(text.split("## Published")[1]))
    assert sum(len(grid[0]) - 1 for grid in quoted) == 19 and {len(grid) for grid in quoted} == {12}


# --- intervals --------------------------------------------------------------------------------------------------------


def of_shares(values: list[float], clusters: int = 4) -> tuple[Protocol, pd.DataFrame]:
    """A row of each share, all with `clusters` clips, and a metric with an even interval beside."""
    lines = []
    for value in values:
        for n in range(clusters):
            lines.append(line(f"share={value}", f"s{n}/0", "shown", float(n < value * clusters)))
            lines.append(line(f"share={value}", f"s{n}/0", "niqe", 4.0 + n + value))
    asked = protocol(
        [f"share={value}" for value in values], cases=[f"s{n}/0" for n in range(clusters)],
        metrics=(metric("shown"), metric("niqe")), primary=("niqe",),
    )  # fmt: skip
    return asked, frame(lines)


def test_a_share_is_its_value_with_both_bounds() -> None:
    asked, scores = of_shares([1.0, 0.5, 0.0])
    table, found = tables.build(asked, scores), tables.comparisons(asked, scores)
    (grid,) = grids(tables.to_markdown(asked, table, found))
    assert [row[1] for row in grid[1:]] == ["1.00 [0.47, 1.00]", "0.50 [0.10, 0.90]", "0.00 [0.00, 0.53]"]
    assert all(re.fullmatch(r"\d\.\d ± 2\.\d( †)?", row[2]) for row in grid[1:]), "an even interval is half of it"
    assert "1.00 {[}0.47, 1.00]" in tables.to_latex(asked, table, found)
    back = pd.read_csv(StringIO(tables.to_csv(table))).set_index(["row", "metric"])
    low, high = statistics.interval(1.0, 0.0, 4)
    assert tuple(back.loc[("share=1.0", "shown"), ["low", "high"]]) == pytest.approx((low, high))


def test_a_column_has_one_form() -> None:
    """A share of a half has an even interval, which says nothing about the column."""
    asked, scores = of_shares([0.5])
    (grid,) = grids(tables.to_markdown(asked, tables.build(asked, scores), tables.comparisons(asked, scores)))
    assert grid[1][1] == "0.50 ± 0.40"
    text, _, _ = made("stages", 1)
    (head, *rows) = next(grids(text))
    for title, *cells in zip(head, *rows, strict=True):
        share = title.startswith(("attribute", "single"))
        assert share == all(re.fullmatch(r"[\d.]+ \[[\d.]+, [\d.]+\]( †)?", cell) for cell in cells), title


# --- directions -------------------------------------------------------------------------------------------------------


def test_an_unmeasured_metric_has_its_declared_direction_and_unit() -> None:
    """Both heads once stood with ↑, whatever the metric, and only names that begin with niqe fell in the CSV."""
    cells = {"predicted_seconds": 72.2, "niqe": 4.5, "dover_technical": 11.9}
    rows = {"nfe=1": (5.0, 22.5), "nfe=4": (3.2, 21.2)}
    scores = synthetic(rows)
    asked = protocol(
        list(rows), cases=sorted(set(scores["case"])), metrics=(metric("psnr"),), primary=("psnr",),
        published={"v4": {"nfe=4": cells}},
    )  # fmt: skip
    table = tables.build(asked, scores)
    text = tables.to_markdown(asked, table, tables.comparisons(asked, scores))
    assert "| row | predicted_seconds ↓ (s) | niqe ↓ | dover_technical ↑ (%) |" in text
    line = table[table["row"] == "nfe=4"].set_index("metric")
    assert dict(line["direction"]) == {
        "psnr": "higher", "predicted_seconds": "lower", "niqe": "lower", "dover_technical": "higher",
    }  # fmt: skip
    assert line.loc["predicted_seconds", "unit"] == "s"


def test_what_is_declared_is_what_is_printed_and_agrees_with_the_registry() -> None:
    root = protocol_root() / "published"
    declared = read_yaml(root / "metrics.yaml")["metrics"]
    printed = {
        name
        for version in VERSIONS
        for rows in read_yaml(root / f"{version}.yaml")["tables"].values()
        for cells in rows.values()
        for name in cells
    }
    assert printed == set(declared)
    for name, found in published_metrics(printed & set(metrics.names())).items():
        assert (found.direction, found.unit) == (metrics.get(name).direction, metrics.get(name).unit), name


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("metrics: {niqe: {direction: lower}}", "does not say which direction of clipiqa is the better one"),
        ("metrics: {niqe: {direction: lower}, clipiqa: {direction: up}}", "clipiqa is {'direction': 'up'}"),
        ("metrics: {niqe: {direction: lower}, clipiqa: {direction: higher, units: s}}", "'units': 's'"),
        ("metrics: {niqe: {direction: lower}, clipiqa: higher}", "clipiqa is str, not a mapping"),
        ("metrics: [niqe]", "metrics is list, not a mapping"),
        ("metrics: {", "not valid YAML"),
        (None, "cannot be read"),
    ],
)
def test_a_direction_that_is_not_declared_is_refused_when_a_protocol_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, said: str
) -> None:
    scratch_protocols.write(tmp_path, monkeypatch, system="flashvideo", settings={"training": "wide"}, preview={})
    path = tmp_path / "protocols/published/metrics.yaml"
    path.unlink() if text is None else path.write_text(text, "utf-8")
    with pytest.raises(UsageError, match=re.escape(said)) as caught:
        load_protocol("probe")
    assert caught.value.fix
