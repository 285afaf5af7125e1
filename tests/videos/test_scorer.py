"""`Scorer`: frames in memory, of any kind, on any device; a training loop."""

from __future__ import annotations

import math
import random
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from support import made_videos as made

import flashbench
from flashbench import metrics
from flashbench.errors import UsageError
from flashbench.metrics.base import FrameMetric, Pair
from flashbench.types import Clip

FAST = ["laplacian_variance", "temporal_flicker", "psnr"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (root := tmp_path / "clips").mkdir()
    made.lossless(root / "clip0.mkv", made.frames(seed=0))
    return root


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        (np.zeros((5, 96, 96), np.uint8), r"\[5, 96, 96\]"),
        (np.zeros((2, 2, 5, 96, 96, 3), np.uint8), r"\[2, 5, 96, 96, 3\]"),
        (np.zeros((5, 96, 96, 4), np.uint8), r"\[5, 96, 96, 4\]"),
        (np.zeros((0, 96, 96, 3), np.uint8), r"\[0, 96, 96, 3\]"),
        (np.zeros((5, 96, 96, 3), np.int64), "int64, not uint8 or floats"),
        (np.full((5, 96, 96, 3), 255.0), "x / 255"),
        (np.full((5, 96, 96, 3), -1.0), "− ?1 … 1"),
        ([np.zeros((96, 96, 3), np.uint8), np.zeros((96, 95, 3), np.uint8)], "several shapes"),
        ([], "no frames"),
    ],
)
def test_what_is_no_clip(frames: Any, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        flashbench.Scorer(FAST)(frames)

    assert re.search(said, str(caught.value))


def clips(count: int = 3) -> list[np.ndarray]:
    return [made.frames(seed=seed) for seed in range(count)]


@pytest.mark.parametrize("form", ["array", "channels first", "tensor", "list", "pictures"])
def test_a_batch_is_its_clips_one_by_one(form: str) -> None:
    each, scorer = clips(), flashbench.Scorer(FAST)
    given: Any = {
        "array": np.stack(each), "channels first": np.stack(each).transpose(0, 1, 4, 2, 3),
        "tensor": torch.from_numpy(np.stack(each)).permute(0, 1, 4, 2, 3) / 255, "list": each,
        "pictures": [[Image.fromarray(frame) for frame in clip] for clip in each],
    }[form]  # fmt: skip
    table = scorer(given, prompt=["a", "b", "a"], reference=each[::-1], seed=[4, 5, 6])
    one_by_one = [
        scorer(clip, prompt=prompt, reference=other, case=f"clip-{n:03d}", seed=4 + n)
        for n, (clip, prompt, other) in enumerate(zip(each, "aba", each[::-1], strict=True))
    ]
    pd.testing.assert_frame_equal(table, pd.concat(one_by_one, ignore_index=True))
    assert list(table["case"].unique()) == ["clip-000", "clip-001", "clip-002"]
    assert list(table["prompt"].unique()) == list(table["cluster"].unique()) == ["a", "b"]


def test_clips_of_a_mapping_have_its_names_and_may_differ_in_size() -> None:
    each = {
        "small": made.frames(3, 64, 64),
        "large": made.frames(4, 96, 112),
        "spoilt": np.full((2, 64, 64, 3), np.nan),
    }
    table = flashbench.Scorer(FAST[:2])(each, prompt={"large": "two", "small": "one", "spoilt": None}, seed=7)
    assert list(table["case"].unique()) == [*each] and set(table["seed"]) == {7}
    assert dict(zip(table["case"], table["prompt"], strict=True)) == {"small": "one", "large": "two", "spoilt": ""}
    assert dict(zip(table["case"], table["frames"], strict=True)) == {"small": 3, "large": 4, "spoilt": 2}
    spoilt = table[table["case"] == "spoilt"]
    assert spoilt["value"].isna().all() and spoilt["reason"].str.contains("not finite").all()
    assert not table[table["case"] != "spoilt"]["value"].isna().any()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"prompt": ["a", "b"]}, "2 prompts for 3 clips"), ({"prompt": {"a": "b"}}, "another form"),
        ({"seed": [1, 2]}, "2 seeds for 3 clips"), ({"case": ["a", "b"]}, "3 clips with 2 names"),
        ({"case": ["a", "b", "a"]}, "2 of them different"), ({"reference": clips(2)}, "2 references for 3 clips"),
    ],
)  # fmt: skip
def test_a_batch_and_what_belongs_to_it_are_as_many(more: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        flashbench.Scorer(FAST)(clips(), **more)
    with pytest.raises(UsageError, match="other names"):
        flashbench.Scorer(FAST)({"a": clips(1)[0]}, prompt={"b": "x"})
    with pytest.raises(UsageError, match="leave `case` out"):
        flashbench.Scorer(FAST)({"a": clips(1)[0]}, case="b")


def test_frames_that_are_not_finite_are_missing_with_a_reason() -> None:
    frames = torch.rand(4, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    frames[2, 0, 0, 0] = math.nan
    table = flashbench.Scorer(FAST)(frames)
    assert table["value"].isna().all()
    assert set(table["reason"]) == {"1 of 4 frames hold numbers that are not finite, frame 2 first"}


@pytest.mark.parametrize(("given", "rate"), [(24, "24/1"), (23.976, "24000/1001"), ("30000/1001", "30000/1001")])
def test_rates(given: Any, rate: str) -> None:
    from flashbench.videos.scorer import clip

    made_clip, _ = clip(made.frames(), given)
    assert f"{made_clip.fps.numerator}/{made_clip.fps.denominator}" == rate


def test_no_global_generator_moves(folder: Path) -> None:
    def states() -> list[Any]:
        return [random.getstate(), np.random.get_state(legacy=True)[1].tolist(), torch.get_rng_state().tolist()]

    before = states()
    flashbench.score(folder, FAST)
    flashbench.Scorer()(made.frames())
    assert states() == before


def test_the_readmes_training_loop_runs(root: Path) -> None:
    blocks = (root / "README.md").read_text("utf-8").split("```python\n")[1:]
    (code,) = [block.partition("```")[0] for block in blocks if "flashbench.Scorer(" in block]
    assert len(code.strip().splitlines()) <= 10
    space: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), space)
    logged: list[tuple[dict[str, float], int]] = []
    clips = {"fox": made.frames(), "dog": torch.from_numpy(made.frames(seed=1)).permute(0, 3, 1, 2) / 255}
    prompts = {"fox": "a fox", "dog": "a dog"}
    space["validate"](100, clips, prompts, lambda values, step: logged.append((values, step)))
    ((values, step),) = logged
    assert step == 100 and values.keys() == {"niqe", "temporal_flicker", "sharpness_drift"}
    flicker = metrics.get("temporal_flicker").measure
    each = [flicker(Clip(made.frames(seed=seed), 8)).value for seed in (0, 1)]
    assert values["temporal_flicker"] == pytest.approx(np.mean(each))


