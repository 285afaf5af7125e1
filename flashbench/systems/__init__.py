"""Systems: one file per way of making a clip, found by name.

A package adds its own through the entry-point group `flashbench.systems` (name → an object like `base.System`).
"""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import entry_points

from flashbench.errors import UsageError, did_you_mean
from flashbench.systems.base import Request, System, resolve

__all__ = ["Request", "System", "get", "names", "resolve"]


@lru_cache(maxsize=1)
def _registry() -> dict[str, System]:
    from flashbench.systems import controls, cost_model, external, flashvideo, realesrgan, released, stage1, vanilla

    rooms = (controls, flashvideo, vanilla, realesrgan, stage1, released, cost_model, external)
    found: dict[str, System] = {system.name: system for room in rooms for system in room.SYSTEMS}
    for entry in entry_points(group="flashbench.systems"):
        system = entry.load()
        if not isinstance(system, System) or system.name != entry.name or entry.name in found:
            what = f"the entry point {entry.name!r} ({entry.value}) is no system of that name, or takes a name of ours"
            raise UsageError(what, fix="point it at an instance of flashbench.systems.base.System with its own name")
        found[entry.name] = system
    return found


def names() -> tuple[str, ...]:
    """Names of all systems."""
    return tuple(sorted(_registry()))


def get(name: str) -> System:
    """The system called `name`; an unknown one is a `UsageError` with the nearest name."""
    if name not in _registry():
        raise did_you_mean("system", name, _registry())
    return _registry()[name]
