"""Suites of prompts: what is in them, what is one prompt and what is two, and the order that a run takes them in."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import made_suite

from flashbench.assets import registry
from flashbench.data import prompts, scenes
from flashbench.errors import IntegrityError, InvalidError, MissingAsset, UsageError
from flashbench.types import Case, Prompt
from flashbench.vbench.dimensions import DIMENSIONS


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_suite.install(tmp_path, monkeypatch)


@pytest.mark.usefixtures("suite")
def test_vbench_has_944_prompts_of_946_lines() -> None:
    found = prompts.suite("vbench")
    assert len(made_suite.full_info()) == 946
    assert len(found) == len({prompt.id for prompt in found}) == 944
    assert sum(len(prompt.dimensions) for prompt in found) == 1362
    assert Counter(name for prompt in found for name in prompt.suites) == made_suite.SIZES
    assert Counter(name for prompt in found for name in prompt.dimensions) == {
        one.name: made_suite.SIZES[one.suite] for one in DIMENSIONS.values()
    }
    assert [prompt.line for prompt in found] == sorted({p.line for p in found} - {None}), "in the file's order"
    assert tuple(sorted(made_suite.SIZES)) == prompts.SUITES
    assert all(prompt.text == prompt.original for prompt in found)


@pytest.mark.usefixtures("suite")
@pytest.mark.parametrize("name", prompts.SUITES)
def test_each_of_the_eleven_suites_alone(name: str) -> None:
    found = prompts.suite(f"vbench:{name}")
    assert len(found) == made_suite.SIZES[name]
    whole = {prompt.id: prompt for prompt in prompts.suite("vbench")}
    assert all(whole[prompt.id] == prompt for prompt in found), "the same prompts with all that they serve"


@pytest.mark.usefixtures("suite")
def test_a_prompt_that_comes_twice_serves_both_suites_with_the_first_lines_rewrite() -> None:
    lines = [line for line, one in enumerate(made_suite.full_info()) if one["prompt_en"] == made_suite.TWICE[1]]
    (found,) = [prompt for prompt in prompts.suite("vbench", rewrite="longer") if prompt.line == lines[0]]
    assert found == Prompt(
        id=hashlib.sha256(made_suite.TWICE[1].encode()).hexdigest(),
        text=f"At length, line {lines[0]}: {made_suite.TWICE[1]}",
        original=made_suite.TWICE[1],
        dimensions=("appearance_style", "overall_consistency", "aesthetic_quality", "imaging_quality"),
        line=lines[0],
        suites=("appearance_style", "overall_consistency"),
        labels={"appearance_style": {"appearance_style": "label 7"}},
    )
    assert lines[1] not in {prompt.line for prompt in prompts.suite("vbench")}


@pytest.mark.usefixtures("suite")
def test_rewrites_are_paired_by_line_and_change_no_id() -> None:
    rewritten, plain = prompts.suite("vbench", rewrite="longer"), prompts.suite("vbench")
    assert [prompt.id for prompt in rewritten] == [prompt.id for prompt in plain]
    lines = made_suite.rewrites()
    assert all(prompt.text == lines[prompt.line or 0] for prompt in rewritten)
    assert [prompt.original for prompt in rewritten] == [prompt.text for prompt in plain]


@pytest.mark.usefixtures("suite")
def test_case_makes_two_prompts_and_unicodes_forms_one() -> None:
    found = prompts.suite("vbench")
    fantasy = [prompt for prompt in found if prompt.original.lower() == "a fantasy landscape"]
    assert len(fantasy) == 2
    assert len({prompt.id.lower() for prompt in fantasy}) == 2, "nor do their ids meet on a disk without case"
    composed, decomposed = (unicodedata.normalize(form, made_suite.CEDILLA) for form in ("NFC", "NFD"))
    assert composed != decomposed
    assert prompts.prompt_of(composed).id == prompts.prompt_of(decomposed).id
    assert prompts.prompt_of(decomposed).text == decomposed, "what is generated from is as it was written"
    assert prompts.prompt_of(composed).id in {prompt.id for prompt in found}


def test_what_is_missing_says_what_to_pull(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_suite.install(tmp_path, monkeypatch, longer="")
    assert len(prompts.suite("vbench")) == 944, "the rewrites are for those who ask for them"
    with pytest.raises(MissingAsset, match="vbench-longer-prompts") as caught:
        prompts.suite("vbench", rewrite="longer")
    assert caught.value.fix == "flashbench assets pull vbench-longer-prompts"
    monkeypatch.setenv("FLASHBENCH_CACHE", str(tmp_path / "elsewhere"))
    with pytest.raises(MissingAsset) as caught:
        prompts.suite("vbench", rewrite="longer")
    assert caught.value.fix == "flashbench assets pull vbench-full-info vbench-longer-prompts"


@pytest.mark.usefixtures("suite")
def test_an_edited_file_is_refused() -> None:
    file = registry.get(prompts.FULL_INFO).file
    file.write_text(file.read_text("utf-8").replace("color 3", "color 4"), "utf-8")
    with pytest.raises(IntegrityError, match="vbench-full-info is damaged"):
        prompts.suite("vbench")


@pytest.mark.parametrize(
    "files",
    [{"longer": "one line\n"}, {"full_info": "[{}]"}, {"full_info": "{"}, {"full_info": '[{"prompt_en": 1}]'}],
)
def test_files_of_another_form_are_refused(
    files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_suite.install(tmp_path, monkeypatch, **files)
    with pytest.raises(InvalidError, match="are not VBench's prompts"):
        prompts.suite("vbench", rewrite="longer")


@pytest.mark.parametrize(
    ("name", "rewrite", "words"),
    [
        ("vbnech", None, "did you mean 'vbench'"),
        ("vbench:colour", None, "did you mean 'vbench:color'"),
        ("vbench:", None, "unknown suite 'vbench:'"),
        ("vbench", "long", "did you mean 'longer'"),
        ("laptop", "longer", "only VBench's prompts have rewrites"),
        ("my.txt", "longer", "only VBench's prompts have rewrites"),
    ],
)
def test_unknown_names(name: str, rewrite: str | None, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        prompts.suite(name, rewrite=rewrite)
    assert words in str(caught.value)


@pytest.mark.parametrize(("name", "split"), [("laptop", "test"), ("laptop-dev", "dev")])
def test_the_laptops_suites_are_held_out_and_apart(name: str, split: str) -> None:
    found = prompts.suite(name)
    assert [prompt.text for prompt in found] == [prompt.original for prompt in found] == list(scenes.captions(split))
    asked = [scenes.parse(prompt.original) for prompt in found]
    assert all(scene is not None and scenes.held_out(scene) for scene in asked)
    assert not {p.id for p in found} & {p.id for other in prompts.LAPTOP if other != name for p in prompts.suite(other)}
    beginning = [scenes.parse(prompt.text) for prompt in prompts.ordered(found)[:12]]
    assert Counter(scene.shape for scene in beginning if scene) == dict.fromkeys(scenes.SHAPES, 4)


# --- the order ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("suite")
def test_every_beginning_is_spread_evenly_over_the_suites() -> None:
    whole = prompts.ordered(prompts.suite("vbench"))
    assert sorted(prompt.id for prompt in whole) == sorted(prompt.id for prompt in prompts.suite("vbench"))
    counted, sizes = Counter[str](), Counter(prompt.suites[-1] for prompt in whole)
    assert sizes == {**made_suite.SIZES, "appearance_style": 88}, "a prompt of two suites counts for the larger"
    for prompt in whole:
        counted[prompt.suites[-1]] += 1
        open_ones = [counted[name] for name in sizes if counted[name] < sizes[name]]
        assert not open_ones or max(counted.values()) - min(open_ones) <= 1


@pytest.mark.usefixtures("suite")
def test_a_smaller_run_is_the_beginning_of_a_larger_one() -> None:
    whole = prompts.ordered(prompts.suite("vbench", rewrite="longer"))
    ids = [prompt.id for prompt in whole]
    assert [prompt.id for prompt in prompts.ordered(prompts.suite("vbench"))] == ids, "rewrites do not move it"
    small, large = prompts.vbench_cases(whole[:64], 1, 1), prompts.vbench_cases(whole[:128], 1, 1)
    assert large[:64] == small
    assert len(large) - len(small) == 64
    hashes = [prompts.subset_hash(whole[:count]) for count in (64, 128, 944)]
    assert len(set(hashes)) == 3
    assert prompts.subset_hash(whole[:64][::-1]) == hashes[0]
    assert hashes[0] == hashlib.sha256("\n".join(sorted(ids[:64])).encode()).hexdigest()


@pytest.mark.usefixtures("suite")
def test_the_order_is_fixed() -> None:
    """Golden: a change here makes every clip of a user's smaller run useless for the larger one."""
    whole = prompts.ordered(prompts.suite("vbench"))
    assert [prompt.original for prompt in whole[:12]] == [
        "appearance_style 62",
        "color 15",
        "human_action 65",
        "multiple_objects 22",
        "object_class 72",
        "overall_consistency 12",
        "scene 80",
        "spatial_relationship 51",
        "subject_consistency 17",
        "temporal_flickering 46",
        "temporal_style 56",
        "appearance_style 73",
    ]
    assert prompts.subset_hash(whole[:64]) == "272d0d453aca7c5b989f23cb7ed23e0e55802b1ef5b23b87c7e875155f689b2a"


