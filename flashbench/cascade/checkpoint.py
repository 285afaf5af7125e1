"""Reading weights: FlashVideo's official files, state dicts with official names, or saved diffusers folders."""

from __future__ import annotations

import argparse
import json
import zipfile
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKLCogVideoX
from numpy._core.multiarray import _reconstruct, scalar
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from flashbench.cascade import official
from flashbench.cascade.official import LORA_ALPHA, PREFIX, Plan, State
from flashbench.cascade.transformer import Stage1Transformer, Stage2Transformer, aligned, check_loaded
from flashbench.errors import InvalidError, UsageError, did_you_mean

__all__ = ["PREFIX", "load_stage1", "load_stage2", "load_vae", "read"]
Source: TypeAlias = str | Path | Mapping[str, Any]
"""An official file, the state dict in it (also under its key `module` or `state_dict`), or a saved diffusers folder."""


PLAIN: list[Any] = [argparse.Namespace, np.dtype, np.ndarray, scalar, _reconstruct]
PLAIN += [type(np.dtype(code)) for code in "?bhilqBfd"]
"""What may lie beside the weights in an official file."""
FILES = {"stage1": "stage1.pt", "stage2": "stage2.pt", "vae": "3d-vae.pt"}
"""Components of the pipeline and their files in the official folder."""
TEXT_FOLDERS = ("google/t5-v1_1-xxl", "t5-v1_1-xxl", "text_encoder")
"""Where in it the T5 encoder may lie."""


def load_stage1(
    source: Source, *, torch_dtype: torch.dtype | None = None, lora_alpha: float = LORA_ALPHA, **config: Any
) -> Stage1Transformer:
    """Stage I in eval mode from `stage1.pt`, its state dict or a diffusers folder.

    Adapters that are not merged yet are, as in the release: W + `lora_alpha` / rank * B A. The configuration is read
    off the tensors' shapes; `config` overrides it. `torch_dtype` None gives float32, as in diffusers. Keys of other
    parts of the file are passed over. Raises InvalidError that lists missing, unexpected and mis-shaped keys.
    """
    _check_settings(Stage1Transformer, config)
    source = _file(source, "stage1")
    if (folder := _folder(source, "stage1")) is not None:
        return _from_folder(Stage1Transformer, folder, torch_dtype, config)
    model, plan, state = plan_transformer(1, _state(source), config, lora_alpha)
    return _fill(model, plan, state, torch_dtype)


def load_stage2(source: Source, *, torch_dtype: torch.dtype | None = None, **config: Any) -> Stage2Transformer:
    """Stage II in eval mode from `stage2.pt`, its state dict or a diffusers folder; see `load_stage1`."""
    _check_settings(Stage2Transformer, config)
    source = _file(source, "stage2")
    if (folder := _folder(source, "stage2")) is not None:
        return _from_folder(Stage2Transformer, folder, torch_dtype, config)
    model, plan, state = plan_transformer(2, _state(source), config)
    return _fill(model, plan, state, torch_dtype)


def load_vae(source: Source, *, torch_dtype: torch.dtype | None = None, **config: Any) -> AutoencoderKLCogVideoX:
    """The autoencoder in eval mode from `3d-vae.pt`, its state dict or a diffusers folder; see `load_stage1`.

    `norm_num_groups` (32) and `temporal_compression_ratio` (4) cannot be told from the weights: override them if they
    differ.
    """
    _check_settings(AutoencoderKLCogVideoX, config)
    source = _file(source, "vae")
    if (folder := _folder(source, "vae")) is not None:
        return _from_folder(AutoencoderKLCogVideoX, folder, torch_dtype, config)
    model, plan, state = plan_vae(_state(source), config)
    return _fill(model, plan, state, torch_dtype)


def load_official(
    folder: str | Path, torch_dtype: torch.dtype | None = None, without: Container[str] = ()
) -> dict[str, Any]:
    """Every component of the pipeline that is in the official folder, by name, except those named in `without`."""
    from transformers import T5EncoderModel

    files, text = official_files(folder)
    loaders = {"stage1": load_stage1, "stage2": load_stage2, "vae": load_vae}
    parts = {name: loaders[name](path, torch_dtype=torch_dtype) for name, path in files.items() if name not in without}
    if text is not None and "text_encoder" not in without:
        try:
            loaded: Any = T5EncoderModel.from_pretrained(
                text, dtype=torch_dtype or torch.float32, output_loading_info=True
            )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise InvalidError(f"{text} cannot be loaded: {error}", fix="fetch T5 again") from error
        parts["text_encoder"], info = loaded
        official.refuse("T5", {"missing": sorted(info["missing_keys"])}, "fetch T5 again")
    if text is not None and "tokenizer" not in without:
        parts["tokenizer"] = tokenizer(text)
    return parts


def tokenizer(folder: Path) -> Any:
    """T5's tokenizer in a folder; InvalidError if its vocabulary is not there (transformers would make up one)."""
    from transformers import AutoTokenizer

    if not any((folder / name).is_file() for name in ("spiece.model", "tokenizer.json")):
        raise InvalidError(f"{folder} holds no tokenizer", fix="fetch spiece.model or tokenizer.json of T5")
    return AutoTokenizer.from_pretrained(folder)


