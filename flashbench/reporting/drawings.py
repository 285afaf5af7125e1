"""What a notebook shows of a protocol's results as a picture: its figures, and the contact sheet of its clips.

Everything is read from a tier's results folder. Arguments and errors that are not told are those of
`reporting.results`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from flashbench.errors import InvalidError
from flashbench.protocol.compose import load_protocol
from flashbench.reporting import vbench_table
from flashbench.reporting.figures import contrasts, forest
from flashbench.reporting.figures import figure as figures
from flashbench.reporting.reading import differences
from flashbench.reporting.results import again, folder, judged, results


@dataclass(frozen=True)
class Drawing:
    """A figure; a notebook shows it."""

    svg: bytes

    def __repr__(self) -> str:
        return "Drawing"

    def _repr_svg_(self) -> str:
        return self.svg.decode("utf-8")


@dataclass(frozen=True)
class Sheet:
    """A contact sheet; a notebook shows it where there is one."""

    name: str
    """Its file, below the folder that holds `results`."""
    png: bytes | None = field(repr=False)
    """Of the sheet; None where no clips were made in this clone."""

    def __repr__(self) -> str:
        return f"Contact sheet {self.name}, which `make repro` makes of the clips"

    def _repr_png_(self) -> bytes | None:
        return self.png


def figure(protocol: str, *, tier: str = "laptop", root: str | Path | None = None, replicas: bool = False) -> Drawing:
    """The protocol's figure, drawn from its table on its own cases (not its further sets).

    Arguments and errors are those of `results`; also InvalidError where matplotlib is not installed, or the table is of
    another version of the protocol.
    """
    table = results(protocol, tier=tier, root=root, replicas=replicas)
    asked = load_protocol(protocol, tier=tier)
    own = table[table["cases"] == asked.case_set]
    names = set(vbench_table.shown(asked).metric_names)
    if set(own["row"]) != {variant.row for variant in asked.variants} or not names <= set(own["metric"]):
        what = f"the table of {protocol} has other rows or metrics than protocols/{protocol}.yaml at the {tier} tier"
        raise InvalidError(what, fix=again(protocol, tier))
    return Drawing(figures.draw(asked, own))


def claims_figure(
    protocol: str, *, tier: str = "laptop", root: str | Path | None = None, replicas: bool = False
) -> Drawing:
    """The paired differences that the protocol's claims rest on, with their intervals and margins.

    Arguments and errors are those of `claims`; also InvalidError where matplotlib is not installed.
    """
    _, found = judged(protocol, tier, root, replicas)
    return Drawing(forest.draw(load_protocol(protocol, tier=tier), found))


def differences_figure(
    protocol: str, metric: str | None = None, than: str | None = None, *, tier: str = "laptop",
    root: str | Path | None = None, replicas: bool = False,
) -> Drawing:  # fmt: skip
    """Differences from one row, measured with their 95 % intervals, and those of the paper's numbers, on one axis.

    Only contrasts between rows compare with the paper, and this is they. Curves over the protocol's setting, or rows
    where it has none. Arguments and errors are those of `differences`; also InvalidError where matplotlib is not
    installed.
    """
    found = differences(protocol, metric, than, tier=tier, root=root, replicas=replicas)
    return Drawing(contrasts.draw(load_protocol(protocol, tier=tier), found))


def contact(protocol: str, *, tier: str = "laptop", root: str | Path | None = None, replicas: bool = False) -> Sheet:
    """The contact sheet of the protocol's clips: empty in a clone in which none were made.

    Arguments and errors are those of `results`.
    """
    within = folder(protocol, tier, root, replicas)
    path = within / protocol / "contact.png"
    base = within.parents[2] if replicas else within.parents[1]
    name = path.relative_to(base).as_posix()
    return Sheet(name, path.read_bytes() if path.is_file() else None)
