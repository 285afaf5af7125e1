"""What a run reads that this machine may lack: assets of metrics, systems and material."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set

from flashbench.assets import registry
from flashbench.errors import MissingAsset
from flashbench.laptop.settings import TEXT_ENCODER
from flashbench.progress import say
from flashbench.protocol.types import Protocol


def ensure_assets(protocols: Sequence[Protocol], *, material: bool) -> None:
    """Fetch what the protocols read and this machine lacks: parameters of metrics; if asked, what clips are made of.

    A metric without its parameters is a reason, not a failure. So is a released cascade: nobody fetches that unasked.
    """
    parts = [part for protocol in protocols for part in protocol.parts]
    try:
        _fetch({name for part in parts for metric in part.metrics for name in metric.assets})
    except MissingAsset as error:
        say(f"{error.what}: their rows will be NaN")
    if not material:
        return
    wanted = {name for part in parts for row in part.variants for name in row.system.assets}
    kinds = {recipe["kind"] for protocol in protocols for recipe in protocol.recipes.values()}
    if "text" in kinds:
        wanted |= set(TEXT_ENCODER)
    made_from = {str(part.kind) for part in parts} | kinds & {"scenes"}
    made_from |= {str(recipe.get("material")) for protocol in protocols for recipe in protocol.recipes.values()}
    wanted |= _photographs(made_from)
    _fetch(wanted)


def _photographs(made_from: Set[str]) -> set[str]:
    """Assets of the material that is read by kinds of cases and materials of recipes: all of it, or behind scenes."""
    from flashbench.data import material, scenes

    if made_from & {"material", "sources", "sources+scenes"}:
        return {source.asset for source in material.read_sources()}
    if "scenes" in made_from:
        return {material.source(photograph).asset for photograph, _ in scenes.BACKGROUNDS.values()}
    return set()


def _fetch(names: Iterable[str]) -> None:
    missing = [name for name in sorted(names) if not registry.present(name)]
    if missing:
        registry.pull(missing, report=say)
