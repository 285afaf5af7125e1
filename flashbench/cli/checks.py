"""Commands that check: gate, show, costs, audit, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flashbench.cli.answers import Json, Quiet, judged, tell, written
from flashbench.cli.options import Device, Overrides, Prompts, Reference, Results, Tier, Workers, examples
from flashbench.errors import CheckFailed, Exit, UsageError, did_you_mean

_LAPTOP = "laptop"


def register(app: typer.Typer) -> None:
    """Add the commands gate, show, costs, audit and doctor to the program."""
    app.command(
        epilog=examples(
            "flashbench gate --baseline HEAD",
            "flashbench gate nfe --baseline origin/main --tier smoke --regenerate",
            "flashbench gate nfe --baseline before/scores.parquet --margins --out verdict",
            "flashbench gate --baseline baseline/scores.parquet --candidate samples --margins",
        )
    )(gate)
    app.command(
        epilog=examples(
            "flashbench show nfe/nfe=4",
            "flashbench show nfe/nfe=4/psnr --tier smoke",
            "flashbench show strength/bicubic --case wall/0",
        )
    )(show)
    app.command(epilog=examples("flashbench costs nfe", "flashbench costs nfe --tier paper --out costs.csv"))(costs)
    app.command(
        epilog=examples("flashbench audit results nfe", "flashbench audit published", "flashbench audit table.csv")
    )(audit)
    app.command(epilog=examples("flashbench doctor", "flashbench doctor --calibrate"))(doctor)


def gate(
    protocols: Annotated[list[str] | None, typer.Argument(help="Protocols; by default the whole tier.")] = None,
    baseline: Annotated[
        str, typer.Option("--baseline", help="A git revision, a scores.parquet, or a folder of results.")
    ] = "",
    tier: Tier = _LAPTOP,
    results: Results = None,
    tolerance: Annotated[
        list[str] | None,
        typer.Option("--tolerance", help="Change of a sample that counts as none: 1e-6, or psnr=0.01."),
    ] = None,
    margins: Annotated[
        bool, typer.Option("--margins", help="Ask for no worse than the baseline's margins instead of no change.")
    ] = False,
    candidate: Annotated[
        str, typer.Option("--candidate", help="Gate videos (a folder, or a scored run) against a scores.parquet.")
    ] = "",
    prompts: Prompts = None,
    reference: Reference = None,
    device: Device = "cpu",
    workers: Workers = 1,
    regenerate: Annotated[
        bool,
        typer.Option("--regenerate", help="Make the revision's scores again here if its machine was another kind."),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for verdict.json and verdict.md (default: the results; or nothing)."),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    overrides: Overrides = None,
) -> None:
    """Stop a change that moves scores: sample by sample against a baseline, rows in any order.

    Of results by default, against a revision; with `--candidate` of anybody's videos, against the scores.parquet of
    `flashbench score --out` (with `--margin` for `--margins`).

    Exit code 0: nothing moved. 1: something did, for better or worse. 3: not comparable (a clip is missing, another
    numerics class). 4: undecided: protocols are not covered, an interval crosses its margin, or what has none moved.
    """
    from flashbench.checks import gate as checking
    from flashbench.checks.gate_report import blocks, keep, to_json
    from flashbench.checks.gate_videos import gate_videos
    from flashbench.run.options import Options

    if not baseline:
        raise UsageError("gate against what?", fix="--baseline HEAD, another revision, or a file of scores")
    options = Options(tier=tier, results=results, overrides=tuple(overrides or ()))
    allowed = _tolerance(tolerance or [])
    if candidate:
        _videos_alone(protocols or tier != _LAPTOP or results or regenerate or overrides)
    elif prompts or reference or device != "cpu" or workers > 1:
        raise UsageError("--prompts, --reference, --device and --workers are of videos", fix="name a --candidate")
    with judged("gate", baseline, candidate or str(options.root), out=out, json=json, silent=quiet):
        if candidate:
            verdict = gate_videos(
                baseline, candidate, tolerance=allowed, margins=margins, prompts=prompts, reference=reference,
                device=device, workers=workers,
            )  # fmt: skip
        else:
            verdict = checking.gate(
                baseline, options, names=protocols or (), tolerance=allowed, margins=margins, regenerate=regenerate
            )
    tell(blocks(verdict), to_json(verdict), json=json, silent=quiet)
    if folder := out or (None if candidate else options.root):
        keep(verdict, folder)
        written("verdict.json, verdict.md", folder, json=json, silent=quiet)
    if verdict.code != Exit.DONE:
        raise typer.Exit(int(verdict.code))


def _videos_alone(others: object) -> None:
    if others:
        what = "--candidate gates videos: protocols, --tier, --results, --regenerate and --set are of results"
        raise UsageError(what, fix="leave them out, or leave --candidate out")


def show(
    address: Annotated[str, typer.Argument(help="protocol/row, or protocol/row/metric.")],
    case: Annotated[str, typer.Option("--case", help="Only this case, with the command for it alone.")] = "",
    tier: Tier = "laptop",
    results: Results = None,
    overrides: Overrides = None,
) -> None:
    """Show what is behind a row: its values, its clips and where they are, and the command that makes them again."""
    from flashbench.checks.show import describe
    from flashbench.reporting import document
    from flashbench.run.options import Options

    options = Options(tier=tier, results=results, overrides=tuple(overrides or ()))
    blocks, commands = describe(address, options, case=case)
    document.show(blocks)
    typer.echo("\n" + "\n".join(commands))  # whole lines, to be copied


def costs(
    protocol: Annotated[str, typer.Argument(help="A protocol whose clips were made.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A CSV file to write, with a line a clip.")] = None,
    tier: Tier = "laptop",
    results: Results = None,
    overrides: Overrides = None,
) -> None:
    """Show what the clips of each row took where they were made: evaluations, seconds, memory (median and quartiles).

    What a clip would take elsewhere is told by `flashbench cost`, from shapes.
    """
    from flashbench.checks.costs import describe
    from flashbench.reporting import document
    from flashbench.run.files import write
    from flashbench.run.options import Options

    blocks, lines = describe(protocol, Options(tier=tier, results=results, overrides=tuple(overrides or ())))
    document.show(blocks)
    if out is not None:
        write(out, lines.encode())


def _tolerance(texts: list[str]) -> dict[str, float]:
    """`1e-6` for all metrics, `psnr=0.01` for one."""
    tolerances = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if not 0 <= value < float("inf"):
            raise UsageError(f"invalid --tolerance {text!r}", fix="write a number from 0, or METRIC=NUMBER")
        tolerances[name or "*"] = value
    return tolerances


def audit(
    what: Annotated[str, typer.Argument(help="results, published (the paper's tables), or a CSV of VBench scores.")],
    protocols: Annotated[list[str] | None, typer.Argument(help="Of results: protocols.")] = None,
    tier: Tier = "laptop",
    results: Results = None,
    clips: Annotated[bool, typer.Option("--clips", help="Decode every clip and check its digest.")] = False,
    overrides: Overrides = None,
) -> None:
    """Check numbers against each other: exit 1, and one line per finding, if any contradict.

    Results: against the store, dvc.lock and themselves. Published tables and a CSV (name, total, quality, semantic and
    VBench's dimensions in percent): totals from their dimensions, and copied rows.
    """
    from flashbench.checks.audit import audit_results
    from flashbench.run.options import Options, results_folder

    if what == "published" or what.lower().endswith(".csv"):
        return _audit_tables(what)
    if what != "results":
        raise did_you_mean("audit", what, ["results", "published", "FILE.csv"])
    if not protocols:
        raise UsageError("audit results of which protocols?", fix="flashbench audit results nfe")
    options = Options(tier=tier, results=results, overrides=tuple(overrides or ()))
    results_folder(options)
    findings = audit_results(protocols, options, clips=clips)
    for finding in findings:
        typer.echo(finding)
    if findings:
        raise CheckFailed(f"findings: {len(findings)}", fix="rerun the protocol, or restore the files from git")
    typer.echo("no findings")


def _audit_tables(what: str) -> None:
    from flashbench.checks.audit_published import audit_published, audit_table

    lines, findings = audit_published() if what == "published" else audit_table(Path(what))
    for line in lines:
        typer.echo(f"finding: {line}" if line in findings else line)
    if findings:
        fix = "a finding says that numbers contradict each other, not which of them is wrong"
        raise CheckFailed(f"findings: {len(findings)}", fix=fix)
    typer.echo("no findings")


def doctor(
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Score pyiqa's calibration images and compare with its table.")
    ] = False,
) -> None:
    """Say what this machine can measure, what the rest needs, and whether it measures right; exit 1 if it does not."""
    from flashbench.checks.doctor import doctor as examine

    examine(calibrate=calibrate)
