"""Cases of a protocol: sources of material, captioned scenes, procedural clips, or the first prompts of a suite."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

from flashbench.data import prompts, scenes
from flashbench.errors import UsageError, did_you_mean
from flashbench.metrics.base import Metric
from flashbench.protocol.types import Protocol, Subset
from flashbench.types import Case, CaseKind, Prompt

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1
"""Of which cases a protocol's fields stand for. It is in no key, where the cases themselves are; DVC reads it."""

Suite: TypeAlias = Callable[..., Sequence[Prompt]]
"""Called like `prompts.suite`."""


def build(config: Mapping[str, Any], suite: Suite | None = None) -> tuple[tuple[Case, ...], Subset | None]:
    """The cases of a configuration, at most `cases.limit` of their sources or prompts, and which part of a suite it is.

    Of each source (or scene) they are `cases.per_source` clips from number `cases.first` on. `suite` is asked for
    prompts in place of `prompts.suite`.
    """
    spec, limit = config["cases"], config["cases"].get("limit")
    seeds = config["seeds"] if config.get("seeds") is not None else config.get("tier_seeds", 1)
    if spec["set"] == "prompts":
        return _prompt_cases(spec, seeds, suite or prompts.suite)
    shows: dict[str, Prompt] = {}
    if spec["set"] == "material":
        from flashbench.data.material import read_sources

        known = {source.id: source for source in read_sources() if source.split == spec["split"]}
        for name in spec.get("sources") or ():
            if name not in known:
                raise did_you_mean(f"{spec['split']} source", name, known)
        sources = list(spec.get("sources") or known)
        if not sources:
            raise UsageError(f"no source has split {spec['split']!r}", fix="use train, dev or test")
        if spec.get("captions"):
            shows = {name: prompts.prompt_of(known[name].caption) for name in sources}
    elif spec["set"] == "synthetic":
        sources = [f"synthetic-{index}" for index in range(spec["count"])]
        if spec.get("captions"):
            patterns = [f"A procedural pattern, number {number}." for number in range(spec["count"])]
            shows = dict(zip(sources, map(prompts.prompt_of, patterns), strict=True))
    elif spec["set"] == "scenes":
        shows = _scenes(str(spec.get("split")))
        sources = list(shows)
    else:
        raise did_you_mean("case set", spec["set"], get_args(CaseKind))
    first = spec.get("first", 0)
    cases = tuple(
        Case(
            id=f"{source}/{index}", cluster=source, seed=seed, source=source, low=config["low"],
            prompt=shows.get(source),
        )
        for source in sources[:limit]
        for index in range(first, first + spec.get("per_source", 1))
        for seed in range(seeds)
    )  # fmt: skip
    return cases, None


def _scenes(split: str) -> dict[str, Prompt]:
    """`scene-N` to its caption, for the held-out scenes of a split in the order of the laptop's suite of prompts."""
    suites = {theirs: name for name, theirs in prompts.LAPTOP.items()}
    if split not in suites:
        raise did_you_mean("split of scenes", split, suites)
    captions = prompts.ordered(prompts.suite(suites[split]))
    pairs = [(scenes.parse(prompt.original), prompt) for prompt in captions]
    return {f"scene-{scenes.SCENES.index(scene)}": prompt for scene, prompt in pairs if scene}


def _prompt_cases(spec: Mapping[str, Any], seeds: int, suite: Suite) -> tuple[tuple[Case, ...], Subset]:
    """Cases of a suite's first prompts: `seeds` clips each, for VBench's flickering `flicker_seeds` if given."""
    name = str(spec.get("suite"))
    whole = prompts.ordered(suite(name, rewrite=spec.get("rewrite")))
    chosen = whole[: spec.get("limit")]
    cases = prompts.vbench_cases(chosen, seeds, spec.get("flicker_seeds") or seeds)
    return cases, Subset(suite=name, chosen=len(chosen), of=len(whole), hash=prompts.subset_hash(chosen))


def asked(protocol: Protocol) -> dict[str, tuple[Metric, ...]]:
    """Case to the metrics that it is scored with: its set's, of VBench's dimensions those that its prompt serves."""
    return {case.id: asked_of(part, case) for part in protocol.parts for case in part.cases}


def asked_of(part: Protocol, case: Case) -> tuple[Metric, ...]:
    """Metrics that a case of `part` is scored with."""
    return tuple(metric for metric in part.metrics if prompts.serves(case, metric.name))


def of_part(part: Protocol, scores: pd.DataFrame) -> pd.DataFrame:
    """The scores of one set of a protocol's cases."""
    return scores[scores["case"].isin({case.id for case in part.cases})]
