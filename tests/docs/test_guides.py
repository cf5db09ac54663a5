"""What README.md and the guides show does run, commands and Python, on data and networks as small as can be.

The pages are the source: nothing is listed here twice. To each command, and to each call of a function of the same
name, settings are added that make it short; the files that it names are made if nothing above on the page has made
them, and it runs in this process. What cannot run here goes through the parser and the checks of its settings;
`PARSED_ONLY` says which and why.
"""

from __future__ import annotations

import ast
import functools
import importlib
import os
import re
import signal
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import ddarts
from ddarts.cli.main import _parse, main
from ddarts.cli.options import documented_fields
from ddarts.cli.table import COMMANDS
from ddarts.config.loading import load_settings
from ddarts.errors import SettingsError
from ddarts.experiments.plan import plan
from ddarts.genotype.random import random_genotype
from ddarts.genotype.zoo.catalogue import zoo_entry
from ddarts.space.cell_space import build_space
from tests.data.sources.test_cifar import write10
from tests.data.sources.test_idx import write as write_idx
from tests.docs.guide import PAGES, ROOT, Python, blocks, commands, mentioned, mentioned_python, python, steps, text_of
from tests.reference.plain_network import PlainNetwork

#: Pages that tell what was measured: their commands take hours, and are parsed.
RECORDS = ("docs/results.md", "docs/performance.md", "docs/decisions.md")

#: Commands of the guides that do not run here, and why.
PARSED_ONLY = {
    "ddarts search --devices 8": "needs eight devices; tests/searching/test_distributed.py runs two",
    "tensorboard --logdir run1/events": "a server of another package",
    "python train.py DATA --device-modules ddarts.hub.timm --model ddarts_darts_v2 --model-kwargs stem=cifar layers=8 "
    "--drop-path 0.2 --grad-checkpointing": "timm's script, in none of its packages; "
    "tests/hub/timm/test_training_script.py runs its steps",
    "ddarts search --baseline torchvision:resnet18 --baseline-weights resnet18.pth --never-larger --data FOLDER "
    "--out better": "a whole ResNet18; tests/searching/test_loop_imported.py runs a small network",
    "ddarts train --genotype better --data FOLDER --lr 0.01 --out trained": "the network of the line above",
    "ddarts compare better/original better --data FOLDER --lr 0.01 --seeds 3": "the networks of the line above it",
    "hf upload USER/my-digits my-digits": "needs an account",
    "ddarts show genotypes.py:PC_DARTS_cifar": "another project's file; see tests/genotype/interop/test_formats.py",
}
#: Pages whose Python does not run here, and why.
PYTHON_ELSEWHERE = {
    "docs/backbone.md": "tests/docs/test_backbone.py runs it in a process of its own, as it adds models to timm",
    "docs/improve.md": "tests/searching/test_loop_imported.py does it with a small network",
    "docs/extend.md": "tests/docs/test_extend.py runs it in a process of its own, as it adds a package",
}
#: Programs that are not started here, and why; what is checked of them here stands in `check_other`.
STARTERS = {
    "torchrun": "tests/docs/test_starting.py runs the command for many machines with two processes, enough for a test",
    "srun": "needs SLURM; tests/docs/test_starting.py runs the script up to there",
    "pip": "would change the environment",
    "make": "would build another environment; tests/docs/test_starting.py looks at what it would run",
    "python": "takes minutes as shown: tests/examples runs the same files for a few steps, tests/reporting the one "
    "that takes pictures, where there is a browser",
}

_FEW = ("--epochs", "1", "--steps-per-epoch", "1", "--batch", "2")
_DATA = ("--limit", "24", "--threads", "1", "--quiet")
_SEARCH = ("--channels", "2", *_FEW, "--no-stop-on-collapse")
_SUPERNET = ("--cells", "3", "--nodes", "1", "--threshold", "0.4")
_TRAIN = ("--channels", "4", *_FEW)
#: The standard network is trained alike, in as much time: tests/end_to_end/test_command.py has it.
_ALONE = ("--reference", "none")
#: For the strategies that train their proposals.
_TRIALS = ("--channels", "2", "--batch", "2", "--cells", "3", "--nodes", "1", "--trials", "2", "--trial-steps", "1")
#: For those that score many networks first, if a command asks for it.
_SCORED = {"--shortlist": "3", "--shortlist-trials": "2", "--shortlist-steps": "1", "--prior-draws": "4"}


