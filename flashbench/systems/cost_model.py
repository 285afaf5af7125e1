"""The paper's designs at their own size, not run here: their cost follows from shapes (see `flashbench cost`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from flashbench.cascade import cost as model
from flashbench.errors import UsageError
from flashbench.systems.base import Request, System
from flashbench.systems.registry import register
from flashbench.types import Clip, Geometry, Settings

DESIGNS = ("stage1", "stage2", *model.SYSTEMS)


class CostModel(System):
    """A design of Figure 1 in FLOP and in seconds on the device of the paper's times.

    Settings: `design` (one of `DESIGNS`), `pixels` (HEIGHTxWIDTH), `frames`, `nfe` (0: the design's own).
    """

    name = "cost_model"
    version = 1
    defaults: ClassVar[Settings] = {"design": "flashvideo", "pixels": "1072x1920", "frames": 49, "nfe": 0}

    def unavailable(self, settings: Settings, recipes: Mapping[str, Mapping[str, Any]]) -> str:
        """Always a reason: only the cost of a design is known."""
        return "not run at this tier: its cost is computed from shapes"

    def check(self, settings: Settings, geometry: Geometry) -> None:
        """The design is known, its size and frames can be made."""
        self._stages(settings)

    def cost(
        self, settings: Settings, geometry: Geometry, recipes: Mapping[str, Mapping[str, Any]]
    ) -> Mapping[str, float]:
        """TFLOP and predicted seconds of the networks, by rates fitted to the paper's five times."""
        stages, device = self._stages(settings), model.rates(None, None, None)
        flop = sum(stage.linear + stage.attention for stage in stages)
        return {"tflop": flop / 1e12, "predicted_seconds": sum(device.seconds(stage) for stage in stages)}

    def make(self, request: Request) -> Clip:
        """Raise UsageError: the cost model makes no clips."""
        raise UsageError("the cost model makes no clips", fix="use the system flashvideo")

    def _stages(self, settings: Settings) -> tuple[model.Stage, ...]:
        size, frames = model.parse_size(str(settings["pixels"])), int(str(settings["frames"]))
        design, nfe = str(settings["design"]), int(str(settings["nfe"])) or None
        if design in ("stage1", "stage2"):
            network, default_nfe = (model.STAGE1, 50) if design == "stage1" else (model.STAGE2, 4)
            return (model.Stage(network, size, frames, nfe or default_nfe),)
        return model.compose(design, size, frames, nfe=nfe)


register(CostModel())
