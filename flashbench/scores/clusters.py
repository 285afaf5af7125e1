"""The unit of statistics: what is alike counts once. Clips of one prompt or source, and clips of equal content."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import pandas as pd

Item = TypeVar("Item", bound=Hashable)


def joined(ties: Mapping[Item, Iterable[Hashable]]) -> dict[Item, Item]:
    """Item → the first item of its cluster: items that share a tie are in one, and so are those that these tie on to.

    Args:
        ties: of each item what it may share: its prompt, the digest of its clip.
    """
    above: dict[Item, Item] = {item: item for item in ties}

    def top(item: Item) -> Item:
        while above[item] != item:
            above[item] = item = above[above[item]]
        return item

    holders: dict[Hashable, Item] = {}
    place = {item: number for number, item in enumerate(ties)}
    for item, shared in ties.items():
        for tie in shared:
            one, other = sorted((top(item), top(holders.setdefault(tie, item))), key=place.__getitem__)
            above[other] = one
    return {item: top(item) for item in ties}


def by_content(table: pd.DataFrame) -> pd.DataFrame:
    """A table of scores of one row whose clusters that share an equal clip (`clip`) are one: a file under two names."""
    pairs = table[["cluster", "clip"]].drop_duplicates()
    ties: dict[str, set[str]] = {}
    for cluster, clip in zip(pairs["cluster"].astype(str), pairs["clip"].astype(str), strict=True):
        ties.setdefault(cluster, set()).update({clip} - {""})
    return table.assign(cluster=table["cluster"].astype(str).map(joined(ties)))
