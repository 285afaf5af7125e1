"""The long table, what is written from it, and the published numbers beside it."""

from __future__ import annotations

import json
import math
import re
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
import yaml
from support.fake_scores import line, metric, protocol, synthetic

from flashbench import stats
from flashbench.errors import UsageError
from flashbench.protocol.published import VERSIONS, published
from flashbench.protocol.types import Protocol
from flashbench.reporting import tables
from flashbench.reporting.summary import metrics_json

ROWS = {
    "nfe=1": (5.0, 22.5), "nfe=4": (3.2, 21.2), "nfe=8": (3.2, 21.2), "degradation=pixel+latent,nfe=4": (3.3, 21.0),
    "original": (2.0, 0.0), "bicubic": (7.2, 23.2),
}  # fmt: skip
PUBLISHED = {
    "v1": {"nfe=1": {"musiq": 48.60, "niqe": 5.148}, "nfe=4": {"musiq": 58.69, "niqe": 4.501}},
    "v4": {"nfe=1": {"musiq": 48.60, "niqe": 5.148}, "nfe=4": {"musiq": 58.90, "niqe": 4.501}, "nfe=8": {"niqe": 4.5}},
}
SCORES = synthetic(ROWS)
PROTOCOL = protocol(list(ROWS), cases=sorted(set(SCORES["case"])), baseline="nfe=4", published=PUBLISHED)


def built(scores: pd.DataFrame = SCORES, asked: Protocol = PROTOCOL) -> pd.DataFrame:
    return tables.build(asked, scores)


def markdown(scores: pd.DataFrame = SCORES, asked: Protocol = PROTOCOL) -> str:
    return tables.to_markdown(asked, built(scores, asked), tables.comparisons(asked, scores))


def latex(scores: pd.DataFrame = SCORES) -> str:
    return tables.to_latex(PROTOCOL, built(scores), tables.comparisons(PROTOCOL, scores))


def cells(text: str, row: str) -> list[str]:
    """Cells of the first line of `row` in a Markdown table."""
    found = next(one for one in text.splitlines() if one.startswith(f"| `{row}`"))
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_columns_and_order() -> None:
    table = built()
    assert tuple(table.columns) == (
        "tier", "protocol", "cases", "row", "replica", "metric", "unit", "direction", "value", "low", "high", "n", "of",
        "clusters", "published_v1", "published_v4", "reason",
    )  # fmt: skip
    names = [*PROTOCOL.metric_names, "musiq"]
    assert list(zip(table["row"], table["metric"], strict=True)) == [(row, name) for row in ROWS for name in names]


def test_values_are_those_of_stats_with_the_papers_beside() -> None:
    table = built().set_index(["row", "metric"])
    for name in PROTOCOL.metric_names:
        found = stats.estimate(SCORES, metric(name), "nfe=4")
        assert tuple(table.loc[("nfe=4", name), ["value", "low", "high"]]) == (found.value, found.low, found.high)
    assert tuple(table.loc[("nfe=1", "niqe"), ["published_v1", "published_v4"]]) == (5.148, 5.148)
    assert math.isnan(table.loc[("nfe=1", "niqe_pooled"), "published_v1"])
    musiq = table.loc[("nfe=4", "musiq")]
    assert math.isnan(musiq["value"]) and musiq["reason"] == "not scored at the laptop tier"
    assert (musiq["published_v1"], musiq["published_v4"], musiq["n"], musiq["of"]) == (58.69, 58.9, 0, 20)


def test_no_line_without_a_number_or_a_reason() -> None:
    table = built()
    assert (table["value"].notna() | (table["reason"] != "")).all()
    assert (table["low"].notna() | (table["reason"] != "")).all()
    assert built().set_index(["row", "metric"]).loc[("original", "psnr"), "reason"].startswith("PSNR is infinite")


def test_missing_scores_show_as_n_of_and_a_footnote() -> None:
    changed = SCORES.copy()
    gone = (changed["row"] == "nfe=8") & (changed["metric"] == "psnr") & (changed["cluster"] == "source02")
    changed.loc[gone, ["value", "reason"]] = [math.nan, "clip not made"]
    absent = changed[(changed["row"] != "bicubic") | (changed["metric"] != "psnr")]
    table = built(absent).set_index(["row", "metric"])
    assert tuple(table.loc[("nfe=8", "psnr"), ["n", "of", "reason"]]) == (
        18,
        20,
        "2 of 20 clips missing: clip not made",
    )
    assert tuple(table.loc[("bicubic", "psnr"), ["n", "of", "reason"]]) == (0, 20, "no score of row 'bicubic'")
    text = markdown(absent)
    mark = re.search(r"\[(\w)\]$", cells(text, "nfe=8")[3])
    assert mark and f"- [{mark[1]}] 2 of 20 clips missing: clip not made" in text
    assert cells(text, "nfe=8")[-1] == "18–20/20"
    undefined = re.search(r"^n/a (\[\w\])$", cells(text, "bicubic")[3])
    assert undefined and cells(text, "bicubic")[-1] == f"20/20 {undefined[1]}", "counts are of the defined metrics"
    assert f"- {undefined[1]} no score of row 'bicubic'" in text


