"""Reading results back: the same table with its types, the claims, the figure; found from any folder of a clone."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import pandas as pd
import pytest
from support.made_results import made_scores, write_results

import flashbench
from flashbench.errors import InvalidError, UsageError
from flashbench.protocol.types import Protocol
from flashbench.reporting import tables
from flashbench.reporting.figures import figure


def level(row: str, name: str) -> float:
    return 4.0 + {"nfe=1": 1.0, "nfe=4": 0.25}.get(row, 3.0) if name == "niqe_pooled" else 20.0


@pytest.fixture(scope="module")
def protocol() -> Protocol:
    return flashbench.load_protocol("nfe", tier="smoke")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, protocol: Protocol) -> tuple[Path, pd.DataFrame]:
    root = tmp_path_factory.mktemp("made")
    write_results(root, protocol, made_scores(protocol, level, replicas=3), replicas=True)
    return root, write_results(root, protocol, made_scores(protocol, level))


@pytest.fixture
def table(tmp_path: Path, made: tuple[Path, pd.DataFrame]) -> pd.DataFrame:
    """A copy of one replica under results/ and of three under its `replicas`; returns the table of the one."""
    shutil.copytree(made[0], tmp_path / "results")
    return made[1]


def test_what_is_read_is_what_was_built(tmp_path: Path, table: pd.DataFrame) -> None:
    found = flashbench.results("nfe", tier="smoke", root=tmp_path / "results")
    pd.testing.assert_frame_equal(found, table, check_exact=True)
    psnr = found[(found["row"] == "original") & (found["metric"] == "psnr")].iloc[0]
    assert pd.isna(psnr["value"]) and psnr["reason"] == "PSNR is infinite" and psnr["n"] == 0
    assert set(found["direction"]) == {"lower", "higher", "none"}, "`none` is a word"
    assert (found["reason"] == "").any() and not found["reason"].isna().any()


@pytest.mark.parametrize("place", [".", "notebooks", "results/smoke"])
def test_they_are_found_from_any_folder_of_a_clone(
    place: str, tmp_path: Path, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / place).mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / place)
    assert len(flashbench.results("nfe", tier="smoke")) == len(table)


def test_replicas_are_asked_for(tmp_path: Path, table: pd.DataFrame, protocol: Protocol) -> None:
    found = flashbench.results("nfe", tier="smoke", root=tmp_path / "results", replicas=True)
    assert set(found["replica"]) == {0, 1, 2} and len(found) == 3 * len(table)
    judged = flashbench.claims("nfe", tier="smoke", root=tmp_path / "results", replicas=True)
    assert len(judged) == 3 * len(protocol.claims)


def test_claims_have_their_outcome_and_effect(tmp_path: Path, table: pd.DataFrame) -> None:
    (claim,) = flashbench.claims("nfe", tier="smoke", root=tmp_path / "results").to_dict("records")
    assert (claim["id"], claim["first"], claim["second"]) == ("nfe-4-beats-1", "nfe=4", "nfe=1")
    assert claim["outcome"] == "undecided" and "an outcome needs 6 clusters" in claim["why"]
    assert claim["left_out_low"] < claim["effect"] < claim["left_out_high"] and not claim["primary"]
    assert claim["low"] < -0.75 < claim["high"] and claim["effect"] == pytest.approx(-0.75, abs=0.05)
    assert pd.isna(claim["margin"])


def test_an_effect_that_is_missing_is_nan(tmp_path: Path, protocol: Protocol) -> None:
    scores = made_scores(protocol, missing={"nfe=1": "no clip"})
    write_results(tmp_path, protocol, scores)
    judged = flashbench.claims("nfe", tier="smoke", root=tmp_path)
    assert judged["effect"].isna().all() and judged["outcome"].tolist() == ["undecided"]


def test_the_figure_is_that_of_the_table(tmp_path: Path, table: pd.DataFrame, protocol: Protocol) -> None:
    drawing = flashbench.figure("nfe", tier="smoke", root=tmp_path / "results")
    assert drawing.svg == figure.draw(protocol, table)
    assert ET.fromstring(drawing._repr_svg_()).tag.endswith("svg")


def test_a_table_of_another_protocol_is_not_drawn(tmp_path: Path, table: pd.DataFrame) -> None:
    path = tmp_path / "results" / "smoke" / "tables" / "nfe.csv"
    path.write_text(tables.to_csv(table[table["row"] != "nfe=1"]), encoding="utf-8")
    with pytest.raises(InvalidError, match=r"(?s)other rows or metrics than protocols/nfe.yaml.*flashbench run nfe"):
        flashbench.figure("nfe", tier="smoke", root=tmp_path / "results")


def test_wrong_names_are_answered_with_the_right_ones(tmp_path: Path, table: pd.DataFrame) -> None:
    with pytest.raises(UsageError, match="did you mean 'nfe'"):
        flashbench.results("nef", tier="smoke", root=tmp_path / "results")
    with pytest.raises(UsageError, match="`root` is the folder that holds a folder for each tier"):
        flashbench.claims("nfe", tier="laptop", root=tmp_path / "results")


def test_outside_a_clone_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"(?s)no folder results/laptop.*work in a clone"):
        flashbench.results("nfe")


def test_files_of_another_form_are_refused(tmp_path: Path, table: pd.DataFrame) -> None:
    root, folder = tmp_path / "results", tmp_path / "results" / "smoke"
    (folder / "tables" / "nfe.csv").write_text(tables.to_csv(table.drop(columns="cases")), encoding="utf-8")
    (folder / "nfe" / "claims.json").write_text(json.dumps([{"id": "x"}]), encoding="utf-8")
    with pytest.raises(InvalidError, match="written by another version"):
        flashbench.results("nfe", tier="smoke", root=root)
    with pytest.raises(InvalidError, match=r"claims.json cannot be read: KeyError"):
        flashbench.claims("nfe", tier="smoke", root=root)
    (folder / "tables" / "nfe.csv").write_text("value\nmany\n", encoding="utf-8")
    with pytest.raises(InvalidError, match=r"nfe.csv cannot be read"):
        flashbench.results("nfe", tier="smoke", root=root)
