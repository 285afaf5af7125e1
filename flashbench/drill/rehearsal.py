"""The drill's registry of assets: the package's own, with tiny files in place of what only a real run has.

`ready` makes them once for a cache; `registry.of_tier` lets a process read them. Whoever names a registry of their own
by `FLASHBENCH_ASSETS` gets that one: with the official files in it the drill reads those, and nothing else changes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from flashbench.assets import registry
from flashbench.errors import on_disk
from flashbench.keys import file_sha256
from flashbench.paths import PACKAGE, cache_root, read_yaml

VERSION = 2
"""Grows whenever the same libraries would write other files."""
PROMPTS = {"vbench-full-info": "VBench_full_info.json", "vbench-longer-prompts": "all_dimension_longer.txt"}
"""Assets with the first 20 of VBench's prompts in the suites' fixed order, as lines of VBench's own files."""
WORKER = "vbench-stand-in"
"""The asset that stands in for VBench's worker; the package's registry has none of that name."""
SAFETENSORS = ("vit-base-patch8",)
T5 = "google/t5-v1_1-xxl"
_TEXT = {
    "config": "config.json",
    "index": "model.safetensors.index.json",
    "shard-1": "model-00001-of-00002.safetensors",
    "shard-2": "model-00002-of-00002.safetensors",
    "tokenizer": "tokenizer.json",
    "tokenizer-config": "tokenizer_config.json",
}
_CASCADE = {"flashvideo-stage1": "stage1.pt", "flashvideo-stage2": "stage2.pt", "flashvideo-3d-vae": "3d-vae.pt"}


def place() -> Path:
    """The registry's file in this cache: other libraries write other files, and have another registry."""
    made_with = "-".join(version(name) for name in ("torch", "pyiqa", "timm", "transformers"))
    return cache_root() / "drill" / f"{VERSION}-{made_with}" / "assets.yaml"


def ready(report: registry.Report = lambda line: None) -> Path:
    """The registry's file, once all that it lists of the drill's own lies in the cache (seconds, about 100 MB)."""
    listed = place()
    if listed.is_file():
        return listed
    report("making the drill's files: tiny weights in the official files' form")
    with on_disk(f"the cache {cache_root()} cannot be written", fix="free some space, or choose FLASHBENCH_CACHE"):
        listed.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=listed.parent) as folder:
            files = write(Path(folder))
            (draft := Path(folder) / "assets.yaml").write_text(yaml.safe_dump(_registry(files)), encoding="utf-8")
            with registry.reading(draft):
                registry.bring(list(files.values()), report=lambda line: None)
            os.replace(draft, listed)
    return listed


def write(folder: Path) -> dict[str, Path]:
    """Write the drill's files into `folder`, FlashVideo's as the official release lays them out; asset → its file."""
    import torch
    from safetensors.torch import save_file

    from flashbench.drill import flashvideo, scorers

    for name, content in flashvideo.files().items():
        torch.save(content, folder / name)
    rewrites = (PACKAGE / "drill" / "prompts" / PROMPTS["vbench-longer-prompts"]).read_text("utf-8")
    flashvideo.write_text(folder / T5, rewrites)
    files = {asset: folder / name for asset, name in _CASCADE.items()}
    files |= {f"t5-xxl/{part}": folder / T5 / name for part, name in _TEXT.items()}
    for asset, content in scorers.files().items():
        # timm's file is safetensors, the others are what torch.save writes.
        files[asset] = folder / f"{asset}{'.safetensors' if asset in SAFETENSORS else '.pth'}"
        (save_file if asset in SAFETENSORS else torch.save)(content, files[asset])
    for asset, name in PROMPTS.items():
        files[asset] = folder / name
        shutil.copyfile(PACKAGE / "drill" / "prompts" / name, files[asset])
    files[WORKER] = folder / "vbench_stand_in.py"
    shutil.copyfile(PACKAGE / "drill" / "vbench_stand_in.py", files[WORKER])
    return files


def _registry(files: Mapping[str, Path]) -> dict[str, Any]:
    """The package's registry with the drill's entries on top; their sources are those of what they stand for."""
    known = dict(read_yaml(PACKAGE / "assets" / "assets.yaml")["assets"])
    own = {"kind": "installed", "package": "flashbench", "member": "drill/vbench_stand_in.py"}
    for name, file in files.items():
        known[name] = {
            "needed_by": "the drill: it stands in for the file of that name",
            "bytes": file.stat().st_size,
            "sha256": file_sha256(file),
            "licence": "Apache-2.0 (VBench)" if name in PROMPTS else "Apache-2.0 (made by flashbench assets drill)",
            "non_commercial": False,
            "home": "https://github.com/Vchitect/VBench" if name in PROMPTS else "flashbench/drill",
            "sources": known[name]["sources"] if name in known else [own],
        }
    return {"version": 1, "assets": known}
