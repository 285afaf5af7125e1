"""`audit published` and `audit FILE.csv`: the paper's tables, and tables with known faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from flashbench.checks.audit_published import audit_published, audit_table, copies
from flashbench.errors import InvalidError, UsageError
from flashbench.vbench import dimensions
from flashbench.vbench.dimensions import DIMENSIONS


@pytest.fixture(scope="module")
def paper() -> tuple[list[str], list[str]]:
    return audit_published()


def test_nine_of_ten_rows_of_table_1_add_up_within_rounding(paper: tuple[list[str], list[str]]) -> None:
    lines, _ = paper
    said = {line.split(":")[0]: line for line in lines if "rows add up" in line}
    assert said["Table 1 (v1)"].startswith("Table 1 (v1): 9 of 10 rows add up, the largest deviation among them ")
    assert said["Table 1 (v4)"].startswith("Table 1 (v4): 10 of 11 rows add up, the largest deviation among them ")
    for line in said.values():
        assert float(line.split("among them ")[1].split()[0]) <= 0.014


def test_the_papers_findings_are_named(paper: tuple[list[str], list[str]]) -> None:
    lines, findings = paper
    assert set(findings) <= set(lines)
    v1 = [line.removeprefix("Table 1 (v1): ") for line in findings if line.startswith("Table 1 (v1)")]
    assert v1 == [
        "flashvideo_8fps: total is printed as 82.49, its dimensions give 82.51 (+0.0170; rounding explains 0.0136)",
        "flashvideo_8fps: semantic is printed as 82.10, its dimensions give 82.20 (+0.1036; rounding explains 0.0135)",
        "flashvideo_8fps: its total does follow from its quality and semantic, so a dimension may be misprinted",
        "opensora_1.2: all 19 numbers are those of ltx_video; one of the two rows is a copy",
    ]
    v4 = [line for line in findings if line.startswith("Table 1 (v4)")]
    assert {line.split(": ")[1] for line in v4} == {"cogvideox_2b"}
    assert len(findings) == len(v1) + len(v4)


def test_versions_are_compared_and_table_2_is_listed(paper: tuple[list[str], list[str]]) -> None:
    lines, findings = paper
    assert "Table 1: v4 adds hunyuanvideo" in lines
    assert (
        "Table 1: 76 numbers differ between v1 and v4: cogvideox_2b 19 of 19, opensora_1.2 19 of 19, "
        "flashvideo_8fps 19 of 19, flashvideo_24fps 19 of 19"
    ) in lines
    assert "Table 2: 12 numbers differ between v1 and v4: stages=1 6 of 6, stages=2 6 of 6" in lines
    assert "Table 2: stages=1: musiq 24.69 (v1), 24.54 (v4)" in lines
    assert sum(line.startswith("Table 2: stages=") for line in lines) == 12
    assert "Table 3: v1 and v4 print the same numbers in the 4 rows that both have" in lines
    assert "Table 9: not transcribed from v1, so the versions are not compared" in lines
    assert not any(line.startswith("Table 2") for line in findings)


def test_a_copied_row_is_found_in_any_table(tmp_path: Path) -> None:
    for version in ("v1", "v4"):
        text = f"version: {version}\ntables:\n  Table 8:\n    nfe=1: {{musiq: 1.0, niqe: 2.0}}\n"
        (tmp_path / f"{version}.yaml").write_text(text + "    nfe=2: {musiq: 1.0, niqe: 2.0}\n")
    lines, findings = audit_published(tmp_path)
    assert findings == [
        f"Table 8 ({v}): nfe=2: all 2 numbers are those of nfe=1; one of the two rows is a copy" for v in ("v1", "v4")
    ]
    assert lines[-1] == "Table 8: v1 and v4 print the same numbers in the 2 rows that both have"


def test_dropped_rows_and_cells_are_told(tmp_path: Path) -> None:
    (tmp_path / "v1.yaml").write_text("version: v1\ntables:\n  T:\n    a: {x: 1}\n    b: {x: 2, y: 3}\n")
    (tmp_path / "v4.yaml").write_text("version: v4\ntables:\n  T:\n    b: {x: 2, z: 3}\n")
    lines, findings = audit_published(tmp_path)
    assert [line for line in lines if not line.startswith("T (")] == [
        "T: v4 drops a",
        "T: 2 numbers differ between v1 and v4: b 2 of 2",
        "T: b: y 3 (v1), none (v4)",
        "T: b: z none (v1), 3 (v4)",
    ]
    assert not findings


def test_a_single_equal_number_is_no_copy() -> None:
    assert copies([("a", {"x": 1.0}), ("b", {"x": 1.0})]) == []
    assert copies([("a", {"x": 1.0, "y": 2.0}), ("a", {"x": 1.0, "y": 2.0})]) == []
    assert len(copies([("a", {"x": 1.0, "y": "2"}), ("b", {"y": "2", "x": 1.0})])) == 1


def row(level: float) -> dict[str, str]:
    scores = {name: level + 0.001 * i for i, name in enumerate(DIMENSIONS)}
    printed = {name: 100 * f(scores) for name, f in dimensions.AGGREGATES.items()}
    return {name: f"{value:.2f}" for name, value in {**printed, **{k: 100 * v for k, v in scores.items()}}.items()}


def table(path: Path, rows: dict[str, dict[str, str]]) -> Path:
    columns = list(next(iter(rows.values())))
    lines = [["model", *columns], *([name, *(cells[c] for c in columns)] for name, cells in rows.items())]
    path.write_text("\n".join(",".join(line) for line in lines))
    return path


def test_a_users_table_that_adds_up_has_no_finding(tmp_path: Path) -> None:
    lines, findings = audit_table(table(tmp_path / "mine.csv", {"a": row(0.3), "b": row(0.32)}))
    assert not findings
    assert lines[0].startswith("mine.csv: 2 of 2 rows add up, the largest deviation among them 0.0")


def test_a_users_misprint_and_copy_are_found(tmp_path: Path) -> None:
    wrong = row(0.3) | {"total": "99.00"}
    rows = {"a": wrong, "b": row(0.31), "c": row(0.31)}
    lines, findings = audit_table(table(tmp_path / "mine.csv", rows))
    assert findings[0].startswith("mine.csv: a: total is printed as 99.00, its dimensions give ")
    assert findings[-1] == "mine.csv: c: all 19 numbers are those of b; one of the two rows is a copy"
    assert lines[0].startswith("mine.csv: 2 of 3 rows add up")
    assert lines[-len(findings) :] == findings


def test_other_columns_take_no_part(tmp_path: Path) -> None:
    lines, findings = audit_table(table(tmp_path / "mine.csv", {"a": row(0.3) | {"musiq": "50", "url": "here"}}))
    assert not findings
    assert "mine.csv: not VBench's, so not read: musiq, url" in lines


def test_a_table_of_other_metrics_is_searched_for_copies(tmp_path: Path) -> None:
    (path := tmp_path / "mine.csv").write_text("model,musiq,niqe\na,50,4\nb,50,4\nc,51,4\n")
    lines, findings = audit_table(path)
    assert findings == ["mine.csv: b: all 2 numbers are those of a; one of the two rows is a copy"] == lines[1:]
    assert "no column of VBench's" in lines[0]


def test_a_table_without_rows_is_told(tmp_path: Path) -> None:
    (path := tmp_path / "mine.csv").write_text("model,musiq,niqe\n")
    lines, findings = audit_table(path)
    assert lines == ["mine.csv: no row of 0 is a copy of another", "mine.csv: no row"] and findings == []


@pytest.mark.parametrize("text", ["", "a,b,b\n1,2,3", "model,total\na,x", "model,total\na,1,2"])
def test_what_is_no_table_is_refused(tmp_path: Path, text: str) -> None:
    (path := tmp_path / "mine.csv").write_text(text)
    with pytest.raises(InvalidError):
        audit_table(path)


def test_absent_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="cannot read"):
        audit_table(tmp_path / "absent.csv")
    with pytest.raises(UsageError, match="cannot be read"):
        audit_published(tmp_path)
