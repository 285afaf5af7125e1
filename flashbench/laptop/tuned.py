"""Further training of the released networks: Stage I by adapters or in full, Stage II through phases.

The same objectives, classes and sources as `cascade.training` offers for a real training, on procedural clips that are
encoded by the released autoencoder and text encoder. Small enough for the drill; a real training needs real material.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor

from flashbench.cascade import vae
from flashbench.cascade.pipeline import MOTION, FlashVideoPipeline
from flashbench.cascade.training import EncodedClips, EncodedPairs, Phase, Pixels, Source, Training, merge, train
from flashbench.data.synthetic import synthetic_clip
from flashbench.errors import UsageError, did_you_mean

COMPONENTS = ("stage1", "stage2")
POSITIONS = ("rope", "absolute")
CLIPS = 8
"""Different procedural clips, each with a caption of its own."""


class Load(Protocol):
    """Reads the pipeline's parts of a component from the folder of a finished recipe, in float32 on the CPU."""

    def __call__(self, component: str, folder: Path, **config: Any) -> dict[str, Any]:
        """Parts by name; `config` overrides the network's own."""


def build(
    settings: Mapping[str, Any],
    inputs: Mapping[str, Path],
    out: Path,
    state: Path,
    replica: int,
    report: Callable[[int, int, str], None],
    load: Load,
) -> dict[str, float | int | str]:
    """Train `inputs["init"]` on, with the autoencoder `codec` and the encoder `text`, into the folder `out`.

    Adapters (`adaptation: lora`) are merged before the network is saved in diffusers' form; `positions: absolute` puts
    CogVideoX-2B's table in the place of the rotary positions. Raises UsageError for a wrong setting.
    """
    component = str(settings["component"])
    if component not in COMPONENTS:
        raise did_you_mean("component of a tuned recipe", component, COMPONENTS)
    if settings["positions"] not in POSITIONS:
        raise did_you_mean("positions of a tuned recipe", str(settings["positions"]), POSITIONS)
    if lacking := [role for role in ("init", "codec", "text") if role not in inputs]:
        raise UsageError(f"a tuned recipe without {', '.join(lacking)}", fix="name them under `needs`")
    config = {"use_rotary_positional_embeddings": False} if settings["positions"] == "absolute" else {}
    network = load(component, inputs["init"], **config)[component]
    training = Training(
        objective="v" if component == "stage1" else settings["objective"],
        phases=tuple(settings["phases"]),
        adaptation=settings["adaptation"],
        rank=settings["rank"],
        alpha=settings["alpha"],
        learning_rate=settings["learning_rate"],
        ema=settings["ema"],
        warmup=0,
    )
    seed = 1000 * int(settings["seed"]) + replica
    losses = train(
        network.train(),
        _source(component, load, inputs),
        training,
        seed=seed,
        state=state,
        report=report,
        identity="procedural clips",
        accelerator=Accelerator(cpu=True, mixed_precision="no"),
        plot=False,
    )
    if settings["adaptation"] == "lora":
        merge(network)
    network.register_to_config(_name_or_path="")  # diffusers notes the folder of `init`, a path of this machine
    network.save_pretrained(out)
    return {"steps": len(losses), "loss": losses[-1] if losses else 0.0}


def _source(component: str, load: Load, inputs: Mapping[str, Path]) -> Source:
    """Batches of procedural clips as a phase orders them, encoded by the released autoencoder."""
    autoencoder = load("vae", inputs["codec"])["vae"].requires_grad_(False)
    pipe = FlashVideoPipeline(**load("text", inputs["text"]))
    prefix = MOTION if component == "stage2" else ""
    contexts = pipe.encode_prompt([f"{prefix}a procedural pattern, number {number}" for number in range(CLIPS)])

    def clips(phase: Phase, draw: torch.Generator) -> Pixels:
        if phase.size is None or phase.frames is None:
            raise UsageError(f"phase {phase.name!r} has no size or no frames", fix="give it both")
        image = phase.images > 0 and bool(torch.rand((), generator=draw) < phase.images)
        chosen = torch.randint(CLIPS, (phase.batch,), generator=draw)
        shape = (1 if image else phase.frames, *phase.size)
        return Pixels(torch.stack([_pixels(*shape, int(number)) for number in chosen]), contexts[chosen])

    if component == "stage1":
        return EncodedClips(clips=clips, codec=vae.VAECodec(autoencoder, vae.STAGE1_SCALE))
    return EncodedPairs(clips=clips, codec=vae.VAECodec(autoencoder))


def _pixels(frames: int, height: int, width: int, number: int) -> Tensor:
    """A procedural clip (3, T, H, W) in [-1, 1]."""
    clip = torch.from_numpy(synthetic_clip(frames, height, width, number))
    return clip.permute(3, 0, 1, 2).float() / 127.5 - 1
