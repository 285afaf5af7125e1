"""Systems by name: `register` stands where a system is defined; other packages offer theirs by an entry point.

An entry point of the group `flashbench.systems` is called as the system and leads to a `System` instance of that name:

    [project.entry-points."flashbench.systems"]
    my_system = "my_package:MY_SYSTEM"

Our systems are imported, and with them torch, when one is first asked for.
"""

from __future__ import annotations

from flashbench.registry import Registry
from flashbench.systems.base import System

GROUP = "flashbench.systems"
REGISTRY: Registry[System] = Registry("system", System, package=__name__.rpartition(".")[0], group=GROUP)  # type: ignore[type-abstract]

register, names, get = REGISTRY.register, REGISTRY.names, REGISTRY.get
third_party = REGISTRY.third_party
