"""Things that are found by name: ours register where they are defined, other packages offer theirs by entry points.

`flashbench.metrics.registry` and `flashbench.systems.registry` each hold one `Registry`.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import pkgutil
import sys
from collections.abc import Callable, Mapping
from functools import cached_property, lru_cache
from importlib.metadata import Distribution, EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar
from uuid import uuid4

from flashbench import keys
from flashbench.errors import UsageError, did_you_mean


class Named(Protocol):
    """What a registry holds: anything that has a name."""

    @property
    def name(self) -> str:
        """The name that the thing is found by."""


T = TypeVar("T", bound=Named)


class _Ours(NamedTuple, Generic[T]):
    thing: T
    place: str
    """Module and line where it is registered."""
    scope: Mapping[str, Any]
    """The module's names; of a module that is imported anew they are others."""


class Registry(Generic[T]):
    """Things of one kind by name.

    Args:
        kind: what messages call them.
        base: the class that they are instances of.
        package: the package whose modules register ours; they are imported when something is first asked for.
        group: the group of entry points by which other packages offer theirs, under the name of the thing itself.
    """

    def __init__(self, kind: str, base: type[T], *, package: str, group: str) -> None:
        self.kind, self.base, self.package, self.group = kind, base, package, group
        self._ours: dict[str, _Ours[T]] = {}
        self._families: dict[str, tuple[str, Callable[[str], T]]] = {}
        self._discovered = False

    def register(self, *things: T) -> None:
        """Make things of ours known by their names; called by the module that defines them.

        Raises:
            UsageError: another one has such a name.
        """
        caller = sys._getframe(1)
        scope, place = caller.f_globals, f"{caller.f_globals['__name__']}, line {caller.f_lineno}"
        for thing in things:
            earlier = self._ours.get(thing.name)
            anew = earlier and earlier.scope is not scope and earlier.scope["__name__"] == scope["__name__"]
            if earlier and not anew:
                raise self._twice(thing.name, earlier.place, place)
            self._ours[thing.name] = _Ours(thing, place, scope)

    def family(self, prefix: str, placeholder: str, make: Callable[[str], T]) -> None:
        """Let `make` give the thing of every name `prefix:…`; lists show it as `prefix:placeholder`."""
        if prefix in self._families:
            raise UsageError(f"the family {prefix}: of {self.kind}s is registered twice", fix="rename one of the two")
        self._families[prefix] = (placeholder, make)

    def names(self) -> tuple[str, ...]:
        """Names of all things that have one of their own, ours and installed ones, sorted."""
        self._discover()
        return tuple(sorted({*self._ours, *self._offered}))

    def families(self) -> tuple[str, ...]:
        """How the names of families are written, e.g. `pyiqa:NAME`."""
        self._discover()
        return tuple(f"{prefix}:{placeholder}" for prefix, (placeholder, _) in sorted(self._families.items()))

    def get(self, name: str) -> T:
        """The thing called `name`.

        Raises:
            UsageError: nothing has that name, two packages offer it, or the one that does leads to no such thing.
        """
        self._discover()
        if name in self._ours:
            return self._ours[name].thing  # a package that takes a name which we gave later must not stop its users
        offered = self._offered.get(name, ())
        if len(offered) > 1:
            raise self._twice(name, *(f"{entry.value} ({_said(entry.dist)})" for entry in offered))
        prefix, colon, _ = name.partition(":")
        if colon and prefix in self._families:
            return self._families[prefix][1](name)
        if not offered:
            raise did_you_mean(self.kind, name, self.names())
        return self._loaded(offered[0])

    def third_party(self, thing: T) -> dict[str, Any]:
        """What a key holds of code that is not ours, so that other code is another result; empty for ours.

        The source of the modules that define it and the classes that it is made of, with those of their packages that
        these import; and the distribution's name and version, where it is installed as a package and not as a folder to
        be edited. What a script imports from beside it is not followed.
        """
        if thing.name in self._ours and _top(type(thing).__module__) == _top(__name__):
            return {}  # of ours no more is asked, for every score's key does
        entries = () if thing.name in self._ours else self._offered.get(thing.name, ())
        classes = {_module(kind.__module__) for kind in type(thing).__mro__}
        modules = {*classes, *(_leads_to(entry) for entry in entries)}
        known = {_top(__name__), *sys.stdlib_module_names} - {"__main__"}
        theirs = tuple(sorted(name for name in modules if _top(name) not in known))
        if not theirs:
            return {}
        everything = [entry for offered in self._offered.values() for entry in offered]
        packages = [entry.dist for entry in everything if entry.dist and _top(_leads_to(entry)) in map(_top, theirs)]
        fixed = sorted({_said(package) for package in packages if not _editable(package)})
        return {"third_party": {"distributions": fixed, "source": _source(type(thing), theirs)}}

    def _discover(self) -> None:
        """Import the package's modules and packages, one level deep: each registers what it defines."""
        if self._discovered:
            return
        home = importlib.import_module(self.package)
        for child in sorted(module.name for module in pkgutil.iter_modules(home.__path__)):
            importlib.import_module(f"{self.package}.{child}")
        self._discovered = True

    @cached_property
    def _offered(self) -> Mapping[str, tuple[EntryPoint, ...]]:
        offers: dict[str, tuple[EntryPoint, ...]] = {}
        for entry in entry_points(group=self.group):
            offers[entry.name] = (*offers.get(entry.name, ()), entry)
        return offers

    def _loaded(self, entry: EntryPoint) -> T:
        name = entry.name
        try:
            thing = entry.load()
        except (ImportError, AttributeError) as error:
            what = f"{self.kind} {name!r} cannot be loaded from {entry.value}: {error}"
            raise UsageError(what, fix="reinstall the package that offers it") from error
        if not isinstance(thing, self.base) or thing.name != name:
            base = self.base.__name__
            raise UsageError(
                f"entry point {name!r} ({entry.value}) is not a {self.group}.{base} named {name!r}",
                fix=f"let the entry point of group {self.group} lead to a {base} instance of its own name",
            )
        return thing

    def _twice(self, name: str, *places: str) -> UsageError:
        return UsageError(
            f"{self.kind} {name!r} is registered twice: {'; '.join(places)}", fix="rename or uninstall one of them"
        )


