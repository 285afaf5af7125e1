"""What readers ask of results: numbers beside the paper's, reasons, claims in words, differences, drawings, clips."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from support import committed

import flashbench
from flashbench.errors import InvalidError, UsageError
from flashbench.reporting import numbers
from flashbench.reporting.figures import contrasts
from flashbench.scores.table import read_scores

RESULTS = committed.results()
PAPER = {"nfe=1": 5.148, "nfe=2": 4.730, "nfe=4": 4.501, "nfe=8": 4.554}
"""NIQE of Table 8, as arXiv 2502.05179 prints it in v1 and in v4."""


def own(name: str) -> pd.DataFrame:
    table = flashbench.results(name, root=RESULTS)
    return table[table["cases"] == table["cases"].iloc[0]]


def texts(svg: bytes) -> list[str]:
    return re.findall(r">([^<>]*\S[^<>]*)</text>", svg.decode())


def test_the_papers_numbers_stand_beside_the_measured_ones_of_their_metric_and_row() -> None:
    shown, table = flashbench.side_by_side("nfe", root=RESULTS), own("nfe")
    assert list(shown.index) == list(dict.fromkeys(table["row"]))
    assert {row: float(shown.loc[row, ("niqe ↓", "v1 = v4")]) for row in PAPER} == PAPER
    assert shown.loc["bicubic", ("niqe ↓", "v1 = v4")] == numbers.ABSENT
    for metric, head in {"niqe": "niqe ↓", "niqe_pooled": "niqe_pooled ↓"}.items():
        values = table[table["metric"] == metric].set_index("row")["value"]
        for row, text in shown[head, "measured"].items():
            assert float(text.split()[0]) == pytest.approx(values[row], abs=0.006), "as rounded for its interval"
    assert ("musiq ↑", "measured") not in shown.columns and shown.loc["nfe=4", ("musiq ↑", "v1 = v4")] == "58.69"
    assert set(shown["clips", ""]) == {"34/34"}


def test_versions_that_differ_stand_apart_and_one_that_is_absent_has_no_column() -> None:
    stages, strength = (flashbench.side_by_side(name, root=RESULTS) for name in ("stages", "strength"))
    assert list(stages["niqe ↓"].columns) == ["measured", "v1", "v4"]
    assert stages["niqe ↓"].loc["stages=2", ["v1", "v4"]].tolist() == ["5.363", "5.380"]
    assert list(strength["niqe ↓"].columns) == ["measured", "v4"], "Table 10 is not transcribed from v1"


def test_what_is_computed_is_not_called_measured_and_has_no_interval() -> None:
    seconds = flashbench.side_by_side("cost", root=RESULTS)["predicted_seconds ↓ (s)"]
    assert list(seconds.columns) == ["computed", "v1 = v4"]
    assert float(seconds.loc["paper=stage1", "computed"]) == pytest.approx(30.18, abs=0.005)
    assert seconds.loc["l1"].tolist() == [numbers.UNDEFINED, numbers.ABSENT]


def test_metrics_are_chosen_by_name_and_replicas_are_lines() -> None:
    shown = flashbench.side_by_side("preference", ["psnr"], root=RESULTS)
    assert list(shown.columns) == [("psnr ↑ (dB)", "measured"), ("clips", "")]
    with pytest.raises(UsageError, match="did you mean 'psnr'"):
        flashbench.side_by_side("preference", ["psnrr"], root=RESULTS)
    three = flashbench.side_by_side("preference", root=RESULTS, replicas=True)
    rows = list(dict.fromkeys(own("preference")["row"]))
    assert sorted(three.index) == sorted((row, replica) for row in rows for replica in range(3))
    whole = flashbench.results("preference", root=RESULTS, replicas=True)
    cell = whole.query("row == 'preference=after' and replica == 2 and metric == 'niqe' and cases == 'material'")
    assert three.loc[("preference=after", 2), ("niqe ↓", "measured")].startswith(f"{cell['value'].iloc[0]:.2f} ±")


@pytest.mark.parametrize("name", ["nfe", "enhancers", "vbench", "cost", "positions"])
def test_every_value_that_is_missing_has_its_reason_once(name: str) -> None:
    table = own(name)
    valued = set(table[table["value"].notna()]["metric"])
    wide = {"metrics": set(table["metric"]), "rows": set(table["row"])}
    told = []
    for line in flashbench.missing(name, root=RESULTS).to_dict("records"):
        some = {key: valued if line[key].startswith("all that") else line[key].split(", ") for key in wide}
        parts = {key: wide[key] if line[key] == "all" else some[key] for key in wide}
        told += [(row, metric, line["reason"]) for metric in parts["metrics"] for row in parts["rows"]]
    absent = table[table["value"].isna()]
    assert "" not in set(absent["reason"])
    assert sorted(told) == sorted(zip(absent["row"], absent["metric"], absent["reason"], strict=True))


def test_claims_in_words_say_what_the_claims_are() -> None:
    said, claims = flashbench.verdicts("nfe", root=RESULTS), flashbench.claims("nfe", root=RESULTS).set_index("id")
    assert list(said.index) == list(claims.index)
    assert (said["outcome"] == claims["outcome"]).all() and (said["claim"] == claims["text"]).all()
    for name, claim in claims.iterrows():
        effect, low, high = map(float, re.findall(r"[+-]\d+\.\d+", said.loc[name, "difference"]))
        assert [effect, low, high] == pytest.approx([claim["effect"], claim["low"], claim["high"]], abs=0.006)
        assert said.loc[name, "difference"].endswith(f"{claim['n']} pairs")
        assert (said.loc[name, "margin"] == "") == pd.isna(claim["margin"])
    three = flashbench.verdicts("nfe", root=RESULTS, replicas=True)
    assert set(three["difference"].str.count("34 pairs")) == {3}, "one for each training"


def test_a_protocol_without_claims_has_none_in_words(tmp_path: Path) -> None:
    shutil.copytree(RESULTS / "laptop" / "tables", tmp_path / "laptop" / "tables")
    (tmp_path / "laptop" / "nfe").mkdir()
    (tmp_path / "laptop" / "nfe" / "claims.json").write_text("[]", encoding="utf-8")
    assert flashbench.verdicts("nfe", root=tmp_path).empty
    (tmp_path / "laptop" / "nfe" / "claims.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InvalidError, match=r"is no list of claims"):
        flashbench.verdicts("nfe", root=tmp_path)


def test_differences_are_scipys_paired_t_of_sources_and_the_papers_subtractions() -> None:
    found = flashbench.differences("nfe", root=RESULTS)
    assert set(found["than"]) == {"nfe=4"} and set(found["metric"]) == {"niqe"} and "nfe=4" not in found.index
    scores = read_scores(RESULTS / "laptop" / "nfe" / "scores.parquet")
    material = {case.id for case in flashbench.load_protocol("nfe").cases}
    part = scores[(scores["metric"] == "niqe") & scores["case"].isin(material)]
    wide = part.pivot(index="cluster", columns="row", values="value")  # here a source has one clip
    for row in ("nfe=1", "nfe=8", "bicubic", "original"):
        expected = scipy_stats.ttest_rel(wide[row], wide["nfe=4"])
        low, high = expected.confidence_interval(0.95)
        numbers_ = found.loc[row, ["effect", "low", "high", "p"]].astype(float).tolist()
        assert numbers_ == pytest.approx([np.mean(wide[row] - wide["nfe=4"]), low, high, expected.pvalue], rel=1e-6)
        assert found.loc[row, ["n", "of", "clusters"]].tolist() == [34, 34, 34]
    for version in ("published_v1", "published_v4"):
        for row in PAPER.keys() - {"nfe=4"}:
            assert found.loc[row, version] == pytest.approx(PAPER[row] - PAPER["nfe=4"])
        assert np.isnan(found.loc["bicubic", version])


def test_differences_are_from_the_row_and_of_the_metric_that_are_asked_for() -> None:
    forth = flashbench.differences("nfe", "psnr", "nfe=1", root=RESULTS)
    back = flashbench.differences("nfe", "psnr", "nfe=8", root=RESULTS)
    assert forth.loc["nfe=8", "effect"] == pytest.approx(-back.loc["nfe=1", "effect"])
    assert forth.loc["nfe=8", ["low", "high"]].tolist() == pytest.approx((-back.loc["nfe=1", ["high", "low"]]).tolist())
    assert set(forth["unit"]) == {"dB"} and forth["published_v1"].isna().all()
    assert forth.loc["original", "reason"] and np.isnan(forth.loc["original", "effect"]), "infinite"
    with pytest.raises(UsageError, match="did you mean 'nfe=8'"):
        flashbench.differences("nfe", than="nfe=88", root=RESULTS)
    with pytest.raises(UsageError, match="did you mean 'psnr'"):
        flashbench.differences("nfe", "psnrr", root=RESULTS)


def test_the_row_that_is_subtracted_is_printed_where_any_is_and_else_the_baseline() -> None:
    assert set(flashbench.differences("strength", root=RESULTS)["than"]) == {"degradation_step=600,training=wide"}
    positions = flashbench.differences("positions", root=RESULTS)
    assert set(positions["than"]) == {"positions=rope,size=192"} and set(positions["metric"]) == {"niqe_pooled"}


def test_scores_of_another_form_of_the_protocol_are_refused(tmp_path: Path) -> None:
    shutil.copytree(RESULTS / "laptop" / "tables", tmp_path / "laptop" / "tables")
    (tmp_path / "laptop" / "nfe").mkdir()
    shutil.copy(RESULTS / "laptop" / "guidance" / "scores.parquet", tmp_path / "laptop" / "nfe")
    with pytest.raises(InvalidError, match="were made under another form of the protocol"):
        flashbench.differences("nfe", root=tmp_path)


def test_the_figure_of_differences_draws_both_on_one_axis_and_the_same_bytes() -> None:
    drawn = flashbench.differences_figure("nfe", root=RESULTS).svg
    said = texts(drawn)
    assert {"● measured", "■ published, v1 = v4", "0: 4 evaluations", "nfe"} <= set(said)
    assert "difference in niqe, below 0 is better" in said and b"stroke-dasharray" in drawn
    assert drawn == flashbench.differences_figure("nfe", root=RESULTS).svg
    rows = texts(flashbench.differences_figure("stages", root=RESULTS).svg)
    assert {"published v1", "published v4", "measured", "stages 2"} <= set(rows) and "stages 1" not in rows
    assert "difference in niqe, left of 0 is better" in rows


def test_a_difference_that_was_not_measured_is_told_with_its_reason() -> None:
    protocol, found = flashbench.load_protocol("stages"), flashbench.differences("stages", root=RESULTS)
    found[["effect", "low", "high"]] = np.nan
    found["reason"] = "no clip"
    assert "not measured: no clip" in texts(contrasts.draw(protocol, found))
    nothing = found.assign(published_v1=np.nan, published_v4=np.nan)
    assert "not measured: no clip" in texts(contrasts.draw(protocol, nothing))


def test_the_figure_of_claims_is_the_one_that_a_run_writes() -> None:
    drawn = flashbench.claims_figure("nfe", root=RESULTS)
    assert "difference of niqe_pooled ↓, left of 0 favours the first" in texts(drawn.svg)


def test_clips_are_shown_where_a_clone_has_them_and_named_in_any(tmp_path: Path) -> None:
    for within in ("laptop", "laptop/replicas"):
        shutil.copytree(RESULTS / "laptop" / "tables", tmp_path / "results" / within / "tables")
    absent = flashbench.contact("nfe", root=tmp_path / "results")
    assert absent._repr_png_() is None and "results/laptop/nfe/contact.png" in repr(absent)
    for within in ("laptop", "laptop/replicas"):
        (tmp_path / "results" / within / "nfe").mkdir()
        (tmp_path / "results" / within / "nfe" / "contact.png").write_bytes(within.encode())
    there = flashbench.contact("nfe", root=tmp_path / "results")
    assert there._repr_png_() == b"laptop" and repr(there) == repr(absent)
    more = flashbench.contact("nfe", root=tmp_path / "results", replicas=True)
    assert more.png == b"laptop/replicas" and more.name == "results/laptop/replicas/nfe/contact.png"
