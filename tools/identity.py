"""Pins the identity of code: which version of a system, metric or recipe is which arithmetic.

    python tools/identity.py check                      differences between the code and the pins
    python tools/identity.py pin                        accept new versions
    python tools/identity.py pin --no-numbers-moved     accept other code under the same version: you vouch for it

A changed import closure under an unchanged version fails the test suite, because the store would go on serving what
the old code made. Versions are pinned in versions.yaml, where DVC reads them; hashes of closures in a file that only
the tests read.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from flashbench import keys
from flashbench.protocol.types import Protocol

Pins: TypeAlias = Mapping[str, Mapping[str, int | str]]
"""Component → its `version` and the hash of its `closure`."""

PINS = Path("tests/contract/code_identity.json")
"""Component → the hash of its closure."""

PIN = "run `.venv/bin/python tools/identity.py pin`"

VERSIONS = Path("versions.yaml")
"""The version of every component, and of those that each protocol uses at each tier."""

HEAD = """\
# Which version of each component the code has; `python tools/identity.py pin` writes it from the code. DVC reads it:
# a stage whose components have other versions than in dvc.lock is stale. `protocols` names what a protocol uses.
"""

_WORDS = (
    "assets",
    "assets.download",
    "assets.registry",
    "errors",
    "metrics.registry",
    "metrics.requirements",
    "paths",
    "progress",
    "protocol.published",
    "registry",
    "systems.registry",
    "types",
)
WORDS = frozenset({"flashbench", *(f"flashbench.{name}" for name in _WORDS)})
"""Modules that say, find or carry things and compute nothing; `Clip.digest` is held by a golden test of its own."""


def components() -> dict[str, tuple[str, int]]:
    """Name → (module, version) of everything that has a version."""
    from flashbench import metrics, systems
    from flashbench.data import material
    from flashbench.laptop import settings
    from flashbench.protocol import cases
    from flashbench.run.identity import NOISE_RECIPE

    things: dict[str, Any] = {f"system {name}": systems.get(name) for name in systems.names()}
    things |= {f"metric {name}": metrics.get(name) for name in metrics.names()}
    ours = {name: thing for name, thing in things.items() if type(thing).__module__.startswith("flashbench.")}
    entries = {name: (type(thing).__module__, int(thing.version)) for name, thing in ours.items()}
    entries["recipes"] = ("flashbench.laptop.recipes", settings.VERSION)
    entries["material"] = ("flashbench.data.material", material.VERSION)
    entries["noise"] = ("flashbench.systems.inputs", NOISE_RECIPE)
    entries["cases"] = ("flashbench.protocol.cases", cases.VERSION)
    entries["keys"] = ("flashbench.keys", keys.SCHEMA)
    return entries


def current() -> dict[str, dict[str, int | str]]:
    """The pins that the code as it is would have."""
    return {
        name: {"version": version, "closure": keys.closure_hash(module, stop=WORDS)}
        for name, (module, version) in sorted(components().items())
    }


def pinned(root: Path = Path()) -> Pins:
    """The pins of the repository in `root`, joined from both files."""
    if not (root / PINS).exists() or not (root / VERSIONS).exists():
        return {}
    closures = json.loads((root / PINS).read_text(encoding="utf-8"))
    written = yaml.safe_load((root / VERSIONS).read_text(encoding="utf-8"))
    pins = {}
    for name, closure in closures.items():
        group, _, member = name.partition(" ")
        version = written.get(f"{group}s", {}).get(member) if member else written.get(group)
        pins[name] = {"version": version, "closure": closure}
    return pins


def versions(pins: Pins, tiers: Mapping[str, Any]) -> dict[str, Any]:
    """Content of versions.yaml: `systems`, `metrics` and what there is one of, and what protocols use by tier."""
    content: dict[str, Any] = {"protocols": tiers}
    for name, pin in pins.items():
        group, _, member = name.partition(" ")
        if member:
            content.setdefault(f"{group}s", {})[member] = pin["version"]
        else:
            content[group] = pin["version"]
    return content


def used(protocol: Protocol) -> dict[str, dict[str, int]]:
    """Versions of the metrics and systems that make and score a protocol's clips, on all its cases."""
    from flashbench import systems

    made_by: dict[str, int] = {}
    for part in protocol.parts:
        variants = [*part.variants, *([part.preview.variant] if part.preview else [])]
        made_by |= {variant.system.name: variant.system.version for variant in variants}
        if any(case.source is not None for case in part.cases):
            made_by["original"] = systems.get("original").version  # what is enlarged
    measured = {metric.name: metric.version for part in protocol.parts for metric in part.metrics}
    return {"metrics": dict(sorted(measured.items())), "systems": dict(sorted(made_by.items()))}


