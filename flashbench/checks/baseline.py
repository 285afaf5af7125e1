"""The two sides of a gate: scores of a file, a folder, a git revision, or made again by a revision's own code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashbench.errors import InvalidError, UsageError, on_disk
from flashbench.progress import say
from flashbench.run.declared import read as read_declared
from flashbench.scores.table import COLUMNS, completed

if TYPE_CHECKING:
    import pandas as pd

SCORES = "scores.parquet"
_PHASES = ("train", "generate", "score")


@dataclass(frozen=True, kw_only=True)
class Scores:
    """One protocol's scores, and what says whether they can be compared with others."""

    where: str
    """File, or REVISION:FILE."""
    table: pd.DataFrame
    """Columns of `scoring.COLUMNS`."""
    protocol_hash: str
    numerics: Mapping[str, Any] | None
    """`clips` (the classes that made them) and `scores` (the class that scored them); None if not known."""
    declared: Mapping[str, Any] | None
    """What it says that it should hold (`run.declared`); None in files from before they said so."""


@dataclass(frozen=True, kw_only=True)
class Revision:
    """A commit of the repository that the working folder lies in."""

    name: str
    """As the user wrote it."""
    commit: str


def parse(content: bytes, where: str) -> Scores:
    """Scores of the content of a scores.parquet.

    Raises:
        InvalidError: it is none.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    fix = "score the protocol again, or restore the file"
    try:
        arrow_table = pq.read_table(BytesIO(content))
        metadata = arrow_table.schema.metadata or {}
        table: pd.DataFrame = completed(arrow_table.to_pandas())
        numerics = json.loads(metadata.get(b"numerics", b"null"))
        declared = read_declared(metadata.get(b"declared", b""))
    except (ValueError, pa.ArrowException) as error:
        raise InvalidError(f"{where} cannot be read: {error}", fix=fix) from error
    if tuple(table.columns) != COLUMNS or table["protocol"].nunique() != 1:
        raise InvalidError(f"{where} is not a table of one protocol's scores", fix=fix)
    if declared is not None and declared["protocol"] != table["protocol"].iloc[0]:
        raise InvalidError(f"{where} declares what {declared['protocol']} should hold", fix=fix)
    return Scores(
        where=where,
        table=table,
        protocol_hash=metadata.get(b"protocol", b"").decode("ascii", "replace"),
        numerics=numerics,
        declared=declared,
    )


def read(path: Path) -> dict[str, Scores]:
    """Scores by protocol: of a scores.parquet, of the folder that has it, or of a tier's folder of such folders.

    Raises:
        InvalidError: there are none, or one of them cannot be read.
    """
    files = [path] if path.is_file() else [path / SCORES] if (path / SCORES).is_file() else _inside(path)
    if not files:
        raise InvalidError(f"there are no scores in {path}", fix="run `flashbench run PROTOCOL` first")
    results = []
    for file in files:
        with on_disk(f"{file} cannot be read", fix="check the path and its rights"):
            results.append(parse(file.read_bytes(), str(file)))
    found = {str(scores.table["protocol"].iloc[0]): scores for scores in results}
    if len(found) < len(results):
        raise InvalidError(f"two tables in {path} are of one protocol", fix="restore the files, or name the one meant")
    return found


def _inside(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*/{SCORES}"))


def revision(text: str) -> Revision:
    """The commit that a user names.

    Raises:
        UsageError: neither a file nor a revision has that name.
    """
    try:
        commit = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{text}^{{commit}}")
    except InvalidError as error:
        what = f"the baseline {text!r} is neither a file nor a revision of a git repository here"
        fix = "give a scores.parquet, a folder of results, or a revision such as HEAD or origin/main"
        raise UsageError(f"{what} ({error.what})", fix=fix) from error
    return Revision(name=text, commit=commit.decode().strip())


def committed(at: Revision, folder: Path) -> dict[str, Scores]:
    """Scores by protocol that a revision has under `folder`, a path from the working folder; perhaps none."""
    listed = _git("ls-tree", "-r", "-z", "--name-only", at.commit, "--", f"{folder.as_posix()}/")
    paths = [Path(name) for name in listed.decode().split("\0") if name]
    results = {}
    for path in paths:
        if path.name == SCORES and path.parent.parent == folder:
            content = _git("show", f"{at.commit}:./{path.as_posix()}")
            results[path.parent.name] = parse(content, f"{at.name}:{path.as_posix()}")
    return results


def regenerate(
    at: Revision, names: Iterable[str], *, tier: str, replicas: Sequence[int], overrides: Sequence[str] = ()
) -> dict[str, Scores]:
    """Scores of protocols, made now by the revision's own code in a temporary clone with a store of its own.

    A protocol that the revision does not have is left out.

    Raises:
        InvalidError: git or the revision's code fails.
    """
    with tempfile.TemporaryDirectory(prefix="flashbench-gate-") as scratch:
        tree, out = Path(scratch, "tree"), Path(scratch, "results")
        top = _git("rev-parse", "--show-toplevel").decode().strip()
        _git("clone", "--quiet", "--shared", "--no-checkout", "--", top, str(tree))
        _git("-C", str(tree), "checkout", "--quiet", "--detach", at.commit)
        known = [name for name in names if (tree / "protocols" / f"{name}.yaml").is_file()]
        if not known:
            return {}
        say(f"gate: {at.name} makes the {tier} tier of {', '.join(known)} again on this machine")
        # `-m` takes the package of the folder it starts in, before any that is installed.
        command = [sys.executable, "-m", "flashbench.cli", "run", *known, "--tier", tier, "--results", str(out)]
        command += ["--replicas", ",".join(map(str, replicas))]
        command += [word for phase in _PHASES for word in ("--phase", phase)]
        command += [word for item in overrides for word in ("-S", item)]
        apart = ("FLASHBENCH_PROTOCOLS", "DVC_ROOT", "PYTHONSAFEPATH")
        environment = {name: value for name, value in os.environ.items() if name not in apart}
        environment |= {"FLASHBENCH_STORE": str(Path(scratch, "store")), "PYTHONPATH": str(tree)}
        # What it prints goes to stderr: stdout may be for verdict.json alone.
        if (code := subprocess.run(command, cwd=tree, env=environment, stdout=2, check=False).returncode) != 0:
            what = f"the code of {at.name} could not make its scores again: exit {code}, its words are above"
            raise InvalidError(what, fix="give scores made on this machine: --baseline FILE")
        results = read(out)
        return {name: replace(scores, where=f"{at.name}, made again") for name, scores in results.items()}


def _git(*arguments: str) -> bytes:
    """Output of a git command in the working folder; an `InvalidError` where it fails."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, check=False)
    except FileNotFoundError as error:
        raise InvalidError("git is not installed", fix="install it, or give a file of scores") from error
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        what = f"git {arguments[0]} failed: {lines[0] if lines else f'exit {done.returncode}'}"
        raise InvalidError(what, fix="fetch the revision (a shallow clone may lack it), or give a file of scores")
    return done.stdout
