"""What a run may be told besides the protocol, and where its results lie."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from flashbench.errors import UsageError
from flashbench.protocol.cases import Suite
from flashbench.protocol.compose import load
from flashbench.protocol.own_weights import with_weights
from flashbench.protocol.shards import Shard, take
from flashbench.protocol.types import Protocol


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a run may be told besides the protocol."""

    tier: str = "laptop"
    replicas: tuple[int, ...] = (0,)
    results: Path | None = None
    limit: int | None = None
    """Only the first prompts of the suite, or sources: the override `cases.limit`."""
    workers: int | None = None
    overrides: tuple[str, ...] = ()
    system: str | None = None
    """What `weights` are given to: `flashvideo` unless named."""
    weights: Path | None = None
    """A checkpoint of one's own: one more row."""
    fresh: bool = False
    """Measure again what the store has scores of."""
    shard: Shard | None = None
    """Only this part of the cases, into the store alone: results are made of all."""

    def protocol(self, name: str, suite: Suite | None = None) -> Protocol:
        """The protocol `name` under these options; `suite` as in `protocol.load`."""
        limit = () if self.limit is None else (f"cases.limit={self.limit}",)
        protocol = load(name, self.tier, (*self.overrides, *limit), suite)
        protocol = protocol if self.shard is None else take(protocol, self.shard)
        if self.weights is not None:
            return with_weights(protocol, self.system or "flashvideo", self.weights)
        if self.system is not None:
            raise UsageError("--system is only for a row of --weights, and none are given", fix="add --weights PATH")
        return protocol

    @property
    def root(self) -> Path:
        """Folder of the tier's results; with weights of one's own another, so that they replace nothing."""
        return self.results or Path("results") / ("own" if self.weights else "") / self.tier


def results_folder(options: Options) -> Path:
    """The folder of results to read.

    Raises:
        UsageError: there is no such folder.
    """
    root = options.root
    if not root.is_dir():
        there = sorted(str(path) for path in root.parent.glob("*") if path.is_dir()) if root.parent.is_dir() else []
        close = difflib.get_close_matches(str(root), there, n=1, cutoff=0.4)
        fix = f"did you mean {close[0]}?" if close else "run `flashbench run PROTOCOL` first, or give --results"
        raise UsageError(f"there is no folder {root}", fix=fix)
    return root
