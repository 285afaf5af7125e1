"""DOVER's views and percentages: which frames and pieces upstream sees, and what its scripts make of raw scores."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from support import dover_weights
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as vision

from flashbench.metrics.dover import scores
from flashbench.metrics.dover import views as dover_views


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def every_second(start: int, count: int) -> list[int]:
    return [(start + 2 * i) % count for i in range(32)]


def noise(count: int, height: int, width: int, seed: int = 3) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("count", "starts"), [(32, (0, 10, 20)), (49, (0, 16, 32)), (145, (0, 48, 96)), (197, (0, 65, 130))]
)
def test_technical_frames_that_are_not_random(count: int, starts: tuple[int, ...]) -> None:
    for seed in range(3):
        frames = dover_views.technical_frames(count, seeded(seed))
        assert frames.tolist() == [every_second(start, count) for start in starts]


def test_technical_frames_are_random_from_198_on() -> None:
    drawn = [dover_views.technical_frames(198, seeded(seed)) for seed in range(40)]
    for clip in range(3):
        starts = {int(frames[clip, 0]) for frames in drawn}
        assert starts == {66 * clip, 66 * clip + 1}  # the upper end, 66 - 64, is exclusive
    assert all(np.array_equal(frames - frames[:, :1], np.tile(np.arange(0, 64, 2), (3, 1))) for frames in drawn)


def test_aesthetic_frames() -> None:
    for count in (32, 49, 63):
        assert dover_views.aesthetic_frames(count, seeded()).tolist() == list(range(32))
    assert dover_views.aesthetic_frames(127, seeded()).tolist() == list(range(0, 96, 3))
    assert dover_views.aesthetic_frames(17, seeded()).tolist() == [0] * 32
    drawn = np.stack([dover_views.aesthetic_frames(145, seeded(seed)) - 4 * np.arange(32) for seed in range(30)])
    assert set(drawn.ravel().tolist()) == {0, 1} and (drawn.min(0) < drawn.max(0)).all()
    wide = np.stack([dover_views.aesthetic_frames(198, seeded(seed)) - 6 * np.arange(32) for seed in range(60)])
    assert set(wide.ravel().tolist()) == {0, 1, 2, 3}


def test_a_video_without_frames_has_no_views() -> None:
    with pytest.raises(ValueError, match="without frames"):
        dover_views.technical_frames(0, seeded())


@given(height=st.integers(32, 1200), width=st.integers(32, 2000), seed=st.integers(0, 2**32))
def test_every_fragment_lies_in_its_cell_and_in_the_frame(height: int, width: int, seed: int) -> None:
    origins = dover_views.fragment_origins(height, width, seeded(seed))
    assert origins.shape == (2, 7, 7, 3)
    for axis, size in enumerate((height, width)):
        along = np.moveaxis(origins[axis], axis, 0)
        corners = np.minimum(size // 7 * np.arange(7), size - 32)[:, None, None]
        assert (along >= corners).all() and (along + 32 <= size).all()
        assert (along <= corners + max(0, size // 7 - 33)).all()


def test_cells_of_1080p_are_154_by_274_and_heights_are_drawn_first() -> None:
    origins = dover_views.fragment_origins(1080, 1920, seeded(7))
    draw = seeded(7)
    tops = torch.randint(154 - 32, (7, 7, 3), generator=draw).numpy()
    lefts = torch.randint(274 - 32, (7, 7, 3), generator=draw).numpy()
    assert np.array_equal(origins[0], tops + 154 * np.arange(7)[:, None, None])
    assert np.array_equal(origins[1], lefts + 274 * np.arange(7)[None, :, None])


def test_cells_of_32_pixels_and_fewer_have_no_offset_and_draw_nothing() -> None:
    draw, untouched = seeded(2), seeded(2)
    origins = dover_views.fragment_origins(224, 100, draw)
    assert torch.equal(draw.get_state(), untouched.get_state())
    assert (origins[0] == 32 * np.arange(7)[:, None, None]).all()
    assert (origins[1] == np.minimum(14 * np.arange(7), 68)[None, :, None]).all()


def test_frames_below_a_fragment_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 32×32, not 31×64"):
        dover_views.plan(49, 31, 64, seeded())


def test_a_plan_draws_frames_before_fragments() -> None:
    draw = seeded(4)
    technical, aesthetic = dover_views.technical_frames(300, draw), dover_views.aesthetic_frames(300, draw)
    origins = dover_views.fragment_origins(270, 480, draw)
    plan = dover_views.plan(300, 270, 480, seeded(4))
    assert np.array_equal(plan.technical, technical) and np.array_equal(plan.aesthetic, aesthetic)
    assert np.array_equal(plan.origins, origins)


def test_fragments_are_crops_at_native_resolution_with_one_offset_per_cell_and_clip() -> None:
    frames = noise(49, 240, 300)
    plan = dover_views.plan(49, 240, 300, seeded(1))
    (views,) = dover_views.views(frames, [plan], antialias=True)
    assert views.technical.shape == (3, 3, 32, 224, 224)
    for clip, row, column in np.ndindex(3, 7, 7):
        top, left = plan.origins[:, row, column, clip]
        crop = frames[plan.technical[clip], top : top + 32, left : left + 32].transpose(3, 0, 1, 2)
        piece = views.technical[clip, :, :, 32 * row : 32 * row + 32, 32 * column : 32 * column + 32]
        assert np.array_equal(piece.numpy(), crop)


def test_a_small_frame_is_enlarged_but_its_grid_is_not() -> None:
    """Upstream's way: at 112×160 only the top left 112×160 of the doubled frame is seen, and levels are cut off."""
    frame = noise(1, 112, 160)[0]
    plan = dover_views.plan(1, 112, 160, seeded())
    (views,) = dover_views.views([frame], [plan], antialias=True)
    planes = torch.from_numpy(frame).permute(2, 0, 1)[None].float()
    large = torch.nn.functional.interpolate(planes, (224, 320), mode="bilinear")[0].floor().byte()
    assert plan.origins[0].max() == 80 and plan.origins[1].max() == 128
    for row, column in np.ndindex(7, 7):
        top, left = min(16 * row, 80), min(22 * column, 128)
        piece = views.technical[0, :, 5, 32 * row : 32 * row + 32, 32 * column : 32 * column + 32]
        assert torch.equal(piece, large[:, top : top + 32, left : left + 32])


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize(("height", "width"), [(1080, 1920), (270, 480), (100, 60)])
def test_the_aesthetic_resize_is_torchvision_s(height: int, width: int, antialias: bool) -> None:
    frame = noise(1, height, width)[0]
    theirs = vision.resize(
        torch.from_numpy(frame).permute(2, 0, 1).contiguous(),
        [224, 224],
        InterpolationMode.BILINEAR,
        antialias=antialias,
    )
    assert np.array_equal(dover_views.resize(frame, antialias=antialias), theirs.numpy())


