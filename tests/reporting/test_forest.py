"""The forest plot of claims: every training's effect, interval and leave-one-out range, zero and margins, in words."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from support.fake_scores import better, metric, protocol, synthetic

from flashbench.reporting import claims
from flashbench.reporting.figures import forest, panels
from flashbench.types import Claim

ROWS = {"nfe=1": (5.0, 22.5), "nfe=4": (3.2, 21.2), "bicubic": (9.0, 20.0)}
SCORES = synthetic(ROWS, replicas=3)
FALLS = replace(better("nfe=4", "nfe=1"), id="falls", text="NIQE falls", primary=True)
FAR = replace(better("nfe=4", "bicubic"), id="far", text="NIQE is lower than enlarged")
LIKE = Claim(
    id="like", text="alike", source="Table 8", metric="psnr", equivalent=("nfe=4", "nfe=1"), margin=0.5,
    margin_reason="r",
)  # fmt: skip
EXACT = replace(better("nfe=4", "nfe=1", "tflop"), id="exact", text="takes less")
METRICS = tuple(map(metric, ("niqe_pooled", "niqe", "psnr", "tflop")))
ASKED = protocol(list(ROWS), cases=sorted(set(SCORES["case"])), claims=(FALLS, FAR, LIKE, EXACT), metrics=METRICS)
JUDGED = claims.evaluate(ASKED, SCORES)


@pytest.fixture
def axes(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    from matplotlib.figure import Figure

    seen: list[Any] = []
    monkeypatch.setattr(Figure, "suptitle", lambda self, *_, **__: seen.extend(self.axes))
    forest.draw(ASKED, JUDGED)
    return seen


def texts(svg: bytes) -> str:
    nodes = ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    return "\n".join("".join(node.itertext()) for node in nodes)


def test_the_same_claims_give_the_same_bytes_in_both_kinds() -> None:
    svg, png = (forest.draw(ASKED, JUDGED, kind) for kind in ("svg", "png"))
    assert (svg, png) == tuple(forest.draw(ASKED, JUDGED, kind) for kind in ("svg", "png"))
    assert b"<dc:date>" not in svg and b"matplotlib.org" not in svg and b"Software" not in png
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None and picture.shape[1] > 800


def test_names_are_words_and_what_is_computed_is_left_out() -> None:
    shown = texts(forest.draw(ASKED, JUDGED))
    assert "NIQE falls" in shown and "4 evaluations − 1 evaluation" in shown and "training r2" in shown
    assert "nfe=" not in shown and "takes less" not in shown and "bold: primary claim" in shown


def test_controls_have_an_axis_of_their_own_and_every_training_its_numbers(axes: list[Any]) -> None:
    own, fidelity, far = axes
    assert [ax.get_title("left").rpartition(": ")[2] for ax in axes] == ["niqe_pooled", "psnr", "niqe_pooled"]
    assert abs(far.get_xlim()[0]) > 2 * abs(own.get_xlim()[0])
    drawn = [tuple(map(float, line.get_xdata())) for line in own.lines]
    for line in JUDGED[0]["replicas"]:
        for part in ((line["effect"],), (line["low"], line["high"]), (line["left_out_low"], line["left_out_high"])):
            assert part in drawn
    assert (0.0, 0.0) in drawn, "the line of no difference"
    assert own.get_yticklabels()[0].get_fontweight() == "bold"
    (band,) = fidelity.collections
    assert (band.get_paths()[0].get_extents().x0, band.get_paths()[0].get_extents().x1) == (-0.5, 0.5)


def test_without_a_claim_it_says_so() -> None:
    shown = texts(forest.draw(replace(ASKED, claims=()), []))
    assert "No claim rests on what is measured at the laptop tier." in shown


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("nfe=1", "1 evaluation"),
        ("nfe=4,system=vanilla", "4 evaluations, vanilla"),
        ("degradation_step=675,training=wide", "degradation step 675, training wide"),
        ("bicubic_back_projection", "bicubic back projection"),
        ("positions=rope,size=192", "positions rope, 192 px"),
    ],
)
def test_row_ids_in_words(row: str, words: str) -> None:
    assert panels.readable(row) == words
