"""The log of a training: a table of losses, and its plot."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from flashbench.cascade.training.settings import Training, learning_rate

HEADER = "step,phase,loss,learning_rate"
WINDOW = 50
"""Steps of the plot's running mean."""


def write_losses(path: Path, settings: Training, losses: Sequence[float]) -> None:
    """Write losses.csv: one row per step done, step 0 first, every number with all its digits.

    The whole table is made from what a checkpoint holds, so a run that was killed loses no row and doubles none.
    """
    rows = [HEADER]
    for step, loss in enumerate(losses):
        name = settings.phase(step).name.replace('"', '""')
        rows.append(f'{step},"{name}",{loss!r},{learning_rate(settings, step)!r}')
    replace_text(path, "\n".join(rows) + "\n")


def plot_losses(path: Path, settings: Training, losses: Sequence[float]) -> str:
    """Draw the losses over the steps, phases marked, as SVG; returns a line that says what was done.

    Nothing is drawn where matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return f"no {path.name}: pip install 'flashbench[repro]' for matplotlib"
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(losses, color="0.75", linewidth=0.6, label="loss of a step")
    axes.plot(running_mean(losses, WINDOW), color="C0", linewidth=1.4, label=f"mean of the last {WINDOW}")
    start = 0
    for phase in settings.phases:
        if start:
            axes.axvline(start, color="0.5", linewidth=0.8, linestyle=":")
        axes.annotate(phase.name, (start, 1), xycoords=("data", "axes fraction"), xytext=(2, 2),
                      textcoords="offset points", fontsize=7)  # fmt: skip
        start += phase.steps
    axes.set(xlabel="step", ylabel=f"{settings.objective} loss", xlim=(0, max(1, start)))
    if min(losses) > 0:
        axes.set_yscale("log")
    axes.legend(loc="upper right", fontsize=7)
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    return f"losses in {path.name}"


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """Mean of each value and those before it, `window` values at most."""
    parts = (values[max(0, end - window) : end] for end in range(1, len(values) + 1))
    return [sum(part) / len(part) for part in parts]


def replace_text(path: Path, text: str) -> None:
    """Write a file of which a reader sees the old one or the new one, never half of one."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
