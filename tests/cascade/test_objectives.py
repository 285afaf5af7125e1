"""What is trained for, on what and how fast: objectives with known truths, sources of data, and settings."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from support import training_toys as toys
from torch import Tensor

from flashbench.cascade import degrade
from flashbench.cascade.training import (
    PAPER_STAGE1_FULL,
    PAPER_STAGE1_LORA,
    PAPER_STAGE2,
    Batch,
    EncodedClips,
    EncodedPairs,
    Phase,
    Pixels,
    Training,
    drop_text,
    flow_loss,
    from_pairs,
    generator,
    l1_loss,
    learning_rate,
    objectives,
    v_loss,
)
from flashbench.errors import InvalidError, UsageError

SHAPE = (6, 2, 3, 4, 4)
CONFIG = SimpleNamespace(max_text_seq_length=3, text_embed_dim=8, moments=None)


def draw(purpose: str = "objective") -> torch.Generator:
    return generator(0, purpose, 0)


def normal(purpose: str, *shape: int) -> Tensor:
    return torch.randn(shape or SHAPE, generator=draw(purpose))


class Network(torch.nn.Module):
    """Answers by a function of (x, timestep) and keeps what it was asked."""

    config = CONFIG

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer
        self.asked: dict[str, Tensor] = {}

    def forward(self, hidden_states: Tensor, timestep: Tensor, **rest: Tensor) -> Any:
        self.asked = {"hidden_states": hidden_states, "timestep": timestep, **rest}
        return SimpleNamespace(sample=self.answer(hidden_states, timestep.reshape(-1, 1, 1, 1, 1)))


def scales(step: Tensor) -> tuple[Tensor, Tensor]:
    a = degrade.alphas()[step].double()
    return a, (1 - a**2).sqrt()


# --- v-prediction -----------------------------------------------------------------------------------------------------


def test_v_loss_is_zero_for_the_true_v() -> None:
    clean = normal("clean")

    def true(x: Tensor, step: Tensor) -> Tensor:
        a, sigma = scales(step)
        return ((a * x - clean) / sigma).float()  # a noise - sigma x_0, with the noise read off x

    network = Network(true)
    assert v_loss(network, Batch(clean), draw()) < 1e-8
    assert v_loss(Network(lambda x, step: true(x, step) + 0.5), Batch(clean), draw()) == pytest.approx(0.25, rel=1e-3)
    assert torch.equal(network.asked["encoder_hidden_states"], torch.zeros(6, 3, 8)), "unconditional without contexts"


def test_v_loss_of_a_gaussian_is_least_at_the_conditional_mean() -> None:
    """x_0 ~ N(0, c^2): E[v | x_t] = a sigma (1 - c^2) / (a^2 c^2 + sigma^2) x_t, and the rest of v's variance stays."""
    spread = 0.5
    clean = spread * normal("gaussian", 3000, 1, 1, 4, 4)

    def answer(off: float) -> Any:
        def mean(x: Tensor, step: Tensor) -> Tensor:
            a, sigma = scales(step)
            return ((a * sigma * (1 - spread**2) / (a**2 * spread**2 + sigma**2) + off) * x).float()

        return mean

    least, below, above = (float(v_loss(Network(answer(off)), Batch(clean), draw())) for off in (0.0, -0.05, 0.05))
    assert least < below and least < above
    a, sigma = scales(torch.arange(1000))
    covariance = a * sigma * (1 - spread**2)
    rest = a**2 + sigma**2 * spread**2 - covariance**2 / (a**2 * spread**2 + sigma**2)
    assert least == pytest.approx(float(rest.mean()), rel=0.02)


