"""Commands on protocols: run, claims, plan, list, cost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from flashbench.cli.options import Fresh, Overrides, Results, Tier, examples

Budget = Annotated[
    str | None, typer.Option("--budget", help="GPU-hours, e.g. 2gpuh: as many of the first prompts as they allow.")
]


Shard = Annotated[
    str | None,
    typer.Option("--shard", help="Every OFth case from the NUMBERth on, e.g. 2/8, into the store alone."),
]
Replicas = Annotated[str, typer.Option("--replicas", help="Training seeds, e.g. `0` or `0,1,2`.")]


own = typer.Typer(no_args_is_help=True, help="A protocol of your own.")


def register(app: typer.Typer) -> None:
    """Add the commands run, claims, plan, list, cost and protocol to the program."""
    own.command("new", epilog=examples("flashbench protocol new mine", "flashbench run mine.yaml --tier smoke"))(new)
    app.add_typer(own, name="protocol")
    app.command(
        epilog=examples(
            "flashbench run nfe",
            "flashbench run nfe strength --phase train",
            "flashbench run nfe --tier smoke --limit 1 --results out",
            "flashbench run nfe --tier paper --dry-run",
            "flashbench run mine.yaml --tier smoke",
            "flashbench run vbench --tier paper --shard 2/8",
            "flashbench run nfe --system flashvideo --weights my-stage2",
        )
    )(run)
    app.command(epilog=examples("flashbench claims", "flashbench claims --tier smoke --results out"))(claims)
    app.command(
        epilog=examples(
            "flashbench plan nfe",
            "flashbench plan strength --replicas 0,1,2",
            "flashbench plan nfe --tier paper --budget 2gpuh",
            "flashbench plan all --tier paper",
        )
    )(plan)
    app.command(name="list", epilog=examples("flashbench list", "flashbench list metrics"))(list_)
    app.command(
        epilog=examples(
            "flashbench cost flashvideo --size 1072x1920 --frames 49 --nfe 4",
            "flashbench cost flashvideo --size 1440x2560 --linear-tflops 500 --attention-tflops 400",
            "flashbench cost single-stage --times my-gpu.csv",
        )
    )(cost)


def _options(
    tier: str,
    replicas: str,
    results: Path | None,
    limit: int | None,
    workers: int | None,
    overrides: list[str] | None,
    shard: str | None = None,
) -> Any:
    from flashbench.errors import UsageError
    from flashbench.protocol import shards
    from flashbench.run.options import Options

    try:
        chosen = tuple(sorted({int(item) for item in replicas.split(",")}))
        if chosen[0] < 0:
            raise ValueError("negative")
    except ValueError as error:
        raise UsageError(f"invalid --replicas {replicas!r}", fix="write 0 or 0,1,2") from error
    return Options(
        tier=tier,
        replicas=chosen,
        results=results,
        limit=limit,
        workers=workers,
        overrides=tuple(overrides or ()),
        shard=None if shard is None else shards.parse(shard),
    )


def _within(options: Any, protocols: list[str], budget: str | None) -> Any:
    """The options with the largest limit that the budget allows."""
    if budget is None:
        return options
    from flashbench.errors import UsageError
    from flashbench.planning import plan as planning

    if len(protocols) > 1 or options.limit is not None:
        raise UsageError("a budget is for one protocol without --limit", fix="give each protocol its own budget")
    return replace(options, limit=planning.within_budget(protocols[0], options, planning.parse_budget(budget)))


def run(
    protocols: Annotated[list[str], typer.Argument(help="Protocols, e.g. nfe strength, or a YAML of your own.")],
    phase: Annotated[
        list[str] | None, typer.Option("--phase", "-p", help="train, generate, score or tables; all by default.")
    ] = None,
    tier: Tier = "laptop",
    replicas: Replicas = "0",
    results: Results = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first N cases.")] = None,
    budget: Budget = None,
    shard: Shard = None,
    workers: Annotated[int | None, typer.Option("--workers", min=0, help="Processes; 0 runs in this one.")] = None,
    system: Annotated[
        str | None, typer.Option("--system", help="System that --weights are given to: flashvideo unless named.")
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", help="A checkpoint of your own (file or folder): one more row, in results/own/TIER."),
    ] = None,
    fresh: Fresh = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, make nothing.")] = False,
    overrides: Overrides = None,
) -> None:
    """Train, generate, score and tabulate protocols; what is in the store already is not made again."""
    from flashbench.run import phases

    options = _options(tier, replicas, results, limit, workers, overrides, shard)
    options = _within(replace(options, system=system, weights=weights, fresh=fresh), protocols, budget)
    if dry_run:
        from flashbench.planning import dry_run as rehearsal

        return typer.echo("\n".join(rehearsal.dry_run(protocols, options)))
    phases.run_protocols(protocols, tuple(phase or ()), options)  # type: ignore[arg-type]


def claims(
    tier: Tier = "laptop",
    results: Results = None,
    overrides: Overrides = None,
) -> None:
    """Judge every claim of every protocol that has scores: claims.md and metrics.json."""
    from flashbench.run.summary import summarise

    summarise(_options(tier, "0", results, None, None, overrides))


def plan(
    protocols: Annotated[list[str], typer.Argument(help="A protocol; or several, or `all`, to be counted together.")],
    tier: Tier = "laptop",
    replicas: Replicas = "0",
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first N cases.")] = None,
    budget: Budget = None,
    shard: Shard = None,
    overrides: Overrides = None,
) -> None:
    """Print what a run would do and take: models, clips, GPU-hours, disk, absent assets, what its design can show.

    Of several protocols: what they take together, whatever is here already. Clips that they share are counted once;
    downloads stand with their licences, and the GPU's memory for each stage and size.
    """
    options = _options(tier, replicas, None, limit, None, overrides, shard)
    if len(protocols) == 1 and protocols != ["all"]:
        from flashbench.planning.plan import describe

        return typer.echo(describe(protocols[0], _within(options, protocols, budget)))
    from flashbench.planning import summary
    from flashbench.protocol import compose
    from flashbench.reporting import document

    names = compose.names() if protocols == ["all"] else protocols
    document.show(summary.describe(names, _within(options, list(names), budget)))


def list_(
    kind: Annotated[str, typer.Argument(help="protocols, tiers, systems or metrics; all by default.")] = "all",
) -> None:
    """List protocols, tiers, systems and metrics by name."""
    from flashbench import metrics, systems
    from flashbench.errors import did_you_mean
    from flashbench.protocol import compose
    from flashbench.videos.settings import FRAME_QUALITY

    names_of = {
        "protocols": (*compose.names(), FRAME_QUALITY),
        "tiers": compose.tiers(),
        "systems": systems.names(),
        "metrics": (*metrics.names(), *metrics.families()),
    }
    if kind != "all" and kind not in names_of:
        raise did_you_mean("kind", kind, [*names_of, "all"])
    for name in names_of if kind == "all" else [kind]:
        typer.echo(f"{name}: {', '.join(names_of[name])}")


def new(name: Annotated[str, typer.Argument(help="Of the protocol, and so of its file and its results.")]) -> None:
    """Write NAME.yaml, a commented start of a protocol of your own, which runs as it is."""
    from flashbench.protocol import compose, own_file

    path = own_file.begin(name, compose.names())
    typer.echo(f"{path}: try it with `flashbench run {path} --tier smoke`")


def cost(
    system: Annotated[str, typer.Argument(help="flashvideo, vanilla (cascade from noise) or single-stage.")],
    size: Annotated[str, typer.Option("--size", help="HEIGHTxWIDTH in pixels, multiples of 16.")] = "1072x1920",
    frames: Annotated[int, typer.Option("--frames", help="4n + 1.")] = 49,
    nfe: Annotated[
        int | None, typer.Option("--nfe", min=1, help="Evaluations at --size; the paper's (4, 30, 50) by default.")
    ] = None,
    guidance: Annotated[float, typer.Option("--guidance", help="Scale at --size; 1 halves the forwards.")] = 13.0,
    preview_size: Annotated[str, typer.Option("--preview-size", help="Size of a cascade's Stage I.")] = "256x480",
    preview_steps: Annotated[int, typer.Option("--preview-steps", min=1, help="Evaluations of its Stage I.")] = 50,
    linear_tflops: Annotated[
        float | None, typer.Option("--linear-tflops", help="What your device attains in linear layers, in TFLOP/s.")
    ] = None,
    attention_tflops: Annotated[float | None, typer.Option("--attention-tflops", help="The same in attention.")] = None,
    times: Annotated[
        Path | None, typer.Option("--times", help="Or a CSV of its times: stage,size,frames,forwards,seconds.")
    ] = None,
) -> None:
    """Print tokens, FLOP and predicted seconds of a video, by default on the device of the paper's published times.

    A file of `--times` has the head stage,size,frames,forwards,seconds and lines like 2,1072x1920,49,8,72.2: stage 1 or
    2, and two forwards for a guided evaluation.
    """
    from flashbench.cascade import cost as model

    stages = model.compose(
        system,
        model.parse_size(size),
        frames,
        nfe=nfe,
        guided=guidance != 1,
        preview_size=model.parse_size(preview_size),
        preview_steps=preview_steps,
    )
    typer.echo(model.describe(stages, model.rates(linear_tflops, attention_tflops, times)))
