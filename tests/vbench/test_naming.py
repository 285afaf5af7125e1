"""VBench's file names: round trips, collisions, and names that are no names."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashbench.errors import InvalidError
from flashbench.vbench import naming
from flashbench.vbench.naming import Named

FACADE = "A façade of a café, naïve style"
ORDINARY = [
    "A person is riding a bike", "A person is riding a bike in the park", "A dog-like robot, route-66",
    "In v1.5 style. Wide", "snake_case prompt", "5", "-dash first", "two--dashes", "ends with -3", "a~b",
    "a (b) 'c' \"d\" : ? *", FACADE, "雪の日", "🚀 up",
]  # fmt: skip


def folder(tmp_path: Path, named: list[Named]) -> list[str]:
    for one in named:
        (tmp_path / one.file).write_bytes(b"")
    return sorted(path.name for path in tmp_path.iterdir())


def test_ordinary_prompts_keep_vbenchs_names_and_come_back(tmp_path: Path) -> None:
    samples = [(prompt, index) for prompt in ORDINARY for index in (0, 4, 12)]
    named = naming.plan(samples)
    assert all(one.official and one.file == f"{one.prompt}-{one.index}.mp4" for one in named)
    matched = naming.match(folder(tmp_path, named), ORDINARY)
    assert matched.found == {one.file: (one.prompt, one.index) for one in named}
    assert not matched.unknown and not matched.absent


def test_a_prompt_is_matched_whole_and_never_by_its_start() -> None:
    prompts = ["a cat", "a cat sleeps", "a cat-1"]
    files = ["a cat-0.mp4", "a cat sleeps-0.mp4", "a cat-1-0.mp4", "a cat-1.mp4", "a cat sle-0.mp4", "a cat sleeps.mp4"]
    matched = naming.match(files, prompts)
    assert matched.found == {
        "a cat-0.mp4": ("a cat", 0),
        "a cat sleeps-0.mp4": ("a cat sleeps", 0),
        "a cat-1-0.mp4": ("a cat-1", 0),
        "a cat-1.mp4": ("a cat", 1),
    }
    assert matched.unknown == {
        "a cat sle-0.mp4": "its prompt is not one of those asked for",
        "a cat sleeps.mp4": "its name does not end in -INDEX",
    }


@pytest.mark.parametrize(
    "file", ["a-.mp4", "-0.mp4", "a-00.mp4", "a-+1.mp4", "a-1.5.mp4", "a-٣.mp4", "a-²", "a", "", ".mp4"]
)
def test_names_without_an_index(file: str) -> None:
    assert naming.parse(file) is None


def test_names_with_and_without_suffix() -> None:
    assert naming.parse("a v1.5-0") == ("a v1.5", 0)
    assert naming.parse("a-0.MP4") == naming.parse("a-0.webm") == naming.parse("a-0") == ("a", 0)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_composed_and_decomposed_names_are_one_prompt(form: str) -> None:
    file = unicodedata.normalize(form, f"{FACADE}-0.mp4")
    for prompt in (FACADE, unicodedata.normalize("NFD", FACADE)):
        assert naming.match([file], [prompt]).found == {file: (prompt, 0)}


def test_collisions_get_a_safe_name_and_the_manifest_leads_back(tmp_path: Path) -> None:
    prompts = [
        "a fantasy landscape", "A fantasy landscape", "x" * 252, "../../etc/passwd", "a\\b", "line\nbreak", "nul\0", "",
        " ", unicodedata.normalize("NFC", FACADE), unicodedata.normalize("NFD", FACADE), "straße", "STRASSE", "twice",
        "twice", "..", ".", "\ud800",
    ]  # fmt: skip
    named = naming.plan([(prompt, 0) for prompt in prompts])
    assert [one.prompt for one in named if one.official] == [
        "a fantasy landscape",
        FACADE,
        "straße",
        "twice",
        "..",
        ".",
    ]
    reasons = {one.prompt: one.reason for one in named if one.reason}
    assert reasons["A fantasy landscape"] == "too like a fantasy landscape-0.mp4"
    assert reasons["x" * 252] == "the name would take 258 of 255 bytes"
    assert "separates folders" in reasons["../../etc/passwd"] and "control" in reasons["nul\0"]
    assert "twice" in reasons["twice"] and "empty" in reasons[""] and "Unicode" in reasons["\ud800"]
    assert len({one.file.casefold() for one in named}) == len(named)
    home = tmp_path / "videos"
    home.mkdir()
    files = folder(home, named)
    assert len(files) == len(prompts) and {path.name for path in tmp_path.iterdir()} == {"videos"}
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text(naming.manifest_text(named), encoding="utf-8")
    back = naming.read_manifest(manifest)
    assert back == named
    matched = naming.match([one.file for one in named], prompts, back)
    assert not matched.unknown
    for one in named:
        prompt, index = matched.found[one.file]
        assert unicodedata.normalize("NFC", prompt) == unicodedata.normalize("NFC", one.prompt) and index == 0
    assert naming.prompt_file(named)[named[1].file] == "A fantasy landscape"


def test_a_safe_name_takes_no_name_that_a_later_prompt_has() -> None:
    (thief,) = naming.plan([("a/b", 0)])
    victim = thief.file.removesuffix("-0.mp4")
    first, second = naming.plan([("a/b", 0), (victim, 0)])
    assert second.official and second.file == thief.file
    assert not first.official and first.file == thief.file.replace("-0.mp4", "~2-0.mp4")


def test_room_for_what_vbench_long_appends() -> None:
    prompt = "y" * 245
    assert naming.plan([(prompt, 0)])[0].official
    (one,) = naming.plan([(prompt, 0)], limit=naming.NAME_MAX - naming.LONG_ROOM)
    assert one.reason == "the name would take 251 of 250 bytes"


def test_bytes_count_and_not_characters() -> None:
    assert "bytes" in naming.invalid("雪" * 85 + ".mp4")
    assert naming.invalid("é" * 100 + ".mp4") == "the name would take 304 of 255 bytes", (
        "decomposed, as macOS stores it"
    )


@given(st.lists(st.tuples(st.text(max_size=300), st.integers(0, 3)), max_size=6))
def test_any_prompts_at_all(samples: list[tuple[str, int]]) -> None:
    named = naming.plan(samples)
    assert [(one.prompt, one.index) for one in named] == samples
    assert len({unicodedata.normalize("NFC", one.file).casefold() for one in named}) == len(named)
    for one in named:
        assert Path(one.file).name == one.file and "\\" not in one.file and "\0" not in one.file
        assert len(one.file.encode()) <= naming.NAME_MAX
        if one.official:
            assert naming.match([one.file], [one.prompt]).found == {one.file: (one.prompt, one.index)}
    matched = naming.match([one.file for one in named], [prompt for prompt, _ in samples], named)
    assert not matched.unknown and not matched.absent


def test_a_name_that_differs_in_case_is_explained() -> None:
    matched = naming.match(["a dog-0.mp4"], ["A dog", "b"])
    assert matched.unknown == {"a dog-0.mp4": "its prompt differs from 'A dog' in case"}
    assert matched.absent == ("A dog", "b")


def test_where_vbenchs_tools_misread_names() -> None:
    assert naming.hazards("plain") == []
    assert len(naming.hazards("snake_case and well-known")) == 2


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ({"path": "../x-0.mp4", "prompt": "x", "index": 0}, "plain file name"),
        ({"path": "/etc/passwd", "prompt": "x", "index": 0}, "plain file name"),
        ({"path": "..", "prompt": "x", "index": 0}, "plain file name"),
        ({"path": "a\\b", "prompt": "x", "index": 0}, "plain file name"),
        ({"path": "", "prompt": "x", "index": 0}, "plain file name"),
        ({"path": "x", "prompt": "x", "index": -1}, "not a line of a manifest"),
        ({"path": "x", "prompt": "x", "index": True}, "not a line of a manifest"),
        ({"path": "x", "prompt": 5, "index": 0}, "not a line of a manifest"),
        ({"path": "x", "prompt": "x"}, "not a line of a manifest"),
        (["x"], "not a line of a manifest"),
    ],
)
def test_broken_manifests(tmp_path: Path, line: object, why: str) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_text("\n" + json.dumps(line), encoding="utf-8")
    with pytest.raises(InvalidError, match=why) as caught:
        naming.read_manifest(path)
    assert f"{path}:2" in str(caught.value)


def test_a_manifest_that_is_no_text_or_says_things_twice(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_bytes(b"\xff\xfe{")
    with pytest.raises(InvalidError, match="not a line of a manifest"):
        naming.read_manifest(path)
    path.write_text(naming.manifest_text([Named("a.mp4", "x", 0), Named("A.mp4", "y", 0)]))
    with pytest.raises(InvalidError, match="listed twice"):
        naming.read_manifest(path)
    with pytest.raises(InvalidError, match="cannot read"):
        naming.read_manifest(tmp_path / "absent")