def test_antialias_decides_the_aesthetic_view_only() -> None:
    frames = noise(4, 240, 300)
    plan = dover_views.plan(4, 240, 300, seeded())
    (smooth,), (sharp,) = (dover_views.views(frames, [plan], antialias=antialias) for antialias in (True, False))
    assert torch.equal(smooth.technical, sharp.technical)
    assert sharp.aesthetic.float().std() > 1.1 * smooth.aesthetic.float().std()


def test_normalised_views_have_imagenet_s_mean_and_deviation() -> None:
    view = torch.tensor([[0, 255], [124, 10], [1, 2]], dtype=torch.uint8).view(1, 3, 2, 1, 1)
    wanted = [
        [-123.675 / 58.395, 131.325 / 58.395],
        [7.72 / 57.12, -106.28 / 57.12],
        [-102.53 / 57.375, -101.53 / 57.375],
    ]
    assert np.allclose(dover_views.normalise(view)[0, :, :, 0, 0], wanted, atol=1e-6)


def test_one_pass_serves_several_plans_and_reads_no_frame_too_many() -> None:
    frames = noise(70, 64, 96)
    read = 0

    def stream() -> Iterator[Any]:
        nonlocal read
        for frame in frames:
            read += 1
            yield frame

    draw = seeded(5)
    plans = [dover_views.plan(50, 64, 96, draw) for _ in range(2)]
    together = dover_views.views(stream(), plans, antialias=False)
    assert read == 49  # the last frame that a plan names is 48: 32 + 62 is 44 again
    for plan, views in zip(plans, together, strict=True):
        (alone,) = dover_views.views(frames, [plan], antialias=False)
        assert torch.equal(views.technical, alone.technical) and torch.equal(views.aesthetic, alone.aesthetic)


