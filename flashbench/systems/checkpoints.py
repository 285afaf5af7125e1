"""Weights that nobody here trains: FlashVideo's released ones, as assets, and a checkpoint of one's own.

Their recipes are of kind `official` and `given`. Of official weights the store keeps no copy, only the names and sha256
of the assets that hold them; one's own network is kept whole, in diffusers' form.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from flashbench.assets import registry
from flashbench.errors import InvalidError, MissingAsset, UsageError, did_you_mean
from flashbench.keys import file_sha256, key

T5 = ("config", "index", "shard-1", "shard-2", "tokenizer", "tokenizer-config")
COMPONENTS: Mapping[str, tuple[str, ...]] = {
    "stage1": ("flashvideo-stage1",),
    "stage2": ("flashvideo-stage2",),
    "vae": ("flashvideo-3d-vae",),
    "text": tuple(f"t5-xxl/{part}" for part in T5),
}
"""Assets of each component that a recipe of kind `official` may name."""
NETWORKS = ("stage1", "stage2")
"""Components that a checkpoint of one's own may be."""
RECORD = "official.json"


def build(settings: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Fill the folder `out` of a recipe whose weights are somebody else's; returns what is worth recording.

    `official`: the names and sha256 of its component's assets. `given`: the network in the file or folder `path`, in
    diffusers' form, once it was found to be the bytes `sha256` and a whole network of that component.

    Raises:
        UsageError: an unknown component, or nothing at `path`. MissingAsset, IntegrityError: an asset that is not here
        or damaged. InvalidError: weights that do not fit, or not those that the run began with.
    """
    component = str(settings["component"])
    if settings["kind"] == "given":
        return _given(component, Path(str(settings["path"])), str(settings["sha256"]), out)
    if component not in COMPONENTS:
        raise did_you_mean("component of an official recipe", component, COMPONENTS)
    for name in COMPONENTS[component]:
        registry.path(name)
    record = {"component": component, "assets": identity(component)}
    (out / RECORD).write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return record


def _given(component: str, path: Path, sha256: str, out: Path) -> dict[str, Any]:
    from flashbench.cascade import checkpoint

    if component not in NETWORKS:
        raise did_you_mean("component of one's own weights", component, NETWORKS)
    if content_sha256(path) != sha256:
        raise InvalidError(f"{path} changed since this run began", fix="run the command again")
    network = getattr(checkpoint, f"load_{component}")(path)
    network.register_to_config(_name_or_path="")  # a path of this machine
    network.save_pretrained(out)
    return {"component": component, "sha256": sha256, "parameters": sum(v.numel() for v in network.parameters())}


def content_sha256(path: Path) -> str:
    """sha256 of a file of weights, or over names and sha256 of a folder's weights and configurations.

    Raises UsageError where there are no weights, or some of a kind that is never loaded.
    """
    if path.is_file():
        return file_sha256(path)
    files = sorted(file for file in path.rglob("*") if file.suffix in (".json", ".safetensors", ".pt"))
    if pickles := sorted(path.rglob("*.bin")) + sorted(path.rglob("*.ckpt")):
        what = f"{pickles[0]} is a pickle, which nothing here loads"
        raise UsageError(what, fix="save the network again as safetensors (save_pretrained does), and remove it")
    if not any(file.suffix != ".json" for file in files):
        fix = "give an official .pt file, a .safetensors file of its tensors, or a saved diffusers folder"
        raise UsageError(f"there are no weights at {path}", fix=fix)
    listed = {str(file.relative_to(path)): file_sha256(file) for file in files}
    return key("weights", files=listed)


def identity(component: str) -> dict[str, str]:
    """Assets of a component with what the registry says their sha256 is."""
    return {name: registry.get(name).sha256 for name in COMPONENTS[component]}


def unavailable(settings: Mapping[str, Any]) -> str:
    """Why a recipe's weights are not here; empty for what needs no assets."""
    return absent(str(settings["component"])) if settings["kind"] == "official" else ""


def absent(component: str) -> str:
    """Which assets of a component are not here, and the command that fetches them; empty if all are."""
    lacking = [name for name in COMPONENTS[component] if not registry.present(name)]
    if not lacking:
        return ""
    trust = " --trust-first-use" if any(registry.get(name).sha256 == registry.UNKNOWN for name in lacking) else ""
    return f"{lacking[0]} not present: flashbench assets pull {' '.join(lacking)}{trust}"


def _files(folder: Path) -> Path | dict[str, Path]:
    """What a model's folder stands for: the assets that it names, by their official file names, or itself."""
    record = folder / RECORD
    if not record.is_file():
        return folder
    files: dict[str, Path] = {}
    for name, sha256 in json.loads(record.read_text("utf-8"))["assets"].items():
        path, entry = registry.path(name), registry.get(name)
        if entry.sha256 != sha256:
            fix = "make clips in another store, or fetch the file that was used"
            raise MissingAsset(f"asset {name} is not the file that this model was recorded with", fix=fix)
        files[entry.sources[-1].file.name] = path
    return files


@lru_cache(maxsize=4)
def load(component: str, folder: Path, dtype: str, device: str) -> dict[str, Any]:
    """The pipeline's parts that a component is, on `device`, kept for the next clip of this worker."""
    import torch

    parts = fresh(component, folder, dtype=dtype)
    return {name: part.to(device) if isinstance(part, torch.nn.Module) else part for name, part in parts.items()}


def fresh(component: str, folder: Path, *, dtype: str = "float32", **config: Any) -> dict[str, Any]:
    """The pipeline's parts that a component is, read anew on the CPU; `config` overrides the network's own."""
    import torch

    from flashbench.cascade import checkpoint

    files, precision = _files(folder), getattr(torch, dtype)
    with tempfile.TemporaryDirectory() as room:
        if component == "text":
            if isinstance(files, dict):
                (linked := Path(room) / "text_encoder").mkdir()
                for name, path in files.items():
                    (linked / name).symlink_to(path)
                files = Path(room)
            parts = checkpoint.load_official(files, precision, without=("stage1", "stage2", "vae"))
        else:
            source = next(iter(files.values())) if isinstance(files, dict) else files
            parts = {component: getattr(checkpoint, f"load_{component}")(source, torch_dtype=precision, **config)}
    return parts
