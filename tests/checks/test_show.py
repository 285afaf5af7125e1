"""`flashbench show`: a row's values, its clips with their places, and a command that makes them again."""

from __future__ import annotations

import math
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from support import smoke

from flashbench import metrics, stats
from flashbench.checks.show import command, describe
from flashbench.cli import program
from flashbench.errors import UsageError
from flashbench.protocol.compose import names, trials
from flashbench.reporting import numbers
from flashbench.reporting.document import markdown
from flashbench.run.files import read_manifest
from flashbench.run.options import Options
from flashbench.run.phases import run_protocols
from flashbench.scores.table import read_scores, to_parquet
from flashbench.store import Store

# Rows that need no model: seconds without torch's networks.
OVERRIDES = (
    "rows=[]", "controls=[original,bicubic]", "baseline=bicubic", "claims=[]", "metrics=[psnr,sharpness]",
    "primary=[psnr]", "sets=null",
)  # fmt: skip
OPTIONS = Options(tier="smoke", workers=0, overrides=OVERRIDES, results=Path("results/smoke"))


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("honest")
    with smoke.inside(folder):
        run_protocols(["nfe"], ("train", "generate", "score"), OPTIONS)
    return folder


@pytest.fixture(autouse=True)
def _inside(honest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(honest, folder)
    for name, value in smoke.environment(folder).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(folder)


def shown(address: str, case: str = "") -> str:
    return markdown(describe(address, OPTIONS, case=case)[0])


def _call(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(program.signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "argv", list(words))
    with pytest.raises(SystemExit) as caught:
        program.main()
    return int(caught.value.code or 0)


def _again(commands: list[str]) -> list[str]:
    (found,) = commands
    return shlex.split(found)


def test_a_row_has_its_values_and_its_clips() -> None:
    text, store = shown("nfe/bicubic"), Store()
    scores = read_scores(Path("results/smoke/nfe/scores.parquet"))
    for metric in ("psnr", "sharpness"):
        found = stats.estimate(scores, metrics.get(metric), "bicubic")
        places = numbers.places_between(found.low, found.high, found.value)
        cells = [numbers.number(each, places) for each in (found.value, found.low, found.high)]
        assert f"| `{metric}` | 0 | {' | '.join(cells)} | 3/3 |" in text
    psnr = scores[(scores["row"] == "bicubic") & (scores["metric"] == "psnr")]
    for score in psnr.to_dict("records"):
        start = f"| `{score['case']}` | 0 | 0 | {score['value']:.6g} | `{score['clip'][:12]}` | "
        (place,) = re.findall(re.escape(start) + r"(\S+) \|", text)
        assert (store.root / place).name == "clip.mkv" and store.clip((store.root / place).parent.name).digest == score[
            "clip"
        ]
    assert "System `bicubic`, 5 frames of 96×192, network evaluations: 0. Settings: none." in text
    assert f"The store is `{store.root}`" in text


def test_a_metric_of_a_row() -> None:
    text = shown("nfe/bicubic/sharpness")
    assert "`psnr`" not in text and "| case | seed | replica | sharpness |" in text


def test_a_missing_value_has_its_reason() -> None:
    text = shown("nfe/original")
    assert "| `psnr` | 0 | – [a] | – | – | 0/3 |" in text and "- [a] " in text and "infinite" in text


def test_the_command_makes_a_lost_clip_again(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = (
        one for one in read_manifest(Path("results/smoke/nfe/clips.jsonl"))
        if (one["row"], one["case"]) == ("bicubic", "synthetic-1/0")
    )  # fmt: skip
    store = Store()
    shutil.rmtree(store.clip_path(line["key"]).parent)
    assert shown("nfe/bicubic").count("not in the store") == 1
    text, again = shown("nfe/bicubic", "synthetic-1/0"), describe("nfe/bicubic", OPTIONS, case="synthetic-1/0")[1]
    assert text.count("not in the store") == 1 and "synthetic-2/0" not in text and "--limit 2 " in again[0]
    before = {path.parent.name for path in (store.root / "clips").rglob("clip.mkv")}
    assert _call(monkeypatch, *_again(again), "--workers", "0") == 0
    assert store.clip(line["key"]).digest == line["digest"]
    after = {path.parent.name for path in (store.root / "clips").rglob("clip.mkv")}
    assert after - before == {line["key"]}, "and no other clip"
    assert "not in the store" not in shown("nfe/bicubic")


@pytest.mark.slow
def test_the_command_trains_and_makes_a_row_of_the_flow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Options(tier="smoke", workers=0, results=Path("whole"))
    monkeypatch.chdir(tmp_path)
    run_protocols(["nfe"], options=whole)
    blocks, again = describe("nfe/nfe=4", whole)
    text = markdown(blocks)
    made = {line["key"]: line["digest"] for line in read_manifest(Path("whole/nfe/clips.jsonl"))
            if line["row"] == "nfe=4"}  # fmt: skip
    assert len(made) == 3 and "network evaluations: 4." in text and "`degradation_step` 675" in text
    monkeypatch.setenv("FLASHBENCH_STORE", str(tmp_path / "empty"))
    assert _call(monkeypatch, *_again(again), "--workers", "0") == 0
    assert {key: Store().clip(key).digest for key in made} == made


def test_without_a_manifest_the_clips_are_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    Path("results/smoke/nfe/clips.jsonl").unlink()
    assert shown("nfe/bicubic").count("not known") == 3
    said = capsys.readouterr().err
    assert "clips.jsonl is not here (`flashbench run nfe --tier smoke --phase train --phase generate` makes it)" in said
    Path(".dvc").mkdir()
    Path(".dvc/config").write_text("[core]\n    remote = r\n['remote \"r\"']\n    url = there\n", encoding="utf-8")
    assert shown("nfe/bicubic").count("not known") == 3
    assert "clips.jsonl is not here (`dvc pull` fetches it)" in capsys.readouterr().err


def test_a_clip_that_was_not_made_says_so() -> None:
    path = Path("results/smoke/nfe/scores.parquet")
    scores = read_scores(path)
    at = scores["row"] == "bicubic"
    scores.loc[at, ["clip", "value", "reason"]] = ["", math.nan, "weights not released"]
    path.write_bytes(to_parquet(scores, OPTIONS.protocol("nfe").hash))
    text = shown("nfe/bicubic")
    assert text.count("| not made |") == 3 and "weights not released" in text


@pytest.mark.parametrize(
    ("address", "case", "said"),
    [
        ("nfee/nfe=4", "", "did you mean 'nfe'"),
        ("nfe", "", "write protocol/row, e.g. nfe/original"),
        ("nfe/bicubik", "", "did you mean 'bicubic'"),
        ("nfe/bicubic/psnrr", "", "did you mean 'psnr'"),
        ("nfe/bicubic", "synthetic-1", "did you mean 'synthetic-1/0'"),
    ],
)
def test_a_wrong_name_gets_a_suggestion(address: str, case: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        shown(address, case)
    assert said in str(caught.value)


def test_the_command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    changed = [word for item in OVERRIDES for word in ("-S", item)]
    assert _call(monkeypatch, "flashbench", "show", "nfe/bicubic", "--tier", "smoke", *changed) == 0
    (again,) = describe("nfe/bicubic", OPTIONS)[1]
    assert capsys.readouterr().out == f"{shown('nfe/bicubic')}\n{again}\n"


@pytest.mark.parametrize(
    "name", [name if name == "nfe" else pytest.param(name, marks=pytest.mark.slow) for name in names()]
)
def test_the_command_asks_for_the_same_trials(name: str) -> None:
    """Of every protocol, for every row and its last case, cut down as the command says."""
    whole = Options(tier="smoke").protocol(name)
    for part in whole.parts:
        for variant in (part.variants[0], part.variants[-1]):
            case = part.cases[-1]
            words = shlex.split(command(whole, part, variant, Options(tier="smoke"), replicas=[0], case=case))
            cut = tuple(words[at + 1] for at, word in enumerate(words) if word == "-S")
            own = Options(tier="smoke", overrides=cut, limit=int(words[words.index("--limit") + 1])).protocol(name)
            assert own.parts == (own,) and own.variants == (variant,)
            asked = [one for one in trials(whole) if one.case in part.cases and one.variant == variant]
            assert trials(own) == [one for one in asked if one.case in own.cases] and case in own.cases
            assert all(whole.recipes[recipe] == settings for recipe, settings in own.recipes.items())
