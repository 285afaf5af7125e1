"""The noise of a case: a function of the case and the purpose, from a generator that uses 128 bits of their hash."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from flashbench.systems import inputs
from flashbench.types import Case

CASE = Case(id="wall/0", cluster="wall", seed=3, source="wall")


def test_noise_is_philox_under_half_of_the_hash() -> None:
    digest = hashlib.sha256(b"wall/0|3|degrade").digest()
    words = [int.from_bytes(digest[place : place + 8], "big") for place in (8, 0)]  # the key's low word comes first
    draw = np.random.Generator(np.random.Philox(key=np.array(words, np.uint64)))
    expected = draw.standard_normal((2, 5), np.float32)
    assert torch.equal(inputs.noise(CASE, "degrade", (2, 5)), torch.from_numpy(expected))


def test_later_noises_of_a_purpose_are_others() -> None:
    first, second, third = inputs.noises(CASE, "stage1_step", (3, 4), 3)
    assert torch.equal(first, inputs.noise(CASE, "stage1_step", (3, 4)))
    assert not torch.equal(first, second) and not torch.equal(second, third)


@pytest.mark.parametrize("other", [replace(CASE, id="wall/1"), replace(CASE, seed=4)])
def test_another_case_has_other_noise(other: Case) -> None:
    ours, theirs = (inputs.noise(case, "degrade", (64,)) for case in (CASE, other))
    assert abs(float(np.corrcoef(ours, theirs)[0, 1])) < 0.5
    assert not torch.equal(ours, inputs.noise(CASE, "control", (64,)))


def test_no_two_of_many_cases_begin_alike() -> None:
    """With the 32 bits that torch's generator keeps of a seed, 200,000 cases would share four or five beginnings."""
    cases = (replace(CASE, seed=seed) for seed in range(200_000))
    begins = [inputs.generator(case, "degrade").bit_generator.random_raw() for case in cases]
    assert len(set(begins)) == len(begins)


def test_noise_is_standard_normal() -> None:
    values = inputs.noise(CASE, "degrade", (400_000,)).double()
    moments = [float((values**power).mean()) for power in (1, 2, 3, 4)]
    assert moments == pytest.approx([0, 1, 0, 3], abs=0.03)


def test_an_unknown_purpose_is_refused() -> None:
    with pytest.raises(ValueError, match="no purpose 'weather'"):
        inputs.noise(CASE, "weather", (1,))
