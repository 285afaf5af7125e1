"""Protocols: compose a YAML with its tier, check it, and expand it into variants and cases.

Merge order: tier file < protocol < the protocol's `tiers.<tier>` block < command line. Names of systems, metrics and
recipes go through their registries; nothing in a YAML names code.
"""

from __future__ import annotations

import copy
import itertools
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

import yaml

from flashbench import keys, metrics, systems
from flashbench.assets import registry
from flashbench.data import prompts
from flashbench.errors import FlashBenchError, UsageError, did_you_mean
from flashbench.metrics.base import Metric
from flashbench.paths import protocol_root, read_yaml
from flashbench.protocol import cases, own_file
from flashbench.protocol.published import published, published_metrics
from flashbench.protocol.types import Preview, Protocol, Trial, Variant
from flashbench.types import Case, CaseKind, Claim, Geometry, Scalar
from flashbench.vbench.dimensions import as_measured

_TIER_FIELDS = {"tier", "geometry", "cases", "low", "recipes", "budget", "tier_seeds", "controls", "preview", "sets"}
_TIER_FIELDS |= {"assets", "notice", "sizes"}
_REHEARSAL = ("like", "over")
"""Fields of a tier that rehearses another one: its name, and what is put on top of what that says of protocols."""
_FIELDS = _TIER_FIELDS | {
    "name", "title", "table", "system", "settings", "rows", "metrics", "primary", "baseline", "margins", "claims",
    "curve", "seeds", "tiers", "beside",
}  # fmt: skip
_KNOWN = {
    "geometry": ("frames", "height", "width", "fps", "scale"),
    "cases": (
        "set", "split", "count", "first", "per_source", "sources", "captions", "suite", "rewrite", "limit",
        "flicker_seeds",
    ),
    "preview": ("system", "settings", "height", "width"),
    "budget": ("workers", "threads"),
    "low": (
        "blur_probability", "blur_sigma", "resize_factor", "kernels", "noise_probability", "noise_sigma",
        "jpeg_probability", "jpeg_quality", "mild_probability", "last_kernel",
    ),
}  # fmt: skip
"""Fields inside fields; those of `low` are `cascade.degrade.PixelDegradation`'s (a test compares)."""
_SET_FIELDS = (
    "title", "geometry", "cases", "metrics", "primary", "controls", "system", "settings", "rows", "baseline", "low",
    "preview",
)  # fmt: skip
"""Fields of a further set of cases, each on top of the protocol's own."""
DRILL = "drill"
"""A tier's `assets`: the drill's own files in place of the released ones."""
_CLAIM_WORDS = ("text", "note", "margin_reason")
_REQUIRED = ("name", "title", "system", "rows", "metrics", "primary", "baseline", "geometry", "cases", "low")


def names() -> tuple[str, ...]:
    """Names of the protocols that can be run; a `UsageError` where their folder is none."""
    root = protocol_root()
    if not (root / "tier").is_dir():
        raise UsageError(f"{root} is not a folder of protocols", fix="set FLASHBENCH_PROTOCOLS to one that has tier/")
    return tuple(sorted(path.stem for path in root.glob("*.yaml")))


def tiers() -> tuple[str, ...]:
    """Names of the tiers."""
    return tuple(sorted(path.stem for path in (protocol_root() / "tier").glob("*.yaml")))


def load_protocol(name: str, *, tier: str = "laptop", overrides: Sequence[str] = ()) -> Protocol:
    """The protocol `name` at `tier`, with `overrides` such as `cases.split=dev` on top.

    `name` may also be the path of a YAML of one's own, or the name of one in the working folder (`own_file`).

    Raises:
        UsageError: no such protocol or tier, a broken YAML, an unknown field, system, metric, row or setting.
        MissingAsset: VBench's prompts are not here.
    """
    return load(name, tier, overrides)


def load(name: str, tier: str, overrides: Sequence[str], suite: cases.Suite | None = None) -> Protocol:
    """The protocol `name` as `load_protocol` gives it; `suite` is asked for prompts in place of `prompts.suite`."""
    file = own_file.find(name, names())
    if tier not in tiers():
        raise did_you_mean("tier", tier, tiers())
    where = f"protocols/{file.name}" if file.parent == protocol_root() else str(file)
    config = _compose(file, where, tier, overrides)
    _check_fields(config, file.stem, where)
    _choose_assets(config, where, asked=suite is None)
    try:
        protocol = _build(config, tier, suite)
        # A part of the cases, or what stands in for them, is known to show less.
        if suite is None and not any(item.startswith("cases") for item in overrides):
            _check_confirmable(protocol)
        return protocol
    except FlashBenchError as error:
        raise type(error)(f"{where}: {error.what}", fix=error.fix) from error
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise UsageError(f"{where}: a field has the wrong form: {error!r}", fix="compare it with nfe.yaml") from error


