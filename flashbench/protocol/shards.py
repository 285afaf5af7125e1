"""A part of a protocol's cases, for one of several machines: what each makes lies in its store under the same keys."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from flashbench.errors import UsageError
from flashbench.protocol.types import Protocol


@dataclass(frozen=True)
class Shard:
    """The `number`th (from 1) of `of` parts, which have every case once."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


def parse(text: str) -> Shard:
    """The shard `2/8`.

    Raises:
        UsageError: it has another form, or there is no such part.
    """
    match = re.fullmatch(r"([1-9]\d{0,5})/([1-9]\d{0,5})", text)
    if not match or int(match[1]) > int(match[2]):
        raise UsageError(f"invalid --shard {text!r}", fix="write NUMBER/OF, from 1/8 to 8/8 for eight machines")
    return Shard(int(match[1]), int(match[2]))


def take(protocol: Protocol, shard: Shard) -> Protocol:
    """The protocol on every `of`th case of each set, from the `number`th on; a set without any is left out.

    Its hash stays: no key of a clip or a score knows of other cases.

    Raises:
        UsageError: the protocol's own cases are fewer than the shards.
    """
    if shard.of > len(protocol.cases):
        what = f"{protocol.name} has {len(protocol.cases)} cases, fewer than {shard.of} shards"
        raise UsageError(what, fix=f"use at most --shard {len(protocol.cases)}/{len(protocol.cases)}")
    parts = [replace(part, cases=part.cases[shard.number - 1 :: shard.of]) for part in protocol.sets]
    own = protocol.cases[shard.number - 1 :: shard.of]
    return replace(protocol, cases=own, sets=tuple(part for part in parts if part.cases))
