"""Commands on anybody's videos: score, compare, cite, doctor, vbench."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flashbench.cli_words import examples
from flashbench.errors import InvalidError


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command(
        epilog=examples(
            "flashbench score clip.mp4",
            "flashbench score samples --prompts prompts.csv --out scored",
            "flashbench score enhanced --reference originals --metrics psnr,ssim,lpips",
        )
    )(score)
    app.command(epilog=examples("flashbench doctor", "flashbench doctor --calibrate"))(doctor)


def score(
    videos: Annotated[list[str], typer.Argument(help="Files, folders, globs; a folder of png is a video.")],
    metrics: Annotated[
        list[str] | None,
        typer.Option("--metrics", "-m", help="Names, also `a,b`; all of adhoc/frame-quality by default."),
    ] = None,
    prompts: Annotated[
        str | None, typer.Option("--prompts", help="CSV or JSONL (path, prompt, seed), VBench's JSON, or `vbench`.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option("--reference", help="Folder with videos of the same names, for psnr and the like.")
    ] = None,
    frames: Annotated[str, typer.Option("--frames", help="all, or N evenly spaced ones.")] = "all",
    size: Annotated[str, typer.Option("--size", help="native, or HEIGHTxWIDTH.")] = "native",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for scores.parquet, scores.csv, scores.md, run.json.")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Videos scored at the same time.")] = 1,
) -> None:
    """Score your videos: a table with 95 % intervals; what is in the store already is not measured again.

    A video that cannot be read is a row with its reason, and the exit code is 3. A metric that cannot run here is too,
    and the exit code stays 0.
    """
    from flashbench.reporting.markup import show
    from flashbench.videos.report import blocks
    from flashbench.videos.score import run

    names = [name.strip() for text in metrics for name in text.split(",") if name.strip()] if metrics else None
    done = run(videos, names, prompts, reference=reference, frames=frames, size=size, out=out, workers=workers)
    show(blocks(done, every_video=out is None and len(done.videos) <= 10))
    if out is not None:
        typer.echo(f"written: {out}/scores.md, scores.csv, scores.parquet, run.json")
    if bad := done.unreadable:
        what = f"{len(bad)} of {len(done.videos)} videos could not be scored whole, {bad[0][0]} among them"
        raise InvalidError(what, fix="see the list above; the rest is scored")


def doctor(
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Score pyiqa's calibration images and compare with its table.")
    ] = False,
) -> None:
    """Say what this machine can measure, what the rest needs, and whether it measures right; exit 1 if it does not."""
    from flashbench.doctor import doctor as examine

    examine(calibrate=calibrate)
