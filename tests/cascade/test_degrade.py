"""DEG_pixel and DEG_latent: properties that hold whatever the draw, and the preconditioner's analytic truth."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flashbench.cascade import degrade, precondition
from flashbench.cascade.degrade import PixelDegradation
from flashbench.cascade.transformer import Stage2Transformer
from flashbench.data.synthetic import synthetic_clip
from flashbench.errors import UsageError


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbers(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_latent_degradation_keeps_power_and_grows_noisier() -> None:
    a, sigma = degrade.coefficients(torch.arange(1000))
    assert torch.allclose(a**2 + sigma**2, torch.ones(1000), atol=1e-6)
    assert (a.diff() < 0).all() and a[-1] == 0


def test_latent_degradation_takes_a_step_per_sample() -> None:
    z, noise = torch.randn(2, 1, 4, 2, 2, generator=draw()), torch.randn(2, 1, 4, 2, 2, generator=draw(1))
    both = degrade.latent(z, torch.tensor([600, 900]), noise)
    assert torch.equal(both[:1], degrade.latent(z[:1], 600, noise[:1]))
    assert torch.equal(both[1:], degrade.latent(z[1:], 900, noise[1:]))
    assert degrade.latent(z, None, noise) is z


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), height=st.integers(3, 20), width=st.integers(3, 20))
def test_pixel_degradation_of_any_draw(seed: int, height: int, width: int) -> None:
    frames = torch.from_numpy(synthetic_clip(2, 40, 48, 0)).permute(0, 3, 1, 2).float() / 127.5 - 1
    before = torch.random.get_rng_state()
    out = PixelDegradation()(frames, height, width, numbers(seed))
    assert out.shape == (2, 3, height, width) and out.dtype == torch.float32
    assert out.abs().max() <= 1 and torch.isfinite(out).all()
    assert torch.equal(out, PixelDegradation()(frames, height, width, numbers(seed)))
    assert torch.equal(before, torch.random.get_rng_state()), "only the passed generator is drawn from"


def test_pixel_degradation_is_stronger_than_resizing() -> None:
    clip = synthetic_clip(3, 64, 64, 0)
    truth = degrade.degrade_pixel(clip, (16, 16), degrade.WEAK, numbers()).astype(float)
    strong = dataclasses.replace(PixelDegradation(), mild_probability=0.0)
    for seed in range(5):
        assert np.abs(degrade.degrade_pixel(clip, (16, 16), strong, numbers(seed)) - truth).mean() > 1


def test_weak_degradation_draws_nothing_that_matters() -> None:
    clip = synthetic_clip(2, 64, 64, 0)
    assert np.array_equal(
        degrade.degrade_pixel(clip, (16, 16), degrade.WEAK, numbers(0)),
        degrade.degrade_pixel(clip, (16, 16), degrade.WEAK, numbers(1)),
    )


def test_each_part_of_the_chain_can_be_turned_off() -> None:
    """With blur, noise and JPEG off and factor 1 what is left is one resize, here to the same size: the identity."""
    off = PixelDegradation(
        blur_probability=0, resize_factor=(1.0, 1.0), noise_probability=0, jpeg_probability=0, mild_probability=0
    )
    clip = synthetic_clip(2, 16, 16, 0)
    assert np.array_equal(degrade.degrade_pixel(clip, (16, 16), off, numbers()), clip)


def test_blur_keeps_a_constant_picture_and_has_the_variance_it_is_given() -> None:
    flat = torch.full((1, 3, 32, 32), 0.25)
    assert torch.allclose(degrade._blur(flat, 2.0, 1.0, 0.3), flat, atol=1e-6)
    point = torch.zeros(1, 3, 41, 41)
    point[..., 20, 20] = 1
    spread = degrade._blur(point, 2.0, 1.0, 0.0)[0, 0]
    place = torch.arange(41.0) - 20
    assert math.isclose(float((spread.sum(0) * place**2).sum()), 4.0, rel_tol=0.03)
    assert math.isclose(float((spread.sum(1) * place**2).sum()), 1.0, rel_tol=0.03)


def test_steps_outside_the_schedule_are_refused() -> None:
    for step in (-1, 1000):
        with pytest.raises(UsageError, match="outside 0 to 999"):
            degrade.coefficients(step)


@pytest.mark.parametrize("time", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("step", [300, 675, 850])
def test_preconditioned_target_of_gaussian_data_is_white(time: float, step: int) -> None:
    """Where H and L are jointly Gaussian with the given moments, input and target have variance 1 and correlation 0."""
    count, generator = 200_000, draw(3)
    high = 3.0 * torch.randn(count, generator=generator, dtype=torch.float64)
    low = 0.7 * high + 0.5 * torch.randn(count, generator=generator, dtype=torch.float64)
    table = precondition.moments(high.reshape(-1, 1, 1, 1, 1), low.reshape(-1, 1, 1, 1, 1))
    a, sigma = degrade.coefficients(step)
    start = a * low + sigma * torch.randn(count, generator=generator, dtype=torch.float64)
    x, velocity = (1 - time) * start + time * high, high - start
    scale, k, g = (
        v.double().flatten() for v in precondition.coefficients(table, torch.tensor([time]), torch.tensor([step]))
    )
    source, target = x * scale, (velocity - k * x) / g
    assert abs(float(source.var()) - 1) < 0.02
    assert abs(float(target.var()) - 1) < 0.02
    assert abs(float((source * target).mean())) < 0.01


def test_preconditioned_network_answers_with_the_linear_estimate_where_its_output_is_zero() -> None:
    table = [[9.0] * 4, [6.0] * 4, [5.0] * 4]
    network = Stage2Transformer(
        num_attention_heads=1,
        num_layers=1,
        in_channels=4,
        out_channels=4,
        time_embed_dim=16,
        text_embed_dim=8,
        max_text_seq_length=1,
        moments=table,
    )
    torch.nn.init.zeros_(network.proj_out.weight)
    torch.nn.init.zeros_(network.proj_out.bias)
    x = torch.randn(2, 1, 4, 4, 4, generator=draw())
    times, steps = torch.tensor([0.25, 0.5]), torch.tensor([600, 700])
    _, k, _ = precondition.coefficients(torch.tensor(table), times, steps)
    with torch.no_grad():
        out = network(x, torch.zeros(2, 1, 8), 1000 - 1000 * times, steps).sample
    assert torch.allclose(out, k * x, atol=1e-6)
    assert network.config.moments == table


def test_moments_that_coincide_give_finite_coefficients() -> None:
    table = torch.ones(3, 4)
    for value in precondition.coefficients(table, torch.tensor([0.0, 0.5, 1.0]), torch.tensor([0, 0, 0])):
        assert torch.isfinite(value).all()


def test_second_half_of_the_outputs_is_a_local_gain_of_the_input() -> None:
    network = Stage2Transformer(
        num_attention_heads=1,
        num_layers=1,
        in_channels=4,
        out_channels=8,
        time_embed_dim=16,
        text_embed_dim=8,
        max_text_seq_length=1,
    )
    torch.nn.init.zeros_(network.proj_out.weight)
    # Per patch, channels come first: 4 channels x 2 x 2 of the sum, then as many of the gain.
    with torch.no_grad():
        network.proj_out.bias.copy_(torch.tensor([1.0] * 16 + [3.0] * 16))
        x = torch.randn(1, 2, 4, 4, 4, generator=draw())
        out = network(x, torch.zeros(1, 1, 8), 500.0).sample
    assert torch.allclose(out, 1 + 3 * x, atol=1e-6)


def test_half_precision_is_rounded_once() -> None:
    draw = torch.Generator().manual_seed(0)
    z, noise = (torch.randn(1, 2, 3, 4, 4, generator=draw).bfloat16() for _ in range(2))
    exact = degrade.latent(z.float(), 675, noise.float())
    assert torch.equal(degrade.latent(z, 675, noise), exact.bfloat16())


@pytest.mark.parametrize(("step", "noise"), [(torch.tensor([1, 2, 3]), (1, 2)), (1, (2, 2)), (675.9, (1, 2))])
def test_steps_and_noise_that_do_not_fit(step: object, noise: tuple[int, ...]) -> None:
    with pytest.raises(UsageError):
        degrade.latent(torch.zeros(1, 2), step, torch.zeros(noise))  # type: ignore[arg-type]
