"""Protocols: compose a YAML with its tier, check it, and expand it into variants and cases.

Merge order: tier file < protocol < the protocol's `tiers.<tier>` block < command line. Names of systems, metrics and
recipes go through their registries; nothing in a YAML names code.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import yaml

from flashbench import keys, systems
from flashbench.errors import FlashBenchError, UsageError, did_you_mean
from flashbench.paths import protocol_root, read_yaml
from flashbench.published import published
from flashbench.types import Case, Claim, Geometry, Protocol, Trial, Variant

_TIER_FIELDS = {"tier", "geometry", "cases", "low", "recipes", "budget", "tier_seeds", "controls"}
_FIELDS = _TIER_FIELDS | {
    "name", "title", "table", "system", "settings", "rows", "metrics", "primary", "baseline", "margins", "claims",
    "curve", "seeds", "tiers",
}  # fmt: skip
_KNOWN = {
    "geometry": ("frames", "height", "width", "fps", "scale"),
    "cases": ("set", "split", "count", "per_source"),
    "budget": ("workers", "threads"),
    "low": (
        "blur_probability", "blur_sigma", "resize_factor", "kernels", "noise_probability", "noise_sigma",
        "jpeg_probability", "jpeg_quality", "mild_probability", "last_kernel",
    ),
}  # fmt: skip
"""Fields inside fields; those of `low` are `cascade.degrade.PixelDegradation`'s (a test compares)."""
_REQUIRED = ("name", "title", "table", "system", "rows", "metrics", "primary", "baseline", "geometry", "cases", "low")


def names() -> tuple[str, ...]:
    """Names of the protocols that can be run; a `UsageError` where their folder is none."""
    root = protocol_root()
    if not (root / "tier").is_dir():
        raise UsageError(f"{root} is no folder of protocols", fix="set FLASHBENCH_PROTOCOLS to one that has tier/")
    return tuple(sorted(path.stem for path in root.glob("*.yaml")))


def tiers() -> tuple[str, ...]:
    """Names of the tiers."""
    return tuple(sorted(path.stem for path in (protocol_root() / "tier").glob("*.yaml")))


def load_protocol(name: str, *, tier: str = "laptop", overrides: Sequence[str] = ()) -> Protocol:
    """The protocol `name` at `tier`, with `overrides` such as `cases.split=dev` on top.

    Raises:
        UsageError: no such protocol or tier, a broken YAML, an unknown field, system, metric, row or setting.
    """
    if name not in names():
        raise did_you_mean("protocol", name, names())
    if tier not in tiers():
        raise did_you_mean("tier", tier, tiers())
    where = f"protocols/{name}.yaml"
    config = _compose(name, tier, overrides)
    _check_fields(config, name, where)
    try:
        return _build(config, tier)
    except FlashBenchError as error:
        raise type(error)(f"{where}: {error.what}", fix=error.fix) from error
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise UsageError(f"{where}: a field has the wrong form: {error!r}", fix="compare it with nfe.yaml") from error


def _check_fields(config: Mapping[str, Any], name: str, where: str) -> None:
    """Refuse unknown and missing fields, and a name that is not the file's (results are kept by it)."""
    for field in config:
        if field not in _FIELDS:
            raise did_you_mean(f"field in {where}:", field, _FIELDS)
    if config.get("name") != name:
        raise UsageError(f"{where} calls itself {config.get('name')!r}", fix=f"write `name: {name}`")
    for field, known in _KNOWN.items():
        for inner in config.get(field) or {}:
            if inner not in known:
                raise did_you_mean(f"field in `{field}` of {where}:", inner, known)
    for field in _REQUIRED:
        if config.get(field) is None:
            raise UsageError(f"{where} has no `{field}`", fix=f"add `{field}:` to it or to its tier file")


