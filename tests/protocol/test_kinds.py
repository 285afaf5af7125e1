"""A system refuses a recipe of a kind that it cannot be: its clips would stand in the tables under a wrong name."""

from __future__ import annotations

from typing import Any

import pytest
from support import smoke

from flashbench import systems
from flashbench.errors import UsageError
from flashbench.laptop.settings import KINDS, RELEASED
from flashbench.planning import stand_ins
from flashbench.protocol import compose

RUNS = {
    "flashvideo": {"flow", "given", "unreleased"},
    "l1": {"regression", "given", "unreleased"},
    "vanilla": {"vanilla", "unreleased"},
    "stage1": {"stage1", "given", "unreleased"},
    "flashvideo_release": set(RELEASED),
    "stage1_release": set(RELEASED),
}
"""System → kinds of recipe that it can run."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", RUNS)
def test_every_system_runs_its_own_kinds_and_no_other(name: str, kind: str) -> None:
    assert (systems.get(name).refuses({"kind": kind}) == "") == (kind in RUNS[name])


@pytest.mark.parametrize(("name", "other"), [("flashvideo_release", "stage1"), ("stage1", "stage2"), ("l1", "vae")])
def test_weights_of_another_network_are_refused(name: str, other: str) -> None:
    said = systems.get(name).refuses({"kind": "unreleased", "component": other})
    assert said == f"it is {other}, not {systems.get(name).component}"


def test_every_system_that_reads_a_training_says_of_which_kinds() -> None:
    trained = {name for name in systems.names() if "training" in systems.get(name).defaults}
    assert trained == set(RUNS)


def test_any_system_may_read_no_recipe_at_all() -> None:
    assert not any(systems.get(name).refuses({"kind": kind}) for name in ("bicubic", "codec") for kind in KINDS)


@pytest.mark.parametrize(
    ("overrides", "said", "fix"),
    [
        (
            ["rows=[{row: [l1], system: l1, with: {training: wide}}]", "baseline=l1", "claims=[]", "controls=[]"],
            "row 'l1': system 'l1' cannot run recipe 'wide': it is of kind flow, not regression",
            "another `training` (l1)",
        ),
        (["settings.training=l1"], "row 'nfe=1': system 'flashvideo' cannot run recipe 'l1'", "(wide, narrow, pixel"),
        (["recipes.l1.kind=vanilla"], "row 'l1': system 'l1' cannot run recipe 'l1': it is of kind vanilla", "system"),
        (["sets.cascade.system=vanilla"], "cannot run recipe 'wide': it is of kind flow, not vanilla", "(vanilla)"),
        (["preview.settings.training=wide"], "row 'preview': system 'stage1' cannot run recipe 'wide'", "(stage1,"),
    ],
)
def test_a_protocol_with_such_a_row_does_not_load(overrides: list[str], said: str, fix: str) -> None:
    further = [
        "sets.cascade.cases={set: prompts, suite: laptop, limit: 2}", "sets.cascade.metrics=[niqe]",
        "sets.cascade.controls=[]",
    ]  # fmt: skip
    with pytest.raises(UsageError) as caught:
        compose.load_protocol("nfe", tier="smoke", overrides=[*further, *overrides])
    assert said in caught.value.what and fix in caught.value.fix


def test_released_kinds_stand_as_they_are() -> None:
    def load(*overrides: str) -> Any:
        return compose.load("degradation", "paper", overrides, stand_ins.suite)

    kinds = {recipe["kind"] for recipe in load().recipes.values()}
    assert kinds == {"official", "unreleased"}
    with pytest.raises(UsageError, match="cannot run recipe 'stage1': it is stage1, not stage2"):
        load("rows=[{degradation: [pixel+latent], with: {training: stage1}}]", "claims=[]")


def test_the_command_line_says_it_in_two_lines(tmp_path: Any) -> None:
    done = smoke.flashbench(tmp_path, "plan", "nfe", "--tier", "smoke", "-S", "settings.training=l1", check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "cannot run recipe 'l1': it is of kind regression, not flow" in done.stderr and "fix: give" in done.stderr
