"""What can be measured on this machine now, and what the rest needs: assets, packages, environments, licences.

Lines of two columns, a state and the names that it holds for, so that forty metrics stay readable.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from flashbench.assets import registry
from flashbench.errors import EXTRAS
from flashbench.keys import package_version
from flashbench.metrics.base import Metric
from flashbench.metrics.requirements import TRUST, absent, pull
from flashbench.metrics.vbench import environment
from flashbench.vbench.dimensions import DIMENSIONS

Lines: TypeAlias = Iterator[tuple[str, str]]
"""What is said of what; the second may hold line breaks."""

_READY = {"pair": "ready with reference", "prompt": "ready with prompt", "set": "ready, for sets"}


def abilities(metrics: Sequence[Metric]) -> Lines:
    """Metrics by what they need: those that can run, then those that cannot, by the assets that are not here."""
    ready, without = defaultdict[str, list[str]](list), defaultdict[tuple[str, ...], list[Metric]](list)
    others = list[tuple[str, str]]()
    for metric in metrics:
        if not (reason := metric.unavailable):
            ready[_READY.get(metric.scope, "ready")].append(metric.name)
        elif lacking := absent(metric.assets):
            without[lacking].append(metric)
        else:
            others.append(("not ready", f"{metric.name}: {reason}"))
    for state in ("ready", *_READY.values()):
        if ready[state]:
            yield state, ", ".join(ready[state])
    yield from others
    for lacking, users in without.items():
        needed = "; ".join(map(_described, lacking))
        yield (
            "not ready",
            f"{', '.join(user.name for user in users)}: needs {needed}{_packages(users)}\n{pull(lacking)}",
        )
    if everything := tuple(dict.fromkeys(name for lacking in without for name in lacking)):
        yield "all of them", f"{_size(everything)}\n{pull(everything)}"
        if TRUST in pull(everything):
            yield TRUST, "is needed where nobody has told FlashBench the sha256: the first file is binding"


def _packages(metrics: Iterable[Metric]) -> str:
    """What else `metrics` lack."""
    lacking = sorted({name for metric in metrics for name in metric.libraries if package_version(name) == "absent"})
    extra = EXTRAS["pyiqa"]
    return f"\nand {', '.join(lacking)}: pip install 'flashbench[{extra}]'" if lacking else ""


def _described(name: str) -> str:
    if name not in registry.current().names():
        return f"{name} (not in this registry)"
    asset = registry.get(name)
    return f"{name} ({_size([name])}, {asset.licence}{', non-commercial' if asset.non_commercial else ''})"


def _size(names: Sequence[str]) -> str:
    """Size of assets together, and of how many it is not known."""
    known = registry.current().assets
    sizes = [known[name].bytes if name in known else None for name in names]
    total, unknown = sum(filter(None, sizes)), sizes.count(None)
    if unknown == len(sizes):
        return "size unknown"
    size = f"{total / 1e6:.1f} MB" if total > 1e5 else f"{total:,} bytes"
    return f"{size} and {unknown} files of unknown size" if unknown else size


def dimensions() -> Lines:
    """VBench's dimensions, which its own environment computes."""
    state = "not ready" if environment.python() is None else "ready"
    for reads, needs in (("video", ""), ("prompt", "with prompt: "), ("labels", "on VBench's own prompts only: ")):
        yield state, needs + ", ".join(dimension.name for dimension in DIMENSIONS.values() if dimension.reads == reads)
    if state == "not ready":
        yield "to build", f"flashbench assets pull vbench (needs {environment.ROOM / 1e9:.0f} GB of disk)"


def licences(metrics: Sequence[Metric]) -> Lines:
    """Metrics whose code or weights are for non-commercial use only, by licence."""
    known = registry.current().assets
    users = defaultdict[str, dict[str, None]](dict)
    for metric in metrics:
        if "pyiqa" in metric.libraries:
            users["pyiqa, PolyForm-Noncommercial-1.0.0"][metric.name] = None
        for name in metric.assets:
            if name in known and known[name].non_commercial:
                users[f"weights, {known[name].licence}"][metric.name] = None
    yield "non-commercial", "pyiqa, the weights that come through it and DOVER's are for non-commercial use only"
    for licence, names in users.items():
        yield "", f"{licence}: {', '.join(names)}"
    bound = {name for names in users.values() for name in names}
    yield "others", f"the other {len(metrics) - len(bound)} metrics need nothing that is non-commercial"
