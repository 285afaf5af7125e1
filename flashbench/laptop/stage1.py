"""Stage I of the laptop tier: captioned scenes, its training by v-prediction, its adaptation, and its sampling."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor

from flashbench.cascade import sampling
from flashbench.cascade.codec import Codec, to_frames, to_tensor
from flashbench.cascade.training import Batch, Phase, Training, generator, merge, train
from flashbench.cascade.transformer import Stage1Transformer
from flashbench.data import scenes
from flashbench.data.scene_clips import scene_clip, training_scene
from flashbench.errors import did_you_mean
from flashbench.laptop import text
from flashbench.types import Frames

Report = Callable[[int, int, str], None]
ADAPTATIONS = ("full", "lora")


def write_scenes(settings: Mapping[str, Any], codec: Codec, out: Path, report: Report) -> dict[str, int]:
    """Encode captioned training clips: latents [N, T, C, h, w], the different captions' contexts and which is whose."""
    shape = (settings["frames"], settings["size"], settings["size"])
    latents, texts = [], []
    for number in range(settings["clips"]):
        scene, template = training_scene(number)
        latents.append(codec.encode(to_tensor(scene_clip(scene, number, *shape, settings["contrast"])))[0])
        texts.append(scenes.caption(scene, template))
        report(number + 1, settings["clips"], "encoding scenes")
    different = sorted(set(texts))
    tensors = {
        "latents": torch.stack(latents),
        "contexts": text.encode(different),
        "caption": torch.tensor([different.index(caption) for caption in texts]),
    }
    save_file(tensors, out / "scenes.safetensors")
    counts = {"clips": len(texts), "captions": len(different)}
    (out / "config.json").write_text(json.dumps({"class": "Scenes", **counts}, indent=2, sort_keys=True) + "\n")
    return counts


def build(
    settings: Mapping[str, Any],
    inputs: Mapping[str, Path],
    out: Path,
    state: Path,
    replica: int,
    report: Report,
    identity: str,
) -> list[float]:
    """Train Stage I on `inputs["scenes"]`, or adapt `inputs["init"]`, into `out`; returns the losses.

    Adapters (`adaptation: lora`, Hu et al. 2021) are merged before the weights are written.
    """
    seed = 1000 * int(settings["seed"]) + replica
    if settings["adaptation"] not in ADAPTATIONS:
        raise did_you_mean("adaptation of a stage1 recipe", str(settings["adaptation"]), ADAPTATIONS)
    pool = load_file(inputs["scenes"] / "scenes.safetensors")
    latents, contexts, caption = (pool[name] for name in ("latents", "contexts", "caption"))

    def source(phase: Phase, draw: torch.Generator) -> Batch:
        chosen = torch.randint(len(latents), (phase.batch,), generator=draw)
        return Batch(latents[chosen], None, contexts[caption[chosen]])

    network = _read(inputs["init"]) if "init" in inputs else _fresh(settings, latents, contexts, seed)
    training = Training(
        objective="v",
        phases=(Phase(name="stage1", steps=settings["steps"], batch=settings["batch"], degradation="none"),),
        adaptation=settings["adaptation"],
        rank=settings["rank"],
        alpha=settings["alpha"],
        learning_rate=settings["learning_rate"],
        ema=settings["ema"],
    )
    losses = train(
        network,
        source,
        training,
        seed=seed,
        state=state,
        report=report,
        identity=identity,
        accelerator=Accelerator(cpu=True, mixed_precision="no"),
        plot=False,
    )
    if settings["adaptation"] == "lora":
        merge(network)
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    save_file(weights, out / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    network.register_to_config(_name_or_path="")  # diffusers notes the folder of `init`, a path of this machine
    network.save_config(out)
    return losses


@lru_cache(maxsize=2)
def load_network(folder: Path) -> Stage1Transformer:
    """The network of a finished `stage1` recipe, in eval mode, kept for the next clip."""
    return _read(folder).eval()


@torch.no_grad()
def generate_clip(
    network: Stage1Transformer,
    codec: Codec,
    context: Tensor,
    *,
    steps: int,
    guidance: float,
    noise: Tensor,
    step_noise: torch.Generator | Sequence[Tensor],
) -> tuple[Frames, int]:
    """(clip uint8 [T, H, W, 3], evaluations made) of a context (1, L, D), by `sampling.generate`."""
    sample = sampling.generate(network, noise, context, steps=steps, guidance=guidance, step_noise=step_noise)
    return to_frames(codec.decode(sample.latent)), sample.evaluations


def _read(folder: Path) -> Stage1Transformer:
    network: Stage1Transformer = Stage1Transformer.from_pretrained(folder, use_safetensors=True)
    return network


def _fresh(settings: Mapping[str, Any], latents: Tensor, contexts: Tensor, seed: int) -> Stage1Transformer:
    """An untrained network whose every weight is a function of `seed`; the global generator is left as it was."""
    channels = latents.shape[2]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator(seed, "initial weights", 0).initial_seed())
        network = Stage1Transformer(
            num_attention_heads=settings["heads"],
            num_layers=settings["layers"],
            in_channels=channels,
            out_channels=channels,
            time_embed_dim=settings["time_embed_dim"],
            text_embed_dim=contexts.shape[2],
            max_text_seq_length=contexts.shape[1],
        )
    with torch.no_grad():
        network.proj_out.weight.mul_(0.1)
        network.proj_out.bias.zero_()
    return network
