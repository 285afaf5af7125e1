"""Systems of the paper's tables that no code here runs: rows that say what is missing until an adapter is there.

Each has released weights and code of its own, which cannot share this environment. Clips that its own code made can be
scored all the same: `flashbench score DIR`, `flashbench compare A B`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flashbench.errors import UsageError
from flashbench.systems.base import Request, System
from flashbench.systems.registry import register
from flashbench.types import Clip, Settings


@dataclass(frozen=True)
class Elsewhere(System):
    """A system of the paper's tables that only its authors' code can run."""

    name: str  # type: ignore[misc]  # a field here, a class variable in `System`
    weights: str
    """Where its weights are released, and under which licence."""

    version = 1

    def unavailable(self, settings: Settings, recipes: Mapping[str, Mapping[str, Any]]) -> str:
        """Always a reason: the system has no adapter here."""
        return f"no adapter yet; weights: {self.weights}; score its own clips with `flashbench score`"

    def make(self, request: Request) -> Clip:
        """Raise UsageError: the system has no adapter here."""
        raise UsageError(f"{self.name} has no adapter", fix="run its own code, then `flashbench score` on its clips")


register(
    Elsewhere("hunyuanvideo", "tencent/HunyuanVideo (its own licence)"),
    Elsewhere("vchitect", "Vchitect/Vchitect-XL-2B (Apache-2.0), with VEnhancer (no licence file)"),
    Elsewhere("cogvideox_1.5", "THUDM/CogVideoX1.5-5B (CogVideoX licence)"),
    Elsewhere("cogvideox_5b", "THUDM/CogVideoX-5b (CogVideoX licence)"),
    Elsewhere("cogvideox_2b", "THUDM/CogVideoX-2b (Apache-2.0)"),
    Elsewhere("mochi_1", "genmo/mochi-1-preview (Apache-2.0)"),
    Elsewhere("ltx_video", "Lightricks/LTX-Video 0.9 (its own licence)"),
    Elsewhere("opensora_1.2", "hpcai-tech/OpenSora-STDiT-v3 (Apache-2.0)"),
    Elsewhere("opensoraplan_1.1", "LanguageBind/Open-Sora-Plan-v1.1.0 (MIT)"),
    Elsewhere(
        "flashvideo_24fps", "FlashVideo, its clips interpolated to 24 fps by RIFE (Huang 2022), which is not here"
    ),
    Elsewhere("realbasicvsr", "RealBasicVSR_x4 (Apache-2.0)"),
    Elsewhere("upscale_a_video", "Upscale-A-Video (S-Lab 1.0, non-commercial)"),
    Elsewhere("venhancer", "jwhejwhe/VEnhancer (no licence file)"),
)
