"""The stable API: names and signatures change only together with this file and the changelog."""

from __future__ import annotations

import inspect

import flashbench
from flashbench.protocol.types import Protocol


def test_names_are_the_promised_ones() -> None:
    assert flashbench.__all__ == [
        "Scorer", "__version__", "claims", "compare", "drift", "figure", "load_protocol", "results", "score",
    ]  # fmt: skip


def test_signatures_are_the_promised_ones() -> None:
    signature = "(name: 'str', *, tier: 'str' = 'laptop', overrides: 'Sequence[str]' = ()) -> 'Protocol'"
    assert str(inspect.signature(flashbench.load_protocol)) == signature
    reading = "(protocol: 'str', *, tier: 'str' = 'laptop', root: 'str | Path | None' = None, replicas: 'bool' = False)"
    returned = {"results": "pd.DataFrame", "claims": "pd.DataFrame", "figure": "Drawing"}
    for name, kind in returned.items():
        assert str(inspect.signature(getattr(flashbench, name))) == f"{reading} -> '{kind}'"


def test_it_works_as_promised() -> None:
    assert isinstance(flashbench.load_protocol("nfe", tier="smoke"), Protocol)
