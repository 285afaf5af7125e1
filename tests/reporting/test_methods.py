"""The statistics that `flashbench cite` tells: what the scores have, what `stats` did, and whose methods these are."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.fake_scores import METRICS, FakeMetric, frame, line
from support.scored_runs import LEVELS, compared, record, scored, shifted
from typer.testing import CliRunner

from flashbench import methods as named
from flashbench import metrics, shares, stats
from flashbench.cli.program import app
from flashbench.comparison.report import write as write_report
from flashbench.errors import InvalidError
from flashbench.protocol.compose import load_protocol
from flashbench.protocol.types import Protocol
from flashbench.reporting import methods
from flashbench.reporting.cite import cite
from flashbench.scores.table import to_parquet

SHARE, POOLED = FakeMetric("shown", binary=True), FakeMetric("niqe_pooled", scope="set")
KINDS = [
    FakeMetric("psnr"), SHARE, POOLED, FakeMetric("shares_pooled", scope="set", binary=True),
    FakeMetric("tflop", computed=True),
]  # fmt: skip
RESTS_ON: dict[str, set[str]] = {"interval": {"wilson1927", "clopper1934"}, "paired": {"tango1998", "mcnemar1947"}}
"""Function of `shares` to what a text cites for it."""


# --- methods say what the code does ------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", KINDS, ids=lambda metric: metric.name)
@pytest.mark.parametrize("paired", [False, True])
def test_a_method_cites_the_functions_that_make_its_numbers(
    metric: FakeMetric, paired: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: set[str] = set()

    def watched(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            called.add(name)
            return function(*arguments, **named)

        return call

    for name in RESTS_ON:
        monkeypatch.setattr(shares, name, watched(name, getattr(shares, name)))
    own = replace(metric) if not metric.pooled else _PooledMean(metric.name, scope="set", binary=metric.binary)
    if paired:
        stats.contrast(_table(own), own, "a", "b")  # type: ignore[arg-type]
    else:
        stats.estimate(_table(own), own, "a")  # type: ignore[arg-type]
    told = named.method(own, paired=paired)  # type: ignore[arg-type]
    functions = {name for name in RESTS_ON if RESTS_ON[name] & set(told.cite)}
    assert functions == called
    assert ("efron1981jackknife" in told.cite) == metric.pooled
    assert ("Student" in told.text) == (not metric.binary and not metric.computed)


class _PooledMean(FakeMetric):
    """A pooled value that lies in 0 … 1, so that it may be a share."""

    def finalize(self, statistics: Any) -> float:
        return float(statistics[1] / statistics[0])


def _table(metric: FakeMetric) -> pd.DataFrame:
    values = {"a": [1.0, 0.0, 1.0, 1.0, 0.0, 1.0], "b": [0.0, 0.0, 1.0, 0.0, 1.0, 0.0]}
    lines = [
        line(row, f"c{i}/0", metric.name, x, statistics=[1.0, x] if metric.pooled else [])
        for row, own in values.items()
        for i, x in enumerate(own)
    ]
    return frame(lines)


@pytest.mark.parametrize("scope", ["video", "set"])
def test_a_metric_on_the_log_scale_has_logarithms_and_percent_changes(scope: Any) -> None:
    metric: Any = FakeMetric("flicker", scope=scope, scale="log")
    assert "logarithm" in named.method(metric).text
    assert "percent change" in named.method(metric, paired=True).text
    assert ("jackknife" in named.method(metric).text) == (scope == "set")


@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("vbench:dynamic_degree", True), ("vbench:human_action", True), ("vbench:scene", False), ("psnr", False),
        ("attribute_color", True),
    ],
)  # fmt: skip
def test_dimensions_of_yes_or_no_are_shares(name: str, share: bool) -> None:
    assert ("wilson1927" in named.method(metrics.get(name)).cite) == share


# --- sets of cases ------------------------------------------------------------------------------------------------


def table_of(protocol: Protocol, *, skip: Callable[[str, str], bool] = lambda row, case: False) -> pd.DataFrame:
    """Every score that a protocol asks for; `skip` (row, case) has none."""
    lines = [
        line(
            x.row, case.id, metric.name, math.nan if skip(x.row, case.id) else 0.5, cluster=case.cluster,
            seed=case.seed, protocol=protocol.name, reason="none" if skip(x.row, case.id) else "",
        )
        for part in protocol.parts
        for x in part.variants
        for case in part.cases
        for metric in part.metrics
    ]  # fmt: skip
    return frame(lines)


def results(folder: Path, protocol: Protocol, digest: str = "", **more: Any) -> Path:
    (folder := folder / protocol.tier / protocol.name).mkdir(parents=True)
    (folder / "scores.parquet").write_bytes(to_parquet(table_of(protocol, **more), digest or protocol.hash))
    return folder


@pytest.fixture(scope="module")
def nfe() -> Protocol:
    """A protocol with a further set: photographs with a reference, prompts without."""
    return load_protocol("nfe", tier="laptop")


def test_every_set_has_its_own_rows_clips_and_clusters(nfe: Protocol, tmp_path: Path) -> None:
    paragraph = cite(results(tmp_path, nfe)).paragraph
    own, further = nfe.parts
    for part, unit in ((own, "source of material"), (further, "prompt")):
        clusters = len({case.cluster for case in part.cases})
        assert (
            f"{part.case_set}: {len(part.variants)} rows of {len(part.cases)} clips each in {clusters} clusters (unit: "
            f"{unit}), baseline `{part.baseline}`, primary {', '.join(part.primary)}" in paragraph
        )
    assert f"{len(own.cases) + len(further.cases)} c" not in paragraph


def test_shares_and_pooled_values_are_told_apart_with_their_sources(nfe: Protocol, tmp_path: Path) -> None:
    found = cite(results(tmp_path, nfe))
    assert "effective number of clips, or Clopper and Pearson's (attribute_color, attribute_shape)" in found.paragraph
    assert "Student's t on the means of clusters (niqe, psnr, ssim, " in found.paragraph
    assert "skewness (niqe_pooled)" in found.paragraph and "skewness (flat_noise, temporal_residual)" in found.paragraph
    assert "by Holm's method over all tests of primary metrics and by Benjamini and Hochberg's" in found.paragraph
    assert ", in each set of cases by itself." in found.paragraph
    methods_cited = {"wilson1927", "korn1998", "efron1981jackknife", "holm1979", "benjamini1995"}
    assert methods_cited < set(found.entries)


def test_what_took_no_part_is_not_cited(tmp_path: Path) -> None:
    (folder := tmp_path / "smoke" / "nfe").mkdir(parents=True)
    lines = [line("nfe=4", f"synthetic-{i}/0", "psnr", 30.0 + i) for i in range(4)]
    (folder / "scores.parquet").write_bytes(to_parquet(frame(lines), "x" * 64))
    found = cite(folder)
    assert found.entries == ("flashbench",)
    assert "P values" not in found.paragraph and "compared" not in found.paragraph
    assert "1 row of 4 clips each in 4 clusters (unit: procedural source)" in found.paragraph


@pytest.mark.parametrize(("name", "tier"), [("nfe", "laptop"), ("enhancers", "smoke"), ("vbench", "smoke")])
def test_sets_are_told_apart_without_the_protocol(name: str, tier: str) -> None:
    protocol = load_protocol(name, tier=tier)
    table = table_of(protocol)

    def sizes(found: list[methods.CaseSet]) -> list[tuple[str, int, int, int]]:
        return sorted((one.unit, one.rows, one.clips, one.clusters) for one in found)

    assert sizes(methods.case_sets(table, [], None)) == sizes(methods.case_sets(table, [], protocol))
    assert sizes(methods.case_sets(table.sample(frac=1, random_state=1), [], None)) == sizes(
        methods.case_sets(table, [], None)
    )


def test_results_of_another_form_say_what_is_not_known(nfe: Protocol, tmp_path: Path) -> None:
    found = cite(results(tmp_path, nfe, digest="0" * 64))
    assert "material: 15 rows of 34 clips each" in found.paragraph and "baseline `" not in found.paragraph
    assert any("which metrics are primary is not known" in remark for remark in found.remarks)


def test_rows_and_clips_without_a_value_are_told(nfe: Protocol, tmp_path: Path) -> None:
    cases = [case.id for case in nfe.cases]
    folder = results(tmp_path, nfe, skip=lambda row, case: row == "l1" or (row == "nfe=1" and case in cases[:4]))
    paragraph = cite(folder).paragraph
    rows = len(nfe.variants) - 1
    assert f"{rows} rows of {len(cases)} clips each" in paragraph
    assert ", 1 further row without a value, values from " in paragraph


def test_too_few_clusters_have_no_interval_and_nobody_is_cited(tmp_path: Path) -> None:
    found = cite(results(tmp_path, load_protocol("vbench", tier="smoke")))
    assert f"With fewer than {stats.MIN_CLUSTERS} clusters, no interval is given." in found.paragraph
    assert not {key for method in named.METHODS for key in method.cite} & set(found.entries)


def test_trainings_are_counted(tmp_path: Path) -> None:
    protocol = load_protocol("nfe", tier="smoke")
    table = table_of(protocol)
    (folder := tmp_path / "smoke" / "nfe").mkdir(parents=True)
    both = pd.concat([table, table.assign(replica=1)])
    (folder / "scores.parquet").write_bytes(to_parquet(both, protocol.hash))
    assert "Each of 2 trainings has its own values and tests." in cite(folder).paragraph


# --- comparisons --------------------------------------------------------------------------------------------------


def verdict(folder: Path, *tables: pd.DataFrame, **more: Any) -> Path:
    write_report(compared(*tables, **more), folder)
    return folder


def test_a_comparison_tells_pairs_clusters_tests_and_verdicts(tmp_path: Path) -> None:
    psnr = scored("A", [30.0, *[math.nan] * 2, *LEVELS[3:]], "psnr")
    psnr.loc[psnr["value"].isna(), "reason"] = "too short"
    first = pd.concat([scored("A", LEVELS), psnr])
    second = pd.concat([scored("B", shifted(-0.5)), scored("B", shifted(30.0), "psnr")])
    found = cite(verdict(tmp_path, first, second))
    assert "B was compared with A by FlashBench " in found.paragraph
    assert "8 pairs of `B` and `A`, by name." in found.paragraph
    assert "over 6–8 videos: Student's t on the means of clusters (niqe, psnr)." in found.paragraph
    assert "P values are adjusted by Holm's method over all 2 tests of the comparison." in found.paragraph
    assert "Left out: psnr of B, 2 of 8 pairs: too short." in found.remarks
    assert any("are those of this installation" in remark for remark in found.remarks)
    assert found.results[0].startswith("B is better than A on niqe: ")
    assert "p < 0.001 (Holm)" in found.results[0]
    assert found.entries == ("flashbench", "mittal2013niqe", "holm1979")


def test_one_test_is_not_adjusted_and_a_margin_is_told(tmp_path: Path) -> None:
    found = cite(verdict(tmp_path, scored("A", LEVELS), scored("B", shifted(0.01)), margin=0.1) / "compare.json")
    assert "Holm's method" not in found.paragraph and "holm1979" not in found.entries
    assert "one-sided test of non-inferiority at 2.5 %" in found.paragraph


def test_shares_in_a_comparison_cite_their_test(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    a, b = (scored(row, list(map(float, rng.integers(0, 2, 30))), "shown") for row in "AB")
    found = cite(verdict(tmp_path, a, b))
    assert set(named.method(METRICS["shown"], paired=True).cite) <= set(found.entries)  # type: ignore[arg-type]
    assert "Student" not in found.paragraph


def test_nothing_was_tested_where_all_pairs_are_the_same_clip(tmp_path: Path) -> None:
    a = scored("A", LEVELS[:2])
    found = cite(verdict(tmp_path, a, scored("B", LEVELS[:2])))
    assert "Nothing was tested (unit of statistics: videos)." in found.paragraph
    assert found.entries == ("flashbench", "mittal2013niqe")


def test_a_comparisons_json_is_strict(tmp_path: Path) -> None:
    content = (verdict(tmp_path, scored("A", LEVELS[:2]), scored("B", LEVELS[:2])) / "compare.json").read_text("utf-8")

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    assert json.loads(content, parse_constant=refuse)["results"][0]["p"] is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"schema": 2}, {"results": 3}, {"results": [{}]}, {"runs": {"A": 3}}, {"runs": {}}, {"metrics": {"niqe": 3}},
        {"pairs": None},
    ],
)  # fmt: skip
def test_records_of_comparisons_of_another_form_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    file = verdict(tmp_path, scored("A", LEVELS), scored("B", shifted(1))) / "compare.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | wrong))
    with pytest.raises(InvalidError, match=re.escape(str(file))):
        cite(tmp_path)


def test_the_command_cites_what_compare_wrote(tmp_path: Path) -> None:
    for label, values in (("a", LEVELS), ("b", shifted(-0.5))):
        (folder := tmp_path / label).mkdir()
        (folder / "scores.parquet").write_bytes(to_parquet(scored(label, values), "hash"))
        about = record(protocol="adhoc/custom", versions={"numpy": "1.2"})
        (folder / "run.json").write_text(json.dumps(about))
    command = ["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "verdict")]
    assert CliRunner().invoke(app, command).exit_code == 0
    done = CliRunner().invoke(app, ["cite", str(tmp_path / "verdict")])
    assert done.exit_code == 0, done.output
    assert "Protocol: adhoc/custom, hash hash" in done.output
    assert "- b is better than a on niqe: " in done.output
    assert "All frames were used, at their native size." in done.output
    assert "NIQE (`niqe`; version 1; sha256 of weights or parameters: niqe-pristine abababababab)" in done.output
    assert "Libraries: NumPy 1.2." in done.output
