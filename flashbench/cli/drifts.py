"""The command on an engine's drift."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flashbench.cli.answers import Json, Quiet, judged, tell, written
from flashbench.cli.options import examples
from flashbench.errors import UsageError

if TYPE_CHECKING:
    from flashbench.reporting.document import Block


def register(app: typer.Typer) -> None:
    """Add the command drift to the program."""
    app.command(
        epilog=examples(
            "flashbench drift monday tuesday --again monday-again --prompts prompts.csv --out verdict",
            "flashbench drift baseline quantised -m psnr,lpips --margin psnr=35 --margin lpips=0.05",
            "flashbench drift --plan",
        )
    )(drift)


def drift(
    baseline: Annotated[str | None, typer.Argument(help="Folder of videos of the engine as it was.")] = None,
    candidate: Annotated[str | None, typer.Argument(help="Folder of the same names, by the engine to judge.")] = None,
    again: Annotated[
        str | None, typer.Option("--again", help="The baseline run again: another batch, kernel or GPU.")
    ] = None,
    margin: Annotated[
        list[str] | None,
        typer.Option("--margin", help="Without --again: what still counts as equal, psnr=40 or lpips=0.05."),
    ] = None,
    metrics: Annotated[list[str] | None, typer.Option("--metrics", "-m", help="Names, also `a,b`.")] = None,
    prompts: Annotated[str | None, typer.Option("--prompts", help="As in score; a prompt is a cluster.")] = None,
    alpha: Annotated[float, typer.Option("--alpha", help="False alarms, over all metrics.")] = 0.01,
    change: Annotated[
        float | None, typer.Option("--change", help="In %: `within` excludes it; of --plan, what is to be found.")
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Print how many prompts are needed, and end.")] = False,
    power: Annotated[float, typer.Option("--power", help="Of --plan with --change.")] = 0.8,
    spread: Annotated[
        str, typer.Option("--spread", help="Of --plan: 90 % of a prompt's distances between runs of one engine.")
    ] = "0.10-0.20",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for drift.md and verdict.json.")] = None,
    device: Annotated[str, typer.Option("--device", help="Where trained networks run: cpu, cuda or cuda:N.")] = "cpu",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Has an engine drifted? Same prompts and seeds, against how far the baseline is from itself run again.

    Exit code: within 0, beyond 1, undecided 4, incomparable 3.
    """
    from flashbench.drifting import drift as drifting
    from flashbench.drifting import report
    from flashbench.reporting.document import show
    from flashbench.reporting.verdicts import CODES
    from flashbench.videos.margins import parse_margins

    if plan:
        if baseline or candidate:
            raise UsageError("--plan compares nothing", fix="leave the folders out")
        show(_planned(metrics, alpha, change, power, spread))
        return
    if baseline is None or candidate is None:
        raise UsageError("drift needs two folders", fix="flashbench drift BASELINE CANDIDATE --again BASELINE-AGAIN")
    with judged("drift", baseline, candidate, out=out, json=json, silent=quiet):
        found = drifting.drift(
            baseline, candidate, again, margin=parse_margins(margin or ()), metrics=metrics or None, prompts=prompts,
            alpha=alpha, change=100.0 if change is None else change, device=device,
        )  # fmt: skip
    tell(report.blocks(found), report.to_json(found), json=json, silent=quiet)
    if out is not None:
        report.write(found, out)
        written("drift.md, verdict.json", out, json=json, silent=quiet)
    raise typer.Exit(int(CODES[found.status]))


def _planned(metrics: list[str] | None, alpha: float, change: float | None, power: float, spread: str) -> list[Block]:
    from flashbench.drifting import plan, report
    from flashbench.videos.settings import listed

    if not 0 < alpha < 0.5:
        raise UsageError(f"invalid alpha {alpha:g}", fix="give one in 0 … 0.5")
    aims = plan.AIMS if change is None else ((change, power),)
    bounds, tests = plan.parse_spread(spread), len(listed(metrics)) if metrics else 1
    return report.planned(plan.plan(bounds, aims=aims, alpha=alpha, tests=tests), bounds, alpha, tests)
