"""Which metrics decide: the named ones, the protocol's, or all that have a direction; the rest is shown or explored."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from support import fake_scores
from support import made_videos as made
from support.scored_runs import LEVELS, compared, scored, shifted

from flashbench import metrics, shares, stats
from flashbench.assets import registry
from flashbench.comparison import family
from flashbench.comparison.compare import Rules, compare_runs
from flashbench.comparison.report import blocks
from flashbench.comparison.verdict import Compared, sentence
from flashbench.errors import UsageError
from flashbench.metrics.base import Metric
from flashbench.metrics.dover import scores as dover
from flashbench.reporting.document import markdown
from flashbench.types import Clip


def several(label: str, by: dict[str, float], protocol: str = "adhoc/custom") -> pd.DataFrame:
    return pd.concat([scored(label, shifted(x, 4.0), metric, protocol=protocol) for metric, x in by.items()])


ZERO = {"niqe": 0.0, "psnr": 0.0, "warping": 0.0, "sharpness": 0.0}
SOME = {"niqe": -0.5, "psnr": 0.06, "warping": 0.0, "sharpness": 1.0}


def verdicts(found: Compared) -> dict[str, str]:
    return {result.metric: result.verdict for result in found.results}


def test_what_has_no_direction_is_shown_and_takes_no_part() -> None:
    found = compared(several("A", ZERO), several("B", SOME))
    p = {result.metric: result.p for result in found.results}
    assert np.isnan(p.pop("sharpness")) and not np.isnan(list(p.values())).any()
    adjusted = stats.holm(np.array(list(p.values())))
    assert [r.adjusted for r in found.results if r.metric in p] == pytest.approx(adjusted.tolist())
    assert verdicts(found)["sharpness"] == "shown" and all(result.primary for result in found.results[:3])
    text = sentence(next(result for result in found.results if result.metric == "sharpness"))
    assert text.startswith("sharpness is shown, not tested (it has no better or worse): 5.90 against 4.90, difference")
    assert "p " not in text


def test_named_metrics_decide_and_the_rest_is_explored() -> None:
    found = compared(several("A", ZERO), several("B", SOME), rules=Rules(primary=("psnr", "sharpness")))
    by_name = {result.metric: result for result in found.results}
    p = np.array([by_name[name].p for name in ("psnr", "sharpness", "niqe", "warping")])
    expected = [*stats.holm(p[:2]), *stats.benjamini_hochberg(p[2:])]
    assert [by_name[x].adjusted for x in ("psnr", "sharpness", "niqe", "warping")] == pytest.approx(expected)
    assert [by_name[x].primary for x in ("psnr", "sharpness", "niqe", "warping")] == [True, True, False, False]
    assert by_name["sharpness"].verdict == "differs" and by_name["niqe"].verdict == "better"
    assert "(exploratory, Benjamini–Hochberg)" in sentence(by_name["niqe"])
    text = markdown(blocks(found))
    assert "B, of 2 metrics: " in text and "B, of 2 exploratory metrics: " in text
    assert "p adjusted by Holm over 2 tests, of the 2 exploratory ones by Benjamini and Hochberg" in text
    assert "| better (exploratory) |" in text


def test_a_protocol_names_its_own() -> None:
    assert family.declared(["adhoc/frame-quality"]) == {"niqe", "dover_technical", "lpips"}
    assert family.declared(["nfe"]) == {"niqe_pooled"}
    assert family.declared(["adhoc/custom", "no/such", "../nfe", ""]) == frozenset()
    asked = {"protocol": "adhoc/frame-quality"}
    found = compared(several("A", ZERO, **asked), several("B", SOME, **asked))
    assert [result.metric for result in found.results if result.primary] == ["niqe"]
    without = {name: x for name, x in ZERO.items() if name != "niqe"}
    found = compared(several("A", without, **asked), several("B", without, **asked))
    assert {result.metric for result in found.results if result.primary} == {"psnr", "warping"}, "none of its own"


def test_a_primary_metric_that_is_not_there_is_a_wrong_call(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown primary metric 'nique'"):
        compared(several("A", ZERO), several("B", SOME), rules=Rules(primary=("nique",)))
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.mp4").write_bytes(b"")
    sources = [("", tmp_path / "a"), ("", tmp_path / "b")]
    with pytest.raises(UsageError, match="unknown primary metric 'niqe'"):
        compare_runs(sources, metrics="psnr", primary="niqe")


def test_twins_order_clips_alike() -> None:
    rng = np.random.default_rng(1)
    clips = [Clip(rng.integers(0, 2 + 20 * n, (3, 32, 32, 3)).astype(np.uint8), 8) for n in range(1, 8)]  # type: ignore[arg-type]
    for twin, other in family.TWINS.items():
        if twin.startswith("dover"):
            continue
        values = [[metrics.get(name).measure(clip).value for clip in clips] for name in (twin, other)]
        assert abs(np.corrcoef(values)[0, 1]) == pytest.approx(1, abs=1e-12)
    raw = dover.RawScores(np.linspace(-1, 1, 9), np.linspace(-1, 1, 9))
    for constants in ("upstream", "matched"):
        found = getattr(dover, f"{constants}_percentages")(raw)
        assert (np.diff(found.technical) > 0).all() and (np.diff(found.aesthetic) > 0).all()
    flicker = metrics.get("vbench_temporal_flickering")
    assert family.shown(flicker, ["temporal_flicker"]) == "it is temporal_flicker on another scale"
    assert family.shown(flicker, ["niqe"]) == family.shown(flicker, ["temporal_flicker"], [flicker.name]) == ""


@pytest.mark.parametrize("tests", [1, 3, 9])
def test_the_least_number_is_where_a_test_can_resolve_anything(tests: int) -> None:
    share, mean = (fake_scores.METRICS[name] for name in ("shown", "psnr"))
    count = family.least(share, tests)  # type: ignore[arg-type]
    assert shares.sign_flip(np.ones(count)) < 0.05 / tests < shares.sign_flip(np.ones(count - 1)) or count == 3
    assert family.least(mean, tests) == stats.MIN_CLUSTERS  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("count", "ending"),
    [(1, "needs 3 clusters, here 1; 2 pairs are missing."), (2, "needs 3 clusters, here 2; 1 pair is missing.")],
)
def test_below_it_the_sentence_says_how_many_pairs_are_missing(count: int, ending: str) -> None:
    found = compared(scored("A", LEVELS[:count]), scored("B", shifted(-1)[:count]))
    assert found.results[0].missing == 3 - count and sentence(found.results[0]).endswith(ending)
    gained = compared(scored("A", [0.0] * 4, "shown"), scored("B", [1.0] * 4, "shown"))
    assert gained.results[0].verdict == "undecided"
    assert "; its test takes 6 videos at least; 2 pairs are missing." in sentence(gained.results[0], "videos")
    assert math.isnan(compared(scored("A", LEVELS), scored("B", shifted(-1))).results[0].needed)


def test_adjusting_leaves_out_what_is_not_tested() -> None:
    p = np.array([0.01, np.nan, 0.02, 0.03, 0.04])
    found = family.adjusted(p, [True, True, False, True, False])
    assert found == pytest.approx([0.02, np.nan, 0.04, 0.03, 0.04], nan_ok=True)
    assert family.adjusted(np.array([0.01, np.nan]), [True, False]) == pytest.approx([0.01, np.nan], nan_ok=True)


@pytest.mark.slow
def test_blur_of_six_real_clips_is_worse_by_default(tmp_path: Path) -> None:
    """Photographs that a view moves over, and the same through a Gaussian of sigma 1: NIQE decides alone."""
    from flashbench.data import material

    sources = [source for source in material.read_sources() if source.split == "test" and source.kind == "image"][:6]
    assets = ["niqe-pristine", *dict.fromkeys(source.asset for source in sources)]
    registry.pull(assets, report=lambda line: None)  # photographs lie in packages of the index
    for folder, change in (("a", lambda x: x), ("b", lambda x: cv2.GaussianBlur(x, (0, 0), 1))):
        (tmp_path / folder).mkdir()
        for source in sources:
            clip = material.case_clip(source, 0, 4, 192, 256).frames
            made.lossless(tmp_path / folder / f"{source.id}.mkv", np.stack([change(picture) for picture in clip]))
    there = compare_runs([("", tmp_path / "a"), ("", tmp_path / "b")])
    decided: dict[str, str] = {x.metric: x.verdict for x in there.results if x.primary and not math.isnan(x.p)}
    assert decided == {"niqe": "worse"}
    back = compare_runs([("", tmp_path / "b"), ("", tmp_path / "a")])
    assert {x.metric: x.verdict for x in back.results if x.primary and not math.isnan(x.p)} == {"niqe": "better"}


def test_metrics_of_the_default_family_have_a_direction() -> None:
    chosen: list[Metric] = [metrics.get(name) for name in family.declared(["adhoc/frame-quality"])]
    assert all(metric.direction != "none" and metric.name not in family.TWINS for metric in chosen)