def _choose_assets(config: Mapping[str, Any], where: str, *, asked: bool) -> None:
    """Read the registry of assets that the tier names, which is made if it is not here and its prompts are `asked`."""
    if (own := config.get("assets")) not in (None, DRILL):
        raise did_you_mean(f"assets in {where}:", str(own), (DRILL,))
    if own is None or os.environ.get("FLASHBENCH_ASSETS"):
        registry.of_tier(None)
    elif asked:
        from flashbench.drill import rehearsal
        from flashbench.progress import say

        registry.of_tier(rehearsal.ready(say))


def _check_fields(config: Mapping[str, Any], name: str, where: str) -> None:
    """Refuse unknown and missing fields, and a name that is not the file's (results are kept by it)."""
    for field in config:
        if field not in _FIELDS:
            raise did_you_mean(f"field in {where}:", field, _FIELDS)
    if config.get("name") != name:
        raise UsageError(f"{where} calls itself {config.get('name')!r}", fix=f"write `name: {name}`")
    _check_blocks(config, where)
    for own in _fields(config, "sets", where):
        place = f"`sets.{own}` of {where}"
        for field in (block := _fields(config["sets"], own, where, "sets.")):
            if field not in _SET_FIELDS:
                raise did_you_mean(f"field in {place}:", field, _SET_FIELDS)
        _check_blocks(block, where, f"sets.{own}.")
    for field in _REQUIRED:
        if config.get(field) is None:
            raise UsageError(f"{where} has no `{field}`", fix=f"add `{field}:` to it or to its tier file")


def _check_blocks(config: Mapping[str, Any], where: str, above: str = "") -> None:
    """Refuse unknown fields inside the fields of a protocol, or of the set of cases in `above`."""
    for field, known in _KNOWN.items():
        for inner in _fields(config, field, where, above):
            if inner not in known:
                raise did_you_mean(f"field in `{above}{field}` of {where}:", inner, known)


def _fields(config: Mapping[str, Any], field: str, where: str, above: str = "") -> Mapping[str, Any]:
    """The fields inside `field`, none where it is null; a `UsageError` where it is no mapping."""
    if not isinstance(block := config.get(field) or {}, Mapping):
        raise UsageError(f"`{above}{field}` of {where} is {block!r}", fix="give it fields, as in nfe.yaml")
    return block


def _compose(file: Path, where: str, tier: str, overrides: Sequence[str]) -> dict[str, Any]:
    """The merged configuration as plain data."""
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    root, name = protocol_root().absolute(), file.stem
    for path in (file, root / "tier" / f"{tier}.yaml"):
        read_yaml(path)  # for its errors: Hydra's name neither line nor column
    for item in overrides:
        field, equals, _ = item.partition("=")
        if not equals:
            raise UsageError(f"override {item!r} has no value", fix="write FIELD=VALUE, e.g. cases.split=dev")
        if field.split(".")[0] not in _FIELDS:
            raise did_you_mean("field in override", field, _FIELDS)
    try:
        config = _by_hydra(root, file, tier)
        like, over = (config.pop(field, None) or {} for field in _REHEARSAL)
        block = (config.pop("tiers", None) or {}).get(like or tier)
        blocks = [part for part in (block, over.get("all"), over.get(name)) if part]
        merged = OmegaConf.merge(config, *blocks, OmegaConf.from_dotlist(list(overrides)))
        plain = OmegaConf.to_container(merged, resolve=True)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        first = str(error).splitlines()[0]
        fix = "compare it with nfe.yaml"
        raise UsageError(f"{where} cannot be composed: {first}", fix=fix) from error
    assert isinstance(plain, dict)
    return {str(field): value for field, value in plain.items()}


