"""What is wrong with a comparison is said before hours of scoring, not after."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from flashbench.comparison.compare import compare_runs
from flashbench.errors import UsageError


@pytest.mark.parametrize(
    ("sources", "options", "said"),
    [
        (["A"], {}, "a comparison needs two runs, and one is given"),
        (["A", "gone"], {}, "gone is not there"),
        (["A", "B"], {"baseline": "C"}, "unknown baseline 'C'"),
        (["A", "B"], {"metrics": ["niqq"]}, "unknown metric 'niqq'"),
        (["A", "B"], {"margin": {"nique": 0.1}}, "unknown metric with a margin 'nique'"),
        (["A", "B"], {"pairs": "gone.csv"}, "no way of pairing called 'gone.csv'"),
        (["A", "B"], {"pairs": "prompt"}, "videos without prompts"),
    ],
)
def test_nothing_is_scored_before_the_call_is_right(
    sources: list[str], options: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("A", "B"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "clip.mp4").write_bytes(b"")
    monkeypatch.setattr("flashbench.comparison.compare.load", lambda *_, **__: pytest.fail("scored"))
    with pytest.raises(UsageError, match=re.escape(said)):
        compare_runs([("", name) for name in sources], **options)
