"""`--fps`: the pictures nearest in time, and what is told of files whose light or time is special."""

from __future__ import annotations

import io
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pytest
from support import made_videos as made

import flashbench
from flashbench.comparison.compare import compare_runs
from flashbench.errors import UsageError
from flashbench.progress import Progress
from flashbench.types import Clip, Frames
from flashbench.videos import remarks
from flashbench.videos import score as scoring
from flashbench.videos.score import score_videos
from flashbench.videos.settings import wanted

FAST = ["laplacian_variance", "temporal_flicker"]
CLIP = made.frames(24, 48, 64)


def lossless(path: Path, clip: Frames, fps: int, times: list[int] | None = None, **tags: Any) -> Path:
    """FFV1 in RGB at a rate, or with each picture at its own time in milliseconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=fps)
        stream.height, stream.width, stream.pix_fmt = *clip.shape[1:3], "bgr0"
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        for number, picture in enumerate(clip):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            if times:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def planes(path: Path, *, ten: bool = False, tagged: bool = True, primaries: int = 1, transfer: int = 1) -> Path:
    """FFV1 in 4:2:0 of BT.709, the same samples at 8 bits, or times four at ten."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=8)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p10le" if ten else "yuv420p"
        if tagged:
            stream.codec_context.colorspace = 1
            stream.codec_context.color_primaries, stream.codec_context.color_trc = primaries, transfer
        for picture in CLIP[:4]:
            samples = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p", dst_colorspace=1)
            values = samples.to_ndarray().astype(np.uint16) * 4 if ten else samples.to_ndarray()
            container.mux(stream.encode(av.VideoFrame.from_ndarray(values, format=stream.pix_fmt)))
        container.mux(stream.encode())
    return path


def test_fps_takes_the_nearest_pictures(tmp_path: Path) -> None:
    """One scene at 8 and at 24 a second, and with every picture three times: at eight a second all are one clip."""
    eight = lossless(tmp_path / "a.mkv", CLIP[::3], 8)
    thrice = lossless(tmp_path / "b.mkv", np.repeat(CLIP[::3], 3, axis=0), 24)
    fast = lossless(tmp_path / "c.mkv", CLIP, 24)
    expected = Clip(CLIP[::3], Fraction(8)).digest
    for path in (eight, thrice, fast):
        table = flashbench.score(path, FAST, fps=8)
        assert set(table["clip"]) == {expected} and set(table["frames"]) == {8}
        pd.testing.assert_frame_equal(flashbench.score(path, FAST, fps=8), table)
    assert set(flashbench.score(fast, FAST, fps="8/1")["clip"]) == {expected}
    assert set(flashbench.score(fast, FAST)["clip"]) == {Clip(CLIP, Fraction(24)).digest}
    few = flashbench.score(fast, FAST, fps=8, frames=2)
    assert set(few["clip"]) == {Clip(CLIP[::3][[2, 6]], Fraction(2)).digest}, "frames are chosen of what fps leaves"


def test_a_variable_rate_is_resampled_by_its_times(tmp_path: Path) -> None:
    times = [0, 33, 66, 100, 1100, 1133, 1166, 1200]
    path = lossless(tmp_path / "held.mkv", CLIP[:8], 30, times)
    table = flashbench.score(path, FAST, fps=4)
    nearest = [min(range(8), key=lambda n: (abs(times[n] - 250 * k), n)) for k in range(5)]
    assert set(table["clip"]) == {Clip(CLIP[nearest], Fraction(4)).digest}
    reasons = dict(zip(table["metric"], table["reason"], strict=True))
    assert reasons["laplacian_variance"] == ""
    assert reasons["temporal_flicker"] == "--fps 4 would repeat pictures: it has 1 a second where they stay longest"


def test_a_rate_above_a_videos_own_is_refused_for_metrics_over_time(tmp_path: Path) -> None:
    path = lossless(tmp_path / "a" / "x.mkv", CLIP[:8], 8)
    table = flashbench.score(path, FAST, fps=24).set_index("metric")
    nearest = [min(range(8), key=lambda n: (abs(3 * n - k), n)) for k in range(24)]
    assert set(table["clip"]) == {Clip(CLIP[:8][nearest], Fraction(24)).digest} and not table["value"].isna().all()
    assert np.isnan(table.loc["temporal_flicker", "value"])
    assert table.loc["temporal_flicker", "reason"].startswith("--fps 24 would repeat pictures: it has 8 a second")
    fast = lossless(tmp_path / "b" / "x.mkv", CLIP, 24)
    slow = flashbench.score(fast, ["psnr", "temporal_error"], fps=24, reference=path.parent).set_index("metric")
    assert slow.loc["temporal_error", "reason"].startswith("its reference: --fps 24 would repeat pictures")


def test_fps_is_in_the_hash_and_the_key(tmp_path: Path) -> None:
    hashes = {wanted(FAST).hash, wanted(FAST, fps=8).hash, wanted(FAST, fps=24).hash}
    assert len(hashes) == 3 and wanted(FAST, fps="23.976").fps == Fraction(24000, 1001)
    for wrong in ("fast", "0", "-8", "8/0"):
        with pytest.raises(UsageError, match="invalid frame rate"):
            flashbench.score(tmp_path, FAST, fps=wrong)


