"""What a generated video costs: tokens, FLOP and predicted seconds, from shapes alone.

FLOP are those of `flashbench.cascade.flops`; seconds are linear / rate + attention / rate. The published times (arXiv
2502.05179) are of network evaluations only, on a GPU that the paper does not name: VAE and text encoder stand beside.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flashbench.cascade.flops import STAGE1, STAGE2, T5_FLOP, VAE_DECODE, VAE_ENCODE, Architecture, Stage, spelled
from flashbench.errors import UsageError, did_you_mean

__all__ = ["STAGE1", "STAGE2", "Architecture", "Stage", "compose", "describe", "fit", "parse_size", "rates"]

PUBLISHED = {
    Stage(STAGE1, (256, 480), 49, 50): 30.1,
    Stage(STAGE2, (1072, 1920), 49, 4): 72.2,
    Stage(STAGE2, (1440, 2560), 49, 4): 209.8,
    Stage(STAGE1, (1072, 1920), 49, 50): 2150.0,
    Stage(STAGE2, (1072, 1920), 49, 30): 571.5 - 30.1,
}
"""The paper's five times in seconds: the two stages, 2K, the single stage, and the vanilla cascade less its Stage I.
2K as 1440x2560 and the vanilla cascade's 30 evaluations are our reading: the paper gives neither."""
SYSTEMS = {"flashvideo": 4, "vanilla": 30, "single-stage": 50}
"""Evaluations at the full size. `vanilla` is a cascade whose Stage II starts from noise."""


def compose(
    system: str,
    size: tuple[int, int],
    frames: int,
    *,
    nfe: int | None = None,
    guided: bool = True,
    preview_size: tuple[int, int] = (256, 480),
    preview_steps: int = 50,
) -> tuple[Stage, ...]:
    """The stages of a system; `nfe` and `guided` are those of its last. UsageError for a wrong name or size."""
    if system not in SYSTEMS:
        raise did_you_mean("system", system, SYSTEMS)
    evaluations = SYSTEMS[system] if nfe is None else nfe
    if system == "single-stage":
        return (Stage(STAGE1, size, frames, evaluations, guided),)
    return Stage(STAGE1, preview_size, frames, preview_steps), Stage(STAGE2, size, frames, evaluations, guided)


@dataclass(frozen=True)
class Rates:
    """What a device attains, in FLOP/s, and where the two numbers come from."""

    linear: float
    attention: float
    origin: str = "as given"

    def seconds(self, stage: Stage) -> float:
        """Predicted seconds of all forwards."""
        return stage.linear / self.linear + stage.attention / self.attention


def fit(times: Sequence[tuple[Stage, float]], whose: str = "the paper's") -> Rates:
    """The rates of least squared relative error over seconds: linear in their inverses.

    Raises UsageError where the times do not tell the two rates apart.
    """
    share = np.array([(stage.linear / s / 1e12, stage.attention / s / 1e12) for stage, s in times]).reshape(-1, 2)
    inverse, _, rank, _ = np.linalg.lstsq(share, np.ones(len(share)), rcond=1e-6)
    if rank < 2 or min(inverse) <= 0:
        what = f"{whose} {len(times)} times do not tell linear layers from attention"
        raise UsageError(what, fix="measure a small and a large size")
    worst = abs(share @ inverse - 1).max()
    linear, attention = (1e12 / inverse).tolist()
    return Rates(linear, attention, f"fitted to {whose} {len(times)} times, off by at most {worst:.1%}")


def rates(linear_tflops: float | None, attention_tflops: float | None, times: Path | None) -> Rates:
    """A device's rates: given in TFLOP/s, fitted to the times of a CSV file, or else to the paper's.

    Raises UsageError for one rate without the other, rates and times together, or a file that cannot be read.
    """
    attained = [_positive(rate * 1e12) for rate in (linear_tflops, attention_tflops) if rate is not None]
    if not attained:
        return fit(list(PUBLISHED.items())) if times is None else fit(_read_times(times), f"{times}'s")
    if len(attained) == 1 or times is not None:
        fix = "give --linear-tflops and --attention-tflops, or --times, or neither"
        raise UsageError("a device is described by two rates or by times", fix=fix)
    return Rates(attained[0], attained[1])


