"""The table of scores: its columns, its rows, scores.parquet and scores.csv, which have the same columns."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashbench import metrics
from flashbench.errors import FlashBenchError, InvalidError
from flashbench.metrics import calibration
from flashbench.metrics.base import Metric
from flashbench.scores.measure import Scored, unofficial
from flashbench.types import Measurement

if TYPE_CHECKING:
    import pandas as pd


COLUMNS = (
    "protocol", "row", "case", "cluster", "prompt", "seed", "replica", "metric", "value", "unit", "direction",
    "per_frame", "frames", "reason", "clip", "key", "statistics",
)  # fmt: skip
"""Of a row, which is one metric on one clip; `docs/layout.md` says what each holds."""
ADDED = ("prompt", "unit", "direction")
"""Those that files of earlier versions lack."""
ORDER = ["protocol", "metric", "row", "case", "seed", "replica"]


def lines(about: Mapping[str, Any], answers: Iterable[Scored]) -> list[dict[str, Any]]:
    """A row for each metric's answer on one clip; `about` has the columns that they share."""
    return [
        {
            **about,
            "prompt": about.get("prompt") or "",
            "metric": answer.metric.name,
            "value": answer.measurement.value,
            "unit": answer.metric.unit,
            "direction": answer.metric.direction,
            "per_frame": list(answer.measurement.per_frame),
            "reason": noted(answer.metric, answer.measurement),
            "key": answer.key,
            "statistics": list(answer.measurement.statistics),
        }
        for answer in answers
    ]


def noted(metric: Metric, measurement: Measurement) -> str:
    """The reason of a row: the measurement's own, and what is to be known of the metric's weights.

    `unofficial weights`: none of the package's registry. `uncalibrated`: nobody has compared what they give on this
    machine with published scores (`flashbench doctor --calibrate`).
    """
    others = "unofficial weights" if unofficial(metric) else ""
    valued = metric.learned and not math.isnan(measurement.value)
    return "; ".join(filter(None, (measurement.reason, others, calibration.note(metric) if valued else "")))


def table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """The rows as a table, in their order."""
    import pandas as pd

    return pd.DataFrame(list(rows), columns=list(COLUMNS))


def completed(scores: pd.DataFrame) -> pd.DataFrame:
    """A table of an earlier version with the columns that it lacks: no prompt, and its metrics' units and directions.

    Any other table is returned as it is.
    """
    if tuple(scores.columns) != tuple(name for name in COLUMNS if name not in ADDED):
        return scores
    about = {name: _unit_and_direction(name) for name in scores["metric"].unique()}
    units, directions = ([about[name][place] for name in scores["metric"]] for place in (0, 1))
    return scores.assign(prompt="", unit=units, direction=directions)[list(COLUMNS)]


def _unit_and_direction(name: str) -> tuple[str, str]:
    """Of a metric by its name; empty of one that is not here any more."""
    try:
        metric = metrics.get(name)
    except FlashBenchError:
        return "", ""
    return metric.unit, metric.direction


def to_csv(scores: pd.DataFrame) -> str:
    """Content of scores.csv: floats exact, `nan` spelled out, `per_frame` and `statistics` as JSON (null for NaN)."""
    written = scores.assign(**{name: [_json(x) for x in scores[name]] for name in ("per_frame", "statistics")})
    return str(written[list(COLUMNS)].to_csv(index=False, lineterminator="\n", na_rep="nan"))


def _json(numbers: Iterable[float]) -> str:
    return json.dumps([float(x) if math.isfinite(x) else None for x in numbers])


def to_parquet(
    scores: pd.DataFrame, protocol_hash: str, numerics: str = "", declared: str = "", run: str = ""
) -> bytes:
    """Content of scores.parquet: sorted, typed, no times, with the hash of the protocol.

    `numerics` (`run.score.numerics`), `declared` (`run.declared`) and `run` (`scores.runs.packed`) are in its metadata
    where they are known.

    Statistics of set metrics are the bulk of the file, which is in git, so they are kept as float32: that moves pooled
    NIQE by less than 1e-5 (measured on the laptop tier), far below its intervals. Tables are made from the file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    floats = pa.list_(pa.float64())
    kinds = {"seed": pa.int64(), "replica": pa.int64(), "frames": pa.int64(), "value": pa.float64()}
    kinds |= {"per_frame": floats, "statistics": pa.list_(pa.float32())}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in COLUMNS])
    table = pa.Table.from_pandas(scores, schema=schema, preserve_index=False)
    more = {"numerics": numerics, "declared": declared}
    table = table.replace_schema_metadata({"protocol": protocol_hash} | {name: x for name, x in more.items() if x})
    stream = BytesIO()
    lists = {f"{name}.list.element": "BYTE_STREAM_SPLIT" for name in ("per_frame", "statistics")}
    words = [name for name in COLUMNS if name not in kinds]
    form: dict[str, Any] = {"compression": "zstd", "compression_level": 19, "use_dictionary": words}
    with pq.ParquetWriter(stream, table.schema, column_encoding=lists, **form) as writer:
        writer.write_table(table)
        if run:  # not in the schema's metadata, which the file has twice
            writer.add_key_value_metadata({"run": run})
    return stream.getvalue()


def read_scores(path: Path, protocol_hash: str | None = None) -> pd.DataFrame:
    """Read scores.parquet; an `InvalidError` where it is missing, broken, of another form or of another protocol."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        read = pq.read_table(path)
        table = completed(read.to_pandas())
    except (OSError, pa.ArrowException) as error:
        fix = "run `flashbench run PROTOCOL --phase score` first"
        why = getattr(error, "strerror", None) or error
        raise InvalidError(f"{path} cannot be read: {why}", fix=fix) from error
    if tuple(table.columns) != COLUMNS:
        raise InvalidError(f"{path} is not a table of scores", fix=f"its columns must be {', '.join(COLUMNS)}")
    if protocol_hash and (read.schema.metadata or {}).get(b"protocol") != protocol_hash.encode():
        fix = "run the protocol again with the same tier and overrides; what is in the store is not made again"
        raise InvalidError(f"the scores of {path} were made under another form of the protocol", fix=fix)
    return table


def stored(file: Path, name: str) -> str:
    """What the metadata of a scores.parquet say under `protocol` (the protocol's hash), `run` and so on; or nothing."""
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(file).metadata or {}
    return str(metadata.get(name.encode(), b"").decode("ascii", "replace"))
