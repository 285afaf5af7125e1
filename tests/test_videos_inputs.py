"""What is scored, by which name, with which prompt and reference."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flashbench.errors import InvalidError, UsageError
from flashbench.videos import inputs


def folder(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def cases(*asked: str | Path) -> list[str]:
    return [video.case for video in inputs.find(asked)[1]]


def test_folders_files_and_globs(tmp_path: Path) -> None:
    root = folder(tmp_path / "clips", "b.mp4", "a.MKV", "sub/c.webm", "notes.txt", "._a.mp4", "f/2.png", "f/10.png")
    assert cases(root) == ["a.MKV", "b.mp4", "f", "sub/c.webm"]
    assert inputs.find([root])[0] == "clips"
    assert cases(root / "b.mp4") == ["b.mp4"] and cases(root / "f") == ["f"]
    assert cases(root / "*.mp4", root / "b.mp4") == ["b.mp4"], "asked for twice"
    assert cases(root / "sub", root / "b.mp4") == ["b.mp4", "sub/c.webm"]
    assert [path.name for path in inputs.pictures(root / "f")] == ["2.png", "10.png"]


def test_names_of_any_kind(tmp_path: Path) -> None:
    fox = "-" + "🦊" + "x" * 241 + ".mp4"
    assert len(fox.encode()) == 250
    root = folder(tmp_path / "odd", fox, "a b.mp4", ".mp4", "naïve.gif")
    (root / b"\xff.mp4".decode("utf-8", "surrogateescape")).write_bytes(b"")
    assert set(cases(root)) == {fox, "a b.mp4", ".mp4", "naïve.gif", "\\xff.mp4"}


@pytest.mark.parametrize("asked", ["gone.mp4", "*.mp4", "empty"])
def test_what_is_not_there_is_said(asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="is not there|holds no video"):
        inputs.find([asked])


PROMPTS = {"b.mp4": ("a fox", 0), "sub/c.webm": ("a café, at night", 3)}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.csv", "path,prompt,seed\nb.mp4,a fox,0\nsub/c.webm,\"a café, at night\",3\n"),
        ("p.jsonl", '{"path": "clips/b.mp4", "prompt": "a fox"}\n'
         '{"path": "c.webm", "prompt": "a café, at night", "index": 3}\n'),
    ],
)  # fmt: skip
def test_prompts_from_files(name: str, content: str, tmp_path: Path) -> None:
    root = folder(tmp_path / "clips", "b.mp4", "sub/c.webm", "d.mp4")
    (tmp_path / name).write_text(content, "utf-8")
    videos, remarks = inputs.prompted(inputs.find([root])[1], tmp_path / name)
    assert {video.case: (video.prompt, video.seed) for video in videos if video.prompt} == PROMPTS
    assert remarks == ["1 of 3 videos have no prompt, d.mp4 among them"]
    assert [video.cluster for video in videos] == ["a fox", "d.mp4", "a café, at night"]


def test_prompts_of_vbenchs_forms(tmp_path: Path) -> None:
    root = folder(tmp_path / "clips", "a fox - red-0.mp4", "a fox - red-12.mp4", "no index.mp4")
    videos, remarks = inputs.prompted(inputs.find([root])[1], "vbench")
    assert [(v.prompt, v.seed) for v in videos] == [("a fox - red", 0), ("a fox - red", 12), (None, 0)]
    assert remarks == ["1 of 3 videos have no prompt, no index.mp4 among them"]
    (listed := tmp_path / "prompts.json").write_text(json.dumps({"a fox - red-0.mp4": "one", "gone.mp4": "two"}))
    videos, remarks = inputs.prompted(inputs.find([root])[1], listed)
    assert [video.prompt for video in videos] == ["one", None, None]
    assert remarks[1] == "1 prompts have no video, that of gone.mp4 among them"


@pytest.mark.parametrize("content", ["", "path,text\na,b\n", "path,prompt\na.mp4,\n", '"\n', "path,prompt\n\xff"])
def test_files_that_hold_no_prompts(content: str, tmp_path: Path) -> None:
    root = folder(tmp_path / "clips", "a.mp4")
    (path := tmp_path / "p.csv").write_bytes(content.encode("latin-1"))
    videos = inputs.find([root])[1]
    if not content:
        assert inputs.prompted(videos, path)[1] == ["1 of 1 videos have no prompt, a.mp4 among them"]
        return
    with pytest.raises(InvalidError, match="no file of prompts|empty or no text"):
        inputs.prompted(videos, path)


def test_two_prompts_for_a_video_are_refused(tmp_path: Path) -> None:
    root = folder(tmp_path / "clips", "a.mp4")
    (path := tmp_path / "p.jsonl").write_text('{"path": "a.mp4", "prompt": "x"}\n{"path": "a", "prompt": "y"}\n')
    with pytest.raises(InvalidError, match="two prompts for a.mp4"):
        inputs.prompted(inputs.find([root])[1], path)


def test_references_by_name_or_but_for_the_suffix(tmp_path: Path) -> None:
    videos = inputs.find([folder(tmp_path / "clips", "a.mp4", "b.mp4", "c.mp4", "d.mp4")])[1]
    truth = folder(tmp_path / "truth", "a.mp4", "b.mkv", "c.mkv", "c.webm")
    found = inputs.references(videos, truth)
    assert found == {"a.mp4": truth / "a.mp4", "b.mp4": truth / "b.mkv"}, "two that could be c's are none"
    with pytest.raises(UsageError, match="is no folder"):
        inputs.references(videos, tmp_path / "gone")
