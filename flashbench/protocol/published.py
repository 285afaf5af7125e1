"""Numbers that the paper printed, by arXiv version: read, checked, never completed or corrected.

protocols/published/<version>.yaml holds table → row → metric → number, with this project's row ids (`nfe=4`). A table
that a file lacks was not transcribed from that version; nothing is carried over from another. metrics.yaml beside them
declares which direction of each metric is the better one, and its unit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

from flashbench.errors import UsageError
from flashbench.paths import protocol_root, read_yaml
from flashbench.protocol.types import PublishedMetric
from flashbench.types import Direction

VERSIONS = ("v1", "v4")
"""arXiv versions of 2502.05179 that are transcribed: the seed document's, and the last."""


def published(table: str, folder: Path | None = None) -> dict[str, dict[str, dict[str, float]]]:
    """Version → row → metric → number of one of the paper's tables, e.g. `Table 8`.

    Args:
        table: name of the table or figure; one that no version has gives empty mappings.
        folder: the folder that holds v1.yaml and v4.yaml, protocols/published if not given.

    Raises:
        UsageError: a file is missing, is not valid YAML, or holds anything but finite numbers.
    """
    root = protocol_root() / "published" if folder is None else folder
    return {version: _read(root / f"{version}.yaml", version).get(table, {}) for version in VERSIONS}


def published_metrics(names: Iterable[str], folder: Path | None = None) -> dict[str, PublishedMetric]:
    """Direction and unit of published metrics.

    Args:
        names: as they stand in v1.yaml and v4.yaml.
        folder: the folder that holds metrics.yaml, protocols/published if not given.

    Raises:
        UsageError: the file is missing or no valid YAML, or does not declare one of them.
    """
    path = (protocol_root() / "published" if folder is None else folder) / "metrics.yaml"
    declared = _mapping(read_yaml(path).get("metrics"), f"{path}: metrics")
    return {name: _published_metric(name, declared.get(name), path) for name in names}


def _published_metric(name: str, declared: object, path: Path) -> PublishedMetric:
    fix = f"add `{name}: {{direction: higher}}` to it, with `unit` where it has one"
    if declared is None:
        raise UsageError(f"{path} does not say which direction of {name} is the better one", fix=fix)
    fields = _mapping(declared, f"{path}: {name}")
    direction: Any = fields.get("direction")
    unit = fields.get("unit", "")
    if direction not in get_args(Direction) or not isinstance(unit, str) or fields.keys() - {"direction", "unit"}:
        fix = f"write a direction ({', '.join(get_args(Direction))}) and perhaps a unit"
        raise UsageError(f"{path}: {name} is {declared!r}", fix=fix)
    return PublishedMetric(direction=direction, unit=unit)


def _read(path: Path, version: str) -> dict[str, dict[str, dict[str, float]]]:
    content = read_yaml(path)
    if content.get("version") != version:
        raise UsageError(f"{path} does not say `version: {version}`", fix="name the file after the version it holds")
    return {
        table: {
            row: {
                metric: _number(value, f"{path}: {table}, {row}, {metric}")
                for metric, value in _mapping(cells, f"{path}: {table}, {row}").items()
            }
            for row, cells in _mapping(rows, f"{path}: {table}").items()
        }
        for table, rows in _mapping(content.get("tables"), f"{path}: tables").items()
    }


def _mapping(node: object, where: str) -> dict[str, object]:
    if not isinstance(node, Mapping):
        raise UsageError(f"{where} is {type(node).__name__}, not a mapping", fix="write table → row → metric → number")
    return {str(key): value for key, value in node.items()}


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UsageError(f"{where} is {value!r}, not a number", fix="leave out what was not printed")
    return float(value)
