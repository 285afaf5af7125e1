"""Arguments of the pipeline as the paper's tables or the released script have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flashbench.cascade import sampling

PRESETS: Mapping[str, dict[str, Any]] = {
    name: {
        "num_inference_steps": sampling.STAGE1_PRESETS[name]["steps"],
        "guidance_scale": sampling.STAGE1_PRESETS[name]["guidance"],
        "refine_inference_steps": stage2["nfe"],
        "refine_guidance_scale": stage2["guidance"],
        "degradation_step": stage2["degradation_step"],
        "shift": stage2["shift"],
        "rounding": stage2["rounding"],
        "tiles": "release" if name == "release" else "none",
    }
    for name, stage2 in sampling.STAGE2_PRESETS.items()
}
"""Arguments of a call as the paper's tables or the released script have them: `pipe(prompt, **PRESETS["release"])`."""
PREVIEW_PRESETS = {
    name: {key: preset[key] for key in ("num_inference_steps", "guidance_scale")} for name, preset in PRESETS.items()
}
"""The same for `preview`."""
REFINE_PRESETS = {
    name: {
        "num_inference_steps": preset["refine_inference_steps"],
        "guidance_scale": preset["refine_guidance_scale"],
        **{key: preset[key] for key in ("degradation_step", "shift", "rounding", "tiles")},
    }
    for name, preset in PRESETS.items()
}
"""The same for `refine`."""
