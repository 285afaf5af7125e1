"""Keys: one text per value, one key per meaning, and an identity of code that ignores words."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashbench import keys

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12)


def test_keys_are_golden() -> None:
    """A change here makes every stored result unknown: bump `keys.SCHEMA` and say so in the changelog."""
    assert keys.canonical_json({"b": 1.0, "a": [1.5, None, True, "é"], "c": Fraction(8, 2)}) == (
        '{"a":[1.5,null,true,"\\u00e9"],"b":1,"c":"4/1"}'
    )
    assert keys.key("clip", nfe=4, case="a/0") == "ee07b9d88b7c8a6efdcbe446366363f6c8ba30bdc806a10d06321e37917b501e"


@given(st.dictionaries(st.text(), values))
def test_order_of_fields_does_not_matter(mapping: dict[str, object]) -> None:
    backwards = dict(reversed(mapping.items()))
    assert keys.canonical_json(mapping) == keys.canonical_json(backwards)


def test_settings_that_mean_the_same_have_one_key() -> None:
    assert keys.key("x", nfe=4) == keys.key("x", nfe=4.0)
    assert keys.key("x", size=(1, 2)) == keys.key("x", size=[1, 2])


def test_settings_that_differ_have_other_keys() -> None:
    variants = [{"nfe": 4}, {"nfe": 5}, {"nfe": "4"}, {"step": 4}, {"nfe": 4, "more": None}, {"nfe": True}]
    assert len({keys.key("x", **settings) for settings in variants}) == len(variants)
    assert keys.key("x", nfe=4) != keys.key("y", nfe=4)


@pytest.mark.parametrize("bad", [math.nan, math.inf, object(), b"bytes"])
def test_what_cannot_be_compared_cannot_be_a_key(bad: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        keys.key("x", value=bad)


def test_numerics_class_names_what_decides_the_last_bits() -> None:
    pytest.importorskip("torch")
    one, two = keys.numerics_class(threads=1), keys.numerics_class(threads=2)
    assert {"device", "dtype", "isa", "threads", "torch", "pillow", "opencv"} <= set(one) and one != two
    assert {"isa", "numpy", "scipy", "opencv"} <= set(keys.scoring_class())


def _module(folder: Path, text: str) -> Path:
    path = folder / "module.py"
    path.write_text(text, encoding="utf-8")
    return path


def test_words_do_not_change_the_identity_of_code(tmp_path: Path) -> None:
    plain = keys.syntax(_module(tmp_path, "def f(x):\n    return x + 1\n"))
    worded = keys.syntax(
        _module(tmp_path, '"""Docs."""\n\n\ndef f(x):\n    """More."""\n    # why\n    return x + 1\n')
    )
    assert plain == worded


def test_arithmetic_changes_the_identity_of_code(tmp_path: Path) -> None:
    plain = keys.syntax(_module(tmp_path, "def f(x):\n    return x + 1\n"))
    assert plain != keys.syntax(_module(tmp_path, "def f(x):\n    return x + 2\n"))


def test_import_closure_follows_imports_inside_functions() -> None:
    found = keys.import_closure("flashbench.systems.controls")
    assert {"flashbench.systems.inputs", "flashbench.cascade.degrade", "flashbench.types"} <= set(found)
    assert "flashbench.cli.program" not in found
