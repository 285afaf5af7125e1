"""Tables, figures and claims follow from the scores that are in git: a clone makes them without any clip."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support import smoke

from flashbench.run.options import Options
from flashbench.run.phases import run_protocols


def test_the_tables_of_a_clone_need_no_clips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = Path("results/smoke/guidance/scores.parquet")
    (tmp_path / scores).parent.mkdir(parents=True)
    shutil.copy(smoke.ROOT / scores, tmp_path / scores)
    with smoke.inside(tmp_path):
        run_protocols(["guidance"], ("tables",), Options(tier="smoke", workers=0))
    made = tmp_path / "results/smoke"
    assert (made / "tables/guidance.md").stat().st_size and (made / "guidance/claims.json").stat().st_size
    assert not (made / "guidance/contact.png").exists()
    assert "no contact sheet: results/smoke/guidance/clips.jsonl is not here" in capsys.readouterr().err
