"""One's own protocol, from an empty folder outside the repository."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import flashbench
from flashbench.errors import UsageError
from flashbench.protocol import compose, own_file
from flashbench.protocol.compose import names

HEAD = "defaults:\n  - tier: laptop\n  - _self_\n\n"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_start_loads_at_every_tier_and_reads_as_it_says() -> None:
    assert own_file.begin("mine", names()) == Path("mine.yaml")
    for tier, rows in (("smoke", 3), ("laptop", 3)):
        protocol = flashbench.load_protocol("mine.yaml", tier=tier)
        assert (protocol.name, protocol.table, protocol.tier, protocol.published["v1"]) == ("mine", "", tier, {})
        assert sum(variant.row.startswith("degradation_step") for variant in protocol.variants) == rows
        assert flashbench.load_protocol("mine", tier=tier).hash == protocol.hash
    # Every field that the start shows is one that a protocol has.
    assert yaml.safe_load(Path("mine.yaml").read_text())["baseline"] == "degradation_step=675"


def test_a_path_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    path = own_file.begin("mine", names(), tmp_path / "deep" / "er")
    assert flashbench.load_protocol(str(path), tier="smoke").name == "mine"
    with pytest.raises(UsageError, match="unknown protocol 'mine'"):
        flashbench.load_protocol("mine", tier="smoke")


def edited(old: str, new: str) -> str:
    text = own_file.START.format(name="mine")
    assert old in text
    Path("mine.yaml").write_text(text.replace(old, new))
    return "mine.yaml"


@pytest.mark.parametrize(
    ("old", "new", "said", "fix"),
    [
        ("primary:", "primery:", "unknown field in mine.yaml: 'primery'", "did you mean 'primary'"),
        ("[niqe, psnr, ssim]", "[niqe, psnrr, ssim]", "unknown metric 'psnrr'", "did you mean 'psnr'"),
        ("system: flashvideo ", "system: flashvidio ", "unknown system 'flashvidio'", "did you mean 'flashvideo'"),
        ("name: mine", "name: other", "calls itself 'other'", "write `name: mine`"),
        ("baseline: degradation_step=675", "baseline: degradation_step=676", "unknown", "did you mean"),
        ("  - tier: laptop ", "  - teir: laptop ", "on which tier", "defaults:"),
        ("title: What", "title: 'What", "not valid YAML", "mend that line"),
    ],
)
def test_mistakes_are_told_with_the_files_name(old: str, new: str, said: str, fix: str) -> None:
    with pytest.raises(UsageError) as caught:
        flashbench.load_protocol(edited(old, new), tier="smoke")
    assert said in caught.value.what and fix in caught.value.fix


def test_names_that_are_taken_or_none() -> None:
    for name in ("nfe", "a b", "../a", ""):
        with pytest.raises(UsageError):
            own_file.begin(name, names())
    Path("nfe.yaml").write_text(HEAD)
    with pytest.raises(UsageError, match="bears the name of a protocol that is here"):
        flashbench.load_protocol("nfe.yaml", tier="smoke")
    assert flashbench.load_protocol("nfe", tier="smoke").table == "Table 8"
    own_file.begin("mine", names())
    with pytest.raises(UsageError, match="already"):
        own_file.begin("mine", names())
    with pytest.raises(UsageError, match=r"there is no file other\.yaml"):
        flashbench.load_protocol("other.yaml", tier="smoke")
    Path("mine.yaml").rename("mine.yml")
    with pytest.raises(UsageError, match=r"is not called \.yaml"):
        flashbench.load_protocol("mine.yml", tier="smoke")


def test_every_field_is_on_the_page() -> None:
    text = (Path(compose.__file__).parents[2] / "docs" / "protocols.md").read_text()
    page = text[text.index("| field | holds |") : text.index("## Sets of cases")]
    assert set(re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in page.splitlines() if "|" in line))) >= {
        *compose._FIELDS
    }


def test_it_runs_from_an_empty_folder(tmp_path: Path) -> None:
    def call(*arguments: str) -> str:
        command = [sys.executable, "-P", "-m", "flashbench.cli", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=os.environ)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "mine.yaml" in call("protocol", "new", "mine")
    call("run", "mine.yaml", "--tier", "smoke")
    text = (tmp_path / "results/smoke/tables/mine.md").read_text()
    assert (
        text.startswith("# What stronger noise at the start does, smoke tier")
        and "of the paper" not in text.split("\n")[0]
    )
    assert "degradation_step=600" in text
    call("show", "mine/bicubic", "--tier", "smoke")
    call("gate", "mine", "--tier", "smoke", "--baseline", "results/smoke/mine/scores.parquet")
    call("audit", "results", "mine", "--tier", "smoke")
    assert "mine at smoke" in call("plan", "mine.yaml", "--tier", "smoke")