def _top(module: str) -> str:
    """`a` of `a.b.c`."""
    return module.partition(".")[0]


def _module(name: str) -> str:
    """A module by its name in the process that was started: a worker knows the script as `__mp_main__`."""
    return "__main__" if name == "__mp_main__" else name


def _leads_to(entry: EntryPoint) -> str:
    """The module that an entry point names, well formed or not."""
    return entry.value.partition(":")[0].strip()


def _said(package: Distribution | None) -> str:
    return "no distribution" if package is None else f"{package.name} {package.version}"


def _editable(package: Distribution) -> bool:
    """Whether it is a folder to be edited, whose version says nothing about its code."""
    origin = json.loads(package.read_text("direct_url.json") or "{}")
    return bool(origin.get("dir_info", {}).get("editable"))


@lru_cache(maxsize=256)
def _source(cls: type, modules: tuple[str, ...]) -> str:
    """sha256 over the files of modules and of what they import of their own packages.

    Read once per class, for what runs is what was imported. A class without a file (typed in, a notebook's) is like no
    other: it gets a random number.
    """
    files = dict[str, Path]()
    for name in modules:
        file = getattr(sys.modules.get(name), "__file__", None)
        files |= keys.import_closure(name) or ({name: Path(file)} if file and Path(file).is_file() else {})
    if not files:
        return uuid4().hex
    state = hashlib.sha256()
    for name, path in sorted(files.items()):
        state.update(f"{name} {keys.file_sha256(path)}\n".encode())
    return state.hexdigest()
