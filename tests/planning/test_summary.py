"""What several protocols take together: what they share is counted once, and it agrees with each one's own plan."""

from __future__ import annotations

import re

from flashbench.planning import plan, stand_ins, summary
from flashbench.protocol.compose import trials
from flashbench.reporting.document import markdown
from flashbench.run.options import Options

PAPER = Options(tier="paper", limit=20)


def grid(text: str) -> dict[str, list[str]]:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")
    ]
    return {row[0]: row[1:] for row in rows if len(row) == 5 and re.match(r"[\d,]+$", row[1])}


def test_what_protocols_share_is_made_once() -> None:
    found = grid(markdown(summary.describe(["nfe", "strength"], PAPER)))
    protocols = {name: PAPER.protocol(name, stand_ins.suite) for name in ("nfe", "strength")}
    rows = {name: {variant.row for variant in part.variants} for name, part in protocols.items()}
    clips = {name: int(cells[0]) for name, cells in found.items()}
    assert clips["nfe"] == 20 * (len(rows["nfe"]) + 1), "and Stage I's"
    # Alike in both: Stage I's clips, bicubic, and four evaluations from step 675.
    assert clips["together"] == clips["nfe"] + clips["strength"] - 3 * 20
    assert int(found["together"][3].replace(",", "")) == sum(
        int(found[name][3].replace(",", "")) for name in ("nfe", "strength")
    )
    for name in ("nfe", "strength"):
        told = plan.describe(name, PAPER)
        hours = re.search(r"^([\d.]+) GPU-hours for", told, re.MULTILINE)
        disk = re.search(r"^disk: about ([\d.]+) GB", told, re.MULTILINE)
        scores = re.search(r"([\d,]+) scores$", told, re.MULTILINE)
        assert hours and disk and scores
        assert found[name][1:] == [hours[1], disk[1], scores[1]]


def test_a_protocol_twice_is_itself() -> None:
    found = grid(markdown(summary.describe(["guidance", "guidance"], PAPER)))
    assert found["guidance"][:3] == found["together"][:3]


def test_clips_of_the_smoke_tier() -> None:
    """A tier without GPU: clips are those of its trials, and no table of GPU memory."""
    options = Options(tier="smoke")
    text = markdown(summary.describe(["nfe", "degradation"], options))
    found = grid(text)
    assert int(found["nfe"][0]) == len(trials(options.protocol("nfe"))) and found["nfe"][1] == "0.0"
    assert int(found["together"][0]) == int(found["nfe"][0]) + 2 * 3, "two rows of degradation are its own"
    assert "GPU memory" not in text and "`niqe-pristine`" in text
