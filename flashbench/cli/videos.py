"""Commands on anybody's videos: score, compare, cite, vbench."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flashbench.cli.answers import Json, Quiet, judged, tell, written
from flashbench.cli.options import Device, Fresh, Prompts, Reference, Workers, examples
from flashbench.errors import Exit, InvalidError, did_you_mean

if TYPE_CHECKING:
    from flashbench.comparison.verdict import Compared

vbench = typer.Typer(no_args_is_help=True, help="VBench's result files and file names, both ways.")


def register(app: typer.Typer) -> None:
    """Add the commands score, compare, cite and vbench to the program."""
    app.command(
        epilog=examples(
            "flashbench score clip.mp4",
            "flashbench score samples --prompts prompts.csv --out scored",
            "flashbench score enhanced --reference originals --metrics psnr,ssim,lpips",
        )
    )(score)
    app.command(
        epilog=examples(
            "flashbench compare before after",
            "flashbench compare scored/a scored/b scored/c --baseline scored/a --margin niqe=0.1 --out verdict",
            "flashbench compare baseline candidate --fps 8 --primary niqe,lpips --reference originals",
            "flashbench compare baseline candidate --fail-on worse,undecided --margin niqe=0.1 --json",
            "flashbench compare results/laptop/nfe:nfe=4 results/laptop/nfe:nfe=2",
        )
    )(compare)
    app.command(
        epilog=examples("flashbench cite scored", "flashbench cite verdict", "flashbench cite results/laptop/nfe")
    )(cite)
    vbench.command("import", epilog=examples("flashbench vbench import evaluation_results --out run"))(vbench_import)
    vbench.command("export", epilog=examples("flashbench vbench export run submission.zip"))(vbench_export)
    vbench.command("name", epilog=examples("flashbench vbench name samples named --prompts prompts.csv"))(vbench_name)
    app.add_typer(vbench, name="vbench")


def score(
    videos: Annotated[list[str], typer.Argument(help="Files, folders, globs, folders of numbered pictures.")],
    metrics: Annotated[
        list[str] | None,
        typer.Option("--metrics", "-m", help="Names, also `a,b`; all of adhoc/frame-quality by default."),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option("--prompts", help="CSV, JSON, JSONL (path, prompt, seed), VBench's JSON, or `vbench`."),
    ] = None,
    reference: Annotated[
        Path | None, typer.Option("--reference", help="Folder with videos of the same names, for psnr and the like.")
    ] = None,
    frames: Annotated[str, typer.Option("--frames", help="all, or N evenly spaced ones.")] = "all",
    size: Annotated[str, typer.Option("--size", help="native, or HEIGHTxWIDTH.")] = "native",
    fps: Annotated[
        str | None, typer.Option("--fps", help="Take the pictures nearest in time at N a second; all by default.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for scores.parquet, scores.csv, scores.md, run.json.")
    ] = None,
    device: Device = "cpu",
    workers: Workers = 1,
    margin: Annotated[
        list[str] | None, typer.Option("--margin", help="For `gate --margins`: how much worse is no worse, niqe=0.1.")
    ] = None,
    primary: Annotated[
        list[str] | None, typer.Option("--primary", help="For `gate`: metrics of which it must know something.")
    ] = None,
    fresh: Fresh = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print each metric's mean and interval as JSON, and nothing else, on stdout.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Score your videos: a table with 95 % intervals; what is in the store already is not measured again.

    A video that cannot be read is a row with its reason, and the exit code is 3. A metric that cannot run here is too,
    and the exit code stays 0.
    """
    from flashbench.progress import quiet as silenced
    from flashbench.reporting.document import show
    from flashbench.videos.margins import parse_margins
    from flashbench.videos.report import blocks, to_json
    from flashbench.videos.score import score_videos

    with silenced(quiet):
        done = score_videos(
            videos, metrics or None, prompts, reference=reference, frames=frames, size=size, fps=fps, out=out,
            device=device, workers=workers, fresh=fresh, margin=parse_margins(margin or ()), primary=primary or (),
        )  # fmt: skip
    if json:
        typer.echo(to_json(done), nl=False)
    elif not quiet:
        show(blocks(done, every_video=out is None and len(done.videos) <= 5))
    if out is not None:
        written("scores.md, scores.csv, scores.parquet, run.json", out, json=json, silent=quiet)
    if bad := done.unreadable:
        what = f"{len(bad)} of {len(done.videos)} videos could not be scored whole, {bad[0][0]} among them"
        rest = "; the rest is scored" if len(bad) < len(done.videos) else ""
        raise InvalidError(what, fix=f"replace or remove them: the reasons stand above{rest}")