def _read_times(path: Path) -> list[tuple[Stage, float]]:
    times: list[tuple[Stage, float]] = []
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}", fix="give a CSV file of your device's times") from error
    try:
        for row in csv.DictReader(text.splitlines(), skipinitialspace=True):
            network, size = {"1": STAGE1, "2": STAGE2}[row["stage"]], parse_size(row["size"])
            done = Stage(network, size, int(row["frames"]), int(row["forwards"]), guided=False)
            times.append((done, _positive(float(row["seconds"]))))
    except (KeyError, TypeError, ValueError, csv.Error, UsageError) as error:
        fix = "write the head stage,size,frames,forwards,seconds and lines like 2,1072x1920,49,8,72.2"
        raise UsageError(f"{path}: time {len(times) + 1}: {str(error).splitlines()[0]}", fix=fix) from error
    return times


def _positive(value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise UsageError(f"invalid rate or time {value}", fix="write a number above 0")
    return value


def parse_size(text: str) -> tuple[int, int]:
    """Height and width of `1072x1920`; UsageError for anything else."""
    if not re.fullmatch("[0-9]{1,6}x[0-9]{1,6}", text):
        raise UsageError(f"size {text!r} is not HEIGHTxWIDTH", fix="write e.g. 1072x1920")
    height, _, width = text.partition("x")
    return int(height), int(width)


def beside(stages: Sequence[Stage]) -> list[tuple[str, str, int]]:
    """Name, size and FLOP of what runs besides the networks: text encoder, and the VAE around each stage."""
    parts = [("T5", "", T5_FLOP)]
    for index, stage in enumerate(stages):
        for name, (first, later) in [("VAE encode", VAE_ENCODE)] * (index > 0) + [("VAE decode", VAE_DECODE)]:
            parts.append((name, spelled(stage.size), math.prod(stage.size) * (first + later * (stage.frames - 1))))
    return parts


def describe(stages: Sequence[Stage], device: Rates) -> str:
    """Tables of the networks and of what runs beside them, and where each number comes from."""
    head = "evaluations forwards  linear PF  attention PF  attention  predicted s  paper s"
    lines = [f"{'networks':15}{'size':>10}{'tokens':>9}  {head}"]
    names = [f"{s.network.name:9}{s.network.parameters / 1e9:4.1f} B{spelled(s.size):>10}{s.tokens:9,}" for s in stages]
    work = np.array([(s.evaluations, s.forwards, s.linear / 1e15, s.attention / 1e15) for s in stages])
    took = np.array([(device.seconds(stage), PUBLISHED.get(stage, math.nan)) for stage in stages])
    line = "{:34}{:13,.0f}{:9,.0f}{:11,.3f}{:14,.3f}{:11.0%}{:13,.1f}{:9,.1f}".format
    for name, flop, seconds in zip([*names, "total"], [*work, sum(work)], [*took, sum(took)], strict=True):
        lines.append(line(name, *flop, flop[3] / (flop[2] + flop[3]), *seconds).replace(" nan", "   -"))
    lines += ["", f"{'beside':15}{'size':>10}{'PF':>9}{'predicted s':>13}"]
    for name, size, extra in beside(stages):
        lines.append(f"{name:15}{size:>10}{extra / 1e15:9,.3f}{extra / device.linear:13,.1f}")
    attained = f"{device.linear / 1e12:.0f} TFLOP/s in linear layers, {device.attention / 1e12:.0f} in attention"
    return (
        "\n".join(lines)
        + f"""

PF: 10^15 FLOP of one sample, computed from shapes; tokens are those of video and text
predicted s: {attained}, {device.origin};
  what runs beside is taken at the linear rate, which no time confirms
paper s: published in arXiv 2502.05179, networks only, on a GPU that the paper does not name"""
    )
