"""What scoring a set of videos gave: the table, the record in run.json, the estimates."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashbench import keys, stats
from flashbench.metrics.vbench.metric import in_suite
from flashbench.scores.clusters import by_content
from flashbench.version import __version__
from flashbench.videos.find import Video
from flashbench.videos.read import reader
from flashbench.videos.settings import Wanted

if TYPE_CHECKING:
    import pandas as pd

RECORD, SCHEMA = "run.json", 1
"""Name of a run's record, and the version of its form."""


_LIBRARIES = ("numpy", "scipy", "av", "pandas", "pyarrow", "torch", "torchvision", "timm", "pyiqa", "vbench")


@dataclass(kw_only=True)
class Run:
    """What scoring a set of videos gave."""

    label: str
    """The folder's name: `row` in the table."""
    wanted: Wanted
    videos: list[Video]
    table: pd.DataFrame
    """A row for each video and metric, in the order of `scoring.COLUMNS`."""
    about: list[dict[str, Any]]
    """For each video what its file is, or the reason why it cannot be read."""
    declared: dict[str, Any] = field(default_factory=dict)
    """Margins and primary metrics for a gate whose baseline this becomes."""
    remarks: list[str] = field(default_factory=list)
    """What a user should know besides: prompts without a video and the like."""

    @property
    def unreadable(self) -> list[tuple[str, str]]:
        """(video, reason) of inputs that could not be read, or whose scoring failed."""
        return [(entry["case"], entry["reason"]) for entry in self.about if entry["reason"]]

    @cached_property
    def estimates(self) -> list[stats.Estimate]:
        """Each metric's mean over the videos with its interval, in the order of the metrics; equal clips count once."""
        of, table = len(self.videos), by_content(self.table)
        return [stats.estimate(table, metric, self.label, of=of) for metric in self.wanted.metrics]

    @property
    def suite(self) -> str:
        """Where the prompts come from as far as it is known: `vbench`, `own`, `unknown`, or empty without prompts."""
        prompts = {video.prompt for video in self.videos if video.prompt}
        return {True: "vbench", False: "own", None: "unknown"}[in_suite(prompts)] if prompts else ""

    def record(self) -> dict[str, Any]:
        """Content of run.json: all that decided the numbers, and where each came from."""
        return {
            "schema": SCHEMA,
            "protocol": self.wanted.protocol,
            "protocol_hash": self.wanted.hash,
            "settings": self.wanted.settings,
            "metrics": self.wanted.about_metrics(),
            "reader": reader(),
            "numerics": keys.scoring_class(*self.wanted.libraries, device=self.wanted.device),
            "versions": {
                "flashbench": __version__,
                "python": platform.python_version(),
                **keys.versions(*_LIBRARIES),
            },
            "command": ["flashbench", *sys.argv[1:]] if Path(sys.argv[0]).name.startswith("flashbench") else [],
            "row": self.label,
            "suite": self.suite,
            "declared": self.declared,
            "remarks": self.remarks,
            "videos": self.about,
        }
