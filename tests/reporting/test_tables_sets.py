"""Tables of a protocol with further sets of cases: a block for each, never one column for two of them."""

from __future__ import annotations

import json
from dataclasses import replace

import pandas as pd
import pytest
from support.fake_scores import FakeSystem, frame, protocol, synthetic

from flashbench.protocol.types import Protocol, Variant
from flashbench.reporting import tables
from flashbench.reporting.summary import headline, metrics_json
from flashbench.types import Case

OWN = {"nfe=1": (5.0, 22.5), "nfe=4": (3.2, 21.2), "original": (2.0, 0.0), "bicubic": (7.2, 23.2)}
TWICE = {"twice": (2.2, 25.0), "original": (2.0, 0.0), "bicubic": (4.4, 26.0), "bicubic_back_projection": (4.2, 26.5)}
SCENES = {"nfe=4": (1.1, 30.0), "bicubic": (6.0, 29.0)}


def moved(scores: pd.DataFrame, name: str) -> pd.DataFrame:
    """The scores on cases of another set."""
    return scores.assign(**{column: f"{name}-" + scores[column] for column in ("case", "cluster")})


SCORES = {
    "": synthetic(OWN),
    "x2": moved(synthetic(TWICE, seed=1), "x2"),
    "scenes": moved(synthetic(SCENES, seed=2), "scene"),
}
ALL = pd.concat(SCORES.values(), ignore_index=True)


def part(rows: dict[str, tuple[float, float]], name: str, **more: object) -> Protocol:
    return protocol(list(rows), cases=sorted(set(SCORES[name]["case"])), set_name=name, **more)


SETS = (
    part(TWICE, "x2", title="Enlarging twice", baseline="twice"),
    part(SCENES, "scenes", title="Captioned scenes", baseline="nfe=4"),
)
PROTOCOL = part(OWN, "", baseline="nfe=4", title="Evaluations", sets=SETS)


def written(asked: Protocol = PROTOCOL, scores: pd.DataFrame = ALL) -> tuple[str, str]:
    table, found = tables.build(asked, scores), tables.comparisons(asked, scores)
    return tables.to_markdown(asked, table, found), tables.to_latex(asked, table, found)


def block(text: str, title: str) -> str:
    """A table's part from its subheading to the next."""
    return text.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def test_the_long_table_names_the_set_and_has_the_own_cases_first() -> None:
    table = tables.build(PROTOCOL, ALL)
    assert list(table["cases"].unique()) == ["material", "x2", "scenes"]
    assert list(table[table["cases"] == "x2"]["row"].unique()) == list(TWICE)
    alone = tables.build(replace(SETS[1], set_name=""), SCORES["scenes"])
    one = table[table["cases"] == "scenes"].reset_index(drop=True)
    pd.testing.assert_frame_equal(one.drop(columns="cases"), alone.drop(columns="cases"))


def test_each_set_is_a_block_with_its_title_baseline_and_controls() -> None:
    text, _ = written()
    own, twice = text.split("## Enlarging twice")[0], block(text, "Enlarging twice")
    assert "from the baseline `nfe=4` on" in own and "`twice`" not in own
    assert "3 of 3 controls differ from the baseline `twice` on `niqe_pooled`" in twice and "`nfe=" not in twice
    rows = [one.split("`")[1] for one in twice.splitlines() if one.startswith("| `")]
    assert rows == list(TWICE), "with its own original and bicubic"
    shown = block(text, "Captioned scenes")
    assert "1 of 1 controls differ from the baseline `nfe=4`" in shown
    best = next(one for one in shown.splitlines() if one.startswith("| `nfe=4`"))
    assert best.split("|")[2].strip().startswith("**1.1"), "the best of its own column"


def test_a_set_decides_no_claim_and_only_prompts_lack_a_reference() -> None:
    text, _ = written()
    assert text.count("Decides no claim.") == 2 and "Exploratory" not in text
    asked = [Case(id=one, cluster=one.split("/")[0], seed=0) for one in sorted(set(SCORES["x2"]["case"]))]
    cascade = replace(SETS[0], set_name="cascade", title="Cascade", cases=tuple(asked))
    text, _ = written(replace(PROTOCOL, sets=(cascade, SETS[1])))
    assert "Exploratory: no reference" in block(text, "Cascade")
    assert "Exploratory" not in block(text, "Captioned scenes")