def _grouped(group: str, options: tuple[str, ...]) -> tuple[str, ...]:
    """Options of a stage as `ddarts run` takes them."""
    return tuple(re.sub(r"^--(no-)?", rf"--{group}.\1", option) for option in options)


def shortened(words: list[str]) -> list[str]:
    """Add settings that make a command short, in place of a time; a run that goes on has its own."""
    name = words[0]
    if "--time" in words:
        at = words.index("--time")
        words = words[:at] + words[at + 2 :]
    if "--resume" in words:
        return [*words, *(() if name == "study" else ("--threads", "1")), "--quiet"]
    resolution = ("--resolution", "16") if "--resolution" in words and name in ("search", "train") else ()
    baseline = any(word.endswith("baseline") for word in words)
    words = [*words, *(word for name, few in _SCORED.items() if name in words for word in (name, few))]
    run = (
        *_DATA,
        *_grouped("search", _SEARCH),
        *(() if baseline else (*_grouped("search", _SUPERNET[:4]), "--derive.threshold", "0.4")),
        *_grouped("train", _TRAIN),
        *_ALONE,
    )
    if name == "search" and {"random", "evolution", "bayes"} & set(words):
        return [*words, *_DATA, *_TRIALS, *resolution]
    if "one-shot" in words:  # its gates stay equal: nothing collapses or reaches a threshold
        return [*words, *_DATA, "--channels", "2", *_FEW, *_SUPERNET[:4]]
    added: dict[str, tuple[str, ...]] = {
        "search": (*_DATA, *_SEARCH, *(("--pretrain-epochs", "1") if baseline else _SUPERNET)),
        "run": run,
        "study": (*run, "--seeds", "1", "--jobs", "1", "--draws", "1"),
        "train": (*_DATA, *_TRAIN, *_ALONE),
        "compare": (*_DATA, *_TRAIN, "--seeds", "1"),
        "measure-operations": (*_DATA, *_TRAIN, "--cells", "1", "--positions", "1"),
        "derive": ("--threshold", "0.4"),
        "profile": ("--seconds", "0.01", "--no-onnx", "--quiet"),
        "probe": ("--networks", "1", "--channels", "4", "--cells", "3", "--resolution", "16", "--quiet"),
        "watch": ("--once",),
    }
    return [*words, *added.get(name, ()), *resolution]


# -- what commands find in their folder --------------------------------------------------------------------------------


def pictures(folder: Path, classes: tuple[str, ...], count: int) -> None:
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for n in range(count):
            pixels = np.random.default_rng([number, n]).integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{n}.png")


def class_folders(path: Path) -> None:
    pictures(path / "train", ("cat", "dog"), 16)
    pictures(path / "test", ("cat", "dog"), 3)


def downloaded(path: Path) -> None:
    """CIFAR-10 and Fashion-MNIST, each with a few images, as they are handed out."""
    write10(path)
    write_idx(path)


def image(path: Path) -> None:
    Image.new("RGB", (20, 16), (200, 40, 90)).save(path)


def genotype(path: Path) -> None:
    random_genotype(build_space("darts", cells=3, nodes=2), seed=len(path.name)).save(path)


def checkpoint(path: Path) -> None:
    """A network of darts-v2 as the authors' code saves it."""
    cells = zoo_entry("darts-v2").genotype(6).cells
    edges = [[(e.operation, e.target, e.source) for e in cell.edges] for cell in cells]
    halving = [i for i, cell in enumerate(cells) if cell.reduction]
    torch.save({"state_dict": PlainNetwork(edges, halving, channels=4, classes=10).state_dict()}, path)


def stopped_search(path: Path) -> None:
    """A search that Ctrl-C has stopped after its first checkpoint."""

    def interrupt() -> None:
        for _ in range(3000):
            if (path / "checkpoints" / "search.pt").exists():
                os.kill(os.getpid(), signal.SIGINT)
                return
            time.sleep(0.01)

    prepare(["", "FOLDER"])
    thread = threading.Thread(target=interrupt)
    thread.start()
    options = ["search", "--data", "FOLDER", "--out", str(path), *_DATA, *_SEARCH, *_SUPERNET]
    status = main([*options, "--epochs", "12", "--steps-per-epoch", "2"])
    thread.join()
    assert status == 130


