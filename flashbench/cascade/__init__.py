"""FlashVideo's cascade in diffusers form (arXiv 2502.05179). Knows nothing of benchmarking.

Latents are (B, T, C, H, W), contexts (B, L, D), pixel frames (B, C, T, H, W) in [-1, 1] throughout.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flashbench.cascade.pipeline import FlashVideoPipeline, FlashVideoPipelineOutput
    from flashbench.cascade.presets import PRESETS, PREVIEW_PRESETS, REFINE_PRESETS

__all__ = ["PRESETS", "PREVIEW_PRESETS", "REFINE_PRESETS", "FlashVideoPipeline", "FlashVideoPipelineOutput"]


def __getattr__(name: str) -> Any:
    # Imported when asked for: the laptop tier uses parts of this package and should not wait for transformers.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from flashbench.cascade import pipeline, presets

    return getattr(presets if name.endswith("PRESETS") else pipeline, name)