def test_networks_run_where_they_are_told_to(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a score from another device is another score."""
    from flashbench import keys
    from flashbench.metrics import device

    for wrong, said in (("gpu", "write cpu, cuda or cuda:1"), ("cuda:99", "torch cannot use cuda:99")):
        with pytest.raises(UsageError, match=said):
            flashbench.Scorer(FAST, device=wrong)
        with pytest.raises(UsageError, match=said):
            flashbench.score(folder, FAST, device=wrong)
    seen: list[str] = []

    @dataclass(frozen=True, kw_only=True)
    class Where(FrameMetric):
        def frame(self, pair: Pair) -> float:
            seen.append(device.current())
            return 1.0

        @property
        def libraries(self) -> tuple[str, ...]:
            return ("torch",)

    where = Where(name="where", direction="none", unit="", range=(0, 1))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda name: f"a GPU called {name}")
    first = flashbench.Scorer([where], device="cuda")(made.frames())
    second = flashbench.score(folder / "clip0.mkv", [where], device="cuda")
    assert set(seen) == {"cuda"} and device.current() == "cpu"
    assert list(first["key"]) == list(second["key"])
    assert list(first["key"]) != list(flashbench.Scorer([where])(made.frames())["key"])
    assert keys.scoring_class("torch", device="cuda")["device"] == "a GPU called cuda"
    assert keys.scoring_class(device="cuda")["device"] == "cpu", "what runs on the CPU does not depend on it"


def test_a_reference_that_is_not_finite_spoils_pairs_only() -> None:
    reference = torch.full((5, 3, 96, 192), math.nan)
    table = flashbench.Scorer(FAST)(made.frames(), reference=reference).set_index("metric")
    assert table.loc["psnr", "reason"].startswith("reference: 5 of 5 frames") and table.loc["psnr", "key"] == ""
    assert not math.isnan(table.loc[FAST[0], "value"])
