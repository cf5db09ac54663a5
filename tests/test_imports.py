"""The shape of the package: imports run downwards, heavy parts load late, and nothing runs what a file says."""

import ast
import functools
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import ddarts

SOURCE = Path(ddarts.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))


@functools.cache
def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def trees():
    return [(path, tree_of(path)) for path in FILES]


def imported(tree):
    """Yield every module that a file imports, at its top or inside a function, as a dotted name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


#: The rooms, the lowest first: a module may import from its own room and from those that stand before it.
ROOMS = (
    "errors",
    "runtime",
    "config",
    "space",
    "genotype",
    "kernels",
    "nn",
    "cost",
    "hub",
    "data",
    "runs",
    "supernet",
    "training",
    "searching",
    "testing",
    "deploy",
    "reporting",
    "results",
    "preflight",
    "planning",
    "time_budget",
    "pipeline",
    "experiments",
    "api",
    "cli",
    "__main__",
)


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name without ``ddarts.``; a package stands for its ``__init__``."""
    found = {}
    for path in SOURCE.rglob("*.py"):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            found[name] = path
    return found


MODULES = modules()


def imports_of(name: str) -> set[str]:
    """Every module of ddarts that a module imports, wherever the statement stands: functions and TYPE_CHECKING too."""
    found = {n.removeprefix("ddarts.") for n in imported(tree_of(MODULES[name]))}
    known = {n for n in found if n in MODULES}
    return {n for n in known if not any(other.startswith(f"{n}.") for other in known)} - {name}


@functools.cache
def graph() -> dict[str, set[str]]:
    return {name: imports_of(name) for name in MODULES}


def room(name: str) -> str:
    return name.partition(".")[0]


def test_every_room_has_its_place_in_the_order():
    assert {room(name) for name in MODULES} == set(ROOMS)


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_imports_only_from_the_rooms_below_it(name: str):
    allowed = set(ROOMS[: ROOMS.index(name) + 1])
    upwards = [f"{a} -> {b}" for a in graph() if room(a) == name for b in graph()[a] if room(b) not in allowed]
    assert not upwards


@pytest.mark.parametrize("name", ROOMS)
def test_no_circle_inside_a_room(name: str):
    inside = {a: {b for b in graph()[a] if room(b) == name} for a in graph() if room(a) == name}
    try:
        TopologicalSorter(inside).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("name", sorted(n for n in MODULES if room(n) in ("errors", "config", "space", "genotype")))
def test_an_architecture_is_data_without_torch(name: str):
    roots = {external.split(".")[0] for external in imported(tree_of(MODULES[name]))}
    assert not roots & {"torch", "torchvision"}


DANGEROUS_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "code", "codeop", "runpy"}
DANGEROUS_NAMES = {"eval", "exec", "compile", "__import__"}


def test_no_module_imports_what_runs_code_from_files():
    for path, tree in trees():
        roots = {name.split(".")[0] for name in imported(tree)}
        if path.relative_to(SOURCE).as_posix() == "api/study.py":  # starts processes with joblib, loads no file by it
            names = {name for name in imported(tree) if name.partition(".")[0] == "joblib"}
            assert names == {"joblib", "joblib.Parallel", "joblib.delayed", "joblib.parallel_config"}
            roots.discard("joblib")
        assert not roots & DANGEROUS_MODULES, path
        assert "pickletools" not in roots or path.relative_to(SOURCE).as_posix() == "data/sources/pickled.py"


def calls(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}


def test_no_module_evaluates_text_or_loads_unsafely():
    for path, tree in trees():
        for name, keywords in calls(tree):
            assert name not in DANGEROUS_NAMES, path
            assert name not in ("yaml.load", "yaml.unsafe_load", "yaml.full_load", "os.system"), path
            if name == "torch.load":
                assert keywords.get("weights_only") == "True", path
            if name in ("numpy.load", "np.load"):
                assert keywords.get("allow_pickle", "False") == "False", path


def loaded_by(code):
    code += "\nimport sys; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split("\n")[-2].split())


def test_importing_ddarts_loads_no_heavy_part():
    modules = loaded_by("import ddarts, ddarts.cli.main, ddarts.config.schema")
    assert not modules & {
        "torch",
        "torchvision",
        "numpy",
        "scipy",
        "joblib",
        "matplotlib",
        "lightning_fabric",
        "rich.console",
        "jinja2",
    }


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["predict", "--help"]])
def test_help_needs_no_torch(arguments):
    assert "torch" not in loaded_by(f"from ddarts.cli.main import main; main({arguments!r})")


def test_public_names_are_there_and_an_unknown_one_is_an_error():
    for name in ddarts.__all__:
        assert getattr(ddarts, name) is not None
    assert set(ddarts.__all__) <= set(dir(ddarts))
    assert set(ddarts._HOME) | {"__version__"} == set(ddarts.__all__)
    with pytest.raises(AttributeError, match="module 'ddarts' has no attribute 'serch'"):
        ddarts.serch  # noqa: B018
