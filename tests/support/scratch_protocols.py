"""Protocols of a test in a folder of its own, with the repository's tiers and published numbers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

PROTOCOLS = Path(__file__).parents[2] / "protocols"
SMALL: dict[str, Any] = {
    "name": "probe",
    "title": "A probe",
    "table": "Table 8",
    "seeds": None,
    "system": "flashvideo_release",
    "settings": {"training": "narrow"},
    "rows": [{"nfe": [1, 2]}],
    "geometry": {"frames": 5, "height": 64, "width": 96},
    "preview": {"height": 32, "width": 48, "settings": {"steps": 3}},
    "metrics": ["niqe"],
    "primary": ["niqe"],
    "baseline": "nfe=2",
}
"""A protocol of the paper tier at a size that takes a second."""


def write(folder: Path, monkeypatch: pytest.MonkeyPatch, **fields: Any) -> None:
    """Write the protocol `SMALL` with other fields, and let the program find it."""
    root = folder / "protocols"
    for part in ("tier", "published", "material"):
        shutil.copytree(PROTOCOLS / part, root / part, dirs_exist_ok=True)
    content = {"defaults": [{"tier": "laptop"}, "_self_"], **SMALL, **fields}
    (root / "probe.yaml").write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")
    monkeypatch.setenv("FLASHBENCH_PROTOCOLS", str(root))
    monkeypatch.setenv("FLASHBENCH_CACHE", str(folder / "cache"))
