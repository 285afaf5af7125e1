"""Identities: canonical JSON, content keys, the numerics class, and the identity of code.

Two results are the same result if and only if their keys are equal. A key holds everything that can move a number
and nothing that cannot: no times, no paths, no commit. Code enters by an integer `version` per system, metric and
recipe; `closure_hash` (pinned in tests/contract/code_identity.json) makes a change of arithmetic without a new
version fail a test.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from fractions import Fraction
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

SCHEMA = 1
"""Version of the layout of keys themselves: a bump makes every stored result unknown."""


def plain(value: Any) -> Any:
    """`value` as JSON data: mappings sorted by key, tuples as lists, fractions as `n/d`; NaN is refused."""
    if isinstance(value, Mapping):
        return {str(name): plain(value[name]) for name in sorted(value, key=str)}
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Fraction):
        return f"{value.numerator}/{value.denominator}"
    if isinstance(value, str | bool | int) or value is None:
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} cannot be part of a key")
        # 4 and 4.0 from YAML mean the same setting.
        return int(value) if value.is_integer() else value
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} cannot be part of a key")


def canonical_json(value: Any) -> str:
    """One text per value: sorted keys, no spaces, ASCII, shortest round-trip floats."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def key(kind: str, **parts: Any) -> str:
    """sha256 (64 hex digits) over the kind, the schema version and the canonical JSON of the parts."""
    text = canonical_json({"kind": kind, "schema": SCHEMA, "parts": parts})
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, read in blocks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@lru_cache(maxsize=64)
def package_version(name: str) -> str:
    """Installed version of a distribution, or `absent`."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


@lru_cache(maxsize=1)
def cpu_isa() -> str:
    """Architecture and widest SIMD level of this machine's CPU, as numpy finds it, e.g. `x86_64/AVX512_SPR`."""
    import numpy as np

    config: Any = np.show_config(mode="dicts")
    extensions = config["SIMD Extensions"].get("found", [])
    return f"{platform.machine()}/{extensions[-1] if extensions else 'baseline'}"


def numerics_class(*, threads: int, device: str = "cpu", dtype: str = "float32") -> dict[str, str | int]:
    """What decides the last bits of a generated clip: device, dtype, ISA capability, threads, library versions."""
    return {
        "device": device,
        "dtype": dtype,
        "isa": cpu_isa() if device == "cpu" else _gpu_name(),
        "threads": threads,
        # What decodes, resizes and compresses pixels, and builds the networks.
        **versions("torch", "numpy", "av", "pillow", "diffusers"),
    }


def versions(*names: str) -> dict[str, str]:
    """Versions of OpenCV and of the distributions `names`."""
    import cv2  # its distribution has several names, of which two may be installed

    return {"opencv": str(cv2.__version__), **{name: package_version(name) for name in names}}


def _gpu_name() -> str:
    import torch

    return torch.cuda.get_device_name()


def scoring_class(*libraries: str, device: str = "cpu") -> dict[str, str | int]:
    """What decides the last bits of a score computed with numpy, scipy, OpenCV and `libraries`.

    Where torch is one of them, its threads count too (they decide the order of sums), and the `device` of networks.
    """
    facts: dict[str, str | int] = {"device": "cpu", "isa": cpu_isa(), **versions("numpy", "scipy", *libraries)}
    if "torch" in libraries and facts["torch"] != "absent":
        import torch

        facts["threads"] = torch.get_num_threads()
        if device != "cpu":
            facts["device"] = torch.cuda.get_device_name(device)
    return facts


# --- identity of code -------------------------------------------------------------------------------------------


def _module_file(module: str) -> Path | None:
    """The file of a module, found without importing anything; None for a name inside a module, and for no module."""
    package, *inner = module.split(".")
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:
        return None  # a script, which has no spec
    if spec is None:
        return None
    folders = [Path(place) for place in spec.submodule_search_locations or ()]  # several of a namespace package
    if inner:
        places = [folder.joinpath(*inner) for folder in folders]
        files = [path for place in places for path in (place / "__init__.py", place.with_suffix(".py"))]
    else:
        files = [Path(spec.origin)] if spec.origin and spec.origin.endswith(".py") else []
    return next((path for path in files if path.is_file()), None)


@lru_cache(maxsize=512)
def _imports(source: str, package: str) -> frozenset[str]:
    """Modules of their own top package that modules of `package` import, whose source this is.

    `from a import b` is a.b where that is a module, otherwise a: a package's own file, which gathers its modules, is
    not a dependency of each of them.
    """
    modules: set[str] = set()
    here = package.split(".")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names if alias.name.split(".")[0] == here[0]}
        elif isinstance(node, ast.ImportFrom):
            above = here[: len(here) + 1 - node.level] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            if base.split(".")[0] != here[0]:
                continue
            inner = [f"{base}.{alias.name}" for alias in node.names]
            modules |= {name if _module_file(name) else base for name in inner}
    return frozenset(modules)


def import_closure(module: str, *, stop: frozenset[str] = frozenset()) -> dict[str, Path]:
    """Every module of its own package that `module` reaches by imports (inside functions too), with its file.

    Modules in `stop` are neither included nor followed.
    """
    files: dict[str, Path] = {}
    queue = [module]
    while queue:
        name = queue.pop()
        if name not in files and name not in stop and (path := _module_file(name)) is not None:
            files[name] = path
            package = name if path.name == "__init__.py" or "." not in name else name.rpartition(".")[0]
            queue += sorted(_imports(path.read_text(encoding="utf-8"), package))
    return files


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def syntax(path: Path) -> str:
    """A module's syntax tree as text, without docstrings (attributes' too), comments and line numbers."""
    return _syntax(path.read_text(encoding="utf-8"))


@lru_cache(maxsize=512)
def _syntax(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            node.body = [item for item in body if not _is_text(item)] or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.dump(tree)


def closure_hash(module: str, *, stop: frozenset[str] = frozenset()) -> str:
    """sha256 over the syntax of a module's import closure: changes with arithmetic, not with words."""
    state = hashlib.sha256()
    for name, path in sorted(import_closure(module, stop=stop).items()):
        state.update(f"{name}\n{syntax(path)}\n".encode())
    return state.hexdigest()
