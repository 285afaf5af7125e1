"""claims.md and metrics.json over all protocols of a tier."""

from __future__ import annotations

from collections.abc import Sequence

from flashbench.errors import InvalidError
from flashbench.progress import say
from flashbench.protocol.compose import names as known_protocols
from flashbench.run.files import write
from flashbench.run.inputs import ensure_assets
from flashbench.run.options import Options, results_folder
from flashbench.scores.table import read_scores


def scored(options: Options) -> list[str]:
    """Protocols whose scores are there."""
    return [name for name in known_protocols() if (options.root / name / "scores.parquet").exists()]


def summary(names: Sequence[str], options: Options) -> dict[str, bytes]:
    """claims.md and metrics.json of a tier, from the protocols' tables and claims."""
    from flashbench.reporting import claims, tables
    from flashbench.reporting.claims_document import claims_markdown
    from flashbench.reporting.summary import metrics_json

    protocols = [options.protocol(name) for name in names]
    ensure_assets(protocols, material=False)
    results, built = [], []
    for protocol in protocols:
        scores = read_scores(options.root / protocol.name / "scores.parquet", protocol.hash)
        built.append(tables.build(protocol, scores))
        results.append((protocol, claims.evaluate(protocol, scores)))
    return {
        "claims.md": claims_markdown(results).encode(),
        "metrics.json": metrics_json(built).encode(),
    }


def summarise(options: Options) -> None:
    """Write claims.md and metrics.json over all protocols whose scores are there.

    Raises:
        InvalidError: there are none.
    """
    results_folder(options)
    names = scored(options)
    if not names:
        raise InvalidError(f"no protocol has scores under {options.root}", fix="run `flashbench run PROTOCOL` first")
    for name, content in summary(names, options).items():
        write(options.root / name, content)
        say(f"wrote {options.root / name}")
