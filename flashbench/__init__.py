"""FlashBench: reproducible evaluation of the FlashVideo cascade and of what it is compared with.

The stable API is what `__all__` names; a test holds its signatures.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flashbench.protocol import load_protocol
    from flashbench.reporting.read import claims, figure, results
    from flashbench.videos.compare import compare
    from flashbench.videos.score import score
    from flashbench.videos.scorer import Scorer

__all__ = ["Scorer", "__version__", "claims", "compare", "figure", "load_protocol", "results", "score"]

_HOMES = {
    "Scorer": "flashbench.videos.scorer",
    "claims": "flashbench.reporting.read",
    "compare": "flashbench.videos.compare",
    "figure": "flashbench.reporting.read",
    "load_protocol": "flashbench.protocol",
    "results": "flashbench.reporting.read",
    "score": "flashbench.videos.score",
}

try:
    __version__ = version("flashbench")
except PackageNotFoundError:  # used from a source tree that was never installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    # Lazy, so that `import flashbench` and `flashbench --help` load neither Hydra nor the metrics.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'flashbench' has no attribute {name!r}")
