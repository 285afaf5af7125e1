"""The house rules that can be read off the code. Every failure lists the offenders."""

from __future__ import annotations

import ast
import graphlib
import itertools
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

import flashbench

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "flashbench"
# Rooms and the ground's modules, lowest first: what stands on a line may import what stands on the lines above it, and
# inside a room its own modules.
ORDER = """
types version
errors
paths progress
keys draws decoding
video
assets registry store vbench cascade
engine data
metrics means
shares jackknife
stats methods
scores laptop drill
systems
protocol
reporting
run videos
comparison planning
checks
drifting testing
cli
"""
RANK = {name: rank for rank, line in enumerate(ORDER.split("\n")) for name in line.split()}
HEAVY = {"torch", "torchvision", "diffusers", "transformers", "accelerate", "peft", "pyiqa", "ray"}


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def where(path: Path, node: ast.AST | None = None) -> str:
    line = f":{node.lineno}" if node is not None and hasattr(node, "lineno") else ""
    return f"{path.relative_to(ROOT)}{line}"


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sources("flashbench")}


def imports(path: Path, nodes: Iterator[ast.AST]) -> Iterator[tuple[str, ast.AST]]:
    """Absolute names of the modules that `nodes` import; `from flashbench import keys` gives flashbench.keys."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{where(path, node)}: relative import"
            base = node.module or ""
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield (full if full in MODULES else base), node


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def at_import(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes that run when the module is imported: nothing inside functions or under TYPE_CHECKING."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not is_type_checking(child):
            yield child
            yield from at_import(child)


def part(module: str) -> str:
    """`flashbench.cascade.rope` → cascade, `flashbench.keys` → keys, `flashbench` → the empty string."""
    return module.split(".")[1] if "." in module else ""


def calls() -> Iterator[tuple[Path, ast.Call, str]]:
    for path in sources("flashbench", "tests", "benchmarks", "tools"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call):
                yield path, node, ast.unparse(node.func)


def run_python(program: str, modules: list[str]) -> list[str]:
    """The lines that a program prints in a fresh interpreter which is given the names of modules."""
    command = [sys.executable, "-c", program, *sorted(modules)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def fail_with(offenders: list[str], rule: str) -> None:
    assert not offenders, f"{rule}:\n  " + "\n  ".join(offenders)


def test_files_are_short() -> None:
    lengths = {
        path: len(path.read_text("utf-8").splitlines())
        for path in sources("flashbench", "tests", "benchmarks", "tools")
    }
    fail_with([f"{where(path)} has {n}" for path, n in lengths.items() if n > 600], "files of more than 600 lines")


def test_functions_are_short() -> None:
    long = []
    for path in sources("flashbench", "tests", "benchmarks", "tools"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > 70:
                    long.append(f"{where(path, node)} {node.name} has {length}")
    fail_with(long, "functions of more than 70 lines")


def test_every_room_has_its_place() -> None:
    unknown = [name for name in MODULES if part(name) and part(name) not in RANK]
    fail_with(unknown, "rooms and modules without a line in ORDER (tests/contract/test_house.py)")


def test_imports_run_one_way() -> None:
    wrong = []
    for module, path in MODULES.items():
        for name, node in imports(path, ast.walk(tree(path))):
            mine, theirs = part(module), part(name)
            # The package itself names the stable API; nothing in it imports the package itself.
            if mine and name.split(".")[0] == "flashbench" and theirs != mine and RANK.get(theirs, 99) >= RANK[mine]:
                wrong.append(f"{where(path, node)} imports {name}")
    fail_with(sorted(set(wrong)), "imports against the direction")


def circle(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """A circle of a graph (node → those that it points to) with its first node again at the end; empty without one."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return [str(node) for node in reversed(error.args[1])]  # a sorter's arrows run from the later to the earlier
    return []


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Circles of a graph until none is left: of each that is found, the last arrow is cut."""
    left, found = {node: set(after) for node, after in graph.items()}, []
    while ring := circle(left):
        found.append(ring)
        left[ring[-2]].discard(ring[-1])
    return found


@pytest.mark.parametrize(
    ("graph", "found"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": set()}, []),
        ({"a": {"b", "c"}, "b": {"d"}, "c": {"d"}, "d": set()}, []),
        ({"a": {"b"}, "b": {"c"}, "c": {"b"}}, [{"b", "c"}]),
        ({"a": {"b"}, "b": {"c"}, "c": {"a"}, "x": {"y", "a"}, "y": {"x"}}, [{"a", "b", "c"}, {"x", "y"}]),
    ],
)
def test_the_rule_on_circles_finds_them(graph: dict[str, set[str]], found: list[set[str]]) -> None:
    rings = circles(graph)
    assert sorted(map(sorted, rings)) == sorted(sorted([*ring, one[0]]) for ring, one in zip(found, rings, strict=True))
    assert all(after in graph[node] for ring in rings for node, after in itertools.pairwise(ring))


def test_no_circle_of_modules() -> None:
    """Imports inside functions count, and those under TYPE_CHECKING."""
    graph = {
        module: {name for name, _ in imports(path, ast.walk(tree(path))) if name in MODULES}
        for module, path in MODULES.items()
    }
    fail_with([" -> ".join(ring) for ring in circles(graph)], "modules that import each other")


API = tuple(name for name in flashbench.__all__ if not name.startswith("_"))
LATER = (
    "audit", "calibrate", "cite", "doctor", "drift", "gate", "generate", "measure", "plan", "sample", "show", "study",
    "summary", "table",
)  # fmt: skip
"""Names that the stable API may come to have."""


def test_no_module_hides_a_name_of_the_api() -> None:
    """After `import flashbench.score` the name `flashbench.score` would be the module."""
    taken = {name.lower() for name in (*API, *LATER)}  # where names of files have no case
    here = [name for name in MODULES if name.count(".") == 1 and part(name).lower() in taken]
    fail_with(here, "rooms and modules under names of the stable API")


TWICE = """
import importlib, sys
import flashbench
for name in sys.argv[1:]:
    importlib.import_module(name)
