"""How every figure looks and is saved: the same data give the same bytes, whatever the reader's matplotlibrc.

In an SVG ids are counted, no date and no version is written, and text stays text; a PNG has no metadata.
"""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from flashbench.errors import InvalidError
from flashbench.protocol.types import Protocol

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = ("svg", "png")
"""Files that every figure is written as, by their endings."""
_DPI = 110
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "flashbench", "svg.fonttype": "none", "font.family": "DejaVu Sans", "font.size": 9.0,
    "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10.0, "axes.titlelocation": "left",
    "axes.edgecolor": "#888888", "axes.linewidth": 0.8, "xtick.color": "#444444", "ytick.color": "#444444",
    "axes.axisbelow": True, "figure.facecolor": "white",
}  # fmt: skip

_STYLING = threading.Lock()
"""The style is the process's while a figure is drawn: two threads draw one after the other."""


@contextmanager
def style() -> Iterator[type[Figure]]:
    """The class of figures, with our style for the time of the block whatever the reader's matplotlibrc."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InvalidError("figures need matplotlib", fix="pip install 'flashbench[repro]'") from error
    with _STYLING, mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield Figure


def saved(figure: Figure, protocol: Protocol, kind: str) -> bytes:
    """The figure as a file of that kind, under the protocol's title, which is written above it."""
    figure.suptitle(f"{protocol.title}, {protocol.tier} tier", x=0.01, ha="left", fontsize=11, fontweight="bold")
    about: dict[str, Any] = {"Date": None, "Creator": None, "Title": f"{protocol.name}, protocol hash {protocol.hash}"}
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=_DPI, metadata=about if kind == "svg" else {"Software": None})
    return _numbered(buffer.getvalue(), protocol.name) if kind == "svg" else buffer.getvalue()


def _numbered(svg: bytes, name: str) -> bytes:
    """The SVG with ids by their order in it, other ones in each protocol's figures.

    matplotlib makes them of coordinates, whose last bits the solver of its layout leaves open from one run to the next.
    """
    ids = dict.fromkeys(re.findall(rb'id="([a-z][0-9a-f]{10})"', svg))
    numbered = {old: old[:1] + sha256(f"{name} {i}".encode()).hexdigest()[:10].encode() for i, old in enumerate(ids)}
    return re.sub(rb"(?<=[\"#])[a-z][0-9a-f]{10}(?=[\")])", lambda found: numbered.get(found[0], found[0]), svg)
