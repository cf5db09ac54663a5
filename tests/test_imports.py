"""The shape of the package: imports run downwards, heavy parts load late, and nothing runs what a file says."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ddarts

SOURCE = Path(ddarts.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))

#: From the bottom to the top. A module may import from lower layers and from its own; a package is one entry.
LAYERS = (
    {"errors"},
    {"files", "config", "yamlfile", "settinglayers", "settingchecks", "settingdocs", "settings", "seeds"},
    {"architecture", "kernels"},
    {"models"},
    {
        "data",
        "runs",
        "runfollower",
        "runlock",
        "runmetrics",
        "checkpoints",
        "engine",
        "memory",
        "processes",
        "ranks",
        "progress",
        "interrupt",
    },
    {"training", "searching", "timm"},
    {"reporting", "deploy"},
    {"listing", "outcomes", "places", "precheck", "stagework", "stages"},
    {"commands"},
    {"commandtable", "cli"},
    {"__main__", "__init__"},
)
HEIGHT = {name: height for height, layer in enumerate(LAYERS) for name in layer}


def part(path):
    """Return the entry of LAYERS that a file belongs to."""
    inner = path.relative_to(SOURCE)
    return inner.parts[0].removesuffix(".py")


def trees():
    return [(path, ast.parse(path.read_text(encoding="utf-8"))) for path in FILES]


def imported(tree):
    """Yield every module that a file imports, at its top or inside a function, as a dotted name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def inner_imports():
    for path, tree in trees():
        for name in imported(tree):
            parts = name.split(".")
            if parts[0] == "ddarts" and len(parts) > 1 and parts[1] in HEIGHT:
                yield path, part(path), parts[1]


def test_every_module_has_a_place_in_the_layers():
    assert {part(path) for path in FILES} == set(HEIGHT)


def test_imports_run_downwards():
    upwards = [
        f"{p.relative_to(SOURCE)} imports {low}" for p, high, low in inner_imports() if HEIGHT[low] > HEIGHT[high]
    ]
    assert upwards == []


def test_neighbours_in_a_layer_do_not_import_each_other_in_circles():
    below = {name: set() for name in HEIGHT}
    for _, importer, name in inner_imports():
        if importer != name:
            below[importer].add(name)
    while below:
        free = {name for name, needs in below.items() if not needs & below.keys()}
        assert free, f"a circle among {sorted(below)}"
        below = {name: needs for name, needs in below.items() if name not in free}


def test_the_check_sees_imports_inside_functions():
    tree = ast.parse("def f():\n    from ddarts.cli import main\n    import ddarts.stages")
    assert set(imported(tree)) == {"ddarts.cli", "ddarts.cli.main", "ddarts.stages"}


def test_architecture_knows_nothing_of_torch():
    for path, tree in trees():
        if part(path) == "architecture":
            assert not [name for name in imported(tree) if name.split(".")[0] in ("torch", "torchvision")], path


DANGEROUS_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "code", "codeop", "runpy"}
DANGEROUS_NAMES = {"eval", "exec", "compile", "__import__"}


def test_no_module_imports_what_runs_code_from_files():
    for path, tree in trees():
        roots = {name.split(".")[0] for name in imported(tree)}
        assert not roots & DANGEROUS_MODULES, path
        assert "pickletools" not in roots or path.relative_to(SOURCE).as_posix() == "data/pickled.py"


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
    modules = loaded_by("import ddarts, ddarts.cli, ddarts.config")
    assert not modules & {"torch", "torchvision", "numpy", "matplotlib", "lightning_fabric", "rich.console", "jinja2"}


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["predict", "--help"]])
def test_help_needs_no_torch(arguments):
    assert "torch" not in loaded_by(f"from ddarts.cli import main; main({arguments!r})")


def test_public_names_are_there_and_an_unknown_one_is_an_error():
    for name in ddarts.__all__:
        assert getattr(ddarts, name) is not None
    assert set(ddarts.__all__) <= set(dir(ddarts))
    assert set(ddarts._HOME) | {"__version__"} == set(ddarts.__all__)
    with pytest.raises(AttributeError, match="module 'ddarts' has no attribute 'serch'"):
        ddarts.serch  # noqa: B018