def test_the_order_does_not_depend_on_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_suite.install(tmp_path, monkeypatch)
    code = "from flashbench.data import prompts as p; print(p.subset_hash(p.ordered(p.suite('vbench'))[:64]))"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == prompts.subset_hash(prompts.ordered(prompts.suite("vbench"))[:64])


def made(sizes: dict[str, int]) -> list[Prompt]:
    return [prompts.prompt_of(f"{name} {n}", suites=(name,)) for name, size in sizes.items() for n in range(size)]


@given(
    st.dictionaries(st.sampled_from("abcde"), st.integers(1, 9), min_size=1),
    st.sampled_from("abcdef"),
    st.integers(1, 9),
    st.randoms(use_true_random=False),
)
def test_later_additions_move_no_prompt_past_another(
    sizes: dict[str, int], name: str, more: int, chance: random.Random
) -> None:
    before = made(sizes)
    shuffled = [*before]
    chance.shuffle(shuffled)
    order = [prompt.id for prompt in prompts.ordered(before)]
    assert [prompt.id for prompt in prompts.ordered(shuffled)] == order
    grown = prompts.ordered(made({**sizes, name: sizes.get(name, 0) + more}))
    others = [prompt.id for prompt in before if prompt.suites != (name,)]
    assert [prompt.id for prompt in grown if prompt.id in others] == [one for one in order if one in others]


