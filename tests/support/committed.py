"""Results as git's index has them.

`make repro` on a processor of another family trains other networks and leaves its own results in the work tree; what
the repository says of its results (notes of claims, outputs of notebooks) is said of the committed ones.
"""

from __future__ import annotations

import atexit
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@lru_cache
def results() -> Path:
    """A folder with everything that git has under results/; deleted when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="committed-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    listed = subprocess.run(["git", "ls-files", "-z", "results"], cwd=ROOT, capture_output=True, check=True).stdout
    assert listed, "this is no clone: its results cannot be told from those of `make repro`"
    out = ["git", "checkout-index", "-z", "--stdin", f"--prefix={folder}/"]
    subprocess.run(out, cwd=ROOT, input=listed, check=True)
    return folder / "results"
