"""What pairs differ in besides their pictures is told, and what it moves gets no verdict unless the user says so."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from support import made_videos as made

import flashbench
from flashbench import metrics
from flashbench.comparison.compare import compare_runs
from flashbench.comparison.report import write
from flashbench.comparison.verdict import Compared, Result, sentence
from flashbench.errors import UsageError
from flashbench.reporting.cite import cite
from flashbench.scores import facts
from flashbench.types import Frames
from flashbench.videos.score import score_videos

FLICKER, LAPLACE = metrics.get("temporal_flicker"), metrics.get("laplacian_variance")


def encoded(
    path: Path, clip: Frames, fps: int = 8, codec: str = "libx264", pixels: str = "yuv444p", **given: str
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(fps), options=given)
        stream.height, stream.width, stream.pix_fmt = *clip.shape[1:3], pixels
        for picture in clip:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        container.mux(stream.encode())


def folder(where: Path, change: Any = lambda clip: clip, count: int = 4, **given: Any) -> Path:
    for number in range(count):
        encoded(where / f"{number}.mkv", change(made.frames(24, 48, 64, seed=number)), **{"qp": "0", **given})
    return where


def compared(a: Path, b: Path, **more: Any) -> Compared:
    return compare_runs([("", a), ("", b)], metrics=["temporal_flicker"], **more)


def flicker(*sources: Path, **more: Any) -> Result:
    return compared(*sources, **more).results[0]


# --- rates and repeats -----------------------------------------------------------------------------------------------


def test_the_same_pictures_thrice_are_no_better(tmp_path: Path) -> None:
    """One scene at 8 a second, its pictures three times at 24, and the scene at 24."""
    eight = folder(tmp_path / "eight", lambda clip: clip[::3], fps=8)
    thrice = folder(tmp_path / "thrice", lambda clip: np.repeat(clip[::3], 3, axis=0), fps=24)
    fast = folder(tmp_path / "fast", lambda clip: clip[:8], fps=24)
    result = flicker(eight, thrice)
    assert (result.verdict, result.facts, result.despite) == ("none", "rate,repeats,frames", "rate")
    assert "`--despite rate` judges all the same" in sentence(result) and np.isnan(result.p)
    notes = " ".join(compared(eight, thrice).notes)
    assert "4 of 4 pairs differ in frames a second (0.mkv: 24, in `eight` 8)" in notes
    assert "4 of 4 pairs differ in pictures that repeat the one before (0.mkv: 16 of 24, in `eight` 0 of 8)" in notes
    assert (flicker(eight, fast).verdict, flicker(eight, fast).facts) == ("none", "rate")
    assert flicker(eight, thrice, despite="rate").verdict == "better"
    assert flicker(thrice, eight, despite=["rate"]).verdict == "worse"
    assert flicker(eight, thrice, despite="size,depth").verdict == "none"
    assert flicker(eight, thrice, fps=8).verdict == "identical"


@pytest.mark.parametrize("given", [{"qp": "0"}, {"qp": "-1", "crf": "23"}, {"qp": "-1", "crf": "30"}])
def test_doubled_pictures_at_equal_rates(tmp_path: Path, given: dict[str, str]) -> None:
    """As many frames at one rate, half of them repeats, through lossy codecs too: found from the pictures."""
    plain = folder(tmp_path / "plain", lambda clip: clip[:12], **given)
    doubled = folder(tmp_path / "doubled", lambda clip: np.repeat(clip[:6], 2, axis=0), **given)
    result = flicker(plain, doubled)
    assert (result.verdict, result.facts, result.despite) == ("none", "repeats", "repeats")
    assert flicker(doubled, plain).facts == "repeats"
    assert flicker(plain, doubled, despite="rate").verdict == "none"
    assert flicker(plain, doubled, despite="repeats").verdict == "better"
    found = compare_runs([("", plain), ("", doubled)], metrics=["laplacian_variance"], primary="laplacian_variance")
    assert found.results[0].facts == "", "what does not look at time is judged"


def test_one_clip_of_many_at_another_rate_suffices(tmp_path: Path) -> None:
    a = folder(tmp_path / "a", count=6)
    b = folder(tmp_path / "b", lambda clip: clip // 2, count=6)
    assert flicker(a, b).verdict == "better"
    encoded(b / "5.mkv", made.frames(24, 48, 64, seed=5) // 2, fps=24, qp="0")
    assert (flicker(a, b).verdict, flicker(a, b).facts) == ("none", "rate")
    assert compared(a, b).facts["b"][0].pairs == 1


def test_a_run_by_out_knows_them_too(tmp_path: Path) -> None:
    a = folder(tmp_path / "a", lambda clip: clip[:12])
    b = folder(tmp_path / "b", lambda clip: np.repeat(clip[:6], 2, axis=0))
    for name, path in (("ra", a), ("rb", b)):
        score_videos(path, ["temporal_flicker"], out=tmp_path / name)
    score_videos(b, ["temporal_flicker"], out=tmp_path / "rb")  # out of the store
    assert flicker(tmp_path / "ra", tmp_path / "rb").facts == flicker(a, tmp_path / "rb").facts == "repeats"


def test_tables_of_score_know_them_too(tmp_path: Path) -> None:
    eight, fast = (
        folder(tmp_path / "a", lambda clip: clip[:8], fps=8),
        folder(tmp_path / "b", lambda x: x[:8] // 2, fps=24),
    )
    a, b = (flashbench.score(path, ["temporal_flicker"]) for path in (eight, fast))
    for first, second in ((a, b), (a, fast), (a[a["case"] != "0.mkv"], b)):
        found = flashbench.compare(first, second, metrics="temporal_flicker", ignore_missing=True)
        assert found[["verdict", "facts"]].to_numpy().tolist() == [["none", "rate"]]


# --- coding, size, tags ----------------------------------------------------------------------------------------------


def test_a_lossy_copy_is_no_better_than_its_original(tmp_path: Path) -> None:
    noisy = np.random.default_rng(0).integers(0, 40, (24, 48, 64, 3)).astype(np.uint8)

    def grain(clip: Frames) -> Frames:
        return clip // 2 + noisy

    original, copy = folder(tmp_path / "a", grain), folder(tmp_path / "b", grain, qp="-1", crf="23")
    ffv1 = folder(tmp_path / "c", grain, codec="ffv1", pixels="bgr0")
    assert (flicker(original, copy).verdict, flicker(original, copy).facts) == ("none", "loss")
    assert flicker(ffv1, copy).facts == "loss" and flicker(ffv1, copy, despite="loss").verdict == "better"
    assert flicker(original, ffv1).facts == "", "two codecs without loss"
    mpeg = folder(tmp_path / "d", grain, codec="mpeg4", pixels="yuv420p", qp="-1")
    assert flicker(copy, mpeg).facts == "codec"


def test_sizes(tmp_path: Path) -> None:
    a = folder(tmp_path / "a")
    b = folder(tmp_path / "b", lambda clip: np.ascontiguousarray(clip[:, :32] // 2))
    assert (flicker(a, b).verdict, flicker(a, b).facts) == ("none", "size")
    assert flicker(a, b, despite="size").verdict == flicker(a, b, size="32x32").verdict == "better"


def test_a_length_moves_what_looks_at_time() -> None:
    short, long = {"frames": 8, "fps": "8/1"}, {"frames": 16, "fps": "8/1"}
    assert facts.in_the_way(FLICKER, [(short, long)]) == ("frames",)
    assert facts.in_the_way(LAPLACE, [(short, long)]) == ()
    assert facts.in_the_way(metrics.get("niqe_pooled"), [(short, long)]) == ("frames",)
    assert facts.in_the_way(metrics.get("colour_drift"), [(short, long)]) == ("frames",)


SOURCE = {
    "codec": "h264", "matrix": "bt709", "range": "limited", "primaries": "bt709", "transfer": "bt709", "depth": 8,
    "chroma": "4:2:0", "field_order": "progressive", "pixel_aspect": "1/1", "lossless": False, "fps": "8/1",
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"depth": 10}, "depth"), ({"matrix": "untagged"}, "tags"), ({"range": "full"}, "tags"),
        ({"primaries": "bt2020"}, "tags"), ({"transfer": "iec61966-2-1"}, "tags"), ({"field_order": "tff"}, "fields"),
        ({"pixel_aspect": "4/3"}, "aspect"), ({"lossless": True}, "loss"), ({"codec": "hevc"}, "codec"),
    ],
)  # fmt: skip
def test_every_fact_of_a_file(change: dict[str, Any], name: str) -> None:
    one, other = {"source": SOURCE}, {"source": {**SOURCE, **change}}
    for pair in ((one, other), (other, one)):
        assert facts.in_the_way(LAPLACE, [pair]) == facts.in_the_way(LAPLACE, [(one, one), pair]) == (name,)
        assert facts.in_the_way(LAPLACE, [pair], (name,)) == ()
        (found,) = facts.between([("x", *pair)])
        assert found.fact == name and (found.pairs, found.of) == (1, 1)
    assert facts.in_the_way(metrics.get("tflop"), [(one, other)]) == ()


def test_what_is_not_known_or_says_the_same_differs_in_nothing() -> None:
    same = [
        {}, {"source": {}}, {"source": SOURCE}, {"source": {**SOURCE, "lossless": None}}, {"frames": 0},
        {"source": {**SOURCE, "field_order": "unknown", "range": "untagged", "primaries": "untagged"}},
    ]  # fmt: skip
    assert facts.between([("x", one, other) for one in same for other in same]) == []


def test_two_readers(tmp_path: Path) -> None:
    a, b = folder(tmp_path / "a"), folder(tmp_path / "b", lambda clip: clip // 2)
    for name, path in (("ra", a), ("rb", b)):
        score_videos(path, ["temporal_flicker"], out=tmp_path / name)
    assert flicker(tmp_path / "ra", tmp_path / "rb").verdict == "better"
    about = json.loads((tmp_path / "rb" / "run.json").read_text())
    about["reader"]["reader"] = 3
    (tmp_path / "rb" / "run.json").write_text(json.dumps(about))
    assert flicker(tmp_path / "ra", tmp_path / "rb").facts == "reader"


def test_a_typing_error_is_a_wrong_call(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown fact in --despite 'rat'"):
        flashbench.compare(tmp_path, tmp_path, despite="rat")


# --- where they are told ---------------------------------------------------------------------------------------------


def test_score_and_cite_tell_what_references_differ_in(tmp_path: Path) -> None:
    reference, copy = folder(tmp_path / "a", count=1), folder(tmp_path / "b", count=1, qp="-1", crf="30")
    done = score_videos(copy, ["psnr"], reference=reference, out=tmp_path / "out")
    line = "1 of 1 pairs differ in coding with or without loss (0.mkv: lossy, its reference lossless): "
    assert [remark for remark in done.remarks if remark.startswith(line)]
    assert [remark for remark in cite(tmp_path / "out").remarks if remark.startswith(line)]
    assert not np.isnan(done.table["value"].item()), "it is measured all the same"
    found = compare_runs([("", tmp_path / "out"), ("", tmp_path / "out")])
    assert [note for note in found.notes if line in note]


def test_cite_tells_what_a_comparison_differs_in(tmp_path: Path) -> None:
    a = folder(tmp_path / "a", lambda clip: clip[:12])
    b = folder(tmp_path / "b", lambda clip: np.repeat(clip[:6], 2, axis=0))
    write(compared(a, b), tmp_path / "out")
    told = cite(tmp_path / "out")
    assert "4 of 4 pairs of b differ in pictures that repeat the one before (0.mkv: 6 of 12, in a 0 of 12)" in told.text
    assert any("has no verdict on temporal_flicker: pairs differ in repeats" in line for line in told.results)
    record = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert record["facts"]["b"][0]["fact"] == "repeats" and record["results"][0]["facts"] == "repeats"