def test_read_only_frames_do() -> None:
    frames = noise(3, 240, 300)
    frames.setflags(write=False)
    plan = dover_views.plan(3, 240, 300, seeded())
    assert dover_views.views(frames, [plan], antialias=True)[0].aesthetic.shape == (1, 3, 32, 224, 224)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (noise(30, 64, 96), "ended after 30, frame 48 was planned"),
        ([*noise(5, 64, 96), *noise(44, 64, 98)], r"\[64, 96, 3\] as planned, not uint8 \[64, 98, 3\]"),
        (noise(49, 64, 96).astype(np.float32), "float32"),
    ],
)
def test_frames_that_are_not_as_planned_are_refused(frames: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dover_views.views(frames, [dover_views.plan(49, 64, 96, seeded())], antialias=True)


class Means(torch.nn.Module):
    """A stand-in for the network: mean levels instead of scores."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.calls: list[str] = []

    def technical(self, views: torch.Tensor) -> torch.Tensor:
        self.calls.append("technical")
        return views.mean((1, 2, 3, 4))

    def aesthetic(self, views: torch.Tensor) -> torch.Tensor:
        self.calls.append("aesthetic")
        return views.mean((1, 2, 3, 4))


def score(frames: Any, seed: int = 0, **settings: Any) -> scores.RawScores:
    return scores.score(Means(), frames, seeded(seed), antialias=True, **settings)  # type: ignore[arg-type]


def test_the_generator_alone_decides_the_score() -> None:
    frames = noise(49, 240, 300)
    before = torch.get_rng_state(), np.random.get_state(legacy=False)
    first, again, other = (score(frames, seed, repeats=3) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert str(np.random.get_state(legacy=False)) == str(before[1])
    assert first.technical.tolist() == again.technical.tolist() != other.technical.tolist()
    assert len(set(first.technical.tolist())) == 3
    assert first.aesthetic.tolist() == other.aesthetic.tolist() and len(set(first.aesthetic.tolist())) == 1


def test_the_first_repeat_is_the_score_without_repeats_and_a_stream_that_of_an_array() -> None:
    frames = noise(40, 240, 300)
    assert score(frames).technical[0] == score(frames, repeats=2).technical[0]
    assert score(iter(frames), count=40).technical.tolist() == score(frames).technical.tolist()


@pytest.mark.parametrize(
    ("count", "side", "technical", "aesthetic"),
    [(49, 64, 3, 1), (400, 64, 9, 3), (49, 300, 9, 1)],
    ids=["nothing is random", "frames are", "fragments are"],
)
def test_what_draws_show_alike_is_seen_once(count: int, side: int, technical: int, aesthetic: int) -> None:
    """Fragments that fill their cells lie where they lie; the frames of a short video are always the same."""
    model, every = Means(), Means()
    found = scores.score(model, noise(count, side, side), seeded(), antialias=True, repeats=3)  # type: ignore[arg-type]
    assert (model.calls.count("technical"), model.calls.count("aesthetic")) == (technical, aesthetic)
    plans = [dover_views.plan(count, side, side, draw) for draw in [seeded()] for _ in range(3)]
    seen = dover_views.views(noise(count, side, side), plans, antialias=True)
    means = [[every.technical(dover_views.normalise(clip[None])).item() for clip in view.technical] for view in seen]
    assert found.technical.tolist() == [float(np.mean(values)) for values in means]


@pytest.mark.parametrize(
    ("frames", "settings", "message"),
    [
        (iter(noise(3, 64, 64)), {}, "count"),
        (noise(3, 64, 64), {"repeats": 0}, "repeats"),
        ([], {}, "without frames"),
        (iter([]), {"count": 4}, "without frames"),
        (noise(3, 20, 64), {}, "at least 32×32"),
    ],
)
def test_wrong_calls_are_refused(frames: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score(frames, **settings)


def raw(technical: float, aesthetic: float) -> scores.RawScores:
    return scores.RawScores(np.array([technical]), np.array([aesthetic]))


def test_the_published_pair_comes_from_raw_scores_near_0() -> None:
    """FlashVideo prints 11.86 and 98.92: the percentages of about -0.037 and +0.088 with upstream's constants."""
    printed = scores.upstream_percentages(raw(-0.037, 0.088))
    assert printed.technical[0] == pytest.approx(11.86, abs=0.1)
    assert printed.aesthetic[0] == pytest.approx(98.92, abs=0.03)
    overall = 0.6104 * (-0.037 - 0.1107) / 0.07355 + 0.3896 * (0.088 + 0.08285) / 0.03774
    assert printed.overall[0] == pytest.approx(100 / (1 + math.exp(-overall)), abs=1e-9)


def test_matched_constants_are_those_of_the_other_variant_exchanged() -> None:
    matched = scores.matched_percentages(raw(-0.08285, 0.1107))
    assert (matched.technical[0], matched.aesthetic[0], matched.overall[0]) == pytest.approx((50, 50, 50))
    upstream = scores.upstream_percentages(raw(0.1107, -0.08285))
    assert (upstream.technical[0], upstream.aesthetic[0], upstream.overall[0]) == pytest.approx((50, 50, 50))
    a, b = scores.upstream_percentages(raw(0.02, -0.05)), scores.matched_percentages(raw(-0.05, 0.02))
    assert (a.technical[0], a.aesthetic[0]) == (b.aesthetic[0], b.technical[0])
    assert a.overall[0] != pytest.approx(b.overall[0], abs=0.1)  # the branches' weights stay where they are


def test_percentages_of_extreme_scores_stay_between_0_and_100() -> None:
    far = scores.upstream_percentages(raw(-1e3, 1e3))
    assert far.technical[0] == 0 and far.aesthetic[0] == 100


def test_the_spread_is_the_deviation_over_repeats() -> None:
    assert scores.spread(np.array([1.0, 2.0, 3.0])) == 1
    assert math.isnan(scores.spread(np.array([1.0])))


STREAM = """
import sys, torch, numpy as np
from safetensors.torch import load_file
from flashbench.metrics.dover import network, scores
model = network.load(load_file(sys.argv[1]))

def resident(peak):  # not getrusage's maximum, which a child inherits from the process that started it
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(peak))

before = resident("VmRSS")
draw = np.random.default_rng(0)
frames = (draw.integers(0, 256, (1080, 1920, 3), dtype=np.uint8) for _ in range(49))
raw = scores.score(model, frames, torch.Generator().manual_seed(0), antialias=True, count=49, repeats=2)
assert np.isfinite(raw.technical).all() and np.isfinite(raw.aesthetic).all()
print(resident("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the resident memory from /proc")
def test_49_frames_of_1080p_stream_within_1200_megabytes(tmp_path: Path, root: Path) -> None:
    weights = tmp_path / "dover.safetensors"
    save_file(dover_weights.state(), weights)
    done = subprocess.run([sys.executable, "-c", STREAM, str(weights)], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr
    above = int(done.stdout) * 1024
    assert above < 1.2e9, f"{above / 1e6:.0f} MB above the model"