def compare(
    runs: Annotated[
        list[str], typer.Argument(help="Folders of videos, scored runs (score --out), or results/TIER/PROTOCOL:ROW.")
    ],
    baseline: Annotated[str, typer.Option("--baseline", help="One of them; the first by default.")] = "",
    margin: Annotated[
        list[str] | None, typer.Option("--margin", help="How much worse is still no worse: 0.1, or niqe=0.1.")
    ] = None,
    metrics: Annotated[list[str] | None, typer.Option("--metrics", "-m", help="Names, also `a,b`.")] = None,
    primary: Annotated[
        list[str] | None,
        typer.Option("--primary", help="The metrics that decide; else the protocol's, else all with a direction."),
    ] = None,
    pairs: Annotated[
        str, typer.Option("--pairs", help="auto, name, prompt, order, or a CSV or JSONL with a column for each run.")
    ] = "auto",
    despite: Annotated[
        list[str] | None, typer.Option("--despite", help="What pairs may differ in all the same: rate, size, loss …")
    ] = None,
    ignore_missing: Annotated[
        bool, typer.Option("--ignore-missing", help="Leave clips that one side lost out of account.")
    ] = False,
    prompts: Prompts = None,
    reference: Reference = None,
    frames: Annotated[str, typer.Option("--frames", help="As in score.")] = "all",
    size: Annotated[str, typer.Option("--size", help="As in score.")] = "native",
    fps: Annotated[str | None, typer.Option("--fps", help="As in score.")] = None,
    device: Device = "cpu",
    workers: Workers = 1,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for compare.md, .tex, .csv, .json, and verdict.json.")
    ] = None,
    fail_on: Annotated[
        list[str] | None, typer.Option("--fail-on", help="worse: exit 1; worse,undecided: exit 4 where undecided, too.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare runs with a baseline, pair by pair: one verdict and one sentence per metric, Holm over what decides.

    What moves a metric besides the pictures, or was lost on one side, is told and withholds a verdict; a draft of a
    manifest is written where no names pair. Exit code 0 whatever the verdicts are, unless `--fail-on` says otherwise;
    3 if a video could not be read, or the scores cannot be compared.
    """
    from flashbench.comparison import compare as comparing
    from flashbench.comparison.pairing import Unpaired
    from flashbench.comparison.report import blocks, summary, to_json, write, write_draft
    from flashbench.videos.margins import parse_margins

    fails = _fails(fail_on or ())
    first = baseline or runs[0]
    with judged("compare", first, ", ".join(x for x in runs if x != first), out=out, json=json, silent=quiet):
        try:
            comparison = comparing.compare_runs(
                [("", text) for text in runs], baseline=baseline, margin=parse_margins(margin or ()),
                metrics=metrics or None, pairs=pairs, prompts=prompts, reference=reference, frames=frames, size=size,
                fps=fps, device=device, workers=workers, primary=primary or (), despite=despite or (),
                ignore_missing=ignore_missing,
            )  # fmt: skip
        except Unpaired as error:
            raise InvalidError(error.what, fix=f"{error.fix}; {write_draft(error.draft, out or Path())}") from error
    tell(blocks(comparison), to_json(comparison), json=json, silent=quiet)
    if out is not None:
        write(comparison, out)
        written("compare.md, compare.tex, compare.csv, compare.json, verdict.json", out, json=json, silent=quiet)
    if fails and not quiet and not comparison.unreadable:
        typer.echo(summary(comparison), err=json)
    _end(comparison, fails)


def _end(comparison: Compared, fails: frozenset[Exit]) -> None:
    """Leave with the exit code of a comparison: 3 of videos that are not whole, else one of those asked for."""
    from flashbench.reporting.verdicts import CODES

    if bad := comparison.unreadable:
        what = f"{len(bad)} videos could not be scored whole; {bad[0]}"
        raise InvalidError(what, fix="see the list above; the rest is compared")
    if (code := CODES[comparison.status]) in fails:
        raise typer.Exit(int(code))


def _fails(texts: Sequence[str]) -> frozenset[Exit]:
    """The exit codes that `--fail-on` lets through; whoever asks for more than worse asks for worse, too."""
    words = [word.strip() for text in texts for word in text.split(",") if word.strip()]
    codes = {"worse": {Exit.FAILED}, "undecided": {Exit.FAILED, Exit.INCONCLUSIVE}}
    for word in words:
        if word not in codes:
            raise did_you_mean("word of --fail-on", word, codes)
    return frozenset().union(*(codes[word] for word in words))


def cite(
    run: Annotated[Path, typer.Argument(help="A folder of `score --out`, `compare --out`, or results/TIER/PROTOCOL.")],
) -> None:
    """Print a methods paragraph, the protocol's hash, and BibTeX for every metric, method, suite and system used."""
    from flashbench.reporting.cite import cite as of

    typer.echo(of(run).text, nl=False)


def vbench_import(
    source: Annotated[Path, typer.Argument(help="VBench's evaluation_results folder, one of its files, or a ZIP.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for scores.parquet and the files.")] = None,
) -> None:
    """Read VBench's *eval_results.json: Total, Quality, Semantic and every dimension with 95 % intervals."""
    from flashbench.reporting.document import show
    from flashbench.videos.vbench import bring

    show(bring(source, out))


def vbench_export(
    source: Annotated[Path, typer.Argument(help="A run with scores of vbench:DIM, an imported run, or results.")],
    out: Annotated[Path, typer.Argument(help="The ZIP to write.")],
) -> None:
    """Write the ZIP that VBench's leaderboard takes."""
    from flashbench.videos.vbench import send

    path, lacking = send(source, out)
    for line in lacking:
        typer.echo(f"note: {line}")
    typer.echo(path)


def vbench_name(
    videos: Annotated[list[str], typer.Argument(help="Files, folders, globs.")],
    folder: Annotated[Path, typer.Argument(help="Where they go, as links where that can be.")],
    prompts: Annotated[str, typer.Option("--prompts", help="CSV or JSONL (path, prompt, seed), or VBench's JSON.")],
    long: Annotated[bool, typer.Option("--long", help="Leave room for what VBench-Long appends to names.")] = False,
) -> None:
    """Put videos under the names by which VBench finds them, `{prompt}-{index}.mp4`, with a manifest."""
    from flashbench.vbench.naming import hazards
    from flashbench.videos.vbench import name

    entries = name(videos, prompts, folder, long=long)
    for entry in entries:
        for remark in [entry.reason] if entry.reason else hazards(entry.prompt):
            typer.echo(f"{entry.file}: {remark}")
    typer.echo(f"{len(entries)} videos and manifest.jsonl in {folder}")