def _by_hydra(root: Path, file: Path, tier: str) -> Any:
    """A protocol's file over its defaults, which are those of `root`, as OmegaConf's DictConfig.

    Hydra's public `compose` keeps one configuration per process, which may be the host's: that of a `@hydra.main`, of a
    `hydra.initialize`, or of another thread. Its loader, which `compose` calls, keeps none.
    """
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.utils import create_config_search_path
    from hydra.core.config_search_path import SearchPathQuery
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    places = create_config_search_path(str(root))
    if file.parent.absolute() != root:
        places.append("own", str(file.parent.absolute()), SearchPathQuery("main", None))
    loader = ConfigLoaderImpl(places)
    sources: list[Any] = loader.repository.sources
    for source in sources:
        if source.scheme() == "structured":
            source.store = _own_schemas(source.store)
    config = loader.load_configuration(file.stem, [f"tier={tier}"], run_mode=RunMode.RUN, from_shell=False)
    OmegaConf.set_struct(config, False)
    del config["hydra"]
    return config


def _own_schemas(store: Any) -> Any:
    """Hydra's store of schemas without those of the host, which may bear a protocol's name."""
    own = copy.copy(store)
    own.repo = {name: part for name, part in store.repo.items() if name in ("hydra", "_dummy_empty_config_.yaml")}
    return own


def _build(config: Mapping[str, Any], tier: str, suite: cases.Suite | None) -> Protocol:
    sets = {name: fields for name, fields in (config.get("sets") or {}).items() if fields}
    main = _part(config, tier, suite)
    parts = [main, *(_set(name, config, tier, suite) for name in sets)]
    _check_apart(parts)
    # Titles and notes are words that decide nothing.
    whole = {name: value for name, value in config.items() if name not in ("budget", "recipes", "title", "notice")}
    whole["claims"] = [{**claim, **dict.fromkeys(_CLAIM_WORDS, "")} for claim in config.get("claims") or ()]
    whole["sets"] = {name: {**fields, "title": None} for name, fields in sets.items()}
    recipes = _needed_recipes(parts, config.get("recipes") or {})
    versions = [
        [part.set_name, v.row, v.system.name, v.system.version, v.system.identity(v.settings)]
        for part in parts
        for v in part.variants
    ]
    asked = [case.prompt for part in parts for case in part.cases if case.prompt]
    # A user's file of prompts may change under its name.
    texts = sorted({(prompt.id, prompt.text, prompt.line or 0) for prompt in asked})
    digest = keys.key("protocol", config=whole, recipes=_in_keys(recipes), variants=versions, prompts=texts)
    main, *others = (replace(part, recipes=recipes, hash=digest) for part in parts)
    return replace(main, sets=tuple(others))


def _set(name: str, config: Mapping[str, Any], tier: str, suite: cases.Suite | None) -> Protocol:
    """The protocol on its further set `name`, whose fields are on top of its own; it has no claims and no margins."""
    fields = {field: value for field, value in config["sets"][name].items() if value is not None}
    own = {field: _over(config.get(field), value) for field, value in fields.items()}
    if (system := own.get("system", config["system"])) != config["system"]:
        known = systems.get(system).defaults
        common = {name: value for name, value in (config.get("settings") or {}).items() if name in known}
        own["settings"] = _over(common, fields.get("settings", {}))
    if "cases" in own:
        limits = [block.get("limit") for block in (fields["cases"], config["cases"])]
        own["cases"] = {**own["cases"], "limit": min((limit for limit in limits if limit is not None), default=None)}
    if "metrics" in own and "primary" not in own:
        own["primary"] = [metric for metric in config["primary"] if metric in own["metrics"]] or own["metrics"][:1]
    try:
        part = _part({**config, "title": name, "claims": (), "margins": {}, "beside": None, **own}, tier, suite)
    except FlashBenchError as error:
        raise type(error)(f"set {name!r}: {error.what}", fix=error.fix) from error
    return replace(part, set_name=name, published={})


def _over(base: Any, own: Any) -> Any:
    """`own` on top of `base`: of mappings field by field, anything else as it is."""
    if not isinstance(base, Mapping) or not isinstance(own, Mapping):
        return own
    return {**base, **{name: _over(base.get(name), value) for name, value in own.items()}}


def _check_apart(parts: Sequence[Protocol]) -> None:
    """Refuse sets of cases that tables and scores could not tell apart: by a name, or by a case in two of them."""
    main, owner = parts[0], dict[str, Protocol]()
    for part in parts:
        name = part.set_name
        if name and not name.replace("_", "").isalnum():
            raise UsageError(f"invalid name {name!r} of a set", fix="use letters, digits and _")
        if name == main.kind or (name in get_args(CaseKind) and name != part.kind):
            taken = "the protocol's own cases" if name == main.kind else f"cases of another kind than its {part.kind}"
            raise UsageError(f"a set called {name!r} would pass for {taken}", fix="give it another name under `sets`")
        for case in part.cases:
            if (other := owner.setdefault(case.id, part)) is not part:
                where = f"in set {other.set_name!r}" if other.set_name else "one of the protocol's own"
                fix = "give it clips of its own: another `cases.first`, `cases.split`, `cases.sources` or `cases.suite`"
                raise UsageError(f"set {name!r}: case {case.id} is also {where}", fix=fix)


