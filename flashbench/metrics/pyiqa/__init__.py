"""Metrics of pyiqa, and the networks of ours that stand in for it."""

from __future__ import annotations

from flashbench.metrics.pyiqa.metric import DISTS, LEARNED, LPIPS, LPIPS_VGG

__all__ = ["DISTS", "LEARNED", "LPIPS", "LPIPS_VGG"]