def test_a_note_of_present_scores_is_a_footnote_and_a_reason() -> None:
    noted = SCORES.copy()
    noted.loc[(noted["row"] == "nfe=8") & (noted["metric"] == "niqe"), "reason"] = "unofficial weights"
    table = built(noted).set_index(["row", "metric"])
    assert tuple(table.loc[("nfe=8", "niqe"), ["n", "of", "reason"]]) == (20, 20, "unofficial weights")
    pd.testing.assert_frame_equal(
        table.drop(columns="reason"), built().set_index(["row", "metric"]).drop(columns="reason")
    )
    text = markdown(noted)
    mark = re.search(r"\d (?:† )?(\[\w\])$", cells(text, "nfe=8")[2])
    assert mark and f"- {mark[1]} unofficial weights" in text and cells(text, "nfe=8")[-1] == "20/20"
    assert "unofficial weights" in latex(noted)


def test_an_undefined_value_is_not_an_unpublished_one() -> None:
    found = cells(markdown(), "original")
    assert re.fullmatch(r"n/a \[\w\]", found[3]) and re.fullmatch(r"20/20 \[\w\]", found[-1])
    assert cells(markdown().split("## Published")[1], "nfe=8")[1] == "–"


def test_nothing_depends_on_the_order_of_scores_or_the_run() -> None:
    mixed = SCORES.sample(frac=1, random_state=3).reset_index(drop=True)
    assert tables.to_csv(built()) == tables.to_csv(built(mixed))
    assert markdown() == markdown(mixed)
    assert latex() == latex(mixed)


def test_csv_reads_back_exactly() -> None:
    changed = pd.concat([SCORES, pd.DataFrame([line("nfe=4", "z/0", "niqe", 1 / 3)])], ignore_index=True)
    table = built(changed)
    text = tables.to_csv(table)
    assert "\r" not in text and text.endswith("\n") and '"degradation=pixel+latent,nfe=4"' in text
    # Python's own float reads the shortest digits back exactly; pandas' default parser may be off by a bit.
    numbers = dict.fromkeys(("value", "low", "high", "published_v1", "published_v4"), float)
    back = pd.read_csv(StringIO(text), converters=numbers, keep_default_na=False)
    pd.testing.assert_frame_equal(back, table, check_dtype=False, check_exact=True)
    assert tables.to_csv(back) == text


def test_only_resolved_differences_are_marked_and_only_a_resolved_best_is_bold() -> None:
    text = markdown()
    assert "†" in cells(text, "nfe=1")[1] and "**" not in cells(text, "nfe=1")[1]
    assert "†" not in cells(text, "nfe=4")[1], "the baseline differs from nothing"
    assert cells(text, "bicubic")[3].startswith("**"), "best PSNR among rows that did not see the reference"
    assert "**" not in cells(text, "original")[1], "an oracle does not compete"
    sharp = protocol(
        list(ROWS), cases=[c.id for c in PROTOCOL.cases], metrics=(metric("sharpness"),), primary=("sharpness",)
    )
    assert "**" not in markdown(asked=sharp), "a metric without direction has no best"


def fewer(row: str, clusters: int) -> pd.DataFrame:
    """The scores without that row's clips of the first clusters."""
    gone = (SCORES["row"] == row) & SCORES["cluster"].isin([f"source{g:02d}" for g in range(clusters)])
    return SCORES[~gone].reset_index(drop=True)


def test_a_set_of_other_clips_is_shown_with_the_reason_and_not_tested() -> None:
    scores = fewer("nfe=1", 1)
    text = markdown(scores)
    assert "niqe_pooled ↓, of 20 clips of 10 clusters |" in text
    mark = re.fullmatch(r"[\d.]+ \[[\d.]+, [\d.]+\] (\[\w\])", cells(text, "nfe=1")[1])
    assert mark is not None, "its value stands, without †"
    why = "of 18 clips of 9 clusters, the baseline's of 20 clips of 10 clusters: not compared"
    assert re.search(rf"- {re.escape(mark[1])} {why}, for the value moves with their number; 2 of 20 clips", text)
    assert "1 of 2 rows and 2 of 2 controls differ from the baseline `nfe=4` on `niqe_pooled`" in text
    assert "1 more could not be tested" in text and "†" in cells(text, "nfe=1")[3], "means are compared by their pairs"
    untested = next(
        t for t in tables.comparisons(PROTOCOL, scores)["material"][0]
        if (t.contrast.first, t.contrast.metric) == ("nfe=1", "niqe_pooled")
    )  # fmt: skip
    assert untested.apart and math.isnan(untested.adjusted) and untested.contrast.n == 18
    table = built(scores).set_index(["row", "metric"])
    assert tuple(table.loc[("nfe=1", "niqe_pooled"), ["n", "of", "clusters"]]) == (18, 20, 9)


