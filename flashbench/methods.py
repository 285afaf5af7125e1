"""How each metric's intervals and tests are made, in words and with whose work it is; `stats` makes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from flashbench.metrics.base import Metric


@dataclass(frozen=True)
class Method:
    """How an interval or a test is made, in the words of a methods section."""

    text: str
    cite: tuple[str, ...] = ()
    """Whose work it is: keys of entries in reporting/citations.yaml."""


Kind: TypeAlias = Literal["mean", "log", "share", "pooled", "pooled log", "pooled share", "computed"]
_VALUES: Mapping[Kind, Method] = {
    "mean": Method("Student's t on the means of clusters"),
    "log": Method("Student's t on logarithms for geometric means, arithmetic where a value is not positive"),
    "share": Method(
        "Wilson's score interval of a share with its effective number of clips, or Clopper and Pearson's",
        ("wilson1927", "korn1998", "clopper1934"),
    ),
    "pooled": Method(
        "the delete-one-cluster jackknife with Student's t, with and without Hall's correction for skewness",
        ("efron1981jackknife", "hall1992"),
    ),
    "pooled log": Method(
        "the delete-one-cluster jackknife of the logarithm with Student's t, with and without Hall's correction for "
        "skewness",
        ("efron1981jackknife", "hall1992"),
    ),
    "pooled share": Method(
        "Wilson's (or Clopper and Pearson's) interval of a share by the delete-one-cluster jackknife's standard error",
        ("wilson1927", "korn1998", "clopper1934", "efron1981jackknife"),
    ),
    "computed": Method("exact, because computed from the settings"),
}
_DIFFERENCES: Mapping[Kind, Method] = {
    **_VALUES,
    "log": Method(
        "Student's t on the logarithms of ratios for percent changes of geometric means, arithmetic differences where "
        "a value is not positive"
    ),
    "pooled log": Method(
        "the delete-one-cluster jackknife of the ratio's logarithm with Student's t, with and without Hall's "
        "correction for skewness, for percent changes",
        ("efron1981jackknife", "hall1992"),
    ),
    "share": Method(
        "the exact sign-flip permutation test over clusters, McNemar's exact test for one clip a cluster, and Tango's "
        "score interval with an effective number of clips, with 0 in it where the test does not reject 0",
        ("mcnemar1947", "tango1998", "korn1998"),
    ),
    "pooled share": Method(
        "the exact sign-flip permutation test and Tango's interval on the delete-one-cluster jackknife's pseudo-values",
        ("mcnemar1947", "tango1998", "korn1998", "efron1981jackknife"),
    ),
}
HOLM = Method("Holm's method", ("holm1979",))
BENJAMINI_HOCHBERG = Method("Benjamini and Hochberg's method", ("benjamini1995",))
METHODS = (*dict.fromkeys([*_VALUES.values(), *_DIFFERENCES.values(), HOLM, BENJAMINI_HOCHBERG]),)
"""All of them."""


def method(metric: Metric, *, paired: bool = False) -> Method:
    """How `stats.estimate` makes a metric's interval; where `paired`, how `stats.contrast` makes a difference's."""
    log = metric.scale == "log"
    kind: Kind = "log" if log else "mean"
    if metric.computed:
        kind = "computed"
    elif metric.binary:
        kind = "pooled share" if metric.pooled else "share"
    elif metric.pooled:
        kind = "pooled log" if log else "pooled"
    return (_DIFFERENCES if paired else _VALUES)[kind]
