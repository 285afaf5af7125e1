"""VBench and VBench-Long: everything of them that is arithmetic or format, and the driver of the isolated worker.

Z. Huang et al., "VBench: Comprehensive Benchmark Suite for Video Generative Models", CVPR 2024. Written from its
documented behaviour, not from its source. Values are in 0 … 1 unless a name says percent; no module here needs torch.
"""

from __future__ import annotations

from flashbench.metrics.vbench.flicker import TEMPORAL_FLICKERING
from flashbench.metrics.vbench.metric import through_vbench

__all__ = ["TEMPORAL_FLICKERING", "through_vbench"]