def blocks_of(page: str, language: str) -> Iterator[str]:
    return (block for found, block in blocks(page) if found == language)


def by_command(*words: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        prepare(["", *words])
        assert main(shortened([*words, "--out", str(path)])) == 0

    return make


#: Words that stand for a file or folder, and how it is made where no earlier command of the page has made it.
FILES: dict[str, Callable[[Path], None]] = {
    "FOLDER": class_folders,
    "./imagenet": class_folders,
    "DIR": downloaded,
    "data": downloaded,
    **dict.fromkeys(("photo.jpg", "cat.png", "digit0.png", "digit1.png"), image),
    **dict.fromkeys(("A", "B", "other.json"), genotype),
    "genotype.json": lambda path: zoo_entry("darts-v2").genotype(6).save(path),
    "model_best.pth.tar": checkpoint,
    "methods.yaml": lambda path: path.write_text(next(blocks_of("docs/study.md", "yaml"))) and None,
    "settings.yaml": lambda path: path.write_text("preset: small\ntrain: {lr: 0.1}\n") and None,
    "RUN": stopped_search,
    "run1": by_command("run", "--data", "FOLDER"),
    "runs/mine": by_command("search", "--data", "FOLDER"),
    "run2": by_command("train", "--genotype", "resnet18", "--data", "FOLDER"),
    "study1": by_command("study", "--data", "FOLDER"),
    "both": by_command("compare", "resnet18", "other.json", "--data", "FOLDER"),
    "measured": by_command("measure-operations", "--data", "FOLDER"),
}


def prepare(words: list[str]) -> None:
    """Make what a command reads and is not there."""
    written = words[words.index("--out") + 1] if "--out" in words else None
    for word in words[1:]:
        name = "data" if word == "cifar10" else word.partition(":")[2] or word
        if name in FILES and name != written and not Path(name).exists():
            FILES[name](Path(name))


# -- running and parsing -----------------------------------------------------------------------------------------------


def run(words: list[str]) -> None:
    parse(words)  # as it stands: what is added below replaces some of its values
    prepare(words)
    assert main(shortened(words)) == 0, " ".join(words)
    if "--out" in words:
        assert Path(words[words.index("--out") + 1]).exists()


def parse(words: list[str]) -> None:
    """Take a command through the parser and the checks of its settings; words in capitals stand for anything."""
    command = COMMANDS[words[0]]
    given = _parse(words[0], command, words[1:])
    if given is not None and command.stage:
        names = {field.name for field in documented_fields(command.stage)}
        values = {name: value for name, value in given.items() if name in names and not str(value).isupper()}
        if words[0] == "study":  # several data sets
            values.pop("data", None)
        load_settings(command.stage, preset=given.get("preset"), overrides=values)


def check_other(words: list[str]) -> None:
    """Check what can be checked of a command that is not ours."""
    program = words[0]
    if program in ("torchrun", "srun"):
        assert "torchrun" in words
        parse(words[words.index("-m") + 2 :])
    elif program == "pip":
        extras = tomllib.loads(text_of("pyproject.toml"))["project"]["optional-dependencies"]
        assert words[1] == "install"
        assert set(words[2].removeprefix("ddarts[").removesuffix("]").split(",")) <= set(extras)
    elif program == "make":
        assert re.search(rf"^{words[1]}:", text_of("Makefile"), re.MULTILINE)
    else:
        script = (ROOT / words[1]).read_text(encoding="utf-8")
        assert all(f'"{word}"' in script for word in words if word.startswith("--"))


def line_of(words: list[str]) -> str:
    return " ".join(words)


# -- Python ------------------------------------------------------------------------------------------------------------


def run_python(
    block: Python, names: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run a block; `names` are those of the blocks above it on the page."""
    tree = ast.parse(block.code)
    for call in calls(tree):
        check_call(call)  # as it stands: what is added below replaces some of its values
    written = {
        ast.unparse(node.value) for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "out"
    }
    texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    prepare(["", *(str(text.value) for text in texts if ast.unparse(text) not in written)])
    with monkeypatch.context() as patches:
        for command in COMMANDS:
            name = command.replace("-", "_")
            patches.setattr(ddarts, name, shortened_function(command, getattr(ddarts, name)))
        patches.setattr("huggingface_hub.hf_hub_download", fetched)
        capsys.readouterr()
        exec(compile(tree, "a guide", "exec"), names)
    if block.prints is not None:
        assert capsys.readouterr().out == block.prints


def shortened_function(command: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a public function that adds to its settings what `shortened` adds to the command of its name."""

    @functools.wraps(function)
    def call(*args: Any, **given: Any) -> Any:
        flat = dict(dotted(given))
        words = [command, *map(str, args), *(f"--{name.replace('_', '-')}" for name in flat)]
        return function(*args, **flat | keywords(command, shortened(words)[len(words) :]))

    return call


def keywords(command: str, options: list[str]) -> dict[str, Any]:
    """Return options of a command as its function takes them."""
    if not options:
        return {}
    place = ["ANY"] if COMMANDS[command].positional else []
    found = _parse(command, COMMANDS[command], [*place, *options])
    assert found is not None
    return {name: value for name, value in found.items() if name not in ("json", COMMANDS[command].positional)}


def dotted(given: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield settings in groups by their dotted names."""
    for name, value in given.items():
        if isinstance(value, Mapping):
            yield from dotted(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def fetched(repository: str, file: str, **_: object) -> str:
    """Stand in for the hub: a repository USER/NAME holds what was written into the folder NAME."""
    return str(Path(repository.partition("/")[2]) / file)


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    """Yield the calls of ddarts' functions by their full names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("ddarts."):
            yield node


def check_call(call: ast.Call) -> None:
    """Take the keywords of a call through the checks of its command's settings."""
    name = ast.unparse(call.func).removeprefix("ddarts.").replace("_", "-")
    if name in COMMANDS and (stage := COMMANDS[name].stage):
        given = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
        options = {more.get("dest", flags[0].removeprefix("--")) for flags, more in COMMANDS[name].options}
        settings = {word: value for word, value in given.items() if word not in options}
        load_settings(stage, preset=given.get("preset"), overrides=settings)


# -- the pages ---------------------------------------------------------------------------------------------------------


GUIDES = [page for page in PAGES if page not in RECORDS and steps(page)]


@pytest.mark.parametrize("page", GUIDES)
def test_what_a_guide_shows_runs(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for step in steps(page):
        if isinstance(step, Python):
            if page not in PYTHON_ELSEWHERE:
                run_python(step, names, monkeypatch, capsys)
        elif step[0] == "ddarts" and line_of(step) not in PARSED_ONLY:
            run(step[1:])
        elif step[0] == "ddarts":
            parse(step[1:])
        elif line_of(step) not in PARSED_ONLY:
            assert step[0] in STARTERS, line_of(step)
            check_other(step)


@pytest.mark.parametrize("page", RECORDS)
def test_the_commands_of_a_record_are_right(page: str) -> None:
    for words in commands(page):
        if words[0] == "ddarts":
            parse(words[1:])
        else:
            check_other(words)


@pytest.mark.parametrize("page", [page for page in PAGES if mentioned(page)])
def test_the_commands_in_sentences_are_right(page: str) -> None:
    assert [found for _, *words in mentioned(page) if (found := _wrong(words))] == []


def _wrong(words: list[str]) -> str:
    """Return what is wrong with a command; a sentence need not say it all, but what it says must be right."""
    try:
        if words[0] != "COMMAND":
            parse(words)
    except SettingsError as error:
        unfinished = re.search("are required|expected one argument", str(error))
        return "" if unfinished else str(error)
    return ""


@pytest.mark.parametrize(
    ("page", "shown"), [(page, block) for page in PAGES for language, block in blocks(page) if language == "yaml"]
)
def test_a_file_of_settings_that_a_guide_shows_holds_settings(page: str, shown: str) -> None:
    values = yaml.safe_load(shown)
    if "strategies" in values:
        described = dict.fromkeys(("strategies", "data", "seeds", "preset", "opponents", "draws"))
        assert plan(**described, config=values, overrides={}).methods
    else:
        load_settings("run", config=values)


@pytest.mark.parametrize("page", [page for page in PAGES if mentioned_python(page)])
def test_python_in_sentences_names_what_is_there(page: str) -> None:
    for code in mentioned_python(page):
        tree = ast.parse(code)
        for call in calls(tree):
            check_call(call)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and re.fullmatch(r"ddarts(\.\w+)*", name := ast.unparse(node)):
                _look_up(name)


def _look_up(name: str) -> None:
    """Find a module, or something in one, by its full name."""
    home, _, last = name.rpartition(".")
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        assert hasattr(importlib.import_module(home), last), name


def test_the_lists_of_what_does_not_run_and_of_files_are_not_stale() -> None:
    shown = [words for page in GUIDES for words in commands(page)]
    assert set(PARSED_ONLY) <= {line_of(words) for words in shown}
    assert set(STARTERS) <= {words[0] for words in shown}
    words = {word for line in shown for word in line} | {word.partition(":")[2] for line in shown for word in line}
    assert set(FILES) - {"data"} <= words
    assert set(PYTHON_ELSEWHERE) <= {page for page in GUIDES if python(page)}


# -- pages, links, reference -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_lead_somewhere(page: str) -> None:
    targets = [t for t in re.findall(r"\]\(([^)\s]+)\)", text_of(page)) if not re.match(r"https?://", t)]
    for target in targets:
        assert ((ROOT / page).parent / target.partition("#")[0]).exists(), target


def test_every_page_is_in_the_index_and_the_index_in_the_readme() -> None:
    listed = set(re.findall(r"\]\(([^)]+\.md)\)", text_of("docs/README.md")))
    assert listed == {Path(page).name for page in PAGES if page.startswith("docs/")} - {"README.md"}
    assert "(docs/README.md)" in text_of("README.md")


def test_the_readme_fits_a_screen_and_begins_with_the_two_commands() -> None:
    lines = text_of("README.md").splitlines()
    assert len(lines) <= 60
    first = [line.split("#")[0].strip() for line in lines[:20] if line.startswith("    ")]
    assert first[:2] == ["make demo", "make test"]
    assert any(line.startswith("top-1 (test)") for line in first)  # what the example prints
    assert any(line.startswith("![") for line in lines[:20])


def test_every_page_that_names_a_published_baseline_says_which_cells_are_not_built() -> None:
    named = re.compile(r"(?<![:\w-])(resnet18|resnet50|xception|inceptionv4)(?![\w-])")  # none of torchvision or timm
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        assert not named.search(text) or re.search(r"cells?\s+never\s+reach(es)?\s+the\s+output", text), page.name


def test_the_table_of_the_training_guide_has_the_values_of_the_presets() -> None:
    values = {preset: load_settings("train", preset=preset).train for preset in ("small", "paper")}
    found = 0
    for line in (ROOT / "docs" / "train.md").read_text(encoding="utf-8").splitlines():
        row = re.fullmatch(r"\| `--([a-z-]+)` \|.*\| ([^|]+) \| ([^|]+) \|", line)
        if row and row[1] != "no-decay-norms":
            found += 1
            told = {"no": "False", "yes": "True"}
            for preset, text in zip(values, row.groups()[1:], strict=True):
                value = str(getattr(values[preset], row[1].replace("-", "_"))).removesuffix(".0")
                assert value == told.get(text.strip("`"), text.strip("`")), (row[1], preset)
    assert found == 11


def test_pictures_are_small_and_each_is_shown() -> None:
    pictures = set((ROOT / "docs" / "pictures").iterdir())
    assert max(path.stat().st_size for path in pictures) < 275_000
    assert sum(path.stat().st_size for path in pictures) < 1_500_000
    shown = {((ROOT / page).parent / target).resolve() for page in PAGES for target in _shown(page)}
    assert pictures == shown


def _shown(page: str) -> list[str]:
    return re.findall(r"!\[[^]]+\]\(([^)]+)\)", text_of(page))


def test_the_reference_names_every_package() -> None:
    listed = re.search(r"^DOCUMENTED := (.*?)\n\n", text_of("Makefile"), re.MULTILINE | re.DOTALL)
    assert listed is not None
    named = set(listed[1].replace("\\", " ").split())
    source = ROOT / "src"
    parts = (path.parent.relative_to(source).parts for path in source.rglob("__init__.py"))
    packages = {".".join(names) for names in parts if len(names) <= 2}
    modules = {".".join(path.with_suffix("").relative_to(source).parts) for path in source.rglob("*.py")}
    assert packages <= named
    assert named <= packages | modules
