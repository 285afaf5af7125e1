"""DOVER (Wu 2023): its network, views of a video, scores, and the metrics made of them."""

from __future__ import annotations

from flashbench.metrics.dover.metric import DOVER

__all__ = ["DOVER"]