def official_files(folder: str | Path) -> tuple[dict[str, Path], Path | None]:
    """The official files in a folder by component, and that of the T5 encoder; UsageError if there is none of them."""
    folder = Path(folder)
    if not folder.is_dir():
        fix = f"give the folder with {', '.join(FILES.values())}"
        raise UsageError(f"{folder} is {'a file' if folder.exists() else 'not there'}", fix=fix)
    files = {name: folder / file for name, file in FILES.items() if (folder / file).is_file()}
    text = next((folder / name for name in TEXT_FOLDERS if (folder / name / "config.json").is_file()), None)
    if not files and text is None:
        raise UsageError(f"nothing of FlashVideo in {folder}", fix=f"give the folder with {', '.join(FILES.values())}")
    return files, text


def plan_transformer(
    stage: int, source: Mapping[str, Tensor], config: Mapping[str, Any], lora_alpha: float = LORA_ALPHA
) -> tuple[Any, Plan, State]:
    """The transformer of `source` without weights, the plan that fills it, and the checked tensors that do."""
    state, faults = official.transformer_state(source, lora_alpha)
    chosen = official.transformer_config(state, stage) | dict(config)
    with init_empty_weights():
        model = (Stage1Transformer if stage == 1 else Stage2Transformer)(**chosen)
    plan = official.transformer_plan(model, chosen, stage)
    official.check(f"Stage {'I' * stage}", plan, state, faults)
    return model, plan, state


def plan_vae(source: Mapping[str, Tensor], config: Mapping[str, Any]) -> tuple[Any, Plan, State]:
    """The autoencoder of `source` without weights, the plan that fills it, and the checked tensors that do."""
    state = official.autoencoder_state(source)
    chosen = official.autoencoder_config(state) | dict(config)
    with init_empty_weights():
        model = AutoencoderKLCogVideoX(**chosen)
    plan = official.autoencoder_plan(model, len(chosen["block_out_channels"]))
    official.check("the autoencoder", plan, state, [])
    return model, plan, state


def read(path: str | Path) -> dict[str, Any]:
    """The state dict in an official `.pt` file or a `.safetensors` file; tensors stay in the file until they are used.

    Raises UsageError for a file that cannot be opened, InvalidError for one that holds anything but tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"no file or folder {path}", fix="give an official .pt file or a saved diffusers folder")
    fix = "fetch it again; nothing but tensors is ever loaded from it"
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # Beside the weights, training frameworks keep counters and arguments; plain values bring nothing to life.
        with torch.serialization.safe_globals(PLAIN):
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", fix="check the path and its rights") from error
    except SafetensorError as error:
        raise InvalidError(f"{path} is damaged: {error}", fix="fetch it again") from error
    except Exception as error:
        # torch's own kinds. Its words advise to load such a file all the same; ours do not.
        complete = zipfile.is_zipfile(path) and type(error).__name__ == "UnpicklingError"
        size = path.stat().st_size
        why = "it holds more than tensors" if complete else f"its {size} bytes are cut short, or a git-lfs pointer"
        raise InvalidError(f"{path} cannot be read as weights: {why}", fix=fix) from error
    return _tensors(loaded, str(path))


def _state(source: Source) -> dict[str, Tensor]:
    return read(source) if isinstance(source, (str, Path)) else _tensors(source, "the given state")


def _tensors(loaded: Any, where: str) -> dict[str, Tensor]:
    for wrapper in ("module", "state_dict"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
    if not isinstance(loaded, Mapping):
        raise InvalidError(f"{where} holds no state dict but a {type(loaded).__name__}", fix="give an official file")
    return {str(key): value for key, value in loaded.items() if isinstance(value, Tensor)}


def _file(source: Source, component: str) -> Source:
    """The component's official file, if the source is the official folder."""
    if isinstance(source, (str, Path)) and (Path(source) / FILES[component]).is_file():
        return Path(source) / FILES[component]
    return source


def _folder(source: Source, component: str) -> Path | None:
    """The folder of the component that a diffusers folder, of the component itself or of a pipeline, holds."""
    if not isinstance(source, (str, Path)) or not Path(source).is_dir():
        return None
    for folder in (Path(source), Path(source) / component):
        if (folder / "config.json").is_file():
            return folder
    raise UsageError(
        f"{source} holds neither {FILES[component]} nor a config.json of {component}",
        fix="give an official file, the official folder, or one that `flashbench assets convert` made",
    )


def _from_folder(cls: Any, folder: Path, dtype: torch.dtype | None, config: Mapping[str, Any]) -> Any:
    """A saved network, whole: what diffusers would only warn of is an InvalidError."""
    try:
        saved = json.loads((folder / "config.json").read_text("utf-8"))["_class_name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidError(f"{folder}/config.json is not a configuration: {error}", fix="convert it again") from error
    if saved != cls.__name__:
        raise InvalidError(f"{folder} holds a {saved}, not a {cls.__name__}", fix="give the folder of that network")
    try:
        # Never a .bin beside it, which diffusers would fall back on: that is a pickle.
        options = {"torch_dtype": dtype, "use_safetensors": True}
        model, info = cls.from_pretrained(folder, output_loading_info=True, **options, **config)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise InvalidError(f"{folder} cannot be loaded: {error}", fix="fetch or convert it again") from error
    check_loaded(cls.__name__, info)
    return aligned(model).eval()


def _check_settings(cls: Any, config: Mapping[str, Any]) -> None:
    settings = cls._get_init_keys(cls)
    for name in config:
        if name not in settings:
            raise did_you_mean(f"setting of {cls.__name__}", name, settings)


def _fill(model: Any, plan: Plan, state: State, dtype: torch.dtype | None) -> Any:
    precision = torch.float32 if dtype is None else dtype
    pieces = (piece for key, entry in plan.items() for piece in official.pieces(entry, state[key]))
    model.load_state_dict({name: tensor.to(precision) for name, tensor in pieces}, assign=True)
    return model.eval()