def test_the_footer_names_each_sets_unit() -> None:
    scenes = tuple(Case(id=f"scene-{n}/0", cluster=f"scene-{n}", seed=0, source=f"scene-{n}") for n in range(3))
    text, _ = written(replace(PROTOCOL, sets=(SETS[0], replace(SETS[1], cases=scenes))))
    last = text.splitlines()[-1]
    assert "source of material, 10 clusters, 20 clips a row; x2: source of material, 10 clusters" in last
    assert "scenes: scene, 3 clusters, 3 clips a row" in last


def test_replicas_stand_under_their_sets_title() -> None:
    twice = moved(synthetic(TWICE, replicas=2), "x2")
    scores = pd.concat([synthetic(OWN, replicas=2), twice], ignore_index=True)
    text, _ = written(replace(PROTOCOL, sets=SETS[:1]), scores)
    assert [one[3:] for one in text.splitlines() if one.startswith("## ")] == [
        "Over all replicas", "Replica 0", "Replica 1", "Enlarging twice", "Enlarging twice, over all replicas",
        "Enlarging twice, replica 0", "Enlarging twice, replica 1",
    ]  # fmt: skip


def test_numbers_of_two_sets_are_apart_in_json() -> None:
    table = tables.build(PROTOCOL, ALL)
    rows = json.loads(metrics_json([table]))["laptop"]["nfe"]
    assert list(rows) == [*OWN, "x2", "scenes"] and list(rows["x2"]) == list(TWICE)
    values = {name: part["nfe=4"]["niqe"] for name, part in (("own", rows), ("scenes", rows["scenes"]))}
    assert values["own"] > 3 > values["scenes"] > 1, "the same row on two sets"
    line = json.loads(headline(PROTOCOL, table, ()))
    assert line["niqe_pooled"] == rows["nfe=4"]["niqe_pooled"]


# --- notes on corrected clips -----------------------------------------------------------------------------------------

RECIPES = {
    "sharp": {"kind": "flow", "codec_residual": True, "back_projection": True},
    "soft_1": {"kind": "flow", "codec_residual": False, "back_projection": True},
    "plain": {"kind": "flow", "codec_residual": False, "back_projection": False},
}


BOTH = "the codec's residual added and one back-projection"


def trained(asked: Protocol, **recipe: str) -> Protocol:
    """The protocol with rows that are trained by recipes."""
    settings = {row: {"training": recipe[row]} if row in recipe else {} for row in (v.row for v in asked.variants)}
    system = FakeSystem("flashvideo")
    variants = tuple(Variant(row=row, system=system, settings=own) for row, own in settings.items())  # type: ignore[arg-type]
    return replace(asked, variants=variants, recipes=RECIPES)


@pytest.mark.parametrize(
    ("recipes", "notes"),
    [
        ({"nfe=4": "sharp"}, [f"`nfe=4`: its clips have {BOTH} (recipe `sharp`)."]),
        ({"nfe=1": "sharp", "nfe=4": "sharp"}, [f"`nfe=1`, `nfe=4`: their clips have {BOTH} (recipe `sharp`)."]),
        ({"nfe=1": "soft_1", "nfe=4": "plain"}, ["`nfe=1`: its clips have one back-projection (recipe `soft_1`)."]),
        ({"nfe=4": "plain"}, []),
    ],
)  # fmt: skip
def test_notes_name_the_rows_whose_clips_are_corrected(recipes: dict[str, str], notes: list[str]) -> None:
    asked = trained(replace(PROTOCOL, sets=()), **recipes)
    text, latex = written(asked)
    assert [one[2:] for one in text.splitlines() if one.startswith("- `")] == notes
    assert "clips have" not in tables.to_csv(tables.build(asked, ALL)), "notes are for readers"
    assert latex.count("clips have") == len(notes)
    if "soft_1" in recipes.values():
        assert r"(recipe \texttt{soft\_1})" in latex


def test_a_note_stands_under_the_table_of_its_set() -> None:
    asked = replace(PROTOCOL, sets=(trained(SETS[0], twice="sharp"), SETS[1]))
    text, _ = written(asked)
    assert text.count("clips have") == 1 and "`twice`: its clips have" in block(text, "Enlarging twice")


def test_an_empty_table_of_scores_is_no_crash() -> None:
    text, _ = written(scores=frame([]))
    twice = block(text, "Enlarging twice")
    assert "| " not in twice, "no grid without a value"
    assert "- `niqe_pooled`, `niqe`, `psnr`: no score of row 'twice'; no score of row 'original'" in twice