for name in flashbench.__all__:
    first, again = getattr(flashbench, name), getattr(flashbench, name)
    assert first is again, name
    assert callable(first) or name == "__version__", name
print("ok")
"""


@pytest.mark.slow
def test_names_of_the_api_stay_what_they_are_when_every_module_is_imported() -> None:
    assert run_python(TWICE, list(MODULES)) == ["ok"]


def reaches_heavy(module: str, seen: set[str]) -> str | None:
    """The chain of imports by which importing `module` imports torch or its kin, or None."""
    seen.add(module)
    for name, _ in imports(MODULES[module], at_import(tree(MODULES[module]))):
        if name.split(".")[0] in HEAVY:
            return f"{module} -> {name}"
        if name in MODULES and name not in seen and (chain := reaches_heavy(name, seen)) is not None:
            return f"{module} -> {chain}"
    return None


def test_torch_is_imported_only_where_tensors_live() -> None:
    # A metric's wrapper imports its network when asked.
    rooms = ("flashbench.systems.", "flashbench.metrics.dover.", "flashbench.metrics.pyiqa.networks")
    light = [m for m in MODULES if part(m) not in ("cascade", "laptop", "drill") and not m.startswith(rooms)]
    light += ["flashbench.systems.base", "flashbench.drill.rehearsal"]
    chains = [reaches_heavy(module, set()) for module in light if module in MODULES]
    fail_with([chain for chain in chains if chain], "importing these imports torch or its kin")


PROBE = """
import importlib, random, sys
import numpy
legacy = lambda: numpy.random.get_state(legacy=True)[1].tolist()
random.seed(5); numpy.random.seed(5)
before = random.getstate(), legacy()
for name in sys.argv[1:]:
    importlib.import_module(name)