def used_at(tier: str) -> dict[str, dict[str, dict[str, int]]]:
    """Protocol → what it uses at `tier`, whether the tier's prompts are here or not."""
    from flashbench.data import prompts
    from flashbench.protocol import compose

    def one_prompt(name: str, *, rewrite: str | None = None) -> tuple[Any, ...]:
        return (prompts.prompt_of(f"any prompt of {name}"),)  # which ones there are decides no component

    return {name: used(compose.load(name, tier, (), one_prompt)) for name in compose.names()}


def findings(pinned: Pins, now: Pins) -> list[str]:
    """One line per component whose code or version is not the pinned one."""
    lines = []
    for name in sorted(set(pinned) | set(now)):
        if name not in pinned or name not in now:
            lines.append(f"{name}: {'new' if name in now else 'gone'}; {PIN}")
        elif now[name]["version"] != pinned[name]["version"]:
            version = now[name]["version"]
            lines.append(f"{name}: version {version} is not pinned; {PIN}")
        elif now[name]["closure"] != pinned[name]["closure"]:
            how = f"bump the version, or, if no number moved, {PIN[:-1]} --no-numbers-moved`"
            lines.append(f"{name}: its code changed under version {now[name]['version']}; {how}")
    return lines


def write(now: Pins) -> None:
    """Write the pins to `PINS` and `VERSIONS`."""
    from flashbench.protocol import compose

    closures = {name: pin["closure"] for name, pin in now.items()}
    PINS.write_text(json.dumps(closures, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    content = versions(now, {tier: used_at(tier) for tier in compose.tiers()})
    VERSIONS.write_text(HEAD + yaml.safe_dump(content, width=118, default_flow_style=None), encoding="utf-8")


def unlike(root: Path = Path()) -> list[str]:
    """A line that says where versions.yaml in `root` holds anything but the code's versions; none where they agree."""
    from flashbench.protocol import compose

    path = root / VERSIONS
    written = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
    content = versions(
        {name: {"version": version} for name, (_, version) in components().items()},
        {tier: used_at(tier) for tier in compose.tiers()},
    )
    differing = sorted(name for name in content.keys() | written.keys() if content.get(name) != written.get(name))
    words = (
        f"{VERSIONS}: {', '.join(differing)} are not what the code has; run `.venv/bin/python tools/identity.py pin`"
    )
    return [words] if differing else []


def main(arguments: list[str]) -> int:
    """Run `check` or `pin`; 0 done, 1 findings, 2 wrong call."""
    if arguments not in (["check"], ["pin"], ["pin", "--no-numbers-moved"]):
        print(__doc__, file=sys.stderr)
        return 2
    now = current()
    lines = findings(pinned(), now)
    if arguments == ["check"]:
        lines += unlike()
        print("\n".join(lines) or "code and pins agree")
        return 1 if lines else 0
    silent = [line for line in lines if "under version" in line]
    if silent and not arguments[1:]:
        print("\n".join(silent), file=sys.stderr)
        return 1
    write(now)
    print("\n".join([*lines, f"wrote {VERSIONS} and {PINS}"]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