# --- cases --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("suite")
def test_vbench_asks_for_6220_clips() -> None:
    whole = prompts.suite("vbench")
    cases = prompts.vbench_cases(whole, 5, 25)
    assert len(cases) == len({(case.id, case.seed) for case in cases}) == 944 * 5 + 75 * 20 == 6220
    assert len(prompts.vbench_cases(whole, 5, 5)) == 4720
    assert len(prompts.vbench_cases(prompts.suite("vbench:overall_consistency"), 5, 25)) == 465
    seeds: dict[str, list[int]] = {}
    for case in cases:
        assert case.prompt is not None
        assert case.cluster == case.id == case.prompt.id
        assert case.source is None
        seeds.setdefault(case.id, []).append(case.seed)
    flickering = {prompt.id for prompt in prompts.suite("vbench:temporal_flickering")}
    assert all(found == list(range(25 if name in flickering else 5)) for name, found in seeds.items())


def test_a_case_is_scored_on_what_its_prompt_serves() -> None:
    asked = ("vbench_long:color", "vbench:scene", "vbench_temporal_flickering", "niqe")

    def served(*dimensions: str) -> list[str]:
        prompt = prompts.prompt_of("x", dimensions=dimensions)
        case = Case(id="x", cluster="x", seed=0, prompt=prompt)
        return [name for name in asked if prompts.serves(case, name)]

    assert served("scene", "background_consistency") == ["vbench:scene", "niqe"]
    assert served("temporal_flickering") == ["vbench_temporal_flickering", "niqe"]
    assert served("color") == ["vbench_long:color", "niqe"]
    assert served() == list(asked), "prompts that are not VBench's are scored with everything"
    assert all(prompts.serves(Case(id="m", cluster="m", seed=0, source="m"), name) for name in asked)