def _compose(name: str, tier: str, overrides: Sequence[str]) -> dict[str, Any]:
    """The merged configuration as plain data."""
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    root = protocol_root().absolute()
    for path in (root / f"{name}.yaml", root / "tier" / f"{tier}.yaml"):
        read_yaml(path)  # for its errors: Hydra's name neither line nor column
    for item in overrides:
        field, equals, _ = item.partition("=")
        if not equals:
            raise UsageError(f"override {item!r} has no value", fix="write FIELD=VALUE, e.g. cases.split=dev")
        if field.split(".")[0] not in _FIELDS:
            raise did_you_mean("field in override", field, _FIELDS)
    try:
        with initialize_config_dir(config_dir=str(root), version_base="1.3"):
            config = compose(name, overrides=[f"tier={tier}"])
        OmegaConf.set_struct(config, False)
        block = (config.pop("tiers", None) or {}).get(tier)
        merged = OmegaConf.merge(config, block or {}, OmegaConf.from_dotlist(list(overrides)))
        plain = OmegaConf.to_container(merged, resolve=True)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        first = str(error).splitlines()[0]
        fix = "compare it with nfe.yaml"
        raise UsageError(f"protocols/{name}.yaml cannot be composed: {first}", fix=fix) from error
    assert isinstance(plain, dict)
    return {str(field): value for field, value in plain.items()}


def _build(config: Mapping[str, Any], tier: str) -> Protocol:
    variants = _variants(config)
    rows = [variant.row for variant in variants]
    claims = tuple(map(_claim, config.get("claims") or ()))
    for row in [config["baseline"], *(row for claim in claims for row in claim.rows)]:
        if row not in rows:
            raise did_you_mean("row", row, rows)
    metrics = _metrics(config["metrics"], config["primary"])
    _whole_numbers(config)
    recipes = _needed_recipes(variants, config.get("recipes") or {})
    geometry = Geometry(**{**config["geometry"], "fps": Fraction(str(config["geometry"]["fps"]))})
    for variant in variants:
        systems.get(variant.system).check(variant.settings, geometry)
    identity = {name: value for name, value in config.items() if name not in ("budget", "recipes", "title")}
    versions = [[v.row, v.system, systems.get(v.system).version, v.settings] for v in variants]
    return Protocol(
        name=config["name"],
        title=config["title"],
        tier=tier,
        table=config["table"],
        variants=variants,
        cases=_cases(config),
        geometry=geometry,
        metrics=metrics,
        primary=tuple(config["primary"]),
        baseline=config["baseline"],
        margins=dict(config.get("margins") or {}),
        claims=claims,
        published=published(config["table"]),
        curve=config.get("curve"),
        recipes=recipes,
        budget={name: value for name, value in (config.get("budget") or {}).items() if value is not None},
        hash=keys.key("protocol", config=identity, recipes=recipes, variants=versions),
    )


def _whole_numbers(config: Mapping[str, Any]) -> None:
    """Refuse counts and sizes that are no whole numbers, or too small."""
    least = {"geometry.frames": 1, "geometry.height": 1, "geometry.width": 1, "geometry.scale": 1, "seeds": 1}
    least |= {"cases.count": 1, "cases.per_source": 1, "budget.workers": 0, "budget.threads": 1, "tier_seeds": 1}
    for place, low in least.items():
        field, _, inner = place.partition(".")
        value = (config.get(field) or {}).get(inner) if inner else config.get(field)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < low):
            raise UsageError(f"{place} is {value!r}, not a whole number from {low}", fix=f"correct {place}")


def row_id(settings: Mapping[str, Any]) -> str:
    """`setting=value[,…]`, sorted by setting."""
    return ",".join(f"{name}={settings[name]}" for name in sorted(settings))


