"""Training of both stages: flow matching of Stage II from degraded latents, v-prediction of Stage I, and LoRA.

All randomness of a step is a function of (seed, step), so that a run resumed from a checkpoint repeats, bit for bit on
the CPU at one thread count, the run that was never interrupted; no generator state is stored.

Stage II over a curriculum of two phases, from clips in pixels. A phase orders the batch, size and frames; `clips`
gives them as floats (batch, 3, frames, height, width) in [-1, 1] with contexts (batch, tokens, channels), and draws
from nothing but `draw`:

    import torch
    from accelerate import Accelerator
    from safetensors.torch import load_file
    from flashbench.cascade import FlashVideoPipeline, training, vae
    from flashbench.cascade.pipeline import MOTION

    videos = load_file("videos.safetensors")  # yours: a prompt to its video, uint8 (3, frames, height, width)
    pipe = FlashVideoPipeline.from_official("flashvideo")  # in float32, which training wants
    contexts = pipe.encode_prompt([MOTION + prompt for prompt in videos])

    def clips(phase, draw):
        chosen = torch.randint(len(videos), (phase.batch,), generator=draw)
        cut = [list(videos.values())[i][:, : phase.frames, : phase.size[0], : phase.size[1]] for i in chosen]
        return training.Pixels(torch.stack(cut) / 127.5 - 1, contexts[chosen])

    accelerator = Accelerator(mixed_precision="bf16")
    codec = vae.VAECodec(pipe.vae.to(accelerator.device))
    source = training.EncodedPairs(clips=clips, codec=codec, device=accelerator.device)
    images = training.Phase(name="images", steps=2000, batch=8, size=(528, 960), frames=1)
    large = training.Phase(name="large", steps=500, size=(1072, 1920), frames=49, degradation_steps=(650, 750))
    settings = training.Training(phases=(images, large), learning_rate=4e-5, gradient_checkpointing=True)
    training.train(pipe.stage2, source, settings, seed=0, state="stage2", accelerator=accelerator, report=print,
                   identity="videos 1")  # names the data: with other data another name, or the old run goes on

Stage I by LoRA, to a pipeline again. Its codec needs `vae.STAGE1_SCALE` (the default is Stage II's scale, and nothing
can tell the two apart), and its prompts are encoded without `MOTION`. After the lines above:

    from dataclasses import replace

    contexts = pipe.encode_prompt(list(videos))  # `clips` reads it
    codec = vae.VAECodec(pipe.vae, vae.STAGE1_SCALE)
    source = training.EncodedClips(clips=clips, codec=codec, device=accelerator.device)
    phase = replace(training.PAPER_STAGE1_LORA.phases[0], steps=1000, batch=4)  # of 49 frames of 256x480
    settings = replace(training.PAPER_STAGE1_LORA, phases=(phase,))  # rank 128
    training.train(pipe.stage1, source, settings, seed=0, state="stage1", accelerator=accelerator, report=print,
                   identity="videos 1")
    training.merge(pipe.stage1)
    pipe.save_pretrained("tuned")
    tuned = FlashVideoPipeline.from_pretrained("tuned")
    frames = tuned.preview("a cat", height=256, width=480, num_frames=49).frames
"""

from flashbench.cascade.training.data import Batch, Clips, EncodedClips, EncodedPairs, Pairs, Pixels, Source, from_pairs
from flashbench.cascade.training.log import plot_losses
from flashbench.cascade.training.loop import CHECKPOINT_SECONDS, Report, train
from flashbench.cascade.training.lora import TARGETS, attach, attached, merge
from flashbench.cascade.training.objectives import context_for, drop_text, flow_loss, l1_loss, v_loss
from flashbench.cascade.training.settings import (
    PAPER_STAGE1_FULL,
    PAPER_STAGE1_LORA,
    PAPER_STAGE2,
    Adaptation,
    Degradation,
    Objective,
    Phase,
    Training,
    generator,
    learning_rate,
)

__all__ = [
    "CHECKPOINT_SECONDS",
    "PAPER_STAGE1_FULL",
    "PAPER_STAGE1_LORA",
    "PAPER_STAGE2",
    "TARGETS",
    "Adaptation",
    "Batch",
    "Clips",
    "Degradation",
    "EncodedClips",
    "EncodedPairs",
    "Objective",
    "Pairs",
    "Phase",
    "Pixels",
    "Report",
    "Source",
    "Training",
    "attach",
    "attached",
    "context_for",
    "drop_text",
    "flow_loss",
    "from_pairs",
    "generator",
    "l1_loss",
    "learning_rate",
    "merge",
    "plot_losses",
    "train",
    "v_loss",
]
