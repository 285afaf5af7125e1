"""Things found by name: registered where they are defined, offered by entry points, and what keys hold of them."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from flashbench import registry
from flashbench.errors import UsageError
from flashbench.registry import Registry


@dataclasses.dataclass(frozen=True)
class Thing:
    """What the scratch package registers."""

    name: str


Write = Callable[..., Registry[Thing]]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write modules of a package `scratch`, whose registry is returned; `others` are the entry points."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def written(others: tuple[EntryPoint, ...] = (), **modules: str) -> Registry[Thing]:
        monkeypatch.setattr(registry, "entry_points", lambda group: [one for one in others if one.group == group])
        (tmp_path / "scratch").mkdir(exist_ok=True)
        (tmp_path / "scratch" / "__init__.py").touch()
        for name, text in modules.items():
            path = tmp_path / "scratch" / (name.replace("__", "/", 1) + ".py")
            path.parent.mkdir(exist_ok=True)
            head = "import sys\nThing, register, family = sys.modules['scratch.tools'].made\n"
            path.write_text(head + text, "utf-8")
        importlib.invalidate_caches()
        made: Registry[Thing] = Registry("thing", Thing, package="scratch", group="tests.things")
        tools = type(sys)("scratch.tools")
        tools.made = (Thing, made.register, made.family)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "scratch.tools", tools)
        return made

    yield written
    for name in [name for name in sys.modules if name.split(".")[0] in ("scratch", "theirs")]:
        del sys.modules[name]


def test_a_module_and_a_package_register_what_they_define(write: Write) -> None:
    made = write(alone="register(Thing('b'), Thing('a'))", nested____init__="register(Thing('c'))")
    assert "scratch.alone" not in sys.modules, "nothing is imported before something is asked for"
    assert made.names() == ("a", "b", "c") and made.get("c") == Thing("c")
    with pytest.raises(UsageError, match="unknown thing 'd'"):
        made.get("d")


def test_a_name_that_two_modules_register_says_where_both_are(write: Write) -> None:
    made = write(first="register(Thing('a'))", second="\n\nregister(Thing('b'), Thing('a'))")
    for _ in range(2):  # at the second call, too: nothing is half known
        with pytest.raises(UsageError, match="'a' is registered twice: scratch.first, line 3; scratch.second, line 5"):
            made.names()


def test_a_name_twice_in_a_module_is_refused(write: Write) -> None:
    made = write(first="register(Thing('a'))\nregister(Thing('a'))")
    with pytest.raises(UsageError, match="scratch.first, line 3; scratch.first, line 4"):
        made.get("a")


def test_a_module_that_failed_may_be_mended(write: Write, tmp_path: Path) -> None:
    made = write(first="register(Thing('a'))\nraise ImportError('not yet')")
    with pytest.raises(ImportError, match="not yet"):
        made.names()
    path = tmp_path / "scratch" / "first.py"
    path.write_text(path.read_text("utf-8").replace("raise ImportError('not yet')", "register(Thing('b'))"), "utf-8")
    importlib.invalidate_caches()
    assert made.names() == ("a", "b")


def test_a_family_gives_any_name_with_its_prefix(write: Write) -> None:
    made = write(first="family('of', 'NUMBER', Thing)")
    assert made.families() == ("of:NUMBER",) and made.names() == ()
    assert made.get("of:7") == Thing("of:7")
    with pytest.raises(UsageError, match="unknown thing 'off:7'"):
        made.get("off:7")
    again = write(first="family('of', 'NUMBER', Thing)", second="family('of', 'DIM', Thing)")
    for name in ("scratch.first", "scratch.second"):
        sys.modules.pop(name, None)
    with pytest.raises(UsageError, match="family of: of things is registered twice"):
        again.names()


def _offer(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, "tests.things")


def test_a_name_that_two_packages_offer_is_refused_and_no_other(write: Write) -> None:
    theirs = (
        _offer("a", "scratch.first:A"),
        _offer("b", "one:B"),
        _offer("b", "two:B"),
        _offer("c", "scratch.first:C"),
    )
    made = write(theirs, first="A = Thing('a')\nregister(A)\nC = Thing('c')")
    assert made.names() == ("a", "b", "c")
    assert made.get("a") == Thing("a"), "ours wins"
    with pytest.raises(UsageError, match=r"'b' is registered twice: one:B \(no distribution\); two:B"):
        made.get("b")
    assert made.get("c") == Thing("c")


# --- what keys hold of other packages' code -----------------------------------------------------------------------


@pytest.fixture
def theirs(tmp_path: Path, write: Write) -> Callable[..., object]:
    """Import a package `theirs` anew, its files written as told, and say what a key holds of its thing."""

    def described(**files: str) -> object:
        for name in [name for name in sys.modules if name.split(".")[0] == "theirs"]:
            del sys.modules[name]
        (tmp_path / "theirs").mkdir(exist_ok=True)
        for name, text in {"__init__": "", **files}.items():
            (tmp_path / "theirs" / f"{name}.py").write_text(text, "utf-8")
        importlib.invalidate_caches()
        return write().third_party(importlib.import_module("theirs.things").THING)

    return described


MODULE = "from .helper import NAME\nclass Theirs:\n    name = NAME\nTHING = Theirs()\n"


def test_other_code_is_another_key_and_the_same_code_the_same(theirs: Callable[..., object]) -> None:
    first = theirs(things=MODULE, helper="NAME = 'a'", unused="x = 1")
    assert first == theirs(things=MODULE, helper="NAME = 'a'", unused="x = 2")
    changed = [theirs(things=MODULE + "x = 1", helper="NAME = 'a'"), theirs(things=MODULE, helper="NAME = 'b'")]
    assert first not in changed and changed[0] != changed[1]
    assert first == theirs(things=MODULE, helper="NAME = 'a'")


def test_our_code_is_in_no_key(write: Write) -> None:
    from flashbench import metrics, systems

    assert all(metrics.third_party(metrics.get(name)) == {} for name in metrics.names())
    assert metrics.third_party(metrics.get("vbench:scene")) == {}
    assert all(systems.third_party(systems.get(name)) == {} for name in systems.names())


def test_a_class_without_a_file_is_like_no_other(write: Write) -> None:
    made, scope = write(), {"__name__": "typed_in"}
    text = "class Typed:\n    name = 'a'\n"
    exec(text, scope)
    first = scope["Typed"]()  # type: ignore[operator]
    assert made.third_party(first) == made.third_party(first)
    exec(text, scope)
    assert made.third_party(first) != made.third_party(scope["Typed"]())  # type: ignore[operator]
