"""The official files as a diffusers folder of safetensors, written a shard at a time."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from accelerate import init_empty_weights
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from transformers import T5Config, T5EncoderModel

from flashbench.cascade import official
from flashbench.cascade.checkpoint import official_files, plan_transformer, plan_vae, read, tokenizer
from flashbench.cascade.official import State
from flashbench.cascade.pipeline import FlashVideoPipeline
from flashbench.errors import InvalidError, UsageError

SHARE = 32
"""A shard holds at most this part of the largest official file, so that memory stays far below that file's size."""
SHARDS = (8 * 1024**2, 2 * 1024**3)
"""Smallest and largest limit of a shard, whatever that share comes to."""
TIED = "encoder.embed_tokens.weight"
"""T5's second name for `shared.weight`."""
Report = Callable[[str, int, int], None]
"""Called with (component, megabytes written, megabytes in all)."""


def convert(folder: str | Path, out: str | Path, report: Report = lambda name, done, total: None) -> list[str]:
    """Turn the official files in `folder` into the folder `out` for `FlashVideoPipeline.from_pretrained`.

    Adapters of Stage I are merged, keys that nothing reads are left out, dtypes stay. Parts that are not in `folder`
    become None in the pipeline; returns the names of those that were converted. `out` appears when all of it is
    written, or not at all. Raises UsageError for a wrong folder, InvalidError for files that do not fit or a full disk.
    """
    out = Path(out).resolve()
    files, text = official_files(folder)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is there already", fix="name a new folder, or remove that one")
    largest = max((path.stat().st_size for path in _inputs(files, text)), default=0)
    limit = max(SHARDS[0], min(SHARDS[1], largest // SHARE))
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        part.mkdir(parents=True)
        models: dict[str, Any] = {}
        if text is not None:
            models |= _text(text, part, limit, report)
        for name, path in files.items():
            models[name] = _component(name, path, part / name, limit, report)
        FlashVideoPipeline(**models).save_config(part)
        if out.exists():
            out.rmdir()
        part.rename(out)
    except (OSError, SafetensorError) as error:
        raise InvalidError(
            f"{out} cannot be written: {error}", fix="free disk space or choose another folder"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return sorted(models)


def _inputs(files: Mapping[str, Path], text: Path | None) -> list[Path]:
    return [*files.values(), *(_weight_files(text) if text is not None else ())]


def _component(name: str, path: Path, folder: Path, limit: int, report: Report) -> Any:
    """Write one network; returns it without weights, which is what the pipeline's index needs to know."""
    source = read(path)
    if name == "vae":
        model, plan, state = plan_vae(source, {})
    else:
        model, plan, state = plan_transformer(1 if name == "stage1" else 2, source, {})
    width = next(iter(source.values())).element_size()
    del source, state

    def tensors() -> Iterator[tuple[str, Tensor]]:
        state: State = {}
        touched = limit
        for key, entry in plan.items():
            if touched >= limit:  # opened anew, the file gives back the pages that were read
                state.clear()
                state = (
                    official.autoencoder_state(read(path))
                    if name == "vae"
                    else official.transformer_state(read(path))[0]
                )
                touched = 0
            yield from official.pieces(entry, state[key])
            touched += entry.size * width

    model.save_config(folder)
    total = sum(entry.size for entry in plan.values()) * width
    _write(tensors(), folder, "diffusion_pytorch_model", limit, _counted(report, name, total))
    return model


def _text(text: Path, out: Path, limit: int, report: Report) -> dict[str, Any]:
    """Write the encoder half of T5, whatever the folder holds besides, and the tokenizer."""
    words = tokenizer(text)
    try:
        config = T5Config.from_pretrained(text)
    except (OSError, ValueError) as error:
        raise InvalidError(f"{text}/config.json is not a configuration: {error}", fix="fetch T5 again") from error
    with init_empty_weights():
        model = T5EncoderModel(config)
    shapes: dict[str, tuple[int, ...]] = {}

    def tensors() -> Iterator[tuple[str, Tensor]]:
        for path in _weight_files(text):
            for key, value in read(path).items():
                if key == "shared.weight" or (key.startswith("encoder.") and key != TIED):
                    shapes[key] = tuple(value.shape)
                    yield key, value.clone()

    config.architectures = ["T5EncoderModel"]
    config.save_pretrained(out / "text_encoder")
    counted = _counted(report, "text_encoder", sum(path.stat().st_size for path in _weight_files(text)))
    _write(tensors(), out / "text_encoder", "model", limit, counted)
    expected = {key: tuple(value.shape) for key, value in model.named_parameters() if key != TIED}
    official.compare("T5's encoder", expected, shapes, [])
    words.save_pretrained(out / "tokenizer")
    return {"text_encoder": model, "tokenizer": words}


def _weight_files(text: Path) -> list[Path]:
    """The weights of a transformers folder: safetensors if there are any, else PyTorch's."""
    for pattern in ("*.safetensors", "pytorch_model*.bin"):
        if files := sorted(text.glob(pattern)):
            return files
    raise UsageError(f"no weights of T5 in {text}", fix="fetch model*.safetensors or pytorch_model*.bin")


def _counted(report: Report, name: str, total: int) -> Callable[[int], None]:
    """Bytes written to megabytes; the total is that of the file, of which some may be left out."""
    return lambda done: report(name, round(min(done, total) / 1e6), round(total / 1e6))


def _write(
    tensors: Iterator[tuple[str, Tensor]], folder: Path, name: str, limit: int, report: Callable[[int], None]
) -> None:
    """Write tensors in shards of at most `limit` bytes (one tensor at least), with the index that diffusers reads."""
    folder.mkdir(exist_ok=True)
    shards: list[list[str]] = []
    total = waiting = 0
    shard: dict[str, Tensor] = {}

    def flush() -> None:
        nonlocal shard, waiting
        save_file(shard, folder / f"{name}-{len(shards):05d}.part", metadata={"format": "pt"})
        shards.append(list(shard))
        shard, waiting = {}, 0
        report(total)

    for key, tensor in tensors:
        size = tensor.nbytes
        if shard and waiting + size > limit:
            flush()
        shard[key] = tensor.contiguous()
        waiting, total = waiting + size, total + size
    flush()
    places: dict[str, str] = {}
    for number, keys in enumerate(shards):
        single = len(shards) == 1
        final = f"{name}.safetensors" if single else f"{name}-{number + 1:05d}-of-{len(shards):05d}.safetensors"
        (folder / f"{name}-{number:05d}.part").rename(folder / final)
        places |= dict.fromkeys(keys, final)
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": places}
        (folder / f"{name}.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