@pytest.mark.parametrize(
    ("metric", "dimension"),
    [
        ("vbench:color", "color"),
        ("vbench_long:scene", "scene"),
        ("vbench_long_official:temporal_flickering", "temporal_flickering"),
        ("vbench_temporal_flickering", "temporal_flickering"),
        ("temporal_flicker", ""),
        ("niqe", ""),
        ("pyiqa:color", ""),
    ],
)
def test_dimensions_of_metrics(metric: str, dimension: str) -> None:
    assert prompts.dimension_of(metric) == dimension


# --- users' files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.txt", "a fox\n\n  a fa\u00e7ade, at night \r\na fox\n"),
        ("p.csv", 'prompt\na fox\n"a fa\u00e7ade, at night"\na fox\n'),
        (
            "p.jsonl",
            '{"prompt": "a fox"}\n\n{"prompt": "a fa\u00e7ade, at night", "original": ""}\n{"prompt": "a fox"}',
        ),
        ("p.json", '{"one.mp4": "a fox", "two.mp4": "a fa\\u00e7ade, at night", "three.mp4": "a fox"}'),
        ("p.JSONL", '\ufeff{"prompt": "a fox"}\n{"prompt": "a fa\u00e7ade, at night"}'),
    ],
)
def test_users_files(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content, "utf-8")
    found = prompts.suite(str(tmp_path / name))
    assert [(p.text, p.original, p.line) for p in found] == [
        (x, x, n) for n, x in enumerate(("a fox", "a façade, at night"))
    ]
    assert {prompt.id for prompt in prompts.ordered(found)} == {prompt.id for prompt in found}


def test_a_users_rewrite_is_scored_against_its_original(tmp_path: Path) -> None:
    lines = [{"prompt": "A fox, at length", "original": "a fox"}, {"prompt": "a dog"}]
    (path := tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, lines)))
    fox, dog = prompts.suite(str(path))
    assert (fox.text, fox.original, fox.id) == ("A fox, at length", "a fox", prompts.prompt_of("a fox").id)
    assert (dog.text, dog.original) == ("a dog", "a dog")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.txt", ""),
        ("p.csv", "path,text\na,b\n"),
        ("p.csv", "prompt\na fox, at night\n"),
        ("p.jsonl", '{"prompt": " "}'),
        ("p.jsonl", '{"prompt": 3}'),
        ("p.jsonl", '{"prompt": "\\ud800"}'),
        ("p.jsonl", '{"prompt": '),
        ("p.jsonl", '["a fox"]'),
    ],
)
def test_files_that_are_none_of_prompts(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content, "utf-8")
    with pytest.raises(InvalidError, match=r"not a file of prompts|holds no prompt"):
        prompts.suite(str(tmp_path / name))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="cannot be read"):
        prompts.suite(str(tmp_path / "gone.txt"))
