"""What is scored, by which name, with which prompt and reference."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path

import pytest

from flashbench.errors import InvalidError, UsageError
from flashbench.videos import find, pictures


def folder(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def cases(*asked: str | Path) -> list[str]:
    return [video.case for video in find.find(asked).videos]


def test_folders_files_and_globs(tmp_path: Path) -> None:
    root = folder(tmp_path / "clips", "b.mp4", "a.MKV", "sub/c.webm", "notes.txt", "._a.mp4", "f/2.png", "f/10.png")
    assert cases(root) == ["a.MKV", "b.mp4", "f", "sub/c.webm"]
    assert find.find([root]).label == "clips"
    assert cases(root / "b.mp4") == ["b.mp4"] and cases(root / "f") == ["f"]
    assert cases(root / "*.mp4", root / "b.mp4") == ["b.mp4"], "asked for twice"
    assert cases(root / "sub", root / "b.mp4") == ["b.mp4", "sub/c.webm"]
    assert [path.name for path in pictures.pictures(root / "f")] == ["2.png", "10.png"]


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
        find.find([asked])


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
    videos, remarks = find.prompted(find.find([root]).videos, tmp_path / name)
    assert {video.case: (video.prompt, video.seed) for video in videos if video.prompt} == PROMPTS
    assert remarks == ["1 of 3 videos have no prompt, d.mp4 among them"]
    assert [video.cluster for video in videos] == ["a fox", "d.mp4", "a café, at night"]


def test_prompts_of_vbenchs_forms(tmp_path: Path) -> None:
    root = folder(tmp_path / "clips", "a fox - red-0.mp4", "a fox - red-12.mp4", "no index.mp4")
    videos, remarks = find.prompted(find.find([root]).videos, "vbench")
    assert [(v.prompt, v.seed) for v in videos] == [("a fox - red", 0), ("a fox - red", 12), (None, 0)]
    assert remarks == ["1 of 3 videos have no prompt, no index.mp4 among them"]
    (listed := tmp_path / "prompts.json").write_text(json.dumps({"a fox - red-0.mp4": "one", "gone.mp4": "two"}))
    videos, remarks = find.prompted(find.find([root]).videos, listed)
    assert [video.prompt for video in videos] == ["one", None, None]
    assert remarks[1] == "1 prompts have no video, that of gone.mp4 among them"


@pytest.mark.parametrize("content", ["", "path,text\na,b\n", "path,prompt\na.mp4,\n", '"\n', "path,prompt\n\xff"])
def test_files_that_hold_no_prompts(content: str, tmp_path: Path) -> None:
    root = folder(tmp_path / "clips", "a.mp4")
    (path := tmp_path / "p.csv").write_bytes(content.encode("latin-1"))
    videos = find.find([root]).videos
    if not content:
        assert find.prompted(videos, path)[1] == ["1 of 1 videos have no prompt, a.mp4 among them"]
        return
    with pytest.raises(InvalidError, match="not a file of prompts|empty or no text"):
        find.prompted(videos, path)


def test_two_prompts_for_a_video_are_refused(tmp_path: Path) -> None:
    root = folder(tmp_path / "clips", "a.mp4")
    (path := tmp_path / "p.jsonl").write_text('{"path": "a.mp4", "prompt": "x"}\n{"path": "a", "prompt": "y"}\n')
    with pytest.raises(InvalidError, match="two prompts for a.mp4"):
        find.prompted(find.find([root]).videos, path)


def test_references_by_name_or_but_for_the_suffix(tmp_path: Path) -> None:
    videos = find.find([folder(tmp_path / "clips", "a.mp4", "b.mp4", "c.mp4", "d.mp4")]).videos
    truth = folder(tmp_path / "truth", "a.mp4", "b.mkv", "c.mkv", "c.webm")
    found = find.references(videos, truth)
    assert found == {"a.mp4": truth / "a.mp4", "b.mp4": truth / "b.mkv"}, "two that could be c's are none"
    with pytest.raises(UsageError, match="is not a folder"):
        find.references(videos, tmp_path / "gone")


def test_a_video_counts_once_however_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder(tmp_path / "v", "a.mp4")
    (tmp_path / "x").mkdir()
    monkeypatch.chdir(tmp_path)
    assert cases(root, "x/../v", "v/a.mp4", "../" + tmp_path.name + "/v/*.mp4") == ["a.mp4"]
    (root / "link.mp4").symlink_to("a.mp4")
    assert cases("v") == ["a.mp4", "link.mp4"], "a link keeps its own name"
    (tmp_path / "deep" / "er").mkdir(parents=True)
    folder(tmp_path / "deep", "b.mp4")
    (tmp_path / "x" / "er").symlink_to(tmp_path / "deep" / "er")
    (tmp_path / "deep" / "link.mp4").symlink_to("b.mp4")
    assert cases("x/er/../*.mp4", "x/er/..") == ["b.mp4", "link.mp4"]
    assert find.find(["x/er/../b.mp4"]).videos[0].path == tmp_path / "deep" / "b.mp4", "where the system finds it"


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    root = folder(tmp_path / "v", "z/a.mp4")
    folder(tmp_path / "elsewhere", "b.mp4", "f/1.png")
    (root / "elsewhere").symlink_to(tmp_path / "elsewhere")
    (root / "again").symlink_to(root / "z")
    (root / "z" / "loop").symlink_to(tmp_path)
    (root / "itself").symlink_to("itself")
    assert cases(root) == ["elsewhere/b.mp4", "elsewhere/f", "z/a.mp4"]


def test_scores_beside_pictures_leave_them_a_video(tmp_path: Path) -> None:
    root = folder(tmp_path / "pf", "1.png", "2.png", "out/scores.csv")
    assert cases(root) == ["pf"] and len(pictures.pictures(root)) == 2
    for below in ("out/a.mp4", "out/1.JPG"):
        assert pictures.pictures(folder(tmp_path / below[-5:], "1.png", below)) == []


def test_names_that_are_written_alike_stay_apart(tmp_path: Path) -> None:
    root = folder(tmp_path / "v", b"\xff.mp4".decode("utf-8", "surrogateescape"), "\\xff.mp4")
    assert cases(root) == ["\\xff.mp4", "\\xff.mp4~2"]
    assert len({video.path for video in find.find([root]).videos}) == 2


def test_control_characters_are_written_out(tmp_path: Path) -> None:
    root = folder(tmp_path / "a\nb", "\x1b[31m.mp4", "\x85.mp4", "\u2028.mp4", "c\td-3.mp4")
    label, videos, _ = find.find([root])
    assert label == "a\\x0ab"
    assert [video.case for video in videos] == ["\\u2028.mp4", "\\x1b[31m.mp4", "\\x85.mp4", "c\\x09d-3.mp4"]
    assert find.prompted(videos, {"c\td-3.mp4": "one\ntwo"})[0][3].prompt == "one\ntwo"
    assert find.prompted(videos, "vbench")[0][3].prompt == "c\\x09d"


def test_a_prompt_of_another_folder_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    videos = find.find([folder(tmp_path / "v", "c0.mp4", "sub/c1.mp4")]).videos
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    for path in ("B/c0.mp4", "B/sub/c1.mp4", "xsub/c1.mp4", "/c0.mp4", str(tmp_path / "c0.mp4"), "../c0.mp4"):
        assert find.prompted(videos, {path: "x"})[1][1:] == [f"1 prompts have no video, that of {path} among them"]
    absolute, near = str(tmp_path / "v" / "c0.mp4"), f"{tmp_path.name}/v/c0"
    for path in (absolute, near, "../v/c0.mp4", "./c0.mp4", "v\\c0.mp4", "../v/sub/../c0.mp4", Path("v/c0.mp4"), "c0"):
        assert find.prompted(videos, {path: "x"})[0][0].prompt == "x", path  # type: ignore[dict-item]
    (listed := tmp_path / "v" / "p.json").write_text('{"../v/sub/../c0.mp4": "x", "sub/c1.mp4": "y"}')
    monkeypatch.chdir("/")
    assert [video.prompt for video in find.prompted(videos, listed)[0]] == ["x", "y"], "seen from the prompts"


@pytest.mark.timeout(20)
def test_prompts_of_a_pipe_or_a_device_are_refused(tmp_path: Path) -> None:
    videos = find.find([folder(tmp_path / "v", "a.mp4")]).videos
    os.mkfifo(tmp_path / "pipe")
    for path in (Path("/dev/zero"), tmp_path / "pipe", tmp_path / "v"):
        with pytest.raises(InvalidError, match="is not a regular file"):
            find.prompted(videos, path)


@pytest.mark.parametrize(
    "seed", ["1e400", "1.5", '"1,000"', "100000000000000000000000", "true", '"x"', "[1]", "-9223372036854775809"]
)
def test_seeds_are_integers_of_64_bits(seed: str, tmp_path: Path) -> None:
    videos = find.find([folder(tmp_path / "v", "a.mp4")]).videos
    (path := tmp_path / "p.jsonl").write_text(f'{{"path": "a.mp4", "prompt": "x", "seed": {seed}}}\n')
    with pytest.raises(InvalidError, match="not a file of prompts"):
        find.prompted(videos, path)
    for written, read in (
        ("-9223372036854775808", -(2**63)),
        ("7.0", 7),
        ('"7"', 7),
        ("null", 2),
        ("NaN", 2),
        ("0", 0),
    ):
        path.write_text(f'{{"path": "a.mp4", "prompt": "x", "seed": {written}, "index": 2}}\n')
        assert find.prompted(videos, path)[0][0].seed == read


def test_prompts_are_unicode_of_any_kind(tmp_path: Path) -> None:
    videos = find.find([folder(tmp_path / "v", "a.mp4", "b.mp4")]).videos
    (path := tmp_path / "p.json").write_text('{"a.mp4": "\\ud800"}')
    for prompts in (path, {"a.mp4": "\ud800"}, {"\ud800": "x"}):
        with pytest.raises(InvalidError, match="not Unicode"):
            find.prompted(videos, prompts)
    (path := tmp_path / "p.csv").write_text('path,prompt\na.mp4,one\u2028two\x85\nb.mp4,"three\nfour, five"\n', "utf-8")
    assert [video.prompt for video in find.prompted(videos, path)[0]] == ["one\u2028two\x85", "three\nfour, five"]
    path.write_text("path,prompt\na.mp4,a fox, at night\n", "utf-8")
    with pytest.raises(InvalidError, match="more fields than the first"):
        find.prompted(videos, path)


def form(name: str, text: str) -> str:
    return unicodedata.normalize(name, text)


@pytest.mark.parametrize("kept", ["NFC", "NFD"])
@pytest.mark.parametrize("written", ["NFC", "NFD"])
def test_names_are_composed_however_they_are_kept_or_written(kept: str, written: str, tmp_path: Path) -> None:
    name, path = form("NFC", "Ångström/café-3.mp4"), tmp_path / form(kept, "é") / form(kept, "Ångström/café-3.mp4")
    folder(path.parent, path.name)
    label, videos, _ = find.find([tmp_path / form(kept, "é")])
    assert (label, videos[0].case, videos[0].path) == (form("NFC", "é"), name, path), "its path keeps its bytes"
    prompt = form("NFC", "ein Café")
    listed: dict[str, str] = {form(written, name): form(written, prompt)}
    (tmp_path / "p.json").write_text(json.dumps(listed), "utf-8")
    (tmp_path / "p.csv").write_text(f"path,prompt\n{form(written, name)},{form(written, prompt)}\n", "utf-8")
    for prompts in (listed, tmp_path / "p.json", tmp_path / "p.csv", {form(written, str(path)): prompt}):
        named, remarks = find.prompted(videos, prompts)
        assert named[0].prompt == prompt and not remarks
    assert find.prompted(videos, "vbench")[0][0].prompt == form("NFC", "café")
    other = folder(tmp_path / "truth", form(written, "Ångström/café-3.mkv"))
    assert find.references(videos, other) == {name: other / form(written, "Ångström/café-3.mkv")}
    assert find.stem(form(written, name)) == name.removesuffix(".mp4")


def test_two_forms_of_a_name_in_one_folder_stay_apart(tmp_path: Path) -> None:
    names = [form("NFC", "é.mp4"), form("NFD", "é.mp4")]
    videos = find.find([folder(tmp_path / "v", *names)]).videos
    assert [(video.case, video.path.name) for video in videos] == [(names[0], names[0]), (names[0] + "~2", names[1])]


def test_what_is_left_out_is_told_once(tmp_path: Path) -> None:
    root = folder(tmp_path / "v", "a.mp4", "cover.jpg", "s/1.png", "s/2.png", "b.RM", "x/c.mxf", "Thumbs.db", "n.txt")
    found = find.find([root, root / "x" / "..", root / "a.mp4"])
    assert [video.case for video in found.videos] == ["a.mp4", "s"]
    assert found.remarks == [
        "2 files look like video or pictures and were not read: b.RM among them",
        "1 picture stands beside videos and was left out: cover.jpg",
    ]
    assert find.find([root / "a.mp4"]).remarks == [], "nothing was looked for"
    root = folder(tmp_path / "w", "1.png", "2.png", "s/1.png")
    assert find.find([root]).remarks == ["2 pictures stand beside videos and were left out: 1.png among them"]
