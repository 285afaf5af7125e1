"""Training of both stages: flow matching of Stage II from degraded latents, v-prediction of Stage I, and LoRA.

All randomness of a step is a function of (seed, step), so that a run resumed from a checkpoint repeats, bit for bit on
the CPU at one thread count, the run that was never interrupted; no generator state is stored.

    source = EncodedPairs(clips=clips, codec=VAECodec(vae), device="cuda")   # clips: see `Clips`
    train(Stage2Transformer(), source, PAPER_STAGE2, seed=0, state=Path("stage2"), report=print,
          accelerator=Accelerator(mixed_precision="bf16"))
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
