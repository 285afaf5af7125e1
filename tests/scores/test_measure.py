"""The one measuring path: through every door a metric that failed is asked again, and other answers are kept."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support import fake_scores
from support import made_videos as made

import flashbench
from flashbench import metrics
from flashbench.engine import LocalEngine
from flashbench.metrics.base import About, Metric, Stream
from flashbench.run.score import score as score_protocol
from flashbench.scores.measure import Answers, Digests, Question, known
from flashbench.store import Store
from flashbench.types import Clip, Measurement, Scope

Door = Callable[[Metric], dict[str, Any]]
"""Scores one clip with a metric; the row."""


@dataclass(frozen=True, kw_only=True)
class Flaky(Metric):
    """Fails at its first call, by an error or (`fallible`) by an answer that may be the machine's fault; then 1.0."""

    name: str = "flaky"
    direction: Any = "higher"
    unit: str = ""
    range: tuple[float, float] = (0.0, 1.0)
    scope: Scope = "video"
    calls: list[int] = field(default_factory=list, hash=False, compare=False)
    first: str = "raises"

    @property
    def identity(self) -> dict[str, Any]:
        return {"name": self.name}

    @property
    def fallible(self) -> bool:
        return self.first == "missing"

    def stream(self, about: About) -> Stream:
        while (yield) is not None:
            pass
        self.calls.append(1)
        if len(self.calls) > 1 or self.first == "works":
            return Measurement(value=float(len(self.calls)))
        if self.first == "raises":
            raise ZeroDivisionError("as a bug would")
        return Measurement.missing("the network was away")


def through_videos(tmp_path: Path) -> Door:
    video = made.lossless(tmp_path / "clip.mkv", made.frames())
    return lambda metric: flashbench.score(video, [metric]).to_dict("records")[0]


def through_protocol(tmp_path: Path, *, fresh: bool = False) -> Door:
    store, clip = Store(), Clip(made.frames(), 8)
    store.put_clip("a" * 64, clip, {})
    line = {
        "row": "nfe=4", "case": "s0/0", "cluster": "s0", "seed": 0, "replica": 0, "key": "a" * 64,
        "digest": clip.digest, "original_key": "a" * 64, "original": clip.digest, "prompt": None, "cost": {},
        "evaluations": 0, "reason": "",
    }  # fmt: skip

    def ask(metric: Metric) -> dict[str, Any]:
        protocol = fake_scores.protocol(["nfe=4"], cases=["s0/0"], metrics=(metric,), primary=(metric.name,))
        with LocalEngine(workers=0) as engine:
            table, failed = score_protocol(protocol, [line], store=store, engine=engine, fresh=fresh)
        (row,) = table.to_dict("records")
        assert bool(failed) == row["reason"].startswith("failed")
        return row

    return ask


@pytest.mark.parametrize("door", [through_videos, through_protocol])
@pytest.mark.parametrize(("first", "why"), [("raises", "failed: ZeroDivisionError: as a bug"), ("missing", "away")])
def test_what_fails_once_has_its_value_the_second_time(
    door: Callable[[Path], Door], first: str, why: str, tmp_path: Path
) -> None:
    ask, metric = door(tmp_path), Flaky(first=first)
    row = ask(metric)
    assert math.isnan(row["value"]) and why in row["reason"]
    assert [ask(metric)["value"] for _ in range(2)] == [2.0, 2.0], "measured again, and then kept"
    assert len(metric.calls) == 2


@pytest.mark.parametrize("door", [through_videos, through_protocol])
def test_an_answer_is_kept_under_the_same_key_through_every_door(door: Callable[[Path], Door], tmp_path: Path) -> None:
    metric, clip = metrics.get("laplacian_variance"), Clip(made.frames(), 8)
    row = door(tmp_path)(metric)
    memory = flashbench.Scorer([metric])(clip.frames).to_dict("records")[0]
    assert (row["key"], row["value"], row["clip"]) == (memory["key"], memory["value"], clip.digest)
    assert Store().score(row["key"]) is not None


def test_fresh_measures_again_what_the_store_has(tmp_path: Path) -> None:
    metric = Flaky(first="works")
    assert [through_protocol(tmp_path)(metric)["value"] for _ in range(2)] == [1.0, 1.0]
    assert through_protocol(tmp_path, fresh=True)(metric)["value"] == 2.0
    assert through_protocol(tmp_path)(metric)["value"] == 2.0, "and the new answer stands in for the old one"
    video, other = made.lossless(tmp_path / "clip.mkv", made.frames(seed=1)), Flaky(first="works")
    found = [flashbench.score(video, [other], fresh=fresh)["value"][0] for fresh in (False, False, True, False)]
    assert found == [1.0, 1.0, 2.0, 2.0]


