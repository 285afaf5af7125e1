"""FlashBench: reproducible evaluation of the FlashVideo cascade and of what it is compared with.

The stable API is what `__all__` names; a test holds its signatures.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from flashbench.version import __version__

if TYPE_CHECKING:
    from flashbench.comparison.compare import compare
    from flashbench.drifting.drift import drift
    from flashbench.protocol.compose import load_protocol
    from flashbench.reporting.drawings import claims_figure, contact, differences_figure, figure
    from flashbench.reporting.reading import differences, missing, side_by_side, verdicts
    from flashbench.reporting.results import claims, results
    from flashbench.scores.reading import summary, wide
    from flashbench.videos.score import score
    from flashbench.videos.scorer import Scorer

__all__ = [
    "Scorer", "__version__", "claims", "claims_figure", "compare", "contact", "differences", "differences_figure",
    "drift", "figure", "load_protocol", "missing", "results", "score", "side_by_side", "summary", "verdicts", "wide",
]  # fmt: skip

_HOMES = {
    "Scorer": "flashbench.videos.scorer",
    "claims": "flashbench.reporting.results",
    "claims_figure": "flashbench.reporting.drawings",
    "compare": "flashbench.comparison.compare",
    "contact": "flashbench.reporting.drawings",
    "differences": "flashbench.reporting.reading",
    "differences_figure": "flashbench.reporting.drawings",
    "drift": "flashbench.drifting.drift",
    "figure": "flashbench.reporting.drawings",
    "load_protocol": "flashbench.protocol.compose",
    "missing": "flashbench.reporting.reading",
    "results": "flashbench.reporting.results",
    "score": "flashbench.videos.score",
    "side_by_side": "flashbench.reporting.reading",
    "summary": "flashbench.scores.reading",
    "verdicts": "flashbench.reporting.reading",
    "wide": "flashbench.scores.reading",
}


def __getattr__(name: str) -> Any:
    # Lazy, so that `import flashbench` and `flashbench --help` load neither Hydra nor the metrics.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'flashbench' has no attribute {name!r}")