def _part(config: Mapping[str, Any], tier: str, suite: cases.Suite | None) -> Protocol:
    """The protocol on one set of cases, without recipes and hash."""
    variants = _variants(config)
    rows = [variant.row for variant in variants]
    claims = tuple(map(_claim, config.get("claims") or ()))
    for row in [config["baseline"], *(row for claim in claims for row in claim.rows)]:
        if row not in rows:
            raise did_you_mean("row", row, rows)
    asked = _metrics(config["metrics"], config["primary"])
    _whole_numbers(config)
    geometry = Geometry(**{**config["geometry"], "fps": Fraction(str(config["geometry"]["fps"]))})
    if geometry.fps <= 0:
        raise UsageError(f"geometry.fps is {geometry.fps}", fix="give frames per second above 0")
    for variant in variants:
        variant.system.check(variant.settings, sized(geometry, variant))
    chosen, subset = cases.build(config, suite)
    preview = _preview(config, geometry) if chosen[0].source is None else None
    _check_reach(variants, asked, chosen, preview)
    printed = _published(config, rows)
    quoted = {name for table in printed.values() for cells in table.values() for name in cells}
    return Protocol(
        name=config["name"],
        title=str(config["title"]),
        tier=tier,
        table=str(config.get("table") or ""),
        variants=variants,
        cases=chosen,
        geometry=geometry,
        metrics=asked,
        primary=tuple(config["primary"]),
        baseline=config["baseline"],
        margins={name: float(margin) for name, margin in (config.get("margins") or {}).items() if margin is not None},
        claims=claims,
        published=printed,
        published_metrics=published_metrics(sorted(quoted - {*config["metrics"]})),
        curve=config.get("curve"),
        recipes={},
        budget={name: value for name, value in (config.get("budget") or {}).items() if value is not None},
        hash="",
        preview=preview,
        case_fields=config["cases"],
        subset=subset,
        notice=str(config.get("notice") or "").format(frames=geometry.frames),
    )


def _published(config: Mapping[str, Any], rows: Sequence[str]) -> dict[str, dict[str, dict[str, float]]]:
    """The paper's numbers of the table; `beside` says which of its rows stands beside one that is called otherwise."""
    measured = {prompts.dimension_of(name): name for name in config["metrics"] if prompts.dimension_of(name)}
    versions = as_measured(published(str(config.get("table") or "")), measured)
    beside = {row: theirs for row, theirs in (config.get("beside") or {}).items() if theirs is not None}
    for row, theirs in beside.items():
        if row not in rows:
            raise did_you_mean("row in `beside`", row, rows)
        if not any(theirs in cells for cells in versions.values()):
            raise did_you_mean(
                f"published row of {config.get('table')}", theirs, {r for c in versions.values() for r in c}
            )
    return {
        version: cells | {row: cells[theirs] for row, theirs in beside.items() if theirs in cells}
        for version, cells in versions.items()
    }


def sized(geometry: Geometry, variant: Variant) -> Geometry:
    """The geometry of a variant's clips."""
    if variant.size is None:
        return geometry
    return replace(geometry, height=variant.size[0], width=variant.size[1])


def _preview(config: Mapping[str, Any], geometry: Geometry) -> Preview | None:
    spec = config.get("preview")
    if not spec:
        return None
    system = systems.get(spec["system"])
    settings = systems.resolve(system, spec.get("settings") or {})
    own = replace(geometry, height=spec["height"], width=spec["width"])
    system.check(settings, own)
    return Preview(variant=Variant(row="preview", system=system, settings=settings), geometry=own)


def _check_reach(
    variants: Sequence[Variant], asked: Sequence[Metric], chosen: Sequence[Case], preview: Preview | None
) -> None:
    """Refuse rows and metrics that read a clip which the cases do not have."""
    if chosen[0].source is not None:
        return
    for metric in asked:
        if metric.scope == "pair":
            raise UsageError(f"metric {metric.name!r} needs a reference, which prompts do not have", fix="leave it out")
    for variant in variants:
        system = variant.system
        if system.name in ("original", "codec") or (system.enhances and preview is None):
            fix = "leave it out, or name the Stage I that makes clips of prompts under `preview`"
            raise UsageError(f"row {variant.row!r} enhances a clip, and the cases are prompts", fix=fix)