def test_only_what_is_missing_costs_a_pass(tmp_path: Path) -> None:
    store, clip = Store(), Clip(made.frames(), 8)
    kept, pair, absent = Flaky(first="works"), metrics.get("psnr"), metrics.get("temporal_flicker")
    digests = Digests(clip.digest, None)
    question = Question(metrics=[kept, pair, absent], digests=digests, unpaired="none", unavailable={absent.name: "no"})
    answers = Answers(question, store)
    assert answers.absent == [kept] and not answers.complete
    answers.add([kept.measure(clip)], digests, {})
    assert [scored.measurement.reason for scored in answers.all()] == ["", "none", "no"]
    assert [bool(scored.key) for scored in answers.all()] == [True, False, False], "what is not asked has no key"
    again = Answers(question, store)
    assert again.complete and again.all()[0].measurement == answers.all()[0].measurement and len(kept.calls) == 1
    assert set(known(question, store)) == {"flaky", "psnr", "temporal_flicker"}


def test_metrics_travel_to_workers_as_objects(tmp_path: Path) -> None:
    made.lossless(tmp_path / "clip.mkv", made.frames())
    asked = [metrics.get(name) for name in ("niqe", "laplacian_variance", "psnr_y")]
    alone = flashbench.score(tmp_path / "clip.mkv", asked, reference=tmp_path)
    from flashbench.videos.score import score_videos

    both = score_videos(tmp_path / "clip.mkv", asked, reference=tmp_path, workers=2, store=tmp_path / "apart").table
    pd.testing.assert_frame_equal(alone, both)
    records = [json.loads(path.read_text()) for path in (tmp_path / "apart").rglob("*.json")]
    assert sum("metric" in record.get("body", record) for record in records) >= 1
    assert np.isfinite(both["value"]).sum() >= 1


def test_what_the_store_has_holds_on_a_machine_that_cannot_measure_it(tmp_path: Path) -> None:
    store, clip = Store(), Clip(made.frames(), 8)
    metric, digests = Flaky(first="works"), Digests(clip.digest, None)
    answers = Answers(Question(metrics=[metric], digests=digests), store)
    answers.add([Measurement(value=3.0)], digests, {})
    (scored,) = Answers(
        Question(metrics=[metric], digests=digests, unavailable={"flaky": "weights not present"}), store
    ).all()
    assert scored.measurement.value == 3.0 and scored.key
    quick = Question(metrics=[metric], digests=digests, unavailable={"flaky": "weights not present"}, recall=False)
    (scored,) = Answers(quick, store).all()
    assert scored.measurement.reason == "weights not present" and not scored.key
    wrong = Flaky(first="missing", name="flickering")
    store.put_score(answers.all()[0].key, Measurement.missing("the network was away"), {})
    assert Answers(Question(metrics=[wrong], digests=digests), store).absent == [wrong], "kept by mistake once"


class Eager(Flaky):
    """Raises before it has seen a frame."""

    def stream(self, about: About) -> Stream:
        raise LookupError("no table")


def test_a_metric_that_raises_at_once_is_a_row_too(tmp_path: Path) -> None:
    row = through_videos(tmp_path)(Eager())
    assert row["reason"] == "failed: LookupError: no table" and row["key"] == ""


def test_fresh_in_workers_does_not_fall_back_on_an_older_answer(tmp_path: Path) -> None:
    from flashbench.videos.score import score_videos

    video, good = made.lossless(tmp_path / "clip.mkv", made.frames()), metrics.get("laplacian_variance")
    before = score_videos(video, [good]).table
    for workers in (1, 2):
        after = score_videos(video, [good], fresh=True, workers=workers).table
        assert after["value"].equals(before["value"])
    failing = Eager(name="eager")
    key = Flaky(name="eager")
    Answers(Question(metrics=[key], digests=Digests(before["clip"][0], None)), Store()).add(
        [Measurement(value=2.0)], Digests(before["clip"][0], None), {}
    )
    found = score_videos(video, [failing], fresh=True, workers=2)
    assert found.unreadable and math.isnan(found.table["value"][0])


def test_a_metric_that_cannot_travel_says_what_to_do(tmp_path: Path) -> None:
    from flashbench.errors import UsageError
    from flashbench.videos.score import score_videos

    class Local(Flaky):
        pass

    video = made.lossless(tmp_path / "clip.mkv", made.frames())
    with pytest.raises(UsageError, match="cannot be sent to a worker process"):
        score_videos(video, [Local()], workers=2)
