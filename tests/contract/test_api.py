"""The stable API: names and signatures change only together with this file and the changelog."""

from __future__ import annotations

import inspect

import flashbench
from flashbench.protocol.types import Protocol


def test_names_are_the_promised_ones() -> None:
    assert flashbench.__all__ == [
        "Scorer", "__version__", "claims", "claims_figure", "compare", "contact", "differences", "differences_figure",
        "drift", "figure", "load_protocol", "missing", "results", "score", "side_by_side", "summary", "verdicts",
        "wide",
    ]  # fmt: skip


def test_signatures_are_the_promised_ones() -> None:
    signature = "(name: 'str', *, tier: 'str' = 'laptop', overrides: 'Sequence[str]' = ()) -> 'Protocol'"
    assert str(inspect.signature(flashbench.load_protocol)) == signature
    where = "*, tier: 'str' = 'laptop', root: 'str | Path | None' = None, replicas: 'bool' = False)"
    plain, of = f"(protocol: 'str', {where}", "metric: 'str | None' = None, than: 'str | None' = None"
    returned = {
        **dict.fromkeys(("results", "claims", "missing", "verdicts"), (plain, "pd.DataFrame")),
        **dict.fromkeys(("figure", "claims_figure"), (plain, "Drawing")),
        "contact": (plain, "Sheet"),
        "side_by_side": (f"(protocol: 'str', metrics: 'Sequence[str]' = (), {where}", "pd.DataFrame"),
        "differences": (f"(protocol: 'str', {of}, {where}", "pd.DataFrame"),
        "differences_figure": (f"(protocol: 'str', {of}, {where}", "Drawing"),
        "summary": ("(table: 'pd.DataFrame', metrics: 'Iterable[Metric]' = ())", "pd.DataFrame"),
        "wide": ("(table: 'pd.DataFrame')", "pd.DataFrame"),
    }
    for name, (taken, kind) in returned.items():
        assert str(inspect.signature(getattr(flashbench, name))) == f"{taken} -> '{kind}'"


def test_it_works_as_promised() -> None:
    assert isinstance(flashbench.load_protocol("nfe", tier="smoke"), Protocol)