print("untouched:", (random.getstate(), legacy()) == before)
print("heavy:", sorted({"torch", "diffusers", "transformers", "matplotlib", "pyiqa"} & set(sys.modules)))
"""


def probe(modules: list[str]) -> list[str]:
    return run_python(PROBE, modules)


def test_importing_the_core_touches_no_global_generator_and_brings_no_torch() -> None:
    core = [name for name in MODULES if part(name) not in ("cascade", "laptop", "drill", "systems", "metrics")]
    registries = [f"flashbench.{room}" for room in ("systems", "metrics")]
    assert probe([*core, *registries]) == ["untouched: True", "heavy: []"]


@pytest.mark.slow
def test_importing_everything_touches_no_global_generator() -> None:
    assert probe(list(MODULES))[0] == "untouched: True"


PRIVATE_NUMPY = {"Generator", "default_rng", "SeedSequence", "BitGenerator", "PCG64", "Philox", "RandomState"}
NEEDS_GENERATOR = {"rand", "randn", "randint", "randperm", "normal", "multinomial", "rand_like", "randn_like"}


def uses_global_generator(name: str, call: ast.Call, forked: bool) -> bool:
    module, _, function = name.rpartition(".")
    if module in ("np.random", "numpy.random"):
        return function not in PRIVATE_NUMPY or function == "RandomState"
    if module == "random":
        return function != "Random"
    if module == "torch" and function in NEEDS_GENERATOR:
        return not forked and all(keyword.arg != "generator" for keyword in call.keywords)
    return name in ("torch.manual_seed", "torch.random.manual_seed", "torch.seed") and not forked


def test_randomness_comes_from_generators_that_are_passed_in() -> None:
    """torch's global generator may be seeded inside `fork_rng` only: the initialisation of layers takes no other."""
    wrong = []
    for path in sources("flashbench"):
        forked = {
            inner
            for node in ast.walk(tree(path))
            if isinstance(node, ast.With) and any("fork_rng" in ast.unparse(item) for item in node.items)
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and uses_global_generator(ast.unparse(node.func), node, node in forked):
                wrong.append(f"{where(path, node)} {ast.unparse(node)[:60]}")
    fail_with(wrong, "draws from a global generator")


@pytest.mark.parametrize(
    ("code", "forked", "caught"),
    [
        ("np.random.rand(3)", False, True),
        ("np.random.default_rng(3)", False, False),
        ("random.shuffle(x)", False, True),
        ("random.Random(3)", False, False),
        ("torch.randn(3)", False, True),
        ("torch.randn(3, generator=g)", False, False),
        ("torch.manual_seed(3)", False, True),
        ("torch.manual_seed(3)", True, False),
        ("generator.manual_seed(3)", False, False),
    ],
)
def test_the_rule_on_randomness_knows_its_cases(code: str, forked: bool, caught: bool) -> None:
    call = ast.parse(code, mode="eval").body
    assert isinstance(call, ast.Call)
    assert uses_global_generator(ast.unparse(call.func), call, forked) is caught


def test_nothing_unpickles() -> None:
    banned = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
    wrong = []
    for path in sources("flashbench", "tests", "benchmarks", "tools"):
        for name, node in imports(path, ast.walk(tree(path))):
            if name.split(".")[0] in banned:
                wrong.append(f"{where(path, node)} imports {name}")
    for path, call, name in calls():
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        unsafe_torch = name == "torch.load" and given.get("weights_only") != "True"
        if unsafe_torch or given.get("weights_only") == "False" or given.get("allow_pickle") == "True":
            wrong.append(f"{where(path, call)} {name}")
    fail_with(wrong, "loads that may unpickle")


def test_no_shell_strings_and_no_unsafe_yaml() -> None:
    banned = {"os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "subprocess.getoutput"}
    wrong = [
        f"{where(path, call)} {name}"
        for path, call, name in calls()
        if name in banned
        or any(keyword.arg == "shell" and ast.unparse(keyword.value) != "False" for keyword in call.keywords)
    ]
    fail_with(wrong, "shell strings or unsafe YAML")


def test_no_error_is_swallowed() -> None:
    """No bare except; `except Exception` and wider must raise again, or use the error they caught."""
    wrong = []
    for path in sources("flashbench", "tests", "benchmarks", "tools"):
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.ExceptHandler):
                continue
            wide = node.type is None or ast.unparse(node.type) in ("Exception", "BaseException")
            inside = [inner for child in node.body for inner in ast.walk(child)]
            raises = any(isinstance(inner, ast.Raise) for inner in inside)
            uses = node.name is not None and any(isinstance(i, ast.Name) and i.id == node.name for i in inside)
            if node.type is None or (wide and not raises and not uses):
                wrong.append(where(path, node))
    fail_with(wrong, "swallowed errors")


def documented_methods() -> dict[str, tuple[list[str], set[str]]]:
    """Class name → its bases' names, and its methods that have a docstring."""
    classes = {}
    for path in sources("flashbench"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef):
                bases = [ast.unparse(base).split("[")[0].split(".")[-1] for base in node.bases]
                methods = {f.name for f in node.body if isinstance(f, ast.FunctionDef) and ast.get_docstring(f)}
                classes[node.name] = (bases, methods)
    return classes


def test_public_things_have_docstrings() -> None:
    """A method that overrides a documented one of this package inherits its docstring."""
    classes = documented_methods()

    def inherits(bases: list[str], method: str) -> bool:
        known = [classes[base] for base in bases if base in classes]
        return any(method in methods or inherits(above, method) for above, methods in known)

    wrong = []
    for path in sources("flashbench"):
        if not ast.get_docstring(tree(path)):
            wrong.append(f"{where(path)} module")
        for node in tree(path).body:
            if not isinstance(node, ast.ClassDef | ast.FunctionDef) or node.name.startswith("_"):
                continue
            if not ast.get_docstring(node):
                wrong.append(f"{where(path, node)} {node.name}")
            for method in node.body if isinstance(node, ast.ClassDef) else []:
                if not isinstance(method, ast.FunctionDef) or method.name.startswith("_"):
                    continue
                if not ast.get_docstring(method) and not inherits(classes[node.name][0], method.name):
                    wrong.append(f"{where(path, method)} {node.name}.{method.name}")
    fail_with(wrong, "public without docstring")


def test_no_file_names_a_place_of_one_machine() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    place = re.compile(r"(?:^|[^A-Za-z0-9_.\-}$])/(?:tmp|root|work|home|Users)/[A-Za-z]")
    wrong = []
    for name in filter(None, listed.stdout.decode().split("\0")):
        path = ROOT / name
        if not path.is_file() or b"\0" in (content := path.read_bytes())[:8192]:
            continue
        for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
            if place.search(line):
                wrong.append(f"{name}:{number} {line.strip()[:80]}")
    fail_with(wrong, "paths of a machine")