def test_v_steps_are_uniform_over_the_whole_table() -> None:
    network = Network(lambda x, step: x)
    v_loss(network, Batch(normal("many", 20_000, 1, 1, 1, 1)), draw())
    steps = network.asked["timestep"]
    assert (int(steps.min()), int(steps.max())) == (0, 999) and steps.dtype == torch.int64
    counts = torch.bincount(steps // 100)
    assert len(counts) == 10 and (counts - 2000).abs().max() < 5 * (20_000 * 0.09) ** 0.5


# --- flow and L1 ------------------------------------------------------------------------------------------------------

CLEAN = Phase(name="clean", steps=1, batch=6, degradation="pixel")
NOISY = replace(CLEAN, degradation="pixel+latent", degradation_steps=(650, 750))


def test_flow_loss_is_zero_for_the_true_velocity_and_plain_without_moments() -> None:
    high, low = normal("high"), normal("low")
    batch = Batch(high, low)
    assert flow_loss(Network(lambda x, t: high - low), batch, CLEAN, draw()) == 0
    zero = flow_loss(Network(lambda x, t: torch.zeros_like(x)), batch, CLEAN, draw())
    assert zero == pytest.approx(float((high - low).square().mean()), rel=1e-6)


def test_flow_starts_from_the_degraded_latent() -> None:
    """At x_t = (1 - t) x_0 + t H the true velocity is (H - x_t) / (1 - t), whatever noise is in x_0."""
    high, low = normal("high"), normal("low")
    network = Network(lambda x, t: (high - x) / (t / 1000))
    assert flow_loss(network, Batch(high, low), NOISY, draw()) < 1e-6
    steps, times = network.asked["degradation_step"], 1 - network.asked["timestep"] / 1000
    assert int(steps.min()) >= 650 and int(steps.max()) <= 750
    places = [((steps - 650).double() / 101 * 6).long(), (times * 6).long()]
    assert all(sorted(strata.tolist()) == list(range(6)) for strata in places), "stratified over the batch"
    t = times.reshape(-1, 1, 1, 1, 1)
    start = (network.asked["hidden_states"] - t * high) / (1 - t)
    a, sigma = scales(steps.reshape(-1, 1, 1, 1, 1))
    assert ((start - a * low) / sigma).std() == pytest.approx(1, abs=0.1)


def test_time_shift_sends_times_towards_the_start() -> None:
    high = normal("shift", 4000, 1, 1, 1, 1)
    means = []
    for shift in (1.0, 2.5):
        network = Network(lambda x, t: x)
        flow_loss(network, Batch(high, high), CLEAN, draw(), time_shift=shift)
        means.append(float(1 - network.asked["timestep"].mean() / 1000))
    u = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    assert means == pytest.approx([0.5, float((1 - 2.5 * (1 - u) / (1 + 1.5 * (1 - u))).mean())], abs=2e-3)


def test_l1_loss_is_the_mean_absolute_error_of_one_evaluation() -> None:
    high, low = normal("high"), normal("low")
    network = Network(lambda x, t: torch.ones_like(x))
    expected = float((low + 1 - high).abs().mean())
    assert l1_loss(network, Batch(high, low)) == pytest.approx(expected, rel=1e-6)
    assert network.asked["timestep"].unique().tolist() == [1000] and network.asked["degradation_step"].sum() == 0


@pytest.mark.parametrize(("low", "message"), [(None, "no low-quality latents"), (torch.zeros(6, 1, 3, 4, 4), "shape")])
def test_low_quality_side_must_be_there_and_fit(low: Tensor | None, message: str) -> None:
    settings = Training(phases=(CLEAN,))
    with pytest.raises(InvalidError, match=message):
        objectives.loss(Network(lambda x, t: x), Batch(normal("high"), low), settings, CLEAN, draw())


# --- text -------------------------------------------------------------------------------------------------------------


def test_text_is_dropped_at_its_rate_and_whole() -> None:
    context = normal("context", 20_000, 2, 3)
    out = drop_text(context, 0.1, draw())
    assert out is not None
    gone = (out == 0).all(dim=(1, 2))
    assert float(gone.sum()) == pytest.approx(2000, abs=4 * (20_000 * 0.09) ** 0.5)
    assert torch.equal(out[~gone], context[~gone])
    assert torch.equal(drop_text(context, 0.0, draw()), context)  # type: ignore[arg-type]
    assert drop_text(context * float("nan"), 1.0, draw()).abs().sum() == 0  # type: ignore[union-attr]
    assert drop_text(None, 0.1, draw()) is None


@pytest.mark.parametrize("objective", ["flow", "l1", "v"])
def test_contexts_of_a_batch_reach_the_network(objective: Any) -> None:
    context = normal("context", 6, 3, 8)
    network = Network(lambda x, t: x)
    settings = Training(phases=(NOISY,), objective=objective, text_dropout=0.5)
    objectives.loss(network, Batch(normal("high"), normal("low"), context), settings, NOISY, draw())
    expected = drop_text(context, 0.5, draw())
    assert torch.equal(network.asked["encoder_hidden_states"], expected)  # type: ignore[arg-type]
    assert not torch.equal(expected, context)  # type: ignore[arg-type]


# --- data -------------------------------------------------------------------------------------------------------------


class Halves:
    """A codec that takes every fourth frame and every eighth pixel, times two."""

    channels, stride = 3, (4, 8)

    def encode(self, frames: Tensor) -> Tensor:
        return 2 * frames[:, :, ::4, ::8, ::8].transpose(1, 2)

    def decode(self, latent: Tensor) -> Tensor:
        raise NotImplementedError


def clips(phase: Phase, draw: torch.Generator) -> Pixels:
    frames = torch.rand(phase.batch, 3, phase.frames or 5, *(phase.size or (32, 48)), generator=draw) * 2 - 1
    return Pixels(frames, torch.ones(phase.batch, 3, 8))


def test_encoded_pairs_without_pixel_degradation_are_small_and_large_again() -> None:
    phase = Phase(name="weak", steps=1, batch=2, degradation="none", aug_probability=1.0, size=(64, 96), frames=9)
    source = EncodedPairs(clips=clips, codec=Halves(), scale_range=(4.0, 4.0))
    high, low, context = source(phase, draw("data"))
    frames = clips(phase, draw("data")).frames
    assert high.shape == (2, 3, 3, 8, 12) and torch.equal(high, Halves().encode(frames))
    video = frames.transpose(1, 2)
    expected = degrade.resize(degrade.resize(video, 16, 24), 64, 96).transpose(1, 2)
    assert low is not None and torch.allclose(low, Halves().encode(expected), atol=1e-6)
    assert context is not None and context.shape == (2, 3, 8)


def test_encoded_pairs_degrade_pixels_at_their_rate_and_scale() -> None:
    sizes: list[tuple[int, int]] = []

    class Counted(degrade.PixelDegradation):
        def __call__(self, frames: Tensor, height: int, width: int, generator: np.random.Generator) -> Tensor:
            sizes.append((height, width))
            return torch.zeros(*frames.shape[:2], height, width)

    source = EncodedPairs(clips=clips, codec=Halves(), pixel=Counted())
    phase = Phase(name="strong", steps=1, batch=400, degradation="pixel", frames=1)
    low = source(phase, draw("data")).low
    assert low is not None
    assert len(sizes) == pytest.approx(200, abs=40) == int((low.flatten(1) == 0).all(1).sum())
    assert {height for height, _ in sizes} == {4, 5, 6, 7, 8} and all(6 <= width <= 12 for _, width in sizes)
    sizes.clear()
    source(replace(phase, degradation="none"), draw("data"))
    source(replace(phase, aug_probability=0.0), draw("data"))
    assert not sizes


def test_encoded_clips_have_no_low_quality_side() -> None:
    phase = Phase(name="stage 1", steps=1, batch=2, size=(64, 96), frames=9)
    high, low, context = EncodedClips(clips=clips, codec=Halves())(phase, draw("data"))
    assert torch.equal(high, Halves().encode(clips(phase, draw("data")).frames)) and low is None
    assert context is not None and context.shape == (2, 3, 8)


def test_encoded_pairs_are_a_function_of_the_generator() -> None:
    source = EncodedPairs(clips=clips, codec=Halves())
    phase = Phase(name="pairs", steps=1, batch=3)
    first, second, other = (source(phase, draw(name)) for name in ("a", "a", "b"))
    assert first.low is not None and second.low is not None and other.low is not None
    assert torch.equal(first.low, second.low) and not torch.equal(first.low, other.low)
    assert not torch.equal(first.low, first.high)


def test_pairs_are_a_source() -> None:
    source = from_pairs(lambda batch, draw: (torch.ones(batch, 1), torch.zeros(batch, 1)))
    high, low, context = source(Phase(name="x", steps=1, batch=5), draw())
    assert high.shape == (5, 1) and low is not None and low.sum() == 0 and context is None


# --- settings ---------------------------------------------------------------------------------------------------------


def test_learning_rates() -> None:
    phases = (Phase(name="a", steps=60), Phase(name="b", steps=40))
    constant = Training(phases=phases, learning_rate=4e-5, warmup=0, floor=1.0)
    assert {learning_rate(constant, step) for step in range(100)} == {4e-5}
    falling = Training(phases=phases, learning_rate=1.0, warmup=10, cosine_from=0.5, floor=0.2)
    rates = [learning_rate(falling, step) for step in (0, 4, 9, 49, 50, 75, 100)]
    assert rates == pytest.approx([0.1, 0.5, 1, 1, 1, 0.6, 0.2])


def test_the_papers_settings() -> None:
    steps, batches = [phase.steps for phase in PAPER_STAGE2.phases], [phase.batch for phase in PAPER_STAGE2.phases]
    assert steps == [25_000, 30_000, 1_000, 4_000, 700] and batches == [64] * 5
    ranges = [PAPER_STAGE2.phase(step).degradation_steps for step in (0, 54_999, 55_999, 56_000, 60_699)]
    assert ranges == [(600, 900)] * 3 + [(650, 750)] * 2
    assert [phase.size for phase in PAPER_STAGE2.phases] == [(528, 960)] * 2 + [(1072, 1920)] * 3
    assert [phase.images for phase in PAPER_STAGE2.phases] == pytest.approx([1, 1 / 3, 0, 0, 0])
    assert (PAPER_STAGE2.objective, PAPER_STAGE2.adaptation) == ("flow", "full")
    for settings in (PAPER_STAGE2, PAPER_STAGE1_LORA, PAPER_STAGE1_FULL):
        assert (settings.betas, settings.weight_decay, settings.clip) == ((0.9, 0.95), 1e-4, 0.1)
        assert {learning_rate(settings, step) for step in (0, 1, 30_000, settings.steps - 1)} == {4e-5}
    assert (PAPER_STAGE1_LORA.steps, PAPER_STAGE1_LORA.phases[0].batch) == (50_000, 32)
    assert (PAPER_STAGE1_LORA.rank, PAPER_STAGE1_LORA.alpha, PAPER_STAGE1_LORA.objective) == (128, 1.0, "v")
    assert replace(PAPER_STAGE1_FULL, adaptation="lora") == PAPER_STAGE1_LORA


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"degradation": "pixels"}, "unknown degradation 'pixels'"),
        ({"degradation_steps": (900, 600)}, "degradation_steps of phase 'p' is 900 to 600"),
        ({"degradation_steps": (600, 1000)}, "is 600 to 1000"),
        ({"steps": -1}, "steps of phase 'p' is -1"),
        ({"batch": 0}, "batch of phase 'p' is 0"),
        ({"images": 1.5}, "images of phase 'p' is 1.5"),
        ({"aug_probability": -0.1}, "aug_probability of phase 'p' is -0.1"),
        ({"size": (540, 960)}, r"size of phase 'p' is \(540, 960\)"),
        ({"frames": 48}, "frames of phase 'p' is 48"),
        ({"steps": 1.5}, "steps of phase 'p' is 1.5\n.*give a whole number"),
        ({"batch": True}, "batch of phase 'p' is True"),
        ({"size": 64}, "size of phase 'p' is 64\n.*give two whole numbers, or None"),
        ({"images": "0.5"}, "images of phase 'p' is '0.5'\n.*give a number"),
        ({"degradation": None}, "unknown degradation 'None'"),
    ],
)
def test_wrong_phases_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Phase(**({"name": "p", "steps": 1} | wrong))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"objective": "flows"}, "unknown objective 'flows'"),
        ({"adaptation": "lora "}, "unknown adaptation 'lora '"),
        ({"phases": ()}, "a training without phases"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"rank": 0}, "rank is 0"),
        ({"text_dropout": 2.0}, "text_dropout is 2.0"),
        ({"floor": -1.0}, "floor is -1.0"),
        ({"ema": 1.0}, "ema is 1.0"),
        ({"betas": (0.9, 1.0)}, "beta 2 is 1.0"),
        ({"warmup": -1}, "warmup is -1"),
        ({"rank": "8"}, "rank of the training is '8'\n.*give a whole number"),
        ({"betas": (0.9,)}, r"betas of the training is \(0.9,\)\n.*give two numbers"),
        ({"gradient_checkpointing": 1}, "gradient_checkpointing of the training is 1\n.*True or False"),
        ({"phases": "wide"}, "phases is 'wide'"),
        ({"phases": ("wide",)}, "a phase is 'wide'"),
        ({"phases": {"name": "a", "step": 3}}, "unknown setting of a phase 'step'\n.*did you mean 'steps'"),
        ({"phases": [{"name": "a"}]}, "a phase is {'name': 'a'}\n.*give it a name and steps"),
    ],
)
def test_wrong_trainings_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        replace(toys.FULL, **wrong)


