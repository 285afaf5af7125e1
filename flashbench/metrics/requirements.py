"""What a metric needs of this machine, said in plain data: which assets and packages are lacking, and what helps."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from flashbench.assets import registry
from flashbench.errors import EXTRAS
from flashbench.keys import package_version
from flashbench.types import Scalar

TRUST = "--trust-first-use"


def unavailable(assets: Collection[str], packages: Iterable[str], pyiqa: Scalar | None = None) -> str:
    """Why this machine lacks what is needed, and what helps; empty if nothing is lacking.

    Args:
        assets: names of files in the asset registry.
        packages: distributions that must be installed.
        pyiqa: the version of it that the metric is declared for, if it runs through pyiqa.
    """
    if lacking := absent(assets):
        return f"{lacking[0]} not present: {pull(lacking)}"
    if missing := [name for name in packages if package_version(name) == "absent"]:
        return f"{missing[0]} is not installed: pip install 'flashbench[{EXTRAS['pyiqa']}]'"
    return conflict(assets, pyiqa)


def conflict(assets: Collection[str], pyiqa: Scalar | None = None) -> str:
    """Why a metric with those assets does not run though its packages are here: they do not go together."""
    installed = package_version("pyiqa")
    if pyiqa not in (None, installed) and installed != "absent":
        return f"metrics through pyiqa are declared for {pyiqa}, not {installed}: pip install pyiqa=={pyiqa}"
    tools = package_version("setuptools")
    if "clip-rn50" not in assets or package_version("openai-clip") == "absent":
        return ""
    if tools != "absent" and int(tools.split(".")[0]) < 82:
        return ""
    return f"openai-clip cannot be imported beside setuptools {tools}: pip install 'setuptools<82'"


def absent(names: Iterable[str]) -> tuple[str, ...]:
    """Those of the assets `names` that are not here, or not in this registry."""
    listed = registry.current().names()
    return tuple(name for name in names if name not in listed or not registry.present(name))


def pull(names: Iterable[str]) -> str:
    """The command line that fetches the assets `names`, for a user to type."""
    entries, names = registry.current().assets, list(names)
    trust = any(name in entries and entries[name].sha256 == registry.UNKNOWN for name in names)
    return " ".join(["flashbench assets pull", *names, *([TRUST] if trust else [])])