def _variants(config: Mapping[str, Any]) -> tuple[Variant, ...]:
    common = config.get("settings") or {}
    system = systems.get(config["system"])
    found: list[Variant] = []
    for block in config["rows"]:
        fixed = block.get("with") or {}
        swept = {name: values if isinstance(values, list) else [values] for name, values in block.items()}
        swept.pop("with", None)
        for values in itertools.product(*swept.values()):
            shown = dict(zip(swept, values, strict=True))
            settings = systems.resolve(system, {**common, **fixed, **shown})
            found.append(Variant(row=row_id(shown), system=system.name, settings=settings))
    for name in config.get("controls") or ():
        control = systems.get(name)
        found.append(Variant(row=name, system=name, settings=systems.resolve(control, {})))
    rows = [variant.row for variant in found]
    if repeated := sorted({row for row in rows if rows.count(row) > 1}):
        raise UsageError(f"row {repeated[0]!r} comes twice", fix="keep one of them")
    return tuple(found)


def _cases(config: Mapping[str, Any]) -> tuple[Case, ...]:
    spec = config["cases"]
    seeds = config["seeds"] if config.get("seeds") is not None else config.get("tier_seeds", 1)
    low = config["low"]
    if spec["set"] == "material":
        from flashbench.laptop.material import read_sources

        sources = [source.id for source in read_sources() if source.split == spec["split"]]
        if not sources:
            raise UsageError(f"no source has split {spec['split']!r}", fix="use train, dev or test")
    elif spec["set"] == "synthetic":
        sources = [f"synthetic-{index}" for index in range(spec["count"])]
    else:
        raise did_you_mean("case set", spec["set"], ("material", "synthetic"))
    return tuple(
        Case(id=f"{source}/{index}", cluster=source, seed=seed, source=source, low=low)
        for source in sources
        for index in range(spec.get("per_source", 1))
        for seed in range(seeds)
    )


def _metrics(chosen: Sequence[str], primary: Sequence[str]) -> tuple[str, ...]:
    from flashbench import metrics

    for name in chosen:
        metrics.get(name)
    for name in primary:
        if name not in chosen:
            raise did_you_mean("primary metric", name, chosen)
    return tuple(chosen)


def _claim(spec: Mapping[str, Any]) -> Claim:
    fields = dict(spec)
    if isinstance(fields.get("equivalent"), list):
        fields["equivalent"] = tuple(fields["equivalent"])
    claim = Claim(**fields)
    directed = claim.better is not None and claim.than is not None
    if directed == (claim.equivalent is not None and claim.margin is not None):
        what = f"claim {claim.id!r} needs `better` and `than`, or `equivalent` and `margin`"
        raise UsageError(what, fix="give one pair")
    return claim


def _needed_recipes(variants: Iterable[Variant], recipes: Mapping[str, Any]) -> dict[str, Any]:
    """Recipes that the variants read, and those that these need in turn, in the tier's order.

    They come resolved, so that a default spelt out is the same protocol.
    """
    from flashbench.laptop.settings import resolve

    queue = [name for v in variants for name in systems.get(v.system).models(v.settings)]
    needed: set[str] = set()
    while queue:
        name = queue.pop()
        if name not in recipes:
            raise did_you_mean("recipe", name, recipes)
        if not name.replace("-", "").replace("_", "").isalnum():
            raise UsageError(f"recipe {name!r} is no plain name", fix="use letters, digits, - and _")
        if name not in needed:
            needed.add(name)
            queue += list((recipes[name].get("needs") or {}).values())
    resolved = {name: resolve(own_settings(recipes[name])) for name in recipes if name in needed}
    return {
        name: {"kind": kind, **settings, "needs": recipes[name].get("needs") or {}}
        for name, (kind, settings) in resolved.items()
    }


def own_settings(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's settings without the names of the recipes it reads."""
    return {field: value for field, value in recipe.items() if field != "needs"}


def trials(protocol: Protocol, *, replicas: Iterable[int] = (0,), limit: int | None = None) -> list[Trial]:
    """Every clip that the protocol asks for, in every replica: its variants on its (first `limit`) cases."""
    return [
        Trial(variant=variant, case=case, geometry=protocol.geometry, replica=replica)
        for replica in replicas
        for variant in protocol.variants
        for case in protocol.cases[:limit]
    ]
