"""One's own protocol: a YAML anywhere, in the form of those of `protocols/`, and the start of one."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from flashbench.errors import UsageError, did_you_mean, on_disk
from flashbench.paths import protocol_root, read_yaml

START = """\
# {name}: one's own table. `flashbench run {name}.yaml --tier smoke` tries it in seconds with untrained weights, the
# tier `laptop` trains a small FlashVideo in minutes, `paper` takes the released weights. Fields: docs/protocols.md.
defaults:
  - tier: laptop      # recipes, sizes and controls of the tier; --tier names another
  - _self_

name: {name}          # the file's own name: results/TIER/{name}
title: What stronger noise at the start does
# table: Table 10     # of the paper, whose numbers then stand beside; leave it out for a table of your own
seeds: 1              # samples of each case

system: flashvideo    # `flashbench list systems`; a row may name another (system: bicubic)
settings: {{training: wide, degradation: pixel+latent, nfe: 4, shift: 2.5}}
rows:
  - degradation_step: [600, 675, 750]    # a row for each value; several fields in one line are all their pairs

cases: {{limit: 4}}     # what clips are made of; the tier's own set unless `set` names another
metrics: [niqe, psnr, ssim]              # `flashbench list metrics`
primary: [psnr]       # tested by Holm's procedure; the others are exploratory
baseline: degradation_step=675           # the row that all others are compared with
margins: {{psnr: 0.5}}  # how much worse still counts as no worse, for `gate --margins`

claims:
  - {{id: step-600-like-675, text: PSNR stays where it is from 675 steps to 600, source: this project, metric: psnr,
     equivalent: [degradation_step=600, degradation_step=675], margin: 0.5, margin_reason: half a decibel is not seen}}

tiers:                # what differs at a tier; fields on top of the above
  smoke:
    cases: {{limit: 2}}
    sets: {{}}
"""


def find(name: str, known: Collection[str]) -> Path:
    """The file of a protocol: of a `known` name, a path to a YAML, or a name whose YAML lies in the working folder.

    Raises:
        UsageError: there is none, or one's own bears a name that is known, or none that a folder can have.
    """
    if name in known:
        return protocol_root() / f"{name}.yaml"
    path = Path(name) if name.endswith((".yaml", ".yml")) else Path(f"{name}.yaml")
    if not path.is_file():
        if path == Path(name):
            raise UsageError(f"there is no file {name}", fix="`flashbench protocol new NAME` writes a start")
        raise did_you_mean("protocol", name, known)
    named(path.stem)
    if path.suffix != ".yaml":
        raise UsageError(f"{path} is not called .yaml", fix=f"rename it to {path.stem}.yaml")
    if path.stem in known:
        if path.resolve() == (protocol_root() / path.name).resolve():
            return protocol_root() / path.name
        what = f"{path} bears the name of a protocol that is here, and results are kept by it"
        raise UsageError(what, fix="give the file, and its `name`, another")
    defaults = read_yaml(path).get("defaults")
    listed = defaults if isinstance(defaults, list) else []
    if "_self_" not in listed or not any(isinstance(item, dict) and "tier" in item for item in listed):
        fix = "begin it with the four lines `defaults:`, `  - tier: laptop`, `  - _self_` and an empty one"
        raise UsageError(f"{path} does not say on which tier it stands", fix=fix)
    return path


def named(name: str) -> None:
    """Refuse a name that is none of a folder of results.

    Raises:
        UsageError: it has other characters than letters, digits, - and _.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise UsageError(f"{name!r} is no name of a protocol", fix="use letters, digits, - and _")


def begin(name: str, known: Collection[str], folder: Path = Path()) -> Path:
    """Write a commented start of a protocol into `folder`, over no file.

    Raises:
        UsageError: the name is taken, or is none.
        InvalidError: it cannot be written.
    """
    named(name)
    path = folder / f"{name}.yaml"
    if name in known or path.exists():
        raise UsageError(f"there is a protocol {name} already", fix="choose another name")
    with on_disk(f"{path} cannot be written", fix="choose another folder"):
        path.write_text(START.format(name=name), encoding="utf-8")
    return path
