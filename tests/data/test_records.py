"""Prompt files as spreadsheets and pandas write them: read, or one line with the right cause."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from flashbench.data import prompts, records
from flashbench.errors import InvalidError
from flashbench.videos import find

FRAME = pd.DataFrame({"path": ["a.mp4", "b.mp4"], "prompt": ["a cat, sitting", "naïve; café"], "seed": [0.0, 3.0]})
EXPECTED = {"a.mp4": ("a cat, sitting", 0), "b.mp4": ("naïve; café", 3)}


def asked(path: Path) -> dict[str, tuple[str | None, int]]:
    (folder := path.parent / "v").mkdir(exist_ok=True)
    for name in EXPECTED:
        (folder / name).write_bytes(b"")
    videos, remarks = find.prompted(find.find([folder]).videos, path)
    assert not remarks
    return {video.case: (video.prompt, video.seed) for video in videos}


def capitals(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.rename(columns={"path": " Path", "prompt": "PROMPT ", "seed": "Seed"})


WRITTEN: dict[str, tuple[str, Any]] = {
    "index": ("p.csv", lambda path: FRAME.to_csv(path)),
    "utf-16": ("p.csv", lambda path: FRAME.to_csv(path, index=False, encoding="utf-16")),
    "utf-8 with a mark": ("p.csv", lambda path: FRAME.to_csv(path, index=False, encoding="utf-8-sig")),
    "utf-16 big": ("p.csv", lambda path: path.write_bytes(codecs.BOM_UTF16_BE + FRAME.to_csv().encode("utf-16-be"))),
    "semicolons": ("p.csv", lambda path: FRAME.to_csv(path, sep=";", index=False, decimal=",")),
    "tabs": ("p.tsv", lambda path: FRAME.to_csv(path, sep="\t")),
    "tabs in a csv": ("p.csv", lambda path: FRAME.to_csv(path, sep="\t", index=False)),
    "unicode text": ("p.txt", lambda path: FRAME.to_csv(path, sep="\t", index=False, encoding="utf-16")),
    "sep=": ("p.csv", lambda path: path.write_text("sep=;\r\n" + FRAME.to_csv(sep=";", index=False), "utf-8")),
    "capitals": ("p.csv", lambda path: capitals(FRAME).to_csv(path)),
    "blanks": (
        "p.csv",
        lambda path: path.write_text(
            'path , prompt, seed\r\na.mp4, "a cat, sitting", 0.0\r\nb.mp4 ,naïve; café , 3\r\n,,\r\n\r\n', "utf-8"
        ),
    ),
    "columns": ("p.json", lambda path: FRAME.to_json(path)),
    "columns in capitals": ("p.json", lambda path: FRAME.rename(columns=str.upper).to_json(path)),
    "lists": ("p.json", lambda path: path.write_text(json.dumps(FRAME.to_dict("list")))),
    "records": ("p.json", lambda path: FRAME.to_json(path, orient="records", indent=1)),
    "lines": ("p.jsonl", lambda path: FRAME.to_json(path, orient="records", lines=True)),
    "lines with a mark": (
        "p.jsonl",
        lambda path: path.write_text(FRAME.to_json(orient="records", lines=True), "utf-8-sig"),
    ),
    "by line": ("p.json", lambda path: FRAME.to_json(path, orient="index")),
    "split": ("p.json", lambda path: FRAME.to_json(path, orient="split")),
    "table": ("p.json", lambda path: FRAME.rename(columns=str.upper).to_json(path, orient="table")),
    "by path": ("p.json", lambda path: FRAME.set_index("path").to_json(path, orient="index")),
    "seeds as text": ("p.json", lambda path: FRAME.assign(seed=["0.0", "3.0"]).to_json(path, orient="records")),
    "empty objects": (
        "p.json",
        lambda path: path.write_text(json.dumps([*FRAME.to_dict("records"), {"path": None, "prompt": None}])),
    ),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_what_spreadsheets_and_pandas_write_is_read(name: str, tmp_path: Path) -> None:
    file, write = WRITTEN[name]
    write(tmp_path / file)
    assert asked(tmp_path / file) == EXPECTED


def test_holes_in_seeds_are_left_out(tmp_path: Path) -> None:
    frame = FRAME.assign(seed=[float("nan"), 3.0])
    for name, write in (("p.csv", frame.to_csv), ("p.json", frame.to_json)):
        write(tmp_path / name)
        assert asked(tmp_path / name) == EXPECTED


LONG = "x" * 10**6
BROKEN = {
    "no column": ("p.csv", "file,prompt\na.mp4,x\n", "line 2 has no path; it has file, prompt"),
    "other separator": ("p.csv", "path|prompt\na.mp4|x\n", "line 2 has no path; it has path|prompt"),
    "commas": ("p.csv", "path,prompt\na.mp4,a fox, at night\n", "line 2 has more fields than the first"),
    "quote": ("p.csv", 'path,prompt\na.mp4,"a fox\n', "line 2: unexpected end of data"),
    "twice": ("p.csv", "path,Prompt,prompt\na.mp4,x,y\n", "line 2 has two fields called prompt"),
    "no prompt": ("p.csv", "path,prompt\na.mp4,x\nb.mp4,\n", "line 3: its prompt is empty or no text"),
    "seed": ("p.csv", f"path,prompt,seed\na.mp4,x,{LONG[:9999]}\n", "line 2: a seed is an integer of 64 bits, not xxx"),
    "field": ("p.csv", f"path,prompt\na.mp4,{LONG}\n", "line 2: field larger than field limit"),
    "null": ("p.json", '[{"path": "a.mp4", "prompt": null}]', "entry 1: its prompt is empty or no text"),
    "number": ("p.json", '{"a.mp4": 3}', "the entry of a.mp4: its prompt is empty or no text"),
    "nan": ("p.jsonl", '{"path": "a.mp4", "prompt": NaN}', "entry 1: its prompt is empty or no text"),
    "no object": ("p.json", '[{"path": "a.mp4", "prompt": "x"}, 3]', "entry 2 is not an object"),
    "comma": ("p.json", '[\n {"path": "a.mp4" "prompt": "x"}\n]', "line 2: Expecting ',' delimiter, at '\"prompt"),
    "object": ("p.json", '{\n "a.mp4": "x",\n "b.mp4": y\n}', "line 3: Expecting value, at 'y"),
    "second line": ("p.jsonl", '{"path": "a.mp4", "prompt": "x"}\n{"path": ', "line 2: Expecting value, at ''"),
    "text": ("p.json", LONG, "line 1: Expecting value, at 'xxx"),
    "deep": ("p.json", "[" * 10**5, "nested too deeply|Expecting value"),
    "latin": ("p.csv", b"path,prompt\na.mp4,caf\xe9\n" + LONG.encode(), "line 2: byte 0xe9 is not UTF-8"),
    "half utf-16": ("p.csv", ("path,prompt\n" + LONG).encode("utf-16")[:-1], "is not UTF-16"),
    "bare utf-16": ("p.csv", ("path,prompt\n" + LONG).encode("utf-16-le"), "as UTF-16 without a byte order mark"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_is_one_line(name: str, tmp_path: Path) -> None:
    file, content, said = BROKEN[name]
    (path := tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "a.mp4").write_bytes(b"")
    with pytest.raises(InvalidError, match=said) as error:
        find.prompted(find.find([tmp_path / "v"]).videos, path)
    what = error.value.what.removeprefix(str(path))
    assert what.startswith(" is not a file of prompts: ") and what.isprintable() and len(what) < 200


def test_suites_profit(tmp_path: Path) -> None:
    content = "\ufeffPROMPT;Original\na fox, red;\na dog;a hound\n;\n"
    (tmp_path / "mine.csv").write_text(content, "utf-8")
    assert [(p.text, p.original) for p in prompts.suite(str(tmp_path / "mine.csv"))] == [
        ("a fox, red", "a fox, red"),
        ("a dog", "a hound"),
    ]
    (tmp_path / "mine.txt").write_text("a fox, red\n\na dog\n", "utf-16")
    assert [p.text for p in prompts.suite(str(tmp_path / "mine.txt"))] == ["a fox, red", "a dog"]


def test_an_excerpt_is_short_and_printable() -> None:
    assert records.excerpt("a\x1b[31m\n\0b") == "a [31m  b"
    assert len(records.excerpt(LONG)) == records.LONGEST and records.excerpt(LONG).endswith("x…")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"PK\x03\x04\x14\x00\x06\x00", "a ZIP, as Excel's and Calc's workbooks are: save it as CSV"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "an old Excel: save it as CSV"),
        (b"PAR1\x15\x04", "Parquet: save it as CSV"),
        (b'{"columns": ["path", "prompt"], "data": [["a.mp4"]]}', "entry 1 is neither an object nor a value for each"),
    ],
)
def test_tables_that_are_no_text_are_called_by_their_name(content: bytes, why: str, tmp_path: Path) -> None:
    (path := tmp_path / "p.csv").write_bytes(content)
    path = path.rename(path.with_suffix(".json")) if content.startswith(b"{") else path
    with pytest.raises(InvalidError, match=why):
        asked(path)