def test_the_number_of_pictures_is_what_decoding_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a file whose packets promise more than is shown: the same answer first and later, with and without frames."""
    path = lossless(tmp_path / "x.mkv", CLIP[:9], 8)
    honest = {frames: flashbench.score(path, FAST, frames=frames, store=tmp_path / "s") for frames in ("all", 3)}
    probe = scoring.Opened.__init__.__globals__["read"].probe

    def promising(where: Path) -> Any:
        source, times = probe(where)
        more = type(times)((*times.starts, *(2 + Fraction(n, 8) for n in range(4))), times.last)
        return type(source)(**{**vars(source), "frames": len(more.starts)}), more

    monkeypatch.setattr(scoring.Opened.__init__.__globals__["read"], "probe", promising)
    shown = io.StringIO()
    monkeypatch.setattr(scoring, "Progress", lambda: Progress(shown, every=0.0))
    for frames, expected in honest.items():
        for _ in range(2):
            done = score_videos(path, FAST, frames=frames, store=tmp_path / "t")
            pd.testing.assert_frame_equal(done.table, expected)
            assert done.about[0]["source"]["frames"] == 9
    ends = [line for line in shown.getvalue().splitlines() if line.startswith("scoring") and "took" in line]
    assert {line.split()[1] for line in ends} == {"9/9", "3/3"}, shown.getvalue()


def test_run_json_and_the_report_tell_what_was_shown(tmp_path: Path) -> None:
    path = lossless(tmp_path / "v" / "x.mkv", np.repeat(CLIP[:4], 2, axis=0), 8)
    score_videos(path.parent, FAST, out=tmp_path / "out")
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    (video,) = record["videos"]
    assert (video["frames"], video["source"]["frames"], video["source"]["repeated"]) == (8, 8, 4)
    assert record["reader"]["colour"] == 1 and "libswscale" in record["reader"]["swscale"]
    report = (tmp_path / "out" / "scores.md").read_text()
    assert "not neighbours" not in report
    assert "1 of 1 videos repeat pictures exactly (x.mkv: 4 of 8)" in report
    score_videos(path.parent, FAST, frames=2, out=tmp_path / "few")
    assert "not neighbours" in (tmp_path / "few" / "scores.md").read_text()


def test_ten_bits_score_as_their_eight_bit_copy(tmp_path: Path) -> None:
    eight, ten = planes(tmp_path / "ref" / "a.mkv"), planes(tmp_path / "ten" / "a.mkv", ten=True)
    assert np.array_equal(made.decoded(eight), made.decoded(ten))
    done = score_videos(ten, ["psnr"], reference=eight.parent)
    assert done.table["reason"].item() == "PSNR is infinite: 4 of 4 frames equal the reference"
    assert done.remarks == [
        "1 of 1 videos have more than 8 bits a sample (a.mkv: 10 bits): measured at 8, which hides banding",
        "1 of 1 pairs differ in bits a sample (a.mkv: 10, its reference 8): that alone can move values",
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tagged": False}, "colour matrix (a.mkv: BT.601, its reference bt709)"),
        ({"primaries": 12}, "primaries (a.mkv: smpte432, its reference bt709)"),
        ({"transfer": 13}, "transfer (a.mkv: iec61966-2-1, its reference bt709)"),
    ],
)
def test_pairs_whose_tags_differ_are_told(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    reference, other = planes(tmp_path / "a" / "a.mkv"), planes(tmp_path / "b" / "a.mkv", **options)
    line = f"1 of 1 pairs differ in {said}: that alone can move values"
    assert line in score_videos(other, ["psnr"], reference=reference.parent).remarks
    apart = compare_runs([("", reference.parent), ("", other.parent)], metrics=["laplacian_variance"])
    assert f"{line.replace('its reference', 'in `a`')}." in [note.replace("'", "`") for note in apart.notes]


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_not_measured_as_sdr(transfer: int, name: str, tmp_path: Path) -> None:
    path = planes(tmp_path / "hdr" / "a.mkv", ten=True, primaries=9, transfer=transfer)
    done = score_videos(path, ["laplacian_variance"])
    assert done.table["value"].isna().all() and name in done.table["reason"].item()
    assert len(done.unreadable) == 1
    sdr = planes(tmp_path / "sdr" / "a.mkv")
    beside = score_videos(sdr, ["psnr"], reference=path.parent)
    assert beside.table["reason"].item().startswith("its reference") and name in beside.table["reason"].item()


def test_remarks_are_one_line_for_each_kind(tmp_path: Path) -> None:
    lossless(tmp_path / "v" / "held.mkv", CLIP[:4], 30, [0, 33, 1000, 1033])
    woven = tmp_path / "v" / "woven.mp4"
    with av.open(str(woven), "w") as container:
        stream = container.add_stream("libx264", rate=8, options={"x264-params": "interlaced=1:tff=1"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for picture in CLIP[:4]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    wide = made.write(tmp_path / "v" / "wide.avi", CLIP[:4], codec="mpeg4")
    with av.open(str(wide), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for picture in CLIP[:4]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    done = score_videos(tmp_path / "v", ["laplacian_variance"])
    assert done.remarks == [
        "1 of 3 videos are interlaced (woven.mp4: tff): each frame is measured as stored, with lines of two moments",
        "1 of 3 videos have pixels that are not square (wide.avi: 4/3): measured as stored, not stretched",
        "1 of 3 videos show their pictures for unequal times (held.mkv: up to 0.967 s): every picture counts once; "
        "`--fps N` takes the nearest in time",
        "2 of 3 videos name no colour matrix (wide.avi: yuv420p): read as BT.601, FFmpeg's default",
    ]
    assert not done.unreadable


def test_sources_of_other_versions_say_nothing() -> None:
    assert remarks.sources_of([{"case": "a", "source": {"frames": 3}}, {"case": "b"}]) == {}