def test_a_set_of_other_clips_is_never_the_best() -> None:
    rows = {"nfe=4": (3.2, 21.0), "nfe=1": (1.0, 21.0), "nfe=8": (2.0, 21.0)}
    scores = synthetic(rows)
    asked = protocol(list(rows), cases=sorted(set(scores["case"])))
    assert "**" in cells(markdown(scores, asked), "nfe=1")[1]
    gone = (scores["row"] == "nfe=1") & (scores["case"] == "source00/0")
    text = markdown(scores[~gone], asked)
    assert "**" not in cells(text, "nfe=1")[1] and "**" in cells(text, "nfe=8")[1]


def test_over_replicas_a_set_of_other_clips_says_how_many() -> None:
    scores = synthetic(ROWS, replicas=2)
    gone = (scores["row"] == "nfe=8") & (scores["cluster"] == "source00")
    summary = markdown(scores[~gone]).split("## Replica 0")[0]
    assert "niqe_pooled, of 20 clips of 10 clusters |" in summary
    assert cells(summary, "nfe=8")[1].endswith("], of 18 clips of 9 clusters")
    assert cells(summary, "nfe=1")[1].endswith("†")


def test_an_unresolved_best_is_not_bold() -> None:
    same = {"nfe=4": (3.2, 21.0), "nfe=8": (3.2, 21.0)}
    scores = synthetic(same, clusters=4, seed=1)
    text = markdown(scores, protocol(list(same), cases=sorted(set(scores["case"]))))
    assert "**" not in text and "†" not in text.split("Value ±")[0]
    assert "0 of 1 rows differ from the baseline `nfe=4` on `niqe_pooled` (primary, Holm)." in text
    assert "On the other metrics 0 of 2 differences of rows are resolved" in text


def test_the_sentence_counts_what_the_tests_resolve() -> None:
    found = tables.comparisons(PROTOCOL, SCORES)["material"][0]
    own, controls = (
        [t.resolved for t in found if tables.is_control(t.contrast.first) == control and not t.primary]
        for control in (False, True)
    )
    text = markdown()
    assert "2 of 3 rows and 2 of 2 controls differ from the baseline `nfe=4` on `niqe_pooled` (primary, Holm)" in text
    assert f"On the other metrics {sum(own)} of {len(own)} differences of rows and {sum(controls)} of 3" in text
    assert len(controls) == 3 and "could not be tested" not in text, "the reference has no PSNR to test"
    resolved = sum(t.resolved for t in found)
    assert sum(line.count("†") for line in text.splitlines() if line.startswith("| `")) == resolved
    without = SCORES[(SCORES["row"] != "bicubic") | (SCORES["metric"] != "psnr")]
    assert "1 more could not be tested" in markdown(without)


def test_the_papers_numbers_are_named_by_version_only_where_they_differ() -> None:
    measured, quoted = markdown().split("## Published in Table 8\n")
    assert cells(quoted, "nfe=4")[1:] == ["58.69 (v1), 58.90 (v4)", "4.501"]
    assert cells(quoted, "nfe=1")[1:] == ["48.60", "5.148"] and cells(quoted, "nfe=8")[1:] == ["–", "4.500 (v4)"]
    assert "58.69" not in measured and "4.501" not in measured and "| `bicubic`" not in quoted
    assert "Not scored at the laptop tier: `musiq`." in quoted, "niqe is scored too"


def test_the_footer_says_hash_tier_replica_and_unit() -> None:
    last = markdown().splitlines()[-1]
    for part in ("`0123abcd`", "tier laptop", "replica 0", "source of material, 10 clusters, 20 clips", "jackknife"):
        assert part in last