def _whole_numbers(config: Mapping[str, Any]) -> None:
    """Refuse counts and sizes that are no whole numbers, or too small."""
    least = {"geometry.frames": 1, "geometry.height": 1, "geometry.width": 1, "geometry.scale": 1, "seeds": 1}
    least |= {"cases.count": 1, "cases.per_source": 1, "budget.workers": 0, "budget.threads": 1, "tier_seeds": 1}
    least |= {"cases.limit": 1, "cases.flicker_seeds": 1, "preview.height": 16, "preview.width": 16, "cases.first": 0}
    for place, low in least.items():
        field, _, inner = place.partition(".")
        value = (config.get(field) or {}).get(inner) if inner else config.get(field)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < low):
            raise UsageError(f"{place} is {value!r}, not a whole number from {low}", fix=f"correct {place}")


def row_id(settings: Mapping[str, Any]) -> str:
    """The id of a row from its settings: `setting=value[,…]`, sorted by setting."""
    return ",".join(f"{name}={settings[name]}" for name in sorted(settings))


def _variants(config: Mapping[str, Any]) -> tuple[Variant, ...]:
    variants: list[Variant] = []
    for block in config["rows"]:
        fixed, label = block.get("with") or {}, block.get("label") or {}
        swept = {name: values if isinstance(values, list) else [values] for name, values in block.items()}
        for name in ("with", "label"):
            swept.pop(name, None)
        for values in itertools.product(*swept.values()):
            variants.append(_variant(config, dict(zip(swept, values, strict=True)), fixed, label))
    for name in config.get("controls") or ():
        control = systems.get(name)
        variants.append(Variant(row=name, system=control, settings=systems.resolve(control, {})))
    rows = [variant.row for variant in variants]
    if repeated := sorted({row for row in rows if rows.count(row) > 1}):
        raise UsageError(f"row {repeated[0]!r} comes twice", fix="keep one of them")
    return tuple(variants)


def _variant(
    config: Mapping[str, Any], shown: Mapping[str, Any], fixed: Mapping[str, Any], label: Mapping[str, Any]
) -> Variant:
    """A row from its block: `row` names it, `system` and `size` are its own, the rest are settings of the system.

    `label` stands in the row's id and is no setting; what is `with` the row is one and stands not. The protocol's
    common settings hold for its own system; of another, those that it knows.
    """
    chosen = {name: value for name, value in {**fixed, **shown}.items() if name not in ("row", "system", "size")}
    names = {**fixed, **shown}
    system = systems.get(str(names.get("system", config["system"])))
    common = config.get("settings") or {}
    if system.name != config["system"]:
        common = {name: value for name, value in common.items() if name in system.defaults}
    size = names.get("size")
    return Variant(
        row=str(shown["row"]) if "row" in shown else row_id({**shown, **label}),
        system=system,
        settings=systems.resolve(system, {**common, **chosen}),
        size=None if size is None else _size((config.get("sizes") or {}).get(str(size), size)),
    )


def _size(size: Scalar) -> tuple[int, int]:
    """Height and width of `192` or `1072x1920`."""
    parts = str(size).split("x")
    if len(parts) > 2 or not all(part.isdigit() for part in parts):
        raise UsageError(f"invalid size {size!r}", fix="write a side in pixels, or HEIGHTxWIDTH such as 1072x1920")
    return int(parts[0]), int(parts[-1])


def _metrics(chosen: Sequence[str], primary: Sequence[str]) -> tuple[Metric, ...]:
    resolved = tuple(map(metrics.get, chosen))
    for name in primary:
        if name not in chosen:
            raise did_you_mean("primary metric", name, chosen)
    return resolved


def _claim(spec: Mapping[str, Any]) -> Claim:
    fields = dict(spec)
    if isinstance(fields.get("equivalent"), list):
        fields["equivalent"] = tuple(fields["equivalent"])
    claim = Claim(**fields)
    directed = claim.better is not None and claim.than is not None
    if directed == (claim.equivalent is not None and claim.margin is not None):
        what = f"claim {claim.id!r} needs `better` and `than`, or `equivalent` and `margin`"
        raise UsageError(what, fix="give one pair")
    if claim.equivalent is not None and not claim.margin_reason:
        what = f"claim {claim.id!r} has a margin of {claim.margin:g} without a reason"
        raise UsageError(what, fix="say under `margin_reason` why a difference of that size does not matter")
    return claim


