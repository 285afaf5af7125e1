"""`flashbench assets`: files outside the package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flashbench.cli.options import examples
from flashbench.errors import CheckFailed, UsageError, on_disk

VBENCH = "vbench"
"""In place of an asset: gigabytes of packages, from the package index."""

app = typer.Typer(no_args_is_help=True, help="Files outside the package: weights, parameters, material.")


@app.command(name="list", epilog=examples("flashbench assets list"))
def assets_list() -> None:
    """List the registry: name, state, size, licence, and what needs it."""
    from flashbench.assets import registry

    for line in registry.describe():
        typer.echo(line)


Trust = Annotated[bool, typer.Option("--trust-first-use", help="Take the first file where no sha256 is known.")]


@app.command(name="pull", epilog=examples("flashbench assets pull dover", "flashbench assets pull all --from DIR"))
def assets_pull(
    names: Annotated[list[str], typer.Argument(help="Assets, `all`, or `vbench`: VBench in its own environment.")],
    near: Annotated[Path | None, typer.Option("--from", help="Folder that stands in for the network.")] = None,
    trust: Trust = False,
) -> None:
    """Fetch assets; nothing enters the cache before its sha256 is right, and an interrupted download goes on."""
    from flashbench.assets import registry
    from flashbench.metrics.vbench import environment
    from flashbench.progress import say

    if VBENCH in names:
        typer.echo(environment.build(say, near))
    files = _asset_names([name for name in names if name != VBENCH])
    for path in registry.pull(files, report=say, near=near, trust=trust):
        typer.echo(path)


@app.command(name="import", epilog=examples("flashbench assets import DOVER.pth"))
def assets_import(
    files: Annotated[list[Path], typer.Argument(help="Files fetched elsewhere; known by their sha256.")],
    trust: Trust = False,
) -> None:
    """Copy files into the cache on a machine without a network."""
    from flashbench.assets import registry
    from flashbench.progress import say

    for path in registry.bring(files, report=say, trust=trust):
        typer.echo(path)


@app.command(name="verify", epilog=examples("flashbench assets verify", "flashbench assets verify niqe-pristine"))
def assets_verify(names: Annotated[list[str] | None, typer.Argument(help="Assets; all by default.")] = None) -> None:
    """Hash what is here and compare with the registry; exit 1 if a file is not what it should be."""
    from flashbench.assets import registry

    bad = 0
    for name, status in registry.verify(_asset_names(names or ["all"])):
        typer.echo(f"{status:10} {name}")
        bad += status not in ("ok", "absent")
    if bad:
        raise CheckFailed(f"{bad} files differ from the registry", fix="run `flashbench assets pull NAME` again")


@app.command(name="path", epilog=examples("flashbench assets path niqe-pristine"))
def assets_path(name: Annotated[str, typer.Argument(help="An asset.")]) -> None:
    """Print where a verified asset lies."""
    from flashbench.assets import registry

    typer.echo(registry.path(name))


@app.command(name="convert", epilog=examples("flashbench assets convert checkpoints flashvideo"))
def assets_convert(
    folder: Annotated[Path, typer.Argument(help="With stage1.pt, stage2.pt, 3d-vae.pt, google/t5-v1_1-xxl.")],
    out: Annotated[Path, typer.Argument(help="New folder, for `FlashVideoPipeline.from_pretrained`.")],
) -> None:
    """Turn FlashVideo's official files into a diffusers folder of safetensors, a shard at a time."""
    from flashbench.cascade.convert import convert
    from flashbench.progress import Progress, Task

    tasks: dict[str, Task] = {}
    with Progress() as progress:

        def report(name: str, done: int, total: int) -> None:
            tasks[name] = tasks.get(name) or progress.add(name, total, "MB")
            tasks[name].update(done)

        components = convert(folder, out, report)
    typer.echo(f"{out}: {', '.join(components)}")


@app.command(name="drill", epilog=examples("flashbench assets drill", "flashbench assets drill official"))
def assets_drill(
    out: Annotated[Path | None, typer.Argument(help="New folder for the files, laid out as the release.")] = None,
) -> None:
    """Make the drill's files: tiny weights under the official names; prints the registry that lists them.

    The tier `drill` does so by itself. In OUT they are what `assets convert` and `FLASHBENCH_ASSETS` take from a user.
    """
    from flashbench.drill import rehearsal
    from flashbench.progress import say

    if out is None:
        typer.echo(rehearsal.ready(say))
        return
    if out.exists():
        raise UsageError(f"{out} is there already", fix="name a new folder, or remove that one")
    with on_disk(f"{out} cannot be written", fix="free some space, or choose another folder"):
        out.mkdir(parents=True)
        for name, path in rehearsal.write(out).items():
            typer.echo(f"{name}: {path}")


def _asset_names(names: list[str]) -> list[str]:
    from flashbench.assets import registry

    return list(registry.current().names()) if names == ["all"] else names