def test_a_curriculum_is_data() -> None:
    given = json.loads(json.dumps([asdict(phase) for phase in PAPER_STAGE2.phases]))
    assert replace(PAPER_STAGE2, phases=given) == PAPER_STAGE2
    alone = PAPER_STAGE2.phases[0]
    assert Training(phases=alone).phases == Training(phases=asdict(alone)).phases == (alone,)  # type: ignore[arg-type]


PIXELS = torch.zeros(4, 3, 5, 32, 48)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (PIXELS, "clips gave a Tensor"),
        (Pixels(PIXELS[..., :40]), "clips of 32x40 in phase 'p', not 32x48"),
        (Pixels(PIXELS[..., :44]), "clips of 5 frames of 32x44"),
        (Pixels(PIXELS[:, :, :4]), "clips of 4 frames of 32x48"),
        (Pixels(PIXELS[:, :, :1]), "clips of 1 frames in phase 'p', not 5"),
        (Pixels(PIXELS.byte()), "clips of type torch.uint8"),
        (Pixels(PIXELS + 200), "clips with values up to 200"),
        (Pixels(PIXELS / 0), "clips with values that are not finite"),
    ],
)
def test_clips_that_are_not_what_a_phase_orders_are_refused(wrong: Any, message: str) -> None:
    phase = Phase(name="p", steps=1, batch=4, size=(32, 48), frames=5)
    for kind in (EncodedClips, EncodedPairs):
        with pytest.raises(UsageError, match=message) as caught:
            kind(clips=lambda phase, draw: wrong, codec=Halves())(phase, draw())
        assert caught.value.fix


def test_wrong_clips_are_refused() -> None:
    with pytest.raises(UsageError, match="scale_range"):
        EncodedPairs(clips=clips, codec=Halves(), scale_range=(8.0, 4.0))
    for kind in (EncodedClips, EncodedPairs):
        source = kind(clips=lambda phase, draw: Pixels(torch.zeros(1, 3, 5, 16, 16)), codec=Halves())
        with pytest.raises(UsageError, match="for a batch of 4"):
            source(Phase(name="p", steps=1, batch=4), draw())
