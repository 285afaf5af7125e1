"""Tables of a folder beside each other: honest ones agree, and each way of having two values of one thing is found."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
from support import made_results, smoke

from flashbench import keys
from flashbench.checks.across import across
from flashbench.protocol.compose import load_protocol
from flashbench.protocol.types import Protocol
from flashbench.scores.table import to_parquet

NAMES = ("nfe", "degradation", "cost", "positions")


@cache
def asked(name: str, *overrides: str) -> Protocol:
    return load_protocol(name, tier="smoke", overrides=overrides)


def honest(protocol: Protocol) -> pd.DataFrame:
    """Made-up scores in which clip, key and value follow from what a row is, as they do where clips are made."""
    scores = made_results.made_scores(protocol)
    variants = {(part.case_set, v.row): v for part in protocol.parts for v in part.variants}
    sets = {case.id: part.case_set for part in protocol.parts for case in part.cases}
    clips, scored, values = [], [], []
    for line in scores.to_dict("records"):
        variant = variants[sets[line["case"]], line["row"]]
        recipes = [protocol.recipes[name] for name in variant.system.models(variant.settings)]
        made = [variant.system.name, variant.settings, variant.size, recipes, line["case"]]
        clips.append(keys.key("clip", made=made))
        absent = math.isnan(line["value"])
        scored.append("" if absent else keys.key("score", metric=line["metric"], clip=clips[-1]))
        number = int(hashlib.sha256(scored[-1].encode()).hexdigest()[:6], 16) / 2**24
        values.append(math.nan if absent else number)
    return scores.assign(clip=clips, key=scored, value=values)


def written(root: Path, tables: Sequence[tuple[Protocol, pd.DataFrame]]) -> list[str]:
    """The findings on tables that are first written into a folder of results."""
    for protocol, scores in tables:
        made_results.write_results(root, protocol, scores)
    return across(root / "smoke", tables)


def at(scores: pd.DataFrame, row: str, metric: str) -> pd.Series:
    found = (scores["row"] == row) & (scores["metric"] == metric) & (scores["key"] != "")
    assert found.any()
    return found


def test_honest_tables_agree_whatever_their_rows_are_called(tmp_path: Path) -> None:
    assert written(tmp_path, [(asked(name), honest(asked(name))) for name in NAMES]) == []
    shared = [set(honest(asked(name))["key"]) for name in NAMES]
    assert len(shared[0] & shared[1]) > 50 and len(shared[0] & shared[2]) > 5, "and have much in common"


def test_one_score_with_two_values(tmp_path: Path) -> None:
    nfe, other = honest(asked("nfe")), honest(asked("degradation"))
    other.loc[at(other, "degradation=pixel+latent", "psnr"), "value"] += 0.5
    findings = written(tmp_path, [(asked("nfe"), nfe), (asked("degradation"), other)])
    scored = [one for one in findings if "are one score with two values in 3 places" in one]
    assert len(scored) == 1 and scored[0].startswith("nfe · nfe=4 and degradation · degradation=pixel+latent are")
    assert "such as psnr of synthetic-0/0: 0." in scored[0]
    assert any("are the same scores with two values in 1 place, such as psnr in tables" in one for one in findings)


def test_statistics_are_part_of_a_score(tmp_path: Path) -> None:
    nfe, other = honest(asked("nfe")), honest(asked("degradation"))
    other["statistics"] = [[1.0, 2.0] if metric == "niqe_pooled" else [] for metric in other["metric"]]
    findings = across(tmp_path, [(asked("nfe"), nfe), (asked("degradation"), other)])
    assert findings and all("one score" in one and "niqe_pooled of" in one for one in findings)


def test_the_same_settings_with_two_clips(tmp_path: Path) -> None:
    """A table that was made before a change beside one that was made after it."""
    nfe, other = honest(asked("nfe")), honest(asked("degradation"))
    stale = other["row"] == "degradation=pixel+latent"
    other.loc[stale, "clip"] = "0" * 64
    other.loc[stale, "key"] = [f"{n:064d}" for n in range(stale.sum())]
    other.loc[stale, "value"] += 1
    (finding,) = across(tmp_path, [(asked("nfe"), nfe), (asked("degradation"), other)])
    assert finding.startswith("nfe · nfe=4 and degradation · degradation=pixel+latent are the same settings on the")
    assert "(clip 000000000000, score 000000000000)" in finding


def test_a_control_is_one_thing_in_every_table(tmp_path: Path) -> None:
    """Pooled NIQE of `l1` once stood as 5.38 in one table and as 6.62 in four, because its recipe was another."""
    cost = asked("nfe", "recipes.l1.learning_rate=1.0")
    tables = [(asked(name), honest(asked(name))) for name in ("degradation", "enhancers")]
    (finding,) = written(tmp_path, [*tables, (cost, honest(cost))])
    assert finding.startswith("degradation · l1 and nfe · l1 are one control on the same cases with two values")
    assert "enhancers" not in finding, "at this tier it has no `l1`"


def test_rows_of_one_name_and_other_settings_are_no_contradiction(tmp_path: Path) -> None:
    other = asked("nfe", "settings.shift=1.5", "name=nfe")
    scores = honest(other)
    assert across(tmp_path, [(asked("nfe"), honest(asked("nfe"))), (other, scores)]) == []


def test_a_table_that_prints_something_else(tmp_path: Path) -> None:
    tables = [(asked(name), honest(asked(name))) for name in ("nfe", "degradation")]
    assert written(tmp_path, tables) == []
    path = tmp_path / "smoke/tables/degradation.csv"
    lines = path.read_text("utf-8").splitlines()
    (place,) = [n for n, line in enumerate(lines) if ",bicubic," in line and ",psnr," in line]
    cells = lines[place].split(",")
    cells[8] = repr(float(cells[8]) + 0.01)
    path.write_text("\n".join([*lines[:place], ",".join(cells), *lines[place + 1 :]]) + "\n", "utf-8")
    (finding,) = across(tmp_path / "smoke", tables)
    assert finding.startswith("nfe · bicubic and degradation · bicubic are the same scores with two values in 1 place")
    path.write_text("no table\n", "utf-8")
    assert across(tmp_path / "smoke", tables) == [], "which is found where it is made again"


def test_what_was_not_scored_contradicts_nothing(tmp_path: Path) -> None:
    nfe, other = honest(asked("nfe")), honest(asked("degradation"))
    lost = other["row"] == "bicubic"
    other.loc[lost, ["value", "clip", "key", "reason"]] = [math.nan, "", "", "not made"]
    assert written(tmp_path, [(asked("nfe"), nfe), (asked("degradation"), other)]) == []


def audited(folder: Path) -> tuple[int, list[str], str]:
    done = smoke.flashbench(folder, "audit", "results", "nfe", "--tier", "smoke", check=False)
    return done.returncode, [one for one in done.stdout.splitlines() if "two values" in one], done.stderr


@pytest.mark.parametrize("lie", [False, True])
def test_audit_reads_all_tables_of_the_folder(tmp_path: Path, lie: bool) -> None:
    """As a user runs it: only `nfe` is audited, and the table beside it contradicts it."""
    for name in ("nfe", "degradation"):
        scores = honest(asked(name))
        if lie and name == "degradation":
            scores.loc[at(scores, "bicubic", "ssim"), "value"] += 0.25
        made_results.write_results(tmp_path / "results", asked(name), scores)
        content = to_parquet(scores, asked(name).hash)
        (tmp_path / "results/smoke" / name / "scores.parquet").write_bytes(content)
    code, said, noted = audited(tmp_path)
    assert code == 1 and "Traceback" not in noted, "nothing here was made by this machine"
    things = [one.split(" are ")[1].split(" with ")[0] for one in said]
    assert things == (["one score", "the same settings on the same cases", "the same scores"] if lie else [])
    assert all(one.startswith("degradation · bicubic and nfe · bicubic") for one in said)


@pytest.mark.parametrize("why", ["were made under another form of the protocol", "cannot be read"])
def test_scores_that_cannot_be_compared_are_said_so(tmp_path: Path, why: str) -> None:
    for name in ("nfe", "degradation"):
        made_results.write_results(tmp_path / "results", asked(name), honest(asked(name)))
        content = to_parquet(honest(asked(name)), asked(name).hash if name == "nfe" else "0" * 64)
        content = b"no table" if (name, why) == ("degradation", "cannot be read") else content
        (tmp_path / "results/smoke" / name / "scores.parquet").write_bytes(content)
    code, said, noted = audited(tmp_path)
    assert code == 1 and not said and "Traceback" not in noted
    (note,) = [one for one in noted.splitlines() if "degradation is not compared with the other tables: " in one]
    assert why in note
