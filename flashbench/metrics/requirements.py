"""What a metric needs of this machine: assets and packages, which of them are lacking, and what helps."""

from __future__ import annotations

from collections.abc import Iterable

from flashbench.assets import registry
from flashbench.errors import EXTRAS
from flashbench.keys import package_version
from flashbench.metrics.base import Metric

TRUST = "--trust-first-use"


def obstacle(metric: Metric) -> str:
    """Why this machine lacks what a metric needs, and what helps; empty if nothing is lacking."""
    if lacking := absent(metric.assets):
        return f"{lacking[0]} not present: {pull(lacking)}"
    if packages := [name for name in metric.libraries if package_version(name) == "absent"]:
        return f"{packages[0]} is not installed: pip install 'flashbench[{EXTRAS['pyiqa']}]'"
    return conflict(metric)


def conflict(metric: Metric) -> str:
    """Why a metric does not run though its packages are here: they do not go together."""
    found, declared = package_version("pyiqa"), metric.preprocessing.get("pyiqa")
    if declared not in (None, found) and found != "absent":
        return f"metrics through pyiqa are declared for {declared}, not {found}: pip install pyiqa=={declared}"
    tools = package_version("setuptools")
    if "clip-rn50" not in metric.assets or package_version("openai-clip") == "absent":
        return ""
    if tools != "absent" and int(tools.split(".")[0]) < 82:
        return ""
    return f"openai-clip cannot be imported beside setuptools {tools}: pip install 'setuptools<82'"


def absent(names: Iterable[str]) -> tuple[str, ...]:
    """Those of the assets `names` that are not here, or not in this registry."""
    listed = registry.current().names()
    return tuple(name for name in names if name not in listed or not registry.present(name))


def pull(names: Iterable[str]) -> str:
    """The command that fetches assets."""
    known, names = registry.current().assets, list(names)
    trust = any(name in known and known[name].sha256 == registry.UNKNOWN for name in names)
    return " ".join(["flashbench assets pull", *names, *([TRUST] if trust else [])])