def _check_confirmable(protocol: Protocol) -> None:
    """Refuse claims that no score can decide: of shares too alike for so few clusters, and primary ones without a p."""
    clusters = len({case.cluster for case in protocol.cases})
    for claim in protocol.claims:
        if claim.metric not in protocol.metric_names:  # metrics given for one run; the claim then has no score
            continue
        metric = protocol.metric(claim.metric)
        if claim.primary and metric.computed:
            what = f"claim {claim.id!r} is primary, and {metric.name} is computed, not measured: it has no p"
            raise UsageError(what, fix="leave `primary` out")
        if claim.margin is None or not metric.binary:
            continue
        whole = metric.range[1]
        least = whole * _narrowest(clusters)
        if claim.margin <= least:
            enough = next(n for n in itertools.count(clusters) if whole * _narrowest(n) < claim.margin)
            raise UsageError(
                f"claim {claim.id!r}: no outcome confirms that two shares differ by less than {claim.margin:g}: where "
                f"all {clusters} clusters agree, the 90 % interval still reaches {least:.3g}",
                fix=f"give a margin above {math.ceil(1000 * least) / 1000:g}, or at least {enough} clusters",
            )


def _narrowest(clusters: int) -> float:
    from flashbench import stats  # pandas and scipy, for claims of shares only

    return stats.narrowest(clusters, stats.EQUIVALENCE_LEVEL)


def _needed_recipes(parts: Iterable[Protocol], recipes: Mapping[str, Any]) -> dict[str, Any]:
    """Recipes that the parts' variants and previews read, and those that these need in turn, in the tier's order.

    They come resolved, so that a default spelt out is the same protocol.
    """
    from flashbench.laptop.settings import resolve

    variants = [v for part in parts for v in (*part.variants, *([part.preview.variant] if part.preview else []))]
    queue = [name for v in variants for name in v.system.models(v.settings)]
    needed: set[str] = set()
    while queue:
        name = queue.pop()
        if name not in recipes:
            raise did_you_mean("recipe", name, recipes)
        if not name.replace("-", "").replace("_", "").isalnum():
            raise UsageError(f"invalid name {name!r} of a recipe", fix="use letters, digits, - and _")
        if name not in needed:
            needed.add(name)
            queue += list((recipes[name].get("needs") or {}).values())
    resolved = {name: resolve(own_settings(recipes[name])) for name in recipes if name in needed}
    _check_kinds(variants, {name: {"kind": kind, **settings} for name, (kind, settings) in resolved.items()}, recipes)
    return {
        name: {"kind": kind, **settings, "needs": recipes[name].get("needs") or {}}
        for name, (kind, settings) in resolved.items()
    }


def _check_kinds(
    variants: Iterable[Variant], needed: Mapping[str, Mapping[str, Any]], known: Mapping[str, Mapping[str, Any]]
) -> None:
    """Refuse a row whose recipe is none of its system's; `known` are the tier's recipes as they are written."""
    for variant in variants:
        system, training = variant.system, str(variant.settings.get("training"))
        if not (why := system.refuses(needed[training]) if training in needed else ""):
            continue
        fitting = [name for name, recipe in known.items() if recipe.get("kind") and not system.refuses(recipe)]
        one = f" ({', '.join(fitting)})" if fitting else ""
        raise UsageError(
            f"row {variant.row!r}: system {system.name!r} cannot run recipe {training!r}: {why}",
            fix=f"give the row another `training`{one}, or the `system` that the recipe is for",
        )


def own_settings(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's settings without the names of the recipes it reads."""
    return {field: value for field, value in recipe.items() if field != "needs"}


def _in_keys(recipes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The recipes as they enter the protocol's hash."""
    from flashbench.laptop.settings import identity

    return {name: [identity(own_settings(recipe)), recipe["needs"]] for name, recipe in recipes.items()}


def trials(protocol: Protocol, *, replicas: Iterable[int] = (0,)) -> list[Trial]:
    """Every clip that the protocol asks for, in every replica: its variants on its cases, then those of its sets."""
    return [
        Trial(variant=variant, case=case, geometry=sized(part.geometry, variant), replica=replica, preview=part.preview)
        for part in protocol.parts
        for replica in replicas
        for variant in part.variants
        for case in part.cases
    ]
