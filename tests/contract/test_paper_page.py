"""docs/paper.md: every number of it is printed by a command that it names, and its downloads are the registry's."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flashbench.assets import registry
from flashbench.cli.program import app
from flashbench.planning import stand_ins
from flashbench.planning.dry_run import needed
from flashbench.protocol.compose import names
from flashbench.run.options import Options

PAGE = (Path(__file__).parents[2] / "docs/paper.md").read_text("utf-8")
FENCES = re.findall(r"^```console\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
RENEW = "docs/paper.md is not what its command prints: copy the command's output into it"


@pytest.fixture(autouse=True)
def _bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has nothing yet."""
    monkeypatch.setenv("FLASHBENCH_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("FLASHBENCH_CACHE", str(tmp_path / "cache"))


def printed(command: str) -> str:
    done = CliRunner().invoke(app, shlex.split(command)[1:])
    assert done.exit_code == 0, done.output
    return str(done.stdout)


def shown() -> dict[str, list[str]]:
    """Command → the lines that the page shows of its output, of those that have any."""
    found: dict[str, list[str]] = {}
    for fence in FENCES:
        command = ""
        for line in fence.splitlines():
            if line.startswith("$ "):
                command = line[2:].partition("  #")[0].strip()
            elif line:
                found.setdefault(command, []).append(line)
    return found


def tables(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")]


def prose() -> str:
    """The page without its blocks of commands, tables, notes of VBench and code in the text."""
    text = re.sub(r"^```console\n.*?^```$", "", PAGE, flags=re.MULTILINE | re.DOTALL)
    text = "\n".join(line for line in text.splitlines() if not line.startswith(("|", "- ", "#")))
    return re.sub(r"`[^`]*`", "", text)


def test_the_downloads_are_what_the_paper_tier_reads() -> None:
    wanted = {asset for name in names() for asset in needed(Options(tier="paper").protocol(name, stand_ins.suite))}
    (line,) = (line for line in PAGE.splitlines() if line.startswith("$ flashbench assets pull clip"))
    words = shlex.split(line)[4:]
    assert words.pop() == "--trust-first-use" and words == sorted(wanted)
    listed = registry.current()
    assert any(listed.get(name).sha256 == registry.UNKNOWN for name in words), "or the option is not needed"
    rows = {cells[1].strip("` "): cells for cells in (line.split("|") for line in tables(PAGE)) if cells[1][1:2] == "`"}
    assert set(rows) == {name.partition("/")[0] for name in words}
    for name in words:
        entry, cells = listed.get(name), rows[name.partition("/")[0]]
        assert entry.licence in cells[4] and ("**non-commercial**" in cells[4]) == entry.non_commercial
    for row, cells in rows.items():
        entries = [listed.get(name) for name in words if name.partition("/")[0] == row]
        sizes = [entry.bytes for entry in entries]
        assert int(cells[2]) == len(entries)
        if None not in sizes:
            assert cells[3].strip() == f"{sum(filter(None, sizes)) / 1e9:.3f}"
        else:
            assert cells[3].strip() == "unknown" or cells[3].strip().startswith("≈")


def test_the_time_of_a_clip_is_what_cost_prints() -> None:
    (lines,) = (lines for command, lines in shown().items() if command == "flashbench cost flashvideo")
    assert lines == [line.rstrip() for line in printed("flashbench cost flashvideo").splitlines() if line], RENEW


def test_numbers_in_the_text_are_those_of_its_tables() -> None:
    """In the text itself stand only numbers that a table, a command or its output has, too."""
    known = set(re.findall(r"\d[\d,.]*\d|\d", "\n".join([*tables(PAGE), *FENCES])))
    assert [number for number in re.findall(r"\d[\d,.]*\d|\d", prose()) if number not in known | {"1.14"}] == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_hours_disk_and_memory_are_what_plan_prints() -> None:
    text = printed("flashbench plan all --tier paper")
    grids = tables(text)
    assert len(grids) > 30 and sorted(tables(PAGE)) == sorted(grids), RENEW
    for paragraph in text.split("\n\n"):
        if not paragraph.startswith(("#", "|", "Prompts:")):
            assert paragraph.strip() in PAGE, RENEW


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_shard_is_what_plan_prints() -> None:
    (command,) = (command for command in shown() if "--shard" in command)
    output = printed(command).splitlines()
    assert [line for line in shown()[command] if line not in output] == [], RENEW
