"""Pins the identity of code: which version of a system, metric or recipe is which arithmetic.

    python tools/identity.py check                      differences between the code and the pins
    python tools/identity.py pin                        accept new versions
    python tools/identity.py pin --no-numbers-moved     accept other code under the same version: you vouch for it

A changed import closure under an unchanged version fails the test suite, because the store would go on serving what
the old code made.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from flashbench import keys

Pins: TypeAlias = Mapping[str, Mapping[str, int | str]]

PINS = Path("tests/contract/code_identity.json")

WORDS = frozenset(
    f"flashbench{name}"
    for name in (
        "",
        ".assets",
        ".assets.download",
        ".assets.registry",
        ".errors",
        ".metrics.registry",
        ".metrics.requirements",
        ".paths",
        ".progress",
        ".registry",
        ".systems.registry",
        ".types",
    )
)
"""Modules that say, find or carry things and compute nothing; `Clip.digest` is held by a golden test of its own."""


def components() -> dict[str, tuple[str, int]]:
    """Name → (module, version) of everything whose version enters a key."""
    from flashbench import metrics, systems
    from flashbench.data import material
    from flashbench.laptop import settings
    from flashbench.run.identity import NOISE_RECIPE

    things: dict[str, Any] = {f"system {name}": systems.get(name) for name in systems.names()}
    things |= {f"metric {name}": metrics.get(name) for name in metrics.names()}
    found = {name: (type(thing).__module__, int(thing.version)) for name, thing in things.items()}
    found["recipes"] = ("flashbench.laptop.recipes", settings.VERSION)
    found["material"] = ("flashbench.data.material", material.VERSION)
    found["noise"] = ("flashbench.systems.inputs", NOISE_RECIPE)
    return found


def current() -> dict[str, dict[str, int | str]]:
    """The pins that the code as it is would have."""
    return {
        name: {"version": version, "closure": keys.closure_hash(module, stop=WORDS)}
        for name, (module, version) in sorted(components().items())
    }


def findings(pinned: Pins, now: Pins) -> list[str]:
    """One line per component whose code or version is not the pinned one."""
    lines = []
    for name in sorted(set(pinned) | set(now)):
        if name not in pinned or name not in now:
            lines.append(f"{name}: {'new' if name in now else 'gone'}; run `python tools/identity.py pin`")
        elif now[name]["version"] != pinned[name]["version"]:
            version = now[name]["version"]
            lines.append(f"{name}: version {version} is not pinned; run `python tools/identity.py pin`")
        elif now[name]["closure"] != pinned[name]["closure"]:
            how = "bump the version, or, if no number moved, run `python tools/identity.py pin --no-numbers-moved`"
            lines.append(f"{name}: its code changed under version {now[name]['version']}; {how}")
    return lines


def main(arguments: list[str]) -> int:
    """Run `check` or `pin`; 0 done, 1 findings, 2 wrong call."""
    now = current()
    pinned: Pins = json.loads(PINS.read_text(encoding="utf-8")) if PINS.exists() else {}
    lines = findings(pinned, now)
    if arguments == ["check"]:
        print("\n".join(lines) or "code and pins agree")
        return 1 if lines else 0
    if arguments[:1] != ["pin"] or arguments[1:] not in ([], ["--no-numbers-moved"]):
        print(__doc__, file=sys.stderr)
        return 2
    silent = [line for line in lines if "under version" in line]
    if silent and not arguments[1:]:
        print("\n".join(silent), file=sys.stderr)
        return 1
    PINS.write_text(json.dumps(now, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
