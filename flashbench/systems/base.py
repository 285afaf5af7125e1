"""What a system is: one way of making a clip from a case."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from flashbench.errors import InvalidError, did_you_mean
from flashbench.types import Case, Clip, Geometry, Scalar, Settings


@dataclass(frozen=True, kw_only=True)
class Request:
    """Everything a system may look at: making a clip is a pure function of this."""

    case: Case
    settings: Settings
    geometry: Geometry
    reference: Clip | None
    """The case's original, which the low-quality input is made from; None where a prompt is all there is."""
    preview: Clip | None = None
    """Stage I's clip of a prompt, which is the low-quality input; None for material."""
    models: Mapping[str, Path]
    """Folder of each trained model that `System.models` named."""


class System(ABC):
    """One way of making a clip. Stateless: a change of arithmetic needs a new `version`."""

    name: ClassVar[str]
    version: ClassVar[int]
    defaults: ClassVar[Settings] = {}
    """Every setting the system knows, with its default."""
    added: ClassVar[Settings] = {}
    """Settings that came later, with the values at which clips are as before: at these they are in no key."""
    assets: ClassVar[tuple[str, ...]] = ()
    """Names in the asset registry of what it reads besides the recipes' models."""
    kinds: ClassVar[tuple[str, ...]] = ()
    """Kinds of recipe that its setting `training` may name; empty where it has no such setting."""
    component: ClassVar[str] = ""
    """Which network of the cascade (`stage1`, `stage2`) its `training` is: weights from elsewhere are of that one."""
    enhances: ClassVar[bool] = True
    """Whether it reads a clip (`reference` or `preview`); False for what makes one from a prompt alone."""

    def models(self, settings: Settings) -> tuple[str, ...]:
        """Names of the recipes whose trained models it reads; none unless overridden."""
        return ()

    def refuses(self, recipe: Mapping[str, Any]) -> str:
        """Why a recipe cannot be its `training`: one of another kind would pass for it in the tables. Empty if it can.

        Args:
            recipe: with its `kind`, and its `component` where the weights are from elsewhere.
        """
        if self.kinds and recipe["kind"] not in self.kinds:
            return f"it is of kind {recipe['kind']}, not {' or '.join(self.kinds)}"
        if self.component and recipe.get("component", self.component) != self.component:
            return f"it is {recipe['component']}, not {self.component}"
        return ""

    def evaluations(self, settings: Settings) -> int:
        """Network evaluations that the settings declare; the harness counts the real ones and compares."""
        return 0

    def identity(self, settings: Settings) -> dict[str, Scalar]:
        """The part of `settings` that enters keys."""
        return {name: v for name, v in settings.items() if name not in self.added or v != self.added[name]}

    def unavailable(self, settings: Settings, recipes: Mapping[str, Mapping[str, Any]]) -> str:
        """Why the tier, whose recipes are given, cannot make such clips; empty if it can. Its rows are then NaN."""
        kinds = [recipes[name] for name in self.models(settings) if name in recipes]
        return "; ".join(dict.fromkeys(str(recipe["why"]) for recipe in kinds if recipe["kind"] == "unreleased"))

    def cost(
        self, settings: Settings, geometry: Geometry, recipes: Mapping[str, Mapping[str, Any]]
    ) -> Mapping[str, float]:
        """What a clip costs, as the metrics of `metrics.recorded` call it; computed from shapes, never timed."""
        return {}

    def check(self, settings: Settings, geometry: Geometry) -> None:  # noqa: B027 - most systems make anything
        """Raise a `UsageError` for settings or a geometry that the system cannot make, before any work starts."""

    @abstractmethod
    def make(self, request: Request) -> Clip:
        """Make the clip that `request` asks for."""


def resolve(system: System, settings: Settings) -> dict[str, Scalar]:
    """The system's defaults with `settings` on top; an unknown setting is a `UsageError`."""
    for name in settings:
        if name not in system.defaults:
            raise did_you_mean(f"setting of system {system.name!r}", name, system.defaults)
    return {**system.defaults, **settings}


def reference_of(request: Request) -> Clip:
    """The request's original clip; an `InvalidError` where the case has none."""
    if request.reference is None:
        raise InvalidError(
            f"case {request.case.id} has no original clip, which this system needs",
            fix="use cases of set `material`, `scenes` or `synthetic`",
        )
    return request.reference


@contextmanager
def counted_evaluations() -> Iterator[list[int]]:
    """Counts forwards of every module whose class says `counts_as_evaluation`; the count is item 0 of the list.

    A global hook of torch sees them whoever calls, so that a system cannot declare what it does not do.
    """
    import torch

    count = [0]

    def hook(module: torch.nn.Module, inputs: object, output: object) -> None:
        if getattr(module, "counts_as_evaluation", False):
            count[0] += 1

    handle = torch.nn.modules.module.register_module_forward_hook(hook)  # type: ignore[no-untyped-call]
    try:
        yield count
    finally:
        handle.remove()
