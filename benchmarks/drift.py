"""Simulates `flashbench drift` on nights of an unchanged and of a changed engine, beside fixed thresholds.

Distances are LPIPS-like: 90 % of one prompt's nights lie in 0.10 … 0.20 (lognormal, or heavier tails scaled to the same
90 %), prompts differ in their level, several seeds of a prompt go up and down together. Prints Markdown tables with the
Monte Carlo error and exits 1 where the test in use gives more than 1.5 % false alarms at 1 %, or finds less than
`drift --plan` promises. `--figure FILE` draws what is found against what changed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from scipy import special, stats

from flashbench.drifting import plan, signs
from flashbench.types import Floats

ALPHA, LIMIT, THRESHOLDS = signs.ALPHA, 0.015, (0.15, 0.20)
SIGMA = plan.sigma(*plan.SPREAD)
MIDDLE = float(np.sqrt(plan.SPREAD[0] * plan.SPREAD[1]))


PROMISED = ("lognormal", "t₃ on logarithms")
"""Laws with the published spread for which `drift --plan` promises its power."""


def lognormal(draw: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Logarithms with the published spread."""
    return SIGMA * draw.standard_normal(shape)


def heavy(draw: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Student's t of 3 degrees of freedom on the logarithm: the same 90 % in 0.10 … 0.20, wild nights beyond."""
    return SIGMA * 1.6448536 / float(stats.t.ppf(0.95, 3)) * draw.standard_t(3, shape)


def skewed(draw: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Exponential on the logarithm with the same 90 %: most nights near the least, a long way up."""
    return np.asarray((draw.exponential(1.0, shape) - 1) * 2 * 1.6448536 * SIGMA / np.log(19))


def jumping(draw: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """One clip in ten turns out otherwise, three times as far."""
    return lognormal(draw, shape) + np.log(3) * (draw.random(shape) < 0.1)


LAWS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Floats]] = {
    "lognormal": lognormal, "t₃ on logarithms": heavy, "skewed logarithms": skewed, "one clip in ten × 3": jumping,
}  # fmt: skip


def nights(
    draw: np.random.Generator, law: str, count: int, prompts: int, *, seeds: int = 1, level: float = 0.5,
    shared: float = 0.0,
) -> Floats:  # fmt: skip
    """Mean distances of each prompt in one run: [count, prompts], twice (candidate, again): [2, count, prompts].

    Args:
        seeds: of a prompt, half of whose variance is the prompt's in that run.
        level: standard deviation of the logarithm of the prompts' own levels.
        shared: standard deviation of the logarithm of a factor that all clips of a run have in common.
    """
    clips = LAWS[law](draw, (2, count, prompts, seeds))
    if seeds > 1:
        clips = np.sqrt(0.5) * clips + np.sqrt(0.5) * LAWS[law](draw, (2, count, prompts, 1))
    prompt = level * draw.standard_normal((count, prompts, 1))
    run = shared * draw.standard_normal((2, count, 1, 1))
    return np.asarray(MIDDLE * np.exp(prompt + clips + run).mean(axis=-1))


def turned(candidate: Floats, again: Floats) -> Floats:
    """p of the test in use."""
    return signs.turned(signs.relative(candidate, again))


def turned_raw(candidate: Floats, again: Floats) -> Floats:
    """p of turned signs of plain differences."""
    return signs.turned(candidate - again)


def student(candidate: Floats, again: Floats) -> Floats:
    """p of Student's t on plain differences."""
    return _t(candidate - again)


def student_log(candidate: Floats, again: Floats) -> Floats:
    """p of Student's t on logarithms of ratios."""
    return _t(np.log(candidate / again))


def _t(x: Floats) -> Floats:
    count = x.shape[-1]
    return np.asarray(special.stdtr(count - 1, -x.mean(axis=-1) / (x.std(axis=-1, ddof=1) / np.sqrt(count))))


TESTS = {
    "signs of (b − a)/(b + a)": turned, "signs of b − a": turned_raw, "t of b − a": student,
    "t of log(b / a)": student_log,
}  # fmt: skip


def rate(p: Floats) -> float:
    """Share of nights that are red."""
    return float((p <= ALPHA).mean())


def sizes(draw: np.random.Generator, count: int, numbers: tuple[int, ...]) -> Iterator[tuple[str, float]]:
    """Table of false alarms; yields (cell, rate) of the test in use."""
    print("| nights | prompts × seeds | " + " | ".join(TESTS) + " | within |\n|---|---:|" + "---:|" * (len(TESTS) + 1))
    for law in LAWS:
        for prompts, seeds in [(number, 1) for number in numbers] + [(numbers[1], 4)]:
            candidate, again = nights(draw, law, count, prompts, seeds=seeds)
            found = {name: rate(test(candidate, again)) for name, test in TESTS.items()}
            within = rate(turned(again, candidate / 2))
            cells = " | ".join(f"{100 * value:.2f} %" for value in (*found.values(), within))
            print(f"| {law} | {prompts} × {seeds} | {cells} |", flush=True)
            yield f"{law}, {prompts} × {seeds}", next(iter(found.values()))


def powers(draw: np.random.Generator, count: int, aims: list[plan.Aim]) -> Iterator[tuple[str, float, float]]:
    """Table of what is found at the planned numbers; yields (cell, share, promise) where the plan's law holds."""
    print("\n| change | prompts | nights | " + " | ".join(TESTS) + " |\n|---:|---:|---|" + "---:|" * len(TESTS))
    for aim in aims:
        assert aim.prompts is not None
        for law in LAWS:
            candidate, again = nights(draw, law, count, aim.prompts)
            found = [rate(test(candidate * (1 + aim.change / 100), again)) for test in TESTS.values()]
            cells = " | ".join(f"{100 * value:.1f} %" for value in found)
            print(f"| +{aim.change:g} % | {aim.prompts} | {law} | {cells} |", flush=True)
            if law in PROMISED:
                yield f"+{aim.change:g} %, {law}", found[0], aim.power


def thresholds(draw: np.random.Generator, count: int) -> None:
    """Table of gates of one prompt, one seed and one threshold, and of a mean of 16 prompts."""
    print("\n| gate | unchanged: red | +25 % found | doubling found |\n|---|---:|---:|---:|")
    for clips in (1, 16):
        candidate = nights(draw, "lognormal", count, clips, level=0.0)[0].mean(axis=-1)
        for threshold in THRESHOLDS:
            cells = " | ".join(
                f"{100 * float((candidate * factor > threshold).mean()):.1f} %" for factor in (1, 1.25, 2)
            )
            print(f"| {'one clip' if clips == 1 else f'mean of {clips} prompts'} > {threshold:.2f} | {cells} |")


def shared(draw: np.random.Generator, count: int, prompts: int) -> None:
    """Table of what the test cannot tell from drift: a factor that all clips of a run share."""
    print("\n| factor of a whole run, 90 % in | false alarms |\n|---|---:|")
    for spread in (0.01, 0.03, 0.1):
        candidate, again = nights(draw, "lognormal", count, prompts, shared=spread)
        print(f"| ± {100 * 1.645 * spread:.0f} % | {100 * rate(turned(candidate, again)):.1f} % |")


def figure(draw: np.random.Generator, count: int, numbers: list[int], path: Path) -> None:
    """What each gate finds against how much farther the candidate is."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    changes = np.array([0, 5, 10, 15, 20, 25, 30, 40, 50, 60, 80, 100])
    drawing, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    for prompts in numbers:
        candidate, again = nights(draw, "lognormal", count, prompts)
        found = [100 * rate(turned(candidate * (1 + change / 100), again)) for change in changes]
        axes.plot(changes, found, marker="o", markersize=3, label=f"drift, {prompts} prompts")
    clip = nights(draw, "lognormal", count, 1, level=0.0)[0, :, 0]
    for threshold, style in zip(THRESHOLDS, ("--", ":"), strict=True):
        found = [100 * float((clip * (1 + change / 100) > threshold).mean()) for change in changes]
        axes.plot(changes, found, color="0.4", linestyle=style, label=f"one clip, LPIPS > {threshold:.2f}")
    axes.axhline(100 * ALPHA, color="0.8", linewidth=1)
    axes.set(xlabel="change of the distance (%)", ylabel="red nights (%)", xlim=(0, 100), ylim=(0, 101))
    axes.legend(frameon=False)
    drawing.savefig(path, dpi=110, metadata={"Software": None})


def main() -> int:
    """Run all; exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=10_000, help="nights a cell")
    parser.add_argument("--figure", type=Path)
    asked = parser.parse_args()
    draw, count = np.random.default_rng(20), asked.draws
    aims = plan.plan()
    numbers = tuple(sorted({signs.least(ALPHA), 16, *(aim.prompts or 0 for aim in aims)}))
    slack = 3 * np.sqrt(ALPHA * (1 - ALPHA) / count)
    misses = [f"{cell}: {100 * found:.2f} % false alarms" for cell, found in sizes(draw, count, numbers)
              if found > max(LIMIT, ALPHA + slack)]  # fmt: skip
    misses += [f"{cell}: {100 * found:.1f} % found of {100 * power:.0f} %" for cell, found, power
               in powers(draw, count, aims) if found < power - 3 * np.sqrt(0.25 / count)]  # fmt: skip
    thresholds(draw, count)
    shared(draw, count, 16)
    print(f"\nMonte Carlo error: {100 * np.sqrt(ALPHA * (1 - ALPHA) / count):.2f} % at 1 %, "
          f"{100 * np.sqrt(0.16 / count):.2f} % at 80 %.")  # fmt: skip
    if asked.figure is not None:
        figure(draw, count, [*(aim.prompts or 0 for aim in reversed(aims)), 16], asked.figure)
    for miss in misses:
        print(f"miss: {miss}", file=sys.stderr)
    return 1 if misses else 0


if __name__ == "__main__":
    sys.exit(main())