def test_replicas_have_their_own_tables_below_a_summary() -> None:
    scores = synthetic(ROWS, replicas=3)
    table, text = built(scores), markdown(scores)
    assert list(table["replica"].unique()) == [0, 1, 2] and len(table) == 3 * len(built())
    assert [one for one in text.splitlines() if one.startswith("## ")][:4] == [
        "## Over all replicas", "## Replica 0", "## Replica 1", "## Replica 2",
    ]  # fmt: skip
    values = table[(table["row"] == "nfe=1") & (table["metric"] == "niqe_pooled")]["value"]
    summary = cells(text, "nfe=1")[1]
    assert summary == f"{values.mean():.2f} [{values.min():.2f}, {values.max():.2f}] †"
    one = tables.build(PROTOCOL, scores[scores["replica"] == 0])
    pd.testing.assert_frame_equal(table[table["replica"] == 0].reset_index(drop=True), one)


def test_latex_is_escaped_and_balanced() -> None:
    text = latex()
    assert r"\texttt{degradation=pixel+latent,nfe=4}" in text and r"niqe\_pooled $\downarrow$" in text
    assert r"\toprule" in text and r"$\pm$" in text and r"\textbf{" in text
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 2
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    assert not re.search(r"(?<!\\)[_%#]", text) and not re.search(r"[±†↑↓–·]", text)


def test_metrics_json_is_nested_and_says_null() -> None:
    nested = json.loads(metrics_json([built()]))
    rows = nested["laptop"]["nfe"]
    assert list(rows) == list(ROWS) and list(rows["nfe=4"]) == list(PROTOCOL.metric_names)
    assert rows["original"]["psnr"] is None
    assert rows["nfe=4"]["niqe"] == stats.estimate(SCORES, metric("niqe"), "nfe=4").value
    several = json.loads(metrics_json([built(synthetic(ROWS, replicas=2))]))
    assert list(several["laptop"]["nfe"]) == ["replica 0", "replica 1"]


def test_published_numbers_of_the_shipped_files(root: Path) -> None:
    """A few numbers copied by hand from the paper's tables, and what must not be there."""
    assert published("Table 8")["v1"]["nfe=4"] == {
        "musiq": 58.69, "maniqa": 0.296, "clipiqa": 0.439, "niqe": 4.501, "dover_technical": 11.86,
        "dover_aesthetic": 98.92,
    }  # fmt: skip
    assert [published("Table 8")["v4"][f"nfe={n}"]["niqe"] for n in range(1, 9)] == [
        5.148, 4.73, 4.543, 4.501, 4.492, 4.521, 4.578, 4.554,
    ]  # fmt: skip
    six = published("Table 6")
    assert six["v1"] == six["v4"] and list(six["v4"]) == [
        "bicubic", "degradation=pixel", "degradation=pixel+latent",
    ]  # fmt: skip
    ten = published("Table 10")
    assert ten["v1"] == {} and len(ten["v4"]) == 11, "Table 10 was transcribed from v4 only"
    assert ten["v4"]["degradation_step=675,training=narrow"]["niqe"] == 4.501
    assert ten["v4"]["degradation_step=850,training=wide"]["niqe"] == 4.787
    for version in VERSIONS:
        content = yaml.safe_load((root / "protocols" / "published" / f"{version}.yaml").read_text("utf-8"))
        for rows in content["tables"].values():
            assert len({tuple(sorted(numbers)) for numbers in rows.values()}) == 1, "rows of a table share its columns"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version: v1\ntables: {Table 8: {nfe=4: {niqe: about 4}}}", "'about 4', not a number"),
        ("version: v1\ntables: {Table 8: {nfe=4: {niqe: .nan}}}", "not a number"),
        ("version: v1\ntables: {Table 8: {nfe=4: {niqe: true}}}", "not a number"),
        ("version: v1\ntables: {Table 8: [4.5]}", "Table 8 is list, not a mapping"),
        ("version: v4\ntables: {}", "does not say `version: v1`"),
        ("version: v1\n tables: {", "not valid YAML"),
    ],
)
def test_broken_published_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "v1.yaml").write_text(text)
    (tmp_path / "v4.yaml").write_text("version: v4\ntables: {}\n")
    with pytest.raises(UsageError, match=re.escape(message)):
        published("Table 8", tmp_path)


def test_a_missing_published_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        published("Table 8", tmp_path)


def test_markdown_holds_no_tag_and_no_line_of_a_name() -> None:
    from flashbench.reporting.document import Block, Cell, markdown

    grid = [[Cell("video"), Cell("n")], [Cell("x\n# H1<img src=x>\\|y"), Cell("a<br>b < c")]]
    text = markdown([Block("grid", grid=grid), Block("notes", notes=["<script>\nalert"])])
    assert text.splitlines()[2] == "| x # H1&lt;img src=x>\\\\\\|y | a<br>b < c |"
    assert text.splitlines()[4:] == ["- &lt;script> alert"]
