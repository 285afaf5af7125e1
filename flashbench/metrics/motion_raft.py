"""`ewarp_raft`: the warping error under RAFT's optical flow, the E*warp of papers on video super-resolution.

Z. Teed, J. Deng, "RAFT: recurrent all-pairs field transforms for optical flow", ECCV 2020, as torchvision's raft_large.
The star stands for the unit 10⁻³. Papers leave open what EvalCrafter's code does, which STAR's authors name as theirs:
RAFT of 20 updates, frames at half size, squared errors summed over channels, what leaves the frame clamped. Here, as in
`motion.warping_error`: the frames' own size, the mean over channels, what leaves the frame left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from flashbench.errors import InvalidError, MissingAsset, MissingDependency, missing_dependency
from flashbench.metrics import device, motion
from flashbench.metrics.base import About, Pair, Stream
from flashbench.metrics.motion import Flow
from flashbench.metrics.pyiqa.metric import verified
from flashbench.metrics.registry import register
from flashbench.types import Frames, Measurement

WEIGHTS = "raft-large"
SMALLEST = 128
"""Shortest side that the network can take: its coarsest correlations then are 2×2."""


def flow_size(height: int, width: int, longer: int) -> tuple[int, int]:
    """Height and width of the frames that the flow is computed on: the longer side is at most `longer`."""
    scale = min(1.0, longer / max(height, width))
    return round(height * scale), round(width * scale)


def flows(before: Frames, after: Frames, *, network: Any, updates: int, longer: int) -> tuple[Flow, Flow]:
    """Optical flow (x, y) in pixels from `before` to `after` and back: uint8 [H, W, 3] twice → float32 [H, W, 2] twice.

    `network` is torchvision's RAFT. All pairs of pixels of an eighth of the size are correlated, so that memory grows
    with the square of the area: frames go in with a longer side of at most `longer`, and the flow is scaled up. At 960
    that is 0.8 GB for frames of 1080p.

    Raises:
        ValueError: a side that goes in is shorter than `SMALLEST`.
    """
    height, width = before.shape[:2]
    rows, columns = flow_size(height, width, longer)
    if min(rows, columns) < SMALLEST:
        raise ValueError(f"RAFT needs frames of at least {SMALLEST}×{SMALLEST}, not {(rows, columns)}")
    top, left = -rows % 8 // 2, -columns % 8 // 2
    first, second = (_input(frame, rows, columns) for frame in (before, after))
    estimates = []
    for pair in ((first, second), (second, first)):
        small = _run(network, *pair, updates)[top : top + rows, left : left + columns]
        large: Any = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
        estimates.append(np.asarray(large * np.array([width / columns, height / rows], np.float32)))
    return estimates[0], estimates[1]


def _input(frame: Frames, rows: int, columns: int) -> Any:
    """A frame as the network takes it: [1, 3, H, W] from −1 to 1, sides padded at both ends to multiples of 8."""
    import torch

    image: Any = np.ascontiguousarray(frame)
    if image.shape[:2] != (rows, columns):
        image = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA)
    down, right = -rows % 8, -columns % 8
    ends = (down // 2, down - down // 2, right // 2, right - right // 2)
    image = cv2.copyMakeBorder(image, *ends, cv2.BORDER_REPLICATE)
    return (torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255 - 0.5) / 0.5


def _run(network: Any, first: Any, second: Any, updates: int) -> Flow:
    import torch

    with torch.inference_mode():
        where = next(network.parameters()).device
        flow = network(first.to(where), second.to(where), num_flow_updates=updates)[-1][0]
    network.corr_block.corr_pyramid = []  # most of the memory, which it would hold until the next pair's is made
    return np.ascontiguousarray(flow.permute(1, 2, 0).cpu().numpy())


@lru_cache(maxsize=1)
def _network(path: Path, sha256: str, where: str) -> Any:
    """The network of a verified file; kept for the next clip of this process. Other content, another entry."""
    import torch
    from torchvision.models.optical_flow import raft_large  # type: ignore[import-untyped]

    from flashbench.metrics.pyiqa.networks import read

    with torch.device("meta"):  # neither draws random weights nor holds them
        network = raft_large(weights=None, progress=False)
    try:
        network.load_state_dict(read(path, WEIGHTS), assign=True)
    except (RuntimeError, TypeError) as error:
        raise InvalidError(
            f"asset {WEIGHTS} does not hold raft_large's weights: {str(error)[:300]}", fix="see its registry entry"
        ) from error
    return network.eval().to(where)


@dataclass(frozen=True, kw_only=True)
class RaftWarpingError(motion.Transitions):
    """1000 times `motion.warping_error` under RAFT's flow; pairs of frames without a visible pixel are left out."""

    @property
    def libraries(self) -> tuple[str, ...]:
        """The distributions that RAFT computes with: torch, and torchvision, whose network it is."""
        return ("torch", "torchvision")

    @property
    def undefined_frame(self) -> str:
        """Why a pair of frames has no warping error, in the words of the one by DIS flow."""
        return motion.WARPING_ERROR.undefined_frame

    def undefined(self, about: About) -> str:
        """Why a clip has no warping error: RAFT cannot take frames so small; empty where it has one."""
        rows, columns = flow_size(*about.shape[1:], self._declared("flow_longer_side"))
        if min(rows, columns) >= SMALLEST:
            return ""
        smaller = "" if (rows, columns) == about.shape[1:] else f", and sees {rows}×{columns}"
        return f"clip is {about.size}: RAFT needs frames of at least {SMALLEST}×{SMALLEST}{smaller}"

    def built(self) -> Any:
        """RAFT with its weights, on the current device; kept for the next clip of this process.

        Raises:
            MissingAsset, IntegrityError: its file is not here, or not what the registry says.
            MissingDependency: torch or torchvision is not installed.
        """
        from flashbench.assets import registry

        path = verified(WEIGHTS)
        try:
            return _network(path, registry.get(WEIGHTS).sha256, device.current())
        except ModuleNotFoundError as error:
            absent = missing_dependency(error)
            if absent is None:
                raise
            raise absent from error

    def stream(self, about: About) -> Stream:
        """Mean over a clip's pairs of neighbouring frames.

        NaN: weights or torch absent, frames too small, a single frame, no pair with a visible pixel.
        """
        if reason := self.undefined(about):
            return Measurement.missing(reason)
        try:
            self.built()
        except MissingAsset:
            return Measurement.missing(f"weights not present: flashbench assets pull {WEIGHTS}")
        except MissingDependency as error:
            return Measurement.missing(str(error))
        return (yield from super().stream(about))

    def transition(self, before: Pair, after: Pair) -> float:
        """`motion.warping_error` between two neighbouring frames under RAFT's flow, in 10⁻³."""
        updates, longer = self._declared("flow_updates"), self._declared("flow_longer_side")
        flow = partial(flows, network=self.built(), updates=updates, longer=longer)
        return 1000 * motion.warping_error(before.frame, after.frame, flow)

    def _declared(self, name: str) -> int:
        return int(str(self.preprocessing[name]))


EWARP_RAFT = RaftWarpingError(
    name="ewarp_raft",
    direction="lower",
    unit="10⁻³",
    range=(0.0, 1000.0),
    scale="log",
    preprocessing={
        **motion.WARPING_ERROR.preprocessing,
        "flow": "torchvision raft_large, weights C_T_SKHT_V2, on rgb from -1 to 1",
        "flow_updates": 12,
        "flow_longer_side": 960,
        "flow_resize": "frames by area to the longer side, never up; padded to multiples of 8 at both ends, replicate; "
        "flow bilinear and scaled back",
        "scale": 1000,
    },
    assets=(WEIGHTS,),
    licence="weights and torchvision: BSD-3-Clause; this implementation: Apache-2.0",
)
register(EWARP_RAFT)
