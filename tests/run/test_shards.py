"""Shards: every case once, keys as of the whole, and in one store the same bytes as a run that was never cut."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import smoke

from flashbench.errors import UsageError
from flashbench.planning import plan, stand_ins
from flashbench.protocol import shards
from flashbench.protocol.compose import load_protocol, trials
from flashbench.protocol.shards import Shard
from flashbench.protocol.types import Protocol
from flashbench.run.options import Options

# Rows that need no model, and a further set with more cases than the protocol itself.
SMALL = (
    "rows=[]", "controls=[original,bicubic,unsharp]", "baseline=bicubic", "claims=[]",
    "metrics=[psnr,sharpness,laplacian_variance]", "primary=[psnr]",
    "sets={more: {title: More, cases: {set: synthetic, first: 10, count: 5}}}",
)  # fmt: skip
RUN = ("nfe", "--tier", "smoke", "--workers", "1", *(word for item in SMALL for word in ("-S", item)))


def whole(name: str = "nfe") -> Protocol:
    return load_protocol(name, tier="smoke")


@settings(deadline=None, max_examples=25)
@given(of=st.integers(1, 40), data=st.data())
def test_every_trial_is_in_one_shard(of: int, data: st.DataObject) -> None:
    protocol = Options(tier="paper", limit=data.draw(st.sampled_from([8, 20]))).protocol("vbench", stand_ins.suite)
    of = min(of, len(protocol.cases))
    parts = [shards.take(protocol, Shard(number + 1, of)) for number in range(of)]
    made = [trial for part in parts for trial in trials(part)]
    assert Counter(map(repr, made)) == Counter(map(repr, trials(protocol)))
    sizes = [len(part.cases) for part in parts]
    assert max(sizes) - min(sizes) <= 1, "machines have alike much to do"
    assert {part.hash for part in parts} == {protocol.hash}


def test_a_further_set_with_fewer_cases_is_left_out_of_the_last_shards() -> None:
    protocol = replace(whole(), sets=(replace(whole(), set_name="few", cases=whole().cases[:1]),))
    assert [len(shards.take(protocol, Shard(number, 3)).sets) for number in (1, 2, 3)] == [1, 0, 0]


@pytest.mark.parametrize("text", ["0/8", "9/8", "2", "2/", "/8", "2/0", "-1/8", "2 / 8", "a/b", "1/1000000000", ""])
def test_no_such_shard(text: str) -> None:
    with pytest.raises(UsageError, match="--shard"):
        shards.parse(text)


def test_a_shard_is_read() -> None:
    assert shards.parse("2/8") == Shard(2, 8) and str(shards.parse("8/8")) == "8/8" and shards.parse("1/1").of == 1


def scores(folder: Path) -> tuple[bytes, bytes]:
    root = folder / "results/nfe"
    return (root / "scores.parquet").read_bytes(), (root / "clips.jsonl").read_bytes()


def made(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    return {what: int(count) for count, what in re.findall(r"made (\d+) (clips|scores)", done.stderr)}


def merged(folder: Path, *stores: Path) -> None:
    """As docs/paper.md says: what the machines made, copied into one store; locks and drafts stay behind."""
    for store in stores:
        for kind in ("clips", "scores", "models", "facts"):
            shutil.copytree(store / "store" / kind, folder / "store" / kind, dirs_exist_ok=True)


def test_the_union_of_shards_is_the_whole(tmp_path: Path) -> None:
    """Three machines (folders with a store of their own) beside one that makes everything; on the command line."""
    places = [tmp_path / name for name in ("one", "1", "2", "3", "union")]
    for place in places:
        place.mkdir()
    one, *machines, union = places
    out = ("--results", "results", "-p", "train", "-p", "generate", "-p", "score")
    smoke.flashbench(one, "run", *RUN, *out)
    counts = Counter[str]()
    for number, machine in enumerate(machines, 1):
        done = smoke.flashbench(machine, "run", *RUN, "--shard", f"{number}/3")
        assert f"shard {number}/3 is in the store" in done.stderr and not (machine / "results").exists()
        counts.update(made(done))
        assert set(made(smoke.flashbench(machine, "run", *RUN, "--shard", f"{number}/3")).values()) == {0}
    merged(union, *machines)
    done = smoke.flashbench(union, "run", *RUN, *out)
    assert made(done) == {"clips": 0, "scores": 0}, "everything was made by the shards"
    assert counts["scores"] == 3 * 3 * 8 and counts["clips"] == 3 * 8 - 8, "each once (originals apart)"
    assert scores(union) == scores(one)


@pytest.mark.slow
def test_shards_of_models_and_of_stage_1(tmp_path: Path) -> None:
    """A protocol on prompts, with Stage I, networks and a further set: models are built on each machine, alike."""
    one, *machines, union = (tmp_path / name for name in ("one", "1", "2", "union"))
    for place in (one, *machines, union):
        place.mkdir()
    smoke.flashbench(one, "run", "stages", "nfe", "--tier", "smoke")
    for number, machine in enumerate(machines, 1):
        smoke.flashbench(machine, "run", "stages", "nfe", "--tier", "smoke", "--shard", f"{number}/2")
    merged(union, *machines)
    done = smoke.flashbench(union, "run", "stages", "nfe", "--tier", "smoke")
    assert set(made(done).values()) == {0} and "built 0 models" in done.stderr
    assert smoke.results(union) == smoke.results(one)


def test_a_plan_of_a_shard_has_its_clips_and_the_designs_power() -> None:
    options = Options(tier="paper", limit=20)
    told = {None: plan.describe("nfe", options)}
    told |= {shard: plan.describe("nfe", replace(options, shard=shard)) for shard in (Shard(1, 8), Shard(8, 8))}
    clips = {shard: int(re.findall(r"^([\d,]+) clips and", text, re.MULTILINE)[0]) for shard, text in told.items()}
    assert clips == {None: 180, Shard(1, 8): 27, Shard(8, 8): 18}
    power = {next(line for line in text.splitlines() if "80 % power" in line) for text in told.values()}
    assert len(power) == 1, "what the whole run can show"
