"""Which metrics depend on the frame rate or on neighbours in time: every metric has decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from flashbench import metrics
from flashbench.metrics.base import Metric
from flashbench.types import Clip
from flashbench.vbench.dimensions import DIMENSIONS
from flashbench.vbench.long import PREFIXES

OVER_TIME = """
    dover_aesthetic dover_aesthetic_matched dover_aesthetic_raw dover_overall dover_overall_matched dover_technical
    dover_technical_matched dover_technical_raw ewarp_raft frame_difference_energy repeated_frames
    repeated_frames_exact temporal_error temporal_flicker temporal_residual vbench_temporal_flickering warping_error
"""
OF_FRAMES = """
    attribute_background attribute_color attribute_motion attribute_shape clipiqa colour_drift dists edge_gradient
    evaluations flat_noise gmsd high_pass_correlation laplacian_variance lpips lpips_vgg maniqa maniqa_full maniqa_pipal
    maniqa_pipal_full ms_ssim ms_ssim_y musiq musiq_spaq niqe niqe_pooled predicted_seconds psnr psnr_y sharpness
    sharpness_drift single_object spectral_slope ssim ssim_y tflop
"""
"""Drifts and the laptop's scenes among them: they look at ends and ways, which are parts of the clip's length."""
OF_VBENCH: Mapping[str, bool] = {
    "subject_consistency": True,
    "background_consistency": True,
    "temporal_flickering": True,
    "motion_smoothness": True,
    "dynamic_degree": True,
    "aesthetic_quality": False,
    "imaging_quality": False,
    "object_class": False,
    "multiple_objects": False,
    "human_action": False,
    "color": False,
    "spatial_relationship": False,
    "scene": False,
    "appearance_style": False,
    "temporal_style": False,
    "overall_consistency": False,
}


def test_every_metric_has_decided() -> None:
    decided = {**dict.fromkeys(OVER_TIME.split(), True), **dict.fromkeys(OF_FRAMES.split(), False)}
    found = {name: metrics.get(name).over_time for name in metrics.names()}
    assert found.keys() == decided.keys(), "say of a new metric which it is, by `over_time` and in this file"
    assert found == decided


@pytest.mark.parametrize("prefix", PREFIXES)
def test_of_vbenchs_dimensions_those_that_compare_neighbours(prefix: str) -> None:
    assert {name: metrics.get(f"{prefix}:{name}").over_time for name in DIMENSIONS} == OF_VBENCH


def test_pyiqa_scores_frames() -> None:
    assert not metrics.get("pyiqa:topiq_nr").over_time


def test_it_is_no_part_of_an_identity() -> None:
    for name in metrics.names():
        metric = metrics.get(name)
        assert isinstance(type(metric).over_time, property)
        assert "over_time" not in metric.identity and "over_time" not in {item.name for item in fields(metric)}


def test_a_metric_of_another_package_is_one_of_frames_unless_it_says_so() -> None:
    assert Metric.over_time.fget(metrics.get("psnr")) is False  # type: ignore[attr-defined]


WITHOUT_WEIGHTS = ("temporal_flicker", "frame_difference_energy", "vbench_temporal_flickering", "repeated_frames")


@pytest.mark.parametrize("name", [*WITHOUT_WEIGHTS, "laplacian_variance", "spectral_slope", "colour_drift"])
def test_repeated_frames_move_it_if_and_only_if_it_is_over_time(name: str) -> None:
    """Every frame shown twice at twice the rate is the same to metrics of frames, and not to those over time."""
    frames: Any = np.random.default_rng(0).integers(0, 256, (20, 48, 64, 3), dtype=np.uint8)
    metric = metrics.get(name)
    once = metric.measure(Clip(frames, Fraction(8))).value
    twice = metric.measure(Clip(frames.repeat(2, axis=0), Fraction(16))).value
    assert (abs(once - twice) > 1e-9) == metric.over_time
